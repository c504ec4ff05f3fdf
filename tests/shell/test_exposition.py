"""Exposition over HTTP: who is answered, and where nobody is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from dashboards.live.guard import MAX_FAILURES
from loadtest.native import free_port
from spineloop.exposition import MAX_CONNECTIONS, Exposition, served

LISTENS = "0A"
TOKEN = "hush-http-token-of-this-test"  # noqa: S105 - of this test alone


def listening() -> set[str]:
    """Return the TCP sockets on which this process listens, as Linux names them."""
    mine = set[str]()
    for number in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that listed them
            mine.add(str(number.readlink()))
    rows = [row.split() for row in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return mine & {f"socket:[{row[9]}]" for row in rows if row[3] == LISTENS}


async def test_port_0_opens_no_port_at_all() -> None:
    before = listening()
    async with served(Exposition(), "127.0.0.1", 0, lambda: True):
        assert listening() == before
    async with served(Exposition(), "127.0.0.1", free_port(), lambda: True):
        assert len(listening() - before) == 1


async def test_however_many_wrong_tokens_came_the_right_one_is_let_in() -> None:
    port = free_port()

    async def asked(told: str) -> int:
        answer = await session.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {told}"})
        return answer.status

    async with served(Exposition(), "127.0.0.1", port, lambda: True, TOKEN), aiohttp.ClientSession() as session:
        assert {await asked(f"{TOKEN}{n}") for n in range(MAX_FAILURES + 1)} == {401}
        assert await asked(TOKEN) == 200
        assert await asked("") == 401


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer_at(port: int) -> bytes:
    """Ask on a connection of its own; nothing if that is closed instead."""
    async with connected(port) as (reader, writer), asyncio.timeout(20.0):
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return await reader.readline()
        except ConnectionError:
            return b""


async def test_one_connection_more_than_the_bound_is_closed_and_after_another_has_gone_a_new_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    async with served(Exposition(), "127.0.0.1", port, lambda: True), AsyncExitStack() as others:
        for _ in range(MAX_CONNECTIONS - 1):
            await others.enter_async_context(connected(port))
        async with connected(port):
            with capture_logs() as lines:
                assert [await answer_at(port) for _ in range(3)] == [b""] * 3
                monkeypatch.setattr("dashboards.live.door.TELL_S", 0.0)  # a minute later
                assert await answer_at(port) == b""
            told = [line["refused"] for line in lines if line["event"] == "connections refused"]
            assert told == [1, 3]  # all are counted, in a line a minute
        async with asyncio.timeout(20.0):
            while not (answer := await answer_at(port)):
                await asyncio.sleep(0.01)
        assert answer == b"HTTP/1.1 200 OK\r\n"


async def test_who_asks_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spineloop.exposition.IDLE_S", 0.2)
    port = free_port()
    async with served(Exposition(), "127.0.0.1", port, lambda: True):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: ")
        async with asyncio.timeout(120.0):
            assert await reader.read() == b""
        writer.close()
