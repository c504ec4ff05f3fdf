"""What only Kafka can do to us: be away, stop answering, crash, lack its topics, forget records."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from adaptors import kafka_clients, kafka_log
from adaptors.kafka_log import KafkaLog, open_kafka_log
from adaptors.kafka_topics import create_topics, describe_topics
from loadtest.native import Server, free_port
from loadtest.oracle import retried
from streams.core.dead_letters import CUT_BYTES, dead_letter
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord, header
from streams.core.topics import CONTROLLER_STATE, DEAD_LETTER, LOG_TOPICS, RECORD_BYTES, TELEMETRY, LogTopic
from tests.contract.conftest import LIMIT_S, PARTITIONS
from tests.contract.test_log import AT_MS, Member, everything, numbered, polled, spread, told, values

pytestmark = pytest.mark.broker

MACHINE = b"acme/north/m1"
PROCESSES = Path("/proc")

SOON_S = 5.0
"""How long a client waits for an answer that will not come, in s; those before and after it come sooner."""

patient = partial(open_kafka_log, client_id="test", timeout_s=LIMIT_S)
"""Opens a log whose client waits for Kafka, however slow it is."""


@asynccontextmanager
async def frozen(server: Server) -> AsyncIterator[None]:
    """Stop Kafka's process for a while: its connections stay, and nobody answers."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(LIMIT_S):
            while not is_stopped(server.process.pid):
                await asyncio.sleep(0.01)
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Tell whether every thread has stopped: the first one to hear of it has to tell the others."""
    states = [
        path.read_text(encoding="ascii").rpartition(")")[2].split()[0] for path in PROCESSES.glob(f"{pid}/task/*/stat")
    ]
    return set(states) == {"T"}


async def test_a_kafka_that_is_not_there_is_busy() -> None:
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Busy):
            async with open_kafka_log(f"127.0.0.1:{free_port()}", client_id="test", timeout_s=1.0):
                pass


async def test_a_kafka_that_does_not_answer_is_busy_and_then_goes_on(
    kafka_server: Server, kafka_address: str, group: str
) -> None:
    async with (
        open_kafka_log(kafka_address, client_id="test", timeout_s=SOON_S, session_timeout_ms=6_000) as log,
        log.subscribe(TELEMETRY, group) as subscription,
    ):
        await log.append([told("m", "before")])
        (before,) = await polled(subscription, 1)

        async def read() -> None:
            async for _ in log.read(TELEMETRY, before.partition):
                pass

        async def poll_until_refused() -> None:
            while True:
                await subscription.poll(10, 0.1)

        calls: Mapping[str, Callable[[], Awaitable[object]]] = {
            "append": lambda: log.append([told("m", "during")]),
            "append to the same": lambda: log.append([told("m", "during")]),
            "checkpoint": lambda: log.checkpoint(CONTROLLER_STATE, 0, [(b"k", b"v")], AT_MS),
            "bounds": lambda: log.bounds(TELEMETRY),
            "offset_at": lambda: log.offset_at(TELEMETRY, 0, AT_MS),
            "read": read,
            "commit": lambda: subscription.commit({before.partition: 1}),
            "lag": subscription.lag,
            "poll": poll_until_refused,
        }
        async with frozen(kafka_server), asyncio.timeout(LIMIT_S):
            found = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)
        assert {name: type(error) for name, error in zip(calls, found, strict=True)} == dict.fromkeys(calls, Busy)
        await retried(lambda: log.append([told("m", "after")]))
        after = values(await retried(lambda: everything(log)))
        assert (after[0], after[-1], set(after[1:-1]) <= {"during"}) == ("before", "after", True)


async def test_a_log_can_be_closed_while_kafka_does_not_answer(
    kafka_server: Server, kafka_address: str, group: str
) -> None:
    member = Member()
    async with (
        asyncio.timeout(LIMIT_S),
        AsyncExitStack() as stack,  # left after the log
        open_kafka_log(kafka_address, client_id="test", timeout_s=SOON_S, session_timeout_ms=6_000) as log,
        log.subscribe(TELEMETRY, group, member),
    ):
        await member.has(PARTITIONS)
        await stack.enter_async_context(frozen(kafka_server))
        with pytest.raises(Busy):
            await log.append(spread(10))
    assert member.mine == set()


async def test_an_append_that_waits_for_a_crashed_kafka_is_stored_once(
    kafka_server: Server, kafka_address: str
) -> None:
    async with patient(kafka_address) as log:
        await log.append(numbered(10))

        async def append() -> None:
            for n in range(10, 3_000, 10):
                await log.append(numbered(10, first=n))

        appending = asyncio.create_task(append())
        await asyncio.sleep(0)
        await kafka_server.process.kill()
        await kafka_server.process.restart()
        await appending
        assert values(await everything(log)) == [str(n) for n in range(3_000)]


async def test_a_record_that_kafka_would_not_take_breaks_a_promise_and_no_other_record_suffers(
    kafka_address: str,
) -> None:
    async with patient(kafka_address) as log:
        await log.append([told("m", "before")])
        with pytest.raises(BrokenPromise):
            await log.append([NewRecord(TELEMETRY, b"m", bytes(RECORD_BYTES + 1), AT_MS)])
        await log.append([told("m", "after")])
        assert values(await everything(log)) == ["before", "after"]


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_a_record_as_large_as_kafka_takes_and_one_that_is_larger_unpacked_are_dead_letters_like_any_other(
    kafka_address: str, compression: str | None
) -> None:
    async with (
        patient(kafka_address) as log,
        kafka_clients.running(
            AIOKafkaProducer(
                bootstrap_servers=kafka_address, compression_type=compression, max_request_size=8 * RECORD_BYTES
            ),
            LIMIT_S,
        ) as foreign,
    ):
        value = bytes(4 * RECORD_BYTES if compression else RECORD_BYTES - frame_bytes(foreign))
        await foreign.send_and_wait(TELEMETRY, value, MACHINE)
        (record,) = await everything(log)
        assert record.value == value
        trace = "a defect of ours, with more calls than are kept\n" * 1_000
        await log.append([dead_letter(record, stage="control", reason="too_large", detail=trace, trace=trace)])
        (letter,) = await everything(log, DEAD_LETTER)
    assert (letter.key, letter.value) == (MACHINE, value[:CUT_BYTES])
    where = tuple(header(letter, f"__connect.errors.{name}") for name in ("topic", "partition", "offset"))
    assert where == (TELEMETRY, str(record.partition), str(record.offset))


def frame_bytes(producer: AIOKafkaProducer) -> int:
    """Return what a record batch has beside the value of its only record, where that is about as large as may be."""
    batch = producer.create_batch()
    batch.append(timestamp=AT_MS, key=MACHINE, value=bytes(RECORD_BYTES), headers=[])
    batch.close()
    return int(batch.size()) - RECORD_BYTES


async def test_who_brings_more_than_may_wait_is_refused(kafka_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_log, "WAITING_RECORDS", 10)
    async with patient(kafka_address) as log:
        first = asyncio.create_task(log.append(numbered(11)))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await log.append(numbered(1))
        await first
        await log.append([told("m", "afterwards")])
        assert len(await everything(log)) == 12


class Stuck:
    """A listener whose restore never ends, as when the state can't be read."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.lost: set[int] = set()

    async def assigned(self, _partitions: Collection[int]) -> Mapping[int, int]:
        self.is_asked.set()
        await asyncio.Event().wait()
        return {}

    async def revoked(self, partitions: Collection[int]) -> None:
        self.lost |= set(partitions)


