"""Erasure in Kafka: a record can't be changed there, but the beginning of a partition can be taken away."""

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from adaptors.kafka_clients import Cluster, promises, within

_GONE = frozenset({"Empty", "Dead"})


async def members(bootstrap: str, groups: Collection[str], timeout_s: float = 30.0) -> list[str]:
    """Return which of these groups have members. Raises Busy."""
    cluster = Cluster(bootstrap=bootstrap, client_id="spineloop-erase", timeout_s=timeout_s)
    admin = AIOKafkaAdminClient(**cluster.access())
    try:
        async with within(timeout_s, "describe groups"):
            await admin.start()
            answers: list[Any] = await admin.describe_consumer_groups(sorted(groups))
            told = [group for answer in answers for group in answer.groups]
            return sorted(group for _, group, state, *_ in told if state not in _GONE)
    finally:
        await admin.close()


async def committed(bootstrap: str, groups: Collection[str], timeout_s: float = 30.0) -> dict[tuple[str, int], int]:
    """Return the lowest offset that any of these groups has committed, by topic and partition. Raises Busy."""
    cluster = Cluster(bootstrap=bootstrap, client_id="spineloop-erase", timeout_s=timeout_s)
    admin = AIOKafkaAdminClient(**cluster.access())
    lowest: dict[tuple[str, int], int] = {}
    try:
        async with within(timeout_s, "read the positions of groups"):
            await admin.start()
            for group in groups:
                for place, position in (await admin.list_consumer_group_offsets(group)).items():
                    name = (place.topic, place.partition)
                    if position.offset >= 0:  # else it has committed none
                        lowest[name] = min(lowest.get(name, position.offset), position.offset)
    finally:
        await admin.close()
    return lowest


async def delete_before(bootstrap: str, offsets: Mapping[tuple[str, int], int], timeout_s: float = 30.0) -> None:
    """Take away every record before these offsets, by topic and partition. Raises Busy.

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
                await admin.delete_records(wanted)
    finally:
        await admin.close()
