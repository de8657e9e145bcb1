"""Folders of runs as tools leave them, written by hand, for reports."""

import json

import numpy as np

from tests import tiny_run
from tfadv.runs.record import Record

EPSILONS = (0.0, 0.1, 0.4)
CLASSES = ("negative", "positive")
# Method and seed -> test accuracy, and accuracy by epsilon.
RUNS = {
    ("baseline", 0): (0.88, (0.87, 0.5, 0.02)),
    ("freelb", 0): (0.86, (0.86, 0.7, 0.2)),
    ("freelb", 7): (0.9, (0.9, 0.74, 0.3)),
    ("rar", 0): (0.85, (0.84, 0.69, 0.25)),
}
ORIGINAL = "The good <b>film</b>"


def write_all(parent, dataset="movie_reviews"):
    """Writes a folder for each of `RUNS`; returns the folders."""
    return [
        write(parent / f"{method}_{seed}", method, seed, dataset)
        for method, seed in RUNS
    ]


def record(method, seed, dataset="movie_reviews", **changes):
    """The record of a run that was made in Python."""
    return Record(
        settings=tiny_run.settings(method=method, seed=seed, **changes),
        dataset=dataset,
        label_names=CLASSES,
        sha256_of_texts="0" * 64,
    )


def write(folder, method, seed, dataset="movie_reviews", **changes):
    """Writes one run's folder with all measurements.

    Args:
        folder: path, made.
        method: string.
        seed: int; both together are one of `RUNS`.
        dataset: string.
        **changes: as those of `tiny_run.settings`.
    """
    test_accuracy, attacked = RUNS[method, seed]
    folder.mkdir()
    results = {
        "method": method,
        "dev_accuracy": 0.8,
        "test_accuracy": test_accuracy,
        "steps": 30,
        "train_seconds": 60.0,
        "seconds_per_step": 2.0,
        "seed": seed,
    }
    terms = {"loss": 0.5}
    if method == "rar":
        terms |= {"classification_loss": 0.4, "reconstruction_loss": 1.0}
    metrics = [
        {"epoch": epoch, **terms, "val_accuracy": 0.7} for epoch in (1, 2)
    ]
    updates = [
        {
            "update": 3 * i,
            "epoch": i / 5,
            **{key: value + 1 / i for key, value in terms.items()},
            **accuracies(method, 0.5 + i / 30),
        }
        for i in range(1, 11)
    ]
    robustness = {
        "examples": 30,
        "seed": 0,
        "attack": {"steps": 4, "norm": "l2", "restarts": 1},
        "clean": {"accuracy": attacked[0], "accuracy_interval": [0.7, 0.95]},
        "epsilons": [
            row(epsilon, accuracy)
            for epsilon, accuracy in zip(EPSILONS, attacked, strict=True)
        ],
        "hotflip": {
            "max_flips": 2,
            "accuracy": attacked[1],
            "accuracy_interval": [0.3, 0.9],
            "changed_words": 1.5,
        },
    }
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=[30, 8])
    noise = rng.normal(size=[len(EPSILONS), 30, 8])
    np.savez(
        folder / "representations.npz",
        labels=np.arange(30) % 2,
        clean=clean,
        attacked=clean + noise * np.reshape(EPSILONS, [-1, 1, 1]),
    )
    for name, content in (
        ("settings.json", record(method, seed, dataset, **changes).to_dict()),
        ("results.json", results),
        ("robustness.json", robustness),
    ):
        (folder / name).write_text(json.dumps(content))
    write_lines(folder / "metrics.jsonl", metrics)
    write_lines(folder / "updates.jsonl", updates)
    write_lines(
        folder / "hotflip.jsonl",
        [
            adversary("adversary", "negative"),
            adversary("adversary", "positive"),
        ],
    )
    if method == "rar":
        write_lines(
            folder / "adversaries.jsonl",
            [adversary("reconstruction", "negative")],
        )
    return folder


def accuracies(method, value):
    """What training logs, with an adversary and without."""
    if method == "baseline":
        return {"accuracy": value}
    return {"clean_accuracy": value, "adversarial_accuracy": value - 0.1}


def row(epsilon, accuracy):
    """What tools.attack measures at one radius."""
    return {
        "epsilon": epsilon,
        "accuracy": accuracy,
        "accuracy_interval": [max(accuracy - 0.1, 0), min(accuracy + 0.1, 1)],
        "cosine": 1 - epsilon,
        "cosine_interval": [0.5, 1.0],
        "euclidean": 3 * epsilon,
        "euclidean_interval": [0.0, 3.0],
        "delta_norm": epsilon,
        "delta_norm_by_word_class": {
            "content word": {"mean": epsilon / 3, "tokens": 60},
            "negation": {"mean": epsilon / 2, "tokens": 4},
        },
        "heat_maps": [
            {
                "tokens": ["[CLS]", "not", "a", "good", "film", "[SEP]"],
                "norms": [0.0, 0.5 * epsilon, 0.1, 0.8 * epsilon, 0.2, 0.0],
                "label": "negative",
            }
        ],
    }


def adversary(column, after):
    """A line with a text adversary, which fools where `after` is negative."""
    return {
        "original": ORIGINAL,
        column: "the dull <b>film</b>",
        "label": "positive",
        "prediction_before": "positive",
        "prediction_after": after,
    }


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
