"""Replay: an embedded log full of what machines say, recomputed, and compared under two policies, by one core."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncGenerator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.bench import stories
from loadtest.bench.report import Effort, Run
from loadtest.stack import spineloop
from spineloop import wiring
from spineloop.settings import Settings
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.policy import Policy
from streams.core.telemetry import Rep
from streams.core.topics import METRIC
from streams.replay import Replayed, replay
from streams.stretch import Wanted
from streams.what_if import compare

MACHINES = 200
MESSAGES, QUICK_MESSAGES = 120_000, 30_000
"""What machines say in a run; the first minutes are without reps."""

APPENDED = 2_000
"""Records appended at a time while the log is filled."""


async def replaying(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill a log of one size and of four times that size: what a replay holds in memory must not grow with it."""
    messages = QUICK_MESSAGES if effort.quick else MESSAGES
    with TemporaryDirectory() as small, TemporaryDirectory() as large:
        reps = await _fill(Path(small), messages)
        await _fill(Path(large), 4 * messages)
        for _ in range(effort.runs):
            yield await _run(Path(small), Path(large), reps, messages)


async def _fill(folder: Path, messages: int) -> int:
    """Let machines say so much; return how many reps there are."""
    story = islice(stories.story(seed=1, machines=MACHINES, tenant="bench", start_ms=1_790_000_000_000), messages)
    reps = 0
    async with wiring.open_log(_settings(folder), "bench") as log:
        while said := list(islice(story, APPENDED)):
            reps += sum(isinstance(one.message, Rep) for one in said)
            await log.append([stories.record(one) for one in said])
    return reps


def _settings(folder: Path) -> Settings:
    return Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{folder}", "SPINELOOP_PARTITIONS": "4"})


async def _run(small: Path, large: Path, reps: int, messages: int) -> Run:
    settings = _settings(small)
    machines = settings.machine_catalogue()
    async with wiring.open_for_reading(settings, "bench") as log:
        start_s = time.process_time()
        found = await replay(log, (Controller(), Planner(machines=machines)), Wanted())
        replayed_s = time.process_time() - start_s
        both = await compare(log, (Policy(), Policy(vl_stop_pct=25.0)), Wanted(), machines)
        compared_s = time.process_time() - start_s - replayed_s
    figures = {
        "reps_per_s": reps / replayed_s,
        "records_per_s": messages / replayed_s,
        "cpu_us_per_rep": 1e6 * replayed_s / reps,
        "two_policies_reps_per_s": reps / compared_s,
        "records_per_rep": messages / reps,
        "peak_MB": await asyncio.to_thread(_peak, small),
        "peak_MB_of_a_log_four_times_as_long": await asyncio.to_thread(_peak, large),
    }
    return Run(figures, why_void(found, reps, messages, is_other=not both.differences))


def _peak(folder: Path) -> float:
    """Replay in a process of its own; return its peak memory in MB."""
    child = subprocess.Popen(spineloop("replay", "--data", str(folder), "--json"), stdout=subprocess.DEVNULL)
    _, status, spent = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)  # told, because it was us who waited
    if child.returncode:
        raise RuntimeError(f"spineloop replay ended with {child.returncode}")
    return spent.ru_maxrss / 1_024


def why_void(found: Replayed, reps: int, messages: int, *, is_other: bool) -> tuple[str, ...]:
    """Say what a replay has left out, and whether another policy decided nothing else."""
    wrong = []
    if found.records != messages:
        wrong.append(f"{messages} records were said, {found.records} read")
    if found.outputs.get(METRIC, 0) < reps or found.letters:
        wrong.append(f"{reps} reps, {found.outputs.get(METRIC, 0)} metrics, dead letters {dict(found.letters)}")
    if is_other:
        wrong.append("another velocity loss made no difference")
    return tuple(wrong)
