r"""Trains a text classifier: plainly, with FreeLB, CARL, RAR or both.

Writes a run folder: the weights of the epoch that is best on the dev split,
flags.cfg to run it again, metrics.jsonl, results.json and TensorBoard logs.

  python -m tools.train --flagfile=flags/experiments/movie_reviews_freelb.cfg \
      --output_dir=runs/freelb
  python -m tools.train --train_file=a.csv --dev_file=b.csv --output_dir=runs/x
"""

import json
import sys

from absl import flags

from tfadv import command_line
from tfadv.flags import (
    adversary,
    data,
    encoder,
    objectives,
    optimization,
    output,
)


def settings():
    """Returns the `tfadv.training.Settings` that the flags describe."""
    from tfadv import training

    return training.Settings(
        method=adversary.METHOD.value,
        encoder=encoder.ENCODER.value,
        adversary=adversary.adversary(),
        adversary_warmup_proportion=adversary.WARMUP_PROPORTION.value,
        contrastive=objectives.contrastive(),
        reconstruction_weight=objectives.RECONSTRUCTION_WEIGHT.value,
        max_length=encoder.MAX_LENGTH.value,
        perturb_at=encoder.PERTURB_AT.value,
        precision=encoder.PRECISION.value,
        epochs=optimization.EPOCHS.value,
        max_steps=optimization.MAX_STEPS.value,
        batch_size=optimization.BATCH_SIZE.value,
        learning_rate=optimization.LEARNING_RATE.value,
        learning_rate_schedule=optimization.LEARNING_RATE_SCHEDULE.value,
        warmup_proportion=optimization.WARMUP_PROPORTION.value,
        seed=optimization.SEED.value,
    )


def main():
    """Reads the flags, loads the data, trains."""
    # Bad data is reported before TensorFlow has loaded.
    from tfadv import run_folder

    run_folder.check_output(output.OUTPUT_DIR.value, output.OVERWRITE.value)
    dataset = data.load_training_dataset()

    command_line.import_tensorflow()
    from tfadv import training

    results = training.train(
        dataset,
        settings(),
        output.OUTPUT_DIR.value,
        flags=command_line.flagfile_text(
            left_out=[output.OUTPUT_DIR.name, output.OVERWRITE.name]
        ),
        overwrite=output.OVERWRITE.value,
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
