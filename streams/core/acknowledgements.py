"""Acknowledgements: how a command ends, in exactly one of applied, rejected and expired, and what if nobody answers."""

from msgspec.structs import replace

from streams.core import repair
from streams.core.commands import Change, Command
from streams.core.outputs import repeated
from streams.core.results import Outcome
from streams.core.session import MAX_CLOSED, MAX_PENDING, Heard, Pending, SessionState
from streams.core.telemetry import Ack, CommandApplied, CommandExpired, CommandRejected
from streams.core.turn import ACK_GRACE_MS, Turn


def heard(turn: Turn, told: Heard, message: Ack) -> None:
    """Close the command that is acknowledged; a command that is closed already stays as it is."""
    pending = next((one for one in turn.state.pending if one.command.command_id == message.command_id), None)
    if pending is None:
        if message.command_id not in turn.state.closed and not repair.heard(turn, told, message):
            turn.notice(told.id, "unknown_command", message.command_id, "warning")
        return
    match message:
        case CommandApplied(load_N=load_N):
            _take_effect(turn, pending.command, load_N)
            _close(turn, pending.command, told.id, "applied")
        case CommandRejected(reason=reason):
            _close(turn, pending.command, told.id, "rejected", reason)
        case CommandExpired():
            _close(turn, pending.command, told.id, "expired", "told by the machine")


def look_after_pending(turn: Turn, cause: str) -> None:
    """Close what can no longer be acknowledged; repeat a decrease that was not acknowledged in time (S12).

    STOP does not expire: it is repeated until the machine answers, however long it was away.
    """
    for pending in turn.state.pending[:-MAX_PENDING]:
        _close(turn, pending.command, cause, "expired", "crowded_out")
    for pending in turn.state.pending:
        command = pending.command
        if turn.now_ms > command.expires_ms + ACK_GRACE_MS and command.action != "stop":
            _close(turn, command, cause, "expired", "unacknowledged")
        elif _is_overdue(turn, pending):
            again = replace(pending, sent_ms=turn.now_ms, tries=pending.tries + 1)
            turn.change(pending=tuple(again if one is pending else one for one in turn.state.pending))
            turn.records.append(repeated(command, again.tries, turn.now_ms))
            attempt = f"{command.command_id}#{again.tries}"
            turn.notice(attempt, "unacknowledged", f"{command.action} sent again", "alarm")


def withdraw(turn: Turn, cause: str, session: str, why: str) -> None:
    """Close the plans of a session that a newer one will replace: none of them is sent again."""
    for pending in turn.state.pending:
        if pending.command.action == "prescribe" and pending.command.session == session:
            _close(turn, pending.command, cause, "expired", why)


def _take_effect(turn: Turn, command: Command, load_N: float | None) -> None:
    """Take over what the machine now holds; what it ramped down to for a STOP is no load to train with."""
    if command.action == "stop":
        return
    if turn.session is None or command.session not in {None, turn.session.id}:
        return
    if command.action == "prescribe" and turn.session.started:
        return  # its start has told what it began with, and less may be left by now
    if load_N is not None:
        before_N = turn.session.load_N
        is_heavier = before_N is not None and load_N > before_N and command.action != "prescribe"
        if not is_heavier:  # it never is within a session: this was said before what we have heard since
            turn.change_session(load_N=load_N)
    for change in command.changes:
        if turn.session is not None and not (change.quantity == "load_N" and load_N is not None):
            _take_over(turn, turn.session, command, change)
    if command.action == "lower_load" and turn.session is not None:
        _note_cut(turn, turn.session, command)


def _note_cut(turn: Turn, session: SessionState, command: Command) -> None:
    """Remember what is left of the prescribed load; what was taken off a lighter warm-up says nothing of it."""
    whole_N = (
        session.cut_N if session.cut_N is not None or session.prescription is None else session.prescription.load_N
    )
    slack_N = 0.0 if turn.state.capabilities is None else 0.5 * turn.state.capabilities.load_step_N
    if whole_N is not None and any(
        one.quantity == "load_N" and float(one.old) >= whole_N - slack_N for one in command.changes
    ):
        turn.change_session(cut_N=session.load_N)


