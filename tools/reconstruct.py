r"""Writes text-form adversaries: what RAR reads in attacked embeddings.

Attacks a split with k-PGD on the word embeddings, reads the reconstruction
head at every word, and writes adversaries.jsonl: original, reconstruction,
changed tokens, label, and the predictions before and after. The file can be
given to tools.train as --augment_file.

  python -m tools.reconstruct --run_dir=runs/rar --epsilon=0.4 \
      --victim_run=runs/baseline
"""

import pathlib

import tfadv
from tfadv import command_line, startup
from tfadv.errors import InputError
from tfadv.flags import attack, data, output, reconstruct, run


def main():
    """Opens the runs, attacks, reads the words, writes."""
    from tfadv import files
    from tfadv.runs import run_folder

    folder = pathlib.Path(run.RUN_DIR.value)
    description = run_folder.read_description(folder)
    if "reconstruction" not in description.get("objectives", {}):
        raise InputError(
            f"--run_dir={folder}: a {description['method']} run has no "
            "reconstruction head; give a run of --method=rar or carl_rar"
        )
    victim = reconstruct.VICTIM_RUN.value or None
    flag = f"--{reconstruct.VICTIM_RUN.name}"
    if victim is not None:
        names = run_folder.read_description(victim, flag)["label_names"]
        if names != description["label_names"]:
            raise InputError(
                f"--victim_run={victim} has the classes "
                f"{', '.join(names)}, --run_dir "
                f"{', '.join(description['label_names'])}; give a run on the "
                "same classes"
            )
    output_dir = pathlib.Path(output.OUTPUT_DIR.value or folder)
    path = output_dir / run_folder.ADVERSARIES
    files.check_results([path], output.OVERWRITE.value)
    data.default_to_run(folder)
    _, examples = data.load_split(run.SPLIT.value, description["label_names"])

    startup.import_tensorflow()
    import tqdm

    from tfadv.robustness import text_adversary

    lines, summary = text_adversary.reconstruct(
        tfadv.load(folder),
        attack.first(examples),
        reconstruct.EPSILON.value,
        victim=victim and tfadv.load(victim, flag),
        progress=lambda batches, total: tqdm.tqdm(
            batches, "attacking", total=total, disable=None
        ),
        **attack.settings(),
    )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        files.write_lines(path, lines)
    except OSError as error:
        raise files.unwritable(output_dir, error) from error
    print(f"{summary}\nwritten to {path}")


def start():
    """Starts the binary."""
    command_line.run(main, [run, data, attack, reconstruct, output])


if __name__ == "__main__":
    start()
