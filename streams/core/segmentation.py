"""Segmentation: where in its message a repetition starts, peaks and ends, and which can't be used (science.md 2.4)."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from streams.core import ragged
from streams.core.lowpass import noise_gain
from streams.core.ragged import BoolArray, FloatArray, IntArray, Marked
from streams.core.signals import CUTOFF_HZ, FS_HZ, Signals, velocity

OPEN_AT = 0.20
FULL_AT = 0.80
"""Shares of the window at which an excursion opens and closes, and from which on it is full [default]."""

MIN_ROM = 0.30
"""Smallest range of a rep that isn't full, as a share of the reference range [default]."""

HOLD_SPEED = 0.02
"""Share of the excursion's peak speed up to which a patient holds [default]."""

REST_SPEED = 3.0 / math.sqrt(12.0) * noise_gain(CUTOFF_HZ, FS_HZ)
"""Three standard deviations of velocity at rest, in 1/s times one count of position.

A machine's noise at rest is not in a message. What is known of it is that positions are rounded to counts.
"""

MIN_HOLD, MIN_PHASE, MAX_REP = 15, 20, 3_000
"""Samples of 10 ms: shortest hold and shortest phase, longest rep [default]."""

MIN_CONTEXT = 40
"""Samples of 10 ms on each side below which a rep is `no_context`.

Machines add 50 samples to where they see the rep begin and end. Their idea may be 0.1 s off without a notice, and 40
samples still keep what the filter's padding does at the ends of the message below 1e-9 m within the rep.
"""

TIE = 1e-9
"""Share of the window within which two positions are the same, so that no last bit chooses among equal extremes."""

UNLOADED = 0.05
"""Share of the set load below which the patient holds no load [default]."""

MIN_COUNTS = 20
"""Smallest range of a message without a prescribed window, in counts: less is noise, not movement [default]."""

NARROWEST = 1e-12
"""Width in m or rad up to which a prescribed window is none: it could not be divided by."""

MAX_CROSSINGS = 2
"""Crossings of the middle of the window in one excursion; more are two movements in one."""


