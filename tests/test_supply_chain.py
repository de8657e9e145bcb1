"""What comes from elsewhere runs no code and writes nowhere else."""

import ast
import contextlib
import io
import json
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tests import report_runs, tiny_run
from tfadv import files
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.report import runs
from tfadv.runs import opening, run_folder
from tfadv.runs.run import build_classifier, part_to_keep
from tfadv.sources import pip_archives

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in ("tfadv", "tools", "flags")
    for path in (ROOT / folder).rglob("*.py")
)

# Arguments that let a file run code, which no lint rule knows.
OPENING = {"allow_pickle", "safe_mode", "trust_remote_code"}


def opened(tree):
    """Lists the calls that let a file run code."""
    harmless = {"safe_mode": "True"}
    return [
        f"{ast.unparse(node.func)}({option.arg})"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for option in node.keywords
        if option.arg in OPENING
        and ast.unparse(option.value) != harmless.get(option.arg, "False")
    ]


def test_no_call_lets_a_file_run_code():
    found = {path: opened(ast.parse(path.read_text())) for path in SOURCES}
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "line",
    [
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "keras.models.load_model(path, safe_mode=False)",
        "AutoConfig.from_pretrained(path, trust_remote_code=True)",
    ],
)
def test_the_search_itself_finds(line):
    assert opened(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    ["np.load(path)", "np.load(path, allow_pickle=False)", "f(safe_mode=True)"],
)
def test_the_search_itself_passes(line):
    assert opened(ast.parse(line)) == []


