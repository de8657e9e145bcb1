"""A batch in slices gives the update that the whole batch gives."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import psutil
import pytest
import safetensors.numpy
import tensorflow as tf

import tfadv
from tests import checkpoints, tiny_run
from tfadv import replicas
from tfadv.data import batching
from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError
from tfadv.objectives.settings import ContrastiveSettings
from tfadv.runs import methods
from tfadv.text.tokenizer import Tokenizer
from tfadv.training import backup, callbacks, loop
from tfadv.update.slices import Slices

ROOT = pathlib.Path(__file__).parents[2]
BATCH = 8
EXAMPLES = 19  # batches of 8, 8 and 3
STEPS = 20
# Slices of 1, 2, 1, 2 and 2 examples, and three of one.
SLICES = 5
TOLERANCE = 1e-5

# Settings of FreeLB, and of the objectives.
METHODS = {
    "baseline": (None, {}),
    "freelb": ({}, {}),
    "freelb, gamma": ({"init_magnitude": 0.2, "max_norm": 0.3}, {}),
    "carl, nce sampled": ({}, {"loss": "nce", "num_negatives": 5}),
    "carl, nce all": (
        {"init_magnitude": 0.2},
        {"loss": "nce", "num_negatives": None},
    ),
    "carl, infonce sampled": ({}, {"loss": "infonce", "num_negatives": 5}),
    "carl, infonce all": (
        {"init_magnitude": 0.2},
        {"loss": "infonce", "num_negatives": None},
    ),
    "rar": ({}, {"rar": True}),
    "carl_rar": ({}, {"loss": "nce", "num_negatives": 5, "rar": True}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder"))


def examples_of(folder, count=EXAMPLES):
    tokenizer = Tokenizer.from_pretrained(folder, 16)
    return batching.tokenize(tiny_run.examples(count, 4), tokenizer)


@pytest.fixture(scope="module")
def data(folder):
    return examples_of(folder)


def make(folder, data, method, slices, dtype="float32", **options):
    """A compiled classifier; equal calls give equal ones."""
    freelb, settings = METHODS[method]
    settings = dict(settings)
    options = {"dropout": 0.0, **options}
    keras.utils.set_random_seed(3)
    encoder = tfadv.Encoder.from_pretrained(
        folder, dropout=options["dropout"], dtype=dtype
    )
    objectives = []
    if settings.pop("rar", False):
        objectives.append(tfadv.ReconstructionObjective([0, 1, 2, 3, 4]))
    if settings:
        objectives.append(
            tfadv.ContrastiveObjective(data.labels, seed=1, **settings)
        )
    adversary = None
    if freelb is not None:
        adversary = tfadv.FreeLB(**{"steps": 2, "step_size": 0.1, **freelb})
    classifier = tfadv.AdversarialClassifier(
        encoder,
        2,
        adversary,
        objectives,
        dropout=options["dropout"],
        accumulation_steps=slices,
        dtype=dtype,
    )
    # Adam divides by the size of a gradient: where that is rounding error, so
    # would be the step. Long steps let rounding errors grow: of the whole
    # batch, too, where weights begin one bit apart.
    optimizer = keras.optimizers.Adam(3e-4, epsilon=1e-3)
    if dtype == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizer, initial_scale=1024.0
        )
    classifier.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    loop._make_variables(classifier)
    return classifier


def batches_of(data, weights=None):
    batches = batching.training_batches(data, BATCH, seed=5, epochs=100)
    if weights is None:
        return batches
    weights = tf.constant(weights, tf.float32)
    return batches.map(lambda x, y: (x, y, tf.gather(weights, x["index"])))


def train(classifier, batches, joins=0, steps=STEPS):
    """Trains, and returns all that training has changed, by its kind."""
    noted = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: noted.append(dict(logs))
    )
    contrastive = [o for o in classifier.objectives if hasattr(o, "bank")]
    for begin, end in ((0, joins), (joins, steps)):
        if begin == end:
            continue
        if begin == joins:
            for objective in contrastive:
                objective.start(classifier, batches.take(3), verbose=0)
        classifier.fit(
            batches.skip(begin),
            steps_per_epoch=end - begin,
            shuffle=False,
            verbose=0,
            callbacks=[note],
        )
    return {
        "losses": [float(value) for log in noted for value in log.values()],
        "weights": [v.numpy() for v in classifier.weights],
        "optimizer": [v.numpy() for v in classifier.optimizer.variables],
        "banks": [
            o.bank.numpy(table)
            for o in contrastive
            for table in (o.bank.clean, o.bank.adversarial)
        ],
        "log Z": [
            o.log_z.numpy() for o in contrastive if o.options.loss == "nce"
        ],
        "draws": [
            layer.seed_generator.state.numpy()
            for layer in (classifier, *contrastive)
        ],
    }


def differences(found, expected):
    """Returns the largest difference of each part."""
    result = {}
    for part, arrays in expected.items():
        pairs = zip(found[part], arrays, strict=True)
        gaps = [np.max(np.abs(np.subtract(a, b)), initial=0) for a, b in pairs]
        result[part] = float(np.max(gaps, initial=0))
    return result


def assert_equal(found, expected, tolerance=TOLERANCE):
    gaps = differences(found, expected)
    print(gaps)
    # Written so that NaN fails, too.
    assert all(gap < tolerance for gap in gaps.values()), gaps


WEIGHTS = np.arange(EXAMPLES) % 4 / 2  # some are 0


def case(method, weighted, joins, slow):
    name = f"{method}{', weighted' if weighted else ''}, joins {joins}"
    marks = pytest.mark.slow if slow else ()
    return pytest.param(method, weighted, joins, id=name, marks=marks)


@pytest.mark.parametrize(
    ("method", "weighted", "joins"),
    [
        case("baseline", True, 0, slow=False),
        case("freelb", False, 0, slow=True),
        case("freelb, gamma", True, 0, slow=False),
        case("carl, nce sampled", True, 0, slow=True),
        case("carl, infonce all", False, 0, slow=False),
        case("rar", True, 0, slow=True),
        case("carl_rar", True, 0, slow=False),
        case("baseline", False, 0, slow=True),
        case("freelb", True, 0, slow=True),
        case("freelb, gamma", False, 0, slow=True),
        case("carl, nce sampled", False, 3, slow=True),
        case("carl, nce all", True, 3, slow=True),
        case("carl, nce all", False, 3, slow=True),
        case("carl, infonce sampled", True, 3, slow=True),
        case("carl, infonce sampled", False, 3, slow=True),
        case("carl, infonce all", True, 3, slow=True),
        case("rar", False, 0, slow=True),
        case("carl_rar", False, 3, slow=True),
    ],
)
def test_slices_give_the_update_of_the_whole_batch(
    method, weighted, joins, folder, data, monkeypatch
):
    batches = batches_of(data, WEIGHTS if weighted else None)
    whole = train(make(folder, data, method, 1), batches, joins)
    traced = []
    train_step = tfadv.AdversarialClassifier.train_step

    def counted(self, batch):
        traced.append(batch)
        return train_step(self, batch)

    monkeypatch.setattr(tfadv.AdversarialClassifier, "train_step", counted)
    found = train(make(folder, data, method, SLICES), batches, joins)
    assert_equal(found, whole)
    # Another graph when CARL joins, but none for another number of rows.
    assert len(traced) == (2 if joins else 1)


def test_the_graph_does_not_grow_with_the_number_of_slices(folder, data):
    from tests.adversaries.test_freelb import number_of_ops

    sizes = []
    for slices in (2, 30):
        classifier = make(folder, data, "baseline", slices)
        step = tf.function(
            classifier.train_step,
            input_signature=[batches_of(data).element_spec],
            autograph=False,
        )
        sizes.append(number_of_ops(step.get_concrete_function()))
    assert sizes[0] == sizes[1]


def test_an_overflow_in_one_slice_ends_the_whole_update(folder, data):
    batches = batching.evaluation_batches(data, EXAMPLES)
    last = next(iter(batches))[0]["index"][-1].numpy()
    classifiers = [
        make(folder, data, "freelb", slices, "mixed_float16")
        for slices in (1, SLICES)
    ]
    weights = tf.Variable(tf.ones([EXAMPLES]))
    batches = batches.map(
        lambda x, y: (x, y, tf.gather(weights.read_value(), x["index"]))
    )
    for weight, scale, updates in ((1, 1024, 1), (1e8, 512, 1), (1, 512, 2)):
        weights[last].assign(weight)
        for classifier in classifiers:
            before = [v.numpy() for v in classifier.trainable_weights]
            classifier.fit(batches, shuffle=False, verbose=0)
            after = [v.numpy() for v in classifier.trainable_weights]
            moved = max(
                np.abs(a - b).max() for a, b in zip(before, after, strict=True)
            )
            assert (moved == 0) == (weight > 1)
            assert np.isfinite(moved)
            assert float(classifier.optimizer.dynamic_scale) == scale
            assert int(classifier.optimizer.iterations) == updates
    whole, found = (
        {"weights": [v.numpy() for v in classifier.trainable_weights]}
        for classifier in classifiers
    )
    assert_equal(found, whole, 2e-5)


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("carl_rar", "mixed_bfloat16"),
        *(
            pytest.param(method, dtype, marks=pytest.mark.slow)
            for method, dtype in (
                ("carl_rar", "mixed_float16"),
                ("baseline", "mixed_float16"),
                ("baseline", "mixed_bfloat16"),
                ("freelb, gamma", "mixed_float16"),
                ("freelb, gamma", "mixed_bfloat16"),
            )
        ),
    ],
)
def test_slices_in_mixed_precision(method, dtype, folder, data):
    """Equal within the rounding of activations to 11 and 8 bits."""
    kinds = ("losses", "weights", "log Z")
    whole, found = (
        train(make(folder, data, method, slices, dtype), batches_of(data))
        for slices in (1, SLICES)
    )
    whole, found = ({k: v[k] for k in kinds} for v in (whole, found))
    assert_equal(found, whole, 0.003 if dtype == "mixed_float16" else 0.01)


def test_masks_differ_from_slice_to_slice_but_not_from_pass_to_pass(
    folder, data
):
    classifier = make(folder, data, "freelb", 4, dropout=0.5)
    # Delta stays where it is, to within rounding.
    classifier.adversary = dataclasses.replace(
        classifier.adversary, step_size=1e-9
    )
    x, y = next(iter(batches_of(data)))
    x, y = tf.nest.map_structure(lambda v: tf.repeat(v[:1], 4, 0), (x, y))
    step = Slices(classifier, x, y).gradients()
    assert len(np.unique(np.round(step.logits[:, 0].numpy(), 5))) > 1
    losses = step.statistics[:, 0].numpy()
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_first_batch_of_nce_changes_no_masks(folder, data):
    """It is read twice."""
    x, y = next(iter(batches_of(data)))
    logits = []
    for known in (False, True):
        classifier = make(folder, data, "carl, nce sampled", 2, dropout=0.5)
        [objective] = classifier.objectives
        objective.join()
        if known:
            objective.log_z.assign([1.0, 1.0])
        logits.append(Slices(classifier, x, y).gradients().logits.numpy())
        assert np.isfinite(objective.log_z.numpy()).all()
    np.testing.assert_array_equal(*logits)


# Settings


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_steps_out_of_range_are_told(steps, folder, data):
    with pytest.raises(InputError) as error:
        make(folder, data, "baseline", steps)
    assert error.value.argument == "accumulation_steps"


def test_a_loss_that_is_no_mean_is_refused(folder, data):
    classifier = make(folder, data, "baseline", 2)
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")
    classifier.compile("sgd", loss, run_eagerly=True)
    with pytest.raises(InputError) as error:
        classifier.fit(batches_of(data), steps_per_epoch=1, verbose=0)
    assert error.value.code == "loss-not-a-mean"


def test_steps_come_back_from_the_config(folder, data):
    classifier = make(folder, data, "baseline", 3)
    found = tfadv.AdversarialClassifier.from_config(classifier.get_config())
    assert found.accumulation_steps == 3


# Runs


@pytest.fixture
def settings(folder):
    return tiny_run.settings(
        folder,
        adversary=tfadv.FreeLB(steps=1, step_size=0.1, init_magnitude=0.1),
        max_length=16,
        max_steps=16,
        batch_size=8,
        accumulation_steps=3,
        learning_rate=0.008,
        backup_seconds=1e-6,
    )


class CutError(Exception):
    """Stands for what ends a process."""


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(
    settings, tmp_path, monkeypatch, caplog
):
    """With dropout, in the second epoch; memory is told once a process."""
    caplog.set_level("INFO", "tfadv")
    monkeypatch.setattr(backup, "_LARGEST_SHARE", float("inf"))
    states = []

    def kept(self):
        states.append(safetensors.numpy.load_file(self.path))

    monkeypatch.setattr(backup.Backup, "delete", kept)
    whole = loop.train(tiny_run.dataset(), settings, tmp_path / "whole")
    told = "peak memory after 2 updates of 8 texts: "
    assert caplog.text.count(told) == 1
    counted = callbacks.StopAtStep.on_train_batch_end

    def cut(self, batch, logs=None):
        counted(self, batch, logs)
        if self._steps == 14:
            raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopAtStep, "on_train_batch_end", cut)
        with pytest.raises(CutError):
            loop.train(tiny_run.dataset(), settings, tmp_path / "cut")
    # Another number of slices is another run.
    other = tiny_run.changed(settings, accumulation_steps=2)
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), other, tmp_path / "cut")
    assert error.value.code == "another-run"
    caplog.clear()
    found = loop.train(tiny_run.dataset(), settings, tmp_path / "cut")
    assert "resuming at update" in caplog.text
    assert caplog.text.count(told) == 1
    one, other = states
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)
    for name in ("steps", "dev_accuracy", "test_accuracy"):
        assert found[name] == whole[name]


def test_peak_memory_is_that_of_the_process():
    found = callbacks.peak_memory()
    assert list(found) == ["process"]
    assert 2**27 < found["process"] < 2**37
    assert found["process"] >= psutil.Process().memory_info().rss
    # Touched, or it would be no memory yet.
    kept = np.ones(found["process"], np.uint8)
    assert callbacks.peak_memory()["process"] > kept.nbytes


def test_peak_memory_without_proc(monkeypatch):
    expected = callbacks.peak_memory()["process"]

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    found = callbacks.peak_memory()["process"]
    assert 0.5 * expected < found < 2 * expected


# Long texts


def long_dataset(count=6):
    """Texts of 600 words and more, of which 512 tokens are read."""
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 2).astype(np.int32)
    texts = [
        " ".join([("bad", "good")[label], *rng.choice(tiny_run.WORDS[2:], n)])
        for label, n in zip(labels, rng.integers(600, 700, count), strict=True)
    ]
    return TextDataset(
        name="long",
        label_names=("bad", "good"),
        train=Examples(texts, labels),
        dev=None,
        test=None,
    )


def long_encoder(folder, hidden=8, heads=2, layers=1, intermediate=16):
    """An encoder with 512 positions and tiny_run's vocabulary."""
    config = checkpoints.bert_config(
        len(tiny_run.PIECES), hidden, heads, layers, intermediate, 512
    )
    case = checkpoints.Case("long", config, seed=3, batch=1, tokens=1)
    checkpoints.write_checkpoint(
        folder, config, checkpoints.random_tensors(case)
    )
    lines = "\n".join(tiny_run.PIECES) + "\n"
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    return folder


