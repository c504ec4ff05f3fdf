"""Similarity: how a phase of a rep compares with the patient's own reference (science.md 3.14).

A curve is one phase, force or position, brought to 101 points. Distances mislabel many reps, so none of them decides
alone, and towards people they speak of a deviation from their own reference. None is undefined, `undefined.why` tells
the reason.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.ma  # `np.median` loads it when first called: 10 ms in the midst of a session
from numpy.typing import ArrayLike, NDArray

from streams.core.undefined import NEARLY_ZERO, Undefined, none_if_undefined, quotient

FloatArray = NDArray[np.float64]

POINTS = 101
"""Points of a curve: 0 to 100 % of the phase."""

MIN_CURVES = 5
"""Accepted reps that make a reference [default]."""

BAND = 10
"""Points by which dynamic time warping may shift: 10 % (Sakoe-Chiba)."""

_STORED = "<f4"
_LARGEST = float(np.finfo(_STORED).max)


@none_if_undefined
def resampled(phase: ArrayLike, positions: ArrayLike | None = None, points: int = POINTS) -> FloatArray | None:
    """Interpolate one phase linearly to equally spaced points, of time or of position.

    Parameters
    ----------
    phase : array, shape (n,)
        Samples of one phase, in any unit.
    positions : array, shape (n,), optional
        Position at each sample in m or rad, for a curve over position. Where the movement hesitates and goes back,
        the first sample that gets anywhere counts (chosen).
    points : int
        Points of the curve, at least 2.

    Returns
    -------
    array, shape (points,), or None
        From the first sample to the last, in the unit of the phase. None below two samples (`phase_too_short`) or
        where the position ends where it began (`no_movement`); `invalid_input`.

    References
    ----------
    [default].

    Examples
    --------
    >>> resampled([0.0, 1.0, 4.0], points=5).tolist()
    [0.0, 0.5, 1.0, 2.5, 4.0]
    >>> resampled([0.0, 1.0, 4.0], positions=[0.0, 0.3, 0.4], points=5).round(6).tolist()
    [0.0, 0.333333, 0.666667, 1.0, 4.0]
    """
    values = _curve(phase)
    if len(values) < 2:  # noqa: PLR2004 - a line has two ends
        raise Undefined("phase_too_short")
    if positions is None:
        samples = np.arange(len(values), dtype=np.float64)
        return _interpolated(np.linspace(0.0, samples[-1], points), samples, values)
    x = _curve(positions)
    if len(x) != len(values):
        raise Undefined("invalid_input")
    travelled = (x - x[0]) * math.copysign(1.0, x[-1] - x[0])
    if travelled[-1] <= NEARLY_ZERO:
        raise Undefined("no_movement")
    advances = np.concatenate(([True], travelled[1:] > np.maximum.accumulate(travelled)[:-1]))
    return _interpolated(np.linspace(0.0, travelled[-1], points), travelled[advances], values[advances])


@none_if_undefined
def reference_curve(curves: Sequence[ArrayLike]) -> FloatArray | None:
    """Return the point-wise median of curves of accepted reps of one load band, tempo and settings.

    Parameters
    ----------
    curves : sequence of arrays, shape (points,)
        At least 5.

    Returns
    -------
    array, shape (points,), or None
        None below five curves (`no_reference`); of different lengths, `invalid_input`.

    References
    ----------
    [default].

    Examples
    --------
    >>> reference_curve([[1.0, 2.0], [1.0, 9.0], [2.0, 3.0], [3.0, 4.0], [0.0, 4.0]]).tolist()
    [1.0, 4.0]
    """
    if len(curves) < MIN_CURVES:
        raise Undefined("no_reference")
    median: FloatArray = np.median(_waveforms(curves), axis=0)
    return median


@none_if_undefined
def rmse(curve: ArrayLike, reference: ArrayLike) -> float | None:
    """Return the root of the mean squared difference of two curves, in their unit.

    Parameters
    ----------
    curve, reference : array, shape (points,)
        Of the same length and unit.

    Returns
    -------
    float or None
        `invalid_input` for different lengths or what is no number.

    References
    ----------
    [standard].

    Examples
    --------
    >>> rmse([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 2.0])
    1.0
    """
    return _rmse(*_waveforms([curve, reference]))


@none_if_undefined
def nrmse(curve: ArrayLike, reference: ArrayLike) -> float | None:
    """Return the RMSE over the range of the reference, RMSE/(max ref - min ref); dimensionless.

    Parameters
    ----------
    curve, reference : array, shape (points,)
        Of the same length and unit.

    Returns
    -------
    float or None
        None for a flat reference (`zero_denominator`); `invalid_input`.

    References
    ----------
    [default].

    Examples
    --------
    >>> nrmse([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 2.0])
    0.5
    """
    one, own = _waveforms([curve, reference])
    return quotient(_rmse(one, own), float(np.max(own) - np.min(own)))


@none_if_undefined
def correlation(curve: ArrayLike, reference: ArrayLike) -> float | None:
    """Return the correlation of two curves (Pearson's r), -1 to 1; blind to scale and offset.

    Parameters
    ----------
    curve, reference : array, shape (points,)
        Of the same length.

    Returns
    -------
    float or None
        None if one of them is flat (`zero_denominator`); `invalid_input`.

    References
    ----------
    [standard].

    Examples
    --------
    >>> round(correlation([0.0, 1.0, 2.0, 1.0, 0.0], [0.0, 1.0, 3.0, 1.0, 0.0]), 6)
    0.9759
    """
    one, own = (each - np.mean(each) for each in _waveforms([curve, reference]))
    spread = math.sqrt(float(one @ one)) * math.sqrt(float(own @ own))
    return min(max(quotient(float(one @ own), spread), -1.0), 1.0)


@none_if_undefined
def dtw(curve: ArrayLike, reference: ArrayLike, band: int = BAND) -> float | None:
    """Return the mean cost of warping one curve onto another in time (DTW), in their unit.

    Local cost is |a_i - b_j|, of vectors the Euclidean distance; steps (1, 0), (0, 1) and (1, 1); |i - j| <= band.
    The cost at the end is divided by the number of points (chosen).

    Parameters
    ----------
    curve, reference : array, shape (points,) or (points, d)
        Of the same shape and unit.
    band : int
        Points by which one may be ahead of the other.

    Returns
    -------
    float or None
        `invalid_input` for different shapes, no points or what is no number.

    References
    ----------
    [measured]: tells correct from incorrect squats with an area under the curve of 0.86, so it mislabels many.

    Examples
    --------
    >>> dtw([0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 2.0]), dtw([0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 2.0], band=0)
    (0.0, 0.5)
    """
    one, own = _points(curve), _points(reference)
    if one.shape != own.shape or not len(one) or band < 0:
        raise Undefined("invalid_input")
    n, width = len(one), 2 * band + 1
    # Row i of `costs` is the band around the diagonal: column k stands for j = i + k - band.
    j = np.arange(n)[:, None] + np.arange(width)[None, :] - band
    away = one[:, None, :] - own[np.clip(j, 0, n - 1)]
    inside = (j >= 0) & (j < n)
    distance = np.abs(away[..., 0]) if away.shape[-1] == 1 else np.sqrt(np.sum(away * away, axis=-1))
    costs = np.where(inside, distance, np.inf).tolist()
    before = [math.inf] * (width + 1)
    before[band] = 0.0  # the step into (0, 0) is free
    for row in costs:
        total, here = math.inf, []
        # A row further on, the same j stands one column to the left.
        for cost, diagonal, above in zip(row, before, before[1:], strict=False):
            total = cost + min(total, diagonal, above)
            here.append(total)
        before = [*here, math.inf]
    return float(before[band]) / n


@none_if_undefined
def cmc(curves: Sequence[ArrayLike]) -> float | None:
    """Return the coefficient of multiple correlation of M waveforms of F points, 1 where all are the same.

    sqrt(1 - [sum of (Y_mf - mean_f)²/(F(M - 1))]/[sum of (Y_mf - mean)²/(MF - 1)]). It depends on the range of
    motion: secondary only.

    Parameters
    ----------
    curves : sequence of M arrays, shape (F,)
        At least two, of the same length and unit.

    Returns
    -------
    float or None
        None below two waveforms (`no_reference`), where nothing varies (`zero_denominator`), and where they have less
        in common than chance, a negative radicand (`fit_rejected`); `invalid_input`.

    References
    ----------
    Kadaba 1989; Roislien 2012: generally unsuitable.

    Examples
    --------
    >>> round(cmc([[0, 1, 2, 1, 0], [0.0, 1.5, 3.0, 1.5, 0.0]]), 12)
    0.92622607221
    """
    if len(curves) < 2:  # noqa: PLR2004 - a waveform has nothing in common with itself alone
        raise Undefined("no_reference")
    y = _waveforms(curves)
    waveforms, points = y.shape
    within = float(np.sum((y - np.mean(y, axis=0)) ** 2)) / (points * (waveforms - 1))
    radicand = 1.0 - quotient(within, float(np.sum((y - np.mean(y)) ** 2)) / (waveforms * points - 1))
    if radicand < 0.0:
        raise Undefined("fit_rejected")
    return math.sqrt(radicand)


@none_if_undefined
def to_bytes(curve: ArrayLike) -> bytes | None:
    """Write a curve as 101 little-endian float32, as it is stored.

    Parameters
    ----------
    curve : array, shape (101,)
        Any unit.

    Returns
    -------
    bytes or None
        404 bytes. `invalid_input` for another length, or for what float32 can't hold.

    Examples
    --------
    >>> to_bytes(np.ones(101))[:8].hex()
    '0000803f0000803f'
    """
    known = _curve(curve)
    if len(known) != POINTS:
        raise Undefined("invalid_input")
    return known.astype(_STORED).tobytes()


@none_if_undefined
def from_bytes(stored: bytes) -> FloatArray | None:
    """Read a curve of 101 little-endian float32.

    Parameters
    ----------
    stored : bytes
        404 bytes.

    Returns
    -------
    array, shape (101,), or None
        `invalid_input` for another length or what is no number.

    Examples
    --------
    >>> from_bytes(to_bytes(np.arange(101)))[-1]
    np.float64(100.0)
    """
    if len(stored) != POINTS * np.dtype(_STORED).itemsize:
        raise Undefined("invalid_input")
    return _curve(np.frombuffer(stored, _STORED))


def _interpolated(at: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):  # a slope that is too steep shows in what comes out
        return _curve(np.interp(at, x, y))


def _rmse(curve: FloatArray, reference: FloatArray) -> float:
    return math.sqrt(float(np.mean((curve - reference) ** 2)))


def _finite(values: ArrayLike, dimensions: Sequence[int]) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)  # None becomes NaN
    if numbers.ndim not in dimensions or not np.all(np.abs(numbers) <= _LARGEST):
        raise Undefined("invalid_input")
    return numbers


def _curve(values: ArrayLike) -> FloatArray:
    return _finite(values, (1,))


def _points(values: ArrayLike) -> FloatArray:
    numbers = _finite(values, (1, 2))
    return numbers[:, None] if numbers.ndim == 1 else numbers


def _waveforms(curves: Sequence[ArrayLike]) -> FloatArray:
    known = [_curve(curve) for curve in curves]
    if len({len(curve) for curve in known}) != 1 or not len(known[0]):
        raise Undefined("invalid_input")
    return np.stack(known)
