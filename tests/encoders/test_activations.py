"""Compiled activations against Keras' own."""

import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tfadv.encoders import activations

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
    found = values_and_gradients(activations._COMPILED[name], x, upstream)
    expected = values_and_gradients(activations.ACTIVATIONS[name], x, upstream)
    # The last bits of erf and tanh near 1 differ, and are multiplied with x.
    np.testing.assert_allclose(found[0], expected[0], atol=5e-6, rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_gradient_by_differences(name):
    """The derivative, against float64 differences of Keras' function."""
    x = np.linspace(-4.0, 4.0, 161)
    step = 1e-5
    keras_own = activations.ACTIVATIONS[name]
    slope = (keras_own(x + step) - keras_own(x - step)) / (2 * step)
    _, found = values_and_gradients(
        activations._COMPILED[name],
        tf.constant(x, tf.float32),
        tf.ones(x.shape),
    )
    np.testing.assert_allclose(found, slope, atol=5e-6)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_activation_in_bfloat16(name):
    """No further from float32 than one rounding of what is read and given."""
    x = tf.cast(tf.linspace(-6.0, 6.0, 1001), tf.bfloat16)
    upstream = tf.cast(tf.random.stateless_normal(x.shape, [0, 1]), x.dtype)
    found = values_and_gradients(activations._COMPILED[name], x, upstream)
    expected = values_and_gradients(
        activations.ACTIVATIONS[name],
        tf.cast(x, tf.float32),
        tf.cast(upstream, tf.float32),
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == tf.bfloat16
        np.testing.assert_allclose(
            tf.cast(one, tf.float32), other, atol=2e-2, rtol=2e-2
        )


def test_wide_layers_alone_are_compiled(monkeypatch):
    monkeypatch.setattr(activations, "_WIDE", 64)
    for name, keras_own in activations.ACTIVATIONS.items():
        compiled = activations._COMPILED.get(name, keras_own)
        assert activations.fastest(name, 64) is compiled
        assert activations.fastest(name, 63) is keras_own


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activation_is_pytorchs(name):
    """By the name that a config has for it."""
    x = checkpoints.activation_inputs()
    expected = checkpoints.golden_activations()[name]
    found = activations.ACTIVATIONS[name](tf.constant(x))
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-5)
