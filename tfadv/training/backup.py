"""A run's backup: all that the run needs to go on where it was cut off.

One safetensors file holds every variable of the classifier, of its optimizer
and of the running epoch's metrics, what the objectives remember and, in its
metadata, the callbacks' state. It is written beside the last one, flushed to
the disk, and renamed: there is always one whole file, and never half of one.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator

import keras
import numpy as np
import safetensors
import safetensors.numpy

from tfadv import files, replicas
from tfadv.errors import InputError, TerminatedError
from tfadv.log import logger
from tfadv.runs import run_folder
from tfadv.runs.record import check_same
from tfadv.training.callbacks import Logs, ResumableCallback, end_bar

FORMAT = 1

# The share of the time that backups may take.
_LARGEST_SHARE = 0.02
_PROGRESS = "progress"


class Backup(keras.callbacks.Callback):
    """Writes all of a run's state while it trains, and restores it.

    It writes a backup between updates, every so often, and after every epoch
    and its evaluation, but never so often that backups would take more than
    2 % of the time. It writes one more when training has ended. It must be
    the last of the callbacks, for it writes the state of the others.

    Args:
        folder: path of the run's folder.
        classifier: `tfadv.AdversarialClassifier`, compiled, with all of its
            variables.
        callbacks: list of Keras callbacks; each one that is a
            `tfadv.training.callbacks.ResumableCallback` goes on where it was.
        identity: dict for JSON, as `tfadv.runs.record.identity` returns it.
        steps_per_epoch: int.
        total_steps: int, the updates of the whole run.
        seconds: float, the time between two backups; 0 for no backups.

    Attributes:
        updates: int, the updates made so far, over all epochs.

    Example:

    ```python
    folder = pathlib.Path("runs/mine")
    best = callbacks.BestWeights(
        folder / "model.weights.h5", waiting_room=folder / "backup"
    )
    backup = Backup(folder, classifier, [best], {"seed": 1}, 10, 30, 60.0)
    if backup.path.exists():
        backup.restore()
    with backup.sigterm_ends_training():
        classifier.fit(
            batching.training_batches(
                train, 32, seed=1, epochs=3, skip=backup.updates
            ),
            steps_per_epoch=10 - backup.updates % 10,
            initial_epoch=backup.updates // 10,
            epochs=3,
            callbacks=[best, backup],
        )
    backup.delete()
    ```
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        classifier: keras.Model,
        callbacks: list,
        identity: dict,
        steps_per_epoch: int,
        total_steps: int,
        seconds: float = 60.0,
    ):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.path = self.folder / run_folder.BACKUP / run_folder.BACKUP_STATE
        self.seconds = seconds
        self.updates = 0
        self._classifier = classifier
        self._callbacks = [
            c for c in callbacks if isinstance(c, ResumableCallback)
        ]
        # As it comes back from a file.
        self._identity = json.loads(json.dumps(identity))
        self._steps_per_epoch = steps_per_epoch
        self._total_steps = total_steps
        self._metrics = []
        self._is_part = False
        self._terminated = False
        self._start = self._last = time.perf_counter()
        self._cost = 0.0

    @property
    def train_seconds(self) -> float:
        """Seconds of training so far, in all processes."""
        return time.perf_counter() - self._start

    def write(self) -> None:
        """Writes a backup of the present state.

        Raises:
            OSError: it cannot be written; the last backup stays as it was.
        """
        start = time.perf_counter()
        progress = {
            "format": FORMAT,
            "identity": self._identity,
            "updates": self.updates,
            "train_seconds": self.train_seconds,
            "callbacks": [c.get_state() for c in self._callbacks],
        }
        _write(self.path, self._classifier, progress)
        self._tell_callbacks()
        self._last = time.perf_counter()
        self._cost = self._last - start

    def restore(self) -> None:
        """Goes on from the backup.

        Where there will be no further backups, this deletes it.

        Raises:
            InputError: the backup is damaged, or belongs to another run.
        """
        try:
            with safetensors.safe_open(self.path, framework="tf") as file:
                progress = json.loads(file.metadata()[_PROGRESS])
                self._check_identity(progress)
                _assign(self._classifier, file)
                states = zip(
                    self._callbacks, progress["callbacks"], strict=True
                )
                for callback, state in states:
                    callback.set_state(state)
                self.updates = progress["updates"]
                self._start -= progress["train_seconds"]
        except InputError:
            raise
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
            safetensors.SafetensorError,
        ) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                "bad-backup",
                f"{run_folder.BACKUP}/{run_folder.BACKUP_STATE} does not hold "
                f"this run's state ({reason})",
                "give `overwrite` to start anew",
                argument="output_dir",
                value=str(self.folder),
            ) from error
        self._metrics = [
            (variable, replicas.local_copies(variable)[0].numpy())
            for variable in self._classifier.metrics_variables
        ]
        if not self.seconds:
            self.path.unlink()
        logger.info(
            "resuming at update %d of %d", self.updates, self._total_steps
        )

    def delete(self) -> None:
        """Deletes the backup."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    @contextlib.contextmanager
    def sigterm_ends_training(self) -> Iterator[None]:
        """Writes a backup and ends training when SIGTERM comes.

        It does so after the running update. If the filling of a memory bank
        or an evaluation on the dev split is going on, it does so after that.
        In threads other than the main one it leaves signals alone.

        Raises:
            TerminatedError: SIGTERM has come, and the backup is written.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if not self.seconds or not is_main:
            yield
            return
        old = signal.signal(signal.SIGTERM, self._note_sigterm)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, old or signal.SIG_DFL)
        # Too late for the last update.
        self._end_if_terminated()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._is_part = self.updates % self._steps_per_epoch > 0
        if self._is_part:
            # `fit` has just set them to zero.
            for variable, value in self._metrics:
                replicas.assign(variable, value)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.updates += 1
        # An epoch has ended only when it has been evaluated.
        ended = self.updates % self._steps_per_epoch == 0
        if self.seconds and not ended and self.updates < self._total_steps:
            self._write_if_due(self.seconds)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._is_part:
            # What has fewer steps than an epoch is a `fit` of its own.
            self.model.stop_training = True
        if self.seconds:
            self._write_if_due(0.0)
        else:
            # No backup to wait for.
            self._tell_callbacks()

    def _write_if_due(self, seconds):
        longest = max(seconds, self._cost / _LARGEST_SHARE)
        if (
            time.perf_counter() - self._last >= longest
            or self.updates >= self._total_steps
            or self._terminated
        ):
            self.write()
        self._end_if_terminated()

    def _tell_callbacks(self):
        for callback in self._callbacks:
            callback.on_backup()

    def _note_sigterm(self, number, frame):
        self._terminated = True

    def _end_if_terminated(self):
        if self._terminated:
            end_bar()
            raise TerminatedError(
                f"ended by SIGTERM after update {self.updates} of "
                f"{self._total_steps}; the same command goes on from there"
            )

    def _check_identity(self, progress):
        """Refuses the backup of another run."""
        if progress["format"] != FORMAT:
            raise ValueError(
                f"it has format {progress['format']}, not {FORMAT}"
            )
        check_same(self._identity, progress["identity"], self.folder)


