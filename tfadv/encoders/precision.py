"""Where an encoder in mixed precision stays in float32.

In half precision are the matrix products alone, and what lies between two of
them. All that carries a token's vector from one block to the next is float32:
embeddings and delta, sums with residuals, LayerNorm, dropout, the probabilities
of attention, and the pooler. Keras' `mixed_bfloat16` rounds these sums as well,
24 times in an encoder of 12 layers, and delta before anything has read it; a
classifier that has yet to tell its classes apart then learns later, or not.
"""

import functools

import keras
import tensorflow as tf

from tfadv.encoders import blocks

# The blocks' names, and those of the layers in them.
_BLOCKS = r"(transformer_layer_\d+|group_\d+_inner_layer_\d+)(/.*)?"


def policy(dtype):
    """Returns the policy with which a KerasHub backbone is to be made.

    Args:
        dtype: string or `keras.DTypePolicy`, such as `"mixed_bfloat16"`, or
            `None` for Keras' own.

    Returns:
        The policy, or in mixed precision a map that gives it to the blocks
        alone.
    """
    policy = keras.dtype_policies.get(dtype)
    if policy.compute_dtype == policy.variable_dtype:
        return policy
    return keras.dtype_policies.DTypePolicyMap(
        policy.variable_dtype, {_BLOCKS: policy}
    )


def keep_residuals(backbone):
    """Makes a backbone's blocks carry their tokens in the weights' precision.

    Args:
        backbone: KerasHub backbone. The policies of its pooler, its
            `keras_hub.layers.TransformerEncoder`s and those layers in them
            that make no matrix product are changed.
    """
    pooler = backbone.pooled_dense
    pooler.dtype_policy = pooler.variable_dtype
    for block in blocks.blocks(backbone):
        attention = block._self_attention_layer
        half, full = attention.compute_dtype, attention.variable_dtype
        if half == full:
            return
        for part in (
            block,
            attention._softmax,
            attention._dropout_layer,
            block._self_attention_dropout,
            block._self_attention_layer_norm,
            block._feedforward_dropout,
            block._feedforward_layer_norm,
        ):
            part.dtype_policy = full
        # The probabilities are multiplied with half-precision values.
        dropout = attention._dropout_layer
        dropout.call = functools.partial(_cast, dropout.call, half)


def _cast(call, dtype, *args, **kwargs):
    return tf.cast(call(*args, **kwargs), dtype)
