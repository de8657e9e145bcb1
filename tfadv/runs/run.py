"""A trained classifier with all it needs to read text."""

import dataclasses
import functools
import math
import os
import pathlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained classifier with all it needs to read text.

    Args:
        folder: `pathlib.Path`.
        description: dict, the content of `run.json`.
        classifier: `tfadv.AdversarialClassifier`.
        tokenizer: `tfadv.Tokenizer`.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    run.predict_proba(["a gorgeous, witty film"])  # [[0.01, 0.99]]
    ```
    """

    folder: pathlib.Path
    description: dict
    classifier: object
    tokenizer: object

    @property
    def label_names(self):
        """Tuple of strings: class `i` is called `label_names[i]`."""
        return tuple(self.description["label_names"])

    def predict_proba(self, texts, batch_size=32):
        """Computes the class probabilities of texts.

        Args:
            texts: list of strings.
            batch_size: int.

        Returns:
            float32 array of shape `[texts, classes]`, in the texts' order.
        """
        from tfadv.data import batching
        from tfadv.data.examples import Examples

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
    encoder, description, load_weights=True, train_labels=None, seed=None
):
    """Builds the classifier that a run's description speaks of.

    Args:
        encoder: name or folder of the pretrained encoder.
        description: dict, the content of `run.json`.
        load_weights: bool, whether to load the encoder's pretrained weights.
        train_labels: int array, the classes of the training examples. `None`
            builds the classifier without what only training needs.
        seed: int, of the draws of negatives.

    Returns:
        `tfadv.AdversarialClassifier`.
    """
    from tfadv.adversaries.freelb import FreeLB
    from tfadv.encoders.encoder import Encoder
    from tfadv.runs import methods
    from tfadv.update.classifier import AdversarialClassifier

    precision = description["precision"]
    encoder = Encoder.from_pretrained(
        encoder,
        load_weights=load_weights,
        perturb_at=description["perturb_at"],
        dtype=precision,
    )
    adversary = description["adversary"]
    return AdversarialClassifier(
        encoder,
        num_classes=len(description["label_names"]),
        adversary=None if adversary is None else FreeLB(**adversary),
        objectives=methods.build_objectives(
            description["objectives"], encoder.hidden_dim, train_labels, seed
        ),
        dtype=precision,
    )


def kept_part(classifier):
    """Returns what a run keeps of its classifier: all but memory banks.

    Its weights load into a classifier that `build_classifier` has built
    without training labels.
    """
    import keras

    # Weights are saved by the names of attributes.
    part = keras.Model()
    part.encoder = classifier.encoder
    part.head = classifier.head
    part.seed_generator = classifier.seed_generator
    part.objectives = [o for o in classifier.objectives if o.kept_in_run]
    part.built = True
    return part


def save_weights(classifier, path):
    """Writes what a run keeps of its classifier.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        path: `pathlib.Path` of the file, ending in `.weights.h5`.

    Raises:
        OSError: the file cannot be written.
    """
    part = kept_part(classifier)
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
