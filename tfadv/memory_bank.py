"""The memory of CARL: every training example's representations."""

import numpy as np
import tensorflow as tf
from absl import logging

DTYPES = ("float32", "bfloat16")
# Rows in float32 at a time while scoring: 24 MB at 768 dimensions.
_ROWS_AT_ONCE = 8192


class MemoryBank:
    """Remembers the representations of all training examples.

    Two tables of `[examples, hidden]`, one of clean and one of adversarial
    representations, that an example's stable index addresses. They are
    moving averages: `bank[i] = M * bank[i] + (1 - M) * representation`, the
    paper's Eq. 5 as it is written. Rows are stored as they are and
    normalised where they are scored, so a row is not renormalised by updates.

    The bank draws negatives; losses on their scores are elsewhere
    (`tfadv.objectives.contrastive_losses`).

    Args:
        labels: int array of shape `[examples]`, the class of every training
            example.
        hidden_dim: int, the size of a representation.
        num_negatives: int, m: negatives an example; `None` for every example
            of another class.
        momentum: float, M.
        dtype: string: `"float32"` or `"bfloat16"`, of the tables alone.

    Raises:
        ValueError: a setting is out of its range, or there is one class only.

    Example:

    ```python
    bank = MemoryBank(labels=[0, 1, 0], hidden_dim=4)
    bank.write([0, 1, 2], clean=np.eye(3, 4), adversarial=np.ones([3, 4]))
    drawn = bank.draw([0], seed=[1, 2])  # [[False, True, False]]
    scores = bank.score(bank.clean, tf.ones([1, 4]))  # cosines, [1, 3]
    ```

    Reference:
     - CARL and RAR paper, section 3.2, Eq. 5
     - [Wu et al. 2018](https://arxiv.org/abs/1805.01978)
    """

    def __init__(
        self,
        labels,
        hidden_dim,
        num_negatives=16000,
        momentum=0.5,
        dtype="float32",
    ):
        labels = np.asarray(labels, np.int32)
        if num_negatives is not None and num_negatives < 1:
            raise ValueError(
                "`num_negatives` must be at least 1, or None for all. "
                f"Received: num_negatives={num_negatives}"
            )
        if not 0 <= momentum < 1:
            raise ValueError(
                "`momentum` must be at least 0 and less than 1. Received: "
                f"momentum={momentum}"
            )
        if dtype not in DTYPES:
            raise ValueError(
                f"`dtype` must be one of {DTYPES}. Received: dtype={dtype}"
            )
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2:
            raise ValueError(
                "`labels` must have at least two classes, or there are no "
                f"negatives. Received: {len(classes)} class(es) in "
                f"{len(labels)} labels"
            )
        self.labels = labels
        self.hidden_dim = hidden_dim
        self.num_negatives = num_negatives
        self.momentum = float(momentum)
        self.dtype = dtype
        self.clean = self._table("clean")
        self.adversarial = self._table("adversarial")
        fewest = len(labels) - counts.max()
        if num_negatives is not None and fewest < num_negatives:
            logging.warning(
                "class %d has %d examples of other classes, fewer than the "
                "%d negatives asked for: all of them are taken",
                classes[counts.argmax()],
                fewest,
                num_negatives,
            )

    @staticmethod
    def memory(num_examples, hidden_dim, dtype="float32"):
        """Returns the bytes that both tables take."""
        return 2 * num_examples * hidden_dim * tf.dtypes.as_dtype(dtype).size

    def __len__(self):
        return len(self.labels)

    def write(self, index, clean, adversarial):
        """Sets rows, as the banks' filling does.

        Args:
            index: int tensor of shape `[batch]`, without repeats.
            clean: tensor of shape `[batch, hidden]`.
            adversarial: tensor of shape `[batch, hidden]`.
        """
        for table, rows in (
            (self.clean, clean),
            (self.adversarial, adversarial),
        ):
            rows = tf.cast(rows, table.dtype)
            table.scatter_update(tf.IndexedSlices(rows, index))

    def update(self, index, clean, adversarial):
        """Moves rows towards new representations: Eq. 5.

        Args:
            index: int tensor of shape `[batch]`, without repeats.
            clean: tensor of shape `[batch, hidden]`.
            adversarial: tensor of shape `[batch, hidden]`.
        """
        self.write(
            index,
            self._averaged(self.clean, index, clean),
            self._averaged(self.adversarial, index, adversarial),
        )

    def draw(self, labels, seed):
        """Draws negatives: a uniform choice among the other classes' rows.

        Rows are drawn without replacement. Examples of one class that are
        drawn for together share their negatives.

        Args:
            labels: int tensor of shape `[batch]`.
            seed: int tensor of shape `[2]`. Unused where all are taken.

        Returns:
            bool tensor of shape `[batch, examples]`: which rows are drawn.
        """
        labels = tf.cast(labels, tf.int32)[:, None]
        if self.num_negatives is None:
            return labels != self.labels
        # The first m of another class, in a random order of all rows.
        order = tf.argsort(tf.random.stateless_uniform([len(self)], seed))
        others = labels != tf.gather(self.labels, order)
        rank = tf.cumsum(tf.cast(others, tf.int32), axis=1)
        drawn = others & (rank <= self.num_negatives)
        return tf.gather(drawn, tf.math.invert_permutation(order), axis=1)

    def score(self, table, vectors):
        """Computes the cosines of vectors with every row of a table.

        Rows are read a block at a time, in both directions: neither a copy of
        the table nor a tensor of `[batch, negatives, hidden]` comes about.
        Gradients flow to the vectors.

        Args:
            table: `self.clean` or `self.adversarial`.
            vectors: float32 tensor of shape `[batch, hidden]`.

        Returns:
            float32 tensor of shape `[batch, examples]`.
        """
        rows = min(_ROWS_AT_ONCE, len(self))
        blocks = -(-len(self) // rows)

        def read(block):
            # The last block is filled up with the last row.
            index = tf.minimum(block * rows + tf.range(rows), len(self) - 1)
            return tf.cast(table.sparse_read(index), tf.float32)

        def forward(vectors, block):
            block = read(block)
            squares = tf.reduce_sum(tf.square(block), axis=1)
            inverse = tf.math.rsqrt(tf.maximum(squares, 1e-12))
            scores = tf.matmul(vectors, block, transpose_b=True) * inverse
            return scores, inverse

        @tf.custom_gradient
        def cosines(vectors):
            scores, inverse = tf.map_fn(
                lambda block: forward(vectors, block),
                tf.range(blocks),
                parallel_iterations=1,
                fn_output_signature=(
                    tf.TensorSpec([None, rows], tf.float32),
                    tf.TensorSpec([rows], tf.float32),
                ),
            )
            scores = tf.reshape(
                tf.transpose(scores, [1, 0, 2]), [-1, blocks * rows]
            )

            def gradient(upstream):
                filling = blocks * rows - len(self)
                upstream = tf.pad(upstream, [[0, 0], [0, filling]])
                upstream = tf.reshape(upstream, [-1, blocks, rows]) * inverse
                return tf.foldl(
                    lambda total, of_block: (
                        total + tf.matmul(of_block[0], read(of_block[1]))
                    ),
                    (tf.transpose(upstream, [1, 0, 2]), tf.range(blocks)),
                    initializer=tf.zeros_like(vectors),
                    parallel_iterations=1,
                )

            return scores[:, : len(self)], gradient

        return cosines(tf.nn.l2_normalize(vectors, axis=1))

    def _table(self, name):
        return tf.Variable(
            tf.zeros([len(self), self.hidden_dim], self.dtype),
            trainable=False,
            name=name,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def _averaged(self, table, index, new):
        old = tf.cast(table.sparse_read(index), tf.float32)
        new = tf.cast(new, tf.float32)
        return self.momentum * old + (1.0 - self.momentum) * new
