"""The search: its grid, its stages, resuming, failures, several processes."""

import collections
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from tests import tiny_run
from tfadv import files
from tfadv.errors import InputError, NotFiniteLossError
from tfadv.runs import run_folder
from tfadv.training.settings import Settings
from tfadv.tuning import search as tuning
from tfadv.tuning import search_folder
from tfadv.tuning.search import Tuning

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:keras_tuner"
)

ROOT = pathlib.Path(__file__).parents[2]
SMALL = Tuning(coarse_trials=4, fine_search="hyperband", fine_trials=2)
SETTINGS = Settings(epochs=3, batch_size=10)


class Killed(BaseException):
    """What a process that is killed would not live to see."""


class Trainer:
    """Stands in for training: an accuracy that the hyperparameters tell."""

    def __init__(self, fail=None):
        self.calls = []
        self.flags = []
        self.fail = fail

    def __call__(self, dataset, settings, folder, flags, overwrite):
        assert dataset.test is None
        self.calls.append(settings)
        self.flags.append(flags)
        if self.fail:
            self.fail(len(self.calls), settings.adversary)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / run_folder.WEIGHTS).write_text("weights")
        (folder / run_folder.RESULTS).write_text("{}")
        found = settings.adversary
        accuracy = (
            0.9
            - 0.3 * (found.init_magnitude - 0.25) ** 2
            - 20 * (found.step_size - 0.06) ** 2
            - 0.2 * (found.max_norm - 0.3) ** 2
            - 0.01 * abs(found.steps - 3)
        )
        steps = settings.max_steps or 27
        # Short trials look better than they are.
        return {"dev_accuracy": accuracy + (27 - steps) / 270, "steps": steps}


@pytest.fixture
def trainer(monkeypatch):
    def install(fail=None):
        stub = Trainer(fail)
        monkeypatch.setattr(tuning.training, "train", stub)
        # There are no models.
        monkeypatch.setattr(tuning.keras.utils, "clear_session", lambda: None)
        monkeypatch.setattr(tuning.gc, "collect", lambda: None)
        return stub

    return install


def search(folder, tuned=SMALL, settings=SETTINGS, **options):
    return tuning.search(tiny_run.dataset(), settings, tuned, folder, **options)


def test_the_default_bounds_are_the_papers_and_the_grid_ends_at_them():
    values = {
        name: tuning.grid_values(name, *getattr(Tuning(), name))
        for name in tuning.NAMES
    }
    assert values == {
        "init_magnitude": [0.0, 0.4, 0.8],
        "step_size": [0.01, 0.0447214, 0.2],
        "max_norm": [0.0, 0.25, 0.5],
        "steps": [2, 3, 4],
    }
    assert tuning.grid_values("steps", 1, 9) == [1, 5, 9]
    assert tuning.grid_values("max_norm", 0.5, 0.5) == [0.5]


def test_the_grid_is_whole_where_it_fits_and_starts_inside_the_balls():
    cells = tuning.coarse_grid(Tuning(coarse_trials=1000))
    # 81 but those with gamma 0.8 in a ball of 0.25.
    assert len(cells) == 72
    assert len({tuple(cell.items()) for cell in cells}) == 72
    outside = [c for c in cells if c["max_norm"] == 0.25]
    assert {c["init_magnitude"] for c in outside} == {0.0, 0.4}


@pytest.mark.parametrize("count", [3, 9, 12, 24])
def test_a_part_of_the_grid_is_spread_over_all_of_its_values(count):
    cells = tuning.coarse_grid(Tuning(coarse_trials=count))
    assert cells == tuning.coarse_grid(Tuning(coarse_trials=count))
    assert len(cells) == count
    for name in tuning.NAMES:
        taken = collections.Counter(cell[name] for cell in cells)
        assert len(taken) == 3
        # A little apart, for there are no cells with a start outside.
        assert max(taken.values()) - min(taken.values()) <= 1 + count // 8
    if count >= 9:
        pairs = {(c["step_size"], c["steps"]) for c in cells}
        assert len(pairs) == 9


