"""Excursions: a recording cut into repetitions, each as the message that a machine would have sent (science.md 2.4).

A set is searched as a whole, with the window of the whole set. Each excursion is cut out with its context and becomes
a `Rep`, so that `measure` computes the same numbers from a recording as from a live stream.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from streams.core import oddities, signals
from streams.core.catalogue import OF_REPS
from streams.core.limits import MAX_SAMPLES
from streams.core.measure import Measured, measure
from streams.core.oddities import Notice
from streams.core.ragged import BoolArray, FloatArray
from streams.core.recording import LARGEST, UNNAMED, Columns, Protocol, Uniform, on_uniform_clock
from streams.core.segmentation import FULL_AT, HOLD_SPEED, MIN_HOLD, OF_NOTE, OPEN_AT, REST_SPEED, segment
from streams.core.signals import FS_HZ, FULL_SCALE, MIN_FS_HZ, NO_SAMPLE
from streams.core.stamps import runs
from streams.core.telemetry import PositionUnit, Prescription, Rep, Side

CONTEXT = 50 + MIN_HOLD
"""Samples of 10 ms on each side of a rep: 0.5 s, and what `measure` may still move a limit by."""

AFTER_US = 500_000
"""When a machine sends a rep, in us after its end."""

MIN_TRAVEL = 0.01
"""Range of a set in m or rad below which nothing moved, where no window is given [default]."""

MAX_REPS = 1_000
"""Excursions of one set that are cut; more is noise, not training."""

_STEPS = tuple(float(f"{digit}e{power}") for power in range(2, -10, -1) for digit in (5, 2, 1))  # coarse to fine
_OF_A_COUNT = 1e-4  # by which a value may miss a whole count and still be one


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One excursion: its message, the sample that the message begins with, where it lies in the recording in s.

    `reason` is why it is rejected whatever its message says; such a message is not for the wire.
    """

    rep: Rep
    first: int
    start_s: float
    end_s: float
    reason: str | None = None


class SetRange(msgspec.Struct, frozen=True, kw_only=True):
    """One set: its number, its samples [first, stop), the window in m or rad, and whether it is upside down."""

    number: int
    first: int
    stop: int
    lo: float
    hi: float
    upside_down: bool


class Cuts(msgspec.Struct, frozen=True, kw_only=True):
    """A recording, cut: at 100 Hz, by set, by excursion, and what is odd about it."""

    position_unit: PositionUnit
    uniform: Uniform
    sets: tuple[SetRange, ...]
    reps: tuple[Cut, ...]
    notices: tuple[Notice, ...]
    has_window: bool


def cut(columns: Columns, protocol: Protocol) -> Cuts:
    """Cut a recording. Raises WrongRecording where it can't be put on a clock.

    Examples
    --------
    >>> way = (1.0 - np.cos(np.arange(0.0, 4.0 * np.pi, 0.02))) / 2.0
    >>> cuts = cut(Columns(t_s=np.arange(len(way)) / 100.0, force=way, position=way), Protocol())
    >>> [(one.rep.rep_number, round(one.start_s), round(one.end_s)) for one in cuts.reps]
    [(1, 0, 3), (2, 3, 6)]
    """
    uniform = on_uniform_clock(columns, protocol)
    search = _Search(columns, protocol, uniform)
    sets = tuple(_set(number, first, stop, search) for number, first, stop in _parts(search))
    found = [list(_cuts(one, search)) for one in sets]
    notices = [notice for one, cuts in zip(sets, found, strict=True) for notice in _of_set(one, cuts, search)]
    return Cuts(
        position_unit=columns.position_unit,
        uniform=uniform,
        sets=sets,
        reps=tuple(one for cuts in found for one in cuts),
        notices=(*uniform.notices, *_of_velocity(uniform), *notices),
        has_window=protocol.window is not None,
    )


def measured(cuts: Cuts) -> list[Measured]:
    """Measure every excursion by itself, as `judged`."""
    return judged(cuts, measure([one.rep for one in cuts.reps]))


