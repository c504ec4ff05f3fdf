"""Broker watch: what mosquitto says of itself. It drops in silence, after PUBACK, so this is the only sign of it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import structlog

from streams.core.errors import Busy
from streams.core.meters import MeterName, Meters

WATCHED: Mapping[str, MeterName] = {"$SYS/broker/publish/messages/dropped": "spineloop_broker_dropped_messages"}
"""What is heard, and the gauge that shows it. mosquitto says each once in 10 s; other brokers say nothing."""

RETRY_S = 10.0
"""Pause after a lost connection, in s."""

MAX_BATCH = 10

_log = structlog.get_logger()


class Message(Protocol):
    """One message of the broker."""

    @property
    def topic(self) -> str:
        """What it is about."""

    @property
    def payload(self) -> bytes:
        """What it says."""


M = TypeVar("M", bound=Message)


class Connection(Protocol[M]):
    """One connection to the broker. When it is gone, every call raises Busy, and a new one is needed."""

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1."""

    async def receive(self, limit: int) -> Sequence[M]:
        """Return what has come, at least one message and at most `limit`."""

    def ack(self, batch: Sequence[M]) -> None:
        """Acknowledge messages in the order of receipt."""

    async def close(self) -> None:
        """Disconnect."""


async def watch(connect: Callable[[], Awaitable[Connection[M]]], meters: Meters, *, retry_s: float = RETRY_S) -> None:
    """Set the gauges to what the broker says, until cancelled. A broker that is away is asked again.

    Parameters
    ----------
    connect : callable
        Makes a connection of its own; raises Busy.
    meters : Meters
        Where the gauges are.
    retry_s : float
        Pause after a lost connection, in s.

    Raises
    ------
    Refused
        The broker does not tell us: its access rights leave out `$SYS`.
    """
    while True:
        try:
            await _listen(connect, meters)
        except Busy as busy:
            meters.count("spineloop_busy_total", component="broker_watch")
            _log.info("broker is not watched", why=str(busy), retry_s=retry_s)
        await asyncio.sleep(retry_s)


async def _listen(connect: Callable[[], Awaitable[Connection[M]]], meters: Meters) -> None:
    connection = await connect()
    try:
        await connection.subscribe(tuple(WATCHED))
        while True:
            batch = await connection.receive(MAX_BATCH)
            for message in batch:
                value = number(message.payload)
                if message.topic in WATCHED and value is not None:
                    meters.set(WATCHED[message.topic], value)
            connection.ack(batch)
    finally:
        await connection.close()


def number(payload: bytes) -> float | None:
    """Read what the broker says, None if it is not a count.

    Examples
    --------
    >>> number(b"17"), number(b"17 seconds"), number(b"nan")
    (17.0, None, None)
    """
    return float(payload) if payload.isdigit() else None
