"""A model card, from what a run's folder holds."""

import importlib.resources
import pathlib

import tfadv
from tfadv import fields, files
from tfadv.errors import InputError
from tfadv.markdown import cell, table
from tfadv.runs import methods, run_folder
from tfadv.runs.record import Record

_TEMPLATE = "model_card.md.jinja"
# How settings are shown whose values do not speak for themselves.
_MEANINGS = {
    ("adversary.max_norm", 0.0): "no limit",
    ("objectives.contrastive.num_negatives", None): "all",
}
_BAD_CONTENT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


def model_card(folder: str | pathlib.Path, library_name: str = "tfadv") -> str:
    """Writes a run's model card: what it is, how it was trained and measured.

    The card is Markdown with the front matter that Hugging Face reads. It
    says what the run's files say and nothing else; of a path it shows the
    last part.

    Args:
        folder: path of a run's folder.
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
    # Not with the module: it takes a second.
    from huggingface_hub import ModelCard, ModelCardData

    folder = pathlib.Path(folder)
    record = run_folder.read_record(folder)
    if not (folder / run_folder.RESULTS).exists():
        raise InputError(
            "not-whole",
            f"expected a whole run, found none: it has no {run_folder.RESULTS}",
            "give its command again to go on with it",
            argument="run_dir",
            value=str(folder),
        )
    method = methods.get(record.settings.method)
    tags = ["text-classification", "tensorflow", "keras", "tfadv"]
    if method.adversary:
        tags += dict.fromkeys(["adversarial-training", "freelb", method.name])
    card = ModelCard.from_template(
        ModelCardData(
            library_name=library_name,
            metrics=["accuracy"],
            pipeline_tag="text-classification",
            tags=tags,
        ),
        template_str=importlib.resources.files("tfadv.export")
        .joinpath(_TEMPLATE)
        .read_text(encoding="utf-8"),
        cell=cell,
        method=method,
        dataset=_shown(record.dataset),
        label_names=record.label_names,
        classes=", ".join(map(cell, record.label_names)),
        encoder=_shown(record.settings.encoder.name),
        max_length=record.settings.encoder.max_length,
        flagfile=record.data is not None,
        trained_with=cell(record.version),
        version=tfadv.__version__,
        **_part(folder / run_folder.RESULTS, _of_results, record),
        evaluation=_part(folder / run_folder.EVALUATION, _evaluation),
        robustness=_part(folder / run_folder.ROBUSTNESS, _robustness),
    )
    return f"{str(card).rstrip()}\n"


def _part(path, write, *args):
    """Returns what `write` makes of a JSON file; `""` if there is no file."""
    if not path.exists():
        return ""
    content = files.read_json(path)
    try:
        return write(content, *args)
    except _BAD_CONTENT as error:
        raise InputError(
            "odd-form",
            f"{path} is not as tfadv writes it ({type(error).__name__}: "
            f"{error})",
            "write it again with `overwrite`",
        ) from error


def _of_results(results, record):
    """Returns the parts of the card that results.json has figures for."""
    count = results.get("num_parameters")
    settings = [
        *_settings(record),
        ["updates", results.get("steps")],
        ["best epoch", results.get("best_epoch")],
        ["parameters", None if count is None else f"{count:,}"],
    ]
    accuracies = [
        [split, _percent(results[f"{split}_accuracy"])]
        for split in ("dev", "test")
        if results[f"{split}_accuracy"] is not None
    ]
    return {
        "data": table(
            ["what", "value"],
            [
                ["dataset", _shown(record.dataset)],
                ["training examples", f"{results['train_examples']:,}"],
                ["classes", ", ".join(map(cell, record.label_names))],
            ],
        ),
        "settings": table(
            ["setting", "value"],
            [
                [cell(name), cell(value)]
                for name, value in settings
                if value is not None
            ],
        ),
        "accuracy": accuracies and table(["split", "accuracy"], accuracies),
        "best_on_dev": results["dev_accuracy"] is not None,
    }


def _settings(record: Record):
    """Lists the settings that had an effect, by their names in Python."""
    settings = record.settings.to_dict()
    settings["encoder"]["name"] = _last_part(settings["encoder"]["name"])
    if record.adversary is not None:
        settings["adversary"] = record.adversary.to_dict()
    else:
        del settings["adversary"], settings["adversary_warmup_proportion"]
    if settings["optimization"]["learning_rate_schedule"] == "constant":
        del settings["optimization"]["warmup_proportion"]
    return [
        [name, _MEANINGS.get((name, value), value)]
        for name, value in fields.by_path(settings).items()
    ]


def _evaluation(measured):
    return (
        f"Measured later on the {cell(measured['split'])} split of "
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
        name = f"HotFlip, {cell(row['max_flips'])} words"
        rows.append([name, *_with_interval(row)])
    return (
        f"On {measured['examples']:,} examples of the "
        f"{cell(measured['split'])} split of {_shown(measured['dataset'])}. "
        f"PGD takes {cell(attack['steps'])} steps on the word embeddings, "
        f"within a ball ({cell(attack['norm'])}) of radius epsilon around a "
        "text's own.\n\n"
    ) + table(["attack", "accuracy", "95 % interval"], rows)


def _with_interval(row):
    low, high = row["accuracy_interval"]
    return _percent(row["accuracy"]), f"{_percent(low)} to {_percent(high)}"


def _percent(share):
    return f"{100 * share:.1f} %"


def _shown(name):
    return cell(_last_part(name))


def _last_part(name):
    """Shortens a path, which is of one machine; a hub's name stays."""
    if isinstance(name, str) and name.startswith(("/", ".", "~")):
        return pathlib.Path(name).name or name
    return name
