"""A training run, from a dataset and an encoder's name to a run folder."""

import dataclasses
import hashlib
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tfadv import files, replicas
from tfadv.data import batching, split_ids
from tfadv.errors import InputError
from tfadv.runs import evaluation, methods, run_folder
from tfadv.runs.run import build_classifier, kept_part
from tfadv.sources import names
from tfadv.text.tokenizer import Tokenizer
from tfadv.training import callbacks, optimizers
from tfadv.training.backup import Backup
from tfadv.training.schedules import LinearDecayWithWarmup
from tfadv.update import slices


def train(dataset, settings, output_dir, flags="", overwrite=False):
    """Trains a classifier and writes its run folder.

    After every epoch the classifier is measured on the dev split; the weights
    of the best epoch are kept, and tested.

    Where the folder holds a run that was cut off, and its texts, settings and
    flags are the same, training goes on from its last backup, and ends as if
    it had never stopped.

    Args:
        dataset: `tfadv.data.examples.TextDataset`.
        settings: `Settings`.
        output_dir: path of the folder to write, see `tfadv.runs.run_folder`.
        flags: string for `flags.cfg`.
        overwrite: bool, whether an earlier run in the folder is replaced.

    Returns:
        dict, the content of `results.json`.

    Raises:
        InputError: bad input, or a loss that is not finite.
        TerminatedError: SIGTERM has ended training; call this again to go on.

    Example:

    ```python
    dataset = tfadv.data.catalogue.load("movie_reviews")
    settings = Settings(max_steps=100)
    results = train(dataset, settings, "runs/freelb")
    ```
    """
    folder = pathlib.Path(output_dir)
    methods.check_method(settings.method)
    # Before TensorFlow does anything else: machines find together only then.
    strategy = replicas.strategy(settings.strategy)
    with strategy.scope():
        if replicas.is_chief():
            run_folder.check_output(folder, overwrite, flags)
            return _train(dataset, settings, folder, flags, overwrite)
        # All machines do the same; what the others write is not kept.
        with tempfile.TemporaryDirectory() as own:
            own = pathlib.Path(own) / "run"
            return _train(dataset, settings, own, flags, overwrite, folder)


