"""Embedded: the whole loop in one process. A broker in a child process, the log and history in SQLite."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from adaptors.embedded_broker import embedded_broker
from spineloop import wiring
from spineloop.settings import Settings
from spineloop.wiring import Role, Sink
from streams.core.meters import Meters
from streams.core.topics import DEAD_LETTER
from streams.log import Log

PARTITIONS = 4
"""Of every topic of an embedded log: one process works on all of them, and more would only cost checkpoints."""


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """Where the embedded loop keeps its data, and whose broker it uses: `mqtt_url`, or its own on `port`."""

    data: Path
    mqtt_url: str | None = None
    port: int = 1883


class Embedded(msgspec.Struct, frozen=True):
    """A loop that is put together and not running yet: its settings, its roles, its history."""

    settings: Settings
    roles: list[Role]
    log: Log
    history: Sink

    async def dead_letters(self) -> int:
        """Count the dead letters in the log."""
        return sum(end - first for first, end in (await self.log.bounds(DEAD_LETTER)).values())


def free_port() -> int:
    """Find a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def opened(settings: Settings, embedding: Embedding, meters: Meters) -> AsyncIterator[Embedded]:
    """Start the broker if it is ours, open log and history, build every role."""
    async with AsyncExitStack() as stack:
        place = f"sqlite://{embedding.data.absolute()}"
        url = embedding.mqtt_url or await stack.enter_async_context(embedded_broker(embedding.port))
        bound = replace(settings, mqtt_url=url, log_url=place, history_url=place, partitions=PARTITIONS)
        log = await stack.enter_async_context(wiring.open_log(bound, "embedded"))
        history = await stack.enter_async_context(wiring.open_history(bound))
        yield Embedded(bound, wiring.all_roles(bound, log, history, meters), log, history)
