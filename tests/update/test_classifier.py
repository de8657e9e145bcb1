"""The classifier is a Keras model like any other, with and without FreeLB."""

import collections
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfadv.adversaries.freelb import FreeLB
from tfadv.data import batching
from tfadv.errors import InputError
from tfadv.update.classifier import AdversarialClassifier
from tfadv.update.pass_statistics import PassStatistics

# Zeros to start from, so that nothing is random but what a test makes so.
SETTINGS = {"steps": 3, "step_size": 0.3, "max_norm": 0.5}
KINDS = {"plain": None, "freelb": SETTINGS}
each_kind = pytest.mark.parametrize("kind", KINDS)
SPARSE_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batch(rows=8, tokens=7, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, tokens + 1, [rows, 1])
    mask = np.arange(tokens) < lengths
    ids = rng.integers(1, 50, mask.shape)
    x = {
        "token_ids": (ids * mask).astype(np.int32),
        "padding_mask": mask.astype(np.int32),
        "segment_ids": np.zeros(mask.shape, np.int32),
    }
    return x, rng.integers(0, 3, rows).astype(np.int32)


def rows_of(x, index):
    return {key: value[index] for key, value in x.items()}


def make(
    encoder,
    kind,
    dropout=0.0,
    cls=AdversarialClassifier,
    built=True,
    **options,
):
    """A compiled classifier of three classes; equal calls give equal ones."""
    adversary = KINDS[kind] and FreeLB(**KINDS[kind])
    classifier = cls(encoder, 3, adversary=adversary, dropout=dropout)
    kernel = np.random.default_rng(0).normal(size=classifier.head.kernel.shape)
    classifier.head.kernel.assign(kernel)
    settings = {
        "optimizer": keras.optimizers.SGD(0.1),
        "loss": SPARSE_LOSS,
        "metrics": ["accuracy"],
        **options,
    }
    classifier.compile(**settings)
    # Or TensorFlow traces the first step twice: with its variables' creation
    # and without.
    if built:
        classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def fit(classifier, x, y, **options):
    settings = {"batch_size": 2, "shuffle": False, "verbose": 0, **options}
    return classifier.fit(x, y, **settings).history


def gradients_of(classifier, x, y, sample_weight=None):
    """The gradients as arrays, in the order of the trainable weights."""
    compute = (
        classifier.plain_gradients
        if classifier.adversary is None
        else classifier.adversarial_gradients
    )
    pairs = compute(x, y, sample_weight)[0]
    gradients, weights = zip(*pairs, strict=True)
    for weight, expected in zip(
        weights, classifier.trainable_weights, strict=True
    ):
        assert weight is expected
    assert all(tf.is_tensor(gradient) for gradient in gradients)
    return [gradient.numpy() for gradient in gradients]


def assert_all_close(actual, expected, tolerance=1e-6):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=tolerance)


def all_equal(actual, expected):
    pairs = zip(actual, expected, strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


# A whole training, looked at from several sides


Training = collections.namedtuple(
    "Training", "kind classifier history steps epochs folder data"
)


@pytest.fixture(scope="module", params=KINDS)
def training(request, tiny_encoder, tmp_path_factory):
    """Three epochs in a graph, with callbacks, metrics and validation."""
    folder = tmp_path_factory.mktemp(request.param)
    keras.utils.set_random_seed(1)
    classifier = make(
        tiny_encoder(dropout=0.1),
        request.param,
        dropout=0.1,
        optimizer=keras.optimizers.Adam(0.01),
        metrics=[
            "accuracy",
            keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2"),
        ],
    )
    x, y = batch()
    steps, epochs = [], []
    history = fit(
        classifier,
        x,
        y,
        epochs=3,
        validation_data=batch(seed=1),
        callbacks=[
            keras.callbacks.EarlyStopping("loss", patience=5),
            keras.callbacks.ModelCheckpoint(
                folder / "{epoch}.weights.h5", save_weights_only=True
            ),
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: steps.append(logs),
                on_epoch_end=lambda epoch, logs: epochs.append(epoch),
            ),
        ],
    )
    return Training(
        request.param, classifier, history, steps, epochs, folder, (x, y)
    )


def test_history_has_loss_metrics_and_the_norm_of_delta(training):
    expected = {"loss", "accuracy", "top_2"}
    validation = {f"val_{name}" for name in expected}
    if training.kind == "freelb":
        expected = {
            "loss",
            "adversarial_accuracy",
            "adversarial_top_2",
            "clean_accuracy",
            "delta_norm",
        }
        norms = np.array(training.history["delta_norm"])
        # The last of three passes has made two steps of 0.3.
        assert ((norms > 0.3) & (norms <= 0.5 + 1e-6)).all()
    assert set(training.history) == expected | validation
    for values in training.history.values():
        assert len(values) == 3
        assert np.isfinite(values).all()
        assert all(np.ndim(value) == 0 for value in values)


