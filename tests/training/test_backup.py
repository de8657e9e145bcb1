"""Killed anywhere, a run goes on and ends as if nothing had happened."""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import random
import re
import shutil
import signal
import threading

import keras
import numpy as np
import pytest
import safetensors
import tensorflow as tf

import tfadv
from tests import kill_runs, tiny_run
from tests.tiny_run import changed
from tfadv import files
from tfadv.errors import InputError, TerminatedError
from tfadv.objectives.settings import ContrastiveSettings
from tfadv.runs import record, run_folder
from tfadv.runs.run import build_classifier, part_to_keep
from tfadv.training import backup, callbacks, loop

STATE = "backup/state.safetensors"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="module")
def settings(encoder):
    return tiny_run.settings(
        encoder,
        adversary=tfadv.FreeLB(steps=1, step_size=0.1, init_magnitude=0.1),
        max_length=16,
        epochs=3,
        max_steps=31,
        batch_size=8,
        learning_rate=0.008,
        backup_seconds=1e-6,
    )


@pytest.fixture(autouse=True)
def patched(monkeypatch):
    """Writes a backup after every update, and keeps the last one."""
    monkeypatch.setattr(backup, "_LARGEST_SHARE", float("inf"))
    delete = backup.Backup.delete

    def kept(self):
        if self.path.exists():
            shutil.copyfile(self.path, kill_runs.state_of(self.folder))
        delete(self)

    monkeypatch.setattr(backup.Backup, "delete", kept)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The folder of a run that was never cut off."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as monkeypatch:
        patched.__wrapped__(monkeypatch)
        loop.train(tiny_run.dataset(), settings, folder)
    return folder


class CutError(Exception):
    """Stands for what ends a process."""


@contextlib.contextmanager
def acting_at(update, act):
    """Calls `act` at the end of an update while the context lasts."""
    counted = callbacks.StopAtStep.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        counted(self, batch, logs)
        if self._steps == update:
            act()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(
            callbacks.StopAtStep, "on_train_batch_end", on_train_batch_end
        )
        yield


def die():
    raise CutError


@pytest.fixture(scope="module")
def cut_once(settings, tmp_path_factory):
    """The folder of a run that was cut off in update 17, in epoch 2."""
    folder = tmp_path_factory.mktemp("runs") / "cut"
    with pytest.MonkeyPatch.context() as monkeypatch:
        patched.__wrapped__(monkeypatch)
        with acting_at(17, die), pytest.raises(CutError):
            loop.train(tiny_run.dataset(), settings, folder)
    return folder


@pytest.fixture
def cut(cut_once, tmp_path):
    """A copy of it, to go on with."""
    return shutil.copytree(cut_once, tmp_path / "run")


def classifier_of(encoder, seed, precision="mixed_float16", examples=90):
    """A CARL and RAR classifier, all of whose variables depend on the seed."""
    keras.utils.set_random_seed(seed)
    train = tiny_run.examples(examples, 0)
    described = tiny_run.record(
        method="carl_rar",
        objectives={
            "contrastive": ContrastiveSettings(
                num_negatives=10, bank_dtype="bfloat16"
            )
        },
        adversary=tfadv.FreeLB(steps=2),
        precision=precision,
        seed=seed,
    )
    classifier = build_classifier(encoder, described, train_labels=train.labels)
    classifier.compile(keras.optimizers.Adam(0.1), "mse", metrics=["accuracy"])
    loop._make_variables(classifier)
    rng = np.random.default_rng(seed)
    for variable in backup._variables(classifier).values():
        new = rng.uniform(0, 9, variable.shape)
        variable.assign(tf.cast(new, variable.dtype))
    contrastive = classifier.objectives[0]
    contrastive.bank.clean.assign(
        tf.cast(rng.normal(size=[examples, 8]), tf.bfloat16)
    )
    contrastive.log_z.assign([seed, np.nan])
    return classifier


def remembered(classifier):
    return {
        name: (array.dtype, array.shape, array.tobytes())
        for name, array in backup._arrays(classifier).items()
    }


def a_backup(folder, classifier, **identity):
    folder.mkdir(exist_ok=True)
    return backup.Backup(folder, classifier, [], identity, 10, 30)


