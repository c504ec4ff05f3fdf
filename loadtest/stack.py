"""The stack: real servers with topics made, and the roles of spineloop as processes against them."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from loadtest import native
from loadtest.child import Child, Program, running
from loadtest.native import Server
from loadtest.probes import LOOPBACK
from spineloop import wiring
from spineloop.settings import Settings
from spineloop.wiring import ROLES

PARTITIONS = 4
"""Of every topic: enough to share out, few enough that a run of seconds visits them all."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The servers, and how to be a role against them."""

    broker: Server
    log: Server
    history: Server
    folder: Path
    partitions: int = PARTITIONS

    def settings(self, **chosen: str) -> Settings:
        """Read settings as a role would, from an environment."""
        return Settings.read(self.environment(**chosen))

    def environment(self, **chosen: str) -> dict[str, str]:
        """Spell the settings that lead to these servers; `chosen` ones are added, `checkpoint_s="1"` say."""
        names = {
            "mqtt_url": self.broker.url,
            "log_url": self.log.url,
            "history_url": self.history.url,
            "partitions": str(self.partitions),
            "kafka_session_timeout_s": "6",
            "http_port": "0",
        } | chosen
        return {f"SPINELOOP_{name.upper()}": value for name, value in names.items()}

    def tails(self, lines: int = 15) -> str:
        """Return the end of every role's log, for a person who asks what went wrong."""
        logs = sorted(self.folder.glob("*.log"))
        ends = [(log.stem, log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) for log in logs]
        return "\n".join("\n".join([f"--- {name}", *end]) for name, end in ends)

    def role(self, name: str, number: int = 0, /, **chosen: str) -> Program:
        """Describe a role as a process of its own; `number` tells several of one role apart."""
        port = int(chosen.get("http_port", native.free_port()))
        told = {"instance": str(number)} | chosen | {"http_port": str(port)}
        return Program(
            name=f"{name}-{number}",
            command=("env", *(f"{key}={value}" for key, value in self.environment(**told).items()), *spineloop(name)),
            log=self.folder / f"{name}-{number}.log",
            answers=lambda: is_ready(port),
        )


def spineloop(*arguments: str) -> Sequence[str]:
    """Return the command line of spineloop under this Python."""
    return (sys.executable, "-m", "spineloop", *arguments)


async def is_ready(port: int) -> bool:
    """Ask a role whether it is ready."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{LOOPBACK}:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def servers(partitions: int = PARTITIONS) -> AsyncIterator[Stack]:
    """Start mosquitto, Kafka and InfluxDB, and make the topics."""
    async with native.mosquitto() as broker, native.kafka() as log, native.influxdb() as history:
        with native.temporary_folder() as folder:
            stack = Stack(broker, log, history, folder, partitions)
            await wiring.create_topics(stack.settings())
            yield stack


@asynccontextmanager
async def roles(stack: Stack, names: Sequence[str] = ROLES, **chosen: str) -> AsyncIterator[dict[str, Child]]:
    """Run roles as processes, one of each, until the block ends."""
    async with AsyncExitStack() as stops:
        yield {name: await stops.enter_async_context(running(stack.role(name, 0, **chosen))) for name in names}
