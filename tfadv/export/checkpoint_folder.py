"""Runs as folders that transformers opens, written whole or not at all."""

import pathlib
import shutil

from tfadv import files
from tfadv.errors import InputError
from tfadv.export import model_card
from tfadv.runs.run import Run

# The name under which the hub looks for a model card.
MODEL_CARD = "README.md"


def save_checkpoint(
    run: Run, output_dir: str | pathlib.Path, overwrite: bool = False
) -> pathlib.Path:
    """Writes a checkpoint that transformers opens, with a model card.

    Args:
        run: `tfadv.runs.run.Run`.
        output_dir: path of its folder; made if there is none.
        overwrite: bool, whether an earlier export in it is replaced.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        InputError: the folder is in use or cannot be written.

    Example:

    ```python
    save_checkpoint(tfadv.load("runs/freelb"), "exports/freelb_hf")
    ```
    """
    from tfadv.export import hugging_face

    output_dir = pathlib.Path(output_dir)
    check_checkpoint(output_dir, overwrite)
    partial = output_dir.with_name(files.PARTIAL + output_dir.name)
    replaced = output_dir.with_name(f"{partial.name}.replaced")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        hugging_face.save(run, partial)
        (partial / MODEL_CARD).write_text(
            model_card.model_card(run.folder, "transformers"), encoding="utf-8"
        )
        if output_dir.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            output_dir.rename(replaced)
        return partial.rename(output_dir)
    except OSError as error:
        raise files.unwritable(output_dir, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def check_checkpoint(output_dir: str | pathlib.Path, overwrite: bool) -> None:
    """Refuses a folder that is not free for a checkpoint.

    Args:
        output_dir: path; need not exist.
        overwrite: bool, whether an earlier export may be replaced.

    Raises:
        InputError: the folder is in use, or the path is a file.
    """
    output_dir = pathlib.Path(output_dir)
    files.check_is_folder(output_dir)
    if not output_dir.exists() or not any(output_dir.iterdir()):
        return
    if not _is_export(output_dir):
        raise InputError(
            "other-files",
            "expected an empty folder or one with an earlier export, found "
            "other files",
            "give a new or an empty folder",
            argument="output_dir",
            value=str(output_dir),
        )
    if not overwrite:
        raise InputError(
            "results-exist",
            "the folder already holds an export",
            "give another one, or `overwrite` to replace it",
            argument="output_dir",
            value=str(output_dir),
        )


def _is_export(folder):
    try:
        config = files.read_json(folder / "config.json")
    except InputError:
        return False
    return isinstance(config, dict) and "tfadv" in config
