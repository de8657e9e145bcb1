"""The parts of an encoder, in terms that belong to no library.

Two executors compute such a description: `encoders.blocks` trains it, and
`export.frozen` serves it. Neither of them computes some fields yet, such as
`gate`. These are for later families, and `blocks.check_supported` refuses them.

A weight is a `tf.Variable` or an array. This module needs no TensorFlow.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Dense(NamedTuple):
    """A dense layer's weights.

    Args:
        kernel: `[inputs, outputs]`; either of them may be split into heads.
        bias: `[outputs]`, split like the kernel's outputs, or `None`.
    """

    kernel: Any
    bias: Any

    @property
    def outputs(self) -> int:
        """The number of outputs, of all heads together."""
        return math.prod(self.bias.shape)


class Norm(NamedTuple):
    """A LayerNormalization: `gamma` and `beta`, `[hidden]`, and its epsilon."""

    gamma: Any
    beta: Any
    epsilon: float


class BlockWeights(NamedTuple):
    """A Transformer block: attention, then feed-forward layers.

    Args:
        query, key, value: `Dense` from hidden units to heads.
        output: `Dense` from heads to hidden units.
        attention_norm: `Norm` of attention's residual sum.
        inner: `Dense` from hidden to inner units.
        outer: `Dense` from inner to hidden units.
        feedforward_norm: `Norm` of the feed-forward layers' residual sum.
        attention_dropout, output_dropout, feedforward_dropout: dropout layers
            of attention's probabilities, of `output` and of `outer`. Each has
            a `rate` and is called as `dropout(x, training=training)`.
        gate: `Dense` from hidden units to factors of the inner ones, or `None`.
        norm_first: bool. Whether norms come before attention and before the
            feed-forward layers instead of after their residual sums.
    """

    query: Dense
    key: Dense
    value: Dense
    output: Dense
    attention_norm: Norm
    inner: Dense
    outer: Dense
    feedforward_norm: Norm
    attention_dropout: Callable
    output_dropout: Callable
    feedforward_dropout: Callable
    gate: Dense | None = None
    norm_first: bool = False


@dataclasses.dataclass(frozen=True)
class EncoderDescription:
    """An encoder: lookups, blocks, and the pooler of the first token.

    Args:
        lookups: maps `"token_ids"`, `"positions"` and `"segment_ids"`, or some
            of them, to tables, `[rows, embedding]`. Their rows are summed.
        embeddings_norm: `Norm` of that sum.
        blocks: tuple of `BlockWeights`.
        order: tuple of ints, the blocks in the order of use. ALBERT uses a
            block many times.
        num_heads: int.
        activation: string, a name in `tfadv.encoders.activations.ACTIVATIONS`.
        compute_dtype: string, such as `"bfloat16"`, the type of the blocks'
            matrix products in training. All else has the weights' type.
        projection: `Dense` from embedding to hidden units, or `None`.
        pooler: `Dense` of the first token, or `None`.
        pooler_activation: string, a name as for `activation`.
        final_norm: `Norm` after the last block, or `None`.
        attention: string. `"dot-product"`: tokens read all of their text.
    """

    lookups: Mapping[str, Any]
    embeddings_norm: Norm
    blocks: tuple[BlockWeights, ...]
    order: tuple[int, ...]
    num_heads: int
    activation: str
    compute_dtype: str
    projection: Dense | None = None
    pooler: Dense | None = None
    pooler_activation: str = "tanh"
    final_norm: Norm | None = None
    attention: str = "dot-product"

    @property
    def hidden_dim(self) -> int:
        """The size of a token's representation."""
        return self.blocks[0].output.outputs

    @property
    def inner_dim(self) -> int:
        """The number of inner units of a block's feed-forward layers."""
        return self.blocks[0].inner.outputs


class Part(NamedTuple):
    """The matrices of some of a block's heads and inner units, or of all.

    `into_heads` gives queries, keys and values side by side.
    """

    into_heads: Any
    output: Any
    inner: Any
    outer: Any


class Block(NamedTuple):
    """A block as `blocks.apply_block` computes it: a sum over its parts."""

    parts: list[Part]
    attention_norm: Norm
    feedforward_norm: Norm
    attention_dropout: Callable | None = None
    output_dropout: Callable | None = None
    feedforward_dropout: Callable | None = None
