"""What topics in Kafka are to be like; tests/contract/test_kafka_log.py makes them in a real one."""

import pytest

from adaptors.kafka_topics import settings
from streams.core.topics import LOG_TOPICS


@pytest.mark.parametrize("topic", LOG_TOPICS)
def test_a_topic_takes_what_a_clock_that_was_ahead_has_stamped(topic: str) -> None:
    assert settings(LOG_TOPICS[topic], replication=3)["message.timestamp.after.max.ms"] == str(2**63 - 1)


@pytest.mark.parametrize("topic", LOG_TOPICS)
@pytest.mark.parametrize(("replication", "least"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_of_three_replicas_two_have_what_is_acknowledged_and_one_may_be_away(
    topic: str, replication: int, least: str
) -> None:
    assert settings(LOG_TOPICS[topic], replication)["min.insync.replicas"] == least
