"""Inbox: what one MQTT connection has received and not yet acknowledged, in the order of receipt."""

from collections.abc import Iterable, Sequence
from operator import is_

import mqtt5

from streams.core.errors import BrokenPromise

MAX_HELD_BYTES = 67_108_864
"""Payload bytes held at which the inbox is full: 64 MiB, of a process that may have 512."""


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
    >>> inbox, one = Inbox(max_held=2), mqtt5.PublishPacket("t", b"1", packet_id=7, qos=mqtt5.QoS.AT_LEAST_ONCE)
    >>> inbox.put([one])
    >>> [message.payload for message in inbox.take(limit=10)], inbox.held
    ([b'1'], 1)
    >>> inbox.settle([one])
    [7]
    """

    def __init__(self, max_held: int) -> None:
        self._max_held = max_held
        self._waiting: list[mqtt5.PublishPacket] = []
        self._taken: list[mqtt5.PublishPacket] = []
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

    def put(self, messages: Iterable[mqtt5.PublishPacket]) -> None:
        """Add messages at the end."""
        for message in messages:
            self._waiting.append(message)
            self._held_bytes += len(message.payload)

    def take(self, limit: int) -> Sequence[mqtt5.PublishPacket]:
        """Hand out the next messages, at most `limit`."""
        batch, self._waiting = self._waiting[:limit], self._waiting[limit:]
        self._taken += batch
        return batch

    def settle(self, batch: Sequence[mqtt5.PublishPacket]) -> Sequence[int]:
        """Forget the first of those that were taken; return the packet ids to acknowledge (QoS 0 has none).

        Raises
        ------
        BrokenPromise
            These are not the first ones, in the order of receipt.
        """
        if len(batch) > len(self._taken) or not all(map(is_, batch, self._taken)):
            raise BrokenPromise("messages must be acknowledged in the order of receipt")
        del self._taken[: len(batch)]
        self._held_bytes -= sum(len(message.payload) for message in batch)
        return [message.packet_id for message in batch if message.packet_id is not None]