def long_settings(folder, method="freelb", **changes):
    objectives = {}
    if "contrastive" in methods.get(method).objectives:
        objectives["contrastive"] = ContrastiveSettings(
            num_negatives=2, start_step=1
        )
    return tiny_run.settings(
        folder,
        **{
            "method": method,
            "adversary": tfadv.FreeLB(steps=2, step_size=0.1),
            "objectives": objectives,
            "max_length": 512,
            "max_steps": 3,
            "epochs": 3,
            "batch_size": 3,
            "backup_seconds": 0.0,
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("method", "slices"),
    [
        ("baseline", 1),
        ("freelb", 2),
        pytest.param("carl", 1, marks=pytest.mark.slow),
        pytest.param("rar", 1, marks=pytest.mark.slow),
        pytest.param("carl_rar", 2, marks=pytest.mark.slow),
    ],
)
def test_texts_of_more_than_512_tokens(method, slices, tmp_path):
    folder = long_encoder(tmp_path)
    settings = long_settings(folder, method, accumulation_steps=slices)
    results = loop.train(long_dataset(), settings, tmp_path / "run")
    assert results["steps"] == 3
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert np.isfinite(list(json.loads(line).values())).all()


# Processes of their own


def answer(*arguments):
    """What this module prints last, called as a binary, as JSON."""
    called = subprocess.run(
        [sys.executable, "-m", "tests.update.test_slices", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert called.returncode == 0, called.stderr[-3000:]
    return json.loads(called.stdout.splitlines()[-1])


@pytest.mark.slow
def test_slices_take_less_memory():
    """Both processes hold some 0.6 GiB before they train."""
    whole = answer("memory", "1")
    found = answer("memory", "8")
    print(whole, found)
    activations = whole["peak"] - whole["before"]
    assert activations > 0.5
    assert found["peak"] - found["before"] < 0.5 * activations


def memory(slices):
    """Trains on long texts; returns what the process took, in GiB."""
    before = callbacks.peak_memory()["process"]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        encoder = long_encoder(pathlib.Path(folder), 64, 4, 4, 256)
        settings = long_settings(
            encoder, batch_size=16, accumulation_steps=int(slices), max_steps=1
        )
        run = pathlib.Path(folder) / "run"
        loop.train(long_dataset(32), settings, run)
    return {
        "before": before / 2**30,
        "peak": callbacks.peak_memory()["process"] / 2**30,
        "seconds": time.perf_counter() - started,
    }


@pytest.mark.slow
def test_slices_on_two_replicas():
    """Each slices its own share; one of them has none of the last batch."""
    found = answer("mirrored", "carl, infonce sampled", "freelb, gamma", "rar")
    print(found)
    for gaps in found["gaps"].values():
        assert all(gap < TOLERANCE for gap in gaps.values()), found
    assert found["refused"] == "slices-cannot-exchange"


def mirrored(*names):
    """Compares slices on two devices with whole batches on one."""
    [cpu] = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, logical * 2)
    with tempfile.TemporaryDirectory() as folder:
        folder = tiny_run.encoder_folder(pathlib.Path(folder))
        data = examples_of(folder, 17)  # batches of 8, 8 and 1
        batches = batches_of(data, WEIGHTS[:17])
        gaps = {}
        for name in names:
            whole = train(make(folder, data, name, 1), batches, steps=6)
            with replicas.strategy("mirrored").scope():
                found = train(make(folder, data, name, 3), batches, steps=6)
            gaps[name] = differences(found, whole)
        settings = tiny_run.settings(
            folder,
            method="carl",
            max_length=16,
            batch_size=4,
            accumulation_steps=2,
            strategy="mirrored",
        )
        try:
            loop.train(tiny_run.dataset(), settings, folder / "run")
        except InputError as error:
            return {"gaps": gaps, "refused": error.code}
    return {"gaps": gaps, "refused": ""}


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        found = {"memory": memory, "mirrored": mirrored}[sys.argv[1]](
            *sys.argv[2:]
        )
    print(json.dumps(found))
