r"""Trains a text classifier: plainly, with FreeLB, CARL, RAR or both.

Writes a run folder: the weights of the epoch that is best on the dev split,
settings.json, flags.cfg to run it again, metrics.jsonl, results.json and
TensorBoard logs.

  python -m tools.train --flagfile=flags/experiments/movie_reviews_freelb.cfg \
      --output_dir=runs/freelb
  python -m tools.train --train_file=a.csv --dev_file=b.csv --output_dir=runs/x

A run that was cut off, by whatever, goes on when the same command is given
again.
"""

import json
import sys

from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.training import Training
from tfadv.runs.settings import Settings


def main(data: DataSettings, settings: Settings, output: Output) -> None:
    """Loads the data, trains, prints the results."""
    # Bad data is reported before TensorFlow has loaded.
    from tfadv.data import loading
    from tfadv.runs import flagfile, record, run_folder

    folder, overwrite = output.output_dir, output.overwrite
    # Of several workers only the first writes there.
    alone = settings.optimization.strategy != "multi_worker"
    if alone:
        run_folder.check_output(folder, overwrite)
    dataset = loading.load_data(data)
    if alone:
        identity = record.identity(settings, dataset)
        run_folder.check_output(folder, overwrite, identity)

    startup.import_tensorflow()
    from tfadv.training import loop

    text = flagfile.text(settings, dataset.source)
    results = loop.train(
        dataset,
        settings,
        folder,
        overwrite=overwrite,
        flags=command_line.plugin_flags() + text,
    )
    json.dump(results, sys.stdout, indent=2)
    print()


def start() -> None:
    """Starts the binary."""
    output = Flags(Output, required=["output_dir"])
    command_line.run(main, [Flags(DataSettings), Training(), output])


if __name__ == "__main__":
    start()