def _take_over(turn: Turn, session: SessionState, command: Command, change: Change) -> None:
    """Take over one change; rule 5 leaves the prescribed window as it is, and sets a limit within it for today."""
    window, prescription = session.window, session.prescription
    if change.quantity == "load_N" and session.load_N is not None:  # nobody says what is held: what was asked, or less
        turn.change_session(load_N=min(session.load_N, float(change.new)))
    if prescription is None:
        return
    if change.quantity in {"window_lo", "window_hi"}:
        if command.rule == "rom_limit":
            turn.change_session(tightened=session.tightened + abs(change.old - change.new))
        else:
            prescription = replace(prescription, **{change.quantity: change.new})
            turn.change_session(prescription=prescription)
        if window is not None and (session.limit is not None or command.rule == "rom_limit"):
            lo, hi = window
            is_low = change.quantity == "window_lo"
            turn.change_session(limit=(max(lo, change.new), hi) if is_low else (lo, min(hi, change.new)))
    elif change.quantity == "rest_s":
        turn.change_session(prescription=replace(prescription, rest_s=float(change.new)))
    elif change.quantity == "sets":
        turn.change_session(prescription=replace(prescription, sets=int(change.new)))


def _close(turn: Turn, command: Command, cause: str, outcome: Outcome, reason: str = "") -> None:
    turn.change(
        pending=tuple(one for one in turn.state.pending if one.command.command_id != command.command_id),
        closed=(*turn.state.closed, command.command_id)[-MAX_CLOSED:],
    )
    turn.closed(command, cause, outcome, reason)
    if command.action == "end_exercise" and outcome != "applied":
        _goes_on(turn, command, outcome, reason)
    elif command.action == "end_set" and outcome != "applied":
        _set_goes_on(turn, command, outcome, reason)


def _goes_on(turn: Turn, command: Command, outcome: Outcome, reason: str) -> None:
    """Know that an exercise did not end where it should: the next pain above the limit has to end it."""
    session = turn.session
    if session is None or session.id != command.session or turn.state.locked:
        return
    turn.change_session(over="emergency_stop" in dict(session.rules_fired))
    turn.notice(command.command_id, "not_ended", f"end_exercise by {command.rule} {outcome}: {reason}", "alarm")


def _set_goes_on(turn: Turn, command: Command, outcome: Outcome, reason: str) -> None:
    """Know that a set did not end where it should: its rule is not used up, and the next rep as bad has to end it."""
    session, running = turn.session, turn.set
    if session is None or running is None or (session.id, running.number) != (command.session, command.set_number):
        return
    if command.rule not in running.fired:  # another set of the same number
        return
    turn.change_set(fired=tuple(rule for rule in running.fired if rule != command.rule))
    if not turn.state.locked and not session.over:  # what ends more than the set has been asked for
        detail = f"end_set by {command.rule} {outcome}: {reason}"
        turn.notice_once(command.command_id, "set_not_ended", detail, "alarm", a_set=True)


def _is_overdue(turn: Turn, pending: Pending) -> bool:
    if turn.state.locked and pending.command.action != "stop":
        return False  # a locked machine gets nothing (S8)
    waited_ms = turn.now_ms - pending.sent_ms
    command = pending.command
    in_time = turn.now_ms < command.expires_ms or command.action == "stop"
    session = turn.session
    is_wanted = session is not None and session.waits and session.id == command.session
    is_outdated = command.action == "prescribe" and not is_wanted  # its session has begun, is over, or was replaced
    is_void = command.action == "cue" or command.confirm or is_outdated  # an increase is void, too
    return not is_void and waited_ms > 1_000 * turn.policy.ack_timeout_s and in_time
