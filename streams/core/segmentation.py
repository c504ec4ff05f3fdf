"""Segmentation: where in its message a repetition starts, peaks and ends, and which can't be used (science.md 2.4)."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from streams.core import device_velocity, ragged
from streams.core.lowpass import noise_gain
from streams.core.ragged import BoolArray, FloatArray, IntArray, Marked, Slices
from streams.core.signals import CUTOFF_HZ, FS_HZ, NARROWEST, Signals, velocity

T = TypeVar("T")

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

MIN_CONTEXT = 50
"""Samples of 10 ms on each side below which a rep is `no_context` (science.md 2.1)."""

MARK_TOLERANCE = 10
"""Samples of 10 ms by which a machine's own marks may differ from the limits found here without a notice.

A machine cuts its message by its own marks. Where they lie within this tolerance, context counts from them: the limits
found here may keep down to 40 samples, which still hold what the filter's padding does at the ends of the message below
1e-9 m within the rep [measured].
"""

TIE = 1e-9
"""Share of the window within which two positions are the same, so that no last bit chooses among equal extremes."""

UNLOADED = 0.05
"""Share of the set load below which the patient holds no load [default]."""

MIN_COUNTS = 20
"""Smallest range of a message without a prescribed window, in counts: less is noise, not movement [default]."""

OF_NOTE = 0.5
"""Share of the longest excursion of a message from which on another one may be the rep that it is about [default]."""

MAX_CROSSINGS = 2
"""Crossings of the middle of the window in one excursion; more are two movements in one."""


class Phases(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A batch of R segmented repetitions.

    Parameters
    ----------
    signals : Signals
        What was segmented.
    velocity : array, shape (R, W)
        In m/s or rad/s, positive in the concentric; NaN from column `n` on.
    start, top, turn, end : array, shape (R,)
        Samples of concentric start, concentric end, eccentric start, eccentric end; of a valid rep in rising order.
    hold_speed : array, shape (R,)
        Speed up to which the patient holds, in m/s or rad/s.
    concentric, eccentric : Slices
        The samples of both phases.
    reference : array, shape (R,)
        Prescribed or else calibrated range in m or rad, NaN where there is none.
    invalid, flagged : mapping of str to array, shape (R,)
        By reason: the reps that can't be used, and those that are no reference for others.
    is_invalid : array, shape (R,)
        There is a reason why the rep can't be used.
    """

    signals: Signals
    velocity: FloatArray
    start: IntArray
    top: IntArray
    turn: IntArray
    end: IntArray
    hold_speed: FloatArray
    concentric: Slices
    eccentric: Slices
    reference: FloatArray
    invalid: Mapping[str, BoolArray]
    flagged: Mapping[str, BoolArray]
    is_invalid: BoolArray

    def once(self, kernel: "Callable[[Phases], T]") -> T:
        """Return what a kernel makes of these phases, computed once however many metrics ask for it."""
        kept: dict[Any, Any] = self.__dict__
        if kernel not in kept:
            kept[kernel] = kernel(self)
        found: T = kept[kernel]
        return found

    @cached_property
    def concentric_position(self) -> FloatArray:
        """Positions of the concentric, flat."""
        return self.concentric.of(self.signals.position)

    @cached_property
    def concentric_velocity(self) -> FloatArray:
        """Velocities of the concentric, flat."""
        return self.concentric.of(self.velocity)

    @cached_property
    def concentric_force(self) -> FloatArray:
        """Forces of the concentric, flat."""
        return self.concentric.of(self.signals.force)

    @cached_property
    def eccentric_velocity(self) -> FloatArray:
        """Velocities of the eccentric, flat."""
        return self.eccentric.of(self.velocity)


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
    """The stretch above `OPEN_AT` that a message is about, [opened, closed), and where any stretch opens and closes."""

    found: BoolArray
    opened: IntArray
    closed: IntArray
    openings: Marked
    closings: Marked
    peak: FloatArray


