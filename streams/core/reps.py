"""Reps: how one repetition counts in its set, and what is said of it."""

from streams.core import summaries
from streams.core.measure import Measured, is_accepted
from streams.core.results import RepMeasured
from streams.core.session import MAX_REPS_KEPT, Heard, RepNote, SessionState, SetState
from streams.core.telemetry import Rep
from streams.core.turn import Turn
from streams.core.visit import close_session, close_set

NOT_MEASURED = Measured(valid=False, reasons=(), values={}, undefined={})
"""What a rep is worth that went through no `prepare`; the controller never lets one through."""


def count(turn: Turn, heard: Heard, rep: Rep) -> None:
    """Let a rep count in its set, ask the rules, and say what was measured and what it caused."""
    _find_place(turn, heard, rep)
    caused: str | None = None
    if turn.set is not None and turn.set.number == rep.set_number:
        note = _note(heard, rep)
        running = turn.set
        turn.change_set(
            reps=(*running.reps, note)[-MAX_REPS_KEPT:],
            received=running.received + 1,
            invalid=running.invalid + (not note.valid),
            accepted=running.accepted + note.accepted,
        )
        if turn.session is not None:
            turn.change(session=summaries.add_rep(turn.session, note))
        caused = turn.ask("rep", heard.id, 8 * rep.seq)
    turn.say(rep_measured(turn, heard, rep, turn.session, () if caused is None else (caused,)))


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
    if turn.set is None or rep.set_number > turn.set.number:
        close_set(turn, heard.id, "superseded")
        turn.change_session(started=True, load_N=rep.load_N, set=SetState(rep.set_number, rep.load_N, missing=1))


def _note(heard: Heard, rep: Rep) -> RepNote:
    measured = heard.measured or NOT_MEASURED
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
    )


def rep_measured(
    turn: Turn, heard: Heard, rep: Rep, session: SessionState | None, commands: tuple[str, ...]
) -> RepMeasured:
    """Put one rep into numbers; `session` None leaves the patient open."""
    measured = heard.measured or NOT_MEASURED
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
        values=measured.values,
        undefined=measured.undefined,
        commands=commands,
    )
