"""Runs as Hugging Face checkpoints.

| file | content |
|---|---|
| `config.json` | the encoder's config, the classes, and `tfadv`'s own facts |
| `model.safetensors` | the weights, by the names of `transformers` |
| `vocab.txt`, or `spiece.model` and `tokenizer.json` | the vocabulary |
| `tokenizer_config.json` | the tokenizer's settings |

The config is written by `transformers`, which opens the folder; PyTorch is not
needed.
"""

import pathlib

import numpy as np
import safetensors
import safetensors.numpy

import tfadv
from tfadv.encoders import families
from tfadv.export import albert_tokenizer
from tfadv.runs import run_folder
from tfadv.runs.run import Run
from tfadv.sources import checkpoint

# What an encoder's config says that does not hold for the classifier.
_DROPPED = (
    "_name_or_path",
    "auto_map",
    "dtype",
    "model_type",
    "num_labels",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)


def save(run: Run, folder: str | pathlib.Path):
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
    _config(run, family).save_pretrained(folder)


def _config(run, family):
    """The config of a run's checkpoint, a `transformers.PreTrainedConfig`."""
    from transformers import AutoConfig

    encoder_folder = run.folder / run_folder.ENCODER
    if not encoder_folder.is_dir():  # a run that `load` has opened
        encoder_folder = run.folder
    content = checkpoint.read_config(encoder_folder)
    if "model_type" not in content:  # KerasHub
        content = _encoder_config(run.classifier.encoder, family)
    content = {k: v for k, v in content.items() if k not in _DROPPED}
    settings = run.record.settings
    content |= {
        "architectures": [f"{family.capitalize()}ForSequenceClassification"],
        "id2label": dict(enumerate(run.label_names)),
        "label2id": {name: i for i, name in enumerate(run.label_names)},
        "problem_type": "single_label_classification",
        "pad_token_id": run.tokenizer.pad_id,
        "tie_word_embeddings": True,
        families.CLASSIFIER_DROPOUT[family]: run.classifier.dropout,
        "tfadv": {
            "version": tfadv.__version__,
            "method": settings.method,
            "encoder": settings.encoder.name,
            "dataset": run.record.dataset,
            "max_length": settings.encoder.max_length,
            "perturb_at": settings.encoder.perturb_at,
            "precision": settings.encoder.precision,
        },
    }
    config = AutoConfig.for_model(family, **content)
    # Given to the constructor, it would import PyTorch.
    config.dtype = "float32"
    return config


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