def _variables(classifier):
    """Names all variables by their place: names of layers may differ."""
    groups = {
        "classifier": classifier.variables,
        "optimizer": classifier.optimizer.variables,
        "metrics": classifier.metrics_variables,
    }
    return {
        f"{group}/{index}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _objectives(classifier):
    """Maps prefixes to objectives, for the names of their memories."""
    return {f"objectives/{o.name}/": o for o in classifier.objectives}


def _arrays(classifier):
    """Collects all there is to remember, by name."""
    # All replicas have the same.
    arrays = {
        name: replicas.local_copies(variable)[0].numpy()
        for name, variable in _variables(classifier).items()
    }
    for prefix, objective in _objectives(classifier).items():
        own = {}
        objective.save_own_variables(own)
        arrays |= {prefix + name: value for name, value in own.items()}
    # NumPy has scalars that are no arrays.
    return {name: np.asarray(array) for name, array in arrays.items()}


def _write(path, classifier, progress):
    """Writes a backup as a whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(files.PARTIAL + path.name)
    try:
        safetensors.numpy.save_file(
            _arrays(classifier), partial, {_PROGRESS: json.dumps(progress)}
        )
        files.sync(partial)
        os.replace(partial, path)
        files.sync(path.parent)
    except (OSError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise
        raise OSError(str(error)) from error


def _assign(classifier, file):
    """Gives all variables the values of a backup, once all of them fit."""
    variables = _variables(classifier)
    prefixes = tuple(_objectives(classifier))
    stored = {n for n in file.keys() if not n.startswith(prefixes)}  # noqa: SIM118
    if stored != variables.keys():
        first = min(stored ^ variables.keys())
        raise ValueError(f"it has {len(stored)} variables, {first} differs")
    for name, variable in variables.items():
        tensor = file.get_tensor(name)
        dtype = keras.backend.standardize_dtype(variable.dtype)
        stored = tensor.dtype.name, [*tensor.shape]
        if stored != (dtype, [*variable.shape]):
            raise ValueError(
                f"{name} is {stored}, expected {(dtype, [*variable.shape])}"
            )
    for name, variable in variables.items():
        replicas.assign(variable, file.get_tensor(name))
    for prefix, objective in _objectives(classifier).items():
        own = {
            name.removeprefix(prefix): file.get_tensor(name).numpy()
            for name in file.keys()  # noqa: SIM118
            if name.startswith(prefix)
        }
        objective.load_own_variables(own)
