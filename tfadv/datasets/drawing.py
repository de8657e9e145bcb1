"""Class-balanced splits of large datasets, drawn by a hash of the texts."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfadv.datasets.examples import Examples
from tfadv.errors import InputError

SEED = 0

# A text that is in both counts for the first one.
_SOURCES = ("test", "train")
# What each split is drawn from, in the order in which they are drawn.
_SOURCE_OF = {"test": "test", "dev": "train", "train": "train"}

# In the order in which rows are compared. "spelling" and what comes after it
# choose one of the texts that count as one.
_ROW = np.dtype(
    [
        ("key", "S32"),
        ("source", "u1"),
        ("spelling", "S32"),
        ("label", "i4"),
        ("position", "i8"),
    ]
)


def draw(
    sources: Mapping[str, Callable],
    sizes: dict[str, int],
    label_names: Sequence[str],
    seed: int = SEED,
    dataset: str | None = None,
) -> dict[str, list[str]]:
    """Draws train, dev and test rows, the same number of every class.

    Within a class the rows are ordered by a hash of their text and the seed:
    the first ones of the source `"test"` are the test split, the first ones
    of `"train"` the dev split and the next ones the training split. So what
    is drawn depends on the texts alone, not on the order of the rows, and a
    library's random generator has no part in it.

    Texts that are equal but for case and white space count as one, whatever
    their labels; one that is in both sources counts for `"test"`. Blank
    texts and labels beyond `label_names` are passed over.

    A single pass over the rows, which keeps 77 bytes of each and no text.

    Args:
        sources: dict of `"train"` and `"test"`: functions without arguments,
            each of which starts an iteration over `(text, label)`.
        sizes: dict of `"train"`, `"dev"` and `"test"`: rows of each class.
        label_names: tuple of strings, the classes to draw.
        seed: int.
        dataset: string, the dataset's name, for error messages.

    Returns:
        dict of `"train"`, `"dev"` and `"test"`: lists of ids such as
        `"train/123"`, a source and the row's position in it, with the
        classes mixed.

    Raises:
        InputError: a class has too few rows.

    Example:

    ```python
    rows = [("a joy", 1), ("a bore", 0), ("fun", 1), ("dull", 0)]
    sources = {
        "train": lambda: iter(rows),
        "test": lambda: iter([("fine", 1), ("a mess", 0)]),
    }
    sizes = {"train": 1, "dev": 1, "test": 1}
    ids = draw(sources, sizes, ("negative", "positive"))
    train = pick(sources, ids, num_classes=2)["train"]
    ```

    Reference:
        Section 4.1 of the paper, which draws its training, dev and test
        examples of Yelp, AG News and Yahoo! Answers at random.
    """
    rows = _distinct_rows(sources, len(label_names), seed)
    used = dict.fromkeys(_SOURCES, 0)
    ids = {}
    for split, source in _SOURCE_OF.items():
        start, end = used[source], used[source] + sizes[split]
        chosen = []
        for label, name in enumerate(label_names):
            of_class = rows[
                (rows["source"] == _SOURCES.index(source))
                & (rows["label"] == label)
            ]
            if len(of_class) < end:
                raise InputError(
                    "too-few-rows",
                    f"expected {end} distinct texts of the class {name!r} in "
                    f"{source}, to draw {split}; found {len(of_class)}",
                    "give all of the dataset's rows",
                    argument="dataset",
                    value=dataset,
                )
            chosen.extend(of_class[start:end])
        used[source] = end
        chosen.sort(
            key=lambda row: _digest(f"order {seed} {row['key'].decode()}")
        )
        ids[split] = [f"{source}/{row['position']}" for row in chosen]
    return {split: ids[split] for split in ("train", "dev", "test")}


def pick(
    sources: Mapping[str, Callable],
    ids: dict[str, list[str]],
    num_classes: int,
    split_ids_file: str | None = None,
) -> dict[str, Examples]:
    """Reads the rows that ids name.

    A single pass over the rows; no other text is kept.

    Args:
        sources: dict of functions, as `draw` takes them.
        ids: dict of lists of ids, as `draw` returns it.
        num_classes: int. A row with a label beyond is none of the dataset's.
        split_ids_file: path, where the ids are from, for error messages.

    Returns:
        dict of the same keys: `tfadv.datasets.examples.Examples`, in the order
        of the ids.

    Raises:
        InputError: there is no such row.
    """
    places = {
        row: (split, place)
        for split, rows in ids.items()
        for place, row in enumerate(rows)
    }
    splits = {
        split: Examples([""] * len(rows), np.zeros(len(rows), np.int32))
        for split, rows in ids.items()
    }
    for source, start in sources.items():
        for position, (text, label) in enumerate(start()):
            row = f"{source}/{position}"
            if label < num_classes and row in places:
                split, place = places.pop(row)
                splits[split].texts[place] = text
                splits[split].labels[place] = label
    if places:
        raise InputError(
            "no-such-row",
            f"expected a row {min(places)!r} of the dataset's classes, found "
            f"none ({len(places)} such ids)",
            "give the data that the ids were drawn from",
            argument="split_ids_file",
            value=split_ids_file and str(split_ids_file),
        )
    return splits


def _distinct_rows(sources, num_classes, seed):
    """Describes the rows of different texts, in the order of their hash."""
    rows = bytearray()
    for number, source in enumerate(_SOURCES):
        for position, (text, label) in enumerate(sources[source]()):
            normalised = " ".join(text.lower().split())
            if normalised and label < num_classes:
                key = _digest(f"split {seed} {normalised}")
                row = (key, number, _digest(text), label, position)
                rows += np.array(row, _ROW).tobytes()
    rows = np.frombuffer(rows, _ROW)
    # The last column is the first to be compared.
    rows = rows[np.lexsort([rows[name] for name in reversed(_ROW.names)])]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = rows["key"][1:] != rows["key"][:-1]
    return rows[is_first]


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:32]
