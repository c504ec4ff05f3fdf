"""Force curve: force over the position of the concentric, by points and in bins of angle (science.md 3.13, 3.14)."""

import math

import numpy as np

from streams.core import ragged
from streams.core.kinematics import displacement
from streams.core.ragged import FloatArray, IntArray, Slices
from streams.core.segmentation import Phases

POINTS = 101
"""Points of a curve, equally spaced in position from the start of the concentric to its end."""

BIN_RAD = math.radians(12.0)
BINS = 7
"""Bins of 12 degrees, from 0 on: 0, 12 .. 72, where trunk machines test."""

_DECIMALS = 2
_SHARES = np.arange(POINTS) / (POINTS - 1)


Torques = tuple[float | None, ...]


def curves(reps: Phases) -> list[bytes | None]:
    """Return the force of each concentric at 101 positions, little-endian float32; None without force or if invalid.

    A position counts where it is reached first, with straight lines between the samples.
    """
    x, force, phase = reps.signals.position, reps.signals.force, reps.concentric
    start, way = ragged.at(x, reps.start), reps.once(displacement)
    here, next_ = reps.concentric_position, phase.of(x, 1)
    force_here = reps.concentric_force
    rise = next_ - here
    slope = np.where(rise > 0.0, (phase.of(force, 1) - force_here) / rise, 0.0)
    step = _first_steps(np.floor((POINTS - 1) * ((next_ - phase.spread(start)) / phase.spread(way))), phase)
    position = start[:, None] + _SHARES * way[:, None]
    curve = (force_here.take(step) + slope.take(step) * (position - here.take(step))).astype("<f4")
    is_drawn = ~reps.is_invalid & reps.signals.has_force & (way > 0.0) & np.isfinite(curve).all(axis=1)
    written, size = curve.tobytes(), POINTS * curve.itemsize
    return [written[row * size : (row + 1) * size] if drawn else None for row, drawn in enumerate(is_drawn.tolist())]


def _first_steps(reached: FloatArray, phase: Slices) -> IntArray:
    """Return the step that reaches each point first, shape (R, POINTS), given the last point that each step reaches.

    Whole numbers that rise from row to row let one running maximum serve all rows.
    """
    whole = np.fmax(np.fmin(reached, POINTS - 1), 0).astype(np.int64)  # what is not a number reaches the end
    whole[phase.last] = POINTS - 1
    whole += (np.arange(len(phase.length)) * POINTS).repeat(phase.length)
    new = np.maximum.accumulate(whole)
    new[1:] -= new[:-1].copy()
    new[0] += 1
    return np.arange(len(whole)).repeat(new).reshape(-1, POINTS)


def torques_by_bin(reps: Phases) -> list[Torques | None]:
    """Return the largest torque of each concentric in bins of 12 degrees from 0 on, in N m, None in an empty bin.

    None as a whole where position is no angle, without force, or if the rep is invalid.
    """
    found: list[Torques | None] = [None] * len(reps.start)
    row = (reps.signals.is_angle & reps.signals.has_force & ~reps.is_invalid).nonzero()[0]
    if row.size:
        length = reps.concentric.length[row]
        places = ragged.ranges(reps.concentric.first[row], length)
        bin_ = np.floor(reps.concentric_position.take(places) / BIN_RAD)
        column = np.where((bin_ >= 0.0) & (bin_ < BINS), bin_, BINS).astype(np.int64)  # one more, for what is outside
        cell = column + np.arange(0, len(row) * (BINS + 1), BINS + 1).repeat(length)
        is_new = np.ones(len(cell), np.bool_)  # a movement passes few bins: most samples stay in one
        np.not_equal(cell[1:], cell[:-1], out=is_new[1:])
        first = is_new.nonzero()[0]
        largest = np.full(len(row) * (BINS + 1), -math.inf)
        np.maximum.at(largest, cell.take(first), np.maximum.reduceat(reps.concentric_force.take(places), first))
        rounded = largest.reshape(len(row), -1)[:, :BINS].round(_DECIMALS) + 0.0  # no -0.0
        for index, values in zip(row.tolist(), rounded.tolist(), strict=True):
            found[index] = tuple(value if value > -math.inf else None for value in values)
    return found
