r"""The study's search: variations of CARL and RAR, compared on the dev split.

Trains every variation of `VARIATIONS` on both datasets with a seed that the
study does not use, attacks the dev split by k-PGD, and writes search.jsonl and
search.md. The study takes the weights that are chosen there: of those that cost
at most a point of FreeLB's accuracy, the one with the highest accuracy under
attack. No choice looks at the test split.

  python -m benchmarks.study_search --sst2=/data/sst2 --jobs=2

A search that was cut off goes on when the same command is given again. The
report is of these trials, and of those whose lines are there.
"""

import argparse
import pathlib
import statistics

import tqdm

from benchmarks import study, study_report
from tfadv import files
from tfadv.runs import run_folder

SEED = 0
ATTACK = ["--split=dev", "--max_examples=256", "--attack_steps=5"]
# Points of accuracy that a chosen variation may lie under FreeLB.
TOLERANCE = 1.0
# What differs from the method's cell of the study. The first ones of CARL and
# of RAR are the weights to choose from; the others say what else matters.
VARIATIONS = {
    "FreeLB": ("freelb", {}),
    **{
        f"FreeLB, {what}": ("freelb", changes)
        for what, changes in {
            "learning rate 1e-4": {"learning_rate": 1e-4},
            "learning rate 4e-4": {"learning_rate": 4e-4},
            "alpha 0.05": {"adv_step_size": 0.05},
            "alpha 0.2": {"adv_step_size": 0.2},
            "n 3": {"adv_steps": 3},
        }.items()
    },
    **{
        f"CARL, weight {w}": ("carl", {"contrastive_weight": w})
        for w in (0.001, 0.003, 0.01, 0.03)
    },
    **{
        f"RAR, weight {w}": ("rar", {"reconstruction_weight": w})
        for w in (0.01, 0.03, 0.1, 0.3)
    },
    **{
        f"CARL, 0.01, {what}": ("carl", {"contrastive_weight": 0.01, **changes})
        for what, changes in {
            "temperature 0.5": {"contrastive_temperature": 0.5},
            "256 negatives": {"contrastive_negatives": 256},
            "NCE": {"contrastive_loss": "nce"},
            "from a quarter of the run": {"contrastive_start_epoch": 0.25},
            "the last state of CLS": {"contrastive_representation": "cls"},
        }.items()
    },
    "RAR, 0.03, from the first update": (
        "rar",
        {"reconstruction_weight": 0.03, "reconstruction_start_epoch": 0},
    ),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--sst2", help="folder with GLUE SST-2's train.tsv and dev.tsv"
    )
    parser.add_argument(
        "--variations",
        nargs="+",
        default=list(VARIATIONS),
        choices=list(VARIATIONS),
        help="those that are tried; by default all",
        metavar="NAME",
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output_dir", default="results")
    options = parser.parse_args()
    study.prepare_sst2(options.sst2)
    trials = [
        (name, dataset)
        for name in options.variations
        for dataset in study.DATASETS
    ]
    with tqdm.tqdm(total=len(trials), desc="trials") as bar:
        study.in_parallel(run, trials, options.jobs, bar)
    folder = pathlib.Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "search.jsonl"
    rows = together(lines, trials)
    files.write_lines(lines, rows)
    report = markdown(rows)
    files.write_text(folder / "search.md", report)
    print(report)


def run(name, dataset, processors):
    """Trains a variation and attacks it, as far as that is not done."""
    method, changes = VARIATIONS[name]
    folder = folder_of(name, dataset)
    if not (folder / run_folder.RESULTS).exists():
        arguments = [
            f"--flagfile=flags/experiments/study_{dataset}_{method}.cfg",
            *(f"--{flag}={value}" for flag, value in changes.items()),
            f"--seed={SEED}",
            f"--output_dir={folder}",
        ]
        study.call("train", arguments, processors)
    if not (folder / run_folder.ROBUSTNESS).exists():
        arguments = [
            f"--run_dir={folder}",
            f"--epsilons={study.EPSILONS}",
            "--hotflip_words=0",
            *ATTACK,
        ]
        study.call("attack", arguments, processors)
    (folder / run_folder.WEIGHTS).unlink(missing_ok=True)


def together(path, trials):
    """Gathers the lines of search.jsonl: those that are there, and new ones.

    Args:
        path: `pathlib.Path` of search.jsonl; need not exist.
        trials: list of tuples: variation and dataset, those that are read.

    Returns:
        list of dicts, in the order of `VARIATIONS`.
    """
    lines = {}
    for line in files.read_json_lines(path, []):
        lines[line["name"], line["dataset"]] = line
    lines |= {trial: read(*trial) for trial in trials}
    return [
        lines[name, dataset]
        for name in VARIATIONS
        for dataset in study.DATASETS
        if (name, dataset) in lines
    ]


def folder_of(name, dataset):
    place = name.lower().replace(", ", "_").replace(" ", "_")
    return pathlib.Path("runs/study_search") / dataset / place


def read(name, dataset):
    """Gathers a trial's figures, as a line of search.jsonl."""
    method, changes = VARIATIONS[name]
    folder = folder_of(name, dataset)
    results = files.read_json(folder / run_folder.RESULTS)
    robustness = files.read_json(folder / run_folder.ROBUSTNESS)
    return {
        "name": name,
        "dataset": dataset,
        "method": method,
        "changes": changes,
        "dev": results["dev_accuracy"],
        "attacked_examples": robustness["examples"],
        "epsilons": {
            f"{row['epsilon']:g}": {
                key: row[key] for key in ("accuracy", "cosine")
            }
            for row in robustness["epsilons"]
        },
    }


def choose(rows):
    """Chooses the weight of CARL and that of RAR.

    Args:
        rows: list of dicts, the lines of search.jsonl.

    Returns:
        dict: method -> name of the variation, `None` where all cost too much.
    """
    clean, attacked = {}, {}
    for name in {row["name"] for row in rows}:
        of_name = [row for row in rows if row["name"] == name]
        clean[name] = statistics.fmean(100 * row["dev"] for row in of_name)
        attacked[name] = statistics.fmean(
            e["accuracy"] for row in of_name for e in row["epsilons"].values()
        )
    chosen = {}
    for method in ("carl", "rar"):
        names = [
            row["name"]
            for row in rows
            if row["method"] == method
            and len(row["changes"]) == 1
            and clean[row["name"]] >= clean["FreeLB"] - TOLERANCE
        ]
        chosen[method] = max(names, key=attacked.get, default=None)
    return chosen


def markdown(rows):
    """Lays out search.md.

    Args:
        rows: list of dicts, the lines of search.jsonl.

    Returns:
        string.
    """
    epsilons = list(rows[0]["epsilons"])
    columns = ["variation", "dev"]
    columns += [f"epsilon {e}" for e in epsilons]
    columns += [f"cosine at {e}" for e in epsilons]
    parts = ["# The study's search"]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        body = [
            [
                row["name"],
                f"{100 * row['dev']:.1f}",
                *(
                    f"{100 * row['epsilons'][e]['accuracy']:.1f}"
                    for e in epsilons
                ),
                *(f"{row['epsilons'][e]['cosine']:.3f}" for e in epsilons),
            ]
            for row in rows
            if row["dataset"] == dataset
        ]
        count = next(
            row["attacked_examples"]
            for row in rows
            if row["dataset"] == dataset
        )
        parts.append(
            study_report.section(
                f"{dataset}: accuracy in %, cosine",
                columns,
                body,
                f"One run each, seed {SEED}; attacks on the first {count} "
                "sentences of the dev split.",
            )
        )
    parts.append(
        "Chosen: "
        + "; ".join(
            name or f"no {method}" for method, name in choose(rows).items()
        )
        + f". Of those at most {TOLERANCE:g} point under FreeLB's accuracy on "
        "dev, the highest accuracy under attack; both are means over the "
        "datasets and epsilons."
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    main()
