"""Runs as SavedModels, written whole or not at all.

A folder of SavedModels has a folder per version, as TensorFlow Serving reads
it: `1`, `2` and so on. Each holds, beside the SavedModel,

| file | content |
|---|---|
| `model_card.md` | data, method, settings, clean and attacked accuracy |
| `export.json` | which run it is of, its classes, how it was checked |
| `assets.extra/tf_serving_warmup_requests` | what a server runs first |
"""

import pathlib
import shutil

from tfadv import files
from tfadv.errors import InputError
from tfadv.export import model_card
from tfadv.runs.run import Run

DESCRIPTION = "export.json"
MODEL_CARD = "model_card.md"
WARM_UP = "assets.extra/tf_serving_warmup_requests"

# What a written SavedModel must answer as the classifier does, and what a
# server warms up with.
_TEXTS = (
    "",
    "dull",
    "a gorgeous, witty film",
    "[CLS] [SEP] <pad> na\u00efve \u0130\U0001f600 \x00",
    "it is not that the plot makes no sense: it is that nobody on the screen "
    "seems to have noticed, least of all the man who is paid to. " * 20,
)
# Between the classifier and its export, in a probability.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1}


def saved_model(
    run: Run, output_dir: str | pathlib.Path, precision: str = "float32"
) -> pathlib.Path:
    """Writes the next version of a SavedModel.

    Args:
        run: `tfadv.runs.run.Run`, opened in float32.
        output_dir: path of the folder of versions; made if there is none.
        precision: string, `"float32"` or `"bfloat16"`, see
            `tfadv.export.signatures.build_module`.

    Returns:
        `pathlib.Path` of the version, such as `output_dir/1`.

    Raises:
        InputError: the folder holds other things than exports, it cannot be
            written, or what was written does not answer as the classifier
            does. Versions that are there are never touched.

    Example:

    ```python
    run = tfadv.load("runs/freelb", precision="float32")
    saved_model(run, "exports/freelb")
    ```
    """
    import tensorflow as tf

    from tfadv.export import signatures

    output_dir = pathlib.Path(output_dir)
    number = max([0, *check_versions(output_dir)]) + 1
    partial = output_dir / f"{files.PARTIAL}{number}"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        module = signatures.build_module(run, precision)
        tf.saved_model.save(
            module,
            str(partial),
            signatures={
                name: getattr(module, name) for name in signatures.SIGNATURES
            },
        )
        difference = _check_answers(run, partial, precision)
        _write_warm_up(partial / WARM_UP)
        (partial / MODEL_CARD).write_text(
            model_card.model_card(run.folder), encoding="utf-8"
        )
        files.write_json(
            partial / DESCRIPTION,
            {
                "run_dir": str(run.folder),
                "label_names": list(run.label_names),
                "precision": precision,
                "largest_difference": difference,
            },
        )
        return partial.rename(output_dir / str(number))
    except (OSError, tf.errors.OpError) as error:
        raise files.unwritable(output_dir, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def size(folder: str | pathlib.Path) -> int:
    """Returns the bytes that a folder's files take."""
    paths = pathlib.Path(folder).rglob("*")
    return sum(path.stat().st_size for path in paths if path.is_file())


def check_versions(output_dir: str | pathlib.Path) -> list[int]:
    """Refuses a folder that holds anything but versions of an export.

    Args:
        output_dir: path; need not exist.

    Returns:
        List of ints, the versions in it.

    Raises:
        InputError: there are other files, or the path is a file.
    """
    output_dir = pathlib.Path(output_dir)
    files.check_is_folder(output_dir)
    if not output_dir.exists():
        return []
    names = [
        path.name
        for path in output_dir.iterdir()
        if not path.name.startswith(files.PARTIAL)
    ]
    others = [
        name
        for name in sorted(names)
        if not (name.isdecimal() and (output_dir / name / DESCRIPTION).exists())
    ]
    if others:
        raise InputError(
            "other-files",
            "expected a new folder or one of earlier exports (1, 2, ...), "
            f"found {', '.join(others[:5])}",
            "give another one",
            argument="output_dir",
            value=str(output_dir),
        )
    return [int(name) for name in names]


def _check_answers(run, folder, precision):
    """Returns the largest difference between probabilities, if it is small."""
    import numpy as np
    import tensorflow as tf

    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    answers = served(text=tf.constant(_TEXTS))["probabilities"].numpy()
    difference = float(np.max(np.abs(answers - run.predict_proba(_TEXTS))))
    # Written so that NaN fails, too.
    if not difference <= _TOLERANCE[precision]:
        raise InputError(
            "export-differs",
            "expected the SavedModel's probabilities to differ from the "
            f"classifier's by at most {_TOLERANCE[precision]}, found "
            f"{difference:.2g}",
            "nothing was exported; please report this with the run's "
            "settings.json",
        )
    return difference


def _write_warm_up(path):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for texts in (_TEXTS[:1], _TEXTS):
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = "serving_default"
            request.inputs["text"].CopyFrom(tf.make_tensor_proto(list(texts)))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(
                prediction_log_pb2.PredictionLog(
                    predict_log=log
                ).SerializeToString()
            )
