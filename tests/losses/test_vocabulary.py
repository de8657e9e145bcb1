"""The cross-entropy in blocks of tokens against that of all at once."""

import numpy as np
import pytest
import tensorflow as tf

from tfadv.losses import vocabulary

EMBEDDING, VOCABULARY = 6, 40

SPECS = (
    tf.TensorSpec([None, EMBEDDING], tf.float32),
    tf.TensorSpec([VOCABULARY, EMBEDDING], tf.float32),
    tf.TensorSpec([VOCABULARY], tf.float32),
    tf.TensorSpec([None], tf.int32),
    tf.TensorSpec([None], tf.float32),
)
# Ways to call a function of the loss' arguments.
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "compiled": tf.function(jit_compile=True),
}


def arguments(tokens, zeros=0.0, seed=0):
    """Returns hidden, embeddings, bias, targets and weights.

    Args:
        tokens: int.
        zeros: float, the share of weights that are 0, at random places.
        seed: int.
    """
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 2, tokens)
    weights[rng.permutation(tokens)[: round(zeros * tokens)]] = 0
    return (
        tf.constant(rng.normal(size=[tokens, EMBEDDING]), tf.float32),
        tf.constant(rng.normal(size=[VOCABULARY, EMBEDDING]), tf.float32),
        tf.constant(rng.normal(size=[VOCABULARY]), tf.float32),
        tf.constant(rng.integers(VOCABULARY, size=tokens), tf.int32),
        tf.constant(weights, tf.float32),
    )


def dense_cross_entropy(hidden, embeddings, bias, targets, weights):
    logits = tf.matmul(hidden, embeddings, transpose_b=True) + bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.reduce_sum(losses * weights)


def numpy_cross_entropy(hidden, embeddings, bias, targets, weights):
    logits = hidden @ embeddings.T + bias
    right = logits[np.arange(len(targets)), targets]
    return (weights * (np.log(np.exp(logits).sum(axis=1)) - right)).sum()


def loss_and_gradients(function, upstream=1.0):
    """Makes a function that returns the loss and gradients by its inputs."""

    def compute(hidden, embeddings, bias, targets, weights):
        inputs = [hidden, embeddings, bias]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = function(*inputs, targets, weights)
            scaled = upstream * loss
        return [loss, *tape.gradient(scaled, inputs)]

    return compute


def assert_dense(found, values, upstream=1.0):
    expected = loss_and_gradients(dense_cross_entropy, upstream)(*values)
    assert found[0].dtype == tf.float32
    assert found[0].shape == ()
    for of_blocks, dense in zip(found, expected, strict=True):
        assert of_blocks.shape == dense.shape
        np.testing.assert_allclose(
            of_blocks,
            dense,
            rtol=1e-5,
            atol=1e-5 * np.abs(dense).max(initial=0),
        )


blockwise = loss_and_gradients(vocabulary.vocabulary_cross_entropy)


@pytest.mark.parametrize("zeros", [0.0, 0.7])
@pytest.mark.parametrize("tokens", [1, 255, 256, 257, 511, 512, 513, 700])
def test_loss_and_gradients_are_the_dense_ones(tokens, zeros):
    values = arguments(tokens, zeros)
    assert_dense(blockwise(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tokens", [1, 8, 30])
def test_graphs_and_eager_are_alike(tokens, mode, monkeypatch):
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", 8)
    values = arguments(tokens, zeros=0.4)
    compute = loss_and_gradients(
        vocabulary.vocabulary_cross_entropy, upstream=2.5
    )
    assert_dense(MODES[mode](compute)(*values), values, upstream=2.5)


def test_a_graph_takes_any_number_of_tokens(monkeypatch):
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", 8)
    compute = tf.function(blockwise, input_signature=SPECS)
    for tokens in (0, 1, 8, 9, 30):
        for zeros in (0.0, 0.5, 1.0):
            values = arguments(tokens, zeros, seed=tokens)
            assert_dense(compute(*values), values)
    assert compute.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("upstream", [2.5, -0.1, 0.0])
def test_gradients_are_scaled_from_upstream(upstream):
    values = arguments(20)
    compute = loss_and_gradients(vocabulary.vocabulary_cross_entropy, upstream)
    assert_dense(compute(*values), values, upstream)


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_0_throughout_have_no_loss(mode, monkeypatch):
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", 8)
    values = arguments(20, zeros=1.0)
    for found in MODES[mode](blockwise)(*values):
        np.testing.assert_array_equal(found, np.zeros(found.shape))


def test_tokens_of_weight_0_have_no_part():
    hidden, embeddings, bias, targets, weights = arguments(30, zeros=0.5)
    found = blockwise(hidden, embeddings, bias, targets, weights)
    unread = weights.numpy() == 0
    assert not found[1].numpy()[unread].any()
    assert found[1].numpy()[~unread].all()
    others = blockwise(
        tf.where(unread[:, None], -9 * hidden, hidden),
        embeddings,
        bias,
        tf.where(unread, 0, targets),
        weights,
    )
    for one, other in zip(found, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("tokens", "read", "blocks"),
    [
        (96, 96, 12),
        (96, 17, 3),
        (96, 16, 2),
        (96, 1, 1),
        (96, 0, 0),
        (17, 17, 3),
        (17, 1, 1),
        (8, 8, 1),
        (3, 3, 1),
    ],
)
def test_tokens_of_weight_0_cost_nothing(tokens, read, blocks, monkeypatch):
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", 8)
    cross_entropy = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits
    sizes = []

    def counted(features, labels):
        sizes.append(len(features))
        return cross_entropy(features=features, labels=labels)

    monkeypatch.setattr(
        tf.raw_ops, "SparseSoftmaxCrossEntropyWithLogits", counted
    )
    blockwise(*arguments(tokens, zeros=1 - read / tokens))
    # Both passes together: no logits are computed twice.
    assert len(sizes) == blocks
    assert max(sizes, default=0) <= 8
    assert 0 <= sum(sizes) - read < 8


def test_no_gradient_flows_to_the_weights():
    values = arguments(5)
    with tf.GradientTape() as tape:
        tape.watch(values[-1])
        loss = vocabulary.vocabulary_cross_entropy(*values)
    assert tape.gradient(loss, values[-1]) is None


def test_large_logits_do_not_overflow():
    hidden, embeddings, bias, targets, weights = arguments(20)
    values = 1e3 * hidden, 1e3 * embeddings, bias, targets, weights
    found = blockwise(*values)
    for part in found:
        assert np.isfinite(part).all()
    assert_dense(found, values)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_gradients_are_finite_differences(position, monkeypatch):
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", 4)
    values = arguments(6, zeros=0.2)
    loss, *gradients = blockwise(*values)
    exact = [value.numpy() for value in values]
    exact[:3] = (value.astype(np.float64) for value in exact[:3])
    np.testing.assert_allclose(loss, numpy_cross_entropy(*exact), rtol=1e-5)
    moved, step = exact[position], 1e-6
    differences = np.zeros_like(moved)
    for entry in np.ndindex(moved.shape):
        start = moved[entry]
        for sign in (1, -1):
            moved[entry] = start + sign * step
            differences[entry] += sign * numpy_cross_entropy(*exact) / step / 2
        moved[entry] = start
    np.testing.assert_allclose(
        gradients[position], differences, rtol=1e-4, atol=1e-6
    )
