"""Cross-entropy over the vocabulary, without the logits of all tokens."""

from collections.abc import Callable

import tensorflow as tf

# The most tokens whose logits exist at a time: 61 MB at 30,000 words.
_TOKENS_AT_ONCE = 512


@tf.custom_gradient
def vocabulary_cross_entropy(
    hidden: tf.Tensor,
    embeddings: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor | None, ...]]]:
    """Sums the weighted cross-entropy of tokens' words.

    The logits `hidden @ embeddings^T + bias` of a batch are the largest
    tensor of a training step. Here they exist for only a block of tokens at a
    time, and the block's gradients are computed during that time. So nothing is
    kept, and nothing is computed twice. Tokens of weight 0 are sorted behind
    the others. They cost nothing, except those that share a block with others.

    Args:
        hidden: float32 tensor of shape `[tokens, embedding]`.
        embeddings: float32 tensor of shape `[vocabulary, embedding]`.
        bias: float32 tensor of shape `[vocabulary]`.
        targets: int32 tensor of shape `[tokens]`: the words' ids.
        weights: float32 tensor of shape `[tokens]`; no gradient flows to it.

    Returns:
        float32 scalar.

    Example:

    ```python
    hidden, embeddings = tf.ones([3, 8]), tf.random.normal([50, 8])
    loss = vocabulary_cross_entropy(
        hidden, embeddings, tf.zeros(50), tf.constant([4, 9, 1]), tf.ones(3)
    )
    ```
    """
    # Blocks of equal size, so that the last one is not mostly filling.
    tokens = tf.shape(weights)[0]
    most = -(-tokens // _TOKENS_AT_ONCE)
    block = -(-tokens // tf.maximum(most, 1))
    read = weights != 0.0
    count = tf.reduce_sum(tf.cast(read, tf.int32))
    order = tf.argsort(tf.cast(~read, tf.int32), stable=True)
    # The last block is filled up with the first token, at weight 0.
    filling = block * most - tokens
    order = tf.pad(order, [[0, filling]])
    sorted_weights = tf.where(
        tf.range(tf.shape(order)[0]) < count, tf.gather(weights, order), 0.0
    )
    blocks = -(-count // tf.maximum(block, 1))

    def body(i, loss, d_hidden, d_embeddings, d_bias):
        index = tf.slice(order, [i * block], [block])
        weight = tf.slice(sorted_weights, [i * block], [block])
        rows = tf.gather(hidden, index)
        logits = tf.matmul(rows, embeddings, transpose_b=True) + bias
        # `d_logits` is softmax(logits) - one_hot(targets).
        losses, d_logits = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=tf.gather(targets, index)
        )
        # Weighted on the narrow side: d_logits is not copied.
        d_rows = tf.matmul(d_logits, embeddings) * weight[:, None]
        return (
            i + 1,
            loss + tf.reduce_sum(losses * weight),
            tf.tensor_scatter_nd_add(d_hidden, index[:, None], d_rows),
            d_embeddings
            + tf.matmul(d_logits, rows * weight[:, None], transpose_a=True),
            d_bias + tf.linalg.matvec(d_logits, weight, transpose_a=True),
        )

    _, loss, *gradients = tf.while_loop(
        lambda i, *_: i < blocks,
        body,
        (
            tf.constant(0),
            tf.constant(0.0),
            tf.zeros_like(hidden),
            tf.zeros_like(embeddings),
            tf.zeros_like(bias),
        ),
        parallel_iterations=1,
    )

    def gradient(upstream):
        return *(upstream * g for g in gradients), None, None

    return loss, gradient
