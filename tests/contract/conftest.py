"""Where the contract suites find a log: SQLite in a temporary folder, and one real Kafka for the whole session."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from adaptors.kafka_log import open_kafka_log
from adaptors.kafka_topics import create_topics
from adaptors.sqlite_log import open_sqlite_log
from loadtest.native import Server, kafka
from streams.core.topics import LOG_TOPICS
from streams.log import Log

PARTITIONS = 4

LIMIT_S = 120.0
"""Longest wait for what has to happen, and for one answer of Kafka; nothing is measured with it."""

groups = count()


@dataclass(frozen=True)
class Store:
    """Where a log is kept, and how this and other processes open it."""

    kind: Literal["sqlite", "kafka"]
    address: str

    def open(self) -> AbstractAsyncContextManager[Log]:
        if self.kind == "sqlite":
            return open_sqlite_log(Path(self.address), PARTITIONS)
        return open_kafka_log(
            self.address, client_id="contract", timeout_s=LIMIT_S, session_timeout_ms=30_000, heartbeat_ms=500
        )

    def command(self, body: str) -> list[str]:
        """Return a command that runs the body of a coroutine in a process of its own, with `log` open."""
        opening = {
            "sqlite": f"open_sqlite_log(Path({self.address!r}), {PARTITIONS})",
            "kafka": f"open_kafka_log({self.address!r}, client_id='child', timeout_s={LIMIT_S})",
        }[self.kind]
        lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
        return [sys.executable, "-c", f"{_CHILD}\n    async with {opening} as log:\n{lines}\n\nasyncio.run(main())"]


_CHILD = """
import asyncio
from pathlib import Path
from adaptors.kafka_log import open_kafka_log
from adaptors.sqlite_log import open_sqlite_log
from streams.core.records import NewRecord

async def main():"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_server() -> AsyncIterator[Server]:
    async with kafka(session_timeout_ms=2_000) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.broker)])
def server(request: pytest.FixtureRequest) -> Server | None:
    return None if request.param == "sqlite" else request.getfixturevalue("kafka_server")


@pytest.fixture
async def store(server: Server | None, tmp_path: Path) -> Store:
    if server is None:
        return Store("sqlite", str(tmp_path / "log.db"))
    return Store("kafka", await emptied(server))


@pytest.fixture
async def kafka_address(kafka_server: Server) -> str:
    return await emptied(kafka_server)


@pytest.fixture
async def log(store: Store) -> AsyncIterator[Log]:
    async with store.open() as one:
        yield one


@pytest.fixture
def group() -> str:
    return f"group-{next(groups)}"


async def emptied(server: Server) -> str:
    """Make every topic anew and return the broker's address."""
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name in LOG_TOPICS])
        async with asyncio.timeout(LIMIT_S):
            while LOG_TOPICS.keys() & set(await admin.list_topics()):
                await asyncio.sleep(0.01)
    finally:
        await admin.close()
    await create_topics(server.address, PARTITIONS, 1)
    return server.address
