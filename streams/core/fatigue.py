"""Fatigue within one set: velocity loss, decay of range, fatigue of work and force (science.md 3.6-3.8).

Every function takes the values of the valid reps of one set, in order, and returns percent unless it says otherwise.
Values are exact: whoever stores or compares one rounds it first, `catalogue.rounded`. These numbers steer the set in
which they arise; they are too unreliable to be trended as an outcome.
"""

import math
from bisect import insort
from collections.abc import Sequence

import msgspec

NEARLY_ZERO = 1e-12
"""A denominator up to this size counts as zero."""

NONLINEAR_R2 = 0.5
"""Coefficient of determination below which a straight line does not describe the set [default]."""


def velocity_loss(velocities: Sequence[float]) -> list[float]:
    """Return each rep's loss against the fastest of the whole set; 0 up to and including the first fastest one.

    A set in which nothing moved has lost nothing.

    References
    ----------
    Sanchez-Medina 2011; Pareja-Blanco 2017.

    Examples
    --------
    >>> [round(loss, 6) for loss in velocity_loss([0.50, 0.55, 0.52, 0.44])]
    [0.0, 0.0, 5.454545, 20.0]
    """
    best = max(velocities, default=0.0)
    slower = len(velocities) and velocities.index(best) + 1
    return [0.0] * slower + [_loss_pct(v, best) or 0.0 for v in velocities[slower:]]


def velocity_loss_online(velocities: Sequence[float]) -> list[float]:
    """Return each rep's loss against the fastest so far, itself included: known when the rep is.

    Examples
    --------
    >>> [round(loss, 6) for loss in velocity_loss_online([0.50, 0.45, 0.55])]
    [0.0, 10.0, 0.0]
    """
    best, losses = -math.inf, []
    for v in velocities:
        best = max(best, v)
        losses.append(_loss_pct(v, best) or 0.0)
    return losses


def velocity_loss_robust(velocities: Sequence[float]) -> list[float | None]:
    """Return each rep's loss against the mean of the three fastest so far (VL3), which decides; None before the third.

    It may be negative.

    Examples
    --------
    >>> [loss if loss is None else round(loss, 6) for loss in velocity_loss_robust([0.50, 0.55, 0.52, 0.44])]
    [None, None, 0.636943, 15.923567]
    """
    slowest_first: list[float] = []
    losses: list[float | None] = []
    for v in velocities:
        insort(slowest_first, v)
        del slowest_first[:-3]
        losses.append(_loss_pct(v, mean(slowest_first)) if len(slowest_first) == 3 else None)  # noqa: PLR2004 - VL3
    return losses


def loss_best_to_last(velocities: Sequence[float]) -> float | None:
    """Return the loss from the fastest rep to the last; None without reps or without movement.

    Examples
    --------
    >>> round(loss_best_to_last([0.50, 0.55, 0.52, 0.44]), 6)
    20.0
    """
    return _loss_pct(velocities[-1], max(velocities)) if velocities else None


def loss_best_to_mean_of_last_two(velocities: Sequence[float]) -> float | None:
    """Return the loss from the fastest rep to the mean of the last two; None below two reps or without movement.

    Examples
    --------
    >>> round(loss_best_to_mean_of_last_two([0.50, 0.55, 0.52, 0.44]), 6)
    12.727273
    """
    return _loss_pct(mean(velocities[-2:]), max(velocities)) if len(velocities) > 1 else None


def power_loss(powers: Sequence[float]) -> list[float | None]:
    """Return each rep's loss of power against the best of the set; None without power.

    Examples
    --------
    >>> power_loss([200.0, 200.0, 150.0])
    [0.0, 0.0, 25.0]
    """
    best = max(powers, default=0.0)
    return [_loss_pct(power, best) for power in powers]


def rom_decay(roms: Sequence[float]) -> float | None:
    """Return how much the last two ranges fall short of the median of the first three; None below five reps.

    Examples
    --------
    >>> round(rom_decay([0.50, 0.52, 0.48, 0.47, 0.45, 0.43]), 6)
    12.0
    """
    return _loss_pct(mean(roms[-2:]), median(roms[:3])) if len(roms) >= 5 else None  # noqa: PLR2004 - 3 + 2


