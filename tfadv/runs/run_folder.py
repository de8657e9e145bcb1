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

import json
import pathlib

from tfadv import files
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
    found = files.check_content(folder, _CONTENT)
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
    rest = [name for name in found if not name.startswith(files.PARTIAL)]
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
        files.empty(folder)
        files.write_json(folder / DESCRIPTION, {"format": FORMAT, **description})
        files.write_text(folder / FLAGS, flags)
    except OSError as error:
        raise files.unwritable(folder, error) from error
