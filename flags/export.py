"""What an export is like."""

import dataclasses

from tfadv.fields import Group, field


@dataclasses.dataclass(frozen=True)
class Export(Group):
    """What an export is like."""

    format: str = field(
        "saved_model",
        "saved_model: for TensorFlow Serving, raw text in, class names out; "
        "every export adds a version. huggingface: a checkpoint for "
        "transformers.",
        choices=("saved_model", "huggingface"),
    )
    precision: str | None = field(
        None,
        "Precision of a SavedModel's weights and of what is multiplied with "
        "them, by default float32. bfloat16 takes half the space or less, and "
        "less time where the processor multiplies it (AMX, AVX512-BF16); "
        "elsewhere more.",
        choices=("float32", "bfloat16"),
    )
