"""Losses: velocity loss by its definitions, in the scorer's own words, so that a slip in the product's shows."""

from collections.abc import Sequence


def shown(velocities: Sequence[float]) -> list[float]:
    """Return each rep's loss in percent against the fastest so far, itself included.

    Examples
    --------
    >>> [round(loss, 3) for loss in shown([0.50, 0.45, 0.55])]
    [0.0, 10.0, 0.0]
    """
    return [100.0 * (1.0 - v / max(velocities[: n + 1])) for n, v in enumerate(velocities)]


def best_to_last(velocities: Sequence[float]) -> float:
    """Return the loss in percent from the fastest rep of the set to its last.

    Examples
    --------
    >>> round(best_to_last([0.50, 0.55, 0.52, 0.44]), 6)
    20.0
    """
    return shown(velocities)[-1]


def robust(velocities: Sequence[float]) -> float:
    """Return the loss in percent of the last rep against the mean of the three fastest so far; three reps at least.

    Examples
    --------
    >>> round(robust([0.50, 0.55, 0.52, 0.44]), 6)
    15.923567
    """
    return 100.0 * (1.0 - velocities[-1] / (sum(sorted(velocities)[-3:]) / 3.0))


def reps_until_stop(velocities: Sequence[float], limit_pct: float = 20.0, least: int = 4) -> int:
    """Return after how many reps two in a row are at the limit, or how many there are.

    Examples
    --------
    >>> reps_until_stop([0.5, 0.5, 0.5, 0.39, 0.38, 0.37]), reps_until_stop([0.5, 0.5, 0.5, 0.39, 0.5])
    (5, 5)
    """
    for n in range(max(least, 4), len(velocities) + 1):
        if min(robust(velocities[: n - 1]), robust(velocities[:n])) >= limit_pct:
            return n
    return len(velocities)
