r"""Writes text-form adversaries: what RAR reads in attacked embeddings.

Attacks a split with k-PGD on the word embeddings, reads the reconstruction
head at every word, and writes adversaries.jsonl: original, reconstruction,
changed tokens, label, and the predictions before and after. The file can be
given to tools.train as --augment_file.

  python -m tools.reconstruct --run_dir=runs/rar --epsilon=0.4 \
      --victim_run=runs/baseline
"""

import tfadv
from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.reconstruct import Reconstruction
from tfadv.flags.run import TrainedRun
from tfadv.robustness.settings import AttackSettings


def main(
    trained: TrainedRun,
    data: DataSettings,
    reconstruction: Reconstruction,
    attack: AttackSettings,
    output: Output,
) -> None:
    """Opens the runs, attacks, reads the words, writes."""
    from tfadv import files
    from tfadv.runs import run_folder

    record = run_folder.read_record(trained.run_dir)
    victim = reconstruction.victim_run
    if victim is not None:
        names = run_folder.read_record(victim, "victim_run").label_names
        if names != record.label_names:
            raise InputError(
                "other-classes",
                f"expected the classes {', '.join(record.label_names)} of "
                f"`run_dir`={trained.run_dir}, found {', '.join(names)}",
                "give a run on the same classes",
                argument="victim_run",
                value=victim,
            )
    path = output.folder(trained.run_dir) / run_folder.ADVERSARIES
    files.check_results([path], output.overwrite)
    _, examples = trained.load_split(data, record)

    startup.import_tensorflow()
    from tfadv.robustness import text_adversary

    lines, summary = text_adversary.reconstruct(
        tfadv.load(trained.run_dir),
        attack.first(examples),
        reconstruction.epsilon,
        victim=victim and tfadv.load(victim, "victim_run"),
        **attack.arguments(),
    )
    with files.writing_to(path.parent):
        files.write_lines(path, lines)
    print(f"{summary}\nwritten to {path}")


def start() -> None:
    """Starts the binary."""
    command_line.run(
        main,
        [
            Flags(TrainedRun, required=["run_dir"]),
            Flags(DataSettings),
            Flags(Reconstruction),
            Flags(AttackSettings),
            Flags(Output),
        ],
    )


if __name__ == "__main__":
    start()
