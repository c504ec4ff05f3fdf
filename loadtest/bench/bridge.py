"""Bridge: a full queue of reps in mosquitto, and the ingest process that carries it into Kafka."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from statistics import fmean

from msgspec.structs import replace

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.account import differences, out_of_order
from loadtest.bench.lap import Lap, Unfinished, Watch
from loadtest.bench.processes import spawned
from loadtest.bench.report import Effort, Run
from loadtest.bench.written import from_now
from loadtest.child import running
from loadtest.stack import Stack
from spineloop import wiring
from streams.core import codec
from streams.core.records import Record, header
from streams.core.telemetry import Rep
from streams.core.topics import DEAD_LETTER, TELEMETRY, mqtt_topic
from streams.log import Log

MESSAGES, QUICK_MESSAGES = 40_000, 20_000
"""Messages queued before a run, 66 MB: four fifths of what mosquitto.conf lets wait for one client."""

MACHINES = 200
POOL = 2_000
"""Machines that take turns, and different reps that they send again and again, each time under an id of its own."""

WINDOW = 1_000
"""Messages published at a time: as many as the broker lets be unanswered."""

LIMIT_S = 60.0
"""Longest wait in s until all are in the log; at a twentieth of the budget's rate they are."""

Queued = Sequence[tuple[str, Rep]]
"""Machines and what they say."""


async def bridge(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill the queue of a client that is away, let it come back, and watch the log."""
    count = QUICK_MESSAGES if effort.quick else MESSAGES
    pool = stories.reps(seed=1, count=POOL)
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        async with running(servers.role("ingest")):
            pass  # from now on the broker keeps what comes for this client
        warm_up = await _run(servers, log, to_queue("warm-up", pool, count // 5))
        if warm_up.void:
            yield warm_up
        for number in range(effort.runs):
            yield await _run(servers, log, to_queue(f"run-{number}", pool, count))


def to_queue(boot_id: str, pool: Sequence[Rep], count: int) -> Queued:
    """Let machines say reps in turn, each with a `seq` without holes."""
    return [
        (
            f"bench/site-1/m{number % MACHINES:03d}",
            replace(pool[number % len(pool)], boot_id=boot_id, seq=number // MACHINES),
        )
        for number in range(count)
    ]


async def _run(servers: Stack, log: Log, queued: Queued) -> Run:
    unheard, payload_bytes = await _publish(servers, queued)
    telemetry, letters = await from_now(log, TELEMETRY), await from_now(log, DEAD_LETTER)

    async def are_all_there(count: int) -> bool:
        return count >= len(queued)

    async with spawned(servers.role("ingest")) as ingest:
        children = {"ingest": ingest, "mosquitto": servers.broker.process, "kafka": servers.log.process}
        try:
            seen = await Watch(telemetry.count, children).lap(are_all_there, LIMIT_S)
        except Unfinished as why:
            return Run({}, (str(why),))
    void = why_void(queued, await telemetry.records(), unheard=unheard, letters=await letters.count())
    return Run(_figures(seen, len(queued)) | {"bytes_per_message": payload_bytes}, void)


async def _publish(servers: Stack, queued: Queued) -> tuple[int, float]:
    """Publish in order, a bounded number at a time; return how many nobody keeps, and the mean size in bytes."""
    unheard, sizes = 0, list[int]()
    publisher = await wiring.connect(servers.settings(), "bench-publisher")()
    async with publisher:
        for start in range(0, len(queued), WINDOW):
            window = [
                (mqtt_topic(machine, "rep"), codec.encode(rep)) for machine, rep in queued[start : start + WINDOW]
            ]
            sizes += [len(payload) for _, payload in window]
            heard = await asyncio.gather(*(publisher.publish(topic, payload) for topic, payload in window))
            unheard += heard.count(False)
    return unheard, fmean(sizes)


def why_void(queued: Queued, found: Iterable[Record], *, unheard: int = 0, letters: int = 0) -> tuple[str, ...]:
    """Say what the log lacks, has twice or has in another order than its machine said it."""
    sent = [(machine, codec.message_id(machine, rep)) for machine, rep in queued]
    there = [(record.key.decode(), header(record, "ce_id") or "") for record in found]
    wrong = differences((one for _, one in sent), (one for _, one in there)) or out_of_order(sent, there)
    told = ((unheard, "found no subscriber"), (letters, "dead letters"))
    return (*wrong, *(f"{number} {what}" for number, what in told if number))


def _figures(seen: Lap, count: int) -> dict[str, float]:
    return {"messages_per_s": count * seen.share / seen.seconds, **seen.figures(count, "message")}
