"""The search: its grid, its stages, resuming, failures, several processes."""

import dataclasses
import json
import pathlib
import re
import socket

import pytest
import tensorflow as tf

from tests import tiny_run
from tfadv import files
from tfadv.adversaries.freelb import FreeLB
from tfadv.errors import InputError, NotFiniteLossError
from tfadv.robustness.settings import AttackSettings
from tfadv.runs import run_folder
from tfadv.tuning import oracle, search_folder, space, table, trials
from tfadv.tuning import search as searches
from tfadv.tuning.settings import Tuning

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:keras_tuner"
)

SMALL = Tuning(coarse_trials=4, fine_search="hyperband", fine_trials=2)
SETTINGS = tiny_run.settings(epochs=3, batch_size=10)


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
        assert settings.optimization.backup_seconds == 0
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
        steps = settings.optimization.max_steps or 27
        # Short trials look better than they are.
        return {"dev_accuracy": accuracy + (27 - steps) / 270, "steps": steps}


@pytest.fixture
def trainer(monkeypatch):
    def install(fail=None):
        stub = Trainer(fail)
        monkeypatch.setattr(trials.loop, "train", stub)
        # There are no models.
        monkeypatch.setattr(trials.keras.utils, "clear_session", lambda: None)
        monkeypatch.setattr(trials.gc, "collect", lambda: None)
        # There is no encoder either; its own test looks at this.
        monkeypatch.setattr(searches, "_check_encoder", lambda settings: None)
        return stub

    return install


def search(folder, tuned=SMALL, settings=SETTINGS, **options):
    return searches.search(
        tiny_run.dataset(), settings, tuned, folder, **options
    )


