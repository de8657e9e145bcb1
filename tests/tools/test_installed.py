"""An installed copy's commands, from any folder."""

import os
import pathlib
import resource
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = ("train", "tune", "evaluate", "attack", "reconstruct", "report")
# Of the processor; seconds on a clock depend on what else there is to do.
SECONDS = 1.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with an installed copy, as `pip install .` makes it."""
    source = tmp_path_factory.mktemp("checkout")
    for name in ("tfadv", "flags", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    folder = tmp_path_factory.mktemp("installed")
    uv = shutil.which("uv")
    pip = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    options = ["--python", sys.executable] if uv else []
    subprocess.run(
        [
            *(*pip, "install", *options, "--quiet", "--no-deps"),
            *("--no-build-isolation", "--target", folder, source),
        ],
        check=True,
    )
    # One that cannot be imported.
    (folder / "tensorflow.py").write_text("raise RuntimeError")
    return folder


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("tool", [*TOOLS, "export", "predict"])
def test_help_without_tensorflow_in_less_than_a_second(
    tool, installed, tmp_path
):
    taken = []
    # The first call compiles.
    for _ in range(2):
        before = children_seconds()
        called = subprocess.run(
            [sys.executable, installed / "bin" / f"tfadv-{tool}", "--help"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
        )
        taken.append(children_seconds() - before)
        assert "--output_dir" in called.stdout, called.stderr
        assert called.stderr == ""
    assert min(taken) < SECONDS
    assert str(installed) in called.stdout


def test_a_mistyped_value_without_tensorflow(installed, tmp_path):
    called = subprocess.run(
        [
            *(sys.executable, installed / "bin" / "tfadv-train"),
            *("--output_dir=run", "--adv_steps=0"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert called.returncode == 2
    assert called.stderr.startswith("error[out-of-range]: --adv_steps=0: ")
    assert called.stderr.count("\n") == 1
