"""From `DataSettings` to the texts that they name."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfadv.data import data_folder, text_files
from tfadv.data.settings import DataSettings
from tfadv.datasets import catalogue
from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError


def load_data(settings: DataSettings | None = None) -> TextDataset:
    """Loads a dataset to train on, added adversaries included.

    Args:
        settings: `DataSettings`; by default those of `movie_reviews`.

    Returns:
        `tfadv.datasets.examples.TextDataset`, with `source` set.

    Raises:
        InputError: the data cannot be read, or are not as they must be.

    Example:

    ```python
    import tfadv

    dataset = tfadv.load_data(tfadv.DataSettings(max_train_examples=1000))
    print(dataset.label_names, len(dataset.train))
    ```
    """
    settings = settings or DataSettings()
    dataset = _load_splits(settings)
    count = settings.max_train_examples
    if count is not None and count < len(dataset.train):
        dataset = _shortened(dataset, count)
    if settings.augment_file:
        more = _read_adversaries(settings.augment_file, dataset.label_names)
        train = Examples(
            [*dataset.train.texts, *more.texts],
            np.concatenate([dataset.train.labels, more.labels]),
        )
        dataset = dataclasses.replace(dataset, train=train)
    return dataclasses.replace(dataset, source=settings.resolved())


def load_split(
    settings: DataSettings, split: str, label_names: Sequence[str]
) -> tuple[str, Examples]:
    """Loads one split for a classifier whose classes are known.

    Args:
        settings: `DataSettings`. Of single files, only the split's own is
            needed.
        split: string: `"train"`, `"dev"` or `"test"`.
        label_names: strings, the classifier's classes.

    Returns:
        `(name, examples)`: a string that says what was read, and
        `tfadv.datasets.examples.Examples`.

    Raises:
        InputError: there is no such split, its labels are not the
            classifier's, or it cannot be read.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    name, examples = load_split(
        DataSettings(test_file="mine.csv"), "test", run.label_names
    )
    ```
    """
    path = _file_of(settings, split)
    if path:
        examples, _ = text_files.read_examples(
            path, *settings.columns, label_names, argument=f"{split}_file"
        )
        return path, examples
    dataset, examples = _load_split_of_many(settings, split)
    if dataset.label_names != tuple(label_names):
        raise InputError(
            "other-classes",
            f"expected the classifier's classes {', '.join(label_names)}, "
            f"found {', '.join(dataset.label_names)}",
            "give a dataset with the same classes",
            argument="dataset",
            value=dataset.name,
        )
    return dataset.name, examples


def load_texts(settings: DataSettings, split: str) -> list[str]:
    """Loads the texts of one split, of whatever classes.

    Args:
        settings: `DataSettings`. A single file needs no labels.
        split: string: `"train"`, `"dev"` or `"test"`.

    Returns:
        List of strings.

    Raises:
        InputError: there is no such split, or it cannot be read.

    Example:

    ```python
    texts = load_texts(DataSettings(test_file="unlabelled.csv"), "test")
    ```
    """
    path = _file_of(settings, split)
    if path:
        examples, _ = text_files.read_examples(
            path, settings.columns[0], None, argument=f"{split}_file"
        )
    else:
        _, examples = _load_split_of_many(settings, split)
    return examples.texts


def _load_splits(settings):
    columns = settings.columns
    if settings.data_dir:
        return data_folder.load(
            settings.data_dir,
            settings.dataset,
            *columns,
            settings.split_ids_file,
        )
    if settings.train_file:
        return text_files.load_files(
            settings.train_file,
            settings.dev_file,
            settings.test_file,
            *columns,
        )
    for name in ("dev_file", "test_file"):
        if getattr(settings, name):
            raise InputError(
                "no-train-file",
                "expected `train_file` beside it, which says what the classes "
                "are",
                "give that file, too",
                argument=name,
                value=getattr(settings, name),
            )
    return catalogue.load(settings.resolved().dataset, settings.split_ids_file)


def _file_of(settings, split):
    """Returns the path of a split's own file, or `None` for other sources."""
    paths = {
        name: getattr(settings, f"{name}_file")
        for name in ("train", "dev", "test")
    }
    if any(paths.values()) and not paths[split]:
        raise InputError(
            "no-file-of-split",
            f"expected `{split}_file`, found none",
            "give it, or name the split of a file that is given",
            argument="split",
            value=split,
        )
    return paths[split]


def _load_split_of_many(settings, split):
    dataset = _load_splits(settings)
    examples = getattr(dataset, split)
    if examples is None:
        raise InputError(
            "no-such-split",
            f"expected a split that {dataset.name} has, found that it has no "
            f"{split} split",
            "name another one",
            argument="split",
            value=split,
        )
    return dataset, examples


def _shortened(dataset, count):
    """Draws training examples, the same ones for every seed of a run."""
    order = np.random.default_rng(0).permutation(len(dataset.train))
    chosen = np.sort(order[:count])
    train = Examples(
        [dataset.train.texts[i] for i in chosen], dataset.train.labels[chosen]
    )
    ids = dataset.ids and {
        **dataset.ids,
        "train": [dataset.ids["train"][i] for i in chosen],
    }
    return dataclasses.replace(dataset, train=train, ids=ids)


def _read_adversaries(path, label_names):
    try:
        examples, _ = text_files.read_examples(
            path,
            "reconstruction",
            "label",
            label_names,
            argument="augment_file",
        )
    except InputError as error:
        if error.code != "no-such-column":
            raise
        # That error names arguments which do not rule this file.
        raise InputError(
            "not-adversaries",
            "expected 'reconstruction' and 'label' in every line, found a "
            "line without them",
            "give the adversaries.jsonl of tools.reconstruct",
            argument="augment_file",
            value=path,
        ) from error
    return examples