class Phases(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of R segmented repetitions.

    Parameters
    ----------
    signals : Signals
        What was segmented.
    velocity : array, shape (R, W)
        In m/s or rad/s, positive in the concentric; NaN from column `n` on.
    start, top, turn, end : array, shape (R,)
        Samples of concentric start, concentric end, eccentric start, eccentric end; of a valid rep in rising order.
    reference : array, shape (R,)
        Prescribed range in m or rad, NaN where there is none.
    invalid, flagged : mapping of str to array, shape (R,)
        By reason: the reps that can't be used, and those that are no reference for others.
    """

    signals: Signals
    velocity: FloatArray
    start: IntArray
    top: IntArray
    turn: IntArray
    end: IntArray
    reference: FloatArray
    invalid: Mapping[str, BoolArray]
    flagged: Mapping[str, BoolArray]


class _Window(NamedTuple):
    """What positions are judged by, in m or rad: what the message covers, what is prescribed, what counts of the two.

    `reference` is the prescribed width, NaN where there is none; `bottom` and `width` are those that count.
    """

    low: FloatArray
    high: FloatArray
    reference: FloatArray
    bottom: FloatArray
    width: FloatArray


class _Excursion(NamedTuple):
    """The longest stretch above `OPEN_AT` of each message, [opened, closed), and where any stretch opens and closes."""

    found: BoolArray
    opened: IntArray
    closed: IntArray
    openings: Marked
    closings: Marked
    peak: FloatArray


def segment(signals: Signals) -> Phases:
    """Find the phases of the longest excursion in each message, and judge them."""
    window = _window(signals)
    excursion = _longest(signals, window)
    v = velocity(signals.position, signals.n)
    start, top, turn, end = _limits(signals, v, window, excursion)
    gap, no_context, lost = _gaps(signals, start, end, excursion.found)
    rom = ragged.at(signals.position, top) - ragged.at(signals.position, start)
    complete = excursion.found & (excursion.closed < signals.n)
    mismatch = _is_upside_down(signals, window, complete & (excursion.opened > 0))
    judged = complete & ~mismatch
    unloaded = ragged.largest(signals.force, start, top) < UNLOADED * signals.load
    is_small = (excursion.peak < window.bottom + FULL_AT * window.width) & (np.abs(rom) < MIN_ROM * window.width)
    return Phases(
        signals=signals,
        velocity=v,
        start=start,
        top=top,
        turn=turn,
        end=end,
        reference=window.reference,
        invalid={
            "gap_over_100ms": lost,
            "below_min_rom": (judged & is_small) | ~(excursion.found | mismatch),
            "too_short": judged & (np.minimum(top - start, end - turn) < MIN_PHASE),
            "too_long": judged & (end - start > MAX_REP),
            "unloaded": judged & signals.has_force & unloaded,
            "saturated": signals.saturated,
            "sign_mismatch": mismatch,
            "open_at_end": excursion.found & ~complete & ~mismatch,
        },
        flagged={
            "double_crossing": _crossings(signals, window, excursion) > MAX_CROSSINGS,
            "gap": gap,
            "no_context": no_context,
            "warm_up": signals.warm_up,
        },
    )


def _window(signals: Signals) -> _Window:
    """Take the prescribed window, else what the message covers; an infinite one, which nothing opens, for noise."""
    zero = np.zeros_like(signals.n)
    low, high = ragged.smallest(signals.position, zero, signals.n), ragged.largest(signals.position, zero, signals.n)
    covered = np.where(high - low >= MIN_COUNTS * signals.step, high - low, np.inf)
    prescribed = signals.window_hi - signals.window_lo
    is_prescribed = prescribed > NARROWEST
    return _Window(
        low=low,
        high=high,
        reference=np.where(is_prescribed, prescribed, np.nan),
        bottom=np.where(is_prescribed, signals.window_lo, low),
        width=np.where(is_prescribed, prescribed, covered),
    )


def _longest(signals: Signals, window: _Window) -> _Excursion:
    x, n = signals.position, signals.n
    above = x >= (window.bottom + OPEN_AT * window.width)[:, None]
    edges = np.flatnonzero(np.diff(above.reshape(-1), prepend=False))  # the last column is empty: all stretches close
    opens, closes = edges[::2], edges[1::2]
    row = opens // x.shape[1]
    order = np.lexsort((opens, opens - closes, row))
    rows, first = np.unique(row[order], return_index=True)
    opened, closed, found = np.zeros_like(n), np.zeros_like(n), np.zeros(len(n), np.bool_)
    found[rows] = True
    opened[rows] = opens[order[first]] - rows * x.shape[1]
    closed[rows] = closes[order[first]] - rows * x.shape[1]
    peak = ragged.largest(x, opened, closed)
    return _Excursion(found, opened, closed, Marked(opens, x.shape), Marked(closes, x.shape), peak)


def _limits(signals: Signals, v: FloatArray, window: _Window, excursion: _Excursion) -> tuple[IntArray, ...]:
    """Find concentric start and end, eccentric start and end. Rows without an excursion get some samples."""
    x, n, opened, closed = signals.position, signals.n, excursion.opened, excursion.closed
    zero = np.zeros_like(n)
    fastest = np.maximum(ragged.largest(v, opened, closed), -ragged.smallest(v, opened, closed))
    hold = np.maximum(HOLD_SPEED * fastest, REST_SPEED * signals.step)[:, None]
    not_rising, not_falling = ragged.where(v <= hold), ragged.where(v >= -hold)
    near_peak = ragged.where(x >= (window.bottom + FULL_AT * (excursion.peak - window.bottom))[:, None])
    start = np.maximum(not_rising.last(zero, opened), 0)
    top = np.minimum(not_rising.first(near_peak.first(opened, closed), n), n - 1)
    turn = np.maximum(not_falling.last(zero, near_peak.last(opened, closed) + 1), 0)
    end = np.minimum(not_falling.first(closed, n), n - 1)
    tie = TIE * window.width
    extreme = ragged.where(x >= (excursion.peak - tie)[:, None]).first(opened, closed)
    is_held = turn - top >= MIN_HOLD
    top, turn = np.where(is_held, top, extreme), np.where(is_held, turn, extreme)

    before = excursion.closings.last(zero, opened)  # the rep before, if the context reaches it
    ended = not_falling.first(np.maximum(before, 0), n)
    start = _turnaround(x, start, ended, tie, (np.maximum(before, ended) > 0) & (start >= before))
    after = excursion.openings.first(closed, n)  # the rep behind
    starts = not_rising.last(closed, after)
    end = _turnaround(x, end, starts, tie, (np.minimum(after, starts + 1) < n) & (starts >= closed))
    return start, top, turn, end


def _turnaround(x: FloatArray, limit: IntArray, other: IntArray, tie: FloatArray, is_seen: BoolArray) -> IntArray:
    """Move a limit onto the first minimum where the rest between it and the neighbouring rep is no hold."""
    is_turnaround = is_seen & (np.abs(limit - other) < MIN_HOLD)
    last = np.where(is_turnaround, np.maximum(limit, other), limit)
    return ragged.lowest(x, np.where(is_turnaround, np.minimum(limit, other), limit), last, MIN_HOLD, tie)


def _crossings(signals: Signals, window: _Window, excursion: _Excursion) -> IntArray:
    above = signals.position >= (window.bottom + 0.5 * window.width)[:, None]
    changes = Marked(np.flatnonzero(np.diff(above.reshape(-1), prepend=False)), above.shape)
    return changes.count(np.maximum(excursion.opened, 1), excursion.closed + 1)


def _is_upside_down(signals: Signals, window: _Window, is_whole: BoolArray) -> BoolArray:
    """Tell messages that begin and end at the top and move down between: the sign is wrong, not the patient."""
    covered = window.high - window.low
    upper = window.low + FULL_AT * covered
    is_movement = covered >= np.fmax(MIN_COUNTS * signals.step, MIN_ROM * window.reference)
    ends_high = (signals.position[:, 0] >= upper) & (ragged.at(signals.position, signals.n - 1) >= upper)
    return ~is_whole & is_movement & ends_high


def _gaps(
    signals: Signals, start: IntArray, end: IntArray, is_found: BoolArray
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Tell which reps have a gap of up to 100 ms inside, which lack context, which lost more than 100 ms."""
    row, first, last, is_long = signals.gaps
    inside = (last >= start[row]) & (first <= end[row]) | ~is_found[row]
    near = (last > start[row] - MIN_CONTEXT) & (first < end[row] + MIN_CONTEXT)
    gap, broken, lost = (
        np.bincount(row[which], minlength=len(start)) > 0
        for which in (inside & ~is_long, near & is_long, inside & is_long)
    )
    return gap, broken | (start < MIN_CONTEXT) | (signals.n - end < MIN_CONTEXT), lost
