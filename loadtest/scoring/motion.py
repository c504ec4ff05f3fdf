"""Motion: what one message of a simulated set holds, real repetitions and what only looks like one, with its truth."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.random import Generator

from loadtest.movement import CONTEXT_SAMPLES, FS_HZ, FloatArray, Movement, RepSignal, rep_signal

Kind = Literal["full", "half", "partial", "stuck", "restarted", "gap", "lost", "false_start", "re_rack", "noise"]

FORCE_NOISE = 0.003
POSITION_NOISE = 1.5e-4
"""Standard deviations of the simulated sensors, as shares of the load and of the range; those of `rep_signal`."""


class Truth(msgspec.Struct, frozen=True):
    """What a repetition was before any sensor saw it: range, peak force and mean velocity of the concentric.

    In m or rad, N or N m, m/s or rad/s; None where the kind has no truth of that sort.
    """

    rom: float
    peak_force: float | None
    mean_velocity: float | None


class Case(msgspec.Struct, frozen=True):
    """One message: what it shows, force and position at 100 Hz, shape (n,), NaN where lost, and what it was.

    `marks` are the machine's idea of the limits; `truth` None says that nothing may be counted.
    """

    kind: Kind
    force: FloatArray
    position: FloatArray
    marks: tuple[int, int, int, int]
    truth: Truth | None


def full(movement: Movement, rng: Generator) -> Case:
    """Lift and lower."""
    return _seen("full", movement, rng)


def half(movement: Movement, rng: Generator) -> Case:
    """Go half the way: a repetition, but a partial one."""
    return _seen("half", _shortened(movement, 0.5), rng)


def partial(movement: Movement, rng: Generator) -> Case:
    """Go 40 to 75 % of the way."""
    return _seen("partial", _shortened(movement, float(rng.uniform(0.40, 0.75))), rng)


def _shortened(movement: Movement, share: float) -> Movement:
    """Go a share of the way at the same mean velocity."""
    return replace(movement, rom=share * movement.rom, concentric_s=share * movement.concentric_s)


def _seen(kind: Kind, movement: Movement, rng: Generator) -> Case:
    clean, signal = rep_signal(movement), rep_signal(movement, rng)
    return Case(kind, signal.force, signal.position, signal.truth.marks, _truth(clean))


def _truth(clean: RepSignal) -> Truth:
    start, top = clean.truth.marks[:2]
    return Truth(clean.truth.rom, float(clean.force[start : top + 1].max()), clean.truth.mean_velocity)


def gap(movement: Movement, rng: Generator) -> Case:
    """Lose 10 to 50 ms of samples somewhere in the movement: that is drawn over, and counts as if nothing was lost."""
    return _holed(_seen("gap", movement, rng), int(rng.integers(1, 6)), rng)


def lost(movement: Movement, rng: Generator) -> Case:
    """Lose 110 to 300 ms of samples in the movement: nobody can tell what it was, so it must not count."""
    case = _holed(_seen("lost", movement, rng), int(rng.integers(11, 31)), rng)
    return msgspec.structs.replace(case, truth=None)


def _holed(case: Case, length: int, rng: Generator) -> Case:
    first = int(rng.integers(case.marks[0], case.marks[3] - length))
    force, position = case.force.copy(), case.position.copy()
    force[first : first + length] = position[first : first + length] = np.nan
    return msgspec.structs.replace(case, force=force, position=position)


class _Stroke(msgspec.Struct, frozen=True):
    """A minimum-jerk movement: when it begins and how long it lasts, in s, and how far it goes, in m or rad."""

    begin_s: float
    duration_s: float
    way: float


def stuck(movement: Movement, rng: Generator) -> Case:
    """Stop for a moment on the way up, and go on: one repetition, not two."""
    at = float(rng.uniform(0.3, 0.7))
    pause_s = float(rng.uniform(0.1, 0.6))
    up_s = movement.concentric_s
    ways = ((0.0, at * up_s, at), (at * up_s + pause_s, (1.0 - at) * up_s, 1.0 - at))
    return _stroked("stuck", movement, ways, up_s + pause_s, rng)


def restarted(movement: Movement, rng: Generator) -> Case:
    """Begin, go back to the start, and lift then: one repetition."""
    way, up_s = float(rng.uniform(0.05, 0.14)), movement.concentric_s
    ways = ((0.0, 0.4, way), (0.45, 0.4, -way), (1.0, up_s, 1.0))
    return _stroked("restarted", movement, ways, 1.0 + up_s, rng)


def false_start(movement: Movement, rng: Generator) -> Case:
    """Begin, get no further than a quarter of the way, and go back: no repetition."""
    way, up_s = float(rng.uniform(0.05, 0.24)), float(rng.uniform(0.4, 0.8))
    case = _stroked("false_start", replace(movement, hold_s=0.1), ((0.0, up_s, way),), up_s, rng)
    return msgspec.structs.replace(case, truth=None)


def re_rack(movement: Movement, rng: Generator) -> Case:
    """Move the lever through its whole way without a load on it: no repetition."""
    light = replace(movement, load_N=0.02 * movement.load_N, inertia=0.0)
    return msgspec.structs.replace(_seen("re_rack", light, rng), truth=None)


def noise(movement: Movement, rng: Generator) -> Case:
    """Sit still, breathe, and shift on the seat by a few percent of the range: no repetition."""
    t_s = np.arange(int(rng.integers(150, 500))) / FS_HZ
    sway = 0.03 * movement.rom * np.sin(2.0 * np.pi * (0.3 * t_s + rng.random())) * float(rng.random())
    force, position = _sensed(movement, np.full(len(t_s), movement.load_N), movement.start + sway, rng)
    n = len(t_s)
    return Case("noise", force, position, (n // 4, n // 3, n // 3, n // 2), None)


def _stroked(
    kind: Kind, movement: Movement, ways: tuple[tuple[float, float, float], ...], up_s: float, rng: Generator
) -> Case:
    """Go the shares `ways` (begin, duration, share of the range) up, hold, and lower all of it again."""
    rest_s = CONTEXT_SAMPLES / FS_HZ + 0.2
    rom, down_s, late_s = movement.rom, movement.eccentric_s, movement.late / FS_HZ
    strokes = [_Stroke(rest_s + begin_s, duration_s, share * rom) for begin_s, duration_s, share in ways]
    top = sum(stroke.way for stroke in strokes)
    strokes.append(_Stroke(rest_s + up_s + movement.hold_s, down_s, -top))
    whole_s = 2.0 * rest_s + up_s + movement.hold_s + down_s
    t_s = np.arange(round(whole_s * FS_HZ)) / FS_HZ + late_s
    position, acceleration = np.full(len(t_s), movement.start), np.zeros(len(t_s))
    for stroke in strokes:
        u = np.clip((t_s - stroke.begin_s) / stroke.duration_s, 0.0, 1.0)
        position += stroke.way * _minimum_jerk(u)
        acceleration += stroke.way * 60.0 * u * (1.0 + u * (2.0 * u - 3.0)) / stroke.duration_s**2
    force = movement.load_N + movement.inertia * acceleration
    marks = [round(s * FS_HZ) for s in (rest_s, rest_s + up_s, rest_s + up_s + movement.hold_s, whole_s - rest_s)]
    start, up = marks[0], marks[1]
    truth = Truth(top, float(force[start : up + 1].max()) if kind == "stuck" else None, None)
    force, position = _sensed(movement, force, position, rng)
    return Case(kind, force, position, (marks[0], marks[1], marks[2], marks[3]), truth)


def _sensed(
    movement: Movement, force: FloatArray, position: FloatArray, rng: Generator
) -> tuple[FloatArray, FloatArray]:
    """Add what the sensors and the patient's tremor of 8 Hz add."""
    n = len(force)
    ripple = np.sin(2.0 * np.pi * (8.0 * np.arange(n) / FS_HZ + rng.random()))
    seen_force = force + movement.load_N * (movement.tremor * ripple + FORCE_NOISE * rng.standard_normal(n))
    return seen_force, position + POSITION_NOISE * movement.rom * rng.standard_normal(n)


