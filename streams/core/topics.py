"""Topics: the grammar of the MQTT side and the catalogue of the log side."""

import re
from typing import Literal

import msgspec

from streams.core.errors import Malformed
from streams.core.limits import NAME

Stream = Literal["rep", "event", "ack", "presence", "command"]
UPWARD: tuple[Stream, ...] = ("rep", "event", "ack", "presence")
"""Streams that a machine publishes; `command` is the only one that comes down to it."""

_MQTT = re.compile(rf"spineloop/v1/({NAME}/{NAME}/{NAME})/(rep|event|ack|presence|command)", re.ASCII)


class MachineTopic(msgspec.Struct, frozen=True):
    """One MQTT topic, taken apart.

    Parameters
    ----------
    machine : str
        `tenant/site/machine`, which is also the machine's key in the log.
    stream : str
        What is said on it.
    """

    machine: str
    stream: Stream


def parse_mqtt(topic: str) -> MachineTopic:
    """Take an MQTT topic apart, or raise Malformed with reason `bad_topic`.

    Examples
    --------
    >>> parse_mqtt("spineloop/v1/acme/north/lumbar-1/rep")
    MachineTopic(machine='acme/north/lumbar-1', stream='rep')
    """
    match = _MQTT.fullmatch(topic)
    if match is None:
        raise Malformed("bad_topic", f"not spineloop/v1/tenant/site/machine/stream: {topic[:200]!r}")
    return MachineTopic(match[1], match[2])  # type: ignore[arg-type]  # the pattern admits only the five streams


def mqtt_topic(machine: str, stream: Stream) -> str:
    """Name the MQTT topic of a machine's stream.

    Examples
    --------
    >>> mqtt_topic("acme/north/lumbar-1", "command")
    'spineloop/v1/acme/north/lumbar-1/command'
    """
    return f"spineloop/v1/{machine}/{stream}"


def tenant_of(key: str) -> str:
    """Name the tenant of a machine's or a patient's key.

    Examples
    --------
    >>> tenant_of("acme/north/lumbar-1")
    'acme'
    """
    return key.split("/", 1)[0]


TELEMETRY = "spineloop.telemetry.v1"
METRIC = "spineloop.metric.v1"
COMMAND = "spineloop.command.v1"
PATIENT = "spineloop.patient.v1"
CONTROLLER_STATE = "spineloop.controller-state.v1"
PLANNER_STATE = "spineloop.planner-state.v1"
DEAD_LETTER = "spineloop.dead-letter.v1"

_DAY_MS = 86_400_000


class LogTopic(msgspec.Struct, frozen=True):
    """One topic of the log: what keeps it and what it is keyed by.

    Parameters
    ----------
    key : str
        What the key names.
    purpose : str
        One line for a person.
    compacted : bool
        True keeps the last record of a key for ever, False keeps everything for `retention_ms`.
    retention_ms : int
        How long records stay, in ms; meaningless when compacted.
    """

    key: Literal["machine", "patient", "as received"]
    purpose: str
    compacted: bool = False
    retention_ms: int = 30 * _DAY_MS


LOG_TOPICS: dict[str, LogTopic] = {
    TELEMETRY: LogTopic("machine", "everything a machine says, in one order per machine"),
    METRIC: LogTopic("machine", "rep metrics, summaries, closed commands, notices", retention_ms=365 * _DAY_MS),
    COMMAND: LogTopic("machine", "commands with their evidence", retention_ms=365 * _DAY_MS),
    PATIENT: LogTopic("patient", "what the planner learns about a patient", retention_ms=365 * _DAY_MS),
    CONTROLLER_STATE: LogTopic("machine", "the controller's state and position", compacted=True),
    PLANNER_STATE: LogTopic("patient", "the planner's state and position", compacted=True),
    DEAD_LETTER: LogTopic("as received", "what could not be understood, and why", retention_ms=90 * _DAY_MS),
}
"""Every topic that spineloop creates. All have the same number of partitions, so that keys stay side by side."""

RECORD_BYTES = 1024 * 1024
"""Largest record batch outside of the state topics, so the largest record: four messages of the largest size."""

STATE_MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Largest checkpoint in bytes: one record batch, hence `max.message.bytes` of the two state topics."""

STATE_COMPACTION_LAG_MS = 120_000
"""How long a state record stays uncompacted, in ms: the time in which a late writer's damage is still repairable.

The owner sees and mends it with its next checkpoint, and whoever restores does; compaction takes closed segments only,
and one is closed by such a checkpoint. More would only make every restore longer, which reads all of it."""
