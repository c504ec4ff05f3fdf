"""Bare: aiokafka alone, records in and records out, the offset committed when they are stored. No state, no promise.

`python -m loadtest.bench.peers.bare KAFKA`; it does the work of the empty stage, and is the floor for any engine that
speaks to Kafka through this client.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from loadtest.bench.peers.empty import OUTPUT_BYTES
from streams.core.topics import METRIC, TELEMETRY

GROUP = "bench-bare"
READY = "bare loop is ready"

POLLED = 2_000
"""Most records at a time, as in the engine."""


async def main(bootstrap: str) -> None:
    """Pass on what comes until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    consumer = AIOKafkaConsumer(
        TELEMETRY,
        bootstrap_servers=bootstrap,
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6_000,
        max_partition_fetch_bytes=4 * 1024 * 1024,  # this and the size of batches as in the engine
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=256 * 1024
    )
    async with consumer, producer:
        print(READY, flush=True)  # noqa: T201 - whoever started it waits for this
        while not stop.is_set():
            found = await consumer.getmany(timeout_ms=200, max_records=POLLED)
            await asyncio.gather(*(passed_on(producer, place, messages) for place, messages in found.items()))
            if found:
                await consumer.commit({place: messages[-1].offset + 1 for place, messages in found.items()})


async def passed_on(producer: AIOKafkaProducer, place: TopicPartition, messages: Sequence[Any]) -> None:
    """Store one output for each message, in as many batches as they need."""
    batch, stored = producer.create_batch(), []
    for each in messages:
        output = {"key": each.key, "value": (each.value or b"")[:OUTPUT_BYTES], "timestamp": each.timestamp}
        if batch.append(**output, headers=list(each.headers)) is None:
            stored.append(await producer.send_batch(batch, METRIC, partition=place.partition))
            batch = producer.create_batch()
            batch.append(**output, headers=list(each.headers))
    stored.append(await producer.send_batch(batch, METRIC, partition=place.partition))
    await asyncio.gather(*stored)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
