"""Promises E2 and E3 on real Kafka, with processes that are killed, or sleep and wake up too late."""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from itertools import islice

import pytest

from loadtest import stack
from loadtest.child import Child, running
from loadtest.oracle import everything, expected, fill, found, is_covered, log_of, retried, until
from loadtest.roster import assemble
from loadtest.stack import PARTITIONS, Stack
from loadtest.truth import Ledger
from spineloop import wiring
from streams.core import codec
from streams.core.records import NewRecord
from streams.core.telemetry import Telemetry
from streams.core.topics import COMMAND, CONTROLLER_STATE, METRIC, PATIENT, TELEMETRY
from streams.log import Log

pytestmark = pytest.mark.stack

SAID_BY_CONTROL = (METRIC, COMMAND, PATIENT)
NEVER_S = "60"
"""A checkpoint that is not due while a test lasts."""

SESSION_S = "20"
"""How long a worker may show no sign of life, in s, where all that is said twice counts as twice."""


def telling(seed: int, machines: int = 12) -> Iterator[NewRecord]:
    """Let a fleet speak that nobody answers, one machine after the other, for ever."""
    fleet = assemble(seed, machines, Ledger())
    now_ms = wiring.wall_clock_ms()  # Kafka deletes what is older than its retention, tests or not
    while True:
        for machine in fleet:
            message = machine.step().message
            now_ms += 10
            if message is not None:
                yield record(machine.key, message, now_ms)


def record(machine: str, message: Telemetry, now_ms: int) -> NewRecord:
    headers = (("ce_id", codec.message_id(machine, message).encode()),)
    return NewRecord(TELEMETRY, machine.encode(), codec.encode(message), now_ms, headers)


@pytest.fixture
async def servers() -> AsyncIterator[Stack]:
    async with stack.servers() as one:
        yield one


async def has_said(log: Log, topic: str, records: int) -> bool:
    return sum(end for _, end in (await log.bounds(topic)).values()) >= records


async def test_e2_a_worker_killed_between_its_outputs_and_their_checkpoint_says_the_same_again(servers: Stack) -> None:
    async with log_of(servers) as log:
        await fill(log, list(islice(telling(seed=1), 2_000)))
        async with running(servers.role("control", checkpoint_s=NEVER_S)) as worker:
            await until(lambda: has_said(log, METRIC, 400))
            await worker.kill()
        said_once = len(await everything(log, METRIC))
        assert not await everything(log, CONTROLLER_STATE)
        async with running(servers.role("control", checkpoint_s="0.05")):
            await until(lambda: is_covered(log))
        assert len(await everything(log, METRIC)) > said_once
        assert await found(log, SAID_BY_CONTROL) == await expected(log)


async def test_e3_a_worker_that_sleeps_past_its_session_and_writes_late_sets_nothing_back(servers: Stack) -> None:
    story = telling(seed=2)
    async with log_of(servers) as log:
        await fill(log, list(islice(story, 1_000)))
        async with running(servers.role("control", 0, checkpoint_s=NEVER_S, instance="")) as sleeper:
            await until(lambda: has_said(log, METRIC, 200))
            os.kill(sleeper.pid, signal.SIGSTOP)
            before = await positions(log)
            async with running(servers.role("control", 1, checkpoint_s="0.05", instance="")) as successor:
                await fill(log, list(islice(story, 1_000)))
                await until(lambda: is_covered(log))
                written = await state_records(log)
                os.kill(sleeper.pid, signal.SIGCONT)
                await until(lambda: wrote_late(log, written))
                await fill(log, list(islice(story, 500)))
                await until(lambda: is_covered(log))
                await successor.kill()
            await sleeper.kill()
        await fill(log, list(islice(story, 500)))
        async with running(servers.role("control", 2, checkpoint_s="0.05", instance="")):
            await until(lambda: is_covered(log))
        assert before < await positions(log)
        assert await found(log, SAID_BY_CONTROL) == await expected(log)


async def positions(log: Log) -> list[int]:
    return [end for _, end in (await retried(lambda: log.bounds(CONTROLLER_STATE))).values()]


async def state_records(log: Log) -> int:
    return sum(await positions(log))


async def wrote_late(log: Log, before: int) -> bool:
    """Tell whether state was written although nothing new was to be covered: by the sleeper, as it is told to go."""
    return await state_records(log) > before


async def test_two_workers_share_the_partitions_and_one_that_stops_leaves_them_to_the_other(servers: Stack) -> None:
    story = telling(seed=3)
    async with log_of(servers) as log:
        async with running(servers.role("control", 0, kafka_session_timeout_s=SESSION_S)) as first:
            async with running(servers.role("control", 1, kafka_session_timeout_s=SESSION_S)) as second:
                await until(lambda: shared(servers, [first, second]))
                await fill(log, list(islice(story, 1_000)))
                await until(lambda: is_covered(log))
                assert await found(log, SAID_BY_CONTROL) == await expected(log)
                await second.stop()
            await fill(log, list(islice(story, 1_000)))
            await until(lambda: is_covered(log))
        assert await found(log, SAID_BY_CONTROL) == await expected(log)
        reps = [one for one in await everything(log, METRIC) if one.value and b"rep_measured" in one.value]
        assert len({codec.decode_metric(one.value or b"").id for one in reps}) == len(reps)  # decided exactly once


async def shared(servers: Stack, workers: list[Child]) -> bool:
    """Tell whether every worker has been assigned some partitions last, and all of them together have all."""
    last = [assigned(servers, worker) for worker in workers]
    return all(last) and sum(len(one) for one in last) == PARTITIONS


def assigned(servers: Stack, worker: Child) -> list[int]:
    lines = (servers.folder / f"{worker.program.name}.log").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines if '"partitions assigned"' in line]
    return [int(number) for number in told[-1]["starts"]] if told else []
