"""The file of the SQLite log: its tables, and each thing that is done to them, on the connection of whoever does it.

A row holds a batch of records and not one: Python's sqlite3 gives the interpreter away at every row, and while an event
loop is busy it comes back after up to 5 ms. Measured with 1.5 kB records, batches of 125 and a busy loop: 13,000
records/s are read, against 200/s with one row each; written, 140,000/s on a quiet machine.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streams.core.records import Header, NewRecord, Record
from streams.core.topics import LogTopic

BATCH_RECORDS = 500
"""Most records in one row: reading one record costs decoding its row, and 500 of them take half a millisecond."""

BATCH_BYTES = 1024 * 1024
"""Size of keys and values at which a row is closed, so that a reader can bound what it holds."""

TRIM_BATCHES = 200
"""Most batches deleted in one transaction: an append that waits behind it waits some milliseconds, not seconds."""

VERSION = 1
"""Of the tables below, in the file as `user_version`."""

_TABLES = """
CREATE TABLE IF NOT EXISTS partition (
    id          INTEGER PRIMARY KEY,
    topic       TEXT NOT NULL,
    number      INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0, -- also right when the last records are gone
    newest_ms   INTEGER NOT NULL DEFAULT 0, -- of every record there ever was
    UNIQUE (topic, number)
) STRICT;
CREATE TABLE IF NOT EXISTS batch (
    partition_id INTEGER NOT NULL REFERENCES partition (id),
    first_offset INTEGER NOT NULL,
    last_offset  INTEGER NOT NULL,
    newest_ms    INTEGER NOT NULL, -- of this batch and all before it, so it grows with the offset
    body         BLOB NOT NULL     -- MessagePack: [[offset, timestamp_ms, key, value, headers], ...]
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS batch_by_offset ON batch (partition_id, last_offset);
CREATE INDEX IF NOT EXISTS batch_by_time ON batch (partition_id, newest_ms);
CREATE TABLE IF NOT EXISTS position (
    member_group TEXT NOT NULL,
    partition_id INTEGER NOT NULL REFERENCES partition (id),
    next_offset  INTEGER NOT NULL,
    PRIMARY KEY (member_group, partition_id)
) STRICT, WITHOUT ROWID;
"""


class Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record as it stands in a row."""

    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    headers: tuple[Header, ...]


class Place(msgspec.Struct, frozen=True):
    """One partition of one topic, and its number in the file."""

    id: int
    topic: str
    number: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Stored]).decode


def partition_of(key: bytes, partitions: int) -> int:
    """Choose the partition of a key, the same in every topic.

    Examples
    --------
    >>> [partition_of(key, 4) for key in (b"acme/north/m1", b"acme/north/m2", b"")]
    [1, 3, 0]
    """
    return zlib.crc32(key) % partitions


def connect(path: Path, lock_wait_s: float) -> sqlite3.Connection:
    """Open a connection that one thread at a time may use.

    `synchronous = FULL` flushes the write-ahead log at each commit, so that what was committed survives a power cut.
    NORMAL would lose the last commits, and for some of them a PUBACK has been sent. It would save 0.15 ms of a small
    transaction and 1 ms of one of 750 kB.
    """
    connection = sqlite3.connect(path, timeout=lock_wait_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def prepare(connection: sqlite3.Connection, topics: Mapping[str, LogTopic], partitions: int) -> list[Place]:
    """Create what is missing and return every partition of these topics.

    Raises
    ------
    ValueError
        The file was made with another number of partitions, or by another version of these tables.
    """
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, VERSION}:
            raise ValueError(f"the log file has version {version}, this program reads version {VERSION}")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        (found,) = connection.execute("SELECT count(DISTINCT number) FROM partition").fetchone()
        if found not in {0, partitions}:
            raise ValueError(f"the log file has {found} partitions, not {partitions}; the number can't be changed")
        wanted = [(topic, number) for topic in topics for number in range(partitions)]
        connection.executemany("INSERT OR IGNORE INTO partition (topic, number) VALUES (?, ?)", wanted)
        rows = connection.execute("SELECT id, topic, number FROM partition ORDER BY id").fetchall()
    return [Place(*row) for row in rows if row[1] in topics]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Wait for the file's one write lock, then commit at the end of the block, or roll back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def insert(connection: sqlite3.Connection, partition_id: int, records: Sequence[NewRecord]) -> int:
    """Add records at the end of a partition, within a transaction, and return the offset of the first."""
    row = connection.execute("SELECT next_offset, newest_ms FROM partition WHERE id = ?", (partition_id,)).fetchone()
    base, newest_ms = row
    offset = base
    for batch in _batches(records):
        newest_ms = max(newest_ms, *(record.timestamp_ms for record in batch))
        body = [
            Stored(offset + n, record.timestamp_ms, record.key, record.value, record.headers)
            for n, record in enumerate(batch)
        ]
        last_offset = offset + len(batch) - 1
        values = (partition_id, offset, last_offset, newest_ms, _encode(body))
        connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", values)
        offset = last_offset + 1
    connection.execute(
        "UPDATE partition SET next_offset = ?, newest_ms = ? WHERE id = ?", (offset, newest_ms, partition_id)
    )
    return int(base)


