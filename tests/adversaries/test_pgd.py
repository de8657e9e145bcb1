"""k-PGD: what it finds, what it leaves alone, and what is known exactly."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

import tfadv
from tfadv.adversaries import perturbation
from tfadv.adversaries.pgd import _seeds

LENGTHS = (9, 4, 1, 6, 7, 3)
MASK = (np.arange(9) < np.array(LENGTHS)[:, None]).astype(np.int32)

each_norm = pytest.mark.parametrize("norm", ["l2", "linf"])


def batch():
    """A batch for the tiny encoders, as arrays."""
    rng = np.random.default_rng(0)
    return {
        "token_ids": rng.integers(1, 50, MASK.shape).astype(np.int32) * MASK,
        "padding_mask": MASK,
        "segment_ids": rng.integers(0, 2, MASK.shape).astype(np.int32) * MASK,
    }


def build(encoder, num_classes=2, scale=3.0):
    """A classifier with a random head, far enough from even odds."""
    classifier = tfadv.AdversarialClassifier(encoder, num_classes)
    rng = np.random.default_rng(num_classes)
    kernel = rng.normal(size=classifier.head.kernel.shape)
    classifier.head.kernel.assign(scale * kernel)
    return classifier


@pytest.fixture(scope="module")
def classifier(tiny_encoder):
    return build(tiny_encoder())


@pytest.fixture(scope="module")
def x():
    return {key: tf.constant(value) for key, value in batch().items()}


@pytest.fixture(scope="module")
def y(classifier, x):
    """The predicted classes, but for the last example's."""
    labels = np.argmax(classifier(x), axis=1).astype(np.int32)
    labels[-1] = 1 - labels[-1]
    return labels


@pytest.fixture(scope="module")
def attack(classifier, x, y):
    """Attacks that batch, with the same settings only once."""
    return functools.cache(
        functools.partial(tfadv.pgd_attack, classifier, x, y)
    )


def sizes(delta, norm):
    delta = np.asarray(delta, np.float64)
    if norm == "linf":
        return np.abs(delta).max(axis=(1, 2))
    return np.sqrt((delta**2).sum(axis=(1, 2)))


def losses_at(classifier, x, y, delta):
    """The cross-entropies and the wrong predictions, by hand."""
    embeddings = classifier.encoder.embed(x) + delta
    logits = classifier.classify(classifier.encoder.encode(embeddings, x))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
    return losses, np.argmax(logits, axis=1) != y


def gradient_at(classifier, x, y, delta):
    delta = tf.convert_to_tensor(delta)
    with tf.GradientTape() as tape:
        tape.watch(delta)
        losses, _ = losses_at(classifier, x, y, delta)
    return tape.gradient(losses, delta)


def assert_not_weaker(attack, other):
    """Fools whom the other fools, and at least as much where both agree."""
    fooled, others = attack.fooled.numpy(), other.fooled.numpy()
    assert (fooled | ~others).all()
    alike = fooled == others
    assert (attack.loss.numpy() >= other.loss.numpy())[alike].all()


# What comes out


@each_norm
@pytest.mark.parametrize("step_size", [None, 0.5])
def test_epsilon_zero_is_the_clean_classifier(
    classifier, x, y, norm, step_size
):
    found = tfadv.pgd_attack(
        classifier, x, y, 0.0, 1, step_size, norm, restarts=2
    )
    logits = classifier(x).numpy()
    np.testing.assert_array_equal(found.clean["logits"], logits)
    np.testing.assert_array_equal(found.adversarial["logits"], logits)
    np.testing.assert_array_equal(found.fooled, np.argmax(logits, 1) != y)
    assert np.mean(~found.fooled.numpy()) == 5 / 6
    assert not found.delta.numpy().any()


