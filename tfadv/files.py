"""Files written whole or not at all, and guards of output folders."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tfadv.errors import InputError

# A file is written under this name first, then renamed: it is whole or absent.
PARTIAL = "partial."

Path = str | os.PathLike


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes a folder, and keeps other processes from training in it.

    Args:
        folder: path.

    Raises:
        InputError: another process trains there, or it cannot be made.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        # A lock of the kernel's: it ends with the process, however that ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise _refused(
            folder,
            "folder-in-use",
            "another process trains in this folder",
            "let it end, or give another one",
        ) from None
    except OSError:
        # Some file systems of networks have no such locks.
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def check_content(folder: Path, allowed: Sequence[str]) -> list[str]:
    """Refuses an output folder that holds other files than it may.

    Args:
        folder: path; need not exist.
        allowed: tuple of strings, the names of what it may hold.

    Returns:
        List of strings, the names of what it holds.

    Raises:
        InputError: there are other files, or the path is no folder's.
    """
    folder = pathlib.Path(folder)
    check_is_folder(folder)
    if not folder.exists():
        return []
    found = sorted(path.name for path in folder.iterdir())
    others = [n for n in found if n.removeprefix(PARTIAL) not in allowed]
    if others:
        raise _refused(
            folder,
            "other-files",
            f"the folder is in use, it holds {', '.join(others[:5])}",
            "give a new or an empty folder",
        )
    return found


def check_is_folder(folder: Path) -> None:
    """Refuses an output folder that is a file, or would lie below one."""
    folder = pathlib.Path(folder)
    for path in (folder, *folder.parents):
        if path.is_dir():
            return
        # So has a link to nothing.
        if os.path.lexists(path):
            raise _refused(
                folder,
                "not-a-folder",
                f"expected a folder to write to, found a file at {path}",
                "give another path",
            )


def empty(folder: Path) -> None:
    """Deletes all that a folder holds."""
    for path in pathlib.Path(folder).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_results(paths: Sequence[pathlib.Path], overwrite: bool) -> None:
    """Refuses to write over results.

    Args:
        paths: list of paths, what is to be written.
        overwrite: bool, whether earlier results may be replaced.

    Raises:
        InputError: there are some, and they may not.
    """
    for path in paths:
        check_is_folder(path.parent)
        if path.exists() and not overwrite:
            raise _refused(
                path.parent,
                "results-exist",
                f"the folder holds {path.name} already",
                "give `overwrite` to replace it, or another folder",
            )


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Makes a folder and says what is wrong where it cannot be written.

    Args:
        folder: path; need not exist.

    Raises:
        InputError: with code `"unwritable"`.

    Example:

    ```python
    with files.writing_to("results"):
        files.write_json("results/evaluation.json", {"accuracy": 0.8})
    ```
    """
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: Exception) -> InputError:
    """Returns the `InputError` for a folder that cannot be written."""
    return _refused(
        folder,
        "unwritable",
        f"cannot write there ({getattr(error, 'strerror', None) or error})",
        "free space, see to the permissions, or give another folder",
    )


def _refused(folder, code, problem, remedy):
    return InputError(
        code, problem, remedy, argument="output_dir", value=str(folder)
    )


def sync(path: Path) -> None:
    """Sees a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, missing: Any = None) -> Any:
    """Reads a JSON file.

    Args:
        path: path.
        missing: what to return where there is no such file; `None` raises.

    Returns:
        What the file holds.

    Raises:
        InputError: with code `"no-such-file"`, or `"bad-json"` where it cannot
            be read or holds no JSON.
    """
    return _read(path, json.loads, missing)


def read_json_lines(path: Path, missing: Any = None) -> Any:
    """Reads a JSON Lines file.

    Args, Raises: as those of `read_json`.

    Returns:
        List of what the lines hold; empty lines are left out.
    """
    return _read(
        path,
        # Not `splitlines`, which breaks texts at rarer signs, too.
        lambda text: [json.loads(line) for line in text.split("\n") if line],
        missing,
    )


def _read(path, parse, missing):
    path = pathlib.Path(path)
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if missing is not None:
            return missing
        raise InputError(
            "no-such-file",
            f"expected a JSON file at {path}, found none",
            "correct the path",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "bad-json",
            f"{path} cannot be read as JSON ({error})",
            "write it anew, or copy it from where it comes from",
        ) from error


def write_json(path: Path, content: object) -> None:
    """Writes a JSON file as a whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_lines(path: Path, lines: Iterable) -> None:
    """Writes a JSON Lines file as a whole or not at all."""
    dumped = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    write_text(path, "".join(dumped))


def write_text(path: Path, text: str) -> None:
    """Writes a text file as a whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    path = pathlib.Path(path)
    partial = path.with_name(PARTIAL + path.name)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
