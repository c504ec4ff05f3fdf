"""The topics in Kafka: making those of the catalogue, and comparing what is there with it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from adaptors import kafka_clients
from adaptors.kafka_clients import STATE_REQUEST_BYTES, Cluster, promises, running, within
from streams.core.topics import LOG_TOPICS, RECORD_BYTES, STATE_COMPACTION_LAG_MS, LogTopic

CLIENT_ID = "spineloop-topics"


LEADER_POLL_S = 0.05
"""Pause between two questions whether new partitions have their leaders."""

TIME_AHEAD = "message.timestamp.after.max.ms"
"""Setting of a topic, known to Kafka 3.6 and later: how far ahead of the broker's clock a record may be stamped."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class TopicRow(msgspec.Struct, frozen=True):
    """What there is of one topic of the catalogue.

    Parameters
    ----------
    topic : str
        Its name.
    partitions, replication : int
        How many, and on how many brokers each; 0 if it is missing.
    cleanup : str
        `delete`, `compact` or empty.
    records : int
        Offsets between the earliest and the next; in a compacted topic there are fewer records.
    differences : tuple of str
        One line for each thing that is not as `create_topics` would make it.
    """

    topic: str
    partitions: int = 0
    replication: int = 0
    cleanup: str = ""
    records: int = 0
    differences: tuple[str, ...] = ()


def settings(topic: LogTopic, replication: int) -> dict[str, str]:
    """Return a topic's configuration, as Kafka names it.

    Examples
    --------
    >>> settings(LOG_TOPICS["spineloop.telemetry.v1"], replication=3)["retention.ms"]
    '2592000000'
    >>> settings(LOG_TOPICS["spineloop.controller-state.v1"], replication=3)["cleanup.policy"]
    'compact'
    """
    # with three replicas, one may be away and an acknowledged record is still on two
    common = {
        "min.insync.replicas": str(min(2, max(1, replication - 1))),
        # Kafka 4 refuses what is stamped more than 1 h ahead of its own clock; when a clock that was ahead has been set
        # right, the time of the log still is ahead
        TIME_AHEAD: str(2**63 - 1),
    }
    if topic.compacted:
        return common | {
            "cleanup.policy": "compact",
            "max.message.bytes": str(STATE_REQUEST_BYTES),
            "min.compaction.lag.ms": str(STATE_COMPACTION_LAG_MS),
            "segment.bytes": str(32 * 1024 * 1024),  # only closed segments are compacted
            "segment.ms": str(_HOUR_MS),
        }
    return common | {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(RECORD_BYTES),
        "segment.bytes": str(256 * 1024 * 1024),
        "segment.ms": str(_DAY_MS),  # only whole segments are deleted
    }


async def create_topics(
    bootstrap: str,
    partitions: int,
    replication: int,
    *,
    topics: Mapping[str, LogTopic] = LOG_TOPICS,
    timeout_s: float = 30.0,
    security: Mapping[str, Any] = {},
) -> list[str]:
    """Create the topics that are missing, leave the others as they are, and return the names of the new ones.

    Raises
    ------
    ValueError
        A topic is there with another number of partitions, and nothing is created; or Kafka has fewer brokers than
        `replication`.
    """
    cluster = Cluster(bootstrap=bootstrap, client_id=CLIENT_ID, timeout_s=timeout_s, security=security)
    async with _admin(cluster) as admin, within(timeout_s, "create topics"):
        found = await _partitions(admin, topics)
        for name, counts in found.items():
            if len(counts) != partitions:
                raise ValueError(f"{name} has {len(counts)} partitions, not {partitions}; the number can't be changed")
        missing = [name for name in topics if name not in found]
        new = [
            NewTopic(name, partitions, replication, topic_configs=settings(topics[name], replication))
            for name in missing
        ]
        if new:
            _check_created(await admin.create_topics(new))
            while not _all_have_leaders(await _partitions(admin, topics), len(topics)):
                await asyncio.sleep(LEADER_POLL_S)
        return missing


