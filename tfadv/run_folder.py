"""A run's folder: what training leaves behind, and how it is opened again.

| file | content |
|---|---|
| `flags.cfg` | the flags of the run, as `--flagfile` takes them |
| `run.json` | what is needed to build the classifier again |
| `split_ids.json` | for a drawn dataset, the rows that make its splits |
| `encoder/` | the encoder's config and the tokenizer's vocabulary |
| `model.weights.h5` | the weights of the best epoch on the dev split |
| `metrics.jsonl` | a line an epoch |
| `results.json` | the results; written last: without it, a run is not whole |
| `tensorboard/` | TensorBoard logs |
| `backup/` | while training goes on: all that it needs to go on from there |
| `evaluation.json` | what `tools.evaluate` measured |
| `robustness.json` | what `tools.attack` measured |
| `representations.npz` | the representations of the attacked sentences |
| `hotflip.jsonl` | HotFlip's adversaries |
| `adversaries.jsonl` | what `tools.reconstruct` wrote |
| `predictions.jsonl` | what `tools.predict` wrote |
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
import shutil
import warnings

import numpy as np

from tfadv.errors import InputError

FORMAT = 2

FLAGS = "flags.cfg"
DESCRIPTION = "run.json"
SPLIT_IDS = "split_ids.json"
ENCODER = "encoder"
WEIGHTS = "model.weights.h5"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
TENSORBOARD = "tensorboard"
BACKUP = "backup"
BACKUP_STATE = "state.safetensors"

EVALUATION = "evaluation.json"
ADVERSARIES = "adversaries.jsonl"
ROBUSTNESS = "robustness.json"
REPRESENTATIONS = "representations.npz"
HOTFLIP = "hotflip.jsonl"
PREDICTIONS = "predictions.jsonl"

# What a run has before it is whole.
_UNFINISHED = (
    FLAGS,
    DESCRIPTION,
    SPLIT_IDS,
    ENCODER,
    WEIGHTS,
    METRICS,
    TENSORBOARD,
    BACKUP,
)
_CONTENT = (
    *_UNFINISHED,
    RESULTS,
    EVALUATION,
    ADVERSARIES,
    ROBUSTNESS,
    REPRESENTATIONS,
    HOTFLIP,
    PREDICTIONS,
)
# A file is written under this name first, then renamed: it is whole or absent.
PARTIAL = "partial."


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
        import tensorflow as tf

        from tfadv.data import batching
        from tfadv.data.examples import Examples

        if not len(texts):
            return np.zeros([0, len(self.label_names)], np.float32)
        examples = Examples(list(texts), np.zeros(len(texts), np.int32))
        tokenized = batching.tokenize(examples, self.tokenizer)
        batches = batching.evaluation_batches(tokenized, batch_size)
        logits = self.classifier.predict(batches.map(lambda x, _: x), verbose=0)
        probabilities = np.empty_like(logits)
        probabilities[tokenized.order_by_length()] = tf.nn.softmax(logits)
        return probabilities


def load(run_folder, flag="--run_dir", precision=None):
    """Opens a trained classifier.

    Args:
        run_folder: path of the folder that `tools.train` wrote, or of a
            classifier's Hugging Face checkpoint, see
            `tfadv.hugging_face.load`.
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
    from tfadv.tokenization import Tokenizer

    folder = pathlib.Path(run_folder)
    if _is_checkpoint(folder):
        from tfadv import hugging_face

        return hugging_face.load(folder, flag, precision)
    description = read_description(folder, flag)
    if precision is not None:
        description["precision"] = precision
    for name, remedy in (
        (RESULTS, "give its command again to go on with it"),
        (WEIGHTS, "train it again with --overwrite"),
    ):
        if not (folder / name).exists():
            raise InputError(
                f"{flag}={folder}: this run is not whole, it has no {name}; "
                f"{remedy}"
            )
    try:
        classifier = build_classifier(
            folder / ENCODER, description, load_weights=False
        )
        tokenizer = Tokenizer.from_pretrained(
            folder / ENCODER, description["max_length"]
        )
        classifier.encoder.check_tokenizer(tokenizer, f"{flag}={folder}")
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{flag}={folder}: {DESCRIPTION} does not describe a classifier "
            f"({type(error).__name__}: {error}); train it again with "
            "--overwrite"
        ) from error
    try:
        with warnings.catch_warnings():
            # Of what the file lacks, which the error tells.
            warnings.simplefilter("ignore")
            classifier.load_weights(folder / WEIGHTS)
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
            f"{flag}={folder}: {WEIGHTS} does not hold this run's weights "
            f"({reason}); train it again with --overwrite"
        ) from error
    return Run(folder, description, classifier, tokenizer)


