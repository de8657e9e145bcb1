"""An encoder as it is served: weights as constants, padding left out.

The layers of Keras compute the same, slower: their matrices are variables,
which TensorFlow cannot lay out once and for all nor fuse with the bias and
the activation, and every sentence is padded to the longest of its batch. Here
the tokens of a batch stand one after the other, and only attention, which is
among the tokens of a sentence, sees a padded tensor.

oneDNN makes its kernels for one number of tokens, so that numbers are rounded
up: few distinct ones, and the kernels are there sooner. It lays out a matrix
as is best for the first number that it is multiplied with, and where that is
not best for a later one, it lays it out anew every time: few and many tokens
each have matrices of their own.

Where several threads serve, every block is computed in two halves: each has
half of the heads and half of the inner units, and what they give is added. The
halves need nothing of each other, so that TensorFlow computes them at the same
time; two threads that share one operation wait for each other in every one.
"""

import functools
import math
import os

import numpy as np
import tensorflow as tf

from tfadv.encoders import activations, blocks
from tfadv.encoders.description import (
    Block,
    BlockWeights,
    Dense,
    EncoderDescription,
    Part,
)
from tfadv.encoders.packing import round_up
from tfadv.errors import InputError

# A graph is one protocol buffer, which cannot be larger.
_LARGEST_GRAPH = 2**31 - 2**20
# Numbers of tokens up to the first have one layout of matrices and those from
# the second on have another one (measured with AVX-512, in float32; bfloat16
# has one for all).
_FEW, _MANY = 64, 96
# Bytes of the blocks' matrices up to which they are there twice.
_LARGEST_COPY = 2**28


