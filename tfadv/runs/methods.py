"""The registry of methods: what is trained with, under one name.

A method is an adversary, or none, and objectives. The command line's choices,
the report's order and the model card's words come from here. This module needs
no TensorFlow.
"""

import dataclasses

from tfadv.errors import InputError
from tfadv.objectives.settings import ObjectiveSettings
from tfadv.objectives import registry


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        name: string, such as `"carl"`: what users choose.
        title: string, how tables and pages call it.
        help: string, what it does, in a few words without a full stop.
        adversary: bool, whether it trains on adversarial word embeddings.
        objectives: tuple of strings, the names of its objectives in
            `tfadv.objectives.registry`.

    Example:

    ```python
    tfadv.register_objective("stability", Stability)
    tfadv.register_method(
        tfadv.Method(
            "stability",
            "Stability",
            "FreeLB, and representations that stay where they are",
            objectives=("stability",),
        )
    )
    ```
    """

    name: str
    title: str
    help: str
    adversary: bool = True
    objectives: tuple[str, ...] = ()


_METHODS: dict[str, Method] = {}


def register_method(method: Method) -> Method:
    """Makes a method known by its name.

    Args:
        method: `Method`.

    Returns:
        The method.

    Raises:
        InputError: another method has this name, or the method has objectives
            but no adversary.
    """
    if _METHODS.get(method.name, method) != method:
        raise InputError(
            "method-exists",
            f"a method {method.name!r} is registered already",
            "give yours another name",
            argument="method",
            value=method.name,
        )
    if method.objectives and not method.adversary:
        raise InputError(
            "objectives-without-adversary",
            f"the method {method.name!r} has objectives, which learn from the "
            "adversarial examples, but no adversary",
            "give it an adversary",
            argument="method",
            value=method.name,
        )
    _METHODS[method.name] = method
    return method


def registered() -> dict[str, Method]:
    """Returns the methods by their names, in the order of registration."""
    return dict(_METHODS)


def get(name: str) -> Method:
    """Returns a registered method.

    Args:
        name: string.

    Raises:
        InputError: no method has this name.
    """
    if name not in _METHODS:
        raise InputError(
            "unknown-method",
            f"expected one of {', '.join(_METHODS)}",
            "choose one of them, or name the module that registers it with "
            "`plugin`",
            argument="method",
            value=name,
        )
    return _METHODS[name]


def build_objectives(
    objectives: dict[str, ObjectiveSettings], context: registry.Context
) -> list:
    """Builds the objectives of a run.

    Args:
        objectives: dict of their settings, by their registered names.
        context: `tfadv.objectives.registry.Context`. Without training labels
            those that live in training alone are left out.

    Returns:
        List of `tfadv.Objective`.

    Raises:
        InputError: one cannot be built, say for lack of memory.
    """
    built = [
        registry.build(name, settings, context)
        for name, settings in objectives.items()
    ]
    return [objective for objective in built if objective is not None]


for _method in (
    Method("baseline", "Baseline", "plain training", adversary=False),
    Method("freelb", "FreeLB", "on adversarial word embeddings"),
    Method(
        "carl",
        "CARL",
        "FreeLB, and the clean and the adversarial representation of a "
        "sentence are drawn together",
        objectives=("contrastive",),
    ),
    Method(
        "rar",
        "RAR",
        "FreeLB, and the words are reconstructed from the adversarial "
        "representations",
        objectives=("reconstruction",),
    ),
    Method(
        "carl_rar",
        "CARL + RAR",
        "FreeLB, and both what CARL and what RAR add to it",
        objectives=("contrastive", "reconstruction"),
    ),
):
    register_method(_method)