def test_the_fine_bounds_are_the_neighbours_in_the_grid():
    best = {
        "init_magnitude": 0.4,
        "step_size": 0.01,
        "max_norm": 0.25,
        "steps": 4,
    }
    assert tuning.fine_bounds(Tuning(), best) == {
        "init_magnitude": (0.0, 0.8),
        "step_size": (0.01, 0.0447214),
        # Not 0, which is no limit.
        "max_norm": (0.125, 0.5),
        "steps": (3, 4),
    }
    best["max_norm"] = 0.0
    assert tuning.fine_bounds(Tuning(), best)["max_norm"] == (0.0, 0.0)
    fixed = Tuning(step_size=(0.05, 0.05))
    best["step_size"] = 0.05
    assert tuning.fine_bounds(fixed, best)["step_size"] == (0.05, 0.05)


@pytest.mark.parametrize("fine_search", ["bayesian", "hyperband"])
def test_a_grid_then_a_finer_search_around_its_best_cell(
    fine_search, trainer, tmp_path, capsys
):
    trained = trainer()
    tuned = Tuning(coarse_trials=9, fine_search=fine_search, fine_trials=2)
    trials = search(tmp_path / "out", tuned, train_flags=json.dumps)
    assert len(trials) == len(trained.calls) == 11
    coarse, fine = trials[:9], trials[9:]
    assert [t["values"] for t in coarse] == tuning.coarse_grid(tuned)
    assert {t["stage"] for t in coarse} == {"coarse"}
    assert {t["stage"] for t in fine} == {"fine"}
    around = max(coarse, key=lambda trial: trial["objective"])
    bounds = tuning.fine_bounds(tuned, around["values"])
    for trial in fine:
        for name, (low, high) in bounds.items():
            assert low <= trial["values"][name] <= high, (name, trial)
    best = search_folder.best_trial(trials)
    assert best["full"]
    out = tmp_path / "out"
    assert json.loads((out / "best.cfg").read_text()) == {
        f"adv_{name}": value for name, value in best["values"].items()
    }
    lines = (out / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == trials
    rows = (out / "trials.md").read_text().splitlines()[4:]
    assert len(rows) == 11
    assert rows[best["trial"] - 1].startswith(f"| {best['trial']} (best) ")
    assert (out / "trials.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    assert "trial 1 of 11 (coarse; init_magnitude 0, " in told
    assert f"; best so far {best['objective']:.4f}" in told
    # The disk holds one trial's weights, but all results.
    kept = [path.parent for path in out.glob("trials/*/model.weights.h5")]
    assert kept == [out / best["run_dir"]]
    assert len(list(out.glob("trials/*/results.json"))) == 11


@pytest.mark.parametrize("fine_search", ["bayesian", "hyperband"])
def test_nothing_is_tried_twice_where_there_is_nothing_else(
    fine_search, trainer, tmp_path
):
    trainer()
    tuned = Tuning((0.1, 0.1), (0.05, 0.05), (0.0, 0.0), (2, 4), 9, fine_search)
    trials = search(tmp_path / "out", tuned)
    assert [trial["values"]["steps"] for trial in trials] == [2, 3, 4]


@pytest.mark.slow
def test_the_gaussian_process_finds_better_than_the_grid(trainer, tmp_path):
    trainer()
    trials = search(tmp_path / "out", Tuning(coarse_trials=12, fine_trials=14))
    best = max(trial["objective"] for trial in trials)
    assert best > max(trial["objective"] for trial in trials[:12])
    # The stub's best is 0.9; chance within the bounds gives 0.84.
    assert best > 0.89


def test_the_gaussian_process_learns_from_what_lies_within_its_bounds(
    trainer, tmp_path, monkeypatch
):
    seen = []

    def populate(oracle, trial_id):
        seen.append([t.hyperparameters.values for t in oracle.trials.values()])
        return oracle._random_populate_space()

    monkeypatch.setattr(
        tuning.keras_tuner.oracles.BayesianOptimizationOracle,
        "populate_space",
        populate,
    )
    trainer()
    tuned = Tuning(coarse_trials=24, fine_trials=3)
    found = search(tmp_path / "out", tuned)
    trials = [trial["values"] for trial in found]
    best = search_folder.best_trial(found[:24])
    bounds = tuning.fine_bounds(tuned, best["values"])
    inside = [
        cell
        for cell in trials[:24]
        if all(low <= cell[n] <= high for n, (low, high) in bounds.items())
    ]
    assert 1 < len(inside) < 24
    assert seen == [inside + trials[24:end] for end in (24, 25, 26)]


def test_hyperband_trains_longer_what_was_good_when_trained_for_less(
    trainer, tmp_path
):
    trained = trainer()
    tuned = Tuning(coarse_trials=1, fine_search="hyperband", fine_trials=13)
    trials = search(
        tmp_path / "out",
        tuned,
        dataclasses.replace(SETTINGS, max_steps=20),
        train_flags=json.dumps,
    )
    updates = [trial["updates"] for trial in trials]
    # A ninth, a third and all of 20.
    assert sorted(updates) == [3] * 9 + [7] * 3 + [20] * 2
    by_length = {
        length: sorted(
            (t for t in trials[1:] if t["updates"] == length),
            key=lambda trial: -trial["objective"],
        )
        for length in (3, 7, 20)
    }
    values = {n: [t["values"] for t in of] for n, of in by_length.items()}
    assert all(v in values[3][:3] for v in values[7])
    assert values[20] == values[7][:1]
    assert search_folder.best_trial(trials)["updates"] == 20
    assert [settings.max_steps for settings in trained.calls] == updates
    # A short trial's flags.cfg says that it is short.
    assert [
        json.loads(flags).get("max_steps", 20) for flags in trained.flags
    ] == updates


def test_a_random_start_outside_of_the_ball_is_taken_back():
    values = {"init_magnitude": 0.8, "max_norm": 0.1234567, "steps": 3}
    found = tuning._feasible(values)
    assert found["max_norm"] == 0.123457
    assert 0.2138 < found["init_magnitude"] < 3**0.5 * 0.123457
    values = {"init_magnitude": 0.8, "max_norm": 0.0, "steps": 3}
    assert tuning._feasible(values) == values


@pytest.mark.slow
@pytest.mark.parametrize("fine_search", ["bayesian", "hyperband"])
def test_it_goes_on_wherever_it_was_ended(
    fine_search, trainer, tmp_path, monkeypatch
):
    tuned = Tuning(coarse_trials=2, fine_search=fine_search, fine_trials=2)
    trained = trainer()
    whole = search(tmp_path / "whole", tuned)
    write, count = files.write_text, 0

    def write_until(path, text):
        nonlocal count
        count -= 1
        if count == 0:
            raise Killed(path)
        write(path, text)

    monkeypatch.setattr(files, "write_text", write_until)
    monkeypatch.setattr(search_folder, "write", lambda folder, trials: None)
    for kill_at in range(1, 1000):
        folder, count = tmp_path / f"{kill_at}", kill_at
        trained.calls.clear()
        lost = None
        try:
            trials = search(folder, tuned)
        except Killed as killed:
            lost, count = pathlib.Path(killed.args[0]), 0
            trials = search(folder, tuned)
        assert [t["values"] for t in trials] == [t["values"] for t in whole]
        repeated = lost is not None and lost.name == search_folder.MEASURED
        assert len(trained.calls) == 4 + repeated, (kill_at, lost)
        assert (folder / "best.cfg").exists()
        if lost is None:
            break
    # Every trial writes several files, and each of them was tried.
    assert kill_at > 20


def test_a_trial_that_was_ended_in_training_is_trained_again(trainer, tmp_path):
    def fail(call, adversary):
        if call == 3:
            raise Killed

    ended = trainer(fail)
    with pytest.raises(Killed):
        search(tmp_path / "out")
    resumed = trainer()
    trials = search(tmp_path / "out")
    assert len(trials) == 6
    assert len(ended.calls) == 3
    assert len(resumed.calls) == 4
    assert resumed.calls[0].adversary.get_config() == (
        ended.calls[2].adversary.get_config()
    )
    # At the end there is nothing left to do.
    again = trainer()
    assert search(tmp_path / "out") == trials
    assert not again.calls


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            NotFiniteLossError("the loss became nan in step 2"),
            "the loss became nan",
        ),
        (MemoryError(), "out of memory (MemoryError)"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
            "out of memory (ResourceExhaustedError)",
        ),
    ],
)
def test_failed_trials_are_told_and_the_search_goes_on(
    error, reason, trainer, tmp_path, capsys
):
    def fail(call, adversary):
        # Four in a row: keras-tuner's own limit would be three.
        if call < 5:
            raise error

    trained = trainer(fail)
    trials = search(
        tmp_path / "out", dataclasses.replace(SMALL, coarse_trials=6)
    )
    assert len(trained.calls) == len(trials) == 8
    assert [t["status"] for t in trials] == ["failed"] * 4 + ["completed"] * 4
    assert trials[0]["reason"].startswith(reason)
    assert trials[0]["objective"] is None
    rows = (tmp_path / "out" / "trials.md").read_text().splitlines()[4:]
    assert f"failed: {reason}" in rows[0]
    assert search_folder.best_trial(trials)["trial"] > 4
    told = capsys.readouterr()
    assert f"steps 2): failed: {reason}" in told.out
    assert told.err == ""


