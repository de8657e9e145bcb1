"""Measures text-in, class-out serving against transformers' pipeline.

python -m benchmarks.serving
python -m benchmarks.serving --run_dir=runs/freelb

The SavedModel, in float32 and in bfloat16, and PyTorch's text-classification
pipeline have the same weights and answer batches of film reviews, each in a
process of its own, in turns of a second. Without --run_dir the weights are
those after a few updates. Needs PyTorch and transformers.
"""

import argparse
import itertools
import os
import pathlib
import tempfile

import numpy as np
from tqdm import tqdm

from benchmarks import measure

MODULE = "benchmarks.serving"
# One thread an operation, as README starts the server.
ONE_THREAD = ("tfadv, float32, 1 thread", "tfadv, bfloat16, 1 thread")
# Each system's name, and its folder in that of the exports.
SYSTEMS = {
    "tfadv, float32": "exports/1",
    ONE_THREAD[0]: "exports/1",
    "tfadv, bfloat16": "exports/2",
    ONE_THREAD[1]: "exports/2",
    measure.PEER: "checkpoint",
}
COLUMNS = ["batch", "system", "texts a second", "ratio", "p50 ms", "p99 ms"]


def main():
    parser = measure.make_parser(__doc__)
    parser.add_argument("--run_dir", help="a run; by default a new one")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--seconds", type=int, default=10, help="for each row of the table"
    )
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = measure.parse(parser, short={"seconds": 3})
    if options.only:
        serve(pathlib.Path(options.folder), options.only)
        return
    with tempfile.TemporaryDirectory() as folder:
        texts = write_exports(options.run_dir, pathlib.Path(folder))
        arguments = [f"--folder={folder}"]
        with measure.workers(MODULE, SYSTEMS, arguments) as workers:
            check(workers, texts[:256])
            rows = []
            for batch in options.batches:
                rows += measured_rows(workers, texts, batch, options.seconds)
    print(measure.table(COLUMNS, rows))


def write_exports(run_dir, folder):
    """Exports a run three times.

    Returns:
        list of strings, the texts to classify.
    """
    import tfadv
    from tfadv.datasets import movie_reviews
    from tfadv.datasets.examples import Examples, TextDataset
    from tfadv.export import checkpoint_folder, saved_model
    from tfadv.runs.settings import OptimizationSettings, Settings
    from tfadv.training import loop

    reviews = movie_reviews.load()
    if run_dir is None:
        run_dir = folder / "run"
        few = Examples(reviews.train.texts[:256], reviews.train.labels[:256])
        loop.train(
            TextDataset("reviews", reviews.label_names, few, None, None),
            Settings(
                method="baseline",
                optimization=OptimizationSettings(epochs=1, learning_rate=2e-4),
            ),
            run_dir,
        )
    run = tfadv.load(run_dir, precision="float32")
    for precision in ("float32", "bfloat16"):
        saved_model.saved_model(run, folder / "exports", precision)
    checkpoint_folder.save_checkpoint(run, folder / "checkpoint")
    return reviews.test.texts


def check(workers, texts):
    """Stops where the systems do not do the same."""
    found = {name: w.ask(texts=texts)["labels"] for name, w in workers.items()}
    for name, labels in found.items():
        pairs = zip(labels, found[measure.PEER], strict=True)
        same = np.mean([one == other for one, other in pairs])
        assert same > (0.95 if "bfloat16" in name else 0.999), (name, same)


def measured_rows(workers, texts, batch, seconds):
    """Times batches of texts, and lays out what each system took."""
    rng = np.random.default_rng(0)
    bar = tqdm(range(seconds), f"batches of {batch}", disable=None)
    drawn = ([texts[i] for i in rng.integers(0, len(texts), 64)] for _ in bar)
    answers = measure.in_turns(
        workers, ({"texts": part, "batch": batch} for part in drawn)
    )
    times = {
        name: np.concatenate([answer["seconds"] for answer in answered])
        for name, answered in answers.items()
    }
    rows = []
    for name, taken in times.items():
        ratio = np.mean(times[measure.PEER]) / np.mean(taken)
        p50, p99 = 1e3 * np.percentile(taken, [50, 99])
        rows.append([str(batch), name, batch / np.mean(taken), ratio, p50, p99])
    return rows


def serve(folder, system):
    """Classifies the texts that are asked for."""
    path = folder / SYSTEMS[system]
    if system == measure.PEER:
        classify = pipeline(path)
    else:
        classify = saved_model(path, threads=int(system in ONE_THREAD))

    def answer(texts, batch=None):
        if batch is None:
            return {"labels": classify(texts)}
        seconds = []
        starts = itertools.cycle(range(0, len(texts) - batch + 1, batch))
        # The first one finds cold caches.
        while sum(seconds[1:]) < 1 or len(seconds) < 4:
            first = next(starts)
            chosen = texts[first : first + batch]
            seconds.append(measure.timed(lambda part=chosen: classify(part)))
        return {"seconds": seconds[1:]}

    measure.answer(answer)


def saved_model(folder, threads):
    """Returns a callable from a list of texts to the classes' names.

    Args:
        folder: path.
        threads: int, of an operation; 0 for all.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]

    def classify(texts, loaded=loaded):
        found = signature(text=tf.constant(texts))["label"]
        return [name.decode() for name in found.numpy()]

    return classify


def pipeline(folder):
    """Returns the same of transformers, in PyTorch."""
    import json

    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    classifier = transformers.pipeline(
        "text-classification", model=str(folder), device="cpu"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())

    def classify(texts):
        found = classifier(
            texts,
            batch_size=len(texts),
            truncation=True,
            max_length=config["model_max_length"],
        )
        return [answer["label"] for answer in found]

    return classify


if __name__ == "__main__":
    main()
