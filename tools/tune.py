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

from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.training import Training
from tfadv.runs.settings import Settings
from tfadv.tuning.settings import Tuning


def main(
    tuning: Tuning, data: DataSettings, settings: Settings, output: Output
) -> None:
    """Loads the data, searches, prints the table."""
    # Bad data is reported before TensorFlow has loaded.
    from tfadv.data import loading
    from tfadv.tuning import search_folder
    from tfadv.tuning.settings import check_method, identity_of

    check_method(settings)
    role = search_folder.role()
    dataset = loading.load_data(data)
    if role != "worker":
        search_folder.check_output(
            output.output_dir,
            identity_of(settings, tuning, dataset),
            output.overwrite,
        )

    startup.import_tensorflow()
    from tfadv.tuning import search, table

    trials = search.search(
        dataset,
        settings,
        tuning,
        output.output_dir,
        overwrite=output.overwrite,
        flags=command_line.plugin_flags(),
    )
    if trials is None:
        print("the search has ended; the chief writes its results")
        return
    print(table.as_markdown(trials))
    print(f"written to {output.output_dir}/{search_folder.BEST}")


def start() -> None:
    """Starts the binary."""
    command_line.run(
        main,
        [
            Flags(Tuning),
            Flags(DataSettings),
            Training(),
            Flags(Output, required=["output_dir"]),
        ],
    )


if __name__ == "__main__":
    start()
