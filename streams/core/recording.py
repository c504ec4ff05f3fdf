"""Recording: columns of samples, put on a uniform clock of 100 Hz and filtered as a whole (science.md 2.1-2.3)."""

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from streams.core import oddities, signals
from streams.core.lowpass import zero_lag
from streams.core.oddities import Notice
from streams.core.ragged import BoolArray, FloatArray, IntArray
from streams.core.signals import CUTOFF_HZ, FS_HZ, MIN_FS_HZ
from streams.core.stamps import FEWEST_ROWS, UniformClock, runs, uniform_clock
from streams.core.telemetry import Intent, PositionUnit, Side, Sign

UNNAMED = "recording"
"""Stands where a machine would name its exercise, its boot and its session."""

REST_S = 30.0
"""Pause between two excursions, in s, that ends a set where no column says which set a row belongs to [default]."""

LONGEST_HOLE_S = 2.0
"""Longer holes are shortened to this before anything is filtered, in s: a night between two sets costs no memory."""

SLOWEST_HZ = 10.0
"""Rate in Hz below which not even excursions are looked for: a movement of 0.2 s would not show."""

SAME_RATE = 1e-3
"""Share by which a fitted rate may miss a whole number of Hz and still be that: crystals do, and so do short fits."""

SPIKE = 0.05
"""Share of the range by which a lone sample of position must leave its neighbours to be a spike [default]."""

LARGEST = {"position": 10.0, "force": 50_000.0, "velocity": 1_000.0}
"""Largest position in m or rad, force in N or N m, and velocity that are samples; the first two bound messages too."""

_AROUND = 2  # samples on each side that a spike is compared with
_NOISE = 10.0  # times the usual distance from the neighbours: what noise does not reach
_ON_SAMPLE = 1e-9


class WrongRecording(Exception):
    """Not a recording, or nothing that could be measured: whoever made it must act. The message is one line."""


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording holds, row by row.

    Parameters
    ----------
    t_s : array, shape (rows,)
        Time in s, never falling.
    force, position : array, shape (rows,)
        In N or N m, and in m or rad; NaN where there is no sample.
    velocity : array, shape (rows,), or None
        What the device takes for the velocity, in m/s or rad/s.
    set_number : array, shape (rows,), or None
        Which set a row belongs to, from 1 on, never falling; None where that is to be found out.
    side : tuple of str, or None
        Which side moves, by row.
    position_unit : str
        `m` or `rad`.
    """

    t_s: FloatArray
    force: FloatArray
    position: FloatArray
    velocity: FloatArray | None = None
    set_number: IntArray | None = None
    side: tuple[Side, ...] | None = None
    position_unit: PositionUnit = "m"


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a recording beside its samples.

    Parameters
    ----------
    exercise : str
        Its name.
    intent : str
        How the patient was to move.
    load_N : float or None
        Set load in N or N m; None where nobody knows, and then no rep is `unloaded`.
    concentric_sign, force_sign : int
        What makes concentric movement and resisting force positive.
    window : tuple of float, or None
        Prescribed window in m or rad, signs applied.
    tempo : tuple of float, or None
        Prescribed times of concentric, hold and eccentric, in s.
    force_limit, position_limit : float or None
        Ends of the sensors' ranges; a sample that reaches one is saturated.
    rest_s : float
        Pause in s that ends a set where no column says so.
    """

    exercise: str = UNNAMED
    intent: Intent = "unknown"
    load_N: float | None = None
    concentric_sign: Sign = 1
    force_sign: Sign = 1
    window: tuple[float, float] | None = None
    tempo: tuple[float, float, float] | None = None
    force_limit: float | None = None
    position_limit: float | None = None
    rest_s: float = REST_S


class Uniform(msgspec.Struct, frozen=True, kw_only=True):
    """A recording at 100 Hz, signs applied.

    Parameters
    ----------
    t_s : array, shape (n,)
        Time of each sample in s; uniform but for holes of more than `LONGEST_HOLE_S`.
    raw : array, shape (3, n)
        Position, force and velocity before the filter, with straight lines drawn over holes; 0 where a channel is
        absent.
    missing : array, shape (3, n)
        Where they have no sample.
    filtered : array, shape (2, n)
        Position and force behind the filter.
    row : array, shape (n,)
        The row of the columns that was the last one at that time.
    clock : UniformClock
        Of the source.
    fs_hz : float
        Rate of the source in Hz.
    notices : tuple of Notice
        What was odd.
    """

    t_s: FloatArray
    raw: FloatArray
    missing: BoolArray
    filtered: FloatArray
    row: IntArray
    clock: UniformClock
    fs_hz: float
    notices: tuple[Notice, ...]