def judged(cuts: Cuts, plain: Sequence[Measured]) -> list[Measured]:
    """Judge excursions whose messages were measured: what is rejected whatever its message says is rejected.

    Without a prescribed window a message carries the range of its set where a machine would put the calibrated one: it
    must be judged by that, not by its own. What it says about completeness nobody has asked for: it is undefined, and
    no rep is partial.
    """
    found = [one if cut.reason is None else _rejected(cut.reason) for cut, one in zip(cuts.reps, plain, strict=True)]
    return found if cuts.has_window else [_without_reference(one) for one in found]


def _rejected(reason: str) -> Measured:
    return Measured(valid=False, reasons=(reason,), values={}, undefined={row.name: "invalid_rep" for row in OF_REPS})


def _without_reference(measured: Measured) -> Measured:
    if not measured.valid:
        return measured
    return msgspec.structs.replace(
        measured,
        reasons=tuple(reason for reason in measured.reasons if reason != "partial_rom"),
        values={name: value for name, value in measured.values.items() if name != COMPLETENESS},
        undefined=measured.undefined | {COMPLETENESS: "no_reference"},
    )


COMPLETENESS = "rom_completeness_pct"


def limits(cuts: Cuts) -> list[tuple[int, int, int, int]]:
    """Return concentric start and end, eccentric start and end of every excursion, as samples of the uniform clock."""
    found: dict[int, tuple[int, int, int, int]] = {}
    reps = [one.rep for one in cuts.reps]
    for chunk in signals.chunks(reps):
        with np.errstate(all="ignore"):  # of what is not finite nothing is asked
            phases = segment(signals.read([reps[index] for index in chunk]))
        marks = np.stack((phases.start, phases.top, phases.turn, phases.end), axis=1)
        for index, (start, top, turn, end) in zip(chunk, marks.tolist(), strict=True):
            first = cuts.reps[index].first
            found[index] = (first + start, first + top, first + turn, first + end)
    return [found[index] for index in range(len(reps))]


class _Scales(NamedTuple):
    """What one count of each channel is worth."""

    position: float
    force: float
    velocity: float


class _Search:
    """What excursions are looked for in: a recording at 100 Hz, and how it is written as counts."""

    def __init__(self, columns: Columns, protocol: Protocol, uniform: Uniform) -> None:
        self.columns, self.protocol, self.uniform = columns, protocol, uniform
        self.position = uniform.filtered[0]
        self.speed = np.gradient(self.position) * FS_HZ if len(self.position) > 1 else np.zeros(1)
        position, force, velocity = (raw[~missing] for raw, missing in zip(uniform.raw, uniform.missing, strict=True))
        self.scales = _Scales(
            fitting_scale(position, protocol.position_limit),
            fitting_scale(force, protocol.force_limit),
            fitting_scale(velocity),
        )


def fitting_scale(x: FloatArray, limit: float | None = None) -> float:
    """Choose what one count of an int16 is worth: the step that all values are multiples of, else a fine one.

    Steps are 1, 2 and 5 times powers of ten, so that a recording of counts gets its own counts back. With a sensor's
    `limit`, that is full scale.

    Examples
    --------
    >>> fitting_scale(np.array([0.0012, 0.4])), fitting_scale(np.array([0.4, 1.0 / 3.0]))
    (0.0002, 2e-05)
    """
    if limit is not None:
        return limit / FULL_SCALE
    largest = float(np.abs(x).max(initial=0.0))
    fitting = [step for step in _STEPS if largest < (FULL_SCALE - 0.5) * step]
    for step in fitting:
        counts = x / step
        is_one = step <= largest * (1.0 + _OF_A_COUNT)  # nothing is a whole count of any step
        if is_one and np.abs(counts - np.rint(counts)).max(initial=0.0) <= _OF_A_COUNT:
            return step
    return fitting[-1] if largest else 1e-4


def _parts(search: _Search) -> Iterator[tuple[int, int, int]]:
    """Tell where sets begin and end: by the column, else by long pauses between excursions."""
    n, columns = len(search.position), search.columns
    if columns.set_number is not None:
        number = columns.set_number[search.uniform.row]
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), n]
        yield from ((int(number[first]), first, stop) for first, stop in pairwise(edges))
        return
    whole = _set(1, 0, n, search)
    found = runs(_is_out(whole, search)) if _has_movement(whole, search) else []
    t_s = search.uniform.t_s
    pauses = [
        (closed + opened) // 2
        for (_, closed), (opened, _) in pairwise(found)
        if t_s[opened] - t_s[closed] >= search.protocol.rest_s
    ]
    edges = [0, *pauses, n]
    yield from ((at + 1, edges[at], edges[at + 1]) for at in range(len(pauses) + 1))


