"""Flags of predictions: where the texts come from."""

import sys

from absl import flags

from tfadv.errors import InputError
from tfadv.flags import data, run

TEXTS_FILE = flags.DEFINE_string(
    "texts_file",
    None,
    "A UTF-8 file with a text a line, instead of stdin. Instead of either, "
    "--split or the data flags name a split, whose .csv, .tsv or .jsonl file "
    "needs no labels.",
)
# What says which split to read, and how.
_OF_SPLITS = (
    data.DATASET,
    data.DATA_DIR,
    data.SPLIT_IDS_FILE,
    data.TRAIN_FILE,
    data.DEV_FILE,
    data.TEST_FILE,
    data.TEXT_COLUMN,
    data.LABEL_COLUMN,
    run.SPLIT,
)


def texts(folder):
    """Opens the texts that the flags name, or else those of stdin.

    Args:
        folder: `pathlib.Path` of the run, whose data `--split` alone names.

    Returns:
        Iterable of strings; a list for a split.

    Raises:
        InputError: the flags clash, or nothing is given.
    """
    from tfadv.runs import prediction

    given = [f"--{f.name}={f.value}" for f in _OF_SPLITS if f.present]
    if TEXTS_FILE.value:
        if given:
            raise InputError(
                f"{given[0]} and --texts_file={TEXTS_FILE.value} clash: a "
                "text file has neither splits nor columns; leave one away"
            )
        return prediction.read_file(TEXTS_FILE.value)
    if data.given() or run.SPLIT.present:
        data.default_to_run(folder)
        return data.load_texts(run.SPLIT.value)
    if given:
        raise InputError(
            f"{given[0]} is of no use for stdin, which has a text a line; "
            "give the file with --test_file"
        )
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "there are no texts: give them on stdin, a text a line "
            "(< texts.txt), or with --texts_file, or name a split with "
            "--test_file, --dataset or --split"
        )
    return prediction.read_texts(sys.stdin.buffer, "stdin")
