"""Signals: from the counts of rep messages to force and position at 100 Hz, filtered without lag (science.md 2.1-2.3).

A whole batch is one array and only elementwise arithmetic touches it, so no number depends on what else is measured
at the same time: not on the order of the batch, not on its size, not on the longest rep in it. Messages are taken as
the decoder lets them through: each channel has as many counts as `samples` says.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.core import ragged
from streams.core.lowpass import zero_lag
from streams.core.ragged import BoolArray, FloatArray, IntArray
from streams.core.telemetry import Rep

CountArray = NDArray[np.int16]

FS_HZ = 100.0
"""Rate of every signal that a metric sees, in Hz."""

MIN_FS_HZ = 50.0
"""Slowest rate that a machine may sample at, in Hz [default]."""

CUTOFF_HZ = 6.0
"""Cut-off of the zero-lag filter, in Hz [default], of every machine and so of every stored metric; never 3 Hz, which
costs 5 % of peak velocity [measured]. Jerk and peaks of different cut-offs can't be compared."""

RESAMPLE_CUTOFF_HZ = 40.0
"""Cut-off before a faster signal is thinned out to 100 Hz, in Hz [default]."""

NO_SAMPLE = -32_768
"""The count that says "no sample here": how a machine marks a gap, in either channel, and a channel that it lacks."""

UNKNOWN_SETTINGS = "unknown"
"""What a machine calls settings that nobody told it."""

NARROWEST = 1e-12
"""Width in m or rad up to which a window is none: it could not be divided by."""

FULL_SCALE = 32_767
"""Largest count either way; a sample that reaches it is saturated."""

MAX_CELLS = 196_608
"""Reps times samples that are measured at once: 1.5 MB an array, some 18 MB in all, however large the batch is. A third
as many cost 15 % more, because every metric calls the array library a dozen times a chunk [measured].
"""

_SHORT_GAP = 5  # samples of 10 ms that are interpolated and forgotten
_LONG_GAP = 10  # samples of 10 ms beyond which a rep can't be saved
_ON_SAMPLE = 1e-9  # of a sample: a point of the new grid that is nearer to an old sample falls onto it


class Gaps(NamedTuple):
    """Gaps of more than 50 ms: the row of each, its first and last missing sample at 100 Hz, and if above 100 ms."""

    row: IntArray
    first: FloatArray
    last: FloatArray
    is_long: BoolArray


class Channel(NamedTuple):
    """A channel that few reps have: their rows, it itself at 100 Hz and filtered, and where more than 50 ms lack.

    `row` has shape (Q,), `x` has shape (Q, W).
    """

    row: IntArray
    x: FloatArray
    gaps: Gaps


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of R rep messages in SI units at 100 Hz, signs applied.

    Parameters
    ----------
    position, force : array, shape (R, W)
        Filtered, in m or rad and N or N m; NaN from column `n` on, and the last column always is.
    raw_position, raw_force : array, shape (R, W)
        Before the filter, for what it would remove: tremor, steadiness. Meaningless from column `n` on.
    n : array, shape (R,)
        Samples of each rep.
    has_force, saturated : array, shape (R,)
        The rep has a force channel; a count of one of its forces or of its position is at full scale.
    gaps : Gaps
        Where samples of position or force were missing for more than 50 ms.
    left, right : Channel
        Force of one side, filtered.
    told_velocity : Channel
        What the device takes for the velocity, filtered like the position.
    step, load, mass, window_lo, window_hi, concentric_s, eccentric_s : array, shape (R,)
        One count in m or rad; set load in N or N m; effective mass in kg; the prescribed window, else the calibrated
        one; the prescribed tempo; NaN where there is none.
    marks : array, shape (R, 4)
        The machine's own idea of concentric start and end and eccentric start and end, in samples of 10 ms; NaN where
        it has none.
    is_max, is_angle, warm_up, voluntary_pause, unknown_settings : array, shape (R,)
        The patient tries to be as fast as possible; the position is an angle; the rep belongs to a warm-up, was
        interrupted on purpose, was done with seat and levers that nobody knows.
    """

    position: FloatArray
    force: FloatArray
    raw_position: FloatArray
    raw_force: FloatArray
    n: IntArray
    has_force: BoolArray
    saturated: BoolArray
    gaps: Gaps
    left: Channel
    right: Channel
    told_velocity: Channel
    step: FloatArray
    load: FloatArray
    mass: FloatArray
    window_lo: FloatArray
    window_hi: FloatArray
    concentric_s: FloatArray
    eccentric_s: FloatArray
    marks: FloatArray
    is_max: BoolArray
    is_angle: BoolArray
    warm_up: BoolArray
    voluntary_pause: BoolArray
    unknown_settings: BoolArray


def why_unreadable(rep: Rep) -> str | None:
    """Say why a rep can't become a signal, None if it can."""
    if rep.fs_hz < MIN_FS_HZ:
        return "rate_too_low"
    largest = FULL_SCALE * (rep.position_scale + rep.force_scale_N) + rep.load_N + rep.fs_hz
    return None if math.isfinite(1e6 * largest) else "non_finite"  # with room for the filter and for differences


