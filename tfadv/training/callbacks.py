"""Keras callbacks for all that happens around the training steps."""

import json
import math
import os
import pathlib
import re
import sys
import time
from typing import Any

import keras
import tensorflow as tf

from tfadv import files
from tfadv.errors import NotFiniteLossError
from tfadv.log import logger
from tfadv.objectives.objective import Objective
from tfadv.runs.run import save_weights

Logs = dict[str, float] | None  # as Keras gives them: metrics by name


class ResumableCallback(keras.callbacks.Callback):
    """A callback that goes on, in another process, where a run was cut off.

    `tfadv.training.backup.Backup` keeps its state.
    """

    def get_state(self) -> dict[str, Any]:
        """Returns a dict for JSON with all that the next process needs."""
        raise NotImplementedError

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a dict that `get_state` has returned."""
        raise NotImplementedError

    def on_backup(self) -> None:
        """Called when a backup with the present state has been written."""


class BestWeights(ResumableCallback):
    """Keeps the weights of the epoch that is best on the dev split.

    The file is written beside the old one and then renamed, so that a run
    that ends while it writes leaves the last good weights in place.

    With backups, the file always belongs to the last backup: new weights wait
    in `waiting_room` for the next one.

    Args:
        path: path of the file, ending in `.weights.h5`.
        monitor: string, the metric to maximise. Where the logs lack it (there
            is no dev split), this keeps the last epoch's weights.
        waiting_room: path of a folder, or `None` where there are no backups.

    Attributes:
        best_epoch: int, from 1, or `None` before the first epoch has ended.
        best_value: float, the metric in that epoch, or `None`.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        monitor: str = "val_accuracy",
        waiting_room: str | pathlib.Path | None = None,
    ):
        super().__init__()
        self.path = pathlib.Path(path)
        self.monitor = monitor
        self.waiting_room: Any = waiting_room and pathlib.Path(waiting_room)
        self.best_epoch: int | None = None
        self.best_value: float | None = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        value = (logs or {}).get(self.monitor)
        best = self.best_value
        if value is not None and best is not None and value <= best:
            return
        partial = self.path.with_name(files.PARTIAL + self.path.name)
        if self.waiting_room:
            self.waiting_room.mkdir(exist_ok=True)
            partial = self._waiting(epoch + 1)
        save_weights(self.model, partial)
        files.sync(partial)
        if not self.waiting_room:
            os.replace(partial, self.path)
        self.best_epoch, self.best_value = epoch + 1, value

    def get_state(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch, "best_value": self.best_value}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best_epoch = state["best_epoch"]
        self.best_value = state["best_value"]
        self.on_backup()
        if self.best_epoch is not None and not self.path.exists():
            raise ValueError(f"there is no {self.path.name} beside it")

    def on_backup(self) -> None:
        waiting = self._waiting(self.best_epoch)
        if waiting.exists():
            os.replace(waiting, self.path)
        # Of epochs that others have outdone, or that come again.
        for path in self.waiting_room.glob("best_*.weights.h5"):
            path.unlink()

    def _waiting(self, epoch):
        return self.waiting_room / f"best_{epoch}.weights.h5"