async def describe_topics(
    bootstrap: str,
    *,
    topics: Mapping[str, LogTopic] = LOG_TOPICS,
    timeout_s: float = 30.0,
    security: Mapping[str, Any] = {},
) -> list[TopicRow]:
    """Tell for each topic of the catalogue what is there and what is not as it should be."""
    cluster = Cluster(bootstrap=bootstrap, client_id=CLIENT_ID, timeout_s=timeout_s, security=security)
    async with (
        _admin(cluster) as admin,
        running(kafka_clients.consumer(cluster), timeout_s) as consumer,
        within(timeout_s, "describe topics"),
    ):
        found = await _partitions(admin, topics)
        configured = await _configurations(admin, list(found))
        places = [TopicPartition(name, number) for name, rows in found.items() for number in range(len(rows))]
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    counts = Counter(len(rows) for rows in found.values()).most_common(1)
    return [
        TopicRow(
            name,
            len(found[name]),
            replication := min(len(row["replicas"]) for row in found[name]),
            configured[name]["cleanup.policy"],
            sum(end[place] - first[place] for place in places if place.topic == name),
            _differences(settings(topic, replication), configured[name], len(found[name]), counts[0][0]),
        )
        if name in found
        else TopicRow(name, differences=("missing",))
        for name, topic in topics.items()
    ]


async def check_topics(cluster: Cluster, topics: Mapping[str, LogTopic]) -> int:
    """Return how many partitions every topic has.

    aiokafka neither fails nor finishes when it sends to a topic that is not there, so this is asked before.

    Raises
    ------
    ValueError
        A topic is missing, or they have different numbers of partitions, so that keys would not stay side by side.
    """
    async with _admin(cluster) as admin, within(cluster.timeout_s, "look for topics"):
        counts = {name: len(rows) for name, rows in (await _partitions(admin, topics)).items()}
    if missing := sorted(topics.keys() - counts.keys()):
        raise ValueError(f"Kafka at {cluster.bootstrap} has no topic {', '.join(missing)}; spineloop topics create")
    if len(set(counts.values())) > 1:
        raise ValueError(f"Kafka's topics differ in their number of partitions: {counts}")
    return max(counts.values())


@asynccontextmanager
async def _admin(cluster: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**cluster.access())
    try:
        async with within(cluster.timeout_s, "connect"):
            await admin.start()
        yield admin
    finally:
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient, topics: Mapping[str, LogTopic]) -> dict[str, list[dict[str, Any]]]:
    # all topics and not these: a broker that creates topics on demand would take the question for a demand
    return {row["topic"]: row["partitions"] for row in await admin.describe_topics() if row["topic"] in topics}


def _all_have_leaders(found: Mapping[str, list[dict[str, Any]]], topics: int) -> bool:
    return len(found) == topics and all(row["leader"] >= 0 for rows in found.values() for row in rows)


def _check_created(response: Any) -> None:  # noqa: ANN401 - aiokafka ships no types
    for topic, code, *rest in response.topic_errors:
        error = for_code(code)
        if error.retriable:
            with promises(f"create {topic}"):
                raise error
        if code and error is not TopicAlreadyExistsError:  # then somebody else was as quick as we
            raise ValueError(f"{topic} was not created: {rest[0] if rest and rest[0] else error.description}")


async def _configurations(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(asked):
        for _code, _message, _kind, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _differences(
    wanted: Mapping[str, str], configured: Mapping[str, str], partitions: int, usual: int
) -> tuple[str, ...]:
    lines = [
        f"{key} is {configured.get(key)}, not {value}"
        for key, value in wanted.items()
        if configured.get(key) != value and (key in configured or key != TIME_AHEAD)
    ]
    if partitions != usual:
        lines.append(f"{partitions} partitions, other topics have {usual}")
    return tuple(lines)
