"""How a trained classifier is attacked, as data.

This module needs no TensorFlow; the command line makes its flags from it.
"""

import dataclasses

from tfadv.datasets.examples import Examples
from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class AttackSettings(Group):
    """How `tfadv.pgd_attack` attacks a split.

    Example:

    ```python
    settings = AttackSettings(steps=20, max_examples=100)
    texts = settings.first(dataset.test)
    measure.measure(run, texts, [0.1], **settings.arguments())
    ```
    """

    steps: int = field(
        10,
        "k: steps of the attack.",
        flag="attack_steps",
        low=1,
        high=2**31 - 1,
    )
    step_size: float | None = field(
        None,
        "Length of a step, in the units of the word embeddings; by default "
        "2.5 * epsilon / k.",
        flag="attack_step_size",
        above=0,
    )
    norm: str = field(
        "l2",
        "The ball that the perturbation stays in: by its L2 norm over all "
        "tokens of a text, or by its largest entry.",
        flag="attack_norm",
        choices=("l2", "linf"),
    )
    restarts: int = field(
        1,
        "Starts of the attack, the first one at the clean embeddings, the "
        "others at random; the strongest counts.",
        flag="attack_restarts",
        low=1,
    )
    seed: int = field(
        0, "Seed of the random starts.", flag="attack_seed", low=0
    )
    max_examples: int | None = field(
        None,
        "Attacks only that many examples of the split, its first ones.",
        low=1,
    )

    def arguments(self) -> dict:
        """Returns them as arguments of `tfadv.pgd_attack`."""
        arguments = self.to_dict()
        del arguments["max_examples"]
        return arguments

    def first(self, examples: Examples) -> Examples:
        """Takes the first examples, as many as `max_examples` says."""
        if self.max_examples is None:
            return examples
        return Examples(
            examples.texts[: self.max_examples],
            examples.labels[: self.max_examples],
        )
