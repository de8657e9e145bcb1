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
from tfadv.sources.checkpoint import Checkpoint
from tfadv.sources.tensors import WEIGHTS

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


def save(run: Run, folder: str | pathlib.Path) -> None:
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
    family = families.of_backbone(run.classifier.encoder.backbone)
    parameters = families.classifier_parameters(run.classifier)
    tensors = {name: p.tensor() for name, p in parameters.items()}
    for objective in run.classifier.objectives:
        tensors |= objective.checkpoint_tensors(family.name)
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    try:
        safetensors.numpy.save_file(
            tensors, folder / WEIGHTS, metadata={"format": "pt"}
        )
    except safetensors.SafetensorError as error:
        raise OSError(f"{folder / WEIGHTS}: {error}") from error
    run.tokenizer.save(folder)
    if family.name == "albert":
        albert_tokenizer.save(run.tokenizer, folder)
    _config(run, family).save_pretrained(folder)


def _config(run, family):
    """The config of a run's checkpoint, a `transformers.PreTrainedConfig`."""
    from transformers import AutoConfig

    encoder_folder = run.folder / run_folder.ENCODER
    if not encoder_folder.is_dir():  # a run that `load` has opened
        encoder_folder = run.folder
    encoder = Checkpoint(encoder_folder)
    content = encoder.config_json
    if encoder.is_keras_hub:
        content = _encoder_config(run.classifier.encoder, family)
    content = {k: v for k, v in content.items() if k not in _DROPPED}
    settings = run.record.settings
    content |= {
        "architectures": [
            f"{family.name.capitalize()}ForSequenceClassification"
        ],
        "id2label": dict(enumerate(run.label_names)),
        "label2id": {name: i for i, name in enumerate(run.label_names)},
        "problem_type": "single_label_classification",
        "pad_token_id": run.tokenizer.pad_id,
        "tie_word_embeddings": True,
        family.classifier_dropout: run.classifier.dropout,
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
    config = AutoConfig.for_model(family.name, **content)
    # Given to the constructor, it would import PyTorch.
    config.dtype = "float32"
    return config


def _encoder_config(encoder, family):
    """What a Hugging Face config must say of an encoder."""
    sizes = {
        key: getattr(encoder.backbone, argument)
        for argument, key in family.sizes.items()
    }
    settings = {
        key: getattr(encoder, argument)
        for argument, key in family.settings.items()
    }
    if encoder.activation is None:  # KerasHub's own
        key = family.settings["activation"]
        settings[key] = encoder.description.activation
    return {"model_type": family.name, **sizes, **settings}
