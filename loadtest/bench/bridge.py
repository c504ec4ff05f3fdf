"""Bridge: a full queue of reps in mosquitto, and who carries it into Kafka: ingest, and a bare loop beside it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from statistics import fmean

from msgspec.structs import replace

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.account import differences, out_of_order
from loadtest.bench.lap import Lap, Unfinished, Watch
from loadtest.bench.peers.mqtt_to_kafka import READY
from loadtest.bench.processes import spawned
from loadtest.bench.report import Effort, Run
from loadtest.bench.written import from_now
from loadtest.child import Program, running
from loadtest.stack import Stack
from spineloop import wiring
from streams.core import codec
from streams.core.records import Record, header
from streams.core.telemetry import Rep
from streams.core.topics import DEAD_LETTER, TELEMETRY, mqtt_topic, parse_mqtt
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
        async with running(servers.role("ingest")), running(bare(servers)):
            pass  # from now on the broker keeps what comes for these two
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


def bare(servers: Stack) -> Program:
    """Describe the bare loop."""
    log = servers.folder / "bare-bridge.log"

    async def answers() -> bool:
        return READY in await asyncio.to_thread(log.read_text, encoding="utf-8")

    broker = servers.broker
    module = (sys.executable, "-m", "loadtest.bench.peers.mqtt_to_kafka")
    return Program("bare-bridge", (*module, broker.host, str(broker.port), servers.log.address), log, answers)


async def _run(servers: Stack, log: Log, queued: Queued) -> Run:
    """Let both carry the same queue, one after the other."""
    unheard, payload_bytes = await _publish(servers, queued)
    try:
        ours, wrong = await _lap(servers, log, servers.role("ingest"), queued)
        theirs, wrong_too = await _lap(servers, log, bare(servers), queued)
    except Unfinished as why:
        return Run({}, (str(why),))
    if unheard:
        wrong = (*wrong, f"{unheard} found no subscriber")
    figures = {
        **_figures(ours, len(queued)),
        "bytes_per_message": payload_bytes,
        **{f"bare_{name}": value for name, value in _figures(theirs, len(queued)).items()},
    }
    ratios = {
        "ratio_to_bare": figures["messages_per_s"] / figures["bare_messages_per_s"],
        "cpu_ratio_to_bare": figures["bare_carrier_cpu_us_per_message"] / figures["carrier_cpu_us_per_message"],
    }
    return Run(ratios | figures, (*wrong, *(f"bare: {one}" for one in wrong_too)))


async def _lap(servers: Stack, log: Log, program: Program, queued: Queued) -> tuple[Lap, tuple[str, ...]]:
    telemetry, letters = await from_now(log, TELEMETRY), await from_now(log, DEAD_LETTER)

    async def are_all_there(count: int) -> bool:
        return count >= len(queued)

    async with spawned(program) as carrier:
        children = {"carrier": carrier, "mosquitto": servers.broker.process, "kafka": servers.log.process}
        seen = await Watch(telemetry.count, children).lap(are_all_there, LIMIT_S)
    return seen, why_void(queued, await telemetry.records(), letters=await letters.count())


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


def why_void(queued: Queued, found: Iterable[Record], *, letters: int = 0) -> tuple[str, ...]:
    """Say what the log lacks, has twice or has in another order than its machine said it."""
    sent = [(machine, codec.message_id(machine, rep)) for machine, rep in queued]
    there = [(record.key.decode(), _name(record)) for record in found]
    wrong = differences((one for _, one in sent), (one for _, one in there)) or out_of_order(sent, there)
    return (*wrong, f"{letters} dead letters") if letters else wrong


def _name(record: Record) -> str:
    """Return the id of what a record says: our bridge writes it beside, the bare loop does not."""
    told = header(record, "ce_id")
    if told is not None:
        return told
    machine = record.key.decode()
    return codec.message_id(machine, codec.decode_up(parse_mqtt(mqtt_topic(machine, "rep")), record.value or b""))


def _figures(seen: Lap, count: int) -> dict[str, float]:
    return {"messages_per_s": count * seen.share / seen.seconds, **seen.figures(count, "message")}
