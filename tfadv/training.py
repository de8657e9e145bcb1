"""A training run, from a dataset and an encoder's name to a run folder."""

import dataclasses
import pathlib
import shutil
import time

import keras
import numpy as np

from tfadv import callbacks, evaluation, methods, pretrained, run_folder
from tfadv.adversary import FreeLB
from tfadv.data import batching, split_ids
from tfadv.errors import InputError
from tfadv.objectives.contrastive import ContrastiveObjective
from tfadv.schedules import LinearDecayWithWarmup
from tfadv.tokenization import Tokenizer


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train; what is trained on comes apart.

    Args:
        method: string: `"baseline"`, `"freelb"`, `"carl"`, `"rar"` or
            `"carl_rar"`.
        encoder: string, a name or folder for `tfadv.Encoder.from_pretrained`.
        adversary: `tfadv.FreeLB`; not read by the baseline.
        adversary_warmup_proportion: float, the share of the updates over
            which the adversary grows to its full strength.
        contrastive: `tfadv.methods.Contrastive`; read by CARL alone.
        reconstruction_weight: float, w_r; read by RAR alone.
        max_length: int, in tokens; longer texts are cut.
        perturb_at: string, see `tfadv.Encoder`.
        precision: string: `"float32"`, `"mixed_bfloat16"` or
            `"mixed_float16"`.
        epochs: int.
        max_steps: int. Ends training earlier; `None` for all epochs.
        batch_size: int, in texts.
        learning_rate: float, of Adam.
        learning_rate_schedule: string: `"constant"`, or `"linear"` for
            warm-up and linear decay.
        warmup_proportion: float, the share of the steps for the warm-up.
        seed: int, for the order of the texts, the new weights, dropout and
            random starts.
    """

    method: str = "freelb"
    encoder: str = "all-minilm-l6-v2"
    adversary: FreeLB = dataclasses.field(default_factory=FreeLB)
    adversary_warmup_proportion: float = 0.0
    contrastive: methods.Contrastive = dataclasses.field(
        default_factory=methods.Contrastive
    )
    reconstruction_weight: float = 0.1
    max_length: int = 128
    perturb_at: str = "word_embeddings"
    precision: str = "float32"
    epochs: int = 2
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 5e-5
    learning_rate_schedule: str = "constant"
    warmup_proportion: float = 0.1
    seed: int = 0


def train(dataset, settings, output_dir, flags="", overwrite=False):
    """Trains a classifier and writes its run folder.

    After every epoch the classifier is measured on the dev split; the weights
    of the best epoch are kept, and tested.

    Args:
        dataset: `tfadv.data.examples.TextDataset`.
        settings: `Settings`.
        output_dir: path of the folder to write, see `tfadv.run_folder`.
        flags: string for `flags.cfg`.
        overwrite: bool, whether an earlier run in the folder is replaced.

    Returns:
        dict, the content of `results.json`.

    Raises:
        InputError: bad input, or a loss that is not finite.

    Example:

    ```python
    dataset = tfadv.data.catalogue.load("movie_reviews")
    settings = Settings(max_steps=100)
    results = train(dataset, settings, "runs/freelb")
    ```
    """
    folder = pathlib.Path(output_dir)
    run_folder.check_output(folder, overwrite)
    methods.check_method(settings.method)
    keras.utils.set_random_seed(settings.seed)
    encoder_folder = pretrained.resolve(settings.encoder)
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
            settings.reconstruction_weight,
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
    contrastive_start = None
    if "contrastive" in description["objectives"]:
        contrastive_start = settings.contrastive.first_step(
            steps_per_epoch, total_steps
        )
    classifier = run_folder.build_classifier(
        encoder_folder,
        description,
        train_labels=dataset.train.labels,
        seed=settings.seed,
    )
    positions = classifier.encoder.max_sequence_length
    if settings.max_length > positions:
        raise InputError(
            f"--max_length={settings.max_length}: the encoder "
            f"{settings.encoder} reads at most {positions} tokens; give "
            "that or less"
        )
    splits = {
        name: batching.tokenize(split, tokenizer, name)
        for name in ("train", "dev", "test")
        if (split := getattr(dataset, name)) is not None
    }
    classifier.compile(
        optimizer=keras.optimizers.Adam(_learning_rate(settings, total_steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Every shape would be compiled by itself, which takes far longer than
        # an epoch of fine-tuning on the CPU gains.
        jit_compile=False,
    )
    _make_variables(classifier)
    run_folder.create(folder, description, flags)
    try:
        shutil.copy(
            encoder_folder / "config.json", _made(folder / run_folder.ENCODER)
        )
        tokenizer.save(folder / run_folder.ENCODER)
        if dataset.ids:
            run_folder.write_json(
                folder / run_folder.SPLIT_IDS, split_ids.describe(dataset)
            )
        results = _fit(
            classifier,
            splits,
            settings,
            folder,
            steps_per_epoch,
            total_steps,
            contrastive_start,
        )
        run_folder.write_json(folder / run_folder.RESULTS, results)
    except OSError as error:
        raise run_folder.unwritable(folder, error) from error
    return results


def _fit(
    classifier,
    splits,
    settings,
    folder,
    steps_per_epoch,
    total_steps,
    contrastive_start,
):
    best = callbacks.BestWeights(folder / run_folder.WEIGHTS)
    timer = callbacks.StepTimer()
    dev = None
    if "dev" in splits:
        dev = batching.evaluation_batches(splits["dev"], settings.batch_size)
    objective_starts = [
        callbacks.StartContrastive(
            objective,
            batching.evaluation_batches(splits["train"], settings.batch_size),
            contrastive_start,
        )
        for objective in classifier.objectives
        if isinstance(objective, ContrastiveObjective)
    ]
    start = time.perf_counter()
    classifier.fit(
        batching.training_batches(
            splits["train"],
            settings.batch_size,
            settings.seed,
            settings.epochs,
        ),
        steps_per_epoch=steps_per_epoch,
        epochs=-(-total_steps // steps_per_epoch),
        # The batches are shuffled already.
        shuffle=False,
        validation_data=dev,
        callbacks=[
            # Before the timer, which is for training steps alone.
            *objective_starts,
            timer,
            callbacks.StopOnNaN(),
            callbacks.StopAtStep(total_steps),
            # Before the files, which are for those who look at whole epochs.
            callbacks.PassSummaries(folder / run_folder.TENSORBOARD / "passes"),
            keras.callbacks.TensorBoard(
                folder / run_folder.TENSORBOARD, write_graph=False
            ),
            callbacks.MetricsFile(folder / run_folder.METRICS),
            best,
        ],
    )
    seconds = time.perf_counter() - start
    run_folder.kept_part(classifier).load_weights(best.path)
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
            classifier, splits["test"], settings.batch_size
        )["accuracy"]
    return results


def _make_variables(classifier):
    """Makes the optimizer's and the metrics' variables ahead of `fit`.

    A step that makes them is traced twice, which takes seconds.
    """
    classifier.optimizer.build(classifier.trainable_variables)
    labels = np.zeros([1], np.int32)
    logits = np.zeros([1, classifier.num_classes], np.float32)
    classifier.compute_metrics(None, labels, logits)
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
