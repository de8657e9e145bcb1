"""A run folder holds what its run learned, and says how to run it again."""

import dataclasses
import json
import shutil
import types

import h5py
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import tfadv
from tests import tiny_run
from tests.tiny_run import changed
from tfadv.data import batching
from tfadv.encoders import keras_hub_backbones
from tfadv.errors import InputError
from tfadv.inference import evaluation
from tfadv.losses import memory_bank
from tfadv.objectives.settings import (
    ContrastiveSettings,
    ReconstructionSettings,
)
from tfadv.runs import run_folder
from tfadv.training import loop


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="module")
def settings(encoder):
    return tiny_run.settings(
        encoder,
        adversary=tfadv.FreeLB(steps=2, step_size=0.1, init_magnitude=0.1),
        max_length=16,
        epochs=9,
        batch_size=8,
        learning_rate=0.008,
    )


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A FreeLB run: its folder and its results."""
    folder = tmp_path_factory.mktemp("runs") / "freelb"
    results = loop.train(tiny_run.dataset(), settings, folder)
    return folder, results


def test_a_run_leaves_all_that_it_promises(run):
    folder, results = run
    assert json.loads((folder / "results.json").read_text()) == results
    flags = (folder / "flags.cfg").read_text().splitlines()
    assert {"--adv_steps=2", "--epochs=9", "--nodeterministic"} <= set(flags)
    assert set(results) >= {
        "method",
        "dev_accuracy",
        "test_accuracy",
        "num_parameters",
        "train_examples",
        "train_seconds",
        "examples_per_second",
        "seed",
    }
    assert results["method"] == "freelb"
    assert results["train_examples"] == 90
    assert results["steps"] == 9 * 12
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 10))
    # With a random start no pass is at the clean embeddings.
    assert set(json.loads(lines[0])) == {
        "epoch",
        "seconds",
        "loss",
        "adversarial_accuracy",
        "delta_norm",
        "val_loss",
        "val_accuracy",
    }
    assert not list(folder.glob("partial*"))


def test_training_learns(run):
    _, results = run
    assert results["dev_accuracy"] > 0.8
    assert results["test_accuracy"] > 0.8


def test_the_best_epoch_is_kept_and_tested(run):
    folder, results = run
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    dev = [json.loads(line)["val_accuracy"] for line in lines]
    assert results["dev_accuracy"] == pytest.approx(max(dev))
    assert results["best_epoch"] == dev.index(max(dev)) + 1
    opened = tfadv.load(folder)
    for split in ("dev", "test"):
        tokenized = batching.tokenize(
            getattr(tiny_run.dataset(), split), opened.tokenizer
        )
        measured = evaluation.evaluate(opened.classifier, tokenized)
        assert measured["accuracy"] == results[f"{split}_accuracy"]
        assert np.sum(measured["confusion"]) == measured["examples"] == 24


def test_the_same_seed_gives_the_same_run(run, settings, tmp_path):
    folder, results = run
    again = loop.train(tiny_run.dataset(), settings, tmp_path / "again")
    timed = {"train_seconds", "examples_per_second", "seconds_per_step"}
    assert {k: v for k, v in again.items() if k not in timed} == {
        k: v for k, v in results.items() if k not in timed
    }
    other = changed(settings, seed=1)
    loop.train(tiny_run.dataset(), other, tmp_path / "other")
    first, second, third = (
        [w.numpy() for w in tfadv.load(path).classifier.weights]
        for path in (folder, tmp_path / "again", tmp_path / "other")
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != c).any() for a, c in zip(first, third, strict=True))


def test_probabilities_come_in_the_order_of_the_texts(run):
    opened = tfadv.load(run[0])
    texts = tiny_run.dataset().test.texts
    together = opened.predict_proba(texts, batch_size=5)
    alone = np.concatenate([opened.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-6)
    assert opened.predict_proba([]).shape == (0, 2)
    assert opened.label_names == ("bad", "good")


def test_each_pass_is_logged_to_tensorboard(run):
    tags = {}
    for path in (run[0] / "tensorboard").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append(
                    float(tf.make_ndarray(value.tensor))
                    if value.tensor.dtype
                    else None
                )
    for index in (1, 2):
        for name in ("loss", "accuracy", "delta_norm"):
            assert len(tags[f"pass_{index}/{name}"]) == 9
    assert 0 < tags["pass_1/delta_norm"][0] < tags["pass_2/delta_norm"][0]
    assert "epoch_loss" in tags


def test_without_dev_and_test_their_accuracies_are_null(settings, tmp_path):
    results = loop.train(
        tiny_run.dataset(dev=0, test=0),
        changed(settings, method="baseline", epochs=1),
        tmp_path / "run",
    )
    assert results["dev_accuracy"] is None
    assert results["test_accuracy"] is None
    assert tfadv.load(tmp_path / "run").record.adversary is None


def test_max_steps_ends_in_the_middle_of_an_epoch(settings, tmp_path):
    short = changed(settings, max_steps=15, adversary_warmup_proportion=0.8)
    results = loop.train(tiny_run.dataset(), short, tmp_path / "run")
    assert results["steps"] == 15
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    # The adversary's warm-up is a share of these steps.
    record = run_folder.read_record(tmp_path / "run")
    assert record.adversary.warmup_steps == record.warmup_steps == 12
    norms = [json.loads(line)["delta_norm"] for line in lines]
    assert 0.05 < norms[0] < norms[1] < 0.2


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_is_opened_in_its_precision(settings, tmp_path, precision):
    half = changed(settings, precision=precision, epochs=1)
    loop.train(tiny_run.dataset(), half, tmp_path / "run")
    classifier = tfadv.load(tmp_path / "run").classifier
    assert classifier.encoder.dtype_policy.name == precision
    [block] = keras_hub_backbones.blocks(classifier.encoder.backbone)
    attention = block._self_attention_layer
    assert attention.compute_dtype == precision.removeprefix("mixed_")
    assert classifier.head.compute_dtype == "float32"


def test_an_encoder_in_kerashubs_layout_trains_and_opens(
    settings, encoder, tmp_path
):
    preset = tmp_path / "preset"
    tfadv.Encoder.from_pretrained(encoder).backbone.save_to_preset(str(preset))
    keras_hub.tokenizers.BertTokenizer(
        vocabulary=tiny_run.PIECES, lowercase=True
    ).save_to_preset(str(preset))
    short = changed(settings, name=str(preset), epochs=1)
    results = loop.train(tiny_run.dataset(), short, tmp_path / "run")
    opened = tfadv.load(tmp_path / "run")
    tokenized = batching.tokenize(tiny_run.dataset().test, opened.tokenizer)
    measured = evaluation.evaluate(opened.classifier, tokenized)
    assert measured["accuracy"] == results["test_accuracy"]


def test_a_loss_that_is_not_finite_ends_the_run(settings, tmp_path):
    wild = changed(settings, learning_rate=1e30)
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), wild, tmp_path / "run")
    assert error.value.code == "not-finite"
    assert not (tmp_path / "run" / "results.json").exists()


def test_more_tokens_than_the_encoder_reads_are_refused(settings, tmp_path):
    long = changed(settings, max_length=25)
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), long, tmp_path / "run")
    assert error.value.code == "max-length-too-large"
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_left_alone(run, settings, tmp_path):
    folder, _ = run
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), settings, folder)
    assert error.value.code == "run-exists"
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").write_text("x")
    for folder, overwrite, code in (
        (foreign, False, "other-files"),
        (foreign, True, "other-files"),
        (foreign / "chapter.tex", False, "not-a-folder"),
    ):
        with pytest.raises(InputError) as error:
            run_folder.check_output(folder, overwrite)
        assert error.value.code == code


def test_overwrite_replaces_an_earlier_run(settings, tmp_path):
    short = changed(settings, epochs=1)
    folder = tmp_path / "run"
    loop.train(tiny_run.dataset(), short, folder)
    baseline = changed(short, method="baseline")
    loop.train(tiny_run.dataset(), baseline, folder, overwrite=True)
    assert tfadv.load(folder).record.settings.method == "baseline"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_folder_that_cannot_be_made_is_one_line(settings, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), settings, tmp_path / "file" / "run")
    assert error.value.code == "not-a-folder"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda f: (f / "results.json").unlink(), "not-whole"),
        (lambda f: (f / "model.weights.h5").unlink(), "not-whole"),
        (lambda f: (f / "settings.json").unlink(), "no-run"),
        (lambda f: (f / "settings.json").write_text("{"), "bad-record"),
        (
            lambda f: (f / "settings.json").write_text('{"format": 99}'),
            "bad-record",
        ),
        (lambda f: change(f, ["format"], 4), "bad-record"),
        (lambda f: change(f, ["settings", "speed"], 1), "bad-record"),
        (lambda f: change(f, ["settings", "method"], "pgd"), "unknown-method"),
        (lambda f: change(f, ["classifier", "label_names"], 2), "bad-record"),
        (lambda f: (f / "model.weights.h5").write_bytes(b"H"), "bad-weights"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(run, tmp_path, damage, code):
    folder = shutil.copytree(run[0], tmp_path / "run")
    damage(folder)
    with pytest.raises(InputError) as error:
        tfadv.load(folder)
    assert error.value.code == code
    assert (error.value.argument, error.value.value) == (
        ("method", "pgd")
        if code == "unknown-method"
        else ("run_dir", str(folder))
    )
    assert "\n" not in str(error.value)


def change(folder, path, value):
    """Changes a value in a run's record."""
    content = json.loads((folder / "settings.json").read_text())
    *parents, last = path
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    (folder / "settings.json").write_text(json.dumps(content))


