"""The parts of an encoder that stay float32 in mixed precision.

Only the matrix products are half, and what lies between two of them. All that
carries a token's vector from one block to the next is float32:
embeddings and delta, sums with residuals, LayerNorm, dropout, the probabilities
of attention, and the pooler. Keras' `mixed_bfloat16` rounds these sums as well,
24 times in an encoder of 12 layers, and delta before anything has read it; a
classifier that has yet to tell its classes apart then learns later, or not.
"""

import keras

# The blocks' names, and those of the layers in them.
_BLOCKS = r"(transformer_layer_\d+|group_\d+_inner_layer_\d+)(/.*)?"


def policy(
    dtype: str | keras.DTypePolicy | None,
) -> keras.DTypePolicy | keras.dtype_policies.DTypePolicyMap:
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
