r"""Attacks a trained run: k-PGD on its word embeddings, HotFlip on its words.

Writes robustness.json (for every epsilon: accuracy, distance of the attacked
representations from the clean ones, what delta does to which words),
representations.npz and, for HotFlip, hotflip.jsonl with the adversaries.

  python -m tools.attack --run_dir=runs/freelb --epsilons=0.05,0.1,0.2
"""

import functools
import io
import pathlib

import tfadv
from tfadv import command_line, startup
from tfadv.flags import attack, data, output, robustness, run


def main():
    """Opens the run, reads the split, attacks, writes."""
    from tfadv import files
    from tfadv.runs import run_folder

    folder = pathlib.Path(run.RUN_DIR.value)
    description = run_folder.read_description(folder)
    output_dir = pathlib.Path(output.OUTPUT_DIR.value or folder)
    files.check_results(
        [output_dir / run_folder.ROBUSTNESS], output.OVERWRITE.value
    )
    data.default_to_run(folder)
    name, examples = data.load_split(
        run.SPLIT.value, description["label_names"]
    )
    examples = attack.first(examples)

    startup.import_tensorflow()
    import numpy as np
    import tqdm

    from tfadv.robustness.hotflip import HotFlip
    from tfadv.robustness.measure import measure, table

    trained = tfadv.load(folder)
    results, representations = measure(
        trained,
        examples,
        robustness.epsilons(),
        # No bars where nobody watches: stderr is for errors.
        progress=functools.partial(tqdm.tqdm, disable=None),
        **attack.settings(),
    )
    results = {
        "run_dir": str(folder),
        "method": description["method"],
        "dataset": name,
        "split": run.SPLIT.value,
        **results,
    }
    flips = []
    if robustness.HOTFLIP_WORDS.value:
        hotflip = HotFlip(trained, robustness.HOTFLIP_WORDS.value)
        flips = hotflip.attack(
            examples,
            progress=lambda batches, total: tqdm.tqdm(
                batches, "HotFlip", total=total, disable=None
            ),
        )
        results["hotflip"] = hotflip.summary(flips)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        np.savez_compressed(file, **representations)
        files.write_bytes(
            output_dir / run_folder.REPRESENTATIONS, file.getvalue()
        )
        if flips:
            files.write_lines(output_dir / run_folder.HOTFLIP, flips)
        files.write_json(output_dir / run_folder.ROBUSTNESS, results)
    except OSError as error:
        raise files.unwritable(output_dir, error) from error
    print(table(results))


def start():
    """Starts the binary."""
    command_line.run(main, [run, data, robustness, attack, output])


if __name__ == "__main__":
    start()
