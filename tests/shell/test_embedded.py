"""The loop in one process and its broker: they end together, the broker first, and neither without the other."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adaptors.embedded_broker import started
from adaptors.mqtt_client import connect
from adaptors.mqtt_connection import Connection
from adaptors.mqtt_link import ConnectionLost
from loadtest.native import free_port
from spineloop import embedded, running
from spineloop.embedded import Embedded, Embedding
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from spineloop.wiring import Role
from streams.core import codec
from streams.core.errors import BrokenPromise
from streams.core.telemetry import Heartbeat
from streams.core.topics import TELEMETRY, mqtt_topic
from tests.shell.week import everything

DEADLINE_S = 120.0
SETTINGS = Settings.read({"SPINELOOP_HTTP_PORT": "0", "SPINELOOP_METERS_S": "0"})
TOPIC = mqtt_topic("acme/north/m1", "event")
ENOUGH = 20
"""Messages in the log before the stop: they flow."""


@asynccontextmanager
async def loop_in(folder: Path) -> AsyncIterator[Embedded]:
    embedding = Embedding(data=folder, port=free_port())
    async with embedded.opened(SETTINGS, embedding, Exposition()) as loop:
        yield loop


async def until_ready(loop: Embedded) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not all(role.is_ready() for role in loop.roles):
            await asyncio.sleep(0.01)


def brokers() -> set[int]:
    """Return the process ids of the brokers that this process has started; other tests may have some."""
    return {
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text(encoding="ascii").split()
        if b"broker_process.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


async def confirmed(machine: Connection) -> int:
    """Say heartbeats, one after the other, until the broker is gone; return how many it has confirmed."""
    number = 0
    try:
        while True:
            await machine.publish(TOPIC, codec.encode(Heartbeat(boot_id="b1", seq=number, t_us=number)))
            number += 1
            await asyncio.sleep(0.01)
    except ConnectionLost:
        return number


async def test_told_to_stop_the_broker_confirms_nothing_more_while_the_roles_finish(tmp_path: Path) -> None:
    stop, may_end = asyncio.Event(), asyncio.Event()

    async def slow(stop: asyncio.Event) -> None:
        await stop.wait()
        await may_end.wait()

    async with loop_in(tmp_path) as loop, asyncio.timeout(DEADLINE_S):
        roles = [*loop.roles, Role("slow", slow, lambda: True)]
        working = asyncio.create_task(running.run(roles, SETTINGS, Exposition(), stop))
        await until_ready(loop)
        machine = await connect(loop.settings.mqtt_url, client_id="machine")
        saying = asyncio.create_task(confirmed(machine))
        while len(await everything(loop.log, TELEMETRY)) < ENOUGH:
            await asyncio.sleep(0.01)
        stop.set()
        number = await saying
        with pytest.raises(ConnectionLost):
            await connect(loop.settings.mqtt_url, client_id="other")
        assert not working.done()
        may_end.set()
        await working
        stored = len(await everything(loop.log, TELEMETRY))
    assert number > 0
    assert number - stored <= 100  # what was on its way: a second's worth


async def test_a_broker_that_ends_by_itself_ends_the_process(tmp_path: Path) -> None:
    others = brokers()
    async with loop_in(tmp_path) as loop, asyncio.timeout(DEADLINE_S):
        working = asyncio.create_task(running.run(loop.roles, SETTINGS, Exposition(), asyncio.Event()))
        await until_ready(loop)
        (ours,) = brokers() - others
        os.kill(ours, signal.SIGKILL)
        with pytest.raises(ExceptionGroup) as ended:
            await working
    assert ended.group_contains(BrokenPromise, match="the embedded broker ended with status -9")


async def test_a_broker_that_was_told_to_end_a_little_before_us_is_no_broken_promise() -> None:
    stop, others = asyncio.Event(), brokers()
    async with started(free_port()) as broker, asyncio.timeout(DEADLINE_S):
        watching = asyncio.create_task(broker.run(stop))
        (ours,) = brokers() - others
        os.kill(ours, signal.SIGTERM)  # as systemd does, to all processes of a service
        while broker.is_alive:
            await asyncio.sleep(0.01)
        stop.set()
        await watching


async def test_a_broker_of_somebody_else_is_not_ours_to_end(tmp_path: Path) -> None:
    elsewhere = Embedding(data=tmp_path, mqtt_url="mqtt://127.0.0.1:1")
    async with embedded.opened(SETTINGS, elsewhere, Exposition()) as loop:
        assert "broker" not in [role.name for role in loop.roles]
