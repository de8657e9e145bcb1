"""What is searched, how, and for what, as data.

This module needs no TensorFlow; the command line makes its flags from it.
"""

import dataclasses
import math

from tfadv.datasets.examples import TextDataset
from tfadv.errors import InputError
from tfadv.fields import Group, field, group
from tfadv.robustness.settings import AttackSettings
from tfadv.runs import methods, record
from tfadv.runs.settings import Settings

# The arguments of `FreeLB` that are searched.
NAMES = ("init_magnitude", "step_size", "max_norm", "steps")


@dataclasses.dataclass(frozen=True)
class Tuning(Group):
    """What is searched, how, and for what; the training is `Settings`.

    Bounds are `(low, high)`, or one value that fixes a hyperparameter. The
    default bounds are the paper's.

    Example:

    ```python
    Tuning(steps=(3,), coarse_trials=9, fine_trials=0)
    ```

    Reference:
     - CARL and RAR paper, section A.2 and Table 8
    """

    init_magnitude: tuple[float, ...] = field(
        (0.0, 0.8),
        "low,high: bounds of `adv_init_magnitude`, or one value that fixes it. "
        "Where the random start would lie outside of the ball, less is taken.",
        flag="tune_init_magnitude",
        low=0,
    )
    step_size: tuple[float, ...] = field(
        (0.01, 0.2),
        "low,high: bounds of `adv_step_size`, or one value.",
        flag="tune_step_size",
        above=0,
    )
    max_norm: tuple[float, ...] = field(
        (0.0, 0.5),
        "low,high: bounds of `adv_max_norm`, or one value; 0 means no limit.",
        flag="tune_max_norm",
        low=0,
    )
    steps: tuple[int, ...] = field(
        (2, 4),
        "low,high: bounds of `adv_steps`, or one value.",
        flag="tune_steps",
        low=1,
        high=1000,
    )
    coarse_trials: int = field(
        24,
        "Trials of the coarse grid (three values of each hyperparameter) at "
        "most, spread evenly over it.",
        low=1,
    )
    fine_search: str = field(
        "bayesian",
        "The search around the grid's best cell: bayesian (a Gaussian "
        "process), or hyperband (many trials with a ninth of the updates, the "
        "better ones with a third, the best ones with all).",
        choices=("bayesian", "hyperband"),
    )
    fine_trials: int = field(20, "Trials of that search at most.", low=0)
    objective: str = field(
        "dev_accuracy",
        "What is maximised, on the dev split: accuracy, accuracy under k-PGD, "
        "or (1 - w) times the first plus w times the second.",
        flag="tune_objective",
        choices=("dev_accuracy", "attacked_accuracy", "mix"),
    )
    attack_share: float = field(
        0.5,
        "w of `tune_objective`=mix.",
        flag="tune_attack_share",
        low=0,
        high=1,
    )
    epsilon: float = field(
        0.2,
        "Radius of the ball of the objective's attack, in the units of the "
        "word embeddings.",
        flag="tune_epsilon",
        low=0,
    )
    attack: AttackSettings = group(AttackSettings)

    def check(self) -> None:
        for name in NAMES:
            bounds = getattr(self, name)
            if len(bounds) not in (1, 2) or bounds[0] > bounds[-1]:
                raise self._refused(
                    "not-bounds", name, "expected low,high or one value"
                )
            object.__setattr__(self, name, (bounds[0], bounds[-1]))
        balls = self.max_norm
        if 0 not in balls and self.init_magnitude[0] > math.sqrt(3) * balls[1]:
            raise self._refused(
                "start-outside-ball",
                "init_magnitude",
                "every random start, of norm `init_magnitude` / sqrt(3), would "
                f"lie outside of the ball of radius `max_norm`={balls[1]}",
                "lower the first or raise the second",
            )
        if self.objective != "mix" and self._is_set("attack_share"):
            raise self._refused(
                "unused-setting",
                "attack_share",
                "only `objective`=mix has such a share",
                "omit it, or give that objective",
            )
        if self.objective == "dev_accuracy" and self._is_set("epsilon"):
            raise self._refused(
                "unused-setting",
                "epsilon",
                "`objective`=dev_accuracy attacks nothing",
                "omit it, or give another objective",
            )

    def _is_set(self, name):
        return getattr(self, name) != getattr(type(self), name)

    def _refused(self, code, name, problem, remedy="correct it"):
        value = getattr(self, name)
        return InputError(code, problem, remedy, argument=name, value=value)


def check_method(settings: Settings) -> None:
    """Refuses a method that has nothing to tune."""
    if not methods.get(settings.method).adversary:
        raise InputError(
            "nothing-to-tune",
            "expected a method with an adversary, found one without",
            "choose another method",
            argument="method",
            value=settings.method,
        )


def identity_of(
    settings: Settings, tuning: Tuning, dataset: TextDataset
) -> dict:
    """Tells what makes a search another one if it changes.

    Args:
        settings: `tfadv.Settings`; what is searched does not count.
        tuning: `Tuning`.
        dataset: `tfadv.datasets.examples.TextDataset`.

    Returns:
        dict for JSON.
    """
    identity = record.identity(settings, dataset)
    for name in NAMES:
        del identity["settings"]["adversary"][name]
    return {**identity, "tuning": tuning.to_dict()}