def segment(signals: Signals) -> Phases:
    """Find the phases of the excursion that each message is about, and judge them."""
    window = _window(signals)
    excursion = _excursion(signals, window)
    v = velocity(signals.position, signals.n)
    limits = _limits(signals, v, window, excursion)
    start, top, turn, end = limits.start, limits.top, limits.turn, limits.end
    gap, no_context, lost = _gaps(signals, start, end, excursion.found)
    complete = excursion.found & (excursion.closed < signals.n)
    upside_down = _is_upside_down(signals, window, complete & (excursion.opened > 0))
    judged = complete & ~upside_down
    wrong_sign, wrong_scale = device_velocity.mismatch(signals, v)
    rom = ragged.at(signals.position, top) - ragged.at(signals.position, start)
    is_small = (excursion.peak < window.bottom + FULL_AT * window.width) & (np.abs(rom) < MIN_ROM * window.width)
    pushed = ragged.largest(signals.force, start, top)
    unloaded = (signals.load > 0.0) & (pushed < UNLOADED * signals.load)  # a load of 0 is an unknown one
    invalid = {
        "gap_over_100ms": lost,
        "below_min_rom": (judged & is_small) | ~(excursion.found | upside_down),
        "too_short": judged & (np.minimum(top - start, end - turn) < MIN_PHASE),
        "too_long": judged & (end - start > MAX_REP),
        "unloaded": judged & signals.has_force & unloaded,
        "saturated": signals.saturated,
        "sign_mismatch": upside_down | (judged & wrong_sign),
        "unknown_settings": signals.unknown_settings,
        "open_at_end": excursion.found & ~complete & ~upside_down,
    }
    is_invalid = np.logical_or.reduce(list(invalid.values()))
    return Phases(
        signals=signals,
        velocity=v,
        start=start,
        top=top,
        turn=turn,
        end=end,
        hold_speed=limits.hold_speed,
        concentric=Slices(start, top, v.shape[1], ~is_invalid),
        eccentric=Slices(turn, end, v.shape[1], ~is_invalid),
        reference=window.reference,
        invalid=invalid,
        flagged={
            "double_crossing": _crossings(signals, window, excursion) > MAX_CROSSINGS,
            "gap": gap,
            "no_context": no_context,
            "warm_up": signals.warm_up,
            "voluntary_pause": signals.voluntary_pause,
            "scale_mismatch": wrong_scale,
        },
        is_invalid=is_invalid,
    )


def marks_off_s(reps: Phases) -> list[float | None]:
    """Return by how much the marks of each machine differ from the limits at most, in s; None up to 0.1 s."""
    limits = np.array((reps.start, reps.top, reps.turn, reps.end)).T
    off = np.abs(reps.signals.marks - limits).max(axis=1).round(9)
    is_off = (off > MARK_TOLERANCE) & ~reps.is_invalid
    return [
        off_s if holds else None for holds, off_s in zip(is_off.tolist(), (off / FS_HZ).round(3).tolist(), strict=True)
    ]


def _window(signals: Signals) -> _Window:
    """Take the prescribed window, else what the message covers; an infinite one, which nothing opens, for noise."""
    zero = np.zeros_like(signals.n)
    low, high = ragged.extremes(signals.position, zero, signals.n)
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