def _set(number: int, first: int, stop: int, search: _Search) -> SetRange:
    """Describe a set; where it begins and ends at the top and moves down between, the sign is wrong."""
    x = search.position[first:stop]
    low, high = float(x.min()), float(x.max())
    upper = low + FULL_AT * (high - low)
    lo, hi = search.protocol.window or (max(low, -LARGEST["position"]), min(high, LARGEST["position"]))
    ends_high = bool(x[0] >= upper and x[-1] >= upper and high - low >= MIN_TRAVEL)
    is_out = x - lo >= OPEN_AT * (hi - lo)
    return SetRange(number=number, first=first, stop=stop, lo=lo, hi=hi, upside_down=ends_high and not is_out.all())


def _has_movement(one: SetRange, search: _Search) -> bool:
    return search.protocol.window is not None or one.hi - one.lo >= MIN_TRAVEL


def _is_out(one: SetRange, search: _Search) -> BoolArray:
    """Tell the samples of an excursion: above the level at which one opens, or below it where down is up."""
    x = search.position[one.first : one.stop]
    height = one.hi - x if one.upside_down else x - one.lo
    is_out: BoolArray = height >= OPEN_AT * (one.hi - one.lo)
    return is_out


def _cuts(one: SetRange, search: _Search) -> Iterator[Cut]:
    if not _has_movement(one, search):
        return
    places = [(one.first + opened, one.first + closed) for opened, closed in runs(_is_out(one, search))]
    speed = -search.speed if one.upside_down else search.speed
    for at, (opened, closed) in enumerate(places[:MAX_REPS]):
        floor = places[at - 1][1] if at else 0
        ceiling = places[at + 1][0] if at + 1 < len(places) else len(speed)
        start, end = _rests(speed, opened, closed, (floor, ceiling), search.scales.position)
        first, stop = _message(start, end, at, places, len(speed))
        reason = "too_long" if stop - first > MAX_SAMPLES else None
        reason = "sign_mismatch" if one.upside_down else reason
        reason = "rate_too_low" if search.uniform.fs_hz < MIN_FS_HZ else reason
        yield Cut(
            rep=msgspec.structs.replace(
                _rep(one, at + 1, slice(first, min(stop, first + MAX_SAMPLES)), (opened, closed), search),
                t_us=round(1e6 * (search.uniform.t_s[end] - search.uniform.t_s[0])) + AFTER_US,
            ),
            first=first,
            start_s=float(search.uniform.t_s[start]),
            end_s=float(search.uniform.t_s[end]),
            reason=reason,
        )


def _rests(speed: FloatArray, opened: int, closed: int, within: tuple[int, int], step: float) -> tuple[int, int]:
    """Find where the movement around an excursion begins and ends: the last rest before it, the first one behind."""
    hold = max(HOLD_SPEED * float(np.abs(speed[opened:closed]).max()), REST_SPEED * step)
    before = np.flatnonzero(speed[within[0] : opened] <= hold)
    after = np.flatnonzero(speed[closed : within[1]] >= -hold)
    start = within[0] + int(before[-1]) if before.size else within[0]
    end = closed + int(after[0]) if after.size else within[1] - 1
    return min(start, opened), max(end, min(closed, len(speed) - 1))


def _message(start: int, end: int, at: int, places: Sequence[tuple[int, int]], n: int) -> tuple[int, int]:
    """Add context, but never so much that `segment` would take a neighbour for what the message is about.

    That is, one that is longer; one of note behind it that closes; and one of note before it, if it does not close.
    """
    opened, closed = places[at]
    share = max(closed - opened - 2, 0)
    of_note = max(math.floor(OF_NOTE * (closed - opened)) - 2, 0)
    before = share if closed < n else of_note
    first, stop = max(start - CONTEXT, 0), min(end + CONTEXT + 1, n)
    for its_opened, its_closed in reversed(places[:at]):
        if its_closed <= first:
            break
        first = max(first, its_closed - before) if its_closed - max(its_opened, first) > before else first
    for its_opened, its_closed in places[at + 1 :]:
        if its_opened >= stop:
            break
        if its_closed - its_opened > of_note:
            stop = min(stop, its_opened + share, its_closed - 2)
    return min(first, opened), max(stop, min(closed + 1, n))


