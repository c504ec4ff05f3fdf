"""History in SQLite: the same points in one file, for one box without a database server."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from adaptors import sqlite_errors
from adaptors.line_protocol import line
from adaptors.meter_points import MEASUREMENT
from adaptors.points import FieldValue, Point, Rejected, Tags
from streams.core.errors import Busy, Malformed

ROWS_PER_TRANSACTION = 5_000
"""One transaction costs one flush to disk, and others can write only between two of them."""

METER_DAYS = 7
"""How long meters are kept, in days of their own time: `serve` writes all of them every few seconds."""

TRIM_EVERY_S = 3_600
"""How often meters are looked for that are too old, in s of their own time."""

TRIM_POINTS = 10_000
"""About how many meters go at a time, so that nobody waits long; if there are more, they go with the next write."""

_SCHEMA = """
PRAGMA page_size = 8192; -- on pages of 4096 every rep of 1.4 kB spills, and takes 2.5 times the disk
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL; -- a position in the log may be moved as soon as a write has returned
CREATE TABLE IF NOT EXISTS point (
    measurement TEXT NOT NULL,
    machine     TEXT NOT NULL, -- tenant/site/machine
    t_ns        INTEGER NOT NULL,
    tags        TEXT NOT NULL, -- JSON, sorted by key
    fields      TEXT NOT NULL, -- JSON
    PRIMARY KEY (measurement, machine, t_ns, tags)
) STRICT, WITHOUT ROWID;
"""

_UPSERT = """
INSERT INTO point (measurement, machine, t_ns, tags, fields) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET fields = json_patch(fields, excluded.fields) WHERE fields <> excluded.fields
"""

_SELECT = "SELECT t_ns, tags, fields FROM point WHERE measurement = ? ORDER BY machine, t_ns, tags"
_NEWER = """
SELECT t_ns FROM point WHERE measurement = ? AND machine = ? AND t_ns < ? ORDER BY t_ns LIMIT 1 OFFSET ?
"""
_TRIM = "DELETE FROM point WHERE measurement = ? AND machine = ? AND t_ns < ?"
_TAGS = msgspec.json.Decoder(Tags)
_FIELDS = msgspec.json.Decoder(dict[str, FieldValue])

_T = TypeVar("_T")
_Row = tuple[str, str, int, str, str]


@asynccontextmanager
async def open_sqlite_history(path: Path, *, lock_wait_s: float = 5.0) -> AsyncIterator["SqliteHistory"]:
    """Open a history in a file, which is created if it is missing.

    Parameters
    ----------
    path : Path
        The database file; two more of that name stand beside it while it is open.
    lock_wait_s : float
        How long a write waits for another process that writes, in s, before it raises Busy.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="history") as thread:
        history = SqliteHistory(path, lock_wait_s, thread)
        await history.open()
        try:
            yield history
        finally:
            await history.close()


