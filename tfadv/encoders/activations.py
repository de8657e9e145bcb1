"""Feed-forward layers' activations by Hugging Face's names, fast in training.

Keras' GELU and its gradient are ten operations each, each of which reads and
writes the largest tensor of a layer; XLA makes one of them, in a tenth of a
second for every new shape.
"""

import functools
import math

import keras
import tensorflow as tf

# Inner units from which on compiling is worth its time.
_WIDE = 256


def fastest(activation, units):
    """Returns an activation as it is best computed.

    Args:
        activation: string, see `ACTIVATIONS`.
        units: int, the inner units that it is computed for.

    Returns:
        A function of one tensor.
    """
    function = ACTIVATIONS[activation]
    return _COMPILED.get(activation, function) if units >= _WIDE else function


def _compiled(function, derivative):
    """Makes a function of one tensor that keeps its argument alone."""
    compiled = functools.partial(
        tf.function, autograph=False, jit_compile=True, reduce_retracing=True
    )
    forward, backward = compiled(function), compiled(derivative)

    @tf.custom_gradient
    def call(x):
        return forward(x), lambda upstream: backward(x, upstream)

    return call


def gelu(x):
    """GELU in the form that TensorFlow fuses with a product before it.

    Which that of `tf.nn.gelu` is not.
    """
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


# Hugging Face's names, some of which mean the same.
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
_COMPILED |= {
    name: _COMPILED["gelu" if function is _exact else "gelu_new"]
    for name, function in ACTIVATIONS.items()
    if function in (_exact, _approximate)
}
