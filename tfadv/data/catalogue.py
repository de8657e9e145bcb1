"""The datasets that are known by a name."""

from tfadv.data import movie_reviews, tfds_datasets
from tfadv.errors import InputError

NAMES = ("movie_reviews", *tfds_datasets.SOURCES)


def load(name, split_ids_file=None):
    """Load a dataset of the catalogue, downloading it if need be.

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
    from tfadv.data import catalogue

    dataset = catalogue.load("movie_reviews")
    print(dataset.train.texts[0])
    ```
    """
    check_name(name)
    source = tfds_datasets.SOURCES.get(name)
    if split_ids_file and not (source and source.sizes):
        raise InputError(
            f"--split_ids_file={split_ids_file} and --dataset={name} clash: "
            f"the splits of {name} are fixed, not drawn; leave one away"
        )
    if source:
        return tfds_datasets.load(name, split_ids_file)
    return movie_reviews.load()


def check_name(name):
    """Refuses a name that is none of `NAMES` with an `InputError`."""
    if name not in NAMES:
        raise InputError(
            f"there is no dataset {name!r}; name one of "
            + ", ".join(NAMES)
            + ", or give files of your own with --train_file"
        )
