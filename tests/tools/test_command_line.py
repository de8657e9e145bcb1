"""The binaries, as people call them."""

import json
import os
import subprocess
import sys

import pytest

from tests import tiny_run
from tests.binaries import ROOT, call
from tfadv.data import catalogue


def assert_refused(called, message):
    """Code 2, and one line that says why."""
    assert called.returncode == 2, called.stderr
    assert called.stderr.count("\n") == 1, called.stderr
    assert called.stderr.startswith("error: ")
    assert message in called.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with an encoder, good files and bad ones."""
    folder = tmp_path_factory.mktemp("data")
    tiny_run.write_all(folder)
    (folder / "empty.csv").write_text("")
    (folder / "latin.csv").write_bytes(b"text,label\ngood,1\ncaf\xe9,0\n")
    (folder / "one_class.csv").write_text("text,label\ngood,1\nfine,1\n")
    (folder / "unknown.csv").write_text("text,label\ngood,good\nbad,ugly\n")
    (folder / "no_weights").mkdir()
    for name in ("config.json", "vocab.txt"):
        (folder / "no_weights" / name).write_text(
            (folder / "encoder" / name).read_text()
        )
    (folder / "other_family").mkdir()
    (folder / "other_family" / "config.json").write_text(
        '{"model_type": "distilbert"}'
    )
    (folder / "ugly.jsonl").write_text(
        '{"reconstruction": "a dull plot", "label": "ugly"}\n'
    )
    (folder / "used").mkdir()
    (folder / "used" / "results.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def run(data):
    """A run of the binary: its folder and what it printed."""
    called = call(
        "tools.train",
        f"--train_file={data}/train.csv",
        f"--dev_file={data}/dev.csv",
        f"--test_file={data}/test.csv",
        f"--encoder={data}/encoder",
        f"--output_dir={data}/run",
        "--max_length=16",
        "--epochs=1",
        "--adv_steps=2",
    )
    assert called.returncode == 0, called.stderr
    return data / "run", called


@pytest.fixture(scope="module")
def rar_run(data):
    """The folder of a run with a reconstruction head."""
    called = call(
        "tools.train",
        "--method=rar",
        f"--train_file={data}/train.csv",
        f"--test_file={data}/test.csv",
        f"--encoder={data}/encoder",
        f"--output_dir={data}/rar",
        "--max_length=16",
        "--epochs=1",
        "--adv_steps=2",
    )
    assert called.returncode == 0, called.stderr
    return data / "rar"


@pytest.fixture(scope="module")
def adversaries(run, rar_run):
    """The file that tools.reconstruct wrote, and what it printed."""
    folder, _ = run
    called = call(
        "tools.reconstruct",
        f"--run_dir={rar_run}",
        f"--victim_run={folder}",
        "--epsilon=0.5",
        "--attack_steps=2",
        "--max_examples=10",
    )
    assert called.returncode == 0, called.stderr
    return rar_run / "adversaries.jsonl", called


BAD_INPUT = {
    "no output": ([], "--output_dir"),
    "unknown flag": (["--output_dir={out}", "--alpha=1"], "alpha"),
    "not a flag": (["--output_dir={out}", "carl"], "'carl' is not a flag"),
    "n too small": (["--output_dir={out}", "--adv_steps=0"], "--adv_steps=0"),
    "n no number": (["--output_dir={out}", "--adv_steps=x"], "--adv_steps=x"),
    "alpha zero": (
        ["--output_dir={out}", "--adv_step_size=0"],
        "--adv_step_size=0",
    ),
    "alpha NaN": (
        ["--output_dir={out}", "--adv_step_size=nan"],
        "--adv_step_size=nan",
    ),
    "epsilon negative": (
        ["--output_dir={out}", "--adv_max_norm=-1"],
        "--adv_max_norm=-1",
    ),
    "rate zero": (
        ["--output_dir={out}", "--learning_rate=0"],
        "--learning_rate=0",
    ),
    "weight NaN": (
        ["--output_dir={out}", "--reconstruction_weight=nan"],
        "--reconstruction_weight=nan: expected a finite number",
    ),
    "unknown method": (["--output_dir={out}", "--method=pgd"], "--method=pgd"),
    "unknown dataset": (["--output_dir={out}", "--dataset=imdb"], "imdb"),
    "no flagfile": (["--flagfile=none.cfg"], "none.cfg"),
    "dataset and file": (
        ["--output_dir={out}", "--dataset=movie_reviews", "--train_file=a.csv"],
        "clash",
    ),
    "dev file alone": (
        ["--output_dir={out}", "--dev_file={data}/dev.csv"],
        "needs --train_file",
    ),
    "missing file": (
        ["--output_dir={out}", "--train_file={data}/none.csv"],
        "none.csv: there is no such file",
    ),
    "empty file": (
        ["--output_dir={out}", "--train_file={data}/empty.csv"],
        "the file is empty",
    ),
    "wrong column": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--text_column=sentence",
        ],
        "there is no column 'sentence', only 'text', 'label'",
    ),
    "unknown label": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--dev_file={data}/unknown.csv",
        ],
        "unknown.csv, line 3: the label 'ugly'",
    ),
    "not UTF-8": (
        ["--output_dir={out}", "--train_file={data}/latin.csv"],
        "latin.csv, line 3: the byte 0xe9 is not UTF-8",
    ),
    "one class": (
        ["--output_dir={out}", "--train_file={data}/one_class.csv"],
        "every label is '1'",
    ),
    "folder in use": (["--output_dir={data}/used"], "already holds a run"),
    "no encoder": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--encoder={data}/none",
        ],
        "expected a folder, found none",
    ),
    "no weights": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--encoder={data}/no_weights",
            "--max_length=16",
        ],
        "has no weights: expected model.safetensors",
    ),
    "another family": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--encoder={data}/other_family",
        ],
        "distilbert",
    ),
    "no negatives": (
        ["--output_dir={out}", "--contrastive_negatives=0"],
        "--contrastive_negatives=0",
    ),
    "negatives no number": (
        ["--output_dir={out}", "--contrastive_negatives=some"],
        "--contrastive_negatives=some",
    ),
    "two starts": (
        [
            "--output_dir={out}",
            "--contrastive_start_step=5",
            "--contrastive_start_epoch=2",
        ],
        "clash: give the start in steps or in epochs",
    ),
    "start after the end": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--encoder={data}/encoder",
            "--max_length=16",
            "--method=carl",
            "--contrastive_start_step=6",
        ],
        "--contrastive_start_step=6: the run has 6 updates",
    ),
    "start after the last epoch": (
        ["--output_dir={out}", "--method=carl", "--epochs=1"],
        "method=carl, contrastive_start_epoch=1.0, epochs=1, "
        "contrastive_start_step=None: clash",
    ),
    "rar after the last epoch": (
        [
            "--output_dir={out}",
            "--method=rar",
            "--epochs=1",
            "--reconstruction_start_epoch=1",
        ],
        "method=rar, reconstruction_start_epoch=1.0, epochs=1: clash",
    ),
    "start after the last step": (
        [
            "--output_dir={out}",
            "--method=carl_rar",
            "--contrastive_start_step=50",
            "--max_steps=50",
        ],
        "method=carl_rar, contrastive_start_step=50, max_steps=50: clash",
    ),
    "start outside of the ball": (
        [
            "--output_dir={out}",
            "--adv_init_magnitude=0.8",
            "--adv_max_norm=0.1",
        ],
        "adv_init_magnitude=0.8, adv_max_norm=0.1: clash",
    ),
    "warm-up of a constant rate": (
        ["--output_dir={out}", "--warmup_proportion=0.2"],
        "learning_rate_schedule=constant, warmup_proportion=0.2: clash",
    ),
    "no adversaries": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--augment_file={data}/none.jsonl",
        ],
        "--augment_file {data}/none.jsonl: there is no such file",
    ),
    "adversaries of another form": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--augment_file={data}/dev.csv",
        ],
        "dev.csv: expected the adversaries.jsonl of tools.reconstruct",
    ),
    "adversaries of another class": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--augment_file={data}/ugly.jsonl",
        ],
        "ugly.jsonl, line 1: the label 'ugly'",
    ),
    "NaN loss": (
        [
            "--output_dir={out}",
            "--train_file={data}/train.csv",
            "--encoder={data}/encoder",
            "--learning_rate=1e30",
            "--max_length=16",
            "--adv_steps=2",
        ],
        "the loss became",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_code_2(data, tmp_path, case):
    arguments, message = BAD_INPUT[case]
    places = {"data": data, "out": tmp_path / "out"}
    called = call("tools.train", *(a.format(**places) for a in arguments))
    assert_refused(called, message.format(**places))
    # A NaN is found only when training has begun.
    assert case == "NaN loss" or not (tmp_path / "out").exists()
    assert (data / "used" / "results.json").read_text() == "{}"


def help_of(tool, path):
    return subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )


def test_help_explains_the_flags_without_tensorflow(tmp_path):
    # A TensorFlow that cannot be imported comes first on the path.
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError")
    for tool in (
        "train",
        "tune",
        "evaluate",
        "attack",
        "reconstruct",
        "report",
    ):
        called = help_of(tool, tmp_path)
        assert "--output_dir" in called.stdout, called.stderr
        assert called.stderr == ""
    called = help_of("train", tmp_path)
    for flag in ("method", "encoder", "adv_steps", "train_file", "epochs"):
        assert f"--[no]{flag}" in called.stdout or f"--{flag}" in called.stdout


@pytest.mark.parametrize(
    "flagfile",
    sorted((ROOT / "flags" / "experiments").glob("*.cfg")),
    ids=lambda path: path.stem,
)
def test_every_flagfile_is_one_that_train_takes(flagfile):
    called = call(
        "tools.train",
        f"--flagfile={flagfile}",
        "--output_dir=unused",
        "--only_check_args",
    )
    assert called.returncode == 0, called.stderr


def test_train_prints_its_results_and_writes_them(run):
    folder, called = run
    written = json.loads((folder / "results.json").read_text())
    assert written["method"] == "freelb"
    assert called.stdout.rstrip().endswith(json.dumps(written, indent=2))


def test_flags_cfg_runs_the_same_again(run, data):
    folder, _ = run
    assert "--output_dir" not in (folder / "flags.cfg").read_text()
    called = call(
        "tools.train",
        f"--flagfile={folder}/flags.cfg",
        f"--output_dir={data}/again",
    )
    assert called.returncode == 0, called.stderr
    first, second = (
        json.loads((path / "metrics.jsonl").read_text())
        for path in (folder, data / "again")
    )
    del first["seconds"], second["seconds"]
    assert first == second


def test_evaluate_measures_the_runs_own_split_or_another_file(run, data):
    folder, _ = run
    results = json.loads((folder / "results.json").read_text())
    called = call("tools.evaluate", f"--run_dir={folder}")
    assert called.returncode == 0, called.stderr
    measured = json.loads((folder / "evaluation.json").read_text())
    assert measured["accuracy"] == results["test_accuracy"]
    assert measured["dataset"] == f"{data}/test.csv"
    called = call(
        "tools.evaluate",
        f"--run_dir={folder}",
        f"--dev_file={data}/dev.csv",
        "--split=dev",
        f"--output_dir={data}/on_dev",
    )
    assert called.returncode == 0, called.stderr
    measured = json.loads((data / "on_dev" / "evaluation.json").read_text())
    assert measured["accuracy"] == results["dev_accuracy"]
    assert measured["examples"] == 24


def test_evaluate_refuses_in_one_line(run, data):
    folder, _ = run
    # A download is told on stderr, too.
    catalogue.load("movie_reviews")
    (folder / "evaluation.json").write_text("kept")
    cases = {
        f"--run_dir={data}": "not the folder of a run",
        f"--run_dir={folder}": "--overwrite",
        f"--run_dir={folder} --output_dir={data}/x --test_file={data}/unknown"
        ".csv": "line 3: the label 'ugly'",
        f"--run_dir={folder} --output_dir={data}/x --dataset=movie_reviews": (
            "the classifier bad, good"
        ),
    }
    for arguments, message in cases.items():
        called = call("tools.evaluate", *arguments.split())
        assert_refused(called, message)
    assert (folder / "evaluation.json").read_text() == "kept"


def test_attack_measures_and_writes_what_its_flags_say(run, data):
    folder, _ = run
    called = call(
        "tools.attack",
        f"--run_dir={folder}",
        f"--output_dir={data}/attacked",
        "--epsilons=3,0",
        "--attack_steps=2",
        "--attack_restarts=2",
        "--attack_norm=linf",
        "--attack_seed=4",
        "--hotflip_words=1",
        "--max_examples=10",
    )
    assert called.returncode == 0, called.stderr
    attacked = data / "attacked"
    measured = json.loads((attacked / "robustness.json").read_text())
    assert measured["run_dir"] == str(folder)
    assert measured["dataset"] == f"{data}/test.csv"
    assert measured["split"] == "test"
    assert measured["examples"] == 10
    assert measured["seed"] == 4
    assert measured["attack"] == {
        "steps": 2,
        "step_size": None,
        "norm": "linf",
        "restarts": 2,
    }
    assert [row["epsilon"] for row in measured["epsilons"]] == [0.0, 3.0]
    assert measured["epsilons"][0]["euclidean"] == 0.0
    assert measured["epsilons"][1]["euclidean"] > 0.0
    assert measured["hotflip"]["max_flips"] == 1
    flips = (attacked / "hotflip.jsonl").read_text().splitlines()
    assert len(flips) == 10
    assert (attacked / "representations.npz").exists()
    assert "| PGD, epsilon 3 |" in called.stdout
    assert "| HotFlip, 1 words |" in called.stdout


def test_attack_refuses_in_one_line(run, data):
    folder, _ = run
    used = data / "attacked_before"
    used.mkdir()
    (used / "robustness.json").write_text("kept")
    cases = {
        f"--run_dir={data}": "not the folder of a run",
        f"--run_dir={folder} --output_dir={used}": "--overwrite",
        f"--run_dir={folder} --epsilons=0.1,x": "--epsilons",
        f"--run_dir={folder} --epsilons=0.1,-1": "--epsilons",
        f"--run_dir={folder} --epsilons=": "--epsilons",
        f"--run_dir={folder} --attack_steps=0": "--attack_steps=0",
        f"--run_dir={folder} --attack_step_size=0": "--attack_step_size=0",
        f"--run_dir={folder} --max_examples=0": "--max_examples=0",
    }
    for arguments, message in cases.items():
        called = call("tools.attack", *arguments.split())
        assert_refused(called, message)
    assert (used / "robustness.json").read_text() == "kept"
    assert not (folder / "robustness.json").exists()


def test_rar_measures_its_loss_and_describes_it(rar_run):
    description = json.loads((rar_run / "run.json").read_text())
    assert description["objectives"] == {
        "reconstruction": {
            "weight": 0.1,
            "start_epoch": 0.0,
            "special_ids": [0, 1, 2, 3, 4],
        }
    }
    metrics = json.loads((rar_run / "metrics.jsonl").read_text())
    assert metrics["reconstruction_loss"] > 0
    assert "contrastive_loss" not in metrics


def test_reconstruct_writes_a_line_an_example(data, adversaries):
    path, called = adversaries
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    test = tiny_run.dataset().test
    assert [line["index"] for line in lines] == list(range(10))
    assert [line["original"] for line in lines] == test.texts[:10]
    labels = [("bad", "good")[label] for label in test.labels[:10]]
    assert [line["label"] for line in lines] == labels
    for line in lines:
        assert line["reconstruction"].strip()
        for when in ("before", "after"):
            assert line[f"prediction_{when}"] in ("bad", "good")
            assert line[f"victim_{when}"] in ("bad", "good")
    assert "of 10 predictions flip from right to wrong" in called.stdout
    assert "on the other run" in called.stdout
    assert called.stdout.rstrip().endswith(f"written to {path}")


def test_train_takes_the_adversaries_beside_its_own_texts(data, adversaries):
    path, _ = adversaries
    called = call(
        "tools.train",
        "--method=baseline",
        f"--train_file={data}/train.csv",
        f"--augment_file={path}",
        f"--encoder={data}/encoder",
        f"--output_dir={data}/augmented",
        "--max_length=16",
        "--max_steps=2",
    )
    assert called.returncode == 0, called.stderr
    assert "--augment_file" in (data / "augmented" / "flags.cfg").read_text()
    results = json.loads((data / "augmented" / "results.json").read_text())
    assert results["train_examples"] == 90 + 10


def test_reconstruct_refuses_in_one_line(run, data, adversaries):
    folder, _ = run
    path, _ = adversaries
    written = path.read_bytes()
    other = data / "other_classes"
    other.mkdir()
    description = json.loads((folder / "run.json").read_text())
    description["label_names"] = ["dull", "fine"]
    (other / "run.json").write_text(json.dumps(description))
    rar = f"--run_dir={path.parent}"
    cases = {
        f"--run_dir={folder}": (
            "a freelb run has no reconstruction head; give a run of "
            "--method=rar or carl_rar"
        ),
        f"--run_dir={data}": "not the folder of a run",
        rar: f"{path} is there already; give --overwrite",
        f"{rar} --output_dir={data}/x --victim_run={other}": (
            f"--victim_run={other} has the classes dull, fine, --run_dir "
            "bad, good"
        ),
        f"{rar} --output_dir={data}/x --victim_run={data}/none": (
            f"{data}/none: not the folder of a run"
        ),
        f"{rar} --output_dir={data}/x --epsilon=-1": "--epsilon=-1",
        # A flag of tools.attack.
        f"{rar} --output_dir={data}/x --epsilons=0.1": "epsilons",
        f"{rar} --output_dir={data}/x --attack_norm=l1": "--attack_norm=l1",
        f"{rar} --output_dir={data}/x --split=dev": "--dev_file",
    }
    for arguments, message in cases.items():
        called = call("tools.reconstruct", *arguments.split())
        assert_refused(called, message)
    assert path.read_bytes() == written
    assert not (data / "x").exists()


def test_report_has_a_row_a_run(run, data):
    folder, _ = run
    called = call("tools.report", folder, folder, f"--output_dir={data}/report")
    assert called.returncode == 0, called.stderr
    lines = (data / "report" / "report.md").read_text().splitlines()
    assert "Table 2" in lines[0]
    assert "test accuracy" in lines[2]
    # The same run twice is a run and its repetition: one row.
    assert lines[4].startswith("| freelb")
    assert "0, 0" in lines[4]
    assert lines[4] in called.stdout
    assert "<table" in (data / "report" / "report.html").read_text()


def test_report_refuses_in_one_line(data):
    for arguments, message in (
        ([], "no run folders"),
        ([data / "encoder"], "not the folder of a run"),
    ):
        called = call("tools.report", *arguments)
        assert_refused(called, message)
