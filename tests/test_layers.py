"""The backbone's layers as they are computed here, against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tfadv import layers
from tfadv.encoder import Encoder

COMPILED = ["gelu", "gelu_new"]


def values_and_gradients(function, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x, upstream)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_activation_is_keras(name):
    # Near zero, where it bends, and far out, where the exponential vanishes.
    x = tf.concat([tf.linspace(-6.0, 6.0, 4001), [-40.0, 40.0, 1e4]], 0)
    upstream = tf.random.stateless_normal(x.shape, [0, 1])
    found = values_and_gradients(layers._COMPILED[name], x, upstream)
    expected = values_and_gradients(layers.ACTIVATIONS[name], x, upstream)
    # The last bits of erf and tanh near 1 differ, and are multiplied with x.
    np.testing.assert_allclose(found[0], expected[0], atol=5e-6, rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_gradient_by_differences(name):
    """The derivative, against float64 differences of Keras' function."""
    x = np.linspace(-4.0, 4.0, 161)
    step = 1e-5
    keras_own = layers.ACTIVATIONS[name]
    slope = (keras_own(x + step) - keras_own(x - step)) / (2 * step)
    _, found = values_and_gradients(
        layers._COMPILED[name],
        tf.constant(x, tf.float32),
        tf.ones(x.shape),
    )
    np.testing.assert_allclose(found, slope, atol=5e-6)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_activation_in_bfloat16(name):
    """No further from float32 than one rounding of what is read and given."""
    x = tf.cast(tf.linspace(-6.0, 6.0, 1001), tf.bfloat16)
    upstream = tf.cast(tf.random.stateless_normal(x.shape, [0, 1]), x.dtype)
    found = values_and_gradients(layers._COMPILED[name], x, upstream)
    expected = values_and_gradients(
        layers.ACTIVATIONS[name],
        tf.cast(x, tf.float32),
        tf.cast(upstream, tf.float32),
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == tf.bfloat16
        np.testing.assert_allclose(
            tf.cast(one, tf.float32), other, atol=2e-2, rtol=2e-2
        )


@pytest.mark.parametrize(
    ("equation", "output", "bias", "shape"),
    [
        # Queries, keys and values; and what is made of all heads' results.
        ("abc,cde->abde", (None, 3, 4), "de", [2, 5, 12]),
        ("abcd,cde->abe", (None, 12), "e", [2, 5, 3, 4]),
    ],
)
def test_projection_is_keras_einsum(equation, output, bias, shape):
    dense = keras.layers.EinsumDense(equation, output, bias_axes=bias)
    x = tf.random.stateless_normal(shape, [0, 2])
    dense(x)
    dense.bias.assign(tf.random.stateless_normal(dense.bias.shape, [0, 3]))
    results = []
    for call in (dense, lambda x: layers.project(dense, x)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = call(x)
            loss = tf.reduce_sum(y * tf.sin(y))
        sources = [x, *(v.value for v in dense.trainable_weights)]
        results.append([y, *tape.gradient(loss, sources)])
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["albert", "bert"])
@pytest.mark.parametrize("wide", [1, 10_000])
def test_every_layer_is_replaced(family, wide, tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "_WIDE", wide)
    case = next(c for c in checkpoints.ENCODER_CASES if c.family == family)
    tensors = checkpoints.random_tensors(case)
    checkpoints.write_checkpoint(tmp_path, case.config, tensors)
    encoder = Encoder.from_pretrained(tmp_path)
    found = [
        layer
        for layer in encoder.backbone.layers
        if hasattr(layer, "_self_attention_layer")
    ]
    assert found
    for layer in found:
        dense = layer._feedforward_intermediate_dense
        compiled = dense.activation in layers._COMPILED.values()
        assert compiled == (wide == 1)
        assert layer._self_attention_layer._query_dense.call.func is (
            layers.project
        )