@each_norm
@pytest.mark.parametrize("epsilon", [0.02, 0.6])
def test_delta_stays_in_the_ball_and_off_the_padding(attack, norm, epsilon):
    delta = attack(epsilon, steps=3, norm=norm, restarts=2).delta
    assert delta.shape == (6, 9, 8)
    assert delta.dtype == tf.float32
    largest = sizes(delta, norm)
    assert (largest <= epsilon * (1 + 1e-6)).all()
    assert (largest > 0).all()
    assert not delta.numpy()[MASK == 0].any()


@each_norm
def test_losses_and_outputs_are_those_of_delta(attack, classifier, x, y, norm):
    found = attack(0.6, steps=3, norm=norm, restarts=2)
    losses, fooled = losses_at(classifier, x, y, found.delta)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-5)
    np.testing.assert_array_equal(found.fooled, fooled)
    for outputs, delta in (
        (found.clean, 0.0),
        (found.adversarial, found.delta),
    ):
        embeddings = classifier.encoder.embed(x) + delta
        expected = classifier.encoder.encode(embeddings, x, pooled_only=True)
        expected = {**expected, "logits": classifier.classify(expected)}
        assert set(outputs) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(
                outputs[name], value, rtol=1e-5, atol=1e-6
            )


@each_norm
def test_no_example_has_less_than_its_clean_loss(
    attack, classifier, x, y, norm
):
    clean, _ = losses_at(classifier, x, y, 0.0)
    # In two classes nobody is fooled at a lower loss.
    for epsilon in (0.2, 0.8, 3.0):
        losses = attack(epsilon, steps=3, norm=norm).loss.numpy()
        assert (losses >= clean.numpy()).all()
        assert (losses > clean.numpy()).any()


@each_norm
def test_a_larger_ball_leaves_less_accuracy(attack, norm):
    accuracies = [
        np.mean(~attack(epsilon, steps=3, norm=norm).fooled.numpy())
        for epsilon in (0.0, 0.2, 0.8, 3.0)
    ]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == 5 / 6
    assert accuracies[-1] < 0.5


@each_norm
def test_more_steps_of_a_size_are_never_weaker(tiny_encoder, x, norm):
    classifier = build(tiny_encoder(), num_classes=5, scale=2.0)
    y = np.argmax(classifier(x), axis=1)
    step_size = {"l2": 0.4, "linf": 0.1}[norm]
    attacks = [
        tfadv.pgd_attack(classifier, x, y, 3 * step_size, k, step_size, norm)
        for k in (1, 2, 4)
    ]
    for fewer, more in itertools.pairwise(attacks):
        assert_not_weaker(more, fewer)
    assert (attacks[-1].loss.numpy() > attacks[0].loss.numpy()).any()


@each_norm
def test_more_restarts_are_never_weaker(attack, norm):
    attacks = [
        attack(0.3, steps=1, norm=norm, restarts=restarts, seed=3)
        for restarts in (1, 2, 4)
    ]
    for fewer, more in itertools.pairwise(attacks):
        assert_not_weaker(more, fewer)
    assert (attacks[-1].loss.numpy() > attacks[0].loss.numpy()).any()


def test_the_seed_tells_the_random_starts(classifier, x, y):
    settings = {"steps": 1, "step_size": 1e-6, "restarts": 2}
    first, again, other = (
        tfadv.pgd_attack(classifier, x, y, 0.5, seed=seed, **settings).delta
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first.numpy() != other.numpy()).any()


@each_norm
def test_the_strongest_point_on_the_ways_is_kept(
    attack, classifier, x, y, norm
):
    found = attack(0.6, steps=3, norm=norm, restarts=2)
    step = {"l2": perturbation.step, "linf": perturbation.sign_step}[norm]
    seeds = _seeds(x, 0, tf.constant(1))
    random = perturbation.random_in_ball(MASK, 8, 0.6, norm, seeds)
    points = []
    for delta in (tf.zeros([6, 9, 8]), random):
        points.append(delta)
        for _ in range(3):
            gradient = gradient_at(classifier, x, y, delta)
            delta = step(delta, gradient, MASK, 2.5 * 0.6 / 3)
            delta = perturbation.into_ball(delta, 0.6, norm)
            points.append(delta)
    measured = [losses_at(classifier, x, y, delta) for delta in points]
    losses, fooled = map(np.array, zip(*measured, strict=True))
    # Whether it fools comes first, then the loss.
    best = np.argmax(losses + 1e3 * fooled, axis=0)
    rows = np.arange(6)
    np.testing.assert_array_equal(found.fooled, fooled[best, rows])
    np.testing.assert_allclose(found.loss, losses[best, rows], rtol=1e-5)
    np.testing.assert_allclose(
        found.delta, np.array(points)[best, rows], atol=1e-5
    )


