"""Doctor: who is well is called well, however much is kept there."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adaptors.influx_history import InfluxAddress
from adaptors.points import Point
from adaptors.sqlite_history import open_sqlite_history
from loadtest.native import free_port
from spineloop import doctor, wiring
from spineloop.doctor import Finding
from spineloop.settings import Settings

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
    monkeypatch.setattr(wiring, "InfluxAddress", partial(InfluxAddress, timeout_s=0.5))
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
    away = f"127.0.0.1:{free_port()}"
    settings = Settings(history_url=url, mqtt_url=f"mqtt://{away}", log_url=f"kafka://{away}")
    (found,) = [one for one in await doctor.examine(settings) if one.component == "history"]
    return found
