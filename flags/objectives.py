"""Flags of what is learned from the adversary: CARL and RAR."""

import re

from absl import flags

from tfadv.flags import adversary, optimization

LOSS = flags.DEFINE_enum(
    "contrastive_loss",
    "nce",
    ["nce", "infonce"],
    "CARL's loss: nce (noise-contrastive estimation, the paper's) or infonce "
    "(the exact softmax over the negatives).",
)
WEIGHT = flags.DEFINE_float(
    "contrastive_weight", 1.0, "Weight of CARL's loss.", lower_bound=0.0
)
TEMPERATURE = flags.DEFINE_float(
    "contrastive_temperature", 0.07, "Divides the cosines of CARL's loss."
)
NEGATIVES = flags.DEFINE_string(
    "contrastive_negatives",
    "16000",
    "m: negatives an example, drawn anew for every batch, or all.",
)
MOMENTUM = flags.DEFINE_float(
    "bank_momentum",
    0.5,
    "M: the share that a row of the memory bank keeps in an update.",
    lower_bound=0.0,
    upper_bound=0.999999,
)
BANK_DTYPE = flags.DEFINE_enum(
    "bank_dtype",
    "float32",
    ["float32", "bfloat16"],
    "Type of the memory bank; bfloat16 takes half the memory.",
)
REPRESENTATION = flags.DEFINE_enum(
    "contrastive_representation",
    "pooled",
    ["pooled", "cls"],
    "What CARL contrasts: the pooled output that the classifier sees (the "
    "paper's), or the last hidden state of [CLS].",
)
START_STEP = flags.DEFINE_integer(
    "contrastive_start_step",
    None,
    "Updates before the memory bank is filled and CARL's loss joins; the "
    "paper's Table 3. By default --contrastive_start_epoch tells it.",
    lower_bound=0,
)
START_EPOCH = flags.DEFINE_float(
    "contrastive_start_epoch",
    1.0,
    "The same in epochs, or parts of one.",
    lower_bound=0.0,
)
RECONSTRUCTION_WEIGHT = flags.DEFINE_float(
    "reconstruction_weight", 0.1, "w_r: weight of RAR's loss.", lower_bound=0.0
)
RECONSTRUCTION_START_EPOCH = flags.DEFINE_float(
    "reconstruction_start_epoch",
    0.0,
    "Epochs, or parts of one, before RAR's loss joins.",
    lower_bound=0.0,
)
BANK_SHARDING = flags.DEFINE_bool(
    "bank_sharding",
    False,
    "With --strategy=mirrored, each device holds a part of CARL's banks "
    "instead of the whole; the results are the same.",
)


flags.register_validator(
    TEMPERATURE.name,
    lambda value: 0 < value < float("inf"),
    "must be greater than 0",
)
flags.register_validator(
    NEGATIVES.name,
    lambda value: re.fullmatch("all|0*[1-9][0-9]{0,8}", value),
    "must be a whole number from 1 to 999999999, or all",
)


@flags.multi_flags_validator(
    [START_STEP.name, START_EPOCH.name],
    message="clash: give the start in steps or in epochs",
)
def _one_start(values):
    default = flags.FLAGS[START_EPOCH.name].default
    return (
        values[START_STEP.name] is None or values[START_EPOCH.name] == default
    )


@flags.multi_flags_validator(
    [adversary.METHOD.name, START_STEP.name, optimization.MAX_STEPS.name],
    message="clash: the run would end before CARL starts",
)
def _starts_before_the_last_step(values):
    start, end = values[START_STEP.name], values[optimization.MAX_STEPS.name]
    return not _is_carl(values) or None in (start, end) or start < end


@flags.multi_flags_validator(
    [
        adversary.METHOD.name,
        START_EPOCH.name,
        optimization.EPOCHS.name,
        START_STEP.name,
    ],
    message="clash: the run would end before CARL starts",
)
def _starts_before_the_last_epoch(values):
    return (
        not _is_carl(values)
        or values[START_STEP.name] is not None
        or values[START_EPOCH.name] < values[optimization.EPOCHS.name]
    )


@flags.multi_flags_validator(
    [
        adversary.METHOD.name,
        RECONSTRUCTION_START_EPOCH.name,
        optimization.EPOCHS.name,
    ],
    message="clash: the run would end before RAR starts",
)
def _reconstruction_starts_before_the_end(values):
    return (
        values[adversary.METHOD.name] not in ("rar", "carl_rar")
        or values[RECONSTRUCTION_START_EPOCH.name]
        < values[optimization.EPOCHS.name]
    )


@flags.multi_flags_validator(
    [BANK_SHARDING.name, optimization.STRATEGY.name],
    message="clash: banks are shared out among the devices of mirrored",
)
def _devices_to_shard_over(values):
    mirrored = values[optimization.STRATEGY.name] == "mirrored"
    return mirrored or not values[BANK_SHARDING.name]


def _is_carl(values):
    return values[adversary.METHOD.name] in ("carl", "carl_rar")


def reconstruction():
    """Returns the `Reconstruction` that the flags describe."""
    from tfadv.runs.methods import Reconstruction

    return Reconstruction(
        weight=RECONSTRUCTION_WEIGHT.value,
        start_epoch=RECONSTRUCTION_START_EPOCH.value,
    )


def contrastive():
    """Returns the `tfadv.runs.methods.Contrastive` that the flags describe."""
    from tfadv.runs.methods import Contrastive

    all_of_them = NEGATIVES.value == "all"
    return Contrastive(
        loss=LOSS.value,
        weight=WEIGHT.value,
        temperature=TEMPERATURE.value,
        num_negatives=None if all_of_them else int(NEGATIVES.value),
        momentum=MOMENTUM.value,
        bank_dtype=BANK_DTYPE.value,
        bank_sharding=BANK_SHARDING.value,
        representation=REPRESENTATION.value,
        start_step=START_STEP.value,
        start_epoch=START_EPOCH.value,
    )
