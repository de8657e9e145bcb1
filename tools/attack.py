r"""Attacks a trained run: k-PGD on its word embeddings, HotFlip on its words.

Writes robustness.json (for every epsilon: accuracy, distance of the attacked
representations from the clean ones, what delta does to which words),
representations.npz and, for HotFlip, hotflip.jsonl with the adversaries.

  python -m tools.attack --run_dir=runs/freelb --epsilons=0.05,0.1,0.2
"""

import io

import tfadv
from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.robustness import Robustness
from tfadv.flags.run import TrainedRun
from tfadv.robustness.settings import AttackSettings


def main(
    trained: TrainedRun,
    data: DataSettings,
    robustness: Robustness,
    attack: AttackSettings,
    output: Output,
) -> None:
    """Opens the run, reads the split, attacks, writes."""
    from tfadv import files
    from tfadv.runs import run_folder

    record = run_folder.read_record(trained.run_dir)
    folder = output.folder(trained.run_dir)
    files.check_results([folder / run_folder.ROBUSTNESS], output.overwrite)
    name, examples = trained.load_split(data, record)
    examples = attack.first(examples)

    startup.import_tensorflow()
    import numpy as np

    from tfadv.robustness.hotflip import HotFlip
    from tfadv.robustness.measure import measure, table

    run = tfadv.load(trained.run_dir)
    results, representations = measure(
        run,
        examples,
        sorted(set(robustness.epsilons)),
        **attack.arguments(),
    )
    results = {
        "run_dir": trained.run_dir,
        "method": record.settings.method,
        "dataset": name,
        "split": trained.split_or_test,
        **results,
    }
    flips = []
    if robustness.hotflip_words:
        hotflip = HotFlip(run, robustness.hotflip_words)
        flips = hotflip.attack(examples)
        results["hotflip"] = hotflip.summary(flips)
    with files.writing_to(folder):
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **representations)
        files.write_bytes(folder / run_folder.REPRESENTATIONS, file.getvalue())
        if flips:
            files.write_lines(folder / run_folder.HOTFLIP, flips)
        files.write_json(folder / run_folder.ROBUSTNESS, results)
    print(table(results))


def start() -> None:
    """Starts the binary."""
    command_line.run(
        main,
        [
            Flags(TrainedRun, required=["run_dir"]),
            Flags(DataSettings),
            Flags(Robustness),
            Flags(AttackSettings),
            Flags(Output),
        ],
    )


if __name__ == "__main__":
    start()
