"""How adversaries become texts."""

import dataclasses

from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class Reconstruction(Group):
    """How adversaries become texts."""

    epsilon: float = field(
        0.3,
        "Radius of the ball that the perturbation stays in, in the units of "
        "the word embeddings.",
        low=0,
    )
    victim_run: str | None = field(
        None,
        "Folder of another run on the same classes: do its predictions flip, "
        "too?",
    )
