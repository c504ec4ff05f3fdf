"""Contenders: the processes that work off one telemetry topic in turn, and how to tell of each that it is done."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from loadtest import faust_worker, native
from loadtest.bench.account import differences
from loadtest.bench.lap import IsDone
from loadtest.bench.peers import bare
from loadtest.bench.peers.empty import Empty
from loadtest.bench.stories import Said
from loadtest.child import Program
from loadtest.stack import Stack, is_ready
from streams.checkpoint import State
from streams.core import codec
from streams.core.controller import Controller
from streams.core.records import Record, header
from streams.core.results import RepMeasured
from streams.core.stage import Stage
from streams.core.telemetry import Rep
from streams.core.topics import TELEMETRY
from streams.log import Log

QUIX = {stage: f"bench-quix-{stage}" for stage in ("control", "empty")}
"""Consumer groups of the stages on Quix."""

Wrong = Callable[[Sequence[Said], Sequence[Record]], tuple[str, ...]]
"""Told what machines said and what the metric topic got, says what is missing, doubled or too much."""


class Contender(msgspec.Struct, frozen=True):
    """One of them.

    Parameters
    ----------
    name : str
        What its figures begin with.
    program : Program
        How to start it; where it left off, it goes on.
    watching : callable
        Opens what tells whether all of the topic is done, for as long as a block; told how many records there are.
    wrong : callable
        What must not be among its outputs.
    """

    name: str
    program: Program
    watching: Callable[[Log, int], AbstractAsyncContextManager[IsDone]]
    wrong: Wrong


def controllers(servers: Stack) -> Sequence[Contender]:
    """Return those that run the controller with every metric and rule, ours first."""
    kafka = servers.log.address
    return (
        Contender("ours", servers.role("control"), covered, reps_are_measured),
        Contender(
            "faust",
            faust_worker.worker(servers, "control"),
            partial(on_faust, servers, Controller()),
            reps_are_measured,
        ),
        Contender("quix", _quix(servers, "control"), partial(committed, kafka, QUIX["control"]), reps_are_measured),
    )


def empties(servers: Stack) -> Sequence[Contender]:
    """Return those that compute next to nothing, so that their outputs alone tell how far they are."""
    return (
        Contender("bare", _bare(servers), put_out, all_is_passed_on),
        Contender("ours_empty", _empty(servers), put_out, all_is_passed_on),
        Contender("faust_empty", _faust_empty(servers), partial(on_faust, servers, Empty()), all_is_passed_on),
        Contender("quix_empty", _quix(servers, "empty"), put_out, all_is_passed_on),
    )


def _empty(servers: Stack) -> Program:
    port = native.free_port()
    chosen = servers.environment(instance="0", http_port=str(port))
    return Program(
        name="empty",
        command=(*("env", *(f"{key}={value}" for key, value in chosen.items())), *_python("empty")),
        log=servers.folder / "empty.log",
        answers=lambda: is_ready(port),
    )


def _faust_empty(servers: Stack) -> Program:
    return faust_worker.worker(servers, Empty.name, app="loadtest.bench.peers.empty_on_faust:app")


def _bare(servers: Stack) -> Program:
    log = servers.folder / "bare.log"
    return Program("bare", (*_python("bare"), servers.log.address), log, partial(_says, log, bare.READY))


def _quix(servers: Stack, stage: str) -> Program:
    log = servers.folder / f"quix-{stage}.log"
    command = (*_python("quix"), stage, servers.log.address, str(servers.folder / f"quix-{stage}"), QUIX[stage])
    return Program(f"quix-{stage}", command, log, partial(_says, log, "is now processing"))


def _python(peer: str) -> Sequence[str]:
    return (sys.executable, "-m", f"loadtest.bench.peers.{peer}")


async def _says(log: Path, words: str) -> bool:
    return words in await asyncio.to_thread(log.read_text, encoding="utf-8", errors="replace")


@asynccontextmanager
async def covered(log: Log, _records: int) -> AsyncIterator[IsDone]:
    """Ask whether checkpoints of our engine cover the whole of the topic."""
    yield Covered(log, Controller()).at


class Covered:
    """Whether checkpoints cover the whole of the telemetry topic; asked in earnest once no more outputs come."""

    def __init__(self, log: Log, stage: Stage[Any, Any]) -> None:
        self._log, self._stage = log, stage
        self._outputs = -1

    async def at(self, outputs: int) -> bool:
        """Tell it, told how many outputs there are by now."""
        has_rested, self._outputs = outputs == self._outputs, outputs
        if not has_rested:
            return False
        return not await self.behind()

    async def behind(self) -> int:
        """Count the records that no checkpoint covers."""
        states = await self._log.bounds(self._stage.state_topic)
        ends = {number: end for number, (_, end) in (await self._log.bounds(TELEMETRY)).items()}
        reached = [await self._position(number, states[number][1]) for number in ends]
        return sum(max(0, end - position) for end, position in zip(ends.values(), reached, strict=True))

    async def _position(self, number: int, end: int) -> int:
        """Read the position that the last checkpoint of a partition ends with."""
        state = State(self._stage)
        async for records in self._log.read(self._stage.state_topic, number, max(0, end - 1)):
            state.join(records)
        return state.position


@asynccontextmanager
async def on_faust(servers: Stack, stage: Stage[Any, Any], log: Log, _records: int) -> AsyncIterator[IsDone]:
    """Ask whether the states of the Faust worker cover the whole of the topic."""
    async with faust_worker.reading(servers, stage) as reached:

        async def are_covered(_outputs: int) -> bool:
            return await reached.covers(log)

        yield are_covered


@asynccontextmanager
async def committed(bootstrap: str, group: str, log: Log, _records: int) -> AsyncIterator[IsDone]:
    """Ask whether a group has committed the whole of the topic, which Quix does once outputs are stored."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()

    async def is_all_committed(_outputs: int) -> bool:
        reached = await admin.list_consumer_group_offsets(group)
        places = {TopicPartition(TELEMETRY, number): end for number, (_, end) in (await log.bounds(TELEMETRY)).items()}
        return all(place in reached and reached[place].offset >= end for place, end in places.items())

    try:
        yield is_all_committed
    finally:
        await admin.close()


@asynccontextmanager
async def put_out(_log: Log, records: int) -> AsyncIterator[IsDone]:
    """Ask whether there is an output for each record."""

    async def are_all_there(outputs: int) -> bool:
        return outputs >= records

    yield are_all_there


def reps_are_measured(said: Sequence[Said], found: Sequence[Record]) -> tuple[str, ...]:
    """Say which reps were not measured, or more than once."""
    reps = [codec.message_id(one.machine, one.message) for one in said if isinstance(one.message, Rep)]
    metrics = [codec.decode_metric(record.value or b"") for record in found]
    return differences(reps, (metric.cause for metric in metrics if isinstance(metric, RepMeasured)))


def all_is_passed_on(said: Sequence[Said], found: Sequence[Record]) -> tuple[str, ...]:
    """Say which messages led to no output, or to more than one."""
    sent = (codec.message_id(one.machine, one.message) for one in said)
    return differences(sent, (header(record, "ce_id") or "" for record in found))
