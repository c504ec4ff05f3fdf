"""Smoothness: spectral arc length and jerk of one movement (science.md 3.2 and 3.3).

`sparc`, `dimensionless_jerk` and `ldlj` take one movement; where they return None, `undefined.why` tells the reason.
The columns do the same for the phases of a whole batch. Smoothness depends on duration, cut-off and noise, so it is
only compared within one patient, machine, tempo and cut-off, and it never decides anything alone.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from streams.core import arc_length
from streams.core.kinematics import Column
from streams.core.ragged import FloatArray, Slices
from streams.core.segmentation import Phases
from streams.core.signals import FS_HZ
from streams.core.undefined import NEARLY_ZERO, Undefined, none_if_undefined
from streams.core.waveform import waveform

MIN_SAMPLES = 20
"""Samples of a phase in the catalogue, 0.2 s [default]."""


@none_if_undefined
def sparc(speed: ArrayLike, fs_hz: float) -> float:
    """Spectral arc length of one movement, dimensionless and negative; nearer to 0 is smoother.

    M is the amplitude of the spectrum, zero-padded to 2^(ceil(log2 N) + 4) samples, over its largest value. Of the
    frequencies up to 10 Hz those from the first to the last with M >= 0.05 count:
    SPARC = -Σ sqrt(((f[j+1] - f[j])/(f_last - f_first))² + (M[j+1] - M[j])²).

    Parameters
    ----------
    speed : array_like, shape (N,)
        Velocity of one concentric or eccentric phase in any unit, holds cut away, as it is: nothing is subtracted,
        filtered or made positive.
    fs_hz : float
        Sampling rate in Hz. Resample to 100 Hz first: the value depends on the rate.

    Returns
    -------
    float or None
        None: `no_movement`, `degenerate_spectrum` (fewer than two frequencies count), `phase_too_short` (no sample),
        `invalid_input`.

    Notes
    -----
    Blind to tremor: a ripple of a tenth at 5 Hz on a movement of 4 s changes it by 1e-5. For force, give the first
    derivative; its authors call that intuition.

    References
    ----------
    Balasubramanian et al. 2015, J NeuroEng Rehabil 12:112, doi:10.1186/s12984-015-0090-9.

    Examples
    --------
    >>> round(sparc(np.exp(-5.0 * np.arange(-1.0, 1.0, 0.01) ** 2), fs_hz=100.0), 5)
    -1.41403
    """
    v = waveform(speed, fs_hz)
    if not v.any():
        raise Undefined("no_movement")
    length = arc_length.of_one(v, fs_hz)
    if math.isnan(length):
        raise Undefined("degenerate_spectrum")
    return -length


@none_if_undefined
def dimensionless_jerk(speed: ArrayLike, fs_hz: float) -> float:
    """Dimensionless jerk of one movement, negative; nearer to 0 is smoother.

    DJ = -(T³/v_peak²)·Σ((v[k+2] - 2·v[k+1] + v[k])/dt²)²·dt, T = N·dt, v_peak = max|v|.

    Parameters
    ----------
    speed : array_like, shape (N,)
        As in `sparc`.
    fs_hz : float
        Sampling rate in Hz.

    Returns
    -------
    float or None
        None: `no_movement`, `phase_too_short` (no sample), `invalid_input`.

    References
    ----------
    Balasubramanian et al. 2015, J NeuroEng Rehabil 12:112, doi:10.1186/s12984-015-0090-9.

    Examples
    --------
    >>> round(dimensionless_jerk(np.exp(-5.0 * np.arange(-1.0, 1.0, 0.01) ** 2), fs_hz=100.0), 5)
    -335.74684
    """
    return -_size_of_jerk(speed, fs_hz)


@none_if_undefined
def ldlj(speed: ArrayLike, fs_hz: float) -> float:
    """Log dimensionless jerk of one movement, -ln|DJ|; larger is smoother.

    Of a minimum-jerk movement it is -ln 204.8 = -5.322033893165 in the limit.

    Parameters
    ----------
    speed : array_like, shape (N,)
        As in `sparc`.
    fs_hz : float
        Sampling rate in Hz.

    Returns
    -------
    float or None
        None: `zero_jerk` (|DJ| <= 1e-12), and as in `dimensionless_jerk`.

    References
    ----------
    Balasubramanian et al. 2015, J NeuroEng Rehabil 12:112, doi:10.1186/s12984-015-0090-9.

    Examples
    --------
    >>> round(ldlj(np.exp(-5.0 * np.arange(-1.0, 1.0, 0.01) ** 2), fs_hz=100.0), 5)
    -5.81636
    """
    jerk = _size_of_jerk(speed, fs_hz)
    if jerk <= NEARLY_ZERO:
        raise Undefined("zero_jerk")
    return -math.log(jerk)


def _size_of_jerk(speed: ArrayLike, fs_hz: float) -> float:
    v = waveform(speed, fs_hz)
    if not v.any():
        raise Undefined("no_movement")
    with np.errstate(all="ignore"):
        jerk = _jerk(v, Slices(np.array([0]), np.array([len(v)]), len(v)), np.abs(v).max(), fs_hz)
    return float(jerk[0])


def sparc_concentric(reps: Phases) -> Column:
    """Spectral arc length of the concentric."""
    return _sparc(reps, 0)


def sparc_eccentric(reps: Phases) -> Column:
    """Spectral arc length of the eccentric."""
    return _sparc(reps, 1)


def ldlj_concentric(reps: Phases) -> Column:
    """Log dimensionless jerk of the concentric."""
    return _ldlj(reps, 0)


def ldlj_eccentric(reps: Phases) -> Column:
    """Log dimensionless jerk of the eccentric."""
    return _ldlj(reps, 1)


class _Both(NamedTuple):
    """Velocities of all concentrics and then all eccentrics, flat, and the largest speed of each."""

    flat: FloatArray
    slices: Slices
    peak: FloatArray


def _both(reps: Phases) -> _Both:
    flat = np.concatenate((reps.concentric_velocity, reps.eccentric_velocity))
    length = np.concatenate((reps.concentric.length, reps.eccentric.length))
    slices = Slices(np.zeros(len(length), np.int64), length, 0)
    return _Both(flat, slices, slices.largest(np.abs(flat)))


def _ldlj(reps: Phases, which: int) -> Column:
    jerk, peak = reps.once(_jerks)[which], reps.once(_both).peak.reshape(2, -1)[which]
    return -np.log(jerk), {
        "phase_too_short": (reps.concentric, reps.eccentric)[which].length < MIN_SAMPLES,
        "no_movement": peak == 0.0,
        "zero_jerk": jerk <= NEARLY_ZERO,
    }


def _jerks(reps: Phases) -> FloatArray:
    """Return |DJ| of concentric and eccentric, shape (2, R)."""
    return _jerk(*reps.once(_both), FS_HZ).reshape(2, -1)


def _jerk(flat: FloatArray, slices: Slices, peak: FloatArray, fs_hz: float) -> FloatArray:
    """Return |DJ| of each slice. The sign of the velocity doesn't matter."""
    bend = np.zeros(len(flat))
    bend[:-2] = flat[2:] - 2.0 * flat[1:-1] + flat[:-2]
    bend[slices.last] = bend[np.maximum(slices.last - 1, slices.first)] = 0.0
    duration_s = slices.length / fs_hz
    squares = slices.total(bend * bend) * fs_hz**3
    return duration_s**3 / peak**2 * squares


def _sparc(reps: Phases, which: int) -> Column:
    length, peak = reps.once(_arc_lengths)[which], reps.once(_both).peak.reshape(2, -1)[which]
    return -length, {
        "phase_too_short": (reps.concentric, reps.eccentric)[which].length < MIN_SAMPLES,
        "no_movement": peak == 0.0,
        "degenerate_spectrum": np.isnan(length) & np.isfinite(peak),
    }


def _arc_lengths(reps: Phases) -> FloatArray:
    """Return arc lengths of concentric and eccentric, shape (2, R); NaN where there is none."""
    flat, slices, peak = reps.once(_both)
    wanted = (slices.length >= MIN_SAMPLES) & (peak > 0.0) & np.isfinite(peak)
    wanted.reshape(2, -1)[:, reps.is_invalid] = False
    return arc_length.of_each(flat, slices, wanted).reshape(2, -1)