class MetricsFile(ResumableCallback):
    """Appends a line of JSON per epoch: its number, seconds and all metrics.

    Args:
        path: path of the file.
    """

    def __init__(self, path: str | pathlib.Path):
        super().__init__()
        self.path = pathlib.Path(path)
        self._start = 0.0
        # Of this epoch, before the run was cut off.
        self._earlier = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._start = time.perf_counter() - self._earlier
        self._earlier = 0.0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        line = {
            "epoch": epoch + 1,
            "seconds": round(time.perf_counter() - self._start, 3),
            **{name: float(value) for name, value in (logs or {}).items()},
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._start = 0.0

    def get_state(self) -> dict[str, Any]:
        lines, seconds = "", 0.0
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8")
        if self._start is not None:
            seconds = time.perf_counter() - self._start
        return {"lines": lines, "seconds": seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        files.write_text(self.path, state["lines"])
        self._earlier = state["seconds"]


class UpdatesFile(ResumableCallback):
    """Appends lines of JSON over the run: the metrics of the last updates.

    A line has the mean of every metric over a window of updates. All windows
    except the last one have the same length.

    Args:
        path: path of the file.
        steps_per_epoch: int.
        total_steps: int, the updates of the whole run.
        lines: int, the largest number of lines that a run writes.

    Example:

    ```python
    classifier.fit(
        batches, epochs=3, callbacks=[UpdatesFile("updates.jsonl", 50, 150)]
    )
    # {"update": 1, "epoch": 0.02, "loss": 0.69, "accuracy": 0.5}, ...
    ```
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        steps_per_epoch: int,
        total_steps: int,
        lines: int = 200,
    ):
        super().__init__()
        self.path = pathlib.Path(path)
        self._steps_per_epoch = steps_per_epoch
        self._total_steps = total_steps
        self._window = -(-total_steps // lines)
        self._update = 0
        # By metric. Keras tells the mean over the epoch so far: of how many
        # updates, their sum as it was last read, and the window's sum.
        self._counts, self._read, self._sums = {}, {}, {}

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._update += 1
        for name in logs or {}:
            # An objective's loss is there from its start on.
            self._counts[name] = self._counts.get(name, 0) + 1
        epoch_ends = self._update % self._steps_per_epoch == 0
        run_ends = self._update == self._total_steps
        window_ends = self._update % self._window == 0 or run_ends
        if window_ends or epoch_ends:
            self._add(logs or {})
        if window_ends:
            self._write()
        if epoch_ends:
            self._counts, self._read = {}, {}

    def _add(self, logs):
        """Adds the updates since the last call to the window's sums."""
        for name, mean in logs.items():
            count = self._counts[name]
            read, read_count = self._read.get(name, (0.0, 0))
            total = float(mean) * count
            added, added_count = self._sums.get(name, (0.0, 0))
            self._sums[name] = [
                added + total - read,
                added_count + count - read_count,
            ]
            self._read[name] = [total, count]

    def _write(self):
        line = {
            "update": self._update,
            "epoch": round(self._update / self._steps_per_epoch, 4),
            **{
                name: float(f"{total / count:.6g}")
                for name, (total, count) in self._sums.items()
            },
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._sums = {}

    def get_state(self) -> dict[str, Any]:
        lines = ""
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8")
        return {
            "lines": lines,
            "update": self._update,
            "counts": self._counts,
            "read": self._read,
            "sums": self._sums,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        files.write_text(self.path, state["lines"])
        self._update = state["update"]
        self._counts = state["counts"]
        self._read, self._sums = state["read"], state["sums"]


class PassSummaries(keras.callbacks.Callback):
    """Writes to TensorBoard what each of the adversary's passes saw.

    The scalars are an epoch's means of loss, accuracy and norm of delta:
    `pass_1/loss`, `pass_1/accuracy`, `pass_1/delta_norm`, `pass_2/loss` ...

    Args:
        log_dir: path of the folder.
    """

    def __init__(self, log_dir: str | pathlib.Path):
        super().__init__()
        self.log_dir = log_dir
        self._table = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._table = None

    def on_test_begin(self, logs: Logs = None) -> None:
        # The dev split's evaluation resets all metrics before the epoch ends.
        self._table = self._read()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        table = self._read() if self._table is None else self._table
        if table is None:
            return
        writer = tf.summary.create_file_writer(str(self.log_dir))
        with writer.as_default(step=epoch):
            for index, row in enumerate(table):
                columns = self.model.pass_statistics.COLUMNS
                for name, value in zip(columns, row, strict=True):
                    tf.summary.scalar(f"pass_{index + 1}/{name}", value)
        writer.close()

    def _read(self):
        statistics = self.model.pass_statistics
        return None if statistics is None else statistics.result().numpy()


class _StepCounter(ResumableCallback):
    """Counts steps over all epochs."""

    def __init__(self):
        super().__init__()
        self._steps = 0

    def get_state(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]


class StopAtStep(_StepCounter):
    """Ends training after a number of steps, in the middle of an epoch.

    Args:
        max_steps: int, counted over all epochs.
    """

    def __init__(self, max_steps: int):
        super().__init__()
        self.max_steps = max_steps

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._steps += 1
        if self._steps >= self.max_steps:
            self.model.stop_training = True


class StopOnNaN(_StepCounter):
    """Ends training with an error when the loss is not finite any more.

    Raises:
        NotFiniteLossError: in the first step with such a loss.
    """

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._steps += 1
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise NotFiniteLossError(
                "not-finite",
                f"the loss became {loss} in step {self._steps}, in epoch "
                f"{self._epoch}",
                "lower `optimization.learning_rate` or `adversary.step_size`, "
                "or train with `encoder.precision`=float32",
            )


class StartObjective(_StepCounter):
    """Lets an objective join at a step; its loss trains from there on.

    This also fills CARL's memory bank.

    Args:
        objective: `tfadv.objectives.objective.Objective` of the model; it
            waits until then.
        batches: `tf.data.Dataset` with every training example once.
        start_step: int, the number of updates without the objective, counted
            over all epochs. Where an execution has several steps, it starts
            with the next one.

    Example:

    ```python
    start = StartObjective(objective, batches, start_step=500)
    classifier.fit(batches, epochs=3, callbacks=[start])
    ```

    Reference:
     - CARL and RAR paper, section 3.2 and Table 3
    """

    def __init__(
        self, objective: Objective, batches: tf.data.Dataset, start_step: int
    ):
        super().__init__()
        self.objective = objective
        self.batches = batches
        self.start_step = start_step

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._first = batch
        if self._steps >= self.start_step and not self.objective.active:
            end_bar()
            self.objective.start(self.model, self.batches)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        # Several steps, where an execution has several.
        self._steps += batch - self._first + 1


class PeakMemory(keras.callbacks.Callback):
    """Logs once how much memory the updates take at their peak.

    It does so after the second update with all objectives. By then there has
    been every kind of tensor that training needs.

    Args:
        batch_size: int, for the message.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self._updates = 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not all(objective.active for objective in self.model.objectives):
            return
        self._updates += 1
        if self._updates != 2:
            return
        peaks = ", ".join(
            f"{size / 2**30:.2f} GiB ({where})"
            for where, size in peak_memory().items()
        )
        end_bar()
        logger.info(
            "peak memory after 2 updates of %d texts: %s",
            self.batch_size,
            peaks,
        )


def end_bar() -> None:
    """Ends the line of Keras' bar, so that logs begin on a new line."""
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout.write("\n")
        sys.stdout.flush()


def peak_memory() -> dict[str, int]:
    """Measures the peak of the memory in use so far.

    Returns:
        dict of bytes, an int for each GPU by its name or, without GPUs, one
        for this `"process"`.
    """
    devices = tf.config.list_logical_devices("GPU")
    if devices:
        names = [device.name.removeprefix("/device:") for device in devices]
        info = tf.config.experimental.get_memory_info
        return {name: info(name)["peak"] for name in names}
    try:
        # Not `ru_maxrss`, which a process inherits from the one that started
        # it.
        with open("/proc/self/status", encoding="utf-8") as file:
            [peak] = re.findall(r"^VmHWM:\s+(\d+) kB", file.read(), re.M)
        return {"process": 1024 * int(peak)}
    except (OSError, ValueError):
        # No Linux, and there is no such module on Windows.
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"process": peak if sys.platform == "darwin" else 1024 * peak}


class StepTimer(ResumableCallback):
    """Times only those training steps that do not trace.

    The first step traces the graph, and so does the first one with a new
    objective.

    Attributes:
        seconds: float, the time of all timed steps.
        steps: int, the number of timed steps.
    """

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        self.steps = 0
        self._traced = None

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self._traced is self.model.train_function:
            self.seconds += time.perf_counter() - self._start
            self.steps += 1
        self._traced = self.model.train_function

    def get_state(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seconds, self.steps = state["seconds"], state["steps"]
