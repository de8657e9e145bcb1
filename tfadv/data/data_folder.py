"""A folder with the files `train`, `dev` and `test`."""

import pathlib

import numpy as np

from tfadv.data import text_files
from tfadv.datasets import tfds_datasets
from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError

_EXTENSIONS = (".tsv", ".csv", ".jsonl")


def load(
    folder: str,
    name: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    split_ids_file: str | None = None,
) -> TextDataset:
    r"""Loads a dataset from a folder with one file a split.

    The files are `train`, `dev` and `test`, each with the extension `.tsv`,
    `.csv` or `.jsonl`; `train` is needed. See
    `tfadv.data.text_files.read_examples` for the formats.

    With the name of a dataset of `tfadv.datasets.tfds_datasets` the files stand
    for what TFDS would download. Their labels are the dataset's class names
    or numbers. Where the dataset is a drawn one and there is no `dev` file,
    the splits are drawn from `train` and `test` as they would be from TFDS'.

    Args:
        folder: path of the folder.
        name: string, the name of such a dataset, or `None`: the dataset is
            called as the folder is, and its classes are those of `train`.
        text_column: string, the column or JSON field with the text.
        label_column: string, the column or JSON field with the label.
        split_ids_file: path of a `split_ids.json` with the rows to use
            instead of drawing, or `None`.

    Returns:
        `tfadv.datasets.examples.TextDataset`. Ids of a drawn one are rows of
        the files, counted from 0.

    Raises:
        InputError: a file is missing or not as it must be.

    Example:

    ```python
    import pathlib, tempfile
    from tfadv.data import data_folder

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "train.tsv")
        path.write_text("sentence\tlabel\nA joy.\t1\nA bore.\t0\n")
        dataset = data_folder.load(folder, "sst2", text_column="sentence")
    print(dataset.label_names, dataset.train.labels)
    # ('negative', 'positive') [1 0]
    ```
    """
    folder = pathlib.Path(folder)
    paths = _find(folder)
    source = tfds_datasets.SOURCES[name] if name else None
    is_drawn = source and source.sizes and "dev" not in paths
    if split_ids_file and not is_drawn:
        raise InputError(
            "clash",
            "ids name rows of a drawn dataset, but the files in `data_dir`="
            f"{folder} are the splits already",
            "omit one of them",
            argument="split_ids_file",
            value=str(split_ids_file),
        )
    if is_drawn and "test" not in paths:
        raise _refused(
            folder,
            "no-file-of-split",
            f"the splits of {name} are drawn from train and test, or are the "
            "files where there is a dev file; found train alone",
            "add a test or a dev file",
        )
    label_names = _known_labels(source, is_drawn)
    splits = {}
    for split, path in paths.items():
        try:
            examples, names = text_files.read_examples(
                path, text_column, label_column, label_names, argument="path"
            )
        except InputError as error:
            if error.argument != "path":
                raise
            raise _refused(
                folder,
                error.code,
                f"{path.name}: {error.problem}",
                error.remedy,
            ) from error
        # The other files have the classes of the first one, train.
        label_names = names
        splits[split] = _as_source(examples, source, len(names or ()))
    if source and is_drawn:
        rows = {split: _start(splits[split]) for split in ("train", "test")}
        return tfds_datasets.drawn(source, rows, split_ids_file)
    return TextDataset(
        name=name or folder.resolve().name,
        label_names=source.label_names if source else label_names or (),
        train=splits["train"],
        dev=splits.get("dev"),
        test=splits.get("test"),
    )


def _find(folder):
    """Returns the file of each split that there is."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise _refused(
            folder,
            "no-such-folder",
            f"expected a folder with train, dev and test files, found {found}",
            "correct the path",
        )
    paths = {}
    for split in ("train", "dev", "test"):
        found = [
            path
            for extension in _EXTENSIONS
            if (path := folder / f"{split}{extension}").is_file()
        ]
        if len(found) > 1:
            raise _refused(
                folder,
                "several-files-of-split",
                f"expected one {split} file, found "
                f"{', '.join(path.name for path in found)}",
                "keep one of them",
            )
        if found:
            paths[split] = found[0]
    if "train" not in paths:
        names = sorted(path.name for path in folder.iterdir())[:5]
        raise _refused(
            folder,
            "no-train-file",
            "expected train.tsv, train.csv or train.jsonl, found "
            f"{', '.join(names) or 'an empty folder'}",
            "add or rename the training file",
        )
    return paths


def _refused(folder, code, problem, remedy):
    return InputError(
        code, problem, remedy, argument="data_dir", value=str(folder)
    )


def _known_labels(source, is_drawn):
    """The classes of a dataset by name, then all of them by number."""
    if source is None:
        return None
    names = source.label_names
    if is_drawn:
        names += source.other_labels
    return (*names, *map(str, range(len(names))))


def _as_source(examples, source, num_labels):
    """Makes of labels and texts what TFDS would give."""
    if source is None:
        return examples
    # A class has two labels, its name and its number, half of them apart.
    return Examples(
        [source.clean(text) for text in examples.texts],
        examples.labels % np.int32(num_labels // 2),
    )


def _start(examples):
    return lambda: zip(examples.texts, examples.labels, strict=True)