def is_classifier_config(config):
    """Tells whether a Hugging Face config is that of a text classifier.

    Args:
        config: the content of a `config.json`.

    Returns:
        bool.
    """
    names = config.get("architectures") if isinstance(config, dict) else None
    return isinstance(names, list) and any(
        str(name).endswith("ForSequenceClassification") for name in names
    )


def _is_checkpoint(folder):
    """Tells whether a folder is no run but a Hugging Face classifier."""
    if (folder / DESCRIPTION).exists():
        return False
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
        return is_classifier_config(json.loads(text))
    except (OSError, ValueError, RecursionError):
        return False


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
    from tfadv import methods
    from tfadv.adversary import FreeLB
    from tfadv.classifier import AdversarialClassifier
    from tfadv.encoder import Encoder

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

    from tfadv.objectives.contrastive import ContrastiveObjective

    # Weights are saved by the names of attributes.
    part = keras.Model()
    part.encoder = classifier.encoder
    part.head = classifier.head
    part.seed_generator = classifier.seed_generator
    part.objectives = [
        objective
        for objective in classifier.objectives
        if not isinstance(objective, ContrastiveObjective)
    ]
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


def read_description(folder, flag="--run_dir"):
    """Reads a run's `run.json`.

    Args:
        folder: path.
        flag: string, the flag that named the folder, for error messages.

    Returns:
        dict.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = pathlib.Path(folder) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{flag}={folder}: not the folder of a run, it has no "
            f"{DESCRIPTION}; give the --output_dir of a tools.train run"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{flag}={folder}: {DESCRIPTION} cannot be read ({error}); "
            "train the run again with --overwrite"
        ) from None
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{flag}={folder}: the run has format {found}, this version of "
            f"tfadv reads format {FORMAT}; open it with the version that "
            "wrote it, or train it again"
        )
    names = description.get("label_names")
    if not (
        isinstance(description.get("method"), str)
        and isinstance(description.get("dataset"), str)
        and isinstance(description.get("objectives", {}), dict)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
    ):
        raise InputError(
            f"{flag}={folder}: {DESCRIPTION} does not tell the method, the "
            "dataset and the label_names as tools.train writes them; train "
            "the run again with --overwrite"
        )
    return description


def check_output(folder, overwrite, flags=None):
    """Refuses an output folder that holds anything that is not ours to lose.

    A run that was cut off may go on where it has been begun with the same
    flags.

    Args:
        folder: path; need not exist.
        overwrite: bool, whether an earlier run in it may be replaced.
        flags: string, this run's flags, a line each; `None` where they are
            not known yet.

    Returns:
        bool, whether there is a backup from which this run may go on.

    Raises:
        InputError: there is another or a whole run and `overwrite` is false,
            there are other files, or the path is a file.
    """
    found = check_content(folder, _CONTENT)
    if overwrite or not found:
        return False
    if not _is_unfinished(found):
        raise InputError(
            f"--output_dir={folder}: the folder already holds a run; give "
            "another one, or --overwrite to replace that run"
        )
    folder = pathlib.Path(folder)
    if flags is not None:
        check_flags(folder / FLAGS, flags, "run")
    return (folder / BACKUP / BACKUP_STATE).exists()


def _is_unfinished(found):
    """Tells whether a folder's content is that of a run that was cut off."""
    rest = [name for name in found if not name.startswith(PARTIAL)]
    ours = FLAGS in rest or DESCRIPTION in rest or not rest
    return ours and set(rest) <= set(_UNFINISHED)


