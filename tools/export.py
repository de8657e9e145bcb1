r"""Exports a trained run: for TensorFlow Serving, or for transformers.

Writes a SavedModel that takes raw text, as the next version in the output
folder (1, 2, ...; earlier ones stay), or a Hugging Face checkpoint. A
SavedModel is compared with the run on a split of the run's data, or of what
the data flags name.

  python -m tools.export --run_dir=runs/freelb --output_dir=exports/freelb
  python -m tools.export --run_dir=runs/freelb --format=huggingface \
      --output_dir=exports/freelb_hf
"""

import tfadv
from tfadv import command_line, startup
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.flags.export import Export
from tfadv.flags.generated import Flags
from tfadv.flags.output import Output
from tfadv.flags.run import TrainedRun


def main(
    trained: TrainedRun, export: Export, data: DataSettings, output: Output
) -> None:
    """Opens the run, writes its export, compares."""
    from tfadv.runs import run_folder

    record = run_folder.read_record(trained.run_dir)
    if export.format == "huggingface":
        _export_checkpoint(trained, export, output)
    else:
        _export_saved_model(trained, export, data, output, record)


def _export_checkpoint(trained, export, output):
    from tfadv.export import checkpoint_folder

    if export.precision:
        raise InputError(
            "clash",
            "`format`=huggingface has the run's float32 weights",
            "omit it",
            argument="precision",
            value=export.precision,
        )
    checkpoint_folder.check_checkpoint(output.output_dir, output.overwrite)
    startup.import_tensorflow()

    written = checkpoint_folder.save_checkpoint(
        tfadv.load(trained.run_dir, precision="float32"),
        output.output_dir,
        output.overwrite,
    )
    print(f"written to {written}")


def _export_saved_model(trained, export, data, output, record):
    from tfadv.export import comparison, saved_model

    if output.overwrite:
        raise InputError(
            "clash",
            "with `format`=saved_model every export adds a version and none is "
            "replaced",
            "omit it",
            argument="overwrite",
        )
    saved_model.check_versions(output.output_dir)
    examples = None
    try:
        name, examples = trained.load_split(data, record)
        name = f"the {trained.split_or_test} split of {name}"
    except InputError as error:
        # An export machine need not have the run's data.
        if data.names_source or trained.split:
            raise
        name = str(error)
    startup.import_tensorflow()

    run = tfadv.load(trained.run_dir, precision="float32")
    written = saved_model.saved_model(
        run, output.output_dir, export.precision or "float32"
    )
    print(f"written to {written}, {saved_model.size(written) / 2**20:.1f} MiB")
    if examples is None:
        print(f"not compared with the run: {name}")
        return
    compared = comparison.compare(run, written, examples)
    print(f"compared with the run on {name}: {compared}")


def start() -> None:
    """Starts the binary."""
    command_line.run(
        main,
        [
            Flags(TrainedRun, required=["run_dir"]),
            Flags(Export),
            Flags(DataSettings),
            Flags(Output, required=["output_dir"]),
        ],
    )


if __name__ == "__main__":
    start()
