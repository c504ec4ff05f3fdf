"""The writer: one thread that puts all that waits into one transaction, and tidies the file in between."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import msgspec
import structlog

from adaptors import sqlite_errors, sqlite_file
from adaptors.sqlite_errors import Full
from adaptors.sqlite_room import Room
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord

TRANSACTION_WRITES = 256
"""Most writes in one transaction. A transaction costs 0.2 ms, nearly all of it the flush, which its writes share."""

WAITING_RECORDS = 100_000
"""Most records that wait to be written, a second's work; 150 MB if all are reps. A write that finds more is refused."""

_log = structlog.get_logger()

Ends = Mapping[int, int]
"""Offset of the next record, by partition id."""

Chore = Callable[[], bool]
"""A short piece of tidying; true if there is more of it to do."""


class Tidying(msgspec.Struct, frozen=True):
    """When the file is rid of what nobody needs.

    Parameters
    ----------
    every_s : float
        How often records are looked for that are older than the retention, in s.
    compact_after : int
        Records written to a compacted partition before it is compacted: 5,000 of 2 to 10 kB are 10 to 50 MB that
        nobody reads.
    """

    every_s: float = 60.0
    compact_after: int = 5_000


class Write(msgspec.Struct, frozen=True):
    """What one caller wants written, all of it or nothing.

    Parameters
    ----------
    done : asyncio.Future
        Gets the offset of the first record by partition id, once all is durable.
    records : mapping of int to sequence of NewRecord
        By partition id, in order.
    positions : mapping of (str, int) to int
        Offset of the next record, by group and partition id.
    """

    done: asyncio.Future[Mapping[int, int]]
    records: Mapping[int, Sequence[NewRecord]] = {}
    positions: Mapping[tuple[str, int], int] = {}


@contextmanager
def promises() -> Iterator[None]:
    """Tell SQLite's errors as ours: `Busy` for a locked file or a full disk, `BrokenPromise` for all others."""
    try:
        yield
    except sqlite3.Error as error:
        raise sqlite_errors.told(error, "log file") from error


