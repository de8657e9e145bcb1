"""A search for the adversary's hyperparameters: a coarse grid, then finer."""

import collections
import dataclasses
import gc
import itertools
import json
import math
import os
import pathlib
import time
import warnings

import grpc
import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.src import config
from sklearn.exceptions import ConvergenceWarning

from tfadv import files
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError, NotFiniteLossError
from tfadv.log import logger
from tfadv.robustness import measure
from tfadv.runs import flagfile, opening
from tfadv.sources import names
from tfadv.text.tokenizer import Tokenizer
from tfadv.training import loop
from tfadv.tuning import search_folder
from tfadv.tuning.settings import NAMES, check_method, identity_of

# Values of a hyperparameter in the coarse grid.
_GRID = 3
# Hyperband's trials have 1/9, 1/3 and all of the updates.
_SHARES = 9
_ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)


def search(
    dataset,
    settings,
    tuning,
    output_dir,
    overwrite=False,
    flags="",
):
    """Searches, and writes the search's folder.

    Every trial is a training run of its own, in `trials/` of the folder. The
    search is resumed by calling this again with the same arguments, whenever
    it was ended: trials that were measured are not trained again.

    Where keras-tuner's environment variables make this process a worker, it
    trains the trials that the chief hands out and writes no results. The
    chief trains nothing; when all workers have come to the end, it alone
    writes them.

    Args:
        dataset: `tfadv.data.examples.TextDataset`, with a dev split. Its test
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
    dataset = tfadv.data.catalogue.load("movie_reviews")
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
        tuner = _Tuner(dataset, settings, tuning, folder, flags)
        if role == "worker":
            # Answered when the chief has made the folder its own.
            tuner.oracle.get_space()
            search_folder.check_same(folder, identity)
        if role == "chief":
            logger.info("the chief hands out trials at %s", _address())
        tuner.search()
        if role == "worker":
            return None
        trials = search_folder.read_trials(folder)
        search_folder.drop_weights(folder)
        search_folder.write(folder, trials)
        best = search_folder.best_trial(trials)
        if best is None:
            raise InputError(
                "all-trials-failed",
                f"all {len(trials)} trials failed, the first one because "
                f"{trials[0]['reason']}",
                "search in other bounds",
            )
        found = _with_values(settings, best["values"])
        files.write_text(
            folder / search_folder.BEST,
            flags + flagfile.text(found, dataset.source),
        )
        return trials
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


def grid_values(name, low, high):
    """Lists a hyperparameter's values in the coarse grid.

    Args:
        name: string, one of `NAMES`.
        low: float or int, the lower bound.
        high: float or int, the upper bound.

    Returns:
        List of floats or ints, ascending, the bounds among them.
    """
    if name == "steps":
        return sorted({round(v) for v in np.linspace(low, high, _GRID)})
    # alpha is a length whose order of magnitude is searched.
    spaced = np.geomspace if name == "step_size" else np.linspace
    return sorted({_rounded(v) for v in spaced(low, high, _GRID)})


def coarse_grid(tuning):
    """Lists the cells of the coarse grid that are tried, in their order.

    Cell after cell, the one whose values, and pairs of values, have been
    taken least often comes next.

    Args:
        tuning: `Tuning`.

    Returns:
        List of dicts: hyperparameter -> value.
    """
    axes = [
        [(name, value) for value in grid_values(name, *getattr(tuning, name))]
        for name in NAMES
    ]
    left = [
        cell for cell in itertools.product(*axes) if _starts_inside(dict(cell))
    ]
    chosen, taken = [], collections.Counter()

    def parts(cell):
        return [*cell, *itertools.combinations(cell, 2)]

    while left and len(chosen) < tuning.coarse_trials:
        cell = min(left, key=lambda cell: sum(taken[p] for p in parts(cell)))
        left.remove(cell)
        chosen.append(dict(cell))
        taken.update(parts(cell))
    return chosen


def fine_bounds(tuning, best):
    """Shrinks the bounds to the grid values beside the best cell's.

    Args:
        tuning: `Tuning`.
        best: dict, the best cell of the coarse grid.

    Returns:
        Dict: hyperparameter -> `(low, high)`.
    """
    bounds = {}
    for name in NAMES:
        values = grid_values(name, *getattr(tuning, name))
        place = values.index(best[name])
        low = values[max(place - 1, 0)]
        high = values[min(place + 1, len(values) - 1)]
        if name == "max_norm" and low == 0:
            # 0 is no small ball but none at all: nothing lies beside it.
            low, high = (best[name] / 2, high) if best[name] else (0.0, 0.0)
        bounds[name] = (low, high)
    return bounds


class _CoarseToFine:
    """A keras-tuner oracle that hands out the coarse grid before its own.

    One oracle for both stages, so that workers need to know of none.
    """

    def __init__(self, tuning, seed, **options):
        self._tuning = tuning
        self._grid = coarse_grid(tuning)
        super().__init__(
            objective=keras_tuner.Objective("objective", "max"),
            hyperparameters=_space(
                {name: getattr(tuning, name) for name in NAMES}
            ),
            # Never 0, which would be a random seed.
            seed=seed % (2**32 - 1) + 1,
            # What fails is never run again; what a lost connection has left
            # without a result is.
            max_retries_per_trial=1,
            max_consecutive_failed_trials=None,
            **options,
        )
        self.max_trials = len(self._grid) + tuning.fine_trials
        self.verbose = 0

    def is_coarse(self, trial_id):
        return int(trial_id) < len(self._grid)

    def populate_space(self, trial_id):
        if self.is_coarse(trial_id):
            values = self._grid[int(trial_id)]
            return {"status": TrialStatus.RUNNING, "values": dict(values)}
        coarse = [t for i, t in self.trials.items() if self.is_coarse(i)]
        if any(trial.status not in _ENDED for trial in coarse):
            return {"status": TrialStatus.IDLE, "values": None}
        measured = [t for t in coarse if t.status == TrialStatus.COMPLETED]
        if not measured:
            return {"status": TrialStatus.STOPPED, "values": None}
        best = max(measured, key=lambda trial: trial.score)
        self.bounds = fine_bounds(self._tuning, best.hyperparameters.values)
        self.hyperparameters = _space(self.bounds)
        response = super().populate_space(trial_id)
        if not response.get("values"):
            return response
        values = _feasible(response["values"])
        if self._duplicate(values):
            values = self._random_values()
            if values is None:
                return {"status": TrialStatus.STOPPED, "values": None}
            values = _feasible(values)
        return {"status": TrialStatus.RUNNING, "values": values}

    # keras-tuner writes in place; killed then, it could not read its files.
    def save(self):
        files.write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        path = pathlib.Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        files.write_json(path, trial.get_state())

    def reload(self):
        super().reload()
        # Killed between the two files, the oracle knows of a trial less.
        self.trials = {i: self.trials[i] for i in self.start_order}


class _Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):
    """Learns from the fine trials and the coarse ones within their bounds."""

    def populate_space(self, trial_id):
        everything = self.trials
        self.trials = {
            i: trial
            for i, trial in everything.items()
            if not self.is_coarse(i) or self._is_inside(trial)
        }
        try:
            with warnings.catch_warnings():
                # A length scale at its bound: a hyperparameter without effect.
                warnings.simplefilter("ignore", ConvergenceWarning)
                return super().populate_space(trial_id)
        finally:
            self.trials = everything

    def _is_inside(self, trial):
        return all(
            low <= trial.hyperparameters.values[name] <= high
            for name, (low, high) in self.bounds.items()
        )


class _CoarseToBayesian(_CoarseToFine, _Bayesian):
    pass


class _CoarseToHyperband(_CoarseToFine, keras_tuner.oracles.HyperbandOracle):
    pass


class _Tuner(base_tuner.BaseTuner):
    """Trains and measures the trials that the oracle hands out."""

    def __init__(self, dataset, settings, tuning, folder, flags):
        self._dataset = dataset
        self._settings = settings
        self._tuning = tuning
        self._folder = folder
        self._flags = flags
        self._asked = False
        super().__init__(
            _oracle(tuning, settings.optimization.seed),
            directory=folder,
            project_name=search_folder.PROJECT,
        )

    def save(self):
        # A worker has nothing that its chief would not know.
        if not self._is_worker():
            self.oracle.save()
            files.write_json(self._get_tuner_fname(), self.get_state())

    def pre_create_trial(self):
        # Asked again without a trial in between: there is none yet.
        if self._asked:
            time.sleep(1)
        self._asked = True

    def on_trial_begin(self, trial):
        self._asked = False

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        search_folder.drop_weights(self._folder)
        logger.info(self._progress(trial))

    def run_trial(self, trial):
        path = pathlib.Path(self.get_trial_dir(trial.trial_id))
        path /= search_folder.MEASURED
        try:
            if path.exists():
                measured = json.loads(path.read_text(encoding="utf-8"))
            else:
                measured = self._measure(trial)
                files.write_json(path, measured)
        except Exception as error:
            # keras-tuner goes on after any other one.
            raise FatalError from error
        if measured["status"] == "failed":
            raise FailedTrialError(measured["reason"])
        return {"objective": measured["objective"]}

    def _measure(self, trial):
        """Trains and measures a trial; tells, too, why it has failed."""
        trial_id, start = trial.trial_id, time.perf_counter()
        values = {name: trial.hyperparameters.values[name] for name in NAMES}
        share = trial.hyperparameters.values.get("tuner/epochs", _SHARES)
        run = pathlib.Path(search_folder.RUNS) / trial_id
        measured = {
            "trial": int(trial_id) + 1,
            "stage": self._stage(trial),
            "values": values,
            "full": share == _SHARES,
            "updates": None,
            "dev_accuracy": None,
            "attacked_accuracy": None,
            "objective": None,
            "status": "completed",
            "reason": None,
            "run_dir": str(run),
        }
        try:
            results = self._train(values, share, self._folder / run)
            measured["updates"] = results["steps"]
            measured["dev_accuracy"] = results["dev_accuracy"]
            if self._tuning.objective != "dev_accuracy":
                measured["attacked_accuracy"] = self._attack(self._folder / run)
            measured["objective"] = self._objective(measured)
        except (InputError, tf.errors.ResourceExhaustedError, MemoryError) as e:
            measured["status"] = "failed"
            measured["reason"] = _reason(e)
        finally:
            # Models of trials that are over would add up.
            keras.utils.clear_session()
            gc.collect()
        measured["seconds"] = round(time.perf_counter() - start, 1)
        return measured

    def _train(self, values, share, folder):
        settings = _with_values(self._settings, values)
        # A trial that was cut off begins anew: it has no need of backups.
        changes = {"backup_seconds": 0.0}
        if share < _SHARES:
            changes["max_steps"] = _updates(self._dataset, settings, share)
        optimization = dataclasses.replace(settings.optimization, **changes)
        settings = dataclasses.replace(settings, optimization=optimization)
        return loop.train(
            self._dataset,
            settings,
            folder,
            overwrite=True,
            flags=self._flags + flagfile.text(settings, self._dataset.source),
        )

    def _attack(self, folder):
        """Measures a trial's accuracy on attacked examples of the dev split."""
        attack = self._tuning.attack
        results, _ = measure.measure(
            opening.load(folder),
            attack.first(self._dataset.dev),
            [self._tuning.epsilon],
            self._settings.optimization.slice_size,
            **attack.arguments(),
        )
        return results["epsilons"][0]["accuracy"]

    def _objective(self, measured):
        if self._tuning.objective != "mix":
            return measured[self._tuning.objective]
        share = self._tuning.attack_share
        dev, attacked = measured["dev_accuracy"], measured["attacked_accuracy"]
        return (1 - share) * dev + share * attacked

    def _stage(self, trial):
        coarse = int(trial.trial_id) < len(coarse_grid(self._tuning))
        return "coarse" if coarse else "fine"

    def _progress(self, trial):
        trials = search_folder.read_trials(self._folder)
        number = int(trial.trial_id) + 1
        [measured] = [t for t in trials if t["trial"] == number]
        best = search_folder.best_trial(trials)
        values = ", ".join(f"{n} {v:g}" for n, v in measured["values"].items())
        # A training that fails does not end the line of Keras' bar.
        before, ended = "\n", f"failed: {measured['reason']}"
        if measured["status"] == "completed":
            before, ended = "", f"objective {measured['objective']:.4f}"
        return (
            f"{before}trial {number} of {self.oracle.max_trials} "
            f"({measured['stage']}; {values}): {ended}, "
            f"{measured['seconds']:.0f} seconds"
            + (f"; best so far {best['objective']:.4f}" if best else "")
        )


