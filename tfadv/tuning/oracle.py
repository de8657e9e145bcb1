"""Who chooses the next trial: the coarse grid, then a finer search."""

import pathlib
import warnings

import keras_tuner
from keras_tuner.engine.trial import TrialStatus
from sklearn.exceptions import ConvergenceWarning

from tfadv import files
from tfadv.tuning import space
from tfadv.tuning.settings import NAMES, Tuning

# Hyperband's trials have 1/9, 1/3 and all of the updates.
SHARES = 9
_ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)


class _CoarseToFine:
    """A keras-tuner oracle that hands out the coarse grid before its own.

    One oracle for both stages, so that workers need to know of none.
    """

    def __init__(self, tuning, seed, **options):
        self._tuning = tuning
        self._grid = space.coarse_grid(tuning)
        super().__init__(
            objective=keras_tuner.Objective("objective", "max"),
            hyperparameters=_declare(
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
        self.bounds = space.fine_bounds(
            self._tuning, best.hyperparameters.values
        )
        self.hyperparameters = _declare(self.bounds)
        response = super().populate_space(trial_id)
        if not response.get("values"):
            return response
        values = space.feasible(response["values"])
        if self._duplicate(values):
            values = self._random_values()
            if values is None:
                return {"status": TrialStatus.STOPPED, "values": None}
            values = space.feasible(values)
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


def make(tuning: Tuning, seed: int) -> keras_tuner.Oracle:
    """Makes the oracle that hands out a search's trials.

    Args:
        tuning: `Tuning`.
        seed: int, of the finer search.

    Returns:
        `keras_tuner.Oracle`: the coarse grid's cells, then those of the
        search that `tuning` names.
    """
    if tuning.fine_search == "hyperband":
        return _CoarseToHyperband(
            tuning,
            seed,
            max_epochs=SHARES,
            # More than enough: `max_trials` ends the search.
            hyperband_iterations=max(tuning.fine_trials, 1),
        )
    return _CoarseToBayesian(
        tuning, seed, num_initial_points=max(tuning.fine_trials // 3, 3)
    )


def _declare(bounds):
    """Declares the hyperparameters to keras-tuner."""
    declared = keras_tuner.HyperParameters()
    for name, (low, high) in bounds.items():
        if low == high:
            declared.Fixed(name, low)
        elif name == "steps":
            declared.Int(name, low, high)
        else:
            sampling = "log" if name == "step_size" else "linear"
            declared.Float(name, low, high, sampling=sampling)
    return declared
