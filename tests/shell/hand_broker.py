"""A broker whose answers are written by hand, to show what a client does that no good broker would make it do."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import mqtt5

DEADLINE_S = 120.0

P = TypeVar("P", bound=mqtt5.Packet)


class HandBroker:
    """Takes one connection, answers CONNECT with what it was given, and then only what it is told to."""

    _writer: asyncio.StreamWriter
    _serving: asyncio.Task[None] | None

    def __init__(self, connack: mqtt5.ConnAckPacket | None) -> None:
        self.heard: list[mqtt5.Packet] = []
        self._connack = connack
        self._rest = b""

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer, self._serving = writer, asyncio.current_task()
        while data := await reader.read(65_536):
            self._rest += data
            while self._rest:
                try:
                    packet, size = mqtt5.read(memoryview(self._rest))
                except IndexError:
                    break
                self._rest = self._rest[size:]
                self.heard.append(packet)
                if isinstance(packet, mqtt5.ConnectPacket) and self._connack is not None:
                    self.send(self._connack.write())
                if isinstance(packet, mqtt5.DisconnectPacket):
                    writer.close()

    def send(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))

    def of(self, kind: type[P]) -> list[P]:
        return [packet for packet in self.heard if isinstance(packet, kind)]

    async def until(self, kind: type[P], number: int = 1) -> list[P]:
        await until(lambda: len(self.of(kind)) >= number)
        return self.of(kind)

    async def close(self) -> None:
        """Hang up; whoever was let in has had its turn by now."""
        self._server.close()
        self._writer.close()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait({self._serving})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)
