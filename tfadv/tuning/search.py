"""A search for the adversary's hyperparameters: a coarse grid, then finer."""

import dataclasses
import os
import pathlib

import grpc
import tensorflow as tf
from keras_tuner.errors import FatalError
from keras_tuner.src import config

from tfadv import files
from tfadv.datasets.examples import TextDataset
from tfadv.errors import InputError
from tfadv.log import logger
from tfadv.runs import flagfile
from tfadv.runs.settings import Settings
from tfadv.sources import families, names
from tfadv.text.tokenizer import Tokenizer
from tfadv.training import loop
from tfadv.tuning import search_folder, table, trials
from tfadv.tuning.settings import Tuning, check_method, identity_of


def search(
    dataset: TextDataset,
    settings: Settings,
    tuning: Tuning,
    output_dir: str | pathlib.Path,
    overwrite: bool = False,
    flags: str = "",
) -> list[dict] | None:
    """Searches, and writes the search's folder.

    Every trial is a training run of its own, in `trials/` of the folder. The
    search is resumed by calling this again with the same arguments, whenever
    it was ended: trials that were measured are not trained again.

    Where keras-tuner's environment variables make this process a worker, it
    trains the trials that the chief hands out and writes no results. The
    chief trains nothing; when all workers have come to the end, it alone
    writes them.

    Args:
        dataset: `tfadv.datasets.examples.TextDataset`, with a dev split. Its
            test
            split is not looked at.
        settings: `tfadv.Settings`, all but the adversary's.
        tuning: `Tuning`.
        output_dir: path of the folder to write, see
            `tfadv.tuning.search_folder`.
        overwrite: bool, whether an earlier search in the folder is replaced.
        flags: string, further lines for the trials' flagfiles and `best.cfg`.

    Returns:
        List of dicts, a trial each, as `trials.jsonl` has them; `None` in a
        worker.

    Raises:
        InputError: bad input, or all trials have failed.

    Example:

    ```python
    from tfadv.datasets import catalogue

    dataset = catalogue.load("movie_reviews")
    tuning = Tuning(coarse_trials=4, fine_trials=2)
    search(dataset, tfadv.Settings(), tuning, "runs/search")
    ```

    Reference:
     - CARL and RAR paper, section A.2 and Table 8
    """
    role = search_folder.role()
    _check(dataset, settings, tuning)
    identity = identity_of(settings, tuning, dataset)
    dataset = _without_test(dataset)
    # It warns of graphs that are traced again, as every trial's are.
    tf.get_logger().setLevel("ERROR")
    # Else a failed trial's traceback is printed; its reason is told anyway.
    config.DEBUG = False
    folder = pathlib.Path(output_dir)
    try:
        if role != "worker":
            search_folder.check_output(folder, identity, overwrite)
            _check_encoder(settings.encoder)
            search_folder.claim(folder, identity, overwrite)
        tuner = trials.TrialTuner(dataset, settings, tuning, folder, flags)
        if role == "worker":
            # Answered when the chief has made the folder its own.
            tuner.oracle.get_space()
            search_folder.check_same(folder, identity)
        if role == "chief":
            logger.info("the chief hands out trials at %s", _address())
        tuner.search()
        if role == "worker":
            return None
        measured = search_folder.read_trials(folder)
        search_folder.drop_weights(folder)
        table.write(folder, measured)
        best = search_folder.best_trial(measured)
        if best is None:
            raise InputError(
                "all-trials-failed",
                f"all {len(measured)} trials failed, the first one because "
                f"{measured[0]['reason']}",
                "search in other bounds",
            )
        chosen = trials.with_values(settings, best["values"])
        files.write_text(
            folder / search_folder.BEST,
            flags + flagfile.text(chosen, dataset.source),
        )
        return measured
    except FatalError as error:
        raise error.__cause__ from None
    except grpc.RpcError as error:
        raise InputError(
            "no-chief",
            f"the chief at {_address()} does not answer ({error.code().name})",
            "start it, then this worker again",
        ) from error
    except RuntimeError as error:
        if role == "chief" and "bind" in str(error):
            raise InputError(
                "no-address",
                f"the chief cannot listen at {_address()}",
                "give an address of this machine and a free port",
            ) from error
        raise
    except OSError as error:
        raise files.unwritable(folder, error) from error


def _without_test(dataset):
    ids = dataset.ids and {
        split: ids for split, ids in dataset.ids.items() if split != "test"
    }
    return dataclasses.replace(dataset, test=None, ids=ids)


def _check(dataset, settings, tuning):
    """Refuses what no trial could be made of."""
    if dataset.dev is None:
        raise InputError(
            "no-dev-split",
            "expected a dev split, on which trials are measured; "
            f"{dataset.name} has none",
            "give `dev_file` or another `dataset`",
        )
    check_method(settings)
    examples = len(dataset.train)
    # Refuses an objective that would start after the last update.
    loop.Plan.of(settings, examples)
    if tuning.fine_search == "hyperband":
        try:
            loop.Plan.of(trials.shortened(settings, examples, 1), examples)
        except InputError as error:
            raise InputError(
                error.code,
                "hyperband also trains with a ninth of the updates, but "
                f"{error.problem}",
                f"{error.remedy}, or take `fine_search`=bayesian",
                argument=error.argument,
                value=error.value,
            ) from None


def _check_encoder(settings):
    """Refuses an encoder that no trial could be trained with."""
    checkpoint = names.open_checkpoint(settings.name)
    tokenizer = Tokenizer.from_pretrained(checkpoint, settings.max_length)
    tokenizer.check_fits(*families.limits(checkpoint), value=settings.name)


def _address():
    ip, port = (f"KERASTUNER_ORACLE_{name}" for name in ("IP", "PORT"))
    return f"{os.environ[ip]}:{os.environ[port]}"
