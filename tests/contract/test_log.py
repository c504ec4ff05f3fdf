"""The log keeps records: the same sentences for SQLite and for a real Kafka."""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import pytest

from streams.core.errors import BrokenPromise
from streams.core.records import NewRecord, Record
from streams.core.topics import (
    COMMAND,
    CONTROLLER_STATE,
    LOG_TOPICS,
    METRIC,
    STATE_MAX_BATCH_BYTES,
    TELEMETRY,
)
from streams.log import Log, Subscription
from tests.contract.conftest import LIMIT_S, PARTITIONS, Store

AT_MS = time.time_ns() // 1_000_000
"""Kafka deletes what is older than the retention, even while we look."""


def told(key: str, value: str, at_ms: int = AT_MS, topic: str = TELEMETRY) -> NewRecord:
    return NewRecord(topic, key.encode(), value.encode(), at_ms)


def numbered(how_many: int, key: str = "m", first: int = 0) -> list[NewRecord]:
    return [told(key, str(n)) for n in range(first, first + how_many)]


def spread(how_many: int, first: int = 0) -> list[NewRecord]:
    """Return records of so many keys, which come to lie in every partition."""
    return [told(f"key-{n}", str(n)) for n in range(first, first + how_many)]


def values(records: Sequence[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


async def partition(log: Log, number: int, topic: str = TELEMETRY) -> list[Record]:
    return [record async for records in log.read(topic, number) for record in records]


async def everything(log: Log, topic: str = TELEMETRY) -> list[Record]:
    return [record for number in range(PARTITIONS) for record in await partition(log, number, topic)]


async def polled(subscription: Subscription, how_many: int) -> list[Record]:
    """Poll until there are so many records."""
    records: list[Record] = []
    async with asyncio.timeout(LIMIT_S):
        while len(records) < how_many:
            for batch in (await subscription.poll(1_000, 0.2)).values():
                records += batch
    return records


async def positions_after(records: Sequence[Record]) -> dict[int, int]:
    return {record.partition: record.offset + 1 for record in records}


class Member:
    """A listener that knows what is its own, and can be held up."""

    def __init__(self, starts: Mapping[int, int] | None = None) -> None:
        self.starts = starts or {}
        self.mine: set[int] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_asked = asyncio.Event()

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        self.is_asked.set()
        await self.answers.wait()
        assert not self.mine & set(partitions)
        self.mine |= set(partitions)
        return {number: self.starts[number] for number in partitions if number in self.starts}

    async def revoked(self, partitions: Collection[int]) -> None:
        self.is_asked.set()
        await self.answers.wait()
        assert self.mine >= set(partitions)
        self.mine -= set(partitions)

    async def has(self, how_many: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.mine) != how_many:
                await asyncio.sleep(0.01)


# --- append and read --------------------------------------------------------------------------------------------------


async def test_a_record_can_be_read_once_append_has_returned(log: Log) -> None:
    await log.append([told("m1", "hello")])
    (record,) = await everything(log)
    assert (record.topic, record.key, record.value, record.offset) == (TELEMETRY, b"m1", b"hello", 0)


async def test_a_record_comes_back_as_it_was(log: Log) -> None:
    headers = (("ce_id", b"a/1"), ("twice", b"1"), ("twice", b"\x00\xff"), ("empty", b""))
    given = [
        NewRecord(TELEMETRY, b"\x00\xff\x80", bytes(range(256)), AT_MS, headers),
        NewRecord(TELEMETRY, b"\x00\xff\x80", None, AT_MS - 1),
        NewRecord(TELEMETRY, b"\x00\xff\x80", b"", AT_MS + 1),
        NewRecord(TELEMETRY, "Rückenstrecker".encode(), b"\xf0\x9f\x92\xaa", AT_MS),
    ]
    await log.append(given)
    found = [
        NewRecord(record.topic, record.key, record.value, record.timestamp_ms, record.headers)
        for record in await everything(log)
    ]
    assert sorted(found, key=given.index) == given


async def test_records_and_states_of_a_clock_that_was_a_day_ahead_are_kept_with_their_time(log: Log) -> None:
    ahead_ms = AT_MS + 86_400_000  # Kafka 4 takes one hour, if nobody says otherwise
    await log.append([told("m", "tomorrow", ahead_ms)])
    await log.checkpoint(CONTROLLER_STATE, 0, [(b"m", b"state")], ahead_ms)
    kept = [*await everything(log), *await partition(log, 0, CONTROLLER_STATE)]
    assert [(record.value, record.timestamp_ms) for record in kept] == [(b"tomorrow", ahead_ms), (b"state", ahead_ms)]


async def test_nothing_can_be_appended(log: Log) -> None:
    await log.append([])
    assert await log.bounds(TELEMETRY) == dict.fromkeys(range(PARTITIONS), (0, 0))


async def test_records_of_several_topics_are_appended_together(log: Log) -> None:
    await log.append([told("m", "telemetry"), told("m", "command", topic=COMMAND), told("m", "metric", topic=METRIC)])
    assert [values(await everything(log, topic)) for topic in (TELEMETRY, COMMAND, METRIC)] == [
        ["telemetry"],
        ["command"],
        ["metric"],
    ]


async def test_equal_keys_go_to_equal_partitions_of_every_topic(log: Log) -> None:
    keys = [f"acme/north/m{n}" for n in range(40)]
    await log.append([told(key, "", topic=topic) for topic in LOG_TOPICS for key in keys])
    places = [{record.key: record.partition for record in await everything(log, topic)} for topic in LOG_TOPICS]
    assert all(place == places[0] for place in places)
    assert set(places[0].values()) == set(range(PARTITIONS))


async def test_one_key_keeps_its_order_through_batches_larger_than_one_of_the_logs(log: Log) -> None:
    long = b"x" * 1_500
    await log.append([NewRecord(TELEMETRY, b"m", b"%d " % n + long, AT_MS) for n in range(3_000)])
    records = await everything(log)
    assert [int((record.value or b"").split()[0]) for record in records] == list(range(3_000))
    assert [record.offset for record in records] == list(range(3_000))


async def test_one_key_keeps_its_order_through_many_appends_at_a_time(log: Log) -> None:
    async with asyncio.TaskGroup() as tasks:
        for n in range(0, 1_000, 5):
            tasks.create_task(log.append(numbered(5, first=n)))
    assert values(await everything(log)) == [str(n) for n in range(1_000)]


async def test_many_tasks_append_and_nothing_is_lost_or_twice(log: Log) -> None:
    async def machine(name: str) -> None:
        for n in range(20):
            await log.append([told(name, f"{name}/{n}"), told(name, f"{name}/{n}", topic=METRIC)])

    async with asyncio.TaskGroup() as tasks:
        for m in range(50):
            tasks.create_task(machine(f"m{m}"))
    for topic in (TELEMETRY, METRIC):
        records = await everything(log, topic)
        assert Counter(values(records)) == Counter(f"m{m}/{n}" for m in range(50) for n in range(20))
        for m in range(50):
            mine = [value for value in values(records) if value.startswith(f"m{m}/")]
            assert mine == [f"m{m}/{n}" for n in range(20)]


async def test_a_message_of_the_largest_size_is_kept(log: Log) -> None:
    largest = bytes(262_144)
    await log.append([NewRecord(TELEMETRY, b"m", largest, AT_MS, (("ce_id", b"1"),)) for _ in range(3)])
    assert [record.value for record in await everything(log)] == [largest] * 3


async def test_a_read_takes_from_start_up_to_stop(log: Log) -> None:
    await log.append(numbered(10))
    number = (await everything(log))[0].partition

    async def read(start: int | None, stop: int | None) -> list[int]:
        return [record.offset async for records in log.read(TELEMETRY, number, start, stop) for record in records]

    assert await read(3, 7) == [3, 4, 5, 6]
    assert await read(None, 2) == [0, 1]
    assert await read(8, None) == [8, 9]
    assert await read(8, 1_000) == [8, 9]
    assert await read(10, None) == await read(5, 5) == await read(50, None) == []


async def test_a_read_ends_where_the_log_ended_when_it_began(log: Log) -> None:
    await log.append(numbered(3))
    number = (await everything(log))[0].partition
    found: list[str] = []
    async for records in log.read(TELEMETRY, number):
        found += values(records)
        await log.append([told("m", "later")])
    assert found == ["0", "1", "2"]


async def test_bounds_are_the_earliest_and_the_next_offset(log: Log) -> None:
    await log.append(spread(100))
    sizes = Counter(record.partition for record in await everything(log))
    assert await log.bounds(TELEMETRY) == {number: (0, sizes[number]) for number in range(PARTITIONS)}


async def test_a_topic_that_is_not_in_the_catalogue_is_a_key_error(log: Log) -> None:
    with pytest.raises(KeyError):
        await log.bounds("spineloop.nonsense.v1")
    with pytest.raises(KeyError):
        await log.append([told("m", "", topic="spineloop.nonsense.v1")])
    with pytest.raises(KeyError):
        await log.offset_at(TELEMETRY, PARTITIONS, 0)


async def test_offset_at_finds_the_first_record_that_is_not_older(log: Log) -> None:
    #  offset      0      1      2      3      4
    #  time, ms    0   +100   +100    +50   +200     the fourth came late
    await log.append([told("m", "", at_ms=AT_MS + after) for after in (0, 100, 100, 50, 200)])
    number = (await everything(log))[0].partition
    found = [await log.offset_at(TELEMETRY, number, AT_MS + after) for after in (-1, 0, 1, 60, 100, 101, 200, 201)]
    assert found == [0, 0, 1, 1, 1, 4, 4, 5]
    assert await log.offset_at(TELEMETRY, (number + 1) % PARTITIONS, 0) == 0


async def test_reopening_finds_everything(store: Store, group: str) -> None:
    async with store.open() as log:
        await log.append(spread(50))
        before = await everything(log)
        async with log.subscribe(TELEMETRY, group) as subscription:
            await subscription.commit(await positions_after(await polled(subscription, 50)))
    async with store.open() as log:
        await log.append([told("key-0", "new")])
        after = await everything(log)
        async with log.subscribe(TELEMETRY, group) as subscription:
            assert values(await polled(subscription, 1)) == ["new"]
    assert [record for record in after if record.value != b"new"] == before


async def test_what_one_process_appends_another_one_sees(store: Store, log: Log, group: str) -> None:
    async with log.subscribe(TELEMETRY, group) as subscription:
        await log.append([told("m", "ours")])
        assert values(await polled(subscription, 1)) == ["ours"]
        child = store.command(f"await log.append([NewRecord({TELEMETRY!r}, b'm', b'theirs', {AT_MS})])")
        await asyncio.to_thread(subprocess.run, child, check=True, timeout=LIMIT_S)
        assert values(await polled(subscription, 1)) == ["theirs"]
    await log.append([told("m", "ours again")])
    assert values(await everything(log)) == ["ours", "theirs", "ours again"]
    assert [record.offset for record in await everything(log)] == [0, 1, 2]


# --- checkpoints ------------------------------------------------------------------------------------------------------


async def test_a_checkpoint_lies_together_in_its_partition_and_tells_where(log: Log) -> None:
    first = await log.checkpoint(CONTROLLER_STATE, 2, [(b"a", b"1"), (b"b", None), (b"position", b"9")], AT_MS)
    second = await log.checkpoint(CONTROLLER_STATE, 2, [(b"c", b"2")], AT_MS)
    found = await partition(log, 2, CONTROLLER_STATE)
    assert [(record.offset, record.key, record.value) for record in found] == [
        (first, b"a", b"1"),
        (first + 1, b"b", None),
        (first + 2, b"position", b"9"),
        (second, b"c", b"2"),
    ]


async def test_checkpoints_of_one_writer_follow_each_other_without_a_gap(log: Log) -> None:
    bases = [
        await log.checkpoint(CONTROLLER_STATE, 1, [(b"%d" % key, b"") for key in range(n)], AT_MS) for n in range(1, 30)
    ]
    assert [later - base for base, later in pairwise(bases)] == list(range(1, 29))


async def test_checkpoints_of_several_partitions_go_side_by_side(log: Log) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(PARTITIONS):
            for n in range(10):
                entries = [(b"%d" % number, b"%d" % n), (b"position", b"%d" % n)]
                tasks.create_task(log.checkpoint(CONTROLLER_STATE, number, entries, AT_MS))
    for number in range(PARTITIONS):
        found = values(await partition(log, number, CONTROLLER_STATE))
        assert found == [str(n) for n in range(10) for _ in range(2)]


async def test_a_large_checkpoint_fits(log: Log) -> None:
    entries = [(b"%d" % n, bytes(10_000)) for n in range(STATE_MAX_BATCH_BYTES // 11_000)]
    await log.checkpoint(CONTROLLER_STATE, 0, entries, AT_MS)
    assert len(await partition(log, 0, CONTROLLER_STATE)) == len(entries)


@pytest.mark.parametrize("entries", [[(b"one", bytes(STATE_MAX_BATCH_BYTES + 1))], [(b"k", bytes(2**20))] * 17])
async def test_a_checkpoint_that_is_too_large_breaks_a_promise_and_writes_nothing(
    log: Log, entries: Sequence[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(BrokenPromise):
        await log.checkpoint(CONTROLLER_STATE, 0, entries, AT_MS)
    assert await log.bounds(CONTROLLER_STATE) == dict.fromkeys(range(PARTITIONS), (0, 0))
    assert await log.checkpoint(CONTROLLER_STATE, 0, [(b"k", b"small")], AT_MS) == 0


async def test_a_writer_is_killed_and_each_checkpoint_is_there_whole_or_not_at_all(store: Store, log: Log) -> None:
    child = store.command(f"""
for n in range(1_000_000):
    await log.checkpoint({CONTROLLER_STATE!r}, 0, [(b"%d/%d" % (n, m), bytes(2_000)) for m in range(300)], {AT_MS})
    print(n, flush=True)
""")
    process = await asyncio.create_subprocess_exec(*child, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told_done = -1
    while told_done < 15:
        told_done = int(await process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    told_done = max([told_done, *map(int, (await process.stdout.read()).split())])
    await process.wait()
    found = Counter(int(record.key.split(b"/")[0]) for record in await partition(log, 0, CONTROLLER_STATE))
    assert set(found.values()) == {300}
    assert set(range(told_done + 1)) <= set(found)


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_new_group_starts_at_the_earliest_record(log: Log, group: str) -> None:
    await log.append(spread(100))
    async with log.subscribe(TELEMETRY, group) as subscription:
        found = await polled(subscription, 100)
    assert sorted(found, key=lambda record: (record.partition, record.offset)) == await everything(log)


async def test_each_partition_is_handed_out_in_order(log: Log, group: str) -> None:
    await log.append(spread(500))
    handed: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
    async with log.subscribe(TELEMETRY, group) as subscription, asyncio.timeout(LIMIT_S):
        while sum(map(len, handed.values())) < 500:
            batches = await subscription.poll(37, 0.2)
            assert sum(map(len, batches.values())) <= 37
            for number, records in batches.items():
                handed[number] += [record.offset for record in records]
    assert all(offsets == list(range(len(offsets))) for offsets in handed.values())


async def test_a_poll_that_waits_hears_of_a_new_record(log: Log, group: str) -> None:
    async with log.subscribe(TELEMETRY, group) as subscription:
        await log.append([told("m", "first")])
        await polled(subscription, 1)
        waiting = asyncio.create_task(subscription.poll(10, LIMIT_S))
        await asyncio.sleep(0)
        await log.append([told("m", "second")])
        ((record,),) = (await waiting).values()
    assert record.value == b"second"


async def test_a_group_starts_at_its_committed_position(log: Log, group: str) -> None:
    await log.append(numbered(10))
    async with log.subscribe(TELEMETRY, group) as subscription:
        found = await polled(subscription, 10)
        await subscription.commit({found[0].partition: 4})
    async with log.subscribe(TELEMETRY, group) as subscription:
        assert values(await polled(subscription, 6)) == [str(n) for n in range(4, 10)]
    async with log.subscribe(TELEMETRY, f"another-{group}") as subscription:
        assert values(await polled(subscription, 10)) == [str(n) for n in range(10)]


async def test_records_that_were_not_committed_come_again(log: Log, group: str) -> None:
    await log.append(numbered(10))
    for _ in range(2):
        async with log.subscribe(TELEMETRY, group) as subscription:
            assert values(await polled(subscription, 10)) == [str(n) for n in range(10)]


async def test_the_offsets_of_the_listener_win_over_committed_ones(log: Log, group: str) -> None:
    await log.append(numbered(10))
    number = (await everything(log))[0].partition
    async with log.subscribe(TELEMETRY, group) as subscription:
        await polled(subscription, 10)
        await subscription.commit({number: 8})
    async with log.subscribe(TELEMETRY, group, Member({number: 3})) as subscription:
        assert values(await polled(subscription, 7)) == [str(n) for n in range(3, 10)]


async def test_nothing_is_handed_out_before_the_listener_has_answered(log: Log, group: str) -> None:
    await log.append(numbered(10))
    number = (await everything(log))[0].partition
    member = Member({number: 5})
    member.answers.clear()

    async def first_values() -> list[str]:
        async with log.subscribe(TELEMETRY, group, member) as subscription:
            return values(await polled(subscription, 5))

    polling = asyncio.create_task(first_values())
    async with asyncio.timeout(LIMIT_S):
        await member.is_asked.wait()
    await asyncio.wait({polling}, timeout=0.5)  # time enough for a log that does not wait
    member.answers.set()
    assert await polling == ["5", "6", "7", "8", "9"]


async def test_a_paused_partition_hands_out_nothing_until_it_is_resumed(log: Log, group: str) -> None:
    await log.append(spread(40))
    async with log.subscribe(TELEMETRY, group) as subscription:
        await polled(subscription, 40)
        subscription.pause(1)
        subscription.pause(PARTITIONS + 7)  # not assigned: ignored
        await log.append(spread(40, first=40))
        waiting = [record for record in await everything(log) if record.offset >= 0 and int(record.value or b"") >= 40]
        others = [record for record in waiting if record.partition != 1]
        assert {record.partition for record in await polled(subscription, len(others))} == {0, 2, 3}
        assert await subscription.poll(100, 0.3) == {}
        subscription.resume(1)
        subscription.resume(PARTITIONS + 7)
        assert {record.partition for record in await polled(subscription, len(waiting) - len(others))} == {1}


async def test_a_partition_paused_between_two_polls_keeps_what_it_has_ready(log: Log, group: str) -> None:
    await log.append(numbered(10))
    number = (await everything(log))[0].partition
    async with log.subscribe(TELEMETRY, group) as subscription:
        async with asyncio.timeout(LIMIT_S):
            while not (batches := await subscription.poll(4, 0.2)):
                pass
        subscription.pause(number)
        assert await subscription.poll(4, 0.3) == {}
        subscription.resume(number)
        assert values(batches[number]) + values(await polled(subscription, 6)) == [str(n) for n in range(10)]


async def test_lag_counts_what_was_not_handed_out(log: Log, group: str) -> None:
    await log.append(spread(100))
    async with log.subscribe(TELEMETRY, group, Member()) as subscription, asyncio.timeout(LIMIT_S):
        assert sum((await subscription.lag()).values()) == 100
        handed = 0
        while handed == 0:
            handed = sum(map(len, (await subscription.poll(30, 0.2)).values()))
        assert sum((await subscription.lag()).values()) == 100 - handed
        await polled(subscription, 100 - handed)
        assert await subscription.lag() == dict.fromkeys(range(PARTITIONS), 0)
        await log.append(spread(5))
        assert sum((await subscription.lag()).values()) == 5


async def test_two_members_share_the_partitions_and_who_stays_gets_all(log: Log, group: str) -> None:
    first, second = Member(), Member()
    async with log.subscribe(TELEMETRY, group, first) as staying:
        await first.has(PARTITIONS)
        async with log.subscribe(TELEMETRY, group, second) as leaving:
            await second.has(PARTITIONS // 2)
            await first.has(PARTITIONS // 2)
            assert first.mine | second.mine == set(range(PARTITIONS))
            await log.append(spread(100))
            found: list[Record] = []
            async with asyncio.timeout(LIMIT_S):
                while len(found) < 100:
                    for member, subscription in ((first, staying), (second, leaving)):
                        batches = await subscription.poll(1_000, 0.1)
                        assert set(batches) <= member.mine
                        found += [record for records in batches.values() for record in records]
                        await subscription.commit(
                            {number: records[-1].offset + 1 for number, records in batches.items()}
                        )
            assert sorted(values(found), key=int) == [str(n) for n in range(100)]
        assert second.mine == set()
        await first.has(PARTITIONS)
        await log.append(spread(100, first=100))
        assert sorted(values(await polled(staying, 100)), key=int) == [str(n) for n in range(100, 200)]
    assert first.mine == set()


async def test_a_partition_has_no_new_owner_before_the_old_one_has_finished(log: Log, group: str) -> None:
    first, second = Member(), Member()
    async with log.subscribe(TELEMETRY, group, first) as staying:
        await first.has(PARTITIONS)
        first.is_asked.clear()
        first.answers.clear()

        async def join() -> None:
            async with log.subscribe(TELEMETRY, group, second):
                await second.has(PARTITIONS // 2)

        joining = asyncio.create_task(join())
        async with asyncio.timeout(LIMIT_S):
            await first.is_asked.wait()
        await staying.commit({0: 0})  # still ours, and the listener may say so
        await asyncio.wait({joining}, timeout=0.5)  # time enough for a log that does not wait
        assert second.mine == set()
        first.answers.set()
        await joining


async def test_commits_of_a_partition_that_was_lost_are_ignored(log: Log, group: str) -> None:
    await log.append(spread(40))
    first, second = Member(), Member()
    async with log.subscribe(TELEMETRY, group, first) as subscription:
        await polled(subscription, 40)
        async with log.subscribe(TELEMETRY, group, second) as other:
            await second.has(PARTITIONS // 2)
            await first.has(PARTITIONS // 2)
            await subscription.commit(dict.fromkeys(second.mine, 1))
            await other.commit(dict.fromkeys(first.mine, 1))
    async with log.subscribe(TELEMETRY, group) as subscription:
        assert len(await polled(subscription, 40)) == 40


async def test_a_member_that_is_cancelled_leaves_the_group(log: Log, group: str) -> None:
    first, second = Member(), Member()

    async def follow() -> None:
        async with log.subscribe(TELEMETRY, group, first) as subscription:
            while True:
                await subscription.poll(10, 60.0)

    following = asyncio.create_task(follow())
    await first.has(PARTITIONS)
    following.cancel()
    await asyncio.wait({following})
    assert first.mine == set()
    async with log.subscribe(TELEMETRY, group, second):
        await second.has(PARTITIONS)


async def test_every_topic_has_groups_of_its_own(log: Log, group: str) -> None:
    await log.append([told("m", "t"), told("m", "c", topic=COMMAND)])
    async with log.subscribe(TELEMETRY, f"{group}-t") as told_by, log.subscribe(COMMAND, f"{group}-c") as commanded:
        assert values(await polled(commanded, 1)) == ["c"]
        assert values(await polled(told_by, 1)) == ["t"]
