"""The folder of a pretrained encoder, read once for all who need it."""

import functools
import logging
import os
import pathlib
from typing import Any

from tfadv import files
from tfadv.errors import InputError
from tfadv.sources.tensors import Tensors

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

_COPY = "copy it anew from where the encoder comes from"
# Keys of a config.json that are about PyTorch, or that only repeat `id2label`.
# Transformers would import PyTorch for the first two.
_LEFT_OUT = (
    "dtype",
    "torch_dtype",
    "auto_map",
    "model_type",
    "num_labels",
    "quantization_config",
    "transformers_version",
)


class Checkpoint:
    """The folder of a pretrained encoder, read once for all who need it.

    Tokenizer, encoder and masked-LM head are made of the same checkpoint; each
    file is read when it is first asked for. Nothing in the folder can run code:
    weights are safetensors, and what a config says of code is ignored.

    Args:
        folder: path of a folder in the layout of Hugging Face (a `config.json`
            with `model_type`) or of a KerasHub preset (with `class_name`).
        argument: string, the argument that error messages name.
        value: what was given for that argument. Defaults to the folder.

    Attributes:
        folder: `pathlib.Path`.

    Example:

    ```python
    checkpoint = names.open_checkpoint("all-minilm-l6-v2")
    tokenizer = tfadv.Tokenizer.from_pretrained(checkpoint, 64)
    encoder = tfadv.Encoder.from_pretrained(checkpoint)
    ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        argument: str = "encoder",
        value: str | os.PathLike | None = None,
    ):
        self.folder = pathlib.Path(folder)
        self._argument = argument
        self._value = os.fspath(folder if value is None else value)

    def error(self, code: str, problem: str, remedy: str) -> InputError:
        """Makes an error that names the checkpoint as the user gave it."""
        return InputError(
            code,
            problem,
            remedy,
            argument=self._argument,
            value=self._value,
        )

    @functools.cached_property
    def config_json(self) -> dict:
        """The content of `config.json` as it is written there.

        Raises:
            InputError: the file is missing or is not a JSON object.
        """
        if not (self.folder / CONFIG).is_file():
            raise self.error(
                "no-config",
                f"expected {CONFIG} in {self.folder}, found none",
                "give the folder of a Hugging Face checkpoint (config.json, "
                "model.safetensors, vocabulary) or of a KerasHub preset",
            )
        return self.read_json(CONFIG)

    @functools.cached_property
    def family(self) -> str:
        """The encoder's architecture: `"albert"`, `"bert"` or another.

        The `model_type` of Hugging Face, or the class of a KerasHub backbone in
        the same words: `"AlbertBackbone"` is `"albert"`. A tokenizer that was
        saved by itself has no `config.json`, but names its class.

        Raises:
            InputError: the folder names no architecture.
        """
        if not (self.folder / CONFIG).is_file():
            name = self.read_json(TOKENIZER_CONFIG).get("tokenizer_class")
            if isinstance(name, str):
                name = name.removesuffix("Fast").removesuffix("Tokenizer")
                return name.lower()
        config = self.config_json
        if isinstance(config.get("model_type"), str):
            return config["model_type"]
        if isinstance(config.get("class_name"), str):
            return config["class_name"].removesuffix("Backbone").lower()
        raise self.error(
            "no-architecture",
            f"expected 'model_type' (Hugging Face) or 'class_name' (KerasHub) "
            f"in {self.folder / CONFIG}, found neither",
            _COPY,
        )

    @property
    def is_keras_hub(self) -> bool:
        """Whether the folder is that of a KerasHub preset."""
        return not isinstance(self.config_json.get("model_type"), str)

    @property
    def is_classifier(self) -> bool:
        """Whether it is a text classifier in the layout of Hugging Face."""
        names = self.config_json.get("architectures")
        return isinstance(names, list) and any(
            str(name).endswith("ForSequenceClassification") for name in names
        )

    @functools.cached_property
    def config(self) -> Any:
        """The `transformers.PreTrainedConfig` of a Hugging Face folder.

        It has the defaults of its family for what `config.json` leaves out.

        Raises:
            InputError: transformers does not accept what the file says.
        """
        content = {
            key: value
            for key, value in self.config_json.items()
            if key not in _LEFT_OUT
        }
        # Its notes, as that there is no PyTorch, are of no use here.
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            from transformers import AutoConfig

            return AutoConfig.for_model(self.family, **content)
        # From the values of a broken file, anything may follow.
        except Exception as error:
            raise self.error(
                "bad-config",
                f"expected the config of a model in {self.folder / CONFIG}; "
                f"transformers says: {error}",
                _COPY,
            ) from error
        finally:
            logging.disable(level)

    @functools.cached_property
    def tensors(self) -> Tensors:
        """The weights of a Hugging Face folder.

        Raises:
            InputError: there are none, or they are not whole.
        """
        return Tensors(self.folder, self.family, self.error)

    def find(self, *names: str) -> pathlib.Path:
        """Finds the first of some files that the folder has.

        Raises:
            InputError: it has none of them.
        """
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        others = sorted(path.name for path in self.folder.iterdir())
        raise self.error(
            "missing-file",
            f"expected {' or '.join(names)} in {self.folder}, found "
            f"{', '.join(others[:10]) or 'nothing'}",
            "copy it from where the encoder comes from",
        )

    def read_text(self, name: str) -> str:
        """Reads a text file of the folder.

        Raises:
            InputError: it cannot be read, or is not UTF-8.
        """
        path = self.folder / name
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(
                "bad-text",
                f"expected readable UTF-8 text in {path} ({error})",
                _COPY,
            ) from error

    def read_json(self, name: str) -> dict:
        """Reads a JSON object of the folder; a missing file is an empty one.

        Raises:
            InputError: the file holds something else.
        """
        path = self.folder / name
        try:
            content = files.read_json(path, missing={})
        except InputError as error:
            raise self.error("bad-json", error.problem, _COPY) from error
        if not isinstance(content, dict):
            raise self.error(
                "bad-json",
                f"expected a JSON object in {path}, found "
                f"{type(content).__name__}",
                _COPY,
            )
        return content
