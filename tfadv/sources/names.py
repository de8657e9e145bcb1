"""From the name of a pretrained encoder to a folder that holds its files."""

import os
import pathlib

from tfadv.errors import InputError
from tfadv.sources import pip_archives
from tfadv.sources.checkpoint import Checkpoint

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


def open_checkpoint(
    name_or_folder: str | os.PathLike | Checkpoint,
) -> Checkpoint:
    """Opens a pretrained encoder, once for all that is made of it.

    Args:
        name_or_folder: string or path, as `resolve` takes it. An opened
            checkpoint is returned as it is.

    Returns:
        `tfadv.sources.checkpoint.Checkpoint`.

    Raises:
        InputError: there is no such encoder, or it cannot be fetched.

    Example:

    ```python
    checkpoint = tfadv.sources.names.open_checkpoint("all-minilm-l6-v2")
    encoder = tfadv.Encoder.from_pretrained(checkpoint)
    ```
    """
    if isinstance(name_or_folder, Checkpoint):
        return name_or_folder
    return Checkpoint(resolve(name_or_folder), value=name_or_folder)


def resolve(name_or_folder: str | os.PathLike) -> pathlib.Path:
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
    folder = tfadv.sources.names.resolve("all-minilm-l6-v2")
    ```
    """
    name = os.fspath(name_or_folder)
    folder = pathlib.Path(name).expanduser()
    # An empty path would be the current folder.
    if name and folder.is_dir():
        return folder
    if name in pip_archives.ENCODERS:
        return pip_archives.encoder_folder(name)
    if folder.is_absolute() or name.startswith((".", "~")) or not name:
        raise InputError(
            "no-such-folder",
            "expected a folder, found none",
            "give the folder of a Hugging Face checkpoint or of a KerasHub "
            "preset",
            argument="encoder",
            value=name,
        )
    preset = _keras_hub_preset(name)
    if preset is not None:
        return _store_keras_hub_preset(name, preset)
    return _download_from_hub(name)


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

    folder = pip_archives.cache_folder() / "keras_hub" / name
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
            "not-downloaded",
            "this KerasHub preset could not be downloaded "
            f"({_first_line(error)})",
            "check the network, or give a folder",
            argument="encoder",
            value=name,
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
            "no-such-encoder",
            f"not a folder, not one of {', '.join(pip_archives.ENCODERS)}, not "
            "a KerasHub preset, and not to be had from the Hugging Face hub "
            f"({type(error).__name__}: {_first_line(error)})",
            "check the name and the network",
            argument="encoder",
            value=name,
        ) from error
    return pathlib.Path(folder)


def _first_line(error):
    return str(error).strip().split("\n")[0]
