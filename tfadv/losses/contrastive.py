"""Contrastive losses, which take the scores of a block of negatives at a time.

A score is a dot product of two L2-normalised representations over the
temperature: the logarithm of h in Eq. 4. The losses take the scores of a batch
with its positives. The scores with the negatives are `Scores`, which the losses
sum over each example's negatives.

The negatives may lie on several replicas: they are sharded. Then each replica
scores the examples of all of them with the negatives it holds, and the losses
are those of its own examples.
"""

from collections.abc import Callable

import tensorflow as tf

from tfadv import replicas

# A logarithm of nothing: finite, so that no gradient is NaN.
NOTHING = -1e9


class Scores:
    """The scores of a batch with its negatives, a block of them at a time.

    Sums over an example's negatives come with their gradients with respect to
    the examples' vectors: a block is read once, and nothing of it is kept.

    Args:
        vectors: float32 tensor of shape `[batch, hidden]`, of length 1.
        blocks: int32 scalar, the number of blocks.
        read: callable of a block's number that returns float32 rows, `[block,
            hidden]`; their inverse lengths, `[block]`; and whether a row is
            an example's negative, bool, `[batch, block]`.
        temperature: float.

    Example:

    ```python
    vectors = tf.eye(2)
    rows, inverse = tf.constant([[3.0, 4.0]]), tf.constant([0.2])
    drawn = tf.constant([[True], [False]])
    scores = Scores(vectors, 1, lambda block: (rows, inverse, drawn), 0.5)
    scores.log_sum()  # 1.2, and about -1e9
    ```
    """

    def __init__(
        self,
        vectors: tf.Tensor,
        blocks: int | tf.Tensor,
        read: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
        temperature: float,
    ):
        self._vectors = vectors
        self._blocks = blocks
        self._read = read
        self._temperature = temperature

    def log_sum(self, wanted: bool | tf.Tensor = True) -> tf.Tensor:
        """Sums the exponentials of each example's scores, in logarithms.

        Args:
            wanted: bool scalar. Where it is false, nothing is read.

        Returns:
            float32 tensor of shape `[batch]`; about -1e9 for an example
            without negatives.
        """

        def add(state, scores, drawn):
            before, total = state
            scores = tf.where(drawn, scores, NOTHING)
            highest = tf.maximum(before, tf.reduce_max(scores, axis=1))
            kept = tf.exp(before - highest)
            parts = tf.exp(scores - highest[:, None])
            parts = tf.where(drawn, parts, 0.0)
            total = total * kept + tf.reduce_sum(parts, axis=1)
            return (highest, total), kept[:, None], parts

        def finish(state):
            highest, total = state
            total = tf.maximum(total, 1e-30)
            return highest + tf.math.log(total), 1.0 / total[:, None]

        zeros = tf.zeros_like(self._vectors[:, 0])
        blocks = tf.where(wanted, self._blocks, 0)
        return self._sum(add, (zeros + NOTHING, zeros), finish, blocks)

    def softplus_sum(self, offset: tf.Tensor) -> tf.Tensor:
        """Sums `log(1 + e^(score - offset))` over each example's negatives.

        Args:
            offset: float32 tensor of shape `[batch]`; no gradient flows to it.

        Returns:
            float32 tensor of shape `[batch]`.
        """

        def add(total, scores, drawn):
            scores -= offset[:, None]
            losses = tf.where(drawn, tf.nn.softplus(scores), 0.0)
            total += tf.reduce_sum(losses, axis=1)
            parts = tf.where(drawn, tf.sigmoid(scores), 0.0)
            return total, 1.0, parts

        zeros = tf.zeros_like(self._vectors[:, 0])
        return self._sum(add, zeros, lambda total: (total, 1.0), self._blocks)

    def _sum(self, add, state, finish, blocks):
        """Reads all blocks, in a loop that adds up sums and their gradients.

        Args:
            add: callable of a state, a block's scores and whether they are
                drawn. It returns the next state; the factor, a scalar or
                `[batch, 1]`, of the gradients so far; and the sum's
                derivatives with respect to the scores, `[batch, block]`.
            state: the first state.
            finish: callable of the last state that returns the sums,
                `[batch]`, and the factor of the gradients.
            blocks: int32 scalar.
        """

        @tf.custom_gradient
        def summed(vectors):
            def body(block, state, gradient):
                rows, inverse, drawn = self._read(block)
                scale = inverse / self._temperature
                scores = tf.matmul(vectors, rows, transpose_b=True) * scale
                state, kept, parts = add(state, scores, drawn)
                gradient *= kept
                gradient += tf.matmul(parts * scale, rows)
                return block + 1, state, gradient

            _, last, gradient = tf.while_loop(
                lambda block, *_: block < blocks,
                body,
                (tf.constant(0), state, tf.zeros_like(vectors)),
                parallel_iterations=1,
            )
            sums, factor = finish(last)

            def backward(upstream):
                # A list of rows, where some sums were looked up.
                upstream = tf.convert_to_tensor(upstream)
                return upstream[:, None] * factor * gradient

            return sums, backward

        return summed(self._vectors)