NEXT_DOOR: Mapping[str, tuple[float, tuple[float, float]]] = {
    "rest": (0.4, (0.5, 1.1)),
    "pause": (0.4, (0.2, 0.45)),
    "touch": (0.2, (0.0, 0.05)),
}
"""What lies before and behind a repetition: how often, and its time in s until the movement of the neighbour."""

MACHINE_MISSES = 5
"""Samples by which the machine's own idea of a repetition's limits is off, either way."""


def shown(case: Case, movement: Movement, rng: Generator, *, with_context: bool, timed: bool) -> Case:
    """Cut the message as a machine does: to its own idea of the repetition's limits, or with 0.5 s on both sides.

    That half second is rest, or it holds the end of the repetition before and the begin of the one after. Where they
    touch, there is no start from rest: range and force are what they were, the time is another by definition, so that
    `timed` messages have none of these.
    """
    off = rng.integers(-MACHINE_MISSES, MACHINE_MISSES + 1, size=2)
    first, last = case.marks[0] + min(int(off[0]), 0), case.marks[3] + max(int(off[1]), 0) + 1
    if not with_context:  # it never cuts into the movement: what is not in the message nobody can measure
        return _cut(case, first, last)
    doors = tuple(NEXT_DOOR)
    door = doors[int(rng.choice(len(doors), p=[NEXT_DOOR[each][0] for each in doors]))]
    if case.kind in {"noise", "false_start", "re_rack"} or (timed and door == "touch"):
        door = "rest"
    pauses = [round(s * FS_HZ) for s in rng.uniform(*NEXT_DOOR[door][1], size=2)]
    stretched = _between(case, movement, (pauses[0], pauses[1]), rng)
    slack = len(stretched.force) - stretched.marks[3]
    first = max(0, stretched.marks[0] - CONTEXT_SAMPLES + int(off[0]))
    last = len(stretched.force) - max(0, slack - CONTEXT_SAMPLES + int(off[1]))
    cut = _cut(stretched, first, last)
    if door != "touch" or case.truth is None:
        return cut
    return msgspec.structs.replace(cut, truth=msgspec.structs.replace(case.truth, mean_velocity=None))


