"""Reps: how one repetition counts in its set, and what is said of it."""

from collections.abc import Mapping

from msgspec.structs import replace

from streams.core import curves, foresight, learning, repair, summaries
from streams.core.catalogue import OF_REPS
from streams.core.measure import INVALID_IN_ORDER, Measured, is_accepted
from streams.core.results import RepMeasured
from streams.core.session import Heard, SessionState
from streams.core.set_metrics import DECIMALS, Reading, split
from streams.core.sets import EARLY_REPS, MAX_REPS_KEPT, RepNote, SetState
from streams.core.telemetry import Rep
from streams.core.turn import Turn
from streams.core.visit import close_session, close_set, open_set

NOT_MEASURED = Measured(valid=False, reasons=(), values={}, undefined={})
"""What a rep is worth that went through no `prepare`; the controller never lets one through."""

MIN_HOLD_S = 0.15
"""Shortest hold in s; less is none (science.md 2.4) [default]."""

LATE: Mapping[str, Reading] = dict.fromkeys(foresight.REPS_LEFT, "no_reference")
"""What is foreseen of a rep whose set went on without it."""

NO_METRICS = {row.name: "invalid_rep" for row in OF_REPS}
"""Why an invalid rep has no metric, for each of them."""

TOLD_ONCE = {
    "sign_mismatch": "the device's own velocity has the opposite sign: calibrate it",
    "scale_mismatch": "the device's own velocity does not fit its position: calibrate it",
}
"""Reasons of a rep that someone must see to, told once a session."""


def count(turn: Turn, heard: Heard, rep: Rep) -> None:
    """Let a rep count in its set, ask the rules, and say what was measured and what it caused."""
    _find_place(turn, heard, rep)
    session = turn.session
    if session is not None and _is_of_other(session, rep):
        heard = heard if heard.measured is None else replace(heard, measured=_of_other_settings(heard.measured))
    elif session is not None and rep.calibrated not in {None, session.calibrated}:
        turn.change_session(calibrated=rep.calibrated)
    caused: str | None = None
    foreseen: Mapping[str, Reading] = LATE
    if turn.set is not None and turn.set.number == rep.set_number:
        _believe(turn, heard, rep)
        measured = heard.measured or NOT_MEASURED
        note = _note(heard, rep, measured, turn.set)
        turn.change_session(set=_with_rep(turn.set, note, measured, rep.t_us))
        if turn.session is not None:
            turn.change(session=summaries.add_rep(turn.session, note))
        _tell_once(turn, heard.id, measured)
        if turn.session is not None and turn.set is not None:
            foreseen = foresight.of_rep(turn.session, turn.set, note, turn.policy)
        caused = turn.ask("rep", heard.id, 8 * rep.seq)
        _learn(turn, note, measured)
    commands = () if caused is None else (caused,)
    turn.say(rep_measured(turn, heard, rep, turn.session, commands=commands, foreseen=foreseen))


def _is_of_other(session: SessionState, rep: Rep) -> bool:
    return (session.settings, session.exercise, session.side) != (rep.settings, rep.exercise, rep.side)


def _believe(turn: Turn, heard: Heard, rep: Rep) -> None:
    """Take over the load that a rep was done with, if it is less than we thought: decreases must begin there (S1).

    What differs by no more than half of the machine's increment is the same load, and a warm-up is no load to train
    with.
    """
    session, machine = turn.session, turn.state.capabilities
    if session is None or session.load_N is None or rep.warm_up:
        return
    if abs(rep.load_N - session.load_N) <= 0.5 * (machine.load_step_N if machine is not None else 0.0):
        return
    turn.change_session(load_N=min(rep.load_N, session.load_N))
    if not any(change.quantity == "load_N" for one in turn.state.pending for change in one.command.changes):
        detail = f"set {rep.set_number} is done with {rep.load_N} N instead of {session.load_N} N"
        turn.notice_once(heard.id, "other_load", detail, "warning", a_set=True)


def _of_other_settings(measured: Measured) -> Measured:
    """Take a rep that was not done as the session says, with another seat, say: nothing of it can be compared."""
    held = {reason for reason in measured.reasons if reason in INVALID_IN_ORDER} | {"unknown_settings"}
    reasons = tuple(reason for reason in INVALID_IN_ORDER if reason in held)
    return replace(
        measured, valid=False, reasons=reasons, values={}, undefined=dict(NO_METRICS), curve=None, torque_by_bin=None
    )


def _with_rep(running: SetState, note: RepNote, measured: Measured, t_us: int) -> SetState:
    """Let a rep count in its set."""
    has_curve = note.accepted and measured.curve is not None
    counted = replace(
        running,
        reps=(*running.reps, note)[-MAX_REPS_KEPT:],
        received=running.received + 1,
        invalid=running.invalid + (not note.valid),
        accepted=running.accepted + note.accepted,
        tul_s=round(running.tul_s + (note.time_under_load_s or 0.0), DECIMALS),
        curve_sum=curves.added(running.curve_sum, measured.curve or b"") if has_curve else running.curve_sum,
        curves=running.curves + has_curve,
        last=(note.number, t_us),
        why_invalid=running.why_invalid if note.valid else running.with_why(measured.reasons),
    )
    if note.valid and counted.valid_count in EARLY_REPS:
        return replace(counted, early_forces=(*counted.early_forces, note.end_range_force))
    return counted


