"""Labelled texts from the user's own CSV, TSV and JSON Lines files."""

import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError


def load_files(
    train_file: str,
    dev_file: str | None = None,
    test_file: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
) -> TextDataset:
    r"""Load a dataset from one file a split.

    The classes are those of the training file; a label in the other files
    that it lacks is an error. See `read_examples` for the formats.

    Args:
        train_file: path of a `.csv`, `.tsv` or `.jsonl` file.
        dev_file: path of such a file, or `None` for no dev split.
        test_file: path of such a file, or `None` for no test split.
        text_column: string, the column or JSON field with the text.
        label_column: string, the column or JSON field with the label.

    Returns:
        `tfadv.data.TextDataset`, named as the training file is without its
        extension.

    Raises:
        InputError: if a file is not as `read_examples` wants it; the message
            names the argument, the file and the line.

    Example:

    ```python
    import pathlib, tempfile
    from tfadv.data import text_files

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "reviews.csv")
        path.write_text("text,label\nA joy.,pos\nA bore.,neg\n")
        dataset = text_files.load_files(path)
    print(dataset.name, dataset.label_names, dataset.train.labels)
    # reviews ('neg', 'pos') [1 0]
    ```
    """
    train, label_names = read_examples(
        train_file, text_column, label_column, argument="train_file"
    )
    others = {}
    for split, path in (("dev", dev_file), ("test", test_file)):
        if path is not None:
            others[split], _ = read_examples(
                path,
                text_column,
                label_column,
                label_names,
                argument=f"{split}_file",
            )
    return TextDataset(
        name=pathlib.Path(train_file).stem,
        label_names=label_names or (),
        train=train,
        dev=others.get("dev"),
        test=others.get("test"),
    )


def read_examples(
    path: str,
    text_column: str,
    label_column: str | None,
    label_names: Sequence[str] | None = None,
    argument: str = "path",
) -> tuple[Examples, tuple[str, ...] | None]:
    r"""Read the labelled texts of one file.

    The extension, in either case, tells the format:

    - `.csv`: commas, a header line, quotes as in RFC 4180, so that a quoted
      text may hold commas, doubled quotes and line breaks.
    - `.tsv`: tabs, a header line, no quoting, as GLUE's files: a quote is a
      character like any other and no text holds a tab or a line break.
    - `.jsonl`: one JSON object a line.

    Files are UTF-8 with or without a byte order mark, with any kind of line
    ends; blank lines are skipped. Texts are kept exactly as they are and
    must hold more than white space. Labels are strings or integers and are
    compared as strings without the white space around them, so that JSON's
    `1` and `"1"` are one label, while `"1"`, `"01"` and `"1.0"` are three.
    JSON's booleans and fractional numbers are refused, as their spelling
    differs from tool to tool.

    Args:
        path: path of the file.
        text_column: string, the column or JSON field with the text.
        label_column: string, the column or JSON field with the label, or
            `None` for a file without labels.
        label_names: sequence of strings, the known classes in order, or
            `None` to take the file's own: by number if all are integers,
            else in the order of the alphabet.
        argument: string, the argument that errors name for the file.

    Returns:
        Tuple of the `tfadv.data.Examples`, in the file's order, and the
        tuple of label names. Without a label column there are no `labels`
        and the label names those given.

    Raises:
        InputError: if the file cannot be read, is malformed, lacks a column
            or a value, or has a label that is not in `label_names`; or, with
            `label_names=None`, if it has only one class. Codes:
            `"no-such-file"`, `"is-a-folder"`, `"unreadable"`,
            `"unknown-format"`, `"not-utf8"`, `"nul-byte"`, `"empty-file"`,
            `"bad-csv"`, `"bad-json"`, `"no-such-column"`, `"bad-text"`,
            `"bad-label"`, `"unknown-label"`, `"one-class"`, `"one-column"`.

    Example:

    ```python
    import pathlib, tempfile
    from tfadv.data import text_files

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "reviews.jsonl")
        path.write_text('{"body": "A joy.", "stars": 5}\n')
        examples, _ = text_files.read_examples(
            path, "body", "stars", label_names=["1", "5"]
        )
    print(examples.texts, examples.labels)
    # ['A joy.'] [1]
    ```
    """
    if text_column == label_column:
        raise InputError(
            "one-column",
            "expected two different columns, found the same one for "
            "`text_column` and `label_column`",
            "name two different columns",
            argument="label_column",
            value=label_column,
        )
    file = _File(pathlib.Path(path), argument)
    formats = {".csv": _csv_rows, ".tsv": _tsv_rows, ".jsonl": _json_rows}
    suffix = file.path.suffix.lower()
    if file.path.is_dir():
        raise file.refused(
            "is-a-folder", "expected a file, found a folder", "give a file"
        )
    if suffix not in formats:
        raise file.refused(
            "unknown-format",
            "the name must end in .csv, .tsv or .jsonl, which tells the format",
            "convert or rename the file",
        )
    texts, labels, lines = [], [], []
    for line, row in formats[suffix](file.read(), file):
        texts.append(_text(row, text_column, file, line))
        if label_column is not None:
            labels.append(_label(row, label_column, file, line))
            lines.append(line)
    if not texts:
        raise file.refused(
            "empty-file",
            "expected examples, found only a header",
            "give a file with at least one row",
        )
    if label_column is None:
        names = tuple(label_names) if label_names else None
        return Examples(texts, np.zeros(0, np.int32)), names
    if label_names is None:
        label_names = _names(labels)
        if len(label_names) == 1:
            raise file.refused(
                "one-class",
                "training needs two classes or more, found that every label "
                f"is {label_names[0]!r}",
                "look at the file and at `label_column`",
            )
    numbers = {name: number for number, name in enumerate(label_names)}
    for label, line in zip(labels, lines, strict=True):
        if label not in numbers:
            raise file.refused(
                "unknown-label",
                f"expected one of the labels {_listed(numbers)}, found "
                f"{_short(label)}",
                "correct the label or add its class to the training file",
                line,
            )
    labels = np.array([numbers[label] for label in labels], dtype=np.int32)
    return Examples(texts, labels), tuple(label_names)


