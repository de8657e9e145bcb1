"""FreeLB looks for the perturbation that hurts most, in training.

This module needs no TensorFlow until an adversary is used: the command line
makes its flags from the settings.
"""

import copy
import dataclasses
import math
import typing
from collections.abc import Callable

from tfadv.errors import InputError
from tfadv.fields import Group, field

if typing.TYPE_CHECKING:
    import keras
    import tensorflow as tf

_State = typing.TypeVar("_State")


@dataclasses.dataclass(frozen=True)
class FreeLB(Group):
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
            it from learning to. The paper uses 0: full strength at once.

    Raises:
        InputError: a setting is out of its range, or the random start would
            lie outside the ball.

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

    steps: int = field(
        3,
        "n: forward and backward passes per update. The paper searches 2 to 4.",
        flag="adv_steps",
        low=1,
        high=1000,
    )
    step_size: float = field(
        0.1,
        "alpha: length of an ascent step, in the units of the word embeddings. "
        "The paper searches 0.01 to 0.2.",
        flag="adv_step_size",
        above=0,
    )
    init_magnitude: float = field(
        0.0,
        "gamma: size of the random start; 0 starts at the clean embeddings. "
        "The paper searches 0 to 0.8.",
        flag="adv_init_magnitude",
        low=0,
    )
    max_norm: float = field(
        0.0,
        "epsilon: largest L2 norm of an example's perturbation; 0 means no "
        "limit. The paper searches 0 to 0.5.",
        flag="adv_max_norm",
        low=0,
    )
    warmup_steps: int = field(
        0,
        "Updates over which alpha grows to its full size.",
        flag=None,
        low=0,
    )

    def check(self) -> None:
        limit = math.sqrt(3) * self.max_norm
        if 0 < limit < self.init_magnitude:
            raise InputError(
                "start-outside-ball",
                "the random start, of norm `init_magnitude` / sqrt(3), would "
                f"lie outside of the ball of radius `max_norm`={self.max_norm}",
                "lower the first, or raise the second or set it to 0",
                argument="init_magnitude",
                value=self.init_magnitude,
            )

    def at(self, updates: "tf.Tensor") -> typing.Self:
        """Returns the adversary with the strength that it has in one update.

        Args:
            updates: int scalar tensor, the number of updates made before.

        Returns:
            `FreeLB`. While alpha grows, its `step_size` is a tensor.
        """
        if not self.warmup_steps:
            return self
        import tensorflow as tf

        grown = tf.cast(updates + 1, tf.float32) / self.warmup_steps
        adversary = copy.copy(self)
        # A tensor is no setting: it is neither checked nor saved.
        step_size = self.step_size * tf.minimum(grown, 1.0)
        object.__setattr__(adversary, "step_size", step_size)
        return adversary

    def initialize(
        self,
        padding_mask: "tf.Tensor",
        embedding_dim: int,
        seed_generator: "keras.random.SeedGenerator",
    ) -> "tf.Tensor":
        """Draws the first pass's delta.

        Args:
            padding_mask: tensor of shape `[batch, tokens]`.
            embedding_dim: int.
            seed_generator: `keras.random.SeedGenerator`.

        Returns:
            float32 tensor of shape `[batch, tokens, embedding_dim]`.
        """
        from tfadv.adversaries import perturbation

        # Zeros need no seed: the generator then stays where it is.
        seed = seed_generator.next() if self.init_magnitude else None
        delta = perturbation.initialize(
            padding_mask, embedding_dim, self.init_magnitude, seed
        )
        return perturbation.project(delta, self.max_norm)

    def ascend(
        self,
        delta: "tf.Tensor",
        gradient: "tf.Tensor",
        padding_mask: "tf.Tensor",
    ) -> "tf.Tensor":
        """Makes one step, then projects delta into the ball.

        Args:
            delta: float32 tensor of shape `[batch, tokens, embedding]`.
            gradient: tensor of delta's shape.
            padding_mask: tensor of shape `[batch, tokens]`.

        Returns:
            The next pass's delta.
        """
        from tfadv.adversaries import perturbation

        delta = perturbation.step(delta, gradient, padding_mask, self.step_size)
        return perturbation.project(delta, self.max_norm)

    def run(
        self,
        one_pass: Callable[
            ["tf.Tensor", "tf.Tensor", _State], tuple["tf.Tensor", _State]
        ],
        delta: "tf.Tensor",
        padding_mask: "tf.Tensor",
        state: _State,
        first: int = 0,
        last: "int | tf.Tensor | None" = None,
    ) -> tuple["tf.Tensor", _State]:
        """Runs the passes, or some of them, as `ascent.run_passes` does.

        Args:
            one_pass: callable of `(index, delta, state)` that returns the
                gradient with respect to delta and the new state.
            delta: the first pass's delta.
            padding_mask: tensor of shape `[batch, tokens]`.
            state: nested structure of tensors, carried from pass to pass.
            first: int. The pass to begin with.
            last: int or scalar tensor. The loop ends before this pass; `None`
                for all passes.

        Returns:
            `(delta, state)`: the delta for pass `last`, or the one of the
            n-th pass; and the last state.
        """
        from tfadv.adversaries.ascent import run_passes

        def ascend(delta, gradient):
            return self.ascend(delta, gradient, padding_mask)

        return run_passes(
            one_pass, ascend, delta, state, self.steps, first, last
        )

    def get_config(self) -> dict[str, typing.Any]:
        """Returns the settings, as `from_config` takes them."""
        return self.to_dict()

    @classmethod
    def from_config(cls, config: dict[str, typing.Any]) -> typing.Self:
        """Builds the adversary again from `get_config`'s settings."""
        return cls.from_dict(config)
