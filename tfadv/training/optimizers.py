"""Adam in one operation per weight."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfadv")
class Adam(keras.optimizers.Adam):
    """Keras' Adam, faster on the CPU.

    It computes the same as `keras.optimizers.Adam`. But it reads and writes a
    weight and its moments once per update, not once for each of a dozen
    operations.

    Args:
        *args, **kwargs: those of `keras.optimizers.Adam`. `amsgrad` is not
            supported.

    Raises:
        ValueError: `amsgrad` is asked for.

    Example:

    ```python
    classifier.compile(optimizers.Adam(5e-5), loss)
    ```

    Reference:
     - [Kingma and Ba 2015](https://arxiv.org/abs/1412.6980)
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError(
                "`amsgrad` is not supported; take `keras.optimizers.Adam`. "
                "Received: amsgrad=True"
            )

    def update_step(
        self,
        gradient: tf.Tensor | tf.IndexedSlices,
        variable: tf.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """Updates a weight and its moments by its gradient."""
        if isinstance(gradient, tf.IndexedSlices):
            # Keras leaves the rows that a batch has not looked up.
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, dtype)
        beta_1, beta_2 = (
            tf.constant(beta, dtype) for beta in (self.beta_1, self.beta_2)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )
