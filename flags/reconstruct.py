"""Flags of text-form adversaries."""

from absl import flags

EPSILON = flags.DEFINE_float(
    "epsilon",
    0.3,
    "Radius of the ball that the perturbation stays in, in the units of the "
    "word embeddings.",
    lower_bound=0.0,
)
VICTIM_RUN = flags.DEFINE_string(
    "victim_run",
    None,
    "Folder of another run on the same classes: do its predictions flip too?",
)
