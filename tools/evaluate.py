r"""Measures a trained run on clean text.

Writes evaluation.json: accuracy, loss, number of examples, confusion matrix.

  python -m tools.evaluate --run_dir=runs/freelb
  python -m tools.evaluate --run_dir=runs/freelb --test_file=mine.csv \
      --output_dir=results/mine
"""

import json
import sys

import tfadv
from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.run import TrainedRun


def main(trained: TrainedRun, data: DataSettings, output: Output) -> None:
    """Opens the run, reads the split, measures, writes."""
    from tfadv import files
    from tfadv.runs import run_folder

    record = run_folder.read_record(trained.run_dir)
    path = output.folder(trained.run_dir) / run_folder.EVALUATION
    files.check_results([path], output.overwrite)
    name, examples = trained.load_split(data, record)

    startup.import_tensorflow()
    from tfadv.data import batching
    from tfadv.inference import evaluation

    run = tfadv.load(trained.run_dir)
    measured = {
        "run_dir": trained.run_dir,
        "dataset": name,
        "split": trained.split_or_test,
        "label_names": list(record.label_names),
        **evaluation.evaluate(
            run.classifier,
            batching.tokenize(examples, run.tokenizer),
            verbose=True,
        ),
    }
    with files.writing_to(path.parent):
        files.write_json(path, measured)
    json.dump(measured, sys.stdout, indent=2)
    print()


def start() -> None:
    """Starts the binary."""
    run = Flags(TrainedRun, required=["run_dir"])
    command_line.run(main, [run, Flags(DataSettings), Flags(Output)])


if __name__ == "__main__":
    start()