def _batches(records: Sequence[NewRecord]) -> Iterator[Sequence[NewRecord]]:
    start = size = 0
    for n, record in enumerate(records):
        if n - start == BATCH_RECORDS or size >= BATCH_BYTES:
            yield records[start:n]
            start, size = n, 0
        size += len(record.key) + len(record.value or b"")
    if start < len(records):
        yield records[start:]


def read(connection: sqlite3.Connection, place: Place, start: int, stop: int, enough: int) -> list[Record]:
    """Read records from `start` up to, not including, `stop`: whole batches until there are `enough`, or none."""
    query = """SELECT body FROM batch WHERE partition_id = ? AND last_offset >= ? AND first_offset < ?
               ORDER BY last_offset"""
    records: list[Record] = []
    size = 0
    for (body,) in connection.execute(query, (place.id, start, stop)):
        records += [
            Record(
                place.topic, place.number, stored.offset, stored.key, stored.value, stored.timestamp_ms, stored.headers
            )
            for stored in _decode(body)
            if start <= stored.offset < stop
        ]
        size += len(body)
        if len(records) >= enough or (records and size >= BATCH_BYTES):
            break
    return records


def bounds(connection: sqlite3.Connection, topic: str) -> dict[int, tuple[int, int]]:
    """Return for each partition of a topic the earliest offset and the offset of the next record."""
    query = """SELECT number, coalesce((SELECT first_offset FROM batch WHERE partition_id = id
                                        ORDER BY last_offset LIMIT 1), next_offset), next_offset
               FROM partition WHERE topic = ? ORDER BY number"""
    return {number: (first, end) for number, first, end in connection.execute(query, (topic,))}


def sizes(connection: sqlite3.Connection) -> dict[int, int]:
    """Return for each partition, by id, the number of records; where it is compacted, of those there were at first."""
    query = """SELECT id, coalesce(sum(last_offset - first_offset + 1), 0)
               FROM partition LEFT JOIN batch ON partition_id = id GROUP BY id"""
    return dict(connection.execute(query).fetchall())


def offset_at(connection: sqlite3.Connection, partition_id: int, time_ms: int) -> int:
    """Return the offset of the first record that is not older than a time, or the end."""
    query = """SELECT body FROM batch WHERE partition_id = ? AND newest_ms >= ? ORDER BY newest_ms, last_offset"""
    for (body,) in connection.execute(query, (partition_id, time_ms)):
        # what made newest_ms so new may be gone, then the record is in a later batch
        for stored in _decode(body):
            if stored.timestamp_ms >= time_ms:
                return stored.offset
    (end,) = connection.execute("SELECT next_offset FROM partition WHERE id = ?", (partition_id,)).fetchone()
    return int(end)


def positions(connection: sqlite3.Connection, group: str, topic: str) -> dict[int, int]:
    """Return for each partition of a topic the offset that a group has committed, if any."""
    query = """SELECT number, position.next_offset FROM position JOIN partition ON id = partition_id
               WHERE member_group = ? AND topic = ?"""
    return dict(connection.execute(query, (group, topic)).fetchall())


def move(connection: sqlite3.Connection, group: str, partition_id: int, next_offset: int) -> None:
    """Commit the position of a group, within a transaction."""
    connection.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", (group, partition_id, next_offset))


