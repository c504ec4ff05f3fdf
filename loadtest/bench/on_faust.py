"""On Faust: the controller on our engine and on Faust, one after the other, on the same log in the same run.

`python -m loadtest.bench.on_faust [--quick]`; it stands apart from `scripts/bench`, because it needs the extra `faust`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from loadtest import faust_worker, stack
from loadtest.bench import stories
from loadtest.bench.engine import APPENDED, BEFORE_MS, LIMIT_S, MACHINES, WARM_UP_MESSAGES, Covered, why_void
from loadtest.bench.lap import Lap, Watch
from loadtest.bench.processes import spawned
from loadtest.bench.report import Effort, Run, outcome, table
from loadtest.bench.stories import Said
from loadtest.bench.written import from_now
from loadtest.child import Program
from loadtest.stack import Stack
from spineloop import wiring
from streams.core.controller import Controller
from streams.core.telemetry import Rep
from streams.core.topics import DEAD_LETTER, METRIC
from streams.log import Log

MESSAGES, QUICK_MESSAGES = 20_000, 8_000
"""How much machines say before a run: half a minute's work for Faust."""

IsDone = Callable[[int], Awaitable[bool]]


async def on_faust(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill the topic, let the one work it off, then the other."""
    story = stories.story(seed=1, machines=MACHINES, tenant="bench", start_ms=wiring.wall_clock_ms() - BEFORE_MS)
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        both = Both(servers, log)
        await both.run(list(islice(story, WARM_UP_MESSAGES)))
        for _ in range(effort.runs):
            yield await both.run(list(islice(story, QUICK_MESSAGES if effort.quick else MESSAGES)))


class Both:
    """Our engine and Faust, each with states of its own, at the same end of the same topic."""

    def __init__(self, servers: Stack, log: Log) -> None:
        self._servers, self._log = servers, log

    async def run(self, said: Sequence[Said]) -> Run:
        """Let both hear what was said, and compare how long they took."""
        for start in range(0, len(said), APPENDED):
            await self._log.append([stories.record(one) for one in said[start : start + APPENDED]])
        ours, lost = await self._lap(self._servers.role("control"), Covered(self._log).at, said)
        async with faust_worker.reading(self._servers, Controller()) as reached:

            async def are_covered(_outputs: int) -> bool:
                return await reached.covers(self._log)

            theirs, lost_too = await self._lap(faust_worker.worker(self._servers, "control"), are_covered, said)
        reps = sum(isinstance(one.message, Rep) for one in said)
        return Run(
            {
                **{f"engine_{name}": value for name, value in _figures(ours, reps, len(said)).items()},
                **{f"faust_{name}": value for name, value in _figures(theirs, reps, len(said)).items()},
                "engine_to_faust": (theirs.seconds / theirs.share) / (ours.seconds / ours.share),
            },
            (*lost, *lost_too),
        )

    async def _lap(self, program: Program, is_done: IsDone, said: Sequence[Said]) -> tuple[Lap, tuple[str, ...]]:
        metric, letters = await from_now(self._log, METRIC), await from_now(self._log, DEAD_LETTER)
        async with spawned(program) as worker:
            lap = await Watch(metric.count, {"worker": worker}).lap(is_done, LIMIT_S)
        wrong = why_void(said, await metric.records(), letters=await letters.count())
        return lap, tuple(f"{program.name}: {one}" for one in wrong)


def _figures(seen: Lap, reps: int, records: int) -> dict[str, float]:
    told = seen.figures(reps, "rep")
    return {
        "records_per_s": records * seen.share / seen.seconds,
        "cpu_us_per_rep": told["worker_cpu_us_per_rep"],
        "peak_rss_MB": told["worker_peak_rss_MB"],
    }


def main(quick: Annotated[bool, typer.Option("--quick", help="One short run instead of three.")] = False) -> None:
    """Print what both cost; exit 1 if anything was lost or doubled."""

    async def runs() -> list[Run]:
        return [run async for run in on_faust(Effort(quick=quick))]

    found = outcome(asyncio.run(runs()))
    Console().print(table("on-faust", found))
    if found.void:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
