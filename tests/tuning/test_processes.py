"""Real searches: the binary, killed and shared among processes."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import binaries, tiny_run
from tfadv.runs import run_folder
from tfadv.tuning import search_folder

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with an encoder and a dataset in files."""
    folder = tmp_path_factory.mktemp("data")
    tiny_run.write_all(folder)
    return folder


def start(tool, *flags, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", tool, *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call(tool, *flags, **environment):
    ended = binaries.call(tool, *flags, **environment)
    return ended.returncode, ended.stdout, ended.stderr


def train_flags(data):
    return [
        f"--train_file={data}/train.csv",
        f"--dev_file={data}/dev.csv",
        f"--test_file={data}/test.csv",
        f"--encoder={data}/encoder",
        "--max_length=16",
        "--epochs=2",
        "--learning_rate=0.02",
    ]


def trained(out):
    """Numbers of the trials that a process tells it has ended."""
    return [
        int(line.split()[1])
        for line in out.splitlines()
        if line.startswith("trial ")
    ]


def results_times(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.glob("trials/*/results.json")
        if (
            folder / "search" / f"trial_{path.parent.name}" / "measured.json"
        ).exists()
    }


def wait_for(condition, process, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_real_search_and_the_run_that_its_flagfile_describes(data):
    out = data / "search"
    code, told, err = call(
        "tools.tune",
        *train_flags(data),
        f"--output_dir={out}",
        "--coarse_trials=1",
        "--fine_trials=1",
        "--tune_max_norm=0",
        "--tune_objective=mix",
        "--tune_epsilon=0.5",
        "--attack_steps=2",
        "--max_examples=10",
    )
    assert code == 0, err
    assert trained(err) == [1, 2]
    trials = [
        json.loads(line)
        for line in (out / "trials.jsonl").read_text().splitlines()
    ]
    best = search_folder.best_trial(trials)
    assert best["dev_accuracy"] > best["attacked_accuracy"]
    assert (out / "trials.md").read_text() in told
    for trial in trials:
        folder = out / trial["run_dir"]
        results = json.loads((folder / "results.json").read_text())
        assert results["dev_accuracy"] == trial["dev_accuracy"]
        assert results["test_accuracy"] is None
        text = (folder / "flags.cfg").read_text()
        assert f"--adv_step_size={trial['values']['step_size']}\n" in text
        assert (folder / "model.weights.h5").exists() == (trial == best)
    text = (out / "best.cfg").read_text()
    for word in ("tune_", "coarse", "fine_", "attack", "max_examples", "_dir"):
        assert word not in text
    assert f"--train_file={data}/train.csv\n" in text
    code, told, err = call(
        "tools.train",
        f"--flagfile={out}/best.cfg",
        f"--output_dir={data}/best",
    )
    assert code == 0, err
    results = json.loads((data / "best" / "results.json").read_text())
    assert results["dev_accuracy"] == best["dev_accuracy"]
    assert results["test_accuracy"] is not None
    found = run_folder.read_record(data / "best").settings
    assert best["values"].items() <= found.adversary.to_dict().items()


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_same_command(data):
    out = data / "killed"
    command = [
        "tools.tune",
        *train_flags(data),
        f"--output_dir={out}",
        "--coarse_trials=3",
        "--fine_trials=2",
    ]
    process = start(*command)
    wait_for(lambda: (out / "trials" / "2" / "settings.json").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = results_times(out)
    assert len(before) == 2
    code, _, err = call(*command)
    assert code == 0, err
    assert trained(err) == [3, 4, 5]
    after = results_times(out)
    assert len(after) == 5
    assert {path: after[path] for path in before} == before
    code, _, err = call(*command, "--fine_trials=3")
    assert code == 2
    assert err.count("\n") == 1, err
    assert err.startswith("error[another-search]: --output_dir=")
    assert "--fine_trials is 3, where the search has 2" in err


@pytest.mark.slow
def test_workers_share_a_search_and_a_killed_one_comes_back(data):
    out = data / "shared"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def process(name):
        return start(
            "tools.tune",
            *train_flags(data),
            f"--output_dir={out}",
            "--coarse_trials=4",
            "--fine_trials=4",
            KERASTUNER_TUNER_ID=name,
            KERASTUNER_ORACLE_IP="127.0.0.1",
            KERASTUNER_ORACLE_PORT=str(port),
        )

    def ongoing():
        path = out / "search" / "oracle.json"
        if not path.exists():
            return {}
        return json.loads(path.read_text())["ongoing_trials"]

    # Workers may come before their chief.
    killed = process("worker_2")
    time.sleep(2)
    chief = process("chief")

    def is_training():
        number = ongoing().get("worker_2")
        return number and (out / "trials" / number / "settings.json").exists()

    wait_for(is_training, killed)
    killed.send_signal(signal.SIGKILL)
    _, before = killed.communicate()
    workers = [process("worker_1"), process("worker_2")]
    told = [worker.communicate(timeout=400) for worker in workers]
    chief_out, chief_err = chief.communicate(timeout=100)
    assert chief.returncode == 0, chief_err
    numbers = trained(before)
    for worker, (text, err) in zip(workers, told, strict=True):
        assert worker.returncode == 0, err
        assert "the chief writes its results" in text
        assert trained(err)
        numbers += trained(err)
    # Every trial was trained to its end once, in all.
    assert sorted(numbers) == list(range(1, 9))
    assert not trained(chief_err)
    assert (out / "trials.md").read_text() in chief_out
    trials = search_folder.read_trials(out)
    assert [t["stage"] for t in trials] == ["coarse"] * 4 + ["fine"] * 4
    best = search_folder.best_trial(trials)
    step_size = best["values"]["step_size"]
    text = (out / "best.cfg").read_text()
    assert f"--adv_step_size={step_size}\n" in text
    kept = list(out.glob("trials/*/model.weights.h5"))
    assert kept == [out / best["run_dir"] / "model.weights.h5"]