def _tell_once(turn: Turn, cause: str, measured: Measured) -> None:
    if measured.marks_off_s is not None:
        detail = f"the machine's own phases are off by {measured.marks_off_s} s; those found here count"
        turn.notice_once(cause, "marks_off", detail, a_set=True)
    for reason, detail in TOLD_ONCE.items():
        if reason in measured.reasons:
            turn.notice_once(cause, reason, detail, "warning", a_set=False)


def _learn(turn: Turn, note: RepNote, measured: Measured) -> None:
    """Learn from an accepted rep, after the rules have judged it: it must not be its own reference."""
    session = turn.session
    if session is None or session.load_N is None or not note.accepted:
        return
    tempo_s = None if session.prescription is None else session.prescription.concentric_s
    turn.change_session(learned=learning.with_rep(session.learned, note, measured, session.load_N, tempo_s))


def _find_place(turn: Turn, heard: Heard, rep: Rep) -> None:
    """Open the session or set that the rep speaks of, if the message that should have done so was lost."""
    session = turn.session
    if session is None or session.id != rep.session:
        close_session(turn, heard.id, "superseded")
        opened = SessionState(
            id=rep.session,
            patient=None,
            exercise=rep.exercise,
            side=rep.side,
            intent=rep.intent,
            settings=rep.settings,
            started=True,
            prescription=rep.prescription,
            start_load_N=rep.load_N,
            load_N=rep.load_N,
            missing=1,
        )
        turn.change(session=opened)
        repair.opened(turn, rep.boot_id, rep.session)
    if turn.set is None or rep.set_number > turn.set.number:
        close_set(turn, heard.id, "superseded")
        turn.change_session(started=True)
        open_set(turn, heard.id, SetState(rep.set_number, rep.load_N, missing=1))


def _note(heard: Heard, rep: Rep, measured: Measured, running: SetState) -> RepNote:
    values = measured.values
    return RepNote(
        id=heard.id,
        number=rep.rep_number,
        valid=measured.valid,
        accepted=is_accepted(measured),
        is_fast=rep.intent == "max" and not rep.warm_up,
        velocity=values.get("mean_velocity"),
        range_of_motion=values.get("range_of_motion"),
        rom_completeness_pct=values.get("rom_completeness_pct"),
        tempo_error_pct=values.get("tempo_error_pct"),
        time_under_load_s=values.get("time_under_load_s"),
        work_J=values.get("concentric_work_J"),
        peak_force=values.get("peak_force"),
        concentric_s=values.get("concentric_time_s"),
        eccentric_s=values.get("eccentric_time_s"),
        is_bounced="bounce" in measured.reasons,
        is_paused="voluntary_pause" in measured.reasons,
        steadiness_pct=values.get("force_steadiness_cv_pct"),
        tremor_pct=values.get("tremor_index_force_pct"),
        end_range_force=values.get("end_range_force"),
        bottom_hold_s=_bottom_hold_s(running, rep, values.get("time_under_load_s")),
        corrected=rep.corrected,
        work_why=measured.undefined.get("concentric_work_J"),
        velocity_why=measured.undefined.get("mean_velocity"),
        rom_why=measured.undefined.get("rom_completeness_pct"),
        prescribed_s=_prescribed_s(rep),
        dwell_s=measured.dwell_s,
        tremor_velocity_pct=None if _has_load_cell(measured) else values.get("tremor_index_velocity_pct"),
    )


def _has_load_cell(measured: Measured) -> bool:
    return measured.undefined.get("tremor_index_force_pct") != "no_channel"


def _prescribed_s(rep: Rep) -> tuple[float | None, float | None]:
    told = rep.prescription
    if told is None:
        return None, None
    return None if rep.intent == "max" else told.concentric_s, told.eccentric_s


def _bottom_hold_s(running: SetState, rep: Rep, moved_s: float | None) -> float | None:
    """Return the time since the rep before ended, in s: messages come equally long after the ends of their reps."""
    if running.last is None or moved_s is None or running.last[0] != rep.rep_number - 1:
        return None
    apart_s = (rep.t_us - running.last[1]) * 1e-6
    hold_s = round(apart_s - moved_s, DECIMALS)
    if hold_s < -MIN_HOLD_S:
        return None  # the clock and the movement contradict each other
    return hold_s if hold_s >= MIN_HOLD_S else 0.0


def rep_measured(
    turn: Turn,
    heard: Heard,
    rep: Rep,
    session: SessionState | None = None,
    *,
    commands: tuple[str, ...] = (),
    foreseen: Mapping[str, Reading] = LATE,
) -> RepMeasured:
    """Put one rep into numbers; `session` None leaves the patient open."""
    measured = heard.measured or NOT_MEASURED
    values, undefined = split(foreseen)
    return RepMeasured(
        id=f"{heard.id}/rep",
        machine=turn.state.machine,
        cause=heard.id,
        at_ms=turn.now_ms,
        boot_id=rep.boot_id,
        seq=rep.seq,
        session=rep.session,
        patient=None if session is None else session.patient,
        set_number=rep.set_number,
        rep_number=rep.rep_number,
        exercise=rep.exercise,
        side=rep.side,
        intent=rep.intent,
        settings=rep.settings,
        load_N=rep.load_N,
        valid=measured.valid,
        reasons=measured.reasons,
        values={**measured.values, **values},
        undefined={**measured.undefined, **undefined},
        commands=commands,
        corrected=rep.corrected,
    )
