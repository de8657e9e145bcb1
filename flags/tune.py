"""Flags of the search for hyperparameters."""

import math

from absl import flags

from tfadv.flags import adversary

INIT_MAGNITUDE = flags.DEFINE_list(
    "tune_init_magnitude",
    ["0", "0.8"],
    "low,high: bounds of --adv_init_magnitude, or one value that fixes it. "
    "Where the random start would lie outside of the ball, less is taken.",
)
STEP_SIZE = flags.DEFINE_list(
    "tune_step_size",
    ["0.01", "0.2"],
    "low,high: bounds of --adv_step_size, or one value.",
)
MAX_NORM = flags.DEFINE_list(
    "tune_max_norm",
    ["0", "0.5"],
    "low,high: bounds of --adv_max_norm, or one value; 0 means no limit.",
)
STEPS = flags.DEFINE_list(
    "tune_steps", ["2", "4"], "low,high: bounds of --adv_steps, or one value."
)
COARSE_TRIALS = flags.DEFINE_integer(
    "coarse_trials",
    24,
    "Trials of the coarse grid (three values a hyperparameter) at most, spread "
    "evenly over it.",
    lower_bound=1,
)
FINE_SEARCH = flags.DEFINE_enum(
    "fine_search",
    "bayesian",
    ["bayesian", "hyperband"],
    "The search around the grid's best cell: bayesian (a Gaussian process), or "
    "hyperband (many trials with a ninth of the updates, the better ones with "
    "a third, the best ones with all).",
)
FINE_TRIALS = flags.DEFINE_integer(
    "fine_trials", 20, "Trials of that search at most.", lower_bound=0
)
OBJECTIVE = flags.DEFINE_enum(
    "tune_objective",
    "dev_accuracy",
    ["dev_accuracy", "attacked_accuracy", "mix"],
    "What is maximised, on the dev split: accuracy, accuracy under k-PGD, or "
    "(1 - w) times the first plus w times the second.",
)
ATTACK_SHARE = flags.DEFINE_float(
    "tune_attack_share",
    0.5,
    "w of --tune_objective=mix.",
    lower_bound=0.0,
    upper_bound=1.0,
)
EPSILON = flags.DEFINE_float(
    "tune_epsilon",
    0.2,
    "Radius of the ball of the objective's attack, in the units of the word "
    "embeddings.",
    lower_bound=0.0,
)


def _check_bounds(flag, number, lowest, message):
    def are_bounds(texts):
        try:
            values = [number(text) for text in texts]
        except ValueError:
            return False
        return (
            len(values) in (1, 2)
            and all(lowest <= value < math.inf for value in values)
            and values[0] <= values[-1]
        )

    flags.register_validator(
        flag.name, are_bounds, f"must be low,high or one value: {message}"
    )


_check_bounds(INIT_MAGNITUDE, float, 0.0, "numbers of at least 0")
_check_bounds(STEP_SIZE, float, math.ulp(0.0), "numbers greater than 0")
_check_bounds(MAX_NORM, float, 0.0, "numbers of at least 0")
_check_bounds(STEPS, int, 1, "whole numbers of at least 1")
flags.register_validator(
    adversary.METHOD.name,
    lambda method: method != "baseline",
    "has no adversary, so there is nothing to tune",
)


@flags.multi_flags_validator(
    [INIT_MAGNITUDE.name, MAX_NORM.name],
    message="clash: every random start, of norm init_magnitude / sqrt(3), "
    "would lie outside of the ball of radius max_norm",
)
def _some_start_is_in_the_ball(values):
    lowest = float(values[INIT_MAGNITUDE.name][0])
    balls = [float(value) for value in values[MAX_NORM.name]]
    return 0 in balls or lowest <= math.sqrt(3) * balls[-1]


@flags.multi_flags_validator(
    [OBJECTIVE.name, ATTACK_SHARE.name],
    message="clash: only --tune_objective=mix has such a share",
)
def _mixes(values):
    default = flags.FLAGS[ATTACK_SHARE.name].default
    return (
        values[OBJECTIVE.name] == "mix" or values[ATTACK_SHARE.name] == default
    )


@flags.multi_flags_validator(
    [OBJECTIVE.name, EPSILON.name],
    message="clash: --tune_objective=dev_accuracy attacks nothing",
)
def _attacks(values):
    default = flags.FLAGS[EPSILON.name].default
    return (
        values[OBJECTIVE.name] != "dev_accuracy"
        or values[EPSILON.name] == default
    )


def tuning(attack, max_examples):
    """Returns the `tfadv.tuning.search.Tuning` that the flags describe.

    Args:
        attack: dict, the settings of the objective's attack.
        max_examples: int, how many examples it attacks, or `None`.
    """
    from tfadv.tuning.search import Tuning

    return Tuning(
        init_magnitude=_bounds(INIT_MAGNITUDE, float),
        step_size=_bounds(STEP_SIZE, float),
        max_norm=_bounds(MAX_NORM, float),
        steps=_bounds(STEPS, int),
        coarse_trials=COARSE_TRIALS.value,
        fine_search=FINE_SEARCH.value,
        fine_trials=FINE_TRIALS.value,
        objective=OBJECTIVE.value,
        attack_share=ATTACK_SHARE.value,
        epsilon=EPSILON.value,
        attack=attack,
        max_examples=max_examples,
    )


def _bounds(flag, number):
    return number(flag.value[0]), number(flag.value[-1])
