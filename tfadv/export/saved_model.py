"""Exports of a run, written whole or not at all.

A folder of SavedModels has a version a folder, as TensorFlow Serving reads
it: `1`, `2` and so on. Each holds, beside the SavedModel,

| file | content |
|---|---|
| `model_card.md` | data, method, settings, clean and attacked accuracy |
| `export.json` | which run it is of, its classes, how it was checked |
| `assets.extra/tf_serving_warmup_requests` | what a server runs first |
"""

import dataclasses
import json
import pathlib
import shutil

from tfadv import files
from tfadv.errors import InputError
from tfadv.export import model_card

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


def saved_model(run, output_dir, precision="float32"):
    """Writes the next version of a SavedModel.

    Args:
        run: `tfadv.runs.run.Run`, opened in float32.
        output_dir: path of the folder of versions; made if it is not there.
        precision: string, `"float32"` or `"bfloat16"`, see
            `tfadv.export.signatures.build_module`.

    Returns:
        `pathlib.Path` of the version, such as `output_dir/1`.

    Raises:
        InputError: the folder is not one of exports, it cannot be written, or
            what was written does not answer as the classifier does. Versions
            that are there are never touched.

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


def transformers_checkpoint(run, output_dir, overwrite=False):
    """Writes a checkpoint that transformers opens.

    Args:
        run: `tfadv.runs.run.Run`.
        output_dir: path of its folder.
        overwrite: bool, whether an earlier export in it is replaced.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        InputError: the folder is in use or cannot be written.

    Example:

    ```python
    transformers_checkpoint(tfadv.load("runs/freelb"), "exports/freelb_hf")
    ```
    """
    from tfadv.export import hugging_face

    output_dir = pathlib.Path(output_dir)
    check_checkpoint(output_dir, overwrite)
    partial = output_dir.with_name(files.PARTIAL + output_dir.name)
    replaced = output_dir.with_name(f"{partial.name}.replaced")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        hugging_face.save(run, partial)
        # The name under which the hub looks for it.
        (partial / "README.md").write_text(
            model_card.model_card(run.folder, "transformers"), encoding="utf-8"
        )
        if output_dir.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            output_dir.rename(replaced)
        return partial.rename(output_dir)
    except OSError as error:
        raise files.unwritable(output_dir, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How an export's answers differ from those of its run.

    Args:
        examples: int, texts that both have answered.
        different_classes: int, texts that they put into different classes.
        largest_difference: float, of a probability.
        run_accuracy, export_accuracy: float.
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


def compare(run, saved_model_dir, examples, progress=iter):
    """Compares the answers of a SavedModel with those of its run.

    Args:
        run: `tfadv.runs.run.Run`.
        saved_model_dir: path of a version that `saved_model` has written.
        examples: `tfadv.data.examples.Examples`.
        progress: callable that wraps an iterable, such as `tqdm.tqdm`.

    Returns:
        `Comparison`.
    """
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(str(saved_model_dir))
    served = loaded.signatures["serving_default"]
    starts = range(0, len(examples), 256)
    found = np.concatenate(
        [
            served(text=tf.constant(examples.texts[i : i + 256]))[
                "probabilities"
            ]
            for i in progress(starts)
        ]
    )
    expected = run.predict_proba(examples.texts)
    classes, wanted = np.argmax(found, axis=1), np.argmax(expected, axis=1)
    return Comparison(
        examples=len(examples),
        different_classes=int(np.sum(classes != wanted)),
        largest_difference=float(np.max(np.abs(found - expected))),
        run_accuracy=float(np.mean(wanted == examples.labels)),
        export_accuracy=float(np.mean(classes == examples.labels)),
    )


def size(folder):
    """Returns the bytes that a folder's files take."""
    files = pathlib.Path(folder).rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def check_versions(output_dir):
    """Refuses a folder that holds anything but SavedModels of ours.

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
            f"--output_dir={output_dir}: expected a new folder or one of "
            f"earlier exports (1, 2, ...), found {', '.join(others[:5])}; "
            "give another one"
        )
    return [int(name) for name in names]


def check_checkpoint(output_dir, overwrite):
    """Refuses a folder that is not free for a transformers checkpoint.

    Args:
        output_dir: path; need not exist.
        overwrite: bool, whether an earlier export may be replaced.

    Raises:
        InputError: the folder is in use, or the path is a file.
    """
    output_dir = pathlib.Path(output_dir)
    files.check_is_folder(output_dir)
    if not output_dir.exists() or not any(output_dir.iterdir()):
        return
    if not _is_our_checkpoint(output_dir):
        raise InputError(
            f"--output_dir={output_dir}: the folder is in use and holds no "
            "export of ours; give a new or an empty folder"
        )
    if not overwrite:
        raise InputError(
            f"--output_dir={output_dir}: the folder already holds an export; "
            "give another one, or --overwrite to replace it"
        )


def _is_our_checkpoint(folder):
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "tfadv" in config


def _check_answers(run, folder, precision):
    """Compares a written SavedModel with the classifier it is of.

    Returns:
        float, the largest difference of a probability.
    """
    import numpy as np
    import tensorflow as tf

    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    found = served(text=tf.constant(_TEXTS))["probabilities"].numpy()
    difference = float(np.max(np.abs(found - run.predict_proba(_TEXTS))))
    # Not "greater", which a NaN is not.
    if not difference <= _TOLERANCE[precision]:
        raise InputError(
            f"the SavedModel's probabilities differ from the classifier's by "
            f"{difference:.2g}, expected at most {_TOLERANCE[precision]}; "
            "nothing was exported"
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