def _excursion(signals: Signals, window: _Window) -> _Excursion:
    """Find the excursion that a message is about: context may hold the rep before, and the beginning of the next one.

    It is the one in which the machine saw the concentric end, if it says so and the message has its beginning; else, of
    those that are not much shorter than the longest, the last one that closes, because a message ends soon after its
    own rep; but not as soon as a rebound closes, if there is another.
    """
    x, n = signals.position, signals.n
    above = x >= (window.bottom + OPEN_AT * window.width)[:, None]
    edges = ragged.changes(above)  # the last column is empty: all stretches close
    row = edges[::2] // x.shape[1]
    opens, closes = edges[::2] - row * x.shape[1], edges[1::2] - row * x.shape[1]
    opened, closed, found, longest = np.zeros_like(n), np.zeros_like(n), np.zeros(len(n), np.bool_), np.zeros_like(n)
    np.maximum.at(longest, row, closes - opens)
    is_of_note, told = closes - opens >= OF_NOTE * longest[row], signals.marks[row]
    is_told = (told[:, 0] < told[:, 1]) & (told[:, 1] >= opens) & (told[:, 1] < closes) & (opens > 0)
    is_followed, is_closed = closes + MIN_CONTEXT // 2 <= n[row], closes < n[row]
    order = np.lexsort((opens, is_followed, is_closed, is_of_note, is_told))  # of each row the last one counts
    row = row[order]
    found[row], opened[row], closed[row] = True, opens[order], closes[order]
    peak = ragged.largest(x, opened, closed)
    return _Excursion(found, opened, closed, Marked(edges[::2], x.shape), Marked(edges[1::2], x.shape), peak)


class _Limits(NamedTuple):
    """Concentric start and end, eccentric start and end, and the speed up to which the patient holds."""

    start: IntArray
    top: IntArray
    turn: IntArray
    end: IntArray
    hold_speed: FloatArray


def _limits(signals: Signals, v: FloatArray, window: _Window, excursion: _Excursion) -> _Limits:
    """Find the limits of the phases. Rows without an excursion get some samples."""
    x, n, opened, closed = signals.position, signals.n, excursion.opened, excursion.closed
    zero = np.zeros_like(n)
    slowest, fastest = ragged.extremes(v, opened, closed)
    fastest = np.maximum(fastest, -slowest)
    hold_speed = np.maximum(HOLD_SPEED * fastest, REST_SPEED * signals.step)
    hold = hold_speed[:, None]
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
    after = excursion.openings.first(closed, n)  # the rep behind
    starts = not_rising.last(closed, after)
    is_seen = np.array(
        (
            (np.maximum(before, ended) > 0) & (start >= before),
            (np.minimum(after, starts + 1) < n) & (starts >= closed),
        )
    )
    start, end = _turnarounds(x, np.array((start, end)), np.array((ended, starts)), tie, is_seen)
    return _Limits(start, top, turn, end, hold_speed)


def _turnarounds(x: FloatArray, limit: IntArray, other: IntArray, tie: FloatArray, is_seen: BoolArray) -> IntArray:
    """Move limits, shape (2, R), onto the first minimum where the rest between them and the other rep is no hold."""
    is_turnaround = is_seen & (np.abs(limit - other) < MIN_HOLD)
    first, last = np.minimum(limit, other), np.maximum(limit, other)
    return ragged.lowest(x, np.where(is_turnaround, first, limit), np.where(is_turnaround, last, limit), MIN_HOLD, tie)


def _crossings(signals: Signals, window: _Window, excursion: _Excursion) -> IntArray:
    above = signals.position >= (window.bottom + 0.5 * window.width)[:, None]
    return Marked(ragged.changes(above), above.shape).count(np.maximum(excursion.opened, 1), excursion.closed + 1)


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
    gap = broken = lost = np.zeros(len(start), np.bool_)
    if row.size:
        inside = (last >= start[row]) & (first <= end[row]) | ~is_found[row]
        near = (last > start[row] - MIN_CONTEXT) & (first < end[row] + MIN_CONTEXT)
        gap, broken, lost = (
            np.bincount(row[which], minlength=len(start)) > 0
            for which in (inside & ~is_long, near & is_long, inside & is_long)
        )
    told_start, told_end = signals.marks[:, 0], signals.marks[:, 3]
    before = np.where(np.abs(told_start - start) <= MARK_TOLERANCE, np.maximum(told_start, start), start)
    behind = signals.n - np.where(np.abs(told_end - end) <= MARK_TOLERANCE, np.minimum(told_end, end), end)
    return gap, broken | (before < MIN_CONTEXT) | (behind < MIN_CONTEXT), lost