def on_uniform_clock(columns: Columns, protocol: Protocol) -> Uniform:
    """Put a recording on the clock of 100 Hz. Raises WrongRecording where that can't be done.

    Examples
    --------
    >>> t_s = np.array([0.00, 0.02, 0.04, 0.06])
    >>> uniform = on_uniform_clock(Columns(t_s=t_s, force=t_s, position=t_s), Protocol())
    >>> uniform.fs_hz, uniform.raw[0].round(3)
    (50.0, array([0.  , 0.01, 0.02, 0.03, 0.04, 0.05, 0.06]))
    """
    if len(columns.t_s) < FEWEST_ROWS or not columns.t_s[-1] > columns.t_s[0]:
        raise WrongRecording("a rate needs rows of at least two different times")
    clock = uniform_clock(columns.t_s)
    fs_hz = _rate(clock)
    if fs_hz < SLOWEST_HZ:
        raise WrongRecording(f"{fs_hz:.3g} rows a second are too few to show a movement; reps need {MIN_FS_HZ:g}")
    number, after, excess = _without_long_holes(clock)
    source, notices = _source(columns, protocol, number)
    missing = np.isnan(source)
    if missing[0].all():
        raise WrongRecording("no row has a position")
    notices += oddities.of_clock(columns.t_s, clock, fs_hz)
    samples, length = signals.to_100_hz(_filled(source), np.full(3, source.shape[1]), fs_hz)
    raw = np.ascontiguousarray(samples[:, : length[0]])
    place = np.arange(length[0]) * (fs_hz / FS_HZ)  # of each new sample among the old ones
    behind = np.concatenate(([0], np.cumsum(excess)))[np.searchsorted(after, place + _ON_SAMPLE, "right")]
    return Uniform(
        t_s=clock.start_s + clock.period_s * (place + behind),
        raw=raw,
        missing=_at_100_hz(missing, len(place), fs_hz),
        filtered=zero_lag(raw[:2], length[:2], CUTOFF_HZ, FS_HZ),
        row=np.searchsorted(number, np.floor(place + _ON_SAMPLE), "right") - 1,
        clock=clock,
        fs_hz=fs_hz,
        notices=tuple(notices),
    )


def _rate(clock: UniformClock) -> float:
    whole = round(clock.fs_hz)
    return float(whole) if whole and abs(clock.fs_hz / whole - 1.0) <= SAME_RATE else clock.fs_hz


def _without_long_holes(clock: UniformClock) -> tuple[IntArray, IntArray, IntArray]:
    """Shorten long holes: the new number of each row, the numbers behind such holes, how many samples each lost."""
    step = np.diff(clock.number)
    longest = max(1, round(LONGEST_HOLE_S / clock.period_s))
    excess = np.maximum(step - longest, 0)
    number = clock.number - np.concatenate(([0], np.cumsum(excess)))
    holes = np.flatnonzero(excess)
    return number, number[holes + 1], excess[holes]


def _source(columns: Columns, protocol: Protocol, number: IntArray) -> tuple[FloatArray, list[Notice]]:
    """Spread the rows over their numbers, signs applied, NaN where there is no sample; say what was left out."""
    absent = np.full(len(number), np.nan)
    rows = np.stack([columns.position, columns.force, absent if columns.velocity is None else columns.velocity])
    channels = zip(LARGEST, rows[: 2 if columns.velocity is None else 3], strict=False)
    notices = list(oddities.of_cells(columns.t_s, {name: (channel, LARGEST[name]) for name, channel in channels}))
    rows[np.abs(rows) > np.array(list(LARGEST.values()))[:, None]] = np.nan
    rows[~np.isfinite(rows)] = np.nan
    notices += oddities.of_plateaus(rows[1])
    if protocol.load_N is None and not np.any(np.nan_to_num(rows[1])):
        rows[1] = np.nan
        notices.append(Notice("no_force", "force is 0 throughout, which no load cell reads: taken for no channel"))
    if protocol.load_N is None:
        notices.append(Notice("load_unknown", "no set load was given, so no rep can be told to be unloaded"))
    spread = np.full((3, int(number[-1]) + 1), np.nan)
    spread[:, number] = rows * np.array([[protocol.concentric_sign], [protocol.force_sign], [protocol.concentric_sign]])
    spikes = _spikes(spread[0])
    if spikes.any():
        spread[0, spikes] = np.nan
        at_s = columns.t_s[np.searchsorted(number, np.flatnonzero(spikes)[0])]
        notices.append(
            Notice(
                "spikes", f"{spikes.sum()} samples of position leap from their neighbours: left out, first {at_s:.2f} s"
            )
        )
    return spread, notices


def _spikes(x: FloatArray) -> BoolArray:
    """Tell samples that leave the median of their neighbours by more than movement and noise do.

    A steady movement, however fast, stays on the median of five.
    """
    around = sliding_window_view(np.pad(_filled(x), _AROUND, "edge"), 2 * _AROUND + 1)
    apart = np.abs(x - np.median(around, axis=1))
    known = x[~np.isnan(x)]
    if not known.size:
        return np.zeros(len(x), np.bool_)
    covered = float(np.subtract(*np.percentile(known, (99.0, 1.0))))
    usual = float(np.median(apart[~np.isnan(x)]))
    return np.nan_to_num(apart) > max(SPIKE * covered, _NOISE * usual)


def _filled(x: FloatArray) -> FloatArray:
    """Draw straight lines over holes, along the last axis; 0 where there is nothing at all."""
    filled = x.copy()
    for channel in np.atleast_2d(filled):
        known = np.flatnonzero(~np.isnan(channel))
        holes = np.flatnonzero(np.isnan(channel))
        channel[holes] = np.interp(holes, known, channel[known]) if known.size else 0.0
    return filled


def _at_100_hz(missing: BoolArray, n: int, fs_hz: float) -> BoolArray:
    """Bring holes to the clock of 100 Hz, none of them shorter than it was."""
    if fs_hz == FS_HZ:
        return missing
    brought = np.zeros((len(missing), n), np.bool_)
    for channel, holes in zip(brought, missing, strict=True):
        for first, stop in runs(holes):
            begin = int(np.ceil(first * FS_HZ / fs_hz - _ON_SAMPLE))
            channel[begin : begin + int(np.ceil((stop - first) * FS_HZ / fs_hz - _ON_SAMPLE))] = True
    brought[missing.all(axis=1)] = True
    return brought
