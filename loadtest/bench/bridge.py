"""Bridge: a full queue of reps in mosquitto, and the ingest process that carries it into Kafka."""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from msgspec.structs import replace

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.lap import Lap, lap
from loadtest.bench.report import Run
from loadtest.bench.written import from_now
from loadtest.child import Child, running
from loadtest.stack import Stack
from spineloop import wiring
from streams.core import codec
from streams.core.records import Record, header
from streams.core.topics import DEAD_LETTER, TELEMETRY, mqtt_topic
from streams.log import Log

MESSAGES, QUICK_MESSAGES = 50_000, 10_000
"""Messages queued before a run: 75 MB, half of what mosquitto.conf lets wait for one client."""

MACHINES = 200
WINDOW = 1_000
"""Messages published at a time: what the broker lets be unacknowledged."""

LIMIT_S = 60.0
"""Longest wait in s until all are in the log; at a tenth of the budget's rate it takes half of it."""


async def bridge(quick: bool) -> AsyncIterator[Run]:
    """Fill the queue of a client that is away, let it come back, and watch the log."""
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        async with running(servers.role("ingest")):
            pass  # from now on the broker keeps what comes for this client
        messages = QUICK_MESSAGES if quick else MESSAGES
        await _run(servers, log, "warm-up", messages // 5)
        for number in range(1 if quick else 3):
            yield await _run(servers, log, f"run-{number}", messages)


async def _run(servers: Stack, log: Log, name: str, count: int) -> Run:
    queued = list(_messages(name, count))
    unheard = await _publish(servers, name, queued)
    telemetry, letters = await from_now(log, TELEMETRY), await from_now(log, DEAD_LETTER)

    async def are_all_there(number: int) -> bool:
        return number >= count

    async with _starting(Child(servers.role("ingest"))) as ingest:
        processes = {"ingest": ingest.pid, "mosquitto": servers.broker.process.pid, "kafka": servers.log.process.pid}
        seen: Lap | None
        try:
            seen = await lap(telemetry.count, are_all_there, processes | {"bench": os.getpid()}, LIMIT_S)
        except TimeoutError:
            seen = None
    void = why_void(queued, await telemetry.records(), await letters.count())
    if unheard:
        void = (f"{unheard} messages found no subscriber", *void)
    return Run({} if seen is None else _figures(seen, queued), void)
