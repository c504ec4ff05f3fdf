"""Doctor: who is well is called well, however much is kept there; who is not there is not made by asking."""

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from adaptors.influx_history import InfluxAddress
from adaptors.points import Point
from adaptors.sqlite_history import open_sqlite_history
from adaptors.sqlite_log import open_sqlite_log
from loadtest.native import free_port
from spineloop import doctor, wiring
from spineloop.doctor import Finding
from spineloop.embedded import PARTITIONS
from spineloop.settings import Settings
from tests.shell.spoken import Spineloop

HOUR_NS = 3_600 * 10**9


@pytest.fixture
async def years_of_points() -> AsyncIterator[str]:
    """Answer at once what is asked of the last hour, and never what is asked of all time."""

    async def ping(_: web.Request) -> web.Response:
        return web.Response(status=204, headers={"X-Influxdb-Version": "v2.9.1"})

    async def query(request: web.Request) -> web.Response:
        asked = str((await request.post())["q"])
        if asked.startswith("SHOW RETENTION POLICIES"):
            return web.json_response({"results": [{"series": [{"values": [["raw"]]}]}]})
        while "WHERE time >= " not in asked:
            await asyncio.sleep(0.01)
        return web.json_response({"results": [{"series": [{"values": [[0, 1234]]}]}]})

    app = web.Application()
    app.add_routes([web.get("/ping", ping), web.post("/query", query)])
    async with TestServer(app) as server:
        yield str(server.make_url(""))


async def test_a_history_of_years_is_well_and_tells_of_its_last_hour(
    years_of_points: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "InfluxAddress", partial(InfluxAddress, timeout_s=10.0))
    found = await history_of(years_of_points)
    assert (found.is_well, found.found) == (True, f"{years_of_points}: 1234 reps in the last hour")


async def test_a_history_without_a_rep_in_the_last_hour_is_well_too(tmp_path: Path) -> None:
    url, now_ns = f"sqlite://{tmp_path}", wiring.wall_clock_ms() * 1_000_000
    async with open_sqlite_history(tmp_path / "history.db") as history:
        await history.write([rep(now_ns - 2 * HOUR_NS)])
        assert (await history_of(url)).found == f"{url}: 0 reps in the last hour"
        await history.write([rep(now_ns - HOUR_NS // 2), rep(now_ns)])
    assert (await history_of(url)).found == f"{url}: 2 reps in the last hour"


def rep(t_ns: int) -> Point:
    return Point("rep", (("machine", "m"), ("site", "s"), ("tenant", "t")), {"valid": True}, t_ns)


async def history_of(url: str) -> Finding:
    """Examine a stack of which the history alone is there."""
    return await found_of("history", history_url=url)


async def log_of(folder: Path, partitions: int = PARTITIONS) -> Finding:
    """Examine a stack of which an embedded log alone may be there."""
    return await found_of("log", log_url=f"sqlite://{folder}", partitions=partitions)


async def found_of(component: str, **there: Any) -> Finding:
    away = f"127.0.0.1:{free_port()}"
    told = {"history_url": f"http://{away}", "mqtt_url": f"mqtt://{away}", "log_url": f"kafka://{away}"} | there
    (found,) = [one for one in await doctor.examine(Settings(**told)) if one.component == component]
    return found


# --- log and history in a file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mistyped", "."], ids=["no folder", "empty folder"])
def test_what_is_not_there_is_not_well_and_is_not_made(spineloop: Spineloop, tmp_path: Path, name: str) -> None:
    folder, away = tmp_path / name, f"127.0.0.1:{free_port()}"
    url = f"sqlite://{folder}"
    said = spineloop(
        "doctor",
        "--json",
        SPINELOOP_MQTT_URL=f"mqtt://{away}",
        SPINELOOP_LOG_URL=url,
        SPINELOOP_HISTORY_URL=url,
    )
    assert said.code == 1
    findings = {one["component"]: one for one in said.told}
    assert [findings[name]["is_well"] for name in ("log", "history")] == [False, False]
    assert findings["log"]["found"] == f"{url}: no log at {folder / 'log.db'}"
    assert findings["history"]["found"] == f"{url}: no history at {folder / 'history.db'}"
    for component in ("log", "history"):
        assert findings[component]["mend"].startswith(f"`spineloop serve --data {folder}` makes one")
        assert f"set SPINELOOP_{component.upper()}_URL" in findings[component]["mend"]
    assert list(tmp_path.iterdir()) == []


async def test_a_log_in_a_file_is_well_and_stays_as_it_is(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS):
        assert (await log_of(tmp_path)).is_well  # while somebody writes
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}  # noqa: ASYNC240 - a test
    found = await log_of(tmp_path)
    assert (found.is_well, found.found) == (True, f"sqlite://{tmp_path}: a log with {PARTITIONS} partitions")
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before  # noqa: ASYNC240


async def test_a_log_in_a_file_that_no_role_could_open_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS):
        pass
    found = await log_of(tmp_path, PARTITIONS + 1)
    assert not found.is_well
    assert found.found.endswith(f": it has {PARTITIONS} partitions, and SPINELOOP_PARTITIONS is {PARTITIONS + 1}")
    monkeypatch.setattr(os, "access", lambda place, _: place == tmp_path)  # root may write everywhere
    assert (await log_of(tmp_path)).found == f"sqlite://{tmp_path}: {tmp_path / 'log.db'} can't be written to"


@pytest.mark.parametrize("told", ["mqtt://[fd00::5]:1883: no answer", "/srv/a[/b]/policy.toml: no such file"])
def test_an_address_or_a_path_with_brackets_is_shown_as_it_is(told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=120).print(doctor.table([Finding(component="mqtt", is_well=False, found=told, mend=told)]))
    assert capsys.readouterr().out.count(told) == 2
