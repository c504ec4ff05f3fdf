"""A member of a group in Kafka: from the assignment of partitions to their records and back."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from adaptors import kafka_clients
from adaptors.kafka_clients import Cluster, promises, within
from streams.core.errors import Busy
from streams.core.records import Header, Record

POLL_GRACE_S = 1.0
"""How much later than it should a poll of aiokafka's may end, in s; only a rebalance makes it late."""

_log = structlog.get_logger()


class Listener(Protocol):
    """Hears which partitions come and go."""

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Answer the offset to start from for each new partition, or leave it out."""

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish with these partitions."""


def as_records(messages: Sequence[Any]) -> list[Record]:
    """Turn aiokafka's records into ours."""
    return [
        Record(
            each.topic,
            each.partition,
            each.offset,
            each.key or b"",
            each.value,
            each.timestamp,
            _with_values(each.headers),
        )
        for each in messages
    ]


def _with_values(headers: Sequence[tuple[str, bytes | None]]) -> tuple[Header, ...]:
    """Give a header that has no value, as Kafka allows and none of ours is, an empty one."""
    return tuple((name, value or b"") for name, value in headers)


class KafkaSubscription(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """A member of a group that reads one topic.

    aiokafka tells of an assignment and reads on at once, from the committed offsets, and sends no heartbeats while it
    tells. So the listener's answer is awaited in a task of its own, and polls wait for that task.

    Parameters
    ----------
    consumer : AIOKafkaConsumer
        Of the group, not started yet.
    cluster : Cluster
        Our timeouts.
    topic : str
        What to read.
    listener : Listener or None
        Hears which partitions come and go.
    has_gaps : bool
        The topic is compacted, so that an offset without a record is nothing to wonder at.

    Attributes
    ----------
    records_skipped : int
        Records that were deleted before they were read, because this group is further behind than the retention.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, cluster: Cluster, topic: str, listener: Listener | None, *, has_gaps: bool
    ) -> None:
        self.records_skipped = 0
        self._consumer = consumer
        self._cluster = cluster
        self._topic = topic
        self._listener = listener
        self._has_gaps = has_gaps
        self._ours: set[int] = set()
        self._next: dict[int, int] = {}  # what is left out, only aiokafka knows
        self._paused: set[int] = set()
        self._is_leaving = False
        self._is_changing = True
        self._losing = asyncio.Lock()
        self._settled = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        self._polling: asyncio.Timeout | None = None
        self._committing: asyncio.Task[KafkaError | None] | None = None
        self._heard_s = asyncio.get_running_loop().time()
        self._fetched_ms = 0

    async def join(self) -> None:
        """Join the group, and return when it has given us partitions, or none; the listener may still be at work."""
        self._consumer.subscribe([self._topic], listener=self)
        async with within(self._cluster.timeout_s + self._cluster.rebalance_timeout_ms / 1000, "join"):
            await self._consumer.start()

    async def leave(self) -> None:
        """Let the listener finish, then leave the group."""
        self._is_leaving = True
        if self._settling is not None:
            self._settling.cancel()  # it may wait for a Kafka that is gone
        await self.on_partitions_revoked([])
        if self._committing is not None:
            self._committing.cancel()
        await kafka_clients.stop(self._consumer)

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        """Return the next records by partition, each in order, or nothing after `timeout_s`."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        with promises("poll"):
            found = await self._poll(max_records, deadline_s)
        records = {place.partition: as_records(messages) for place, messages in found.items()}
        for partition, batch in records.items():
            self._notice_gap(partition, batch[0].offset)
            self._next[partition] = batch[-1].offset + 1
        if not records:
            self._check_that_kafka_answers()
        return records

    def pause(self, partition: int) -> None:
        """Hand out no more of this partition until it is resumed. A partition that is not assigned is ignored."""
        if partition in self._ours:
            self._paused.add(partition)
            self._consumer.pause(self._place(partition))

    def resume(self, partition: int) -> None:
        """Undo `pause`."""
        if partition in self._ours:
            self._paused.discard(partition)
            self._consumer.resume(self._place(partition))

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store for each partition the offset of the next record to read. A partition lost meanwhile is ignored."""
        ours = {self._place(partition): offset for partition, offset in positions.items() if partition in self._ours}
        if not ours:
            return
        async with within(self._cluster.timeout_s, "commit"):
            while self._committing is not None and not self._committing.done():
                await asyncio.wait({self._committing})  # aiokafka tries until Kafka is back; one such try is enough
            mine = self._committing = asyncio.create_task(self._commit(ours))
            await asyncio.wait({mine})  # by then `_committing` may be the commit of the next in line
            if error := mine.result():
                raise error

    async def lag(self) -> Mapping[int, int]:
        """Return for each assigned partition the number of records that have not been handed out yet."""
        async with within(self._cluster.timeout_s, "lag"):
            await self._settled.wait()
            places = [self._place(partition) for partition in self._ours]
            ends = await self._consumer.end_offsets(places)
            try:
                return {each.partition: ends[each] - await self._consumer.position(each) for each in places}
            except IllegalStateError as error:
                raise Busy("Kafka: lag: the partitions are being shared out anew") from error

    async def on_partitions_revoked(self, _revoked: Collection[TopicPartition]) -> None:
        """Stop polls, then let the listener finish with all that was ours."""
        self._is_changing = True
        self._settled.clear()
        if self._polling is not None:
            self._polling.reschedule(asyncio.get_running_loop().time())
        async with self._losing:
            if self._settling is not None:
                await asyncio.wait({self._settling})
            if self._ours and self._listener is not None:
                await self._listener.revoked(frozenset(self._ours))
            self._ours, self._next, self._paused = set(), {}, set()
        self._heard_s = asyncio.get_running_loop().time()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Start with what is ours now; polls go on when the listener has answered."""
        if not self._is_leaving:
            self._ours = {each.partition for each in assigned}
            self._is_changing = False
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        try:
            partitions = frozenset(self._ours)
            offsets = await self._listener.assigned(partitions) if partitions and self._listener is not None else {}
            for partition, offset in offsets.items():
                self._consumer.seek(self._place(partition), offset)
            self._next = {**await self._committed(partitions - offsets.keys()), **offsets}
        finally:
            self._heard_s = asyncio.get_running_loop().time()
            if not self._is_changing:
                self._settled.set()

    async def _commit(self, positions: Mapping[TopicPartition, int]) -> KafkaError | None:
        """Commit, and return the error, which nobody may be waiting for any more."""
        try:
            await self._consumer.commit(positions)
        except (CommitFailedError, IllegalStateError):  # the group has moved on without us
            _log.info("positions_not_committed", topic=self._topic, partitions=sorted(self._ours))
        except KafkaError as error:
            return error
        return None

    async def _committed(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the committed offsets, only to see whether records are missing; aiokafka asks for itself."""
        try:
            async with asyncio.timeout(self._cluster.timeout_s):
                found = {each: await self._consumer.committed(self._place(each)) for each in partitions}
        except (KafkaError, TimeoutError):
            return {}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    async def _poll(self, max_records: int, deadline_s: float) -> Mapping[TopicPartition, Sequence[Any]]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._settled.wait()
            if self._settling is not None:
                self._settling.result()  # raises what the listener should not have raised
            async with asyncio.timeout_at(deadline_s + POLL_GRACE_S) as self._polling:
                left_ms = max(0, int((deadline_s - loop.time()) * 1000))
                found: Mapping[TopicPartition, Sequence[Any]] = await self._consumer.getmany(
                    timeout_ms=left_ms, max_records=max_records
                )
        except TimeoutError:
            return {}
        else:
            return found
        finally:
            self._polling = None

    def _notice_gap(self, partition: int, offset: int) -> None:
        gap = offset - self._next.get(partition, offset)
        if gap > 0 and not self._has_gaps:
            self.records_skipped += gap
            _log.warning("records_gone_before_read", topic=self._topic, partition=partition, records=gap)
        elif gap < 0:
            _log.warning("log_ends_before_position", topic=self._topic, partition=partition, at=offset - gap)

    def _check_that_kafka_answers(self) -> None:
        """Raise Busy when there was no answer for too long; aiokafka asks again and again, but does not tell."""
        now_s = asyncio.get_running_loop().time()
        reading = [self._place(partition) for partition in self._ours - self._paused]
        fetched_ms = max((self._consumer.last_poll_timestamp(each) or 0 for each in reading), default=0)
        is_ours_to_do = self._settling is not None and not self._settling.done()
        if fetched_ms != self._fetched_ms or is_ours_to_do or (self._settled.is_set() and not reading):
            self._fetched_ms = fetched_ms
            self._heard_s = now_s
        limit_s = self._cluster.timeout_s
        if not self._settled.is_set():
            limit_s += self._cluster.rebalance_timeout_ms / 1000
        if now_s - self._heard_s > limit_s:
            raise Busy(f"Kafka: poll: no answer for {now_s - self._heard_s:.0f} s")

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)
