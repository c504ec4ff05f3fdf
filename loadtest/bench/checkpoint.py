"""Checkpoint: how long Kafka takes to store states as one record batch, and to give them back to who starts."""

import time
from collections.abc import AsyncGenerator, Iterator
from itertools import islice
from statistics import median

import numpy as np

from loadtest import native
from loadtest.bench.report import Effort, Run
from spineloop import wiring
from spineloop.settings import Settings
from streams.core.topics import CONTROLLER_STATE
from streams.log import Log

STATE_BYTES = 2_000
"""Of one state; they are random, so that nothing of them is compressed away."""

SIZES = (1_000, 3_000)
"""States in a batch: those that changed since the checkpoint before."""

BATCHES, QUICK_BATCHES = 20, 5
"""Written of each size; the median counts."""

READ_BACK = 20_000
"""States that a start reads back: the last ones of a run, which writes as many at least."""

START_MS = 1_790_000_000_000

Entry = tuple[bytes, bytes]


async def checkpoint(effort: Effort) -> AsyncGenerator[Run, None]:
    """Write batches of each size one after the other, then read back so many states."""
    batches = QUICK_BATCHES if effort.quick else BATCHES
    async with native.kafka() as kafka:
        settings = Settings.read({"SPINELOOP_LOG_URL": kafka.url, "SPINELOOP_PARTITIONS": "1"})
        await wiring.create_topics(settings)
        async with wiring.open_log(settings, "bench") as log:
            coming = _states()
            await _written_s(log, list(islice(coming, SIZES[0])))  # the first one opens connections and files
            for _ in range(effort.runs):
                written, figures = list[Entry](), dict[str, float]()
                for size in SIZES:
                    some = [list(islice(coming, size)) for _ in range(batches)]
                    figures[f"write_{size}_states_ms"] = 1e3 * median([await _written_s(log, one) for one in some])
                    written += [entry for one in some for entry in one]
                start_s = time.perf_counter()
                found = await _last(log)
                figures[f"read_{READ_BACK}_states_s"] = time.perf_counter() - start_s
                is_same = found == written[-READ_BACK:]
                yield Run(figures, () if is_same else ("what came back is not what was written",))


def _states() -> Iterator[Entry]:
    """Make up states for ever, each of a key of its own, so that compaction takes none away."""
    noise, number = np.random.default_rng(seed=1), 0
    while True:
        yield b"bench/site/m%09d" % number, noise.bytes(STATE_BYTES)
        number += 1


async def _written_s(log: Log, entries: list[Entry]) -> float:
    start_s = time.perf_counter()
    await log.checkpoint(CONTROLLER_STATE, 0, entries, START_MS)
    return time.perf_counter() - start_s


async def _last(log: Log) -> list[Entry]:
    """Read back the last states as a start does."""
    _, end = (await log.bounds(CONTROLLER_STATE))[0]
    read = log.read(CONTROLLER_STATE, 0, end - READ_BACK)
    return [(record.key, record.value or b"") async for records in read for record in records]
