"""Proxy: a TCP connection that can be cut or slowed down, on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from loadtest.probes import LOOPBACK

CHUNK_BYTES = 64 * 1024
"""Read at a time; with the transports' own buffers, all that a connection holds."""


class Proxy:
    """Carries every connection to its port on to another port, as long as it is not told otherwise.

    Attributes
    ----------
    port : int
        Where it listens.
    slow_s : float
        How long every chunk is held back, in s, in both directions.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.port, self._upstream = port, upstream
        self.slow_s = 0.0
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset every connection, and every new one, until `mend`."""
        self._is_cut = True
        for writer in tuple(self._open):
            writer.transport.abort()

    def mend(self) -> None:
        """Carry again, and at once."""
        self._is_cut, self.slow_s = False, 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self._upstream)
        except OSError:  # the server is away, and so are we
            writer.transport.abort()
            return
        both = {writer, back}
        self._open |= both
        try:
            await asyncio.wait(
                {asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))}
            )
        finally:
            self._open -= both
            for each in both:
                each.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                if self.slow_s:
                    await asyncio.sleep(self.slow_s)
                sink.write(chunk)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
                return
        sink.transport.abort()


@asynccontextmanager
async def proxied(port: int, upstream: int) -> AsyncIterator[Proxy]:
    """Listen on a port and carry on to another as long as the block."""
    proxy = Proxy(port, upstream)
    server = await asyncio.start_server(proxy.carry, LOOPBACK, port)
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
