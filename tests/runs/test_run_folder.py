"""Which folders a run may be written to."""

import pytest

from tfadv.errors import InputError
from tfadv.runs import run_folder


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (["settings.json"], None),
        (["partial.settings.json"], None),
        (["settings.json", "partial.flags.cfg"], None),
        (["settings.json", "flags.cfg", "encoder", "tensorboard"], None),
        (["settings.json", "evaluation.json"], "run-exists"),
        (["metrics.jsonl"], "run-exists"),
        (["settings.json", "thesis.tex"], "other-files"),
        (["results.json", "settings.json", "flags.cfg"], "run-exists"),
        (["run.json", "flags.cfg", "backup"], "another-version"),
    ],
)
def test_only_what_is_left_of_a_run_is_taken_over(tmp_path, files, code):
    for name in files:
        (tmp_path / name).write_text("")
    if code is None:
        assert run_folder.check_output(tmp_path, False) is False
        return
    with pytest.raises(InputError) as error:
        run_folder.check_output(tmp_path, False)
    assert error.value.code == code