@pytest.mark.parametrize("fine_search", ["bayesian", "hyperband"])
def test_a_grid_then_a_finer_search_around_its_best_cell(
    fine_search, trainer, tmp_path, caplog
):
    caplog.set_level("INFO", "tfadv")
    trained = trainer()
    tuned = Tuning(coarse_trials=9, fine_search=fine_search, fine_trials=2)
    found = search(tmp_path / "out", tuned, flags="--plugin=mine\n")
    assert len(found) == len(trained.calls) == 11
    coarse, fine = found[:9], found[9:]
    assert [t["values"] for t in coarse] == space.coarse_grid(tuned)
    assert {t["stage"] for t in coarse} == {"coarse"}
    assert {t["stage"] for t in fine} == {"fine"}
    around = max(coarse, key=lambda trial: trial["objective"])
    bounds = space.fine_bounds(tuned, around["values"])
    for trial in fine:
        for name, (low, high) in bounds.items():
            assert low <= trial["values"][name] <= high, (name, trial)
    best = search_folder.best_trial(found)
    assert best["full"]
    out = tmp_path / "out"
    lines = (out / "best.cfg").read_text().splitlines()
    assert {
        "--plugin=mine",
        "--epochs=3",
        "--backup_seconds=60.0",
        *(f"--adv_{name}={value}" for name, value in best["values"].items()),
    } <= set(lines)
    lines = (out / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == found
    rows = (out / "trials.md").read_text().splitlines()[2:]
    assert len(rows) == 11
    assert rows[best["trial"] - 1].startswith(f"| {best['trial']} (best) ")
    assert (out / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert "trial 1 of 11 (coarse; init_magnitude 0, " in caplog.text
    assert f"; best so far {best['objective']:.4f}" in caplog.text
    # The disk holds one trial's weights, but all results.
    kept = [path.parent for path in out.glob("trials/*/model.weights.h5")]
    assert kept == [out / best["run_dir"]]
    assert len(list(out.glob("trials/*/results.json"))) == 11


@pytest.mark.parametrize("fine_search", ["bayesian", "hyperband"])
def test_nothing_is_tried_twice_where_there_is_nothing_else(
    fine_search, trainer, tmp_path
):
    trainer()
    tuned = Tuning((0.1,), (0.05,), (0.0,), (2, 4), 9, fine_search)
    found = search(tmp_path / "out", tuned)
    assert [trial["values"]["steps"] for trial in found] == [2, 3, 4]


@pytest.mark.slow
def test_the_gaussian_process_finds_better_than_the_grid(trainer, tmp_path):
    trainer()
    found = search(tmp_path / "out", Tuning(coarse_trials=12, fine_trials=14))
    best = max(trial["objective"] for trial in found)
    assert best > max(trial["objective"] for trial in found[:12])
    # The stub's best is 0.9; chance within the bounds gives 0.84.
    assert best > 0.89


def test_the_gaussian_process_learns_from_what_lies_within_its_bounds(
    trainer, tmp_path, monkeypatch
):
    seen = []

    def populate(self, trial_id):
        seen.append([t.hyperparameters.values for t in self.trials.values()])
        return self._random_populate_space()

    monkeypatch.setattr(
        oracle.keras_tuner.oracles.BayesianOptimizationOracle,
        "populate_space",
        populate,
    )
    trainer()
    tuned = Tuning(coarse_trials=24, fine_trials=3)
    found = search(tmp_path / "out", tuned)
    values = [trial["values"] for trial in found]
    best = search_folder.best_trial(found[:24])
    bounds = space.fine_bounds(tuned, best["values"])
    inside = [
        cell
        for cell in values[:24]
        if all(low <= cell[n] <= high for n, (low, high) in bounds.items())
    ]
    assert 1 < len(inside) < 24
    assert seen == [inside + values[24:end] for end in (24, 25, 26)]


def test_hyperband_trains_longer_what_was_good_when_trained_for_less(
    trainer, tmp_path
):
    trained = trainer()
    tuned = Tuning(coarse_trials=1, fine_search="hyperband", fine_trials=13)
    found = search(
        tmp_path / "out",
        tuned,
        tiny_run.changed(SETTINGS, max_steps=20),
    )
    updates = [trial["updates"] for trial in found]
    # A ninth, a third and all of 20.
    assert sorted(updates) == [3] * 9 + [7] * 3 + [20] * 2
    by_length = {
        length: sorted(
            (t for t in found[1:] if t["updates"] == length),
            key=lambda trial: -trial["objective"],
        )
        for length in (3, 7, 20)
    }
    values = {n: [t["values"] for t in of] for n, of in by_length.items()}
    assert all(v in values[3][:3] for v in values[7])
    assert values[20] == values[7][:1]
    assert search_folder.best_trial(found)["updates"] == 20
    trained_for = [call.optimization.max_steps for call in trained.calls]
    assert trained_for == updates
    # A short trial's flags.cfg says that it is short.
    for flags, count in zip(trained.flags, updates, strict=True):
        assert f"--max_steps={count}\n" in flags


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
    monkeypatch.setattr(table, "write", lambda folder, trials: None)
    for kill_at in range(1, 1000):
        folder, count = tmp_path / f"{kill_at}", kill_at
        trained.calls.clear()
        lost = None
        try:
            found = search(folder, tuned)
        except Killed as killed:
            lost, count = pathlib.Path(killed.args[0]), 0
            found = search(folder, tuned)
        assert [t["values"] for t in found] == [t["values"] for t in whole]
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
    found = search(tmp_path / "out")
    assert len(found) == 6
    assert len(ended.calls) == 3
    assert len(resumed.calls) == 4
    assert resumed.calls[0].adversary == ended.calls[2].adversary
    # At the end there is nothing left to do.
    again = trainer()
    assert search(tmp_path / "out") == found
    assert not again.calls


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            NotFiniteLossError("not-finite", "the loss became nan in step 2"),
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
    error, reason, trainer, tmp_path, capsys, caplog
):
    caplog.set_level("INFO", "tfadv")

    def fail(call, adversary):
        # Four in a row: keras-tuner's own limit would be three.
        if call < 5:
            raise error

    trained = trainer(fail)
    found = search(
        tmp_path / "out", dataclasses.replace(SMALL, coarse_trials=6)
    )
    assert len(trained.calls) == len(found) == 8
    assert [t["status"] for t in found] == ["failed"] * 4 + ["completed"] * 4
    assert found[0]["reason"].startswith(reason)
    assert found[0]["objective"] is None
    rows = (tmp_path / "out" / "trials.md").read_text().splitlines()[2:]
    assert f"failed: {reason}" in rows[0]
    assert search_folder.best_trial(found)["trial"] > 4
    assert f"steps 2): failed: {reason}" in caplog.text
    assert capsys.readouterr().err == ""


def test_where_all_trials_fail_one_line_says_so(trainer, tmp_path):
    def fail(call, adversary):
        raise NotFiniteLossError("not-finite", "the loss became inf in step 1")

    trained = trainer(fail)
    with pytest.raises(InputError) as raised:
        search(tmp_path / "out")
    assert raised.value.code == "all-trials-failed"
    assert "became inf" in raised.value.problem
    assert len(trained.calls) == 4
    assert "became inf" in (tmp_path / "out" / "trials.md").read_text()
    assert not (tmp_path / "out" / "best.cfg").exists()


@pytest.mark.parametrize(
    "error",
    [InputError("no-such-encoder", "there is none"), TypeError("a mistake")],
)
def test_what_no_hyperparameter_could_mend_stops_the_search(
    error, trainer, tmp_path
):
    def fail(call, adversary):
        raise error

    trained = trainer(fail)
    with pytest.raises(type(error)) as raised:
        search(tmp_path / "out")
    assert raised.value is error
    assert len(trained.calls) == 1
    # It is the user's to mend; then the search goes on.
    assert len(trainer().calls) == 0
    assert len(search(tmp_path / "out")) == 6


def test_a_resumed_search_must_be_the_same(trainer, tmp_path):
    """Though nothing but Python's arguments tells."""
    out = tmp_path / "out"
    trained = trainer()
    search(out)
    more = dataclasses.replace(SMALL, fine_trials=3)
    seeded = tiny_run.changed(SETTINGS, seed=1)
    for tuned, settings, paths in (
        (more, SETTINGS, ["fine_trials"]),
        (more, seeded, ["optimization.seed", "fine_trials"]),
    ):
        with pytest.raises(InputError) as raised:
            search(out, tuned, settings)
        assert raised.value.code == "another-search"
        assert raised.value.argument == "output_dir"
        assert re.findall("`([a-z_.]+)` is", raised.value.problem) == paths
    with pytest.raises(InputError) as raised:
        searches.search(tiny_run.dataset(test=0), SETTINGS, SMALL, out)
    assert "texts" in raised.value.problem
    assert len(trained.calls) == 6
    # What is searched is no setting of the search's.
    other = tiny_run.changed(SETTINGS, adversary=FreeLB(steps=9))
    search(out, settings=other)
    assert len(trained.calls) == 6
    search(out, more, seeded, overwrite=True)
    assert len(trained.calls) == 13
    record = json.loads((out / "search.json").read_text())
    assert record["tuning"]["fine_trials"] == 3
    assert record["settings"]["optimization"]["seed"] == 1


def test_a_folder_with_anything_else_is_refused(trainer, tmp_path):
    trained = trainer()
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for folder, code in (
        (run, "other-files"),
        (run / "results.json", "not-a-folder"),
    ):
        for overwrite in (False, True):
            with pytest.raises(InputError) as raised:
                search(folder, overwrite=overwrite)
            assert raised.value.code == code
    assert not trained.calls
    assert (run / "results.json").read_text() == "{}"


def test_a_search_that_cannot_be_is_refused_at_once(
    trainer, tmp_path, monkeypatch
):
    trained = trainer()
    out = tmp_path / "out"
    hyperband = Tuning(fine_search="hyperband")
    # 27 updates; CARL starts after 9, the short trials have 3.
    carl = tiny_run.changed(SETTINGS, method="carl")
    plain = tiny_run.changed(SETTINGS, method="baseline")
    for dataset, tuned, settings, code in (
        (tiny_run.dataset(dev=0), SMALL, SETTINGS, "no-dev-split"),
        (tiny_run.dataset(), SMALL, plain, "nothing-to-tune"),
        (tiny_run.dataset(), hyperband, carl, "starts-after-the-end"),
    ):
        with pytest.raises(InputError) as raised:
            searches.search(dataset, settings, tuned, out)
        assert raised.value.code == code
    assert "ninth" in raised.value.problem
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(InputError) as raised:
        search(out)
    assert raised.value.code == "incomplete-environment"
    assert "lacks KERASTUNER_ORACLE_IP and" in raised.value.problem
    assert not trained.calls
    assert not out.exists()


def test_an_encoder_is_checked_without_its_weights(tmp_path):
    folder = tiny_run.encoder_folder(tmp_path)
    (folder / "model.safetensors").write_bytes(b"never read")
    good = tiny_run.settings(folder, max_length=24)
    searches._check_encoder(good.encoder)
    long = tiny_run.settings(folder, max_length=25)
    with pytest.raises(InputError) as raised:
        search(tmp_path / "out", settings=long)
    assert raised.value.code == "max-length-too-large"
    (folder / "vocab.txt").write_text("\n".join([*tiny_run.PIECES, "more"]))
    with pytest.raises(InputError) as raised:
        search(tmp_path / "out", settings=good)
    assert raised.value.code == "vocabulary-too-large"
    assert not (tmp_path / "out").exists()


def test_what_is_left_of_a_deleted_search_is_not_resumed(trainer, tmp_path):
    trained = trainer()
    search(tmp_path / "out")
    (tmp_path / "out" / "search.json").unlink()
    search(tmp_path / "out")
    assert len(trained.calls) == 12


def test_the_largest_seed_is_a_seed(trainer, tmp_path):
    trainer()
    settings = tiny_run.changed(SETTINGS, seed=2**32 - 1)
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
        with pytest.raises(InputError) as raised:
            search(tmp_path / "out")
    assert raised.value.code == "no-address"
    assert f"127.0.0.1:{port}" in raised.value.problem


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
        assert attack["steps"] == 5
        return {"epsilons": [{"accuracy": 0.25}]}, None

    monkeypatch.setattr(trials.loop, "train", train)
    monkeypatch.setattr(trials.opening, "load", lambda folder: folder)
    monkeypatch.setattr(trials.measure, "measure", measure)
    monkeypatch.setattr(searches, "_check_encoder", lambda settings: None)
    only_mix = {"attack_share": 0.2} if objective == "mix" else {}
    attacked = {} if objective == "dev_accuracy" else {"epsilon": 0.3}
    [trial] = search(
        tmp_path / "out",
        Tuning(
            coarse_trials=1,
            fine_trials=0,
            objective=objective,
            attack=AttackSettings(steps=5, max_examples=7),
            **only_mix,
            **attacked,
        ),
    )
    assert trial["objective"] == pytest.approx(expected)
    attacked = None if objective == "dev_accuracy" else 0.25
    assert trial["attacked_accuracy"] == attacked