def test_lint_refuses_what_reads_pickles_or_runs_text():
    """`make lint` holds this; here its rules are shown to find it."""
    lines = [
        "import pickle",
        "import torch.nn",
        "import marshal",
        "from joblib import load",
        "keras.config.enable_unsafe_deserialization()",
        "yaml.load(text)",
        "pd.read_pickle(path)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(line, shell=True)",
    ]
    text = "\n".join(["import keras, subprocess, yaml", "import pandas as pd"])
    for folder in ("tfadv", "tools", "flags"):
        called = subprocess.run(
            [
                *(sys.executable, "-m", "ruff", "check", "--select=S,TID251"),
                *("--output-format=json", f"--stdin-filename={folder}/x.py"),
                "-",
            ],
            input="\n".join([text, *lines]),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        found = {e["location"]["row"] for e in json.loads(called.stdout)}
        assert found == {*range(3, 3 + len(lines))}


@contextlib.contextmanager
def refused(*codes):
    """Bad input, which must be refused for one of these reasons."""
    with pytest.raises(InputError) as error:
        yield
    assert error.value.code in codes


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.write_text, (self.marker, "it ran")


@pytest.fixture
def malice(tmp_path):
    """A malicious object; the test fails if it has been unpickled."""
    marker = tmp_path / "marker"
    yield Malice(marker)
    assert not marker.exists()


def test_the_malice_itself_works(tmp_path):
    pickle.loads(pickle.dumps(Malice(tmp_path / "marker")))
    assert (tmp_path / "marker").read_text() == "it ran"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def trained(encoder, tmp_path_factory):
    """A run's folder as `tools.train` leaves it, but for the training."""
    folder = tmp_path_factory.mktemp("run") / "run"
    record = tiny_run.record(encoder, method="baseline", max_length=16)
    run_folder.create(folder, record, flags="")
    shutil.copytree(encoder, folder / run_folder.ENCODER)
    (folder / run_folder.ENCODER / "model.safetensors").unlink()
    classifier = build_classifier(encoder, record)
    part_to_keep(classifier).save_weights(folder / run_folder.WEIGHTS)
    files.write_json(folder / run_folder.RESULTS, {})
    opening.load(folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def object_array(malice):
    """A .npy file that is a pickle by right."""
    file = io.BytesIO()
    np.save(file, np.array([malice], object), allow_pickle=True)
    return file.getvalue()


def object_arrays(malice):
    """A .npz file of the arrays of a report, one of them a pickle."""
    file = io.BytesIO()
    objects = np.array([malice], object)
    np.savez(file, labels=[0], clean=[[0.0]], attacked=objects)
    return file.getvalue()


def zipped_pickle(malice):
    """What PyTorch writes: a pickle in a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(malice))
    return file.getvalue()


PICKLES = [
    pytest.param(make, id=make.__name__)
    for make in (pickle.dumps, zipped_pickle, object_array, object_arrays)
]


@pytest.mark.parametrize("make", PICKLES)
def test_a_pickle_for_a_runs_weights(run, malice, make):
    (run / run_folder.WEIGHTS).write_bytes(make(malice))
    with refused("bad-weights"):
        opening.load(run)


@pytest.mark.parametrize(
    ("name", "code"),
    [("model.safetensors", "bad-weights"), ("model.weights.h5", "no-weights")],
)
@pytest.mark.parametrize("make", PICKLES)
def test_a_pickle_for_an_encoders_weights(
    encoder, tmp_path, malice, make, name, code
):
    folder = shutil.copytree(encoder, tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(make(malice))
    with pytest.raises(InputError) as caught:
        Encoder.from_pretrained(folder)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.ckpt",
        "model.pkl",
        "pytorch_model.bin.index.json",
    ],
)
def test_a_pickle_beside_no_weights(encoder, tmp_path, malice, name):
    folder = shutil.copytree(encoder, tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(malice))
    with pytest.raises(InputError) as caught:
        Encoder.from_pretrained(folder)
    assert caught.value.code == "no-weights"


def test_a_pickle_beside_weights_is_passed_over(encoder, tmp_path, malice):
    folder = shutil.copytree(encoder, tmp_path / "encoder")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(malice))
    Encoder.from_pretrained(folder)


@pytest.mark.parametrize("make", PICKLES)
def test_a_pickle_for_representations(tmp_path, malice, make):
    folder = report_runs.write(tmp_path / "run", "freelb", 0, "tiny")
    (folder / run_folder.REPRESENTATIONS).write_bytes(make(malice))
    with refused("bad-representations"):
        runs.read(folder)


@pytest.fixture
def lambda_model(tmp_path):
    """A Keras model that writes a file; the test fails if it has run."""
    marker = tmp_path / "marker"
    layer = keras.layers.Lambda(
        lambda x, place: (open(place, "w").close(), x)[1],
        arguments={"place": str(marker)},
    )
    model = keras.Sequential([keras.Input([1]), layer])
    model.save(tmp_path / "model.keras")
    marker.unlink()
    keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    # It works where nothing is done against it.
    marker.unlink()
    yield model
    assert not marker.exists()


def test_a_model_for_weights_does_not_run(run, lambda_model):
    lambda_model.save(run / "model.keras")
    shutil.move(run / "model.keras", run / run_folder.WEIGHTS)
    with refused("bad-weights"):
        opening.load(run)
    # Keras' older format keeps the model in an attribute.
    (run / run_folder.WEIGHTS).unlink()
    with h5py.File(run / run_folder.WEIGHTS, "w") as file:
        file.attrs["model_config"] = lambda_model.to_json()
    with refused("bad-weights"):
        opening.load(run)


@pytest.mark.parametrize("place", ["dtype", "num_layers", "name", None])
def test_a_layer_in_an_encoders_config_does_not_run(
    tmp_path, lambda_model, place
):
    malice = keras.saving.serialize_keras_object(lambda_model)
    sizes = {
        **dict.fromkeys(("vocabulary_size", "hidden_dim"), 8),
        **dict.fromkeys(("num_layers", "num_heads", "intermediate_dim"), 1),
    }
    config = {
        "module": "keras_hub.src.models.bert.bert_backbone",
        "registered_name": "keras_hub>BertBackbone",
        "class_name": "BertBackbone",
        "config": {**sizes, place: malice},
    }
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config if place else malice))
    (folder / "metadata.json").write_text('{"keras_version": "3.15.0"}')
    # What is there may be passed over.
    with contextlib.suppress(InputError):
        Encoder.from_pretrained(folder, load_weights=False)


def test_weights_do_not_lead_to_other_files(run, tmp_path):
    """HDF5 can say that its arrays are in another file."""
    path = run / run_folder.WEIGHTS
    shutil.move(path, tmp_path / "other.h5")
    with h5py.File(tmp_path / "other.h5") as file, h5py.File(path, "w") as new:
        for name in file:
            new[name] = h5py.ExternalLink("../other.h5", name)
    with refused("bad-weights"):
        opening.load(run)


def a_package(kind):
    return pip_archives.Package("demo", "1", "0" * 64, kind, "demo/", 1)


def members():
    """Archive members that would be written elsewhere, or are no files."""
    for name in ("demo/../../evil", "demo//../../evil", "demo/a\\..\\evil"):
        yield name, tarfile.REGTYPE, ""
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        for target in ("../../evil", "/etc/passwd", "demo/good"):
            yield "demo/link", kind, target
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        yield "demo/device", kind, ""


@pytest.mark.parametrize(("name", "kind", "target"), list(members()))
def test_an_sdist_writes_nothing_elsewhere(tmp_path, name, kind, target):
    with tarfile.open(tmp_path / "archive", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    refuse(a_package("sdist"), tmp_path)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("demo/../../evil", 0o100644),
        ("demo/a\\..\\evil", 0o100644),
        ("demo/link", 0o120777),
        ("demo/device", 0o020644),
        ("demo/device", 0o060644),
        ("demo/pipe", 0o010644),
    ],
)
def test_a_wheel_writes_nothing_elsewhere(tmp_path, name, mode):
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "../../evil")
    refuse(a_package("wheel"), tmp_path)


def refuse(package, folder):
    with refused("bad-archive"):
        pip_archives._unpack(package, folder / "archive", folder / "unpacked")
    assert [path.name for path in folder.iterdir()] == ["archive"]


@pytest.mark.parametrize("name", ["/evil", "../evil", "./demo/../../evil"])
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_members_that_are_not_wanted_are_not_written(tmp_path, kind, name):
    path = tmp_path / "archive"
    if kind == "wheel":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "evil")
            archive.writestr("demo/good", "good")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo(name))
            archive.addfile(tarfile.TarInfo("demo/good"))
    pip_archives._unpack(a_package(kind), path, tmp_path / "unpacked")
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p != path]
    assert written == [tmp_path / "unpacked" / "demo" / "good"]


def pinned():
    """Every package that `tfadv.sources.pip_archives` fetches."""
    return [
        package
        for value in vars(pip_archives).values()
        for package in (value.values() if isinstance(value, dict) else [value])
        if isinstance(package, pip_archives.Package)
    ]


def test_every_download_is_pinned():
    """That another hash is refused, `sources/test_pip_archives.py` shows."""
    assert len(pinned()) >= 2
    for package in pinned():
        assert re.fullmatch(r"[0-9]+(\.[0-9]+)+", package.version)
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
        assert package.kind in ("wheel", "sdist")
        assert not package.wanted.startswith(("/", "."))
