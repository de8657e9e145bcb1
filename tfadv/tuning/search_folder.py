"""The folder of a search: what it holds, whose it is, which trial is best."""

import json
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
_STAGES = {"coarse": ("#888888", "o"), "fine": ("#0072b2", "^")}


def role():
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


def check_output(folder, identity, overwrite):
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


def check_same(folder, identity):
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


def claim(folder, identity, overwrite):
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


def read_trials(folder):
    """Reads what the ended trials have measured.

    Args:
        folder: path of the search's folder.

    Returns:
        List of dicts, in the order of the trials.
    """
    paths = (pathlib.Path(folder) / PROJECT).glob(f"trial_*/{MEASURED}")
    trials = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return sorted(trials, key=lambda trial: trial["trial"])


def best_trial(trials):
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


def drop_weights(folder):
    """Deletes the weights of all ended trials but the best one's."""
    trials = read_trials(folder)
    best = best_trial(trials)
    for trial in trials:
        if trial is not best:
            run = pathlib.Path(folder) / trial["run_dir"]
            (run / run_folder.WEIGHTS).unlink(missing_ok=True)


def write(folder, trials):
    """Writes the trials as JSON Lines, as a table and as a picture.

    Args:
        folder: path of the search's folder.
        trials: list of dicts, as `read_trials` returns it.
    """
    folder = pathlib.Path(folder)
    files.write_lines(folder / LINES, trials)
    files.write_text(folder / TABLE, table(trials) + "\n")
    picture(trials).savefig(folder / PICTURE, dpi=150, facecolor="white")


def table(trials):
    """Lays out the trials as a Markdown table, a row a trial.

    Args:
        trials: list of dicts, as `read_trials` returns it.

    Returns:
        string.
    """
    from tfadv.report.tables import Table

    best = best_trial(trials)
    names = list(trials[0]["values"])
    rows = []
    for trial in trials:
        status = trial["status"]
        if trial["reason"]:
            status += f": {trial['reason'].replace('|', '/')}"
        rows.append(
            [
                f"{trial['trial']}{' (best)' if trial is best else ''}",
                trial["stage"],
                *(f"{trial['values'][name]:g}" for name in names),
                _cell(trial["updates"], "d"),
                _cell(trial["dev_accuracy"], ".1%"),
                _cell(trial["attacked_accuracy"], ".1%"),
                _cell(trial["objective"], ".4f"),
                status,
                f"{trial['seconds']:.0f}",
            ]
        )
    header = [
        "trial",
        "stage",
        *names,
        "updates",
        "dev accuracy",
        "attacked accuracy",
        "objective",
        "status",
        "seconds",
    ]
    return Table("Trials", header, rows).markdown().rstrip()


def picture(trials):
    """Draws the objective against each hyperparameter, and its best so far.

    Args:
        trials: list of dicts, as `read_trials` returns it.

    Returns:
        `matplotlib.figure.Figure`.
    """
    import matplotlib.figure

    names = list(trials[0]["values"])
    figure = matplotlib.figure.Figure(
        figsize=(3 * (len(names) + 1), 3), layout="constrained"
    )
    *panels, growth = figure.subplots(1, len(names) + 1)
    completed = [t for t in trials if t["status"] == "completed"]
    for name, axes in zip(names, panels, strict=True):
        for stage, (color, marker) in _STAGES.items():
            for full in (True, False):
                shown = [
                    t
                    for t in completed
                    if t["stage"] == stage and t["full"] is full
                ]
                axes.scatter(
                    [t["values"][name] for t in shown],
                    [t["objective"] for t in shown],
                    edgecolors=color,
                    facecolors=color if full else "none",
                    marker=marker,
                    label=(stage if full else f"{stage}, fewer updates")
                    if shown
                    else None,
                )
        axes.set_xlabel(name)
    panels[0].set_ylabel("objective")
    if completed:
        panels[0].legend()
    numbers, values = [], []
    for trial in completed:
        if trial["full"]:
            numbers.append(trial["trial"])
            values.append(max([trial["objective"], *values[-1:]]))
    growth.step(numbers, values, where="post", color=_STAGES["fine"][0])
    growth.set_xlabel("trial")
    growth.set_title("best objective so far")
    return figure


def _cell(value, form):
    return "-" if value is None else format(value, form)
