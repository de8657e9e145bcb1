"""Flags of the pretrained encoder and what it reads."""

from absl import flags

ENCODER = flags.DEFINE_string(
    "encoder",
    "all-minilm-l6-v2",
    "The pretrained encoder: a folder (a Hugging Face checkpoint or a "
    "KerasHub preset), the name of a Hugging Face repository "
    "(albert/albert-base-v2) or of a KerasHub preset "
    "(albert_base_en_uncased), or all-minilm-l6-v2, which needs no model "
    "hub.",
)
MAX_LENGTH = flags.DEFINE_integer(
    "max_length",
    128,
    "Tokens of a text that are read, [CLS] and [SEP] among them.",
    lower_bound=3,
)
PERTURB_AT = flags.DEFINE_enum(
    "perturb_at",
    "word_embeddings",
    ["word_embeddings", "embedding_block"],
    "Where the perturbation is added: to the word embeddings, before "
    "positions, segments and LayerNorm, or to the embedding block's output.",
)
PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_bfloat16", "mixed_float16"],
    "Precision of the encoder's matrix products; the weights, what goes from "
    "layer to layer, the perturbation and the loss are float32 in any case.",
)
