"""Scale: what control costs and how long it takes as machines, states, the log, partitions and workers become more.

Machines, states and the log are told to one process each, on the embedded log; partitions, workers and latency want
Kafka and the rest of the stack, and are in `scale_kafka.py`.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from loadtest.bench import stories
from loadtest.bench.contenders import reps_are_measured
from loadtest.bench.report import Effort, Run
from loadtest.bench.scale_kafka import POOL, by_machines, by_partitions, by_workers, told
from loadtest.bench.scale_plot import draw
from loadtest.bench.scale_point import Took, settings
from loadtest.bench.stepping import heard
from loadtest.bench.stories import Said
from loadtest.bench.written import Written
from spineloop import wiring
from streams.checkpoint import Kept, position_entry
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.records import NewRecord
from streams.core.topics import CONTROLLER_STATE, METRIC, TELEMETRY

MACHINES, QUICK_MACHINES = (10, 100, 1_000, 10_000), (10, 1_000)
REPS, QUICK_REPS = 10_000, 1_000
"""What they say, whatever their number: reps of no session, which are measured and decide nothing."""

LONGER = 10
"""How many times as long the longest log is; its machines are a thousand."""

STATES, QUICK_STATES = (1_000, 10_000, 100_000), (1_000, 10_000)
"""Machines whose states are read back at a start: copies of one that trains, or of one that trains and two at rest."""

STORY, TRAINING_FOR = 1_000, 200
"""Messages of that machine: until its session has ended at the latest, and until half of the session is over."""

PARTITIONS = 4
APPENDED = 2_000
START_MS = 1_790_000_000_000


async def scale(effort: Effort) -> AsyncGenerator[Run, None]:
    """Measure each size in turn; all sizes are one run."""
    machines = QUICK_MACHINES if effort.quick else MACHINES
    reps = QUICK_REPS if effort.quick else REPS
    pool = stories.reps(seed=1, count=POOL)
    for number in range(effort.runs):
        trains, rests, _ = _trained()
        figures = {
            "state_of_one_that_trains_bytes": float(len(trains)),
            "state_of_one_that_rests_bytes": float(len(rests)),
        }
        void = list[str]()
        for count in machines:
            found, wrong = await _with_log(told(count, reps, pool, start_ms=START_MS))
            figures |= _named(found, f"{count}_machines", reps)
            void += [f"{count} machines: {one}" for one in wrong]
        found, wrong = await _with_log(told(1_000, LONGER * reps, pool, start_ms=START_MS))
        figures |= _named(found, f"log_{LONGER}_times_as_long", LONGER * reps)
        void += [f"long log: {one}" for one in wrong]
        for count in QUICK_STATES if effort.quick else STATES:
            for name, share in {"states": 1, "states_a_third_in_session": 3}.items():
                restored = await _restored(count, share)
                figures[f"restore_{count}_{name}_s"] = restored.restore_s
                figures[f"restore_{count}_{name}_cpu_us_per_state"] = 1e6 * restored.restore_cpu_s / count
                figures[f"restore_{count}_{name}_peak_rss_MB"] = restored.peak_bytes / 1e6
            spoken = await _restored(count, 1, all_speak=True)
            figures[f"restore_{count}_states_and_hear_all_peak_rss_MB"] = spoken.peak_bytes / 1e6
        for measure in (by_partitions, by_workers, by_machines):
            more, missing = await measure(pool, quick=effort.quick)
            figures |= more
            void += missing
        if effort.plots is not None and number == effort.runs - 1:
            await asyncio.to_thread(draw, figures, Path(effort.plots) / "scale.svg")
        yield Run(figures, tuple(void))


def _named(point: Took, name: str, reps: int) -> dict[str, float]:
    """Count from the start: by the time that an engine is seen to be ready, it has begun."""
    return {
        f"{name}_reps_per_s": reps / (point.restore_s + point.work_s),
        f"{name}_cpu_us_per_rep": 1e6 * (point.restore_cpu_s + point.work_cpu_s) / reps,
        f"{name}_peak_rss_MB": point.peak_bytes / 1e6,
    }


async def _with_log(story: Iterable[Said]) -> tuple[Took, tuple[str, ...]]:
    """Fill a log, have it worked off, and say what was lost or doubled."""
    said = list[Said]()
    with TemporaryDirectory() as name:
        folder, coming = Path(name), iter(story)
        async with wiring.open_log(settings(folder), "bench") as log:
            while piece := list(islice(coming, APPENDED)):
                said += piece
                await log.append([stories.record(one) for one in piece])
        point = await asyncio.to_thread(_process, folder)
        async with wiring.open_log(settings(folder), "bench") as log:
            outputs = await Written(log, METRIC, dict.fromkeys(range(PARTITIONS), 0)).records()
        return point, reps_are_measured(said, outputs)


async def _restored(states: int, one_in: int, *, all_speak: bool = False) -> Took:
    """Write so many states, of which one in some trains, and time a start that reads them back; then let all speak."""
    *saved, said = _trained()
    trains, rests = (msgspec.msgpack.encode(Kept(0, each)) for each in saved)
    keys = [b"bench/site/m%06d" % number for number in range(states)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with wiring.open_log(settings(folder), "bench") as log:
            for start in range(0, states if all_speak else 0, APPENDED):
                await log.append([replace(said, key=key) for key in keys[start : start + APPENDED]])
            for partition in range(PARTITIONS):
                spoken = [one.key async for some in log.read(TELEMETRY, partition) for one in some]
                here = spoken if all_speak else keys[partition::PARTITIONS]
                for start in range(0, len(here), 200):
                    entries = [
                        (key, rests if place % one_in else trains)
                        for place, key in enumerate(here[start : start + 200], start)
                    ]
                    await log.checkpoint(CONTROLLER_STATE, partition, [*entries, position_entry(0)], START_MS)
        return await asyncio.to_thread(_process, folder)


def _trained() -> tuple[bytes, bytes, NewRecord]:
    """Return the state of a machine half-way through a session and after it, and what it says at half-way."""
    controller = Controller()
    told = [stories.record(said) for said in islice(stories.story(7, 1, "bench"), STORY)]
    records = [heard(new, number) for number, new in enumerate(told)]
    state, trains = controller.start(records[0].key), b""
    for number, (record, item) in enumerate(zip(records, controller.prepare(records), strict=True)):
        if isinstance(item, Malformed):
            raise item
        state, _ = controller.step(state, item, record.timestamp_ms)
        if number == TRAINING_FOR:
            trains = controller.save(state)
        elif number > TRAINING_FOR and state.session is None:
            return trains, controller.save(state), told[TRAINING_FOR + 1]
    raise RuntimeError("the session has no end")


def _process(folder: Path) -> Took:
    """Run a scale point in a process of its own."""
    command = (sys.executable, "-m", "loadtest.bench.scale_point", str(folder))
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    printed = child.stdout.read() if child.stdout is not None else b""
    if child.wait():
        raise RuntimeError(f"a scale point ended with {child.returncode}")
    return msgspec.json.decode(printed.splitlines()[-1], type=Took)
