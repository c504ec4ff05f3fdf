"""Momentum: how much of a repetition is swing and bounce instead of push (science.md 3.10).

None of it is "ineffective": moderate momentum raised target torque in a model, and cheating repetitions built as much
muscle as strict ones. It is told because the load of such reps is no ground for progression, and because it peaks.
"""

import numpy as np

from streams.core import kinematics, kinetics, ragged
from streams.core.kinematics import NEARLY_ZERO, Column
from streams.core.ragged import BoolArray, FloatArray, IntArray, Slices
from streams.core.segmentation import MIN_PHASE, Phases
from streams.core.signals import FS_HZ

AROUND = 10
"""Samples of 10 ms on each side of a turnaround that belong to it: 100 ms."""

_AROUND = np.arange(2 * AROUND + 1)

MAX_DWELL = 5
"""Samples of 10 ms of rest from which on a turnaround is no bounce: 50 ms [default]."""

BOUNCE_RATIO = 3.0
"""Peak acceleration at the turnaround over the median of both phases beside it, above which it is one [default]."""


def peak_to_mean_force(reps: Phases) -> Column:
    """Peak over mean force of the concentric."""
    (peak, _), (mean, _) = reps.once(kinetics.peak_force), reps.once(kinetics.mean_force)
    return peak / mean, {"zero_denominator": np.abs(mean) <= NEARLY_ZERO}


def turnaround_impulse(reps: Phases) -> Column:
    """Force beyond the set load within 100 ms of the concentric start, times time and over that load, in s.

    The eccentric before it belongs to the rep before; after a rest it is the impulse of setting off.
    """
    is_short = (reps.start < AROUND) | (reps.signals.n - reps.start <= AROUND)
    first = ragged.rows(reps.velocity) + np.where(is_short, 0, reps.start - AROUND)
    excess = reps.signals.force.reshape(-1).take(first[:, None] + _AROUND, mode="clip") - reps.signals.load[:, None]
    impulse = np.add.reduceat(excess.reshape(-1), np.arange(0, excess.size, len(_AROUND))) / FS_HZ
    return impulse / reps.signals.load, {
        "phase_too_short": is_short,
        "zero_denominator": reps.signals.load <= NEARLY_ZERO,
    }


def inertial_share(reps: Phases) -> Column:
    """Largest force that accelerates the effective mass in the concentric, over the set load."""
    phase, load = reps.concentric, reps.signals.load
    hardest = phase.largest(np.abs(_acceleration(reps.velocity, phase)))
    return reps.signals.mass * hardest / load, {
        "not_calibrated": np.isnan(reps.signals.mass),
        "zero_denominator": load <= NEARLY_ZERO,
    }


def kinetic_share(reps: Phases) -> Column:
    """Kinetic energy of the effective mass at the peak of concentric velocity, over concentric work."""
    (peak, _), work = reps.once(kinematics.peak_velocity), reps.once(kinetics.work)
    return 0.5 * reps.signals.mass * peak * peak / work, {
        "not_calibrated": np.isnan(reps.signals.mass),
        "zero_denominator": np.abs(work) <= NEARLY_ZERO,
    }


def is_bounced(reps: Phases) -> BoolArray:
    """Tell reps that bounce out of the eccentric before them, as far as their context shows it.

    The patient rests there for less than 50 ms, and the largest acceleration within 100 ms exceeds three times the
    median of the two phases beside it, of which the eccentric must last 0.2 s, like any phase. A rep that starts from
    rest has no such turnaround.
    """
    return ~np.isnan(reps.once(dwell_of_bounce))


def dwell_of_bounce(reps: Phases) -> FloatArray:
    """Return how long the reps that bounce rest at the turnaround before them, in s; NaN for all others."""
    dwell_s = np.full(len(reps.start), np.nan)
    row, falling, dwell = _turned_at_once(reps)
    if row.size:
        dwell_s[row] = np.where(_is_hard(reps, row, falling), dwell / FS_HZ, np.nan)
    dwell_s[reps.flagged["gap"] | reps.flagged["scale_mismatch"]] = np.nan
    return dwell_s


def _turned_at_once(reps: Phases) -> tuple[IntArray, IntArray, IntArray]:
    """Return the rows that rest for less than `MAX_DWELL` samples at their start, the last falling sample, the rest."""
    column = reps.start[:, None] + np.arange(-MAX_DWELL, MAX_DWELL)
    inside = np.minimum(np.maximum(column, 0), (reps.signals.n - 1)[:, None])
    v = reps.velocity.reshape(-1).take(ragged.rows(reps.velocity)[:, None] + inside)
    moves = (np.abs(v) >= reps.hold_speed[:, None]) & (column >= 0)
    before, behind = moves[:, MAX_DWELL - 1 :: -1], moves[:, MAX_DWELL:]
    rest_before, rest_behind = before.argmax(axis=1), behind.argmax(axis=1)
    is_short = before.any(axis=1) & behind.any(axis=1) & (rest_before + rest_behind < MAX_DWELL)
    last = reps.start - 1 - rest_before
    row = (is_short & ~reps.is_invalid).nonzero()[0]
    if row.size:
        row = row[ragged.at(reps.velocity[row], last[row]) < 0.0]
    return row, last[row], (rest_before + rest_behind)[row]


def _is_hard(reps: Phases, row: IntArray, falling: IntArray) -> BoolArray:
    v, start, width = reps.velocity[row], reps.start[row], reps.velocity.shape[1]
    still = ragged.where(v >= -reps.hold_speed[row, None])
    eccentric = np.maximum(still.last(np.zeros_like(falling), falling), 0)
    beside = Slices(eccentric, reps.top[row], width)
    around = Slices(np.maximum(start - AROUND, 0), np.minimum(start + AROUND + 1, reps.signals.n[row]), width)
    hardest = around.largest(np.abs(_acceleration(v, around)))
    is_hard = _median_is_below(hardest / BOUNCE_RATIO, np.abs(_acceleration(v, beside)), beside)
    return is_hard & (start - eccentric >= MIN_PHASE)  # less is a dip before setting off, or the filter's ringing


def _median_is_below(limit: FloatArray, flat: FloatArray, slices: Slices) -> BoolArray:
    """Compare by counting; only a slice whose two middle samples lie on either side of the limit is sorted."""
    twice = 2.0 * slices.total((flat < slices.spread(limit)).astype(np.float64))
    is_below = twice > slices.length
    for row in np.flatnonzero(twice == slices.length):
        first = slices.first[row]
        is_below[row] = np.median(flat[first : first + slices.length[row]]) < limit[row]
    return is_below


def _acceleration(velocity: FloatArray, slices: Slices) -> FloatArray:
    """Differentiate centrally, one-sided at the first sample of a message."""
    acceleration = (slices.of(velocity, 1) - slices.of(velocity, -1)) * (FS_HZ / 2.0)
    at_first = (slices.start == 0).nonzero()[0]
    if at_first.size:
        acceleration[slices.first[at_first]] = (velocity[at_first, 1] - velocity[at_first, 0]) * FS_HZ
    return acceleration