def chunks(reps: Sequence[Rep]) -> Iterator[list[int]]:
    """Name, as indices, reps that are read together: of one rate and similar length, at most `MAX_CELLS` cells."""
    chunk: list[int] = []
    for index in sorted(range(len(reps)), key=lambda i: (reps[i].fs_hz, reps[i].samples)):
        rep = reps[index]
        if chunk and (rep.fs_hz != reps[chunk[0]].fs_hz or (len(chunk) + 1) * rep.samples > MAX_CELLS):
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk


def read(reps: Sequence[Rep]) -> Signals:
    """Turn rep messages of one sample rate, none of them unreadable, into signals."""
    size, fs_hz = len(reps), reps[0].fs_hz
    n = np.array([rep.samples for rep in reps])
    counts = _counts([rep.position for rep in reps] + [rep.force for rep in reps], int(n.max()))
    scale = [r.position_scale * r.concentric_sign for r in reps] + [r.force_scale_N * r.force_sign for r in reps]
    x = counts.astype(np.float64)
    has_force, gaps = np.ones(size, np.bool_), _NO_GAPS
    if (missing := counts == NO_SAMPLE).any():
        has_force, gaps = _fill(x, missing, n, fs_hz)
    x *= np.array(scale)[:, None]
    x, n_100_hz = _resampled(x, np.concatenate((n, n)), fs_hz)
    y = _filtered(x, n_100_hz)
    saturated = _saturated(counts)
    left, right, told, saturated_side = _further(reps, n)
    numbers = np.fromiter(chain.from_iterable(map(_numbers, reps)), np.float64, size * len(_NUMBERS))
    answers = np.fromiter(chain.from_iterable(map(_answers, reps)), np.bool_, size * len(_ANSWERS))
    return Signals(
        position=y[:size],
        force=y[size:],
        raw_position=x[:size],
        raw_force=x[size:],
        n=n_100_hz[:size],
        has_force=has_force,
        saturated=saturated[:size] | saturated[size:] | saturated_side,
        gaps=gaps,
        left=left,
        right=right,
        told_velocity=told,
        marks=_marks(reps),
        **_by_name(_NUMBERS, numbers),
        **_by_name(_ANSWERS, answers),
    )


_NUMBERS = ("step", "load", "mass", "window_lo", "window_hi", "concentric_s", "eccentric_s")
_ANSWERS = ("is_max", "is_angle", "warm_up", "voluntary_pause", "unknown_settings")


