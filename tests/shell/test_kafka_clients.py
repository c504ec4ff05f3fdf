"""The clients of aiokafka: how they behave towards a Kafka, here one by hand, that no good Kafka would show."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from adaptors import kafka_clients
from adaptors.delivery import Delivery, Pace
from adaptors.kafka_clients import PRODUCER_BATCH_BYTES, Cluster
from adaptors.kafka_log import KafkaLog
from adaptors.kafka_subscription import KafkaSubscription, as_records
from streams.core.errors import Busy
from streams.core.records import NewRecord, Record, header
from streams.core.topics import LOG_TOPICS, RECORD_BYTES, TELEMETRY
from tests.shell.counts import Counts
from tests.shell.hand_kafka import BATCH_RECORDS, TOPIC, HandKafka

CLUSTER = Cluster(bootstrap="hand:1", client_id="test", timeout_s=2.0, heartbeat_ms=20, rebalance_timeout_ms=1_000)


class HandLog:
    """A log with one member, over a Kafka by hand."""

    def __init__(self, kafka: HandKafka) -> None:
        self.kafka = kafka
        self.consumer = kafka_clients.consumer(CLUSTER, "group")
        self.consumer._client = kafka  # noqa: SLF001 - there is no other way in

    @asynccontextmanager
    async def subscribe(self, topic: str, group: str) -> AsyncIterator[KafkaSubscription]:
        assert (topic, group) == (TOPIC, "group")
        member = KafkaSubscription(self.consumer, CLUSTER, topic, None, has_gaps=False)
        await member.join()
        try:
            yield member
        finally:
            await member.leave()

    async def bounds(self, _: str) -> Mapping[int, tuple[int, int]]:
        return {0: (0, 0)}


async def test_a_delivery_whose_effect_is_refused_for_hours_stays_in_its_group_and_goes_on() -> None:
    log = HandLog(HandKafka(records=2 * BATCH_RECORDS))
    offsets, stop = list[int](), asyncio.Event()
    is_away = True

    async def effect(records: Sequence[Record]) -> None:
        if is_away:
            raise Busy("away")
        offsets.extend(record.offset for record in records)

    pace = Pace(max_records=BATCH_RECORDS, linger_s=0.0, first_retry_s=0.01, longest_retry_s=0.01)
    one = Delivery(log, TOPIC, "group", effect, pace=pace, dice=lambda: 0.0, meters=Counts())
    running = asyncio.create_task(one.run(stop))
    async with asyncio.timeout(120.0):
        while not one.progress():
            await asyncio.sleep(0.01)
        subscription = log.consumer._subscription  # noqa: SLF001 - hours pass by hand
        subscription._last_fetch_ended -= 10 * 3_600  # noqa: SLF001
        before = log.kafka.asked["HeartbeatRequest"]
        while log.kafka.asked["HeartbeatRequest"] < before + 5:
            await asyncio.sleep(0.01)
        assert log.kafka.asked["LeaveGroupRequest"] == 0
        is_away = False
        while len(offsets) < 2 * BATCH_RECORDS:
            await asyncio.sleep(0.01)
        stop.set()
        await running
    assert (offsets, one.positions) == (list(range(10)), {0: 10})


async def test_of_a_consumer_that_is_cut_off_nothing_goes_on_when_kafka_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_clients, "STOP_S", 0.1)
    before = asyncio.all_tasks()
    log = HandLog(HandKafka(records=BATCH_RECORDS))
    async with asyncio.timeout(120.0):
        async with log.subscribe(TOPIC, "group") as member:
            while not await member.poll(100, 0.1):
                pass
            log.kafka.freeze()
            while "FetchRequest" not in log.kafka.unanswered:
                await asyncio.sleep(0.01)
        log.kafka.thaw()
        left = asyncio.all_tasks() - before
        _, going_on = await asyncio.wait(left, timeout=60.0) if left else (left, left)
    assert going_on == set()


@pytest.mark.parametrize(("partitions", "together_mib"), [(1, 4), (12, 48), (16, 64), (48, 64), (64, 64), (192, 192)])
async def test_what_a_member_holds_unread_of_all_partitions_is_64_mib_or_the_largest_record_of_each(
    partitions: int, together_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def join(_: KafkaSubscription) -> None:
        """Stay outside: there is no Kafka here."""

    monkeypatch.setattr(KafkaSubscription, "join", join)
    producer, offsets = kafka_clients.producer(CLUSTER, batch_bytes=1), kafka_clients.consumer(CLUSTER)
    log = KafkaLog(CLUSTER, LOG_TOPICS, partitions, records=producer, states=producer, offsets=offsets)
    async with log.subscribe(TELEMETRY, "group") as member:
        of_each = member._consumer._max_partition_fetch_bytes  # noqa: SLF001 - aiokafka does not tell
    await asyncio.gather(*map(kafka_clients.stop, (producer, offsets)))
    assert of_each >= RECORD_BYTES
    assert together_mib - 1 < of_each * partitions / 2**20 <= together_mib


async def test_an_append_of_megabytes_has_the_time_that_its_bytes_take_on_a_slow_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(bootstrap="hand:1", client_id="test", timeout_s=0.2)
    producer = kafka_clients.producer(cluster, batch_bytes=PRODUCER_BATCH_BYTES)
    sent: list[int] = []

    async def send_batch(batch: Any, *_: object, **__: object) -> "asyncio.Future[None]":
        await asyncio.sleep(batch.size() * 4e-7)
        sent.append(batch.record_count())
        stored = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        return stored

    monkeypatch.setattr(producer, "send_batch", send_batch)
    offsets = kafka_clients.consumer(cluster)
    log = KafkaLog(cluster, LOG_TOPICS, 1, records=producer, states=producer, offsets=offsets)
    await log.append([NewRecord(TELEMETRY, b"m", bytes(100_000), 1) for _ in range(20)])
    await asyncio.gather(*map(kafka_clients.stop, (producer, offsets)))
    assert sum(sent) == 20


def test_a_header_without_a_value_which_kafka_allows_is_an_empty_one() -> None:
    told = ConsumerRecord("t", 0, 7, 1_000, 0, b"k", b"v", None, 1, 1, (("ce_id", None), ("traceparent", b"00-1")))
    (record,) = as_records([told])
    assert (record.offset, header(record, "ce_id"), header(record, "traceparent")) == (7, "", "00-1")