def test_a_run_traces_its_step_once(settings, tmp_path, monkeypatch):
    traces = []
    train_step = tfadv.AdversarialClassifier.train_step

    def counted(classifier, data):
        traces.append(data)
        return train_step(classifier, data)

    monkeypatch.setattr(tfadv.AdversarialClassifier, "train_step", counted)
    short = changed(settings, max_steps=20)
    loop.train(tiny_run.dataset(dev=0, test=0), short, tmp_path / "run")
    assert len(traces) == 1


# CARL and RAR

# What each method learns, and the first epoch in which it does. The tests of
# the binaries train with RAR alone as well.
STARTS = {
    "carl": {"contrastive": 1},
    "rar": {"reconstruction": 1},
    "carl_rar": {"contrastive": 2, "reconstruction": 1},
}


def objectives(method):
    start = {"start_epoch": 1} if method == "carl_rar" else {"start_step": 0}
    if "contrastive" not in STARTS[method]:
        return {}
    return {
        "contrastive": ContrastiveSettings(
            num_negatives=10, weight=0.2, **start
        )
    }


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("carl", marks=pytest.mark.slow),
        pytest.param("rar", marks=pytest.mark.slow),
        "carl_rar",
    ],
)
def method_run(request, settings, tmp_path_factory):
    """A run of each method: its name, its folder and its results."""
    method = request.param
    folder = tmp_path_factory.mktemp("runs") / method
    results = loop.train(
        tiny_run.dataset(dev=0),
        changed(
            settings, method=method, objectives=objectives(method), epochs=2
        ),
        folder,
    )
    return method, folder, results


