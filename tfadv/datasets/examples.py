"""Labelled texts in memory: what every source of data is turned into."""

import dataclasses

import numpy as np

from tfadv.fields import Group


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split: texts and their class numbers, in a fixed order.

    An example's position is its stable index: memory banks, predictions and
    adversaries refer to it by that number.

    Args:
        texts: list of `str`, one for each example.
        labels: int32 array of shape `[examples]`, each in
            `[0, len(label_names))` of the dataset it belongs to.
    """

    texts: list[str]
    labels: np.ndarray

    def __len__(self):
        return len(self.texts)


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """The splits of a classification dataset and the names of its classes.

    Args:
        name: string, for logs and reports.
        label_names: tuple of strings; class `i` is called `label_names[i]`.
        train: `Examples`.
        dev: `Examples`, or `None` where there is no such split.
        test: `Examples`, or `None` where there is no such split.
        ids: dict of split names: lists of strings, the row of the source
            that each text is, such as `"train/123"`; texts that were added to
            a split come after those with ids. `None` for a dataset that is
            not drawn from a larger one.
        source: `tfadv.data.settings.DataSettings` that it was loaded with, or
            `None` for a dataset that was made in Python.
    """

    name: str
    label_names: tuple[str, ...]
    train: Examples
    dev: Examples | None = None
    test: Examples | None = None
    ids: dict[str, list[str]] | None = None
    source: Group | None = None
