"""Visit: what a machine tells of a session: requested, started, its sets, what the patient feels, who edited what."""

from msgspec.structs import replace

from streams.core import acknowledgements, repair, summaries
from streams.core.plans import FOR_SCREENING, PlanRecalled
from streams.core.results import PainReported, PatientScreened, PlanEdited, PlanRequested
from streams.core.session import MAX_RECENT, Heard, SessionState
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
from streams.core.trouble import is_painful
from streams.core.turn import PLANNED, Turn


def requested(turn: Turn, heard: Heard, message: SessionRequested) -> None:
    """Open a session that waits for its plan, and ask the planner for one.

    How the patient was screened is the planner's to say: since it was told here, another machine may have been told
    something else (S23). What was said after the request is newer, though it was heard before.
    """
    close_session(turn, heard.id, "superseded")
    if turn.state.screened_seq < message.seq:
        turn.change(screened=None)
    session = SessionState(
        id=message.session,
        patient=message.patient,
        exercise=message.exercise,
        side=message.side,
        intent=message.intent,
        settings=message.settings,
        began_ms=turn.now_ms,
    )
    turn.change(session=session)
    _ask_for_plan(turn, heard, message, session, message.patient)


def _ask_for_plan(
    turn: Turn,
    heard: Heard,
    message: SessionRequested | SessionStarted | SymptomReported | ClinicianEdited,
    session: SessionState,
    patient: str,
) -> None:
    """Ask the planner for the plan of a session that waits; only the answer to this question counts."""
    match message:
        case SessionRequested():
            identity = heard.id
        case SessionStarted():
            identity = heard.id + FOR_SCREENING
        case _:  # an edit and a symptom have ids of their own
            identity = f"{heard.id}/request"
    _say_request(turn, identity, heard.id, (message.boot_id, message.seq), session, patient)


def _say_request(  # noqa: PLR0917 - all that a request says beside the session
    turn: Turn, identity: str, cause: str, place: tuple[str, int], session: SessionState, patient: str
) -> None:
    turn.change_session(request_id=identity, recalled=None)
    turn.say(
        PlanRequested(
            id=identity,
            machine=turn.state.machine,
            cause=cause,
            at_ms=turn.now_ms,
            boot_id=place[0],
            seq=place[1],
            session=session.id,
            patient=patient,
            exercise=session.exercise,
            side=session.side,
            intent=session.intent,
            settings=session.settings,
            capabilities=turn.state.capabilities,
            locked=turn.state.locked,
        )
    )


def started(turn: Turn, heard: Heard, message: SessionStarted) -> None:
    """Begin the session under the prescription that the machine holds.

    Pain that is told here is pain: the rules hear of it as of any other, and of the worst that was told before, when
    there was no load to take any off. If nobody has asked the planner and nobody knows that the patient is screened as
    clear, it is asked now, for that alone: or else no command but STOP is allowed (S23).
    """
    if turn.session is not None and _is_another(turn.session, message):
        close_session(turn, heard.id, "superseded")
    if turn.session is not None and turn.session.is_known:
        _goes_on(turn, heard, message)
        return
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
        began_ms=turn.now_ms,
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
            began_ms=asked.began_ms,
            missing=asked.missing if asked.started else 0,
            tightened=asked.tightened,
            screening=asked.screening,
        )
        if _is_alike(asked, message):  # of another seat, side, exercise or intent they say nothing
            session = replace(session, baseline=asked.baseline, model=asked.model)
    turn.change(session=session)
    if turn.known().screening != "clear" and (asked is None or asked.request_id is None):
        _ask_for_plan(turn, heard, message, session, message.patient)
    waited_in = asked.pain_max if asked is not None and not (asked.started or asked.over) else None
    if message.pain_nrs is not None or waited_in is not None:
        felt = replace(message, pain_nrs=_most(message.pain_nrs, waited_in))
        turn.ask("event", heard.id, turn.sequence_of(message), event=felt)


def _is_another(session: SessionState, message: SessionStarted) -> bool:
    """Tell whether a start is of another session than the one that is heard of, or of somebody else in one of its name.

    What was begun and goes on in another seat, side, exercise or intent is another one, too: nothing is shared by them.
    """
    if session.id != message.session or session.patient not in {None, message.patient}:
        return True
    return session.is_known and not _is_alike(session, message)


def _is_alike(session: SessionState, message: SessionStarted) -> bool:
    """Tell whether a session begins as it was begun or asked for: reps of the two can be compared (science.md 5)."""
    told = (message.exercise, message.side, message.intent, message.settings)
    return told == (session.exercise, session.side, session.intent, session.settings)


def _goes_on(turn: Turn, heard: Heard, message: SessionStarted) -> None:
    """Take a start that is said again for what it tells of pain: what was done, and what was taken off, stays."""
    if message.pain_nrs is not None and turn.session is not None:
        turn.change_session(pain_max=_most(turn.session.pain_max, message.pain_nrs))
        turn.ask("event", heard.id, turn.sequence_of(message), event=message)


def ended(turn: Turn, heard: Heard, message: SessionEnded) -> None:
    """Close the session."""
    if turn.session is not None and turn.session.id == message.session:
        close_session(turn, heard.id, message.reason)


def close_session(turn: Turn, cause: str, ended_by: str) -> None:
    """Summarise the session and what is open of it, if it had begun or if there was trouble before it could (S7)."""
    close_set(turn, cause, ended_by)
    session = turn.session
    if session is None:
        return
    is_told = session.started or session.is_troubled
    if is_told:
        summary = summaries.summarise_session(
            session, machine=turn.state.machine, cause=cause, now_ms=turn.now_ms, ended_by=ended_by
        )
        turn.say(replace(summary, began_ms=session.began_ms))
    repair.over(turn, cause, session.id, is_told=is_told)
    if session.patient is not None:
        turn.change(recent=(*turn.state.recent, (session.id, session.patient))[-MAX_RECENT:])
        if turn.state.screened == (session.patient, "clear"):  # it held for this visit; the next plan says it again
            turn.change(screened=None)
    turn.change(session=None)


def set_started(turn: Turn, heard: Heard, message: SetStarted) -> None:
    """Open a set; the session has begun with it, whether anybody heard it start or not.

    A set of another session ends the one that was heard of last; its first rep tells more of it.
    """
    if turn.session is not None and turn.session.id != message.session:
        close_session(turn, heard.id, "superseded")
    close_set(turn, heard.id, "superseded")
    turn.change_session(started=True)
    session = turn.session
    since_us = None if session is None or session.set_ended_us is None else message.t_us - session.set_ended_us
    rest_s = since_us * 1e-6 if since_us is not None and since_us >= 0 else None
    open_set(turn, heard.id, SetState(message.set_number, message.load_N, rest_s=rest_s))


def open_set(turn: Turn, cause: str, opened: SetState) -> None:
    """Begin a set, whoever tells of it, with no more than the decreases of this session have left."""
    cut_N = None if turn.session is None else turn.session.cut_N
    is_back_up = cut_N is not None and opened.load_N > cut_N
    turn.change_session(load_N=cut_N if is_back_up else opened.load_N, set=opened, between=())
    if is_back_up:
        detail = f"set {opened.number} begins with {opened.load_N} N, of which {cut_N} N were left"
        turn.notice(cause, "load_back_up", detail, "alarm")


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

    What was felt on another day is no pain of today: it goes to the patient's diary, and no rule sees it. What is told
    of a session that is over, or of someone who does not train here now, goes there too. A symptom is dangerous
    whenever it was felt. A session that waits for its start gets another plan: the one that it has knows no such pain,
    and holds no load either: what rule 2 took off one that was taken up, the next plan would put back.
    """
    told = message
    if message.felt != "now" or is_of_another(turn, message):
        diary(turn, heard, message)
    if message.felt != "now":
        message = replace(message, pain_nrs=None, rpe=None, position=None)
    session = turn.session
    if session is not None:
        turn.change_session(
            pain_max=_most(session.pain_max, message.pain_nrs), rpe_max=_most(session.rpe_max, message.rpe)
        )
        if session.waits and is_painful(message.pain_nrs):
            turn.change_session(load_N=None)
    if message.rpe is not None:
        turn.change_set(rpe=message.rpe)
    raised(turn, heard, message)
    _plan_again(turn, heard, told)


def _plan_again(turn: Turn, heard: Heard, told: SymptomReported) -> None:
    """Withdraw the plan of a session that waits, and ask for another, if its patient tells of pain meanwhile (S7)."""
    session = turn.session
    if session is None or session.patient is None or not session.waits or session.over or turn.state.locked:
        return
    is_pain = is_painful(told.pain_nrs) or (told.pain_nrs is not None and told.felt != "now")
    if not is_pain or is_of_another(turn, told) or not turn.is_of_this_boot(told):
        return
    if told.felt == "now":  # of any other the diary tells the planner
        turn.tell_of_trouble("pain_reduce", heard.id, f"{heard.id}/pain_reduce")
    acknowledgements.withdraw(turn, heard.id, session.id, "pain")
    _ask_for_plan(turn, heard, told, session, session.patient)


def recalled(turn: Turn, told: PlanRecalled) -> None:
    """Withdraw the plan of a session that waits: its patient had trouble since, maybe at another machine (S7).

    One that strong pain has ended gets no other, as after an edit; after a STOP the release asks for one.
    """
    session = turn.session
    if session is None or not session.waits or session.over or session.request_id != told.request:
        return
    acknowledgements.withdraw(turn, told.cause, session.id, "recalled")
    turn.change_session(recalled=(told.id, told.cause))


def look_after_recalled(turn: Turn) -> None:
    """Ask for the plan that takes the place of a recalled one, as soon as it would have a place of its own (S10).

    A plan has the last place of a message: if nothing was heard since the first, there is none before the next.
    """
    session, boot = turn.session, turn.state.boot
    if session is None or session.recalled is None or boot is None or session.patient is None:
        return
    if not session.waits or session.over or turn.state.locked:
        return
    if 8 * (boot.due - 1) + PLANNED > turn.state.last_sequence:
        told, cause = session.recalled
        _say_request(turn, f"{told}/request", cause, (boot.boot_id, boot.due - 1), session, session.patient)


def is_of_another(turn: Turn, message: SymptomReported) -> bool:
    """Tell whether a report names a session or a patient that is not here, or if nobody knows who is here."""
    session = turn.session
    if session is not None and session.patient is None:
        return True
    if message.session is not None:
        return session is None or message.session != session.id
    return message.patient is not None and (session is None or message.patient != session.patient)


def diary(turn: Turn, heard: Heard, message: SymptomReported, *, is_late: bool = False) -> None:
    """Pass on to the planner what does not belong to the running session: a pain, or a symptom."""
    if message.pain_nrs is None and message.symptom == "none":
        return
    patient = _whose(turn, message, is_late=is_late)
    if patient is None:
        what = f"pain {message.pain_nrs}" if message.symptom == "none" else message.symptom
        turn.notice(heard.id, "whose_pain", f"{what}, {message.felt}, of nobody known", "warning")
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
            symptom=message.symptom,
            session=_which(turn, message, patient),
            exercise=None if turn.state.capabilities is None else turn.state.capabilities.exercise,
        )
    )


def started_late(turn: Turn, heard: Heard, message: SessionStarted) -> None:
    """Learn from a start that comes too late whose session it is that runs, and answer what was felt in it since.

    Until then no rule could act for its patient, and the planner knew of no trouble (S7, S23).
    """
    _pain_at_start(turn, heard, message)
    session = turn.session
    if session is None or session.id != message.session or session.patient is not None:
        return
    pain_max = _most(session.pain_max, message.pain_nrs)
    turn.change_session(patient=message.patient, pain_start=message.pain_nrs, pain_max=pain_max)
    if turn.known().screening != "clear":
        _ask_for_plan(turn, heard, message, session, message.patient)
    if session.is_troubled:
        turn.tell_of_trouble("pain_reduce", heard.id, f"{heard.id}/pain_reduce")
    if pain_max is not None:
        turn.ask("event", heard.id, turn.sequence_now(), event=replace(message, pain_nrs=pain_max))


def _pain_at_start(turn: Turn, heard: Heard, message: SessionStarted) -> None:
    """Pass on to the planner the pain of a start that comes too late for its session: nobody else will tell it."""
    felt = SymptomReported(
        boot_id=message.boot_id,
        seq=message.seq,
        t_us=message.t_us,
        session=message.session,
        patient=message.patient,
        pain_nrs=message.pain_nrs,
    )
    diary(turn, heard, felt, is_late=True)


def _which(turn: Turn, message: SymptomReported, patient: str) -> str | None:
    """Return the session that is meant: the one that is named, else the last of this patient's that is over."""
    if message.session is not None or message.felt != "now":
        return message.session
    return next((session for session, whose in reversed(turn.state.recent) if whose == patient), None)


def _whose(turn: Turn, message: SymptomReported, *, is_late: bool) -> str | None:
    """Return who is meant: the patient who is named, or of the session that is named, else whoever trains here now."""
    session, named = turn.session, message.session
    if message.patient is not None:
        return message.patient
    if session is not None and (named == session.id or (named is None and not is_late)):
        if session.patient is not None:
            return session.patient
        named = session.id  # it goes on after it was over, and no rep says whose it is
    return dict(turn.state.recent).get(named or "")


def raised(turn: Turn, heard: Heard, message: SymptomReported | ButtonPressed | FaultRaised | Screened) -> None:
    """Ask the rules what an event demands."""
    after_seq = None if turn.is_of_this_boot(message) else turn.latest()
    turn.ask("event", heard.id, turn.sequence_of(message), event=message, after_seq=after_seq)


def screened(turn: Turn, heard: Heard, message: Screened) -> None:
    """Take note of a screening, for the envelope and for the planner, unless a later one is known."""
    if _is_outdated(turn, message):
        turn.notice(heard.id, "late", f"screened as {message.outcome}, and again since", "warning")
    else:
        turn.note_screening(message)
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
    raised(turn, heard, message)  # a red flag locks (S23), however late it comes


def _is_outdated(turn: Turn, message: Screened) -> bool:
    """Tell whether this patient was screened again in this boot, after the screening that is told only now."""
    known, boot = turn.state.screened, turn.state.boot
    if known is None or known[0] != message.patient or boot is None or turn.state.screened_seq < 0:
        return False
    return message.boot_id != boot.boot_id or message.seq < turn.state.screened_seq


def edited(turn: Turn, heard: Heard, message: ClinicianEdited) -> None:
    """Pass a clinician's bounds and targets on to the planner; a session that waits for its plan gets another one.

    One that strong pain or a STOP has ended gets none: the patient resumes in the next session (rule 1), or after the
    release, which asks for a plan of its own.
    """
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
    session = turn.session
    if session is None or not session.waits:
        return
    if (session.patient, session.exercise, session.side) != (message.patient, message.exercise, message.side):
        return
    if session.over:
        turn.notice(heard.id, "edit_for_next_session", f"by {message.by}, this session was ended")
        return
    acknowledgements.withdraw(turn, heard.id, session.id, "edited")
    _ask_for_plan(turn, heard, message, session, message.patient)


def released(turn: Turn, heard: Heard, message: Released) -> None:
    """Unlock the machine: only a clinician can, and only after the last STOP (S8).

    A session that the STOP met before its start may begin after all, under another plan: the one that its machine has
    knows nothing of the danger (S7). Not so one that strong pain has ended (rule 1).
    """
    if turn.is_before_last_stop(message):
        turn.notice(heard.id, "release_ignored", f"by {message.by}, before the last STOP", "warning")
        return
    turn.change(locked=False)
    if turn.is_of_this_boot(message):
        turn.change(released_seq=max(turn.state.released_seq, message.seq))
    turn.notice(heard.id, "released", f"by {message.by}")
    session = turn.session
    if session is not None and session.waits and session.over and "pain_stop" not in dict(session.rules_fired):
        acknowledgements.withdraw(turn, heard.id, session.id, "released")
        turn.change_session(over=False, recalled=(heard.id, heard.id))