def test_losses_are_measured_from_their_start_on(method_run):
    method, folder, _ = method_run
    weights = {"contrastive": 0.2, "reconstruction": 0.1}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    for epoch, line in enumerate(map(json.loads, lines), 1):
        started = [n for n, first in STARTS[method].items() if first <= epoch]
        losses = {name for name in line if name.endswith("_loss")}
        assert losses == {
            "classification_loss",
            *(f"{name}_loss" for name in started),
        }
        total = line["classification_loss"]
        total += sum(weights[n] * line[f"{n}_loss"] for n in started)
        assert line["loss"] == pytest.approx(total, rel=1e-4)


def test_the_record_has_the_settings_of_the_objectives(method_run):
    method, folder, results = method_run
    assert results["method"] == method
    assert results["train_examples"] == 90
    record = run_folder.read_record(folder)
    assert record.special_ids == (0, 1, 2, 3, 4)
    content = json.loads((folder / "settings.json").read_text())
    assert record.to_dict() == content
    expected = objectives(method)
    if "reconstruction" in STARTS[method]:
        expected["reconstruction"] = ReconstructionSettings()
    assert record.settings.objectives == expected


def test_the_memory_bank_is_not_kept(method_run):
    _, folder, _ = method_run
    shapes = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            shapes[name] = item.shape

    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(note)
    assert shapes
    # The bank has a row a training example.
    assert not [name for name, shape in shapes.items() if 90 in shape]
    assert not [name for name in shapes if "contrastive" in name]


