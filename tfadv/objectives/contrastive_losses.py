"""Contrastive losses as pure functions of scores.

A score is a dot product of two L2-normalised representations over the
temperature: the logarithm of h in Eq. 4. Both losses take those of a batch
with its positives and with every row of a memory bank, and a mask that says
which rows are an example's negatives.
"""

import tensorflow as tf


def log_normalizer(positive, negatives, drawn):
    """Estimates the constant Z of `nce` from a batch, as its logarithm.

    Z is the mean of h over the positives and the drawn negatives of the
    batch, times the number of rows.

    Args:
        positive: float32 tensor of shape `[batch]`.
        negatives: float32 tensor of shape `[batch, rows]`.
        drawn: bool tensor of shape `[batch, rows]`.

    Returns:
        float32 scalar.

    Reference:
     - [Wu et al. 2018](https://arxiv.org/abs/1805.01978), section 3.2
    """
    scores = tf.concat(
        [positive[:, None], _only_drawn(negatives, drawn)], axis=1
    )
    count = tf.cast(tf.size(positive), tf.float32) + tf.reduce_sum(
        tf.cast(drawn, tf.float32)
    )
    rows = tf.cast(tf.shape(negatives)[1], tf.float32)
    return tf.reduce_logsumexp(scores) - tf.math.log(count / rows)


def nce(positive, negatives, drawn, log_z):
    """Tells each example's positive from its negatives, one by one.

    A pair is taken for the positive one with the odds h / Z to m / N, where m
    negatives are drawn and the noise is 1 / N for each of N rows.

    Args:
        positive: float32 tensor of shape `[batch]`: scores with the positive.
        negatives: float32 tensor of shape `[batch, rows]`: scores with all
            rows of the bank.
        drawn: bool tensor of shape `[batch, rows]`: which rows are negatives.
        log_z: float32 scalar: the logarithm of Z, see `log_normalizer`.

    Returns:
        float32 tensor of shape `[batch]`.

    Reference:
     - [Tian et al. 2020](https://arxiv.org/abs/1910.10699), Eq. 18
     - CARL and RAR paper, Eq. 2
    """
    rows = tf.cast(tf.shape(negatives)[1], tf.float32)
    count = tf.reduce_sum(tf.cast(drawn, tf.float32), axis=1)
    log_noise = tf.math.log(tf.maximum(count, 1.0) / rows)
    wrong = tf.nn.softplus(negatives - (log_z + log_noise)[:, None])
    return tf.nn.softplus(log_z + log_noise - positive) + tf.reduce_sum(
        tf.where(drawn, wrong, 0.0), axis=1
    )


def infonce(positive, negatives, drawn):
    """Picks each example's positive out of it and its negatives: a softmax.

    Args:
        positive: float32 tensor of shape `[batch]`: scores with the positive.
        negatives: float32 tensor of shape `[batch, rows]`: scores with all
            rows of the bank.
        drawn: bool tensor of shape `[batch, rows]`: which rows are negatives.

    Returns:
        float32 tensor of shape `[batch]`.

    Reference:
     - [van den Oord et al. 2018](https://arxiv.org/abs/1807.03748), Eq. 4
     - CARL and RAR paper, Eq. 2
    """
    others = tf.reduce_logsumexp(_only_drawn(negatives, drawn), axis=1)
    # log(1 + e^(others - positive)): the softmax of two.
    return tf.nn.softplus(others - positive)


def _only_drawn(scores, drawn):
    # Finite, for the gradient of logsumexp at a row without negatives; its
    # exponential is 0.
    return tf.where(drawn, scores, -1e9)
