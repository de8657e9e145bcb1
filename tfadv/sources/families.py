"""What the encoder families call their parts, here and in checkpoints.

A family that has KerasHub's layers is one more `Family`, in a file of its own
or here, and an entry of `FAMILIES`.
"""

import dataclasses
import re
from collections.abc import Collection

from tfadv.sources.checkpoint import Checkpoint

_ONLY_THESE = {
    # Some are of older versions of transformers; newer ones ignore them.
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
    "per_layer_config": {},
}


@dataclasses.dataclass(frozen=True)
class Family:
    """What one encoder family calls its parts.

    Modules of a checkpoint are named without the family's prefix: `"pooler"`
    is `"albert.pooler"` in a classifier's checkpoint.

    Args:
        name: string, the `model_type` of its config, and the prefix of its
            tensors.
        backbone: string, the class in `keras_hub.models`.
        sizes: dict, argument of the backbone -> attribute of the config.
        settings: dict, argument of `tfadv.Encoder` -> attribute of the config.
        only: dict, key of `config.json` -> the one value that is computed; it
            is what a missing key means.
        layers: dict, name of a backbone's layer -> module.
        block: pair of strings, a pattern of a Transformer block's name in the
            backbone, and what makes the name of its module from it.
        block_layers: dict, name as in
            `tfadv.encoders.keras_hub_backbones.block_layers` -> module inside
            of a block.
        masked_lm_head: dict, name as in
            `ReconstructionObjective.head_variables` -> tensor.
        classifier_dropout: string, attribute of the config.
    """

    name: str
    backbone: str
    sizes: dict[str, str]
    layers: dict[str, str]
    block: tuple[str, str]
    block_layers: dict[str, str]
    masked_lm_head: dict[str, str]
    classifier_dropout: str
    settings: dict[str, str] = dataclasses.field(
        default_factory=lambda: {
            "activation": "hidden_act",
            "layer_norm_epsilon": "layer_norm_eps",
            "hidden_dropout": "hidden_dropout_prob",
            "attention_dropout": "attention_probs_dropout_prob",
        }
    )
    only: dict = dataclasses.field(default_factory=lambda: _ONLY_THESE)

    def block_module(self, block_name: str) -> str:
        """Names the module of a backbone's block."""
        return re.sub(*self.block, block_name)


_SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
_EMBEDDINGS = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
}

ALBERT = Family(
    name="albert",
    backbone="AlbertBackbone",
    sizes=_SIZES
    | {
        "embedding_dim": "embedding_size",
        "num_groups": "num_hidden_groups",
        "num_inner_repetitions": "inner_group_num",
    },
    layers=_EMBEDDINGS
    | {
        "embedding_projection": "encoder.embedding_hidden_mapping_in",
        "pooled_dense": "pooler",
    },
    block=(
        r"group_(\d+)_inner_layer_(\d+)",
        r"encoder.albert_layer_groups.\1.albert_layers.\2",
    ),
    block_layers={
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "output": "attention.dense",
        "attention_norm": "attention.LayerNorm",
        "inner": "ffn",
        "outer": "ffn_output",
        "feedforward_norm": "full_layer_layer_norm",
    },
    masked_lm_head={
        "kernel": "predictions.dense.weight",
        "bias": "predictions.dense.bias",
        "gamma": "predictions.LayerNorm.weight",
        "beta": "predictions.LayerNorm.bias",
        "vocabulary_bias": "predictions.bias",
    },
    classifier_dropout="classifier_dropout_prob",
)

BERT = Family(
    name="bert",
    backbone="BertBackbone",
    sizes=_SIZES,
    layers=_EMBEDDINGS | {"pooled_dense": "pooler.dense"},
    block=(r"transformer_layer_(\d+)", r"encoder.layer.\1"),
    block_layers={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "feedforward_norm": "output.LayerNorm",
    },
    masked_lm_head={
        "kernel": "cls.predictions.transform.dense.weight",
        "bias": "cls.predictions.transform.dense.bias",
        "gamma": "cls.predictions.transform.LayerNorm.weight",
        "beta": "cls.predictions.transform.LayerNorm.bias",
        "vocabulary_bias": "cls.predictions.bias",
    },
    classifier_dropout="classifier_dropout",
)

FAMILIES = {family.name: family for family in (ALBERT, BERT)}


