"""The binaries, as people call them."""

import json

import pytest

from tests import tiny_run
from tests.binaries import call
from tfadv.datasets import catalogue


def assert_refused(called, code, where=""):
    """Exit code 2, and one line that says why."""
    assert called.returncode == 2, called.stderr
    assert called.stderr.count("\n") == 1, called.stderr
    assert called.stderr.startswith(f"error[{code}]: {where}"), called.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with an encoder and a dataset in files."""
    folder = tmp_path_factory.mktemp("data")
    tiny_run.write_all(folder)
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


def test_a_loss_that_is_not_a_number_ends_training(data):
    called = call(
        "tools.train",
        f"--train_file={data}/train.csv",
        f"--encoder={data}/encoder",
        f"--output_dir={data}/diverged",
        "--learning_rate=1e30",
        "--max_length=16",
        "--adv_steps=2",
    )
    assert called.returncode == 2
    assert called.stderr.splitlines()[-1].startswith("error[not-finite]: ")
    assert "Traceback" not in called.stderr


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


def test_results_that_are_there_stay(run):
    folder, _ = run
    (folder / "evaluation.json").write_text("kept")
    called = call("tools.evaluate", f"--run_dir={folder}")
    assert_refused(called, "results-exist", f"--output_dir={folder}")
    assert (folder / "evaluation.json").read_text() == "kept"
    called = call("tools.evaluate", f"--run_dir={folder}", "--overwrite")
    assert called.returncode == 0, called.stderr
    assert json.loads((folder / "evaluation.json").read_text())["accuracy"] >= 0


def test_other_classes_are_refused(run, data):
    folder, _ = run
    # A download is told on stderr, too.
    catalogue.load("movie_reviews")
    called = call(
        "tools.evaluate",
        f"--run_dir={folder}",
        f"--output_dir={data}/x",
        "--dataset=movie_reviews",
    )
    assert_refused(called, "other-classes", "--dataset=movie_reviews")


def test_a_run_knows_its_columns_and_where_its_files_are(
    data, tmp_path_factory
):
    """Trained on files by relative paths, with columns of other names."""
    folder = tmp_path_factory.mktemp("stars")
    for split in ("train", "test"):
        text = (data / f"{split}.csv").read_text()
        text = text.replace("text,label", "body,stars")
        (folder / f"{split}.csv").write_text(text)
    called = call(
        "tools.train",
        "--train_file=train.csv",
        "--test_file=test.csv",
        "--text_column=body",
        "--label_column=stars",
        f"--encoder={data}/encoder",
        "--output_dir=run",
        "--max_length=16",
        "--max_steps=1",
        "--method=baseline",
        folder=folder,
    )
    assert called.returncode == 0, called.stderr
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for tool, arguments in (
        ("evaluate", []),
        ("predict", ["--split=test"]),
        ("predict", [f"--test_file={folder}/test.csv"]),
    ):
        called = call(
            f"tools.{tool}",
            f"--run_dir={folder}/run",
            f"--output_dir={elsewhere}/{tool}",
            "--overwrite",
            *arguments,
            folder=elsewhere,
        )
        assert called.returncode == 0, called.stderr
    lines = (elsewhere / "predict" / "predictions.jsonl").read_text()
    texts = [json.loads(line)["text"] for line in lines.splitlines()]
    assert texts == tiny_run.dataset().test.texts


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
    # Clean and attacked outputs are computed by two graphs, which may round
    # differently.
    assert measured["epsilons"][0]["euclidean"] == pytest.approx(0, abs=1e-6)
    assert measured["epsilons"][1]["euclidean"] > 0.0
    assert measured["hotflip"]["max_flips"] == 1
    flips = (attacked / "hotflip.jsonl").read_text().splitlines()
    assert len(flips) == 10
    assert (attacked / "representations.npz").exists()
    assert "| PGD, epsilon 3 " in called.stdout
    assert "| HotFlip, 1 words " in called.stdout


def test_rar_measures_its_loss_and_records_its_settings(rar_run):
    record = json.loads((rar_run / "settings.json").read_text())
    assert record["settings"]["objectives"] == {
        "reconstruction": {"weight": 0.1, "start_epoch": 0.0}
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


def test_report_has_a_row_a_run(run, data):
    folder, _ = run
    called = call("tools.report", folder, folder, f"--output_dir={data}/report")
    assert called.returncode == 0, called.stderr
    lines = (data / "report" / "report.md").read_text().splitlines()
    assert "Table 2" in lines[0]
    assert "test accuracy" in lines[2]
    assert lines[4].startswith("| freelb")
    # A run that is named twice is one.
    assert len(lines) == 5 or not lines[5].startswith("| freelb")
    assert lines[4] in called.stdout
    assert "<table" in (data / "report" / "report.html").read_text()


def test_a_report_needs_runs():
    assert_refused(call("tools.report"), "no-runs")
