r"""Exports a trained run: for TensorFlow Serving, or for transformers.

Writes a SavedModel that takes raw text, as the next version in the output
folder (1, 2, ...; earlier ones stay), or a Hugging Face checkpoint. A
SavedModel is compared with the run on a split of the run's data, or of what
the data flags name.

  python -m tools.export --run_dir=runs/freelb --output_dir=exports/freelb
  python -m tools.export --run_dir=runs/freelb --format=huggingface \
      --output_dir=exports/freelb_hf
"""

import pathlib

from absl import flags

import tfadv
from tfadv import command_line, startup
from tfadv.errors import InputError
from tfadv.flags import data, export, output, run


def main():
    """Opens the run, writes its export, compares."""
    from tfadv.runs import run_folder

    folder = pathlib.Path(run.RUN_DIR.value)
    run_folder.read_description(folder)
    output_dir = pathlib.Path(output.OUTPUT_DIR.value)
    if export.FORMAT.value == "huggingface":
        _export_checkpoint(folder, output_dir)
    else:
        _export_saved_model(folder, output_dir)


def _export_checkpoint(folder, output_dir):
    from tfadv.export import saved_model

    if export.PRECISION.present:
        raise InputError(
            f"--precision={export.PRECISION.value} and --format=huggingface "
            "clash: a checkpoint has the run's float32 weights; leave it away"
        )
    saved_model.check_checkpoint(output_dir, output.OVERWRITE.value)
    startup.import_tensorflow()

    written = saved_model.transformers_checkpoint(
        tfadv.load(folder, precision="float32"),
        output_dir,
        output.OVERWRITE.value,
    )
    print(f"written to {written}")


def _export_saved_model(folder, output_dir):
    from tfadv.export import saved_model

    if output.OVERWRITE.value:
        raise InputError(
            "--overwrite and --format=saved_model clash: every export adds a "
            "version and none is replaced; leave it away"
        )
    saved_model.check_versions(output_dir)
    examples, name = _examples(folder)
    startup.import_tensorflow()
    import tqdm

    trained = tfadv.load(folder, precision="float32")
    written = saved_model.saved_model(
        trained, output_dir, export.PRECISION.value
    )
    print(f"written to {written}, {saved_model.size(written) / 2**20:.1f} MiB")
    if examples is None:
        print(f"not compared with the run: {name}")
        return
    compared = saved_model.compare(
        trained,
        written,
        examples,
        progress=lambda texts: tqdm.tqdm(texts, "comparing", disable=None),
    )
    print(f"compared with the run on {name}: {compared}")


def _examples(folder):
    """Loads what the export is compared on, or says why there is nothing."""
    from tfadv.runs import run_folder

    given = data.given()
    label_names = run_folder.read_description(folder)["label_names"]
    try:
        data.default_to_run(folder)
        name, examples = data.load_split(run.SPLIT.value, label_names)
    except InputError as error:
        # An export machine need not have the run's data.
        if given or run.SPLIT.present:
            raise
        return None, str(error)
    return examples, f"the {run.SPLIT.value} split of {name}"


def start():
    """Starts the binary."""
    flags.mark_flag_as_required(output.OUTPUT_DIR.name)
    command_line.run(main, [run, export, data, output])


if __name__ == "__main__":
    start()
