"""Readiness tells the truth: on real servers, each taken away in turn, every role says whether it can do its work."""

import asyncio
import signal
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from loadtest import stack
from loadtest.child import running
from loadtest.native import free_port
from loadtest.oracle import log_of, until
from loadtest.stack import Stack
from spineloop import wiring
from spineloop.wiring import ROLES
from streams.core.records import Record
from streams.log import Log
from tests.shell.counts import Counts

pytestmark = pytest.mark.stack

NAMES = (*ROLES, "page")
NEED_THE_LOG = set(NAMES) - {"reflex"}


@asynccontextmanager
async def started(servers: Stack) -> AsyncIterator[dict[str, int]]:
    """Run every role, and tell where each is asked."""
    ports = {name: free_port() for name in NAMES}
    async with AsyncExitStack() as stops:
        for name, port in ports.items():
            chosen = {"page_port": str(free_port())} if name == "page" else {}
            await stops.enter_async_context(running(servers.role(name, 0, http_port=str(port), **chosen)))
        yield ports


async def not_ready(ports: dict[str, int]) -> set[str]:
    answers = await asyncio.gather(*(stack.is_ready(port) for port in ports.values()))
    return {name for name, answer in zip(ports, answers, strict=True) if not answer}


async def until_not_ready(ports: dict[str, int], names: Collection[str]) -> None:
    """Wait until these roles say that they are not ready, and no others."""
    seen: set[str] = set()

    async def are_they() -> bool:
        nonlocal seen
        seen = await not_ready(ports)
        return seen == set(names)

    try:
        await until(are_they)
    except TimeoutError:
        pytest.fail(f"not ready are {sorted(seen)}, and should be {sorted(names)}")


async def test_a_role_is_ready_while_all_that_it_needs_answers_and_not_while_it_does_not() -> None:
    async with stack.servers() as servers, started(servers) as ports:
        await until_not_ready(ports, ())
        of_broker = {"ingest", "downlink", "reflex"}
        for server, needed_by in ((servers.broker, of_broker), (servers.history, {"history"})):
            await server.process.kill()
            await until_not_ready(ports, needed_by)
            await server.process.start()
            await until_not_ready(ports, ())
        servers.log.process.tell(signal.SIGSTOP)  # it takes every connection, and answers nothing
        await until_not_ready(ports, NEED_THE_LOG)
        servers.log.process.tell(signal.SIGCONT)
        await until_not_ready(ports, ())
        await servers.log.process.kill()
        await until_not_ready(ports, NEED_THE_LOG)
        await servers.log.process.start()
        await until_not_ready(ports, ())


class Slow:
    """A log whose states can't be read until somebody lets them."""

    def __init__(self, log: Log) -> None:
        self.let = asyncio.Event()
        self.asked = asyncio.Event()
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, *args: Any, **kwargs: Any) -> AsyncIterator[Sequence[Record]]:
        self.asked.set()
        await self.let.wait()
        async for records in self._log.read(*args, **kwargs):
            yield records


@pytest.mark.parametrize("name", ["control", "plan"])
async def test_a_stage_is_not_ready_before_its_partitions_are_assigned_and_restored(name: str) -> None:
    async with stack.servers() as servers, log_of(servers) as log:
        slow: Any = Slow(log)
        counts = Counts()
        role = wiring.WITH_LOG[name](servers.settings(), slow, counts)
        stop = asyncio.Event()
        task = asyncio.create_task(role.run(stop))
        assert not role.is_ready()
        async with asyncio.timeout(120.0):
            await slow.asked.wait()
            while not counts.totals["spineloop_lag_records"]:  # it has looked, and nobody could tell it the lag
                await asyncio.sleep(0.01)
            assert not role.is_ready()
            slow.let.set()
            while not role.is_ready():
                await asyncio.sleep(0.01)
            stop.set()
            await task
        assert not role.is_ready()
