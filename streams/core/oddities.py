"""Oddities: what whoever reads the numbers of a recording should know about it (science.md 2.1, 2.3, 2.4)."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from streams.core.fatigue import median
from streams.core.lowpass import zero_lag
from streams.core.ragged import BoolArray, FloatArray
from streams.core.signals import CUTOFF_HZ, FS_HZ, MIN_FS_HZ
from streams.core.stamps import UniformClock, runs

OTHER_PERIOD = 0.30
"""Share by which period and rep time may disagree before it is a notice [default]."""

SHORTEST_PERIOD_S = 0.6
"""Smallest period in s that is looked for [default]."""

DOMINANT = 0.5
"""Share of the autocorrelation at lag 0 that a dominant peak reaches [default]."""

MIN_CORRELATION, SLOPE = 0.99, (0.95, 1.05)
"""What the device's velocity must have to be d(position)/dt: a correlation, and a slope in between [default]."""

_PLATEAU = 5  # equal samples, the largest of all, that look like the end of a sensor's range
_RARE = 0.1  # share of equal neighbours up to which a channel is not one that repeats itself anyway
_FEWEST_PERIODS = 3  # reps of a set below which there is no period to compare


class Notice(msgspec.Struct, frozen=True):
    """Something that whoever reads the numbers should know: one word for it, a sentence, the set or None."""

    name: str
    detail: str
    set_number: int | None = None


def of_clock(t_s: FloatArray, clock: UniformClock, fs_hz: float) -> Iterator[Notice]:
    """Notice stamps that are late, samples that are lost, a rate that is not 100 Hz."""
    late_ms = 1e3 * clock.jitter_s
    if clock.jitter_s > max(0.1 * clock.period_s, 0.001):
        yield Notice("jitter", f"times are up to {late_ms:.0f} ms off a uniform clock of {fs_hz:.6g} Hz, which counts")
    holes = np.flatnonzero(np.diff(clock.number) > 1)
    if holes.size:
        lost_s = (np.diff(clock.number)[holes] - 1) * clock.period_s
        longest = int(lost_s.argmax())
        yield Notice(
            "gaps",
            f"{len(holes)} {'gap' if len(holes) == 1 else 'gaps'} in the clock, the longest of "
            f"{1e3 * lost_s[longest]:.0f} ms after {t_s[holes[longest]]:.2f} s",
        )
    if fs_hz < MIN_FS_HZ:
        yield Notice("rate_too_low", f"{fs_hz:.4g} Hz, at least {MIN_FS_HZ:g} are needed: no rep is valid")
    elif fs_hz != FS_HZ:
        yield Notice("resampled", f"{fs_hz:.6g} Hz, brought to {FS_HZ:g} Hz")


def of_cells(t_s: FloatArray, channels: Mapping[str, tuple[FloatArray, float]]) -> Iterator[Notice]:
    """Notice cells that are empty, or beyond the limit of their channel."""
    for name, (x, limit) in channels.items():
        empty, beyond = np.isnan(x), np.abs(x) > limit
        if empty.all():
            yield Notice(f"no_{name}", f"the {name} column is empty")
        elif empty.any():
            yield Notice("missing_samples", f"{empty.sum()} rows have no {name}, first {t_s[empty.argmax()]:.2f} s")
        if beyond.any():
            first_s = t_s[beyond.argmax()]
            yield Notice(
                "out_of_range", f"{beyond.sum()} rows have a {name} beyond {limit:g}: left out, first {first_s:.2f} s"
            )


def of_plateaus(force: FloatArray) -> Iterator[Notice]:
    """Notice a force that stays at exactly its largest value though it repeats itself nowhere else."""
    known = force[~np.isnan(force)]
    if not known.size or known.min() == known.max():
        return
    end = float(known[np.abs(known).argmax()])
    flats = [(first, stop) for first, stop in runs(known == end) if stop - first >= _PLATEAU]
    equal = np.count_nonzero(np.diff(known) == 0.0) - sum(stop - first - 1 for first, stop in flats)
    if flats and equal <= _RARE * len(known):
        yield Notice(
            "plateau",
            f"force stays at exactly {end:.6g} {len(flats)} times: if the sensor ends there, say so "
            f"(--force-limit {abs(end):.6g}), and those reps are saturated",
        )


def of_velocity(position: FloatArray, velocity: FloatArray, missing: BoolArray) -> Iterator[Notice]:
    """Compare the device's velocity, as it was told, with d(position)/dt, position being filtered; both at 100 Hz."""
    if len(position) - missing.sum() < 2:  # noqa: PLR2004 - a slope needs two points
        return
    derived = (np.gradient(position) * FS_HZ)[~missing]
    told = zero_lag(velocity[None], np.array([len(velocity)]), CUTOFF_HZ, FS_HZ)[0, ~missing]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = float(np.cov(derived, told, ddof=0)[0, 1] / derived.var())
        r = float(np.corrcoef(derived, told)[0, 1])
    if not np.isfinite([slope, r]).all():
        return
    found = f"against d(position)/dt the device's velocity has slope {slope:.3f}, r {r:.3f}"
    if slope < 0.0:
        yield Notice("sign_mismatch", found)
    elif not SLOPE[0] <= slope <= SLOPE[1] or r < MIN_CORRELATION:
        yield Notice("scale_mismatch", found)


def of_period(position: FloatArray, starts_s: FloatArray, set_number: int) -> Iterator[Notice]:
    """Compare the period of a set's position with the time from excursion to excursion."""
    period_s = period(position) if len(starts_s) >= _FEWEST_PERIODS else None
    if period_s is None:
        return
    rep_s = median(np.diff(starts_s).tolist())
    if abs(period_s - rep_s) > OTHER_PERIOD * rep_s:
        yield Notice(
            "period_mismatch",
            f"movement repeats itself every {period_s:.2f} s, excursions begin every {rep_s:.2f} s (median)",
            set_number,
        )


def period(x: FloatArray) -> float | None:
    """Return the period of a position at 100 Hz in s, from its unbiased autocorrelation; None if nothing repeats.

    Examples
    --------
    >>> period(np.sin(np.arange(10_000) * 2.0 * np.pi / 250.0))
    2.5
    """
    apart = x - x.mean()
    size = 1 << (2 * len(x) - 1).bit_length()
    spectrum = np.fft.rfft(apart, size)
    lags = len(x) // 2
    correlation: FloatArray = np.fft.irfft(spectrum * np.conj(spectrum), size)[: lags + 1]
    correlation = correlation / (len(x) - np.arange(lags + 1))
    inner = correlation[1:-1]
    is_peak = (inner >= correlation[:-2]) & (inner > correlation[2:]) & (inner >= DOMINANT * correlation[0])
    peaks = np.flatnonzero(is_peak) + 1
    peaks = peaks[peaks >= round(SHORTEST_PERIOD_S * FS_HZ)]
    return float(peaks[0]) / FS_HZ if peaks.size and correlation[0] > 0.0 else None
