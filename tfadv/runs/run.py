"""A trained classifier with all it needs to read text."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfadv.errors import InputError
from tfadv.runs.record import Record


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained classifier with all it needs to read text.

    Args:
        folder: `pathlib.Path`.
        record: `tfadv.runs.record.Record`, the content of `settings.json`.
        classifier: `tfadv.AdversarialClassifier`.
        tokenizer: `tfadv.Tokenizer`.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    run.predict_proba(["a gorgeous, witty film"])  # [[0.01, 0.99]]
    ```
    """

    folder: pathlib.Path
    record: Record
    classifier: Any
    tokenizer: Any

    @property
    def label_names(self) -> tuple[str, ...]:
        """Tuple of strings: class `i` is called `label_names[i]`."""
        return self.record.label_names

    def predict_proba(
        self, texts: Sequence[str], batch_size: int = 32
    ) -> np.ndarray:
        """Computes the class probabilities of texts.

        Args:
            texts: list of strings.
            batch_size: int.

        Returns:
            float32 array of shape `[texts, classes]`, in the texts' order.

        Raises:
            InputError: with code `"not-a-list-of-texts"`: it is one text.
        """
        from tfadv.data import batching
        from tfadv.datasets.examples import Examples

        if isinstance(texts, str | bytes):
            raise InputError(
                "not-a-list-of-texts",
                "expected a list of texts, found one text",
                "put it into a list",
                argument="texts",
            )
        if not len(texts):
            return np.zeros([0, len(self.label_names)], np.float32)
        examples = Examples(list(texts), np.zeros(len(texts), np.int32))
        tokenized = batching.tokenize(examples, self.tokenizer)
        return np.stack(
            batching.map_in_order(self._probabilities, tokenized, batch_size)
        )

    @functools.cached_property
    def _probabilities(self):
        import tensorflow as tf

        from tfadv.data import batching

        @tf.function(input_signature=batching.batch_spec(), autograph=False)
        def probabilities(inputs, labels):
            return tf.nn.softmax(self.classifier(inputs, training=False))

        return probabilities


def build_classifier(
    encoder: Any,
    record: Record,
    load_weights: bool = True,
    train_labels: np.ndarray | None = None,
) -> Any:
    """Builds the classifier that a run's record describes.

    Args:
        encoder: what `tfadv.Encoder.from_pretrained` opens.
        record: `tfadv.runs.record.Record`.
        load_weights: bool, whether to load the encoder's pretrained weights.
        train_labels: int array, the classes of the training examples. `None`
            builds the classifier without what only training needs.

    Returns:
        `tfadv.AdversarialClassifier`.

    Raises:
        InputError: the encoder cannot be opened, or an objective not built.

    Example:

    ```python
    folder = pathlib.Path("runs/freelb")
    record = run_folder.read_record(folder)
    build_classifier(folder / "encoder", record, load_weights=False)
    ```
    """
    from tfadv.encoders.encoder import Encoder
    from tfadv.objectives.registry import Context
    from tfadv.runs import methods
    from tfadv.update.classifier import AdversarialClassifier

    settings = record.settings
    encoder = Encoder.from_pretrained(
        encoder,
        load_weights=load_weights,
        perturb_at=settings.encoder.perturb_at,
        dtype=settings.encoder.precision,
    )
    context = Context(
        labels=train_labels,
        special_ids=record.special_ids,
        hidden_dim=encoder.hidden_dim,
        embedding_dim=encoder.token_embedding.output_dim,
        vocabulary_size=encoder.token_embedding.input_dim,
        seed=settings.optimization.seed,
    )
    return AdversarialClassifier(
        encoder,
        num_classes=len(record.label_names),
        adversary=record.adversary,
        objectives=methods.build_objectives(settings.objectives, context),
        dtype=settings.encoder.precision,
    )


def part_to_keep(classifier: Any) -> Any:
    """Returns what a run keeps of its classifier: all but memory banks.

    Its weights load into the `part_to_keep` of a classifier that
    `build_classifier` has built without training labels.

    Args:
        classifier: `tfadv.AdversarialClassifier`.

    Returns:
        `keras.Model` that shares the classifier's weights.
    """
    import keras

    # Weights are saved by the names of attributes.
    part = keras.Model()
    part.encoder = classifier.encoder
    part.head = classifier.head
    part.seed_generator = classifier.seed_generator
    part.objectives = [
        objective
        for objective in classifier.objectives
        if objective.kept_in_run
    ]
    part.built = True
    return part


def save_weights(classifier: Any, path: pathlib.Path) -> None:
    """Writes what a run keeps of its classifier.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        path: `pathlib.Path` of the file, ending in `.weights.h5`.

    Raises:
        OSError: the file cannot be written.
    """
    part = part_to_keep(classifier)
    size = sum(4 * math.prod(weight.shape) for weight in part.weights)
    try:
        # HDF5 can crash where it comes upon a full disk, so there is room.
        if hasattr(os, "posix_fallocate"):
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size + 2**20)
        part.save_weights(path)
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        raise OSError(str(error)) from error
