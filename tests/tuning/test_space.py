"""What a search tries: its grid, and the bounds of the finer search."""

import collections

import pytest

from tfadv.tuning import space
from tfadv.tuning.settings import NAMES, Tuning


def test_the_default_bounds_are_the_papers_and_the_grid_ends_at_them():
    values = {
        name: space.grid_values(name, *getattr(Tuning(), name))
        for name in NAMES
    }
    assert values == {
        "init_magnitude": [0.0, 0.4, 0.8],
        "step_size": [0.01, 0.0447214, 0.2],
        "max_norm": [0.0, 0.25, 0.5],
        "steps": [2, 3, 4],
    }
    assert space.grid_values("steps", 1, 9) == [1, 5, 9]
    assert space.grid_values("max_norm", 0.5, 0.5) == [0.5]


def test_the_grid_is_whole_where_it_fits_and_starts_inside_the_balls():
    cells = space.coarse_grid(Tuning(coarse_trials=1000))
    # 81 but those with gamma 0.8 in a ball of 0.25.
    assert len(cells) == 72
    assert len({tuple(cell.items()) for cell in cells}) == 72
    outside = [c for c in cells if c["max_norm"] == 0.25]
    assert {c["init_magnitude"] for c in outside} == {0.0, 0.4}


@pytest.mark.parametrize("count", [3, 9, 12, 24])
def test_a_part_of_the_grid_is_spread_over_all_of_its_values(count):
    cells = space.coarse_grid(Tuning(coarse_trials=count))
    assert cells == space.coarse_grid(Tuning(coarse_trials=count))
    assert len(cells) == count
    for name in NAMES:
        taken = collections.Counter(cell[name] for cell in cells)
        assert len(taken) == 3
        # A little apart, for there are no cells with a start outside.
        assert max(taken.values()) - min(taken.values()) <= 1 + count // 8
    if count >= 9:
        pairs = {(c["step_size"], c["steps"]) for c in cells}
        assert len(pairs) == 9


def test_the_fine_bounds_are_the_neighbours_in_the_grid():
    best = {
        "init_magnitude": 0.4,
        "step_size": 0.01,
        "max_norm": 0.25,
        "steps": 4,
    }
    assert space.fine_bounds(Tuning(), best) == {
        "init_magnitude": (0.0, 0.8),
        "step_size": (0.01, 0.0447214),
        # Not 0, which is no limit.
        "max_norm": (0.125, 0.5),
        "steps": (3, 4),
    }
    best["max_norm"] = 0.0
    assert space.fine_bounds(Tuning(), best)["max_norm"] == (0.0, 0.0)
    fixed = Tuning(step_size=(0.05,))
    best["step_size"] = 0.05
    assert space.fine_bounds(fixed, best)["step_size"] == (0.05, 0.05)


def test_a_random_start_outside_of_the_ball_is_taken_back():
    values = {"init_magnitude": 0.8, "max_norm": 0.1234567, "steps": 3}
    found = space.feasible(values)
    assert found["max_norm"] == 0.123457
    assert 0.2138 < found["init_magnitude"] < 3**0.5 * 0.123457
    values = {"init_magnitude": 0.8, "max_norm": 0.0, "steps": 3}
    assert space.feasible(values) == values
