"""The datasets that are known by a name."""

from tfadv.datasets import movie_reviews, tfds_datasets
from tfadv.datasets.examples import TextDataset
from tfadv.errors import InputError

NAMES = ("movie_reviews", *tfds_datasets.SOURCES)


def load(name: str, split_ids_file: str | None = None) -> TextDataset:
    """Loads a dataset of the catalogue, downloading it if need be.

    Args:
        name: string, one of `NAMES`.
        split_ids_file: path of a `split_ids.json` with the rows that make
            the splits of a drawn dataset, or `None` to draw them.

    Returns:
        `tfadv.data.TextDataset`.

    Raises:
        InputError: if there is no such dataset, it cannot be had, or the
            file is not as it must be.

    Example:

    ```python
    from tfadv.datasets import catalogue

    dataset = catalogue.load("movie_reviews")
    print(dataset.train.texts[0])
    ```
    """
    if name not in NAMES:
        raise InputError(
            "not-a-choice",
            f"expected one of {', '.join(NAMES)}",
            "choose one of them, or give files of your own with `train_file`",
            argument="dataset",
            value=name,
        )
    source = tfds_datasets.SOURCES.get(name)
    if split_ids_file and not (source and source.sizes):
        raise InputError(
            "clash",
            f"the splits of `dataset`={name} are fixed, not drawn",
            "omit it",
            argument="split_ids_file",
            value=str(split_ids_file),
        )
    if source:
        return tfds_datasets.load(name, split_ids_file)
    return movie_reviews.load()
