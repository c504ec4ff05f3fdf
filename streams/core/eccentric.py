"""Eccentric: how well the way back is controlled (science.md 3.11)."""

import numpy as np

from streams.core import ragged
from streams.core.kinematics import NEARLY_ZERO, Column, displacement, eccentric_time
from streams.core.kinetics import END_OF_RANGE
from streams.core.ragged import BoolArray, FloatArray
from streams.core.segmentation import Phases


def eccentric_time_ratio(reps: Phases) -> Column:
    """Eccentric time over the prescribed one."""
    return reps.once(eccentric_time)[0] / reps.signals.eccentric_s, {"no_reference": _is_free(reps)}


def eccentric_speed_ratio(reps: Phases) -> Column:
    """Peak speed of the eccentric over the mean speed that range and prescribed time would have."""
    way = np.abs(reps.once(displacement))
    return _peak_speed(reps) * reps.signals.eccentric_s / way, {
        "no_reference": _is_free(reps),
        "zero_denominator": way <= NEARLY_ZERO,
    }


def eccentric_drop(reps: Phases) -> Column:
    """Peak speed over the last 20 % of the way back, by position, over the mean speed of the whole way back."""
    x, phase = reps.signals.position, reps.eccentric
    lowest, highest = ragged.at(x, reps.end), ragged.at(x, reps.turn)
    is_last = phase.of(x) <= phase.spread(lowest + END_OF_RANGE * (highest - lowest))
    speed = reps.once(_speed)
    peak, mean = phase.largest(np.where(is_last, speed, -1.0)), phase.mean(speed)
    return peak / mean, {"zero_denominator": mean <= NEARLY_ZERO, "no_movement": peak < 0.0}


def _is_free(reps: Phases) -> BoolArray:
    return ~(reps.signals.eccentric_s > 0.0)


def _peak_speed(reps: Phases) -> FloatArray:
    return reps.eccentric.largest(reps.once(_speed))


def _speed(reps: Phases) -> FloatArray:
    return np.abs(reps.eccentric_velocity)
