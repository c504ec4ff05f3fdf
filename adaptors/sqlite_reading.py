"""The SQLite log opened by somebody who only looks: nothing is made, changed or tidied away, neither files nor rows.

SQLite makes two files beside a database in WAL mode, even for a reader, and a reader does not remove them. Where no
such file holds anything, nobody writes, and the database is read as if it could not change. Where one does, a writer is
there or died, and the files are there already: then it is read as usual, with the locks of a reader. Which of the two
holds is looked at before every read, for a writer may come at any time.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from adaptors import sqlite_file
from adaptors.sqlite_file import Place
from adaptors.sqlite_writer import promises
from streams.core.records import Record

READ_RECORDS = 2_000
"""Records after which a read hands out what it has; with 1.5 kB each, 3 MB."""

LOCK_WAIT_S = 5.0
"""How long a read waits for a writer that recovers the file, in s."""

_T = TypeVar("_T")


@asynccontextmanager
async def open_sqlite_reading(path: Path) -> AsyncIterator["SqliteReading"]:
    """Open a log file to look at it.

    Raises
    ------
    ValueError
        There is no such file, it is no log, or another version made it.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-reader") as thread:
        reading = SqliteReading(path, thread)
        await reading.open()
        try:
            yield reading
        finally:
            await reading.close()


class SqliteReading:
    """Records in one SQLite file, read by a thread of its own while the event loop goes on."""

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        self._path, self._thread = path, thread
        self._places: dict[tuple[str, int], Place] = {}
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[int, int] | None = None

    async def open(self) -> None:
        """Learn which partitions there are."""
        self._places = {(place.topic, place.number): place for place in await self._ask(self._all_places)}

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)

    async def read(
        self, topic: str, partition: int, start: int | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """Read from `start` (None: the earliest) up to, not including, `stop` (None, or beyond it: the present end)."""
        place = self._places[topic, partition]
        first, end = (await self.bounds(topic))[partition]
        offset = first if start is None else start
        end = end if stop is None else min(stop, end)
        while records := await self._ask(
            lambda connection: sqlite_file.read(connection, place, offset, end, READ_RECORDS)  # noqa: B023 - awaited at once
        ):
            yield records
            offset = records[-1].offset + 1

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return for each partition the earliest offset and the offset of the next record. KeyError: no such topic."""
        if all(known != topic for known, _ in self._places):
            raise KeyError(topic)
        return await self._ask(lambda connection: sqlite_file.bounds(connection, topic))

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Return the offset of the first record that is not older than `time_ms`, or the end."""
        place = self._places[topic, partition]
        return await self._ask(lambda connection: sqlite_file.offset_at(connection, place.id, time_ms))

    async def _ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """Ask the file something in the reading thread."""
        with promises():
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: question(self._connected()))

    def _connected(self) -> sqlite3.Connection:
        seen = None if self._has_writer() else self._version()
        if self._connection is None or seen != self._seen:
            self._disconnect()
            mode = "mode=ro" if seen is None else "mode=ro&immutable=1"
            address = f"file:{quote(str(self._path.absolute()))}?{mode}"
            self._connection = sqlite3.connect(
                address, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False, uri=True
            )
            self._seen = seen
        return self._connection

    def _has_writer(self) -> bool:
        """Tell whether the write-ahead log holds anything: a writer is there, or one has died."""
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size > 0
        except FileNotFoundError:
            return False

    def _version(self) -> tuple[int, int]:
        """Return what changes with the file: a writer may have come and gone between two reads."""
        try:
            told = self._path.stat()
        except FileNotFoundError:
            raise ValueError(f"no log at {self._path}") from None
        return told.st_mtime_ns, told.st_size

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _all_places(self, connection: sqlite3.Connection) -> list[Place]:
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            with closing(connection.execute("SELECT id, topic, number FROM partition ORDER BY id")) as rows:
                found = [Place(*row) for row in rows]
        except (sqlite3.DatabaseError, sqlite3.OperationalError) as error:
            raise ValueError(f"{self._path} is no log: {error}") from error
        if version != sqlite_file.VERSION:
            raise ValueError(f"the log file has version {version}, this program reads version {sqlite_file.VERSION}")
        return found
