"""The operator page as a role of its own, on a real Kafka: what it shows, what it writes, how it ends."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from adaptors.kafka_log import open_kafka_log
from loadtest import stack
from loadtest.child import running
from loadtest.native import free_port
from spineloop import wiring
from streams.core import codec
from streams.core.operators import OperatorAsked
from streams.core.topics import TELEMETRY
from tests.shell import clinic

pytestmark = pytest.mark.stack

KEY = "acme/north/lumbar-1"
DEADLINE_S = 120.0


async def test_two_pages_on_kafka_show_the_whole_fleet_and_write_what_is_asked() -> None:
    async with (
        stack.servers() as servers,
        open_kafka_log(servers.log.address, client_id="test", timeout_s=DEADLINE_S) as log,
    ):
        now_ms = wiring.wall_clock_ms()
        session = clinic.session(KEY, clinic.TIRING, until_ms=now_ms)
        await log.append(clinic.whole([*session, *clinic.fleet(40, now_ms)]))
        ports = [free_port(), free_port()]
        one, two = (servers.role("page", n, page_port=str(port)) for n, port in enumerate(ports))
        async with running(one) as first, running(two) as second, aiohttp.ClientSession() as browser:
            for port in ports:  # each page reads every partition: they share nothing out among themselves
                tiles = await seen(browser, port, lambda tiles: tiles.get(KEY, {}).get("rep") == 6 and len(tiles) == 41)
                assert tiles[KEY]["patient"] == "acme/p1"
            wish = OperatorAsked(machine=KEY, id="0" * 32, by="Kim", reason="patient unwell", action="stop")
            async with browser.post(f"http://127.0.0.1:{ports[0]}/api/asked", json=msgspec.to_builtins(wish)) as answer:
                assert answer.status == 202
            assert await asked(log) == [wish]
            await log.append(clinic.whole(clinic.session("acme/north/lumbar-99", [0.5, 0.5], until_ms=now_ms)))
            await seen(browser, ports[1], lambda tiles: tiles.get("acme/north/lumbar-99", {}).get("rep") == 2)
        assert (first.status, second.status) == (0, 0)


async def seen(browser: aiohttp.ClientSession, port: int, holds: Any) -> dict[str, Any]:
    """Listen to a page until its tiles are as they should be."""
    tiles: dict[str, Any] = {}
    async with asyncio.timeout(DEADLINE_S), browser.ws_connect(f"http://127.0.0.1:{port}/live") as socket:
        while not holds(tiles):
            message = await socket.receive_json()
            tiles |= {one["key"]: one for one in message.get("tiles", ())}
    return tiles


async def asked(log: Any) -> list[OperatorAsked]:
    found = []
    for partition in await log.bounds(TELEMETRY):
        async for records in log.read(TELEMETRY, partition):
            found += [codec.decode_telemetry(one.key.decode(), one.value or b"") for one in records]
    return [one for one in found if isinstance(one, OperatorAsked)]
