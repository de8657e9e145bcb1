"""A model card, from what a run's folder holds."""

import html
import json
import pathlib
import re

import tfadv
from tfadv.errors import InputError
from tfadv.runs import run_folder

_ADVERSARY = (
    "In every update of its training an adversary moved the word embeddings "
    "to where the loss is highest, and the classifier learned from each of "
    "the adversary's steps (FreeLB)."
)
# What each objective of a run is called, and what it did.
_OBJECTIVES = {
    "contrastive": (
        "CARL",
        "On the last step it also learned that the sentence is still the "
        "same one, by contrast with the others in a memory bank (CARL).",
    ),
    "reconstruction": (
        "RAR",
        "On the last step it also learned what the words of the sentence were "
        "(RAR).",
    ),
}
# The settings that the optimizer's flags tell, and no description.
_FLAGS = (
    "epochs",
    "max_steps",
    "batch_size",
    "learning_rate",
    "learning_rate_schedule",
    "warmup_proportion",
)
# How settings are shown whose values do not speak for themselves.
_MEANINGS = {("max_norm", "0.0"): "no limit", ("num_negatives", "None"): "all"}
_BAD_CONTENT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def model_card(run_folder_path, library_name="tfadv"):
    """Writes a run's model card: what it is, how it was trained and measured.

    The card is Markdown with the front matter that Hugging Face reads. It
    says what the run's files say and nothing else; of a path it shows the
    last part.

    Args:
        run_folder_path: path of a run's folder.
        library_name: string, for the front matter: the library that opens
            what the card lies beside.

    Returns:
        string.

    Raises:
        InputError: the folder is no whole run, or a file in it is broken.

    Example:

    ```python
    card = model_card("runs/freelb")
    pathlib.Path("README.md").write_text(card, encoding="utf-8")
    ```
    """
    folder = pathlib.Path(run_folder_path)
    description = run_folder.read_description(folder)
    if not (folder / run_folder.RESULTS).exists():
        raise InputError(
            f"{folder}: this run is not whole, it has no {run_folder.RESULTS}; "
            "train it again with --overwrite"
        )
    names = _method_names(description)
    sections = [
        _front_matter(names, library_name),
        f"# {_shown(description['dataset'])}: a text classifier",
        _summary(description, names),
        "## Data",
        _part(folder / run_folder.RESULTS, _data, description),
        "## Training",
        _table(
            ["setting", "value"],
            [
                *_part(
                    folder / run_folder.DESCRIPTION,
                    _settings,
                    _read_flags(folder / run_folder.FLAGS),
                ),
                *_part(folder / run_folder.RESULTS, _course),
            ],
        ),
        "## Accuracy",
        _part(folder / run_folder.RESULTS, _accuracy),
        _part(folder / run_folder.EVALUATION, _evaluation),
        "## Accuracy under attack",
        _part(folder / run_folder.ROBUSTNESS, _robustness) or _NOT_ATTACKED,
        "## Intended use and limits",
        _limits(description),
        "## How to run it again",
        _AGAIN,
        f"Written by tfadv {tfadv.__version__}.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _part(path, write, *args):
    """Returns what `write` makes of a JSON file; `""` if there is no file."""
    if not path.exists():
        return ""
    try:
        return write(json.loads(path.read_text(encoding="utf-8")), *args)
    except _BAD_CONTENT as error:
        raise InputError(
            f"{path} is not as tfadv writes it ({type(error).__name__}: "
            f"{error}); write it again with --overwrite"
        ) from error


def _read_flags(path):
    """Returns the flags of a run as a dict of strings."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    pairs = [line.removeprefix("--").partition("=") for line in lines]
    return {name: value for name, _, value in pairs}


def _method_names(description):
    """Lists what made the training adversarial; nothing for the baseline."""
    names = [_OBJECTIVES[o][0] for o in _objectives(description)]
    return ["FreeLB", *names] if description.get("adversary") else names


def _objectives(description):
    found = description.get("objectives", {})
    return [name for name in _OBJECTIVES if name in found]


def _front_matter(names, library_name):
    tags = ["text-classification", "tensorflow", "keras", "tfadv"]
    if names:
        tags += ["adversarial-training", *(name.lower() for name in names)]
    return "\n".join(
        [
            "---",
            f"library_name: {library_name}",
            "pipeline_tag: text-classification",
            "tags:",
            *(f"- {tag}" for tag in tags),
            "metrics:",
            "- accuracy",
            "---",
        ]
    )


def _summary(description, names):
    encoder = description.get("encoder")
    sentences = [
        f"It tells {len(description['label_names'])} classes of texts apart: "
        f"{_listed(description['label_names'])}."
    ]
    if encoder:
        sentences.append(
            f"It is the pretrained encoder {_shown(encoder)} with one dense "
            "layer, all of whose weights were fine-tuned."
        )
    if names:
        sentences.append(_ADVERSARY)
        sentences += [_OBJECTIVES[o][1] for o in _objectives(description)]
    else:
        sentences.append("It was trained plainly, without an adversary.")
    method = _cell(description["method"])
    return f"Method: **{method}**. " + " ".join(sentences)


def _data(results, description):
    return _table(
        ["what", "value"],
        [
            ["dataset", _shown(description["dataset"])],
            ["training examples", f"{results['train_examples']:,}"],
            ["classes", _listed(description["label_names"])],
        ],
    )


def _settings(description, flags):
    """Lists what run.json and the optimizer's flags tell, as rows."""
    basics = {
        name: description.get(name)
        for name in ("encoder", "max_length", "perturb_at", "precision")
    }
    basics["encoder"] = _last_part(basics["encoder"])
    rows = _setting_rows("", basics)
    rows += _setting_rows("adversary: ", description.get("adversary") or {})
    for name in _objectives(description):
        values = dict(description["objectives"][name])
        # Which ids are no words, the tokenizer tells.
        values.pop("special_ids", None)
        if values.get("start_step") is not None:
            values.pop("start_epoch", None)
        rows += _setting_rows(f"{_OBJECTIVES[name][0]}: ", values)
    told = {name: flags[name] for name in _FLAGS if name in flags}
    if told.get("learning_rate_schedule") != "linear":
        told.pop("warmup_proportion", None)
    return rows + _setting_rows("optimizer: ", told)


def _course(results):
    """Lists what results.json tells of the run's course, as rows."""
    names = ("steps", "best_epoch", "seed", "num_parameters")
    return _setting_rows("run: ", {name: results.get(name) for name in names})


def _setting_rows(group, values):
    rows = []
    for name, value in values.items():
        value = _MEANINGS.get((name, str(value)), value)
        if value is not None:
            rows.append([group + _cell(name.replace("_", " ")), _cell(value)])
    return rows


def _accuracy(results):
    rows = [
        [split, _percent(results[f"{split}_accuracy"])]
        for split in ("dev", "test")
        if results[f"{split}_accuracy"] is not None
    ]
    if not rows:
        return "There was neither a dev nor a test split to measure it on."
    return _table(["split", "accuracy"], rows) + (
        "\n\nThe weights are those of the epoch that was best on the dev split."
        if results["dev_accuracy"] is not None
        else ""
    )


def _evaluation(measured):
    return (
        f"Measured later on the {_cell(measured['split'])} split of "
        f"{_shown(measured['dataset'])}, {measured['examples']:,} examples: "
        f"{_percent(measured['accuracy'])}."
    )


def _robustness(measured):
    attack = measured["attack"]
    rows = [["none", *_with_interval(measured["clean"])]]
    for row in measured["epsilons"]:
        name = f"PGD, epsilon {row['epsilon']:g}"
        rows.append([name, *_with_interval(row)])
    if "hotflip" in measured:
        row = measured["hotflip"]
        name = f"HotFlip, {_cell(row['max_flips'])} words"
        rows.append([name, *_with_interval(row)])
    return (
        f"On {measured['examples']:,} examples of the "
        f"{_cell(measured['split'])} split of {_shown(measured['dataset'])}. "
        f"PGD takes {_cell(attack['steps'])} steps on the word embeddings, "
        f"within a ball ({_cell(attack['norm'])}) of radius epsilon around a "
        "text's own.\n\n"
    ) + _table(["attack", "accuracy", "95 % interval"], rows)


_NOT_ATTACKED = """\
This run was not attacked yet. With its folder as `RUN_DIR`,

```
python -m tools.attack --run_dir=RUN_DIR
```

measures it."""

_AGAIN = """\
With `flags.cfg` of the run's folder, and the same data,

```
python -m tools.train --flagfile=flags.cfg --output_dir=NEW_RUN_DIR
```

trains it again, and with the folder as `RUN_DIR`

```
python -m tools.predict --run_dir=RUN_DIR < texts.txt
```

classifies texts, one a line."""


def _limits(description):
    length = description.get("max_length")
    cut = ""
    if length is not None:
        cut = (
            f" It reads the first {_cell(length)} tokens of a text, two "
            "control tokens among them, and nothing of what follows."
        )
    return (
        "It is for texts of the language and the kind that it was trained on, "
        "and gives each of them one of its classes, whether one fits or not; "
        f"how well it does on other texts was not measured.{cut} Accuracy "
        "under attack is measured on perturbed word embeddings: it compares "
        "training methods, and promises nothing about typing errors, "
        "paraphrases or whatever else people may try."
    )


def _table(header, rows):
    rows = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _with_interval(row):
    low, high = row["accuracy_interval"]
    return _percent(row["accuracy"]), f"{_percent(low)} to {_percent(high)}"


def _percent(share):
    return f"{100 * share:.1f} %"


def _listed(names):
    return ", ".join(_cell(name) for name in names)


def _shown(name):
    return _cell(_last_part(name))


def _last_part(name):
    """Shortens a path, which is of one machine; a hub's name stays."""
    if isinstance(name, str) and name.startswith(("/", ".", "~")):
        return pathlib.Path(name).name or name
    return name


def _cell(value):
    """Writes a value so that it is text in Markdown, in tables as well."""
    # Surrogates, which JSON may hold, cannot be written as UTF-8.
    text = re.sub(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", str(value))
    text = re.sub(r"([\\`*\[\]~$#])", r"\\\1", text.strip())
    # Inside of a word it is no markup.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return html.escape(text, quote=False).replace("|", "&#124;")
