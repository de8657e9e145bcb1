"""Trains in processes of their own that can be killed at any point.

A process is forked for every run, so that SIGKILL is a real one. What a run
does is an event; an event has a number, and the run can be killed there.
"""

import json
import os
import pathlib
import shutil
import signal
import sys

from tests import binaries


class Runner:
    """Runs `tools.train`, a process a run.

    Args:
        folder: path of a folder for what runs print and do.
    """

    def __init__(self, folder):
        self.folder = folder
        self._count = 0

    def run(self, *flags, kill_at=None, every=1, after=None, term_at=None):
        """Trains to the end, or until it is killed.

        Args:
            *flags: strings, as `tools.train` takes them.
            kill_at: `(what, nth)`: the run is killed at the nth event that
                contains the string `what`.
            every: int. A backup is written after every so many updates.
            after: float. The run is killed after so many seconds.
            term_at: as `kill_at`, for SIGTERM.

        Returns:
            `Ended`.
        """
        self._count += 1
        log = self.folder / f"run_{self._count}"
        job = {
            "flags": flags,
            "log": str(log),
            "kill_at": kill_at,
            "term_at": term_at,
            "every": every,
            "after": after,
        }
        process = binaries.fork(_train, job)
        process.join(after)
        if after:
            process.kill()
            process.join()
        events = log.with_suffix(".events")
        return Ended(
            process.exitcode,
            log.with_suffix(".out").read_text(),
            events.read_text().splitlines() if events.exists() else [],
        )


class Ended:
    """A run that has ended: its code, what it printed, its events."""

    def __init__(self, code, printed, events):
        self.code = code
        self.printed = printed
        self.events = events

    @property
    def killed(self):
        return self.code == -signal.SIGKILL


