"""Activations by Hugging Face's names, fast in training and in serving.

Keras' GELU and its gradient are ten operations each, each of which reads and
writes the largest tensor of a layer. XLA fuses them into one, which takes a
tenth of a second for every new shape.
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
        units: int, the number of inner units.

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
    """Compiles a function; keeps only its argument for its gradient."""
    compiled = functools.partial(
        tf.function, autograph=False, jit_compile=True, reduce_retracing=True
    )
    forward, backward = compiled(function), compiled(derivative)

    @tf.custom_gradient
    def call(x):
        return forward(x), lambda upstream: backward(x, upstream)

    return call


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Computes GELU in a form that TensorFlow fuses, unlike `tf.nn.gelu`."""
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


_exact = functools.partial(keras.activations.gelu, approximate=False)
_approximate = functools.partial(keras.activations.gelu, approximate=True)


def _quick_gelu(x):
    return x * keras.activations.sigmoid(1.702 * x)


# Hugging Face's names. Some mean the same; an encoder's description has the
# first of these.
ACTIVATIONS = {
    "gelu": _exact,
    "gelu_python": _exact,
    "gelu_new": _approximate,
    "gelu_accurate": _approximate,
    "gelu_fast": _approximate,
    "gelu_python_tanh": _approximate,
    "gelu_pytorch_tanh": _approximate,
    "leaky_relu": functools.partial(
        keras.activations.leaky_relu, negative_slope=0.01
    ),
    "linear": keras.activations.linear,
    "mish": keras.activations.mish,
    "quick_gelu": _quick_gelu,
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "sigmoid": keras.activations.sigmoid,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    "tanh": keras.activations.tanh,
}
_COMPILED = {
    "gelu": _compiled(gelu, _gelu_gradient),
    "gelu_new": _compiled(_approximate_gelu, _approximate_gelu_gradient),
}
