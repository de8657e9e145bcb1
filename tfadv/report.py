"""What several runs come to, side by side."""

import json
import pathlib

from tfadv import run_folder
from tfadv.errors import InputError

_COLUMNS = {
    "method": lambda r: r["method"],
    "dev accuracy": lambda r: _percent(r["dev_accuracy"]),
    "test accuracy": lambda r: _percent(r["test_accuracy"]),
    "updates": lambda r: str(r["steps"]),
    "seconds": lambda r: f"{r['train_seconds']:.0f}",
    "seconds an update": lambda r: f"{r['seconds_per_step'] or 0:.2f}",
    "seed": lambda r: str(r["seed"]),
}


def read_results(folder):
    """Reads the results of a run.

    Args:
        folder: path of the run's folder.

    Returns:
        dict, the content of `results.json`.

    Raises:
        InputError: the folder is no run, or its training has not ended.
    """
    run_folder.read_description(folder)
    path = pathlib.Path(folder) / run_folder.RESULTS
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); a run has it when its training "
            "has ended"
        ) from error


def table(results):
    """Lays out results as a Markdown table, a row a run.

    Args:
        results: list of dicts, as `read_results` returns them.

    Returns:
        string.

    Example:

    ```python
    print(table([read_results("runs/baseline"), read_results("runs/freelb")]))
    ```
    """
    rows = [
        list(_COLUMNS),
        *([cell(r) for cell in _COLUMNS.values()] for r in results),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        )
        + " |"
        for row in rows
    )


def _percent(share):
    return "-" if share is None else f"{100 * share:.1f} %"
