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
from tfadv.flags import data, output, predict, run


def main():
    """Reads the first texts, opens the run, classifies chunk after chunk."""
    stdout = sys.stdout
    # Results alone go to stdout, not what libraries print.
    with contextlib.redirect_stdout(sys.stderr):
        _predict(stdout)


def _predict(stdout):
    from tfadv import files
    from tfadv.runs import prediction, run_folder

    folder = pathlib.Path(run.RUN_DIR.value)
    # A Hugging Face checkpoint has no description; `load` checks it.
    if not (folder / "config.json").exists():
        run_folder.read_description(folder)
    path = None
    if output.OUTPUT_DIR.value:
        path = pathlib.Path(output.OUTPUT_DIR.value) / run_folder.PREDICTIONS
        files.check_results([path], output.OVERWRITE.value)
    texts = predict.texts(folder)
    total = len(texts) if isinstance(texts, list) else None
    first, texts = prediction.read_ahead(texts, prediction.CHUNK_SIZE)

    startup.import_tensorflow()
    import tqdm

    chunks = prediction.predict(tfadv.load(folder), texts)
    # No bar for one chunk, nor between the lines on a terminal, nor (`None`)
    # where nobody watches.
    one = len(first) < prediction.CHUNK_SIZE
    hidden = one or (path is None and stdout.isatty())
    bar = tqdm.tqdm(
        desc="classifying",
        total=total,
        unit=" texts",
        disable=hidden or None,
    )
    results = (
        prediction.results_file(path)
        if path
        else prediction.standard_output(stdout)
    )
    with results as file, bar:
        prediction.write(chunks, file, progress=bar.update)


def start():
    """Starts the binary."""
    command_line.run(main, [run, predict, data, output])


if __name__ == "__main__":
    start()
