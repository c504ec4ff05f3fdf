"""Signals: from the counts of rep messages to force and position at 100 Hz, filtered without lag (science.md 2.1-2.3).

A whole batch is one array and only elementwise arithmetic touches it, so no number depends on what else is measured
at the same time: not on the order of the batch, not on its size, not on the longest rep in it. Messages are taken as
the decoder lets them through: each channel has as many counts as `samples` says.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.core.lowpass import zero_lag
from streams.core.ragged import BoolArray, FloatArray, IntArray
from streams.core.telemetry import Rep

CountArray = NDArray[np.int16]

FS_HZ = 100.0
"""Rate of every signal that a metric sees, in Hz."""

MIN_FS_HZ = 50.0
"""Slowest rate that a machine may sample at, in Hz [default]."""

CUTOFF_HZ = 6.0
"""Cut-off of the zero-lag filter, in Hz [default]; never 3 Hz, which costs 5 % of peak velocity [measured]."""

RESAMPLE_CUTOFF_HZ = 40.0
"""Cut-off before a faster signal is thinned out to 100 Hz, in Hz [default]."""

NO_SAMPLE = -32_768
"""The count that says "no sample here": how a machine marks a gap, in either channel, and a channel that it lacks."""

FULL_SCALE = 32_767
"""Largest count either way; a sample that reaches it is saturated."""

MAX_CELLS = 65_536
"""Reps times samples that are measured at once: 0.5 MB an array, some 20 MB in all, however large the batch is. Twice
as many gain nothing, half as many cost 8 % [measured].
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


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of R rep messages in SI units at 100 Hz, signs applied.

    Parameters
    ----------
    position, force : array, shape (R, W)
        Filtered, in m or rad and N or N m; NaN from column `n` on, and the last column always is.
    raw_position, raw_force : array, shape (R, W - 1)
        Before the filter, for what it would remove: tremor, steadiness. Meaningless from column `n` on.
    n : array, shape (R,)
        Samples of each rep.
    has_force, saturated : array, shape (R,)
        The rep has a force channel; one of its counts is at full scale.
    gaps : Gaps
        Where samples were missing for more than 50 ms.
    step, load, window_lo, window_hi, concentric_s, eccentric_s : array, shape (R,)
        One count in m or rad; set load in N or N m; the prescribed window and tempo, NaN where there is none.
    is_max, warm_up : array, shape (R,)
        The patient tries to be as fast as possible; the rep belongs to a warm-up.
    """

    position: FloatArray
    force: FloatArray
    raw_position: FloatArray
    raw_force: FloatArray
    n: IntArray
    has_force: BoolArray
    saturated: BoolArray
    gaps: Gaps
    step: FloatArray
    load: FloatArray
    window_lo: FloatArray
    window_hi: FloatArray
    concentric_s: FloatArray
    eccentric_s: FloatArray
    is_max: BoolArray
    warm_up: BoolArray


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
    size = len(reps)
    counts, n = _counts(reps)
    x = counts.T.astype(np.float64, order="C")
    has_force, gaps = np.ones(size, np.bool_), _NO_GAPS
    if (counts == NO_SAMPLE).any():
        has_force, gaps = _fill(x, counts == NO_SAMPLE, n, reps[0].fs_hz)
    x *= [r.position_scale * r.concentric_sign for r in reps] + [r.force_scale_N * r.force_sign for r in reps]
    x, n = to_100_hz(x, np.tile(n, 2), reps[0].fs_hz)
    y = np.empty((2 * size, len(x) + 1))
    y[:, :-1] = zero_lag(x, n, CUTOFF_HZ, FS_HZ).T
    shortest = int(n.min())
    y[:, shortest:][np.arange(shortest, len(x) + 1) >= n[:, None]] = np.nan
    at_limit = ((counts == FULL_SCALE) | (counts == -FULL_SCALE)).any(axis=1)
    return Signals(
        position=y[:size],
        force=y[size:],
        raw_position=x.T[:size],
        raw_force=x.T[size:],
        n=n[:size],
        has_force=has_force,
        saturated=at_limit[:size] | at_limit[size:],
        gaps=gaps,
        is_max=np.array([rep.intent == "max" for rep in reps]),
        warm_up=np.array([rep.warm_up for rep in reps]),
        **dict(zip(_ASKED, np.array([_asked(rep) for rep in reps], np.float64).T, strict=True)),
    )


_ASKED = ("step", "load", "window_lo", "window_hi", "concentric_s", "eccentric_s")


def _asked(rep: Rep) -> tuple[float | None, ...]:
    ordered = rep.prescription
    if ordered is None:
        return rep.position_scale, rep.load_N, None, None, None, None
    window = (ordered.window_lo, ordered.window_hi)
    return (rep.position_scale, rep.load_N, *window, ordered.concentric_s, ordered.eccentric_s)


def _counts(reps: Sequence[Rep]) -> tuple[CountArray, IntArray]:
    """Return the counts, position rows above force rows, 0 behind the end of a row, and the samples of each rep."""
    n = np.array([rep.samples for rep in reps])
    flat = np.frombuffer(b"".join([rep.position for rep in reps] + [rep.force for rep in reps]), "<i2")
    if n.min() == n.max():
        return flat.reshape(2 * len(reps), -1), n
    counts = np.zeros((2 * len(reps), n.max()), np.int16)
    counts[np.arange(n.max()) < np.tile(n, 2)[:, None]] = flat
    return counts, n


_NO_GAPS = Gaps(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))


def _fill(x: FloatArray, missing: BoolArray, n: IntArray, fs_hz: float) -> tuple[BoolArray, Gaps]:
    """Draw straight lines over missing samples, in place; tell which reps have force, and where the gaps were.

    A sample is missing when either channel lacks it, unless the whole force channel does: then there is no load cell.
    """
    has_force = np.ones(len(n), np.bool_)
    holes = []
    for row in np.flatnonzero(missing.reshape(2, len(n), -1).any(axis=(0, 2))):
        position, force = missing[row, : n[row]], missing[len(n) + row, : n[row]]
        has_force[row] = not force.all()
        _interpolate(x[: n[row], row], position)
        _interpolate(x[: n[row], len(n) + row], force)
        edges = np.flatnonzero(np.diff(position | (force & has_force[row]), prepend=False, append=False))
        holes.append(np.insert(edges.reshape(-1, 2), 0, row, axis=1))
    row, first, stop = np.concatenate(holes).T
    length = (stop - first) * FS_HZ
    noted = length > _SHORT_GAP * fs_hz
    scale, is_long = FS_HZ / fs_hz, length > _LONG_GAP * fs_hz
    return has_force, Gaps(row[noted], first[noted] * scale, (stop[noted] - 1) * scale, is_long[noted])


def _interpolate(x: FloatArray, missing: BoolArray) -> None:
    holes, known = np.flatnonzero(missing), np.flatnonzero(~missing)
    x[holes] = np.interp(holes, known, x[known]) if known.size else 0.0


def to_100_hz(x: FloatArray, n: IntArray, fs_hz: float) -> tuple[FloatArray, IntArray]:
    """Put signals of one rate, shape (time, series), on the grid of 100 Hz by linear interpolation.

    Faster ones go through the zero-lag filter at 40 Hz first.

    Parameters
    ----------
    x : array, shape (time, series)
        Samples, series as columns.
    n : array, shape (series,)
        How many samples of each column count.
    fs_hz : float
        Their rate in Hz.

    Examples
    --------
    >>> to_100_hz(np.array([[0.0], [2.0], [4.0]]), np.array([3]), fs_hz=50.0)[0].T
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
    x = np.concatenate((x, x[-1:]))
    return x[before] + share[:, None] * (x[before + 1] - x[before]), length


def velocity(x: FloatArray, n: IntArray) -> FloatArray:
    """Differentiate positions of shape (R, W > n) centrally, the first and the last sample of each row one-sided.

    Examples
    --------
    >>> velocity(np.array([[0.0, 0.01, 0.04, 0.09, np.nan]]), np.array([4]))
    array([[ 1.,  2.,  4.,  5., nan]])
    """
    v = np.full_like(x, np.nan)
    np.multiply(x[:, 2:] - x[:, :-2], FS_HZ / 2.0, out=v[:, 1:-1])
    row, last = np.arange(len(x)), n - 1
    v[:, 0] = (x[:, 1] - x[:, 0]) * FS_HZ
    v[row, last] = np.where(n > 1, (x[row, last] - x[row, last - 1]) * FS_HZ, 0.0)
    return v