def trim(connection: sqlite3.Connection, partition_id: int, retention_ms: int, now_ms: int) -> bool:
    """Delete the oldest batches whose every record is older than the retention; tell whether there may be more.

    Old is what is older than both the clock and the newest record of the partition allow. So neither a clock gone wrong
    nor one record from the future empties a log, and a recording of last year can be looked at. Nor does such a record
    keep for good all that came after it: a time beyond the clock is not believed.
    """
    query = """DELETE FROM batch WHERE rowid IN (
                   SELECT batch.rowid FROM batch JOIN partition ON id = partition_id
                   WHERE partition_id = ? AND batch.newest_ms < min(partition.newest_ms, ?) - ? LIMIT ?)"""
    with transaction(connection):
        done = connection.execute(query, (partition_id, now_ms, retention_ms, TRIM_BATCHES)).rowcount
        if done < TRIM_BATCHES:
            old = _old_though_beyond(connection, partition_id, retention_ms, now_ms)
            connection.executemany("DELETE FROM batch WHERE rowid = ?", old)
            done = len(old)
    return done == TRIM_BATCHES


def _old_though_beyond(
    connection: sqlite3.Connection, partition_id: int, retention_ms: int, now_ms: int
) -> list[tuple[int]]:
    """Return the oldest batches that are too old, where `newest_ms` lies beyond the clock and so says nothing.

    Then their records are asked. A batch of the future alone is as old as the next one that can be believed, at least.
    """
    some = "SELECT rowid, body, newest_ms FROM batch WHERE partition_id = ? ORDER BY last_offset LIMIT ? OFFSET ?"
    last = "SELECT body FROM batch WHERE partition_id = ? ORDER BY last_offset DESC LIMIT 1"
    first = connection.execute(some, (partition_id, 1, 0)).fetchone()
    if first is None or first[2] <= now_ms:
        return []
    newest_ms = _believed(connection.execute(last, (partition_id,)).fetchone()[0], now_ms)
    if newest_ms is None:
        return []
    limit_ms = newest_ms - retention_ms
    old: list[tuple[int]] = []
    unsure: list[tuple[int]] = []
    for rowid, body, _ in connection.execute(some, (partition_id, TRIM_BATCHES, 0)):
        unsure.append((rowid,))
        told_ms = _believed(body, now_ms)
        if told_ms is not None and told_ms >= limit_ms:
            return old
        if told_ms is not None:
            old, unsure = old + unsure, []
    further = TRIM_BATCHES
    while unsure and (row := connection.execute(some, (partition_id, 1, further)).fetchone()):
        told_ms = _believed(row[1], now_ms)
        if told_ms is not None:
            return old + unsure if told_ms < limit_ms else old
        further *= 2  # a clock was wrong for long; to look at all of that each time would keep the appends waiting
    return old


def _believed(body: bytes, now_ms: int) -> int | None:
    """Return the newest time in a row that is not beyond the clock, if there is one."""
    return max((stored.timestamp_ms for stored in _decode(body) if stored.timestamp_ms <= now_ms), default=None)


def compact(connection: sqlite3.Connection, partition_id: int) -> int:
    """Keep only the last record of each key, at its offset, and no deleted key; return how many records are left."""
    seen: set[bytes] = set()
    left = 0
    query = "SELECT rowid FROM batch WHERE partition_id = ? ORDER BY last_offset DESC"
    with transaction(connection):
        for (rowid,) in connection.execute(query, (partition_id,)).fetchall():
            (body,) = connection.execute("SELECT body FROM batch WHERE rowid = ?", (rowid,)).fetchone()
            records = _decode(body)
            kept = _last_of_each_key(records, seen)
            left += len(kept)
            if not kept:
                connection.execute("DELETE FROM batch WHERE rowid = ?", (rowid,))
            elif len(kept) < len(records):
                connection.execute("UPDATE batch SET body = ? WHERE rowid = ?", (_encode(kept), rowid))
    return left


def changed(
    body: bytes, topic: str, number: int, change: Callable[[Record], Record | None]
) -> tuple[bytes | None, int]:
    """Change the records of one row; return the row anew, None if it is empty, and how many were changed."""
    kept, count = list[Stored](), 0
    for one in _decode(body):
        record = Record(topic, number, one.offset, one.key, one.value, one.timestamp_ms, one.headers)
        new = change(record)
        count += new is not record
        if new is not None:
            kept.append(Stored(one.offset, one.timestamp_ms, new.key, new.value, new.headers))
    return _encode(kept) if kept else None, count


def _last_of_each_key(records: Sequence[Stored], seen: set[bytes]) -> list[Stored]:
    kept = []
    for record in reversed(records):
        if record.key not in seen:
            seen.add(record.key)
            if record.value is not None:
                kept.append(record)
    return kept[::-1]