def test_a_backup_holds_all_of_a_classifier(encoder, tmp_path):
    first = classifier_of(encoder, seed=1)
    first.objectives[0].join()
    kept = a_backup(tmp_path, first)
    kept.updates = 14
    kept.write()
    assert not list((tmp_path / "backup").glob("partial*"))
    second = classifier_of(encoder, seed=2)
    expected = remembered(first)
    assert {kind.name for kind, _, _ in expected.values()} >= {
        "bool",
        "int64",
        "float32",
        "bfloat16",
    }
    different = remembered(second)
    assert sum(expected[n] != different[n] for n in different) > 80
    again = a_backup(tmp_path, second)
    again.restore()
    assert again.updates == 14
    assert second.objectives[0].active
    second.reset_metrics()
    again.on_epoch_begin(1)
    assert remembered(second) == expected


def test_others_read_a_backup_too(encoder, tmp_path):
    classifier = classifier_of(encoder, seed=1)
    a_backup(tmp_path, classifier).write()
    with safetensors.safe_open(tmp_path / STATE, framework="np") as file:
        np.testing.assert_array_equal(
            file.get_tensor("classifier/1"), classifier.variables[1].numpy()
        )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: os.truncate(path, 9000), "safetensors|nvalid|ncomplete"),
        (lambda path: os.truncate(path, 0), "eader"),
        (lambda path: path.write_bytes(b"\x80\x04K\x01." * 99), "eader"),
        (
            lambda path: safetensors.numpy.save_file(
                {"classifier/0": np.zeros(3)}, path
            ),
            "not subscriptable",
        ),
        (
            lambda path: safetensors.numpy.save_file(
                {"classifier/0": np.zeros(3)},
                path,
                {"progress": '{"format": 1, "identity": {"seed": 1}}'},
            ),
            "it has 1 variables",
        ),
        (
            lambda path: safetensors.numpy.save_file(
                {"a": np.zeros(3)}, path, {"progress": '{"format": 2}'}
            ),
            "it has format 2, not 1",
        ),
    ],
)
def test_a_damaged_or_foreign_backup_is_one_line(
    encoder, tmp_path, damage, reason
):
    classifier = classifier_of(encoder, seed=1)
    kept = a_backup(tmp_path, classifier, seed=1)
    kept.write()
    damage(kept.path)
    before = remembered(classifier)
    with pytest.raises(InputError) as error:
        kept.restore()
    assert error.value.code == "bad-backup"
    assert re.search(reason, error.value.problem)
    assert "\n" not in str(error.value)
    assert "`overwrite`" in error.value.remedy
    assert remembered(classifier) == before


def test_a_backup_of_other_shapes_or_of_another_run_is_refused(
    encoder, tmp_path
):
    a_backup(tmp_path, classifier_of(encoder, seed=1), rate=0.1).write()
    fewer = classifier_of(encoder, seed=1, examples=50)
    fewer.objectives[0].join()
    other = a_backup(tmp_path, fewer, rate=0.2)
    with pytest.raises(InputError) as error:
        other.restore()
    assert error.value.code == "another-run"
    plain = classifier_of(encoder, seed=1, precision="float32")
    with pytest.raises(InputError) as error:
        a_backup(tmp_path, plain, rate=0.1).restore()
    assert error.value.code == "bad-backup"
    assert re.search(r"variables, optimizer/\d+ differs", error.value.problem)


def test_a_bank_of_another_size_is_refused(encoder, tmp_path):
    started = classifier_of(encoder, seed=1)
    started.objectives[0].join()
    a_backup(tmp_path, started).write()
    fewer = classifier_of(encoder, seed=1, examples=50)
    with pytest.raises(InputError) as error:
        a_backup(tmp_path, fewer).restore()
    assert error.value.code == "bank-of-another-shape"


def test_backups_take_no_more_than_their_share(monkeypatch):
    monkeypatch.setattr(backup, "_LARGEST_SHARE", 0.02)
    now, written = [0.0], []
    monkeypatch.setattr(backup.time, "perf_counter", lambda: now[0])

    def write(path, classifier, progress):
        now[0] += 3.0
        written.append(now[0])

    monkeypatch.setattr(backup, "_write", write)
    kept = backup.Backup("run", None, [], {}, 1000, 9000, 60.0)
    kept.set_model(None)
    while now[0] < 500:
        now[0] += 1.0
        kept.on_train_batch_end(0)
    # 60 seconds, then 3 / 2 % = 150.
    assert written == [63.0, 216.0, 369.0]
    now[0] += 20.0
    # The end of an epoch waits for its share alone.
    kept.on_epoch_end(0)
    assert written == [63.0, 216.0, 369.0, now[0]]


