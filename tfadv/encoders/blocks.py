"""The blocks of KerasHub's encoders, computed faster; results stay the same.

KerasHub computes all tokens of a padded batch, in every block. Here padding is
left out (`packing.py`), and with it most of the last block: a classifier reads
the first token, to which every token's keys and values lead, but no other
one's query and inner units. Weights are read, and rounded to half precision,
once for all calls of a block, of which ALBERT makes twelve; queries, keys and
values are one product. LayerNorm's gradient is written out, which takes half of
the operations.
"""

import functools
import math

import keras_hub
import tensorflow as tf


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


def encode(backbone, activation, tokens, packing, training, first_only):
    """Computes all blocks of a backbone.

    The first token of a text has the dropout masks of its own in the last
    block, which are the same whether or not there are others beside it.

    Args:
        backbone: KerasHub backbone.
        activation: function of a tensor, the feed-forward layers'.
        tokens: tensor of shape `[rows, hidden]`, see `packing`.
        packing: `tfadv.encoders.packing.Packing` of the batch.
        training: bool.
        first_only: bool, whether the last block's other tokens are left out.

    Returns:
        float32 tensor of shape `[rows, hidden]`, or `[batch, hidden]`.
    """
    found = {id(b): _Block(b, activation) for b in blocks(backbone)}
    order = [found[id(block)] for block in in_order(backbone)]
    for i, block in enumerate(order):
        last = i == len(order) - 1
        tokens = block(tokens, packing, training, last, last and first_only)
    return tokens


class _Block:
    """A `keras_hub.layers.TransformerEncoder` with its weights as tensors."""

    def __init__(self, block, activation):
        attention = block._self_attention_layer
        self._block = block
        self._attention = attention
        self._activation = activation
        self._heads = attention.num_heads
        self._dtype = attention.compute_dtype
        dense = functools.partial(_Dense, self._dtype)
        self._into_heads = dense(
            attention._query_dense,
            attention._key_dense,
            attention._value_dense,
        )
        self._out_of_heads = dense(attention._output_dense)
        self._inner = dense(block._feedforward_intermediate_dense)
        self._outer = dense(block._feedforward_output_dense)

    def __call__(self, tokens, packing, training, apart, first_only):
        block = self._block
        dropped = functools.partial(
            _dropped, first=packing.batch if apart else None, training=training
        )
        tokens = tf.cast(tokens, block.compute_dtype)
        x = self._attend(tokens, packing, training, apart, first_only)
        if first_only:
            tokens = tokens[: packing.batch]
        x = dropped(block._self_attention_dropout, x)
        tokens = _normalized(block._self_attention_layer_norm, x + tokens)
        x = self._outer(self._activation(self._inner(tokens)))
        x = dropped(block._feedforward_dropout, x)
        return _normalized(block._feedforward_layer_norm, x + tokens)

    def _attend(self, tokens, packing, training, apart, first_only):
        attention = self._attention
        heads = packing.split(self._into_heads(tokens), 3 * self._heads)
        query, key, value = tf.split(heads, 3)
        if first_only:
            query = query[:, :, :1]
        scores = tf.matmul(query, key, transpose_b=True)
        scores = tf.cast(scores, attention._softmax.compute_dtype)
        scale = attention._inverse_sqrt_key_dim
        scores = scores * tf.cast(scale, scores.dtype)
        weights = tf.nn.softmax(scores + packing.attention_bias(scores.dtype))
        weights = _dropped(
            attention._dropout_layer,
            weights,
            1 if apart else None,
            training,
            axis=2,
        )
        x = tf.matmul(tf.cast(weights, self._dtype), value)
        if first_only:
            x = tf.transpose(x[:, :, 0], [1, 0, 2])
            x = tf.reshape(x, [-1, self._heads * value.shape[-1]])
        else:
            x = packing.join(x)
        return self._out_of_heads(x)


class _Dense:
    """Dense layers of one input side by side, their weights read once."""

    def __init__(self, dtype, *layers):
        kernels, biases = [], []
        for layer in layers:
            columns = math.prod(layer.bias.shape)
            kernels.append(tf.reshape(_stored(layer.kernel), [-1, columns]))
            biases.append(tf.reshape(_stored(layer.bias), [-1]))
        self._kernel = tf.concat(kernels, axis=1)
        self._bias = tf.concat(biases, axis=0)
        self._half = None
        if self._kernel.dtype != dtype:
            self._half = [tf.cast(t, dtype) for t in (self._kernel, self._bias)]

    def __call__(self, x):
        if self._half is None:
            return tf.nn.bias_add(tf.matmul(x, self._kernel), self._bias)
        kernel, bias = self._half
        full = self._kernel.dtype

        # Every call's gradient is added to the others' in full precision.
        @tf.custom_gradient
        def product(x, *weights):
            def gradient(upstream):
                found = tf.matmul(x, upstream, transpose_a=True)
                return (
                    tf.matmul(upstream, kernel, transpose_b=True),
                    tf.cast(found, full),
                    tf.cast(
                        tf.raw_ops.BiasAddGrad(out_backprop=upstream), full
                    ),
                )

            return tf.nn.bias_add(tf.matmul(x, kernel), bias), gradient

        return product(tf.cast(x, kernel.dtype), self._kernel, self._bias)


def _normalized(layer_norm, x):
    """Computes a `keras.layers.LayerNormalization`, its gradient in short."""

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        x -= tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(x * x, axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(variance + layer_norm.epsilon)
        normal = x * inverse

        def gradient(upstream):
            inner = upstream * gamma
            mean = tf.reduce_mean(inner, axis=-1, keepdims=True)
            slope = tf.reduce_mean(inner * normal, axis=-1, keepdims=True)
            return (
                inverse * (inner - mean - normal * slope),
                tf.reduce_sum(upstream * normal, axis=0),
                tf.reduce_sum(upstream, axis=0),
            )

        return normal * gamma + beta, gradient

    return normalize(
        tf.cast(x, layer_norm.compute_dtype),
        _stored(layer_norm.gamma),
        _stored(layer_norm.beta),
    )


def _stored(variable):
    """Reads a variable as it is: Keras' own scopes would round it."""
    return tf.convert_to_tensor(variable._value)


def _dropped(dropout, x, first, training, axis=0):
    """Drops out, and the first rows apart from the others."""
    if first is None or not training or not dropout.rate:
        return dropout(x, training=training)
    others = tf.shape(x)[axis] - first
    parts = [
        dropout(part, training=training)
        for part in tf.split(x, [first, others], axis=axis)
    ]
    return tf.concat(parts, axis=axis)
