"""What holds on two replicas besides their results; prints it as JSON.

python -m tests.replica_checks overflow

A process of its own, as `tests.replica_runs` is.
"""

import contextlib
import io
import json
import logging
import os
import pathlib
import sys
import tempfile
from unittest import mock

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfadv
from tests import outside_method, tiny_run
from tfadv import replicas
from tfadv.data import batching
from tfadv.inference import evaluation as evaluating
from tfadv.log import logger
from tfadv.objectives.settings import ContrastiveSettings
from tfadv.text.tokenizer import Tokenizer
from tfadv.training import backup, callbacks, loop
from tfadv.tuning import search as searches
from tfadv.tuning.settings import Tuning

EXAMPLES = 9
LOSS_SCALE = 1024.0


def make(folder, objectives=(), optimizer=None, **options):
    """Makes a compiled classifier in the scope of the present strategy."""
    options = {"dropout": 0.0, "dtype": "float32", **options}
    encoder = tfadv.Encoder.from_pretrained(
        folder, dropout=options["dropout"], dtype=options["dtype"]
    )
    classifier = tfadv.AdversarialClassifier(
        encoder, 2, tfadv.FreeLB(steps=2), objectives, **options
    )
    optimizer = optimizer or keras.optimizers.Adam(1e-3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(optimizer, loss, metrics=["accuracy"])
    optimizer.build(classifier.trainable_variables)
    return classifier


def fit(classifier, data, weights=None, steps=1):
    """Trains on batches of all examples, in the order of their lengths."""
    batches = batching.evaluation_batches(data, EXAMPLES).repeat()
    if weights is not None:
        weights = tf.constant(weights, tf.float32)
        batches = batches.map(lambda x, y: (x, y, weights))
    classifier.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)


def overflow(folder, data):
    """float16: a gradient that overflows on the second replica alone."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-3, clipnorm=1.0), initial_scale=LOSS_SCALE
    )
    classifier = make(folder, optimizer=optimizer, dtype="mixed_float16")
    found = {}
    weights = np.ones(EXAMPLES)
    for name, last in {"calm": 1.0, "overflow": 1e8, "calm again": 1.0}.items():
        before = [v.numpy() for v in classifier.trainable_weights]
        weights[-1] = last
        fit(classifier, data, weights)
        copies = [
            [copy.numpy() for copy in replicas.local_copies(weight)]
            for weight in classifier.trainable_weights
        ]
        moved = [np.abs(a - b[0]) for a, b in zip(before, copies, strict=True)]
        found[name] = {
            "scales": copies_of(optimizer.dynamic_scale),
            "updates": copies_of(optimizer.iterations),
            "moved": max(float(m.max()) for m in moved),
            "apart": max(float(np.abs(a - b).max()) for a, b in copies),
        }
    return found


def copies_of(variable):
    return [float(copy.numpy()) for copy in replicas.local_copies(variable)]


def sharded_bank(folder, data):
    """A sharded bank is saved whole, and loads where it is whole or not."""

    def trained(sharded, steps=0):
        objective = tfadv.ContrastiveObjective(
            data.labels, num_negatives=3, seed=1, bank_sharding=sharded
        )
        classifier = make(folder, [objective])
        if steps:
            batches = batching.evaluation_batches(data, 5)
            objective.start(classifier, batches, verbose=0)
            fit(classifier, data, steps=steps)
        return classifier, objective

    def tables(objective):
        bank = objective.bank
        return [bank.numpy(bank.clean), bank.numpy(bank.adversarial)]

    classifier, objective = trained(True, steps=2)
    found = {"shapes": [v.shape.as_list() for v in objective.bank.variables]}
    path = pathlib.Path(folder) / "x.weights.h5"
    classifier.save_weights(path)
    for name, sharded in {"sharded": True, "whole": False}.items():
        other, others = trained(sharded)
        other.load_weights(path)
        assert others.active
        found[name] = gap(tables(objective), tables(others))
    state = backup.Backup(folder, classifier, [], {}, 1, 9)
    state.write()
    expected = [*tables(objective), *(v.numpy() for v in classifier.weights)]
    fit(classifier, data)
    found["trained on"] = gap(tables(objective), expected[:2])
    state.restore()
    restored = [*tables(objective), *(v.numpy() for v in classifier.weights)]
    return {**found, "restored": gap(restored, expected)}


def gap(found, expected):
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def dropout(folder, data):
    """Replicas drop out different entries, and count on alike."""
    classifier = make(folder, dropout=0.5)
    states = classifier.seed_states()
    strategy = tf.distribute.get_strategy()

    @tf.function
    def masks():
        def draw():
            with replicas.own_seeds(states):
                return classifier.head_dropout(tf.ones([1, 64]), training=True)

        return strategy.experimental_local_results(strategy.run(draw))

    one, other = masks()
    fit(classifier, data)
    return {
        "masks differ": bool(tf.reduce_any(one != other)),
        "states": [
            [copy.numpy().tolist() for copy in replicas.local_copies(state)]
            for state in states
        ],
    }


def evaluation(folder, data):
    """Evaluation and prediction, with a batch that leaves one without any."""
    classifier = make(folder)
    batches = batching.evaluation_batches(data, 4)
    loss, accuracy = classifier.evaluate(batches, verbose=0)
    logits = classifier.predict(batches, verbose=0)
    expected = np.concatenate([classifier(x).numpy() for x, _ in batches])
    labels = np.concatenate([y.numpy() for _, y in batches])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, expected)
    return {
        "logits": float(np.abs(logits - expected).max()),
        "loss": abs(loss - float(tf.reduce_mean(losses))),
        "accuracy": abs(accuracy - np.mean(expected.argmax(1) == labels)),
    }


def reduction(folder, data):
    """A loss that is not a mean has no mean over replicas."""
    classifier = make(folder)
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")
    classifier.compile(keras.optimizers.SGD(0.1), loss)
    try:
        fit(classifier, data)
    except tfadv.InputError as error:
        return error.code
    return ""


@contextlib.contextmanager
def logged():
    """Collects what the library tells meanwhile, in a `StringIO`."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield text
    logger.removeHandler(handler)


