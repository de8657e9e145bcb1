"""The masked-LM head of a Hugging Face checkpoint, RAR's head there."""

from tfadv.sources import checkpoint as checkpoints

# `ReconstructionObjective.head_variables` -> the family's name of the tensor.
NAMES = {
    "albert": {
        "kernel": "predictions.dense.weight",
        "bias": "predictions.dense.bias",
        "gamma": "predictions.LayerNorm.weight",
        "beta": "predictions.LayerNorm.bias",
        "vocabulary_bias": "predictions.bias",
    },
    "bert": {
        "kernel": "cls.predictions.transform.dense.weight",
        "bias": "cls.predictions.transform.dense.bias",
        "gamma": "cls.predictions.transform.LayerNorm.weight",
        "beta": "cls.predictions.transform.LayerNorm.bias",
        "vocabulary_bias": "cls.predictions.bias",
    },
}


def read(folder) -> dict | None:
    """Reads the masked-LM head of an encoder's checkpoint.

    Args:
        folder: path of an encoder, as `tfadv.sources.names.resolve` returns it.

    Returns:
        dict of float32 arrays, for `ReconstructionObjective.load_head`:
        `"kernel"`, `[hidden, embedding]`, `"bias"`, `"gamma"`, `"beta"` and
        `"vocabulary_bias"`. `None` if the folder has no such head, only a
        part of one, or one that is not tied to the word embeddings.

    Raises:
        InputError: the files cannot be read.

    Example:

    ```python
    arrays = masked_lm_head.read(folder)
    if arrays is not None:
        objective.load_head(arrays)
    ```
    """
    config = checkpoints.read_config(folder)
    names = NAMES.get(config.get("model_type"))
    if names is None or not config.get("tie_word_embeddings", True):
        return None
    checkpoint = checkpoints.Checkpoint(folder)
    if not all(name in checkpoint for name in names.values()):
        return None
    return {key: checkpoint.read(name).T for key, name in names.items()}
