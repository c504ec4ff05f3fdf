"""Danger: what stops a machine by itself, whatever else is known; and the STOP that need not wait for the rest.

Rule 0 (docs/science.md, 7.2) asks no state about a symptom, a stop button, a fault, a red flag or an operator's wish.
So that STOP can be written by whoever hears of it first (docs/decisions/0012). The controller issues it too, with all
that it knows, under the same `command_id`: whichever comes second finds it answered.
"""

from msgspec.structs import replace

from streams.core.commands import Command, Evidence
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
