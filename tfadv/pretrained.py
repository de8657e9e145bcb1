"""From the name of a pretrained encoder to a folder that holds its files."""

import json
import os
import pathlib

from tfadv import packages
from tfadv.errors import InputError

# What an encoder and its tokenizer need. Weights only as safetensors: a
# pickle would run code when it is opened.
_HUB_FILES = [
    "*.safetensors",
    "config.json",
    "model.safetensors.index.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
]


def resolve(name_or_folder):
    """Returns the local folder of a pretrained encoder.

    Args:
        name_or_folder: string or path. Tried in this order: a folder; the
            name of an encoder that a Python package carries
            (`"all-minilm-l6-v2"`); a KerasHub preset
            (`"albert_base_en_uncased"`); a repository of the Hugging Face hub
            (`"albert/albert-base-v2"`).

    Returns:
        `pathlib.Path` of a folder in the layout of Hugging Face
        (`config.json` with `model_type`) or of KerasHub (`config.json` with
        `class_name`).

    Raises:
        InputError: there is no such encoder, or it cannot be fetched.

    Example:

    ```python
    folder = tfadv.pretrained.resolve("all-minilm-l6-v2")
    ```
    """
    name = os.fspath(name_or_folder)
    folder = pathlib.Path(name).expanduser()
    # An empty path would be the current folder.
    if name and folder.is_dir():
        return folder
    if name in packages.ENCODERS:
        return packages.encoder_folder(name)
    if folder.is_absolute() or name.startswith((".", "~")) or not name:
        raise InputError(
            f"--encoder={name!r}: expected a folder, found none; give the "
            "folder of a Hugging Face checkpoint or a KerasHub preset"
        )
    preset = _keras_hub_preset(name)
    if preset is not None:
        return _store_keras_hub_preset(name, preset)
    return _download_from_hub(name)


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


def _keras_hub_preset(name):
    """Returns the KerasHub backbone class that has this preset, or None."""
    import keras_hub

    for backbone in (
        keras_hub.models.AlbertBackbone,
        keras_hub.models.BertBackbone,
    ):
        if name in backbone.presets:
            return backbone
    return None


def _store_keras_hub_preset(name, backbone_class):
    """Downloads a KerasHub preset and keeps it as a folder in the cache."""
    import keras_hub

    folder = packages.cache_folder() / "keras_hub" / name
    if (folder / "complete").exists():
        return folder
    try:
        backbone = backbone_class.from_preset(name)
        tokenizer = keras_hub.models.Tokenizer.from_preset(name)
        backbone.save_to_preset(str(folder))
        tokenizer.save_to_preset(str(folder))
        (folder / "complete").touch()
    except Exception as error:
        raise InputError(
            f"--encoder={name}: this KerasHub preset could not be downloaded "
            f"({_first_line(error)}); check the network, or give a folder"
        ) from error
    return folder


def _download_from_hub(name):
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            name, allow_patterns=_HUB_FILES
        )
    except Exception as error:
        raise InputError(
            f"--encoder={name}: not a folder, not one of "
            f"{', '.join(packages.ENCODERS)}, not a KerasHub preset, and the "
            "Hugging Face hub did not give it either "
            f"({type(error).__name__}: {_first_line(error)}); check the name "
            "and the network"
        ) from error
    return pathlib.Path(folder)


def _first_line(error):
    return str(error).strip().split("\n")[0]
