"""Shows how far along something is: a bar, or now and then a line.

On a terminal it is a bar. Elsewhere, as in a job's log, it is a line every 30
seconds through `tfadv.log.logger`, so that what takes less leaves no trace.
"""

import operator
import sys
import time
from collections.abc import Iterable, Iterator

import tqdm

from tfadv.log import logger

SECONDS = 30.0


class Progress:
    """Counts what is done of something that takes a while.

    Use it as a context manager where there is nothing to iterate over;
    otherwise `track` is shorter.

    Args:
        description: What is going on, such as `"tokenizing train"`.
        total: How much there is to do; `None` where nobody knows.
        unit: What is counted, in the plural.
        verbose: Whether to show anything.

    Example:

    ```python
    texts = []
    paths = [pathlib.Path("train.csv"), pathlib.Path("dev.csv")]
    with Progress("reading", total=len(paths), unit="files") as progress:
        for path in paths:
            texts.append(path.read_text())
            progress.update()
    ```
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        unit: str = "batches",
        verbose: bool = True,
    ):
        self.description = description
        self.total = total
        self.unit = unit
        self.count = 0
        self._verbose = verbose
        self._bar = None
        self._start = self._last = time.monotonic()
        if verbose and sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm.tqdm(
                desc=description, total=total, unit=f" {unit}"
            )

    def update(self, count: int = 1) -> None:
        """Says that more is done.

        Args:
            count: How much more.
        """
        self.count += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._verbose and time.monotonic() >= self._last + SECONDS:
            self._last = time.monotonic()
            logger.info(self._line(self._last - self._start))

    def _line(self, seconds):
        rate = self.count / max(seconds, 1e-9)
        line = f"{self.description}: {self.count:,}"
        if self.total is not None:
            line += f" of {self.total:,}"
        line += f" {self.unit}, {rate:.3g} a second"
        if self.total is not None and rate > 0:
            left = max(0, self.total - self.count) / rate
            line += f", {left / 60:.0f} min left"
        return line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()


def track(
    items: Iterable,
    description: str,
    total: int | None = None,
    unit: str = "batches",
    verbose: bool = True,
) -> Iterator:
    """Passes items on, and shows how many have been worked on.

    Args:
        items: What is iterated over.
        description: What is going on.
        total: The number of items; by default their length, if they have one.
        unit: What the items are, in the plural.
        verbose: Whether to show anything.

    Yields:
        The items.

    Example:

    ```python
    for x, _ in track(batches, "predicting"):
        classifier(x)
    ```
    """
    if total is None:
        try:
            total = operator.length_hint(items) or None
        except TypeError:  # a `tf.data.Dataset` of unknown length
            total = None
    with Progress(description, total, unit, verbose) as progress:
        for item in items:
            yield item
            progress.update()
