"""Kinematics: range, times, tempo and velocity of segmented repetitions (science.md 3, 3.1 and 3.5).

Each function is one metric of R reps: its values, shape (R,), and where it is undefined. Values of invalid reps mean
nothing and are not looked at.
"""

from collections.abc import Mapping

import numpy as np

from streams.core import ragged
from streams.core.ragged import BoolArray, FloatArray
from streams.core.segmentation import UNLOADED, Phases
from streams.core.signals import FS_HZ

Column = tuple[FloatArray, Mapping[str, BoolArray]]
"""Values of one metric, and by reason where they are undefined; the first reason that holds counts."""

NEARLY_ZERO = 1e-12
"""A displacement up to this size, in m or rad, is none."""


def range_of_motion(reps: Phases) -> Column:
    """Net displacement of the concentric, in m or rad."""
    return np.abs(reps.once(displacement)), {}


def rom_completeness(reps: Phases) -> Column:
    """Range in percent of the prescribed one, or else of the calibrated one."""
    return 100.0 * np.abs(reps.once(displacement)) / reps.reference, {"no_reference": np.isnan(reps.reference)}


def concentric_time(reps: Phases) -> Column:
    """Time from concentric start to concentric end, in s."""
    return (reps.top - reps.start) / FS_HZ, {}


def top_hold_time(reps: Phases) -> Column:
    """Time of the hold at the far end, in s; 0 where there is none of 0.15 s."""
    return (reps.turn - reps.top) / FS_HZ, {}


def eccentric_time(reps: Phases) -> Column:
    """Time from eccentric start to eccentric end, in s."""
    return (reps.end - reps.turn) / FS_HZ, {}


def bottom_hold_time(reps: Phases) -> Column:
    """Time until the next rep, in s; one message doesn't reach it."""
    return np.zeros(len(reps.start)), {"open_at_end": np.ones(len(reps.start), np.bool_)}


def time_under_load(reps: Phases) -> Column:
    """Concentric, hold at the far end and eccentric together, in s: all that one message knows of it."""
    return (reps.end - reps.start) / FS_HZ, {}


def tempo_error(reps: Phases) -> Column:
    """Deviation from the prescribed tempo in percent, the larger of concentric and eccentric; max intent: eccentric."""
    error = np.fmax(*(np.abs(share - 1.0) for share in reps.once(_tempo)))
    return 100.0 * error, {"no_reference": np.isnan(error)}


def is_tempo_fast(reps: Phases, fraction: float) -> BoolArray:
    """Tell reps with a phase of less than this fraction of its prescribed time."""
    return np.round(np.fmin(*reps.once(_tempo)), 9) < fraction


def mean_velocity(reps: Phases) -> Column:
    """Displacement over time of the concentric, in m/s or rad/s; velocity loss and all rules use this one."""
    moved = reps.once(displacement)
    return moved / reps.once(concentric_time)[0], {"no_movement": np.abs(moved) <= NEARLY_ZERO}


def peak_velocity(reps: Phases) -> Column:
    """Largest velocity of the concentric, in m/s or rad/s."""
    return reps.concentric.largest(reps.concentric_velocity), {}


def mean_propulsive_velocity(reps: Phases) -> Column:
    """Mean velocity while the patient pushes at least 5 % of the set load, in m/s or rad/s (motor and cam machines)."""
    phase = reps.concentric
    load = reps.signals.load
    pushes = reps.concentric_force >= phase.spread(np.where(load > 0.0, UNLOADED * load, -np.inf))
    mean, is_none = phase.mean_where(reps.concentric_velocity, pushes)
    return mean, {"no_movement": is_none}


def displacement(reps: Phases) -> FloatArray:
    """Net way of the concentric, in m or rad."""
    x = reps.signals.position
    return ragged.at(x, reps.top) - ragged.at(x, reps.start)


def _tempo(reps: Phases) -> tuple[FloatArray, FloatArray]:
    """Return concentric and eccentric time as a share of the prescribed one, NaN where none is prescribed."""
    signals = reps.signals
    wanted_con = np.where((signals.concentric_s > 0.0) & ~signals.is_max, signals.concentric_s, np.nan)
    wanted_ecc = np.where(signals.eccentric_s > 0.0, signals.eccentric_s, np.nan)
    return reps.once(concentric_time)[0] / wanted_con, eccentric_time(reps)[0] / wanted_ecc
