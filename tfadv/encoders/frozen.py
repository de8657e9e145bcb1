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

Every layer is computed in two halves: each has half of the heads and half of
the inner units, and what they give is added. The halves need nothing of each
other, so that TensorFlow computes them at the same time; two threads that
share one operation wait for each other in every one.
"""

import functools

import numpy as np
import tensorflow as tf

from tfadv.encoders import activations
from tfadv.encoders import blocks as transformer_blocks
from tfadv.encoders.packing import round_up
from tfadv.errors import InputError

# A graph is one protocol buffer, which cannot be larger.
_LARGEST_GRAPH = 2**31 - 2**20
# Numbers of tokens up to the first have one layout of matrices and those from
# the second on have another one (measured with AVX-512, in float32; bfloat16
# has one for all).
_FEW, _MANY = 64, 96
# Bytes of the layers' matrices up to which they are there twice.
_LARGEST_COPY = 2**28


class FrozenEncoder:
    """The sentence representation of an encoder, with its weights as they are.

    Changes of the encoder's weights do not reach it. Call it in a
    `tf.function`, for the constants to become part of that graph once.

    Args:
        encoder: `tfadv.Encoder`.
        dtype: `tf.float32` or `tf.bfloat16`, of the matrices and of what is
            multiplied with them; sums of residuals and LayerNorm are float32.

    Call arguments:
        token_ids, segment_ids: int32 tensors of shape `[tokens]`: the real
            tokens of all sentences, one sentence after the other.
        positions: int32 tensor of shape `[tokens, 2]`: the sentence a token
            is of, and its place there; the first one's place is 0.
        shape: int32 tensor: number of sentences, and places of the longest.

    Returns:
        float32 tensor of shape `[sentences, hidden]`, the pooled output.

    Raises:
        InputError: the weights do not fit into a graph.

    Example:

    ```python
    frozen = FrozenEncoder(encoder)
    ids = tokenizer.tokenize(["a gorgeous, witty film", "dull"])
    frozen(ids.values, tf.zeros_like(ids.values), *places(ids))
    ```
    """

    def __init__(self, encoder, dtype=tf.float32):
        backbone = encoder.backbone
        self.dtype = tf.as_dtype(dtype)
        self.activation = (
            activations.gelu
            if encoder.activation == "gelu"
            else encoder.activation_function
        )
        self.hidden_dim = backbone.hidden_dim
        self.num_heads = backbone.num_heads
        inner_dim = backbone.intermediate_dim
        self.parts = 1 if self.num_heads % 2 or inner_dim % 2 else 2
        self.words = self._matrix(backbone.token_embedding.embeddings)
        self.positions = self._matrix(
            backbone.position_embedding.position_embeddings
        )
        self.segments = self._matrix(backbone.segment_embedding.embeddings)
        self.embeddings_norm = _norm(backbone.embeddings_layer_norm)
        # One for all layers, in KerasHub's backbones.
        self.epsilon = backbone.embeddings_layer_norm.epsilon
        self.projection = None
        if hasattr(backbone, "embeddings_projection"):
            self.projection = self._dense(backbone.embeddings_projection)
        in_order = transformer_blocks.in_order(backbone)
        blocks = transformer_blocks.blocks(backbone)
        self.order = [blocks.index(block) for block in in_order]
        self.blocks = [self._block(block) for block in blocks]
        self.pooler = self._dense(backbone.pooled_dense)
        arrays = [self.words, self.projection or (), self.blocks, self.pooler]
        if (size := _size(arrays)) > _LARGEST_GRAPH:
            raise InputError(
                f"the encoder's weights take {size / 2**20:,.0f} MiB as "
                f"{self.dtype.name}; a SavedModel's graph holds "
                f"{_LARGEST_GRAPH / 2**20:,.0f}"
                + (
                    "; give --precision=bfloat16"
                    if self.dtype == tf.float32
                    else "; train a smaller encoder"
                )
            )
        # bfloat16 has one layout of matrices for all numbers of tokens.
        self.many = _MANY if self.dtype == tf.float32 else 0
        copy = _size(self.blocks)
        self.twice = (
            self.dtype == tf.float32
            and copy <= _LARGEST_COPY
            and size + copy <= _LARGEST_GRAPH
        )

    def __call__(self, token_ids, segment_ids, positions, shape):
        longest, count = round_up(shape[1]), tf.size(token_ids)

        def filling(number):
            # As many as all tokens, in the sense of matrices' layouts.
            fewest = tf.where(count > _FEW, self.many, 0)
            return [0, tf.maximum(round_up(number), fewest) - number]

        # Tokens that round up the count stand where the first one does; there
        # they are read by no one.
        extra = [filling(count)]
        place = positions[:, 1]
        x = (
            tf.gather(tf.constant(self.words), tf.pad(token_ids, extra))
            + tf.gather(tf.constant(self.positions), tf.pad(place, extra))
            + tf.gather(tf.constant(self.segments), tf.pad(segment_ids, extra))
        )
        x = tf.cast(x, tf.float32)
        # Where a sentence's tokens are among all, and the reverse.
        sentence = positions[:, 0]
        starts = tf.cast(tf.where(place == 0), tf.int32)
        lengths = tf.math.segment_sum(tf.ones_like(place), sentence)
        columns = tf.range(longest)
        gaps = columns >= lengths[:, None]
        mask = tf.where(gaps, tf.constant(-1e9, self.dtype), 0)
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
        places = to_heads, tf.pad(to_tokens, [*extra, [0, 0]])
        mask = mask[:, None, None, :]
        # Of the last layer, the sentences' first tokens alone are read.
        sentences = tf.size(starts)
        extra = [filling(sentences)]
        first = tf.pad(starts[:, 0], extra)
        to_first = tf.reshape(tf.range(sentences * heads), [-1, heads])
        to_first = tf.pad(to_first, [*extra, [0, 0]])

        def encoded(normalize):
            # Once each: ALBERT's layers are one layer, many times.
            blocks = tf.nest.map_structure(tf.constant, self.blocks)
            result = normalize(x, *self.embeddings_norm, self.epsilon)
            if self.projection is not None:
                result = self._linear(result, self.projection)
                result = tf.cast(result, tf.float32)
            *order, last = self.order
            for i in order:
                result = self._apply(
                    blocks[i], result, mask, *places, normalize
                )
            return self._apply(
                blocks[last], result, mask, to_heads, to_first, normalize, first
            )

        many = functools.partial(encoded, _layer_norm)
        few = functools.partial(encoded, _layer_norm_of_few)
        # A branch has constants of its own.
        x = tf.cond(count > _FEW, many, few) if self.twice else many()
        pooled = tf.tanh(self._linear(x, self.pooler))[:sentences]
        return tf.cast(pooled, tf.float32)

    def _apply(
        self, block, x, mask, to_heads, to_tokens, normalize, first=None
    ):
        """One layer: attention and feed-forward, each with its residual.

        It is computed for all tokens, or where `first` tells which ones those
        are, for the sentences' first alone.
        """
        attention, attention_norm, feedforward, norm = block
        attended = [
            self._attend(part, x, mask, to_heads, to_tokens, first is not None)
            for part in attention
        ]
        if first is not None:
            x = tf.gather(x, first)
        x = normalize(_sum(x, attended), *attention_norm, self.epsilon)
        inner = [
            self._linear(self.activation(self._linear(x, into)), out)
            for into, out in feedforward
        ]
        return normalize(_sum(x, inner), *norm, self.epsilon)

    def _attend(self, part, x, mask, to_heads, to_tokens, first_only):
        """What some of the heads read, projected."""
        queries_keys_values, output = part
        size = self.hidden_dim // self.num_heads
        # Moved by lookup: transposing takes operations of its own.
        heads = tf.reshape(self._linear(x, queries_keys_values), [-1, size])
        query, key, value = tf.unstack(tf.gather(heads, to_heads))
        if first_only:
            query = query[:, :, :1]
        # In this order TensorFlow on oneDNN makes one operation of the three.
        scores = tf.matmul(query, key, transpose_b=True)
        scores = scores * tf.constant(size**-0.5, self.dtype) + mask
        attended = tf.matmul(tf.nn.softmax(scores), value)
        attended = tf.gather(tf.reshape(attended, [-1, size]), to_tokens)
        width = self.hidden_dim // self.parts
        return self._linear(tf.reshape(attended, [-1, width]), output)

    def _linear(self, x, dense):
        kernel, bias = dense
        product = tf.matmul(tf.cast(x, self.dtype), kernel)
        return tf.nn.bias_add(product, bias)

    def _block(self, layer):
        """The weights of one layer, and of each part of it side by side."""
        attention = layer._self_attention_layer
        hidden = self.hidden_dim
        # Split by heads: a part has its queries, keys and values in a row.
        split = [
            (
                np.split(_array(d.kernel).reshape(hidden, -1), self.parts, 1),
                np.split(_array(d.bias).ravel(), self.parts),
            )
            for d in (
                attention._query_dense,
                attention._key_dense,
                attention._value_dense,
            )
        ]
        queries_keys_values = [
            (
                self._matrix(np.concatenate([k[i] for k, _ in split], 1)),
                self._matrix(np.concatenate([b[i] for _, b in split])),
            )
            for i in range(self.parts)
        ]
        output = attention._output_dense
        first = layer._feedforward_intermediate_dense
        second = layer._feedforward_output_dense
        inner = zip(
            np.split(self._matrix(first.kernel), self.parts, 1),
            np.split(self._matrix(first.bias), self.parts),
            strict=True,
        )
        return (
            self._parts(
                queries_keys_values,
                _array(output.kernel).reshape(-1, hidden),
                output.bias,
            ),
            _norm(layer._self_attention_layer_norm),
            self._parts(inner, second.kernel, second.bias),
            _norm(layer._feedforward_layer_norm),
        )

    def _parts(self, before, kernel, bias):
        """Pairs each part's matrix with its rows of the one after it."""
        kernels = np.split(self._matrix(kernel), self.parts)
        # Added once.
        biases = [self._matrix(bias)]
        biases += [np.zeros_like(biases[0])] * (self.parts - 1)
        return list(zip(before, zip(kernels, biases, strict=True), strict=True))

    def _dense(self, layer):
        return self._matrix(layer.kernel), self._matrix(layer.bias)

    def _matrix(self, variable):
        return _array(variable).astype(self.dtype.as_numpy_dtype)


def places(rows):
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


def _size(arrays):
    return sum(array.nbytes for array in tf.nest.flatten(arrays))


def _sum(x, parts):
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


def _norm(layer):
    return _array(layer.gamma), _array(layer.beta)


def _array(variable):
    return tf.convert_to_tensor(variable).numpy()
