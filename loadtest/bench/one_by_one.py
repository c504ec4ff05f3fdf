"""One by one: metrics of a rep as one would write them with NumPy, a rep at a time, to be held against the batches.

Only the plain ones, without the zero-lag filter, smoothness or arcs: range, velocities, times, work, power, impulse. So
this way is given less to do than ours.
"""

import numpy as np
from numpy.typing import NDArray

from loadtest.movement import CONTEXT_SAMPLES
from streams.core.telemetry import Rep


def measured(rep: Rep) -> dict[str, float]:
    """Measure one rep, in SI units."""
    force_N = np.frombuffer(rep.force, "<i2") * rep.force_scale_N
    position = np.frombuffer(rep.position, "<i2") * rep.position_scale
    dt_s = 1.0 / rep.fs_hz
    inside = slice(CONTEXT_SAMPLES, -CONTEXT_SAMPLES)
    velocity = np.gradient(_smooth(position), dt_s)[inside]
    force_N, position = _smooth(force_N)[inside], position[inside]
    top = int(np.argmax(np.abs(position - position[0])))
    power_W = force_N * velocity
    concentric = slice(0, top + 1)
    return {
        "rom": float(np.ptp(position)),
        "concentric_s": top * dt_s,
        "eccentric_s": (len(position) - top) * dt_s,
        "peak_velocity": float(np.max(np.abs(velocity))),
        "mean_velocity": float(np.mean(np.abs(velocity[concentric]))),
        "peak_force": float(np.max(force_N)),
        "mean_force": float(np.mean(force_N[concentric])),
        "work_J": float(np.sum(power_W[concentric]) * dt_s),
        "peak_power_W": float(np.max(power_W)),
        "mean_power_W": float(np.mean(power_W[concentric])),
        "impulse_Ns": float(np.sum(force_N[concentric]) * dt_s),
    }


def _smooth(values: NDArray[np.float64], width: int = 5) -> NDArray[np.float64]:
    return np.convolve(values, np.ones(width) / width, mode="same")
