"""The pictures of a report."""

import base64
import dataclasses
import io

import matplotlib
import matplotlib.figure
import numpy as np

from tfadv.errors import InputError
from tfadv.report.runs import names

# Readable on white and on black; told apart by the colour-blind (Okabe-Ito).
_COLORS = ("#888888", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
_INK = "#7d7d7d"
_CLASS_MARKERS = "os^Dv<>ph*"
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
    figure: object

    @property
    def width(self):
        """The width in pixels of a page."""
        return round(96 * self.figure.get_figwidth())

    def data_uri(self):
        """Returns the picture as an SVG that a page can hold."""
        file = io.BytesIO()
        # Without a date and with a fixed salt, equal runs give equal pages.
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(
                file, format="svg", transparent=True, metadata={"Date": None}
            )
        encoded = base64.b64encode(file.getvalue()).decode("ascii")
        return f"data:image/svg+xml;base64,{encoded}"

    def save_png(self, folder):
        """Writes the picture for a paper: on white, 200 dots an inch."""
        path = folder / f"{self.name}.png"
        self.figure.savefig(path, dpi=200, facecolor="white")


def all_pictures(groups):
    """Draws every picture that the runs have results for.

    Args:
        groups: list of lists of `tfadv.report.runs.RunRecord`.

    Returns:
        List of `Picture`.
    """
    with matplotlib.rc_context(_STYLE):
        pictures = []
        if any(record.robustness for group in groups for record in group):
            pictures.append(accuracy_against_epsilon(groups))
        if any(r.representations for group in groups for r in group):
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


def accuracy_against_epsilon(groups):
    """Draws accuracy under k-PGD against the ball's radius, a line a method.

    The band is the mean of the runs' 95 % confidence intervals.
    """
    figure = _figure(7, 4)
    axes = figure.subplots()
    told = []
    for name, group, color in _colored(groups):
        curves = [
            _curve(record.robustness) for record in group if record.robustness
        ]
        if not curves:
            continue
        if any(list(curve[0]) != list(curves[0][0]) for curve in curves):
            raise InputError(
                f"{name}: its runs were attacked at different radii, so they "
                "have no mean; run tools.attack on each of them with the same "
                "--epsilons and --overwrite"
            )
        epsilons, *values = np.mean(curves, axis=0)
        accuracy, low, high = (100 * v for v in values)
        axes.fill_between(epsilons, low, high, color=color, alpha=0.2, lw=0)
        axes.plot(epsilons, accuracy, color=color, marker="o", label=name)
        told.append(
            f"{name} falls from {accuracy[0]:.1f} to {accuracy[-1]:.1f} %"
        )
    axes.set_xlabel("epsilon: radius of the ball around the word embeddings")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    axes.legend()
    return Picture(
        "accuracy_against_epsilon",
        "Accuracy under k-PGD",
        "Accuracy against epsilon, a line a method with its 95 % confidence "
        f"band: {'; '.join(told)}.",
        figure,
    )


def projections(groups):
    """Draws clean and attacked representations on two principal axes."""
    shown = [
        (name, next(r for r in group if r.representations))
        for name, group in zip(names(groups), groups, strict=True)
        if any(r.representations for r in group)
    ]
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure = _figure(3.2 * columns, 3.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, (name, record) in zip(panels, shown, strict=False):
        found = record.representations
        clean = found["clean"][:_MAX_POINTS]
        attacked = found["attacked"][-1][:_MAX_POINTS]
        labels = found["labels"][:_MAX_POINTS]
        clean, attacked = _project(clean, attacked)
        for number, label in enumerate(record.description["label_names"]):
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
        axes.set_title(name)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, labels = panels[0].get_legend_handles_labels()
    ncols = min(columns, 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
    epsilon = shown[0][1].robustness["epsilons"][-1]["epsilon"]
    return Picture(
        "representations",
        f"Representations, clean and attacked (epsilon {epsilon:g})",
        "A panel a method: the sentence representations on the two principal "
        "axes of the clean ones, filled where clean, hollow where attacked, a "
        f"colour a class. Methods: {', '.join(name for name, _ in shown)}.",
        figure,
    )


def training_curves(groups):
    """Draws each loss term and the dev accuracy against epochs."""
    terms = [
        ("loss", "loss"),
        ("classification_loss", "classification loss"),
        ("contrastive_loss", "contrastive loss (CARL)"),
        ("reconstruction_loss", "reconstruction loss (RAR)"),
        ("val_accuracy", "dev accuracy"),
    ]
    # Without objectives, the loss is the classification loss.
    present = [
        (key, label)
        for key, label in terms
        if any(key in line for g in groups for r in g for line in r.metrics)
    ]
    last = max(line["epoch"] for g in groups for r in g for line in r.metrics)
    figure = _figure(3.2 * len(present), 3)
    panels = figure.subplots(1, len(present), squeeze=False)[0]
    for axes, (key, label) in zip(panels, present, strict=True):
        for name, group, color in _colored(groups):
            for record in group:
                lines = [line for line in record.metrics if key in line]
                axes.plot(
                    [line["epoch"] for line in lines],
                    [line[key] for line in lines],
                    color=color,
                    marker="o",
                    markersize=3,
                    label=name if record is group[0] else None,
                )
        axes.set_title(label)
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, last + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].legend()
    return Picture(
        "training_curves",
        "Training",
        "A panel a term, a line a run, against epochs: "
        f"{', '.join(label for _, label in present)}.",
        figure,
    )


def _figure(width, height):
    return matplotlib.figure.Figure(
        figsize=(width, height), layout="constrained"
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
