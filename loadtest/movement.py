"""Movements: one repetition as force and position at 100 Hz, and the truth beside it."""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from loadtest.truth import RepTruth

FloatArray = NDArray[np.float64]

FS_HZ = 100.0
CONTEXT_SAMPLES = 50
"""Samples before a rep's start and after its end: 0.5 s."""


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """One repetition as it will be: start and range in m or rad, phase times in s, load in N or N m, and its flaws.

    Neither phase may last more than ten times as long as the other. `inertia` is in kg or kg m2, `droop` the share of
    force missing at the end of the range, `spike` the share of the load by which a knock of 0.2 s in the middle of the
    concentric exceeds it (the truth leaves its work out), `late` the share of a sample by which the machine's clock
    misses the moment that the marks fall on; `loss_pct` and `fatigue` as in `RepTruth`.
    """

    start: float
    rom: float
    concentric_s: float
    hold_s: float
    eccentric_s: float
    load_N: float
    inertia: float = 0.0
    droop: float = 0.0
    tremor: float = 0.0
    symmetry_pct: float = 0.0
    loss_pct: float | None = None
    fatigue: float = 0.0
    spike: float = 0.0
    late: float = 0.0


class RepSignal(msgspec.Struct, frozen=True):
    """One repetition's samples at 100 Hz: force in N or N m and position in m or rad, shape (n,), and its truth.

    NaN is a sample that the machine has lost.
    """

    force: FloatArray
    position: FloatArray
    truth: RepTruth


class _Timing(msgspec.Struct, frozen=True):
    """Where the phases lie: marks and length in samples, onset and duration of both movements in s, amplitude."""

    marks: tuple[int, int, int, int]
    samples: int
    onsets_s: tuple[float, float]
    durations_s: tuple[float, float]
    amplitude: float


_CLOCK_S: FloatArray = np.arange(40_000) / FS_HZ
_REST_SHARE = 0.02  # a phase begins and ends where velocity passes this share of the rep's peak


def rep_signal(movement: Movement, rng: Generator | None = None) -> RepSignal:
    """Make the samples of one repetition with 0.5 s of rest on both sides; without `rng`, free of noise and tremor.

    Both phases are minimum-jerk movements. The load follows Newton: load, plus inertia times acceleration, less what
    the tired patient can't hold at the end of the range.

    Examples
    --------
    >>> signal = rep_signal(
    ...     Movement(start=0.0, rom=0.4, concentric_s=1.0, hold_s=0.5, eccentric_s=2.0, load_N=100.0)
    ... )
    >>> round(signal.truth.mean_velocity, 6), round(signal.truth.work_J, 6), len(signal.position) > 450
    (0.4, 40.0, True)
    """
    timing = _timing(movement)
    t_s = _CLOCK_S[: timing.samples] + movement.late / FS_HZ
    up, down = (
        np.clip((t_s - onset_s) / duration_s, 0.0, 1.0)
        for onset_s, duration_s in zip(timing.onsets_s, timing.durations_s, strict=True)
    )
    share = _rise(up) - _rise(down)
    acceleration = _bend(up) / timing.durations_s[0] ** 2 - _bend(down) / timing.durations_s[1] ** 2
    position = movement.start + timing.amplitude * share
    far = np.maximum(share - 0.7, 0.0) / 0.3
    force = movement.load_N * (1.0 - movement.droop * far * far) + movement.inertia * timing.amplitude * acceleration
    if movement.spike:
        force += movement.load_N * movement.spike * _knock(t_s - sum(timing.marks[:2]) / (2.0 * FS_HZ))
    truth = _truth(movement, timing, position)
    if rng is None:
        return RepSignal(force, position, truth)
    ripple = np.sin(2.0 * math.pi * (8.0 * t_s + rng.random()))
    noise = rng.standard_normal((2, timing.samples))
    force += movement.load_N * (movement.tremor * ripple + 0.003 * noise[0])
    position += 1.5e-4 * movement.rom * noise[1]
    position += (movement.tremor * truth.mean_velocity / (16.0 * math.pi)) * ripple * share
    return RepSignal(force, position, truth)


