"""A report as one self-contained page, and as Markdown."""

import difflib
import pathlib

import jinja2

from tfadv.errors import InputError
from tfadv.markdown import cell
from tfadv.report.figures import all_pictures
from tfadv.report.runs import grouped, names, read_all
from tfadv.report.tables import Table, all_tables
from tfadv.runs import run_folder

MARKDOWN = "report.md"
PAGE = "report.html"
# How many adversaries and sentences of a run are shown.
_ADVERSARIES = 20
_SENTENCES = 6


def write(folders: list, output_dir: pathlib.Path) -> str:
    """Writes the report of several runs.

    Args:
        folders: list of paths of runs' folders.
        output_dir: `pathlib.Path` of a folder, made if there is none, for
            `report.md`, `report.html` and a PNG file per picture.

    Returns:
        string, the Markdown.

    Raises:
        InputError: a folder is no run, or a file in it is broken.

    Example:

    ```python
    write(["runs/baseline", "runs/freelb"], pathlib.Path("runs/report"))
    ```
    """
    groups = grouped(read_all(folders))
    tables = all_tables(groups)
    pictures = all_pictures(groups)
    adversaries = _adversaries(groups)
    markdown = as_markdown(tables)
    output_dir.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        picture.save_png(output_dir)
        markdown += f"\n![{cell(picture.alt)}]({picture.name}.png)\n"
    (output_dir / MARKDOWN).write_text(markdown, encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfadv.report", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("page.html.jinja").render(
        title=", ".join(names(groups)),
        tables=tables,
        pictures=pictures,
        heat_maps=_heat_maps(groups),
        adversaries=adversaries,
    )
    (output_dir / PAGE).write_text(page, encoding="utf-8")
    return markdown


def as_markdown(tables: list[Table]) -> str:
    """Lays out tables as Markdown.

    Args:
        tables: list of `tfadv.report.tables.Table`.

    Returns:
        string.
    """
    return "\n".join(table.markdown() + "\n" for table in tables)


def _heat_maps(groups):
    maps = []
    for name, group in zip(names(groups), groups, strict=True):
        measured = next(
            (run.robustness for run in group if run.robustness), None
        )
        if measured is None:
            continue
        sentences = []
        for sentence in measured["epsilons"][-1]["heat_maps"][:_SENTENCES]:
            largest = max(sentence["norms"]) or 1.0
            words = [
                (token.replace("▁", ""), norm / largest)
                for token, norm in zip(
                    sentence["tokens"], sentence["norms"], strict=True
                )
            ]
            sentences.append({"label": sentence["label"], "words": words})
        maps.append({"name": name, "sentences": sentences})
    return maps


def _adversaries(groups):
    """Collects adversaries that fool, RAR's and HotFlip's."""
    sets = []
    for name, group in zip(names(groups), groups, strict=True):
        for title, column, lines, file in (
            (
                "reconstructed from",
                "reconstruction",
                group[0].adversaries,
                run_folder.ADVERSARIES,
            ),
            (
                "HotFlip against",
                "adversary",
                group[0].flips,
                run_folder.HOTFLIP,
            ),
        ):
            try:
                shown = _that_fool(lines, column)
            except (AttributeError, KeyError, TypeError) as error:
                raise InputError(
                    "odd-form",
                    f"{group[0].folder / file}: a line is not of the form that "
                    f"the attack writes ({type(error).__name__}: {error})",
                    "attack again with `overwrite`",
                ) from error
            if shown:
                sets.append(
                    {
                        "title": f"Text adversaries, {title} {name}: "
                        f"{len(shown)} of {len(lines)} fool it",
                        "lines": shown[:_ADVERSARIES],
                    }
                )
    return sets


def _that_fool(lines, column):
    return [
        {
            "original": line["original"],
            "words": _marked(line["original"], line[column]),
            "label": line["label"],
            "before": line["prediction_before"],
            "after": line["prediction_after"],
        }
        for line in lines
        if line["prediction_before"] == line["label"]
        and line["prediction_after"] != line["label"]
    ]


def _marked(original, adversary):
    """Splits a text into words and tells which ones the original lacks."""
    before, after = original.lower().split(), adversary.split()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    kept = {
        j
        for block in matcher.get_matching_blocks()
        for j in range(block.b, block.b + block.size)
    }
    return [(word, j not in kept) for j, word in enumerate(after)]
