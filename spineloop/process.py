"""Process: one role with clients of its own, which begins when its servers are there and ends when it is told to."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

import structlog

from adaptors import broker_watch
from spineloop import wiring
from spineloop.settings import Settings
from spineloop.wiring import Role
from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters

START_RETRY_S = 1.0
"""Pause in s between two tries of a role to begin while one of its servers is away."""

_log = structlog.get_logger()
_T = TypeVar("_T")


def of_role(name: str, settings: Settings, meters: Meters) -> Role:
    """Be one role with clients of its own, as a process of the distributed way: from when its servers are there.

    While one of them is away it waits, is not ready, and says so; for `stall_s` at most, as in a run (E8). What happens
    after it has begun is the role's own business.
    """
    begun: list[Role] = []

    async def run(stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stops:
            role = await _patiently(
                stop, settings.stall_s, lambda: stops.enter_async_context(_opened(name, settings, meters))
            )
            if role is not None:
                begun.append(role)
                await role.run(stop)

    return Role(name, run, lambda: bool(begun) and begun[0].is_ready())


async def _expire(limit: asyncio.Timeout, stop: asyncio.Event) -> None:
    await stop.wait()
    limit.reschedule(asyncio.get_running_loop().time())


async def _patiently(stop: asyncio.Event, limit_s: float, open_once: Callable[[], Awaitable[Role]]) -> Role | None:
    """Open as soon as it can be; None if told to stop before. Raises BrokenPromise when it took too long."""
    start_s = time.monotonic()
    while not stop.is_set():
        try:
            async with asyncio.timeout(None) as limit:
                stopping = asyncio.create_task(_expire(limit, stop))
                try:
                    return await open_once()
                finally:
                    stopping.cancel()
        except TimeoutError:
            if not stop.is_set():
                raise
            return None  # a server that does not answer keeps nobody from ending
        except Busy as busy:
            waited_s = time.monotonic() - start_s
            if waited_s > limit_s:
                raise BrokenPromise(f"nothing to begin with in {limit_s} s: {busy}") from busy
            _log.warning("waiting for a server", why=str(busy), waited_s=round(waited_s, 1), limit_s=limit_s)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), START_RETRY_S)
    return None


@asynccontextmanager
async def _opened(name: str, settings: Settings, meters: Meters) -> AsyncIterator[Role]:
    if name == "reflex":
        yield wiring.reflex(settings, meters)
        return
    async with _counted("log", wiring.open_log(settings, name), meters) as log:
        if name == "history":
            async with _counted(name, wiring.open_history(settings), meters) as sink:
                yield wiring.history(settings, log, sink, meters)
        elif name == "ingest":
            yield _watching_the_broker(wiring.ingest(settings, log, meters), settings, meters)
        elif name == "page":
            yield wiring.page_role(wiring.page(settings, log))
        else:
            yield wiring.WITH_LOG[name](settings, log, meters)


@asynccontextmanager
async def _counted(component: str, opening: AbstractAsyncContextManager[_T], meters: Meters) -> AsyncIterator[_T]:
    """Open a server, and count that it refuses: whoever waits for it must be as loud as whoever has lost it."""
    async with AsyncExitStack() as stops:
        try:
            opened = await stops.enter_async_context(opening)
        except Busy:
            meters.count("spineloop_busy_total", component=component)
            raise
        yield opened


def _watching_the_broker(role: Role, settings: Settings, meters: Meters) -> Role:
    """Let a bridge also tell what the broker says of itself; that it does not say it is no reason to stop."""

    async def watch() -> None:
        try:
            await broker_watch.watch(wiring.connect(settings, f"{settings.ingest_client_id}-watch"), meters)
        except BrokenPromise as refused:
            _log.warning("broker is not watched", why=str(refused))

    return Role(role.name, wiring.beside(role.run, watch), role.is_ready)
