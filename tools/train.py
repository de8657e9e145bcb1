r"""Trains a text classifier: plainly, with FreeLB, CARL, RAR or both.

Writes a run folder: the weights of the epoch that is best on the dev split,
flags.cfg to run it again, metrics.jsonl, results.json and TensorBoard logs.

  python -m tools.train --flagfile=flags/experiments/movie_reviews_freelb.cfg \
      --output_dir=runs/freelb
  python -m tools.train --train_file=a.csv --dev_file=b.csv --output_dir=runs/x

A run that was cut off, by whatever, goes on when the same command is given
again.
"""

import json
import sys

from absl import flags

from tfadv import command_line, startup
from tfadv.flags import (
    adversary,
    data,
    encoder,
    objectives,
    optimization,
    output,
)


def settings():
    """Returns the `Settings` that the flags describe."""
    from tfadv.training.settings import Settings

    return Settings(
        method=adversary.METHOD.value,
        encoder=encoder.ENCODER.value,
        adversary=adversary.adversary(),
        adversary_warmup_proportion=adversary.WARMUP_PROPORTION.value,
        contrastive=objectives.contrastive(),
        reconstruction=objectives.reconstruction(),
        max_length=encoder.MAX_LENGTH.value,
        perturb_at=encoder.PERTURB_AT.value,
        precision=encoder.PRECISION.value,
        epochs=optimization.EPOCHS.value,
        max_steps=optimization.MAX_STEPS.value,
        batch_size=optimization.BATCH_SIZE.value,
        accumulation_steps=optimization.ACCUMULATION_STEPS.value,
        learning_rate=optimization.LEARNING_RATE.value,
        learning_rate_schedule=optimization.LEARNING_RATE_SCHEDULE.value,
        warmup_proportion=optimization.WARMUP_PROPORTION.value,
        seed=optimization.SEED.value,
        strategy=optimization.STRATEGY.value,
        deterministic=optimization.DETERMINISTIC.value,
        backup_seconds=optimization.BACKUP_SECONDS.value,
    )


def main():
    """Reads the flags, loads the data, trains."""
    # Bad data is reported before TensorFlow has loaded.
    from tfadv.runs import run_folder

    folder, overwrite = output.OUTPUT_DIR.value, output.OVERWRITE.value
    # Of several workers only the first writes there.
    alone = optimization.STRATEGY.value != "multi_worker"
    if alone:
        run_folder.check_output(folder, overwrite)
    dataset = data.load_training_dataset()
    run_flags = command_line.flagfile_text(
        left_out=[
            flag.name
            for flag in (
                output.OUTPUT_DIR,
                output.OVERWRITE,
                optimization.BACKUP_SECONDS,
            )
        ]
    )
    if alone:
        run_folder.check_output(folder, overwrite, run_flags)

    startup.import_tensorflow()
    from tfadv.training import loop

    results = loop.train(
        dataset, settings(), folder, flags=run_flags, overwrite=overwrite
    )
    json.dump(results, sys.stdout, indent=2)
    print()


def start():
    """Starts the binary."""
    flags.mark_flag_as_required(output.OUTPUT_DIR.name)
    command_line.run(
        main, [data, encoder, adversary, objectives, optimization, output]
    )


if __name__ == "__main__":
    start()
