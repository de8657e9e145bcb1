"""Classifies texts as they come: a chunk is read, classified and written."""

import codecs
import contextlib
import itertools
import json
import os
import pathlib
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TextIO

from tfadv import files
from tfadv.errors import InputError
from tfadv.runs.run import Run

# Texts that are read, classified and written at a time.
CHUNK_SIZE = 1024


def read_texts(
    file: typing.BinaryIO, where: str, argument: str | None = None
) -> Iterator[str]:
    r"""Yields the texts of a file, one a line.

    Only `"\n"` and `"\r\n"` end a line, not the other characters that
    `str.splitlines` knows. An empty line is an empty text, so that text `i` is
    line `i`.

    Args:
        file: binary file, such as `sys.stdin.buffer`.
        where: string, what error messages call it.
        argument: string, the argument that named it, or `None`.

    Yields:
        Strings, without their line ends.

    Raises:
        InputError: a line is not UTF-8 text, or the file cannot be read.

    Example:

    ```python
    list(read_texts(io.BytesIO(b"a joy\n\na bore\n"), "stdin"))
    # ["a joy", "", "a bore"]
    ```
    """
    try:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            yield _decoded(line, number, where, argument)
    except OSError as error:
        raise _unreadable(error, where, argument) from error


def read_file(
    path: str | pathlib.Path, argument: str = "texts_file"
) -> Iterator[str]:
    """Yields the texts of a file, as `read_texts` does.

    Args:
        path: path of a UTF-8 text file.
        argument: string, the argument that errors name for it.

    Yields:
        Strings.

    Raises:
        InputError: there is no such file, or it is not UTF-8 text.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise _unreadable(error, str(path), argument) from error
    with file:
        yield from read_texts(file, str(path), argument)


def read_ahead(
    texts: Iterable[str], count: int
) -> tuple[list[str], Iterator[str]]:
    """Reads the first texts, so that what is wrong with them is told at once.

    Args:
        texts: iterable of strings.
        count: int, how many to read.

    Returns:
        `(first, texts)`: a list of the first `count` texts, and an iterator
        over all of them.

    Raises:
        InputError: there is no text.
    """
    texts = iter(texts)
    first = list(itertools.islice(texts, count))
    if not first:
        raise InputError(
            "no-texts", "there are no texts in the input", "give at least one"
        )
    return first, itertools.chain(first, texts)


def predict(
    run: Run, texts: Iterable[str], chunk_size: int = CHUNK_SIZE
) -> Iterator[list[dict]]:
    """Classifies texts, a chunk at a time.

    Inside of a chunk texts of like length are classified together, so that
    small chunks are slower.

    Args:
        run: `tfadv.runs.run.Run`.
        texts: iterable of strings; it is never read further than a chunk
            ahead.
        chunk_size: int, in texts.

    Yields:
        Lists of dicts, a list a chunk, in the texts' order: `index`, `text`,
        `label` (the name of the likeliest class), `score` (its probability)
        and `probabilities` (a dict of all of them, by the classes' names).

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    for chunk in predict(run, ["a gorgeous, witty film", "dull"]):
        print(chunk[0]["label"])
    ```
    """
    texts = iter(texts)
    names = run.label_names
    index = itertools.count()
    while chunk := list(itertools.islice(texts, chunk_size)):
        predictions = []
        probabilities = run.predict_proba(chunk)
        for text, row in zip(chunk, probabilities.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            predictions.append(
                {
                    "index": next(index),
                    "text": text,
                    "label": names[best],
                    "score": row[best],
                    "probabilities": dict(zip(names, row, strict=True)),
                }
            )
        yield predictions


def write(
    chunks: Iterable[list[dict]],
    file: typing.BinaryIO,
    progress: Callable[[int], None],
) -> None:
    """Writes predictions as JSON Lines, each chunk as soon as it is there.

    Args:
        chunks: iterable of lists of dicts, as `predict` yields them.
        file: binary file.
        progress: callable that is given the number of texts of each chunk.
    """
    for chunk in chunks:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chunk]
        file.write("".join(lines).encode())
        file.flush()
        progress(len(chunk))


@contextlib.contextmanager
def standard_output(stdout: TextIO) -> Iterator[BinaryIO]:
    """Opens stdout for results.

    A reader that goes away, as `head` does, has had enough: that ends the
    context without an error.

    Args:
        stdout: text file, `sys.stdout`.

    Yields:
        Binary file.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield stdout.buffer
    except OSError as error:
        # Python would try to flush it once more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stdout.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise InputError(
                "unwritable",
                f"cannot write to stdout ({error.strerror or error})",
                "free space, or write elsewhere",
            ) from error


@contextlib.contextmanager
def results_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file that is written as a whole or not at all.

    Args:
        path: path; its folder is made if there is none, and is gone again
            after an error.

    Yields:
        Binary file.

    Raises:
        InputError: it cannot be written.
    """
    path = pathlib.Path(path)
    partial = path.with_name(files.PARTIAL + path.name)
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            yield file
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()
        if isinstance(error, OSError):
            raise files.unwritable(path.parent, error) from error
        raise


def _decoded(line, number, where, argument):
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _refused(
            "not-utf8",
            f"line {number}: the byte 0x{line[error.start]:02x} is not UTF-8",
            "give the texts in UTF-8",
            where,
            argument,
        ) from error
    if "\0" in text:
        raise _refused(
            "nul-byte",
            f"line {number}: there is a NUL byte, which no UTF-8 text has",
            "give plain text in UTF-8",
            where,
            argument,
        )
    return text


def _unreadable(error, where, argument):
    if isinstance(error, FileNotFoundError):
        told = "no-such-file", "there is no such file", "correct the path"
    elif isinstance(error, IsADirectoryError):
        told = "is-a-folder", "expected a file, found a folder", "give a file"
    else:
        told = (
            "unreadable",
            f"it cannot be read ({error.strerror or error})",
            "see to its permissions",
        )
    return _refused(*told, where, argument)


def _refused(code, problem, remedy, where, argument):
    if argument is None:
        return InputError(code, f"{where}, {problem}", remedy)
    return InputError(code, problem, remedy, argument=argument, value=where)
