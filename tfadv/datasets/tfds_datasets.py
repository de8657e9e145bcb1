"""The paper's datasets, through TensorFlow Datasets (TFDS)."""

import dataclasses
import functools
import importlib
import sys
from collections.abc import Callable, Mapping

import numpy as np
from absl import logging

from tfadv import startup
from tfadv.datasets import drawing, split_ids
from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError

_ROWS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Source:
    r"""Where a dataset's rows come from and how they become examples.

    Args:
        name: string, the dataset's name in the catalogue.
        builder: string, its name in TFDS.
        label_names: tuple of strings, in the order of TFDS' class numbers.
        fields: tuple of strings, the features that make the text, in order.
        sizes: dict of `"train"`, `"dev"` and `"test"`: rows of each class
            that are drawn; `None` where the splits are used as they are.
        text_column: string, the column of the text where the dataset is read
            from files.
        other_labels: tuple of strings, further classes, whose rows are
            passed over.
        module: string, the module that defines the builder, `None` if TFDS
            does.
        escaped_lines: bool, whether line breaks are written as `\n`.
    """

    name: str
    builder: str
    label_names: tuple[str, ...]
    fields: tuple[str, ...]
    sizes: dict[str, int] | None = None
    text_column: str = "text"
    other_labels: tuple[str, ...] = ()
    module: str | None = None
    escaped_lines: bool = False

    def clean(self, text: str) -> str:
        """Restores the line breaks of a text."""
        return text.replace("\\n", "\n") if self.escaped_lines else text


SOURCES = {
    source.name: source
    for source in (
        Source(
            "sst2",
            "glue/sst2",
            ("negative", "positive"),
            ("sentence",),
            text_column="sentence",
        ),
        Source(
            "yelp",
            "yelp_polarity_reviews",
            ("negative", "positive"),
            ("text",),
            {"train": 30_000, "dev": 1_000, "test": 1_000},
            escaped_lines=True,
        ),
        Source(
            "ag_news",
            "ag_news_subset",
            ("World", "Sports", "Business", "Sci/Tech"),
            ("title", "description"),
            {"train": 15_000, "dev": 500, "test": 500},
        ),
        Source(
            "yahoo",
            "yahoo_answers",
            (
                "Society & Culture",
                "Science & Mathematics",
                "Health",
                "Education & Reference",
                "Computers & Internet",
            ),
            ("question_title", "question_content", "best_answer"),
            {"train": 12_000, "dev": 400, "test": 400},
            other_labels=(
                "Sports",
                "Business & Finance",
                "Entertainment & Music",
                "Family & Relationships",
                "Politics & Government",
            ),
            module="tfadv.datasets.yahoo_answers",
            escaped_lines=True,
        ),
    )
}


def load(name: str, split_ids_file: str | None = None) -> TextDataset:
    """Loads a dataset of the paper, which TFDS downloads if need be.

    | name    | classes | train  | dev   | test  |
    |---------|---------|--------|-------|-------|
    | sst2    | 2       | 67,349 | 872   |       |
    | yelp    | 2       | 60,000 | 2,000 | 2,000 |
    | ag_news | 4       | 60,000 | 2,000 | 2,000 |
    | yahoo   | 5       | 60,000 | 2,000 | 2,000 |

    SST-2's test labels are not public, so its validation split is the dev
    split. The other three are drawn, see `tfadv.datasets.drawing`. A row's
    features are joined by a space where there are several, and the line
    breaks that Yelp and Yahoo! Answers write as a backslash and an n are
    restored.

    TFDS keeps its data in `~/tensorflow_datasets`, or in the folder that the
    environment variable `TFDS_DATA_DIR` names.

    Args:
        name: string: `"sst2"`, `"yelp"`, `"ag_news"` or `"yahoo"`.
        split_ids_file: path of a `split_ids.json` with the rows to use, or
            `None` to draw them.

    Returns:
        `tfadv.datasets.examples.TextDataset`; a drawn one has ids, such as
        `"train/123"`: row 123 of TFDS' split `train`.

    Raises:
        InputError: the data cannot be downloaded or read, or the file is not
            as it must be.

    Example:

    ```python
    from tfadv.datasets import tfds_datasets

    dataset = tfds_datasets.load("ag_news")
    print(dataset.label_names[dataset.train.labels[0]])
    ```

    Reference:
        Section 4.1 of the paper.
    """
    source = SOURCES[name]
    builder = _prepare(source)
    if source.sizes is None:
        return TextDataset(
            name,
            source.label_names,
            train=_all_rows(_rows(source, builder, "train")),
            dev=_all_rows(_rows(source, builder, "validation")),
        )
    rows = {
        split: functools.partial(_rows, source, builder, split)
        for split in ("train", "test")
    }
    return drawn(source, rows, split_ids_file)


def drawn(
    source: Source,
    rows: Mapping[str, Callable],
    split_ids_file: str | None = None,
) -> TextDataset:
    """Makes the dataset of drawn rows, or of those that a file names.

    Args:
        source: `Source`.
        rows: dict of functions, the `sources` of `tfadv.datasets.drawing.draw`.
        split_ids_file: path, or `None` to draw.

    Returns:
        `tfadv.datasets.examples.TextDataset` with ids.

    Raises:
        InputError: there are too few rows, or the file is not as it must be.
    """
    num_classes = len(source.label_names)
    if split_ids_file is None:
        ids = drawing.draw(
            rows,
            source.sizes or {},
            source.label_names,
            dataset=source.name,
        )
        splits = drawing.pick(rows, ids, num_classes)
    else:
        content = split_ids.read(split_ids_file, source.name)
        ids = content["splits"]
        splits = drawing.pick(rows, ids, num_classes, split_ids_file)
        split_ids.check_texts(splits, content, split_ids_file)
    return TextDataset(
        source.name,
        source.label_names,
        train=splits["train"],
        dev=splits.get("dev"),
        test=splits.get("test"),
        ids=ids,
    )


def _prepare(source):
    """Returns the TFDS builder, its data on disk."""
    startup.import_tensorflow()
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader

    # Without a network TFDS would go on trying for minutes.
    downloader.MAX_RETRIES = 3
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    if source.module:
        importlib.import_module(source.module)
    folder = tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(source.builder)
        builder.download_and_prepare()
    except InputError:
        raise
    # What goes wrong here is raised by requests, TensorFlow, and TFDS, which
    # has no common class of errors.
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(
            "not-prepared",
            f"TFDS cannot prepare {source.builder} in {folder} "
            f"({type(error).__name__}: {reason[:150]})",
            "give the dataset's files with `data_dir`, or set TFDS_DATA_DIR "
            "to a folder with a prepared copy",
            argument="dataset",
            value=source.name,
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    return builder


def _rows(source, builder, split):
    """Yields (text, label) in the order of the files."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(
        # One file after the other: a row's position is its id.
        interleave_cycle_length=1,
        try_autocache=False,
    )
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, read_config=config
    )
    try:
        for batch in tfds.as_numpy(dataset.batch(_ROWS_AT_ONCE)):
            columns = [batch[field] for field in source.fields]
            for *parts, label in zip(*columns, batch["label"], strict=True):
                texts = (source.clean(part.decode("utf-8")) for part in parts)
                yield " ".join(filter(str.strip, texts)), int(label)
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise InputError(
            "damaged-download",
            f"TFDS' copy in {builder.data_dir} cannot be read",
            "delete that folder, and it is prepared anew",
            argument="dataset",
            value=source.name,
        ) from error


def _all_rows(rows):
    texts, labels = zip(*rows, strict=True)
    return Examples(list(texts), np.array(labels, np.int32))
