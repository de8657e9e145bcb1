"""The methods by name, and the objectives that make them."""

import dataclasses

from tfadv.errors import InputError
from tfadv.objectives import registry
from tfadv.objectives.settings import (
    ContrastiveSettings,
    ReconstructionSettings,
)

# What each method learns from the adversary beside its class.
OBJECTIVES = {
    "baseline": (),
    "freelb": (),
    "carl": ("contrastive",),
    "rar": ("reconstruction",),
    "carl_rar": ("contrastive", "reconstruction"),
}


Contrastive = ContrastiveSettings
Reconstruction = ReconstructionSettings


def check_method(method):
    """Refuses a method that there is not.

    Args:
        method: string.

    Raises:
        InputError: it is not in `OBJECTIVES`.
    """
    if method not in OBJECTIVES:
        raise InputError(
            f"--method={method}: choose one of {', '.join(OBJECTIVES)}"
        )


def describe(method, contrastive, reconstruction, special_ids):
    """Lists a method's objectives with their settings, for `run.json`.

    Args:
        method: string.
        contrastive: `Contrastive`.
        reconstruction: `Reconstruction`.
        special_ids: ints, the token ids that are not words.

    Returns:
        dict of dicts, by the objectives' names.
    """
    settings = {
        "contrastive": dataclasses.asdict(contrastive),
        "reconstruction": {
            **dataclasses.asdict(reconstruction),
            "special_ids": list(special_ids),
        },
    }
    return {name: settings[name] for name in OBJECTIVES[method]}


def build_objectives(description, hidden_dim, labels=None, seed=None):
    """Builds the objectives that `describe` has listed.

    Args:
        description: dict, as `describe` returns it.
        hidden_dim: int, the encoder's.
        labels: int array, the classes of the training examples; `None` leaves
            out the contrastive objective, which lives in training alone.
        seed: int, of the draws of negatives.

    Returns:
        List of `tfadv.objectives.objective.Objective`.

    Raises:
        InputError: the memory bank does not fit into memory.
    """
    objectives = []
    for name, content in description.items():
        content = dict(content)
        special_ids = content.pop("special_ids", [])
        context = registry.Context(
            labels, special_ids, hidden_dim, None, None, seed
        )
        settings = registry.settings_of(name).from_dict(content)
        objectives.append(registry.build(name, settings, context))
    return [objective for objective in objectives if objective is not None]
