"""What an installation puts where."""

import configparser
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "-w", folder, ROOT),
        ],
        check=True,
    )
    [path] = folder.glob("*.whl")
    return path


def test_an_installation_has_no_top_level_name_but_tfadv(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tfadv"}
    # All that the checkout has: code, flagfiles, templates, the mark of types.
    for top in ("tfadv", "flags", "tools"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                name = path.relative_to(ROOT).as_posix()
                wanted = name if top == "tfadv" else f"tfadv/{name}"
                assert wanted in names


def seconds_of_processes():
    """How long the processors have worked for processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def test_help_of_an_installed_copy_comes_at_once(wheel, tmp_path):
    """In less than a second, from another folder, without TensorFlow."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    [entry_points] = tmp_path.glob("installed/*.dist-info/entry_points.txt")
    scripts = configparser.ConfigParser()
    scripts.read(entry_points)
    for name, place in scripts["console_scripts"].items():
        module, function = place.split(":")
        # What pip writes into the script.
        script = tmp_path / name
        script.write_text(
            f"import sys\nfrom {module} import {function}\n"
            f"import tfadv\nassert {str(tmp_path)!r} in tfadv.__file__\n"
            f"try:\n    {function}()\nfinally:\n"
            "    heavy = {'tensorflow', 'keras', 'transformers'}\n"
            "    assert not heavy & set(sys.modules)\n"
        )
        before = seconds_of_processes()
        called = subprocess.run(
            [sys.executable, script, "--help"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
        )
        assert "--output_dir" in called.stdout, called.stderr
        assert called.stderr == ""
        assert seconds_of_processes() - before < 1


def test_importing_tfadv_loads_nothing_heavy():
    code = (
        "import sys, tfadv, tfadv.errors\n"
        "assert 'Encoder' in dir(tfadv)\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'transformers'}\n"
        "sys.exit(sorted(heavy & set(sys.modules)) or 0)"
    )
    called = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert called.returncode == 0


def test_every_public_name_exists():
    import tfadv

    for name in tfadv.__all__:
        assert getattr(tfadv, name).__doc__, name
