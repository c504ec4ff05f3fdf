"""What `erase` asks a Kafka of two partitions before it takes anything away."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from adaptors import history, kafka_erasure
from streams.core.topics import COMMAND, METRIC

GROUPS = [*history.GROUPS.values(), "downlink"]

Committed = Mapping[str, Mapping[tuple[str, int], int]]
"""Offsets by topic and partition, of each group that Kafka knows."""


class HandAdmin:
    """Answers as Kafka's administration does."""

    def __init__(self, groups: Committed) -> None:
        self._groups = groups

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def describe_topics(self) -> Sequence[Mapping[str, Any]]:
        partitions = [{"partition": number, "leader": 0} for number in range(2)]
        return [{"topic": topic, "partitions": partitions} for topic in (METRIC, COMMAND)]

    async def list_consumer_group_offsets(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        told = self._groups.get(group, {})
        return {TopicPartition(*place): OffsetAndMetadata(offset, "") for place, offset in told.items()}

    async def describe_consumer_groups(self, groups: Sequence[str]) -> Sequence[Any]:
        rows: list[Any] = [(0, group, "Empty" if group in self._groups else "Dead", "", "", []) for group in groups]
        return [SimpleNamespace(groups=rows)]


async def committed(monkeypatch: pytest.MonkeyPatch, groups: Committed) -> Mapping[tuple[str, int], int]:
    monkeypatch.setattr(kafka_erasure, "AIOKafkaAdminClient", lambda **_: HandAdmin(groups))
    return await kafka_erasure.committed("hand:1", GROUPS)


async def test_of_two_groups_that_read_one_topic_the_slower_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {
        "history-command": {(COMMAND, 0): 7, (COMMAND, 1): 30},
        "downlink": {(COMMAND, 0): 9, (COMMAND, 1): 20},
    }
    assert await committed(monkeypatch, groups) == {(COMMAND, 0): 7, (COMMAND, 1): 20}


async def test_a_partition_of_which_a_group_has_committed_nothing_is_still_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = {
        "history-metric": {(METRIC, 0): 7},
        "history-command": {},
        "downlink": {(COMMAND, 0): 9, (COMMAND, 1): -1},
    }
    assert await committed(monkeypatch, groups) == {
        (METRIC, 0): 7,
        (METRIC, 1): 0,
        (COMMAND, 0): 0,
        (COMMAND, 1): 0,
    }


async def test_a_group_that_never_was_has_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await committed(monkeypatch, {}) == {}