def test_weights_wait_until_a_backup_speaks_of_them(encoder, tmp_path):
    room = tmp_path / "backup"

    def one():
        best = callbacks.BestWeights(tmp_path / "m.weights.h5", "x", room)
        best.set_model(classifier)
        return best

    def bias_of(path):
        fresh = tfadv.AdversarialClassifier(
            tfadv.Encoder.from_pretrained(encoder), num_classes=2
        )
        part_to_keep(fresh).load_weights(path)
        return float(fresh.head.bias[0])

    classifier = tfadv.AdversarialClassifier(
        tfadv.Encoder.from_pretrained(encoder), num_classes=2
    )
    best = one()
    for epoch, value in enumerate([0.5, 0.9, 0.7]):
        classifier.head.bias.assign([epoch, epoch])
        best.on_epoch_end(epoch, {"x": value})
        if epoch == 0:
            best.on_backup()
            state = best.get_state()
    assert bias_of(best.path) == 0.0
    # The backup is that of epoch 1: epoch 2 comes again.
    best = one()
    best.set_state(state)
    assert (best.best_epoch, best.best_value) == (1, 0.5)
    assert bias_of(best.path) == 0.0
    assert not list(room.iterdir())
    # Cut off between the backup and the renaming.
    classifier.head.bias.assign([7.0, 7.0])
    best.on_epoch_end(1, {"x": 0.8})
    again = one()
    again.set_state(best.get_state())
    assert bias_of(again.path) == 7.0
    again.path.unlink()
    with pytest.raises(ValueError, match=r"there is no m\.weights\.h5"):
        again.set_state(best.get_state())


def add_seconds(path):
    """Makes a backup that of a run which has been training for long."""
    with safetensors.safe_open(path, framework="np") as file:
        progress = json.loads(file.metadata()["progress"])
        tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    progress["train_seconds"] += 1000
    for state in progress["callbacks"]:
        if "seconds" in state:
            state["seconds"] += 500
    metadata = {"progress": json.dumps(progress)}
    safetensors.numpy.save_file(tensors, path, metadata)


def test_a_run_that_was_cut_off_goes_on(settings, whole, cut, caplog):
    caplog.set_level("INFO", "tfadv")
    with pytest.raises(InputError) as error:
        tfadv.load(cut)
    assert error.value.code == "not-whole"
    add_seconds(cut / STATE)
    results = loop.train(tiny_run.dataset(), settings, cut)
    assert "resuming at update 16 of 31" in caplog.text
    assert kill_runs.differences(cut, whole) == []
    # Times are those of both processes.
    assert 1000 < results["train_seconds"] < 1100
    assert 500 / 31 < results["seconds_per_step"] < 550 / 28
    lines = (cut / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    assert [s > 500 for s in seconds] == [False, True, False]
    # It is whole now.
    assert not (cut / "backup").exists()
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), settings, cut)
    assert error.value.code == "run-exists"


def test_a_full_disk_leaves_the_last_backup(
    settings, whole, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    fsync, left = os.fsync, [20]

    def full(descriptor):
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError) as error:
            loop.train(tiny_run.dataset(), settings, folder)
    assert error.value.code == "unwritable"
    assert "No space left on device" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(folder.rglob("partial*"))
    loop.train(tiny_run.dataset(), settings, folder)
    assert kill_runs.differences(folder, whole) == []


def test_sigterm_ends_training_with_a_backup(settings, tmp_path):
    folder = tmp_path / "run"
    seldom = changed(settings, backup_seconds=1000.0)
    handler = signal.getsignal(signal.SIGTERM)
    with (
        acting_at(5, lambda: os.kill(os.getpid(), signal.SIGTERM)),
        pytest.raises(TerminatedError, match="after update 5 of 31; the same"),
    ):
        loop.train(tiny_run.dataset(), seldom, folder)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert (folder / STATE).exists()


def test_signals_are_the_main_threads_alone(tmp_path):
    found = []

    def look():
        kept = backup.Backup(tmp_path, None, [], {}, 10, 30)
        with kept.sigterm_ends_training():
            found.append(signal.getsignal(signal.SIGTERM))

    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [handler]


