"""Binaries called in this process, many times: each begins without flags."""

import contextlib
import importlib
import io
import subprocess
import sys
from unittest import mock

from absl import app
from absl.testing import flagsaver


def call(tool, arguments, stdin=b""):
    """Calls a binary.

    Args:
        tool: string, such as `"train"`.
        arguments: list of strings.
        stdin: bytes, what it can read there.

    Returns:
        `subprocess.CompletedProcess` of text.
    """
    app.define_help_flags()
    module = importlib.import_module(f"tfadv.tools.{tool}")
    out, err = io.StringIO(), io.StringIO()
    with (
        # Flags that are defined meanwhile are gone afterwards.
        flagsaver.flagsaver(),
        # Else absl heeds `--only_check_args` in the first call alone.
        mock.patch.object(app._run_init, "done", False),
        mock.patch.object(
            app._register_and_parse_flags_with_usage, "done", False
        ),
        mock.patch.object(sys, "argv", [module.__file__, *arguments]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.object(sys.modules["__main__"], "__doc__"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            module.start()
        except SystemExit as ended:
            code = ended.code or 0
    return subprocess.CompletedProcess(
        [tool, *arguments], code, out.getvalue(), err.getvalue()
    )
