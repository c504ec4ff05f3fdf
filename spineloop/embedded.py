"""Embedded: the whole loop in one process. A broker in a child process, the log and history in SQLite."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from adaptors import embedded_broker
from adaptors.sqlite_errors import Full
from adaptors.sqlite_room import disk_of
from dashboards.live.server import Page
from spineloop import wiring
from spineloop.settings import Settings
from spineloop.wiring import Role, Sink
from streams.core.errors import BrokenPromise
from streams.core.meters import Meters
from streams.core.topics import DEAD_LETTER
from streams.log import Log

PARTITIONS = 4
"""Of every topic of an embedded log: one process works on all of them, and more would only cost checkpoints."""

ROOM_RETRY_S = 1.0
"""Pause in s between two tries to open log and history while the disk is full."""

_log = structlog.get_logger()


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """Where the embedded loop keeps its data, and whose broker it uses: `mqtt_url`, or its own on `port`.

    `page` adds the operator page, where the settings say. With `waits`, a disk that is full at the start is waited for.
    """

    data: Path
    mqtt_url: str | None = None
    port: int = 1883
    page: bool = False
    waits: bool = False


class Embedded(msgspec.Struct, frozen=True):
    """A loop that is put together and not running yet: its settings, its roles, its history, its page if it has one."""

    settings: Settings
    roles: list[Role]
    log: Log
    history: Sink
    page: Page | None = None

    async def dead_letters(self) -> int:
        """Count the dead letters in the log."""
        return sum(end - first for first, end in (await self.log.bounds(DEAD_LETTER)).values())


def free_port(wanted: int = 0) -> int:
    """Find a loopback port that nobody listens on: the one that is wanted, or any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def opened(settings: Settings, embedding: Embedding, meters: Meters) -> AsyncIterator[Embedded]:
    """Start the broker if it is ours, open log and history, build every role.

    Our broker is a role like the others: told to stop it ends at once, while they finish what they have in hand, so it
    confirms nothing to a machine that nobody will fetch. If it ends by itself, it ends them all.

    Raises
    ------
    WrongSetting
        The data can't have that folder.
    """
    wiring.make_folder(embedding.data, "--data")
    async with AsyncExitStack() as stack:
        place = f"sqlite://{embedding.data.absolute()}"
        bound = replace(settings, log_url=place, history_url=place, partitions=PARTITIONS)
        ours = list[Role]()
        if embedding.mqtt_url is None:
            broker = await stack.enter_async_context(embedded_broker.started(embedding.port))
            ours = [Role("broker", broker.run, lambda: broker.is_alive)]
            bound = replace(bound, mqtt_url=broker.url, broker="iotcore")
        else:
            bound = replace(bound, mqtt_url=embedding.mqtt_url)
        try:
            log, history = await stack.enter_async_context(_files(bound))
        except Full as full:
            if not embedding.waits:
                raise
            _log.error("disk is full: waiting for room", disk=str(disk_of(embedding.data)), why=str(full))
            log, history = await _when_there_is_room(stack, bound, ours, wiring.reflex(bound, meters))
        roles = wiring.all_roles(bound, log, history, meters)
        if not embedding.page:
            yield Embedded(bound, [*roles, *ours], log, history)
            return
        page = wiring.page(bound, log, roles)
        yield Embedded(bound, [*roles, wiring.page_role(page), *ours], log, history, page)


@asynccontextmanager
async def _files(bound: Settings) -> AsyncIterator[tuple[Log, Sink]]:
    async with wiring.open_log(bound, "embedded") as log, wiring.open_history(bound) as history:
        yield log, history


async def _when_there_is_room(
    stack: AsyncExitStack, bound: Settings, ours: Sequence[Role], reflex: Role
) -> tuple[Log, Sink]:
    """Open log and history as soon as they can be. Reflex works meanwhile: who is in danger waits for no operator."""
    stop = asyncio.Event()
    if ours:
        await _keep_for_the_bridge(bound)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reflex.run(stop))
        try:
            while all(role.is_ready() for role in ours):
                await asyncio.sleep(ROOM_RETRY_S)
                with suppress(Full):
                    return await stack.enter_async_context(_files(bound))
        finally:
            stop.set()
    raise BrokenPromise("the embedded broker ended")


async def _keep_for_the_bridge(bound: Settings) -> None:
    """Let our broker, which has just begun, keep what machines say: it confirms also what nobody has subscribed to."""
    session = wiring.connect(bound, bound.ingest_client_id, session_expiry_s=wiring.MQTT_SESSION_S)
    async with await session() as bridge:
        await bridge.subscribe(wiring.filters(bound))
