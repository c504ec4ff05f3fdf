"""Faust says what our engine says, on real Kafka: the same log in, the same records out, to the last byte."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from adaptors.kafka_log import open_kafka_log
from loadtest import faust_worker, stack
from loadtest.child import running
from loadtest.oracle import everything, expected, fill, found, is_covered, log_of, retried, until
from loadtest.stack import Stack
from streams.checkpoint import Kept
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.records import Header, NewRecord, Record
from streams.core.stage import Stage
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY, LogTopic
from streams.engine import EngineSettings
from streams.log import Log
from tests.e2e.test_engine_on_kafka import telling

pytestmark = pytest.mark.stack

WRITTEN = (METRIC, COMMAND, PATIENT, DEAD_LETTER, TELEMETRY)
SAID_BY_CONTROL = (METRIC, COMMAND, PATIENT)
CHANGELOG = faust_worker.changelog("control")

SESSION_S = "45"
"""How long a worker may show no sign of life, in s, where all that is said twice counts as twice."""

Ends = dict[tuple[str, int], int]
"""Offset of the next record, by topic and partition."""

Said = tuple[str, int, bytes, bytes | None, int, tuple[Header, ...]]
"""All that a reader sees of a record but its offset."""


@pytest.fixture
async def servers() -> AsyncIterator[Stack]:
    async with stack.servers() as one:
        yield one


async def ends(log: Log) -> Ends:
    bounds = {topic: await retried(partial(log.bounds, topic)) for topic in WRITTEN}
    return {(topic, number): end for topic in WRITTEN for number, (_, end) in bounds[topic].items()}


async def written_since(log: Log, since: Ends) -> list[Said]:
    """Read what was written after these ends, in an order that does not tell who was quicker."""
    said = [
        (one.topic, one.partition, one.key, one.value, one.timestamp_ms, tuple(one.headers))
        for topic in WRITTEN
        for one in await everything(log, topic)
        if one.offset >= since[topic, one.partition]
    ]
    return sorted(said, key=repr)


async def until_done(servers: Stack, log: Log, stage: Stage[Any, Any]) -> None:
    async with faust_worker.reading(servers, stage) as reached:
        await until(lambda: reached.covers(log), limit_s=240.0)


async def is_done(servers: Stack, log: Log) -> bool:
    async with faust_worker.reading(servers, Controller()) as reached:
        return await reached.covers(log)


def no_messages(now_ms: int) -> list[NewRecord]:
    """Make records that the controller can't understand, which dead letters have to keep as they are."""
    odd_headers = (("ce_id", b"\xff"), ("twice", b"1"), ("twice", b"2"))
    return [
        NewRecord(TELEMETRY, b"acme/north/lumbar-1", b"no message", now_ms, odd_headers),
        NewRecord(TELEMETRY, b"acme/north/lumbar-1", None, now_ms + 1),
        NewRecord(TELEMETRY, b"\xff\xfe", b"{}", now_ms + 7),
        NewRecord(TELEMETRY, b"", b"", now_ms + 9),
    ]


def no_facts(fact: Record) -> list[NewRecord]:
    """Make records that the planner can't take: a fact of another patient than the key says, and none at all."""
    return [
        NewRecord(PATIENT, b"acme/somebody-else", fact.value, fact.timestamp_ms + 3, tuple(fact.headers)),
        NewRecord(PATIENT, fact.key, b"\x00", fact.timestamp_ms + 5),
    ]


async def test_the_controller_on_faust_says_what_ours_says(servers: Stack) -> None:
    async with log_of(servers) as log:
        story = list(islice(telling(seed=7), 4_000))
        story[500:500] = no_messages(story[500].timestamp_ms)
        await fill(log, story)
        start = await ends(log)
        async with running(servers.role("control", kafka_session_timeout_s=SESSION_S)):
            await until(lambda: is_covered(log))
        by_ours, between = await written_since(log, start), await ends(log)
        async with running(faust_worker.worker(servers, "control", kafka_session_timeout_s=SESSION_S)):
            await until_done(servers, log, Controller())
        assert {topic for topic, *_ in by_ours} == {METRIC, COMMAND, PATIENT, DEAD_LETTER}
        assert await written_since(log, between) == by_ours


async def test_the_planner_on_faust_says_what_ours_says(servers: Stack) -> None:
    async with log_of(servers) as log:
        await fill(log, list(islice(telling(seed=5), 4_000)))
        async with running(servers.role("control")):
            await until(lambda: is_covered(log))
        await fill(log, no_facts((await everything(log, PATIENT))[0]))
        start = await ends(log)
        async with running(servers.role("plan", kafka_session_timeout_s=SESSION_S)):
            await until(lambda: is_covered(log, Planner()))
        by_ours, between = await written_since(log, start), await ends(log)
        async with running(faust_worker.worker(servers, "plan", kafka_session_timeout_s=SESSION_S)):
            await until_done(servers, log, Planner())
        assert {topic for topic, *_ in by_ours} == {METRIC, DEAD_LETTER, TELEMETRY}  # the telemetry has the plans
        assert await written_since(log, between) == by_ours


