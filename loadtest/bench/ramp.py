"""Ramp: a story told faster and faster to the whole stack, until something falls behind: the rate that it carries.

The story is encoded before it is told, and one connection tells it all, so the source takes little of the two cores.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import takewhile
from typing import Any

import msgspec
from msgspec.structs import replace

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.account import differences
from loadtest.bench.contenders import Covered
from loadtest.bench.end_to_end import Whole, why_void
from loadtest.bench.history import written
from loadtest.bench.lap import LOOK_S, Watch
from loadtest.bench.latency import NATURAL_REPS_PER_S, PLAN, Machines, Ready, prepared
from loadtest.bench.report import Effort, Run
from loadtest.bench.written import Written, from_now
from loadtest.tempo import CYCLE_S
from spineloop import wiring
from streams.core.controller import Controller
from streams.core.records import header
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, TELEMETRY

MACHINES = 1_000
RATES = (50, 100, 200, 300, 400, 500, 600, 800, 1_000, 1_300, 1_600, 2_000)
"""Reps a second of each step, with 2.7 other messages beside each."""

STEP_S, QUICK_STEP_S = 20.0, 10.0
TICK_S = 0.01
WINDOW = 500
"""Messages told at a time while the fleet warms up."""

BEHIND_S = 3.0
"""Whoever is further behind at the end of a step does not carry its rate; history waits a second for a batch anyway."""

CAUGHT_UP = 50
"""Messages, or fewer, that count as nothing: commands and meters come without being told."""

SETTLE_S = 120.0
"""Longest wait in s until what was told is dealt with."""


class Behind(msgspec.Struct, frozen=True):
    """Messages that were due and are not in the log, in the log and not reduced, reduced and not in history."""

    ingest: int
    control: int
    history: int


class Eyes:
    """What the parts have dealt with since the climb began; looking costs them next to nothing."""

    def __init__(self, whole: Whole, topics: Sequence[Written], points: int) -> None:
        self._whole, self._points = whole, points
        self.telemetry, self.metric, self.command, self.letters = topics
        self._covered = Covered(whole.log, Controller())

    async def behind(self, due: int) -> Behind:
        """Look, told how many messages were due so far."""
        said = await self.metric.count() + await self.command.count()
        stored = await written(self._whole.servers.history) - self._points
        logged = await self.telemetry.count()
        return Behind(max(0, due - logged), await self._covered.behind(), max(0, said - stored))

    async def settle(self, due: int) -> None:
        """Wait until all is dealt with, or too long."""
        for _ in range(round(SETTLE_S / LOOK_S)):
            if max(msgspec.structs.astuple(await self.behind(due))) <= CAUGHT_UP:
                break
            await asyncio.sleep(LOOK_S)


async def ramp(effort: Effort) -> AsyncGenerator[Run, None]:
    """Start everything, and climb."""
    async with (
        stack.servers() as servers,
        stack.roles(servers) as roles,
        wiring.open_log(servers.settings(), "bench") as log,
        wiring.open_history(servers.settings()) as history,
        await wiring.connect(servers.settings(), "bench-machines")() as machines,
    ):
        whole = Whole(servers, roles, log, history)
        for number in range(effort.runs):
            yield await climb(whole, machines, number, QUICK_STEP_S if effort.quick else STEP_S)


async def climb(whole: Whole, machines: Machines[Any], seed: int, step_s: float) -> Run:
    """Tell faster and faster; return figures of the last step that was carried, and where the next one failed."""
    topics = [await from_now(whole.log, topic) for topic in (TELEMETRY, METRIC, COMMAND, DEAD_LETTER)]
    eyes = Eyes(whole, topics, await written(whole.servers.history))
    stored_before = await whole.history.count("rep")
    story = prepared(stories.story(seed, MACHINES, tenant=f"ramp{seed}", spread_s=CYCLE_S))
    told = await asyncio.to_thread(cut, story, CYCLE_S, 1.0)
    for start in range(0, len(told), WINDOW):
        await asyncio.gather(*(machines.publish(one.topic, one.payload) for one in told[start : start + WINDOW]))
    figures: dict[str, float] = {}
    for rate in RATES:
        piece = await asyncio.to_thread(cut, story, step_s, rate / NATURAL_REPS_PER_S)
        await eyes.settle(len(told))
        told += piece
        found, behind_s = await _step(whole, machines, eyes, piece, len(told))
        found |= {f"{name}_behind_s": value for name, value in behind_s.items()}
        if max(behind_s.values()) > BEHIND_S:
            figures |= {f"too_much_{name}": value for name, value in found.items()}
            break
        figures = found
    await eyes.settle(len(told))
    return Run(figures, await _wrong(whole, eyes, told, stored_before))


def cut(story: Iterator[Ready], length_s: float, speed: float) -> list[Ready]:
    """Cut off the next piece of the story, which takes so long if it is told at that speed."""
    first = next(story)
    piece = [first, *takewhile(lambda one: (one.at_s - first.at_s) / speed < length_s, story)]
    return [replace(one, at_s=(one.at_s - first.at_s) / speed) for one in piece]


async def _step(
    whole: Whole, machines: Machines[Any], eyes: Eyes, piece: Sequence[Ready], due: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Tell a piece, each message when it is due; return figures, and how far behind each part is then, in s."""
    reps, done = sum(one.kind == "rep" for one in piece), 0

    async def said() -> int:
        return done

    watch = Watch(said, whole.children, own="source")
    first = await watch.look()
    async with asyncio.TaskGroup() as saying:
        now_s = asyncio.get_running_loop().time
        start_s = now_s()
        while done < len(piece):
            while done < len(piece) and piece[done].at_s <= now_s() - start_s:
                saying.create_task(machines.publish(piece[done].topic, piece[done].payload))
                done += 1
            await asyncio.sleep(TICK_S)
        behind, last = await eyes.behind(due), await watch.look()
    seen = watch.between(first, last)
    per_s = len(piece) / seen.seconds
    told = seen.figures(len(piece), "message")
    spent = {name: value for name, value in told.items() if name.endswith(("_pct", "_peak_rss_MB"))}
    return (
        {"reps_per_s": reps / seen.seconds, "messages_per_s": per_s, **spent},
        {name: getattr(behind, name) / per_s for name in behind.__struct_fields__},
    )


async def _wrong(whole: Whole, eyes: Eyes, told: Sequence[Ready], stored_before: int) -> tuple[str, ...]:
    """Say what was lost or doubled on the way."""
    there = (header(one, "ce_id") or "" for one in await eyes.telemetry.records())
    reps = [one.name for one in told if one.kind == "rep"]
    return (
        *differences((one.name for one in told), (name for name in there if not name.endswith(PLAN))),
        *why_void(
            reps,
            await eyes.metric.records(),
            stored=await whole.history.count("rep") - stored_before,
            counted={"dead letters": await eyes.letters.count()},
        ),
    )
