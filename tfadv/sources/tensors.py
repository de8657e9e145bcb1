"""The tensors of a checkpoint, read one by one from safetensors files."""

import pathlib
from collections.abc import Callable

import numpy as np
import safetensors
import tensorflow as tf

from tfadv import files
from tfadv.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_COPY = "copy it anew from where it comes from"
# What older checkpoints call the same tensors.
_OTHER_ENDINGS = (
    (".weight", ".gamma"),
    (".bias", ".beta"),
    ("predictions.bias", "predictions.decoder.bias"),
)


class Tensors:
    """The tensors of a folder's safetensors files, read one by one.

    A tensor is found by the name that a classifier's checkpoint has for it,
    also where an older checkpoint calls it otherwise (`LayerNorm.gamma`), or a
    bare encoder leaves out the prefix.

    Args:
        folder: path of the checkpoint. A large one has several files and an
            index.
        prefix: string, the encoder's name in a classifier, such as `"bert"`.
        error: function of a code, a problem and a remedy that makes an error.

    Raises:
        InputError: there are no such files, or they are not whole.

    Example:

    ```python
    tensors = Tensors(folder, "bert")
    table = tensors.read("bert.embeddings.word_embeddings.weight")
    ```
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        prefix: str = "",
        error: Callable[[str, str, str], InputError] = InputError,
    ):
        self._error = error
        self._prefix = f"{prefix}."
        self._files = {}
        for path in self._paths(pathlib.Path(folder)):
            try:
                # NumPy has no bfloat16.
                file = safetensors.safe_open(path, framework="tf")
            except (OSError, safetensors.SafetensorError) as reason:
                raise self._error(
                    "bad-weights",
                    f"expected whole safetensors in {path}, found something "
                    f"else ({reason})",
                    _COPY,
                ) from reason
            self._files |= dict.fromkeys(file.keys(), file)

    def __contains__(self, name: str) -> bool:
        return self._stored_name(name) is not None

    def read(self, name: str, shape: tuple | None = None) -> np.ndarray:
        """Reads a tensor.

        Args:
            name: string, as a classifier's checkpoint has it.
            shape: tuple of ints, the shape that it must have.

        Returns:
            float32 array.

        Raises:
            InputError: there is no such tensor, or it has another shape, or
                its numbers are quantized.
        """
        stored_name = self._stored_name(name)
        if stored_name is None:
            raise self._error(
                "missing-tensor",
                f"expected the tensor {name} in the weights, found "
                f"{len(self._files)} others",
                "give a checkpoint that is whole, with the config.json that "
                "belongs to it",
            )
        file = self._files[stored_name]
        found = tuple(file.get_slice(stored_name).get_shape())
        if shape is not None and found != tuple(shape):
            raise self._error(
                "wrong-shape",
                f"expected {stored_name} of shape {list(shape)}, as "
                f"config.json makes it, found {list(found)}",
                "give the config.json that belongs to the weights",
            )
        tensor = file.get_tensor(stored_name)
        if not tensor.dtype.is_floating:
            raise self._error(
                "wrong-dtype",
                f"expected floating-point numbers in {stored_name}, found "
                f"{tensor.dtype.name}",
                "give a checkpoint that is not quantized",
            )
        return tf.cast(tensor, tf.float32).numpy()

    def _stored_name(self, name):
        names = [name]
        for ours, theirs in _OTHER_ENDINGS:
            if name.endswith(ours):
                names.append(name.removesuffix(ours) + theirs)
        names += [other.removeprefix(self._prefix) for other in names]
        return next((other for other in names if other in self._files), None)

    def _paths(self, folder):
        if (folder / WEIGHTS).is_file():
            return [folder / WEIGHTS]
        if not (folder / INDEX).is_file():
            raise self._error(
                "no-weights",
                f"expected the weights as {WEIGHTS} in {folder}, "
                + _instead_of_weights(folder),
                "give the folder of a whole checkpoint",
            )
        try:
            names = files.read_json(folder / INDEX)["weight_map"].values()
            return [folder / name for name in sorted(set(names))]
        except (InputError, LookupError, TypeError, AttributeError) as reason:
            raise self._error(
                "bad-index",
                "expected a JSON object with a weight_map in "
                f"{folder / INDEX}, found none",
                _COPY,
            ) from reason


def _instead_of_weights(folder):
    names = sorted(path.name for path in folder.iterdir())
    pickles = [n for n in names if n.endswith((".bin", ".pt", ".ckpt"))]
    if not pickles:
        return f"found {', '.join(names) or 'nothing'}"
    return (
        f"found {', '.join(pickles)}, a pickle, which is never opened: load it "
        "in PyTorch and save_pretrained() it anew"
    )
