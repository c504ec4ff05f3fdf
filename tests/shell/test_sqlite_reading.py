"""The SQLite log opened by somebody who only looks."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_reading import open_sqlite_reading
from streams.core.errors import BrokenPromise
from streams.core.records import NewRecord, Record
from streams.core.topics import CONTROLLER_STATE, TELEMETRY
from streams.stretch import Readable

NOW_MS = 1_790_000_000_000


def said(*values: str) -> list[NewRecord]:
    return [NewRecord(TELEMETRY, b"m", value.encode(), NOW_MS + n) for n, value in enumerate(values)]


async def values(log: Readable) -> list[str]:
    bounds = await log.bounds(TELEMETRY)
    found: list[Record] = [
        record for number in bounds async for records in log.read(TELEMETRY, number) for record in records
    ]
    return [(record.value or b"").decode() for record in found]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_it_reads_what_the_log_reads_and_makes_no_file(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 3) as log:
        await log.append(said(*(str(n) for n in range(5_000))))
        bounds = await log.bounds(TELEMETRY)
        (number,) = [number for number, (_, end) in bounds.items() if end]
        at = await log.offset_at(TELEMETRY, number, NOW_MS + 1_234)
    before = (tmp_path / "log.db").stat()
    async with open_sqlite_reading(tmp_path / "log.db") as reading:
        assert await reading.bounds(TELEMETRY) == bounds
        assert await reading.offset_at(TELEMETRY, number, NOW_MS + 1_234) == at == 1_234
        assert await values(reading) == [str(n) for n in range(5_000)]
        some = [record.offset async for records in reading.read(TELEMETRY, number, 10, 4_100) for record in records]
        assert some == list(range(10, 4_100))
        assert names(tmp_path) == {"log.db"}
    after = (tmp_path / "log.db").stat()
    assert (before.st_mtime_ns, before.st_size, names(tmp_path)) == (after.st_mtime_ns, after.st_size, {"log.db"})


async def test_it_reads_beside_a_writer_and_after_one(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        await log.append(said("0"))
    async with open_sqlite_reading(tmp_path / "log.db") as reading:
        assert await values(reading) == ["0"]
        async with open_sqlite_log(tmp_path / "log.db", 1) as log:
            await log.append(said("1"))
            assert await values(reading) == ["0", "1"]
            await log.append(said("2"))
            assert await values(reading) == ["0", "1", "2"]
        assert await values(reading) == ["0", "1", "2"]
        async with open_sqlite_log(tmp_path / "log.db", 1) as log:
            await log.append(said("3"))
        assert await values(reading) == ["0", "1", "2", "3"]


async def test_a_writer_that_comes_while_it_reads_changes_nothing_of_what_it_reads(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        await log.append(said(*(str(n) for n in range(6_000))))
    found: list[Record] = []
    async with open_sqlite_reading(tmp_path / "log.db") as reading:
        async for records in reading.read(TELEMETRY, 0):
            found += records
            async with open_sqlite_log(tmp_path / "log.db", 1) as log:
                await log.append(said("more"))
    assert [(record.value or b"").decode() for record in found] == [str(n) for n in range(6_000)]


_DYING = """
import asyncio, os, sys
from pathlib import Path
from adaptors.sqlite_log import open_sqlite_log
from streams.core.records import NewRecord
from streams.core.topics import TELEMETRY

async def main():
    async with open_sqlite_log(Path(sys.argv[1]), 1) as log:
        await log.append([NewRecord(TELEMETRY, b"m", b"last words", 5)])
        os._exit(9)

asyncio.run(main())
"""


def test_what_a_writer_left_behind_that_died_is_read(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _DYING, str(tmp_path / "log.db")], check=False)
    before = names(tmp_path)
    assert "log.db-wal" in before

    async def look() -> list[str]:
        async with open_sqlite_reading(tmp_path / "log.db") as reading:
            return await values(reading)

    assert asyncio.run(look()) == ["last words"]
    assert names(tmp_path) == before


async def test_retention_removes_nothing_while_somebody_looks(tmp_path: Path) -> None:
    year_ms = 365 * 86_400_000
    async with open_sqlite_log(tmp_path / "log.db", 1, now_ms=lambda: NOW_MS) as log:
        await log.append([NewRecord(TELEMETRY, b"m", b"old", NOW_MS - year_ms), *said("new")])
    async with open_sqlite_reading(tmp_path / "log.db") as reading:
        assert await values(reading) == ["old", "new"]


async def test_a_state_topic_is_read_too(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        await log.checkpoint(CONTROLLER_STATE, 0, [(b"m", b"1"), (b"n", b"2")], NOW_MS)
    async with open_sqlite_reading(tmp_path / "log.db") as reading:
        found = [record async for records in reading.read(CONTROLLER_STATE, 0) for record in records]
    assert [record.value for record in found] == [b"1", b"2"]


async def test_what_is_no_log_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no log at .*/log\.db$"):
        async with open_sqlite_reading(tmp_path / "log.db"):
            pass
    assert names(tmp_path) == set()
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("CREATE TABLE something (else_ TEXT)")
    with pytest.raises(ValueError, match=r"is no log: no such table: partition$"):
        async with open_sqlite_reading(tmp_path / "log.db"):
            pass


async def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1):
        pass
    with closing(sqlite3.connect(tmp_path / "log.db")) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(ValueError, match="version 2"):
        async with open_sqlite_reading(tmp_path / "log.db"):
            pass


async def test_a_file_that_is_damaged_is_a_broken_promise(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1) as log:
        await log.append(said(*(str(n) for n in range(5_000))))
    damaged = bytearray((tmp_path / "log.db").read_bytes())
    damaged[8_192:] = bytes(len(damaged) - 8_192)
    (tmp_path / "log.db").write_bytes(damaged)
    with pytest.raises((BrokenPromise, ValueError)):
        async with open_sqlite_reading(tmp_path / "log.db") as reading:
            await values(reading)


async def test_a_topic_that_is_not_there_is_a_key_error_as_in_every_log(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1):
        pass
    async with open_sqlite_reading(tmp_path / "log.db") as reading:
        with pytest.raises(KeyError):
            await reading.bounds("nothing")
