r"""Classifies texts with a trained run: JSON Lines, an object a text.

Reads a text a line from stdin, or from --texts_file, or the split that --split
and the data flags name, and writes index, text, label (the likeliest class),
score (its probability) and the probabilities of all classes, in the order of
the texts: to stdout, or to predictions.jsonl in --output_dir.

  python -m tools.predict --run_dir=runs/freelb < texts.txt
  python -m tools.predict --run_dir=runs/freelb --test_file=unlabelled.csv \
      --text_column=body --output_dir=results/unlabelled
"""

import contextlib
import pathlib
import sys

import tfadv
from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.predict import Texts
from tfadv.flags.run import TrainedRun


def main(
    trained: TrainedRun, texts: Texts, data: DataSettings, output: Output
) -> None:
    """Reads the first texts, opens the run, classifies chunk after chunk."""
    stdout = sys.stdout
    # Results alone go to stdout, not what libraries print.
    with contextlib.redirect_stdout(sys.stderr):
        _predict(trained, texts, data, output, stdout)


def _predict(trained, texts, data, output, stdout):
    from tfadv import files
    from tfadv.inference import prediction
    from tfadv.runs import run_folder

    recorded = None
    # A Hugging Face checkpoint has no record; `load` checks it.
    if not (pathlib.Path(trained.run_dir) / "config.json").exists():
        recorded = run_folder.read_record(trained.run_dir).data
    path = None
    if output.output_dir:
        path = pathlib.Path(output.output_dir) / run_folder.PREDICTIONS
        files.check_results([path], output.overwrite)
    lines = texts.read(trained, data, recorded)
    total = len(lines) if isinstance(lines, list) else None
    first, lines = prediction.read_ahead(lines, prediction.CHUNK_SIZE)

    startup.import_tensorflow()
    from tfadv.progress import Progress

    chunks = prediction.predict(tfadv.load(trained.run_dir), lines)
    # No bar for one chunk, nor between the lines on a terminal.
    one = len(first) < prediction.CHUNK_SIZE
    hidden = one or (path is None and stdout.isatty())
    progress = Progress("classifying", total, "texts", verbose=not hidden)
    results = (
        prediction.results_file(path)
        if path
        else prediction.standard_output(stdout)
    )
    with results as file, progress:
        prediction.write(chunks, file, progress=progress.update)


def start() -> None:
    """Starts the binary."""
    command_line.run(
        main,
        [
            Flags(TrainedRun, required=["run_dir"]),
            Flags(Texts),
            Flags(DataSettings),
            Flags(Output),
        ],
    )


if __name__ == "__main__":
    start()
