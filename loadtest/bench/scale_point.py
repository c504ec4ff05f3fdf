"""Scale point: the controller's engine on one embedded log, in a process of its own, so that its memory is its own.

`python -m loadtest.bench.scale_point FOLDER` works off what is in the log, and prints what that took, as JSON. Started
again on the same folder, it finds nothing to do but to read its states back.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import msgspec

from loadtest.bench.contenders import Covered
from loadtest.bench.processes import peak_bytes
from spineloop import wiring
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from streams.core.controller import Controller

LOOK_S = 0.02


class Took(msgspec.Struct, frozen=True):
    """Time in s until its states were read back, and from there until all was done; the CPU time of both, and memory.

    What the parent could tell of the memory begins with its own, because the child is its copy at first.
    """

    restore_s: float
    work_s: float
    restore_cpu_s: float
    work_cpu_s: float
    peak_bytes: int


def settings(folder: Path) -> Settings:
    """Name the log in a folder."""
    return Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{folder}", "SPINELOOP_PARTITIONS": "4"})


async def worked_off(folder: Path) -> Took:
    """Run the engine until checkpoints cover all of the log."""
    async with wiring.open_log(settings(folder), "bench") as log:
        role = wiring.control(settings(folder), log, Exposition())
        stop, covered = asyncio.Event(), Covered(log, Controller())
        times = [(time.monotonic(), time.process_time())]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(role.run(stop))
            while not role.is_ready():
                await asyncio.sleep(LOOK_S)
            times.append((time.monotonic(), time.process_time()))
            while not await covered.at(0):
                await asyncio.sleep(LOOK_S)
            times.append((time.monotonic(), time.process_time()))
            stop.set()
    (start, start_cpu), (ready, ready_cpu), (done, done_cpu) = times
    return Took(ready - start, done - ready, ready_cpu - start_cpu, done_cpu - ready_cpu, peak_bytes(os.getpid()))


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(worked_off(Path(sys.argv[1])))).decode())  # noqa: T201 - for who started it