def family_of(checkpoint: Checkpoint) -> Family:
    """Returns the family of a checkpoint's encoder.

    Raises:
        InputError: the family is not supported.
    """
    family = FAMILIES.get(checkpoint.family)
    if family is None:
        raise checkpoint.error(
            "unsupported-family",
            f"expected an encoder of the family {' or '.join(FAMILIES)} in "
            f"{checkpoint.folder}, found {checkpoint.family!r}",
            "choose an encoder of one of these families",
        )
    return family


def settings_of(checkpoint: Checkpoint, activations: Collection[str]) -> dict:
    """Reads what a Hugging Face config says of how its encoder computes.

    Args:
        checkpoint: `tfadv.sources.checkpoint.Checkpoint`.
        activations: the names of those that are computed.

    Returns:
        dict, arguments of `tfadv.Encoder`: `activation`, `layer_norm_epsilon`,
        `hidden_dropout` and `attention_dropout`.

    Raises:
        InputError: the config asks for what is not computed.
    """
    family = family_of(checkpoint)
    config = checkpoint.config
    for key, only in family.only.items():
        _check(checkpoint, key, checkpoint.config_json.get(key), [only])
    key = family.settings["activation"]
    _check(checkpoint, key, getattr(config, key), activations)
    settings = {
        argument: getattr(config, key)
        for argument, key in family.settings.items()
    }
    for argument in ("hidden_dropout", "attention_dropout"):
        if not 0 <= settings[argument] < 1:
            raise checkpoint.error(
                "bad-config",
                "expected a number from 0 to below 1 in "
                f"{checkpoint.folder / 'config.json'}, found "
                f"{family.settings[argument]}={settings[argument]!r}",
                "correct it in a copy of the file",
            )
    return settings


def classifier_dropout(checkpoint: Checkpoint) -> float:
    """Reads the dropout rate of a classifier's head from a config.

    Args:
        checkpoint: `tfadv.sources.checkpoint.Checkpoint` of Hugging Face.
    """
    family = family_of(checkpoint)
    rate = getattr(checkpoint.config, family.classifier_dropout)
    if rate is None:
        rate = getattr(checkpoint.config, family.settings["hidden_dropout"])
    return rate


def _check(checkpoint, key, value, allowed):
    if value is not None and value not in allowed:
        raise checkpoint.error(
            "unsupported-config",
            f"expected {key}={' or '.join(map(repr, allowed))} in "
            f"{checkpoint.folder / 'config.json'}, found {key}={value!r}",
            "choose an encoder that does without it",
        )


def masked_lm_head(checkpoint: Checkpoint) -> dict | None:
    """Reads the masked-LM head of a Hugging Face checkpoint.

    Args:
        checkpoint: `tfadv.sources.checkpoint.Checkpoint`.

    Returns:
        dict of float32 arrays, for `ReconstructionObjective.load_head`:
        `"kernel"`, `[hidden, embedding]`, `"bias"`, `"gamma"`, `"beta"` and
        `"vocabulary_bias"`. `None` if the folder has no such head, only a
        part of one, or one that is not tied to the word embeddings.

    Raises:
        InputError: the files cannot be read.

    Example:

    ```python
    arrays = families.masked_lm_head(names.open_checkpoint(folder))
    if arrays is not None:
        objective.load_head(arrays)
    ```
    """
    if checkpoint.is_keras_hub or checkpoint.family not in FAMILIES:
        return None
    if not checkpoint.config.tie_word_embeddings:
        return None
    names = FAMILIES[checkpoint.family].masked_lm_head
    tensors = checkpoint.tensors
    if not all(name in tensors for name in names.values()):
        return None
    return {key: tensors.read(name).T for key, name in names.items()}


def limits(checkpoint: Checkpoint) -> tuple[int, int]:
    """Reads how many tokens, and pieces, an encoder can tell apart.

    Args:
        checkpoint: `tfadv.sources.checkpoint.Checkpoint`.

    Returns:
        Two ints: the most tokens of a text, and the vocabulary's size.

    Raises:
        InputError: the family is not supported, or the config lacks them.
    """
    family = family_of(checkpoint)
    names = ("max_sequence_length", "vocabulary_size")
    try:
        if checkpoint.is_keras_hub:
            sizes = checkpoint.config_json["config"]
            positions, rows = (int(sizes[name]) for name in names)
        else:
            positions, rows = (
                int(getattr(checkpoint.config, family.sizes[name]))
                for name in names
            )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise checkpoint.error(
            "bad-config",
            f"expected the sizes of an encoder in {checkpoint.folder} "
            f"({type(error).__name__}: {error})",
            "copy it anew from where the encoder comes from",
        ) from error
    return positions, rows