async def test_a_restore_that_never_ends_does_not_keep_us_from_leaving(kafka_address: str, group: str) -> None:
    stuck = Stuck()
    async with patient(kafka_address) as log, asyncio.timeout(LIMIT_S):
        async with log.subscribe(TELEMETRY, group, stuck):
            await stuck.is_asked.wait()
        assert stuck.lost == set(range(PARTITIONS))


async def test_a_member_with_a_name_comes_back_to_its_partitions_and_the_others_do_not_notice(
    kafka_address: str, group: str
) -> None:
    def opened(name: str) -> AbstractAsyncContextManager[KafkaLog]:
        return patient(kafka_address, client_id=name, instance=name, session_timeout_ms=60_000, heartbeat_ms=500)

    staying, restarted = Member(), Member()
    async with opened("a") as a, a.subscribe(TELEMETRY, group, staying):
        await staying.has(PARTITIONS)
        async with opened("b") as b, b.subscribe(TELEMETRY, group, restarted):
            await restarted.has(PARTITIONS // 2)
            await staying.has(PARTITIONS // 2)
            theirs = set(restarted.mine)
        staying.is_asked.clear()
        async with opened("b") as b, b.subscribe(TELEMETRY, group, restarted):
            await restarted.has(PARTITIONS // 2)
            assert restarted.mine == theirs
        assert not staying.is_asked.is_set()


async def test_records_that_are_gone_before_they_were_read_are_counted(kafka_address: str, group: str) -> None:
    async with patient(kafka_address) as log:
        await log.append(numbered(100))
        number = (await everything(log))[0].partition
        async with log.subscribe(TELEMETRY, group) as subscription:
            await polled(subscription, 100)
            await subscription.commit({number: 20})
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_address)
        await admin.start()
        await admin.delete_records({TopicPartition(TELEMETRY, number): RecordsToDelete(before_offset=70)})
        await admin.close()
        assert (await log.bounds(TELEMETRY))[number] == (70, 100)
        async with log.subscribe(TELEMETRY, group) as subscription:
            assert values(await polled(subscription, 30)) == [str(n) for n in range(70, 100)]
            assert subscription.records_skipped == 50


async def test_a_position_beyond_the_end_starts_from_the_earliest(kafka_address: str, group: str) -> None:
    async with patient(kafka_address) as log:
        await log.append(numbered(10))
        number = (await everything(log))[0].partition
        async with log.subscribe(TELEMETRY, group, Member({number: 1_000})) as subscription:
            assert values(await polled(subscription, 10)) == [str(n) for n in range(10)]
            assert subscription.records_skipped == 0


# --- topics -----------------------------------------------------------------------------------------------------------

MORE = {**LOG_TOPICS, "spineloop.more.v1": LogTopic("machine", "one topic more than there is")}


async def test_a_missing_topic_is_told_in_one_line(kafka_address: str) -> None:
    with pytest.raises(ValueError, match=r"^Kafka at .* has no topic spineloop\.more\.v1; spineloop topics create$"):
        async with patient(kafka_address, topics=MORE):
            pass


async def test_topics_are_created_once_and_are_then_as_they_should_be(kafka_address: str) -> None:
    assert await create_topics(kafka_address, PARTITIONS, 1) == []  # the fixture has made them
    rows = {row.topic: row for row in await describe_topics(kafka_address)}
    assert rows.keys() == LOG_TOPICS.keys()
    assert {(row.partitions, row.replication, row.records, row.differences) for row in rows.values()} == {
        (PARTITIONS, 1, 0, ())
    }
    assert (rows[TELEMETRY].cleanup, rows[CONTROLLER_STATE].cleanup) == ("delete", "compact")


async def test_topics_with_another_number_of_partitions_are_refused(kafka_address: str) -> None:
    with pytest.raises(ValueError, match=r"^spineloop\..* has 4 partitions, not 5; the number can't be changed$"):
        await create_topics(kafka_address, PARTITIONS + 1, 1, topics=MORE)
    assert [row.differences for row in await describe_topics(kafka_address, topics=MORE)][-1] == ("missing",)


async def test_more_replicas_than_brokers_are_refused(kafka_address: str) -> None:
    with pytest.raises(ValueError, match="was not created"):
        await create_topics(kafka_address, PARTITIONS, 3, topics=MORE)


async def test_what_differs_from_the_catalogue_is_told(kafka_address: str) -> None:
    async with patient(kafka_address) as log:
        await log.append(spread(30))
    other = {TELEMETRY: LogTopic("machine", "kept for a day", retention_ms=86_400_000)}
    (row,) = await describe_topics(kafka_address, topics=other)
    assert (row.records, row.differences) == (30, ("retention.ms is 2592000000, not 86400000",))
