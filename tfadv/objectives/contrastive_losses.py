"""Contrastive losses as pure functions of scores.

A score is a dot product of two L2-normalised representations over the
temperature: the logarithm of h in Eq. 4. Both losses take those of a batch
with its positives and with every row of a memory bank, and a mask that says
which rows are an example's negatives.

The rows may lie on several replicas. Then each replica scores the examples of
all of them, `[all, rows]`, with the rows it holds; `shards` is its
`tfadv.replicas.Share` of the examples, and the losses are those of its own.
"""

import tensorflow as tf

from tfadv import replicas


def log_normalizer(positive, negatives, drawn, counted=None, rows=None):
    """Estimates the constant Z of `nce` from a batch, as its logarithm.

    Z is the mean of h over the positives and the drawn negatives of the
    batch, times the number of rows. The batch is that of all replicas.

    Args:
        positive: float32 tensor of shape `[batch]`.
        negatives: float32 tensor of shape `[batch, rows]`.
        drawn: bool tensor of shape `[batch, rows]`.
        counted: bool tensor of shape `[batch]`: whose positives count; `None`
            for all.
        rows: int, the number of rows where they lie on several replicas.

    Returns:
        float32 scalar.

    Reference:
     - [Wu et al. 2018](https://arxiv.org/abs/1805.01978), section 3.2
    """
    count = tf.size(positive)
    if counted is not None:
        positive = _only_drawn(positive, counted)
        count = tf.reduce_sum(tf.cast(counted, tf.int32))
    scores = tf.concat(
        [positive[:, None], _only_drawn(negatives, drawn)], axis=1
    )
    count = tf.cast(count, tf.float32) + tf.reduce_sum(
        tf.cast(drawn, tf.float32)
    )
    count = tf.maximum(replicas.total(count), 1.0)
    rows = tf.cast(rows or tf.shape(negatives)[1], tf.float32)
    total = replicas.log_sum(tf.reduce_logsumexp(scores))
    return total - tf.math.log(count / rows)


def nce(positive, negatives, drawn, log_z, shards=None, rows=None):
    """Tells each example's positive from its negatives, one by one.

    A pair is taken for the positive one with the odds h / Z to m / N, where m
    negatives are drawn and the noise is 1 / N for each of N rows.

    Args:
        positive: float32 tensor of shape `[batch]`: scores with the positive.
        negatives: float32 tensor of shape `[batch, rows]`: scores with all
            rows of the bank.
        drawn: bool tensor of shape `[batch, rows]`: which rows are negatives.
        log_z: float32 scalar: the logarithm of Z, see `log_normalizer`.
        shards: `tfadv.replicas.Share`, where the rows lie on several replicas.
        rows: int, their number then.

    Returns:
        float32 tensor of shape `[batch]`.

    Reference:
     - [Tian et al. 2020](https://arxiv.org/abs/1910.10699), Eq. 18
     - CARL and RAR paper, Eq. 2
    """
    rows = tf.cast(rows or tf.shape(negatives)[1], tf.float32)
    count = tf.reduce_sum(tf.cast(drawn, tf.float32), axis=1)
    if shards is not None:
        count = replicas.total(count)
    log_noise = tf.math.log(tf.maximum(count, 1.0) / rows)
    wrong = tf.nn.softplus(negatives - (log_z + log_noise)[:, None])
    wrong = tf.reduce_sum(tf.where(drawn, wrong, 0.0), axis=1)
    if shards is not None:
        wrong, log_noise = replicas.total(wrong), shards.own(log_noise)
        wrong = shards.own(wrong)
    return tf.nn.softplus(log_z + log_noise - positive) + wrong


def infonce(positive, negatives, drawn, shards=None):
    """Picks each example's positive out of it and its negatives: a softmax.

    Args:
        positive: float32 tensor of shape `[batch]`: scores with the positive.
        negatives: float32 tensor of shape `[batch, rows]`: scores with all
            rows of the bank.
        drawn: bool tensor of shape `[batch, rows]`: which rows are negatives.
        shards: `tfadv.replicas.Share`, where the rows lie on several replicas.

    Returns:
        float32 tensor of shape `[batch]`.

    Reference:
     - [van den Oord et al. 2018](https://arxiv.org/abs/1807.03748), Eq. 4
     - CARL and RAR paper, Eq. 2
    """
    others = tf.reduce_logsumexp(_only_drawn(negatives, drawn), axis=1)
    if shards is not None:
        others = shards.own(replicas.log_sum(others))
    # log(1 + e^(others - positive)): the softmax of two.
    return tf.nn.softplus(others - positive)


def _only_drawn(scores, drawn):
    # Finite, for the gradient of logsumexp at a row without negatives; its
    # exponential is 0.
    return tf.where(drawn, scores, -1e9)
