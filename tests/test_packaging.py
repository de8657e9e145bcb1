"""What an installation puts where."""

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
