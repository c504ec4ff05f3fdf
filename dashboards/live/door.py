"""Door: a listener holds so many connections and no more, for each is an open file, of which a process has few."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import structlog
from aiohttp import web

TELL_S = 60.0
"""Least time between two lines in the log on connections that were not let in, in s: who floods us must not fill it."""

_log = structlog.get_logger()


@asynccontextmanager
async def listening(runner: web.AppRunner, host: str, port: int, most: int) -> AsyncIterator[int]:
    """Let a runner that is set up hear at an address until the block ends; yield the port.

    Who comes while it has `most` connections is closed at once; those that are there go on. They outlive the block, and
    end with the runner. Raises OSError if nobody can listen there.
    """
    door = _Door(cast("web.Server", runner.server), most)
    listener = await asyncio.get_running_loop().create_server(lambda: _Comer(door), host, port)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


class _Door:
    """Hands a new connection to the server, or closes it."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most
        self._refused = 0
        self._told_s = float("-inf")

    def let_in(self, transport: asyncio.Transport) -> None:
        """Decide on a connection. Its server counts it from here on, so those that come together can't be too many."""
        if len(self._server.connections) >= self._most:
            transport.abort()
            self._refuse(transport)
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)

    def _refuse(self, transport: asyncio.Transport) -> None:
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_S:
            address = transport.get_extra_info("sockname")
            _log.warning("connections refused", at=address, refused=self._refused, open=self._most)
            self._refused, self._told_s = 0, now_s


class _Comer(asyncio.Protocol):
    """A connection that is not let in yet; it has read nothing."""

    def __init__(self, door: _Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Knock."""
        self._door.let_in(cast("asyncio.Transport", transport))
