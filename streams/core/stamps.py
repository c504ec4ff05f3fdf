"""Stamps: times that a host wrote beside samples, put back on the clock of the device that took them (science.md 2.1).

Which sample a row is follows from counting rows, and what a sample's time is from a straight line through all stamps.
A stamp that comes late and whose successors are on the line again is jitter; one whose successors stay late as well
comes after a gap.
"""

from itertools import pairwise

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from streams.core.ragged import BoolArray, FloatArray, IntArray

JITTER_S = 0.1
"""Residual from the line, in s, up to which a stamp that returns to it is late and nothing is lost [default]."""

FEWEST_ROWS = 2
"""Rows below which there is no rate."""

_REACH = 15  # stamps on either side, at least, that say whether a jump persists
_ALIKE = 0.1  # of a step: clocks of devices and of hosts that read them in time
_HALF_GONE = 0.6  # of a period: a jump of less can't be a lost sample
_SURE = 4.0  # standard errors
_MAD_TO_SD = 1.4826
_MEDIAN_ERROR = 1.2533  # of the mean's standard error: what the median of normal deviates costs


class UniformClock(msgspec.Struct, frozen=True):
    """The fitted clock of a recording.

    Parameters
    ----------
    start_s : float
        Time of sample 0 on the fitted line, in s.
    period_s : float
        Time from one sample to the next, in s.
    number : array, shape (rows,)
        Which sample each row is; the numbers that are left out were lost.
    jitter_s : float
        Largest distance of a stamp from the line, in s.
    """

    start_s: float
    period_s: float
    number: IntArray
    jitter_s: float

    @property
    def fs_hz(self) -> float:
        """Samples in a second."""
        return 1.0 / self.period_s


def uniform_clock(t_s: FloatArray) -> UniformClock:
    """Fit the device's clock to stamps that jitter.

    The line is fitted piecewise: one period for all pieces, an offset for each. From piece to piece a whole number of
    samples is missing.

    Parameters
    ----------
    t_s : array, shape (rows,)
        Stamps in s, at least `FEWEST_ROWS`, finite and never falling.

    Raises
    ------
    ValueError
        The stamps are all the same, or too few.

    Examples
    --------
    >>> clock = uniform_clock(np.array([0.0, 0.01, 0.02, 0.05, 0.06, 0.07]))
    >>> clock.number, round(clock.fs_hz, 6)
    (array([0, 1, 2, 5, 6, 7]), 100.0)
    """
    if len(t_s) < FEWEST_ROWS or not t_s[-1] > t_s[0]:
        raise ValueError("a clock needs two different times")
    period_s = _rough_period(t_s)
    pieces = _pieces(t_s, period_s)
    period_s, offsets = _lines(t_s, pieces, period_s)
    lost = np.maximum(np.rint(np.diff(offsets) / period_s), 0.0).astype(np.int64)
    number = np.arange(len(t_s)) + np.repeat(np.concatenate(([0], np.cumsum(lost))), np.diff(pieces))
    center, period_s, start_s = _line(number, t_s, period_s)
    residual = t_s - (start_s + period_s * (number - center))
    return UniformClock(start_s - period_s * center, period_s, number, float(np.abs(residual).max()))


def _rough_period(t_s: FloatArray) -> float:
    """Take the usual step where there is one, else the median over stretches of rows: neither shows a gap."""
    steps = np.diff(t_s)
    usual = steps[np.abs(steps - np.median(steps)) <= _ALIKE * np.median(steps)]
    if len(usual) > len(steps) / 2:
        return float(usual.mean()) or float(t_s[-1] - t_s[0]) / len(steps)
    stretch = min(len(steps), 50)
    typical = float(np.median(t_s[stretch:] - t_s[:-stretch])) / stretch
    return typical or float(t_s[-1] - t_s[0]) / len(steps)


def _pieces(t_s: FloatArray, period_s: float) -> IntArray:
    """Return where lines begin, and the number of rows: rows after which stamps stay late, the largest jumps first."""
    lateness = t_s - period_s * np.arange(len(t_s))
    reach = max(_REACH, round(3.0 * JITTER_S / period_s))  # a late stamp's successors are the smaller part
    window = sliding_window_view(np.pad(lateness, reach, "edge"), reach)
    candidates = np.flatnonzero(np.diff(t_s) > (1.0 + _HALF_GONE) * period_s) + 1
    if not candidates.size:
        return np.array([0, len(t_s)])
    level, error_s = _level(lateness, window, reach)
    jump = level[candidates + reach] - level[candidates]
    candidates = candidates[jump > _HALF_GONE * period_s]
    cuts = [0, len(t_s)]
    for row in sorted(candidates.tolist(), key=lambda row: (t_s[row - 1] - t_s[row], row)):
        place = int(np.searchsorted(cuts, row))
        before = lateness[max(cuts[place - 1], row - reach) : row]
        after = lateness[row : min(cuts[place], row + reach)]
        noise_s = _SURE * error_s * (1.0 / len(before) + 1.0 / len(after)) ** 0.5
        if np.median(after) - np.median(before) > max(_HALF_GONE * period_s, noise_s):
            cuts.insert(place, row)
    return np.array(cuts)


def _level(lateness: FloatArray, window: FloatArray, reach: int) -> tuple[FloatArray, float]:
    """Return the median lateness before each row (of those from it on: `reach` rows later), and how sure one row is."""
    level: FloatArray = np.median(window, axis=1)
    around = level[reach // 2 + 1 :][: len(lateness)]
    spread = np.median(np.abs(lateness - around))
    return level, _MEDIAN_ERROR * _MAD_TO_SD * float(spread)


def _lines(t_s: FloatArray, pieces: IntArray, period_s: float) -> tuple[float, FloatArray]:
    """Fit parallel lines of time over row by least squares; return their slope and where each meets row 0."""
    length = np.diff(pieces)
    row, first = np.arange(len(t_s)), pieces[:-1]
    t_mean = np.add.reduceat(t_s, first) / length
    row_mean = np.add.reduceat(row, first) / length
    rows, times = row - np.repeat(row_mean, length), t_s - np.repeat(t_mean, length)
    weight = float(rows @ rows)
    slope = float(rows @ times) / weight if weight else period_s
    return slope, t_mean - slope * row_mean


def _line(number: IntArray, t_s: FloatArray, period_s: float) -> tuple[float, float, float]:
    """Fit one line through everything; return the middle of the numbers, the slope, the time at the middle."""
    center, middle_s = float(number.mean()), float(t_s.mean())
    apart = number - center
    weight = float(apart @ apart)
    return center, float(apart @ (t_s - middle_s)) / weight if weight else period_s, middle_s


def runs(holds: BoolArray) -> list[tuple[int, int]]:
    """List the stretches in which something holds, as half-open slices.

    Examples
    --------
    >>> runs(np.array([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(holds, prepend=False, append=False)).tolist()
    return list(pairwise(edges))[::2]