def test_where_all_trials_fail_one_line_says_so(trainer, tmp_path):
    def fail(call, adversary):
        raise NotFiniteLossError("the loss became inf in step 1")

    trained = trainer(fail)
    with pytest.raises(InputError, match=r"all 4 trials failed.*became inf"):
        search(tmp_path / "out")
    assert len(trained.calls) == 4
    assert "became inf" in (tmp_path / "out" / "trials.md").read_text()
    assert not (tmp_path / "out" / "best.cfg").exists()


@pytest.mark.parametrize(
    "error", [InputError("there is no such encoder"), TypeError("a mistake")]
)
def test_what_no_hyperparameter_could_mend_stops_the_search(
    error, trainer, tmp_path
):
    def fail(call, adversary):
        raise error

    trained = trainer(fail)
    with pytest.raises(type(error), match=str(error)):
        search(tmp_path / "out")
    assert len(trained.calls) == 1
    # It is the user's to mend; then the search goes on.
    assert len(trainer().calls) == 0
    assert len(search(tmp_path / "out")) == 6


def test_a_resumed_search_must_be_the_same(trainer, tmp_path):
    trained = trainer()
    flags = "--fine_trials=2\n--tune_steps=2,4\n"
    search(tmp_path / "out", flags=flags)
    changed = "--fine_trials=3\n--tune_steps=2,4\n--seed=1\n"
    with pytest.raises(InputError) as raised:
        search(tmp_path / "out", flags=changed)
    assert (
        "--fine_trials=3, where the search has --fine_trials=2; --seed=1, "
        "where the search has no --seed"
    ) in str(raised.value)
    assert len(trained.calls) == 6
    search(tmp_path / "out", flags=changed, overwrite=True)
    assert len(trained.calls) == 12
    assert (tmp_path / "out" / "search.cfg").read_text() == changed


