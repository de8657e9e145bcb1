"""What is measured under attack."""

import dataclasses

from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class Robustness(Group):
    """What is measured under attack."""

    epsilons: tuple[float, ...] = field(
        (0.05, 0.1, 0.2, 0.4),
        "Radii of the balls that the perturbation stays in, in the units of "
        "the word embeddings. The paper's: 0.02,0.075,0.1.",
        low=0,
    )
    hotflip_words: int = field(
        2,
        "Whole words of a text that HotFlip may exchange; 0 leaves it out.",
        low=0,
    )
