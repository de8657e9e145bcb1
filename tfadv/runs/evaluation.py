"""How well a classifier does on clean text."""

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfadv.data import batching


def evaluate(classifier, tokenized, batch_size=32, verbose=0):
    """Measures a classifier on a tokenized split.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        tokenized: `tfadv.data.batching.TokenizedExamples`.
        batch_size: int. The result does not depend on it.
        verbose: int. 1 shows a progress bar.

    Returns:
        dict: `accuracy`, `loss` (mean cross-entropy), `examples`, and
        `confusion`: a list of rows, a row a true class, with the counts of
        the predicted ones.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    dataset = tfadv.data.catalogue.load("movie_reviews")
    test = batching.tokenize(dataset.test, run.tokenizer)
    evaluate(run.classifier, test)["accuracy"]
    ```
    """
    batches = batching.evaluation_batches(tokenized, batch_size)
    # Keras' `predict` would share out the batches among replicas.
    predict = tf.function(
        lambda x: classifier(x, training=False),
        input_signature=batches.element_spec[:1],
        autograph=False,
    )
    # `None`: no bar where nobody watches, for stderr is for errors.
    progress = tqdm(batches, "evaluating", disable=not verbose or None)
    logits = np.concatenate([predict(x).numpy() for x, _ in progress])
    labels = tokenized.labels[tokenized.order_by_length()]
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
