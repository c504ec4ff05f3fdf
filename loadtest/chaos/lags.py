"""Lags: how far each group is behind the end of what it reads, as its committed offsets tell."""

from collections.abc import Mapping

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.core.controller import Controller
from streams.core.errors import Busy
from streams.core.planning import Planner
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log

CONTROL = Controller.name
HISTORY = "history-metric"
GROUPS: Mapping[str, str] = {
    CONTROL: TELEMETRY,
    Planner.name: PATIENT,
    HISTORY: METRIC,
    "history-command": COMMAND,
    "downlink": COMMAND,
}
"""Every group, and the topic that it reads."""

LIMIT_MS = 2_000
"""Longest wait for one answer."""


class Lag(msgspec.Struct, frozen=True):
    """Records that a group has not dealt with, and how many there have been in all."""

    records: int
    end: int


async def lags(log: Log, bootstrap: str) -> dict[str, Lag]:
    """Return the lag of each group that has committed anything; raise Busy.

    Controller and planner commit what their checkpoints cover once a second, so theirs is too large by that.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=LIMIT_MS)
    try:
        await admin.start()
        found: dict[str, Lag] = {}
        for group, topic in GROUPS.items():
            ends = await log.bounds(topic)
            places = (await admin.list_consumer_group_offsets(group)).items()
            done = {place.partition: position.offset for place, position in places if place.topic == topic}
            if any(offset >= 0 for offset in done.values()):
                records = sum(end - max(first, done.get(number, 0)) for number, (first, end) in ends.items())
                found[group] = Lag(records, sum(end for _, end in ends.values()))
    except (KafkaError, OSError) as error:
        raise Busy(f"Kafka does not tell: {error}") from error
    else:
        return found
    finally:
        await admin.close()
