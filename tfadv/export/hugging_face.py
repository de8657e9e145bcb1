"""Runs as Hugging Face checkpoints.

| file | content |
|---|---|
| `config.json` | the encoder's config, the classes, and `tfadv`'s own facts |
| `model.safetensors` | the weights, by the names of `transformers` |
| `vocab.txt`, or `spiece.model` and `tokenizer.json` | the vocabulary |
| `tokenizer_config.json` | the tokenizer's settings |

Neither PyTorch nor `transformers` is needed; both open what `save` writes.
"""

import pathlib

import numpy as np
import safetensors
import safetensors.numpy

import tfadv
from tfadv import files
from tfadv.encoders import families
from tfadv.export import albert_tokenizer
from tfadv.runs import run_folder
from tfadv.sources import checkpoint

# Of the encoder's config; what they say is not so of the classifier.
_DROPPED = (
    "_name_or_path",
    "auto_map",
    "num_labels",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
# What is kept of a run's description; the label names are `id2label`.
_FACTS = (
    "method",
    "encoder",
    "dataset",
    "max_length",
    "perturb_at",
    "precision",
)


def save(run, folder):
    """Writes a run as a Hugging Face checkpoint.

    `AutoModelForSequenceClassification.from_pretrained(folder)` of
    `transformers` is the run's classifier, `AutoTokenizer` its tokenizer. The
    head of RAR, if the run has one, is the masked-LM head:
    `AutoModelForMaskedLM.from_pretrained(folder)` reads words with it.

    Args:
        run: `tfadv.runs.run.Run`.
        folder: path of an empty folder.

    Raises:
        OSError: the folder cannot be written.

    Example:

    ```python
    hugging_face.save(tfadv.load("runs/freelb"), folder)
    ```
    """
    folder = pathlib.Path(folder)
    family = families.family_of(run.classifier)
    tensors = {
        name: parameter.tensor()
        for name, parameter in families.parameters(
            run.classifier, family
        ).items()
    }
    for objective in run.classifier.objectives:
        tensors |= objective.checkpoint_tensors(family)
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    try:
        safetensors.numpy.save_file(
            tensors, folder / checkpoint.WEIGHTS, metadata={"format": "pt"}
        )
    except safetensors.SafetensorError as error:
        raise OSError(f"{folder / checkpoint.WEIGHTS}: {error}") from error
    run.tokenizer.save(folder)
    if family == "albert":
        albert_tokenizer.save(run.tokenizer, folder)
    files.write_json(folder / checkpoint.CONFIG, _config(run, family))


def _config(run, family):
    """The `config.json` of a run's checkpoint."""
    encoder_folder = run.folder / run_folder.ENCODER
    if not encoder_folder.is_dir():  # a run that `load` has opened
        encoder_folder = run.folder
    config = checkpoint.read_config(encoder_folder)
    if "model_type" not in config:  # KerasHub
        config = {}
    names = run.label_names
    return {
        **_encoder_config(run.classifier.encoder, family),
        **{k: v for k, v in config.items() if k not in _DROPPED},
        "architectures": [f"{family.capitalize()}ForSequenceClassification"],
        "model_type": family,
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": "single_label_classification",
        "pad_token_id": run.tokenizer.pad_id,
        "tie_word_embeddings": True,
        "dtype": "float32",
        families.CLASSIFIER_DROPOUT[family]: run.classifier.dropout,
        "tfadv": {
            "version": tfadv.__version__,
            **{fact: run.description[fact] for fact in _FACTS},
        },
    }


def _encoder_config(encoder, family):
    """What a Hugging Face config must say of an encoder."""
    backbone = encoder.backbone
    config = {
        "vocab_size": backbone.vocabulary_size,
        "hidden_size": backbone.hidden_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "intermediate_size": backbone.intermediate_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "type_vocab_size": backbone.num_segments,
        # KerasHub's own activation is the tanh approximation.
        "hidden_act": encoder.activation or "gelu_new",
        "hidden_dropout_prob": backbone.dropout,
        "attention_probs_dropout_prob": backbone.dropout,
        "layer_norm_eps": 1e-12,
    }
    if family == "albert":
        config |= {
            "embedding_size": backbone.embedding_dim,
            "num_hidden_groups": backbone.num_groups,
            "inner_group_num": backbone.num_inner_repetitions,
        }
    return config
