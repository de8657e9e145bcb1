"""Folders that are no place for results."""

import shutil
import subprocess

import pytest

from tests.tools import bad_input
from tests.tools.bad_input import ALL, MEASURERS, TRAINERS

ROWS = [
    # What is there must stay.
    (TRAINERS, "--output_dir={d}/ag_news", "other-files"),
    ("export", "--output_dir={d}/ag_news", "other-files"),
    (
        "export",
        "--format=huggingface --output_dir={d}/encoder",
        "other-files",
    ),
    ("train", "--output_dir={d}/run", "run-exists"),
    ("tune", "--output_dir={d}/search", "another-search"),
    ("tune", "--output_dir={d}/search_latin", "bad-json", ""),
    (
        f"{MEASURERS} predict report",
        "--output_dir={d}/results",
        "results-exist",
    ),
    # No folders.
    (ALL, "--output_dir={d}/dev.csv", "not-a-folder"),
    (ALL, "--output_dir={d}/dev.csv/out", "not-a-folder"),
    (ALL, "--output_dir={d}/link.csv", "not-a-folder"),
]
# On disks that are full from the start, or soon.
FULL = [
    (ALL, "--output_dir={d}/full/out", "unwritable"),
    ("train", "--output_dir={d}/filling/out", "unwritable"),
]
# Their bytes.
DISKS = {"full": 2**12, "filling": 7 * 2**12}


@pytest.fixture(scope="module")
def disks(inputs):
    """Makes small disks, or skips where that cannot be done."""
    mounted = []
    try:
        for name, size in DISKS.items():
            (inputs / name).mkdir()
            mount = f"mount -t tmpfs -o size={size} tmpfs".split()
            subprocess.run(
                [*mount, inputs / name], check=True, capture_output=True
            )
            mounted.append(name)
        (inputs / "full" / "all").write_bytes(bytes(DISKS["full"]))
        yield
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    finally:
        for name in DISKS:
            if name in mounted:
                # Lazily: TensorBoard's writer may have a file open there.
                subprocess.run(["umount", "-l", inputs / name], check=True)
            (inputs / name).rmdir()


@bad_input.cases(ROWS)
def test_bad_output(tool, arguments, code, where, runs, untouched):
    bad_input.check(tool, arguments, code, where, untouched)


@bad_input.cases(FULL)
def test_full_disks(tool, arguments, code, where, runs, disks):
    try:
        bad_input.check(tool, arguments, code, where, runs)
    finally:
        for name in DISKS:
            shutil.rmtree(runs / name / "out", ignore_errors=True)
