"""The datasets that are known by a name."""

from tfadv.data import movie_reviews
from tfadv.errors import InputError

_LOADERS = {
    "movie_reviews": movie_reviews.load,
}

NAMES = tuple(_LOADERS)


def load(name):
    """Load a dataset of the catalogue, downloading it if need be.

    Args:
        name: string, one of `NAMES`.

    Returns:
        `tfadv.data.TextDataset`.

    Raises:
        InputError: if there is no such dataset or it cannot be had.

    Example:

    ```python
    from tfadv.data import catalogue

    dataset = catalogue.load("movie_reviews")
    print(dataset.train.texts[0])
    ```
    """
    if name not in _LOADERS:
        raise InputError(
            f"there is no dataset {name!r}; name one of "
            + ", ".join(NAMES)
            + ", or give files of your own with --train_file"
        )
    return _LOADERS[name]()
