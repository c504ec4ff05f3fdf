"""A process of roles: what it says of itself over HTTP while it starts, works and drains."""

import asyncio

import aiohttp
import pytest

from loadtest.native import free_port
from spineloop import running, watchdog
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from spineloop.watchdog import Needs
from spineloop.wiring import Role


async def test_a_process_that_drains_is_not_ready_though_its_role_still_works() -> None:
    may_end, port = asyncio.Event(), free_port()

    async def run(stop: asyncio.Event) -> None:
        await stop.wait()
        await may_end.wait()

    async def asked() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status, await answer.text()

    settings = Settings.read({"SPINELOOP_HTTP_PORT": str(port), "SPINELOOP_METERS_S": "0"})
    stop = asyncio.Event()
    process = asyncio.create_task(running.run([Role("r", run, lambda: True)], settings, Exposition(), stop))
    async with asyncio.timeout(30.0):
        while not await listens(port):
            await asyncio.sleep(0.01)
        assert await asked() == (200, "ready\n")
        stop.set()
        assert await asked() == (503, "not ready\n")
        may_end.set()
        await process


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_who_asks_for_what_a_role_needs_goes_on_after_an_error_that_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "LOOK_S", 0.0)
    errors: list[Exception | None] = [None, RuntimeError("a password that is being changed"), None]
    seen, are_asked = list[bool](), asyncio.Event()

    async def question() -> None:
        seen.append(needs.answer)
        error = errors.pop(0) if errors else None
        if len(seen) == 4:
            are_asked.set()
        if error is not None:
            raise error

    needs = Needs(question)
    asking = asyncio.create_task(needs.keep_asking())
    async with asyncio.timeout(10.0):
        await are_asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert seen[:4] == [False, True, False, True]
