"""Flags of the optimizer and the length of a run."""

from absl import flags

EPOCHS = flags.DEFINE_integer(
    "epochs",
    2,
    "Passes over the training set.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
MAX_STEPS = flags.DEFINE_integer(
    "max_steps",
    None,
    "Ends training after that many updates, if the epochs do not end before.",
    lower_bound=1,
)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    32,
    "Texts an update.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
ACCUMULATION_STEPS = flags.DEFINE_integer(
    "accumulation_steps",
    1,
    "Computes an update in that many slices of its batch, one after another: "
    "the same update, in the memory that a slice takes. For long texts, and "
    "for a --batch_size that memory does not suffice for.",
    lower_bound=1,
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

STRATEGY = flags.DEFINE_enum(
    "strategy",
    "none",
    ["none", "mirrored", "multi_worker"],
    "Where to train: on one device; mirrored, on all GPUs of this machine; "
    "multi_worker, on all machines of TF_CONFIG, which run the same command "
    "and see the same output folder. --batch_size is that of all together.",
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "The same flags give the same bits, on one machine, whether a run was cut "
    "off or not; may be slower.",
)
BACKUP_SECONDS = flags.DEFINE_float(
    "backup_seconds",
    60.0,
    "Time between two backups, from which the same command goes on after it "
    "was cut off; longer where they would take more than 2% of the time. 0 "
    "for none.",
    lower_bound=0.0,
)

flags.register_validator(
    LEARNING_RATE.name,
    lambda value: 0 < value < float("inf"),
    "must be greater than 0",
)


@flags.multi_flags_validator(
    [BATCH_SIZE.name, ACCUMULATION_STEPS.name],
    message="clash: a batch has no more slices than texts",
)
def _slices_have_texts(values):
    return values[ACCUMULATION_STEPS.name] <= values[BATCH_SIZE.name]


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
