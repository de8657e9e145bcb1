"""A run's folder: what training leaves behind, and whether it may be written.

| file | content |
|---|---|
| `settings.json` | the run's record: its settings and data, as data |
| `flags.cfg` | the same as flags, to run it again with `--flagfile` |
| `split_ids.json` | for a drawn dataset, the rows that make its splits |
| `encoder/` | the encoder's config and the tokenizer's vocabulary |
| `model.weights.h5` | the weights of the best epoch on the dev split |
| `metrics.jsonl` | a line per epoch |
| `updates.jsonl` | loss and metrics over the run, some 200 lines |
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

import pathlib

from tfadv import files
from tfadv.errors import InputError
from tfadv.runs import version_0_1
from tfadv.runs.record import Record, check_same

FLAGS = "flags.cfg"
RECORD = "settings.json"
# What version 0.1 had in its place.
OLD_RECORD = "run.json"
SPLIT_IDS = "split_ids.json"
ENCODER = "encoder"
WEIGHTS = "model.weights.h5"
METRICS = "metrics.jsonl"
UPDATES = "updates.jsonl"
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
    RECORD,
    OLD_RECORD,
    SPLIT_IDS,
    ENCODER,
    WEIGHTS,
    METRICS,
    UPDATES,
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


def read_record(
    folder: str | pathlib.Path, argument: str = "run_dir"
) -> Record:
    """Reads a run's record.

    Args:
        folder: path of the run's folder; one of version 0.1 will do.
        argument: string, the argument that named it, for error messages.

    Returns:
        `Record`.

    Raises:
        InputError: with the code `"no-run"` where there is none,
            `"unknown-method"` where its method is not registered, or
            `"bad-record"` where it cannot be read.

    Example:

    ```python
    run_folder.read_record("runs/freelb").label_names  # ("negative", ...)
    ```
    """
    folder = pathlib.Path(folder)
    name = RECORD
    if not (folder / RECORD).exists() and (folder / OLD_RECORD).exists():
        name = OLD_RECORD
    if not (folder / name).exists():
        raise InputError(
            "no-run",
            f"expected the folder of a run, found no {RECORD} in it",
            "give the `output_dir` of a training run",
            argument=argument,
            value=str(folder),
        )
    try:
        if name == OLD_RECORD:
            return version_0_1.read_record(folder)
        return Record.from_dict(files.read_json(folder / RECORD))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if getattr(error, "code", None) == "unknown-method":
            raise
        raise InputError(
            "bad-record",
            f"{name} is not as training writes it "
            f"({type(error).__name__}: {error})",
            "open the run with the version of tfadv that wrote it, or train "
            "it again with `overwrite`",
            argument=argument,
            value=str(folder),
        ) from error


def check_whole(
    folder: str | pathlib.Path,
    argument: str = "run_dir",
    value: str | None = None,
    weights: bool = True,
) -> None:
    """Refuses a run that training has not ended.

    Args:
        folder: path of the run's folder.
        argument: string, the argument that named it, for error messages.
        value: string, what was given for it.
        weights: bool, whether it must have its weights as well.

    Raises:
        InputError: with the code `"not-whole"`.
    """
    remedies = {RESULTS: "train with the same settings to go on with it"}
    if weights:
        remedies[WEIGHTS] = "train it again with `overwrite`"
    for name, remedy in remedies.items():
        if not (pathlib.Path(folder) / name).exists():
            raise InputError(
                "not-whole",
                f"this run is not whole, it has no {name}",
                remedy,
                argument=argument,
                value=value or str(folder),
            )


def check_output(
    folder: str | pathlib.Path, overwrite: bool, identity: dict | None = None
) -> bool:
    """Refuses an output folder that holds anything that is not ours to lose.

    A run that was cut off may go on where it was begun as the same run.

    Args:
        folder: path; need not exist.
        overwrite: bool, whether an earlier run in it may be replaced.
        identity: dict, what `record.identity` says of this run; `None` where
            it is not known yet.

    Returns:
        bool, whether there is a backup from which this run may go on.

    Raises:
        InputError: with the code `"another-run"` or `"run-exists"` where there
            is another or a whole run and `overwrite` is false; there are other
            files, or the path is a file.
    """
    folder = pathlib.Path(folder)
    content = files.check_content(folder, _CONTENT)
    if overwrite or not content:
        return False
    if not _is_unfinished(content):
        raise InputError(
            "run-exists",
            "the folder already holds a run",
            "give another one, or `overwrite` to replace that run",
            argument="output_dir",
            value=str(folder),
        )
    if (folder / OLD_RECORD).exists():
        raise InputError(
            "another-version",
            "the folder holds a run that another version of tfadv has begun",
            "let that version go on with it, give another folder, or "
            "`overwrite` to start anew",
            argument="output_dir",
            value=str(folder),
        )
    if identity is not None and (folder / RECORD).exists():
        check_same(identity, files.read_json(folder / RECORD), folder)
    return (folder / BACKUP / BACKUP_STATE).exists()


def _is_unfinished(content):
    """Tells whether a folder's content is that of a run that was cut off."""
    rest = [name for name in content if not name.startswith(files.PARTIAL)]
    ours = bool({FLAGS, RECORD, OLD_RECORD} & set(rest)) or not rest
    return ours and set(rest) <= set(_UNFINISHED)


def create(folder: str | pathlib.Path, record: Record, flags: str) -> None:
    """Fills a run's folder anew, with its `settings.json` and `flags.cfg`.

    Args:
        folder: path that `check_output` has passed; need not exist.
        record: `Record`.
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
        files.write_json(folder / RECORD, record.to_dict())
        files.write_text(folder / FLAGS, flags)
    except OSError as error:
        raise files.unwritable(folder, error) from error