class CutError(Exception):
    """Stands for what ends a process."""


def outside(folder, data):
    """A run of an outside method on two devices, and what it records."""
    settings = tiny_run.changed(
        run_settings(folder),
        method="stability",
        objectives={"stability": outside_method.StabilitySettings(scale=2.0)},
    )
    output = pathlib.Path(folder) / "outside"
    results = tfadv.train(tiny_run.dataset(), settings, output)
    run = tfadv.load(output)
    test = batching.tokenize(tiny_run.dataset().test, run.tokenizer)
    again = evaluating.evaluate(run.classifier, test)
    line = (output / "metrics.jsonl").read_text().splitlines()[-1]
    return {
        "accuracies": [results["test_accuracy"], again["accuracy"]],
        "metrics": json.loads(line),
        "objectives": run.record.to_dict()["settings"]["objectives"],
    }


def run_settings(folder):
    """Two epochs of 13 updates on two devices, with a sharded bank."""
    contrastive = ContrastiveSettings(
        num_negatives=20, start_epoch=0.5, bank_sharding=True
    )
    return tiny_run.settings(
        folder,
        method="carl_rar",
        objectives={"contrastive": contrastive},
        max_length=16,
        epochs=2,
        batch_size=7,
        learning_rate=1e-3,
        strategy="mirrored",
        backup_seconds=1e-9,
    )


def resumed(folder, data):
    """A run on two devices that was cut off in an epoch ends the same."""
    settings, dataset = run_settings(folder), tiny_run.dataset()
    output = {name: pathlib.Path(folder) / name for name in ("one", "two")}
    expected = loop.train(dataset, settings, output["one"])
    counted = callbacks.StopAtStep.on_train_batch_end

    def stop(self, batch, logs=None):
        counted(self, batch, logs)
        if self._steps == 18:
            raise CutError

    cut = "tfadv.training.callbacks.StopAtStep.on_train_batch_end"
    with (
        mock.patch(cut, stop),
        mock.patch("tfadv.training.backup._LARGEST_SHARE", 1e9),
        contextlib.suppress(CutError),
    ):
        loop.train(dataset, settings, output["two"])
    with logged() as printed:
        found = loop.train(dataset, settings, output["two"])
    lines = [
        (path / "metrics.jsonl").read_text().splitlines()
        for path in output.values()
    ]
    lines = [[json.loads(line) for line in part] for part in lines]
    apart = {
        name: abs(value - other[name])
        for one, other in zip(*lines, strict=True)
        for name, value in one.items()
        if name != "seconds"
    }
    weights = [
        [v.numpy() for v in tfadv.load(path).classifier.weights]
        for path in output.values()
    ]
    return {
        "printed": printed.getvalue(),
        "metrics": apart,
        "weights": gap(*weights),
        "accuracies": [r["test_accuracy"] for r in (expected, found)],
    }


def train(folder, data):
    """A whole run on two devices, with a sharded bank."""
    settings = run_settings(folder)
    dataset = tiny_run.dataset()
    output = pathlib.Path(folder) / "run"
    with logged() as printed:
        results = loop.train(dataset, settings, output)
    run = tfadv.load(output)
    test = batching.tokenize(dataset.test, run.tokenizer)
    again = evaluating.evaluate(run.classifier, test)
    return {
        "steps": results["steps"],
        "accuracies": [results["test_accuracy"], again["accuracy"]],
        "printed": printed.getvalue(),
    }


def search(folder, data):
    """A search, every trial of which trains on two devices."""
    tuned = Tuning(
        coarse_trials=2,
        fine_trials=1,
        objective="mix",
        epsilon=0.1,
    )
    dataset, output = tiny_run.dataset(), pathlib.Path(folder) / "search"
    with logged() as printed:
        trials = searches.search(dataset, run_settings(folder), tuned, output)
    return {
        "status": [trial["status"] for trial in trials],
        "printed": printed.getvalue(),
    }


CHECKS = {
    f.__name__: f
    for f in (
        overflow,
        sharded_bank,
        dropout,
        evaluation,
        reduction,
        train,
        resumed,
        search,
        outside,
    )
}


def main():
    [cpu] = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, logical * 2)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = tiny_run.encoder_folder(pathlib.Path(folder))
        tokenizer = Tokenizer.from_pretrained(folder, 16)
        data = batching.tokenize(tiny_run.examples(EXAMPLES, 4), tokenizer)
        with contextlib.redirect_stdout(sys.stderr):
            for name in sys.argv[1:] or CHECKS:
                check = CHECKS[name]
                strategy = replicas.strategy("mirrored")
                # Runs enter the scope themselves.
                runs = check in (train, resumed, search, outside)
                with contextlib.nullcontext() if runs else strategy.scope():
                    found[name] = check(folder, data)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
