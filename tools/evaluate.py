r"""Measures a trained run on clean text.

Writes evaluation.json: accuracy, loss, number of examples, confusion matrix.

  python -m tools.evaluate --run_dir=runs/freelb
  python -m tools.evaluate --run_dir=runs/freelb --test_file=mine.csv \
      --output_dir=results/mine
"""

import json
import pathlib
import sys

import tfadv
from tfadv import command_line, startup
from tfadv.flags import data, output, run


def main():
    """Opens the run, reads the split, measures, writes."""
    from tfadv import files
    from tfadv.runs import run_folder

    folder = pathlib.Path(run.RUN_DIR.value)
    description = run_folder.read_description(folder)
    output_dir = pathlib.Path(output.OUTPUT_DIR.value or folder)
    path = output_dir / run_folder.EVALUATION
    files.check_results([path], output.OVERWRITE.value)
    data.default_to_run(folder)
    name, examples = data.load_split(
        run.SPLIT.value, description["label_names"]
    )

    startup.import_tensorflow()
    from tfadv.data import batching
    from tfadv.runs import evaluation

    trained = tfadv.load(folder)
    measured = evaluation.evaluate(
        trained.classifier,
        batching.tokenize(examples, trained.tokenizer),
        verbose=1,
    )
    measured = {
        "run_dir": str(folder),
        "dataset": name,
        "split": run.SPLIT.value,
        "label_names": description["label_names"],
        **measured,
    }
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        files.write_json(path, measured)
    except OSError as error:
        raise files.unwritable(output_dir, error) from error
    json.dump(measured, sys.stdout, indent=2)
    print()


def start():
    """Starts the binary."""
    command_line.run(main, [run, data, output])


if __name__ == "__main__":
    start()
