"""Numbers of what each of the adversary's passes over a batch sees."""

from typing import Any

import keras
import tensorflow as tf

from tfadv.adversaries import perturbation
from tfadv.objectives.objective import weighted_mean


class PassStatistics(keras.metrics.Metric):
    """Averages what each of the adversary's passes sees, over the batches.

    Args:
        steps: int. Number of passes.
        **kwargs: passed to `keras.metrics.Metric`.

    Returns:
        `result()` is float32 of shape `[steps, 3]`: loss, accuracy and mean
        norm of delta, one row per pass.

    Example:

    ```python
    statistics = PassStatistics(steps=2)
    statistics.update_state([[0.7, 0.5, 0.0], [0.9, 0.4, 0.1]], 32)
    statistics.result()
    ```
    """

    NAME = "pass_statistics"
    COLUMNS = ("loss", "accuracy", "delta_norm")

    def __init__(self, steps: int, **kwargs: Any):
        super().__init__(name=self.NAME, **kwargs)
        self.total = self.add_variable(
            [steps, len(self.COLUMNS)], "zeros", name="total"
        )
        self.count = self.add_variable([], "zeros", name="count")

    def update_state(
        self, values: tf.Tensor, sample_weight: tf.Tensor | float = 1.0
    ) -> None:
        weight = tf.cast(sample_weight, self.dtype)
        self.total.assign_add(tf.cast(values, self.dtype) * weight)
        self.count.assign_add(weight)

    def result(self) -> tf.Tensor:
        return tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )


def row(
    loss: tf.Tensor,
    y: tf.Tensor,
    logits: tf.Tensor,
    delta: tf.Tensor,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes one pass's statistics.

    Args:
        loss: scalar.
        y: labels of the batch, as numbers or one-hot.
        logits: tensor of shape `[batch, classes]`.
        delta: float32 tensor of shape `[batch, tokens, embedding]`.
        weights: tensor of shape `[batch]`, the examples' weights in the means;
            `None` for equal ones.

    Returns:
        float32 tensor of shape `[3]`, by `PassStatistics.COLUMNS`.
    """
    return tf.stack(
        [
            loss,
            weighted_mean(_right(y, logits), weights),
            weighted_mean(perturbation.norm(delta), weights),
        ]
    )


def _right(y, y_pred):
    """Marks right classes with 1; labels are numbers or one-hot."""
    y = tf.convert_to_tensor(y)
    if y.shape.rank == 2 and y.shape[1] == y_pred.shape[1]:
        y = tf.argmax(y, axis=1)
    y = tf.cast(tf.reshape(y, [-1]), tf.int64)
    return tf.cast(tf.argmax(y_pred, axis=1) == y, tf.float32)
