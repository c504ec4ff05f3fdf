"""Scale on Kafka: control by the number of partitions and of workers, and latency by the number of machines.

Workers are started first; then reps for some seconds of work come into the log at once.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec.structs import replace

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.contenders import Covered, reps_are_measured
from loadtest.bench.end_to_end import Whole
from loadtest.bench.lap import Unfinished, Watch
from loadtest.bench.latency import SETTLING_S, Telling, ready, with_stops
from loadtest.bench.stories import Said
from loadtest.bench.written import from_now
from loadtest.child import Child, running
from loadtest.stack import Stack
from spineloop import wiring
from streams.core.controller import Controller
from streams.core.telemetry import Rep
from streams.core.topics import METRIC
from streams.log import Log

POOL = 500
"""Different reps, said again and again."""

PARTITIONS, WORKERS = (1, 4, 12, 24), (1, 2, 3, 4)
WORKERS_PARTITIONS = 12
MACHINES, QUICK_MACHINES = (10, 100, 1_000, 10_000), (10, 1_000, 10_000)
"""How many speak when latency is measured; throughput is measured with a thousand."""

REPS, QUICK_REPS = 10_000, 5_000
APPENDED = 2_000

LIMIT_S = 120.0
"""Longest wait in s until all is worked off."""

REPS_PER_S = 100
WARM_UP_REPS = 1_000
LATENCY_S, QUICK_LATENCY_S = 20.0, 8.0

Found = tuple[dict[str, float], list[str]]
"""Figures, and why they mean nothing, if so."""


def told(machines: int, reps: int, pool: Sequence[Rep], boot: str = "b", start_ms: int = 0) -> Iterator[Said]:
    """Let machines say reps in turn, the same ones whatever their number, so that nothing else differs."""
    return (
        Said(
            f"bench/site-1/m{number % machines:05d}",
            replace(pool[number % len(pool)], boot_id=boot, seq=number // machines, t_us=10_000_000 * number),
            start_ms + number,
        )
        for number in range(reps)
    )


async def by_partitions(pool: Sequence[Rep], *, quick: bool) -> Found:
    """Let one worker work off the same reps from few and from many partitions."""
    figures, void = dict[str, float](), list[str]()
    for count in PARTITIONS:
        async with stack.servers(count) as servers, wiring.open_log(servers.settings(), "bench") as log:
            found, wrong = await _twice(servers, log, 1, pool, quick=quick)
        figures |= {f"{count}_partitions_{name}": value for name, value in found.items()}
        void += [f"{count} partitions: {one}" for one in wrong]
    return figures, void


async def by_workers(pool: Sequence[Rep], *, quick: bool) -> Found:
    """Let one worker and several share the same reps."""
    figures, void = dict[str, float](), list[str]()
    async with stack.servers(WORKERS_PARTITIONS) as servers, wiring.open_log(servers.settings(), "bench") as log:
        for count in WORKERS:
            found, wrong = await _twice(servers, log, count, pool, quick=quick)
            figures |= {f"{count}_workers_{name}": value for name, value in found.items()}
            void += [f"{count} workers: {one}" for one in wrong]
    return figures, void


async def _twice(servers: Stack, log: Log, workers: int, pool: Sequence[Rep], *, quick: bool) -> Found:
    """Let workers warm up on a fifth of the reps, and then count."""
    reps = QUICK_REPS if quick else REPS
    async with _working(servers, workers) as children:
        now_ms = wiring.wall_clock_ms()
        await _worked_off(
            servers, log, children, list(told(1_000, reps // 5, pool, f"warm-{workers}", now_ms - 60_000))
        )
        return await _worked_off(
            servers, log, children, list(told(1_000, reps, pool, f"run-{workers}", now_ms - 30_000))
        )


@asynccontextmanager
async def _working(servers: Stack, workers: int) -> AsyncIterator[dict[str, Child]]:
    """Run workers of no fixed name, so that those before them leave nothing behind."""
    async with AsyncExitStack() as stops:
        yield {
            f"worker-{number}": await stops.enter_async_context(running(servers.role("control", number, instance="")))
            for number in range(workers)
        }


async def _worked_off(servers: Stack, log: Log, workers: dict[str, Child], said: Sequence[Said]) -> Found:
    metric = await from_now(log, METRIC)
    watch = Watch(metric.count, {**workers, "kafka": servers.log.process})
    records = [stories.record(one) for one in said]
    first = await watch.look()
    for start in range(0, len(records), APPENDED):
        await log.append(records[start : start + APPENDED])
    try:
        seen = watch.between(first, (await watch.lap(Covered(log, Controller()).at, LIMIT_S)).last)
    except Unfinished as why:
        return {}, [str(why)]
    spent = seen.figures(len(said), "rep")
    return {
        "reps_per_s": len(said) * seen.share / seen.seconds,
        "cpu_us_per_rep": sum(spent[f"{name}_cpu_us_per_rep"] for name in workers),
        "kafka_cpu_us_per_rep": spent["kafka_cpu_us_per_rep"],
        "workers_cpu_pct": sum(spent[f"{name}_cpu_pct"] for name in workers),
        "kafka_cpu_pct": spent["kafka_cpu_pct"],
        "others_cpu_pct": spent["others_cpu_pct"],
        "peak_rss_MB": max(spent[f"{name}_peak_rss_MB"] for name in workers),
    }, list(reps_are_measured(said, await metric.records()))


async def by_machines(pool: Sequence[Rep], *, quick: bool) -> Found:
    """Let few and many machines say as much a second through the whole stack, when each has spoken before."""
    figures, void = dict[str, float](), list[str]()
    async with (
        stack.servers() as servers,
        stack.roles(servers) as roles,
        wiring.open_log(servers.settings(), "bench") as log,
        wiring.open_history(servers.settings()) as history,
        await wiring.connect(servers.settings(), "bench-machines")() as connection,
    ):
        telling = Telling(Whole(servers, roles, log, history), connection)
        listening = asyncio.create_task(telling.listen())
        await connection.subscribe(["spineloop/v1/bench/+/+/command"])
        for count in QUICK_MACHINES if quick else MACHINES:
            found, wrong = await _latency(telling, count, pool, QUICK_LATENCY_S if quick else LATENCY_S)
            figures |= {f"latency_{count}_machines_{name}": value for name, value in found.items()}
            void += [f"latency of {count} machines: {one}" for one in wrong]
        listening.cancel()
        await asyncio.wait({listening})
    return figures, void


async def _latency(telling: Telling[Any], machines: int, pool: Sequence[Rep], measured_s: float) -> Found:
    length_s, boot = SETTLING_S + measured_s, f"of-{machines}"
    reps = round(REPS_PER_S * length_s)
    before = max(machines, WARM_UP_REPS)
    story = [ready(one.machine, one.message, 0.0) for one in told(machines, before + reps, pool, boot)]
    await telling.warm_up(story[:before])
    timed = [replace(one, at_s=number / REPS_PER_S) for number, one in enumerate(story[before:])]
    try:
        found, wrong = await telling.told(with_stops(timed, boot, length_s), measured_s)
    except Unfinished as why:
        return {}, [str(why)]
    kept = ("rep_to_metric_ms_p50", "rep_to_metric_ms_p99", "stop_ms_p50", "stop_ms_p99", "control_cpu_pct")
    return {name: found[name] for name in kept}, list(wrong)
