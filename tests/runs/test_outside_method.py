"""A method from outside the package does all that the built-in ones do.

`tests/outside_method.py` is the whole of it: an objective with its settings,
and a method that has it.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfadv
from tests import binaries, kill_runs, tiny_run
from tests.outside_method import StabilitySettings
from tfadv.data import batching
from tfadv.export import checkpoint_folder, saved_model
from tfadv.inference import evaluation
from tfadv.tuning import search as searches
from tfadv.tuning.settings import Tuning

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = tiny_run.dataset().test.texts


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_run.write_all(folder)
    return folder


def flags(data, output_dir):
    """A short run in slices; Stability's settings are flags like others."""
    return (
        "--plugin=tests/outside_method.py",
        "--method=stability",
        "--stability_weight=0.3",
        "--stability_scale=2",
        *(f"--{s}_file={data}/{s}.csv" for s in ("train", "dev", "test")),
        f"--encoder={data}/encoder",
        f"--output_dir={output_dir}",
        "--max_length=16",
        "--epochs=2",
        "--batch_size=8",
        "--accumulation_steps=2",
        "--adv_steps=2",
        "--learning_rate=0.008",
        "--deterministic",
    )


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return kill_runs.Runner(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def folder(runner, data, tmp_path_factory):
    """A run that the binary made in one go."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    ended = runner.run(*flags(data, folder))
    assert ended.code == 0, ended.printed
    return folder


def in_a_process(code, *arguments):
    """Runs Python that has not imported the method."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_command_line_trains_with_it(folder):
    run = tfadv.load(folder)
    settings = run.record.settings
    assert settings.method == "stability"
    expected = StabilitySettings(weight=0.3, scale=2.0)
    assert settings.objectives == {"stability": expected}
    [objective] = run.classifier.objectives
    assert (objective.weight, objective.scale) == (0.3, 2.0)
    # Its weights were trained, and kept.
    assert np.abs(objective.focus.numpy() - 1).max() > 1e-3
    for name in ("metrics.jsonl", "updates.jsonl"):
        for line in (folder / name).read_text().splitlines():
            line = json.loads(line)
            total = line["classification_loss"] + 0.3 * line["stability_loss"]
            assert line["loss"] == pytest.approx(total, rel=1e-3)
    results = json.loads((folder / "results.json").read_text())
    test = batching.tokenize(tiny_run.dataset().test, run.tokenizer)
    measured = evaluation.evaluate(run.classifier, test)
    assert measured["accuracy"] == results["test_accuracy"]


def test_killed_it_goes_on_with_its_flagfile(runner, data, folder, tmp_path):
    lines = (folder / "flags.cfg").read_text().splitlines()
    assert {
        f"--plugin={ROOT}/tests/outside_method.py",
        "--stability_weight=0.3",
        "--stability_scale=2.0",
    } <= set(lines)
    killed = tmp_path / "killed"
    ended = runner.run(
        *flags(data, killed), kill_at=("half of a backup", 5), every=3
    )
    assert ended.killed
    ended = runner.run(
        f"--flagfile={folder}/flags.cfg", f"--output_dir={killed}"
    )
    assert ended.code == 0, ended.printed
    assert "resuming at update 12 of 24" in ended.printed
    assert kill_runs.differences(killed, folder) == []


def test_where_it_is_not_known_its_run_is_refused(folder):
    """Nothing is imported because a run's file names it."""
    ended = in_a_process(
        "import sys\n"
        "from tfadv.errors import InputError\n"
        "from tfadv.runs import run_folder\n"
        "try:\n"
        "    run_folder.read_record(sys.argv[1])\n"
        "except InputError as error:\n"
        "    print(error.code, error.value, 'plugin' in error.remedy)\n",
        folder,
    )
    assert ended.stdout == "unknown-method stability True\n", ended.stderr


@pytest.mark.slow
def test_it_trains_on_two_devices():
    ended = binaries.call("tests.replica_checks", "outside")
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])["outside"]
    assert found["accuracies"][0] == found["accuracies"][1]
    assert found["objectives"] == {"stability": {"weight": 0.5, "scale": 2.0}}
    assert 0 < found["metrics"]["stability_loss"] < 10


def test_it_is_tuned(data, tmp_path):
    settings = tiny_run.settings(
        data / "encoder",
        method="stability",
        objectives={"stability": StabilitySettings(weight=0.3)},
        max_length=16,
        max_steps=5,
    )
    tuned = Tuning(steps=(2,), coarse_trials=1, fine_trials=0)
    [trial] = searches.search(
        tiny_run.dataset(), settings, tuned, tmp_path / "search"
    )
    assert trial["status"] == "completed"
    lines = (tmp_path / "search" / "best.cfg").read_text().splitlines()
    assert {"--method=stability", "--stability_weight=0.3"} <= set(lines)
    run = tfadv.load(tmp_path / "search" / trial["run_dir"])
    assert run.record.settings.objectives == settings.objectives


def test_it_is_exported_as_a_saved_model(folder, tmp_path):
    run = tfadv.load(folder)
    version = saved_model.saved_model(run, tmp_path / "served")
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    [answer] = [
        value
        for name, value in served(tf.constant(TEXTS)).items()
        if name == "probabilities"
    ]
    np.testing.assert_allclose(answer, run.predict_proba(TEXTS), atol=1e-5)
    assert "Stability" in (version / saved_model.MODEL_CARD).read_text()


def test_it_is_exported_for_transformers(folder, tmp_path):
    """What was exported opens where the method is not known, too."""
    run = tfadv.load(folder)
    exported = checkpoint_folder.save_checkpoint(run, tmp_path / "exported")
    (tmp_path / "texts").write_text("\n".join(TEXTS))
    ended = binaries.call(
        "tools.predict",
        f"--run_dir={exported}",
        stdin=tmp_path / "texts",
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    lines = map(json.loads, ended.stdout.splitlines())
    found = [
        [line["probabilities"][name] for name in run.label_names]
        for line in lines
    ]
    np.testing.assert_allclose(found, run.predict_proba(TEXTS), atol=1e-5)
