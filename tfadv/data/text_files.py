"""Labelled texts from the user's own CSV, TSV and JSON Lines files."""

import csv
import io
import json
import pathlib
import re

import numpy as np

from tfadv.data.examples import Examples, TextDataset
from tfadv.errors import InputError


def load_files(
    train_file,
    dev_file=None,
    test_file=None,
    text_column="text",
    label_column="label",
):
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
            names the flag, the file and the line.

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
        train_file, text_column, label_column, flag="--train_file"
    )
    others = {}
    for split, path in (("dev", dev_file), ("test", test_file)):
        if path is not None:
            others[split], _ = read_examples(
                path,
                text_column,
                label_column,
                label_names,
                flag=f"--{split}_file",
            )
    return TextDataset(
        name=pathlib.Path(train_file).stem,
        label_names=label_names,
        train=train,
        **others,
    )


def read_examples(path, text_column, label_column, label_names=None, flag=None):
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
        flag: string, the command-line flag that named the file, for error
            messages, or `None`.

    Returns:
        Tuple of the `tfadv.data.Examples`, in the file's order, and the
        tuple of label names. Without a label column the `labels` are `None`
        and the label names those given.

    Raises:
        InputError: if the file cannot be read, is malformed, lacks a column
            or a value, or has a label that is not in `label_names`; or, with
            `label_names=None`, if it has only one class.

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
    path = pathlib.Path(path)
    where = f"{flag} {path}" if flag else str(path)
    if text_column == label_column:
        raise InputError(
            f"--text_column and --label_column are both {text_column!r}; "
            "name two different columns"
        )
    if path.is_dir():
        raise InputError(f"{where}: this is a folder; give a file in it")
    formats = {".csv": _csv_rows, ".tsv": _tsv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in formats:
        raise InputError(
            f"{where}: the name must end in .csv, .tsv or .jsonl, which tells "
            "the format; convert or rename the file"
        )
    content = _read(path, where)
    texts, labels, lines = [], [], []
    for line, row in formats[path.suffix.lower()](content, where):
        at = f"{where}, line {line}"
        texts.append(_text(row, text_column, at))
        if label_column is not None:
            labels.append(_label(row, label_column, at))
            lines.append(line)
    if not texts:
        raise InputError(
            f"{where}: there is no example in it, only a header; give a file "
            "with at least one row"
        )
    if label_column is None:
        return Examples(texts, None), label_names and tuple(label_names)
    if label_names is None:
        label_names = _names(labels)
        if len(label_names) == 1:
            raise InputError(
                f"{where}: every label is {label_names[0]!r}, and training "
                "needs two classes or more; look at the file and at "
                "--label_column"
            )
    numbers = {name: number for number, name in enumerate(label_names)}
    for label, line in zip(labels, lines, strict=True):
        if label not in numbers:
            raise InputError(
                f"{where}, line {line}: the label {_short(label)} is not one "
                f"of the known labels {_listed(numbers)}; correct the label "
                "or add its class to the training file"
            )
    labels = np.array([numbers[label] for label in labels], dtype=np.int32)
    return Examples(texts, labels), tuple(label_names)


def _read(path, where):
    """The text of a file, free of the bytes that no text file has."""
    try:
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            problem = "there is no such file; correct the path"
        else:
            problem = (
                f"the file cannot be read ({error.strerror}); see to its "
                "permissions"
            )
        raise InputError(f"{where}: {problem}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The error holds the bytes after the byte order mark.
        before = error.object[: error.start]
        line = _line_number(before.decode("utf-8"))
        raise InputError(
            f"{where}, line {line}: the byte "
            f"0x{error.object[error.start]:02x} is not UTF-8; save the file "
            "in UTF-8"
        ) from error
    if "\0" in text:
        line = _line_number(text[: text.index("\0")])
        raise InputError(
            f"{where}, line {line}: there is a NUL byte, which no UTF-8 text "
            "has; save the file as plain text in UTF-8"
        )
    if not text.strip():
        raise InputError(
            f"{where}: the file is empty; give a file with at least one row"
        )
    return text


def _line_number(before):
    """The number of the line that starts or goes on after `before`."""
    # Not `str.splitlines`, to which a form feed too ends a line.
    return 1 + len(re.findall(r"\r\n|\r|\n", before))


def _csv_rows(content, where):
    return _table_rows(
        content, where, "quote values that hold a comma or a line break"
    )


def _tsv_rows(content, where):
    return _table_rows(
        content,
        where,
        "a value cannot hold a tab or a line break",
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
    )


def _table_rows(content, where, hint, **dialect):
    """Yield (line number, dictionary of the cells) for each row."""
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
        problem = (
            "a quote is opened and never closed; close it, and double the "
            "quotes inside a quoted value"
            if "unexpected end of data" in str(error)
            else f"{error}; double the quotes inside a quoted value"
        )
        raise InputError(f"{where}, line {line}: {problem}") from error
    finally:
        csv.field_size_limit(limit)
    header_line, header = rows[0]
    for name in header:
        # Spreadsheets leave any number of nameless columns.
        if name and header.count(name) > 1:
            raise InputError(
                f"{where}, line {header_line}: the header has two columns "
                f"{_short(name)}; rename one"
            )
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{where}, line {line}: there are {len(cells)} cells where "
                f"the header has {len(header)}; {hint}"
            )
        yield line, dict(zip(header, cells, strict=True))


def _json_rows(content, where):
    """Yield (line number, object) for each line that is not blank."""
    for line, row in enumerate(io.StringIO(content, newline=""), 1):
        if not row.strip():
            continue
        try:
            row = json.loads(row)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "it is too large or too deep")
            raise InputError(
                f"{where}, line {line}: this is not JSON ({reason}); write "
                "one JSON object a line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{where}, line {line}: there is {_short(row)} where a JSON "
                'object is expected; write {"text": ..., "label": ...}'
            )
        yield line, row


def _text(row, column, at):
    text = _value(row, column, at, "--text_column")
    if not isinstance(text, str):
        raise InputError(
            f"{at}: the text in {column!r} is {_short(text)}, not a string; "
            "correct it or name another column with --text_column"
        )
    if not text.strip():
        raise InputError(
            f"{at}: the text in {column!r} is empty; fill it in or delete "
            "the row"
        )
    return _clean(text, column, at)


def _label(row, column, at):
    label = _value(row, column, at, "--label_column")
    # `True` is an `int` to Python.
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if label is None or (isinstance(label, str) and not label.strip()):
        raise InputError(
            f"{at}: the label in {column!r} is missing; fill it in or delete "
            "the row"
        )
    if not isinstance(label, str):
        raise InputError(
            f"{at}: the label in {column!r} is {_short(label)}, not a string "
            "or an integer; correct it or name another column with "
            "--label_column"
        )
    return _clean(label.strip(), column, at)


def _value(row, column, at, flag):
    if column not in row:
        raise InputError(
            f"{at}: there is no column {column!r}, only {_listed(row)}; name "
            f"the right one with {flag}"
        )
    return row[column]


def _clean(value, column, at):
    """Refuse what JSON's escapes can make and UTF-8 text cannot hold."""
    if re.search("[\0\ud800-\udfff]", value):
        raise InputError(
            f"{at}: {column!r} has an escape of a NUL or of half a character "
            "(\\u0000, \\ud800 to \\udfff); delete it"
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
