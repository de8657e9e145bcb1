"""The trials of a search as JSON Lines, as a table and as a picture."""

import pathlib
from typing import Any

from tfadv import files, markdown
from tfadv.tuning import search_folder

# The color and the marker of each stage.
_STAGES = {"coarse": ("#888888", "o"), "fine": ("#0072b2", "^")}


def write(folder: str | pathlib.Path, trials: list[dict]) -> None:
    """Writes the trials as JSON Lines, as a table and as a picture.

    Args:
        folder: path of the search's folder.
        trials: list of dicts, as `read_trials` returns it.
    """
    folder = pathlib.Path(folder)
    files.write_lines(folder / search_folder.LINES, trials)
    files.write_text(folder / search_folder.TABLE, as_markdown(trials) + "\n")
    picture(trials).savefig(
        folder / search_folder.PICTURE, dpi=150, facecolor="white"
    )


def as_markdown(trials: list[dict]) -> str:
    """Lays out the trials as a Markdown table, a row per trial.

    Args:
        trials: list of dicts, as `read_trials` returns it.

    Returns:
        string.
    """
    best = search_folder.best_trial(trials)
    names = list(trials[0]["values"])
    rows = []
    for trial in trials:
        status = trial["status"]
        if trial["reason"]:
            status += f": {markdown.cell(trial['reason'])}"
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
    return markdown.table(header, rows)


def picture(trials: list[dict]) -> Any:
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
