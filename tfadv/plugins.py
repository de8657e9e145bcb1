"""Modules from outside the package that register objectives and methods."""

import contextlib
import importlib
import importlib.util
import os
import pathlib
import sys

from tfadv.errors import InputError


def load(name: str) -> None:
    """Imports a module, once.

    Args:
        name: string, a module's name, or the path of a `.py` file.

    Raises:
        InputError: with code `"no-such-plugin"` where there is none, or
            `"bad-plugin"` where it raises an error while it is imported.

    Example:

    ```python
    plugins.load("stability.py")
    tfadv.Settings(method="stability")
    ```
    """
    try:
        if name.endswith(".py"):
            _load_file(pathlib.Path(os.path.abspath(name)))
        else:
            importlib.import_module(name)
    except InputError:
        raise
    except Exception as error:
        exists = os.path.exists(name)
        if not name.endswith(".py"):
            with contextlib.suppress(ImportError, ValueError):
                exists = importlib.util.find_spec(name) is not None
        if exists:
            raise InputError(
                "bad-plugin",
                f"importing it raises {type(error).__name__}: {error}",
                "mend the module",
                argument="plugin",
                value=name,
            ) from error
        raise InputError(
            "no-such-plugin",
            "expected a module that can be imported, or a .py file; found "
            f"none ({error})",
            "correct the name, or install the module",
            argument="plugin",
            value=name,
        ) from error


def absolute(name: str) -> str:
    """Returns a plugin's name as it is known in any folder."""
    return os.path.abspath(name) if name.endswith(".py") else name


def _load_file(path):
    if path.stem in sys.modules:
        loaded = getattr(sys.modules[path.stem], "__file__", None)
        if loaded and os.path.samefile(loaded, path):
            return
        raise InputError(
            "plugin-name-taken",
            f"expected a file whose name is no other module's, found that "
            f"{path.stem} is one",
            "rename the file",
            argument="plugin",
            value=str(path),
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
