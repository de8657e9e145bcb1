r"""Searches for the adversary's hyperparameters: a coarse grid, then finer.

Takes the flags of tools.train; the trials' --adv_* come from the search. Every
trial is a run of its own in the output folder's trials/, measured on the dev
split; the test split is not looked at. Writes best.cfg, a flagfile for
tools.train, trials.jsonl, trials.md and trials.png.

  python -m tools.tune --output_dir=runs/search --coarse_trials=12 \
      --flagfile=flags/experiments/movie_reviews_freelb.cfg
  python -m tools.train --flagfile=runs/search/best.cfg --output_dir=runs/best

The same command resumes a search that was ended, however it was ended.

Several processes share a search where keras-tuner's environment variables say
so. All see the same folder and have the same flags. The chief hands out the
trials, trains none, and writes best.cfg and the tables when all workers have
come to the end:

  export KERASTUNER_ORACLE_IP=127.0.0.1 KERASTUNER_ORACLE_PORT=8000
  KERASTUNER_TUNER_ID=chief python -m tools.tune --output_dir=runs/search ... &
  KERASTUNER_TUNER_ID=worker_1 python -m tools.tune --output_dir=runs/search ...
  KERASTUNER_TUNER_ID=worker_2 python -m tools.tune --output_dir=runs/search ...

A worker that was ended is started again under its own name, and takes up its
trial; the chief waits for it.
"""

from absl import flags
from absl.testing import flagsaver

from tfadv import command_line, startup
from tfadv.flags import (
    adversary,
    attack,
    data,
    encoder,
    objectives,
    optimization,
    output,
    tune,
)
from tfadv.tools import train

# The search tells them.
_ADVERSARY = (
    adversary.INIT_MAGNITUDE,
    adversary.STEP_SIZE,
    adversary.MAX_NORM,
    adversary.STEPS,
)


def main():
    """Reads the flags, loads the data, searches, prints the table."""
    # Bad data is reported before TensorFlow has loaded.
    from tfadv.tuning import search_folder

    role = search_folder.role()
    dataset = data.load_training_dataset()
    search_flags = command_line.flagfile_text(
        left_out=[
            flag.name
            for flag in (
                output.OUTPUT_DIR,
                output.OVERWRITE,
                optimization.BACKUP_SECONDS,
                *_ADVERSARY,
            )
        ]
    )
    if role != "worker":
        search_folder.check_output(
            output.OUTPUT_DIR.value, search_flags, output.OVERWRITE.value
        )

    startup.import_tensorflow()
    from tfadv.tuning import search

    trials = search.search(
        dataset,
        train.settings(),
        tune.tuning(attack.settings(), attack.MAX_EXAMPLES.value),
        output.OUTPUT_DIR.value,
        flags=search_flags,
        train_flags=_train_flags,
        overwrite=output.OVERWRITE.value,
    )
    if role == "worker":
        print("the search has ended; the chief writes its results")
        return
    print(search_folder.table(trials))
    print(f"written to {output.OUTPUT_DIR.value}/{search_folder.BEST}")


def _train_flags(changes):
    """Writes this process' flags for `tools.train`, some of them changed."""
    by_module = flags.FLAGS.flags_by_module_dict()
    left_out = [
        flag.name
        for module in (attack, output, tune)
        for flag in by_module[module.__name__]
    ] + [optimization.BACKUP_SECONDS.name]
    with flagsaver.flagsaver(**changes):
        return command_line.flagfile_text(left_out)


def start():
    """Starts the binary."""
    flags.mark_flag_as_required(output.OUTPUT_DIR.name)
    command_line.run(
        main,
        [
            tune,
            attack,
            data,
            encoder,
            adversary,
            objectives,
            optimization,
            output,
        ],
    )


if __name__ == "__main__":
    start()
