"""Measures updates of all methods, on one batch, in time and in memory.

python -m benchmarks.training_step
python -m benchmarks.training_step --encoder=all-minilm-l6-v2 --tokens=32

Times are taken in turns in one process. Memory is the peak of a process that
makes one update and nothing else. The parts are what an objective alone costs:
its forward and backward computation on given representations, and for CARL
the bank's update.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import time

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import tfadv

ALBERT_BASE = "albert-base"
METHODS = (
    "plain",
    "FreeLB",
    "CARL, m sampled",
    "CARL, m = all",
    "RAR, dense logits",
    "RAR",
    "CARL + RAR",
)
PARTS = ("CARL, m sampled", "CARL, m = all", "RAR, dense logits", "RAR")


class DenseReconstruction(tfadv.ReconstructionObjective):
    """RAR as it is usually written: the logits of all tokens at once."""

    def loss(self, inputs, labels, clean, adversarial, sample_weight=None):
        hidden = self._transform(adversarial["sequence_output"])
        logits = tf.matmul(hidden, self._embeddings(), transpose_b=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            inputs["token_ids"], logits + tf.convert_to_tensor(self.bias)
        )
        words = tf.cast(self.words(inputs), tf.float32)
        means = tf.reduce_sum(losses * words, 1) / tf.reduce_sum(words, 1)
        return tf.reduce_mean(means)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--encoder",
        default=ALBERT_BASE,
        help="albert-base (its true sizes, random weights), or a name or "
        "folder as tools.train takes it",
    )
    parser.add_argument("--steps", type=int, default=3, help="n of FreeLB")
    parser.add_argument(
        "--gamma", type=float, default=0.0, help="random start of FreeLB"
    )
    parser.add_argument("--batch", type=int, default=32, help="texts")
    parser.add_argument("--tokens", type=int, default=64, help="of each text")
    parser.add_argument(
        "--examples", type=int, default=67349, help="rows of CARL's banks"
    )
    parser.add_argument("--negatives", type=int, default=16000, help="m")
    parser.add_argument("--bank_dtype", default="float32")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(peak_memory(options))
        return
    print(
        f"{options.encoder}, {options.precision}, {options.batch} texts x "
        f"{options.tokens} tokens, n = {options.steps}, gamma = "
        f"{options.gamma}, banks of {options.examples} rows, m = "
        f"{options.negatives}",
        flush=True,
    )
    base = "FreeLB" if "FreeLB" in options.methods else options.methods[0]
    seconds = time_table(base, options)
    parts_table(base, seconds, options)
    memory_table(base, options)


def time_table(base, options):
    """Prints what an update of each method takes, and returns the base's."""
    updates, first = {}, {}
    for name in tqdm(options.methods, "tracing"):
        updates[name] = make_update(name, options)
        first[name] = timed(updates[name])
    medians = in_turns(updates, options.repeats)
    print(f"\n| update | seconds | ratio to {base} | first, with tracing |")
    print("| --- | --- | --- | --- |")
    for name, median in medians.items():
        ratio = median / medians[base]
        print(f"| {name} | {median:.2f} | {ratio:.3f} | {first[name]:.1f} |")
    sys.stdout.flush()
    return medians[base]


def parts_table(base, seconds, options):
    """Prints what the objectives alone cost, in time and in memory."""
    parts = {name: make_part(name, options) for name in PARTS}
    for part in parts.values():
        part()
    medians = in_turns(parts, max(options.repeats, 5))
    del parts
    nothing = in_a_process("part: nothing", options)
    print(f"\n| part | seconds | % of {base}'s update | peak MiB |")
    print("| --- | --- | --- | --- |")
    for name, median in medians.items():
        memory = in_a_process(f"part: {name}", options) - nothing
        share = 100 * median / seconds
        print(f"| {name} | {median:.3f} | {share:.2f} | {memory:.0f} |")
    sys.stdout.flush()


def memory_table(base, options):
    """Prints the peak memory of a process that makes one update."""
    memory = {
        name: in_a_process(name, options)
        for name in tqdm(options.methods, "memory")
    }
    print(f"\n| update | peak MiB | ratio to {base} |")
    print("| --- | --- | --- |")
    for name, peak in memory.items():
        print(f"| {name} | {peak:.0f} | {peak / memory[base]:.2f} |")


