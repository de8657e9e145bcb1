"""The settings of objectives, as data.

Each setting has its default, its bounds and its help here; the command line
makes its flags from them. This module needs no TensorFlow.
"""

import dataclasses
from typing import Any

from tfadv.errors import InputError
from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings(Group):
    """Base class of an objective's settings.

    Example:

    ```python
    @dataclasses.dataclass(frozen=True)
    class StabilitySettings(ObjectiveSettings):
        weight: float = field(
            0.5, "Weight of the loss.", flag="stability_weight", low=0
        )
    ```
    """

    def first_step(self, steps_per_epoch: int, total_steps: int) -> int:
        """Returns the number of updates before the objective joins training.

        Args:
            steps_per_epoch: int.
            total_steps: int, in the whole run.

        Raises:
            InputError: the run ends before that step. The error's argument is
                a setting.
        """
        return 0

    def check_with(self, optimization: Any) -> None:
        """Refuses settings that do not go with the optimization of a run.

        Args:
            optimization: `tfadv.runs.settings.OptimizationSettings`.

        Raises:
            InputError: the settings do not go together. The error's argument
                is a setting.
        """


@dataclasses.dataclass(frozen=True)
class ContrastiveSettings(ObjectiveSettings):
    """How CARL learns; `tfadv.ContrastiveObjective` explains each setting.

    Args:
        loss: string, `"nce"` or `"infonce"`.
        weight: float.
        temperature: float.
        num_negatives: int, or `None` for all.
        momentum: float.
        bank_dtype: string, `"float32"` or `"bfloat16"`.
        bank_sharding: bool, whether each replica holds a part of the bank.
        representation: string, `"pooled"` or `"cls"`.
        start_step: int. The number of updates before the memory bank is
            filled and the objective joins; `None` to use `start_epoch`.
        start_epoch: float, the same in epochs.

    Example:

    ```python
    ContrastiveSettings(loss="infonce", num_negatives=None, start_step=500)
    ```
    """

    loss: str = field(
        "nce",
        "CARL's loss: nce (noise-contrastive estimation, the paper's) or "
        "infonce (the exact softmax over the negatives).",
        flag="contrastive_loss",
        choices=("nce", "infonce"),
    )
    weight: float = field(
        1.0, "Weight of CARL's loss.", flag="contrastive_weight", low=0
    )
    temperature: float = field(
        0.07,
        "Divides the cosines of CARL's loss.",
        flag="contrastive_temperature",
        above=0,
    )
    num_negatives: int | None = field(
        16000,
        "m: negatives per example, drawn anew for every batch, or all.",
        flag="contrastive_negatives",
        none="all",
        low=1,
        high=999_999_999,
    )
    momentum: float = field(
        0.5,
        "M: the share that a row of the memory bank keeps in an update.",
        flag="bank_momentum",
        low=0,
        high=0.999999,
    )
    bank_dtype: str = field(
        "float32",
        "Type of the memory bank; bfloat16 takes half the memory.",
        flag="bank_dtype",
        choices=("float32", "bfloat16"),
    )
    bank_sharding: bool = field(
        False,
        "With `strategy`=mirrored, each device holds a part of CARL's banks "
        "instead of the whole; the results are the same.",
        flag="bank_sharding",
    )
    representation: str = field(
        "pooled",
        "What CARL contrasts: the pooled output that the classifier sees (the "
        "paper's), or the last hidden state of [CLS].",
        flag="contrastive_representation",
        choices=("pooled", "cls"),
    )
    start_step: int | None = field(
        None,
        "Updates before the memory bank is filled and CARL's loss joins; the "
        "paper's Table 3. By default `contrastive_start_epoch` tells it.",
        flag="contrastive_start_step",
        low=0,
    )
    start_epoch: float = field(
        1.0,
        "Epochs, or parts of one, before the memory bank is filled and CARL's "
        "loss joins; `contrastive_start_step` replaces it.",
        flag="contrastive_start_epoch",
        low=0,
    )

    def check(self) -> None:
        default = type(self).start_epoch
        if self.start_step is not None and self.start_epoch != default:
            raise InputError(
                "two-starts",
                "expected the start in steps or in epochs, found `start_step`="
                f"{self.start_step} and `start_epoch`={self.start_epoch}",
                "give one of them",
                argument="start_step",
                value=self.start_step,
            )

    def check_with(self, optimization: Any) -> None:
        if self.bank_sharding and optimization.strategy != "mirrored":
            raise InputError(
                "nothing-to-shard-over",
                "banks are shared out among the devices of the strategy "
                f"mirrored, found {optimization.strategy}",
                "omit it, or give `optimization.strategy`=mirrored",
                argument="bank_sharding",
                value=self.bank_sharding,
            )

    def first_step(self, steps_per_epoch: int, total_steps: int) -> int:
        if self.start_step is None:
            return _first_step(self, "CARL", steps_per_epoch, total_steps)
        _check_start(
            "CARL", "start_step", self.start_step, self.start_step, total_steps
        )
        return self.start_step


@dataclasses.dataclass(frozen=True)
class ReconstructionSettings(ObjectiveSettings):
    """How RAR learns.

    Args:
        weight: float, w_r.
        start_epoch: float, epochs without the objective, or parts of one.

    Example:

    ```python
    ReconstructionSettings(weight=0.2, start_epoch=0.5)
    ```
    """

    weight: float = field(
        0.1,
        "w_r: weight of RAR's loss.",
        flag="reconstruction_weight",
        low=0,
    )
    start_epoch: float = field(
        0.0,
        "Epochs, or parts of one, before RAR's loss joins.",
        flag="reconstruction_start_epoch",
        low=0,
    )

    def first_step(self, steps_per_epoch: int, total_steps: int) -> int:
        return _first_step(self, "RAR", steps_per_epoch, total_steps)


def _first_step(settings, title, steps_per_epoch, total_steps):
    """Turns a start in epochs into one in steps."""
    epoch = settings.start_epoch
    step = round(epoch * steps_per_epoch)
    _check_start(title, "start_epoch", epoch, step, total_steps)
    return step


def _check_start(title, argument, value, step, total_steps):
    if step >= total_steps:
        raise InputError(
            "starts-after-the-end",
            f"{title} would start at step {step}, but the run has "
            f"{total_steps} updates",
            "start it earlier or train longer",
            argument=argument,
            value=value,
        )