def _oracle(tuning, seed):
    if tuning.fine_search == "hyperband":
        return _CoarseToHyperband(
            tuning,
            seed,
            max_epochs=_SHARES,
            # More than enough: `max_trials` ends the search.
            hyperband_iterations=max(tuning.fine_trials, 1),
        )
    return _CoarseToBayesian(
        tuning, seed, num_initial_points=max(tuning.fine_trials // 3, 3)
    )


def _space(bounds):
    """Declares the hyperparameters to keras-tuner."""
    space = keras_tuner.HyperParameters()
    for name, (low, high) in bounds.items():
        if low == high:
            space.Fixed(name, low)
        elif name == "steps":
            space.Int(name, low, high)
        else:
            sampling = "log" if name == "step_size" else "linear"
            space.Float(name, low, high, sampling=sampling)
    return space


def _starts_inside(values):
    """Tells whether the random start lies within the ball."""
    # Its norm is close to gamma / sqrt(3).
    limit = math.sqrt(3) * values["max_norm"]
    return limit == 0 or values["init_magnitude"] <= limit


def _feasible(values):
    """Rounds values, and takes a random start outside of the ball back."""
    values = {
        name: _rounded(value) if isinstance(value, float) else value
        for name, value in values.items()
    }
    if not _starts_inside(values):
        # Slightly less than sqrt(3), for the rounding.
        values["init_magnitude"] = _rounded(1.732 * values["max_norm"])
    return values


def _rounded(value):
    return float(f"{value:.6g}")


def _with_values(settings, values):
    """Returns settings with the values of a trial."""
    adversary = dataclasses.replace(settings.adversary, **values)
    return dataclasses.replace(settings, adversary=adversary)


def _without_test(dataset):
    ids = dataset.ids and {
        split: ids for split, ids in dataset.ids.items() if split != "test"
    }
    return dataclasses.replace(dataset, test=None, ids=ids)


def _updates(dataset, settings, share=_SHARES):
    """Counts the updates of a trial that has a share of all of them."""
    _, total = loop.updates(settings.optimization, len(dataset.train))
    return math.ceil(total * share / _SHARES)


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
    _check_starts(dataset, settings, _updates(dataset, settings))
    if tuning.fine_search == "hyperband":
        try:
            _check_starts(
                dataset, settings, _updates(dataset, settings, share=1)
            )
        except InputError as error:
            raise InputError(
                error.code,
                "hyperband also trains with a ninth of the updates, but "
                f"{error.problem}",
                f"{error.remedy}, or take `fine_search`=bayesian",
                argument=error.argument,
                value=error.value,
            ) from None


def _check_starts(dataset, settings, updates):
    """Refuses an objective that would start after the last update."""
    per_epoch, _ = loop.updates(settings.optimization, len(dataset.train))
    for name, objective in settings.objectives.items():
        try:
            objective.first_step(per_epoch, updates)
        except InputError as error:
            path = f"objectives.{name}.{error.argument}"
            raise error.blaming(path, error.value) from error


def _check_encoder(settings):
    """Refuses an encoder that no trial could be trained with."""
    checkpoint = names.open_checkpoint(settings.name)
    encoder = Encoder.from_pretrained(checkpoint)
    encoder.check_tokenizer(
        Tokenizer.from_pretrained(checkpoint, settings.max_length),
        value=settings.name,
    )


def _reason(error):
    """Says in a line why a trial failed; raises what no trial can be told."""
    if not isinstance(error, InputError):
        return f"out of memory ({type(error).__name__})"
    # Any other bad input would end every trial.
    if not isinstance(error, NotFiniteLossError):
        raise error
    return str(error)


def _address():
    ip, port = (f"KERASTUNER_ORACLE_{name}" for name in ("IP", "PORT"))
    return f"{os.environ[ip]}:{os.environ[port]}"
