"""Set metrics: the reps of one set in numbers, each with its value or the reason why there is none."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from streams.core import curves, fatigue, similarity, undefined
from streams.core.baseline import Baseline, is_comparable
from streams.core.ragged import FloatArray
from streams.core.session import SessionState
from streams.core.sets import NO_INPUT, SetState

DECIMALS = 6
"""Precision of a stored summary: finer than any sensor, coarse enough that no last bit shows."""

HIGHEST_RPE = 10
LOWEST_RPE_OF_RESERVE = 7
"""Exertion of no rep in reserve, and the lowest one that counts reps in reserve: 7 is three (science.md 3)."""

LIKENESS: Mapping[str, Callable[[FloatArray, FloatArray], float | None]] = {
    "reference_nrmse": similarity.nrmse,
    "reference_correlation": similarity.correlation,
    "reference_dtw": similarity.dtw,
}
"""What is told of a set's mean force curve against the patient's own; never a reason for more than a cue (S19)."""

Reading = float | str
"""A value, or the reason why there is none."""


def picked(
    values: Sequence[float | None], pick: Callable[[list[float]], float | None], unknown: str | None = None
) -> Reading:
    """Pick from what is known; `unknown` is the reason if there are values to pick from, and none is known."""
    known = [value for value in values if value is not None]
    if values and not known:
        return unknown or NO_INPUT
    value = pick(known) if known else None
    return "too_few_reps" if value is None else round(value, DECIMALS)


def _by(metric: Callable[[fatigue.Values], float | None], values: Sequence[float | None]) -> Reading:
    """Ask a metric of `fatigue`, and it itself for the reason if it is undefined; it is if any value is unknown."""
    value = metric(values)
    return undefined.why(metric, values) or NO_INPUT if value is None else round(value, DECIMALS)


def set_values(running: SetState, session: SessionState) -> tuple[dict[str, float], dict[str, str]]:
    """Return the set's metrics that are defined, and the reasons of those that are not."""
    valid = running.valid
    fast = [rep for rep in valid if rep.is_fast]
    velocities, no_velocity = [rep.velocity for rep in fast], _first(rep.why_no_velocity for rep in fast)
    roms = [rep.range_of_motion for rep in valid]
    works = [rep.work_J for rep in valid]
    paced = "wrong_intent" if session.intent != "max" else None
    no_work = _first(rep.why_no_work for rep in valid)
    readings: dict[str, Reading] = {
        "best_mean_velocity": picked(
            [rep.velocity for rep in valid], max, _first(rep.why_no_velocity for rep in valid)
        ),
        "velocity_loss_pct": paced or picked(velocities, fatigue.loss_best_to_last, no_velocity),
        "velocity_loss_last_two_pct": paced or picked(velocities, fatigue.loss_best_to_mean_of_last_two, no_velocity),
        "velocity_loss_robust_pct": paced or picked(velocities, _last_robust, no_velocity),
        "set_recovery": paced or _recovery(running, session, no_velocity),
        "rom_decay_pct": _by(fatigue.rom_decay, roms),
        "rom_cv_pct": _by(fatigue.rom_cv, roms),
        "time_under_load_s": round(running.tul_s, DECIMALS) if running.valid_count else "too_few_reps",
        "bottom_hold_time_s": picked([rep.bottom_hold_s for rep in valid], median, "open_at_end"),
        "work_J": no_work or picked(works, sum),
        "work_fatigue_pct": no_work or _by(fatigue.work_fatigue, works),
        "fatigue_index_pct": no_work or _by(fatigue.fatigue_index, works),
        "best_peak_force": picked([rep.peak_force for rep in valid], max, "no_channel"),
        **_force_slope([rep.peak_force for rep in valid]),
        "reps_in_reserve": _reserve(running.rpe),
        **_against_own(running, session),
    }
    return split(readings)


def _first(whys: Iterable[str | None]) -> str | None:
    return next((why for why in whys if why is not None), None)


def _last_robust(velocities: list[float]) -> float | None:
    return fatigue.velocity_loss_robust(velocities)[-1]


def _recovery(running: SetState, session: SessionState, no_velocity: str | None) -> Reading:
    """Compare the set's best velocity with the first set's; the first set is its own."""
    best = running.best_velocity
    if best is None:
        return no_velocity or "too_few_reps"
    recovery = fatigue.set_recovery(best, best if session.first_best is None else session.first_best)
    return "zero_denominator" if recovery is None else round(recovery, DECIMALS)


def _force_slope(peaks: Sequence[float | None]) -> dict[str, Reading]:
    slope = fatigue.force_slope(peaks)
    if slope is None:
        why = "no_channel" if None in peaks else undefined.why(fatigue.force_slope, peaks) or NO_INPUT
        return {"force_slope_pct": why, "force_slope_r2": why}
    r2: Reading = "zero_denominator" if slope.r2 is None else round(slope.r2, DECIMALS)
    return {"force_slope_pct": round(slope.pct_per_rep, DECIMALS), "force_slope_r2": r2}


def _against_own(running: SetState, session: SessionState) -> dict[str, Reading]:
    """Compare the mean force curve of the accepted reps with the patient's own, if each of them is comparable."""
    own, tempo_s = session.baseline, None if session.prescription is None else session.prescription.concentric_s
    kinds = {rep.corrected for rep in running.reps if rep.accepted} or {None}
    now = [Baseline(load_N=running.load_N, concentric_s=tempo_s, corrected=kind) for kind in kinds]
    if own is None or not all(is_comparable(own, one) for one in now):
        return dict.fromkeys(LIKENESS, "no_reference")
    reference = None if own.curve is None else similarity.from_bytes(own.curve)
    if reference is None:
        return dict.fromkeys(LIKENESS, "no_reference")
    if running.curve_sum is None:
        return dict.fromkeys(LIKENESS, "no_channel" if running.accepted else "too_few_reps")
    curve = similarity.from_bytes(curves.mean(running.curve_sum, running.curves))
    if curve is None:
        return dict.fromkeys(LIKENESS, "invalid_input")
    found: dict[str, Reading] = {}
    for name, metric in LIKENESS.items():
        value = metric(curve, reference)
        found[name] = undefined.why(metric, curve, reference) or NO_INPUT if value is None else round(value, DECIMALS)
    return found


def _reserve(rpe: int | None) -> Reading:
    """Return the reps that could still have been done by the reported exertion; below 7 the scale has no such meaning.

    Examples
    --------
    >>> _reserve(8), _reserve(4), _reserve(None)
    (2.0, 'not_calibrated', 'not_reported')
    """
    if rpe is None:
        return "not_reported"
    return float(HIGHEST_RPE - rpe) if rpe >= LOWEST_RPE_OF_RESERVE else "not_calibrated"


def split(readings: Mapping[str, Reading]) -> tuple[dict[str, float], dict[str, str]]:
    """Part readings into values and reasons.

    Examples
    --------
    >>> split({"work_J": 3.0, "rom_cv_pct": "too_few_reps"})
    ({'work_J': 3.0}, {'rom_cv_pct': 'too_few_reps'})
    """
    values = {name: value for name, value in readings.items() if not isinstance(value, str)}
    return values, {name: value for name, value in readings.items() if isinstance(value, str)}
