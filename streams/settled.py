"""Settled: how far the stages have come in a log, and the digest of what it says they said."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from streams.checkpoint import State
from streams.core.danger import EARLY
from streams.core.plans import Answer
from streams.core.records import REPLAYED, Record, header
from streams.core.stage import Stage
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.digest import Digest, Recent, has_any
from streams.reducer import REDRIVE, REDRIVEN
from streams.stretch import Readable, closing

OUTPUTS = (METRIC, COMMAND, PATIENT)
"""Topics that hold nothing but outputs. The planner's answers stand in the telemetry, between what machines said."""

_COPIES = (REPLAYED, REDRIVE, REDRIVEN, EARLY)
_ANSWERS = frozenset(f"spineloop.{kind.__struct_config__.tag}.v1" for kind in get_args(Answer))

Ends = Mapping[tuple[str, int], int]
"""Offset of the next record, by topic and partition."""


def is_answer(record: Record) -> bool:
    """Tell whether a record of the telemetry is an output all the same: an answer of the planner."""
    return header(record, "ce_type") in _ANSWERS


def is_copy(record: Record) -> bool:
    """Tell whether a record is none of a stage: written again by a replay or a redrive, or an early STOP."""
    return has_any(record, _COPIES)


async def digest_of(log: Readable) -> str:
    """Return the digest of all that stages said, as it stands in the log; what was written twice counts once.

    It is the digest of a replay of the whole log, if that holds all from the beginning and no stage has work left.
    """
    said = Digest()
    for topic in (*OUTPUTS, TELEMETRY):
        for number in await log.bounds(topic):
            recent = Recent()
            async with closing(log.read(topic, number)) as batches:
                async for records in batches:
                    for record in records:
                        if (topic != TELEMETRY or is_answer(record)) and not is_copy(record) and recent.is_new(record):
                            said.add(record)
    return said.text


async def ends_of(log: Readable, stages: Sequence[Stage[Any, Any]]) -> Ends:
    """Return where the topics that stages hear end now."""
    return {
        (stage.topic, number): end for stage in stages for number, (_, end) in (await log.bounds(stage.topic)).items()
    }


async def oldest_since(log: Readable, ends: Ends) -> float:
    """Return the time in ms of the oldest record that has come since, or infinity: what it leads to is not replayed."""
    return min([await _oldest(log, topic, number, end) for (topic, number), end in ends.items()], default=float("inf"))


async def settled_before(log: Readable, stages: Sequence[Stage[Any, Any]]) -> float:
    """Return the time in ms before which the log has all that stages say: no cause so old waits for its checkpoint.

    The first stage is asked twice, for what the others told it meanwhile. If nothing waits, all of the log is settled,
    and the time is infinity.
    """
    return min([await _oldest_waiting(log, stage) for stage in (*stages, *stages[:1])])


async def _oldest_waiting(log: Readable, stage: Stage[Any, Any]) -> float:
    states = await log.bounds(stage.state_topic)
    oldest_ms = []
    for number, (first, _) in (await log.bounds(stage.topic)).items():
        state = State(stage)
        async with closing(log.read(stage.state_topic, number, None, states[number][1])) as batches:
            async for entries in batches:
                state.join(entries)
        oldest_ms.append(await _oldest(log, stage.topic, number, max(first, state.position)))
    return min(oldest_ms, default=float("inf"))


async def _oldest(log: Readable, topic: str, number: int, start: int) -> float:
    oldest_ms = float("inf")
    async with closing(log.read(topic, number, start)) as batches:
        async for records in batches:
            oldest_ms = min(oldest_ms, *(record.timestamp_ms for record in records))
    return oldest_ms