def _by_name(names: tuple[str, ...], told: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return dict(zip(names, told.reshape(-1, len(names)).T.copy(), strict=True))


def _numbers(rep: Rep) -> tuple[float, ...]:
    ordered = rep.prescription
    low, high = (None, None) if ordered is None else (ordered.window_lo, ordered.window_hi)
    concentric_s, eccentric_s = (None, None) if ordered is None else (ordered.concentric_s, ordered.eccentric_s)
    if rep.calibrated is not None and not is_window(low, high):
        low, high = rep.calibrated
    return (
        rep.position_scale,
        rep.load_N,
        math.nan if rep.effective_mass_kg is None else rep.effective_mass_kg,
        math.nan if low is None else low,
        math.nan if high is None else high,
        math.nan if concentric_s is None else concentric_s,
        math.nan if eccentric_s is None else eccentric_s,
    )


def _answers(rep: Rep) -> tuple[bool, ...]:
    is_max, is_angle = rep.intent == "max", rep.position_unit == "rad"
    return is_max, is_angle, rep.warm_up, rep.voluntary_pause, rep.settings == UNKNOWN_SETTINGS


_NO_MARKS = (math.nan,) * 4


def _marks(reps: Sequence[Rep]) -> FloatArray:
    marks = np.array([rep.marks or _NO_MARKS for rep in reps], np.float64)
    marks *= FS_HZ / reps[0].fs_hz
    return marks


def is_window(low: float | None, high: float | None) -> bool:
    """Tell whether two ends in m or rad make a window that can be divided by.

    Examples
    --------
    >>> is_window(0.0, 0.4), is_window(0.4, 0.0), is_window(None, 0.4)
    (True, False, False)
    """
    return low is not None and high is not None and high - low > NARROWEST


def _counts(channels: Sequence[bytes], longest: int) -> CountArray:
    """Return the counts of channels, one a row, 0 behind the end of each, where every row has at least one column."""
    size = 2 * (longest + 1)
    rows = b"".join([channel.ljust(size, b"\0") for channel in channels])
    return np.frombuffer(rows, "<i2").reshape(len(channels), -1)


def _resampled(x: FloatArray, n: IntArray, fs_hz: float) -> tuple[FloatArray, IntArray]:
    if fs_hz == FS_HZ:
        return x, n
    resampled, length = to_100_hz(x, n, fs_hz)
    roomy = np.zeros((len(x), int(length.max()) + 1))
    roomy[:, :-1] = resampled
    return roomy, length


def _filtered(x: FloatArray, n: IntArray) -> FloatArray:
    """Filter at `CUTOFF_HZ`; NaN from column `n` on."""
    y = zero_lag(x, n, CUTOFF_HZ, FS_HZ)
    shortest = int(n.min())
    y[:, shortest:][np.arange(shortest, x.shape[1]) >= n[:, None]] = np.nan
    return y


def _saturated(counts: CountArray) -> BoolArray:
    # int16 arithmetic wraps: NO_SAMPLE, -32,768, is its own absolute value, and not above zero
    at_limit: BoolArray = np.abs(counts).max(axis=1) == FULL_SCALE
    return at_limit


def _further(reps: Sequence[Rep], n: IntArray) -> tuple[Channel, Channel, Channel, BoolArray]:
    """Read the channels that few reps have; tell which reps have a saturated sample in the force of one side."""
    left, left_saturated = _channel(reps, n, [rep.force_left for rep in reps], _force_scale)
    right, right_saturated = _channel(reps, n, [rep.force_right for rep in reps], _force_scale)
    told, _ = _channel(reps, n, [rep.velocity for rep in reps], _velocity_scale)
    return left, right, told, left_saturated | right_saturated


def _force_scale(rep: Rep) -> float:
    return rep.force_scale_N * rep.force_sign


def _velocity_scale(rep: Rep) -> float:
    return (rep.velocity_scale or math.nan) * rep.concentric_sign


def _channel(
    reps: Sequence[Rep], n: IntArray, channels: Sequence[bytes | None], scale: Callable[[Rep], float]
) -> tuple[Channel, BoolArray]:
    saturated = np.zeros(len(reps), np.bool_)
    rows = [row for row, channel in enumerate(channels) if channel is not None]
    if not rows:
        return _NO_CHANNEL, saturated
    row, fs_hz = np.array(rows), reps[0].fs_hz
    counts = _counts([channel for channel in channels if channel is not None], int(n[row].max()))
    x = counts.astype(np.float64)
    missing = counts == NO_SAMPLE
    is_there, holes = np.ones(len(row), np.bool_), []
    for place in np.flatnonzero(missing.any(axis=1)):
        lost = missing[place, : n[row[place]]]
        _interpolate(x[place, : len(lost)], lost)
        holes.append(_holes(rows[place], lost))
        is_there[place] = not lost.all()
    x *= np.array([scale(reps[index]) for index in rows])[:, None]
    x, n_100_hz = _resampled(x, n[row], fs_hz)
    saturated[row] = _saturated(counts)
    return Channel(row[is_there], _filtered(x, n_100_hz)[is_there], _gaps(holes, fs_hz)), saturated


_NO_GAPS = Gaps(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))
_NO_CHANNEL = Channel(np.zeros(0, np.int64), np.zeros((0, 1)), _NO_GAPS)


