"""Transformer blocks: their order of operations, and how they are trained.

KerasHub computes all tokens of a padded batch, in every block. This module
leaves out padding (`packing.py`) and most of the last block: a classifier reads
the first token, which needs the keys and values of every token, but no other
token's query and inner units. A block's weights are read, and rounded to half
precision, once for all of its calls; ALBERT makes twelve. Queries, keys and
values are one product. The gradient of LayerNorm is written out, which takes
half of the operations.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfadv.encoders import activations
from tfadv.encoders.description import (
    Block,
    Dense,
    EncoderDescription,
    Norm,
    Part,
)
from tfadv.encoders.packing import Packing
from tfadv.errors import InputError


class Operations(NamedTuple):
    """What a block is computed with: functions of tensors `[rows, hidden]`."""

    dense: Callable  # (x, a part's layer) to the product and the bias
    activation: Callable  # (x) to the activated inner units
    add: Callable  # (x, what each part gave, dropout) to the residual sum
    normalize: Callable  # (x, norm) to the normalized sum
    first: Callable  # (x) to the rows of the texts' first tokens


def apply_block(
    x: tf.Tensor,
    weights: Block,
    ops: Operations,
    attend: Callable[[tf.Tensor, Part], tf.Tensor],
    first_only: bool = False,
) -> tf.Tensor:
    """Computes one block: the order of its residual sums and norms.

    Args:
        x: tensor of shape `[rows, hidden]`.
        weights: `Block`, in the form that `ops` take.
        ops: `Operations`.
        attend: `(x, part)` to what that part's heads read, projected; with
            `first_only` only for the texts' first tokens.
        first_only: bool. Whether to leave out the other tokens.

    Returns:
        tensor of shape `[rows, hidden]`, or `[texts, hidden]`.
    """
    attended = [attend(x, part) for part in weights.parts]
    if first_only:
        x = ops.first(x)
    x = ops.add(x, attended, weights.output_dropout)
    x = ops.normalize(x, weights.attention_norm)
    inner = [
        ops.dense(ops.activation(ops.dense(x, part.inner)), part.outer)
        for part in weights.parts
    ]
    x = ops.add(x, inner, weights.feedforward_dropout)
    return ops.normalize(x, weights.feedforward_norm)


def check_supported(description: EncoderDescription) -> None:
    """Refuses an encoder that the executors would compute differently.

    Args:
        description: `EncoderDescription`.

    Raises:
        InputError: the encoder has something that no executor computes.
    """
    blocks = description.blocks
    layers = [description.projection, description.pooler]
    layers += [layer for b in blocks for layer in b if isinstance(layer, Dense)]
    lookups = {"token_ids", "positions", "segment_ids"}
    activation, pooler = description.activation, description.pooler_activation
    unsupported = {
        "lookups": set(description.lookups) - lookups,
        "activations": {activation, pooler} - set(activations.ACTIVATIONS),
        "attention": {description.attention} - {"dot-product"},
        "norm_first": any(block.norm_first for block in blocks),
        "gate": any(block.gate for block in blocks),
        "final_norm": description.final_norm is not None,
        "no pooler": description.pooler is None,
        "no bias": any(layer and layer.bias is None for layer in layers),
    }
    found = [f"{what}={value}" for what, value in unsupported.items() if value]
    if found:
        raise InputError(
            "unsupported-encoder",
            "expected an encoder that is built as BERT or ALBERT, found "
            + ", ".join(found),
            "choose an encoder of another family",
            argument="encoder",
        )


def encode(
    description: EncoderDescription,
    tokens: tf.Tensor,
    packing: Packing,
    training: bool,
    first_only: bool,
) -> tf.Tensor:
    """Computes all blocks of an encoder whose weights are trained.

    The first token of a text has its own dropout masks in the last block. They
    are the same whether or not there are other tokens.

    Args:
        description: `EncoderDescription` of `tf.Variable`s.
        tokens: tensor of shape `[rows, hidden]`, see `packing`.
        packing: `tfadv.encoders.packing.Packing` of the batch.
        training: bool.
        first_only: bool. Whether the last block leaves out the other tokens.

    Returns:
        tensor of shape `[rows, hidden]`, or `[batch, hidden]`, in the type of
        the weights.

    Raises:
        InputError: the encoder has something that is not computed here.
    """
    check_supported(description)
    dtype = description.compute_dtype
    activation = activations.fastest(
        description.activation, description.inner_dim
    )
    blocks = [_read(weights, dtype) for weights in description.blocks]
    tokens = tf.cast(tokens, blocks[0].attention_norm.gamma.dtype)
    for i, index in enumerate(description.order, 1):
        block, last = blocks[index], i == len(description.order)
        dropped = functools.partial(_dropped, training=training, apart=last)
        ops = Operations(
            dense=lambda x, product: product(x),
            activation=activation,
            add=functools.partial(_sum, packing.batch, dropped),
            normalize=_normalized,
            first=lambda x: x[: packing.batch],
        )
        attend = functools.partial(
            _attend,
            packing=packing,
            num_heads=description.num_heads,
            dtype=dtype,
            dropped=functools.partial(dropped, block.attention_dropout),
            first_only=last and first_only,
        )
        tokens = apply_block(tokens, block, ops, attend, last and first_only)
    return tokens


def _attend(x, part, packing, num_heads, dtype, dropped, first_only):
    full = x.dtype
    heads = packing.split(part.into_heads(x), 3 * num_heads)
    query, key, value = tf.split(heads, 3)
    if first_only:
        query = query[:, :, :1]
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), full)
    scores *= tf.cast(key.shape[-1] ** -0.5, full)
    weights = tf.nn.softmax(scores + packing.attention_bias(full))
    weights = dropped(weights, first=1, axis=2)
    x = tf.matmul(tf.cast(weights, dtype), value)
    if first_only:
        x = tf.transpose(x[:, :, 0], [1, 0, 2])
        x = tf.reshape(x, [-1, num_heads * value.shape[-1]])
    else:
        x = packing.join(x)
    return part.output(x)


def _sum(batch, dropped, x, parts, dropout):
    [part] = parts
    return dropped(dropout, part, first=batch) + x


def _dropped(dropout, x, first, training, apart, axis=0):
    """Drops out; with `apart` the first rows apart from the others."""
    if not (apart and training and dropout.rate):
        return dropout(x, training=training)
    others = tf.shape(x)[axis] - first
    parts = [
        dropout(part, training=True)
        for part in tf.split(x, [first, others], axis=axis)
    ]
    return tf.concat(parts, axis=axis)


def _read(weights, dtype):
    """Reads a block's variables, once for all of its calls."""
    dense = functools.partial(_Product, dtype)
    part = Part(
        dense(weights.query, weights.key, weights.value),
        *map(dense, (weights.output, weights.inner, weights.outer)),
    )
    norms = [
        Norm(*map(tf.convert_to_tensor, norm[:2]), norm.epsilon)
        for norm in (weights.attention_norm, weights.feedforward_norm)
    ]
    return Block(
        [part],
        *norms,
        weights.attention_dropout,
        weights.output_dropout,
        weights.feedforward_dropout,
    )


class _Product:
    """Dense layers of one input side by side, their weights read once."""

    def __init__(self, dtype, *layers):
        self._kernel = tf.concat(
            [tf.reshape(d.kernel, [-1, d.outputs]) for d in layers], axis=1
        )
        self._bias = tf.concat([tf.reshape(d.bias, [-1]) for d in layers], 0)
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
                of_kernel = tf.matmul(x, upstream, transpose_a=True)
                of_bias = tf.raw_ops.BiasAddGrad(out_backprop=upstream)
                return (
                    tf.matmul(upstream, kernel, transpose_b=True),
                    tf.cast(of_kernel, full),
                    tf.cast(of_bias, full),
                )

            return tf.nn.bias_add(tf.matmul(x, kernel), bias), gradient

        return product(tf.cast(x, kernel.dtype), self._kernel, self._bias)


def _normalized(x, norm):
    """Computes a LayerNormalization, with a short gradient."""

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        x -= tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(x * x, axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(variance + norm.epsilon)
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

    return normalize(tf.cast(x, norm.gamma.dtype), norm.gamma, norm.beta)
