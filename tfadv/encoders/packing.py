"""The real tokens of a batch, one after the other, without padding.

Attention needs a padded tensor, in which a text is a row. All other layers
compute each token by itself.
"""

import functools

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util


class Packing:
    """Which tokens of a padded batch are computed, and where each one stands.

    The texts' first tokens come first. The number of tokens is rounded up to
    one of a few: oneDNN and XLA make their kernels for one number. The added
    rows are padding, which no real token reads. Where XLA compiles a whole
    training step, all padding is computed: XLA must know the shapes.

    Args:
        padding_mask: tensor of shape `[batch, tokens]`, 1 for real tokens.
            The first token of a text is always one of them.

    Example:

    ```python
    packing = Packing(inputs["padding_mask"])
    rows = packing.pack(embeddings)  # [rows, hidden]
    packing.unpack(rows)  # embeddings, 0 where padding is
    ```
    """

    def __init__(self, padding_mask: tf.Tensor):
        mask = tf.cast(padding_mask, tf.bool)
        first = tf.ones_like(mask[:, :1])
        self.mask = tf.concat([first, mask[:, 1:]], axis=1)
        self.batch, self.tokens = tf.unstack(tf.shape(mask))
        kinds = tf.where(self.mask, 1, 2)
        kinds = tf.concat([tf.zeros_like(kinds[:, :1]), kinds[:, 1:]], axis=1)
        order = tf.argsort(tf.reshape(kinds, [-1]), stable=True)
        self._slots, self._rows = order, tf.math.invert_permutation(order)
        if not _compiled_whole():
            real = tf.math.count_nonzero(self.mask, dtype=tf.int32)
            # At least one of padding, where there is any: all padding reads it.
            self._slots = order[: round_up(real + 1)]
            self._rows = tf.minimum(self._rows, real)

    @property
    def rows(self) -> tf.Tensor:
        """The number of rows, an int32 tensor."""
        return tf.size(self._slots)

    def pack(self, padded: tf.Tensor) -> tf.Tensor:
        """Returns the rows, `[rows, hidden]`, of `[batch, tokens, hidden]`."""
        rows = tf.reshape(padded, [-1, padded.shape[-1]])
        return _moved(rows, self._slots, self._rows)

    def unpack(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, tokens, hidden]`, 0 where padding is."""
        padded = _moved(rows, self._rows, self._slots)
        shape = [self.batch, self.tokens, rows.shape[-1]]
        real = tf.cast(self.mask, rows.dtype)
        return tf.reshape(padded, shape) * real[:, :, None]

    def split(self, rows: tf.Tensor, num_heads: int) -> tf.Tensor:
        """Splits rows into heads and pads them, for attention.

        Args:
            rows: tensor of shape `[rows, hidden]`.
            num_heads: int.

        Returns:
            tensor of shape `[heads, batch, tokens, hidden / heads]`, finite
            where padding is.
        """
        size = rows.shape[-1] // num_heads
        places = self._to_heads(num_heads), self._to_rows(num_heads)
        heads = _moved(tf.reshape(rows, [-1, size]), *places)
        return tf.reshape(heads, [num_heads, self.batch, self.tokens, size])

    def join(self, heads: tf.Tensor) -> tf.Tensor:
        """Undoes `split`: the rows, `[rows, hidden]`."""
        num_heads, _, _, size = heads.shape
        places = self._to_rows(num_heads), self._to_heads(num_heads)
        rows = _moved(tf.reshape(heads, [-1, size]), *places)
        return tf.reshape(rows, [-1, num_heads * size])

    def attention_bias(self, dtype: tf.DType) -> tf.Tensor:
        """Returns the bias that hides padding, `[batch, 1, tokens]`."""
        keys = tf.cast(self.mask, dtype)[:, None, :]
        return (1 - keys) * dtype.min / 2

    def _to_heads(self, num_heads):
        """For every head's slot: which head of all rows' stands there."""
        heads = self._rows * num_heads + tf.range(num_heads)[:, None]
        return tf.reshape(heads, [-1])

    def _to_rows(self, num_heads):
        """For every head of every row: its slot among all heads' slots."""
        slots = self.batch * self.tokens
        heads = tf.range(num_heads) * slots + self._slots[:, None]
        return tf.reshape(heads, [-1])


def round_up(number: tf.Tensor) -> tf.Tensor:
    """Rounds to a multiple of 8, or of a sixteenth of larger numbers.

    Args:
        number: int32 tensor.

    Returns:
        int32 tensor: at most a sixteenth more than `number`, from 128 on.
    """
    powers = tf.constant([2**power for power in range(7, 24)])
    step = tf.reduce_max(tf.where(number > powers, powers // 16, 8))
    return (number + step - 1) // step * step


def _compiled_whole():
    graph = ops.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def _moved(rows, there, back):
    """Looks rows up; the gradient looks them up the other way.

    TensorFlow's own gradient would add them up one by one. For every row,
    `back` has one place to which it was moved. Other places hold padding, whose
    gradient is 0.
    """

    @tf.custom_gradient
    def move(rows):
        return tf.gather(rows, there), functools.partial(
            tf.gather, indices=back
        )

    return move(rows)