def differences(folder, reference):
    """Names what differs, in any bit, between two runs that have ended.

    Args:
        folder: path of a run's folder.
        reference: path of the other's.

    Returns:
        list of strings.
    """
    import h5py
    import safetensors.numpy

    found = []

    def compare(name, take):
        if take(pathlib.Path(folder)) != take(pathlib.Path(reference)):
            found.append(name)

    def results(path):
        content = json.loads((path / "results.json").read_text())
        times = ("train_seconds", "examples_per_second", "seconds_per_step")
        return {k: v for k, v in content.items() if k not in times}

    def metrics(path):
        lines = [
            json.loads(line)
            for name in ("metrics.jsonl", "updates.jsonl")
            for line in (path / name).read_text().splitlines()
        ]
        return [{k: v for k, v in ln.items() if k != "seconds"} for ln in lines]

    def best(path):
        arrays = {}
        with h5py.File(path / "model.weights.h5") as file:
            file.visititems(
                lambda name, item: (
                    arrays.update({name: item[()].tobytes()})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
        return arrays

    def state(path):
        file = state_of(path)
        if not file.exists():
            # Killed between its end and the deletion.
            file = path / "backup" / "state.safetensors"
        tensors = safetensors.numpy.load_file(file)
        return {k: (v.shape, v.tobytes()) for k, v in tensors.items()}

    def files(path):
        return {
            str(file.relative_to(path)): file.read_bytes()
            for file in path.rglob("*")
            if file.is_file()
            and not {"tensorboard", "backup"} & set(file.parts)
            and file.suffix not in (".h5", ".jsonl")
            and file.name != "results.json"
        }

    compare("results.json", results)
    compare("metrics.jsonl and updates.jsonl", metrics)
    compare("best weights", best)
    compare("weights, optimizer, banks, metrics", state)
    compare("other files", files)
    return found


def state_of(folder):
    """Returns where a run that has ended has its last state."""
    folder = pathlib.Path(folder)
    return folder.with_name(f"{folder.name}.state")


class _Events:
    """Numbers what a run does, writes it down, and kills the run."""

    def __init__(self, job):
        self._job = job
        self._counts = {"kill_at": 0, "term_at": 0}
        path = pathlib.Path(job["log"]).with_suffix(".events")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, what, before_kill=lambda: None):
        os.write(self._file, f"{what}\n".encode())
        if self._is_due("kill_at", what):
            before_kill()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._is_due("term_at", what):
            os.kill(os.getpid(), signal.SIGTERM)

    def _is_due(self, how, what):
        if self._job[how] is None:
            return False
        wanted, nth = self._job[how]
        self._counts[how] += wanted in what
        return wanted in what and self._counts[how] == nth


def _watch(job):
    """Makes events of all that a run does."""
    import keras
    import safetensors.numpy

    from tfadv import progress
    from tfadv.inference import evaluation
    from tfadv.runs import run_folder
    from tfadv.training import backup, callbacks, loop

    event = _Events(job)

    def wrap(owner, name, before=None, after=None):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            if before:
                event(before(*args))
            result = original(*args, **kwargs)
            if after:
                event(after(*args))
            return result

        setattr(owner, name, wrapped)

    def renaming(when):
        return lambda old, new: f"{when} {pathlib.Path(new).name} is renamed"

    wrap(os, "replace", renaming("before"), renaming("after"))
    wrap(os, "fsync", lambda descriptor: "before fsync")
    wrap(shutil, "copy", after=lambda *_: "the folder is made")
    wrap(run_folder, "create", lambda *_: "before the folder is made")
    wrap(loop, "_write_inputs", after=lambda *_: "the folder is made")
    wrap(evaluation, "evaluate", lambda *_: "before the test is evaluated")

    # A backup.
    backup._LARGEST_SHARE = float("inf")
    write = backup.Backup.write

    def some_backups(self):
        last = self.updates >= self._total_steps or self._terminated
        if last or self.updates % job["every"] == 0:
            write(self)
            event(f"a backup is written after update {self.updates}")

    save_file = safetensors.numpy.save_file

    def half_a_backup(arrays, path, metadata):
        save_file(arrays, path, metadata)
        event(
            "half of a backup is written",
            lambda: os.truncate(path, os.path.getsize(path) // 2),
        )

    backup.Backup.write = some_backups
    safetensors.numpy.save_file = half_a_backup
    delete = backup.Backup.delete

    def kept(self):
        # Of a run that was killed while it deleted, it has been kept.
        if self.path.exists():
            shutil.copyfile(self.path, state_of(self.folder))
        event("before the backup is deleted")
        delete(self)
        event("the run has ended")

    backup.Backup.delete = kept

    # Training.
    wrap(
        callbacks.StopAtStep,
        "on_train_batch_end",
        after=lambda self, *_: f"update {self._steps} has ended",
    )
    callbacks.StopAtStep.on_test_batch_end = lambda *_, **__: event(
        "the dev split is evaluated"
    )
    save = keras.Model.save_weights

    def half_the_weights(self, path, **options):
        event("before best weights are written")
        save(self, path, **options)
        event(
            "half of the best weights are written",
            lambda: os.truncate(path, os.path.getsize(path) // 2),
        )

    keras.Model.save_weights = half_the_weights
    append = callbacks.MetricsFile.on_epoch_end

    def half_a_line(self, epoch, logs=None):
        append(self, epoch, logs)
        event(
            "half of a line of metrics is written",
            lambda: os.truncate(self.path, os.path.getsize(self.path) - 9),
        )

    callbacks.MetricsFile.on_epoch_end = half_a_line

    track = progress.track

    def told(items, description, *args, **options):
        for item in track(items, description, *args, **options):
            if description == "filling the memory bank":
                event("the memory bank is filled")
            yield item

    progress.track = told


def _train(job):
    """What a forked process does."""
    path = pathlib.Path(job["log"]).with_suffix(".out")
    output = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    from tfadv.tools import train

    _watch(job)
    sys.argv = ["train", "--backup_seconds=0.000001", *job["flags"]]
    train.start()
