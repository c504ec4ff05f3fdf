"""Device velocity: what the machine takes for the velocity, against d(position)/dt (science.md 2.3)."""

import numpy as np

from streams.core.ragged import BoolArray, FloatArray, Slices
from streams.core.signals import Signals

SLOPE_TOLERANCE = 0.05
"""Largest difference of the slope from 1, and so of the two scales [default]."""

MIN_CORRELATION = 0.99
"""Smallest correlation of the two velocities [default]."""

_LAST_BIT = 1e-9


def mismatch(signals: Signals, velocity: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Tell whose device's velocity has the opposite sign, and whose has another scale or another course.

    Over the whole message, the device's velocity, filtered like the position, is regressed on the derivative of the
    position, shape (R, W). A negative slope is a wrong sign; a slope outside 0.95-1.05, or a correlation below 0.99, a
    wrong scale. A device that sends no velocity can't disagree.
    """
    wrong_sign, wrong_scale = np.zeros((2, len(velocity)), np.bool_)
    row, told, _ = signals.told_velocity
    if row.size:
        with np.errstate(invalid="ignore", divide="ignore"):  # of a velocity that never changes nothing can be told
            slope, correlation = _regressed(told, velocity[row, : told.shape[1]], signals)
        fits = (np.abs(slope - 1.0) <= SLOPE_TOLERANCE + _LAST_BIT) & (np.abs(correlation) >= MIN_CORRELATION)
        wrong_sign[row] = slope < 0.0
        wrong_scale[row] = ~fits
    return wrong_sign, wrong_scale


def _regressed(told: FloatArray, computed: FloatArray, signals: Signals) -> tuple[FloatArray, FloatArray]:
    """Return slope and correlation of each row, with sums over its own samples only."""
    n = signals.n[signals.told_velocity.row]
    whole = Slices(np.zeros_like(n), n, told.shape[1])
    told_off, off = (flat - whole.spread(whole.mean(flat)) for flat in (whole.of(told), whole.of(computed)))
    shared, spread = whole.total(told_off * off), whole.total(off * off)
    return shared / spread, shared / np.sqrt(spread * whole.total(told_off * told_off))