class Writer:
    """The one thread of this process that changes the file.

    Parameters
    ----------
    connection : sqlite3.Connection
        The writer's own from now on; it closes it.
    compacted : mapping of int to int
        The partitions that keep the last record of each key, by id, with the number of records they have now.
    retention_ms : mapping of int to int
        How long each other partition keeps its records, by id.
    tidying : Tidying
        When to compact and to trim.
    now_ms : callable
        The clock, for the retention.
    grown : callable
        Hears in the event loop of the new ends after each transaction, just before those who wait for it.
    room : Room
        Hears whether there was room for each transaction.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        compacted: Mapping[int, int],
        retention_ms: Mapping[int, int],
        tidying: Tidying,
        now_ms: Callable[[], int],
        grown: Callable[[Ends], None],
        room: Room,
    ) -> None:
        self._connection = connection
        self._room = room
        self._tidying = tidying
        self._trims: list[Chore] = [
            partial(self._trim, each, keep_ms, now_ms) for each, keep_ms in retention_ms.items()
        ]
        self._chores = deque(self._trims)
        self._until_compaction = {each: tidying.compact_after - records for each, records in compacted.items()}
        self._grown = grown
        self._waiting = 0
        self._broken: str | None = None
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # a daemon, so that a process whose event loop is gone ends all the same
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, write: Write) -> None:
        """Queue a write; writes are written in the order of these calls.

        Raises
        ------
        Busy
            Too much waits already.
        BrokenPromise
            The thread has ended by an error, so nothing will be written any more.
        """
        if self._broken is not None:
            raise BrokenPromise(self._broken)
        if self._waiting > WAITING_RECORDS:
            raise Busy(f"log file: {self._waiting} records wait to be written")
        self._waiting += _size(write)
        self._queue.put(write)

    async def close(self) -> None:
        """Write what is queued and close the file."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for a thread that is gone
            _log.exception("log_file_writer_ended")
            with suppress(RuntimeError):  # the event loop is gone, and with it all who wait
                self._loop.call_soon_threadsafe(self._break, error)
        finally:
            self._connection.close()

    def _work(self) -> None:
        look_s = time.monotonic() + self._tidying.every_s
        is_open = True
        while is_open:
            writes, is_open = self._take()
            if writes:
                self._write(writes)
            if self._chores:
                self._do(self._chores.popleft())
            elif time.monotonic() >= look_s:
                look_s = time.monotonic() + self._tidying.every_s
                self._chores += self._trims

    def _take(self) -> tuple[list[Write], bool]:
        """Take what is queued, and wait for it unless there are chores; False when nothing comes after it."""
        writes: list[Write] = []
        try:
            write = self._queue.get(timeout=0.0 if self._chores else self._tidying.every_s)
            while write is not None:
                writes.append(write)
                if len(writes) == TRANSACTION_WRITES:
                    return writes, True
                write = self._queue.get_nowait()
        except queue.Empty:
            return writes, True
        return writes, False

    def _write(self, writes: Sequence[Write]) -> None:
        try:
            with promises(), sqlite_file.transaction(self._connection):
                bases, ends = self._insert(writes)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for this must hear of it
            if isinstance(error, Full):
                self._room.refused(error)
            self._loop.call_soon_threadsafe(self._refuse, writes, error)
        else:
            self._room.taken()
            self._loop.call_soon_threadsafe(self._confirm, writes, bases, ends)
            self._count_down(writes)

    def _insert(self, writes: Sequence[Write]) -> tuple[list[dict[int, int]], Ends]:
        """Put the records of all writes together, so that a partition gets as few batches as possible."""
        lots: defaultdict[int, list[NewRecord]] = defaultdict(list)
        places: list[dict[int, int]] = []
        for write in writes:
            places.append({partition_id: len(lots[partition_id]) for partition_id in write.records})
            for partition_id, records in write.records.items():
                lots[partition_id] += records
            for (group, partition_id), next_offset in write.positions.items():
                sqlite_file.move(self._connection, group, partition_id, next_offset)
        bases = {each: sqlite_file.insert(self._connection, each, records) for each, records in lots.items()}
        ends = {each: base + len(lots[each]) for each, base in bases.items()}
        return [{each: bases[each] + nth for each, nth in place.items()} for place in places], ends

    def _confirm(self, writes: Sequence[Write], bases: Sequence[Mapping[int, int]], ends: Ends) -> None:
        self._grown(ends)
        for write, base in zip(writes, bases, strict=True):
            self._waiting -= _size(write)
            if not write.done.done():
                write.done.set_result(base)

    def _refuse(self, writes: Sequence[Write], error: Exception) -> None:
        for write in writes:
            self._waiting -= _size(write)
            if not write.done.done():
                write.done.set_exception(error)

    def _break(self, error: Exception) -> None:
        """Refuse what is queued; `put`, which runs in the event loop as well, refuses all that comes after."""
        self._broken = f"log file: its writer has ended: {error!r}"
        while not self._queue.empty():
            write = self._queue.get_nowait()
            if write is not None:
                self._refuse([write], BrokenPromise(self._broken))

    def _count_down(self, writes: Sequence[Write]) -> None:
        for write in writes:
            for partition_id in write.records.keys() & self._until_compaction.keys():
                self._until_compaction[partition_id] -= len(write.records[partition_id])
                if self._until_compaction[partition_id] <= 0:
                    self._until_compaction[partition_id] = self._tidying.compact_after
                    self._chores.append(partial(self._compact, partition_id))

    def _do(self, chore: Chore) -> None:
        try:
            with promises():
                if chore():
                    self._chores.append(chore)
        except (Busy, BrokenPromise) as error:
            _log.warning("log_file_not_tidied", error=str(error))  # it will be looked at again

    def _trim(self, partition_id: int, retention_ms: int, now_ms: Callable[[], int]) -> bool:
        return sqlite_file.trim(self._connection, partition_id, retention_ms, now_ms())

    def _compact(self, partition_id: int) -> bool:
        left = sqlite_file.compact(self._connection, partition_id)
        # as much garbage as there are keys at least, so that compaction costs no more than writing did
        self._until_compaction[partition_id] = max(self._tidying.compact_after, left)
        return False


def _size(write: Write) -> int:
    return sum(map(len, write.records.values()))