@pytest.mark.parametrize("family", ["albert", "bert"])
@each_norm
def test_one_step_from_zero_is_fgm(tiny_encoder, x, norm, family):
    classifier = build(tiny_encoder(family))
    y = np.argmax(classifier(x), axis=1)
    zero = np.zeros([6, 9, classifier.encoder.embedding_dim], np.float32)
    gradient = gradient_at(classifier, x, y, zero).numpy()
    if norm == "l2":
        expected = gradient / sizes(gradient, "l2")[:, None, None]
    else:
        # What reaches padding is masked.
        expected = np.sign(gradient) * MASK[:, :, None]
    found = tfadv.pgd_attack(
        classifier, x, y, 1e-3, steps=1, step_size=1e-3, norm=norm
    )
    np.testing.assert_allclose(found.delta, 1e-3 * expected, atol=1e-8)


def test_stopping_early_stays_where_it_fools_first(attack, classifier, x, y):
    each = [attack(0.6, steps=k, step_size=0.15) for k in (1, 2, 3, 4)]
    stopped = attack(0.6, steps=4, step_size=0.15, stop_when_fooled=True)
    fooled = np.array([found.fooled for found in each])
    np.testing.assert_array_equal(stopped.fooled, fooled[-1])
    clean_fooled = losses_at(classifier, x, y, 0.0)[1]
    first = np.where(fooled.any(axis=0), fooled.argmax(axis=0), 3)
    assert len(set(first)) > 1
    for row in range(6):
        expected = each[first[row]].delta[row]
        if clean_fooled[row]:
            expected = np.zeros([9, 8])
        np.testing.assert_allclose(stopped.delta[row], expected, atol=1e-6)


@each_norm
@pytest.mark.parametrize("epsilon", [0.3, 3.0])
def test_stopping_early_fools_the_same(attack, norm, epsilon):
    settings = {"steps": 1, "norm": norm, "restarts": 2, "seed": 3}
    whole = attack(epsilon, **settings)
    stopped = attack(epsilon, **settings, stop_when_fooled=True)
    np.testing.assert_array_equal(stopped.fooled, whole.fooled)


# What it does not depend on


@each_norm
@pytest.mark.parametrize("restarts", [1, 3])
def test_longer_padding_changes_nothing(
    attack, classifier, x, y, norm, restarts
):
    settings = {"steps": 3, "norm": norm, "restarts": restarts}
    longer = {key: tf.pad(value, [[0, 0], [0, 5]]) for key, value in x.items()}
    one = attack(0.2, **settings)
    other = tfadv.pgd_attack(classifier, longer, y, 0.2, **settings)
    np.testing.assert_array_equal(other.fooled, one.fooled)
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-4)
    np.testing.assert_allclose(other.delta[:, :9], one.delta, atol=1e-4)
    assert not other.delta.numpy()[:, 9:].any()


@each_norm
@pytest.mark.parametrize(
    ("rows", "restarts"), [([0], 1), ([5, 2, 4], 1), ([5, 2, 4], 3)]
)
def test_other_examples_change_nothing(
    attack, classifier, x, y, norm, rows, restarts
):
    settings = {"steps": 3, "norm": norm, "restarts": restarts}
    together = attack(0.2, **settings)
    part = tfadv.pgd_attack(
        classifier,
        {key: tf.gather(value, rows) for key, value in x.items()},
        y[rows],
        0.2,
        **settings,
    )
    np.testing.assert_array_equal(part.fooled, together.fooled.numpy()[rows])
    for name in ("delta", "loss"):
        np.testing.assert_allclose(
            getattr(part, name),
            getattr(together, name).numpy()[rows],
            rtol=1e-4,
            atol=1e-4,
        )


