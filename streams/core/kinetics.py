"""Kinetics: force, work and power of the concentric (science.md 3.7 and 3.10).

Force is filtered like position. Only steadiness and tremor, which the filter would remove, read it unfiltered.
"""

import numpy as np

from streams.core import ragged
from streams.core.kinematics import NEARLY_ZERO, Column, concentric_time, displacement
from streams.core.ragged import BoolArray, FloatArray, IntArray, Slices
from streams.core.segmentation import Phases
from streams.core.signals import FS_HZ, Channel

END_OF_RANGE = 0.20
"""Share of the range, by position, that is its end."""


def concentric_work(reps: Phases) -> Column:
    """Work of pushing along the concentric, in J: trapezoids over position, pulling forces counted as 0."""
    return reps.once(work), {}


def concentric_power(reps: Phases) -> Column:
    """Concentric work over concentric time, in W."""
    return reps.once(work) / reps.once(concentric_time)[0], {}


def peak_force(reps: Phases) -> Column:
    """Largest force of the concentric, in N or N m."""
    return reps.concentric.largest(reps.concentric_force), {}


def mean_force(reps: Phases) -> Column:
    """Mean force of the concentric, in N or N m."""
    return reps.concentric.mean(reps.concentric_force), {}


def end_range_force(reps: Phases) -> Column:
    """Mean force over the last 20 % of the concentric range, by position, in N or N m."""
    phase = reps.concentric
    end = ragged.at(reps.signals.position, reps.top) - END_OF_RANGE * reps.once(displacement)
    is_end = reps.concentric_position >= phase.spread(end)
    mean, is_none = phase.mean_where(reps.concentric_force, is_end)
    return mean, {"no_movement": is_none}


def symmetry_index(reps: Phases) -> Column:
    """Robinson's index of the mean concentric force of both sides, 100·2(R - L)/(R + L), in %; right is positive."""
    (left, left_broken), (right, right_broken) = (
        _mean_of_side(reps, side) for side in (reps.signals.left, reps.signals.right)
    )
    total = right + left
    return 200.0 * (right - left) / total, {
        "no_channel": np.isnan(total),
        "gap": left_broken | right_broken,
        "zero_denominator": total <= NEARLY_ZERO,
    }


def work(reps: Phases) -> FloatArray:
    """Add up the trapezoids, sorted by sample: each push acts over half the way to both neighbours, which is v dt."""
    x, force, phase = reps.signals.position, reps.signals.force, reps.concentric
    acts = np.maximum(reps.concentric_force, 0.0) * reps.concentric_velocity
    acts[phase.first] = 0.0
    first = np.maximum(ragged.at(force, reps.start), 0.0) * _step(x, reps.start)
    last = np.maximum(ragged.at(force, reps.top), 0.0) * _step(x, reps.top - 1)
    return phase.total(acts) / FS_HZ + 0.5 * (first + last)


def _step(x: FloatArray, at: IntArray) -> FloatArray:
    return ragged.at(x, at + 1) - ragged.at(x, at)


def _mean_of_side(reps: Phases, side: Channel) -> tuple[FloatArray, BoolArray]:
    """Return the mean concentric force of one side, NaN without a load cell, and whether 50 ms of the rep lack."""
    mean, is_broken = np.full(len(reps.start), np.nan), np.zeros(len(reps.start), np.bool_)
    if side.row.size:
        phase = Slices(reps.start[side.row], reps.top[side.row], side.x.shape[1])
        mean[side.row] = phase.mean(phase.of(side.x))
        row, first, last, _ = side.gaps
        is_broken[row[(last >= reps.start[row]) & (first <= reps.end[row])]] = True
    return mean, is_broken
