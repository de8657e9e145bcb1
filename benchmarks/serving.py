"""Measures text-in, class-out serving against transformers' pipeline.

python -m benchmarks.serving
python -m benchmarks.serving --run_dir=runs/freelb

The SavedModel, in float32 and in bfloat16, and PyTorch's text-classification
pipeline have the same weights and answer batches of film reviews, in turns of
a second. Without --run_dir the weights are those after a few updates. Needs
PyTorch (`make test-torch` installs it) and transformers.
"""

import argparse
import os
import pathlib
import tempfile
import time

import numpy as np
import tensorflow as tf
import torch
import transformers
from tqdm import tqdm

import tfadv
from tfadv import export, training
from tfadv.data import movie_reviews
from tfadv.data.examples import Examples, TextDataset


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run_dir", help="a run; by default a new one")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--seconds", type=float, default=10, help="for each cell of the table"
    )
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    texts = movie_reviews.load().test.texts
    with tempfile.TemporaryDirectory() as folder:
        systems = open_systems(options.run_dir, pathlib.Path(folder))
        check(systems, texts[:256])
        print("| batch | system | texts a second | ratio | p50 ms | p99 ms |")
        print("|---|---|---|---|---|---|")
        for batch in options.batches:
            measured = measure(systems, texts, batch, options.seconds)
            peer = batch / np.mean(measured["PyTorch"])
            for name, seconds in measured.items():
                rate = batch / np.mean(seconds)
                p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
                print(
                    f"| {batch} | {name} | {rate:.0f} | {rate / peer:.2f} | "
                    f"{p50:.1f} | {p99:.1f} |"
                )


def open_systems(run_dir, folder):
    """Exports a run three times, and opens each.

    Returns:
        dict of callables from a list of texts to the classes' names.
    """
    if run_dir is None:
        run_dir = folder / "run"
        dataset = movie_reviews.load()
        few = Examples(dataset.train.texts[:256], dataset.train.labels[:256])
        training.train(
            TextDataset("reviews", dataset.label_names, few, None, None),
            training.Settings(method="baseline", epochs=1, learning_rate=2e-4),
            run_dir,
        )
    run = tfadv.load(run_dir, precision="float32")
    systems = {}
    for precision in ("float32", "bfloat16"):
        written = export.saved_model(run, folder / "exports", precision)
        systems[f"tfadv, {precision}"] = saved_model(written)
    checkpoint = export.transformers_checkpoint(run, folder / "checkpoint")
    pipeline = transformers.pipeline(
        "text-classification", model=str(checkpoint), device="cpu"
    )
    length = run.description["max_length"]

    def answer(texts):
        answers = pipeline(
            texts, batch_size=len(texts), truncation=True, max_length=length
        )
        return [found["label"] for found in answers]

    return {**systems, "PyTorch": answer}


def saved_model(folder):
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]

    def answer(texts, loaded=loaded):
        found = signature(text=tf.constant(texts))["label"]
        return [name.decode() for name in found.numpy()]

    return answer


def check(systems, texts):
    """Stops where the systems do not do the same."""
    expected = systems["PyTorch"](texts)
    for name, answer in systems.items():
        same = np.mean(
            [a == b for a, b in zip(answer(texts), expected, strict=True)]
        )
        assert same > (0.95 if "bfloat16" in name else 0.999), (name, same)


def measure(systems, texts, batch, seconds):
    """Times batches of texts, in blocks of a second.

    In turns batch by batch, the threads of PyTorch, which wait actively for a
    while, would take the next system's time.

    Returns:
        dict of lists, the seconds of every batch, by system.
    """
    measured = {name: [] for name in systems}
    rng = np.random.default_rng(0)
    for _ in tqdm(range(round(seconds)), f"batches of {batch}", disable=None):
        for name, answer in systems.items():
            time.sleep(0.3)
            block = []
            while sum(block) < 1 or len(block) < 3:
                chosen = [texts[i] for i in rng.integers(0, len(texts), batch)]
                start = time.perf_counter()
                answer(chosen)
                block.append(time.perf_counter() - start)
            # The first one finds cold caches.
            measured[name] += block[1:]
    return measured


if __name__ == "__main__":
    main()
