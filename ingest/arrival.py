"""Arrival: what becomes of one MQTT message. A record of the telemetry topic, or a dead letter that says why not."""

import re
from collections.abc import Sequence
from typing import Protocol

from streams.core import codec
from streams.core.dead_letters import dead_letter
from streams.core.errors import Malformed
from streams.core.records import JSON_TYPE, MSGPACK_TYPE, Header, NewRecord, cloud_event
from streams.core.topics import TELEMETRY, MachineTopic, parse_mqtt

TRACEPARENT = "traceparent"
MQTT_TOPIC = "mqtt_topic"
"""Header of a dead letter: the topic on which it came."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
"""W3C trace context; what does not look like it is to be ignored, and could be of any length."""


class Message(Protocol):
    """A message as the broker delivers it."""

    @property
    def topic(self) -> str:
        """Where it was published."""

    @property
    def payload(self) -> bytes:
        """What was published."""

    @property
    def user_properties(self) -> Sequence[tuple[str, str]]:
        """Names and values that travel beside the payload."""


def to_record(topic: MachineTopic, message: Message, now_ms: int) -> NewRecord:
    """Check a message and wrap it, unchanged, for the telemetry topic.

    Parameters
    ----------
    topic : MachineTopic
        The message's topic, taken apart.
    message : Message
        What came.
    now_ms : int
        Ingest time in ms since 1970, from here on the only clock.

    Raises
    ------
    Malformed
        Whatever `streams.core.codec.decode_up` finds.
    """
    payload = message.payload
    said = codec.decode_up(topic, payload)
    headers = cloud_event(
        ce_id=codec.message_id(topic.machine, said),
        ce_type=codec.ce_type(said),
        source=topic.machine,
        time_ms=now_ms,
        content_type=JSON_TYPE if codec.is_json(payload) else MSGPACK_TYPE,
        extra=_trace(message),
    )
    return NewRecord(TELEMETRY, topic.machine.encode(), payload, now_ms, headers)


def to_dead_letter(message: Message, why: Malformed, now_ms: int) -> NewRecord:
    """Put a message aside: under its machine's key if its topic names one, else under the topic itself."""
    try:
        key = parse_mqtt(message.topic).machine
    except Malformed:
        key = message.topic
    headers = ((MQTT_TOPIC, message.topic.encode()), *_trace(message))
    record = NewRecord(TELEMETRY, key.encode(), message.payload, now_ms, headers)
    return dead_letter(record, stage="ingest", reason=why.reason, detail=why.detail)


def trace_of(message: Message) -> str | None:
    """Return the `traceparent` of a message, if it has one that is one."""
    found = (value for name, value in message.user_properties if name == TRACEPARENT and _TRACEPARENT.fullmatch(value))
    return next(found, None)


def _trace(message: Message) -> tuple[Header, ...]:
    trace = trace_of(message)
    return () if trace is None else ((TRACEPARENT, trace.encode()),)
