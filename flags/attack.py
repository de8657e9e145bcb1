"""Flags of attacks on a trained run."""

from absl import flags

STEPS = flags.DEFINE_integer(
    "attack_steps",
    10,
    "k: steps of the attack.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
STEP_SIZE = flags.DEFINE_float(
    "attack_step_size",
    None,
    "Length of a step, in the units of the word embeddings; by default "
    "2.5 * epsilon / k.",
)
NORM = flags.DEFINE_enum(
    "attack_norm",
    "l2",
    ["l2", "linf"],
    "The ball that the perturbation stays in: by its L2 norm over all tokens "
    "of a text, or by its largest entry.",
)
RESTARTS = flags.DEFINE_integer(
    "attack_restarts",
    1,
    "Starts of the attack, the first one at the clean embeddings, the others "
    "at random; the strongest counts.",
    lower_bound=1,
)
SEED = flags.DEFINE_integer(
    "attack_seed", 0, "Seed of the random starts.", lower_bound=0
)
MAX_EXAMPLES = flags.DEFINE_integer(
    "max_examples",
    None,
    "Attacks only that many examples of the split, its first ones.",
    lower_bound=1,
)


flags.register_validator(
    STEP_SIZE.name,
    lambda value: value is None or 0 < value < float("inf"),
    "must be greater than 0",
)


def settings():
    """Returns the flags as arguments of `tfadv.pgd_attack`."""
    return {
        "steps": STEPS.value,
        "step_size": STEP_SIZE.value,
        "norm": NORM.value,
        "restarts": RESTARTS.value,
        "seed": SEED.value,
    }


def first(examples):
    """Takes the first examples, as many as `--max_examples` says."""
    from tfadv.data.examples import Examples

    count = MAX_EXAMPLES.value
    if count is None:
        return examples
    return Examples(examples.texts[:count], examples.labels[:count])
