"""Queries: every query of every board and alert, on millions of points in a real InfluxDB, as Grafana would ask it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from statistics import median
from typing import Any

import aiohttp

from loadtest import grafana, native
from loadtest.bench.many_points import DAYS, SESSION, lines, shapes
from loadtest.bench.processes import cpu_s, peak_bytes
from loadtest.bench.report import Effort, Run
from loadtest.child import Child
from loadtest.grafana import Question, Values
from spineloop import wiring
from spineloop.settings import Settings

POINTS, QUICK_POINTS = 10_000_000, 400_000
CHUNK_LINES, WRITERS = 10_000, 3
"""Points of one request, 6 MB, and requests at a time."""

AIM_MS = 300.0
TIMES = 3
"""Each query is asked so often after the first time; the median counts."""

QUIET_S, QUIET_LIMIT_S = 2.0, 90.0
"""The server has sorted its files when it hardly works for so long; waited for no longer than the limit."""

DATABASE, RETENTION = "telemetry", "raw"


async def queries(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill an InfluxDB once, and ask everything several times."""
    points = QUICK_POINTS if effort.quick else POINTS
    told = await shapes()
    async with native.influxdb() as server, aiohttp.ClientSession() as session:
        settings = Settings.read({"SPINELOOP_HISTORY_URL": server.url})
        async with wiring.open_history(settings):
            pass  # makes the database as a role does
        influx = Influx(session, server.url)
        start_s, now_ns = time.monotonic(), time.time_ns()
        await _fill(influx, _chunks(lines(told, points, now_ns)))
        filled_s = time.monotonic() - start_s
        filled_cpu_s = cpu_s(server.process.pid)
        await _quiet(server.process)
        figures = {
            "points": float(points),
            "points_written_per_s": points / filled_s,
            "influxdb_cpu_us_per_point": 1e6 * filled_cpu_s / points,
            "disk_MB": sum(file.stat().st_size for file in server.folder.rglob("*") if file.is_file()) / 1e6,
        }
        lost = points - await influx.count()
        void = (f"{lost} of {points} points are not there",) if lost else ()
        for _ in range(effort.runs):
            asked = await _asked(influx, now_ns // 1_000_000)
            peak = {"influxdb_peak_rss_MB": peak_bytes(server.process.pid) / 1e6}
            yield Run(figures | peak | asked, void)


async def _fill(influx: "Influx", chunks: Iterator[bytes]) -> None:
    """Write all chunks, some at a time, so that the server always has one to parse and one to flush."""

    async def some() -> None:
        for chunk in chunks:  # whoever is free takes the next one
            await influx.write(chunk)

    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(some())


def _chunks(told: Iterator[str]) -> Iterator[bytes]:
    while some := list(islice(told, CHUNK_LINES)):
        yield "\n".join(some).encode()


class Influx:
    """An InfluxDB as Grafana meets it."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def write(self, chunk: bytes) -> None:
        """Store lines; wait while the server asks for time."""
        where = {"db": DATABASE, "rp": RETENTION, "precision": "ns"}
        while True:
            async with self._session.post(f"{self._url}/write", params=where, data=chunk) as answer:
                if answer.status == 204:
                    return
                if answer.status < 500:
                    raise ValueError(await answer.text())
            await asyncio.sleep(0.2)

    async def ask(self, influxql: str) -> list[dict[str, Any]]:
        """Return the series of one query. Raises ValueError with what the server says against it."""
        form = {"q": influxql, "db": DATABASE, "epoch": "ms"}
        async with self._session.post(f"{self._url}/query", data=form) as answer:
            told = await answer.json(content_type=None)
        result = told.get("results", [{}])[0]
        if "error" in told or "error" in result:
            raise ValueError(f"{told.get('error') or result['error']}: {influxql}")
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    async def count(self) -> int:
        """Count all points by a field that every point of its kind has."""
        named = {
            "rep": "load_N",
            "meter": "value",
            "machine": "online",
            "patient": "sessions",
            "session_summary": "sets",
        }
        named |= {"set_summary": "reps", "notice": "id", "command": "command_id", "command_closed": "command_id"}
        found = 0
        for kind in (*SESSION, "meter"):
            for one in await self.ask(f'SELECT COUNT("{named[kind]}") FROM "raw"."{kind}"'):  # noqa: S608 - our own words
                found += one["values"][0][1]
        return found


async def _quiet(process: Child) -> None:
    """Wait until the server has nothing to tidy up any more."""
    before_s = cpu_s(process.pid)
    for _ in range(round(QUIET_LIMIT_S / QUIET_S)):
        await asyncio.sleep(QUIET_S)
        now_s = cpu_s(process.pid)
        if now_s - before_s < 0.05 * QUIET_S:
            return
        before_s = now_s


async def _asked(influx: Influx, now_ms: int) -> dict[str, float]:
    """Open every board and look at every alert; return how long queries took, in ms."""
    took: dict[str, float] = {}
    cold_ms = 0.0
    found: list[tuple[str, str, Sequence[float]]] = []
    busy = await _busy(influx, now_ms)
    for uid, board in grafana.boards().items():
        values: dict[str, str | Sequence[str]] = {}
        for variable in board["templating"]["list"]:
            query = grafana.interpolated(variable["query"], values, now_ms - DAYS * 86_400_000, now_ms)
            times, series = await _timed(influx, query)
            offered = grafana.offered_in(series)
            wanted = busy.get(variable["name"])
            values[variable["name"]] = (
                wanted if wanted in offered and not variable["multi"] else grafana.chosen(variable, offered)
            )
            found.append((f"{uid} variables", variable["name"], times))
        for question in grafana.panels(board):
            times, _ = await _timed(influx, _put(question, values, now_ms))
            found.append((f"{uid} panels", question.title, times))
    for question in grafana.alerts():
        times, _ = await _timed(influx, _put(question, {}, now_ms))
        found.append(("alerts", question.title, times))
    over: dict[str, float] = {}
    for group, title, (cold, *warm) in found:
        typical_ms = median(warm)
        cold_ms = max(cold_ms, cold)
        name = f"slowest_of_{group.replace(' ', '_')}_ms"
        took[name] = max(took.get(name, 0.0), typical_ms)
        if typical_ms > AIM_MS:
            over[f"{group}: {title}, ms"] = typical_ms
    slowest_ms = max(median(warm) for _, _, (_, *warm) in found)
    return {"queries": float(len(found)), "slowest_ms": slowest_ms, "slowest_first_time_ms": cold_ms} | took | over


async def _busy(influx: Influx, now_ms: int) -> dict[str, str]:
    """Return place and patient of somebody who trains now: a board of nobody costs nothing."""
    told = '"tenant", "site", "machine", "patient"'
    query = f'SELECT {told} FROM "raw"."rep" WHERE time > {now_ms - 600_000}ms ORDER BY time DESC LIMIT 1'  # noqa: S608
    (series,) = await influx.ask(query)
    return dict(zip(series["columns"], series["values"][0], strict=True))


def _put(question: Question, values: Values, now_ms: int) -> str:
    since_ms, until_ms = now_ms - 1_000 * question.since_s, now_ms - 1_000 * question.until_s
    every_s = max(question.every_s, grafana.interval_s(question.since_s - question.until_s))
    return grafana.interpolated(question.query, values, since_ms, until_ms, every_s)


async def _timed(influx: Influx, query: str) -> tuple[list[float], list[dict[str, Any]]]:
    """Ask once, and then some more times; return the times in ms and the last answer."""
    times: list[float] = []
    series: list[dict[str, Any]] = []
    for _ in range(1 + TIMES):
        start_s = time.perf_counter()
        series = await influx.ask(query)
        times.append(1e3 * (time.perf_counter() - start_s))
    return times, series