class FrozenEncoder:
    """The sentence representation of an encoder, with its weights as they are.

    Changes of the encoder's weights do not reach it. Call it in a
    `tf.function`, for the constants to become part of that graph once.

    Args:
        description: `EncoderDescription`, such as `encoder.description`.
        dtype: `tf.float32` or `tf.bfloat16`, of the matrices and of what is
            multiplied with them; sums of residuals and LayerNorm are float32.
        parts: int. In how many parts, side by side, a block is computed; with
            an odd number of heads or inner units it is one. `None` means
            `best_parts()`.

    Call arguments:
        token_ids, segment_ids: int32 tensors of shape `[tokens]`: the real
            tokens of all sentences, one sentence after the other.
        positions: int32 tensor of shape `[tokens, 2]`: the sentence of each
            token, and its place there; the first one's place is 0.
        shape: int32 tensor: number of sentences, and places of the longest.

    Returns:
        float32 tensor of shape `[sentences, hidden]`, the pooled output.

    Raises:
        InputError: the weights do not fit into a graph, or the encoder has
            something that is not computed here.

    Example:

    ```python
    frozen = FrozenEncoder(encoder.description)
    ids = tokenizer.tokenize(["a gorgeous, witty film", "dull"])
    frozen(ids.values, tf.zeros_like(ids.values), *places(ids))
    ```
    """

    def __init__(
        self,
        description: EncoderDescription,
        dtype: tf.DType = tf.float32,
        parts: int | None = None,
    ):
        blocks.check_supported(description)
        self.dtype = tf.as_dtype(dtype)
        self.activation = activations.ACTIVATIONS[description.activation]
        if description.activation == "gelu":
            self.activation = activations.gelu  # which is fused
        self.pool = activations.ACTIVATIONS[description.pooler_activation]
        self.hidden_dim = description.hidden_dim
        self.num_heads = description.num_heads
        self.order = description.order
        self.parts = math.gcd(
            parts or best_parts(), self.num_heads, description.inner_dim
        )
        self.lookups = self._matrices(dict(description.lookups))
        self.embeddings_norm = _arrays(description.embeddings_norm)
        self.projection = self._matrices(description.projection)
        self.pooler = self._matrices(description.pooler)
        self.blocks = [
            Block(
                self._matrices(split(weights, self.parts)),
                weights.attention_norm,
                weights.feedforward_norm,
            )
            for weights in map(_arrays, description.blocks)
        ]
        size = _size([self.lookups, self.projection, self.blocks, self.pooler])
        if size > _LARGEST_GRAPH:
            raise InputError(
                "encoder-too-large",
                f"expected at most {_LARGEST_GRAPH / 2**20:,.0f} MiB, which a "
                f"SavedModel's graph holds, found {size / 2**20:,.0f} MiB of "
                f"weights as {self.dtype.name}",
                "give `precision` bfloat16"
                if self.dtype == tf.float32
                else "train a smaller encoder",
            )
        # bfloat16 has one layout of matrices for all numbers of tokens.
        self.many = _MANY if self.dtype == tf.float32 else 0
        copy = _size(self.blocks)
        self.twice = (
            self.dtype == tf.float32
            and copy <= _LARGEST_COPY
            and size + copy <= _LARGEST_GRAPH
        )

    def __call__(
        self,
        token_ids: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        shape: tf.Tensor,
    ) -> tf.Tensor:
        longest, count = round_up(shape[1]), tf.size(token_ids)

        def filling(number):
            # As many as all tokens, in the sense of matrices' layouts.
            fewest = tf.where(count > _FEW, self.many, 0)
            return [0, tf.maximum(round_up(number), fewest) - number]

        # Tokens that round up the count stand where the first one does; there
        # they are read by no one.
        extra = [filling(count)]
        sentence, place = positions[:, 0], positions[:, 1]
        ids = {
            "token_ids": token_ids,
            "positions": place,
            "segment_ids": segment_ids,
        }
        embeddings = [
            tf.gather(tf.constant(table), tf.pad(ids[kind], extra))
            for kind, table in self.lookups.items()
        ]
        embeddings = tf.cast(functools.reduce(tf.add, embeddings), tf.float32)
        # Where a sentence's tokens are among all, and the reverse.
        starts = tf.cast(tf.where(place == 0), tf.int32)
        lengths = tf.math.segment_sum(tf.ones_like(place), sentence)
        columns = tf.range(longest)
        gaps = columns >= lengths[:, None]
        mask = tf.where(gaps, tf.constant(-1e9, self.dtype), 0)
        mask = mask[:, None, None, :]
        tokens = tf.where(gaps, 0, starts + columns)
        column = tf.range(count) - tf.gather(starts[:, 0], sentence)
        # Of the queries, keys and values of all tokens to those of a head, of
        # a sentence; and from there to the heads of a token.
        heads = self.num_heads // self.parts
        head = tf.range(heads)
        kind = tf.range(3)[:, None, None, None] * heads
        to_heads = tokens[:, None] * 3 * heads + head[:, None] + kind
        to_tokens = (sentence[:, None] * heads + head) * longest
        to_tokens += column[:, None]
        to_tokens = tf.pad(to_tokens, [*extra, [0, 0]])
        # Of the last block, the sentences' first tokens alone are read.
        sentences = tf.size(starts)
        extra = [filling(sentences)]
        first = tf.pad(starts[:, 0], extra)
        to_first = tf.reshape(tf.range(sentences * heads), [-1, heads])
        to_first = tf.pad(to_first, [*extra, [0, 0]])

        def encoded(layer_norm):
            ops = blocks.Operations(
                dense=self._linear,
                activation=self.activation,
                add=_sum,
                normalize=lambda x, norm: layer_norm(x, *norm),
                first=lambda x: tf.gather(x, first),
            )
            # Once each: ALBERT's blocks are one block, many times.
            constants = tf.nest.map_structure(_constant, self.blocks)
            x = ops.normalize(embeddings, self.embeddings_norm)
            if self.projection is not None:
                x = tf.cast(self._linear(x, self.projection), tf.float32)
            for i, index in enumerate(self.order, 1):
                last = i == len(self.order)
                attend = functools.partial(
                    self._attend,
                    mask=mask,
                    to_heads=to_heads,
                    to_tokens=to_first if last else to_tokens,
                    first_only=last,
                )
                x = blocks.apply_block(x, constants[index], ops, attend, last)
            return x

        many = functools.partial(encoded, _layer_norm)
        few = functools.partial(encoded, _layer_norm_of_few)
        # A branch has constants of its own.
        x = tf.cond(count > _FEW, many, few) if self.twice else many()
        pooled = self.pool(self._linear(x, self.pooler))[:sentences]
        return tf.cast(pooled, tf.float32)

    def _attend(self, x, part, mask, to_heads, to_tokens, first_only):
        """What a part's heads read, projected."""
        size = self.hidden_dim // self.num_heads
        # Moved by lookup: transposing takes operations of its own.
        heads = tf.reshape(self._linear(x, part.into_heads), [-1, size])
        query, key, value = tf.unstack(tf.gather(heads, to_heads))
        if first_only:
            query = query[:, :, :1]
        # In this order TensorFlow on oneDNN makes one operation of the three.
        scores = tf.matmul(query, key, transpose_b=True)
        scores = scores * tf.constant(size**-0.5, self.dtype) + mask
        attended = tf.matmul(tf.nn.softmax(scores), value)
        attended = tf.gather(tf.reshape(attended, [-1, size]), to_tokens)
        width = self.hidden_dim // self.parts
        return self._linear(tf.reshape(attended, [-1, width]), part.output)

    def _linear(self, x, dense):
        product = tf.matmul(tf.cast(x, self.dtype), dense.kernel)
        return tf.nn.bias_add(product, dense.bias)

    def _matrices(self, structure):
        dtype = self.dtype.as_numpy_dtype
        return tf.nest.map_structure(
            lambda x: x if x is None else x.astype(dtype), _arrays(structure)
        )


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