def rom_cv(roms: Sequence[float]) -> float | None:
    """Return the coefficient of variation of range, from the sample deviation; None below four reps.

    Examples
    --------
    >>> round(rom_cv([0.49, 0.51, 0.49, 0.51]), 6)
    2.309401
    """
    if len(roms) < 4 or abs(mean(roms)) <= NEARLY_ZERO:  # noqa: PLR2004 - science.md row 4
        return None
    return 100.0 * sample_sd(roms) / mean(roms)


def work_fatigue(works: Sequence[float]) -> float | None:
    """Return the loss from the first to the last third of the reps, the middle ignored; None below three reps.

    Examples
    --------
    >>> round(work_fatigue([100, 98, 95, 90, 85, 80, 75]), 6)
    21.717172
    """
    third = len(works) // 3
    return _loss_pct(math.fsum(works[-third:]), math.fsum(works[:third])) if third else None


def fatigue_index(values: Sequence[float], k: int = 3) -> float | None:
    """Return the loss from the mean of the first `k` reps to that of the last `k`; None below 2 k reps.

    Examples
    --------
    >>> round(fatigue_index([100, 98, 95, 90, 85, 80, 75]), 6)
    18.088737
    """
    return _loss_pct(mean(values[-k:]), mean(values[:k])) if len(values) >= 2 * k else None


def fatigue_index_of_peak(values: Sequence[float], k: int = 3) -> float | None:
    """Return the loss from the best rep to the mean of the last `k`; None below 2 k reps.

    Examples
    --------
    >>> round(fatigue_index_of_peak([100, 98, 95, 90, 85, 80, 75]), 6)
    20.0
    """
    return _loss_pct(mean(values[-k:]), max(values)) if len(values) >= 2 * k else None


class Slope(msgspec.Struct, frozen=True):
    """A trend within a set: percent of the peak rep per rep, and how much of the set it explains (None: it is flat)."""

    pct_per_rep: float
    r2: float | None
    nonlinear: bool


def force_slope(values: Sequence[float]) -> Slope | None:
    """Fit peak force, or work, over rep number from the peak rep on; None below four points or without force.

    Examples
    --------
    >>> slope = force_slope([200, 210, 204, 198, 190, 181])
    >>> round(slope.pct_per_rep, 6), round(slope.r2, 6), slope.nonlinear
    (-3.428571, 0.990826, False)
    """
    peak = max(values, default=0.0)
    falling = values[values.index(peak) :] if values else values
    if len(falling) < 4 or abs(peak) <= NEARLY_ZERO:  # noqa: PLR2004 - science.md 3.7
        return None
    x_mean, y_mean = (len(falling) - 1) / 2.0, mean(falling)
    xx = math.fsum((i - x_mean) ** 2 for i in range(len(falling)))
    xy = math.fsum((i - x_mean) * (y - y_mean) for i, y in enumerate(falling))
    yy = math.fsum((y - y_mean) ** 2 for y in falling)
    r2 = xy * xy / (xx * yy) if yy > NEARLY_ZERO else None
    return Slope(100.0 * xy / xx / peak, r2, r2 is not None and r2 < NONLINEAR_R2)


def set_recovery(best: float, first_best: float) -> float | None:
    """Return a set's best over that of the first set, a ratio; None where the first set has no best.

    Examples
    --------
    >>> set_recovery(0.45, 0.50)
    0.9
    """
    return best / first_best if abs(first_best) > NEARLY_ZERO else None


def mean(values: Sequence[float]) -> float:
    """Return the mean, correctly rounded sum first, so that no order of adding shows."""
    return math.fsum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """Return the median; of an even count, the mean of the middle two.

    Examples
    --------
    >>> median([3.0, 1.0, 2.0, 4.0])
    2.5
    """
    rising, half = sorted(values), len(values) // 2
    return rising[half] if len(values) % 2 else (rising[half - 1] + rising[half]) / 2.0


def sample_sd(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1)."""
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / (len(values) - 1))


def _loss_pct(value: float, reference: float) -> float | None:
    return 100.0 * (1.0 - value / reference) if reference > NEARLY_ZERO else None
