"""Ground: servers, proxies and workers of a campaign, and the eye that keeps on them."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from loadtest import native
from loadtest.bench.processes import cpu_s
from loadtest.chaos.disk import Disk, small_disk
from loadtest.chaos.proxy import Proxy, proxied
from loadtest.chaos.worker import Worker
from loadtest.child import Child
from loadtest.clocks import Clocks
from loadtest.native import Server
from loadtest.probes import LOOPBACK
from loadtest.stack import Stack
from spineloop import wiring

Group = Sequence[tuple[str, int]]

WORKERS: Group = (
    ("ingest", 0),
    ("control", 0),
    ("control", 1),
    ("plan", 0),
    ("history", 0),
    ("history", 1),
    ("downlink", 0),
    ("reflex", 0),
)
"""Who works all the time: several of those whose partitions can move."""

GUESTS: Group = (("control", 2), ("history", 2))
"""Who joins and leaves."""

LOOK_S = 0.2
START_S = 90.0
"""Longest time in s until all workers answer for the first time, on a machine that is busy with others."""

KAFKA_SESSION_MS = 2_000
"""How soon a killed Kafka is let in again, in ms: what is tested is the workers, not how patient its controller is."""

SERVER_OF: Mapping[str, str] = {"machines": "mosquitto", "roles": "mosquitto", "log": "kafka", "history": "influxdb"}
"""Which server each link leads to."""


class Spent:
    """CPU time by name, of all processes that had it one after the other, as last seen."""

    def __init__(self) -> None:
        self._s: dict[tuple[str, int], float] = {}

    def look(self, name: str, child: Child) -> None:
        """Note what a process has spent; one that has just ended keeps what was seen of it."""
        if child.is_running:
            with suppress(OSError, IndexError):
                self._s[name, child.pid] = cpu_s(child.pid)

    def total_s(self) -> Mapping[str, float]:
        """Add it up, in s."""
        totals: defaultdict[str, float] = defaultdict(float)
        for (name, _), spent_s in self._s.items():
            totals[name] += spent_s
        return totals


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that can break.

    `stack` is how workers see the servers, `at_machines` how machines see the broker; both through `links`.
    """

    stack: Stack
    at_machines: Server
    servers: Mapping[str, Child]
    broker: Server
    links: Mapping[str, Proxy]
    workers: Mapping[str, Worker]
    disk: Disk
    clocks: Clocks
    spent: Spent = field(default_factory=Spent)

    async def keep(self) -> None:
        """Start again what has ended, for ever, and note what everybody has spent."""
        while True:
            for name, worker in self.workers.items():
                worker.look()
                self.spent.look(name, worker.child)
            for name, server in self.servers.items():
                self.spent.look(name, server)
            await asyncio.sleep(LOOK_S)

    async def answer(self) -> None:
        """Wait until every wanted worker answers."""
        async with asyncio.timeout(START_S):
            for worker in self.workers.values():
                while worker.is_wanted and not await worker.child.program.answers():
                    await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let these go on as long as the block; it ends with the first that fails."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(work) for work in works]
        try:
            yield
        finally:
            for one in started:
                one.cancel()


@asynccontextmanager
async def prepared(
    chosen: Mapping[str, str] = MappingProxyType({}),
    *,
    clocks: Clocks | None = None,
    at_work: Group = WORKERS,
    guests: Group = GUESTS,
    is_disk_small: bool = True,
) -> AsyncIterator[Ground]:
    """Start servers behind proxies, and workers; all are gone after the block.

    Parameters
    ----------
    chosen : mapping of str to str
        Settings of the workers.
    clocks : Clocks, optional
        By how much the machines' are wrong; by nothing, if not given.
    at_work, guests : sequence of (str, int)
        Roles and numbers: of those that work all the time, and of those that only come and go.
    is_disk_small : bool
        Whether history has a disk that can be filled.
    """
    async with AsyncExitStack() as stops:
        enter = stops.enter_async_context
        log_port = native.free_port()
        disk = await enter(small_disk(is_wanted=is_disk_small))
        broker = await enter(native.mosquitto())
        log = await enter(native.kafka(session_timeout_ms=KAFKA_SESSION_MS, advertised_port=log_port))
        history = await enter(native.influxdb(disk.folder))
        ports = {
            "machines": (native.free_port(), broker.port),
            "roles": (native.free_port(), broker.port),
            "log": (log_port, log.port),
            "history": (native.free_port(), history.port),
        }
        links = {name: await enter(proxied(*both)) for name, both in ports.items()}
        folder = stops.enter_context(native.temporary_folder())
        stack = Stack(_by(broker, links["roles"]), _by(log, links["log"]), _by(history, links["history"]), folder)
        await wiring.create_topics(stack.settings())
        workers = {
            worker.name: worker
            for group, is_wanted in ((at_work, True), (guests, False))
            for name, number in group
            for worker in [Worker(stack.role(name, number, **chosen), is_wanted=is_wanted)]
        }
        ground = Ground(
            stack=stack,
            at_machines=_by(broker, links["machines"]),
            servers={"mosquitto": broker.process, "kafka": log.process, "influxdb": history.process},
            broker=broker,
            links=links,
            workers=workers,
            disk=disk,
            clocks=clocks or Clocks(),
        )
        keeping = asyncio.create_task(ground.keep())
        try:
            await ground.answer()
            yield ground
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await asyncio.gather(*(worker.stop() for worker in workers.values()))


def _by(server: Server, link: Proxy) -> Server:
    """Tell how a server is reached by way of a proxy."""
    scheme = server.url.partition("://")[0]
    return replace(server, url=f"{scheme}://{LOOPBACK}:{link.port}", port=link.port)
