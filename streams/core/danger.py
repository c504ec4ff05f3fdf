"""Danger: what stops a machine by itself, whatever else is known; and the STOP that need not wait for the rest.

Rule 0 (docs/science.md, 7.2) asks no state about a symptom, a stop button, a fault, a red flag or an operator's wish.
So that STOP can be written by whoever hears of it first (docs/decisions/0012). The controller issues it too, with all
that it knows, under the same `command_id`: whichever comes second finds it answered.
"""

import msgspec
from msgspec.structs import replace

from streams.core.codec import is_json
from streams.core.commands import Command, Evidence
from streams.core.limits import Seq, Token
from streams.core.operators import OperatorAsked
from streams.core.outputs import to_records
from streams.core.records import Header, NewRecord
from streams.core.telemetry import ButtonPressed, Event, FaultRaised, Screened, SymptomReported

RULE = "emergency_stop"
EARLY = "spineloop_early"
"""Header of a STOP that did not wait for the controller; it is no output of a stage, so no replay looks for it."""

LIFE_MS = 30_000
"""How long it says that it holds, in ms; nobody asks, for STOP does not expire (S2)."""

UNKNOWN_BOOT = "none"


def danger(event: Event | None) -> tuple[str, str] | None:
    """Name what is dangerous about an event, if anything is.

    Examples
    --------
    >>> danger(FaultRaised(boot_id="b1", seq=3, t_us=9, fault="cable"))
    ('fault', 'cable')
    """
    match event:
        case SymptomReported(symptom=symptom) if symptom != "none":
            return "symptom", symptom
        case ButtonPressed(button="stop"):
            return "button", "stop"
        case FaultRaised(fault=fault):
            return "fault", fault
        case Screened(outcome="red_flag"):
            return "screening", "red_flag"
    return None


def stop_for(machine: str, cause: str, event: Event, now_ms: int, policy: str) -> Command | None:
    """Return the STOP that an event demands, or None if it is not dangerous.

    Parameters
    ----------
    machine, cause : str
        The machine's key, and the id of the message.
    event : Event
        What it says.
    now_ms : int
        When it was heard, in ms since 1970.
    policy : str
        Digest of the policy in force.

    Examples
    --------
    >>> said = ButtonPressed(boot_id="b1", seq=3, t_us=9, button="stop")
    >>> stop_for("a/b/m", "a/b/m/b1/3", said, 1_000, "p").command_id
    'a/b/m/b1/3/emergency_stop'
    """
    found = danger(event)
    if found is None:
        return None
    evidence = (Evidence(cause, *found),)
    return _stop(machine, cause, evidence, now_ms, policy, boot_id=event.boot_id, sequence=8 * event.seq)


class _Told(msgspec.Struct, frozen=True):
    """What a badly told event still says of itself: only what is needed to stop the right machine once."""

    type: str
    boot_id: Token
    seq: Seq
    symptom: object = "none"
    button: object = None
    outcome: object = None


_TOLD_JSON, _TOLD_MSGPACK = msgspec.json.Decoder(_Told), msgspec.msgpack.Decoder(_Told)


def badly_told(machine: str, payload: bytes, now_ms: int, policy: str) -> Command | None:
    """Return the STOP that an event demands which is not as it should be, as far as that can be seen.

    It is put aside as any other that can't be understood, but a fault under a name that is no name, or a stop button in
    a newer version of the messages, is danger all the same. What is not clearly harmless counts as dangerous.

    Parameters
    ----------
    machine, now_ms, policy
        As for `stop_for`; the machine is the one on whose topic it came.
    payload : bytes
        JSON or MessagePack.

    Examples
    --------
    >>> said = b'{"type":"fault_raised","boot_id":"b1","seq":3,"t_us":9,"schema_version":2,"fault":"E42 overtravel"}'
    >>> badly_told("a/b/m", said, 1_000, "p").evidence[0].name
    'badly_told'
    >>> badly_told("a/b/m", b'{"type":"heartbeat","boot_id":"b1","seq":4,"t_us":"?"}', 1_000, "p") is None
    True
    """
    try:
        told = (_TOLD_JSON if is_json(payload) else _TOLD_MSGPACK).decode(payload)
    except (ValueError, RecursionError):
        return None
    is_danger = (
        told.type == "fault_raised"
        or (told.type == "button_pressed" and told.button not in ("pause", "help"))
        or (told.type == "symptom_reported" and told.symptom != "none")
        or (told.type == "screened" and told.outcome == "red_flag")
    )
    if not is_danger:
        return None
    cause = f"{machine}/{told.boot_id}/{told.seq}"
    evidence = (Evidence(cause, "badly_told", told.type),)
    return _stop(machine, cause, evidence, now_ms, policy, boot_id=told.boot_id, sequence=8 * told.seq)


def early_stop(asked: OperatorAsked, now_ms: int, policy: str) -> list[NewRecord]:
    """Write the STOP that an operator asks for, marked as early; nothing, if that is not what is asked.

    Examples
    --------
    >>> asked = OperatorAsked(machine="a/b/m", id="0" * 32, by="Kim", reason="unwell", action="stop")
    >>> [(one.topic, one.headers[-1]) for one in early_stop(asked, 1_000, "p")]
    [('spineloop.command.v1', ('spineloop_early', b'1'))]
    """
    if asked.action != "stop":
        return []
    evidence = (Evidence(asked.cause, "operator", asked.by), Evidence(asked.cause, "reason", asked.reason))
    stop = _stop(asked.machine, asked.cause, evidence, now_ms, policy, boot_id=UNKNOWN_BOOT, sequence=0)
    return [_marked(record) for record in to_records(stop, now_ms)]


def _stop(
    machine: str, cause: str, evidence: tuple[Evidence, ...], now_ms: int, policy: str, *, boot_id: str, sequence: int
) -> Command:
    return Command(
        command_id=f"{cause}/{RULE}",
        machine=machine,
        boot_id=boot_id,
        sequence=sequence,
        action="stop",
        rule=RULE,
        cause=cause,
        evidence=evidence,
        policy=policy,
        issued_ms=now_ms,
        expires_ms=now_ms + LIFE_MS,
    )


def _marked(record: NewRecord) -> NewRecord:
    """Give a record an id of its own beside the controller's, and say what it is."""
    mark: tuple[Header, ...] = ((EARLY, b"1"),)
    told = tuple((name, value + b"#early" if name == "ce_id" else value) for name, value in record.headers)
    return replace(record, headers=(*told, *mark))
