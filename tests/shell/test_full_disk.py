"""A full disk under the loop in one process: who is in danger is stopped all the same, and what was said is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from adaptors import history
from adaptors.delivery import Pace
from adaptors.mqtt_client import connect
from adaptors.mqtt_connection import Connection
from adaptors.sqlite_errors import Full
from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from spineloop import embedded, running, wiring
from spineloop.embedded import Embedded, Embedding
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from streams.core import codec
from streams.core.commands import Command
from streams.core.telemetry import ButtonPressed
from streams.core.topics import COMMAND, TELEMETRY, mqtt_topic
from streams.log import Log
from tests.core.story import Machine
from tests.shell.clinic import session, spoken
from tests.shell.week import everything

DEADLINE_S = 30.0
STALL_S = 3.0
"""The usual 60 are long; a look is taken every second, so it can't be much shorter."""

SETTINGS = Settings.read({"SPINELOOP_HTTP_PORT": "0", "SPINELOOP_METERS_S": "0", "SPINELOOP_STALL_S": str(STALL_S)})
ALL_PAGES = 2**32 - 2
NEEDS_NO_DISK = {"broker", "reflex"}
PRESSED = codec.encode(ButtonPressed(boot_id="b1", seq=0, t_us=0, button="stop"))


@asynccontextmanager
async def loop_in(folder: Path, *, waits: bool = False) -> AsyncIterator[Embedded]:
    embedding = Embedding(data=folder, port=embedded.free_port(), waits=waits)
    async with embedded.opened(SETTINGS, embedding, Exposition()) as loop:
        yield loop


def pages(loop: Embedded, most: int) -> None:
    """Let the disk have room for so many pages of the log, or for those that there are."""
    assert isinstance(loop.log, SqliteLog)
    loop.log._writer._connection.execute(f"PRAGMA max_page_count = {most}")  # noqa: SLF001 - a full disk, made by hand


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def ready(loop: Embedded) -> set[str]:
    return {role.name for role in loop.roles if role.is_ready()}


class Floor:
    """Machines of which anybody may press the stop button, over one connection."""

    def __init__(self, machines: Connection) -> None:
        self._machines = machines
        self.told = 0

    async def press(self, machine: str) -> Command:
        """Press it; return the STOP that comes."""
        await self._machines.publish(mqtt_topic(machine, "event"), PRESSED)
        self.told += 1
        async with asyncio.timeout(DEADLINE_S):
            while True:
                (message,) = await self._machines.receive(1)
                self._machines.ack([message])
                command = codec.decode_command(message.payload)
                if command.machine == machine:
                    return command

    async def train(self, loop: Embedded) -> None:
        """Say reps until the log takes no more."""
        machine = Machine()
        async with asyncio.timeout(DEADLINE_S):
            while "ingest" in ready(loop):
                rep = machine.rep(self.told % 10 + 1)
                await self._machines.publish(mqtt_topic("acme/north/trainer", "rep"), codec.encode(rep))
                self.told += 1
                await asyncio.sleep(0.01)


@asynccontextmanager
async def floor_of(url: str) -> AsyncIterator[Floor]:
    async with await connect(url, client_id="machines") as machines:
        await machines.subscribe(["spineloop/v1/+/+/+/command"])
        yield Floor(machines)


async def heard_elsewhere(folder: Path) -> int:
    """Put telemetry into the log by a way that has room, so that there is something to decide."""
    records = spoken(session("acme/north/lumbar-1"))
    async with open_sqlite_log(folder / "log.db", embedded.PARTITIONS) as log:
        await log.append(records)
    return len(records)


async def test_a_full_disk_ends_nobody_danger_is_answered_and_afterwards_everything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Pace(longest_retry_s=0.2)  # below what passes for a stall here, as the usual ones are
    monkeypatch.setattr(history, "PACE", quick)
    monkeypatch.setattr(wiring, "DOWNLINK_PACE", quick)
    stop = asyncio.Event()
    async with loop_in(tmp_path) as loop, floor_of(loop.settings.mqtt_url) as floor:
        working = asyncio.create_task(running.run(loop.roles, SETTINGS, Exposition(), stop))
        await until(lambda: ready(loop) == {role.name for role in loop.roles})
        with capture_logs() as lines:
            pages(loop, 1)
            await floor.train(loop)
            told = await heard_elsewhere(tmp_path)
            for n in range(4):
                assert (await floor.press(f"acme/north/m{n}")).action == "stop"
                await asyncio.sleep(STALL_S / 2)  # twice as long as what passes for a stall, together
            assert ready(loop) == NEEDS_NO_DISK
            assert not working.done()
            pages(loop, ALL_PAGES)
            await until(lambda: ready(loop) == {role.name for role in loop.roles})
            await floor.press("acme/north/m4")  # a write that finds room
            await until(lambda: len(files(lines)) > 1)
        assert files(lines) == [str(tmp_path / "log.db")] * 2
        async with asyncio.timeout(DEADLINE_S):
            while len(await everything(loop.log, TELEMETRY)) < told + floor.told:
                await asyncio.sleep(0.1)
            while not {f"acme/north/m{n}" for n in range(5)} <= await stops(loop):
                await asyncio.sleep(0.1)
        stop.set()
        await working


def files(lines: Sequence[MutableMapping[str, Any]]) -> list[str]:
    """Return of which files it was told that their disk is full, or has room again."""
    return [line["file"] for line in lines if line["event"].startswith("disk ")]


async def stops(loop: Embedded) -> set[str]:
    """Return the machines that the controller has stopped."""
    commands = [codec.decode_command(record.value or b"") for record in await everything(loop.log, COMMAND)]
    return {command.machine for command in commands if command.action == "stop"}


async def test_who_starts_on_a_full_disk_answers_danger_and_keeps_what_is_said_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens, urls, loops, has_room = wiring.open_log, list[str](), list[Embedded](), asyncio.Event()

    @asynccontextmanager
    async def open_log(settings: Settings, role: str) -> AsyncIterator[Log]:
        urls.append(settings.mqtt_url)
        if not has_room.is_set():
            raise Full("log file: database or disk is full")
        async with opens(settings, role) as log:
            yield log

    async def serve(stop: asyncio.Event) -> None:
        async with loop_in(tmp_path, waits=True) as loop:
            loops.append(loop)
            await running.run(loop.roles, SETTINGS, Exposition(), stop)

    monkeypatch.setattr(embedded, "ROOM_RETRY_S", 0.05)
    monkeypatch.setattr(wiring, "open_log", open_log)
    stop = asyncio.Event()
    with capture_logs() as lines:
        serving = asyncio.create_task(serve(stop))
        await until(lambda: any(line["event"] == "reflex is ready" for line in lines))
    async with floor_of(urls[-1]) as floor:
        assert (await floor.press("acme/north/m1")).action == "stop"
        assert not loops
        has_room.set()
        await until(lambda: bool(loops))
        async with asyncio.timeout(DEADLINE_S):
            while not await everything(loops[0].log, TELEMETRY):
                await asyncio.sleep(0.1)
    stop.set()
    await serving


async def test_a_demo_does_not_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> AbstractAsyncContextManager[Log]:
        raise Full("log file: database or disk is full")

    monkeypatch.setattr(wiring, "open_log", full)
    with pytest.raises(Full):
        async with loop_in(tmp_path):
            pass
