"""The registry of objectives: what is learned beside the class, by its name.

This module and the settings need no TensorFlow. A built-in objective is
imported when it is first built.
"""

import dataclasses
import importlib
import re
import typing

from tfadv.errors import InputError
from tfadv.objectives.settings import (
    ContrastiveSettings,
    ObjectiveSettings,
    ReconstructionSettings,
)

if typing.TYPE_CHECKING:
    import numpy as np

# A name's settings, and its class or the module and name of the class.
_OBJECTIVES: dict[str, tuple[type[ObjectiveSettings], typing.Any]] = {
    "contrastive": (
        ContrastiveSettings,
        "tfadv.objectives.contrastive:ContrastiveObjective",
    ),
    "reconstruction": (
        ReconstructionSettings,
        "tfadv.objectives.reconstruction:ReconstructionObjective",
    ),
}


@dataclasses.dataclass(frozen=True)
class Context:
    """What an objective is built for: the data, the tokenizer, the encoder.

    Args:
        labels: int array, the classes of the training examples; `None` where
            the classifier is not going to be trained.
        special_ids: ints, the token ids that are not words.
        hidden_dim: int, the size of a representation.
        embedding_dim: int, the size of a word embedding.
        vocabulary_size: int.
        seed: int, for the objective's draws; `None` for a random one.
        name: string, the objective's registered name, which its layer must
            have. `build` sets it.
    """

    labels: "np.ndarray | None"
    special_ids: typing.Sequence[int]
    hidden_dim: int
    embedding_dim: int
    vocabulary_size: int
    seed: int | None = None
    name: str = ""


def register_objective(name: str, objective_class: type) -> None:
    """Makes an objective known by a name, for methods and their settings.

    Args:
        name: string, of lower-case letters, digits and underscores. Its loss
            is reported and its settings are kept under this name.
        objective_class: class, a `tfadv.Objective` with `settings`.

    Raises:
        InputError: the name is not allowed, another objective has it, or the
            class has no `settings`.

    Example:

    ```python
    tfadv.register_objective("stability", Stability)
    ```
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(
            "not-a-name",
            "expected a name of lower-case letters, digits and underscores",
            "rename it",
            argument="name",
            value=name,
        )
    settings = getattr(objective_class, "settings", None)
    if not (
        isinstance(settings, type) and issubclass(settings, ObjectiveSettings)
    ):
        raise InputError(
            "no-settings",
            f"expected `settings` of {objective_class.__name__} to be a class "
            f"derived from ObjectiveSettings, found {settings!r}",
            "declare them, as `tfadv.Objective` explains",
            argument="objective_class",
        )
    known = _OBJECTIVES.get(name)
    # A module that is imported again, as another name, makes its class anew.
    if known and _full_name(known[1]) != _full_name(objective_class):
        raise InputError(
            "objective-exists",
            f"an objective {name!r} is registered already",
            "give yours another name",
            argument="name",
            value=name,
        )
    _OBJECTIVES[name] = (settings, objective_class)


def names() -> tuple[str, ...]:
    """Returns the names of all objectives that are registered."""
    return tuple(_OBJECTIVES)


def settings_of(name: str) -> type[ObjectiveSettings]:
    """Returns the class of an objective's settings.

    Args:
        name: string.

    Raises:
        InputError: no objective has this name.
    """
    return _entry(name)[0]


def objective_class(name: str) -> type[typing.Any]:
    """Returns an objective's class.

    Args:
        name: string.

    Raises:
        InputError: no objective has this name.
    """
    home = _entry(name)[1]
    if isinstance(home, str):
        module, _, attribute = home.partition(":")
        home = getattr(importlib.import_module(module), attribute)
    return home


def build(
    name: str, settings: ObjectiveSettings, context: Context
) -> typing.Any:
    """Builds an objective from its settings.

    Args:
        name: string.
        settings: an instance of the objective's `settings`.
        context: `Context`.

    Returns:
        `tfadv.Objective`, or `None` where it is only for training and the
        context has no training labels.

    Raises:
        InputError: no objective has this name, or the objective cannot be
            built here.
    """
    context = dataclasses.replace(context, name=name)
    return objective_class(name).from_settings(settings, context)


def _entry(name):
    if name not in _OBJECTIVES:
        raise InputError(
            "unknown-objective",
            f"expected one of {', '.join(_OBJECTIVES)}, found {name!r}",
            "correct the name, or name the module that registers it with "
            "`plugin`",
        )
    return _OBJECTIVES[name]


def _full_name(home):
    if isinstance(home, str):
        return home.replace(":", ".")
    return f"{home.__module__}.{home.__qualname__}"
