"""Kinetics: force, work and power of the concentric (science.md 3.7, catalogue row 10 and the forces of 3.10).

Force is filtered like position. Only steadiness and tremor, which the filter would remove, read it unfiltered.
"""

import numpy as np

from streams.core import ragged
from streams.core.kinematics import Column, concentric_time
from streams.core.ragged import FloatArray
from streams.core.segmentation import Phases
from streams.core.signals import FS_HZ


def concentric_work(reps: Phases) -> Column:
    """Work of pushing along the concentric, in J: trapezoids over position, pulling forces counted as 0."""
    return _work(reps), {}


def concentric_power(reps: Phases) -> Column:
    """Concentric work over concentric time, in W."""
    return _work(reps) / concentric_time(reps)[0], {}


def peak_force(reps: Phases) -> Column:
    """Largest force of the concentric, in N or N m."""
    return ragged.largest(reps.signals.force, reps.start, reps.top), {}


def mean_force(reps: Phases) -> Column:
    """Mean force of the concentric, in N or N m."""
    return ragged.total(reps.signals.force, reps.start, reps.top) / (reps.top - reps.start), {}


def _work(reps: Phases) -> FloatArray:
    """Add up the trapezoids, sorted by sample: each push acts over half the way to both neighbours, which is v dt."""
    x, push = reps.signals.position, np.maximum(reps.signals.force, 0.0)
    first = ragged.at(push, reps.start) * (ragged.at(x, reps.start + 1) - ragged.at(x, reps.start))
    last = ragged.at(push, reps.top) * (ragged.at(x, reps.top) - ragged.at(x, reps.top - 1))
    return ragged.total(push * reps.velocity, reps.start + 1, reps.top) / FS_HZ + 0.5 * (first + last)
