"""Outbox: what one MQTT connection has asked and the broker has not answered yet."""

import asyncio
from typing import Any, TypeVar

import mqtt5

from adaptors.mqtt_link import ConnectionLost

MAX_PACKET_ID = 65_535

_A = TypeVar("_A", mqtt5.PubAckPacket, mqtt5.SubAckPacket)


class Outbox:
    """Packet ids in use, each with its answer to be. An id stays in use until the broker answers, whoever still waits.

    Parameters
    ----------
    window : int
        Publishes that may be unanswered at a time.
    """

    def __init__(self, window: int) -> None:
        self._publishes: dict[int, asyncio.Future[mqtt5.PubAckPacket]] = {}
        self._subscribes: dict[int, asyncio.Future[mqtt5.SubAckPacket]] = {}
        self._last_id = 0
        self._window = asyncio.Semaphore(window)

    async def room(self) -> None:
        """Wait for a place in the window of publishes, first come, first served."""
        await self._window.acquire()

    def give_back(self) -> None:
        """Give back a place that no publish has taken."""
        self._window.release()

    def free_id(self) -> int:
        """Return the next packet id that is not in use."""
        packet_id = self._last_id % MAX_PACKET_ID + 1
        while packet_id in self._publishes or packet_id in self._subscribes:
            packet_id = packet_id % MAX_PACKET_ID + 1
        self._last_id = packet_id
        return packet_id

    def publish(self, packet_id: int) -> asyncio.Future[mqtt5.PubAckPacket]:
        """Note that a message was sent, which must have a place in the window."""
        return self._publishes.setdefault(packet_id, asyncio.get_running_loop().create_future())

    def subscribe(self, packet_id: int) -> asyncio.Future[mqtt5.SubAckPacket]:
        """Note that a subscription was sent."""
        return self._subscribes.setdefault(packet_id, asyncio.get_running_loop().create_future())

    def hear_puback(self, packet: mqtt5.PubAckPacket) -> None:
        """Take the answer to a publish; one to nothing we sent is nobody's loss."""
        if packet.packet_id in self._publishes:
            self._window.release()
            _answer(self._publishes.pop(packet.packet_id), packet)

    def hear_suback(self, packet: mqtt5.SubAckPacket) -> None:
        """Take the answer to a subscription."""
        if packet.packet_id in self._subscribes:
            _answer(self._subscribes.pop(packet.packet_id), packet)

    def end(self, reason: str) -> None:
        """Tell everybody that no answer will come, also those who wait for a place: they will fail when they send."""
        unanswered: list[asyncio.Future[Any]] = [*self._publishes.values(), *self._subscribes.values()]
        for future in unanswered:
            if not future.done():
                future.set_exception(ConnectionLost(reason))
                future.exception()  # seen, even if nobody waits for it
        for _ in self._publishes:
            self._window.release()


def _answer(future: asyncio.Future[_A], packet: _A) -> None:
    if not future.done():  # a cancelled publish has nobody who waits for it
        future.set_result(packet)
