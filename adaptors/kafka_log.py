"""The log in Kafka."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from adaptors import kafka_clients
from adaptors.kafka_clients import (
    PRODUCER_BATCH_BYTES,
    SLOWEST_BYTES_PER_S,
    Cluster,
    running,
    running_together,
    within,
)
from adaptors.kafka_lane import Lane
from adaptors.kafka_subscription import KafkaSubscription, Listener, as_records
from adaptors.kafka_topics import check_topics
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord, Record
from streams.core.topics import LOG_TOPICS, STATE_MAX_BATCH_BYTES, LogTopic

WAITING_RECORDS = 100_000
"""Most records handed over and not stored, a second's work; 150 MB if all are reps. Who brings more is refused."""

KEYS_KNOWN = 100_000
"""Keys whose partition is remembered, 20 MB; aiokafka hashes in Python, 6 us a key."""

READ_WAIT_MS = 200
"""How long a read waits for the next records before it looks at its position, in ms."""

READ_RECORDS = 2_000
"""Most records that a read hands out at once; with 1.5 kB each, 3 MB."""


@asynccontextmanager
async def open_kafka_log(
    bootstrap: str,
    *,
    client_id: str,
    topics: Mapping[str, LogTopic] = LOG_TOPICS,
    timeout_s: float = 10.0,
    session_timeout_ms: int = 10_000,
    heartbeat_ms: int = 3_000,
    instance: str | None = None,
    patience_ms: int = 0,
    security: Mapping[str, Any] = {},
) -> AsyncIterator["KafkaLog"]:
    """Connect to a log in Kafka, whose topics `create_topics` has made.

    Parameters
    ----------
    bootstrap, client_id, timeout_s, session_timeout_ms, heartbeat_ms, instance, patience_ms, security
        As in `Cluster`.
    topics : mapping of str to LogTopic
        The topics there have to be.

    Raises
    ------
    ValueError
        A topic is missing, or they have different numbers of partitions.
    Busy
        Kafka can't be reached.
    """
    cluster = Cluster(
        bootstrap=bootstrap,
        client_id=client_id,
        timeout_s=timeout_s,
        session_timeout_ms=session_timeout_ms,
        heartbeat_ms=heartbeat_ms,
        instance=instance,
        patience_ms=patience_ms,
        security=security,
    )
    partitions = await check_topics(cluster, topics)
    records = kafka_clients.producer(cluster, batch_bytes=PRODUCER_BATCH_BYTES)
    states = kafka_clients.producer(cluster, batch_bytes=STATE_MAX_BATCH_BYTES)
    offsets = kafka_clients.consumer(cluster)
    async with running_together((records, states, offsets), timeout_s):
        log = KafkaLog(cluster, topics, partitions, records=records, states=states, offsets=offsets)
        try:
            yield log
        finally:
            await log.close()


