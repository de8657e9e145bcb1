"""The trials of a search: each is trained and measured by itself."""

import dataclasses
import gc
import math
import pathlib
import time
from typing import Any

import keras
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FailedTrialError, FatalError

from tfadv import files
from tfadv.datasets.examples import TextDataset
from tfadv.errors import InputError, NotFiniteLossError
from tfadv.log import logger
from tfadv.robustness import measure
from tfadv.runs import flagfile, opening
from tfadv.runs.settings import Settings
from tfadv.training import callbacks, loop
from tfadv.tuning import oracle, search_folder, space
from tfadv.tuning.settings import NAMES, Tuning


class TrialTuner(base_tuner.BaseTuner):
    """Trains and measures the trials that the oracle hands out.

    Args:
        dataset: `tfadv.datasets.examples.TextDataset` with a dev split.
        settings: `tfadv.Settings` of the trials, all but what is searched.
        tuning: `tfadv.tuning.settings.Tuning`.
        folder: `pathlib.Path` of the search.
        flags: string, further lines for the trials' flagfiles.

    Example:

    ```python
    tuner = TrialTuner(dataset, tfadv.Settings(), Tuning(), folder, "")
    tuner.search()
    ```
    """

    def __init__(
        self,
        dataset: TextDataset,
        settings: Settings,
        tuning: Tuning,
        folder: pathlib.Path,
        flags: str,
    ):
        self._dataset = dataset
        self._settings = settings
        self._tuning = tuning
        self._folder = folder
        self._flags = flags
        self._coarse_trials = len(space.coarse_grid(tuning))
        self._asked = False
        super().__init__(
            oracle.make(tuning, settings.optimization.seed),
            directory=folder,
            project_name=search_folder.PROJECT,
        )

    def save(self) -> None:
        # A worker has nothing that its chief would not know.
        if not self._is_worker():
            self.oracle.save()
            files.write_json(self._get_tuner_fname(), self.get_state())

    def pre_create_trial(self) -> None:
        # Asked again without a trial in between: there is none yet.
        if self._asked:
            time.sleep(1)
        self._asked = True

    def on_trial_begin(self, trial: Any) -> None:
        self._asked = False

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        search_folder.drop_weights(self._folder)
        logger.info(self._progress(trial))

    def run_trial(self, trial: Any) -> Any:
        path = pathlib.Path(self.get_trial_dir(trial.trial_id))
        path /= search_folder.MEASURED
        try:
            if path.exists():
                measured = files.read_json(path)
            else:
                measured = self._measure(trial)
                files.write_json(path, measured)
        except Exception as error:
            # keras-tuner goes on after any other one.
            raise FatalError from error
        if measured["status"] == "failed":
            raise FailedTrialError(measured["reason"])
        return {"objective": measured["objective"]}

    def _measure(self, trial):
        """Trains and measures a trial; tells, too, why it has failed."""
        trial_id, start = trial.trial_id, time.perf_counter()
        values = {name: trial.hyperparameters.values[name] for name in NAMES}
        share = trial.hyperparameters.values.get("tuner/epochs", oracle.SHARES)
        run = pathlib.Path(search_folder.RUNS) / trial_id
        measured = {
            "trial": int(trial_id) + 1,
            "stage": self._stage(trial),
            "values": values,
            "full": share == oracle.SHARES,
            "updates": None,
            "dev_accuracy": None,
            "attacked_accuracy": None,
            "objective": None,
            "status": "completed",
            "reason": None,
            "run_dir": str(run),
        }
        try:
            results = self._train(values, share, self._folder / run)
            measured["updates"] = results["steps"]
            measured["dev_accuracy"] = results["dev_accuracy"]
            if self._tuning.objective != "dev_accuracy":
                measured["attacked_accuracy"] = self._attack(self._folder / run)
            measured["objective"] = self._objective(measured)
        except (InputError, tf.errors.ResourceExhaustedError, MemoryError) as e:
            measured["status"] = "failed"
            measured["reason"] = _reason(e)
        finally:
            # Models of trials that are over would add up.
            keras.utils.clear_session()
            gc.collect()
        measured["seconds"] = round(time.perf_counter() - start, 1)
        return measured

    def _train(self, values, share, folder):
        settings = with_values(self._settings, values)
        if share < oracle.SHARES:
            settings = shortened(settings, len(self._dataset.train), share)
        # A trial that was cut off begins anew: it has no need of backups.
        settings = _with(settings, backup_seconds=0.0)
        return loop.train(
            self._dataset,
            settings,
            folder,
            overwrite=True,
            flags=self._flags + flagfile.text(settings, self._dataset.source),
        )

    def _attack(self, folder):
        """Measures a trial's accuracy on attacked examples of the dev split."""
        attack = self._tuning.attack
        results, _ = measure.measure(
            opening.load(folder),
            attack.first(self._dataset.dev),
            [self._tuning.epsilon],
            self._settings.optimization.slice_size,
            **attack.arguments(),
        )
        return results["epsilons"][0]["accuracy"]

    def _objective(self, measured):
        if self._tuning.objective != "mix":
            return measured[self._tuning.objective]
        share = self._tuning.attack_share
        dev, attacked = measured["dev_accuracy"], measured["attacked_accuracy"]
        return (1 - share) * dev + share * attacked

    def _stage(self, trial):
        coarse = int(trial.trial_id) < self._coarse_trials
        return "coarse" if coarse else "fine"

    def _progress(self, trial):
        trials = search_folder.read_trials(self._folder)
        number = int(trial.trial_id) + 1
        [measured] = [t for t in trials if t["trial"] == number]
        best = search_folder.best_trial(trials)
        values = ", ".join(f"{n} {v:g}" for n, v in measured["values"].items())
        ended = f"failed: {measured['reason']}"
        if measured["status"] == "completed":
            ended = f"objective {measured['objective']:.4f}"
        else:
            # A training that fails does not end the line of Keras' bar.
            callbacks.end_bar()
        return (
            f"trial {number} of {self.oracle.max_trials} "
            f"({measured['stage']}; {values}): {ended}, "
            f"{measured['seconds']:.0f} seconds"
            + (f"; best so far {best['objective']:.4f}" if best else "")
        )


def with_values(settings: Settings, values: dict) -> Settings:
    """Returns settings with the hyperparameters of a trial.

    Args:
        settings: `tfadv.Settings`.
        values: dict: hyperparameter -> value.
    """
    adversary = dataclasses.replace(settings.adversary, **values)
    return dataclasses.replace(settings, adversary=adversary)


def shortened(settings: Settings, num_examples: int, share: int) -> Settings:
    """Returns the settings of a trial with a share of all updates.

    Args:
        settings: `tfadv.Settings`.
        num_examples: int, of the training set.
        share: int, of `oracle.SHARES`.

    Raises:
        InputError: an objective would start after the trial's end.
    """
    _, total = loop.updates(settings.optimization, num_examples)
    return _with(settings, max_steps=math.ceil(total * share / oracle.SHARES))


def _with(settings, **changes):
    optimization = dataclasses.replace(settings.optimization, **changes)
    return dataclasses.replace(settings, optimization=optimization)


def _reason(error):
    """Says in a line why a trial failed; raises what no trial can be told."""
    if not isinstance(error, InputError):
        return f"out of memory ({type(error).__name__})"
    # Any other bad input would end every trial.
    if not isinstance(error, NotFiniteLossError):
        raise error
    return str(error)