def test_what_is_not_the_same_run_is_refused(settings, cut):
    """Runs that are made in Python, where no flags tell them apart."""
    before = (cut / STATE).read_bytes()
    dataset = tiny_run.dataset()
    texts = ["a dull plot", *dataset.train.texts[1:]]
    others = dataclasses.replace(
        dataset, train=dataclasses.replace(dataset.train, texts=texts)
    )
    for data, changes, names in (
        (dataset, {"learning_rate": 0.01}, ["optimization.learning_rate"]),
        (
            dataset,
            {
                "seed": 2,
                "adversary": dataclasses.replace(settings.adversary, steps=2),
            },
            ["adversary.steps", "optimization.seed"],
        ),
        (
            dataset,
            {"method": "rar"},
            ["method", "objectives.reconstruction.weight"],
        ),
        (others, {}, []),
    ):
        with pytest.raises(InputError) as error:
            loop.train(data, changed(settings, **changes), cut)
        assert error.value.code == "another-run"
        assert (error.value.argument, error.value.value) == (
            "output_dir",
            str(cut),
        )
        told = re.findall("`([a-z_.]+)` is", error.value.problem)
        assert told[: len(names)] == names
        assert told or "texts" in error.value.problem
    assert (cut / STATE).read_bytes() == before


def test_how_often_backups_are_written_is_free_to_change(settings):
    dataset = tiny_run.dataset()
    record.check_same(
        record.identity(changed(settings, backup_seconds=5.0), dataset),
        record.identity(settings, dataset),
        "run",
    )


def test_overwrite_starts_anew(settings, cut):
    same = record.identity(settings, tiny_run.dataset())
    assert run_folder.check_output(cut, False, same) is True
    other = record.identity(changed(settings, seed=2), tiny_run.dataset())
    assert run_folder.check_output(cut, True, other) is False
    run_folder.create(cut, tiny_run.record(), "")
    names = sorted(p.name for p in cut.iterdir())
    assert names == ["flags.cfg", "settings.json"]


def test_without_backups_a_run_starts_anew(settings, whole, cut):
    none = changed(settings, backup_seconds=0.0)
    # It goes on from the one that there is, and leaves none.
    with acting_at(30, die), pytest.raises(CutError):
        loop.train(tiny_run.dataset(), none, cut)
    assert not (cut / STATE).exists()
    assert (cut / "model.weights.h5").exists()
    loop.train(tiny_run.dataset(), none, cut)
    assert not (cut / "backup").exists()
    shutil.copyfile(kill_runs.state_of(whole), kill_runs.state_of(cut))
    for name in ("settings.json", "flags.cfg"):
        # They tell that there were none.
        text = (cut / name).read_text()
        assert re.search(r'backup_seconds("|=).*0\.0', text)
        shutil.copyfile(whole / name, cut / name)
    assert kill_runs.differences(cut, whole) == []


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (["settings.json"], None),
        (["partial.settings.json"], None),
        (["settings.json", "partial.flags.cfg"], None),
        (["settings.json", "flags.cfg", "encoder", "tensorboard"], None),
        (["settings.json", "evaluation.json"], "run-exists"),
        (["metrics.jsonl"], "run-exists"),
        (["settings.json", "thesis.tex"], "other-files"),
        (["results.json", "settings.json", "flags.cfg"], "run-exists"),
        (["run.json", "flags.cfg", "backup"], "another-version"),
    ],
)
def test_only_what_is_left_of_a_run_is_taken_over(tmp_path, files, code):
    for name in files:
        (tmp_path / name).write_text("")
    if code is None:
        assert run_folder.check_output(tmp_path, False) is False
        return
    with pytest.raises(InputError) as error:
        run_folder.check_output(tmp_path, False)
    assert error.value.code == code


def test_two_processes_do_not_train_in_one_folder(settings, cut):
    with (
        files.claimed(cut),
        pytest.raises(InputError) as error,
    ):
        loop.train(tiny_run.dataset(), settings, cut)
    assert error.value.code == "folder-in-use"
    with files.claimed(cut):
        pass


# Real processes, really killed