class KafkaLog:
    """Records in Kafka.

    Parameters
    ----------
    cluster : Cluster
        Where Kafka is.
    topics : mapping of str to LogTopic
        The topics there are.
    partitions : int
        Number of partitions of each.
    records, states, offsets : AIOKafkaProducer, AIOKafkaProducer, AIOKafkaConsumer
        Started clients: for `append`, for `checkpoint`, and for what is asked about offsets.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Mapping[str, LogTopic],
        partitions: int,
        *,
        records: AIOKafkaProducer,
        states: AIOKafkaProducer,
        offsets: AIOKafkaConsumer,
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._states = states
        self._offsets = offsets
        self._partitions = partitions
        self._lanes = {
            (topic, partition): Lane(records, topic, partition) for topic in topics for partition in range(partitions)
        }
        self._partition_by_key: dict[bytes, int] = {}
        self._turns: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting = 0

    async def close(self) -> None:
        """Give up what is not stored."""
        for lane in self._lanes.values():
            await lane.close()

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Records of one key keep their order.

        After Busy, any of them may be stored all the same. Raises BrokenPromise for a record that Kafka would not take.
        """
        if self._waiting > WAITING_RECORDS:
            raise Busy(f"Kafka: append: {self._waiting} records wait to be stored")
        lots: defaultdict[Lane, list[NewRecord]] = defaultdict(list)
        for record in records:
            lots[self._lanes[record.topic, self._partition_of(record.key)]].append(record)
        self._waiting += len(records)
        line_s = sum(len(record.value or b"") for record in records) / SLOWEST_BYTES_PER_S
        try:
            async with within(self._cluster.timeout_s + line_s, "append"):
                await asyncio.gather(*(lane.put(lot) for lane, lot in lots.items()))
        finally:
            self._waiting -= len(records)
            for lane in lots:
                lane.drop_withdrawn()

    async def checkpoint(
        self, topic: str, partition: int, entries: Sequence[tuple[bytes, bytes | None]], timestamp_ms: int
    ) -> int:
        """Store keyed values in one partition of a compacted topic, all or none; return the offset of the first.

        They go as one record batch, which a broker appends whole or not at all. Raises BrokenPromise if it exceeds
        `STATE_MAX_BATCH_BYTES`.
        """
        place = self._place(topic, partition)
        batch = self._states.create_batch()
        for key, value in entries:
            if batch.append(timestamp=timestamp_ms, key=key, value=value, headers=[]) is None:
                break
        batch.close()
        if batch.record_count() < len(entries) or batch.size() > STATE_MAX_BATCH_BYTES:
            raise BrokenPromise(
                f"a checkpoint of {len(entries)} records exceeds {STATE_MAX_BATCH_BYTES} bytes: {topic}"
            )
        async with within(self._cluster.timeout_s, "checkpoint"), self._turns[place]:
            stored = await self._states.send_batch(batch, topic, partition=partition)
            return int((await stored).offset)

    async def read(
        self, topic: str, partition: int, start: int | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """Read from `start` (None: the earliest) up to, not including, `stop` (None, or beyond it: the present end)."""
        place = self._place(topic, partition)
        reader = kafka_clients.consumer(self._cluster)
        reader.assign([place])
        async with running(reader, self._cluster.timeout_s):
            first, end = (await self._bounds([place]))[place]
            end = end if stop is None else min(stop, end)
            offset = first if start is None else max(start, first)
            reader.seek(place, offset)
            while offset < end:
                async with within(self._cluster.timeout_s, "read"):
                    records, offset = await _next_records(reader, place, offset)
                if wanted := [record for record in records if record.offset < end]:
                    yield wanted

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return for each partition the earliest offset and the offset of the next record. KeyError: no such topic."""
        bounds = await self._bounds([self._place(topic, partition) for partition in range(self._partitions)])
        return {place.partition: both for place, both in bounds.items()}

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Return the offset of the first record that is not older than `time_ms`, or the end."""
        place = self._place(topic, partition)
        async with within(self._cluster.timeout_s, "offset at a time"):
            found = (await self._offsets.offsets_for_times({place: max(0, time_ms)}))[place]
            return int(found.offset if found is not None else (await self._offsets.end_offsets([place]))[place])

    @asynccontextmanager
    async def subscribe(
        self, topic: str, group: str, listener: Listener | None = None
    ) -> AsyncIterator[KafkaSubscription]:
        """Join a group on a topic."""
        has_gaps = self._topics[topic].compacted
        consumer = kafka_clients.consumer(self._cluster, group, partitions=self._partitions)
        member = KafkaSubscription(consumer, self._cluster, topic, listener, has_gaps=has_gaps)
        try:
            await member.join()
            yield member
        finally:
            await member.leave()

    async def _bounds(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        async with within(self._cluster.timeout_s, "bounds"):
            first, end = await self._offsets.beginning_offsets(places), await self._offsets.end_offsets(places)
        return {place: (first[place], end[place]) for place in places}

    def _place(self, topic: str, partition: int) -> TopicPartition:
        if (topic, partition) not in self._lanes:
            raise KeyError(f"{topic} has no partition {partition}" if topic in self._topics else topic)
        return TopicPartition(topic, partition)

    def _partition_of(self, key: bytes) -> int:
        """Choose a partition as Kafka's own clients do, the same in every topic."""
        partition = self._partition_by_key.get(key)
        if partition is None:
            if len(self._partition_by_key) == KEYS_KNOWN:
                self._partition_by_key.clear()
            partition = self._partition_by_key[key] = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        return partition


async def _next_records(reader: AIOKafkaConsumer, place: TopicPartition, offset: int) -> tuple[list[Record], int]:
    """Wait until there are records or the position moves on without any, which a compacted record batch makes it do."""
    while True:
        found = await reader.getmany(timeout_ms=READ_WAIT_MS, max_records=READ_RECORDS)
        position = await reader.position(place)
        if position > offset:
            return as_records(found.get(place, ())), position
