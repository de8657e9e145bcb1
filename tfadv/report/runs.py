"""Reads what runs have left in their folders, and groups them."""

import dataclasses
import json
import pathlib

import numpy as np

from tfadv import methods, run_folder
from tfadv.errors import InputError


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What one run's folder tells.

    Args:
        folder: `pathlib.Path`.
        description: dict, `run.json`.
        results: dict, `results.json`.
        metrics: list of dicts, `metrics.jsonl`: a dict an epoch.
        flags: tuple of strings, the lines of `flags.cfg` but for the seed.
        robustness: dict, `robustness.json`, or `None`.
        representations: dict of arrays, `representations.npz`, or `None`.
        adversaries: list of dicts, `adversaries.jsonl`; empty if there is
            none.
        flips: list of dicts, `hotflip.jsonl`; empty if there is none.
    """

    folder: pathlib.Path
    description: dict
    results: dict
    metrics: list
    flags: tuple
    robustness: dict | None
    representations: dict | None
    adversaries: list
    flips: list

    @property
    def method(self):
        """The run's `--method`."""
        return self.results["method"]


def read(folder):
    """Reads a run's folder.

    Args:
        folder: path.

    Returns:
        `RunRecord`.

    Raises:
        InputError: the folder is no run, its training has not ended, or a
            file in it is broken.
    """
    folder = pathlib.Path(folder)
    description = run_folder.read_description(folder)
    representations = folder / run_folder.REPRESENTATIONS
    robustness = _json(folder / run_folder.ROBUSTNESS)
    if robustness and "clean" not in robustness:
        raise InputError(
            f"{folder / run_folder.ROBUSTNESS}: expected the accuracy without "
            "an attack, as tools.attack measures it, found none; run it again "
            "with --overwrite"
        )
    flags = (folder / run_folder.FLAGS).read_text(encoding="utf-8")
    return RunRecord(
        folder=folder,
        description=description,
        results=_json(folder / run_folder.RESULTS, needed=True),
        metrics=_json_lines(folder / run_folder.METRICS),
        flags=tuple(
            line for line in flags.split("\n") if not line.startswith("--seed=")
        ),
        robustness=robustness,
        representations=(
            dict(np.load(representations)) if representations.exists() else None
        ),
        adversaries=_json_lines(folder / run_folder.ADVERSARIES),
        flips=_json_lines(folder / run_folder.HOTFLIP),
    )


def grouped(records):
    """Puts runs together that differ in nothing but their seed.

    Args:
        records: list of `RunRecord`.

    Returns:
        List of lists of `RunRecord`, in the methods' order, then in that of
        the runs.
    """
    groups = {}
    for record in records:
        key = (record.method, record.description["dataset"], record.flags)
        groups.setdefault(key, []).append(record)
    order = list(methods.OBJECTIVES)
    return sorted(
        groups.values(), key=lambda group: order.index(group[0].method)
    )


def names(groups):
    """Names groups by method, and by folder where a method has several.

    Args:
        groups: list of lists of `RunRecord`.

    Returns:
        List of strings, all different.
    """
    of_method = [group[0].method for group in groups]
    return [
        method
        if of_method.count(method) == 1
        else f"{method} ({group[0].folder.name})"
        for method, group in zip(of_method, groups, strict=True)
    ]


def _json(path, needed=False):
    if not needed and not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); a run has it whole when "
            "training, or the measurement, has ended"
        ) from error


def _json_lines(path):
    if not path.exists():
        return []
    try:
        # Not `splitlines`, which breaks texts at rarer signs, too.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
