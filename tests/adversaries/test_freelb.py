"""FreeLB's passes, deltas and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tfadv.adversaries.freelb import FreeLB
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.update.classifier import AdversarialClassifier

CASES = checkpoints.FREELB_CASES
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_family = pytest.mark.parametrize("family", ["albert", "bert"])
# Both families and both places of delta, in as few models.
each_half = pytest.mark.parametrize(
    ("family", "perturb_at"),
    [("albert", "word_embeddings"), ("bert", "embedding_block")],
)


class RecordingFreeLB(FreeLB):
    """FreeLB from a given start that keeps the delta of every pass.

    `deltas`, of shape `[steps, batch, tokens, embedding]`, belongs to the
    last call; where `start` is None, FreeLB draws its own.
    """

    def __init__(self, start=None, **settings):
        super().__init__(**settings)
        self.start = start
        self.deltas = None

    def initialize(self, padding_mask, embedding_dim, seed_generator):
        if self.start is None:
            return super().initialize(
                padding_mask, embedding_dim, seed_generator
            )
        return tf.convert_to_tensor(self.start, tf.float32)

    def run(self, one_pass, delta, padding_mask, state, first=0, last=None):
        def recording_pass(index, delta, state):
            deltas, state = state
            deltas = tf.tensor_scatter_nd_update(deltas, [[index]], [delta])
            gradient, state = one_pass(index, delta, state)
            return gradient, (deltas, state)

        deltas = tf.tile(delta[None], [self.steps, 1, 1, 1])
        last, (self.deltas, state) = super().run(
            recording_pass, delta, padding_mask, (deltas, state), first, last
        )
        return last, state


def compiled(encoder, adversary, num_classes=2, dropout=0.0, **options):
    classifier = AdversarialClassifier(
        encoder, num_classes, adversary=adversary, dropout=dropout
    )
    # Heads start at random: equal calls shall give equal classifiers.
    rng = np.random.default_rng(num_classes)
    kernel = rng.normal(size=classifier.head.kernel.shape)
    classifier.head.kernel.assign(kernel)
    settings = {
        "optimizer": keras.optimizers.SGD(0.1),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    }
    classifier.compile(**settings)
    # Or TensorFlow traces the first step twice: with its variables' creation
    # and without.
    classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def batch(lengths=(9, 4, 1, 6), tokens=9, seed=0):
    """A batch for the tiny encoders: features and labels of two classes."""
    rng = np.random.default_rng(seed)
    mask = np.arange(tokens) < np.array(lengths)[:, None]
    ids = rng.integers(1, 50, mask.shape)
    segments = rng.integers(0, 2, mask.shape)
    x = {
        "token_ids": (ids * mask).astype(np.int32),
        "padding_mask": mask.astype(np.int32),
        "segment_ids": (segments * mask).astype(np.int32),
    }
    return x, rng.integers(0, 2, len(lengths)).astype(np.int32)


def padded(x, extra):
    return {k: np.pad(v, [(0, 0), (0, extra)]) for k, v in x.items()}


def rows(x, index):
    return {key: value[index] for key, value in x.items()}


def gradients_by_weight(classifier, pairs):
    """Gradients as arrays, in the order of the trainable weights."""
    found = {id(weight): np.array(gradient) for gradient, weight in pairs}
    return [found[id(weight)] for weight in classifier.trainable_weights]


def run(classifier, x, y, sample_weight=None):
    """The deltas, gradients and pass statistics of one step, eagerly."""
    step = classifier.adversarial_gradients(x, y, sample_weight)
    return (
        classifier.adversary.deltas.numpy(),
        gradients_by_weight(classifier, step.gradients),
        step.statistics.numpy(),
    )


def norms(delta):
    return np.sqrt((np.asarray(delta, np.float64) ** 2).sum(axis=(-2, -1)))


def assert_all_close(actual, expected, tolerance=1e-6):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=tolerance)


# The PyTorch reference


@pytest.fixture(scope="module")
def largest():
    """Collects differences and prints the largest; `pytest -s` shows it."""
    differences = {}
    yield differences
    for key, difference in differences.items():
        print(f"\nlargest relative difference, {key}: {difference:.1e}")


def case_inputs(case):
    token_ids, padding_mask, segment_ids, labels = checkpoints.inputs(case)
    x = {
        "token_ids": token_ids,
        "padding_mask": padding_mask,
        "segment_ids": segment_ids,
    }
    return x, labels


def case_classifier(case, folder):
    tensors = checkpoints.random_tensors(case)
    checkpoints.write_checkpoint(folder, case.config, tensors)
    adversary = RecordingFreeLB(
        start=checkpoints.initial_delta(case),
        steps=case.steps,
        step_size=case.step_size,
        init_magnitude=case.init_scale,
        max_norm=case.max_norm,
    )
    classifier = compiled(
        Encoder.from_pretrained(folder), adversary, case.num_labels
    )
    classifier.head.kernel.assign(tensors["classifier.weight"].T)
    classifier.head.bias.assign(tensors["classifier.bias"])
    return classifier


def reference_gradients(case, outputs, folder):
    """PyTorch's gradients in the order of our trainable weights.

    Gradients transform as the weights do, so the converter of checkpoints
    turns theirs into ours.
    """
    gradients = checkpoints.gradients_of(outputs)
    checkpoints.write_checkpoint(folder, case.config, gradients)
    classifier = compiled(
        Encoder.from_pretrained(folder), None, case.num_labels
    )
    classifier.head.kernel.assign(gradients["classifier.weight"].T)
    classifier.head.bias.assign(gradients["classifier.bias"])
    return [weight.numpy() for weight in classifier.trainable_weights]


def relative(actual, expected):
    """The largest difference, relative to the largest value.

    Values below 1e-3 are compared as if it was that: the gradient of a key's
    bias, for one, is zero but for rounding.
    """
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-3)
    return np.abs(actual - expected).max() / scale


def assert_as_reference(case, found, outputs, folder, largest):
    deltas, gradients, losses = found
    expected = {
        "deltas": checkpoints.deltas_of(outputs),
        "gradients": reference_gradients(case, outputs, folder),
        "losses": [outputs["loss"]],
    }
    actual = {"deltas": deltas, "gradients": gradients, "losses": [losses]}
    for key, values in expected.items():
        for one, other in zip(actual[key], values, strict=True):
            difference = relative(one, other)
            largest[key] = max(largest.get(key, 0), difference)
            assert difference < 1e-4, key


@each_case
def test_deltas_and_gradients_equal_the_stored_ones_of_pytorch(
    case, tmp_path, largest
):
    classifier = case_classifier(case, tmp_path / "weights")
    deltas, gradients, statistics = run(classifier, *case_inputs(case))
    assert_as_reference(
        case,
        (deltas, gradients, statistics[:, 0]),
        checkpoints.golden("freelb", case),
        tmp_path / "gradients",
        largest,
    )
    np.testing.assert_allclose(
        statistics[:, 2], norms(deltas).mean(axis=1), rtol=1e-5
    )


@pytest.mark.parametrize(
    "case",
    [CASES[11], pytest.param(CASES[5], marks=pytest.mark.slow)],
    ids=lambda case: case.name,
)
def test_deltas_and_gradients_in_a_graph_equal_pytorchs(
    case, tmp_path, largest
):
    classifier = case_classifier(case, tmp_path / "weights")

    @tf.function
    def graph(x, y):
        step = classifier.adversarial_gradients(x, y)
        gradients = [gradient for gradient, _ in step.gradients]
        return classifier.adversary.deltas, gradients, step.statistics

    x, y = case_inputs(case)
    deltas, gradients, statistics = graph(
        {key: tf.constant(value) for key, value in x.items()}, tf.constant(y)
    )
    # The order of the weights is that of an eager call.
    pairs = classifier.adversarial_gradients(x, y).gradients
    pairs = [(g, w) for g, (_, w) in zip(gradients, pairs, strict=True)]
    assert_as_reference(
        case,
        (
            deltas.numpy(),
            gradients_by_weight(classifier, pairs),
            statistics.numpy()[:, 0],
        ),
        checkpoints.golden("freelb", case),
        tmp_path / "gradients",
        largest,
    )


# The stored ones are live ones of the same cases, so that one does here.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if i != 14 else [])
        for i, case in enumerate(CASES)
    ],
    ids=lambda case: case.name,
)
def test_deltas_and_gradients_equal_the_live_ones_of_pytorch(
    case, tmp_path, largest
):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests import torch_reference

    classifier = case_classifier(case, tmp_path / "weights")
    deltas, gradients, statistics = run(classifier, *case_inputs(case))
    assert_as_reference(
        case,
        (deltas, gradients, statistics[:, 0]),
        torch_reference.freelb_outputs(case),
        tmp_path / "gradients",
        largest,
    )


# What FreeLB must be equal to


@pytest.mark.parametrize(
    ("optimizer", "dropout"),
    [
        ("adam", 0.3),
        pytest.param("sgd", 0.0, marks=pytest.mark.slow),
        pytest.param("sgd", 0.3, marks=pytest.mark.slow),
        pytest.param("adam", 0.0, marks=pytest.mark.slow),
    ],
)
def test_one_pass_without_delta_is_plain_training(
    tiny_encoder, optimizer, dropout
):
    x, y = batch(lengths=(9, 4, 1, 6, 3, 2))
    weights, losses = [], []
    for adversary in (None, FreeLB(steps=1, init_magnitude=0.0)):
        keras.utils.set_random_seed(3)
        classifier = compiled(
            tiny_encoder(dropout=dropout),
            adversary,
            dropout=dropout,
            optimizer={
                "sgd": keras.optimizers.SGD(0.5, momentum=0.9),
                "adam": keras.optimizers.Adam(
                    0.01, epsilon=1e-5, global_clipnorm=0.5
                ),
            }[optimizer],
        )
        start = classifier.get_weights()
        history = classifier.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        weights.append(classifier.get_weights())
        losses.append(history.history["loss"])
    assert_all_close(weights[1], weights[0], tolerance=1e-5)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    moved = [np.abs(a - b).max() for a, b in zip(*weights, strict=True)]
    print(f"largest difference after three steps: {max(moved):.1e}")
    away = [np.abs(a - b).max() for a, b in zip(weights[0], start, strict=True)]
    assert max(away) > 100 * max(moved)


@each_half
def test_one_pass_without_delta_has_plain_gradients(
    tiny_encoder, family, perturb_at
):
    x, y = batch()
    encoder = tiny_encoder(family, perturb_at=perturb_at, dropout=0.2)
    adversary = RecordingFreeLB(steps=1)
    classifier = compiled(encoder, adversary, dropout=0.2)
    states = [(state, state.numpy()) for state in classifier.seed_states()]
    _, gradients, _ = run(classifier, x, y)
    for state, value in states:
        state.assign(value)
    with tf.GradientTape() as tape:
        loss = classifier.compute_loss(x, y, classifier(x, training=True))
    expected = tape.gradient(loss, classifier.trainable_weights)
    expected = [np.array(tf.convert_to_tensor(g)) for g in expected]
    assert_all_close(gradients, expected)


SETTINGS = {"steps": 3, "step_size": 0.5, "init_magnitude": 0.4}


@each_half
def test_longer_padding_changes_nothing(tiny_encoder, family, perturb_at):
    x, y = batch()
    found = []
    for inputs in (x, padded(x, 7)):
        keras.utils.set_random_seed(1)
        encoder = tiny_encoder(family, perturb_at=perturb_at)
        adversary = RecordingFreeLB(**SETTINGS, max_norm=0.7)
        found.append(run(compiled(encoder, adversary), inputs, y))
    (deltas, gradients, statistics), longer = found
    assert not longer[0][:, :, 9:].any()
    np.testing.assert_array_equal(longer[0][0, :, :9], deltas[0])
    assert_all_close(longer[0][:, :, :9], deltas)
    assert_all_close(longer[1], gradients)
    assert_all_close(longer[2], statistics)
    for delta in deltas:
        assert delta.any()
        assert not delta[x["padding_mask"] == 0].any()


@each_half
def test_other_examples_change_nothing_in_an_examples_delta(
    tiny_encoder, family, perturb_at
):
    x, y = batch()
    encoder = tiny_encoder(family, perturb_at=perturb_at)
    adversary = RecordingFreeLB(**SETTINGS, max_norm=0.7)
    classifier = compiled(encoder, adversary)
    deltas, _, _ = run(classifier, x, y)
    for index in ([0], [2], [1, 3]):
        adversary.start = deltas[0][index]
        found, _, _ = run(classifier, rows(x, index), y[index])
        assert_all_close(found, deltas[:, index], tolerance=1e-5)


def test_gradients_are_the_mean_of_those_of_single_examples(tiny_encoder):
    x, y = batch()
    adversary = RecordingFreeLB(**SETTINGS)
    classifier = compiled(tiny_encoder(), adversary)
    deltas, gradients, _ = run(classifier, x, y)
    singles = []
    for i in range(len(y)):
        adversary.start = deltas[0][[i]]
        singles.append(run(classifier, rows(x, [i]), y[[i]])[1])
    mean = [np.mean(parts, axis=0) for parts in zip(*singles, strict=True)]
    assert_all_close(gradients, mean, tolerance=1e-5)


def test_order_of_the_batch_changes_the_order_only(tiny_encoder):
    x, y = batch()
    adversary = RecordingFreeLB(**SETTINGS, max_norm=0.7)
    classifier = compiled(tiny_encoder(), adversary)
    deltas, gradients, statistics = run(classifier, x, y)
    order = [2, 0, 3, 1]
    adversary.start = deltas[0][order]
    found = run(classifier, rows(x, order), y[order])
    assert_all_close(found[0], deltas[:, order], tolerance=1e-5)
    assert_all_close(found[1], gradients, tolerance=1e-5)
    assert_all_close(found[2], statistics, tolerance=1e-5)


# Dropout


@pytest.mark.parametrize(
    ("perturb_at", "eager"),
    [("word_embeddings", True), ("embedding_block", False)],
)
def test_dropout_masks_are_the_same_in_all_passes_and_new_in_each_step(
    tiny_encoder, perturb_at, eager
):
    x, y = batch()
    # Steps too small to change anything in float32.
    adversary = FreeLB(steps=3, step_size=1e-12)
    encoder = tiny_encoder("albert", dropout=0.5, perturb_at=perturb_at)
    classifier = compiled(encoder, adversary, dropout=0.5)

    def losses(x, y):
        return classifier.adversarial_gradients(x, y).statistics[:, 0]

    if not eager:
        losses = tf.function(losses)
    x = {key: tf.constant(value) for key, value in x.items()}
    found = np.array([losses(x, y) for _ in range(3)])
    np.testing.assert_array_equal(found, found[:, :1].repeat(3, axis=1))
    assert len(set(found[:, 0])) == 3


def test_layers_of_one_pass_have_different_dropout_masks(tiny_encoder):
    """ALBERT's layers share weights and generators, but not masks."""
    encoder = tiny_encoder("albert", dropout=0.5)
    classifier = compiled(encoder, FreeLB(steps=2), dropout=0.5)
    states = classifier.seed_states()
    before = [state.numpy() for state in states]
    classifier.adversarial_gradients(*batch())
    once = [state.numpy() for state in states]
    # As after one plain call, whatever the number of passes.
    for state, value in zip(states, before, strict=True):
        state.assign(value)
    classifier(batch()[0], training=True)
    for state, value in zip(states, once, strict=True):
        np.testing.assert_array_equal(state, value)
    assert any((a != b).any() for a, b in zip(before, once, strict=True))


