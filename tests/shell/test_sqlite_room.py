"""Room: a full disk passes, is told once, and whoever only reads does not notice."""

import sqlite3
import tempfile
from asyncio import sleep
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from adaptors import embedded_broker, sqlite_errors, sqlite_room
from adaptors.mqtt_client import connect
from adaptors.sqlite_errors import Full
from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_room import Room, disk_of
from spineloop import embedded, logs
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import NewRecord
from streams.core.topics import TELEMETRY


async def test_while_the_disk_is_full_the_log_is_not_there_for_who_asks_and_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_room, "RECENT_S", 0.2)
    async with open_sqlite_log(tmp_path / "log.db", 1) as log, log.subscribe(TELEMETRY, "group") as member:
        await log.append([NewRecord(TELEMETRY, b"m", b"stored", 1)])
        log._writer._connection.execute("PRAGMA max_page_count = 1")  # noqa: SLF001
        with pytest.raises(Full):
            await log.append([NewRecord(TELEMETRY, b"m", bytes(1_000_000), 1)])
        with pytest.raises(Busy, match="the disk is full"):
            await log.bounds(TELEMETRY)
        assert [record.value for records in (await member.poll(10, 1.0)).values() for record in records] == [b"stored"]
        assert await member.lag() == {0: 0}
        await sleep(0.3)  # nobody tries any more, so nobody knows that it is full
        assert await log.bounds(TELEMETRY) == {0: (0, 1)}


async def test_a_broker_starts_where_no_file_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    async with embedded_broker.embedded_broker(embedded.free_port()) as url, await connect(url, client_id="machine"):
        pass


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, Full),
        (sqlite3.SQLITE_IOERR_SHMSIZE, Full),
        (sqlite3.SQLITE_IOERR_WRITE, Full),
        (sqlite3.SQLITE_IOERR_READ, BrokenPromise),
        (sqlite3.SQLITE_CORRUPT, BrokenPromise),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Busy),
    ],
)
def test_what_is_for_want_of_room_passes(code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("so it is")
    error.sqlite_errorcode = code
    assert type(sqlite_errors.told(error, "log file")) is kind


def test_a_full_disk_is_told_once_though_small_writes_find_room_and_once_when_it_is_over() -> None:
    now_s = [100.0]
    room = Room(Path("/data/log.db"), lambda: now_s[0])
    with capture_logs() as lines:
        room.taken()
        for _ in range(50):
            room.refused(Full("full"))
            room.taken()
            now_s[0] += 0.2
        with pytest.raises(Full):
            room.check()
        now_s[0] += sqlite_room.RECENT_S
        room.check()
        room.taken()
        room.taken()
    assert [(line["log_level"], line["event"][:9], line["disk"]) for line in lines] == [
        ("error", "disk is f", "/"),
        ("info", "disk has ", "/"),
    ]


def test_a_line_that_the_log_of_the_process_has_no_room_for_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = structlog.get_config()
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - closing it fails, as writing does
    monkeypatch.setattr("sys.stderr", full)
    try:
        logs.configure("json", "info", role="test")
        structlog.get_logger().error("nobody hears this")
    finally:
        structlog.configure(**configured)
        structlog.contextvars.clear_contextvars()
        with suppress(OSError):
            full.close()


def test_the_disk_of_a_folder_that_is_a_mount_of_its_own_is_that_one() -> None:
    assert disk_of(Path("/proc")) == disk_of(Path("/proc/new/log.db")) == Path("/proc")
    assert disk_of(Path("/")) == Path("/")
