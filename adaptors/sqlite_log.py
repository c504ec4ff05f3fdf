"""The log in SQLite: every topic in one file, for one box without Kafka."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from adaptors import sqlite_file
from adaptors.sqlite_file import Place
from adaptors.sqlite_group import Group, Listener, SqliteSubscription
from adaptors.sqlite_room import Room
from adaptors.sqlite_writer import Ends, Tidying, Write, Writer, promises
from streams.core.errors import BrokenPromise
from streams.core.records import NewRecord, Record
from streams.core.topics import LOG_TOPICS, STATE_MAX_BATCH_BYTES, LogTopic

READ_RECORDS = 2_000
"""Records after which a read hands out what it has; with 1.5 kB each, 3 MB."""

_T = TypeVar("_T")


def wall_clock_ms() -> int:
    """Return the time in ms since 1970."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def open_sqlite_log(
    path: Path,
    partitions: int,
    *,
    topics: Mapping[str, LogTopic] = LOG_TOPICS,
    lock_wait_s: float = 5.0,
    tidying: Tidying = Tidying(),  # noqa: B008 - frozen
    now_ms: Callable[[], int] = wall_clock_ms,
) -> AsyncIterator["SqliteLog"]:
    """Open a log in a file, which is made if it is missing.

    Other processes may read and write the file at the same time; but a group's partitions are shared out among the
    members in one log object only.

    Parameters
    ----------
    path : Path
        The database file; two more of that name stand beside it while it is open.
    partitions : int
        Number of partitions of every topic; the same whenever the file is opened.
    topics : mapping of str to LogTopic
        The topics there are, and what keeps each one.
    lock_wait_s : float
        How long a write waits for another process that writes, in s, before it raises Busy.
    tidying : Tidying
        When records that may go are deleted.
    now_ms : callable
        The clock, in ms since 1970, by which records outlive their retention.

    Raises
    ------
    ValueError
        The file has another number of partitions.
    Busy
        Another process has locked the file, or the disk is full.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-reader") as thread:
        log = SqliteLog(partial(sqlite_file.connect, path, lock_wait_s), partitions, topics, thread, Room(path))
        await log.open(tidying, now_ms)
        try:
            yield log
        finally:
            await log.close()


class SqliteLog:
    """Records in one SQLite file: one thread writes, another one reads, and the event loop waits for neither."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        partitions: int,
        topics: Mapping[str, LogTopic],
        thread: ThreadPoolExecutor,
        room: Room,
    ) -> None:
        self._connect = connect
        self._partitions = partitions
        self._topics = topics
        self._thread = thread
        self._room = room
        self._places: dict[tuple[str, int], Place] = {}
        self._by_id: dict[int, Place] = {}
        self._ends: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        self._groups: dict[str, dict[str, Group]] = {topic: {} for topic in topics}
        self._connection: Connection
        self._writer: Writer

    async def open(self, tidying: Tidying, now_ms: Callable[[], int]) -> None:
        """Make what is missing in the file, and start the writer."""
        places, writing = await self._ask(self._prepare)
        self._places = {(place.topic, place.number): place for place in places}
        self._by_id = {place.id: place for place in places}
        for topic in self._topics:
            await self.look(topic)
        sizes = await self._ask(lambda: sqlite_file.sizes(self._connection))
        kept_by = [(place.id, self._topics[place.topic]) for place in places]
        self._writer = Writer(
            writing,
            compacted={each: sizes[each] for each, topic in kept_by if topic.compacted},
            retention_ms={each: topic.retention_ms for each, topic in kept_by if not topic.compacted},
            tidying=tidying,
            now_ms=now_ms,
            grown=self._grown,
            room=self._room,
        )

    async def close(self) -> None:
        """Finish what is being written, and close the file."""
        await self._writer.close()
        await self._ask(self._connection.close)

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Records of one key keep their order."""
        lots: defaultdict[int, list[NewRecord]] = defaultdict(list)
        places, partitions = self._places, self._partitions
        for record in records:
            lots[places[record.topic, sqlite_file.partition_of(record.key, partitions)].id].append(record)
        if lots:
            await self._write(lots)

    async def checkpoint(
        self, topic: str, partition: int, entries: Sequence[tuple[bytes, bytes | None]], timestamp_ms: int
    ) -> int:
        """Store keyed values in one partition of a compacted topic, all or none; return the offset of the first.

        Raises BrokenPromise if keys and values exceed `STATE_MAX_BATCH_BYTES`.
        """
        size = sum(len(key) + len(value or b"") for key, value in entries)
        if size > STATE_MAX_BATCH_BYTES:
            raise BrokenPromise(f"a checkpoint of {size} bytes for {topic}, at most {STATE_MAX_BATCH_BYTES}")
        place = self._places[topic, partition]
        bases = await self._write({place.id: [NewRecord(topic, key, value, timestamp_ms) for key, value in entries]})
        return bases[place.id]

    async def read(
        self, topic: str, partition: int, start: int | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """Read from `start` (None: the earliest) up to, not including, `stop` (None, or beyond it: the present end)."""
        place = self._places[topic, partition]
        connection = await self._ask(self._snapshot if self._topics[topic].compacted else self._connect)
        try:
            first, end = (await self._ask(lambda: sqlite_file.bounds(connection, topic)))[partition]
            offset = first if start is None else start
            end = end if stop is None else min(stop, end)
            while records := await self._ask(
                lambda: sqlite_file.read(connection, place, offset, end, READ_RECORDS)  # noqa: B023 - awaited at once
            ):
                yield records
                offset = records[-1].offset + 1
        finally:
            await self._ask(connection.close)

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return for each partition the earliest offset and the offset of the next record. KeyError: no such topic.

        Raises Busy while the disk is full: roles ask this to learn whether the log is there, and one that takes nothing
        is not. Nor is who waits for it stalled, and a restart, which would end broker and reflex too, mends nothing.
        """
        self._room.check()
        return await self.look(topic)

    async def look(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return what `bounds` does, and also while the disk is full: a member reads on what is there."""
        ends = self._ends[topic]
        bounds = await self._ask(lambda: sqlite_file.bounds(self._connection, topic))
        for partition, (_, end) in bounds.items():
            ends[partition] = max(end, ends.get(partition, 0))
        return bounds

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Return the offset of the first record that is not older than `time_ms`, or the end."""
        place = self._places[topic, partition]
        return await self._ask(lambda: sqlite_file.offset_at(self._connection, place.id, time_ms))

    @asynccontextmanager
    async def subscribe(
        self, topic: str, group: str, listener: Listener | None = None
    ) -> AsyncIterator[SqliteSubscription]:
        """Join a group on a topic."""
        member = SqliteSubscription(self, topic, group, listener, has_gaps=self._topics[topic].compacted)
        members = self._groups[topic].setdefault(group, Group(self._partitions))
        try:
            await members.join(member)
            yield member
        finally:
            await members.leave(member)

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return the next offset of each partition, as far as this object knows: all that it has written itself."""
        return self._ends[topic]

    async def fetch(
        self, topic: str, ranges: Mapping[int, tuple[int, int]], enough: int
    ) -> Mapping[int, Sequence[Record]]:
        """Read partitions in this order, each from an offset up to another, until there are enough records."""

        def read() -> dict[int, Sequence[Record]]:
            found: dict[int, Sequence[Record]] = {}
            left = enough
            for partition, (offset, end) in ranges.items():
                found[partition] = sqlite_file.read(
                    self._connection, self._places[topic, partition], offset, end, min(left, READ_RECORDS)
                )
                left -= len(found[partition])
                if left <= 0:
                    break
            return found

        return await self._ask(read)

    async def committed(self, topic: str, group: str) -> Mapping[int, int]:
        """Return the position of each partition for which the group has one."""
        return await self._ask(lambda: sqlite_file.positions(self._connection, group, topic))

    async def commit(self, topic: str, group: str, positions: Mapping[int, int]) -> None:
        """Store positions of a group."""
        done = asyncio.get_running_loop().create_future()
        moved = {(group, self._places[topic, partition].id): offset for partition, offset in positions.items()}
        self._writer.put(Write(done, positions=moved))
        await done

    async def _write(self, lots: Mapping[int, Sequence[NewRecord]]) -> Mapping[int, int]:
        done: asyncio.Future[Mapping[int, int]] = asyncio.get_running_loop().create_future()
        self._writer.put(Write(done, records=lots))
        return await done

    async def _ask(self, question: Callable[[], _T]) -> _T:
        """Ask the file something in the reading thread."""
        with promises():
            return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    def _prepare(self) -> tuple[list[Place], Connection]:
        self._connection = self._connect()
        try:
            return sqlite_file.prepare(self._connection, self._topics, self._partitions), self._connect()
        except BaseException:
            self._connection.close()
            raise

    def _snapshot(self) -> Connection:
        """Connect so that what is compacted away meanwhile is read all the same."""
        connection = self._connect()
        connection.execute("BEGIN")
        return connection

    def _grown(self, ends: Ends) -> None:
        for partition_id, end in ends.items():
            place = self._by_id[partition_id]
            known = self._ends[place.topic]
            known[place.number] = max(end, known[place.number])
            for group in self._groups[place.topic].values():
                group.wake()
