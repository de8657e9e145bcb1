"""README's words hold."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_leads_with_two_commands():
    [first, *_] = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    assert first == "make demo\nmake test\n"
    makefile = (ROOT / "Makefile").read_text()
    for command in first.split("\n")[:-1]:
        assert f"\n{command.removeprefix('make ')}:" in makefile


def test_named_files_exist():
    for text in (README, (ROOT / "WORKSPACE.md").read_text()):
        for path in re.findall(
            r"`((?:tfadv|flags|tools|tests|benchmarks)/[\w./]+)`", text
        ):
            assert (ROOT / path).exists(), path
        for path in re.findall(r"--flagfile=(flags/\S+)", text):
            assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_the_python_example_runs(minilm_folder):
    first, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(first, names)
    assert names["classifier"].predict(
        names["tokenizer"](names["texts"])
    ).shape == (2, 2)
