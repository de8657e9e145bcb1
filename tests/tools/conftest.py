"""A folder with good and with bad input, that no test may change."""

import shutil

import pytest

from tests import report_runs, tiny_run
from tests.tools import bad_input


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with good and with bad input."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_run.write_all(folder)
    for name, content in bad_input.FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "folder.csv").mkdir()
    (folder / "link.csv").symlink_to("nowhere.csv")
    bad_input.damage(folder, "encoder", bad_input.ENCODERS)
    report_runs.write_all(folder)
    bad_input.damage(folder, "rar_0", bad_input.ATTACKED)
    return folder


@pytest.fixture(scope="session")
def runs(inputs):
    """The folder, where there are runs, too, good and bad."""
    called = bad_input.call("train", "--output_dir={d}/run", inputs)
    assert called.returncode == 0, called.stderr
    bad_input.damage(inputs, "run", bad_input.RUNS)
    return inputs


@pytest.fixture
def untouched(inputs):
    """The folder; afterwards it must be as it was."""
    before = bad_input.snapshot(inputs)
    yield inputs
    after = bad_input.snapshot(inputs)
    shutil.rmtree(inputs / "out", ignore_errors=True)
    assert after == before
