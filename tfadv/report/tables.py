"""The tables of a report: the paper's 2, 4 and 5, for runs of one's own."""

import dataclasses

import numpy as np

from tfadv import markdown
from tfadv.report import paper
from tfadv.report.runs import ReportedRun, names

Groups = list[list[ReportedRun]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a title.

    Args:
        title: string.
        header: list of strings.
        rows: list of lists of strings.
        note: string below the table.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""

    def markdown(self) -> str:
        """Returns the table as Markdown, its texts as plain text."""
        cell = markdown.cell
        header, *rows = (
            [cell(text) for text in row] for row in [self.header, *self.rows]
        )
        table = markdown.table(header, rows)
        return f"**{cell(self.title)}**\n\n{table}\n\n{cell(self.note)}"


def all_tables(groups: Groups) -> list[Table]:
    """Builds every table that the runs have results for.

    Args:
        groups: list of lists of `tfadv.report.runs.ReportedRun`.

    Returns:
        List of `Table`.
    """
    tables = [accuracy_table(groups)]
    if any(r.robustness for group in groups for r in group):
        tables += [attacked_accuracy_table(groups), distance_table(groups)]
        tables += [word_class_table(groups)]
    return tables


def accuracy_table(groups: Groups) -> Table:
    """Table 2: accuracy on clean text."""
    rows = []
    for name, group in zip(names(groups), groups, strict=True):
        results = [run.results for run in group]
        method = group[0].method
        dataset = group[0].dataset
        in_paper = paper.ACCURACY.get(dataset, {}).get(method)
        rows.append(
            [
                name,
                dataset,
                _percent([r["dev_accuracy"] for r in results]),
                _percent([r["test_accuracy"] for r in results]),
                "-" if in_paper is None else f"{in_paper:.2f} %",
                str(results[0]["steps"]),
                _mean([r["train_seconds"] for r in results], ".0f"),
                _mean([r["seconds_per_step"] for r in results], ".2f"),
                ", ".join(str(r["seed"]) for r in results),
            ]
        )
    header = [
        "method",
        "dataset",
        "dev accuracy",
        "test accuracy",
        "paper",
        "updates",
        "seconds",
        "seconds per update",
        "seeds",
    ]
    repeated = [
        str(run.folder) for group in groups for run in group if run.repeated
    ]
    return Table(
        "Accuracy on clean text (the paper's Table 2)",
        header,
        rows,
        f"Given more than once, counted once: {', '.join(repeated)}."
        if repeated
        else "",
    )


def attacked_accuracy_table(groups: Groups) -> Table:
    """Table 5: accuracy under k-PGD and HotFlip."""
    epsilons = _epsilons(groups)
    rows = []
    for name, group in zip(names(groups), groups, strict=True):
        measured = [r.robustness for r in group if r.robustness]
        row = [name, _percent([m["clean"]["accuracy"] for m in measured])]
        for epsilon in epsilons:
            values = _at(measured, epsilon, "accuracy")
            in_paper = _in_paper(paper.ATTACKED_ACCURACY, group, epsilon)
            row.append(_beside(_percent(values), in_paper, " %"))
        flips = [m["hotflip"]["accuracy"] for m in measured if "hotflip" in m]
        rows.append([*row, _percent(flips)])
    header = ["method", "clean", *(f"epsilon {e:g}" for e in epsilons)]
    if all(row[-1] == "-" for row in rows):
        rows = [row[:-1] for row in rows]
    else:
        header.append("HotFlip")
    return Table(
        "Accuracy under attack (the paper's Table 5)",
        header,
        rows,
        _settings(groups),
    )


def distance_table(groups: Groups) -> Table:
    """Table 4: how far attacked representations are from clean ones."""
    epsilons = _epsilons(groups)
    rows = []
    for name, group in zip(names(groups), groups, strict=True):
        measured = [r.robustness for r in group if r.robustness]
        row = [name]
        for key, table in (
            ("cosine", paper.COSINE),
            ("euclidean", paper.EUCLIDEAN),
        ):
            for epsilon in epsilons:
                values = _at(measured, epsilon, key)
                in_paper = _in_paper(table, group, epsilon)
                row.append(_beside(_mean(values, ".3f"), in_paper, ""))
        rows.append(row)
    header = ["method"]
    for key in ("cosine", "Euclidean"):
        header += [f"{key}, epsilon {e:g}" for e in epsilons]
    return Table(
        "Clean against attacked representations (the paper's Table 4)",
        header,
        rows,
        _settings(groups),
    )


def word_class_table(groups: Groups) -> Table:
    """Which words delta pushes, at the largest epsilon."""
    epsilon = _epsilons(groups)[-1]
    norms = []
    for group in groups:
        measured = [r.robustness for r in group if r.robustness]
        norms.append(_at(measured, epsilon, "delta_norm_by_word_class"))
    classes = sorted(
        {kind for of_group in norms for one in of_group for kind in one}
    )
    rows = [
        [
            name,
            *(
                _mean(
                    [one[kind]["mean"] for one in of_group if kind in one],
                    ".4f",
                )
                for kind in classes
            ),
        ]
        for name, of_group in zip(names(groups), norms, strict=True)
    ]
    return Table(
        f"Mean norm of delta on a token, epsilon {epsilon:g}",
        ["method", *classes],
        rows,
        "A token of a class that delta pushes more matters more to the class "
        "of the sentence.",
    )


def _epsilons(groups):
    return sorted(
        {
            row["epsilon"]
            for group in groups
            for run in group
            if run.robustness
            for row in run.robustness["epsilons"]
        }
    )


def _at(measured, epsilon, key):
    return [
        row[key]
        for one in measured
        for row in one["epsilons"]
        if row["epsilon"] == epsilon
    ]


def _in_paper(table, group, epsilon):
    if group[0].dataset != paper.ATTACKED_DATASET:
        return None
    return table.get(epsilon, {}).get(group[0].method)


def _beside(cell, in_paper, unit):
    return cell if in_paper is None else f"{cell} (paper: {in_paper:g}{unit})"


def _settings(groups):
    """Says how the attacks were made; once where all were alike."""
    notes = []
    for group in groups:
        for run in group:
            if run.robustness:
                measured = run.robustness
                settings = dict(measured["attack"])
                if settings.get("step_size", 0) is None:
                    settings["step_size"] = "2.5 * epsilon / steps"
                attack = ", ".join(
                    f"{key} {value}" for key, value in settings.items()
                )
                note = f"k-PGD ({attack}) on {measured['examples']} examples"
                if note not in notes:
                    notes.append(note)
    return "; ".join(notes)


def _percent(values):
    values = [value for value in values if value is not None]
    return f"{_mean([100 * v for v in values], '.1f')} %" if values else "-"


def _mean(values, form):
    """Mean, and standard deviation where there are several."""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    mean = format(np.mean(values), form)
    if len(values) == 1:
        return mean
    return f"{mean} ± {format(np.std(values, ddof=1), form)}"
