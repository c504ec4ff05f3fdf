"""Low-pass: a zero-lag Butterworth filter over many signals at once (science.md 2.2).

Only elementwise arithmetic touches the signals, so what comes out of one doesn't depend on the others beside it.
"""

import math
from typing import NamedTuple

import numpy as np

from streams.core.ragged import FloatArray, IntArray

PAD = 50
"""Longest padding on each side, in samples."""

_NEGLIGIBLE = 1e-17


class Section(NamedTuple):
    """One second-order section: b0 (1 + 2 z + zz) / (1 + a1 z + a2 zz), z being a delay of one sample."""

    b0: float
    a1: float
    a2: float


def design(fc_hz: float, fs_hz: float) -> Section:
    """Design a Butterworth section that, run forward and backward, has a gain of 1/sqrt(2) at `fc_hz`.

    Examples
    --------
    >>> [round(c, 10) for c in design(6.0, 100.0)]
    [0.0405946814, -1.3547488152, 0.517127541]
    """
    k = math.tan(math.pi * fc_hz / fs_hz) / (math.sqrt(2.0) - 1.0) ** 0.25
    d = 1.0 + math.sqrt(2.0) * k + k * k
    return Section(k * k / d, 2.0 * (k * k - 1.0) / d, (1.0 - math.sqrt(2.0) * k + k * k) / d)


def zero_lag(x: FloatArray, n: IntArray, fc_hz: float, fs_hz: float) -> FloatArray:
    """Low-pass signals forward and backward, so that nothing is delayed (science.md 2.2).

    Parameters
    ----------
    x : array, shape (time, series)
        Samples, series as columns, so that a delay moves one block of memory.
    n : array, shape (series,)
        How many samples of each column count, at least 1; what comes behind them is not read.
    fc_hz, fs_hz : float
        Cut-off and sampling rate in Hz.

    Returns
    -------
    array, shape (time, series)
        Filtered; meaningless behind the end of a column.

    Examples
    --------
    >>> zero_lag(np.array([[1.0], [1.0], [1.0]]), np.array([3]), fc_hz=6.0, fs_hz=100.0).T
    array([[1., 1., 1.]])
    """
    section = design(fc_hz, fs_hz)
    series, last, pad = np.arange(x.shape[1]), n - 1, np.minimum(PAD, n - 1)
    reach = np.minimum(np.arange(1, PAD + 1)[:, None], pad)  # beyond a short padding its outermost value goes on
    first = 2.0 * x[0] - x[pad, series]  # a gain of 1 at rest: what is taken away before can be put back after
    y = np.zeros((len(x) + 2 * PAD, x.shape[1]))
    y[PAD - 1 :: -1] = 2.0 * x[0] - np.take_along_axis(x, reach, axis=0) - first
    np.subtract(x, first, out=y[PAD:-PAD])
    y[PAD + last + np.arange(1, PAD + 1)[:, None], series] = 2.0 * x[last, series] - x[last - reach, series] - first
    y = _from_rest(y, section, forward=True)
    stop = PAD + last + pad
    final = y[stop, series]
    y -= final
    shortest = int(stop.min()) + 1
    y[shortest:][np.arange(shortest, len(y))[:, None] > stop] = 0.0
    filtered: FloatArray = _from_rest(y, section, forward=False)[PAD:-PAD] + (final + first)
    return filtered


def _from_rest(x: FloatArray, section: Section, *, forward: bool) -> FloatArray:
    """Run one pass whose past is all zeros, destroying `x`.

    A recursion can't be vectorised over time, so its denominator is made sparse by Graeffe's root squaring:
    1/(1 + a1 z + a2 zz) = (1 - a1 z + a2 zz) / (1 + (2 a2 - a1 a1) zz + a2 a2 zzzz), and again with zz for z. Every
    turn squares the poles; when what is left of the denominator rounds to 1 (lag 64 for 6 Hz), the chain is complete.
    """
    y, spare = np.empty_like(x), np.empty_like(x)
    x *= section.b0
    lag, a1, a2 = 1, section.a1, section.a2
    _add_echoes(x, y, spare, _Echoes(lag, 2.0, 1.0), forward=forward)
    while max(abs(a1), abs(a2)) > _NEGLIGIBLE and lag < len(x):
        x, y = y, x
        _add_echoes(x, y, spare, _Echoes(lag, -a1, a2), forward=forward)
        lag, a1, a2 = 2 * lag, 2.0 * a2 - a1 * a1, a2 * a2
    return y


class _Echoes(NamedTuple):
    """Two delayed copies of a signal: their lag in samples, the weight after one lag and after two."""

    lag: int
    once: float
    twice: float


def _add_echoes(x: FloatArray, y: FloatArray, spare: FloatArray, echoes: _Echoes, *, forward: bool) -> None:
    """Write x + once * (x one lag ago) + twice * (x two lags ago) to `y`; backward, ago means ahead."""
    lag, once, twice = echoes
    if not forward:
        x, y, spare = x[::-1], y[::-1], spare[::-1]
    np.multiply(x[:-lag], once, out=y[lag:])
    y[lag:] += x[lag:]
    y[:lag] = x[:lag]
    if abs(twice) > _NEGLIGIBLE:
        np.multiply(x[: -2 * lag], twice, out=spare[2 * lag :])
        y[2 * lag :] += spare[2 * lag :]


def noise_gain(fc_hz: float, fs_hz: float) -> float:
    """Return the standard deviation, per s, that white noise of 1 a sample leaves in the filtered velocity.

    Examples
    --------
    >>> round(noise_gain(6.0, 100.0), 3)
    9.055
    """
    impulse = np.zeros((401, 1))
    impulse[200] = 1.0
    response = zero_lag(impulse, np.array([401]), fc_hz, fs_hz)[:, 0]
    return float(np.sqrt(np.sum(((response[2:] - response[:-2]) * fs_hz / 2.0) ** 2)))
