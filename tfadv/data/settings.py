"""Which labelled texts to read: settings as data."""

import dataclasses

from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class DataSettings(Group):
    """Which labelled texts to read."""

    dataset: str | None = field(None, "Name of a dataset of the catalogue.")
    data_dir: str | None = field(None, "A folder of files.")
    split_ids_file: str | None = field(None, "A run's split_ids.json.")
    train_file: str | None = field(None, "A file.")
    dev_file: str | None = field(None, "A file.")
    test_file: str | None = field(None, "A file.")
    text_column: str = field("text", "Name of the column with the text.")
    label_column: str = field("label", "Name of the column with the class.")
    max_train_examples: int | None = field(None, "Examples.", low=1)
    augment_file: str | None = field(None, "An adversaries.jsonl.")