def test_callbacks_see_every_batch_and_epoch(training):
    assert training.epochs == [0, 1, 2]
    assert len(training.steps) == 3 * 4
    names = {k for k in training.history if not k.startswith("val_")}
    assert all(set(logs) == names for logs in training.steps)


def test_training_lowers_the_loss(training):
    assert training.history["loss"][-1] < training.history["loss"][0]


def test_evaluate_sees_clean_embeddings_and_reports_no_delta(training):
    x, y = training.data
    found = training.classifier.evaluate(x, y, verbose=0, return_dict=True)
    assert set(found) == {"loss", "accuracy", "top_2"}
    logits = training.classifier(x)
    assert found["loss"] == pytest.approx(float(SPARSE_LOSS(y, logits)), 1e-5)
    accuracy = np.mean(np.argmax(logits, axis=1) == y)
    assert found["accuracy"] == pytest.approx(accuracy)


def test_predict_gives_the_logits_of_clean_embeddings(training):
    x, _ = training.data
    found = training.classifier.predict(x, batch_size=3, verbose=0)
    assert found.shape == (8, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, training.classifier(x), atol=1e-6)


@each_kind
def test_saved_weights_load_into_a_classifier_of_either_kind(
    training, tiny_encoder, kind
):
    x, _ = training.data
    other = make(tiny_encoder(), kind, optimizer=keras.optimizers.Adam(0.01))
    assert not np.allclose(other(x), training.classifier(x), atol=1e-3)
    other.load_weights(training.folder / "3.weights.h5")
    assert all_equal(other.get_weights(), training.classifier.get_weights())
    np.testing.assert_array_equal(other(x), training.classifier(x))


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("plain", "classifier.keras"),
        ("freelb", "classifier.keras"),
        ("freelb", "only.weights.h5"),
        pytest.param("plain", "only.weights.h5", marks=pytest.mark.slow),
    ],
)
def test_training_goes_on_after_loading_as_if_never_interrupted(
    tiny_encoder, tmp_path, kind, end
):
    x, y = batch(rows=4)
    options = {"optimizer": keras.optimizers.Adam(0.01), "run_eagerly": True}
    # As a user has it: the first step builds the optimizer.
    classifier = make(tiny_encoder(), kind, built=False, **options)
    fit(classifier, x, y, batch_size=4)
    if end.endswith(".keras"):
        classifier.save(tmp_path / end)
        found = keras.models.load_model(tmp_path / end)
        found.run_eagerly = True
    else:
        classifier.save_weights(tmp_path / end)
        options["optimizer"] = keras.optimizers.Adam(0.01)
        found = make(tiny_encoder(), kind, **options)
        found.load_weights(tmp_path / end)
    fit(classifier, x, y, batch_size=4)
    fit(found, x, y, batch_size=4)
    assert found.optimizer.iterations == 2
    assert_all_close(found.get_weights(), classifier.get_weights())


# Ways to run, which must not matter


@pytest.fixture(scope="module")
def graph_weights(tiny_encoder):
    """The weights after an epoch in a graph, by kind; computed once."""
    found = {}

    def run(kind):
        if kind not in found:
            classifier = make(tiny_encoder(), kind, jit_compile=False)
            history = fit(classifier, *batch())
            found[kind] = history, classifier.get_weights()
        return found[kind]

    return run


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("freelb", {"run_eagerly": True}),
        ("freelb", {"steps_per_execution": 4}),
        pytest.param("freelb", {"jit_compile": True}, marks=pytest.mark.slow),
        pytest.param("plain", {"run_eagerly": True}, marks=pytest.mark.slow),
        pytest.param(
            "plain", {"steps_per_execution": 4}, marks=pytest.mark.slow
        ),
        pytest.param("plain", {"jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_ways_to_run_give_the_same_weights(
    tiny_encoder, graph_weights, kind, options
):
    classifier = make(tiny_encoder(), kind, **options)
    start = classifier.get_weights()
    history = fit(classifier, *batch())
    expected_history, expected = graph_weights(kind)
    assert_all_close(classifier.get_weights(), expected, tolerance=1e-5)
    assert not np.allclose(expected[0], start[0], atol=1e-4)
    assert history.keys() == expected_history.keys()
    for key, values in expected_history.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-4)


