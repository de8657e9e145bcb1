"""What is attacked."""

import pathlib
import typing

import keras
import numpy as np

from tfadv.text.tokenizer import Tokenizer


class Trained(typing.Protocol):
    """A trained classifier that reads text: `tfadv.load` returns one.

    Attributes:
        folder: `pathlib.Path`, where it was opened.
        classifier: `tfadv.AdversarialClassifier`.
        tokenizer: `tfadv.Tokenizer`.
        label_names: tuple of strings.
    """

    folder: pathlib.Path
    classifier: keras.Model
    tokenizer: Tokenizer
    label_names: tuple[str, ...]

    def predict_proba(self, texts: list[str]) -> np.ndarray:
        """Computes the class probabilities of texts: `[texts, classes]`."""
