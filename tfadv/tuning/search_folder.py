"""The folder of a search: what it holds, whose it is, which trial is best."""

import os
import pathlib

from tfadv import files
from tfadv.errors import InputError
from tfadv.runs import record, run_folder

RECORD = "search.json"
PROJECT = "search"
RUNS = "trials"
BEST = "best.cfg"
LINES = "trials.jsonl"
TABLE = "trials.md"
PICTURE = "trials.png"
# A trial's own file in its folder of the project.
MEASURED = "measured.json"

_CONTENT = (RECORD, PROJECT, RUNS, BEST, LINES, TABLE, PICTURE)
_ENVIRONMENT = (
    "KERASTUNER_TUNER_ID",
    "KERASTUNER_ORACLE_IP",
    "KERASTUNER_ORACLE_PORT",
)


def role() -> str:
    """Tells what this process is in its search, by keras-tuner's environment.

    Returns:
        string: `"alone"`, `"chief"` or `"worker"`.

    Raises:
        InputError: some of the variables are set, others are not.
    """
    missing = [name for name in _ENVIRONMENT if not os.environ.get(name)]
    if len(missing) == len(_ENVIRONMENT):
        return "alone"
    if missing:
        raise InputError(
            "incomplete-environment",
            f"a search of several processes needs {', '.join(_ENVIRONMENT)}; "
            f"the environment lacks {' and '.join(missing)}",
            "set all of them, or none",
        )
    return "chief" if "chief" in os.environ[_ENVIRONMENT[0]] else "worker"


def check_output(
    folder: str | pathlib.Path, identity: dict, overwrite: bool
) -> None:
    """Refuses an output folder that does not hold this very search.

    Args:
        folder: path; need not exist.
        identity: dict, as `tfadv.tuning.settings.identity_of` returns it.
        overwrite: bool, whether an earlier search in it may be replaced.

    Raises:
        InputError: there are other files, or a search with other settings.
    """
    files.check_content(folder, _CONTENT)
    if not overwrite:
        check_same(folder, identity)


def check_same(folder: str | pathlib.Path, identity: dict) -> None:
    """Refuses to go on with another search than what was begun.

    Args:
        folder: path of the search's folder.
        identity: dict, as `tfadv.tuning.settings.identity_of` returns it.

    Raises:
        InputError: they differ; the message names the first differences.
    """
    path = pathlib.Path(folder) / RECORD
    if path.exists():
        record.check_same(identity, files.read_json(path), folder, "search")


def claim(folder: str | pathlib.Path, identity: dict, overwrite: bool) -> None:
    """Makes the folder this search's, and empty if it is to begin anew.

    Args:
        folder: path that `check_output` has passed.
        identity: dict for the folder's record of the search.
        overwrite: bool, whether an earlier search is deleted.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite or not (folder / RECORD).exists():
        # Gone first, so that what is left of a search is not resumed.
        (folder / RECORD).unlink(missing_ok=True)
        files.empty(folder)
        files.write_json(folder / RECORD, identity)


def read_trials(folder: str | pathlib.Path) -> list[dict]:
    """Reads what the ended trials have measured.

    Args:
        folder: path of the search's folder.

    Returns:
        List of dicts, in the order of the trials.
    """
    paths = (pathlib.Path(folder) / PROJECT).glob(f"trial_*/{MEASURED}")
    return sorted(map(files.read_json, paths), key=lambda trial: trial["trial"])


def best_trial(trials: list[dict]) -> dict | None:
    """Finds the trial of full length with the highest objective.

    Args:
        trials: list of dicts, as `read_trials` returns it.

    Returns:
        One of them, the first one of equals, or `None`.
    """
    return max(
        (
            trial
            for trial in trials
            if trial["status"] == "completed" and trial["full"]
        ),
        key=lambda trial: trial["objective"],
        default=None,
    )


def drop_weights(folder: str | pathlib.Path) -> None:
    """Deletes the weights of all ended trials but the best one's."""
    trials = read_trials(folder)
    best = best_trial(trials)
    for trial in trials:
        if trial is not best:
            run = pathlib.Path(folder) / trial["run_dir"]
            (run / run_folder.WEIGHTS).unlink(missing_ok=True)
