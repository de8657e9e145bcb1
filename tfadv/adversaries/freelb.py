"""FreeLB: who looks for the perturbation that hurts most, in training."""

import copy

import keras
import tensorflow as tf

from tfadv.adversaries import perturbation
from tfadv.adversaries.ascent import run_passes


@keras.saving.register_keras_serializable(package="tfadv")
class FreeLB:
    """Finds adversarial word embeddings by normalised gradient ascent.

    FreeLB runs `steps` forward and backward passes over a batch. Each pass
    gives two gradients at once: with respect to delta, along which delta
    ascends before the next pass, and with respect to the parameters, which
    are averaged over the passes and applied once. There is no ascent after
    the last pass.

    Args:
        steps: int. Number of passes, n. With `steps=1` and
            `init_magnitude=0`, training is plain training.
        step_size: float. alpha, the length of an ascent step in the units of
            the embedding space.
        init_magnitude: float. gamma, the size of the random start; 0 starts
            at the clean embeddings.
        max_norm: float. epsilon, the radius of the L2 ball that delta may not
            leave, over all of an example's tokens; 0 means unlimited.
        warmup_steps: int. Updates over which alpha grows to `step_size`, from
            `step_size / warmup_steps` in the first one. A new head cannot
            tell the classes yet, and an adversary of full strength may keep
            it from learning to. 0 is the paper's: full strength at once.

    Raises:
        ValueError: a setting is out of its range.

    Example:

    ```python
    adversary = tfadv.FreeLB(steps=3, step_size=0.1)
    classifier = tfadv.AdversarialClassifier(encoder, 2, adversary=adversary)
    ```

    Reference:
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764), Algorithm 1
     - CARL and RAR paper, Eq. 1 and Table 1
     - [Cai et al. 2018](https://arxiv.org/abs/1805.04807), on growing strength
    """

    def __init__(
        self,
        steps=3,
        step_size=0.1,
        init_magnitude=0.0,
        max_norm=0,
        warmup_steps=0,
    ):
        if int(steps) != steps or steps < 1:
            raise ValueError(
                "`steps` must be a whole number of at least 1. Received: "
                f"steps={steps}"
            )
        # Written so that NaN fails, too.
        if not 0 < step_size < float("inf"):
            raise ValueError(
                "`step_size` must be a positive number. Received: "
                f"step_size={step_size}"
            )
        if not 0 <= init_magnitude < float("inf"):
            raise ValueError(
                "`init_magnitude` must be 0 or a positive number. Received: "
                f"init_magnitude={init_magnitude}"
            )
        if not 0 <= max_norm < float("inf"):
            raise ValueError(
                "`max_norm` must be 0 (unlimited) or a positive number. "
                f"Received: max_norm={max_norm}"
            )
        if int(warmup_steps) != warmup_steps or warmup_steps < 0:
            raise ValueError(
                "`warmup_steps` must be a whole number of at least 0. "
                f"Received: warmup_steps={warmup_steps}"
            )
        self.steps = int(steps)
        self.step_size = float(step_size)
        self.init_magnitude = float(init_magnitude)
        self.max_norm = float(max_norm)
        self.warmup_steps = int(warmup_steps)

    def at(self, updates):
        """Returns the adversary as strong as it is in one update.

        Args:
            updates: int scalar tensor, the updates made before.
        """
        if not self.warmup_steps:
            return self
        adversary = copy.copy(self)
        grown = tf.cast(updates + 1, tf.float32) / self.warmup_steps
        adversary.step_size = self.step_size * tf.minimum(grown, 1.0)
        return adversary

    def initialize(self, padding_mask, embedding_dim, seed_generator):
        """Returns the first pass's delta, `[batch, tokens, embedding_dim]`."""
        # Zeros need no seed: the generator then stays where it is.
        seed = seed_generator.next() if self.init_magnitude else None
        delta = perturbation.initialize(
            padding_mask, embedding_dim, self.init_magnitude, seed
        )
        return perturbation.project(delta, self.max_norm)

    def ascend(self, delta, gradient, padding_mask):
        """Returns the next pass's delta: one step, then the projection."""
        delta = perturbation.step(delta, gradient, padding_mask, self.step_size)
        return perturbation.project(delta, self.max_norm)

    def run(self, one_pass, delta, padding_mask, state, first=0, last=None):
        """Runs the passes, or some of them: see `run_passes`."""

        def ascend(delta, gradient):
            return self.ascend(delta, gradient, padding_mask)

        return run_passes(
            one_pass, ascend, delta, state, self.steps, first, last
        )

    def get_config(self):
        """Returns the settings, as `from_config` takes them."""
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "init_magnitude": self.init_magnitude,
            "max_norm": self.max_norm,
            "warmup_steps": self.warmup_steps,
        }

    @classmethod
    def from_config(cls, config):
        """Builds the adversary again from `get_config`'s settings."""
        return cls(**config)
