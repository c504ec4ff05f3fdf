"""Lags: how far each group is behind the end of what it reads, as its committed offsets tell."""

from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.core.controller import Controller
from streams.core.errors import Busy
from streams.core.planning import Planner
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log

CONTROL = Controller.name
GROUPS: Mapping[str, str] = {
    CONTROL: TELEMETRY,
    Planner.name: PATIENT,
    "history-metric": METRIC,
    "history-command": COMMAND,
    "downlink": COMMAND,
}
"""Every group, and the topic that it reads."""

LIMIT_MS = 2_000
"""Longest wait for one answer."""


async def lags(log: Log, bootstrap: str) -> dict[str, int]:
    """Return how many records each group has not dealt with, of those that have committed anything; raise Busy.

    Controller and planner commit after each checkpoint, so theirs is too large by up to a quarter of a second.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=LIMIT_MS)
    try:
        await admin.start()
        found: dict[str, int] = {}
        for group, topic in GROUPS.items():
            ends = await log.bounds(topic)
            places = (await admin.list_consumer_group_offsets(group)).items()
            done = {place.partition: position.offset for place, position in places if place.topic == topic}
            if any(offset >= 0 for offset in done.values()):
                found[group] = sum(end - max(first, done.get(number, 0)) for number, (first, end) in ends.items())
    except (KafkaError, OSError) as error:
        raise Busy(f"Kafka does not tell: {error}") from error
    else:
        return found
    finally:
        await admin.close()
