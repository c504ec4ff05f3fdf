"""A process of roles: what it says of itself over HTTP while it starts, works and drains."""

import asyncio
import re
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from adaptors.sqlite_history import open_sqlite_history
from dashboards.grafana.alerts import ALERTS, Alert
from loadtest.native import free_port
from spineloop import process, running, watchdog
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
    async with asyncio.timeout(120.0):
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


def alert(uid: str) -> Alert:
    (found,) = [one for one in ALERTS if one.uid == uid]
    return found


async def test_a_role_whose_log_is_away_from_the_start_says_so_in_history_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_RETRY_S", 0.01)
    settings, refused = away(tmp_path, log_url="kafka://127.0.0.1:1"), Counter[str]()
    async with asyncio.timeout(120.0), open_sqlite_history(tmp_path / "history.db") as sink:
        for enough in (1.0, alert("server-away").over):  # it ends after a while, and is started anew
            exposition, stop = Exposition(), asyncio.Event()
            role = process.of_role("control", settings, exposition)
            waiting = asyncio.create_task(running.run([role], settings, exposition, stop))
            while refused.total() <= enough:
                await asyncio.sleep(0.01)
                refused = Counter()
                for point in await sink.select("meter"):
                    refused[dict(point.tags).get("component", "")] += int(point.fields.get("increase", 0))
            stop.set()
            await waiting
    assert +refused == {"log": refused.total()}
    assert "\"component\" = 'log'" in alert("server-away").asked[0].query


async def test_a_history_that_is_away_from_the_start_is_counted_as_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_RETRY_S", 0.01)
    settings, exposition, stop = away(tmp_path, history_url="http://127.0.0.1:1"), Exposition(), asyncio.Event()
    waiting = asyncio.create_task(process.of_role("history", settings, exposition).run(stop))
    async with asyncio.timeout(120.0):
        while not (refused := re.findall(r'busy_total{component="(.+)"}', exposition.text().decode())):
            await asyncio.sleep(0.01)
        stop.set()
        await waiting
    (failing,) = re.findall(r'"component" =~ /(.+)/', alert("history-failing").asked[0].query)
    assert [bool(re.search(failing, component)) for component in refused] == [True]


def away(folder: Path, **chosen: str) -> Settings:
    """Name servers that are there, files in a folder, but for the one that is chosen."""
    names = {
        "log_url": f"sqlite:///{folder}",
        "history_url": f"sqlite:///{folder}",
        "meters_s": "0.05",
        "http_port": "0",
    }
    return Settings.read({f"SPINELOOP_{name.upper()}": value for name, value in (names | chosen).items()})


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
    async with asyncio.timeout(120.0):
        await are_asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert seen[:4] == [False, True, False, True]
