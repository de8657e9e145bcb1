"""What an installation puts where."""

import pathlib
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).parent.parent


def test_an_installation_has_no_top_level_name_but_tfadv(tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "-w", tmp_path, ROOT),
        ],
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tfadv"}
    for wanted in (
        "tfadv/update/classifier.py",
        "tfadv/data/movie_reviews.py",
        "tfadv/flags/adversary.py",
        "tfadv/flags/experiments/movie_reviews_freelb.cfg",
        "tfadv/tools/train.py",
    ):
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


def test_no_library_code_opens_pickles():
    for path in [*ROOT.glob("tfadv/**/*.py"), *ROOT.glob("tools/*.py")]:
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path
