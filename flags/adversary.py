"""Flags of the method and of its adversary."""

import math

from absl import flags

METHOD = flags.DEFINE_enum(
    "method",
    "freelb",
    ["baseline", "freelb", "carl", "rar", "carl_rar"],
    "How to train: baseline (plain training), freelb (on adversarial word "
    "embeddings), carl (FreeLB, and the clean and the adversarial "
    "representation of a sentence are drawn together), rar (FreeLB, and the "
    "words are reconstructed from the adversarial representations), or "
    "carl_rar (both).",
)
STEPS = flags.DEFINE_integer(
    "adv_steps",
    3,
    "n: forward and backward passes an update. The paper searches 2 to 4.",
    lower_bound=1,
    upper_bound=1000,
)
STEP_SIZE = flags.DEFINE_float(
    "adv_step_size",
    0.1,
    "alpha: length of an ascent step, in the units of the word embeddings. "
    "The paper searches 0.01 to 0.2.",
)
INIT_MAGNITUDE = flags.DEFINE_float(
    "adv_init_magnitude",
    0.0,
    "gamma: size of the random start; 0 starts at the clean embeddings. The "
    "paper searches 0 to 0.8.",
    lower_bound=0.0,
)
MAX_NORM = flags.DEFINE_float(
    "adv_max_norm",
    0.0,
    "epsilon: largest L2 norm of an example's perturbation; 0 means no "
    "limit. The paper searches 0 to 0.5.",
    lower_bound=0.0,
)

WARMUP_PROPORTION = flags.DEFINE_float(
    "adv_warmup_proportion",
    0.0,
    "Share of the updates over which alpha grows to --adv_step_size. A strong "
    "adversary can keep a new classifier from learning at all; 0, the paper's "
    "way, has it at full strength from the start.",
    lower_bound=0.0,
    upper_bound=1.0,
)

flags.register_validator(
    STEP_SIZE.name, lambda value: value > 0, "must be greater than 0"
)


@flags.multi_flags_validator(
    [INIT_MAGNITUDE.name, MAX_NORM.name],
    message="clash: the random start, of norm adv_init_magnitude / sqrt(3), "
    "would lie outside of the ball of radius adv_max_norm; lower the first, or "
    "raise the second or set it to 0",
)
def _start_is_in_the_ball(values):
    limit = math.sqrt(3) * values[MAX_NORM.name]
    return limit == 0 or values[INIT_MAGNITUDE.name] <= limit


def adversary():
    """Returns the `tfadv.FreeLB` that the flags describe."""
    from tfadv.adversaries.freelb import FreeLB

    return FreeLB(
        steps=STEPS.value,
        step_size=STEP_SIZE.value,
        init_magnitude=INIT_MAGNITUDE.value,
        max_norm=MAX_NORM.value,
    )
