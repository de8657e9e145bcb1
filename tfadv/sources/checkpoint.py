"""A checkpoint's folder: its config, its family, its tensors."""

import json
import pathlib

import safetensors
import tensorflow as tf

from tfadv.errors import InputError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

# What some checkpoints call the same tensors.
_OTHER_NAMES = {
    "LayerNorm.weight": "LayerNorm.gamma",
    "LayerNorm.bias": "LayerNorm.beta",
    "predictions.bias": "predictions.decoder.bias",
}


def read_config(folder):
    """Reads the `config.json` of an encoder's folder.

    Args:
        folder: `pathlib.Path`.

    Returns:
        dict.

    Raises:
        InputError: the file is missing or is not a JSON object.
    """
    path = pathlib.Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"--encoder: {folder} has no config.json; expected the folder of "
            "a Hugging Face checkpoint (config.json, model.safetensors, "
            "vocabulary) or of a KerasHub preset"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"--encoder: {path} cannot be read as JSON ({error}); copy it "
            "anew from where the encoder comes from"
        ) from None
    if not isinstance(config, dict):
        raise InputError(
            f"--encoder: {path} must hold a JSON object, found "
            f"{type(config).__name__}"
        )
    return config


def family(config):
    """Names an encoder's architecture: `"albert"`, `"bert"` or another.

    Args:
        config: dict, as `read_config` returns it.

    Returns:
        The Hugging Face `model_type`, or the KerasHub backbone class in the
        same words (`"AlbertBackbone"` is `"albert"`).

    Raises:
        InputError: the config names no architecture.
    """
    if isinstance(config.get("model_type"), str):
        return config["model_type"]
    if isinstance(config.get("class_name"), str):
        return config["class_name"].removesuffix("Backbone").lower()
    raise InputError(
        "--encoder: config.json names no architecture; expected "
        "'model_type' (Hugging Face) or 'class_name' (KerasHub)"
    )


def safetensors_files(folder):
    """Lists the files of a checkpoint's weights; a large one has an index.

    Args:
        folder: `pathlib.Path`.

    Returns:
        List of paths; empty if there are none.

    Raises:
        InputError: the index is none.
    """
    path = folder / "model.safetensors"
    if path.is_file():
        return [path]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"--encoder: expected a JSON object with a weight_map in {index}, "
            "found none; copy it anew from where it comes from"
        ) from None
    return [folder / name for name in names]


def instead_of_weights(folder):
    """Says what a folder without weights holds, for error messages.

    Args:
        folder: `pathlib.Path`.
    """
    files = sorted(path.name for path in folder.iterdir())
    pickled = [n for n in files if n.endswith((".bin", ".pt", ".ckpt"))]
    if not pickled:
        return f"found {', '.join(files)}"
    return (
        f"found {', '.join(pickled)}, a pickle, which is never opened: load it "
        "in PyTorch and save_pretrained() it anew"
    )


def is_classifier_config(config):
    """Tells whether a Hugging Face config is that of a text classifier.

    Args:
        config: the content of a `config.json`.

    Returns:
        bool.
    """
    names = config.get("architectures") if isinstance(config, dict) else None
    return isinstance(names, list) and any(
        str(name).endswith("ForSequenceClassification") for name in names
    )


class Checkpoint:
    """The tensors of a checkpoint's safetensors files, read one by one.

    Args:
        folder: path.

    Raises:
        InputError: there are no such files, or they are not whole.
    """

    def __init__(self, folder):
        self._files = {}
        folder = pathlib.Path(folder)
        paths = safetensors_files(folder)
        if not paths:
            raise InputError(
                f"expected the weights as {WEIGHTS}, "
                f"{instead_of_weights(folder)}"
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
