"""History: what the controller concluded, waiting in Kafka, and who writes it into InfluxDB: our role, and a client.

The client is fed by the same role, so both make the same points of the same records, one after the other, each for a
database of its own. What arrived is counted there.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import islice

import aiohttp
import msgspec
from msgspec.structs import replace

from loadtest import native, stack
from loadtest.bench import stories
from loadtest.bench.lap import Lap, Unfinished, Watch
from loadtest.bench.report import Effort, Run
from loadtest.bench.stepping import heard, outputs_of
from loadtest.child import Program, running
from loadtest.native import Server
from loadtest.stack import Stack, is_ready
from spineloop import wiring
from streams.core import codec
from streams.core.records import NewRecord, Record, header
from streams.core.results import (
    CommandClosed,
    MachineSeen,
    Notice,
    PatientAssessed,
    RepMeasured,
    SessionSummarised,
    SetSummarised,
)
from streams.core.topics import COMMAND, METRIC
from streams.log import Log

MACHINES = 200
MESSAGES = 30_000
"""What machines say, for the controller to conclude from; half as many points come of it."""

TENANTS, QUICK_TENANTS = 8, 4
"""How many say just the same: it is told once, and then again under other names."""

MEASUREMENTS: Mapping[type, str] = {
    RepMeasured: "rep",
    SetSummarised: "set_summary",
    SessionSummarised: "session_summary",
    PatientAssessed: "patient",
    CommandClosed: "command_closed",
    MachineSeen: "machine",
    Notice: "notice",
}
"""Where history keeps a metric."""

WARM_UP_RECORDS = 3_000
APPENDED = 2_000

LIMIT_S = 120.0
"""Longest wait in s until all points are written."""


async def history(effort: Effort) -> AsyncGenerator[Run, None]:
    """Append what was concluded, let both write it, and count what is there."""
    told = await asyncio.to_thread(concluded, QUICK_TENANTS if effort.quick else TENANTS)
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        warm_up = await _run(servers, log, told[:WARM_UP_RECORDS], "warm_up")
        if warm_up.void:
            yield warm_up
        for number in range(effort.runs):
            yield await _run(servers, log, told, f"run_{number}")


def concluded(tenants: int, messages: int = MESSAGES, machines: int = MACHINES) -> list[Record]:
    """Return metrics and commands that what so many tenants say leads to."""
    story = stories.story(seed=1, machines=machines, tenant="bench", start_ms=wiring.wall_clock_ms())
    said = [heard(stories.record(one), offset) for offset, one in enumerate(islice(story, messages))]
    told = [one for one in outputs_of(said) if one.topic in {METRIC, COMMAND}]
    return [_by(b"benc%d/" % number, one) for number in range(tenants) for one in told]


def _by(tenant: bytes, one: Record) -> Record:
    """Let another tenant say it; its name is as long, so that no length before it changes."""
    key, value = one.key.replace(b"bench/", tenant), (one.value or b"").replace(b"bench/", tenant)
    headers = [(name, told.replace(b"bench/", tenant)) for name, told in one.headers]
    return replace(one, key=key, value=value, headers=headers)


async def _run(servers: Stack, log: Log, told: Sequence[Record], name: str) -> Run:
    """Let both write it; they are members of one group in turn, so what the one has read the other gets anew."""
    figures, void = dict[str, float](), list[str]()
    for who, program in (("ours", servers.role("history", **_place("ours", name))), ("client", _client(servers, name))):
        for start in range(0, len(told), APPENDED):
            await log.append([_again(one) for one in told[start : start + APPENDED]])
        try:
            seen, wrong = await _lap(servers, program, told, f"{who}_{name}")
        except Unfinished as why:
            return Run({}, (f"{who}: {why}",))
        figures |= {f"{who}_{figure}": value for figure, value in _figures(seen, len(told)).items()}
        void += [f"{who}: {one}" for one in wrong]
    figures |= {"points": float(len(told)), "points_of_reps": float(expected(told)["rep"])}
    ratios = {
        "ratio_to_client": figures["ours_points_per_s"] / figures["client_points_per_s"],
        "cpu_ratio_to_client": figures["client_writer_cpu_us_per_point"] / figures["ours_writer_cpu_us_per_point"],
    }
    return Run(ratios | figures, tuple(void))


def _place(who: str, name: str) -> dict[str, str]:
    return {"history_database": f"{who}_{name}", "meters_s": "0"}


def _again(one: Record) -> NewRecord:
    return NewRecord(one.topic, one.key, one.value, one.timestamp_ms, one.headers)


def _client(servers: Stack, name: str) -> Program:
    port = native.free_port()
    chosen = servers.environment(instance="0", http_port=str(port), **_place("client", name))
    module = (sys.executable, "-m", "loadtest.bench.peers.influx_client", servers.history.url)
    return Program(
        name="influx-client",
        command=("env", *(f"{key}={value}" for key, value in chosen.items()), *module),
        log=servers.folder / "influx-client.log",
        answers=lambda: is_ready(port),
    )


async def _lap(servers: Stack, who: Program, told: Sequence[Record], database: str) -> tuple[Lap, tuple[str, ...]]:
    """Let one of them write all of it into an empty database."""
    async with wiring.open_history(servers.settings(history_database=database)) as sink:
        before = await written(servers.history)

        async def count() -> int:
            return await written(servers.history) - before

        async def is_all(points_: int) -> bool:
            return points_ >= len(told)

        async with running(who) as writer:
            children = {"writer": writer, "influxdb": servers.history.process, "kafka": servers.log.process}
            watch = Watch(count, children)
            ready = await watch.look()  # points come by thousands, so the first ones count
            seen = watch.between(ready, (await watch.lap(is_all, LIMIT_S)).last)
        stored = {kind: await sink.count(kind) for kind in expected(told)}
    return seen, why_void(told, stored)


async def written(server: Server) -> int:
    """Ask InfluxDB how many points it has written for anybody; to count what is there would cost it much more."""
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/debug/vars") as answer:
        told = msgspec.json.decode(await answer.read())
    (values,) = (each["values"] for name, each in told.items() if name.startswith("httpd"))
    return int(values["pointsWrittenOK"])


def expected(told: Sequence[Record]) -> Counter[str]:
    """Count the points of each measurement that these records lead to; a command said again is the same point."""
    return Counter(measurement for measurement, _ in {_point(one) for one in told})


def _point(one: Record) -> tuple[str, str]:
    name = header(one, "ce_id") or ""
    if one.topic == COMMAND:
        return "command", name.partition("#")[0]
    return MEASUREMENTS[type(codec.decode_metric(one.value or b""))], name


def why_void(told: Sequence[Record], stored: Mapping[str, int]) -> tuple[str, ...]:
    """Say of which measurement InfluxDB has more or fewer points than it was told."""
    return tuple(
        f"{kind}: {number} points told, {stored[kind]} stored"
        for kind, number in expected(told).items()
        if stored[kind] != number
    )


def _figures(seen: Lap, count: int) -> dict[str, float]:
    return {"points_per_s": count * seen.share / seen.seconds, **seen.figures(count, "point")}
