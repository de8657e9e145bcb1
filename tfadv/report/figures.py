"""The pictures of a report."""

import base64
import dataclasses
import io
import pathlib
import textwrap

import matplotlib
import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import numpy as np

from tfadv.errors import InputError
from tfadv.report.runs import ReportedRun, names

Groups = list[list[ReportedRun]]

# Readable on white and on black; told apart by the colour-blind (Okabe-Ito).
_COLORS = ("#888888", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
_INK = "#7d7d7d"
_CLASS_MARKERS = "os^Dv<>ph*"
# Letters of a line above a panel.
_TITLE_WIDTH = 34
# Points of a projection: more would be a blot.
_MAX_POINTS = 400


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with what it is called and what it shows.

    Args:
        name: string, for a file.
        title: string.
        alt: string, what there is to see, for those who cannot.
        figure: `matplotlib.figure.Figure`.
    """

    name: str
    title: str
    alt: str
    figure: matplotlib.figure.Figure

    @property
    def width(self) -> int:
        """The width in pixels of a page."""
        return round(96 * self.figure.get_figwidth())

    def data_uri(self) -> str:
        """Returns the picture as an SVG that a page can hold."""
        file = io.BytesIO()
        # Without a date and with a fixed salt, equal runs give equal pages.
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(
                file, format="svg", transparent=True, metadata={"Date": None}
            )
        encoded = base64.b64encode(file.getvalue()).decode("ascii")
        return f"data:image/svg+xml;base64,{encoded}"

    def save_png(self, folder: pathlib.Path) -> None:
        """Writes the picture for a paper: on white, 200 dots per inch."""
        path = folder / f"{self.name}.png"
        self.figure.savefig(path, dpi=200, facecolor="white")


def all_pictures(groups: Groups) -> list[Picture]:
    """Draws every picture that the runs have results for.

    Args:
        groups: list of lists of `tfadv.report.runs.ReportedRun`.

    Returns:
        List of `Picture`.
    """
    with matplotlib.rc_context(_STYLE):
        pictures = []
        if any(run.robustness for group in groups for run in group):
            pictures.append(accuracy_against_epsilon(groups))
        if any(run.representations for group in groups for run in group):
            pictures.append(projections(groups))
        return [*pictures, training_curves(groups)]


_STYLE = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "svg.hashsalt": "tfadv",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def accuracy_against_epsilon(groups: Groups) -> Picture:
    """Draws accuracy under k-PGD against the ball's radius, a line per method.

    The band is the mean of the runs' 95 % confidence intervals.
    """
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    descriptions = []
    for name, group, color in _colored(groups):
        curves = [_curve(run.robustness) for run in group if run.robustness]
        if not curves:
            continue
        if any(list(curve[0]) != list(curves[0][0]) for curve in curves):
            raise InputError(
                "different-epsilons",
                f"the runs of {name} were attacked at different radii, so they "
                "have no mean",
                "run tools.attack on each of them with the same `epsilons` and "
                "with `overwrite`",
            )
        epsilons, *values = np.mean(curves, axis=0)
        accuracy, low, high = (100 * v for v in values)
        axes.fill_between(epsilons, low, high, color=color, alpha=0.2, lw=0)
        axes.plot(epsilons, accuracy, color=color, marker="o", label=name)
        descriptions.append(
            f"{name} falls from {accuracy[0]:.1f} to {accuracy[-1]:.1f} %"
        )
    axes.set_xlabel("epsilon: radius of the ball around the word embeddings")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    _legend(figure, *axes.get_legend_handles_labels())
    return Picture(
        "accuracy_against_epsilon",
        "Accuracy under k-PGD",
        "Accuracy against epsilon, a line per method with its 95 % confidence "
        f"band: {'; '.join(descriptions)}.",
        figure,
    )


def projections(groups: Groups) -> Picture:
    """Draws clean and attacked representations on two principal axes."""
    shown = [
        (name, next(run for run in group if run.representations))
        for name, group in zip(names(groups), groups, strict=True)
        if any(run.representations for run in group)
    ]
    columns, rows = _grid(len(shown))
    figure = _figure(3.2 * columns, 3.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, (name, run) in zip(panels, shown, strict=False):
        points = run.representations or {}
        clean = points["clean"][:_MAX_POINTS]
        attacked = points["attacked"][-1][:_MAX_POINTS]
        labels = points["labels"][:_MAX_POINTS]
        clean, attacked = _project(clean, attacked)
        for number, label in enumerate(run.record.label_names):
            rows_of_class = labels == number
            color = _COLORS[1 + number % (len(_COLORS) - 1)]
            marker = _CLASS_MARKERS[number % len(_CLASS_MARKERS)]
            for points, filled, kind in (
                (clean, True, "clean"),
                (attacked, False, "attacked"),
            ):
                axes.scatter(
                    *points[rows_of_class].T,
                    s=10,
                    marker=marker,
                    facecolors=color if filled else "none",
                    edgecolors=color,
                    linewidths=0.7,
                    alpha=0.7,
                    label=f"{label}, {kind}",
                )
        axes.set_title(textwrap.fill(name, _TITLE_WIDTH))
        axes.set_xticks([])
        axes.set_yticks([])
    _legend(figure, *panels[0].get_legend_handles_labels())
    robustness = shown[0][1].robustness or {}
    epsilon = robustness["epsilons"][-1]["epsilon"]
    return Picture(
        "representations",
        f"Representations, clean and attacked (epsilon {epsilon:g})",
        "A panel per method: the sentence representations on the two principal "
        "axes of the clean ones, filled where clean, hollow where attacked, a "
        f"colour per class. Methods: {', '.join(name for name, _ in shown)}.",
        figure,
    )


def training_curves(groups: Groups) -> Picture:
    """Draws the terms of the loss and the accuracy, a line per run.

    A point is the mean over a window of updates; of runs that have no
    `updates.jsonl`, the mean over an epoch. The accuracy on the dev split is
    measured at the ends of epochs: dots.
    """
    runs = [run for group in groups for run in group]
    logged = {key for run in runs for line in _progress(run) for key in line}
    # What is drawn in a panel, by its title: the first of these that a run has.
    panels: dict[str, tuple[str, ...]] = {"loss": ("loss",)}
    if "classification_loss" in logged:
        # Without objectives, the loss is the classification loss.
        panels["classification loss"] = ("classification_loss", "loss")
    for key in sorted(logged - {"classification_loss"}):
        if key.endswith("_loss") and not key.startswith("val_"):
            panels[key.replace("_", " ")] = (key,)
    with_dev = any("val_accuracy" in line for r in runs for line in r.metrics)
    if with_dev or logged & {"accuracy", "clean_accuracy"}:
        panels["accuracy"] = ("accuracy", "clean_accuracy")
    if "adversarial_accuracy" in logged:
        panels["adversarial accuracy"] = ("adversarial_accuracy",)
    end = max(line["epoch"] for run in runs for line in run.metrics)
    columns, rows = _grid(len(panels))
    figure = _figure(3.4 * columns, 2.9 * rows + 0.3)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, keys) in zip(all_axes, panels.items(), strict=False):
        for _, group, color in _colored(groups):
            for run in group:
                _draw(axes, _progress(run), keys, color, lw=1)
                if title == "accuracy":
                    dots = {"lw": 0, "marker": "o", "markersize": 5}
                    _draw(axes, run.metrics, ("val_accuracy",), color, **dots)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_xlim(0, 1.03 * end)
        axes.xaxis.set_major_locator(
            matplotlib.ticker.MaxNLocator(6, integer=True, min_n_ticks=1)
        )
    lines = {
        name: matplotlib.lines.Line2D([], [], color=color)
        for name, _, color in _colored(groups)
    }
    if with_dev:
        lines["dev split"] = matplotlib.lines.Line2D(
            [], [], color=_INK, lw=0, marker="o"
        )
    _legend(figure, lines.values(), lines)
    return Picture(
        "training_curves",
        "Training",
        "A panel per term, a line per run, against epochs: "
        f"{', '.join(panels)}; dots where the dev split was measured.",
        figure,
    )


def _progress(run):
    """Returns what was logged while a run trained, as finely as there is."""
    return run.updates or run.metrics


def _draw(axes, lines, keys, color, **style):
    key = next((k for k in keys if any(k in line for line in lines)), None)
    points = [
        (line["epoch"], line[key])
        for line in lines
        if line.get(key) is not None
    ]
    # A single point is no line.
    if len(points) == 1:
        style = {"marker": "o", "markersize": 3, **style}
    if points:
        axes.plot(*zip(*points, strict=True), color=color, **style)


def _figure(width, height):
    return matplotlib.figure.Figure(
        figsize=(width, height), layout="constrained"
    )


def _grid(count):
    """Returns the columns and rows for a number of panels."""
    columns = 2 if count == 4 else min(count, 3)
    return columns, -(-count // columns)


def _legend(figure, handles, labels):
    """Puts the legend below the panels, in as many columns as fit."""
    letters = 8 + max(map(len, labels))
    columns = int(12 * figure.get_figwidth() / letters)
    figure.legend(
        list(handles),
        list(labels),
        loc="outside lower center",
        ncols=max(1, min(columns, len(labels))),
    )


def _colored(groups):
    colors = [_COLORS[i % len(_COLORS)] for i in range(len(groups))]
    return zip(names(groups), groups, colors, strict=True)


def _curve(robustness):
    """Returns epsilons, accuracies and the bounds of their intervals."""
    rows = [
        {"epsilon": 0.0, **robustness["clean"]},
        *(row for row in robustness["epsilons"] if row["epsilon"]),
    ]
    return np.array(
        [
            [row["epsilon"], row["accuracy"], *row["accuracy_interval"]]
            for row in rows
        ]
    ).T


def _project(clean, attacked):
    """Projects onto the two principal axes of the clean points."""
    center = clean.mean(axis=0)
    # All axes, for fewer than two sentences have fewer than two.
    _, _, axes = np.linalg.svd(clean - center)
    return (clean - center) @ axes[:2].T, (attacked - center) @ axes[:2].T
