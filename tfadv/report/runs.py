"""Reads what runs have left in their folders, and groups them."""

import dataclasses
import json
import pathlib

import numpy as np

from tfadv.errors import InputError
from tfadv.runs import methods, run_folder

# The forms of files, as far as they are read. A list has at least one item;
# under `...` is the form of all other values.
_NUMBER = int | float
_RESULTS = {
    "method": str,
    "dev_accuracy": _NUMBER | None,
    "test_accuracy": _NUMBER | None,
    "steps": int,
    "train_seconds": _NUMBER | None,
    "seconds_per_step": _NUMBER | None,
    "seed": int,
}
_METRICS = {"epoch": _NUMBER, ...: _NUMBER | None}
_ACCURACY = {"accuracy": _NUMBER, "accuracy_interval": [_NUMBER]}
_ROBUSTNESS = {
    "examples": int,
    "attack": dict,
    "clean": _ACCURACY,
    "epsilons": [
        {
            "epsilon": _NUMBER,
            **_ACCURACY,
            "cosine": _NUMBER,
            "euclidean": _NUMBER,
            "delta_norm_by_word_class": {...: {"mean": _NUMBER}},
            "heat_maps": [{"tokens": [str], "norms": [_NUMBER], "label": str}],
        }
    ],
}


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
    results = _read(folder / run_folder.RESULTS, json.loads)
    _check(results, _RESULTS, folder / run_folder.RESULTS, "tools.train")
    if results["method"] not in methods.OBJECTIVES:
        raise InputError(
            f"{folder / run_folder.RESULTS}: there is no method "
            f"{results['method']!r}; expected {' or '.join(methods.OBJECTIVES)}"
        )
    metrics = _json_lines(folder / run_folder.METRICS)
    _check(metrics, [_METRICS], folder / run_folder.METRICS, "tools.train")
    robustness = None
    representations = None
    path = folder / run_folder.ROBUSTNESS
    if path.exists():
        robustness = _read(path, json.loads)
        _check(robustness, _ROBUSTNESS, path, "tools.attack")
        if not _lengths_fit(robustness):
            raise _odd_form(path, "tools.attack")
        hotflip = robustness.get("hotflip", {"accuracy": 0.0})
        _check(hotflip, {"accuracy": _NUMBER}, path, "tools.attack")
        representations = _representations(
            folder / run_folder.REPRESENTATIONS, len(robustness["epsilons"])
        )
    flags = _read(folder / run_folder.FLAGS, str)
    return RunRecord(
        folder=folder,
        description=description,
        results=results,
        metrics=metrics,
        flags=tuple(
            line for line in flags.split("\n") if not line.startswith("--seed=")
        ),
        robustness=robustness,
        representations=representations,
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


def _read(path, parse):
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); a run has it whole when "
            "training, or the measurement, has ended"
        ) from error


def _json_lines(path):
    if not path.exists():
        return []
    # Not `splitlines`, which breaks texts at rarer signs, too.
    return _read(
        path,
        lambda text: [json.loads(line) for line in text.split("\n") if line],
    )


def _representations(path, epsilons):
    if not path.exists():
        return None
    try:
        # Without pickles, which would run code.
        arrays = dict(np.load(path, allow_pickle=False))
        count, size = arrays["clean"].shape
        shapes = arrays["labels"].shape, arrays["attacked"].shape
        if shapes != ((count,), (epsilons, count, size)):
            raise ValueError("the shapes do not fit")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("not all numbers are finite")
    # Whatever numpy and zipfile stumble upon.
    except Exception as error:
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {error}); run "
            "tools.attack again with --overwrite"
        ) from error
    return arrays


def _check(content, form, path, tool):
    """Refuses a file of another form than its tool writes."""
    if not _has_form(content, form):
        raise _odd_form(path, tool)


def _odd_form(path, tool):
    return InputError(
        f"{path}: expected the form that {tool} writes, found another one; "
        "run it again with --overwrite"
    )


def _lengths_fit(robustness):
    """Tells whether intervals have two ends, and tokens a norm each."""
    return all(
        len(row["accuracy_interval"]) == 2
        and all(
            len(sentence["tokens"]) == len(sentence["norms"])
            for sentence in row["heat_maps"]
        )
        for row in robustness["epsilons"]
    )


def _has_form(content, form):
    """Compares JSON with a type, or with a list or a dict of forms."""
    if isinstance(form, list):
        return (
            isinstance(content, list)
            and bool(content)
            and all(_has_form(item, form[0]) for item in content)
        )
    if isinstance(form, dict):
        others = form.get(..., object)
        return (
            isinstance(content, dict)
            and form.keys() - {...} <= content.keys()
            and all(
                _has_form(value, form.get(key, others))
                for key, value in content.items()
            )
        )
    return isinstance(content, form)