def _train(dataset, settings, folder, flags, overwrite, chief_folder=None):
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    encoder_folder = names.resolve(settings.encoder)
    tokenizer = Tokenizer.from_pretrained(encoder_folder, settings.max_length)
    description = {
        "method": settings.method,
        "encoder": settings.encoder,
        "dataset": dataset.name,
        "label_names": list(dataset.label_names),
        "max_length": settings.max_length,
        "perturb_at": settings.perturb_at,
        "precision": settings.precision,
        "adversary": None,
        "objectives": methods.describe(
            settings.method,
            settings.contrastive,
            settings.reconstruction,
            tokenizer.special_ids,
        ),
    }
    steps_per_epoch = -(-len(dataset.train) // settings.batch_size)
    total_steps = steps_per_epoch * settings.epochs
    if settings.max_steps is not None:
        total_steps = min(total_steps, settings.max_steps)
    if settings.method != "baseline":
        description["adversary"] = {
            **settings.adversary.get_config(),
            "warmup_steps": round(
                settings.adversary_warmup_proportion * total_steps
            ),
        }
    starts = {
        name: getattr(settings, name).first_step(steps_per_epoch, total_steps)
        for name in description["objectives"]
    }
    classifier = build_classifier(
        encoder_folder,
        description,
        train_labels=dataset.train.labels,
        seed=settings.seed,
    )
    classifier.accumulation_steps = settings.accumulation_steps
    if settings.accumulation_steps > 1:
        slices.check_replicas(classifier.objectives)
    classifier.encoder.check_tokenizer(
        tokenizer, f"--encoder={settings.encoder}"
    )
    for objective in classifier.objectives:
        objective.load_from_checkpoint(encoder_folder)
        if starts[objective.name]:
            objective.wait()
    splits = {
        name: batching.tokenize(split, tokenizer, name)
        for name in ("train", "dev", "test")
        if (split := getattr(dataset, name)) is not None
    }
    classifier.compile(
        optimizer=optimizers.Adam(_learning_rate(settings, total_steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Every shape would be compiled by itself, which takes far longer than
        # an epoch of fine-tuning on the CPU gains.
        jit_compile=False,
    )
    _make_variables(classifier)
    with files.claimed(folder):
        # Again, for another process may have come first.
        resumed = run_folder.check_output(folder, overwrite, flags)
        if settings.strategy == "multi_worker":
            resumed = _as_the_chief(resumed, folder, chief_folder)
        try:
            if not resumed:
                run_folder.create(folder, description, flags)
                _write_inputs(folder, dataset, encoder_folder, tokenizer)
            return _fit(
                classifier,
                splits,
                settings,
                folder,
                _identity(settings, description, dataset),
                steps_per_epoch,
                total_steps,
                starts,
                resumed,
            )
        except (OSError, tf.errors.OpError) as error:
            # TensorBoard's writer has no OSError.
            logs = str(folder / run_folder.TENSORBOARD)
            if isinstance(error, tf.errors.OpError) and logs not in str(error):
                if settings.strategy != "multi_worker":
                    raise
                reason = str(error).strip().split("\n")[-1]
                raise InputError(
                    f"--strategy=multi_worker: training ended, as it does "
                    f"when a worker is gone ({reason[:200]}); start the same "
                    "command on all machines: it goes on from the last backup"
                ) from error
            raise files.unwritable(folder, error) from error


def _fit(
    classifier,
    splits,
    settings,
    folder,
    identity,
    steps_per_epoch,
    total_steps,
    starts,
    resumed,
):
    best = callbacks.BestWeights(
        folder / run_folder.WEIGHTS, waiting_room=folder / run_folder.BACKUP
    )
    timer = callbacks.StepTimer()
    dev = None
    if "dev" in splits:
        dev = batching.evaluation_batches(splits["dev"], settings.slice_size)
    objective_starts = [
        callbacks.StartObjective(
            objective,
            batching.evaluation_batches(splits["train"], settings.batch_size),
            starts[objective.name],
        )
        for objective in classifier.objectives
        if not objective.active
    ]
    all_callbacks = [
        # Before the timer, which is for training steps alone.
        *objective_starts,
        timer,
        callbacks.StopOnNaN(),
        callbacks.StopAtStep(total_steps),
        callbacks.PeakMemory(settings.batch_size),
        # Before the files, which are for those who look at whole epochs.
        callbacks.PassSummaries(folder / run_folder.TENSORBOARD / "passes"),
        keras.callbacks.TensorBoard(
            folder / run_folder.TENSORBOARD, write_graph=False
        ),
        callbacks.MetricsFile(folder / run_folder.METRICS),
        best,
    ]
    backup = Backup(
        folder,
        classifier,
        all_callbacks,
        identity,
        steps_per_epoch,
        total_steps,
        settings.backup_seconds,
    )
    if resumed:
        backup.restore()
    with backup.sigterm_ends_training():
        # Twice where the first epoch is the rest of one.
        while backup.updates < total_steps:
            epoch, done = divmod(backup.updates, steps_per_epoch)
            classifier.fit(
                batching.training_batches(
                    splits["train"],
                    settings.batch_size,
                    settings.seed,
                    settings.epochs,
                    skip=backup.updates,
                ),
                steps_per_epoch=steps_per_epoch - done,
                initial_epoch=epoch,
                epochs=-(-total_steps // steps_per_epoch),
                # The batches are shuffled already.
                shuffle=False,
                validation_data=dev,
                callbacks=[*all_callbacks, backup],
            )
    seconds = backup.train_seconds
    kept_part(classifier).load_weights(best.path)
    results = {
        "method": settings.method,
        "dev_accuracy": None,
        "test_accuracy": None,
        "num_parameters": classifier.count_params(),
        "train_examples": len(splits["train"]),
        "train_seconds": round(seconds, 1),
        "examples_per_second": None,
        "seconds_per_step": None,
        "seed": settings.seed,
        "best_epoch": best.best_epoch,
        "steps": total_steps,
    }
    if timer.steps:
        per_step = timer.seconds / timer.steps
        results["seconds_per_step"] = round(per_step, 4)
        # The mean batch is a little smaller than `batch_size`.
        mean_batch = len(splits["train"]) / steps_per_epoch
        results["examples_per_second"] = round(mean_batch / per_step, 2)
    if "dev" in splits:
        # Keras' float32 mean, as the ratio of whole numbers that it is.
        count = len(splits["dev"])
        results["dev_accuracy"] = round(best.best_value * count) / count
    if "test" in splits:
        results["test_accuracy"] = evaluation.evaluate(
            classifier, splits["test"], settings.slice_size
        )["accuracy"]
    files.write_json(folder / run_folder.RESULTS, results)
    backup.delete()
    return results


def _as_the_chief(resumed, folder, chief_folder):
    """Lets all machines begin where the first one does.

    Args:
        resumed: bool, whether this machine has a backup to go on from.
        folder: path, of this machine's run.
        chief_folder: path of the first machine's; `None` on that machine.

    Returns:
        bool, whether the first machine has a backup.
    """
    resumed = bool(replicas.told_by_chief(int(resumed)))
    if resumed and chief_folder is not None:
        try:
            shutil.copytree(chief_folder, folder, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise InputError(
                f"--output_dir={chief_folder}: cannot read the first worker's "
                f"backup there ({str(error)[:200]}); give a folder that all "
                "machines see"
            ) from error
    # The first one waits, before it writes another backup.
    replicas.told_by_chief(0)
    return resumed


def _write_inputs(folder, dataset, encoder_folder, tokenizer):
    """Writes what a run has besides its flags before it trains."""
    shutil.copy(
        encoder_folder / "config.json", _made(folder / run_folder.ENCODER)
    )
    tokenizer.save(folder / run_folder.ENCODER)
    if dataset.ids:
        files.write_json(
            folder / run_folder.SPLIT_IDS, split_ids.describe(dataset)
        )


def _identity(settings, description, dataset):
    """Tells what makes a run another one if it changes."""
    settings = dataclasses.asdict(settings)
    del settings["backup_seconds"]
    digest = hashlib.sha256()
    for name in ("train", "dev", "test"):
        split = getattr(dataset, name)
        if split is not None:
            for text in split.texts:
                digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
            digest.update(np.asarray(split.labels, np.int32).tobytes())
        digest.update(name.encode())
    return {
        **settings,
        **description,
        "sha256_of_texts": digest.hexdigest(),
    }


def _make_variables(classifier):
    """Makes the optimizer's and the metrics' variables ahead of `fit`.

    A step that makes them is traced twice, which takes seconds.
    """
    classifier.optimizer.build(classifier.trainable_variables)
    labels = np.zeros([1], np.int32)
    logits = np.zeros([1, classifier.num_classes], np.float32)
    classifier.distribute_strategy.run(
        lambda: classifier.compute_metrics(None, labels, logits)
    )
    classifier.reset_metrics()


def _learning_rate(settings, total_steps):
    if settings.learning_rate_schedule == "constant":
        return settings.learning_rate
    return LinearDecayWithWarmup(
        settings.learning_rate,
        int(settings.warmup_proportion * total_steps),
        total_steps,
    )


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
