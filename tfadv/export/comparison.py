"""How the answers of an export differ from those of its run."""

import dataclasses
import pathlib

from tfadv import progress
from tfadv.datasets.examples import Examples
from tfadv.runs.run import Run

_TEXTS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How an export's answers differ from those of its run.

    Args:
        examples: int, texts that both have answered.
        different_classes: int, texts that they put into different classes.
        largest_difference: float, of a probability.
        run_accuracy: float.
        export_accuracy: float.
    """

    examples: int
    different_classes: int
    largest_difference: float
    run_accuracy: float
    export_accuracy: float

    def __str__(self):
        return (
            f"{self.examples:,} texts, {self.different_classes} in another "
            "class, probabilities differ by at most "
            f"{self.largest_difference:.2g}; accuracy {self.run_accuracy:.2%}"
            f" -> {self.export_accuracy:.2%}"
        )


def compare(
    run: Run, saved_model_dir: str | pathlib.Path, examples: Examples
) -> Comparison:
    """Compares the answers of a SavedModel with those of its run.

    Args:
        run: `tfadv.runs.run.Run`.
        saved_model_dir: path of a version that
            `tfadv.export.saved_model.export` has written.
        examples: `tfadv.datasets.examples.Examples`.

    Returns:
        `Comparison`.

    Example:

    ```python
    run = tfadv.load("runs/freelb", precision="float32")
    folder = saved_model.saved_model(run, "exports/freelb")
    print(compare(run, folder, dataset.test))
    ```
    """
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(str(saved_model_dir))
    served = loaded.signatures["serving_default"]
    starts = range(0, len(examples), _TEXTS_AT_ONCE)
    answers = [
        served(text=tf.constant(examples.texts[i : i + _TEXTS_AT_ONCE]))
        for i in progress.track(starts, "comparing")
    ]
    probabilities = np.concatenate(
        [answer["probabilities"] for answer in answers]
    )
    expected = run.predict_proba(examples.texts)
    classes = np.argmax(probabilities, axis=1)
    wanted = np.argmax(expected, axis=1)
    return Comparison(
        examples=len(examples),
        different_classes=int(np.sum(classes != wanted)),
        largest_difference=float(np.max(np.abs(probabilities - expected))),
        run_accuracy=float(np.mean(wanted == examples.labels)),
        export_accuracy=float(np.mean(classes == examples.labels)),
    )
