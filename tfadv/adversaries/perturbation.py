"""Pure functions on delta, the perturbation of a batch of word embeddings.

The arguments stand for the paper's symbols: gamma is `magnitude`, alpha is
`step_size`, epsilon is `max_norm`. Every function treats each example
of the batch by itself, in float32, and leaves padding at zero.
"""

from collections.abc import Sequence

import tensorflow as tf


def initialize(
    padding_mask: tf.Tensor,
    embedding_dim: int,
    magnitude: float,
    seed: tf.Tensor | Sequence[int] | None,
) -> tf.Tensor:
    """Draws the start of the ascent, or zeros where `magnitude` is 0.

    Entries are uniform in `[-1, 1]`, times
    `magnitude / sqrt(tokens * embedding_dim)`, where `tokens` is the number of
    real tokens of the example. So the expected norm does not grow with length.
    The draw of an entry does not depend on how far the batch is padded.

    Args:
        padding_mask: tensor of shape `[batch, tokens]`, 1 for real tokens.
        embedding_dim: int. Size of a word embedding.
        magnitude: float. gamma of the paper's Table 1.
        seed: int32 tensor of shape `[2]`. Unused where `magnitude` is 0.

    Returns:
        delta, float32 of shape `[batch, tokens, embedding_dim]`.

    Example:

    ```python
    mask = tf.constant([[1, 1, 0]])
    delta = initialize(mask, embedding_dim=4, magnitude=0.6, seed=[1, 2])
    ```

    Reference:
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764), Algorithm 1, line 4
    """
    mask = tf.cast(padding_mask, tf.float32)
    batch, tokens = tf.unstack(tf.shape(mask))
    if magnitude == 0:
        return tf.zeros([batch, tokens, embedding_dim])
    # Drawn with tokens first: the generator counts entries in memory order, so
    # a longer padding only adds entries behind the ones already there.
    noise = tf.random.stateless_uniform(
        [tokens, batch, embedding_dim], seed, minval=-1.0, maxval=1.0
    )
    size = tf.reduce_sum(mask, axis=1) * float(embedding_dim)
    scale = magnitude * tf.math.rsqrt(tf.maximum(size, 1.0))
    return tf.transpose(noise, [1, 0, 2]) * (mask * scale[:, None])[:, :, None]


def norm(delta: tf.Tensor) -> tf.Tensor:
    """Measures the L2 norm of each example's perturbation.

    Args:
        delta: float32 tensor of shape `[batch, tokens, embedding]`.

    Returns:
        float32 tensor of shape `[batch]`.
    """
    return tf.sqrt(tf.reduce_sum(tf.square(delta), axis=[1, 2]))


def step(
    delta: tf.Tensor,
    gradient: tf.Tensor,
    padding_mask: tf.Tensor,
    step_size: float | tf.Tensor,
) -> tf.Tensor:
    """Ascends along the normalised gradient: delta + alpha * g / ||g||.

    The norm is taken over all of an example's real tokens. An example whose
    gradient is zero, or not finite, stays where it is.

    Args:
        delta: float32 tensor of shape `[batch, tokens, embedding]`.
        gradient: tensor of delta's shape: the gradient of the classification
            loss with respect to delta. Its scale does not matter.
        padding_mask: tensor of shape `[batch, tokens]`, 1 for real tokens.
        step_size: float or scalar tensor. alpha of the paper's Table 1.

    Returns:
        The moved delta.

    Reference:
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764), Algorithm 1, line 8
    """
    gradient = tf.cast(gradient, tf.float32)
    real = tf.cast(padding_mask, tf.bool)[:, :, None]
    gradient = tf.where(real, gradient, 0.0)
    # The largest entry is divided out first: squares of a gradient scaled by
    # 1e-30 underflow, those of a loss-scaled one overflow.
    largest = tf.reduce_max(tf.abs(gradient), axis=[1, 2], keepdims=True)
    finite = tf.reduce_all(
        tf.math.is_finite(gradient), axis=[1, 2], keepdims=True
    )
    usable = finite & (largest > 0.0)
    gradient = tf.where(usable, gradient / tf.where(usable, largest, 1.0), 0.0)
    length = norm(gradient)[:, None, None]
    return delta + step_size * tf.math.divide_no_nan(gradient, length)


