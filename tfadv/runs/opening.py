"""Opens a trained classifier: a run's folder, or a Hugging Face checkpoint."""

import dataclasses
import json
import pathlib
import warnings

from tfadv import files
from tfadv.encoders import families
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.runs import methods, run_folder
from tfadv.runs.record import Record
from tfadv.runs.run import Run, build_classifier
from tfadv.runs.settings import EncoderSettings, Settings
from tfadv.sources import checkpoint as checkpoints
from tfadv.text.tokenizer import Tokenizer
from tfadv.update.classifier import AdversarialClassifier


# What code raises that reads a file of another form than it expects.
_BAD_CONTENT = (AttributeError, LookupError, TypeError, ValueError)


def load(
    folder: str | pathlib.Path,
    argument: str = "run_dir",
    precision: str | None = None,
) -> Run:
    """Opens a trained classifier.

    Args:
        folder: path of a run's folder, or of a classifier's Hugging Face
            checkpoint, see `tfadv.runs.opening.load_checkpoint`.
        argument: string, the argument that named the folder, for error
            messages.
        precision: string, of the encoder's computations; by default the one
            that the run was trained with.

    Returns:
        `Run`, with `classifier`, `tokenizer`, `label_names` and
        `predict_proba(texts)`.

    Raises:
        InputError: with the code `"no-run"`, `"not-whole"`, `"bad-record"`,
            `"bad-weights"` or `"unknown-method"`.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    run.predict_proba(["a gorgeous, witty film"])
    ```
    """
    folder = pathlib.Path(folder)
    if _is_checkpoint(folder):
        return load_checkpoint(folder, argument, precision)
    record = run_folder.read_record(folder, argument)
    if precision is not None:
        record = _with_precision(record, precision)
    blamed = {"argument": argument, "value": str(folder)}
    for name, remedy in (
        (run_folder.RESULTS, "train with the same settings to go on with it"),
        (run_folder.WEIGHTS, "train it again with `overwrite`"),
    ):
        if not (folder / name).exists():
            raise InputError(
                "not-whole",
                f"this run is not whole, it has no {name}",
                remedy,
                **blamed,
            )
    try:
        classifier = build_classifier(
            folder / run_folder.ENCODER, record, load_weights=False
        )
        tokenizer = Tokenizer.from_pretrained(
            folder / run_folder.ENCODER, record.settings.encoder.max_length
        )
        classifier.encoder.check_tokenizer(tokenizer, f"--run_dir={folder}")
    except InputError as error:
        raise error.blaming(**blamed) from error
    except _BAD_CONTENT as error:
        raise InputError(
            "bad-record",
            f"{run_folder.RECORD} and {run_folder.ENCODER} do not describe a "
            f"classifier ({type(error).__name__}: {error})",
            "train it again with `overwrite`",
            **blamed,
        ) from error
    try:
        with warnings.catch_warnings():
            # Of what the file lacks, which the error tells.
            warnings.simplefilter("ignore")
            classifier.load_weights(folder / run_folder.WEIGHTS)
    # Where its bytes have changed, h5py raises what it stumbles upon.
    except (*_BAD_CONTENT, OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            "bad-weights",
            f"{run_folder.WEIGHTS} does not hold this run's weights ({reason})",
            "train it again with `overwrite`",
            **blamed,
        ) from error
    return Run(folder, record, classifier, tokenizer)


def _with_precision(record, precision):
    settings = record.settings
    encoder = dataclasses.replace(settings.encoder, precision=precision)
    return dataclasses.replace(
        record, settings=dataclasses.replace(settings, encoder=encoder)
    )


def _is_checkpoint(folder):
    """Tells whether a folder is no run but a Hugging Face classifier."""
    if any(
        (folder / name).exists()
        for name in (run_folder.RECORD, run_folder.OLD_RECORD)
    ):
        return False
    try:
        return checkpoints.is_classifier_config(
            files.read_json(folder / checkpoints.CONFIG)
        )
    except InputError:
        return False


