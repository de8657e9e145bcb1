"""The file that says which rows of a dataset were drawn: split_ids.json."""

import hashlib
import re

from tfadv import files
from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError

_SPLITS = ("train", "dev", "test")
_GIVE = "give the split_ids.json of a run"
_ID = re.compile(r"(train|test)/(0|[1-9][0-9]*)")


def describe(dataset: TextDataset) -> dict:
    """Describes the rows that a drawn dataset is made of.

    Args:
        dataset: `tfadv.datasets.examples.TextDataset` with ids. A split may
            have more texts than ids: those that were added to it come last.

    Returns:
        dict, the content of `split_ids.json`: `dataset`, its name; `splits`,
        the ids of each split; `sha256`, a hash of each split's texts, by
        which `check_texts` knows them again.

    Example:

    ```python
    from tfadv.datasets import catalogue, split_ids

    content = split_ids.describe(catalogue.load("ag_news"))
    print(content["splits"]["dev"][0])  # such as train/4711
    ```
    """
    drawn = dataset.ids or {}
    return {
        "dataset": dataset.name,
        "splits": drawn,
        "sha256": {
            split: _hash(getattr(dataset, split).texts[: len(ids)])
            for split, ids in drawn.items()
        },
    }


def read(path: str, dataset_name: str) -> dict:
    """Reads the rows that make the splits of a dataset.

    Args:
        path: path of a file as `describe` describes it; `sha256` may be left
            out, and so may be `dev` and `test`.
        dataset_name: string, the dataset that the rows must be of.

    Returns:
        dict, the content of the file.

    Raises:
        InputError: the file cannot be read, is of another dataset or has an
            id twice.

    Example:

    ```python
    from tfadv.datasets import split_ids

    content = split_ids.read("runs/freelb/split_ids.json", "ag_news")
    ```
    """
    try:
        content = files.read_json(path)
    except InputError as error:
        raise _refused(path, error.code, error.problem, _GIVE) from error
    if not _is_well_formed(content):
        raise _refused(
            path,
            "not-split-ids",
            'expected {"dataset": name, "splits": {"train": ids, "dev": ids, '
            '"test": ids}} with ids such as "train/123", found something else',
            _GIVE,
        )
    if content["dataset"] != dataset_name:
        raise _refused(
            path,
            "ids-of-another-dataset",
            f"its rows are of {content['dataset']}, the dataset is "
            f"{dataset_name}",
            f"give a file of {dataset_name}, or `dataset`={content['dataset']}",
        )
    seen = {}
    for split, ids in content["splits"].items():
        for row in ids:
            if row in seen:
                raise _refused(
                    path,
                    "id-twice",
                    f"{row} is in {seen[row]} and again in {split}",
                    "delete one of the two",
                )
            seen[row] = split
    return content


def check_texts(splits: dict[str, Examples], content: dict, path: str) -> None:
    """Compares the texts that ids led to with those they were written for.

    Args:
        splits: dict of split names: `tfadv.datasets.examples.Examples`.
        content: dict, as `read` returns it.
        path: path of the file, for error messages.

    Raises:
        InputError: these are other texts, as when rows are in another order.
    """
    for split, sha256 in content.get("sha256", {}).items():
        if split in splits and _hash(splits[split].texts) != sha256:
            raise _refused(
                path,
                "other-texts",
                f"its ids lead to other {split} texts in this data than where "
                "it was written",
                "read the data from where it was read then (TFDS or "
                "`data_dir`), or omit `split_ids_file` to draw anew",
            )


def _refused(path, code, problem, remedy):
    return InputError(
        code, problem, remedy, argument="split_ids_file", value=str(path)
    )


def _is_well_formed(content):
    if not isinstance(content, dict):
        return False
    splits = content.get("splits")
    return (
        isinstance(content.get("dataset"), str)
        and isinstance(content.get("sha256", {}), dict)
        and isinstance(splits, dict)
        and "train" in splits
        and set(splits) <= set(_SPLITS)
        and all(isinstance(ids, list) and ids for ids in splits.values())
        and all(
            isinstance(row, str) and _ID.fullmatch(row)
            for ids in splits.values()
            for row in ids
        )
    )


def _hash(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