# The ascent


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_no_ascent_after_the_last_pass(steps):
    x, _ = batch()
    mask = tf.constant(x["padding_mask"])
    start = (
        tf.random.normal([*mask.shape, 8])
        * tf.cast(mask, "float32")[:, :, None]
    )
    seen = []

    def one_pass(index, delta, state):
        seen.append(delta)
        return tf.ones_like(delta), state + 1

    adversary = FreeLB(steps=steps, step_size=0.5)
    last, state = adversary.run(one_pass, start, mask, tf.constant(0))
    assert state == len(seen) == steps
    np.testing.assert_array_equal(seen[0], start)
    np.testing.assert_array_equal(seen[-1], last)
    # All gradients point the same way, so that steps add up.
    np.testing.assert_allclose(norms(last - start), 0.5 * (steps - 1), 1e-5)


def test_passes_are_apart_by_alpha_where_epsilon_is_zero(tiny_encoder):
    x, y = batch()
    adversary = RecordingFreeLB(steps=3, step_size=3.0)
    deltas, _, _ = run(compiled(tiny_encoder(), adversary), x, y)
    assert not deltas[0].any()
    apart = norms(deltas[1:] - deltas[:-1])
    np.testing.assert_allclose(apart, 3.0, rtol=1e-5)
    assert norms(deltas).max() > 3.1


