"""Flags of what is measured under attack."""

from absl import flags

EPSILONS = flags.DEFINE_list(
    "epsilons",
    ["0.05", "0.1", "0.2", "0.4"],
    "Radii of the balls that the perturbation stays in, in the "
    "units of the word embeddings. The paper's: 0.02,0.075,0.1.",
)
HOTFLIP_WORDS = flags.DEFINE_integer(
    "hotflip_words",
    2,
    "Whole words of a text that HotFlip may exchange; 0 leaves it out.",
    lower_bound=0,
)


@flags.validator(
    EPSILONS.name, "must be numbers of at least 0, separated by commas"
)
def _are_radii(values):
    try:
        return bool(values) and all(
            0 <= float(value) < float("inf") for value in values
        )
    except ValueError:
        return False


def epsilons():
    """Returns the radii, ascending."""
    return sorted({float(value) for value in EPSILONS.value})
