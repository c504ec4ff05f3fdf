"""What is particular to the log in SQLite: one file, its tidying, its lock, its members in one process."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptors import sqlite_file, sqlite_group, sqlite_writer
from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from adaptors.sqlite_writer import Tidying
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord, Record
from streams.core.topics import CONTROLLER_STATE, TELEMETRY, LogTopic

LIMIT_S = 120.0
DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000
DAILY = "spineloop.daily.v1"
TOPICS = {
    DAILY: LogTopic("machine", "kept for a day", retention_ms=DAY_MS),
    CONTROLLER_STATE: LogTopic("machine", "kept by key", compacted=True),
}
QUICK = Tidying(every_s=0.02, compact_after=50)
SLOW = Tidying(every_s=3_600.0, compact_after=10**9)


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self, ms: int = NOW_MS) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


@asynccontextmanager
async def opened(
    folder: Path, *, clock: HandClock | None = None, tidying: Tidying = QUICK, partitions: int = 1
) -> AsyncIterator[SqliteLog]:
    now_ms = (clock or HandClock()).now_ms
    path = folder / "log.db"
    async with open_sqlite_log(
        path, partitions, topics=TOPICS, tidying=tidying, now_ms=now_ms, lock_wait_s=0.05
    ) as log:
        yield log


def daily(*values: str, at_ms: int = NOW_MS) -> list[NewRecord]:
    return [NewRecord(DAILY, b"m", value.encode(), at_ms) for value in values]


async def kept(log: SqliteLog, topic: str) -> list[Record]:
    return [record async for records in log.read(topic, 0) for record in records]


async def values(log: SqliteLog, topic: str = DAILY) -> list[str]:
    return [(record.value or b"").decode() for record in await kept(log, topic)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await condition():
            await asyncio.sleep(0.01)


# --- the file ---------------------------------------------------------------------------------------------------------


async def test_another_number_of_partitions_is_refused_in_one_line(tmp_path: Path) -> None:
    async with opened(tmp_path, partitions=2):
        pass
    with pytest.raises(ValueError, match=r"^the log file has 2 partitions, not 3; the number can't be changed$"):
        async with opened(tmp_path, partitions=3):
            pass
    async with opened(tmp_path, partitions=2):
        pass


async def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db")) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(ValueError, match="version 2"):
        async with opened(tmp_path):
            pass


async def test_a_topic_added_later_gets_its_partitions(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 2) as log:
        await log.append([NewRecord(TELEMETRY, b"m", b"1", NOW_MS)])
    async with opened(tmp_path, partitions=2) as log:
        await log.append(daily("1"))
        assert sorted(end for _, end in (await log.bounds(DAILY)).values()) == [0, 1]


async def test_a_file_that_another_process_has_locked_is_busy_until_it_is_free(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Busy):
                await log.append(daily("refused"))
            with pytest.raises(Busy):
                await log.commit(DAILY, "group", {0: 1})
            assert await values(log) == []  # who reads does not wait
            with pytest.raises(Busy):
                async with opened(tmp_path):
                    pass
            other.execute("ROLLBACK")
        await log.append(daily("taken"))
        assert await values(log) == ["taken"]


async def test_a_full_disk_is_busy_and_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append(daily("stored"))
        log._writer._connection.execute("PRAGMA max_page_count = 60")  # noqa: SLF001 - a full disk, made by hand
        with pytest.raises(Busy):
            await log.append([NewRecord(DAILY, b"m", bytes(1_000_000), NOW_MS)])
        await log.append(daily("stored too"))
        assert await values(log) == ["stored", "stored too"]


async def test_who_brings_more_than_may_wait_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "WAITING_RECORDS", 10)
    async with opened(tmp_path) as log:
        first = asyncio.create_task(log.append(daily(*map(str, range(11)))))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await log.append(daily("one more"))
        await first
        await log.append(daily("afterwards"))


async def test_a_long_append_is_cut_into_rows_that_a_reader_can_hold(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append(daily(*(str(n) for n in range(1_200))))
        await log.append([NewRecord(DAILY, b"m", bytes(300_000), NOW_MS) for _ in range(9)])
        with closing(sqlite3.connect(tmp_path / "log.db")) as file:
            rows = file.execute("SELECT last_offset - first_offset + 1, length(body) FROM batch").fetchall()
    assert [records for records, _ in rows] == [500, 500, 200, 4, 4, 1]
    assert max(size for _, size in rows) < sqlite_file.BATCH_BYTES + 300_000


# --- tidying ----------------------------------------------------------------------------------------------------------


async def test_records_older_than_the_retention_go_when_the_log_is_opened(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock=clock, tidying=SLOW) as log:
        await log.append(daily("old", "old", at_ms=NOW_MS))
        await log.append(daily("young", at_ms=NOW_MS + DAY_MS + 1))
    clock.ms = NOW_MS + DAY_MS + 1
    async with opened(tmp_path, clock=clock, tidying=SLOW) as log:
        await until(lambda: gone(log, before=2))
        assert await values(log) == ["young"]
        await log.append(daily("new", at_ms=clock.ms))
        assert [record.offset for record in await kept(log, DAILY)] == [2, 3]


async def test_records_that_grow_too_old_go_while_the_log_is_open(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock=clock) as log:
        for n in range(sqlite_file.TRIM_BATCHES + 10):
            await log.append(daily(str(n)))
        await log.append(daily("young", at_ms=NOW_MS + 2 * DAY_MS))
        assert len(await kept(log, DAILY)) == sqlite_file.TRIM_BATCHES + 11
        clock.ms = NOW_MS + 2 * DAY_MS
        await until(lambda: gone(log, before=sqlite_file.TRIM_BATCHES + 10))
        assert await values(log) == ["young"]


async def gone(log: SqliteLog, before: int) -> bool:
    return (await log.bounds(DAILY))[0][0] >= before


@pytest.mark.parametrize(
    ("clock_ms", "newest_ms"),
    [(NOW_MS + 9 * DAY_MS, NOW_MS), (NOW_MS, NOW_MS + 9 * DAY_MS)],
    ids=["nothing new has come", "the clock has not moved"],
)
def test_neither_a_wrong_clock_nor_a_wrong_record_empties_a_log(tmp_path: Path, clock_ms: int, newest_ms: int) -> None:
    with closing(sqlite_file.connect(tmp_path / "log.db", 1.0)) as file:
        (place, *_) = sqlite_file.prepare(file, TOPICS, 1)
        with sqlite_file.transaction(file):
            sqlite_file.insert(file, place.id, daily("old"))
            sqlite_file.insert(file, place.id, daily("newest", at_ms=newest_ms))
        sqlite_file.trim(file, place.id, DAY_MS, clock_ms)
        assert sqlite_file.bounds(file, DAILY) == {0: (0, 2)}


@pytest.mark.parametrize("from_the_future", [1, 3, 15])
def test_records_from_the_future_do_not_end_retention_for_those_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_the_future: int
) -> None:
    # day          0 | 5000, some | 1  2  3  4  5  6  7  8  9
    # kept on day 9                                       8  9
    monkeypatch.setattr(sqlite_file, "TRIM_BATCHES", 4)
    with closing(sqlite_file.connect(tmp_path / "log.db", 1.0)) as file:
        (place, *_) = sqlite_file.prepare(file, TOPICS, 1)
        for day in [0, *[5_000] * from_the_future, *range(1, 10)]:
            with sqlite_file.transaction(file):
                sqlite_file.insert(file, place.id, daily(str(day), at_ms=NOW_MS + day * DAY_MS))
        first, end = [], from_the_future + 10
        for day in (0, 1, 9):
            while sqlite_file.trim(file, place.id, DAY_MS, NOW_MS + day * DAY_MS):
                pass
            first.append(sqlite_file.bounds(file, DAILY)[0][0])
    assert first == [0, 0, end - 2]


def test_of_a_log_whose_every_record_lies_beyond_the_clock_nothing_goes(tmp_path: Path) -> None:
    with closing(sqlite_file.connect(tmp_path / "log.db", 1.0)) as file:
        (place, *_) = sqlite_file.prepare(file, TOPICS, 1)
        for day in range(9):
            with sqlite_file.transaction(file):
                sqlite_file.insert(file, place.id, daily(str(day), at_ms=NOW_MS + day * DAY_MS))
        assert not sqlite_file.trim(file, place.id, DAY_MS, 0)  # the clock of a box that has just been switched on
        assert sqlite_file.bounds(file, DAILY) == {0: (0, 9)}


async def test_a_group_that_is_further_behind_than_the_retention_is_told_what_it_missed(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock=clock) as log:
        await log.append(daily("0", "1", "2", "3"))
        await log.append(daily("4", at_ms=NOW_MS + 2 * DAY_MS))
        async with log.subscribe(DAILY, "late") as subscription:
            await subscription.poll(1, LIMIT_S)
            await subscription.commit({0: 1})
        clock.ms = NOW_MS + 2 * DAY_MS
        await until(lambda: gone(log, before=4))
        async with log.subscribe(DAILY, "late") as subscription:
            ((record,),) = (await subscription.poll(10, LIMIT_S)).values()
            assert (record.value, subscription.records_skipped) == (b"4", 3)


Entries = Sequence[tuple[bytes, bytes | None]]
keyed = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=3)), min_size=1, max_size=9
)


@settings(max_examples=40, deadline=None)
@given(checkpoints=st.lists(keyed, max_size=12), again=keyed)
def test_compaction_keeps_the_last_record_of_each_key_where_it_is(checkpoints: list[Entries], again: Entries) -> None:
    with TemporaryDirectory() as folder, closing(sqlite_file.connect(Path(folder) / "log.db", 1.0)) as file:
        place = next(each for each in sqlite_file.prepare(file, TOPICS, 1) if each.topic == CONTROLLER_STATE)
        expected: dict[bytes, tuple[int, bytes | None]] = {}
        end = 0
        for entries in [*checkpoints, again]:
            with sqlite_file.transaction(file):
                records = [NewRecord(CONTROLLER_STATE, key, value, NOW_MS) for key, value in entries]
                assert sqlite_file.insert(file, place.id, records) == end
            expected |= {key: (end + n, value) for n, (key, value) in enumerate(entries)}
            end += len(entries)
            if len(entries) % 2:
                sqlite_file.compact(file, place.id)
        sqlite_file.compact(file, place.id)
        found = sqlite_file.read(file, place, 0, end, enough=1_000)
        assert {record.key: (record.offset, record.value) for record in found} == {
            key: last for key, last in expected.items() if last[1] is not None
        }
        assert [record.offset for record in found] == sorted(record.offset for record in found)
        assert sqlite_file.bounds(file, CONTROLLER_STATE)[0][1] == end


async def test_a_compacted_topic_does_not_grow_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for n in range(300):
            await log.checkpoint(CONTROLLER_STATE, 0, [(b"m", b"%d" % n), (b"position", b"%d" % n)], NOW_MS)

        async def is_small() -> bool:
            return len(await kept(log, CONTROLLER_STATE)) <= 2 * QUICK.compact_after

        await until(is_small)
        last = {record.key: (record.offset, record.value) for record in await kept(log, CONTROLLER_STATE)}
        assert last == {b"m": (598, b"299"), b"position": (599, b"299")}
        assert await log.checkpoint(CONTROLLER_STATE, 0, [(b"m", b"next")], NOW_MS) == 600


async def append_for_ever(log: SqliteLog) -> None:
    while True:
        await log.append(daily("later"))


async def test_a_writer_that_has_ended_by_a_defect_refuses_what_waits_and_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> int:
        raise ValueError("a row that can't be read")

    monkeypatch.setattr(sqlite_file, "compact", breaks)
    async with opened(tmp_path, tidying=Tidying(every_s=3_600.0, compact_after=1)) as log, asyncio.timeout(LIMIT_S):
        await log.checkpoint(CONTROLLER_STATE, 0, [(b"k", b"1")], NOW_MS)  # is durable, and then compaction is due
        waiting = [asyncio.create_task(log.append(daily(str(number)))) for number in range(100)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(BrokenPromise, match=r"its writer has ended: .*can't be read"):
            await append_for_ever(log)
    assert {type(outcome) for outcome in outcomes} <= {type(None), BrokenPromise}


async def test_a_read_that_has_begun_sees_what_is_compacted_away_meanwhile(tmp_path: Path) -> None:
    rounds = 30  # more than a read hands out at once
    async with opened(tmp_path, tidying=SLOW) as log:
        for n in range(rounds):
            entries = [(b"%d" % key, b"%d" % n) for key in range(200)]
            await log.checkpoint(CONTROLLER_STATE, 0, entries, NOW_MS)
        found: list[Record] = []
        async for records in log.read(CONTROLLER_STATE, 0):
            if not found:
                with closing(sqlite_file.connect(tmp_path / "log.db", 1.0)) as other:
                    place = next(
                        each for each in sqlite_file.prepare(other, TOPICS, 1) if each.topic == CONTROLLER_STATE
                    )
                    assert sqlite_file.compact(other, place.id) == 200
            found += records
        assert [record.offset for record in found] == list(range(rounds * 200))
        assert len(await kept(log, CONTROLLER_STATE)) == 200


# --- members ----------------------------------------------------------------------------------------------------------


async def test_a_poll_that_waits_hears_of_our_own_appends_without_looking_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_group, "OTHERS_S", 3_600.0)
    async with opened(tmp_path) as log, log.subscribe(DAILY, "group") as subscription, asyncio.timeout(LIMIT_S):
        waiting = asyncio.create_task(subscription.poll(10, 3_600.0))
        await asyncio.sleep(0)
        await log.append(daily("news"))
        ((record,),) = (await waiting).values()
        assert record.value == b"news"


async def test_a_long_partition_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    async with opened(tmp_path, partitions=3) as log:
        await log.append([NewRecord(DAILY, b"key-%d" % (n % 50), b"", NOW_MS) for n in range(6_000)])
        async with log.subscribe(DAILY, "group") as subscription:
            turns = [set(await subscription.poll(sqlite_file.BATCH_RECORDS, LIMIT_S)) for _ in range(6)]
        assert turns[0] | turns[1] | turns[2] == turns[3] | turns[4] | turns[5] == {0, 1, 2}


class Recovering:
    """A listener whose restore fails once."""

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        raise Busy(f"no state for {sorted(partitions)}")

    async def revoked(self, partitions: Collection[int]) -> None:
        pass


async def test_a_listener_that_raises_after_all_is_heard_and_the_group_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append(daily("1"))
        with pytest.raises(Busy, match="no state"):
            async with log.subscribe(DAILY, "group", Recovering()):
                pass
        async with log.subscribe(DAILY, "group") as subscription:
            assert len(await subscription.poll(10, LIMIT_S)) == 1


records = st.lists(
    st.builds(
        NewRecord,
        topic=st.just(DAILY),
        key=st.binary(max_size=4),
        value=st.none() | st.binary(max_size=20),
        timestamp_ms=st.integers(0, 2**40),
        headers=st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=2).map(tuple),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(appends=st.lists(records, max_size=6), start=st.integers(0, 80), stop=st.integers(0, 80), most=st.integers(1, 9))
async def test_however_it_is_appended_and_read_it_is_the_same_log(
    appends: list[list[NewRecord]], start: int, stop: int, most: int
) -> None:
    given_all = [record for append in appends for record in append]
    with TemporaryDirectory() as folder:
        async with opened(Path(folder), tidying=SLOW) as log:
            await asyncio.gather(*(log.append(append) for append in appends))
            found = [record async for batch in log.read(DAILY, 0, start, stop) for record in batch]
            handed: list[Record] = []
            async with log.subscribe(DAILY, "group") as subscription:
                while len(handed) < len(given_all):
                    for batch in (await subscription.poll(most, LIMIT_S)).values():
                        assert len(batch) <= most
                        handed += batch
            for time_ms in {record.timestamp_ms for record in given_all}:
                first = next(n for n, record in enumerate(given_all) if record.timestamp_ms >= time_ms)
                assert await log.offset_at(DAILY, 0, time_ms) == first
    whole = [
        Record(DAILY, 0, n, each.key, each.value, each.timestamp_ms, each.headers) for n, each in enumerate(given_all)
    ]
    assert handed == whole
    assert found == whole[start:stop]