def test_epsilon_limits_every_pass(tiny_encoder):
    x, y = batch()
    adversary = RecordingFreeLB(
        steps=3, step_size=3.0, init_magnitude=0.4, max_norm=0.25
    )
    deltas, _, _ = run(compiled(tiny_encoder(), adversary), x, y)
    assert (norms(deltas) <= 0.25 * (1 + 1e-6)).all()
    np.testing.assert_allclose(norms(deltas[1:]), 0.25, rtol=1e-5)


def test_alpha_grows_over_the_warm_up(tiny_encoder):
    x, y = batch()
    adversary = FreeLB(steps=2, step_size=0.2, warmup_steps=4)
    classifier = compiled(tiny_encoder(), adversary)
    history = classifier.fit(x, y, batch_size=len(y), epochs=6, verbose=0)
    # The last pass's delta is one step long.
    np.testing.assert_allclose(
        history.history["delta_norm"],
        [0.05, 0.1, 0.15, 0.2, 0.2, 0.2],
        rtol=1e-5,
    )
    assert classifier.adversary.step_size == 0.2


def test_after_the_warm_up_it_is_as_if_there_had_been_none(tiny_encoder):
    x, y = batch()
    found = []
    for warmup_steps in (0, 1):
        adversary = FreeLB(3, 0.2, warmup_steps=warmup_steps)
        classifier = compiled(tiny_encoder(), adversary)
        classifier.fit(x, y, batch_size=len(y), epochs=3, verbose=0)
        found.append(classifier.get_weights())
    assert_all_close(found[1], found[0])


