"""Learning rates over the course of a fine-tuning run."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfadv")
class LinearDecayWithWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to its peak, then falls linearly to zero.

    Args:
        peak: float. The highest learning rate.
        warmup_steps: int. Steps from zero to the peak; 0 starts at the peak.
        total_steps: int. Steps of the whole run; the rate is zero from there.

    Example:

    ```python
    rate = LinearDecayWithWarmup(5e-5, warmup_steps=10, total_steps=100)
    optimizer = keras.optimizers.Adam(rate)
    ```

    Reference:
     - [Devlin et al. 2019](https://arxiv.org/abs/1810.04805), appendix A.2
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        super().__init__()
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "`warmup_steps` must be at least 0 and less than "
                f"`total_steps`. Received: warmup_steps={warmup_steps}, "
                f"total_steps={total_steps}"
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = keras.ops.cast(step, "float32")
        # The optimizer counts from 0: its first step must not have rate zero.
        rise = (step + 1.0) / (self.warmup_steps + 1.0)
        fall = (self.total_steps - step) / (
            self.total_steps - self.warmup_steps
        )
        return self.peak * keras.ops.clip(
            keras.ops.minimum(rise, fall), 0.0, 1.0
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }
