"""Boots: the order and the life of a machine's boots. What is due is heard, what can't wait is heard at once."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from msgspec.structs import replace

from streams.core import acknowledgements, codec, order, repair, reps, seen, visit
from streams.core.errors import Malformed
from streams.core.operators import OperatorAsked
from streams.core.order import Hole
from streams.core.plans import PlanMade, ScreeningTold
from streams.core.session import MAX_ASKED, MAX_GONE, MAX_PAST_BOOTS, Boot, Heard
from streams.core.sets import MAX_LOST
from streams.core.situation import LinkLoss
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    FaultRaised,
    Heartbeat,
    Online,
    Ordered,
    Presence,
    Released,
    Rep,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
)
from streams.core.turn import Turn


def ordered(turn: Turn, heard: Heard) -> None:
    """Act on a message in its boot's order; on what can't wait, at once."""
    boot = _boot_of(turn, heard)
    if boot is None:
        return _of_past_boot(turn, heard)
    if not order.is_next(boot, heard.message.seq):
        if order.is_repeated(boot, heard.message.seq):
            return None
        if order.is_given_up(boot, heard.message.seq):
            turn.change(boot=order.fill(boot, heard.message.seq))
            repair.filled(turn, heard)
            return _too_late(turn, heard)
        if heard.message.seq > boot.due and _may_overtake(turn, heard.message):
            boot, holes = order.place_now(boot, heard)
            turn.change(boot=boot)
            _act_on(turn, holes)
            return _hear_now(turn, heard)
    boot, due = order.place(boot, heard, turn.now_ms)
    turn.change(boot=boot)
    return _act_on(turn, due)


def _act_on(turn: Turn, due: Sequence[Heard | Hole]) -> None:
    for one in due:
        if isinstance(one, Hole):
            _lost(turn, one)
        else:
            before = turn.state
            _note_clock(turn, one)
            _hear(turn, one)
            seen.tell(turn, before, one.id)


def _boot_of(turn: Turn, heard: Heard) -> Boot | None:
    """Return the boot that is running, after a change to a new one; None if the message is of an earlier one."""
    message, boot = heard.message, turn.state.boot
    if boot is not None and boot.boot_id == message.boot_id:
        return boot
    if _is_over(turn, message.boot_id):
        return None
    _begin_boot(turn, heard.id, message.boot_id)
    return turn.state.boot


def _is_over(turn: Turn, boot_id: str) -> bool:
    """Tell whether a boot is an earlier one of this machine."""
    return any(past.boot_id == boot_id for past in turn.state.past) or _mark(boot_id) in turn.state.gone


def _mark(boot_id: str) -> bytes:
    return blake2b(boot_id.encode(), digest_size=8).digest()


def _begin_boot(turn: Turn, cause: str, boot_id: str) -> None:
    """Close what the machine forgot when it restarted."""
    _waits_no_longer(turn)
    old = turn.state.boot
    if old is not None:
        past = (*turn.state.past, old)
        gone = tuple(_mark(one.boot_id) for one in past[:-MAX_PAST_BOOTS])
        turn.change(past=past[-MAX_PAST_BOOTS:], gone=(*turn.state.gone, *gone)[-MAX_GONE:])
    before = turn.state
    turn.change(boot=Boot(boot_id), last_sequence=-1, screened_seq=-1, released_seq=-1)
    if turn.running is not None:
        _link_lost(turn, cause, "rebooted")
    if turn.session is not None:
        visit.close_session(turn, cause, "rebooted")
    seen.tell(turn, before, cause, boot_id)


def _of_past_boot(turn: Turn, heard: Heard) -> None:
    seq = heard.message.seq
    past = next((one for one in turn.state.past if one.boot_id == heard.message.boot_id), None)
    if past is None:
        return _of_forgotten_boot(turn, heard)
    if order.is_repeated(past, seq):
        return None
    is_given_up = order.is_given_up(past, seq)
    told, holes = (order.fill(past, seq), ()) if is_given_up else order.step_over(past, heard)
    turn.change(past=tuple(told if one is past else one for one in turn.state.past))
    if is_given_up:
        repair.filled(turn, heard)
    for hole in holes:  # no session that runs lacks it
        turn.notice(hole.before, "messages_lost", f"{hole.count} messages never came", "warning")
        repair.give_up(turn, past.boot_id, hole, getattr(heard.message, "session", None))
    return _too_late(turn, heard)


def _of_forgotten_boot(turn: Turn, heard: Heard) -> None:
    """Take a message of so long ago that nobody knows whether it was heard: danger stops once more.

    Everything else would count twice if it was, so it is put aside; a heartbeat says nothing that is lost.
    """
    if _is_urgent(turn, heard.message):
        _hear_now(turn, heard)
    elif not isinstance(heard.message, Heartbeat):
        raise Malformed("forgotten_boot", f"its machine has started more than {MAX_PAST_BOOTS} times since {heard.id}")


def _too_late(turn: Turn, heard: Heard) -> None:
    """Take a message whose moment has passed: a rep is measured, an acknowledgement counts, danger is danger.

    It decides nothing else: its set went on, or ended, without it. A screening that is not clear forbids, whenever it
    is heard (S23); one that is clear allows nothing any more. What a clinician has released the machine from since is
    no danger any more, and a release after the last STOP is one, however late it is heard, and also if the machine has
    restarted meanwhile: or else it were free, and locked for us alone.
    """
    if _is_urgent(turn, heard.message) and not _is_released_since(turn, heard.message):
        _hear_now(turn, heard)
        return
    match heard.message:
        case Released() as message if turn.is_of_this_boot(message) or not turn.is_before_last_stop(message):
            _hear_now(turn, heard)
        case Screened(outcome=outcome) if outcome != "clear":
            _hear_now(turn, heard)
        case Rep():
            turn.say(reps.rep_measured(turn, heard, heard.message))
        case CommandApplied() | CommandRejected() | CommandExpired():
            acknowledgements.heard(turn, heard, heard.message)
        case SymptomReported(pain_nrs=int()) as message:
            visit.diary(turn, heard, message, is_late=True)
        case Heartbeat():
            return
        case ClinicianEdited(by=by):  # a newer one may be in force: who wrote it has to look
            turn.notice(heard.id, "late", f"an edit by {by} came after it was given up, and is not in force", "alarm")
        case message:
            if isinstance(message, SessionStarted):
                visit.started_late(turn, heard, message)
            turn.notice(heard.id, "late", f"{codec.type_name(heard.message)} came after it was given up")


def _is_released_since(turn: Turn, message: Ordered) -> bool:
    return turn.is_of_this_boot(message) and message.seq < turn.state.released_seq


def _is_urgent(turn: Turn, message: Ordered) -> bool:
    match message:
        case SymptomReported(symptom=symptom, felt=felt, pain_nrs=pain):
            return symptom != "none" or (felt == "now" and pain is not None and pain > turn.policy.pain_stop)
        case ButtonPressed(button="stop") | FaultRaised() | Screened(outcome="red_flag"):
            return True
    return False


def _may_overtake(turn: Turn, message: Ordered) -> bool:
    """Tell whether a message is heard before what is missing: all danger is, but a pain of no session that is heard of.

    Nothing could be ended for it; it waits for the start of its session, which may be what is missing.
    """
    if isinstance(message, SymptomReported) and message.symptom == "none":
        return _is_urgent(turn, message) and turn.session is not None and not visit.is_of_another(turn, message)
    return _is_urgent(turn, message)


def _lost(turn: Turn, hole: Hole) -> None:
    if turn.set is not None:
        turn.change_set(missing=turn.set.missing + hole.count, lost=(*turn.set.lost, *hole.gaps)[-MAX_LOST:])
    if turn.session is not None:
        turn.change_session(missing=turn.session.missing + hole.count)
    turn.notice(hole.before, "messages_lost", f"{hole.count} messages never came", "warning")
    if turn.state.boot is not None:
        repair.give_up(turn, turn.state.boot.boot_id, hole, None if turn.session is None else turn.session.id)


def _hear_now(turn: Turn, heard: Heard) -> None:
    """Hear a message that is not in its turn."""
    before = turn.state
    _hear(turn, heard)
    seen.tell(turn, before, heard.id)


def _hear(turn: Turn, heard: Heard) -> None:
    """Let one message change the session."""
    message = heard.message
    hear = HEARD.get(type(message))
    if hear is not None:
        hear(turn, heard, message)


def _note_clock(turn: Turn, heard: Heard) -> None:
    """Watch the device clock of messages in their order: a long silence is lost heartbeats, a step back a jump."""
    boot, message = turn.state.boot, heard.message
    if boot is None:
        return
    if boot.t_us is not None:
        silent_s = (message.t_us - boot.t_us) * 1e-6
        if silent_s > turn.policy.heartbeat_s * turn.policy.heartbeat_missed and turn.running is not None:
            _link_lost(turn, heard.id, "heartbeat_lost", after_seq=message.seq - 1)
        elif silent_s < 0.0:
            turn.notice(heard.id, "clock_jumped", f"device clock went back by {-silent_s:.3f} s", "warning")
    boot = turn.state.boot or boot
    turn.change(boot=replace(boot, t_us=message.t_us))


def presence(turn: Turn, cause: str, message: Presence) -> None:
    """Take note that a machine is there, in which boot and what it can do, or that it is gone."""
    known = turn.state.boot is not None and turn.state.boot.boot_id == message.boot_id
    if _is_over(turn, message.boot_id):
        return  # a retained message of an earlier boot, handed out again
    if isinstance(message, Online):
        if not known:
            _begin_boot(turn, cause, message.boot_id)
        before, boot = turn.state, turn.state.boot
        if boot is not None and not before.online:
            boot = replace(boot, back=_once_more(boot.back, boot.due))
        turn.change(online=True, capabilities=message.capabilities, boot=boot)
        repair.say_again(turn)
        seen.tell(turn, before, cause, "" if boot is None else _place(boot.back, boot.due))
    elif known and turn.state.online:
        _waits_no_longer(turn)
        before, boot = turn.state, turn.state.boot
        if boot is not None:
            boot = replace(boot, left=_once_more(boot.left, boot.due))
        turn.change(online=False, boot=boot)
        if turn.running is not None:
            _link_lost(turn, cause, "offline")
        seen.tell(turn, before, cause, "" if boot is None else _place(boot.left, boot.due))


def _waits_no_longer(turn: Turn) -> None:
    """Hear what waits for an earlier message: nobody may ever say one again, and time passes only by messages."""
    if turn.state.boot is not None:
        boot, due = order.release(turn.state.boot, turn.now_ms, all_of_it=True)
        turn.change(boot=boot)
        _act_on(turn, due)


def _once_more(place: tuple[int, int], due: int) -> tuple[int, int]:
    """Count a coming or a going at this place in the boot."""
    last, times = place
    return due, times + 1 if last == due else 0


def _place(place: tuple[int, int], due: int) -> str:
    """Tell one presence of a boot from the next, which says the same, also where nothing was said between them."""
    last, times = place
    return f"{due}-{times}" if times and last == due else str(due)


def _link_lost(turn: Turn, cause: str, loss: LinkLoss, after_seq: int | None = None) -> None:
    """Stop for a lost link. Its message may be said again, or be danger itself: each loss has a number of its own."""
    boot = turn.state.boot
    if boot is None:
        return
    number = boot.losses + 1
    turn.change(boot=replace(boot, losses=number))
    turn.ask(
        "event",
        cause,
        turn.sequence_now(),
        link_loss=loss,
        key=f"{cause}/{loss}/{number}",
        after_seq=turn.latest() if after_seq is None else after_seq,
    )


def planned(turn: Turn, plan: PlanMade) -> None:
    """Issue the planner's command if it is still wanted: the same boot, the last request of a session not yet begun."""
    wish, session, boot = plan.command, turn.session, turn.state.boot
    if turn.is_issued(wish.command_id):
        return
    is_asked = session is not None and session.waits and (session.id, session.request_id) == (wish.session, wish.cause)
    if session is not None and session.id == wish.session:
        turn.take_over(
            plan.known.screening
        )  # also from a plan that is too late: without it all but STOP is refused (S23)
    if not is_asked or boot is None or boot.boot_id != plan.boot_id or wish.machine != turn.state.machine:
        turn.notice(wish.command_id, "plan_too_late", "its session was not waiting any more", "warning")
        return
    turn.change_session(baseline=plan.baseline, model=plan.model)
    turn.planned(plan)


def screening_told(turn: Turn, told: ScreeningTold) -> None:
    """Know how the session's patient was screened, though there is no plan; a red flag locks, once (S23)."""
    session = turn.session
    if session is None or (session.id, session.patient) != (told.session, told.patient):
        return
    turn.take_over(told.outcome)
    key = f"{told.cause}/{told.outcome}"
    if told.outcome != "red_flag" or turn.state.locked or turn.is_issued(f"{key}/emergency_stop"):
        return
    before = turn.state
    flag = Screened(boot_id=told.boot_id, seq=0, t_us=0, patient=told.patient, outcome=told.outcome, by="planner")
    turn.ask("event", told.cause, turn.sequence_now(), event=flag, key=key, after_seq=turn.latest())
    seen.tell(turn, before, key)


def asked(turn: Turn, told: OperatorAsked) -> None:
    """Do what an operator asks for, once: stop the machine by rule 0, or note that an alarm has been seen."""
    if told.id in turn.state.asked:
        return
    turn.change(asked=(*turn.state.asked, told.id)[-MAX_ASKED:])
    if told.action == "stop":
        before = turn.state
        turn.ask("event", told.cause, turn.sequence_now(), asked=told, after_seq=turn.latest())
        seen.tell(turn, before, told.cause)
    else:
        turn.notice(told.cause, "alarm_acknowledged", f"{told.alarm} by {told.by}: {told.reason}")


HEARD: Mapping[type, Callable[[Turn, Heard, Any], None]] = {
    Rep: reps.count,
    SessionRequested: visit.requested,
    SessionStarted: visit.started,
    SessionEnded: visit.ended,
    SetStarted: visit.set_started,
    SetEnded: visit.set_ended,
    SymptomReported: visit.symptom,
    ButtonPressed: visit.raised,
    FaultRaised: visit.raised,
    Screened: visit.screened,
    ClinicianEdited: visit.edited,
    Released: visit.released,
    CommandApplied: acknowledgements.heard,
    CommandRejected: acknowledgements.heard,
    CommandExpired: acknowledgements.heard,
}
"""What each message does; one that is not listed (a heartbeat, a confirmation) only moves the clock."""
