"""Baseline: what a patient's own accepted reps are like at one load and tempo, for later reps to be judged by.

A session learns one from its accepted reps; the planner keeps the merged one of each series and hands it out with the
next plan. Means and deviations are kept as counts, means and sums of squares, so that merging never needs the reps.
"""

import math
from statistics import median

import msgspec

LOAD_BAND = 0.10
"""Share by which the load may differ for reps to be comparable [default]."""

TEMPO_BAND = 0.10
"""Share by which the prescribed concentric time may differ for reps to be comparable [default]."""

MIN_REPS = 5
"""Accepted reps before a baseline says anything (science.md 3.14 and 4)."""

MAX_RANGES = 5
"""Sessions whose median range is kept."""

_LAST_BIT = 1e-9


class Moments(msgspec.Struct, frozen=True, array_like=True):
    """Count, mean and sum of squared deviations of a number."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def with_one(self, value: float) -> "Moments":
        """Add one value (Welford).

        Examples
        --------
        >>> Moments().with_one(2.0).with_one(4.0)
        Moments(n=2, mean=3.0, squares=2.0)
        """
        n, off = self.n + 1, value - self.mean
        mean = self.mean + off / n
        return Moments(n, mean, self.squares + off * (value - mean))

    def merged(self, other: "Moments") -> "Moments":
        """Add all values of another.

        Examples
        --------
        >>> Moments(2, 3.0, 2.0).merged(Moments(1, 6.0, 0.0))
        Moments(n=3, mean=4.0, squares=8.0)
        """
        n = self.n + other.n
        if not n:
            return self
        off = other.mean - self.mean
        squares = self.squares + other.squares + off * off * self.n * other.n / n
        return Moments(n, self.mean + off * other.n / n, squares)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation; None below two values."""
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else None


class Baseline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What accepted reps were like.

    Parameters
    ----------
    load_N : float
        Load at which they were done, in N or N m.
    concentric_s : float or None
        Prescribed concentric time in s.
    ranges : tuple of float
        Median range of motion of each of the last sessions, in m or rad.
    steadiness, tremor : Moments
        Of `force_steadiness_cv_pct` and `tremor_index_force_pct`, in percent.
    tremor_velocity : Moments
        Of `tremor_index_velocity_pct`, in percent, of the reps that were done without a load cell.
    peak_force : float or None
        Largest peak force in N or N m.
    curve : bytes or None
        Point-wise median of force over the concentric, 101 little-endian float32, equally spaced in position.
    corrected : bool or None
        Whether gravity, cam and friction were taken out of all that force; None is unknown.
    """

    load_N: float
    concentric_s: float | None = None
    ranges: tuple[float, ...] = ()
    steadiness: Moments = Moments()
    tremor: Moments = Moments()
    peak_force: float | None = None
    curve: bytes | None = None
    corrected: bool | None = None
    tremor_velocity: Moments = Moments()

    @property
    def range_of_motion(self) -> float | None:
        """The patient's own range in m or rad: the median over sessions."""
        return median(self.ranges) if self.ranges else None


def is_alike(one: bool | None, other: bool | None) -> bool:
    """Tell whether forces are of one kind: both corrected, or neither (science.md 2.3).

    Where one is unknown, as in what an earlier release kept, they count as alike: a reference that is too many can only
    stop or ease, while without any no spike of force would be seen.

    Examples
    --------
    >>> is_alike(True, True), is_alike(True, False), is_alike(None, False)
    (True, False, True)
    """
    return one is None or other is None or one == other


def is_comparable(one: Baseline, other: Baseline) -> bool:
    """Tell whether two baselines are of the same load band and tempo, and of one kind of force.

    Examples
    --------
    >>> is_comparable(Baseline(load_N=400.0), Baseline(load_N=440.0))
    True
    >>> is_comparable(Baseline(load_N=400.0), Baseline(load_N=441.0))
    False
    """
    if (one.concentric_s is None) != (other.concentric_s is None) or not is_alike(one.corrected, other.corrected):
        return False
    slower_s = abs((other.concentric_s or 0.0) - (one.concentric_s or 0.0))
    is_same_tempo = slower_s <= TEMPO_BAND * (one.concentric_s or 0.0) + _LAST_BIT
    return is_same_tempo and abs(other.load_N - one.load_N) <= LOAD_BAND * one.load_N + _LAST_BIT


def merged(old: Baseline | None, new: Baseline) -> Baseline:
    """Add a session's baseline to what was known; what is not comparable with it starts anew, its range excepted.

    Examples
    --------
    >>> merged(Baseline(load_N=400.0, ranges=(0.5,)), Baseline(load_N=410.0, ranges=(0.6,))).range_of_motion
    0.55
    """
    if old is None:
        return new
    ranges = (*old.ranges, *new.ranges)[-MAX_RANGES:]
    if not is_comparable(old, new):
        return msgspec.structs.replace(new, ranges=ranges)
    peaks = [peak for peak in (old.peak_force, new.peak_force) if peak is not None]
    return msgspec.structs.replace(
        old,
        ranges=ranges,
        steadiness=old.steadiness.merged(new.steadiness),
        tremor=old.tremor.merged(new.tremor),
        peak_force=max(peaks, default=None),
        curve=old.curve if old.curve is not None else new.curve,
        corrected=old.corrected if old.corrected is not None else new.corrected,
        tremor_velocity=old.tremor_velocity.merged(new.tremor_velocity),
    )
