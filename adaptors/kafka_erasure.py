"""Erasure in Kafka: a record can't be changed there, but the beginning of a partition can be taken away."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from adaptors import downlink, history
from adaptors.kafka_clients import Cluster, promises, within
from streams.core.errors import BrokenPromise
from streams.core.topics import COMMAND, LOG_TOPICS

BOTH = "compact,delete"
OF_THE_TOPIC = 1
"""Where a setting comes from, as Kafka numbers it."""

_UNKNOWN = "Dead"
"""The state of a group that Kafka has never heard of, or has forgotten."""

FAUST_STATES = "-faust-state-changelog"
"""How the names of the topics end in which Faust keeps the tables of `streams.faust_app`."""

_READS = {group: topic for topic, group in history.GROUPS.items()} | {downlink.STAGE: COMMAND}


async def members(bootstrap: str, groups: Collection[str], timeout_s: float = 30.0) -> list[str]:
    """Return which of these groups have members. Raises Busy."""
    cluster = Cluster(bootstrap=bootstrap, client_id="spineloop-erase", timeout_s=timeout_s)
    admin = AIOKafkaAdminClient(**cluster.access())
    try:
        async with within(timeout_s, "describe groups"):
            await admin.start()
            return [group for group in sorted(groups) if await _state(admin, group) not in {"Empty", _UNKNOWN}]
    finally:
        await admin.close()


async def states_of_faust(bootstrap: str, timeout_s: float = 30.0) -> list[str]:
    """Return the topics in which workers on Faust keep states. Raises Busy."""
    cluster = Cluster(bootstrap=bootstrap, client_id="spineloop-erase", timeout_s=timeout_s)
    admin = AIOKafkaAdminClient(**cluster.access())
    try:
        async with within(timeout_s, "list topics"):
            await admin.start()
            return sorted(name for name in await admin.list_topics() if name.endswith(FAUST_STATES))
    finally:
        await admin.close()


async def committed(bootstrap: str, groups: Collection[str], timeout_s: float = 30.0) -> dict[tuple[str, int], int]:
    """Return the lowest offset that history's and downlink's groups have committed, by topic and partition.

    A group that Kafka does not know has nothing to read. One that it knows has to read each partition of its topic,
    from the beginning if it has committed nothing there. Raises Busy.
    """
    cluster = Cluster(bootstrap=bootstrap, client_id="spineloop-erase", timeout_s=timeout_s)
    admin = AIOKafkaAdminClient(**cluster.access())
    lowest: dict[tuple[str, int], int] = {}
    try:
        async with within(timeout_s, "read the positions of groups"):
            await admin.start()
            partitions = {row["topic"]: row["partitions"] for row in await admin.describe_topics()}
            for group in groups:
                told = await admin.list_consumer_group_offsets(group)
                if not told and await _state(admin, group) == _UNKNOWN:
                    continue
                offsets = {(place.topic, place.partition): position.offset for place, position in told.items()}
                for row in partitions.get(_READS[group], ()):
                    name = (_READS[group], row["partition"])
                    offset = max(0, offsets.get(name, 0))  # -1 where it has committed none
                    lowest[name] = min(lowest.get(name, offset), offset)
    finally:
        await admin.close()
    return lowest


async def _state(admin: AIOKafkaAdminClient, group: str) -> str:
    """Return what Kafka says of a group; one at a time, for of two aiokafka 0.14 reads the answer of v3 as of v2."""
    told: list[Any] = [each for answer in await admin.describe_consumer_groups([group]) for each in answer.groups]
    return next((state for _, name, state, *_ in told if name == group), _UNKNOWN)


async def delete_before(bootstrap: str, offsets: Mapping[tuple[str, int], int], timeout_s: float = 30.0) -> None:
    """Take away every record before these offsets, by topic and partition. Raises Busy and BrokenPromise.

    They can't be read from then on. The file that they are in goes when Kafka closes it, at most `segment.ms` later.
    """
    if not offsets:
        return
    cluster = Cluster(bootstrap=bootstrap, client_id="spineloop-erase", timeout_s=timeout_s)
    admin = AIOKafkaAdminClient(**cluster.access())
    try:
        async with within(timeout_s, "delete records"):
            await admin.start()
            with promises("delete records"):
                wanted = {TopicPartition(*place): RecordsToDelete(offset) for place, offset in offsets.items()}
                async with _deletable(admin, sorted({topic for topic, _ in offsets if LOG_TOPICS[topic].compacted})):
                    await admin.delete_records(wanted)
    finally:
        await admin.close()


@asynccontextmanager
async def _deletable(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> AsyncIterator[None]:
    """Let compacted topics be cut for a moment: Kafka refuses that where nothing but compaction is configured.

    Whoever is killed in between leaves them as `spineloop topics describe` shows; nothing goes by time meanwhile, and
    the next `erase` puts it right.
    """
    if not topics:
        yield
        return
    own = await _own_settings(admin, topics)
    await _alter(admin, {topic: told | {"cleanup.policy": BOTH, "retention.ms": "-1"} for topic, told in own.items()})
    try:
        yield
    finally:
        await _alter(admin, own)


async def _own_settings(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what is configured for topics themselves, and not for the broker."""
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]):
        for _code, _message, _kind, name, entries in response.resources:
            told = {entry[0]: entry[1] for entry in entries if entry[3] == OF_THE_TOPIC}
            found[name] = told | {"cleanup.policy": "compact"}
            if told.get("cleanup.policy") == BOTH:  # left so by one who was killed
                found[name].pop("retention.ms", None)
    return found


async def _alter(admin: AIOKafkaAdminClient, settings: Mapping[str, Mapping[str, str]]) -> None:
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, dict(told)) for topic, told in settings.items()]
    for response in await admin.alter_configs(wanted):
        for code, message, _, name in response.resources:
            if code:
                raise BrokenPromise(f"{name} can't be configured: {message or for_code(code).description}")