def test_arrays_and_lists_are_taken_as_well(attack, classifier, y):
    one = attack(0.3, steps=1)
    other = tfadv.pgd_attack(classifier, batch(), y.tolist(), 0.3, steps=1)
    np.testing.assert_array_equal(other.delta, one.delta)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_encoders_are_attacked_in_float32(
    tiny_encoder, x, precision, scale
):
    # At the larger scale the clean loss's gradient underflows in float16.
    classifier = build(tiny_encoder(dtype=precision), scale=scale)
    y = np.argmax(classifier(x), axis=1)
    found = tfadv.pgd_attack(classifier, x, y, 0.5, steps=2)
    assert found.delta.dtype == found.loss.dtype == tf.float32
    clean = tf.nn.sparse_softmax_cross_entropy_with_logits(
        y, found.clean["logits"]
    )
    assert (found.loss.numpy() > clean.numpy()).all()


def test_the_classifier_stays_as_it_is(classifier, x, y):
    states = classifier.seed_states()
    assert states
    variables = [*classifier.variables, *states]
    before = [variable.numpy() for variable in variables]
    tfadv.pgd_attack(classifier, x, y, 0.5, steps=1, restarts=2)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_every_example_has_random_starts_of_its_own(x):
    seeds = np.concatenate(
        [_seeds(x, seed, tf.constant(r)) for seed in (0, 1) for r in (1, 2)]
    )
    assert seeds.shape == (24, 2)
    assert len(np.unique(seeds, axis=0)) == 24


# In a graph


def test_new_radii_need_no_new_graph(attack, classifier, x, y):
    @tf.function
    def attacked(x, y, epsilon):
        return tfadv.pgd_attack(classifier, x, y, epsilon, steps=3)

    for epsilon in (0.0, 0.2, 0.8):
        found = attacked(x, tf.constant(y), tf.constant(epsilon))
        expected = attack(epsilon, steps=3, norm="l2")
        np.testing.assert_array_equal(found.fooled, expected.fooled)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-4)
        np.testing.assert_allclose(found.delta, expected.delta, atol=1e-4)
    assert attacked.experimental_get_tracing_count() == 1


def test_restarts_and_stopping_early_work_in_a_graph(attack, classifier, x, y):
    settings = {"steps": 1, "norm": "linf", "restarts": 2, "seed": 3}

    @tf.function
    def attacked(x, y, epsilon):
        return tfadv.pgd_attack(
            classifier, x, y, epsilon, stop_when_fooled=True, **settings
        )

    for epsilon in (0.3, 3.0):
        found = attacked(x, tf.constant(y), tf.constant(epsilon))
        expected = attack(epsilon, **settings, stop_when_fooled=True)
        np.testing.assert_array_equal(found.fooled, expected.fooled)
        np.testing.assert_allclose(found.delta, expected.delta, atol=1e-4)


# Linear classifiers, whose strongest adversaries are known


class LinearEncoder:
    """Sums the embeddings of the real tokens."""

    embedding_dim = 3

    def __init__(self):
        rng = np.random.default_rng(5)
        self.table = tf.constant(rng.normal(size=[50, 3]), tf.float32)

    def embed(self, x):
        return tf.gather(self.table, x["token_ids"])

    def encode(self, embeddings, x, pooled_only=False):
        mask = tf.cast(x["padding_mask"], tf.float32)[:, :, None]
        pooled = tf.reduce_sum(embeddings * mask, axis=1)
        return {"pooled_output": pooled, "sequence_output": embeddings}


class LinearClassifier:
    """Two classes, linear in the sum of the embeddings."""

    def __init__(self):
        self.encoder = LinearEncoder()
        self.kernel = np.float32([[0.5, -0.1], [-0.3, 0.2], [0.1, 0.9]])

    def classify(self, outputs):
        return tf.matmul(outputs["pooled_output"], self.kernel)


