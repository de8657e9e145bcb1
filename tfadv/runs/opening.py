"""Opens a trained classifier: a run's folder, or a Hugging Face checkpoint."""

import json
import pathlib
import warnings

from tfadv.encoders import families
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.runs import run_folder
from tfadv.runs.run import Run, build_classifier
from tfadv.sources import checkpoint as checkpoints
from tfadv.text.tokenizer import Tokenizer
from tfadv.update.classifier import AdversarialClassifier


def load(folder, flag="--run_dir", precision=None):
    """Opens a trained classifier.

    Args:
        folder: path of the folder that `tools.train` wrote, or of a
            classifier's Hugging Face checkpoint, see
            `tfadv.runs.opening.load_checkpoint`.
        flag: string, the flag that named the folder, for error messages.
        precision: string, of the encoder's computations; by default the one
            the run was trained with.

    Returns:
        `Run`, with `classifier`, `tokenizer`, `label_names` and
        `predict_proba(texts)`.

    Raises:
        InputError: the folder is not a whole run, or of another version.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    run.predict_proba(["a gorgeous, witty film"])
    ```
    """
    folder = pathlib.Path(folder)
    if _is_checkpoint(folder):
        return load_checkpoint(folder, flag, precision)
    description = run_folder.read_description(folder, flag)
    if precision is not None:
        description["precision"] = precision
    for name, remedy in (
        (run_folder.RESULTS, "give its command again to go on with it"),
        (run_folder.WEIGHTS, "train it again with --overwrite"),
    ):
        if not (folder / name).exists():
            raise InputError(
                f"{flag}={folder}: this run is not whole, it has no {name}; "
                f"{remedy}"
            )
    try:
        classifier = build_classifier(
            folder / run_folder.ENCODER, description, load_weights=False
        )
        tokenizer = Tokenizer.from_pretrained(
            folder / run_folder.ENCODER, description["max_length"]
        )
        classifier.encoder.check_tokenizer(tokenizer, f"{flag}={folder}")
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{flag}={folder}: {run_folder.DESCRIPTION} does not describe a classifier "
            f"({type(error).__name__}: {error}); train it again with "
            "--overwrite"
        ) from error
    try:
        with warnings.catch_warnings():
            # Of what the file lacks, which the error tells.
            warnings.simplefilter("ignore")
            classifier.load_weights(folder / run_folder.WEIGHTS)
    # Where its bytes have changed, h5py raises what it stumbles upon.
    except (
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{flag}={folder}: {run_folder.WEIGHTS} does not hold this run's weights "
            f"({reason}); train it again with --overwrite"
        ) from error
    return Run(folder, description, classifier, tokenizer)



def _is_checkpoint(folder):
    """Tells whether a folder is no run but a Hugging Face classifier."""
    if (folder / run_folder.DESCRIPTION).exists():
        return False
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
        return checkpoints.is_classifier_config(json.loads(text))
    except (OSError, ValueError, RecursionError):
        return False



def load_checkpoint(folder, flag="--run_dir", precision=None):
    """Opens a classifier's Hugging Face checkpoint as a run.

    Args:
        folder: path of what `save` wrote, or of any
            `AlbertForSequenceClassification` or
            `BertForSequenceClassification` with its weights as safetensors.
        flag: string, the flag that named the folder, for error messages.
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
    try:
        return _load_checkpoint(folder, precision)
    except InputError as error:
        reason = str(error).removeprefix("--encoder: ")
        raise InputError(f"{flag}={folder}: {reason}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{flag}={folder}: {checkpoints.CONFIG} does not describe a classifier "
            f"({type(error).__name__}: {reason}); copy it anew from where it "
            "comes from"
        ) from error



def _load_checkpoint(folder, precision):
    config = checkpoints.read_config(folder)
    label_names = _label_names(config)
    checkpoint = checkpoints.Checkpoint(folder)
    facts = config.get("tfadv", {})
    description = {
        "format": run_folder.FORMAT,
        "method": facts.get("method", "baseline"),
        "encoder": facts.get("encoder", str(folder)),
        "dataset": facts.get("dataset", "unknown"),
        "label_names": label_names,
        "max_length": facts.get("max_length"),
        "perturb_at": facts.get("perturb_at", "word_embeddings"),
        "precision": precision or facts.get("precision", "float32"),
        "adversary": None,
        "objectives": {},
    }
    encoder = Encoder.from_pretrained(
        folder,
        load_weights=False,
        # Given, so that unequal rates, of no effect here, are not refused.
        dropout=config.get("hidden_dropout_prob", 0.1),
        perturb_at=description["perturb_at"],
        dtype=description["precision"],
    )
    classifier = AdversarialClassifier(
        encoder,
        num_classes=len(label_names),
        dropout=_classifier_dropout(config),
        dtype=description["precision"],
    )
    parameters = families.parameters(
        classifier, families.family_of(classifier)
    )
    for name, parameter in parameters.items():
        parameter.assign(checkpoint.read(name, parameter.shape))
    if description["max_length"] is None:
        positions = encoder.max_sequence_length
        description["max_length"] = _max_length(folder, positions)
    tokenizer = Tokenizer.from_pretrained(folder, description["max_length"])
    encoder.check_tokenizer(tokenizer)
    return Run(folder, description, classifier, tokenizer)


def _label_names(config):
    """The names of a classifier's classes, in order."""
    if not checkpoints.is_classifier_config(config):
        raise InputError(
            "expected AlbertForSequenceClassification or "
            "BertForSequenceClassification as the architecture in "
            f"{checkpoints.CONFIG}, found {config.get('architectures')}; give the "
            "checkpoint of a classifier"
        )
    problem = config.get("problem_type") or "single_label_classification"
    if problem != "single_label_classification":
        raise InputError(
            f"{checkpoints.CONFIG} has problem_type={problem!r}; supported is "
            "'single_label_classification': give a classifier whose classes "
            "exclude each other"
        )
    labels = config.get("id2label")
    if labels is None:  # transformers leaves out its defaults
        count = config.get("num_labels", 2)
        labels = {str(i): f"LABEL_{i}" for i in range(count)}
    ids = [str(i) for i in range(len(labels))]
    if len(ids) < 2 or set(labels) != set(ids):
        raise InputError(
            f"{checkpoints.CONFIG} must name two or more classes in id2label, with the "
            f"ids 0, 1 and so on, found the ids {', '.join(labels) or 'none'}; "
            "mend id2label"
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
