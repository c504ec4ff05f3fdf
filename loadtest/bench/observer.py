"""Observer: reads along in the log as it grows, and notes when what machines caused can be read there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from loadtest.bench.stamps import Point, Stamps
from loadtest.stack import PARTITIONS
from streams.core.topics import COMMAND, METRIC, TELEMETRY

PAUSE_S = 0.005
"""Pause between two looks, in s, by which the log's points may be late: to ask for each record alone costs as much as a
role does, here and in the broker."""

POINTS: dict[str, Point] = {TELEMETRY: "logged", METRIC: "measured", COMMAND: "decided"}


@asynccontextmanager
async def observing(bootstrap: str, stamps: Stamps) -> AsyncIterator[None]:
    """Read along from now on, as long as the block."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="latest")
    consumer.assign([TopicPartition(topic, number) for topic in POINTS for number in range(PARTITIONS)])
    await consumer.start()
    try:
        await consumer.seek_to_end()
        reading = asyncio.create_task(_read(consumer, stamps))
        yield
        reading.cancel()
        await asyncio.wait({reading})
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, stamps: Stamps) -> None:
    while True:
        await asyncio.sleep(PAUSE_S)
        found = await consumer.getmany(timeout_ms=1_000)
        now_ns = time.time_ns()
        for place, messages in found.items():
            for each in messages:
                trace = trace_id(dict(each.headers).get("traceparent", b"").decode())
                stamps.note(trace, POINTS[place.topic], now_ns)
                if place.topic == TELEMETRY:
                    stamps.note(trace, "ingested", each.timestamp * 1_000_000)


def trace_id(traceparent: str) -> str | None:
    """Return the trace of a `traceparent`.

    Examples
    --------
    >>> trace_id("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
    '0123456789abcdef0123456789abcdef'
    """
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else None