def test_a_run_with_objectives_opens_as_it_was_tested(method_run):
    method, folder, results = method_run
    opened = tfadv.load(folder)
    names = [objective.name for objective in opened.classifier.objectives]
    assert names == [n for n in STARTS[method] if n == "reconstruction"]
    tokenized = batching.tokenize(tiny_run.dataset().test, opened.tokenizer)
    measured = evaluation.evaluate(opened.classifier, tokenized)
    assert measured["accuracy"] == results["test_accuracy"]
    if names:
        # The head's weights are not new ones, whose bias is zero.
        assert opened.classifier.objectives[0].bias.numpy().any()


def test_carl_starts_at_a_step_or_an_epoch():
    for settings, step in (
        ({}, 12),
        ({"start_epoch": 0.0}, 0),
        ({"start_epoch": 1.5}, 18),
        ({"start_step": 0}, 0),
        ({"start_step": 35}, 35),
    ):
        contrastive = ContrastiveSettings(**settings)
        assert contrastive.first_step(12, 36) == step


@pytest.mark.parametrize(
    ("method", "start", "argument"),
    [
        ("carl", {"start_step": 24}, "contrastive.start_step"),
        ("carl", {"start_epoch": 1.99}, "contrastive.start_epoch"),
        ("rar", {"start_epoch": 1.99}, "reconstruction.start_epoch"),
    ],
)
def test_an_objective_that_would_never_start_is_refused(
    settings, tmp_path, method, start, argument
):
    kind = {"carl": ContrastiveSettings, "rar": ReconstructionSettings}[method]
    name, _ = argument.split(".")
    # 12 updates per epoch, which only the data tell.
    late = changed(
        settings, method=method, epochs=2, objectives={name: kind(**start)}
    )
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), late, tmp_path / "run")
    assert error.value.code == "starts-after-the-end"
    assert error.value.argument == f"objectives.{argument}"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", "1.5 MiB"), ("bfloat16", "0.8 MiB")]
)
def test_a_bank_that_does_not_fit_is_refused(
    settings, tmp_path, monkeypatch, dtype, size
):
    monkeypatch.setattr(
        memory_bank.psutil,
        "virtual_memory",
        lambda: types.SimpleNamespace(available=2**19),
    )
    few = tiny_run.dataset()
    many = dataclasses.replace(few, train=tiny_run.examples(25_000, seed=0))
    large = changed(
        settings,
        method="carl",
        objectives={"contrastive": ContrastiveSettings(bank_dtype=dtype)},
    )
    with pytest.raises(InputError) as error:
        loop.train(many, large, tmp_path / "run")
    assert error.value.code == "bank-too-large"
    assert f"2 x 25,000 x 8 {dtype}, {size}" in error.value.problem
    # Half the size is no remedy for a bank that has it already.
    assert ("bank_dtype" in error.value.remedy) == (dtype == "float32")
    assert not (tmp_path / "run").exists()


def test_metrics_are_named_by_what_they_saw(settings, tmp_path):
    """Without a random start, the first pass is at the clean embeddings."""
    strong = tfadv.FreeLB(steps=2, step_size=5.0)
    clean = changed(settings, adversary=strong, epochs=1)
    loop.train(tiny_run.dataset(), clean, tmp_path / "run")
    for name in ("metrics.jsonl", "updates.jsonl"):
        lines = (tmp_path / "run" / name).read_text().splitlines()
        lines = [json.loads(line) for line in lines]
        seen = {
            name: np.mean([line[f"{name}_accuracy"] for line in lines])
            for name in ("clean", "adversarial")
        }
        assert seen["clean"] > seen["adversarial"] + 0.1
        assert not any("accuracy" in line for line in lines)