def losses_at(classifier, x, y, delta):
    """The loss of each example at a perturbation."""
    embeddings = classifier.encoder.embed(x) + tf.cast(delta, tf.float32)
    logits = classifier.classify(classifier.encoder.encode(embeddings, x))
    return keras.losses.sparse_categorical_crossentropy(
        y, logits, from_logits=True
    ).numpy()


@each_half
def test_a_small_step_raises_the_loss_of_every_example(
    tiny_encoder, family, perturb_at
):
    x, y = batch()
    encoder = tiny_encoder(family, perturb_at=perturb_at)
    adversary = RecordingFreeLB(steps=2, step_size=0.01, init_magnitude=0.3)
    classifier = compiled(encoder, adversary)
    deltas, _, statistics = run(classifier, x, y)
    first, second = (losses_at(classifier, x, y, d) for d in deltas)
    assert (second > first).all()
    means = [first.mean(), second.mean()]
    np.testing.assert_allclose(statistics[:, 0], means, rtol=1e-5)
    opposite = losses_at(classifier, x, y, 2 * deltas[0] - deltas[1])
    assert (opposite < first).all()


@each_family
def test_steps_follow_the_finite_differences_of_the_loss(tiny_encoder, family):
    x, y = batch(lengths=(4, 2), tokens=4)
    adversary = RecordingFreeLB(steps=2, step_size=1.0, init_magnitude=0.3)
    classifier = compiled(tiny_encoder(family), adversary)
    deltas, _, _ = run(classifier, x, y)
    tokens, size = deltas[0].shape[1:]
    # One copy of the batch for each entry, moved to both sides.
    width = 0.01
    moves = width * np.eye(tokens * size).reshape(-1, 1, tokens, size)
    moves = np.concatenate([moves, -moves])
    copies = len(moves)
    points = (deltas[0] + moves).reshape(-1, tokens, size)
    losses = losses_at(
        classifier,
        {key: np.tile(value, [copies, 1]) for key, value in x.items()},
        np.tile(y, copies),
        points,
    ).reshape(2, -1, len(y))
    gradient = (losses[0] - losses[1]).T.reshape(deltas[0].shape)
    gradient *= x["padding_mask"][:, :, None]
    expected = gradient / norms(gradient)[:, None, None]
    np.testing.assert_allclose(deltas[1] - deltas[0], expected, atol=5e-3)


