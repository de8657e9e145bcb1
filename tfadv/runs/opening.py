"""Opens a trained classifier: a run's folder, or a Hugging Face checkpoint."""

import dataclasses
import pathlib
import warnings

from tfadv.encoders import families
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.runs import methods, run_folder
from tfadv.runs.record import Record
from tfadv.runs.run import Run, build_classifier
from tfadv.runs.settings import EncoderSettings, Settings
from tfadv.sources.checkpoint import CONFIG, TOKENIZER_CONFIG, Checkpoint
from tfadv.sources.families import classifier_dropout
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
    if _is_classifier(folder):
        return load_checkpoint(folder, argument, precision)
    record = run_folder.read_record(folder, argument)
    if precision is not None:
        record = _with_precision(record, precision)
    blamed = {"argument": argument, "value": str(folder)}
    run_folder.check_whole(folder, argument)
    checkpoint = Checkpoint(folder / run_folder.ENCODER, **blamed)
    try:
        classifier = build_classifier(checkpoint, record, load_weights=False)
        tokenizer = Tokenizer.from_pretrained(
            checkpoint, record.settings.encoder.max_length
        )
        classifier.encoder.check_tokenizer(tokenizer, **blamed)
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


def _is_classifier(folder):
    """Tells whether a folder is no run but a Hugging Face classifier."""
    if any(
        (folder / name).exists()
        for name in (run_folder.RECORD, run_folder.OLD_RECORD)
    ):
        return False
    try:
        return Checkpoint(folder).is_classifier
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
        return _load_checkpoint(Checkpoint(folder, **blamed), precision)
    except InputError as error:
        raise error.blaming(**blamed) from error
    except _BAD_CONTENT as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            "bad-checkpoint",
            f"{CONFIG} does not describe a classifier "
            f"({type(error).__name__}: {reason})",
            "copy it anew from where it comes from",
            **blamed,
        ) from error


def _load_checkpoint(checkpoint, precision):
    label_names = _label_names(checkpoint)
    facts = checkpoint.config_json.get("tfadv", {})
    encoder = Encoder.from_pretrained(
        checkpoint,
        load_weights=False,
        perturb_at=facts.get("perturb_at", "word_embeddings"),
        dtype=precision or facts.get("precision", "float32"),
    )
    classifier = AdversarialClassifier(
        encoder,
        num_classes=len(label_names),
        dropout=classifier_dropout(checkpoint),
        dtype=encoder.dtype_policy,
    )
    families.assign(families.classifier_parameters(classifier), checkpoint)
    max_length = facts.get("max_length") or _max_length(
        checkpoint, encoder.max_sequence_length
    )
    tokenizer = Tokenizer.from_pretrained(checkpoint, max_length)
    encoder.check_tokenizer(tokenizer)
    method = facts.get("method")
    record = Record(
        Settings(
            # An outside method predicts without the module that registers it.
            method=method if method in methods.registered() else "baseline",
            encoder=EncoderSettings(
                name=facts.get("encoder", str(checkpoint.folder)),
                max_length=max_length,
                perturb_at=encoder.perturb_at,
                precision=encoder.dtype_policy.name,
            ),
        ),
        dataset=facts.get("dataset", "unknown"),
        label_names=tuple(label_names),
        special_ids=tuple(tokenizer.special_ids),
    )
    return Run(checkpoint.folder, record, classifier, tokenizer)


def _label_names(checkpoint):
    """The names of a classifier's classes, in order."""
    config = checkpoint.config_json
    if not checkpoint.is_classifier:
        raise InputError(
            "no-classifier",
            "expected AlbertForSequenceClassification or "
            "BertForSequenceClassification as the architecture in "
            f"{CONFIG}, found {config.get('architectures')}",
            "give the checkpoint of a classifier",
        )
    expected = "single_label_classification"
    problem = config.get("problem_type") or expected
    if problem != expected:
        raise InputError(
            "not-single-label",
            f"expected problem_type={expected!r} in {CONFIG}, "
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
            f"{CONFIG} must name two or more classes in id2label, "
            "with the ids 0, 1 and so on, found the ids "
            f"{', '.join(labels) or '(none)'}",
            "correct id2label",
        )
    return [str(labels[i]) for i in ids]


def _max_length(checkpoint, positions):
    """The number of tokens that another's tokenizer cuts texts to."""
    try:
        settings = checkpoint.read_json(TOKENIZER_CONFIG)
        # Where there is no limit, transformers writes 10^30.
        return int(min(settings["model_max_length"], positions))
    except (InputError, ValueError, KeyError, TypeError):
        return positions
