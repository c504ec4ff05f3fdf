"""Inbox: what one MQTT connection has received and not yet acknowledged, in the order of receipt."""

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Self

import mqtt5
import msgspec

from streams.core.errors import BrokenPromise

MAX_HELD_BYTES = 67_108_864
"""Bytes held at which the inbox is full, as `Heard.held_bytes` counts them: 64 MiB, of a process that may have 512."""

OBJECT_BYTES = 500
"""What one message takes in memory beside the texts and bytes that it came with."""

TRACE_PROPERTY = "traceparent"
"""The user property that somebody reads."""

MAX_TRACES = 4
"""How many of them are kept; one is what belongs there."""


class Heard(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A message as it is held and handed out: what somebody reads of its packet.

    A packet of 270 kB may be 54,000 empty user properties, which take 4 MB once they are parsed, so it is not kept.

    Parameters
    ----------
    topic, payload, packet_id, retain, duplicate, message_expiry_interval : ...
        As in the packet; the id is None for QoS 0.
    content_type, response_topic, correlation_data : str, str, bytes or None
        As in the packet.
    user_properties : sequence of (str, str)
        Those that are named `traceparent`, a few.
    """

    topic: str
    payload: bytes
    packet_id: int | None = None
    retain: bool = False
    duplicate: bool = False
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user_properties: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, packet: mqtt5.PublishPacket) -> Self:
        """Take out of a packet what is kept of it."""
        traces = [one for one in packet.user_properties if one[0] == TRACE_PROPERTY][:MAX_TRACES]
        return cls(
            topic=packet.topic,
            payload=packet.payload,
            packet_id=packet.packet_id,
            retain=packet.retain,
            duplicate=packet.duplicate,
            message_expiry_interval=packet.message_expiry_interval,
            content_type=packet.content_type,
            response_topic=packet.response_topic,
            correlation_data=packet.correlation_data,
            user_properties=traces,
        )

    @property
    def held_bytes(self) -> int:
        """What it takes in memory, at most."""
        characters = len(self.topic) + len(self.content_type or "") + len(self.response_topic or "")
        for _, value in self.user_properties:
            characters += len(value)
        # one emoji in a text makes every character of it take four bytes
        return OBJECT_BYTES + 4 * characters + len(self.payload) + len(self.correlation_data or b"")


class Inbox:
    """Messages in two rows: those that wait to be taken, and those that were taken and wait for their ack.

    A message is known by the object it is, not by its packet id: mosquitto 2.0 sends a further window for every ack,
    so one id can stand for several messages.

    Parameters
    ----------
    max_held : int
        Messages held at which the inbox is full.

    Examples
    --------
    >>> inbox, one = Inbox(max_held=2), Heard(topic="t", payload=b"1", packet_id=7)
    >>> inbox.put([one])
    >>> [message.payload for message in inbox.take(limit=10)], inbox.held
    ([b'1'], 1)
    >>> inbox.settle([one])
    [7]
    """

    def __init__(self, max_held: int) -> None:
        self._max_held = max_held
        self._waiting: list[Heard] = []
        self._taken: list[Heard] = []
        self._held_bytes = 0

    @property
    def held(self) -> int:
        """Messages in both rows."""
        return len(self._waiting) + len(self._taken)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read."""
        return self.held >= self._max_held or self._held_bytes >= MAX_HELD_BYTES

    @property
    def has_room(self) -> bool:
        """Whether reading may go on: half empty, so that it does not stop and go with every ack."""
        return self.held <= self._max_held // 2 and self._held_bytes <= MAX_HELD_BYTES // 2

    def __len__(self) -> int:
        """Messages that wait to be taken."""
        return len(self._waiting)

    def put(self, messages: Iterable[Heard]) -> None:
        """Add messages at the end."""
        for message in messages:
            self._waiting.append(message)
            self._held_bytes += message.held_bytes

    def take(self, limit: int) -> Sequence[Heard]:
        """Hand out the next messages, at most `limit`."""
        batch, self._waiting = self._waiting[:limit], self._waiting[limit:]
        self._taken += batch
        return batch

    def settle(self, batch: Sequence[Heard]) -> Sequence[int]:
        """Forget the first of those that were taken; return the packet ids to acknowledge (QoS 0 has none).

        Raises
        ------
        BrokenPromise
            These are not the first ones, in the order of receipt.
        """
        if len(batch) > len(self._taken) or not all(map(is_, batch, self._taken)):
            raise BrokenPromise("messages must be acknowledged in the order of receipt")
        del self._taken[: len(batch)]
        self._held_bytes -= sum(message.held_bytes for message in batch)
        return [message.packet_id for message in batch if message.packet_id is not None]