def test_a_constant_loss_moves_nothing_and_gives_no_nan(tiny_encoder):
    x, y = batch()
    adversary = RecordingFreeLB(**SETTINGS, max_norm=0.7)
    classifier = compiled(tiny_encoder(), adversary)
    classifier.head.kernel.assign(np.zeros(classifier.head.kernel.shape))
    deltas, gradients, statistics = run(classifier, x, y)
    for delta in deltas:
        np.testing.assert_array_equal(delta, deltas[0])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_allclose(statistics[:, 0], np.log(2), rtol=1e-6)


def test_training_on_a_separable_task_lowers_the_loss(tiny_encoder):
    x, _ = batch(lengths=[4] * 32, tokens=4)
    y = (x["token_ids"][:, 1] > 25).astype(np.int32)
    x["token_ids"][:, 1] = np.where(y, 7, 8)
    keras.utils.set_random_seed(1)
    classifier = compiled(
        tiny_encoder(),
        FreeLB(steps=3, step_size=0.1, init_magnitude=0.1, max_norm=0.3),
        optimizer=keras.optimizers.Adam(0.01),
        metrics=["accuracy"],
    )
    before = classifier.evaluate(x, y, verbose=0, return_dict=True)
    history = classifier.fit(x, y, batch_size=8, epochs=8, verbose=0).history
    after = classifier.evaluate(x, y, verbose=0, return_dict=True)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert after["loss"] < 0.3 * before["loss"]
    assert after["accuracy"] == 1


