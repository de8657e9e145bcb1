"""Measures a FreeLB update against a plain one, on the same batch.

python -m benchmarks.training_step --steps=3 --batch=32 --tokens=32
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import tfadv


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="all-minilm-l6-v2")
    parser.add_argument("--steps", type=int, default=3, help="n of FreeLB")
    parser.add_argument("--batch", type=int, default=32, help="texts")
    parser.add_argument("--tokens", type=int, default=32, help="of each text")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=8)
    options = parser.parse_args()
    updates = {
        "plain": make_update(options, None),
        f"FreeLB, n = {options.steps}": make_update(
            options, tfadv.FreeLB(steps=options.steps)
        ),
    }
    first = {name: timed(update) for name, update in updates.items()}
    for update in updates.values():
        update()
    # Taken in turns, so that a busy moment of the machine hits all alike.
    times = {name: [] for name in updates}
    for _ in range(options.repeats):
        for name, update in updates.items():
            times[name].append(timed(update))
    plain = statistics.median(times["plain"])
    print(f"{options.encoder}, {options.batch} texts x {options.tokens} tokens")
    print("| update | seconds | ratio to plain | first, with tracing |")
    print("| --- | --- | --- | --- |")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"| {name} | {median:.2f} | {median / plain:.2f} | "
            f"{first[name]:.1f} |"
        )


def make_update(options, adversary):
    encoder = tfadv.Encoder.from_pretrained(
        options.encoder, dtype=options.precision
    )
    classifier = tfadv.AdversarialClassifier(
        encoder, 2, adversary=adversary, dtype=options.precision
    )
    classifier.compile(
        keras.optimizers.Adam(5e-5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    classifier.optimizer.build(classifier.trainable_weights)
    rng = np.random.default_rng(0)
    shape = [options.batch, options.tokens]
    vocabulary = encoder.backbone.vocabulary_size
    inputs = {
        "token_ids": tf.constant(rng.integers(0, vocabulary, shape), tf.int32),
        "padding_mask": tf.ones(shape, tf.int32),
        "segment_ids": tf.zeros(shape, tf.int32),
    }
    labels = tf.constant(rng.integers(0, 2, options.batch))
    return tf.function(
        lambda: classifier.train_step((inputs, labels)), autograph=False
    )


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