def test_a_folder_with_anything_else_is_refused(trainer, tmp_path):
    trained = trainer()
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"in use, it holds results\.json"):
            search(run, overwrite=overwrite)
        with pytest.raises(InputError, match="found a file"):
            search(tmp_path / "file", overwrite=overwrite)
    assert not trained.calls
    assert (run / "results.json").read_text() == "{}"


def test_a_search_that_cannot_be_is_refused_at_once(
    trainer, tmp_path, monkeypatch
):
    trained = trainer()
    with pytest.raises(InputError, match="tiny has no dev split"):
        tuning.search(
            tiny_run.dataset(dev=0), SETTINGS, SMALL, tmp_path / "out"
        )
    with pytest.raises(InputError, match="nothing to tune"):
        search(tmp_path / "out", settings=Settings(method="baseline"))
    outside = Tuning(init_magnitude=(0.8, 0.8), max_norm=(0.1, 0.2))
    with pytest.raises(InputError, match="every random start"):
        search(tmp_path / "out", outside)
    hyperband = Tuning(fine_search="hyperband")
    # 27 updates; CARL starts after 9, the short trials have 3.
    carl = dataclasses.replace(SETTINGS, method="carl")
    with pytest.raises(InputError, match=r"ninth.*the run has 3 updates"):
        search(tmp_path / "out", hyperband, carl)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(InputError, match="lacks KERASTUNER_ORACLE_IP and"):
        search(tmp_path / "out")
    assert not trained.calls
    assert not (tmp_path / "out").exists()