# The graph


def number_of_ops(function):
    """Counts a graph's operations and those of all functions it calls."""
    graph = function.graph.as_graph_def()
    functions = graph.library.function
    return len(graph.node) + sum(len(f.node_def) for f in functions)


def test_graph_does_not_grow_with_the_number_of_passes(tiny_encoder):
    x, y = batch()
    x = {key: tf.constant(value) for key, value in x.items()}
    sizes = []
    for steps in (2, 30):
        adversary = FreeLB(steps, 0.1, init_magnitude=0.2, max_norm=0.5)
        classifier = compiled(tiny_encoder(dropout=0.1), adversary)
        train_step = tf.function(classifier.train_step)
        sizes.append(number_of_ops(train_step.get_concrete_function((x, y))))
    assert sizes[0] == sizes[1]
    # The last one runs, and each of its passes sees a delta.
    results = train_step((x, y))
    assert np.isfinite(results["loss"])
    statistics = classifier.pass_statistics.result()
    assert statistics.shape == (30, 3)
    assert np.isfinite(statistics).all()
    assert (statistics[:, 2].numpy() > 0).all()


# Settings


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"steps": 0}, "out-of-range"),
        ({"steps": 2.5}, "wrong-type"),
        ({"step_size": 0}, "out-of-range"),
        ({"step_size": float("nan")}, "out-of-range"),
        ({"step_size": float("inf")}, "out-of-range"),
        ({"init_magnitude": -1}, "out-of-range"),
        ({"init_magnitude": float("nan")}, "out-of-range"),
        ({"max_norm": -0.1}, "out-of-range"),
        ({"max_norm": float("inf")}, "out-of-range"),
        ({"warmup_steps": -1}, "out-of-range"),
        ({"warmup_steps": 0.5}, "wrong-type"),
        # A random start has the norm gamma / sqrt(3).
        ({"init_magnitude": 0.18, "max_norm": 0.1}, "start-outside-ball"),
    ],
)
def test_settings_out_of_range_are_told(settings, code):
    with pytest.raises(InputError) as error:
        FreeLB(**settings)
    assert error.value.code == code
    assert error.value.argument == next(iter(settings))


def test_a_random_start_may_reach_the_edge_of_the_ball():
    assert FreeLB(init_magnitude=0.17, max_norm=0.1).init_magnitude == 0.17


def test_settings_are_data():
    adversary = FreeLB(4, 0.2, max_norm=1)
    assert FreeLB.from_dict(adversary.to_dict()) == adversary
    with pytest.raises(AttributeError):
        adversary.steps = 2


def test_settings_come_back_from_the_config():
    adversary = FreeLB(4, 0.2, 0.3, 0.5, 7)
    found = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(adversary)
    )
    assert type(found) is FreeLB
    assert found.get_config() == adversary.get_config()
    assert found.get_config() == {
        "steps": 4,
        "step_size": 0.2,
        "init_magnitude": 0.3,
        "max_norm": 0.5,
        "warmup_steps": 7,
    }
