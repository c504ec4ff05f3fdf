"""Replay, export and dead letters on a real Kafka: what they find there is what they find on the SQLite log."""

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adaptors.kafka_log import open_kafka_log
from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_reading import open_sqlite_reading
from loadtest import stack
from loadtest.stack import Stack
from spineloop import redriving, wiring
from spineloop.exporting import export
from spineloop.redriving import redrive
from spineloop.settings import Settings
from streams.core import codec
from streams.core.dead_letters import dead_letter
from streams.core.policy import Policy
from streams.core.records import NewRecord, Record, header
from streams.core.telemetry import Heartbeat
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY
from streams.log import Log
from streams.reducer import REDRIVEN
from streams.replay import replay
from streams.stretch import At, OutOfRange, Readable, Wanted
from streams.what_if import compare
from tests.shell import week
from tests.shell.week import as_it_was, everything

pytestmark = pytest.mark.stack

MESSAGES = 1_000
BEFORE_MS = 3_600_000
PATIENCE_S = 120.0
"""How long one who looks on waits for an answer of Kafka, in s."""


@pytest.fixture
async def servers() -> AsyncIterator[Stack]:
    async with stack.servers() as one:
        yield one


@pytest.fixture
async def log(servers: Stack) -> AsyncIterator[Log]:
    async with open_kafka_log(servers.log.address, client_id="test", timeout_s=PATIENCE_S) as one:
        yield one


async def run(servers: Stack, *words: str) -> "subprocess.CompletedProcess[str]":
    told = {name: value for name, value in os.environ.items() if not name.startswith("SPINELOOP_")}
    command = [*stack.spineloop(*words)]
    environment = told | servers.environment()
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )


async def copied(log: Log, folder: Path) -> Path:
    """Write what Kafka holds into a SQLite log, whose partitions hold other keys."""
    async with open_sqlite_log(folder / "log.db", 7) as other:
        for topic in (TELEMETRY, PATIENT, METRIC, COMMAND):
            records = sorted(await everything(log, topic), key=lambda record: record.timestamp_ms)
            await other.append([as_it_was(record) for record in records])
    return folder


class Rows(list[Any]):
    """A file that remembers its rows."""

    written = 0

    def add(self, row: Any) -> None:
        self.append(row)


async def rows(log: Readable) -> list[Any]:
    found = Rows()
    await export(log, Wanted(), {"reps": found})
    return sorted(found, key=lambda row: str(row["id"]))


async def test_the_same_records_give_the_same_digest_differences_and_rows_on_kafka_and_on_sqlite(
    servers: Stack, log: Log, tmp_path: Path
) -> None:
    start_ms = wiring.wall_clock_ms() - BEFORE_MS
    await week.tell(log, MESSAGES, start_ms)
    ends = {topic: await log.bounds(topic) for topic in (TELEMETRY, PATIENT, METRIC, COMMAND, DEAD_LETTER)}
    middle = At(time_ms=start_ms + 300_000)
    policies, machines = (Policy(), Policy(vl_stop_pct=25.0)), Settings.read({}).machine_catalogue()
    folder = await copied(log, tmp_path)
    async with open_sqlite_reading(folder / "log.db") as other:
        for wanted in (Wanted(), Wanted(since=middle), Wanted(until=middle)):
            here = await replay(log, week.stages(), wanted, slice_records=97)
            there = await replay(other, week.stages(), wanted)
            assert here.log.differing == ()
            assert here.log.not_done is None
            assert (here.digest, here.outputs, here.counted) == (there.digest, there.outputs, there.counted)
            assert here.outputs[METRIC] > 50
        one = await compare(log, policies, Wanted(), machines)
        two = await compare(other, policies, Wanted(), machines)
        assert (one.digest_before, one.digest_after) == (two.digest_before, two.digest_after)
        assert one.differences == two.differences > 0
        reps = await rows(other)
    assert await rows(log) == reps
    done = await run(servers, "replay", "--json")
    assert done.returncode == 0, done.stderr
    told = msgspec.json.decode(done.stdout)
    assert told["digest"] == (await replay(log, week.stages(), Wanted())).digest
    assert {topic: await log.bounds(topic) for topic in ends} == ends  # nothing was written
    with pytest.raises(OutOfRange, match="beyond the end"):
        await replay(log, week.stages(), Wanted(since=At(offset=10**9)))
    published = await run(servers, "replay", "--publish", "--json")
    assert published.returncode == 0, published.stderr
    after = {topic: sum(end for _, end in (await log.bounds(topic)).values()) for topic in ends}
    before = {topic: sum(end for _, end in bounds.values()) for topic, bounds in ends.items()}
    assert {topic: after[topic] - before[topic] for topic in ends if after[topic] != before[topic]} == {
        METRIC: told["outputs"][METRIC]
    }
    again = await replay(log, week.stages(), Wanted())
    assert (again.digest, again.log.differing) == (told["digest"], ())


def heartbeat(seq: int) -> bytes:
    return codec.encode(Heartbeat(boot_id="b1", seq=seq, t_us=5), "json")


async def test_a_letter_goes_back_once_on_kafka_too_whoever_dies_in_between(servers: Stack, log: Log) -> None:
    now_ms = wiring.wall_clock_ms()
    machines = ["acme/north/m1", "acme/north/m1", "acme/south/m2"]
    letters = [
        dead_letter(
            Record(TELEMETRY, 0, seq, machine.encode(), heartbeat(seq), now_ms),
            stage="control",
            reason="unknown_version",
            detail="",
        )
        for seq, machine in enumerate(machines)
    ]
    await log.append(letters)
    places = sorted((await redriving.letters(log)).by_place)
    await dies_after_the_marks(log, places)
    await log.append([redriving.put_back(await redriving.whole(log, places[0]))])  # it got as far as one record
    found = await redrive(log, places, wiring.wall_clock_ms, all_or_none=True)
    assert (found.done, found.refused) == (tuple(places), {})
    back = await everything(log, TELEMETRY)
    assert Counter(record.value for record in back) == Counter(heartbeat(seq) for seq in range(3))
    assert {header(record, REDRIVEN) for record in back} == {str(place) for place in places}
    again = await run(servers, "dead-letters", "redrive", str(places[0]))
    assert (again.returncode, again.stderr) == (1, f"{places[0]} refused: it went back already\n")
    listed = msgspec.json.decode((await run(servers, "dead-letters", "list", "--json")).stdout)
    assert [one["redriven"] for one in listed] == ["done"] * 3


class Dying:
    """A log of somebody who dies after the first write."""

    def __init__(self, log: Log) -> None:
        self._log, self._written = log, False
        self.read, self.bounds, self.offset_at = log.read, log.bounds, log.offset_at
        self.checkpoint, self.subscribe = log.checkpoint, log.subscribe

    async def append(self, records: list[NewRecord]) -> None:
        if self._written:
            raise Killed
        await self._log.append(records)
        self._written = True


class Killed(Exception):
    """What a kill -9 looks like from inside."""


async def dies_after_the_marks(log: Log, places: list[redriving.Place]) -> None:
    dying: Any = Dying(log)
    with pytest.raises(Killed):
        await redrive(dying, places, wiring.wall_clock_ms, all_or_none=True)
