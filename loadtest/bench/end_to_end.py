"""End to end: a fleet in real time on the whole stack, from a rep's PUBLISH to its point in history and its command."""

import asyncio
import math
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest import stack
from loadtest.bench.account import differences
from loadtest.bench.lap import Lap, Unfinished, Watch
from loadtest.bench.report import Effort, Run
from loadtest.bench.written import from_now
from loadtest.child import Child
from loadtest.fleet import Fleet, FleetSettings
from loadtest.stack import Stack
from loadtest.tempo import CYCLE_S, TYPICAL_REPS_PER_S
from spineloop import wiring
from spineloop.wiring import Sink
from streams.core import codec
from streams.core.records import Record
from streams.core.results import RepMeasured
from streams.core.topics import DEAD_LETTER, METRIC
from streams.log import Log

MACHINES = 1_000
"""The fleet of the latency budget; by itself it brings 80 reps a second."""

MEASURED_S, QUICK_MEASURED_S = 60.0, 20.0

SETTLE_S = 60.0
"""Longest wait in s until what was said last is in history."""

LOOK_S = 0.1

FROM_REPS = frozenset({"end_exercise", "end_set", "lower_load", "tighten_range", "extend_rest", "drop_set", "cue"})
"""Actions that reps lead to. A stop follows an event; a prescription, by way of the planner, a session's request."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The servers, a process of each role, and our own eyes on log and history."""

    servers: Stack
    roles: Mapping[str, Child]
    log: Log
    history: Sink

    @property
    def children(self) -> dict[str, Child]:
        """Every process but our own, by name."""
        servers = self.servers
        return {
            **self.roles,
            "mosquitto": servers.broker.process,
            "kafka": servers.log.process,
            "influxdb": servers.history.process,
        }


async def end_to_end(effort: Effort) -> AsyncGenerator[Run, None]:
    """Let the fleet train on the servers and all roles, and hold what it said against what was stored."""
    async with (
        stack.servers() as servers,
        stack.roles(servers) as roles,
        wiring.open_log(servers.settings(), "bench") as log,
        wiring.open_history(servers.settings()) as history,
    ):
        whole = Whole(servers, roles, log, history)
        for number in range(effort.runs):
            settings = FleetSettings(
                machines=MACHINES,
                seed=number,
                run=f"run-{number}",
                reps_per_s=effort.reps_per_s,
                max_s=warm_up_s(effort.reps_per_s) + 2.0 * MEASURED_S,
            )
            yield await _run(whole, settings, QUICK_MEASURED_S if effort.quick else MEASURED_S)


async def _run(whole: Whole, settings: FleetSettings, measured_s: float) -> Run:
    metric, letters = await from_now(whole.log, METRIC), await from_now(whole.log, DEAD_LETTER)
    stored_before = await whole.history.count("rep")
    fleet: Fleet[Any] = Fleet(settings, wiring.machine_connect(whole.servers.settings()), now_ms=wiring.wall_clock_ms)
    training = asyncio.create_task(fleet.run())
    try:
        await asyncio.wait({training}, timeout=settings.max_s - 2.0 * MEASURED_S)
        seen = await _watched(fleet, whole, measured_s)
    except Unfinished as why:
        training.cancel()
        await asyncio.wait({training})
        return Run({}, (str(why),))
    latencies_ms = {action: sorted(found) for action, found in fleet.timings.latencies_ms.items()}
    fleet.finish()
    try:
        await training
    except (ExceptionGroup, TimeoutError) as error:
        return Run({}, (f"the fleet failed: {first_cause(error)!r}",))
    settled_s = await _settled(whole.history, stored_before + fleet.ledger.reps_published)
    void = why_void(
        [name for name, kind in fleet.ledger.published.items() if kind == "rep"],
        await metric.records(),
        stored=await whole.history.count("rep") - stored_before,
        counted={
            "commands that took effect twice": fleet.ledger.duplicate_effects,
            "dead letters": await letters.count(),
        },
    )
    return Run(_figures(seen, latencies_ms) | {"settled_after_s": settled_s}, void)


def first_cause(error: BaseException) -> BaseException:
    """Return the first error of a group of groups.

    Examples
    --------
    >>> first_cause(ExceptionGroup("machines", [ExceptionGroup("one", [ValueError("no")]), KeyError()]))
    ValueError('no')
    """
    return first_cause(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def warm_up_s(reps_per_s: float) -> float:
    """Return how long it takes, in s, until every machine has begun: they do so bit by bit, to rest at different times.

    Examples
    --------
    >>> round(warm_up_s(reps_per_s=200.0))
    62
    """
    return 10.0 + CYCLE_S * TYPICAL_REPS_PER_S * MACHINES / reps_per_s


async def _watched(fleet: Fleet[Any], whole: Whole, seconds: float) -> Lap:
    async def reps() -> int:
        return fleet.timings.reps

    fleet.timings.latencies_ms.clear()
    watch = Watch(reps, whole.children, own="fleet")
    first = await watch.look()
    await asyncio.sleep(seconds)
    return watch.between(first, await watch.look())


async def _settled(history: Sink, reps: int) -> float:
    """Return how long it took, in s, until history had all reps; or the limit, if it has not."""
    now_s = asyncio.get_running_loop().time
    start_s = now_s()
    while await history.count("rep") < reps and now_s() - start_s < SETTLE_S:
        await asyncio.sleep(LOOK_S)
    return now_s() - start_s


def why_void(
    published: Collection[str], found: Iterable[Record], *, stored: int, counted: Mapping[str, int]
) -> tuple[str, ...]:
    """Say which reps were not measured exactly once, how many history lacks, and what else must not be."""
    metrics = [codec.decode_metric(record.value or b"") for record in found]
    wrong = differences(published, (metric.cause for metric in metrics if isinstance(metric, RepMeasured)))
    amiss = {f"reps stored of {len(published)}": stored} if stored != len(published) else {}
    amiss |= {what: number for what, number in counted.items() if number}
    return (*wrong, *(f"{number} {what}" for what, number in amiss.items()))


def _figures(seen: Lap, latencies_ms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the figures; a kind of command that did not occur has none."""
    from_reps = sorted(ms for action in FROM_REPS for ms in latencies_ms.get(action, ()))
    kinds = {"rep": from_reps, **{action: latencies_ms.get(action, ()) for action in ("stop", "prescribe")}}
    return {
        "reps_per_s": (seen.last.count - seen.first.count) / seen.seconds,
        **{f"{kind}_to_command_n": float(len(found)) for kind, found in kinds.items()},
        **{
            f"{kind}_to_command_ms_{name}": percentile(found, share)
            for kind, found in kinds.items()
            for name, share in {"p50": 0.5, "p99": 0.99, "max": 1.0}.items()
            if found
        },
        **seen.figures(seen.last.count, "rep"),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of an ordered sequence does not exceed.

    Examples
    --------
    >>> [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.99, 1.0)]
    [2.0, 4.0, 4.0]
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
