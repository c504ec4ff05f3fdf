"""Visit: what a machine tells of a session: requested, started, its sets, what the patient feels, who edited what."""

from msgspec.structs import replace

from streams.core import summaries
from streams.core.results import PatientScreened, PlanEdited, PlanRequested
from streams.core.session import Heard, SessionState, SetState
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    FaultRaised,
    Released,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
)
from streams.core.turn import Turn


def requested(turn: Turn, heard: Heard, message: SessionRequested) -> None:
    """Open a session that waits for its plan, and ask the planner for one."""
    close_session(turn, heard.id, "superseded")
    session = SessionState(
        id=message.session,
        patient=message.patient,
        exercise=message.exercise,
        side=message.side,
        intent=message.intent,
        settings=message.settings,
        request_id=heard.id,
    )
    turn.change(session=session)
    turn.say(
        PlanRequested(
            id=heard.id,
            machine=turn.state.machine,
            cause=heard.id,
            at_ms=turn.now_ms,
            boot_id=message.boot_id,
            seq=message.seq,
            session=message.session,
            patient=message.patient,
            exercise=message.exercise,
            side=message.side,
            intent=message.intent,
            settings=message.settings,
            capabilities=turn.state.capabilities,
            locked=turn.state.locked,
        )
    )


def started(turn: Turn, heard: Heard, message: SessionStarted) -> None:
    """Begin the session under the prescription that the machine holds."""
    if turn.session is None or turn.session.id != message.session:
        close_session(turn, heard.id, "superseded")
    load_N = None if message.prescription is None else message.prescription.load_N
    session = SessionState(
        id=message.session,
        patient=message.patient,
        exercise=message.exercise,
        side=message.side,
        intent=message.intent,
        settings=message.settings,
        started=True,
        prescription=message.prescription,
        start_load_N=load_N,
        load_N=load_N,
        pain_start=message.pain_nrs,
        pain_max=message.pain_nrs,
    )
    asked = turn.session
    if asked is not None:  # what went wrong between the request and the start went wrong in this session
        session = replace(
            session,
            over=asked.over,
            rules_fired=asked.rules_fired,
            between=asked.between,
            pain_max=_most(asked.pain_max, message.pain_nrs),
            rpe_max=asked.rpe_max,
        )
    turn.change(session=session)


def ended(turn: Turn, heard: Heard, message: SessionEnded) -> None:
    """Close the session."""
    if turn.session is not None and turn.session.id == message.session:
        close_session(turn, heard.id, message.reason)


def close_session(turn: Turn, cause: str, ended_by: str) -> None:
    """Summarise the session and what is open of it, if it had begun."""
    close_set(turn, cause, ended_by)
    session = turn.session
    if session is not None and session.started:
        turn.say(
            summaries.summarise_session(
                session, machine=turn.state.machine, cause=cause, now_ms=turn.now_ms, ended_by=ended_by
            )
        )
    turn.change(session=None)


def set_started(turn: Turn, heard: Heard, message: SetStarted) -> None:
    """Open a set."""
    close_set(turn, heard.id, "superseded")
    turn.change_session(load_N=message.load_N, set=SetState(message.set_number, message.load_N), between=())


def set_ended(turn: Turn, heard: Heard, message: SetEnded) -> None:
    """Ask the rules of a set's end, then close the set."""
    session = turn.session
    if session is None or session.id != message.session or turn.set is None:
        return
    turn.change_set(rpe=message.rpe)
    turn.change_session(rpe_max=_most(session.rpe_max, message.rpe))
    turn.ask("set_end", heard.id, 8 * message.seq)
    close_set(turn, heard.id, "machine")


def close_set(turn: Turn, cause: str, ended_by: str) -> None:
    """Summarise the running set, if there is one."""
    session = turn.session
    if session is None or session.set is None:
        return
    summary = summaries.summarise_set(
        session, session.set, machine=turn.state.machine, cause=cause, now_ms=turn.now_ms, ended_by=ended_by
    )
    turn.say(summary)
    turn.change(session=summaries.add_set(session, session.set, summary))


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def symptom(turn: Turn, heard: Heard, message: SymptomReported) -> None:
    """Take note of what the patient feels, then ask the rules."""
    session = turn.session
    if session is not None:
        turn.change_session(
            pain_max=_most(session.pain_max, message.pain_nrs), rpe_max=_most(session.rpe_max, message.rpe)
        )
    raised(turn, heard, message)


def raised(turn: Turn, heard: Heard, message: SymptomReported | ButtonPressed | FaultRaised) -> None:
    """Ask the rules what an event demands."""
    turn.ask("event", heard.id, 8 * message.seq, event=message)


def screened(turn: Turn, heard: Heard, message: Screened) -> None:
    """Take note of a screening, for the envelope and for the planner."""
    turn.change(screened=(message.patient, message.outcome))
    turn.say(
        PatientScreened(
            id=heard.id,
            machine=turn.state.machine,
            cause=heard.id,
            at_ms=turn.now_ms,
            patient=message.patient,
            outcome=message.outcome,
            by=message.by,
        )
    )
    turn.ask("event", heard.id, 8 * message.seq, event=message)  # a red flag locks (S23)


def edited(turn: Turn, heard: Heard, message: ClinicianEdited) -> None:
    """Pass a clinician's bounds and targets on to the planner."""
    turn.say(
        PlanEdited(
            id=heard.id,
            machine=turn.state.machine,
            cause=heard.id,
            at_ms=turn.now_ms,
            patient=message.patient,
            exercise=message.exercise,
            side=message.side,
            by=message.by,
            load_cap_N=message.load_cap_N,
            prescription=message.prescription,
            guarded=message.guarded,
        )
    )


def released(turn: Turn, heard: Heard, message: Released) -> None:
    """Unlock the machine: only a clinician can."""
    turn.change(locked=False)
    turn.notice(heard.id, "released", f"by {message.by}")