def project(delta: tf.Tensor, max_norm: float) -> tf.Tensor:
    """Projects each example into the L2 ball of radius `max_norm` around zero.

    Args:
        delta: float32 tensor of shape `[batch, tokens, embedding]`.
        max_norm: float. epsilon of the paper's Table 1; 0 means unlimited.

    Returns:
        The projected delta.

    Reference:
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764), Algorithm 1, line 8
    """
    return delta if max_norm == 0 else into_ball(delta, max_norm, "l2")


def into_ball(
    delta: tf.Tensor, radius: float | tf.Tensor, kind: str
) -> tf.Tensor:
    """Projects each example into a ball around zero.

    Args:
        delta: float32 tensor of shape `[batch, tokens, embedding]`.
        radius: float or scalar tensor; 0 leaves zeros.
        kind: string: `"l2"`, the norm over all of an example's tokens, or
            `"linf"`, the largest entry.

    Returns:
        The projected delta.
    """
    if kind == "linf":
        return tf.clip_by_value(delta, -radius, radius)
    length = norm(delta)[:, None, None]
    return delta * tf.math.divide_no_nan(radius, tf.maximum(length, radius))


def sign_step(
    delta: tf.Tensor,
    gradient: tf.Tensor,
    padding_mask: tf.Tensor,
    step_size: float | tf.Tensor,
) -> tf.Tensor:
    """Ascends along the gradient's sign: delta + alpha * sign(g).

    Args:
        delta: float32 tensor of shape `[batch, tokens, embedding]`.
        gradient: tensor of delta's shape.
        padding_mask: tensor of shape `[batch, tokens]`, 1 for real tokens.
        step_size: float or scalar tensor. alpha.

    Returns:
        The moved delta.

    Reference:
     - [Madry et al. 2018](https://arxiv.org/abs/1706.06083), section 2.1
    """
    real = tf.cast(padding_mask, tf.bool)[:, :, None]
    direction = tf.sign(tf.cast(gradient, tf.float32))
    usable = real & tf.math.is_finite(direction)
    return delta + step_size * tf.where(usable, direction, 0.0)


def random_in_ball(
    padding_mask: tf.Tensor,
    embedding_dim: int,
    radius: float | tf.Tensor,
    kind: str,
    seeds: tf.Tensor,
) -> tf.Tensor:
    """Draws a uniformly distributed point of each example's ball.

    Args:
        padding_mask: tensor of shape `[batch, tokens]`, 1 for real tokens.
        embedding_dim: int. Size of a word embedding.
        radius: float or scalar tensor.
        kind: string, as in `into_ball`.
        seeds: int tensor of shape `[batch, 2]`, a seed for each example.

    Returns:
        float32 tensor of shape `[batch, tokens, embedding_dim]`, zero on
        padding. How far the batch is padded does not change it.
    """
    mask = tf.cast(padding_mask, tf.float32)
    # Tokens first: a longer padding only adds entries behind the others.
    shape = [tf.shape(mask)[1], embedding_dim]

    def draw(seed):
        if kind == "linf":
            return tf.random.stateless_uniform(shape, seed, -1.0, 1.0)
        return tf.random.stateless_normal(shape, seed)

    entries = tf.map_fn(draw, seeds, fn_output_signature=tf.float32)
    entries *= mask[:, :, None]
    if kind == "linf":
        return entries * radius

    def draw_share(seed):
        seed = tf.random.experimental.stateless_fold_in(seed, 1)
        return tf.random.stateless_uniform([], seed)

    # A uniform direction; the share of the ball within r grows as r^d.
    share = tf.map_fn(draw_share, seeds, fn_output_signature=tf.float32)
    dimensions = tf.reduce_sum(mask, axis=1) * float(embedding_dim)
    distance = radius * tf.pow(share, 1.0 / tf.maximum(dimensions, 1.0))
    length = norm(entries)
    return entries * tf.math.divide_no_nan(distance, length)[:, None, None]
