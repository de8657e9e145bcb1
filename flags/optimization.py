"""Flags of the optimizer and the length of a run."""

from absl import flags

EPOCHS = flags.DEFINE_integer(
    "epochs", 2, "Passes over the training set.", lower_bound=1
)
MAX_STEPS = flags.DEFINE_integer(
    "max_steps",
    None,
    "Ends training after that many updates, if the epochs do not end before.",
    lower_bound=1,
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Texts an update.", lower_bound=1
)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 5e-5, "Adam's learning rate, at its peak."
)
LEARNING_RATE_SCHEDULE = flags.DEFINE_enum(
    "learning_rate_schedule",
    "constant",
    ["constant", "linear"],
    "linear: warm-up, then linear decay to zero at the run's end.",
)
WARMUP_PROPORTION = flags.DEFINE_float(
    "warmup_proportion",
    0.1,
    "Share of the updates for the warm-up of the linear schedule.",
    lower_bound=0.0,
    upper_bound=0.99,
)
SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of all that is random: the same one gives the same run.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)

flags.register_validator(
    LEARNING_RATE.name,
    lambda value: 0 < value < float("inf"),
    "must be greater than 0",
)


@flags.multi_flags_validator(
    [LEARNING_RATE_SCHEDULE.name, WARMUP_PROPORTION.name],
    message="clash: only the linear schedule warms up",
)
def _warms_up(values):
    default = flags.FLAGS[WARMUP_PROPORTION.name].default
    return (
        values[LEARNING_RATE_SCHEDULE.name] == "linear"
        or values[WARMUP_PROPORTION.name] == default
    )
