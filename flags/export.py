"""Flags of exports."""

from absl import flags

FORMAT = flags.DEFINE_enum(
    "format",
    "saved_model",
    ["saved_model", "huggingface"],
    "saved_model: for TensorFlow Serving, raw text in, class names out; "
    "every export adds a version. huggingface: a checkpoint for transformers.",
)
PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "Of a SavedModel's weights and of what is multiplied with them. bfloat16 "
    "takes half the space or less, and less time where the processor "
    "multiplies it (AMX, AVX512-BF16); elsewhere more.",
    # tools.train has another flag of this name; only tests load both.
    allow_override=True,
)