def best_parts() -> int:
    """Returns in how many parts this machine serves a block the fastest.

    Returns:
        int: 2 where several threads take operations on a CPU, else 1.
    """
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    if not threads:  # TensorFlow then takes a thread for each core.
        cores = getattr(
            os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1)
        )
        threads = len(cores(0))
    return 1 if threads < 2 or tf.config.list_physical_devices("GPU") else 2


def places(rows: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Tells where the tokens of ragged rows are.

    Args:
        rows: `tf.RaggedTensor` `[sentences, (tokens)]`.

    Returns:
        `positions` and `shape`, as `FrozenEncoder` takes them.
    """
    lengths = tf.cast(rows.row_lengths(), tf.int32)
    row = tf.cast(rows.value_rowids(), tf.int32)
    starts = tf.cast(rows.row_starts(), tf.int32)
    column = tf.range(tf.size(row)) - tf.gather(starts, row)
    longest = tf.reduce_max(tf.concat([[0], lengths], axis=0))
    return (
        tf.stack([row, column], axis=1),
        tf.stack([tf.size(lengths), longest]),
    )


def _size(structure):
    arrays = tf.nest.flatten(structure)
    return sum(x.nbytes for x in arrays if isinstance(x, np.ndarray))


def _sum(x, parts, dropout):
    return tf.add_n([x, *(tf.cast(part, tf.float32) for part in parts)])


def _layer_norm(x, gamma, beta, epsilon):
    # As a batch normalisation whose channels are the tokens: TensorFlow on
    # oneDNN makes one operation of this form, and of none with means.
    tokens = tf.shape(x)[0]
    size = x.shape[1]
    normalized, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, tf.stack([1, tokens, size, 1])),
        scale=tf.fill([tokens], 1.0),
        offset=tf.fill([tokens], 0.0),
        mean=tf.constant([], tf.float32),
        variance=tf.constant([], tf.float32),
        epsilon=epsilon,
        data_format="NCHW",
        is_training=True,
    )
    return tf.reshape(normalized, [-1, size]) * gamma + beta


def _layer_norm_of_few(x, gamma, beta, epsilon):
    # oneDNN's one operation takes longer to share the work out among threads
    # than these take altogether.
    x -= tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(x * x, axis=-1, keepdims=True)
    return x * tf.math.rsqrt(variance + epsilon) * gamma + beta


def _arrays(structure):
    """Reads variables as arrays, and leaves all else as it is."""
    return tf.nest.map_structure(
        lambda x: (
            tf.convert_to_tensor(x).numpy() if isinstance(x, tf.Variable) else x
        ),
        structure,
    )


def _constant(x):
    return tf.constant(x) if isinstance(x, np.ndarray) else x
