"""Text to ids, the same graph in training and in serving.

A `Tokenizer` is built only of TensorFlow ops, so a `tf.data` pipeline and an
exported SavedModel run the very function that the tests compare with the
originals: Google's ALBERT preprocessing and Hugging Face's `BertTokenizer`.
"""

import importlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfadv.errors import InputError
from tfadv.sources import names
from tfadv.sources.checkpoint import TOKENIZER_CONFIG, Checkpoint
from tfadv.text import loading

# Family -> module and class, which are imported when they are asked for.
_FAMILIES = {
    "albert": ("sentencepiece", "AlbertTokenizer"),
    "bert": ("wordpiece", "BertTokenizer"),
}


Texts: TypeAlias = Sequence[str] | np.ndarray | tf.Tensor
Ids: TypeAlias = Sequence | np.ndarray | tf.Tensor | tf.RaggedTensor


class Tokenizer(tf.Module):
    """Turns texts into the ids that a pretrained encoder reads.

    `Tokenizer.from_pretrained` picks the subclass: `AlbertTokenizer` or
    `BertTokenizer`. A tokenizer runs eagerly, inside `tf.data` and
    `tf.function`, and is saved with a SavedModel that serves raw text.
    Texts are UTF-8; other bytes become U+FFFD. A text that spells a control
    token, such as `"[SEP]"`, stays text: it never gets a control id.

    Args:
        pieces: list of strings, the vocabulary in order of ids.
        special: tuple of five strings, the pieces for padding, for what is
            unknown, for the begin and the end of a text, and for the mask.
        max_length: int, how many ids a text may have, special ones included.

    Attributes:
        max_length: int.
        vocabulary_size: int.
        pad_id, unk_id, cls_id, sep_id, mask_id: int.
        special_ids: tuple of these five.

    Example:

    ```python
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2")
    inputs = tokenizer(["a gorgeous, witty film", "dull"])
    inputs["token_ids"].shape  # (2, 7)
    tokenizer.detokenize(inputs["token_ids"][1])  # "dull"
    ```
    """

    def __init__(
        self,
        pieces: list[str],
        special: tuple[str, str, str, str, str],
        max_length: int,
    ):
        super().__init__()
        if max_length < 3:
            raise InputError(
                "max-length-too-small",
                f"expected at least 3, found {max_length}: {special[2]} and "
                f"{special[3]} take two ids of it",
                "give 3 or more",
                argument="max_length",
            )
        missing = sorted(set(special) - set(pieces))
        if missing:
            raise InputError(
                "missing-pieces",
                f"expected {', '.join(special)} in the vocabulary, found no "
                f"{', '.join(missing)}",
                "take the vocabulary that belongs to the encoder",
                argument="encoder",
            )
        self._pieces = np.array(pieces, object)
        self.max_length = int(max_length)
        self.vocabulary_size = len(pieces)
        index = {piece: i for i, piece in enumerate(pieces)}
        self.special_ids = tuple(index[piece] for piece in special)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.special_ids
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike | Checkpoint,
        max_length: int | None = None,
    ) -> "Tokenizer":
        """Makes the tokenizer that belongs to a pretrained encoder.

        Args:
            name_or_folder: string or path, as `tfadv.sources.names.resolve`
                takes it: a folder in the layout of Hugging Face
                (`spiece.model`, or `vocab.txt` or `tokenizer.json`) or of a
                KerasHub preset, or a name; or what
                `tfadv.sources.names.open_checkpoint` returns.
            max_length: int, how many ids a text may have, special ones
                included. Defaults to the value with which `save` wrote the
                folder, else 128.

        Returns:
            `AlbertTokenizer` or `BertTokenizer`.

        Raises:
            InputError: the folder lacks a file, a file is not what it should
                be, or the encoder is of another family.

        Example:

        ```python
        tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 64)
        ```
        """
        checkpoint = names.open_checkpoint(name_or_folder)
        try:
            return cls._of_checkpoint(checkpoint, max_length)
        except InputError as error:
            if error.argument == "encoder":
                # The constructor does not know what to blame.
                raise checkpoint.error(
                    error.code, error.problem, error.remedy
                ) from error
            raise
        except (
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            reason = str(error).strip().split("\n")[0]
            raise checkpoint.error(
                "bad-tokenizer",
                "expected the files of a tokenizer in "
                f"{checkpoint.folder}, found others ({type(error).__name__}: "
                f"{reason})",
                "copy them anew from where the encoder comes from",
            ) from error

    @classmethod
    def _of_checkpoint(cls, checkpoint, max_length):
        settings = loading.read_settings(checkpoint)
        known = [k for k in _FAMILIES if issubclass(_tokenizer_class(k), cls)]
        family = checkpoint.family
        if family not in known:
            raise checkpoint.error(
                "unsupported-family",
                f"expected the tokenizer of the family {' or '.join(known)} in "
                f"{checkpoint.folder}, found {family!r}",
                "choose an encoder of that family",
            )
        if max_length is None:
            max_length = settings.get("tfadv_max_length", 128)
        return _tokenizer_class(family)._load(checkpoint, settings, max_length)

    def tokenize(self, texts: Texts) -> tf.RaggedTensor:
        """Turns texts into rows of ids, each as long as its text needs.

        Args:
            texts: list, numpy array or tensor `[batch]` of strings.

        Returns:
            `tf.RaggedTensor` `[batch, (tokens)]`, int32: `cls_id`, the ids of
            the text up to `max_length` in all, `sep_id`.
        """
        texts = tf.ensure_shape(tf.convert_to_tensor(texts, tf.string), [None])
        ids = self._tokenize(texts)[:, : self.max_length - 2]
        ends = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        return tf.concat([ends * self.cls_id, ids, ends * self.sep_id], axis=1)

    def __call__(self, texts: Texts) -> dict[str, tf.Tensor]:
        """Turns texts into the inputs of an encoder.

        Args:
            texts: list, numpy array or tensor `[batch]` of strings.

        Returns:
            dict of int32 tensors `[batch, longest of the batch]`:
            `"token_ids"`, padded with `pad_id`; `"padding_mask"`, 1 for an id
            of the text and 0 for padding; `"segment_ids"`, all 0.
        """
        ids = self.tokenize(texts)
        token_ids = ids.to_tensor(self.pad_id)
        mask = tf.sequence_mask(
            ids.row_lengths(), tf.shape(token_ids)[1], tf.int32
        )
        return {
            "token_ids": token_ids,
            "padding_mask": mask,
            "segment_ids": tf.zeros_like(token_ids),
        }

    def ids_to_tokens(self, ids: Ids) -> list:
        """Names ids; runs on the host, not in a graph.

        Args:
            ids: list, array, tensor or ragged tensor of ids `[tokens]` or
                `[batch, tokens]`.

        Returns:
            list of piece strings, or a list of such lists.
        """
        return [
            self._pieces[row] if np.ndim(row) == 0 else self.ids_to_tokens(row)
            for row in _to_lists(ids)
        ]

    def detokenize(self, ids: Ids) -> str | list[str]:
        """Puts ids back together as text; runs on the host, not in a graph.

        The text is for reading. It is not the one that was tokenized: case,
        accents and some of the spaces are gone.

        Args:
            ids: as for `ids_to_tokens`.

        Returns:
            string, or list of strings for a batch. Padding and the control
            tokens are left out; unknown ids show as the unknown piece.
        """
        ids = _to_lists(ids)
        if any(np.ndim(row) for row in ids):
            return [self._text(row) for row in ids]
        return self._text(ids)

    def _text(self, ids):
        hidden = set(self.special_ids) - {self.unk_id}
        return self._join(self._pieces[i] for i in ids if i not in hidden)

    def starts_word(self, ids: Sequence | np.ndarray | tf.Tensor) -> np.ndarray:
        """Tells which pieces begin a word; runs on the host, not in a graph.

        Args:
            ids: list, array or tensor of ids.

        Returns:
            bool array of the shape of `ids`. Control tokens begin a word.
        """
        starts = [
            i in self.special_ids or self._starts_word(self._pieces[i])
            for i in np.ravel(ids)
        ]
        return np.reshape(np.array(starts, bool), np.shape(ids))

    def check_fits(
        self,
        positions: int,
        rows: int,
        argument: str = "encoder",
        value: str | os.PathLike | None = None,
    ) -> None:
        """Refuses to give more than an encoder can read.

        Args:
            positions: int, the longest text that the encoder reads, in tokens.
            rows: int, the number of its word embeddings.
            argument: string, the argument to blame in error messages.
            value: string or path, the given value of that argument.

        Raises:
            InputError: texts may be too long, or ids too high.
        """
        blame: dict[str, Any] = {
            "argument": argument,
            "value": value and os.fspath(value),
        }
        if self.max_length > positions:
            raise InputError(
                "max-length-too-large",
                f"expected a `max_length` of at most {positions} tokens, which "
                f"the encoder reads, found {self.max_length}",
                "give that or less",
                **blame,
            )
        if self.vocabulary_size > rows:
            raise InputError(
                "vocabulary-too-large",
                f"expected a vocabulary of at most {rows} pieces, for which "
                f"the encoder has embeddings, found {self.vocabulary_size}",
                "take the vocabulary that belongs to the encoder",
                **blame,
            )

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the vocabulary and `tokenizer_config.json`.

        `from_pretrained` makes an identical tokenizer from the folder, and so
        does `transformers`.

        Args:
            folder: string or path; it is made if it does not exist.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_vocabulary(folder)
        pad, unk, cls, sep, mask = self.ids_to_tokens(self.special_ids)
        settings = {
            "tokenizer_class": type(self).__name__,
            "model_max_length": self.max_length,
            "tfadv_max_length": self.max_length,
            **self._settings(),
            "pad_token": pad,
            "unk_token": unk,
            "cls_token": cls,
            "sep_token": sep,
            "mask_token": mask,
        }
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        path = folder / TOKENIZER_CONFIG
        path.write_text(text, encoding="utf-8")


def _to_lists(ids):
    """Makes a list of a tensor or array, and a list of lists of a batch."""
    if hasattr(ids, "numpy"):
        ids = ids.numpy()
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)


def _tokenizer_class(family):
    module, name = _FAMILIES[family]
    return getattr(importlib.import_module(f"tfadv.text.{module}"), name)