def load_checkpoint(
    folder: str | pathlib.Path,
    argument: str = "run_dir",
    precision: str | None = None,
) -> Run:
    """Opens a classifier's Hugging Face checkpoint as a run.

    Args:
        folder: path of what `save` wrote, or of any
            `AlbertForSequenceClassification` or
            `BertForSequenceClassification` with its weights as safetensors.
        argument: string, the argument that named the folder, for error
            messages.
        precision: string, of the encoder's computations; by default the one
            that the run was trained with, else `"float32"`.

    Returns:
        `tfadv.runs.run.Run`, which predicts. Its classifier has no
        adversary and no objectives.

    Raises:
        InputError: the folder is no such checkpoint, or not a whole one.

    Example:

    ```python
    run = opening.load_checkpoint("exported")
    run.predict_proba(["a gorgeous, witty film"])
    ```
    """
    folder = pathlib.Path(folder)
    blamed = {"argument": argument, "value": str(folder)}
    try:
        return _load_checkpoint(folder, precision)
    except InputError as error:
        raise error.blaming(**blamed) from error
    except _BAD_CONTENT as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            "bad-checkpoint",
            f"{checkpoints.CONFIG} does not describe a classifier "
            f"({type(error).__name__}: {reason})",
            "copy it anew from where it comes from",
            **blamed,
        ) from error


def _load_checkpoint(folder, precision):
    config = checkpoints.read_config(folder)
    label_names = _label_names(config)
    checkpoint = checkpoints.Checkpoint(folder)
    facts = config.get("tfadv", {})
    encoder = Encoder.from_pretrained(
        folder,
        load_weights=False,
        # Given, so that unequal rates, of no effect here, are not refused.
        dropout=config.get("hidden_dropout_prob", 0.1),
        perturb_at=facts.get("perturb_at", "word_embeddings"),
        dtype=precision or facts.get("precision", "float32"),
    )
    classifier = AdversarialClassifier(
        encoder,
        num_classes=len(label_names),
        dropout=_classifier_dropout(config),
        dtype=encoder.dtype_policy,
    )
    parameters = families.parameters(classifier, families.family_of(classifier))
    for name, parameter in parameters.items():
        parameter.assign(checkpoint.read(name, parameter.shape))
    max_length = facts.get("max_length") or _max_length(
        folder, encoder.max_sequence_length
    )
    tokenizer = Tokenizer.from_pretrained(folder, max_length)
    encoder.check_tokenizer(tokenizer)
    method = facts.get("method")
    record = Record(
        Settings(
            # An outside method predicts without the module that registers it.
            method=method if method in methods.registered() else "baseline",
            encoder=EncoderSettings(
                name=facts.get("encoder", str(folder)),
                max_length=max_length,
                perturb_at=encoder.perturb_at,
                precision=encoder.dtype_policy.name,
            ),
        ),
        dataset=facts.get("dataset", "unknown"),
        label_names=tuple(label_names),
        special_ids=tuple(tokenizer.special_ids),
    )
    return Run(folder, record, classifier, tokenizer)


def _label_names(config):
    """The names of a classifier's classes, in order."""
    if not checkpoints.is_classifier_config(config):
        raise InputError(
            "no-classifier",
            "expected AlbertForSequenceClassification or "
            "BertForSequenceClassification as the architecture in "
            f"{checkpoints.CONFIG}, found {config.get('architectures')}",
            "give the checkpoint of a classifier",
        )
    expected = "single_label_classification"
    problem = config.get("problem_type") or expected
    if problem != expected:
        raise InputError(
            "not-single-label",
            f"expected problem_type={expected!r} in {checkpoints.CONFIG}, "
            f"found {problem!r}",
            "give a classifier whose classes exclude each other",
        )
    labels = config.get("id2label")
    if labels is None:  # transformers leaves out its defaults
        count = config.get("num_labels", 2)
        labels = {str(i): f"LABEL_{i}" for i in range(count)}
    ids = [str(i) for i in range(len(labels))]
    if len(ids) < 2 or set(labels) != set(ids):
        raise InputError(
            "bad-labels",
            f"{checkpoints.CONFIG} must name two or more classes in id2label, "
            "with the ids 0, 1 and so on, found the ids "
            f"{', '.join(labels) or '(none)'}",
            "correct id2label",
        )
    return [str(labels[i]) for i in ids]


def _classifier_dropout(config):
    rate = config.get(families.CLASSIFIER_DROPOUT[config["model_type"]])
    return config.get("hidden_dropout_prob", 0.1) if rate is None else rate


def _max_length(folder, positions):
    """The number of tokens that another's tokenizer cuts texts to."""
    try:
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        # Where there is no limit, transformers writes 10^30.
        return int(min(settings["model_max_length"], positions))
    except (OSError, ValueError, KeyError, TypeError):
        return positions
