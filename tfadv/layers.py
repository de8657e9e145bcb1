"""The layers of KerasHub's encoders, computed faster; results stay the same.

Three things take a sixth of an update's time without need. The last block is
computed for all tokens, of which a classifier reads the first. KerasHub
computes attention's projections as a batch of products, a matrix a text, and
sums their gradients over the batch; with the tokens of all texts below each
other one product does all of it. And GELU and its gradient are ten operations
each, each of which reads and writes the largest tensor of a layer; XLA makes
one of them, in a tenth of a second for every new shape.
"""

import functools
import math

import keras
import keras_hub
import tensorflow as tf

# Inner units from which on compiling is worth its time.
_WIDE = 256


def replace(backbone, activation):
    """Makes a backbone's layers compute as said above.

    Args:
        backbone: KerasHub backbone. The activations of its
            `keras_hub.layers.TransformerEncoder`s and the `call` of their
            attention's projections are replaced.
        activation: string, see `ACTIVATIONS`.
    """
    for block in blocks(backbone):
        function = ACTIVATIONS[activation]
        if block.intermediate_dim >= _WIDE:
            function = _COMPILED.get(activation, function)
        block.activation = function
        block._feedforward_intermediate_dense.activation = function
        attention = block._self_attention_layer
        for dense in (
            attention._query_dense,
            attention._key_dense,
            attention._value_dense,
            attention._output_dense,
        ):
            dense.call = functools.partial(project, dense)


def blocks(backbone):
    """Returns the `keras_hub.layers.TransformerEncoder`s of a backbone."""
    return [
        layer
        for layer in backbone.layers
        if isinstance(layer, keras_hub.layers.TransformerEncoder)
    ]


def in_order(backbone):
    """Returns those blocks in the order of use: ALBERT's come many times."""
    if not hasattr(backbone, "num_groups"):
        return list(backbone.transformer_layers)
    times = backbone.num_layers // backbone.num_groups
    return [
        block
        for group in backbone.transformer_layers
        for block in group * times
    ]


def last_block(block, tokens, padding_mask, training, first_only):
    """Computes an encoder's last block, the first token apart from the others.

    A classifier reads the first token alone, to which every token's keys and
    values lead, but no other one's query and inner units. By itself, it has
    the dropout masks that it has beside the others: where there are any, it is
    computed by itself in either case, which reads keys and values twice.

    Args:
        block: `keras_hub.layers.TransformerEncoder`.
        tokens: tensor of shape `[batch, tokens, hidden]`.
        padding_mask: int tensor of shape `[batch, tokens]`.
        training: bool.
        first_only: bool, whether the others are left out.

    Returns:
        tensor of shape `[batch, tokens, hidden]`, or `[batch, 1, hidden]`.
    """
    tokens = tf.cast(tokens, block.compute_dtype)
    mask = tf.cast(padding_mask, tf.bool)[:, None, :]

    def block_of(queries):
        attended = block._self_attention_layer(
            query=queries, value=tokens, attention_mask=mask, training=training
        )
        attended = block._self_attention_dropout(attended, training=training)
        x = block._self_attention_layer_norm(attended + queries)
        inner = block._feedforward_intermediate_dense(x)
        inner = block._feedforward_output_dense(inner)
        inner = block._feedforward_dropout(inner, training=training)
        return block._feedforward_layer_norm(inner + x)

    if first_only:
        return block_of(tokens[:, :1])
    if training and block.dropout:
        apart = [block_of(tokens[:, :1]), block_of(tokens[:, 1:])]
        return tf.concat(apart, axis=1)
    return block_of(tokens)


def project(dense, inputs, training=None):
    """Computes a `keras.layers.EinsumDense` that sums over the last axes.

    Args:
        dense: the layer, with a bias and no activation.
        inputs: tensor of shape `[batch, tokens, ...]`.
        training: not read.

    Returns:
        tensor of shape `[batch, tokens, ...]`.
    """
    kernel = tf.convert_to_tensor(dense.kernel)
    bias = tf.convert_to_tensor(dense.bias)
    columns = math.prod(bias.shape)
    matrix = tf.reshape(kernel, [-1, columns])
    rows = tf.reshape(inputs, [-1, math.prod(kernel.shape) // columns])
    product = tf.nn.bias_add(tf.matmul(rows, matrix), tf.reshape(bias, [-1]))
    leading = tf.shape(inputs)[:2]
    result = tf.reshape(product, tf.concat([leading, bias.shape], axis=0))
    result.set_shape([*inputs.shape[:2], *bias.shape])
    return result


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


_approximate = functools.partial(keras.activations.gelu, approximate=True)

# Hugging Face's names. KerasHub ignores `hidden_act` and always takes the
# tanh approximation, which no BERT checkpoint was trained with.
ACTIVATIONS = {
    "gelu": functools.partial(keras.activations.gelu, approximate=False),
    "gelu_new": _approximate,
    "gelu_pytorch_tanh": _approximate,
    "relu": keras.activations.relu,
}
_COMPILED = {
    "gelu": _compiled(gelu, _gelu_gradient),
    "gelu_new": _compiled(_approximate_gelu, _approximate_gelu_gradient),
}
_COMPILED["gelu_pytorch_tanh"] = _COMPILED["gelu_new"]