def log_normalizer(
    positive: tf.Tensor,
    others: tf.Tensor,
    counts: tf.Tensor,
    rows: int,
    counted: tf.Tensor | None = None,
) -> tf.Tensor:
    """Estimates the constant Z of `nce` from a batch, as its logarithm.

    Z is the mean of h over the positives and the drawn negatives of the
    batch, times the number of rows. The batch is that of all replicas.

    Args:
        positive: float32 tensor of shape `[batch]`.
        others: float32 tensor, `Scores.log_sum` of the negatives.
        counts: float32 tensor of its shape: how many negatives an example
            has.
        rows: int, N, the number of rows.
        counted: bool tensor of shape `[batch]`: whose positives count; `None`
            for all.

    Returns:
        float32 scalar.

    Reference:
     - [Wu et al. 2018](https://arxiv.org/abs/1805.01978), section 3.2
    """
    count = tf.size(positive)
    if counted is not None:
        positive = tf.where(counted, positive, NOTHING)
        count = tf.reduce_sum(tf.cast(counted, tf.int32))
    count = tf.cast(count, tf.float32) + tf.reduce_sum(counts)
    count = tf.maximum(replicas.total(count), 1.0)
    total = tf.reduce_logsumexp(tf.concat([positive, others], axis=0))
    return replicas.log_sum(total) - tf.math.log(count / rows)


def nce(
    positive: tf.Tensor,
    negatives: Scores,
    counts: tf.Tensor,
    log_z: tf.Tensor,
    rows: int,
    sharded: bool = False,
) -> tf.Tensor:
    """Tells each example's positive from its negatives, one by one.

    A pair is taken for the positive one with the odds h / Z to m / N, where m
    negatives are drawn and the noise is 1 / N for each of N rows.

    Args:
        positive: float32 tensor of shape `[batch]`: scores with the positive.
        negatives: `Scores`.
        counts: float32 tensor of shape `[batch]`: m, how many negatives an
            example has.
        log_z: float32 scalar: the logarithm of Z, see `log_normalizer`.
        rows: int, N, the number of rows.
        sharded: bool, whether the negatives lie on several replicas.

    Returns:
        float32 tensor of shape `[batch]`.

    Reference:
     - [Tian et al. 2020](https://arxiv.org/abs/1910.10699), Eq. 18
     - CARL and RAR paper, Eq. 2
    """
    if sharded:
        counts = replicas.total(counts)
    offset = log_z + tf.math.log(tf.maximum(counts, 1.0) / rows)
    wrong = negatives.softplus_sum(offset)
    if sharded:
        wrong = replicas.own_rows(replicas.total(wrong))
        offset = replicas.own_rows(offset)
    return tf.nn.softplus(offset - positive) + wrong


def infonce(
    positive: tf.Tensor, negatives: Scores, sharded: bool = False
) -> tf.Tensor:
    """Picks each example's positive from among its negatives: a softmax.

    Args:
        positive: float32 tensor of shape `[batch]`: scores with the positive.
        negatives: `Scores`.
        sharded: bool, whether the negatives lie on several replicas.

    Returns:
        float32 tensor of shape `[batch]`.

    Reference:
     - [van den Oord et al. 2018](https://arxiv.org/abs/1807.03748), Eq. 4
     - CARL and RAR paper, Eq. 2
    """
    others = negatives.log_sum()
    if sharded:
        others = replicas.own_rows(replicas.log_sum(others))
    # log(1 + e^(others - positive)): the softmax of two.
    return tf.nn.softplus(others - positive)