def check_flags(path, flags, begun):
    """Refuses to go on with what was begun with other flags.

    Args:
        path: path of the flagfile of the folder; need not exist.
        flags: string, this process' flags, a line each.
        begun: string, what is to go on: `"run"` or `"search"`.

    Raises:
        InputError: they differ; the message names the first differences.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return
    try:
        stored = _by_name(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--output_dir={path.parent}: {path.name} cannot be read "
            f"({error}); give another folder, or --overwrite"
        ) from error
    given = _by_name(flags)
    names = sorted(
        name
        for name in stored.keys() | given.keys()
        if stored.get(name) != given.get(name)
    )
    if names:
        differences = "; ".join(
            f"{_told(name, given)}, where the {begun} has {_told(name, stored)}"
            for name in names[:3]
        )
        raise InputError(
            f"--output_dir={path.parent} holds another {begun}: {differences}; "
            "give the same flags to resume it, another folder, or --overwrite "
            "to start anew"
        )


def _by_name(flags):
    """Takes a flagfile's lines apart: name -> line."""
    lines = [line for line in flags.splitlines() if line.startswith("--")]
    return {line.removeprefix("--").partition("=")[0]: line for line in lines}


def _told(name, lines):
    return lines.get(name, f"no --{name}")


@contextlib.contextmanager
def claimed(folder):
    """Makes a folder, and keeps other processes from training in it.

    Args:
        folder: path.

    Raises:
        InputError: another process trains there, or it cannot be made.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        # A lock of the kernel's: it ends with the process, however that ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"--output_dir={folder}: another process trains in this folder; "
            "let it end, or give another one"
        ) from None
    except OSError:
        # Some file systems of networks have no such locks.
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def check_content(folder, allowed):
    """Refuses an output folder that holds other files than it may.

    Args:
        folder: path; need not exist.
        allowed: tuple of strings, the names of what it may hold.

    Returns:
        List of strings, the names of what it holds.

    Raises:
        InputError: there are other files, or the path is no folder's.
    """
    folder = pathlib.Path(folder)
    check_is_folder(folder)
    if not folder.exists():
        return []
    found = sorted(path.name for path in folder.iterdir())
    others = [n for n in found if n.removeprefix(PARTIAL) not in allowed]
    if others:
        raise InputError(
            f"--output_dir={folder}: the folder is in use, it holds "
            f"{', '.join(others[:5])}; give a new or an empty folder"
        )
    return found


def check_is_folder(folder):
    """Refuses an output folder that is a file, or would lie below one."""
    folder = pathlib.Path(folder)
    for path in (folder, *folder.parents):
        if path.is_dir():
            return
        # So has a link to nothing.
        if os.path.lexists(path):
            raise InputError(
                f"--output_dir={folder}: cannot write there, expected a "
                f"folder, found a file at {path}; give another path"
            )


def create(folder, description, flags):
    """Fills a run's folder anew, with its `run.json` and `flags.cfg`.

    Args:
        folder: path that `check_output` has passed; need not exist.
        description: dict for `run.json`; the format is added.
        flags: string for `flags.cfg`.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Gone first, so that nothing goes on from what is left of a run.
        (folder / BACKUP / BACKUP_STATE).unlink(missing_ok=True)
        empty(folder)
        write_json(folder / DESCRIPTION, {"format": FORMAT, **description})
        write_text(folder / FLAGS, flags)
    except OSError as error:
        raise unwritable(folder, error) from error


def empty(folder):
    """Deletes all that a folder holds."""
    for path in pathlib.Path(folder).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_results(paths, overwrite):
    """Refuses to write over results.

    Args:
        paths: list of paths, what is to be written.
        overwrite: bool, whether earlier results may be replaced.

    Raises:
        InputError: there are some, and they may not.
    """
    for path in paths:
        check_is_folder(path.parent)
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} is there already; give --overwrite to replace it, or "
                "another --output_dir"
            )


def unwritable(folder, error):
    """Returns the `InputError` for a folder that cannot be written."""
    return InputError(
        f"--output_dir={folder}: cannot write there "
        f"({getattr(error, 'strerror', None) or error}); free space, see to "
        "the permissions, or give another folder"
    )


def sync(path):
    """Sees a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path, content):
    """Writes a JSON file as a whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_lines(path, lines):
    """Writes a JSON Lines file as a whole or not at all."""
    dumped = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines]
    write_text(path, "".join(dumped))


def write_text(path, text):
    """Writes a text file as a whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path, content):
    """Writes a file as a whole or not at all."""
    path = pathlib.Path(path)
    partial = path.with_name(PARTIAL + path.name)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
