"""Binaries and other modules, in processes that have TensorFlow already.

They are forked from one that has imported it and does nothing with it: the
import takes longer than most of what a test asks of a binary.
"""

import importlib.util
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver

ROOT = pathlib.Path(__file__).parent.parent
_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOAD = [
    "tests.preloaded",
    "tfadv.report.page",
    "tfadv.robustness.text_adversary",
    "tfadv.runs.opening",
    "tfadv.training.loop",
]


def warm_up():
    """Starts the process that is forked, which then loads in the background."""
    # That process passes over modules that do not exist.
    assert all(map(importlib.util.find_spec, _PRELOAD))
    _CONTEXT.set_forkserver_preload(_PRELOAD)
    forkserver.ensure_running()


def start(module, arguments, streams, folder=ROOT, environment=None):
    """Runs a module as `python -m` does.

    Args:
        module: string, such as `"tools.train"`.
        arguments: list, turned into strings.
        streams: paths of stdin, stdout and stderr.
        folder: path to work in.
        environment: dict of variables that are set besides those of the
            process that is forked.

    Returns:
        Its `multiprocessing.Process`.
    """
    return fork(
        _run,
        [module, *map(str, arguments)],
        list(map(str, streams)),
        str(folder),
        environment or {},
    )


def fork(function, *arguments):
    """Calls a function in a new process; returns that."""
    warm_up()
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def call(
    module,
    *arguments,
    folder=ROOT,
    stdin=os.devnull,
    timeout=300,
    **environment,
):
    """Calls a binary; returns a `subprocess.CompletedProcess` of text."""
    with tempfile.TemporaryDirectory() as places:
        outputs = [pathlib.Path(places, name) for name in ("out", "err")]
        process = start(
            module, arguments, [stdin, *outputs], folder, environment
        )
        process.join(timeout)
        process.kill()
        process.join()
        return subprocess.CompletedProcess(
            [module, *arguments],
            process.exitcode,
            *(path.read_text() for path in outputs),
        )


def _run(arguments, streams, folder, environment):
    for number, path in enumerate(streams):
        mode = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if number else 0)
        os.dup2(os.open(path, mode), number)
    # That of a forked process is closed.
    sys.stdin = open(0)  # noqa: SIM115
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
