"""Means with their intervals, and distances between representations."""

import numpy as np

# Resamples of the examples for a confidence interval.
_RESAMPLES = 2000


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes the cosine of each row of one array with that of another."""
    products = np.sum(one * other, axis=1)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return products / np.maximum(lengths, 1e-12)


def bootstrap_interval(
    values: np.ndarray,
    seed: int = 0,
    confidence: float = 0.95,
    counts: np.ndarray | None = None,
) -> list[float]:
    """Estimates where the mean lies, by resampling the examples.

    Args:
        values: array of shape `[examples]`: each example's value, or the sum
            of its values where it has several or none.
        seed: int.
        confidence: float.
        counts: array of shape `[examples]`: how many values each sum is of;
            `None` for one each. Resampling whole examples keeps the values
            of one together, which are not independent.

    Returns:
        List of two floats: the percentiles of the resampled means.

    Reference:
     - Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13
    """
    values = np.asarray(values, np.float64)
    counts = np.ones(len(values)) if counts is None else np.asarray(counts)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(len(values), size=len(values))
        total = counts[drawn].sum()
        if total:
            means.append(values[drawn].sum() / total)
    tail = 100 * (1 - confidence) / 2
    return [float(p) for p in np.percentile(means, [tail, 100 - tail])]


def with_interval(name: str, values: np.ndarray, seed: int = 0) -> dict:
    """Returns a mean and its 95 % confidence interval, as two entries."""
    return {
        name: float(np.mean(values)),
        f"{name}_interval": bootstrap_interval(values, seed),
    }
