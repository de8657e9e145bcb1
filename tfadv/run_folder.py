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
| `evaluation.json` | what `tools.evaluate` measured |
| `robustness.json` | what `tools.attack` measured |
| `representations.npz` | the representations of the attacked sentences |
| `hotflip.jsonl` | HotFlip's adversaries |
| `adversaries.jsonl` | what `tools.reconstruct` wrote |
"""

import dataclasses
import json
import pathlib
import shutil

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

EVALUATION = "evaluation.json"
ADVERSARIES = "adversaries.jsonl"
ROBUSTNESS = "robustness.json"
REPRESENTATIONS = "representations.npz"
HOTFLIP = "hotflip.jsonl"

_CONTENT = (
    FLAGS,
    DESCRIPTION,
    SPLIT_IDS,
    ENCODER,
    WEIGHTS,
    METRICS,
    RESULTS,
    TENSORBOARD,
    EVALUATION,
    ADVERSARIES,
    ROBUSTNESS,
    REPRESENTATIONS,
    HOTFLIP,
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


def load(run_folder, flag="--run_dir"):
    """Opens a trained classifier.

    Args:
        run_folder: path of the folder that `tools.train` wrote.
        flag: string, the flag that named the folder, for error messages.

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
    description = read_description(folder, flag)
    for name in (RESULTS, WEIGHTS):
        if not (folder / name).exists():
            raise InputError(
                f"{flag}={folder}: this run is not whole, it has no {name}; "
                "train it again with --overwrite"
            )
    classifier = build_classifier(
        folder / ENCODER, description, load_weights=False
    )
    try:
        classifier.load_weights(folder / WEIGHTS)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{flag}={folder}: {WEIGHTS} does not hold this run's weights "
            f"({reason}); train it again with --overwrite"
        ) from error
    tokenizer = Tokenizer.from_pretrained(
        folder / ENCODER, description["max_length"]
    )
    return Run(folder, description, classifier, tokenizer)


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
    except (OSError, ValueError) as error:
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
    return description


def check_output(folder, overwrite):
    """Refuses an output folder that holds anything that is not ours to lose.

    Args:
        folder: path; need not exist.
        overwrite: bool, whether an earlier run in it may be replaced.

    Raises:
        InputError: there is a run and `overwrite` is false, there are other
            files, or the path is a file.
    """
    if check_content(folder, _CONTENT) and not overwrite:
        raise InputError(
            f"--output_dir={folder}: the folder already holds a run; give "
            "another one, or --overwrite to replace that run"
        )


def check_content(folder, allowed):
    """Refuses an output folder that holds other files than it may.

    Args:
        folder: path; need not exist.
        allowed: tuple of strings, the names of what it may hold.

    Returns:
        List of strings, the names of what it holds.

    Raises:
        InputError: there are other files, or the path is a file.
    """
    folder = pathlib.Path(folder)
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise InputError(
            f"--output_dir={folder}: expected a folder, found a file; give "
            "another path"
        )
    found = sorted(path.name for path in folder.iterdir())
    others = [n for n in found if n.removeprefix(PARTIAL) not in allowed]
    if others:
        raise InputError(
            f"--output_dir={folder}: the folder is in use, it holds "
            f"{', '.join(others[:5])}; give a new or an empty folder"
        )
    return found


def create(folder, description, flags):
    """Makes a run's folder anew, with its `run.json` and `flags.cfg`.

    Args:
        folder: path that `check_output` has passed.
        description: dict for `run.json`; the format is added.
        flags: string for `flags.cfg`.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty(folder)
        write_json(folder / DESCRIPTION, {"format": FORMAT, **description})
        (folder / FLAGS).write_text(flags, encoding="utf-8")
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
    path = pathlib.Path(path)
    partial = path.with_name(PARTIAL + path.name)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