EVERYWHERE = (
    "--max_length=16",
    "--epochs=2",
    "--batch_size=8",
    "--adv_step_size=0.1",
    "--learning_rate=0.008",
    "--deterministic",
)
CONTRASTIVE = (
    "--contrastive_start_step=8",
    "--contrastive_negatives=10",
    "--contrastive_weight=0.2",
)
ADVERSARY = ("--adv_steps=2", "--adv_init_magnitude=0.1")
METHODS = {
    "baseline": (),
    "freelb": ADVERSARY,
    "carl": (*ADVERSARY, *CONTRASTIVE),
    "rar": ADVERSARY,
    "carl_rar": (*ADVERSARY, *CONTRASTIVE),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_run.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return kill_runs.Runner(tmp_path_factory.mktemp("log"))


def flags_of(method, data, output_dir):
    return (
        f"--method={method}",
        *(f"--{s}_file={data}/{s}.csv" for s in ("train", "dev", "test")),
        f"--encoder={data}/encoder",
        f"--output_dir={output_dir}",
        *EVERYWHERE,
        *METHODS[method],
    )


def resumed_at(ended):
    found = re.search(r"resuming at update (\d+) of 24", ended.printed)
    return int(found[1]) if found else None


def test_killed_three_times_and_terminated_a_run_ends_the_same(
    runner, data, tmp_path
):
    """While the bank is filled, a backup written, at a random update."""
    whole, often = tmp_path / "whole", tmp_path / "often"
    # One pass, which has the smallest graph.
    ended = runner.run(*flags_of("carl", data, whole), "--adv_steps=1")
    assert ended.code == 0, ended.printed
    flags = (*flags_of("carl", data, often), "--adv_steps=1")
    ended = runner.run(*flags, kill_at=("memory bank is filled", 7), every=3)
    assert ended.killed and resumed_at(ended) is None
    ended = runner.run(*flags, kill_at=("half of a backup", 3))
    assert ended.killed and resumed_at(ended) == 6
    assert list((often / "backup").glob("partial*"))
    ended = runner.run(*flags, term_at=("has ended", 4), every=9)
    assert ended.code == 128 + signal.SIGTERM
    assert resumed_at(ended) == 8
    assert ended.printed.endswith(
        "\nended by SIGTERM after update 12 of 24; the same command goes on "
        "from there\n"
    )
    # It ended with an epoch.
    nth = random.Random(1).randrange(5, 12)
    ended = runner.run(*flags, kill_at=("has ended", nth), every=4)
    assert ended.killed and resumed_at(ended) == 12
    ended = runner.run(*flags)
    assert ended.code == 0, ended.printed
    assert resumed_at(ended) == (12 + nth - 1) // 4 * 4
    assert kill_runs.differences(often, whole) == []


@pytest.mark.slow
def test_killed_anywhere_a_run_ends_the_same(runner, data, tmp_path, capsys):
    """Every method is killed several times, at points that chance chooses."""
    chance = random.Random(3)
    rows, killed = [], collections.Counter()
    for method in METHODS:
        whole = tmp_path / f"{method}_whole"
        ended = runner.run(*flags_of(method, data, whole))
        assert ended.code == 0, ended.printed
        # What happens once is chosen as often as what happens always.
        kinds = collections.Counter(
            re.sub(r" \d+", "", event) for event in ended.events
        )
        for number in range(4):
            folder = tmp_path / f"{method}_{number}"
            flags = flags_of(method, data, folder)
            points = []
            while len(points) < 3 and not (folder / "results.json").exists():
                what = chance.choice(list(kinds))
                # Few enough for what is left of the run.
                nth = chance.randint(1, -(-kinds[what] // 3))
                every = chance.choice([1, 2, 5])
                how = {"kill_at": (what.split(" has ended")[0], nth)}
                if len(points) == 2:
                    how = {"after": chance.uniform(1.0, 6.0)}
                ended = runner.run(*flags, every=every, **how)
                assert ended.killed or ended.code == 0, ended.printed
                points.append((how, ended))
            if not (folder / "results.json").exists():
                last = runner.run(*flags)
                assert last.code == 0, last.printed
                points.append(({}, last))
            same = kill_runs.differences(folder, whole)
            for (how, ended), (_, after) in zip(
                points, [*points[1:], ({}, None)], strict=True
            ):
                if ended.killed:
                    killed[method] += 1
                    going_on = ended.events[-1] if ended.events else "starting"
                    rows.append(
                        (
                            f"{method} {number + 1}",
                            "time" if "after" in how else "event",
                            going_on,
                            resumed_at(after) if after else "ended",
                            "yes" if not same else f"NO: {', '.join(same)}",
                        )
                    )
    with capsys.disabled():
        print("\n| run | killed by | what was going on | resumed at | same |")
        print("|---|---|---|---|---|")
        for row in rows:
            print("| " + " | ".join(map(str, row)) + " |")
    assert all(row[-1] == "yes" for row in rows)
    assert sum(killed.values()) > 20
    assert min(killed[method] for method in METHODS) > 2
