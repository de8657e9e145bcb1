"""What an encoder is made of, in the words of no library.

Two executors compute what is described here: `blocks.py` trains it,
`frozen.py` serves it. A field that neither of them computes, such as `gate`,
is refused by `blocks.check_supported`; it is here for later families.

A weight is whatever the executors read: a `tf.Variable` that is trained, or an
array. This module needs no TensorFlow.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Dense(NamedTuple):
    """A dense layer's weights.

    Args:
        kernel: `[inputs, outputs]`; either of them may be split into heads.
        bias: `[outputs]`, split as the kernel's, or `None`.
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
        attention_dropout, output_dropout, feedforward_dropout: of the
            probabilities of attention, of what `output` and of what `outer`
            gives. Each has a `rate` and is called as
            `dropout(x, training=training)`.
        gate: `Dense` from hidden to inner units, which the activated units are
            multiplied with, or `None`.
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
    """An encoder: lookups, blocks, and what is made of the first token.

    Args:
        lookups: maps `"token_ids"`, `"positions"` and `"segment_ids"`, as far
            as the encoder has them, to tables, `[rows, embedding]`. What is
            looked up is summed.
        embeddings_norm: `Norm` of that sum.
        blocks: tuple of `BlockWeights`.
        order: tuple of ints, the blocks in the order of use. ALBERT's come
            many times.
        num_heads: int.
        activation: string, the feed-forward layers', see
            `tfadv.encoders.activations.ACTIVATIONS`.
        compute_dtype: string, such as `"bfloat16"`: in what the blocks'
            matrices are multiplied in training. All else is computed in the
            type of the weights.
        projection: `Dense` from embedding to hidden units, or `None`.
        pooler: `Dense` of the first token, or `None`.
        pooler_activation: string, see `tfadv.encoders.activations.POOLERS`.
        final_norm: `Norm` after the last block, or `None`.
        attention: string. `"dot-product"`: each token of a text reads all
            others, whatever their distance.
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

    Args:
        into_heads: from hidden units to queries, keys and values, which stand
            side by side, each split into heads.
        output: from heads to hidden units.
        inner: from hidden to inner units.
        outer: from inner to hidden units.
    """

    into_heads: Any
    output: Any
    inner: Any
    outer: Any


class Block(NamedTuple):
    """A block as `blocks.apply_block` computes it.

    Args:
        parts: list of `Part`s, which need nothing of each other: what they
            give is added.
        attention_norm, feedforward_norm: `Norm`s.
        output_dropout, feedforward_dropout: as in `BlockWeights`; `None` where
            nothing is dropped.
    """

    parts: list[Part]
    attention_norm: Norm
    feedforward_norm: Norm
    output_dropout: Callable | None = None
    feedforward_dropout: Callable | None = None


def split(weights: BlockWeights, parts: int) -> list[Part]:
    """Splits a block's matrices by heads and by inner units.

    Args:
        weights: `BlockWeights` of numpy arrays.
        parts: int, a divisor of the numbers of heads and of inner units.

    Returns:
        list of `Part`s of numpy arrays. The first one has the biases that are
        added to the sum over the parts; the others' are 0.

    Example:

    ```python
    left, right = split(weights, 2)
    ```
    """
    query, key, value, inner = (
        _by_outputs(dense, parts)
        for dense in (weights.query, weights.key, weights.value, weights.inner)
    )
    into_heads = [
        Dense(
            np.concatenate([layer.kernel for layer in layers], axis=1),
            np.concatenate([layer.bias for layer in layers]),
        )
        for layers in zip(query, key, value, strict=True)
    ]
    output, outer = (
        _by_inputs(dense, parts) for dense in (weights.output, weights.outer)
    )
    return list(map(Part, into_heads, output, inner, outer))


def _by_outputs(dense, parts):
    kernel = np.reshape(dense.kernel, [-1, dense.outputs])
    kernels = np.split(kernel, parts, axis=1)
    return list(map(Dense, kernels, np.split(np.ravel(dense.bias), parts)))


def _by_inputs(dense, parts):
    kernel = np.reshape(dense.kernel, [-1, dense.outputs])
    biases = [dense.bias] + [np.zeros_like(dense.bias)] * (parts - 1)
    return list(map(Dense, np.split(kernel, parts), biases))
