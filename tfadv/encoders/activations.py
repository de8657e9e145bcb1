"""Activations by Hugging Face's names, fast in training and in serving.

Keras' GELU and its gradient are ten operations each, each of which reads and
writes the largest tensor of a layer; XLA makes one of them, in a tenth of a
second for every new shape.
"""

import functools
import math
from collections.abc import Callable

import keras
import tensorflow as tf

# From this number of inner units on, compiling is worth its time.
_WIDE = 256


def fastest(activation: str, units: int) -> Callable:
    """Returns an activation in the form that trains fastest.

    Args:
        activation: string, see `ACTIVATIONS`.
        units: int, the inner units that it is computed for.

    Returns:
        A function of one tensor.

    Example:

    ```python
    fastest("gelu", 3072)(tf.constant([[-1.0, 1.0]]))
    ```
    """
    function = ACTIVATIONS[activation]
    return _COMPILED.get(activation, function) if units >= _WIDE else function


def _compiled(function, derivative):
    """Compiles a function; for its gradient it keeps only its argument."""
    compiled = functools.partial(
        tf.function, autograph=False, jit_compile=True, reduce_retracing=True
    )
    forward, backward = compiled(function), compiled(derivative)

    @tf.custom_gradient
    def call(x):
        return forward(x), lambda upstream: backward(x, upstream)

    return call


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Computes GELU; TensorFlow fuses this form, and not `tf.nn.gelu`'s."""
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def _gelu_gradient(x, upstream):
    density = tf.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return upstream * (
        0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5))) + x * density
    )


_SLOPE, _CUBE = math.sqrt(2.0 / math.pi), 0.044715


def _approximate_gelu(x):
    inner = _SLOPE * x * (1.0 + _CUBE * x * x)
    return 0.5 * x * (1.0 + tf.tanh(inner))


def _approximate_gelu_gradient(x, upstream):
    tangent = tf.tanh(_SLOPE * x * (1.0 + _CUBE * x * x))
    slope = _SLOPE * (1.0 + 3.0 * _CUBE * x * x)
    return (
        upstream * 0.5 * (1.0 + tangent + x * (1.0 - tangent * tangent) * slope)
    )


_approximate = functools.partial(keras.activations.gelu, approximate=True)

# Hugging Face's names. KerasHub ignores `hidden_act` and always takes the
# tanh approximation, which no BERT checkpoint was trained with.
ACTIVATIONS = {
    "gelu": functools.partial(keras.activations.gelu, approximate=False),
    "gelu_new": _approximate,
    "gelu_pytorch_tanh": _approximate,
    "relu": keras.activations.relu,
}
# What a pooler may compute besides.
POOLERS = ACTIVATIONS | {"tanh": keras.activations.tanh}
_COMPILED = {
    "gelu": _compiled(gelu, _gelu_gradient),
    "gelu_new": _compiled(_approximate_gelu, _approximate_gelu_gradient),
}
_COMPILED["gelu_pytorch_tanh"] = _COMPILED["gelu_new"]