class SqliteHistory:
    """Points in one SQLite file; every statement runs in one thread of its own, one after the other.

    It refuses what InfluxDB refuses, so that a clinic can move from the one to the other. Every call raises `Busy`
    while the file is locked or the disk is full, and `BrokenPromise` when the file is damaged.
    """

    def __init__(self, path: Path, lock_wait_s: float, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._lock_wait_s = lock_wait_s
        self._thread = thread
        self._trimmed_ns = 0
        self._connection: sqlite3.Connection

    async def open(self) -> None:
        """Open the file and create the table if it is missing."""
        await self._run(self._open)

    async def close(self) -> None:
        """Finish the write in hand and close the file."""
        await self._run(self._connection.close)

    async def write(self, points: Sequence[Point]) -> Sequence[Rejected]:
        """Store points; when it returns, all are durable but those that are returned with the reason.

        A point that is there already gets the new values of the fields that are given, and keeps the others.
        """
        rejected: list[Rejected] = []
        for start in range(0, len(points), ROWS_PER_TRANSACTION):
            rejected += await self._run(partial(self._write, start, points[start : start + ROWS_PER_TRANSACTION]))
        return rejected

    async def ping(self) -> None:
        """Ask whether the file can be read."""
        await self._read("SELECT 1 FROM point WHERE measurement = ? LIMIT 1", "rep")

    async def count(self, measurement: str) -> int:
        """Return how many points a measurement has."""
        rows = await self._read("SELECT count(*) FROM point WHERE measurement = ?", measurement)
        return int(rows[0][0])

    async def reps_since(self, t_ns: int) -> int:
        """Return how many reps there are from a time on."""
        rows = await self._read("SELECT count(*) FROM point WHERE measurement = 'rep' AND t_ns >= ?", t_ns)
        return int(rows[0][0])

    async def select(self, measurement: str) -> Sequence[Point]:
        """Return every point of a measurement, machine by machine, in order of time."""
        rows = await self._read(_SELECT, measurement)
        return [Point(measurement, _TAGS.decode(tags), _FIELDS.decode(fields), t_ns) for t_ns, tags, fields in rows]

    async def rewrite(self, part: str, change: Callable[[str], str]) -> int:
        """Change every text that has this part in it, leave nothing of the old in the file, and count the points."""
        return await self._run(partial(self._rewrite, part, change))

    def _rewrite(self, part: str, change: Callable[[str], str]) -> int:
        self._connection.execute("PRAGMA secure_delete = ON")
        query = "SELECT measurement, machine, t_ns, tags, fields FROM point WHERE instr(fields, ?)"
        rows = self._connection.execute(query, (part,)).fetchall()
        update = "UPDATE point SET fields = ? WHERE measurement = ? AND machine = ? AND t_ns = ? AND tags = ?"
        new = [(change(row[4]), *row[:4]) for row in rows if change(row[4]) != row[4]]
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(update, new)
        self._connection.execute("VACUUM")
        is_held, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_held:  # SQLite raises no error for it
            raise Busy(f"history {self._path}: somebody reads it, so what was erased is still in its files")
        return len(new)

    async def _read(self, sql: str, value: str | int) -> Sequence[tuple[Any, ...]]:
        return await self._run(lambda: self._connection.execute(sql, (value,)).fetchall())

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise sqlite_errors.told(error, f"history {self._path}") from error

    def _open(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=self._lock_wait_s, isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def _write(self, start: int, points: Sequence[Point]) -> list[Rejected]:
        rows: list[_Row] = []
        rejected: list[Rejected] = []
        for index, point in enumerate(points, start):
            try:
                line(point)
            except Malformed as malformed:
                rejected.append(Rejected(index, malformed.reason, malformed.detail))
            else:
                rows.append(_row(point))
        with self._connection:  # rolls back if it raises
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_UPSERT, rows)
            if rows and rows[-1][0] == MEASUREMENT:
                self._trim(*rows[-1][:3])
        return rejected

    def _trim(self, measurement: str, machine: str, newest_ns: int) -> None:
        """Delete meters that are too old, now and then; SQLite uses their place in the file again."""
        if 0 <= newest_ns - self._trimmed_ns < TRIM_EVERY_S * 10**9:  # a clock that was set back must not end it
            return
        before_ns = newest_ns - METER_DAYS * 86_400 * 10**9
        query = (measurement, machine, before_ns)
        more = self._connection.execute(_NEWER, (*query, TRIM_POINTS)).fetchone()
        if more is None:
            self._trimmed_ns = newest_ns
        self._connection.execute(_TRIM, query if more is None else (measurement, machine, more[0]))


def _row(point: Point) -> _Row:
    tags = dict(point.tags)
    machine = "/".join(tags.get(name, "") for name in ("tenant", "site", "machine"))
    encode = msgspec.json.encode
    return point.measurement, machine, point.t_ns, encode(point.tags).decode(), encode(point.fields).decode()
