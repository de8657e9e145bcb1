"""A training run, from a dataset and an encoder's name to a run folder."""

import dataclasses
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tfadv import files, replicas
from tfadv.data import batching
from tfadv.datasets import split_ids
from tfadv.datasets.examples import TextDataset
from tfadv.errors import InputError
from tfadv.inference import evaluation
from tfadv.runs import flagfile, run_folder
from tfadv.runs import record as records
from tfadv.runs.record import Record
from tfadv.runs.run import build_classifier, part_to_keep
from tfadv.runs.settings import OptimizationSettings, Settings
from tfadv.sources import names
from tfadv.sources.checkpoint import CONFIG
from tfadv.text.tokenizer import Tokenizer
from tfadv.training import callbacks, optimizers
from tfadv.training.backup import Backup
from tfadv.training.schedules import LinearDecayWithWarmup
from tfadv.update import slices


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a run: how many updates, and when objectives join.

    Args:
        steps_per_epoch: int.
        total_steps: int, the updates of the whole run.
        warmup_steps: int, the updates over which the adversary grows.
        starts: dict, name of an objective to the number of updates before it
            joins.

    Example:

    ```python
    Plan.of(Settings(optimization=OptimizationSettings(epochs=3)), 1000)
    ```
    """

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    starts: dict[str, int]

    @classmethod
    def of(cls, settings: Settings, num_examples: int) -> "Plan":
        """Plans a run.

        Args:
            settings: `Settings`.
            num_examples: int, the size of the training set.

        Returns:
            `Plan`.

        Raises:
            InputError: an objective would start after the end.
        """
        optimization = settings.optimization
        per_epoch, total = updates(optimization, num_examples)
        starts = {}
        for name, objective in settings.objectives.items():
            try:
                starts[name] = objective.first_step(per_epoch, total)
            except InputError as error:
                path = f"objectives.{name}.{error.argument}"
                raise error.blaming(path, error.value) from error
        warmup_steps = settings.adversary.warmup_steps
        if settings.adversary_warmup_proportion:
            warmup_steps = round(settings.adversary_warmup_proportion * total)
        return cls(per_epoch, total, warmup_steps, starts)


def updates(
    optimization: OptimizationSettings, num_examples: int
) -> tuple[int, int]:
    """Counts the updates of an epoch and of a whole run.

    Args:
        optimization: `OptimizationSettings`.
        num_examples: int, the size of the training set.

    Returns:
        Two ints.
    """
    per_epoch = -(-num_examples // optimization.batch_size)
    total = per_epoch * optimization.epochs
    if optimization.max_steps is not None:
        total = min(total, optimization.max_steps)
    return per_epoch, total


def train(
    dataset: TextDataset,
    settings: Settings,
    output_dir: str | pathlib.Path,
    overwrite: bool = False,
    flags: str | None = None,
) -> dict:
    """Trains a classifier and writes its run folder.

    After every epoch the classifier is measured on the dev split; the weights
    of the best epoch are kept, and tested.

    Where the folder holds a run that was cut off, and its texts and settings
    are the same, training goes on from its last backup, and ends as if it had
    never stopped.

    Args:
        dataset: `tfadv.datasets.examples.TextDataset`.
        settings: `tfadv.Settings`.
        output_dir: path of the folder to write, see `tfadv.runs.run_folder`.
        overwrite: bool, whether to replace an earlier run in the folder.
        flags: string for `flags.cfg`; by default what the settings say.

    Returns:
        dict, the content of `results.json`.

    Raises:
        InputError: bad input, or a loss that is not finite. The code is
            `"another-run"` where the folder holds a run of other settings or
            texts.
        TerminatedError: SIGTERM has ended training; call this again to go on.

    Example:

    ```python
    from tfadv.datasets import catalogue

    dataset = catalogue.load("movie_reviews")
    settings = tfadv.Settings(method="rar")
    results = tfadv.train(dataset, settings, "runs/rar")
    ```
    """
    folder = pathlib.Path(output_dir)
    if flags is None:
        flags = flagfile.text(settings, dataset.source)
    # Before TensorFlow does anything else: machines find together only then.
    strategy = replicas.strategy(settings.optimization.strategy)
    identity = records.identity(settings, dataset)
    arguments = (dataset, settings, identity, flags, overwrite)
    with strategy.scope():
        if replicas.is_chief():
            run_folder.check_output(folder, overwrite, identity)
            return _train(*arguments, folder)
        # All machines do the same; what the others write is not kept.
        with tempfile.TemporaryDirectory() as own:
            own = pathlib.Path(own) / "run"
            return _train(*arguments, own, chief_folder=folder)


def _train(
    dataset, settings, identity, flags, overwrite, folder, chief_folder=None
):
    optimization = settings.optimization
    keras.utils.set_random_seed(optimization.seed)
    if optimization.deterministic:
        tf.config.experimental.enable_op_determinism()
    plan = Plan.of(settings, len(dataset.train))
    checkpoint = names.open_checkpoint(settings.encoder.name)
    tokenizer = Tokenizer.from_pretrained(
        checkpoint, settings.encoder.max_length
    )
    record = Record(
        settings=settings,
        dataset=dataset.name,
        label_names=tuple(dataset.label_names),
        data=dataset.source,
        special_ids=tuple(tokenizer.special_ids),
        warmup_steps=plan.warmup_steps,
        sha256_of_texts=identity["sha256_of_texts"],
    )
    classifier = build_classifier(
        checkpoint, record, train_labels=dataset.train.labels
    )
    classifier.accumulation_steps = optimization.accumulation_steps
    if optimization.accumulation_steps > 1:
        slices.check_replicas(classifier.objectives)
    classifier.encoder.check_tokenizer(tokenizer, value=settings.encoder.name)
    for objective in classifier.objectives:
        objective.load_from_checkpoint(checkpoint)
        if plan.starts[objective.name]:
            objective.wait()
    splits = {
        name: batching.tokenize(split, tokenizer, name)
        for name in ("train", "dev", "test")
        if (split := getattr(dataset, name)) is not None
    }
    classifier.compile(
        optimizer=optimizers.Adam(
            _learning_rate(optimization, plan.total_steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Every shape would be compiled by itself, which takes far longer than
        # an epoch of fine-tuning on the CPU gains.
        jit_compile=False,
    )
    _make_variables(classifier)
    with files.claimed(folder):
        # Again, for another process may have come first.
        resumed = run_folder.check_output(folder, overwrite, identity)
        if optimization.strategy == "multi_worker":
            resumed = _as_the_chief(resumed, folder, chief_folder)
        try:
            if not resumed:
                run_folder.create(folder, record, flags)
                _write_inputs(folder, dataset, checkpoint, tokenizer)
            return _fit(
                classifier, splits, settings, plan, folder, identity, resumed
            )
        except (OSError, tf.errors.OpError) as error:
            # TensorBoard's writer has no OSError.
            logs = str(folder / run_folder.TENSORBOARD)
            if isinstance(error, tf.errors.OpError) and logs not in str(error):
                if optimization.strategy != "multi_worker":
                    raise
                reason = str(error).strip().split("\n")[-1]
                raise InputError(
                    "worker-gone",
                    "training ended, as it does when a worker is gone "
                    f"({reason[:200]})",
                    "start the same command on all machines: it goes on from "
                    "the last backup",
                    argument="optimization.strategy",
                    value=optimization.strategy,
                ) from error
            raise files.unwritable(folder, error) from error


def _fit(classifier, splits, settings, plan, folder, identity, resumed):
    optimization = settings.optimization
    best = callbacks.BestWeights(
        folder / run_folder.WEIGHTS, waiting_room=folder / run_folder.BACKUP
    )
    timer = callbacks.StepTimer()
    dev = None
    if "dev" in splits:
        dev = batching.evaluation_batches(
            splits["dev"], optimization.slice_size
        )
    objective_starts = [
        callbacks.StartObjective(
            objective,
            batching.evaluation_batches(
                splits["train"], optimization.batch_size
            ),
            plan.starts[objective.name],
        )
        for objective in classifier.objectives
        if not objective.active
    ]
    all_callbacks = [
        # Before the timer, which is for training steps alone.
        *objective_starts,
        timer,
        callbacks.StopOnNaN(),
        callbacks.StopAtStep(plan.total_steps),
        callbacks.PeakMemory(optimization.batch_size),
        # Before the files, which are for those who look at whole epochs.
        callbacks.PassSummaries(folder / run_folder.TENSORBOARD / "passes"),
        keras.callbacks.TensorBoard(
            folder / run_folder.TENSORBOARD, write_graph=False
        ),
        callbacks.UpdatesFile(
            folder / run_folder.UPDATES, plan.steps_per_epoch, plan.total_steps
        ),
        callbacks.MetricsFile(folder / run_folder.METRICS),
        best,
    ]
    backup = Backup(
        folder,
        classifier,
        all_callbacks,
        identity,
        plan.steps_per_epoch,
        plan.total_steps,
        optimization.backup_seconds,
    )
    if resumed:
        backup.restore()
    with backup.sigterm_ends_training():
        # Twice where the first epoch is the rest of one.
        while backup.updates < plan.total_steps:
            epoch, done = divmod(backup.updates, plan.steps_per_epoch)
            classifier.fit(
                batching.training_batches(
                    splits["train"],
                    optimization.batch_size,
                    optimization.seed,
                    optimization.epochs,
                    skip=backup.updates,
                ),
                steps_per_epoch=plan.steps_per_epoch - done,
                initial_epoch=epoch,
                epochs=-(-plan.total_steps // plan.steps_per_epoch),
                # The batches are shuffled already.
                shuffle=False,
                validation_data=dev,
                callbacks=[*all_callbacks, backup],
            )
    seconds = backup.train_seconds
    part_to_keep(classifier).load_weights(best.path)
    results = {
        "method": settings.method,
        "dev_accuracy": None,
        "test_accuracy": None,
        "num_parameters": classifier.count_params(),
        "train_examples": len(splits["train"]),
        "train_seconds": round(seconds, 1),
        "examples_per_second": None,
        "seconds_per_step": None,
        "seed": optimization.seed,
        "best_epoch": best.best_epoch,
        "steps": plan.total_steps,
    }
    if timer.steps:
        per_step = timer.seconds / timer.steps
        results["seconds_per_step"] = round(per_step, 4)
        # The mean batch is a little smaller than `batch_size`.
        mean_batch = len(splits["train"]) / plan.steps_per_epoch
        results["examples_per_second"] = round(mean_batch / per_step, 2)
    if "dev" in splits:
        # Keras' float32 mean, as the ratio of whole numbers that it is.
        count = len(splits["dev"])
        results["dev_accuracy"] = round(best.best_value * count) / count
    if "test" in splits:
        results["test_accuracy"] = evaluation.evaluate(
            classifier, splits["test"], optimization.slice_size
        )["accuracy"]
    files.write_json(folder / run_folder.RESULTS, results)
    backup.delete()
    return results


def _as_the_chief(resumed, folder, chief_folder):
    """Lets all machines begin where the first one does.

    Args:
        resumed: bool, whether this machine has a backup to go on from.
        folder: path of this machine's run.
        chief_folder: path of the first machine's run; `None` on that machine.

    Returns:
        bool, whether the first machine has a backup.
    """
    resumed = bool(replicas.broadcast_from_chief(int(resumed)))
    if resumed and chief_folder is not None:
        try:
            shutil.copytree(chief_folder, folder, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise InputError(
                "backup-not-seen",
                "cannot read the first worker's backup there "
                f"({str(error)[:200]})",
                "give a folder that all machines see",
                argument="output_dir",
                value=str(chief_folder),
            ) from error
    # The first one waits, before it writes another backup.
    replicas.broadcast_from_chief(0)
    return resumed


def _write_inputs(folder, dataset, checkpoint, tokenizer):
    """Writes all files that a run has before it trains, except its flags."""
    shutil.copy(checkpoint.folder / CONFIG, _made(folder / run_folder.ENCODER))
    tokenizer.save(folder / run_folder.ENCODER)
    if dataset.ids:
        files.write_json(
            folder / run_folder.SPLIT_IDS, split_ids.describe(dataset)
        )


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


def _learning_rate(optimization, total_steps):
    if optimization.learning_rate_schedule == "constant":
        return optimization.learning_rate
    return LinearDecayWithWarmup(
        optimization.learning_rate,
        int(optimization.warmup_proportion * total_steps),
        total_steps,
    )


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
