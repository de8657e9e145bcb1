"""Trains the same on one, two and four replicas; prints how they differ.

python -m tests.replica_runs freelb rar

A process of its own, for a device can be cut into logical ones only before
TensorFlow has used it. Every run begins with the same weights, sees the same
batches, one of which leaves one of four replicas without an example, and has no
dropout, whose masks are drawn on each replica.
"""

import argparse
import functools
import json
import os
import pathlib
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfadv
from tests import tiny_run
from tfadv import replicas
from tfadv.data import batching
from tfadv.encoders import activations
from tfadv.text.tokenizer import Tokenizer

BATCH = 8
EXAMPLES = 19  # batches of 8, 8 and 3
STEPS = 20
STARTED = 3  # updates before CARL joins

# Settings of FreeLB, and of the objectives; a norm that gradients are clipped
# to; and whether examples are weighted, some with 0.
CASES = {
    "baseline": (None, {}),
    "baseline, clipped": (None, {"clip": 0.05}),
    "freelb": ({"steps": 2}, {}),
    "freelb, gamma": ({"steps": 2, "init_magnitude": 0.2}, {}),
    "carl, nce sampled": ({}, {"loss": "nce", "num_negatives": 5}),
    "carl, nce all": ({}, {"loss": "nce", "num_negatives": None}),
    "carl, infonce sampled": ({}, {"loss": "infonce", "num_negatives": 5}),
    "carl, infonce all": ({}, {"loss": "infonce", "num_negatives": None}),
    "carl, nce all, weighted": (
        {},
        {"loss": "nce", "num_negatives": None, "weighted": True},
    ),
    "rar": ({"steps": 2}, {"rar": True}),
    "carl_rar": (
        {},
        {"loss": "infonce", "num_negatives": 5, "rar": True},
    ),
}
SHARDED = [name for name in CASES if name.startswith("carl")]


def run(case, folder, data, strategy, sharded, steps, started):
    """Trains a case; CARL joins after `started` of the steps.

    Returns:
        dict of lists of arrays: losses, weights, optimizer and banks.
    """
    freelb, settings = CASES[case]
    settings = dict(settings)
    clip = settings.pop("clip", None)
    weighted = settings.pop("weighted", False)
    keras.utils.set_random_seed(3)
    labels = data.labels
    with strategy.scope():
        encoder = tfadv.Encoder.from_pretrained(folder, dropout=0.0)
        objectives = []
        if settings.pop("rar", False):
            objectives.append(tfadv.ReconstructionObjective([0, 1, 2, 3, 4]))
        if settings:
            objectives.append(
                tfadv.ContrastiveObjective(
                    labels, bank_sharding=sharded, seed=1, **settings
                )
            )
        adversary = None
        if freelb is not None:
            adversary = tfadv.FreeLB(**{"steps": 2, "step_size": 0.1, **freelb})
        classifier = tfadv.AdversarialClassifier(
            encoder, 2, adversary, objectives, dropout=0.0
        )
        # Adam divides by the size of a gradient: where that is rounding
        # error, so would be the step.
        optimizer = keras.optimizers.Adam(
            1e-3, epsilon=1e-3, global_clipnorm=clip
        )
        classifier.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        optimizer.build(classifier.trainable_variables)
    losses = LossOfEveryStep()
    batches = batching.training_batches(data, BATCH, seed=5, epochs=100)
    if weighted:
        weights = tf.constant(np.arange(len(data)) % 4 / 2, tf.float32)
        batches = batches.map(
            lambda x, y: (x, y, tf.gather(weights, x["index"]))
        )
    contrastive = [o for o in objectives if hasattr(o, "bank")]
    made = 0
    for count in (started, steps - started) if contrastive else (steps,):
        if count:
            history = classifier.fit(
                batches.skip(made),
                steps_per_epoch=count,
                shuffle=False,
                verbose=0,
                callbacks=[losses],
                validation_data=batching.evaluation_batches(data, 16),
            ).history
        made += count
        for objective in contrastive:
            if not objective.active:
                objective.start(
                    classifier, batching.evaluation_batches(data, 5), verbose=0
                )
    return {
        "losses": [*losses.values, *(v[-1] for v in history.values())],
        "weights": [v.numpy() for v in classifier.weights],
        "optimizer": [v.numpy() for v in optimizer.variables],
        "banks": [
            objective.bank.numpy(table)
            for objective in contrastive
            for table in (objective.bank.clean, objective.bank.adversarial)
        ],
    }


@functools.cache
def mirrored(count, several):
    """Returns the strategy of some logical CPU devices.

    Its collective operations, the default, know one strategy a process:
    several do without.
    """
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(count)],
        tf.distribute.ReductionToOneDevice() if several else None,
    )


class LossOfEveryStep(keras.callbacks.Callback):
    """Notes the running means that Keras shows."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values += [float(value) for value in logs.values()]


def differences(found, expected):
    """Returns the largest difference of each part."""
    result = {}
    for part, arrays in expected.items():
        pairs = zip(arrays, found[part], strict=True)
        gaps = [np.max(np.abs(np.subtract(a, b)), initial=0) for a, b in pairs]
        result[part] = float(max(gaps, default=0))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--started", type=int, default=STARTED)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # Compiled, as encoders of usual sizes are.
    activations._WIDE = 1
    workers = None
    if "TF_CONFIG" in os.environ:
        # Before anything else; they train all cases together.
        workers = replicas.strategy("multi_worker")
        options.replicas = [workers.num_replicas_in_sync]
    else:
        [cpu] = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()]
        tf.config.set_logical_device_configuration(
            cpu, logical * max(options.replicas)
        )
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        folder = tiny_run.encoder_folder(pathlib.Path(folder))
        tokenizer = Tokenizer.from_pretrained(folder, 16)
        data = batching.tokenize(
            tiny_run.examples(options.examples, 4), tokenizer
        )
        for case in options.cases:
            expected = run(
                case,
                folder,
                data,
                tf.distribute.get_strategy(),
                False,
                options.steps,
                options.started,
            )
            for count in options.replicas:
                for sharded in (False, True):
                    if sharded and (
                        case not in SHARDED or count == 1 or workers
                    ):
                        continue
                    strategy = workers or mirrored(
                        count, len(set(options.replicas)) > 1
                    )
                    found = run(
                        case,
                        folder,
                        data,
                        strategy,
                        sharded,
                        options.steps,
                        options.started,
                    )
                    line = {
                        "case": case + (", sharded" if sharded else ""),
                        "replicas": count,
                        **differences(found, expected),
                    }
                    lines.append(line)
                    if not options.json:
                        print_line(line, first=len(lines) == 1)
    if options.json:
        print(json.dumps(lines))


def print_line(line, first):
    """Prints a row of a table."""
    if first:
        print("| " + " | ".join(line) + " |")
        print("|" + "---|" * len(line))
    cells = [f"{v:.1e}" if isinstance(v, float) else v for v in line.values()]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
