"""Visit: what a machine tells of a session: requested, started, its sets, what the patient feels, who edited what."""

from msgspec.structs import replace

from streams.core import summaries
from streams.core.results import PainReported, PatientScreened, PlanEdited, PlanRequested
from streams.core.session import Heard, SessionState
from streams.core.sets import SetState
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
            baseline=asked.baseline,
            model=asked.model,
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
    session = turn.session
    since_us = None if session is None or session.set_ended_us is None else message.t_us - session.set_ended_us
    rest_s = since_us * 1e-6 if since_us is not None and since_us >= 0 else None
    opened = SetState(message.set_number, message.load_N, rest_s=rest_s)
    turn.change_session(load_N=message.load_N, set=opened, between=())


def set_ended(turn: Turn, heard: Heard, message: SetEnded) -> None:
    """Ask the rules of a set's end, then close the set."""
    session = turn.session
    if session is None or session.id != message.session or turn.set is None:
        return
    turn.change_set(rpe=turn.set.rpe if message.rpe is None else message.rpe)
    turn.change_session(rpe_max=_most(session.rpe_max, message.rpe))
    turn.ask("set_end", heard.id, 8 * message.seq)
    close_set(turn, heard.id, "machine")
    turn.change_session(set_ended_us=message.t_us)


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
    """Take note of what the patient feels, then ask the rules.

    What was felt on another day is no pain of today: it goes to the patient's diary, and no rule sees it. A symptom is
    dangerous whenever it was felt.
    """
    if message.felt != "now":
        diary(turn, heard, message)
        message = replace(message, pain_nrs=None, rpe=None, position=None)
    session = turn.session
    if session is not None:
        turn.change_session(
            pain_max=_most(session.pain_max, message.pain_nrs), rpe_max=_most(session.rpe_max, message.rpe)
        )
    if message.rpe is not None:
        turn.change_set(rpe=message.rpe)
    raised(turn, heard, message)


def diary(turn: Turn, heard: Heard, message: SymptomReported, *, is_late: bool = False) -> None:
    """Pass a pain of another day on to the planner: the patient's who is named, else of whoever trains here now."""
    if message.pain_nrs is None:
        return
    session, patient = turn.session, message.patient
    if patient is None and session is not None:
        is_theirs = message.session == session.id or (message.session is None and not is_late)
        patient = session.patient if is_theirs else None
    if patient is None:
        turn.notice(heard.id, "whose_pain", f"pain {message.pain_nrs}, {message.felt}, of nobody known", "warning")
        return
    turn.say(
        PainReported(
            id=heard.id,
            machine=turn.state.machine,
            cause=heard.id,
            at_ms=turn.now_ms,
            patient=patient,
            felt=message.felt,
            pain_nrs=message.pain_nrs,
        )
    )


def raised(turn: Turn, heard: Heard, message: SymptomReported | ButtonPressed | FaultRaised) -> None:
    """Ask the rules what an event demands."""
    turn.ask("event", heard.id, 8 * message.seq, event=message)


def screened(turn: Turn, heard: Heard, message: Screened) -> None:
    """Take note of a screening, for the envelope and for the planner, unless a later one is known."""
    if _is_outdated(turn, message):
        turn.notice(heard.id, "late", f"screened as {message.outcome}, and again since", "warning")
    else:
        turn.change(screened=(message.patient, message.outcome), screened_seq=message.seq)
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
    turn.ask("event", heard.id, 8 * message.seq, event=message)  # a red flag locks (S23), however late it comes


def _is_outdated(turn: Turn, message: Screened) -> bool:
    """Tell whether this patient was screened again in this boot, after the screening that is told only now."""
    known, boot = turn.state.screened, turn.state.boot
    if known is None or known[0] != message.patient or boot is None or turn.state.screened_seq < 0:
        return False
    return message.boot_id != boot.boot_id or message.seq < turn.state.screened_seq


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
            reps_max=message.reps_max,
            tul_max_s=message.tul_max_s,
            per_week=message.per_week,
            goal_load_N=message.goal_load_N,
            mvt=message.mvt,
        )
    )


def released(turn: Turn, heard: Heard, message: Released) -> None:
    """Unlock the machine: only a clinician can."""
    turn.change(locked=False)
    turn.notice(heard.id, "released", f"by {message.by}")
