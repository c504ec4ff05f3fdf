"""Repair: asks a machine to say again what never came, and keeps the books of whose record is complete.

What comes after all is measured and decides nothing (boots.py). A request moves nothing, so it has no place in the
sequence of commands and none among those that wait for their acknowledgement: it can delay and refuse nobody.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from streams.core import envelope
from streams.core.commands import Command, Evidence, Stretch
from streams.core.envelope import Refused
from streams.core.order import Hole
from streams.core.outputs import repeated, to_records
from streams.core.results import Notice, Outcome
from streams.core.session import (
    MAX_ASKING,
    MAX_GAPPED,
    MAX_REPAIRED,
    MAX_REPAIRS,
    Gapped,
    Heard,
    Repair,
)
from streams.core.telemetry import Ack, CommandApplied, CommandExpired, CommandRejected, Ordered
from streams.core.turn import ACK_GRACE_MS, Turn

MAX_TRIES = 8
"""How often one request is sent: first when it is made, then whenever its machine comes back."""


def give_up(turn: Turn, boot_id: str, hole: Hole, session: str | None) -> None:
    """Put down what has to be said again, once a stretch; `session` is the one whose record lacks it."""
    mine = () if session is None else (session,)
    for first, after in hole.gaps:
        owed = Repair(boot_id, first, after - 1, after - first, hole.before, mine)
        turn.change(repairs=(*turn.state.repairs, owed))
    if session is not None:
        _lacks(turn, hole.before, session)
    while len(turn.state.repairs) > MAX_REPAIRS:
        _drop(turn, hole.before, turn.state.repairs[0], "crowded_out")
    _ask(turn)


def opened(turn: Turn, boot_id: str, session: str) -> None:
    """Note whose the last stretch that was given up is: of a session that nobody heard begin."""
    owed = next((one for one in reversed(turn.state.repairs) if one.boot_id == boot_id and one.left), None)
    if owed is not None and session not in owed.sessions:
        _put(turn, owed, replace(owed, sessions=(*owed.sessions, session)[-MAX_GAPPED:]))
        _lacks(turn, owed.cause, session)


def filled(turn: Turn, heard: Heard) -> None:
    """Note that a message which was given up has come after all."""
    message = heard.message
    owed = next((one for one in turn.state.repairs if _is_of(one, message) and one.left), None)
    if owed is None:
        return
    _put(turn, owed, replace(owed, left=owed.left - 1))
    _settle(turn, heard.id)


def over(turn: Turn, cause: str, session: str, *, is_told: bool) -> None:
    """Note that a session is over: from now on it can be said whether its record is complete, if it has one."""
    if not any(one.session == session for one in turn.state.gapped):
        return
    others = tuple(one for one in turn.state.gapped if one.session != session)
    mine = tuple(replace(one, over=True) for one in turn.state.gapped if one.session == session)
    turn.change(gapped=(*others, *mine) if is_told else others)
    _settle(turn, cause)


def heard(turn: Turn, told: Heard, message: Ack) -> bool:
    """Close a request that is acknowledged; return whether it was one."""
    owed = next((one for one in turn.state.repairs if one.command and _asks(one, message.command_id)), None)
    if owed is None:
        return message.command_id in turn.state.repaired
    if owed.outcome:
        return True
    match message:
        case CommandApplied():
            _close(turn, owed, told.id, "applied")
        case CommandRejected(reason=reason):
            _close(turn, owed, told.id, "rejected", reason)
        case CommandExpired():
            _close(turn, owed, told.id, "expired", "told by the machine")
    return True


def say_again(turn: Turn) -> None:
    """Send what is still open once more to a machine that has come back: nobody may have kept it for it."""
    for owed in turn.state.repairs:
        command = owed.command
        if command is None or owed.outcome or owed.tries >= MAX_TRIES:
            continue
        if command.issued_ms < turn.now_ms < command.expires_ms:
            _put(turn, owed, again := replace(owed, tries=owed.tries + 1))
            turn.records.append(repeated(command, again.tries, turn.now_ms))


def look_after(turn: Turn, cause: str) -> None:
    """Close what can no longer be answered, forget what is done, and ask for what had no place yet."""
    if not turn.state.repairs:
        return
    for owed in turn.state.repairs:
        if owed.command is None:
            if not owed.left:
                _drop(turn, cause, owed)
        elif turn.now_ms > owed.command.expires_ms + ACK_GRACE_MS:
            _drop(turn, cause, owed, "not_heard_again" if owed.outcome == "applied" else "expired")
        elif owed.outcome and (not owed.left or owed.outcome != "applied"):
            _drop(turn, cause, owed, owed.reason or owed.outcome)
    _ask(turn)


def _is_of(owed: Repair, message: Ordered) -> bool:
    return owed.boot_id == message.boot_id and owed.first <= message.seq <= owed.last


def _asks(owed: Repair, command_id: str) -> bool:
    return owed.command is not None and owed.command.command_id == command_id


def _ask(turn: Turn) -> None:
    """Ask for what is owed, as far as there are places."""
    asking = sum(one.command is not None and not one.outcome for one in turn.state.repairs)
    waiting = [one for one in turn.state.repairs if one.command is None and one.left]
    for owed in waiting[: max(0, MAX_ASKING - asking)]:
        verdict = envelope.permit(turn.known(), _wish(turn, owed))
        if isinstance(verdict, Refused):
            turn.refused(verdict)
            _drop(turn, owed.cause, owed, "refused")
            continue
        _put(turn, owed, replace(owed, command=verdict.command))
        turn.records += to_records(verdict.command, turn.now_ms)


def _wish(turn: Turn, owed: Repair) -> Command:
    return Command(
        command_id=f"{turn.state.machine}/{owed.boot_id}/{owed.first}/resend-{owed.last}",
        machine=turn.state.machine,
        boot_id=owed.boot_id,
        sequence=0,
        action="resend",
        rule="resend",
        cause=owed.cause,
        evidence=(Evidence(owed.cause, "missing_seq", owed.left),),
        missing=Stretch(first_seq=owed.first, last_seq=owed.last),
        policy=turn.digest,
        issued_ms=turn.now_ms,
        expires_ms=turn.now_ms + round(60_000 * turn.policy.resend_ttl_min),
    )


def _put(turn: Turn, old: Repair, new: Repair) -> None:
    turn.change(repairs=tuple(new if one is old else one for one in turn.state.repairs))


def _close(turn: Turn, owed: Repair, cause: str, outcome: Outcome, reason: str = "") -> None:
    """Let a request end in its one way; what is still missing after an `applied` may be on its way."""
    if owed.command is None:
        return
    _put(turn, owed, replace(owed, outcome=outcome, reason=reason))
    turn.change(repaired=(*turn.state.repaired, owed.command.command_id)[-MAX_REPAIRED:])
    turn.closed(owed.command, cause, outcome, reason)


def _drop(turn: Turn, cause: str, owed: Repair, why: str = "") -> None:
    """Forget a stretch; if it was not filled, its sessions stay incomplete."""
    if owed.command is not None and not owed.outcome:
        _close(turn, owed, cause, "expired", "crowded_out" if why == "crowded_out" else "unacknowledged")
    turn.change(repairs=tuple(one for one in turn.state.repairs if not _is_same(one, owed)))
    if owed.left:
        lacking = tuple(
            replace(one, failed=one.failed or why) if one.session in owed.sessions else one for one in turn.state.gapped
        )
        turn.change(gapped=lacking)
    _settle(turn, cause)


def _is_same(one: Repair, other: Repair) -> bool:
    return (one.boot_id, one.first) == (other.boot_id, other.first)


def _lacks(turn: Turn, cause: str, session: str) -> None:
    """Put down that a session's record lacks something."""
    if any(one.session == session for one in turn.state.gapped):
        return
    running = turn.session is not None and turn.session.id == session
    gapped = (*turn.state.gapped, Gapped(session, over=not running))
    for one in gapped[:-MAX_GAPPED]:
        _tell(turn, cause, replace(one, failed=one.failed or "crowded_out"))
    turn.change(gapped=gapped[-MAX_GAPPED:])


def _settle(turn: Turn, cause: str) -> None:
    """Say of each session that is over and waits for nothing more whether its record is complete."""
    owing = {session for one in turn.state.repairs if one.left for session in one.sessions}
    done = [one for one in turn.state.gapped if one.over and one.session not in owing]
    if done:
        turn.change(gapped=tuple(one for one in turn.state.gapped if one not in done))
        _tell_all(turn, cause, done)


def _tell_all(turn: Turn, cause: str, done: Sequence[Gapped]) -> None:
    for one in done:
        _tell(turn, cause, one)


def _tell(turn: Turn, cause: str, one: Gapped) -> None:
    name = "record_incomplete" if one.failed else "record_complete"
    told = f"stays incomplete: {one.failed}" if one.failed else "is complete after all: what was missing has come"
    turn.say(
        Notice(
            id=f"{cause}/notice/{name}/{one.session}",
            machine=turn.state.machine,
            cause=cause,
            at_ms=turn.now_ms,
            name=name,
            severity="warning" if one.failed else "info",
            detail=f"the record of session {one.session} {told}",
        )
    )
