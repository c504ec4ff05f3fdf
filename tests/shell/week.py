"""A clinic's time in one SQLite log, as the bridge and both engines leave it; told once, copied for every test."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from adaptors import sqlite_file
from adaptors.sqlite_log import open_sqlite_log
from loadtest.bench import stories
from loadtest.oracle import is_covered
from spineloop.embedded import PARTITIONS
from spineloop.settings import Settings
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.policy import Policy
from streams.core.records import NewRecord, Record
from streams.core.telemetry import SessionRequested
from streams.engine import Engine, EngineSettings
from streams.log import Log
from streams.stretch import Readable
from tests.shell.counts import Counts

START_MS = 1_790_000_000_000
MESSAGES = 1_200
MACHINES = 6


def stages(chosen: Policy | None = None) -> tuple[Controller, Planner]:
    settings = Settings.read({})
    return Controller(chosen or settings.policy()), Planner(chosen or settings.policy(), settings.machine_catalogue())


def chapters(messages: int = MESSAGES, start_ms: int = START_MS) -> Iterator[list[NewRecord]]:
    """Tell what machines say, cut where a patient waits for a plan."""
    chapter: list[NewRecord] = []
    for said in islice(stories.story(seed=5, machines=MACHINES, tenant="acme", start_ms=start_ms), messages):
        chapter.append(stories.record(said))
        if isinstance(said.message, SessionRequested):
            yield chapter
            chapter = []
    yield chapter


async def tell(log: Log, messages: int = MESSAGES, start_ms: int = START_MS) -> None:
    """Let a clinic say so much, and both engines answer."""
    stop, chosen = asyncio.Event(), stages()
    async with asyncio.TaskGroup() as tasks:
        for stage in chosen:
            engine = Engine(stage, log, Counts(), EngineSettings(checkpoint_s=0.01))
            tasks.create_task(engine.run(stop))
        for chapter in chapters(messages, start_ms):
            await log.append(chapter)
            await until(lambda: settled(log, chosen))
        stop.set()


async def settled(log: Log, chosen: Sequence[Controller | Planner]) -> bool:
    """Tell whether nobody has anything to say any more: who answers last is asked again."""
    for stage in (*chosen, chosen[0]):
        if not await is_covered(log, stage):
            return False
    return True


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120.0):
        while not await holds():
            await asyncio.sleep(0.005)


def told(folder: Path) -> Path:
    """Make the clinic's log in a folder of its own."""
    folder.mkdir()

    async def make() -> None:
        async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
            await tell(log)

    asyncio.run(make())
    return folder


def copied(week: Path, folder: Path) -> Path:
    shutil.copytree(week, folder)
    return folder


async def everything(log: Readable, topic: str) -> list[Record]:
    return [
        record for number in await log.bounds(topic) async for records in log.read(topic, number) for record in records
    ]


def as_it_was(record: Record) -> NewRecord:
    return NewRecord(record.topic, record.key, record.value, record.timestamp_ms, record.headers)


def trimmed(folder: Path, topic: str, number: int, batches: int) -> int:
    """Remove the first batches of a partition, as retention does; return the first offset that is left."""
    with closing(sqlite_file.connect(folder / "log.db", 1.0)) as file:
        query = """DELETE FROM batch WHERE rowid IN (SELECT batch.rowid FROM batch JOIN partition ON id = partition_id
                   WHERE topic = ? AND number = ? ORDER BY last_offset LIMIT ?)"""
        file.execute(query, (topic, number, batches))
        return sqlite_file.bounds(file, topic)[number][0]
