"""How well a classifier does on clean text."""

import keras
import numpy as np
import tensorflow as tf

from tfadv.data import batching


def evaluate(
    classifier: keras.Model,
    tokenized: batching.TokenizedExamples,
    batch_size: int = 32,
    verbose: bool = False,
) -> dict:
    """Measures a classifier on a tokenized split.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        tokenized: `tfadv.data.batching.TokenizedExamples`.
        batch_size: int. The result does not depend on it.
        verbose: bool, whether to show progress.

    Returns:
        dict: `accuracy`, `loss` (mean cross-entropy), `examples`, and
        `confusion`: a list of rows, one for each true class, with the counts
        of the predicted ones.

    Example:

    ```python
    from tfadv.datasets import catalogue

    run = tfadv.load("runs/freelb")
    dataset = catalogue.load("movie_reviews")
    test = batching.tokenize(dataset.test, run.tokenizer)
    evaluate(run.classifier, test)["accuracy"]
    ```
    """

    # Keras' `predict` would share out the batches among replicas.
    @tf.function(input_signature=batching.batch_spec(), autograph=False)
    def predict(inputs, labels):
        return classifier(inputs, training=False)

    logits = np.stack(
        batching.map_in_order(
            predict, tokenized, batch_size, "evaluating" if verbose else None
        )
    )
    labels = tokenized.labels
    predicted = np.argmax(logits, axis=1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    classes = logits.shape[1]
    confusion = np.zeros([classes, classes], np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "loss": float(np.mean(losses)),
        "examples": len(labels),
        "confusion": confusion.tolist(),
    }