def in_turns(functions, repeats):
    """Returns each function's median time.

    They take turns, so that a busy moment of the machine hits all alike.
    """
    times = {name: [] for name in functions}
    for _ in tqdm(range(repeats), "rounds"):
        for name, function in functions.items():
            times[name].append(timed(function))
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def in_a_process(name, options):
    """Returns the peak memory, in MiB, of a process that does one thing."""
    arguments = [
        f"--{key}={value}"
        for key, value in vars(options).items()
        if key not in ("only", "methods")
    ]
    command = [sys.executable, "-m", "benchmarks.training_step"]
    called = subprocess.run(
        [*command, *arguments, f"--only={name}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(called.stdout)


def peak_memory(options):
    name = options.only
    if name.startswith("part: "):
        make_part(name.removeprefix("part: "), options)()
    else:
        make_update(name, options)()
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def make_update(name, options):
    encoder = make_encoder(options)
    objectives = [
        make_objective(part, options) for part in objective_names(name)
    ]
    adversary = tfadv.FreeLB(steps=options.steps, init_magnitude=options.gamma)
    classifier = tfadv.AdversarialClassifier(
        encoder,
        2,
        None if name == "plain" else adversary,
        objectives,
        dtype=options.precision,
    )
    classifier.compile(
        keras.optimizers.Adam(5e-5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    classifier.optimizer.build(classifier.trainable_weights)
    for objective in objectives:
        start(objective)
    inputs, labels = make_batch(encoder, options)
    return tf.function(
        lambda: classifier.train_step((inputs, labels)), autograph=False
    )


def make_part(name, options):
    """Returns an objective's computation on representations."""
    if name == "nothing":
        make_encoder(options)
        return lambda: None
    encoder = make_encoder(options)
    objective = make_objective(name, options)
    objective.attach(encoder)
    start(objective)
    inputs, labels = make_batch(encoder, options)
    hidden = [options.batch, options.tokens, encoder.hidden_dim]
    representations = {
        kind: {
            "pooled_output": tf.random.normal(hidden[::2]),
            "sequence_output": tf.random.normal(hidden),
        }
        for kind in ("clean", "adversarial")
    }
    sources = [*objective.trainable_weights, encoder.token_embedding.embeddings]

    @tf.function(autograph=False)
    def part():
        with tf.GradientTape() as tape:
            tape.watch(representations)
            loss = objective.loss(inputs, labels, **representations)
        gradients = tape.gradient(loss, [representations, sources])
        gradients = [g for g in tf.nest.flatten(gradients) if g is not None]
        with tf.control_dependencies(gradients):
            objective.update(inputs, **representations)
        return gradients

    return part


def objective_names(name):
    return [] if name in ("plain", "FreeLB") else name.split(" + ")


def make_objective(name, options):
    if name == "RAR":
        return tfadv.ReconstructionObjective([0, 2, 3])
    if name == "RAR, dense logits":
        return DenseReconstruction([0, 2, 3])
    labels = np.random.default_rng(0).integers(0, 2, options.examples)
    return tfadv.ContrastiveObjective(
        labels,
        num_negatives=None if name.endswith("all") else options.negatives,
        bank_dtype=options.bank_dtype,
        seed=0,
    )


def start(objective):
    """Fills a bank at random and lets its objective take part."""
    if isinstance(objective, tfadv.ContrastiveObjective):
        for table in (objective.bank.clean, objective.bank.adversarial):
            table.assign(tf.random.normal(table.shape, dtype=table.dtype))
        objective.join()


def make_encoder(options):
    if options.encoder != ALBERT_BASE:
        return tfadv.Encoder.from_pretrained(
            options.encoder, dtype=options.precision
        )
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=30000,
        num_layers=12,
        num_heads=12,
        embedding_dim=128,
        hidden_dim=768,
        intermediate_dim=3072,
        dropout=0.1,
        dtype=options.precision,
    )
    return tfadv.Encoder(backbone, "gelu_new", dtype=options.precision)


def make_batch(encoder, options):
    rng = np.random.default_rng(0)
    shape = [options.batch, options.tokens]
    vocabulary = encoder.backbone.vocabulary_size
    index = rng.choice(options.examples, options.batch, replace=False)
    inputs = {
        "token_ids": tf.constant(rng.integers(4, vocabulary, shape), tf.int32),
        "padding_mask": tf.ones(shape, tf.int32),
        "segment_ids": tf.zeros(shape, tf.int32),
        "index": tf.constant(index, tf.int32),
    }
    return inputs, tf.constant(rng.integers(0, 2, options.batch))


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