@dataclasses.dataclass(frozen=True)
class _File:
    """A file, and the argument that errors name for it."""

    path: pathlib.Path
    argument: str

    def refused(self, code, problem, remedy, line=None):
        """Returns the `InputError` about the file, or a line of it."""
        if line is not None:
            problem = f"line {line}: {problem}"
        return InputError(
            code, problem, remedy, argument=self.argument, value=str(self.path)
        )

    def read(self):
        """Returns the text, free of the bytes that no text file has."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError as error:
            raise self.refused(
                "no-such-file", "there is no such file", "correct the path"
            ) from error
        except OSError as error:
            raise self.refused(
                "unreadable",
                f"the file cannot be read ({error.strerror})",
                "see to its permissions",
            ) from error
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # The error holds the bytes after the byte order mark.
            before = error.object[: error.start]
            raise self.refused(
                "not-utf8",
                f"the byte 0x{error.object[error.start]:02x} is not UTF-8",
                "save the file in UTF-8",
                _line_number(before.decode("utf-8")),
            ) from error
        if "\0" in text:
            raise self.refused(
                "nul-byte",
                "there is a NUL byte, which no UTF-8 text has",
                "save the file as plain text in UTF-8",
                _line_number(text[: text.index("\0")]),
            )
        if not text.strip():
            raise self.refused(
                "empty-file",
                "the file is empty",
                "give a file with at least one row",
            )
        return text


def _line_number(before):
    """The number of the line that starts or goes on after `before`."""
    # Not `str.splitlines`, to which a form feed too ends a line.
    return 1 + len(re.findall(r"\r\n|\r|\n", before))


def _csv_rows(content, file):
    return _table_rows(
        content, file, "quote values that hold a comma or a line break"
    )


def _tsv_rows(content, file):
    return _table_rows(
        content,
        file,
        "a value cannot hold a tab or a line break",
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
    )


def _table_rows(content, file, hint, **dialect):
    """Yields (line number, dictionary of the cells) for each row."""
    # The default limit of 128 KiB a cell is below what a text may have. It is
    # the process's, so it is put back.
    limit = csv.field_size_limit()
    csv.field_size_limit(max(limit, len(content)))
    line = 1
    # With newline="" lines end at any line end and keep it.
    reader = csv.reader(
        io.StringIO(content, newline=""), strict=True, **dialect
    )
    rows = []
    try:
        for cells in reader:
            if cells:
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        problem, remedy = str(error), "double the quotes inside a quoted value"
        if "unexpected end of data" in problem:
            problem = "a quote is opened and never closed"
            remedy = f"close it, and {remedy}"
        raise file.refused("bad-csv", problem, remedy, line) from error
    finally:
        csv.field_size_limit(limit)
    header_line, header = rows[0]
    for name in header:
        # Spreadsheets leave any number of nameless columns.
        if name and header.count(name) > 1:
            raise file.refused(
                "bad-csv",
                f"the header has two columns {_short(name)}",
                "rename one",
                header_line,
            )
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise file.refused(
                "bad-csv",
                f"expected {len(header)} cells as in the header, found "
                f"{len(cells)}",
                hint,
                line,
            )
        yield line, dict(zip(header, cells, strict=True))


def _json_rows(content, file):
    """Yields (line number, object) for each line that is not blank."""
    for line, row in enumerate(io.StringIO(content, newline=""), 1):
        if not row.strip():
            continue
        try:
            row = json.loads(row)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "it is too large or too deep")
            raise file.refused(
                "bad-json",
                f"this is not JSON ({reason})",
                "write one JSON object a line",
                line,
            ) from error
        if not isinstance(row, dict):
            raise file.refused(
                "bad-json",
                f"expected a JSON object, found {_short(row)}",
                'write {"text": ..., "label": ...}',
                line,
            )
        yield line, row


def _text(row, column, file, line):
    text = _value(row, column, file, line, "text_column")
    if not isinstance(text, str):
        raise file.refused(
            "bad-text",
            f"expected a string in {column!r}, found {_short(text)}",
            "correct it, or name another column with `text_column`",
            line,
        )
    if not text.strip():
        raise file.refused(
            "bad-text",
            f"the text in {column!r} is empty",
            "fill it in or delete the row",
            line,
        )
    return _clean(text, column, file, line)


def _label(row, column, file, line):
    label = _value(row, column, file, line, "label_column")
    # `True` is an `int` to Python.
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if label is None or (isinstance(label, str) and not label.strip()):
        raise file.refused(
            "bad-label",
            f"the label in {column!r} is missing",
            "fill it in or delete the row",
            line,
        )
    if not isinstance(label, str):
        raise file.refused(
            "bad-label",
            f"expected a string or an integer in {column!r}, found "
            f"{_short(label)}",
            "correct it, or name another column with `label_column`",
            line,
        )
    return _clean(label.strip(), column, file, line)


def _value(row, column, file, line, argument):
    if column not in row:
        raise file.refused(
            "no-such-column",
            f"expected a column {column!r}, found {_listed(row)}",
            f"name the right one with `{argument}`",
            line,
        )
    return row[column]


def _clean(value, column, file, line):
    """Refuses what JSON's escapes can make and UTF-8 text cannot hold."""
    if re.search("[\0\ud800-\udfff]", value):
        raise file.refused(
            "not-utf8",
            f"{column!r} has an escape of a NUL or of half a character "
            "(\\u0000, \\ud800 to \\udfff)",
            "delete it",
            line,
        )
    return value


def _names(labels):
    names = set(labels)
    if all(re.fullmatch(r"[+-]?[0-9]{1,18}", name) for name in names):
        # The string itself decides between "1" and "01".
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _short(value):
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _listed(names):
    shown = [_short(name) for name in list(names)[:10]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