class CountingClassifier(AdversarialClassifier):
    """Counts how often the training step is traced."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


@each_kind
def test_batches_of_new_shapes_are_not_traced_anew(tiny_encoder, kind):
    rng = np.random.default_rng(0)
    tokenized = batching.TokenizedExamples(
        token_ids=tf.ragged.constant(
            [rng.integers(1, 50, n).tolist() for n in range(1, 13)], tf.int32
        ),
        labels=rng.integers(0, 3, 12).astype(np.int32),
        max_length=12,
        pad_id=0,
    )
    batches = batching.training_batches(tokenized, 5, seed=1, epochs=2)
    shapes = {tuple(x["token_ids"].shape) for x, _ in batches}
    assert len(shapes) >= 3
    classifier = make(tiny_encoder(), kind, cls=CountingClassifier)
    classifier.fit(batches.take(1), shuffle=False, verbose=0)
    traces = classifier.traces
    # TensorFlow traces a step that creates variables, metrics here, twice.
    assert traces in (1, 2)
    classifier.fit(batches, shuffle=False, verbose=0)
    assert classifier.traces == traces


@each_kind
def test_train_on_batch_reports_what_fit_does(tiny_encoder, kind):
    x, y = batch()
    classifier = make(tiny_encoder(), kind, run_eagerly=True)
    found = classifier.train_on_batch(x, y, return_dict=True)
    expected = {"loss", "accuracy"}
    if kind == "freelb":
        expected = {
            "loss",
            "adversarial_accuracy",
            "clean_accuracy",
            "delta_norm",
        }
    assert set(found) == expected
    other = make(tiny_encoder(), kind, run_eagerly=True)
    history = fit(other, x, y, batch_size=8)
    for key in expected:
        np.testing.assert_allclose(found[key], history[key][0], rtol=1e-5)


# What a step reports


def test_loss_is_the_passes_mean_and_metrics_are_the_last_pass(tiny_encoder):
    x, y = batch()
    classifier = make(tiny_encoder(), "freelb", run_eagerly=True)
    step = classifier.adversarial_gradients(x, y)
    logits, table = step.logits, step.statistics.numpy()
    assert table.shape == (3, 3)
    # Two ascents of 0.3 in a ball of 0.5.
    np.testing.assert_allclose(table[:2, 2], [0, 0.3], atol=1e-6)
    assert 0.3 < table[2, 2] <= 0.5 + 1e-6
    assert table[0, 0] < table[1, 0] < table[2, 0]
    clean = classifier(x)
    assert table[0, 0] == pytest.approx(float(SPARSE_LOSS(y, clean)), 1e-5)
    assert table[2, 0] == pytest.approx(float(SPARSE_LOSS(y, logits)), 1e-5)
    history = fit(classifier, x, y, batch_size=8)
    assert history["loss"][0] == pytest.approx(table[:, 0].mean(), 1e-5)
    assert history["adversarial_accuracy"][0] == pytest.approx(table[2, 1])
    assert history["clean_accuracy"][0] == pytest.approx(table[0, 1])
    assert history["delta_norm"][0] == pytest.approx(table[2, 2], 1e-5)
    np.testing.assert_allclose(
        classifier.pass_statistics.result(), table, rtol=1e-5
    )


def test_pass_statistics_are_means_over_examples():
    statistics = PassStatistics(steps=2)
    np.testing.assert_array_equal(statistics.result(), np.zeros([2, 3]))
    statistics.update_state([[1.0, 0.5, 0.0], [2.0, 0.0, 0.1]], 3)
    statistics.update_state([[2.0, 1.0, 0.0], [4.0, 1.0, 0.3]], 1)
    expected = [[1.25, 0.625, 0.0], [2.5, 0.25, 0.15]]
    np.testing.assert_allclose(statistics.result(), expected, rtol=1e-6)
    statistics.reset_state()
    np.testing.assert_array_equal(statistics.result(), np.zeros([2, 3]))


# Weights of examples and classes


@each_kind
def test_examples_of_weight_zero_give_no_gradient(tiny_encoder, kind):
    x, y = batch()
    classifier = make(tiny_encoder(), kind)
    kept = np.array([True, False, True, True, False, True, True, True])
    found = gradients_of(classifier, x, y, kept.astype(np.float32))
    alone = gradients_of(classifier, rows_of(x, kept), y[kept])
    # Keras divides by the number of all examples.
    expected = [gradient * kept.mean() for gradient in alone]
    assert_all_close(found, expected)
    changed = {key: value.copy() for key, value in x.items()}
    changed["token_ids"][~kept] = 3
    changed["padding_mask"][~kept] = 1
    y = np.where(kept, y, (y + 1) % 3)
    found = gradients_of(classifier, changed, y, kept.astype(np.float32))
    assert_all_close(found, expected)


@each_kind
def test_class_weights_are_sample_weights_of_the_classes(tiny_encoder, kind):
    x, y = batch()
    class_weight = {0: 0.0, 1: 2.0, 2: 0.5}
    weights = np.array([class_weight[label] for label in y], np.float32)
    found = []
    for options in ({"class_weight": class_weight}, {"sample_weight": weights}):
        classifier = make(tiny_encoder(), kind, run_eagerly=True)
        start = classifier.get_weights()
        gradients = gradients_of(classifier, x, y, weights)
        fit(classifier, x, y, batch_size=8, **options)
        found.append(classifier.get_weights())
        expected = [a - 0.1 * b for a, b in zip(start, gradients, strict=True)]
        assert_all_close(found[-1], expected)
    assert_all_close(*found)


@each_kind
def test_one_hot_labels_train_as_numbers_do(tiny_encoder, kind):
    x, y = batch()
    one_hot = np.eye(3, dtype=np.float32)[y]
    found = []
    for labels, loss in (
        (y, SPARSE_LOSS),
        (y[:, None], SPARSE_LOSS),
        (one_hot, keras.losses.CategoricalCrossentropy(from_logits=True)),
    ):
        classifier = make(tiny_encoder(), kind, loss=loss, run_eagerly=True)
        history = fit(classifier, x, labels, batch_size=8)
        found.append((history, classifier.get_weights()))
        if kind == "freelb":
            table = classifier.pass_statistics.result()
            accuracy = history["adversarial_accuracy"][0]
            assert accuracy == pytest.approx(float(table[2, 1]))
    for history, weights in found[1:]:
        assert_all_close(weights, found[0][1])
        for key, values in found[0][0].items():
            np.testing.assert_allclose(history[key], values, rtol=1e-5)


# Optimizers


def clipped(gradients, clipnorm=None, global_clipnorm=None, clipvalue=None):
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    norms = np.array([np.linalg.norm(g) for g in gradients])
    if global_clipnorm:
        norms[:] = np.linalg.norm(norms)
    limit = clipnorm or global_clipnorm
    scales = limit / np.maximum(norms, limit)
    return [g * scale for g, scale in zip(gradients, scales, strict=True)]


@pytest.mark.parametrize(
    "options",
    [{"clipnorm": 0.05}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}],
    ids=str,
)
@each_kind
def test_clipping_acts_on_the_accumulated_gradient(tiny_encoder, kind, options):
    x, y = batch()
    # Tokens that occur twice: their rows of the gradient are sums.
    x["token_ids"] = np.where(x["padding_mask"], x["token_ids"] % 5 + 1, 0)
    classifier = make(
        tiny_encoder(),
        kind,
        optimizer=keras.optimizers.SGD(1.0, **options),
        run_eagerly=True,
    )
    gradients = gradients_of(classifier, x, y)
    start = classifier.get_weights()
    fit(classifier, x, y, batch_size=8)
    moved = [
        a - b for a, b in zip(start, classifier.get_weights(), strict=True)
    ]
    expected = clipped(gradients, **options)
    assert_all_close(moved, expected)
    assert not np.allclose(moved[0], gradients[0], atol=1e-4)
    if "global_clipnorm" in options:
        norm = np.sqrt(sum((m.astype(np.float64) ** 2).sum() for m in moved))
        assert norm == pytest.approx(0.1, rel=1e-4)


@each_kind
def test_a_frozen_encoder_trains_the_head_only(tiny_encoder, kind):
    x, y = batch()
    encoder = tiny_encoder()
    encoder.trainable = False
    classifier = make(encoder, kind, run_eagerly=True)
    assert len(classifier.trainable_weights) == 2
    frozen = encoder.get_weights()
    head = classifier.head.get_weights()
    history = fit(classifier, x, y, batch_size=4)
    assert all_equal(encoder.get_weights(), frozen)
    for before, after in zip(head, classifier.head.get_weights(), strict=True):
        assert (before != after).any()
    if kind == "freelb":
        assert history["delta_norm"][0] > 0.3


@pytest.mark.parametrize("perturb_at", ["word_embeddings", "embedding_block"])
@each_kind
def test_frozen_word_embeddings_stay_and_all_else_moves_as_before(
    tiny_encoder, kind, perturb_at
):
    x, y = batch()
    expected = gradients_of(
        make(tiny_encoder(perturb_at=perturb_at), kind), x, y
    )
    encoder = tiny_encoder(perturb_at=perturb_at)
    encoder.token_embedding.trainable = False
    classifier = make(encoder, kind)
    found = gradients_of(classifier, x, y)
    table = encoder.token_embedding.embeddings
    assert all(weight is not table for weight in classifier.trainable_weights)
    expected = [g for g in expected if g.shape != table.shape]
    assert_all_close(found, expected)


# Randomness


@each_kind
def test_equal_seeds_give_identical_weights(tiny_encoder, kind):
    x, y = batch(rows=2)
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        classifier = make(
            tiny_encoder(dropout=0.2), kind, dropout=0.2, run_eagerly=True
        )
        if kind == "freelb":
            classifier.adversary = dataclasses.replace(
                classifier.adversary, init_magnitude=0.4
            )
        fit(classifier, x, y)
        found.append(classifier.get_weights())
    assert all_equal(found[0], found[1])
    assert not all_equal(found[0], found[2])


def test_every_batch_starts_from_a_delta_of_its_own(tiny_encoder):
    keras.utils.set_random_seed(1)
    classifier = make(tiny_encoder(), "freelb")
    adversary = FreeLB(steps=1, init_magnitude=0.5)
    mask = tf.ones([2, 3])
    starts = [
        adversary.initialize(mask, 8, classifier.seed_generator)
        for _ in range(3)
    ]
    assert not np.isclose(starts[0], starts[1]).any()
    assert not np.isclose(starts[1], starts[2]).any()


# Precision


class CheckingFreeLB(FreeLB):
    """FreeLB that keeps the types and values it is given."""

    def ascend(self, delta, gradient, padding_mask):
        assert delta.dtype == gradient.dtype == tf.float32
        moved = super().ascend(delta, gradient, padding_mask)
        assert moved.dtype == tf.float32
        assert np.isfinite(moved).all()
        return moved


@pytest.mark.parametrize(
    ("kind", "family"), [("plain", "bert"), ("freelb", "albert")]
)
def test_bfloat16_trains_with_delta_and_weights_in_float32(
    tiny_encoder, kind, family
):
    x, y = batch()
    encoder = tiny_encoder(family, dtype="mixed_bfloat16")
    classifier = make(encoder, kind, run_eagerly=True)
    if kind == "freelb":
        classifier.adversary = CheckingFreeLB(**SETTINGS)
    expected = gradients_of(make(tiny_encoder(family), kind), x, y)
    found = gradients_of(classifier, x, y)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max() < 0.05 + 0.1 * np.abs(other).max()
    start = classifier.get_weights()
    history = fit(classifier, x, y, batch_size=8)
    assert np.isfinite(history["loss"]).all()
    assert {weight.dtype for weight in classifier.weights} == {"float32"}
    assert all(np.isfinite(w).all() for w in classifier.get_weights())
    assert not all_equal(start, classifier.get_weights())


@each_kind
def test_loss_scaling_leaves_the_step_as_it_is(tiny_encoder, kind):
    """In float32, a power of two must change nothing at all."""
    x, y = batch()
    found = []
    for optimizer in (
        keras.optimizers.SGD(0.1),
        keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**12
        ),
    ):
        classifier = make(
            tiny_encoder(), kind, optimizer=optimizer, run_eagerly=True
        )
        history = fit(classifier, x, y, batch_size=8)
        found.append((history, classifier.get_weights()))
    assert_all_close(found[1][1], found[0][1])
    for key, values in found[0][0].items():
        np.testing.assert_allclose(found[1][0][key], values, rtol=1e-5)


@pytest.mark.parametrize("scale", [2.0**10, 2.0**30])
@each_kind
def test_float16_with_loss_scaling_never_corrupts_weights(
    tiny_encoder, kind, scale
):
    x, y = batch()
    expected = make(tiny_encoder(), kind, run_eagerly=True)
    fit(expected, x, y, batch_size=8)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=scale
    )
    classifier = make(
        tiny_encoder(dtype="mixed_float16"),
        kind,
        optimizer=optimizer,
        run_eagerly=True,
    )
    start = classifier.get_weights()
    history = fit(classifier, x, y, batch_size=8)
    assert np.isfinite(history["loss"]).all()
    if scale == 2.0**30:
        # Half floats overflow: the step is left out, the scale halved.
        assert all_equal(classifier.get_weights(), start)
        assert float(optimizer.dynamic_scale) == scale / 2
    else:
        assert_all_close(
            classifier.get_weights(), expected.get_weights(), tolerance=0.01
        )
        assert not all_equal(classifier.get_weights(), start)


# Settings


def test_a_single_class_is_refused(tiny_encoder):
    with pytest.raises(InputError) as error:
        AdversarialClassifier(tiny_encoder(), 1)
    assert error.value.argument == "num_classes"
