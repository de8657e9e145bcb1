"""Runs as Hugging Face checkpoints, and the other way round.

| file | content |
|---|---|
| `config.json` | the encoder's config, the classes, and `tfadv`'s own facts |
| `model.safetensors` | the weights, by the names of `transformers` |
| `vocab.txt`, or `spiece.model` and `tokenizer.json` | the vocabulary |
| `tokenizer_config.json` | the tokenizer's settings |

Neither PyTorch nor `transformers` is needed; both open what `save` writes.
"""

import dataclasses
import json
import math
import operator
import pathlib

import keras
import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf

import tfadv
from tfadv import albert_tokenizer_json, pretrained, run_folder
from tfadv.classifier import AdversarialClassifier
from tfadv.encoder import Encoder
from tfadv.errors import InputError
from tfadv.objectives.reconstruction import ReconstructionObjective
from tfadv.tokenization import Tokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

# KerasHub's name of a layer -> Hugging Face's, behind the family's prefix.
_EMBEDDINGS = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
}
_LAYERS = {
    "albert": {
        **_EMBEDDINGS,
        "embedding_projection": "encoder.embedding_hidden_mapping_in",
        "pooled_dense": "pooler",
    },
    "bert": {**_EMBEDDINGS, "pooled_dense": "pooler.dense"},
}
# The same inside of a Transformer block.
_BLOCK_LAYERS = {
    "albert": {
        "_self_attention_layer.query_dense": "attention.query",
        "_self_attention_layer.key_dense": "attention.key",
        "_self_attention_layer.value_dense": "attention.value",
        "_self_attention_layer.output_dense": "attention.dense",
        "_self_attention_layer_norm": "attention.LayerNorm",
        "_feedforward_intermediate_dense": "ffn",
        "_feedforward_output_dense": "ffn_output",
        "_feedforward_layer_norm": "full_layer_layer_norm",
    },
    "bert": {
        "_self_attention_layer.query_dense": "attention.self.query",
        "_self_attention_layer.key_dense": "attention.self.key",
        "_self_attention_layer.value_dense": "attention.self.value",
        "_self_attention_layer.output_dense": "attention.output.dense",
        "_self_attention_layer_norm": "attention.output.LayerNorm",
        "_feedforward_intermediate_dense": "intermediate.dense",
        "_feedforward_output_dense": "output.dense",
        "_feedforward_layer_norm": "output.LayerNorm",
    },
}
# The masked-LM head: `ReconstructionObjective.head_variables` -> tensor.
_HEADS = {
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
# What some checkpoints call the same tensors.
_OTHER_NAMES = {
    "LayerNorm.weight": "LayerNorm.gamma",
    "LayerNorm.bias": "LayerNorm.beta",
    "predictions.bias": "predictions.decoder.bias",
}

_CLASSIFIER_DROPOUT = {
    "albert": "classifier_dropout_prob",
    "bert": "classifier_dropout",
}
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
        run: `tfadv.run_folder.Run`.
        folder: path of an empty folder.

    Raises:
        OSError: the folder cannot be written.

    Example:

    ```python
    hugging_face.save(tfadv.load("runs/freelb"), folder)
    ```
    """
    folder = pathlib.Path(folder)
    family = _family(run.classifier)
    tensors = {
        name: parameter.tensor()
        for name, parameter in _parameters(run.classifier, family).items()
    }
    for objective in run.classifier.objectives:
        if isinstance(objective, ReconstructionObjective):
            for key, variable in objective.head_variables().items():
                # All but the kernel have one dimension.
                tensors[_HEADS[family][key]] = _array(variable).T
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    try:
        safetensors.numpy.save_file(
            tensors, folder / WEIGHTS, metadata={"format": "pt"}
        )
    except safetensors.SafetensorError as error:
        raise OSError(f"{folder / WEIGHTS}: {error}") from error
    run.tokenizer.save(folder)
    if family == "albert":
        run_folder.write_json(
            folder / "tokenizer.json",
            albert_tokenizer_json.describe(run.tokenizer, folder),
        )
    run_folder.write_json(folder / CONFIG, _config(run, family))


def load(folder, flag="--run_dir", precision=None):
    """Opens a classifier's Hugging Face checkpoint as a run.

    Args:
        folder: path of what `save` wrote, or of any
            `AlbertForSequenceClassification` or
            `BertForSequenceClassification` with its weights as safetensors.
        flag: string, the flag that named the folder, for error messages.
        precision: string, of the encoder's computations; by default the one
            that the run was trained with, else `"float32"`.

    Returns:
        `tfadv.run_folder.Run`, which predicts. Its classifier has no
        adversary and no objectives.

    Raises:
        InputError: the folder is no such checkpoint, or not a whole one.

    Example:

    ```python
    run = hugging_face.load("exported")
    run.predict_proba(["a gorgeous, witty film"])
    ```
    """
    folder = pathlib.Path(folder)
    try:
        return _load(folder, precision)
    except InputError as error:
        reason = str(error).removeprefix("--encoder: ")
        raise InputError(f"{flag}={folder}: {reason}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{flag}={folder}: {CONFIG} does not describe a classifier "
            f"({type(error).__name__}: {reason}); copy it anew from where it "
            "comes from"
        ) from error


def masked_lm_head(folder):
    """Reads the masked-LM head of a Hugging Face checkpoint.

    Args:
        folder: path of an encoder, as `tfadv.pretrained.resolve` returns it.

    Returns:
        dict of float32 arrays, for `ReconstructionObjective.load_head`:
        `"kernel"`, `[hidden, embedding]`, `"bias"`, `"gamma"`, `"beta"` and
        `"vocabulary_bias"`. `None` if the folder has no such head, only a
        part of one, or one that is not tied to the word embeddings.

    Raises:
        InputError: the files cannot be read.

    Example:

    ```python
    arrays = hugging_face.masked_lm_head(folder)
    if arrays is not None:
        objective.load_head(arrays)
    ```
    """
    config = pretrained.read_config(folder)
    names = _HEADS.get(config.get("model_type"))
    if names is None or not config.get("tie_word_embeddings", True):
        return None
    checkpoint = _Checkpoint(folder)
    if not all(name in checkpoint for name in names.values()):
        return None
    return {key: checkpoint.read(name).T for key, name in names.items()}


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """A Keras variable, and how PyTorch keeps it.

    Args:
        variable: `keras.Variable`.
        shape: tuple of ints, the tensor's.
        transposed: bool. A dense layer's kernel is `[outputs, inputs]` there
            and here `[inputs, outputs]`, either of them split into heads.
    """

    variable: keras.Variable
    shape: tuple
    transposed: bool

    def tensor(self):
        array = _array(self.variable)
        if self.transposed:
            return array.reshape(self.shape[::-1]).T
        return array.reshape(self.shape)

    def assign(self, tensor):
        array = tensor.T if self.transposed else tensor
        self.variable.assign(array.reshape(self.variable.shape))


def _parameters(classifier, family):
    """Maps the names of a checkpoint's tensors to what they are here."""
    parameters = {}
    for name, layer in _modules(classifier, family).items():
        weight, *bias = layer.weights
        dense = isinstance(
            layer, (keras.layers.Dense, keras.layers.EinsumDense)
        )
        shape = tuple(weight.shape)
        if dense:
            outputs = math.prod(layer.bias.shape)
            shape = (outputs, math.prod(shape) // outputs)
        parameters[f"{name}.weight"] = _Parameter(weight, shape, dense)
        for variable in bias:
            shape = (math.prod(variable.shape),)
            parameters[f"{name}.bias"] = _Parameter(variable, shape, False)
    return parameters


def _modules(classifier, family):
    """Maps Hugging Face's names of modules to Keras' layers."""
    backbone = classifier.encoder.backbone
    modules = {
        f"{family}.{theirs}": backbone.get_layer(ours)
        for ours, theirs in _LAYERS[family].items()
    }
    for name, block in _blocks(backbone, family).items():
        for ours, theirs in _BLOCK_LAYERS[family].items():
            layer = operator.attrgetter(ours)(backbone.get_layer(block))
            modules[f"{family}.encoder.{name}.{theirs}"] = layer
    return modules | {"classifier": classifier.head}


def _blocks(backbone, family):
    """Maps Hugging Face's names of the Transformer blocks to KerasHub's."""
    if family == "bert":
        return {
            f"layer.{i}": f"transformer_layer_{i}"
            for i in range(backbone.num_layers)
        }
    return {
        f"albert_layer_groups.{i}.albert_layers.{j}": (
            f"group_{i}_inner_layer_{j}"
        )
        for i in range(backbone.num_groups)
        for j in range(backbone.num_inner_repetitions)
    }


def _family(classifier):
    name = type(classifier.encoder.backbone).__name__
    return pretrained.family({"class_name": name})


def _array(variable):
    return keras.ops.convert_to_numpy(variable).astype(np.float32)


def _config(run, family):
    """The `config.json` of a run's checkpoint."""
    encoder_folder = run.folder / run_folder.ENCODER
    if not encoder_folder.is_dir():  # a run that `load` has opened
        encoder_folder = run.folder
    config = pretrained.read_config(encoder_folder)
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
        _CLASSIFIER_DROPOUT[family]: run.classifier.dropout,
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


def _load(folder, precision):
    config = pretrained.read_config(folder)
    label_names = _label_names(config)
    checkpoint = _Checkpoint(folder)
    facts = config.get("tfadv", {})
    description = {
        "format": run_folder.FORMAT,
        "method": facts.get("method", "baseline"),
        "encoder": facts.get("encoder", str(folder)),
        "dataset": facts.get("dataset", "unknown"),
        "label_names": label_names,
        "max_length": facts.get("max_length"),
        "perturb_at": facts.get("perturb_at", "word_embeddings"),
        "precision": precision or facts.get("precision", "float32"),
        "adversary": None,
        "objectives": {},
    }
    encoder = Encoder.from_pretrained(
        folder,
        load_weights=False,
        # Given, so that unequal rates, of no effect here, are not refused.
        dropout=config.get("hidden_dropout_prob", 0.1),
        perturb_at=description["perturb_at"],
        dtype=description["precision"],
    )
    classifier = AdversarialClassifier(
        encoder,
        num_classes=len(label_names),
        dropout=_classifier_dropout(config),
        dtype=description["precision"],
    )
    parameters = _parameters(classifier, _family(classifier))
    for name, parameter in parameters.items():
        parameter.assign(checkpoint.read(name, parameter.shape))
    if description["max_length"] is None:
        positions = encoder.max_sequence_length
        description["max_length"] = _max_length(folder, positions)
    tokenizer = Tokenizer.from_pretrained(folder, description["max_length"])
    encoder.check_tokenizer(tokenizer)
    return run_folder.Run(folder, description, classifier, tokenizer)


def _label_names(config):
    """The names of a classifier's classes, in order."""
    if not run_folder.is_classifier_config(config):
        raise InputError(
            "expected AlbertForSequenceClassification or "
            "BertForSequenceClassification as the architecture in "
            f"{CONFIG}, found {config.get('architectures')}; give the "
            "checkpoint of a classifier"
        )
    problem = config.get("problem_type") or "single_label_classification"
    if problem != "single_label_classification":
        raise InputError(
            f"{CONFIG} has problem_type={problem!r}; supported is "
            "'single_label_classification': give a classifier whose classes "
            "exclude each other"
        )
    labels = config.get("id2label")
    if labels is None:  # transformers leaves out its defaults
        count = config.get("num_labels", 2)
        labels = {str(i): f"LABEL_{i}" for i in range(count)}
    ids = [str(i) for i in range(len(labels))]
    if len(ids) < 2 or set(labels) != set(ids):
        raise InputError(
            f"{CONFIG} must name two or more classes in id2label, with the "
            f"ids 0, 1 and so on, found the ids {', '.join(labels) or 'none'}; "
            "mend id2label"
        )
    return [str(labels[i]) for i in ids]


def _classifier_dropout(config):
    rate = config.get(_CLASSIFIER_DROPOUT[config["model_type"]])
    return config.get("hidden_dropout_prob", 0.1) if rate is None else rate


def _max_length(folder, positions):
    """The number of tokens that another's tokenizer cuts texts to."""
    try:
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        # Where there is no limit, transformers writes 10^30.
        return int(min(settings["model_max_length"], positions))
    except (OSError, ValueError, KeyError, TypeError):
        return positions


class _Checkpoint:
    """The tensors of a checkpoint's safetensors files, read one by one.

    Args:
        folder: path.

    Raises:
        InputError: there are no such files, or they are not whole.
    """

    def __init__(self, folder):
        self._files = {}
        folder = pathlib.Path(folder)
        paths = pretrained.safetensors_files(folder)
        if not paths:
            raise InputError(
                f"expected the weights as {WEIGHTS}, "
                f"{pretrained.instead_of_weights(folder)}"
            )
        for path in paths:
            try:
                # NumPy has no bfloat16.
                file = safetensors.safe_open(path, framework="tf")
            except (OSError, safetensors.SafetensorError) as error:
                raise InputError(
                    f"expected whole safetensors in {path.name}, found "
                    f"something else ({error}); copy it anew from where it "
                    "comes from"
                ) from None
            self._files |= dict.fromkeys(file.keys(), file)

    def __contains__(self, name):
        return self._stored_name(name) is not None

    def read(self, name, shape=None):
        """Reads a tensor.

        Args:
            name: string.
            shape: tuple of ints, what it must have.

        Returns:
            float32 array.

        Raises:
            InputError: there is no such tensor, or it has another shape.
        """
        stored_name = self._stored_name(name)
        if stored_name is None:
            raise InputError(
                f"expected the tensor {name}, found {len(self._files)} others "
                "in the weights; give the checkpoint of a whole classifier"
            )
        tensor = self._files[stored_name].get_tensor(stored_name)
        if shape is not None and tuple(tensor.shape) != shape:
            raise InputError(
                f"expected {stored_name} of shape {list(shape)}, as "
                f"{CONFIG} makes it, found {list(tensor.shape)}; give the "
                f"{CONFIG} that belongs to the weights"
            )
        return tf.cast(tensor, tf.float32).numpy()

    def _stored_name(self, name):
        other = name
        for ours, theirs in _OTHER_NAMES.items():
            other = other.replace(ours, theirs)
        return next((n for n in (name, other) if n in self._files), None)
