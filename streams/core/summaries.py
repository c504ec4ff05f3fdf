"""Summaries: a set and a session in one record each, from the notes that were taken of their reps."""

from statistics import median

from msgspec.structs import replace

from streams.core import adaptive, foresight, learning
from streams.core.results import SessionSummarised, SetSummarised
from streams.core.session import MAX_TEMPO_ERRORS, SessionState
from streams.core.set_metrics import DECIMALS, Reading, picked, set_values, split
from streams.core.sets import RepNote, SetState

LIGHTER_N = 0.5
"""How much less load in N than prescribed is still as prescribed: less than any machine's increment."""


def summarise_set(
    session: SessionState, running: SetState, *, machine: str, cause: str, now_ms: int, ended_by: str
) -> SetSummarised:
    """Put a set into one record."""
    values, reasons = set_values(running, session)
    foreseen, unforeseen = split(foresight.of_set(session, running))
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
        values={**values, **foreseen},
        undefined={**reasons, **unforeseen},
        commands=running.commands,
        corrected=running.corrected,
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
        work_why=session.work_why or rep.why_no_work,
        rom_why=session.rom_why or rep.why_no_rom,
    )


def add_set(session: SessionState, ended: SetState, summary: SetSummarised) -> SessionState:
    """Let an ended set count towards the session; for progress only a work set, by its accepted reps (rule 14)."""
    if _is_work(session, ended):
        session = replace(
            session,
            work_sets=session.work_sets + 1,
            last_set_reps=ended.accepted,
            fewest_set_reps=min(ended.accepted, session.fewest_set_reps or ended.accepted),
            tul_last_set_s=summary.values.get("time_under_load_s"),
            is_loss_known=session.is_loss_known and "velocity_loss_robust_pct" in summary.values,
        )
    losses = (session.velocity_loss_max_pct, summary.values.get("velocity_loss_robust_pct"))
    model = foresight.learned(session, ended)
    return replace(
        session,
        set=None,
        sets=session.sets + 1,
        velocity_loss_max_pct=max((loss for loss in losses if loss is not None), default=None),
        velocity_loss_why=session.velocity_loss_why or summary.undefined.get("velocity_loss_robust_pct"),
        model=model,
        taught=session.taught or (model or adaptive.PRIOR) != (session.model or adaptive.PRIOR),
        first_best=ended.best_velocity if session.first_best is None else session.first_best,
    )


def _is_work(session: SessionState, ended: SetState) -> bool:
    """Tell whether a set is one of those that were prescribed: no warm-up, and not lighter."""
    prescription, load_N = session.prescription, session.load_N
    is_heavy = prescription is None or load_N is None or load_N >= prescription.load_N - LIGHTER_N
    return ended.accepted > 0 and is_heavy


def _least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def summarise_session(
    session: SessionState, *, machine: str, cause: str, now_ms: int, ended_by: str
) -> SessionSummarised:
    """Put a session into one record."""
    paced = "wrong_intent" if session.intent != "max" else "too_few_reps"
    unheard = "no_channel" if session.learned.load_N is not None else "too_few_reps"
    values, reasons = split(
        {
            "rom_completeness_min_pct": session.rom_why or _or(session.rom_completeness_min_pct, "no_reference"),
            "tempo_error_median_pct": picked(session.tempo_errors_pct or [None], median, "no_reference"),
            "velocity_loss_max_pct": _or(
                session.velocity_loss_max_pct if session.is_loss_known else None, session.velocity_loss_why or paced
            ),
            "tul_last_set_s": _or(session.tul_last_set_s, "too_few_reps"),
            "work_J": session.work_why or _or(session.work_J, "too_few_reps"),
            "best_peak_force": _or(session.learned.best_force, unheard),
            "symmetry_index_pct": picked(
                session.learned.symmetries_pct or [None], median, session.learned.symmetry_why or unheard
            ),
        }
    )
    prescription = session.prescription
    done = (
        prescription is not None
        and session.work_sets >= prescription.sets
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
        undefined=reasons,
        pain_start=session.pain_start,
        baseline=learning.baseline(session.learned),
        model=session.model,
        corrected=session.learned.corrected,
        torque_by_bin=session.learned.torque_by_bin,
    )


def _or(value: float | None, reason: str) -> Reading:
    return reason if value is None else value