def _rep(one: SetRange, number: int, place: slice, excursion: tuple[int, int], search: _Search) -> Rep:
    uniform, protocol, scales = search.uniform, search.protocol, search.scales
    position, force, velocity = (
        _counts(uniform.raw[channel, place] * sign, uniform.missing[channel, place], scale)
        for channel, (sign, scale) in enumerate(
            zip((protocol.concentric_sign, protocol.force_sign, protocol.concentric_sign), scales, strict=True)
        )
    )
    has_velocity = not uniform.missing[2].all()
    return Rep(
        boot_id=UNNAMED,
        seq=0,
        t_us=0,
        session=UNNAMED,
        set_number=one.number,
        rep_number=number,
        exercise=protocol.exercise,
        side=_side(search, slice(*excursion)),
        intent=protocol.intent,
        load_N=protocol.load_N or 0.0,
        settings=UNNAMED,
        fs_hz=FS_HZ,
        samples=place.stop - place.start,
        force=force,
        force_scale_N=scales.force,
        position=position,
        position_scale=scales.position,
        position_unit=search.columns.position_unit,
        concentric_sign=protocol.concentric_sign,
        force_sign=protocol.force_sign,
        prescription=prescription(protocol),
        calibrated=(one.lo, one.hi) if protocol.window is None else None,
        velocity=velocity if has_velocity else None,
        velocity_scale=scales.velocity if has_velocity else None,
    )


def prescription(protocol: Protocol) -> Prescription | None:
    """Write down what was prescribed, None if nothing was.

    Examples
    --------
    >>> prescription(Protocol(tempo=(2.0, 1.0, 3.0))).eccentric_s
    3.0
    """
    if protocol.window is None and protocol.tempo is None:
        return None
    lo, hi = protocol.window or (None, None)
    concentric_s, hold_s, eccentric_s = protocol.tempo or (None, None, None)
    return Prescription(
        id=UNNAMED,
        load_N=protocol.load_N or 0.0,
        window_lo=lo,
        window_hi=hi,
        concentric_s=concentric_s,
        hold_s=hold_s,
        eccentric_s=eccentric_s,
    )


def _counts(x: FloatArray, missing: BoolArray, scale: float) -> bytes:
    counts = np.clip(np.rint(x / scale), -FULL_SCALE, FULL_SCALE)
    return np.where(missing, NO_SAMPLE, counts).astype("<i2").tobytes()


def _side(search: _Search, excursion: slice) -> Side:
    if search.columns.side is None:
        return "both"
    peak = excursion.start + int(search.position[excursion].argmax())
    return search.columns.side[int(search.uniform.row[peak])]


def _of_velocity(uniform: Uniform) -> Iterator[Notice]:
    return oddities.of_velocity(uniform.filtered[0], uniform.raw[2], uniform.missing[0] | uniform.missing[2])


def _of_set(one: SetRange, cuts: Sequence[Cut], search: _Search) -> Iterator[Notice]:
    unit: PositionUnit = search.columns.position_unit
    if not _has_movement(one, search):
        yield Notice(
            "no_movement", f"position covers {one.hi - one.lo:.2g} {unit}, less than {MIN_TRAVEL:g}", one.number
        )
    elif not cuts:
        yield Notice("no_movement", "position never opens an excursion in the window", one.number)
    if one.upside_down:
        yield Notice(
            "sign_mismatch",
            "position begins and ends at the top and moves down between: turn the sign with --concentric-sign",
            one.number,
        )
    if len(cuts) == MAX_REPS:
        yield Notice("too_many", f"only the first {MAX_REPS} excursions are cut", one.number)
    if cuts:
        covered = search.position[cuts[0].first : cuts[-1].first + cuts[-1].rep.samples]
        yield from oddities.of_period(covered, np.array([cut.start_s for cut in cuts]), one.number)
