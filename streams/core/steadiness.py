"""Steadiness: tremor and unsteady force, read from signals as they were before the filter (science.md 3.4 and 3.9).

`tremor_index` and `steadiness_cv` take one signal; where they return None, `undefined.why` tells the reason. What they
say of a person is to be compared with the person's own baseline only.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from streams.core.kinematics import Column
from streams.core.ragged import FloatArray, Slices
from streams.core.segmentation import Phases
from streams.core.signals import FS_HZ
from streams.core.undefined import NEARLY_ZERO, Undefined, none_if_undefined
from streams.core.waveform import waveform

BAND_HZ = (4.0, 12.0)
"""Frequencies that count as tremor, in Hz, both included [default]."""

MIN_TREMOR = 100
"""Samples, 1 s at 100 Hz, below which the shape of a phase leaks into the band [default]."""

MIN_STEADY = 50
"""Samples in the middle of a phase below which there is no steadiness [default]."""

LONGEST_BY_PRODUCT = 224
"""Samples up to which the band is a matrix product, with matrices that are kept; longer phases are transformed."""

MARGIN = 5
"""The first and the last of so many equal parts of a phase are left out: the middle 60 % remains."""


@none_if_undefined
def tremor_index(signal: ArrayLike, fs_hz: float) -> float:
    """Tremor index: what oscillates at 4 to 12 Hz, in percent of the mean.

    TI = 100·sqrt(2·Σ|X_k|²)/(N·|mean(x)|), X the N-point DFT without window, padding or detrending, over the bins
    k = 1..floor((N - 1)/2) with 4 <= k·fs/N <= 12.

    Parameters
    ----------
    signal : array_like, shape (N,)
        Unfiltered velocity or force of one phase, in any unit.
    fs_hz : float
        Sampling rate in Hz; the catalogue's is 100.

    Returns
    -------
    float or None, in percent
        None: `phase_too_short` (N < 100), `zero_denominator` (mean of zero), `invalid_input` (not finite).

    Notes
    -----
    science.md 3.4; definition of our own [default], needed because spectral arc length is blind to it. Central
    differences damp 12 Hz by 9 %, so an index of velocity is not one of force.

    Examples
    --------
    >>> t_s = np.arange(400) / 100.0
    >>> round(tremor_index(1.0 + 0.1 * np.sin(2.0 * np.pi * 5.0 * t_s), fs_hz=100.0), 10)
    7.0710678119
    """
    x = waveform(signal, fs_hz)
    if len(x) < MIN_TREMOR:
        raise Undefined("phase_too_short")
    mean = abs(float(x.mean()))
    if mean <= NEARLY_ZERO:
        raise Undefined("zero_denominator")
    with np.errstate(all="ignore"):
        return 100.0 * float(_in_band(x[None], fs_hz)[0]) / (len(x) * mean)


@none_if_undefined
def steadiness_cv(force: ArrayLike, fs_hz: float) -> float:
    """Coefficient of variation of the force around its own line, over the middle of a phase, in percent.

    CV_F = 100·RMS(residual)/mean(F), over samples floor(N/5) to N - floor(N/5) - 1, after taking away the
    least-squares line.

    Parameters
    ----------
    force : array_like, shape (N,)
        Unfiltered force of one phase or of a hold, in N or N m.
    fs_hz : float
        Sampling rate in Hz; the value doesn't depend on it.

    Returns
    -------
    float or None, in percent
        None: `phase_too_short` (fewer than 50 samples in the middle), `zero_denominator`, `invalid_input`.

    References
    ----------
    Parrella et al. 2026, Sci Rep, doi:10.1038/s41598-026-41572-6.

    Examples
    --------
    >>> t_s = np.arange(200) / 100.0
    >>> round(steadiness_cv(100.0 + 10.0 * t_s, fs_hz=100.0), 9)
    0.0
    >>> steadiness_cv([100.0, 101.0], fs_hz=100.0) is None
    True
    """
    x = waveform(force, fs_hz)
    cut = len(x) // MARGIN
    if len(x) - 2 * cut < MIN_STEADY:
        raise Undefined("phase_too_short")
    middle = Slices(np.array([cut]), np.array([len(x) - cut]), len(x))
    with np.errstate(all="ignore"):
        unsteady, mean = _around_line(middle.of(x), middle)
    if abs(mean[0]) <= NEARLY_ZERO:
        raise Undefined("zero_denominator")
    return 100.0 * float(unsteady[0]) / float(mean[0])


def tremor_index_velocity(reps: Phases) -> Column:
    """Tremor index of the unfiltered velocity of the concentric, in %."""
    return _tremor(reps, 0)


def tremor_index_force(reps: Phases) -> Column:
    """Tremor index of the unfiltered force of the concentric, in %."""
    return _tremor(reps, 1)


def force_steadiness_cv(reps: Phases) -> Column:
    """Unsteadiness of the unfiltered force over the middle 60 % of the concentric, in %."""
    cut = reps.concentric.length // MARGIN
    middle = reps.concentric.within(cut, reps.concentric.length - 2 * cut)
    unsteady, mean = _around_line(middle.of(reps.signals.raw_force), middle)
    return 100.0 * unsteady / mean, {
        "phase_too_short": middle.length < MIN_STEADY,
        "zero_denominator": np.abs(mean) <= NEARLY_ZERO,
    }


def _around_line(flat: FloatArray, slices: Slices) -> tuple[FloatArray, FloatArray]:
    """Return the RMS around the least-squares line of each slice, and its mean."""
    mean = slices.mean(flat)
    middle = (slices.length - 1) / 2.0
    off = np.arange(len(flat)) - slices.spread(slices.first + middle)
    flat = flat - slices.spread(mean)
    slope = slices.total(off * flat) / np.maximum(slices.length * (slices.length**2 - 1.0) / 12.0, 1.0)
    flat -= slices.spread(slope) * off
    return np.sqrt(slices.mean(flat * flat)), mean


def _tremor(reps: Phases, channel: int) -> Column:
    in_band, mean = reps.once(_of_both_channels)[:, channel]
    return 100.0 * in_band / (reps.concentric.length * mean), {
        "phase_too_short": reps.concentric.length < MIN_TREMOR,
        "zero_denominator": mean <= NEARLY_ZERO,
    }


def _of_both_channels(reps: Phases) -> FloatArray:
    """Return what is in the band, and the size of the mean, of velocity and force, shape (2, 2, R).

    Phases of one length are taken together, because they have the same bins.
    """
    phase = reps.concentric
    flat = np.array((_unfiltered_velocity(reps), phase.of(reps.signals.raw_force)))
    found = np.zeros((2, 2, len(phase.length)))
    for mean, channel in zip(found[1], flat, strict=True):
        np.abs(phase.mean(channel), out=mean)
    for length in sorted(length for length in {*phase.length.tolist()} if length >= MIN_TREMOR):
        row = (phase.length == length).nonzero()[0]
        x = flat[:, phase.first[row, None] + np.arange(length)]
        found[0][:, row] = _in_band(x.reshape(-1, length), FS_HZ).reshape(2, -1)
    return found


def _unfiltered_velocity(reps: Phases) -> FloatArray:
    x, phase = reps.signals.raw_position, reps.concentric
    velocity = (phase.of(x, 1) - phase.of(x, -1)) * (FS_HZ / 2.0)
    at_first = (reps.start == 0).nonzero()[0]
    if at_first.size:
        velocity[phase.first[at_first]] = (x[at_first, 1] - x[at_first, 0]) * FS_HZ
    return velocity


def _in_band(x: FloatArray, fs_hz: float) -> FloatArray:
    """Return sqrt(2·Σ|X_k|²) over the bins of the band, of each row of shape (R, N)."""
    samples = x.shape[1]
    if samples <= LONGEST_BY_PRODUCT:
        parts = (x[:, None] @ _waves(samples, fs_hz))[:, 0]
    else:
        first, stop = _band(samples, fs_hz)
        parts = np.ascontiguousarray(np.fft.rfft(x)[:, first:stop]).view(np.float64)
    found: FloatArray = np.sqrt(2.0 * (parts * parts).sum(axis=1))
    return found


def _band(samples: int, fs_hz: float) -> tuple[int, int]:
    """Return the first bin of the band, and the first behind it."""
    frequency = np.arange(1, (samples - 1) // 2 + 1) * fs_hz / samples
    first, stop = np.searchsorted(frequency, BAND_HZ[0]), np.searchsorted(frequency, BAND_HZ[1], side="right")
    return 1 + int(first), 1 + int(stop)


@lru_cache(maxsize=LONGEST_BY_PRODUCT)  # up to 7 MB at 100 Hz
def _waves(samples: int, fs_hz: float) -> FloatArray:
    """Return the cosines and sines of the bins of the band, shape (N, 2 bins)."""
    turns = np.arange(samples)[:, None] * np.arange(*_band(samples, fs_hz)) % samples  # exact, whatever their number
    angle = (2.0 * np.pi / samples) * turns
    return np.concatenate((np.cos(angle), np.sin(angle)), axis=1)
