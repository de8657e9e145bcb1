"""What a search tries: its coarse grid, and the bounds of the finer one."""

import collections
import itertools
import math

import numpy as np

from tfadv.tuning.settings import NAMES, Tuning

# Values of a hyperparameter in the coarse grid.
_GRID = 3


def grid_values(name: str, low: float, high: float) -> list[float] | list[int]:
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


def coarse_grid(tuning: Tuning) -> list[dict]:
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


def fine_bounds(tuning: Tuning, best: dict) -> dict:
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


def _starts_inside(values):
    """Tells whether the random start lies within the ball."""
    # Its norm is close to gamma / sqrt(3).
    limit = math.sqrt(3) * values["max_norm"]
    return limit == 0 or values["init_magnitude"] <= limit


def feasible(values: dict) -> dict:
    """Rounds values, and takes a random start outside of the ball back.

    Args:
        values: dict: hyperparameter -> value.

    Returns:
        Another such dict.
    """
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