async def test_a_faust_worker_that_is_killed_again_and_again_leaves_nothing_out(servers: Stack) -> None:
    async with log_of(servers) as log:
        await fill(log, list(islice(telling(seed=6), 4_000)))
        for said in (100, 300, 500):
            async with running(faust_worker.worker(servers, "control")) as worker:
                await until(lambda said=said: has_said(log, said))  # type: ignore[misc]  # bound now, used now
                await worker.kill()
            assert not await is_done(servers, log)
        async with running(faust_worker.worker(servers, "control")):
            await until_done(servers, log, Controller())
        assert await found(log, SAID_BY_CONTROL) == await expected(log)


async def has_said(log: Log, metrics: int) -> bool:
    return sum(end for _, end in (await log.bounds(METRIC)).values()) >= metrics


async def test_two_faust_workers_share_the_partitions_and_one_that_stops_leaves_them_to_the_other(
    servers: Stack,
) -> None:
    story = telling(seed=7)
    async with log_of(servers) as log:
        await fill(log, list(islice(story, 1_000)))
        async with running(faust_worker.worker(servers, "control", 0)):
            await until(lambda: has_said(log, 100))
            async with running(faust_worker.worker(servers, "control", 1)) as second:
                await until(lambda: is_shared(servers))
                await fill(log, list(islice(story, 2_000)))
                await until(lambda: has_said(log, 500))
                await second.stop()
                assert second.status == 0
            await fill(log, list(islice(story, 500)))
            await until_done(servers, log, Controller())
        assert await found(log, SAID_BY_CONTROL) == await expected(log)


async def is_shared(servers: Stack) -> bool:
    """Tell whether the group has two members, each with partitions of the telemetry."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.log.address)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups(["spineloop-control-faust"])
    finally:
        await admin.close()
    (group,) = answer.groups
    members = [ConsumerProtocolMemberAssignment.decode(member[-1]) for member in group[-1] if member[-1]]
    return len(members) == 2 and all(TELEMETRY in dict(member.assignment) for member in members)


async def test_a_faust_worker_that_sleeps_past_its_session_and_writes_late_sets_nothing_back(servers: Stack) -> None:
    story = telling(seed=8)
    async with log_of(servers) as log:
        await fill(log, list(islice(story, 2_000)))
        async with running(faust_worker.worker(servers, "control", 0)) as sleeper:
            await until(lambda: has_said(log, 200))
            os.kill(sleeper.pid, signal.SIGSTOP)
            async with running(faust_worker.worker(servers, "control", 1)) as successor:
                await fill(log, list(islice(story, 1_000)))
                await until_done(servers, log, Controller())
                os.kill(sleeper.pid, signal.SIGCONT)
                await until(lambda: has_gone_back(servers))
                await successor.kill()
            await sleeper.kill()
        await fill(log, list(islice(story, 1_000)))
        async with running(faust_worker.worker(servers, "control", 2)):
            await until_done(servers, log, Controller())
        assert await found(log, SAID_BY_CONTROL) == await expected(log)


async def has_gone_back(servers: Stack) -> bool:
    """Tell whether an entry of the changelog is older than the one of its key before it."""
    topics = {CHANGELOG: LogTopic("machine", "states of the controller on Faust", compacted=True)}
    positions: dict[bytes, int] = {}
    async with open_kafka_log(servers.log.address, client_id="oracle", topics=topics) as log:
        for one in await everything(log, CHANGELOG):
            position = msgspec.msgpack.decode(one.value or b"", type=Kept).position
            if position < positions.get(one.key, 0):
                return True
            positions[one.key] = position
    return False


async def test_a_faust_worker_that_understands_nothing_ends_with_an_error_and_commits_nothing(servers: Stack) -> None:
    async with log_of(servers) as log, running(faust_worker.worker(servers, "control")) as worker:
        limit = EngineSettings().dead_letters_in_a_row
        keys = [b"acme/north/lumbar-%d" % number for number in range(20)]  # of one alone only so many count
        nonsense = [NewRecord(TELEMETRY, key, b"no message", 1_700_000_000_000) for key in keys]
        await fill(log, nonsense * (limit // 10))
        async with asyncio.timeout(180.0):
            while worker.is_running:
                await asyncio.sleep(0.1)
        assert worker.status == 1
        assert not await is_done(servers, log)
