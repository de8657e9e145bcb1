"""Reads what runs have left in their folders, and groups them."""

import dataclasses
import json
import pathlib

import numpy as np

from tfadv import fields, files
from tfadv.errors import InputError
from tfadv.runs import methods, run_folder
from tfadv.runs.record import Record

# What runs may differ in and still be runs of one experiment: the seed, and
# settings that change how a result is computed, but not the result.
_NOT_COMPARED = (
    "optimization.seed",
    "optimization.backup_seconds",
    "optimization.deterministic",
    "optimization.strategy",
    "optimization.accumulation_steps",
    "objectives.contrastive.bank_sharding",
)
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
_UPDATES = {"update": int, **_METRICS}
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
class ReportedRun:
    """What is in one run's folder.

    Args:
        folder: `pathlib.Path`.
        record: `tfadv.runs.record.Record`.
        results: dict, `results.json`.
        metrics: list of dicts, `metrics.jsonl`: a dict per epoch.
        updates: list of dicts, `updates.jsonl`: a dict per window of updates;
            empty if there is none.
        robustness: dict, `robustness.json`, or `None`.
        representations: dict of arrays, `representations.npz`, or `None`.
        adversaries: list of dicts, `adversaries.jsonl`; empty if there is
            none.
        flips: list of dicts, `hotflip.jsonl`; empty if there is none.
        repeated: bool, whether the folder was named more than once.
    """

    folder: pathlib.Path
    record: Record
    results: dict
    metrics: list
    updates: list
    robustness: dict | None
    representations: dict | None
    adversaries: list
    flips: list
    repeated: bool = False

    @property
    def method(self) -> str:
        """The name of the run's method."""
        return self.record.settings.method

    @property
    def dataset(self) -> str:
        """The name of the data that the run was trained on."""
        return self.record.dataset

    def compared(self) -> dict:
        """Returns what runs have in common that differ in their seed alone.

        Returns:
            dict of settings by their paths, such as `"adversary.step_size"`.
        """
        record = self.record
        settings = record.settings.to_dict()
        if record.adversary is None:
            # These have no effect.
            del settings["adversary"], settings["adversary_warmup_proportion"]
        data = record.data.to_dict() if record.data else {}
        settings["data"] = {**data, "dataset": record.dataset}
        return {
            path: value
            for path, value in fields.by_path(settings).items()
            if path not in _NOT_COMPARED
        }

    def key(self) -> str:
        """Returns a string that is the same for runs of one experiment."""
        record, compared = self.record, self.compared()
        texts = record.sha256_of_texts
        if texts is not None:
            # Wherever they lie.
            compared = {
                path: value
                for path, value in compared.items()
                if not path.startswith("data.") or path == "data.dataset"
            }
        # Version 0.1 did not write down all settings of runs from Python.
        incomplete = record.version == "0.1" and record.data is None
        return json.dumps(
            [
                compared,
                texts,
                list(record.label_names),
                str(self.folder.resolve()) if incomplete else None,
            ],
            sort_keys=True,
        )


def read_all(folders: list) -> list[ReportedRun]:
    """Reads several runs' folders, each of them once.

    Args:
        folders: list of paths; a folder that is named twice is one run.

    Returns:
        List of `ReportedRun`.

    Raises:
        InputError: a folder is not a whole run, or a file in it is broken.
    """
    by_path = {}
    for folder in folders:
        by_path.setdefault(pathlib.Path(folder).resolve(), []).append(folder)
    return [
        dataclasses.replace(read(given[0]), repeated=len(given) > 1)
        for given in by_path.values()
    ]


def read(folder: str | pathlib.Path) -> ReportedRun:
    """Reads a run's folder.

    Args:
        folder: path.

    Returns:
        `ReportedRun`.

    Raises:
        InputError: the folder is no run, its training has not ended, or a
            file in it is broken.
    """
    folder = pathlib.Path(folder)
    record = run_folder.read_record(folder)
    run_folder.check_whole(folder, weights=False)
    results = _read(folder / run_folder.RESULTS, _RESULTS, "tools.train")
    metrics = files.read_json_lines(folder / run_folder.METRICS)
    updates = files.read_json_lines(folder / run_folder.UPDATES, [])
    for content, form, name in (
        (metrics, [_METRICS], run_folder.METRICS),
        (
            updates or [{"update": 0, "epoch": 0}],
            [_UPDATES],
            run_folder.UPDATES,
        ),
    ):
        if not _has_form(content, form):
            raise _odd_form(folder / name, "tools.train")
    robustness = representations = None
    path = folder / run_folder.ROBUSTNESS
    if path.exists():
        robustness = _read(path, _ROBUSTNESS, "tools.attack")
        hotflip = robustness.get("hotflip", {"accuracy": 0.0})
        if not (
            _lengths_fit(robustness)
            and _has_form(hotflip, {"accuracy": _NUMBER})
        ):
            raise _odd_form(path, "tools.attack")
        representations = _representations(
            folder / run_folder.REPRESENTATIONS, len(robustness["epsilons"])
        )
    return ReportedRun(
        folder=folder,
        record=record,
        results=results,
        metrics=metrics,
        updates=updates,
        robustness=robustness,
        representations=representations,
        adversaries=files.read_json_lines(folder / run_folder.ADVERSARIES, []),
        flips=files.read_json_lines(folder / run_folder.HOTFLIP, []),
    )


def grouped(runs: list[ReportedRun]) -> list[list[ReportedRun]]:
    """Puts runs together that differ in nothing but their seed.

    Settings that change how a result is computed, but not the result, such as
    `backup_seconds`, may differ, too.

    Args:
        runs: list of `ReportedRun`.

    Returns:
        List of lists of `ReportedRun`, in the order of the methods' registry,
        then in that of the runs; within a list by seed.
    """
    groups = {}
    for run in runs:
        groups.setdefault(run.key(), []).append(run)
    order = list(methods.registered())
    return [
        sorted(group, key=lambda run: run.results["seed"])
        for group in sorted(
            groups.values(), key=lambda group: order.index(group[0].method)
        )
    ]


def names(groups: list[list[ReportedRun]]) -> list[str]:
    """Names groups by method, and by what differs where a method has several.

    Args:
        groups: list of lists of `ReportedRun`, as `grouped` returns it.

    Returns:
        List of strings, all different, such as `"freelb (adversary.step_size
        0.2)"`.
    """
    compared = [group[0].compared() for group in groups]
    result = []
    for facts in compared:
        like = [
            other for other in compared if other["method"] == facts["method"]
        ]
        differing = [
            f"{key} {_shown(facts.get(key))}"
            for key in dict.fromkeys(key for other in like for key in other)
            if any(other.get(key) != facts.get(key) for other in like)
        ]
        name = facts["method"]
        if differing:
            name += f" ({', '.join(differing)})"
        result.append(name)
    return [
        name if result.count(name) == 1 else f"{name} ({group[0].folder})"
        for name, group in zip(result, groups, strict=True)
    ]


def _shown(value):
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _read(path, form, tool):
    """Reads a JSON file, and refuses another form than its tool writes."""
    content = files.read_json(path)
    if not _has_form(content, form):
        raise _odd_form(path, tool)
    return content


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
            "bad-representations",
            f"{path} cannot be read ({type(error).__name__}: {error})",
            "run tools.attack again with `overwrite`",
        ) from error
    return arrays


def _odd_form(path, tool):
    return InputError(
        "odd-form",
        f"{path}: expected the form that {tool} writes, found another one",
        "run it again with `overwrite`",
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
