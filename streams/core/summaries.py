"""Summaries: a set and a session in numbers, from the notes that were taken of their reps."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from msgspec.structs import replace

from streams.core import fatigue
from streams.core.results import SessionSummarised, SetSummarised
from streams.core.session import MAX_TEMPO_ERRORS, RepNote, SessionState, SetState

DECIMALS = 6
"""Precision of a stored summary: finer than any sensor, coarse enough that no last bit shows."""

Reading = float | str
"""A value, or the reason why there is none."""


def _of(
    values: Sequence[float | None], pick: Callable[[list[float]], float | None], unknown: str = "too_few_reps"
) -> Reading:
    """Pick from what is known; `unknown` is the reason if there are values to pick from, and none is known."""
    known = [value for value in values if value is not None]
    if values and not known:
        return unknown
    picked = pick(known) if known else None
    return "too_few_reps" if picked is None else round(picked, DECIMALS)


def set_values(running: SetState, intent: str) -> tuple[dict[str, float], dict[str, str]]:
    """Return the set's metrics that are defined, and the reasons of those that are not."""
    valid = running.valid
    velocities = [rep.velocity for rep in running.fast]
    roms = [rep.range_of_motion for rep in valid]
    paced = "wrong_intent" if intent != "max" else None
    readings: dict[str, Reading] = {
        "best_mean_velocity": _of([rep.velocity for rep in valid], max, "gap"),
        "velocity_loss_pct": paced or _of(velocities, fatigue.loss_best_to_last),
        "velocity_loss_last_two_pct": paced or _of(velocities, fatigue.loss_best_to_mean_of_last_two),
        "velocity_loss_robust_pct": paced or _of(velocities, lambda known: fatigue.velocity_loss_robust(known)[-1]),
        "rom_decay_pct": _of(roms, fatigue.rom_decay),
        "rom_cv_pct": _of(roms, fatigue.rom_cv),
        "time_under_load_s": _of([rep.time_under_load_s for rep in valid], sum),
        "work_J": _of([rep.work_J for rep in valid], sum, "no_channel"),
        "best_peak_force": _of([rep.peak_force for rep in valid], max, "no_channel"),
    }
    return split(readings)


def split(readings: Mapping[str, Reading]) -> tuple[dict[str, float], dict[str, str]]:
    """Part readings into values and reasons.

    Examples
    --------
    >>> split({"work_J": 3.0, "rom_cv_pct": "too_few_reps"})
    ({'work_J': 3.0}, {'rom_cv_pct': 'too_few_reps'})
    """
    values = {name: value for name, value in readings.items() if not isinstance(value, str)}
    return values, {name: value for name, value in readings.items() if isinstance(value, str)}


def summarise_set(
    session: SessionState, running: SetState, *, machine: str, cause: str, now_ms: int, ended_by: str
) -> SetSummarised:
    """Put a set into one record."""
    values, undefined = set_values(running, session.intent)
    prescription = session.prescription
    return SetSummarised(
        id=f"{cause}/set",
        machine=machine,
        cause=cause,
        at_ms=now_ms,
        session=session.id,
        patient=session.patient,
        set_number=running.number,
        exercise=session.exercise,
        side=session.side,
        intent=session.intent,
        settings=session.settings,
        load_N=running.load_N,
        reps=running.received,
        valid_reps=running.valid_count,
        accepted_reps=running.accepted,
        target_reps=None if prescription is None else prescription.reps,
        incomplete=running.missing > 0,
        rpe=running.rpe,
        ended_by=ended_by,
        values=values,
        undefined=undefined,
        commands=running.commands,
    )


def add_rep(session: SessionState, rep: RepNote) -> SessionState:
    """Let a valid rep of the running set count towards the session."""
    errors = session.tempo_errors_pct
    if rep.tempo_error_pct is not None:
        errors = (*errors, rep.tempo_error_pct)[-MAX_TEMPO_ERRORS:]
    return replace(
        session,
        reps=session.reps + 1,
        valid_reps=session.valid_reps + rep.valid,
        tempo_errors_pct=errors,
        rom_completeness_min_pct=_least(session.rom_completeness_min_pct, rep.rom_completeness_pct),
        work_J=session.work_J if rep.work_J is None else round((session.work_J or 0.0) + rep.work_J, DECIMALS),
    )


def add_set(session: SessionState, ended: SetState, summary: SetSummarised) -> SessionState:
    """Let an ended set count towards the session."""
    losses = fatigue.velocity_loss_robust([rep.velocity for rep in ended.fast if rep.velocity is not None])
    known = [round(loss, DECIMALS) for loss in losses if loss is not None]
    known += [] if session.velocity_loss_max_pct is None else [session.velocity_loss_max_pct]
    return replace(
        session,
        set=None,
        sets=session.sets + 1,
        last_set_reps=ended.valid_count,
        fewest_set_reps=ended.valid_count
        if session.fewest_set_reps is None
        else min(session.fewest_set_reps, ended.valid_count),
        velocity_loss_max_pct=max(known, default=None),
        tul_last_set_s=summary.values.get("time_under_load_s"),
    )


def _least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def summarise_session(
    session: SessionState, *, machine: str, cause: str, now_ms: int, ended_by: str
) -> SessionSummarised:
    """Put a session into one record."""
    paced = "wrong_intent" if session.intent != "max" else "too_few_reps"
    values, undefined = split(
        {
            "rom_completeness_min_pct": _or(session.rom_completeness_min_pct, "no_reference"),
            "tempo_error_median_pct": _of(session.tempo_errors_pct or [None], median, "no_reference"),
            "velocity_loss_max_pct": _or(session.velocity_loss_max_pct, paced),
            "tul_last_set_s": _or(session.tul_last_set_s, "too_few_reps"),
            "work_J": _or(session.work_J, "no_channel" if session.valid_reps else "too_few_reps"),
        }
    )
    prescription = session.prescription
    done = (
        prescription is not None
        and session.sets >= prescription.sets
        and (session.fewest_set_reps or 0) >= prescription.reps
    )
    return SessionSummarised(
        id=f"{cause}/session",
        machine=machine,
        cause=cause,
        at_ms=now_ms,
        session=session.id,
        patient=session.patient,
        exercise=session.exercise,
        side=session.side,
        intent=session.intent,
        settings=session.settings,
        prescription=prescription,
        start_load_N=session.start_load_N,
        load_N=session.load_N,
        sets=session.sets,
        reps=session.reps,
        valid_reps=session.valid_reps,
        last_set_reps=session.last_set_reps,
        all_sets_done=done,
        incomplete=session.missing > 0,
        pain_max=session.pain_max,
        rpe_max=session.rpe_max,
        rules_fired=dict(session.rules_fired),
        ended_by=ended_by,
        values=values,
        undefined=undefined,
    )


def _or(value: float | None, reason: str) -> Reading:
    return reason if value is None else value