def _rise(u: FloatArray | float) -> Any:  # noqa: ANN401 - a number for a number, an array for an array
    return u * u * u * (10.0 + u * (6.0 * u - 15.0))


def _bend(u: FloatArray) -> FloatArray:
    bend: FloatArray = 60.0 * u * (1.0 + u * (2.0 * u - 3.0))
    return bend


def _knock(t_s: FloatArray) -> FloatArray:
    """Return half a sine of 0.2 s around 0, and nothing elsewhere."""
    half_s = 0.1
    knock: FloatArray = np.where(np.abs(t_s) < half_s, np.cos(0.5 * math.pi * t_s / half_s), 0.0)
    return knock


def _timing(movement: Movement) -> _Timing:
    dt_s = 1.0 / FS_HZ
    up, down = (max(20, round(s * FS_HZ)) for s in (movement.concentric_s, movement.eccentric_s))
    up_s, down_s = _durations((up - 1) * dt_s, (down - 1) * dt_s)
    # what lies before the first and after the last passage of the resting velocity; passages fall between two samples
    up_tail, down_tail = (up_s * FS_HZ - up + 1) / 2.0, (down_s * FS_HZ - down + 1) / 2.0
    hold = max(round(movement.hold_s * FS_HZ), math.ceil(up_tail + down_tail - 1.0))
    start = CONTEXT_SAMPLES + math.ceil(up_tail)
    marks = (start, start + up, start + up + hold, start + up + hold + down)
    outside = _rise((up_tail - 0.5) * dt_s / up_s)
    return _Timing(
        marks=marks,
        samples=marks[3] + math.ceil(down_tail) + CONTEXT_SAMPLES + 1,
        onsets_s=((marks[0] + 0.5 - up_tail) * dt_s, (marks[2] + 0.5 - down_tail) * dt_s),
        durations_s=(up_s, down_s),
        amplitude=movement.rom / (1.0 - 2.0 * outside),
    )


def _durations(up_s: float, down_s: float) -> tuple[float, float]:
    """Stretch both phases from the time above the resting velocity to the time from stop to stop.

    A minimum-jerk movement of duration D spends sqrt(1 - sqrt(q)) D above the share q of its own peak velocity, and
    the resting velocity is a share of the peak of the faster phase.
    """
    fast_s = min(up_s, down_s) / math.sqrt(1.0 - math.sqrt(_REST_SHARE))
    slow_s = target_s = max(up_s, down_s)
    for _ in range(12):
        slow_s = target_s / math.sqrt(1.0 - math.sqrt(min(_REST_SHARE * slow_s / fast_s, 0.5)))
    return (fast_s, slow_s) if up_s <= down_s else (slow_s, fast_s)


def _truth(movement: Movement, timing: _Timing, position: FloatArray) -> RepTruth:
    start, top, turn, end = timing.marks
    if turn - top < 0.15 * FS_HZ:  # too short for a hold: both limits fall onto the first extreme sample
        top = turn = int(position.argmax())
    rom = float(position[top] - position[start])
    concentric_s = (top - start) / FS_HZ
    work_J = movement.load_N * rom * (1.0 - movement.droop / 10.0)  # the droop's integral over the range is 1/10
    return RepTruth(
        marks=(start, top, turn, end),
        rom=rom,
        concentric_s=concentric_s,
        hold_s=(turn - top) / FS_HZ,
        eccentric_s=(end - turn) / FS_HZ,
        mean_velocity=rom / concentric_s,
        work_J=work_J,
        power_W=work_J / concentric_s,
        load_N=movement.load_N,
        loss_pct=movement.loss_pct,
        fatigue=movement.fatigue,
        symmetry_pct=movement.symmetry_pct,
    )