@each_norm
@pytest.mark.parametrize("settings", [{}, {"steps": 1}, {"restarts": 3}])
def test_a_linear_classifiers_strongest_adversary_is_found(x, norm, settings):
    classifier = LinearClassifier()
    y = np.array([0, 1, 0, 1, 1, 0])
    epsilon = {"l2": 0.4, "linf": 0.1}[norm]
    pooled = classifier.encoder.encode(classifier.encoder.embed(x), x)
    pooled = pooled["pooled_output"].numpy().astype(np.float64)
    kernel = classifier.kernel.astype(np.float64)
    difference = kernel[:, 1 - y].T - kernel[:, y].T
    lengths = np.array(LENGTHS)
    if norm == "l2":
        size = np.linalg.norm(difference, axis=1)
        gain = epsilon * np.sqrt(lengths) * size
        direction = difference / (size * np.sqrt(lengths))[:, None]
    else:
        gain = epsilon * lengths * np.abs(difference).sum(axis=1)
        direction = np.sign(difference)
    margins = (difference * pooled).sum(axis=1)

    found = tfadv.pgd_attack(classifier, x, y, epsilon, norm=norm, **settings)
    np.testing.assert_allclose(
        found.loss, np.log1p(np.exp(margins + gain)), rtol=1e-5
    )
    np.testing.assert_array_equal(found.fooled, margins + gain > 0)
    assert 0 < np.sum(margins > 0) < np.sum(margins + gain > 0) < 6
    np.testing.assert_allclose(
        found.delta,
        epsilon * direction[:, None, :] * MASK[:, :, None],
        atol=0.01 if "restarts" in settings else 1e-6,
    )


class StairsClassifier:
    """Three classes on one token of one dimension, step by step.

    Steps to the right find: right, wrong with a low loss, right with a high
    one, wrong with one in between.
    """

    logits = tf.constant(
        [[0, -3, -3], [0, 0.1, -5], [0, -0.1, -0.1], [0, 0.2, -5]], tf.float32
    )

    def __init__(self):
        self.encoder = self
        self.embedding_dim = 1

    def embed(self, x):
        return tf.zeros([1, 1, 1])

    def encode(self, embeddings, x, pooled_only=False):
        return {"pooled_output": embeddings[:, 0, 0]}

    def classify(self, outputs):
        place = outputs["pooled_output"]
        # Flat steps that have a slope for the gradient.
        slope = (place - tf.stop_gradient(place))[:, None] * [0.0, 1.0, 1.0]
        step = tf.cast(tf.round(place), tf.int32)
        return tf.gather(self.logits, step) + slope


@pytest.mark.parametrize(("steps", "place"), [(1, 1.0), (2, 1.0), (3, 3.0)])
def test_to_fool_counts_more_than_the_loss(steps, place):
    found = tfadv.pgd_attack(
        StairsClassifier(),
        {"padding_mask": tf.ones([1, 1])},
        [0],
        epsilon=4.0,
        steps=steps,
        step_size=1.0,
    )
    assert found.fooled.numpy().tolist() == [True]
    assert found.delta.numpy().item() == pytest.approx(place)


# Settings


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("norm", {"norm": "l1"}),
        ("steps", {"steps": 0}),
        ("restarts", {"restarts": 0}),
        ("epsilon", {"epsilon": -0.1}),
        ("epsilon", {"epsilon": float("nan")}),
        ("epsilon", {"epsilon": float("inf")}),
        ("step_size", {"step_size": -1.0}),
        ("step_size", {"step_size": float("nan")}),
    ],
)
def test_bad_settings_are_named(x, name, settings):
    with pytest.raises(tfadv.InputError) as error:
        tfadv.pgd_attack(
            LinearClassifier(), x, [0] * 6, **{"epsilon": 0.1, **settings}
        )
    expected = "not-a-choice" if name == "norm" else "out-of-range"
    assert (error.value.code, error.value.argument) == (expected, name)