def _holes(row: int, lost: BoolArray) -> IntArray:
    """Return the runs of missing samples of one row: the row, the first sample of each, and the one behind it."""
    edges = np.flatnonzero(np.diff(lost, prepend=False, append=False))
    return np.insert(edges.reshape(-1, 2), 0, row, axis=1)


def _gaps(holes: Sequence[IntArray], fs_hz: float) -> Gaps:
    if not holes:
        return _NO_GAPS
    row, first, stop = np.concatenate(holes).T
    length = (stop - first) * FS_HZ
    noted = length > _SHORT_GAP * fs_hz
    scale, is_long = FS_HZ / fs_hz, length > _LONG_GAP * fs_hz
    return Gaps(row[noted], first[noted] * scale, (stop[noted] - 1) * scale, is_long[noted])


def _fill(x: FloatArray, missing: BoolArray, n: IntArray, fs_hz: float) -> tuple[BoolArray, Gaps]:
    """Draw straight lines over missing samples, in place; tell which reps have force, and where the gaps were.

    A sample is missing when either channel lacks it, unless the whole force channel does: then there is no load cell.
    """
    has_force = np.ones(len(n), np.bool_)
    holes = []
    for row in np.flatnonzero(missing.reshape(2, len(n), -1).any(axis=(0, 2))).tolist():
        position, force = missing[row, : n[row]], missing[len(n) + row, : n[row]]
        has_force[row] = not force.all()
        _interpolate(x[row, : n[row]], position)
        _interpolate(x[len(n) + row, : n[row]], force)
        holes.append(_holes(row, position | (force & has_force[row])))
    return has_force, _gaps(holes, fs_hz)


def _interpolate(x: FloatArray, missing: BoolArray) -> None:
    holes, known = np.flatnonzero(missing), np.flatnonzero(~missing)
    x[holes] = np.interp(holes, known, x[known]) if known.size else 0.0


def to_100_hz(x: FloatArray, n: IntArray, fs_hz: float) -> tuple[FloatArray, IntArray]:
    """Put signals of one rate, shape (series, time), on the grid of 100 Hz by linear interpolation.

    Faster ones go through the zero-lag filter at 40 Hz first.

    Parameters
    ----------
    x : array, shape (series, time)
        Samples, series as rows.
    n : array, shape (series,)
        How many samples of each row count.
    fs_hz : float
        Their rate in Hz.

    Examples
    --------
    >>> to_100_hz(np.array([[0.0, 2.0, 4.0]]), np.array([3]), fs_hz=50.0)[0]
    array([[0., 1., 2., 3., 4.]])
    """
    if fs_hz == FS_HZ:
        return x, n
    if fs_hz > FS_HZ:
        x = zero_lag(x, n, RESAMPLE_CUTOFF_HZ, fs_hz)
    length = np.floor((n - 1) * (FS_HZ / fs_hz) + _ON_SAMPLE).astype(np.int64) + 1
    grid = np.arange(length.max()) * (fs_hz / FS_HZ)
    before = np.floor(grid + _ON_SAMPLE).astype(np.int64)
    share = grid - before
    share[np.abs(share) < _ON_SAMPLE] = 0.0  # its right neighbour, which may be padding, must not be felt
    after = np.minimum(before + 1, x.shape[1] - 1)
    return x[:, before] + share * (x[:, after] - x[:, before]), length


def velocity(x: FloatArray, n: IntArray) -> FloatArray:
    """Differentiate positions of shape (R, W > n) centrally, the first and the last sample of each row one-sided.

    Examples
    --------
    >>> velocity(np.array([[0.0, 0.01, 0.04, 0.09, np.nan]]), np.array([4]))
    array([[ 1.,  2.,  4.,  5., nan]])
    """
    v = np.empty_like(x)
    np.subtract(x[:, 2:], x[:, :-2], out=v[:, 1:-1])
    v[:, 1:-1] *= FS_HZ / 2.0
    v[:, -1] = np.nan
    v[:, 0] = (x[:, 1] - x[:, 0]) * FS_HZ
    last, samples = ragged.rows(x) + n - 1, x.reshape(-1)
    v.reshape(-1)[last] = np.where(n > 1, (samples.take(last) - samples.take(last - 1)) * FS_HZ, 0.0)
    return v