def _cut(case: Case, first: int, last: int) -> Case:
    marks = (case.marks[0] - first, case.marks[1] - first, case.marks[2] - first, case.marks[3] - first)
    return msgspec.structs.replace(case, force=case.force[first:last], position=case.position[first:last], marks=marks)


def _between(case: Case, movement: Movement, pauses: tuple[int, int], rng: Generator) -> Case:
    """Put the end of one lowering before a repetition and the begin of the next lift behind it, each after a pause."""
    before, after = (np.linspace(0.0, 1.0, round(s * FS_HZ)) for s in (movement.eccentric_s, movement.concentric_s))
    first, last = max(case.marks[0] - pauses[0], 0), min(case.marks[3] + pauses[1] + 1, len(case.force))
    missing = max(0, pauses[0] - case.marks[0]), max(0, pauses[1] + 1 - (len(case.force) - case.marks[3]))
    ways = (
        np.concatenate((1.0 - _minimum_jerk(before), np.zeros(missing[0]))),
        np.concatenate((np.zeros(missing[1]), _minimum_jerk(after))),
    )
    lead, trail = (
        _sensed(movement, np.full(len(way), movement.load_N), movement.start + movement.rom * way, rng) for way in ways
    )
    shift = first - len(ways[0])
    marks = (case.marks[0] - shift, case.marks[1] - shift, case.marks[2] - shift, case.marks[3] - shift)
    return msgspec.structs.replace(
        case,
        force=np.concatenate((lead[0], case.force[first:last], trail[0])),
        position=np.concatenate((lead[1], case.position[first:last], trail[1])),
        marks=marks,
    )


def _minimum_jerk(u: FloatArray) -> FloatArray:
    rise: FloatArray = u**3 * (10.0 + u * (6.0 * u - 15.0))
    return rise


KINDS: Mapping[Kind, tuple[float, Callable[[Movement, Generator], Case]]] = {
    "full": (0.68, full),
    "half": (0.03, half),
    "partial": (0.05, partial),
    "stuck": (0.05, stuck),
    "restarted": (0.04, restarted),
    "gap": (0.04, gap),
    "lost": (0.02, lost),
    "false_start": (0.03, false_start),
    "re_rack": (0.03, re_rack),
    "noise": (0.03, noise),
}
"""How often each kind comes, and what makes it."""


def case(movement: Movement, rng: Generator, *, with_context: bool, timed: bool) -> Case:
    """Draw the kind of a message, and make it; `timed` has a true velocity if it is a repetition at all."""
    kinds = tuple(KINDS)
    kind = kinds[int(rng.choice(len(kinds), p=[KINDS[each][0] for each in kinds]))]
    if timed and kind in {"stuck", "restarted"}:
        kind = "full"
    made = KINDS[kind][1](movement, rng)
    return shown(made, movement, rng, with_context=with_context, timed=timed)