def test_what_is_left_of_a_deleted_search_is_not_resumed(trainer, tmp_path):
    trained = trainer()
    search(tmp_path / "out")
    (tmp_path / "out" / "search.cfg").unlink()
    search(tmp_path / "out")
    assert len(trained.calls) == 12


def test_the_largest_seed_is_a_seed(trainer, tmp_path):
    trainer()
    settings = dataclasses.replace(SETTINGS, seed=2**32 - 1)
    tuned = Tuning(coarse_trials=1, fine_trials=1)
    assert len(search(tmp_path / "out", tuned, settings)) == 2


def test_a_chief_needs_a_free_port(trainer, tmp_path, monkeypatch):
    trainer()
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        port = str(used.getsockname()[1])
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", port)
        with pytest.raises(InputError, match=f"listen at 127.0.0.1:{port}"):
            search(tmp_path / "out")


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("dev_accuracy", 0.75), ("attacked_accuracy", 0.25), ("mix", 0.65)],
)
def test_objectives(objective, expected, monkeypatch, tmp_path):
    def train(dataset, settings, folder, flags, overwrite):
        return {"dev_accuracy": 0.75, "steps": 1}

    def measure(run, examples, epsilons, batch_size, **attack):
        assert run == tmp_path / "out" / "trials" / "0"
        assert list(examples.texts) == tiny_run.dataset().dev.texts[:7]
        assert len(examples.labels) == 7
        assert epsilons == [0.3]
        assert attack == {"steps": 5}
        return {"epsilons": [{"accuracy": 0.25}]}, None

    monkeypatch.setattr(tuning.training, "train", train)
    monkeypatch.setattr(tuning.run_folder, "load", lambda folder: folder)
    monkeypatch.setattr(tuning.robustness, "measure", measure)
    [trial] = search(
        tmp_path / "out",
        Tuning(
            coarse_trials=1,
            fine_trials=0,
            objective=objective,
            attack_share=0.2,
            epsilon=0.3,
            attack={"steps": 5},
            max_examples=7,
        ),
    )
    assert trial["objective"] == pytest.approx(expected)
    attacked = None if objective == "dev_accuracy" else 0.25
    assert trial["attacked_accuracy"] == attacked


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
    process = start(tool, *flags, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


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


BAD_INPUT = {
    "no output": ([], "--output_dir"),
    "bounds upside down": (["--tune_step_size=0.2,0.1"], "--tune_step_size="),
    "alpha zero": (["--tune_step_size=0,0.1"], "--tune_step_size="),
    "three bounds": (["--tune_max_norm=0,1,2"], "--tune_max_norm="),
    "no bound": (["--tune_max_norm="], "--tune_max_norm="),
    "NaN": (["--tune_init_magnitude=0,nan"], "--tune_init_magnitude="),
    "half a pass": (["--tune_steps=2,2.5"], "--tune_steps="),
    "no trials": (["--coarse_trials=0"], "--coarse_trials=0"),
    "share above 1": (
        ["--tune_objective=mix", "--tune_attack_share=1.5"],
        "--tune_attack_share=1.5",
    ),
    "nothing to tune": (["--method=baseline"], "--method=baseline"),
    "all starts outside": (
        ["--tune_init_magnitude=0.5,0.8", "--tune_max_norm=0.1,0.2"],
        "tune_init_magnitude=['0.5', '0.8'], tune_max_norm=['0.1', '0.2']: "
        "clash",
    ),
    "share of nothing": (
        ["--tune_objective=attacked_accuracy", "--tune_attack_share=0.2"],
        "tune_objective=attacked_accuracy, tune_attack_share=0.2: clash",
    ),
    "attack of nothing": (
        ["--tune_epsilon=0.3"],
        "tune_objective=dev_accuracy, tune_epsilon=0.3: clash",
    ),
    "folder in use": (["--output_dir={data}"], "in use, it holds dev.csv"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_code_2(data, tmp_path, case):
    # A TensorFlow that cannot be imported comes first on the path.
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError")
    arguments, message = BAD_INPUT[case]
    out = [f"--output_dir={tmp_path}/out"] if arguments else []
    code, _, err = call(
        "tools.tune",
        *train_flags(data),
        *out,
        *(argument.format(data=data) for argument in arguments),
        PYTHONPATH=str(tmp_path),
    )
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "out").exists()


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
    assert trained(told) == [1, 2]
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
    code, told, err = call(
        "tools.train",
        f"--flagfile={out}/best.cfg",
        f"--output_dir={data}/best",
    )
    assert code == 0, err
    results = json.loads((data / "best" / "results.json").read_text())
    assert results["dev_accuracy"] == best["dev_accuracy"]
    assert results["test_accuracy"] is not None
    run = json.loads((data / "best" / "run.json").read_text())
    assert best["values"].items() <= run["adversary"].items()


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
    wait_for(lambda: (out / "trials" / "2" / "run.json").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = results_times(out)
    assert len(before) == 2
    code, told, err = call(*command)
    assert code == 0, err
    assert trained(told) == [3, 4, 5]
    after = results_times(out)
    assert len(after) == 5
    assert {path: after[path] for path in before} == before
    code, told, err = call(*command, "--fine_trials=3")
    assert code == 2
    assert err.count("\n") == 1, err
    assert "--fine_trials=3, where the search has --fine_trials=2" in err


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
        return number and (out / "trials" / number / "run.json").exists()

    wait_for(is_training, killed)
    killed.send_signal(signal.SIGKILL)
    before, _ = killed.communicate()
    workers = [process("worker_1"), process("worker_2")]
    told = [worker.communicate(timeout=400) for worker in workers]
    chief_out, chief_err = chief.communicate(timeout=100)
    assert chief.returncode == 0, chief_err
    numbers = trained(before)
    for worker, (text, err) in zip(workers, told, strict=True):
        assert worker.returncode == 0, err
        assert "the chief writes its results" in text
        assert trained(text)
        numbers += trained(text)
    # Every trial was trained to its end once, in all.
    assert sorted(numbers) == list(range(1, 9))
    assert not trained(chief_out)
    assert (out / "trials.md").read_text() in chief_out
    trials = search_folder.read_trials(out)
    assert [t["stage"] for t in trials] == ["coarse"] * 4 + ["fine"] * 4
    best = search_folder.best_trial(trials)
    step_size = best["values"]["step_size"]
    text = (out / "best.cfg").read_text()
    assert f"--adv_step_size={step_size}\n" in text
    kept = list(out.glob("trials/*/model.weights.h5"))
    assert kept == [out / best["run_dir"] / "model.weights.h5"]
