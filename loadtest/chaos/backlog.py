"""Backlog: what many minutes of a fleet leave in the metric topic, written there as fast as it goes."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from msgspec.structs import replace

from loadtest.chaos import tape
from loadtest.oracle import retried
from streams.core import codec
from streams.core.controller import Controller
from streams.core.records import NewRecord, Record
from streams.core.results import Metric, RepMeasured
from streams.core.stage import Stage
from streams.core.topics import METRIC
from streams.log import Log

BATCH, WRITERS = 2_000, 4
"""Records appended together, and batches at a time."""

PREPARED_TOGETHER = 500

Pool = Sequence[tuple[NewRecord, Metric]]


def pool(cues: Sequence[tape.Cue]) -> Pool:
    """Let the controller hear a tape, and keep its metrics."""
    stage: Stage[Any, Any] = Controller()
    states, metrics = dict[bytes, Any](), list[tuple[NewRecord, Metric]]()
    heard = [_heard(cue, offset) for offset, cue in enumerate(cues)]
    for start in range(0, len(heard), PREPARED_TOGETHER):
        together = heard[start : start + PREPARED_TOGETHER]
        for record, item in zip(together, stage.prepare(together), strict=True):
            state = states.get(record.key) or stage.start(record.key)
            states[record.key], outputs = stage.step(state, item, record.timestamp_ms)
            metrics += [(one, codec.decode_metric(one.value or b"")) for one in outputs if one.topic == METRIC]
    return metrics


def _heard(cue: tape.Cue, offset: int) -> Record:
    new = cue.record(cue.at_ms)
    return Record(new.topic, 0, offset, new.key, new.value, new.timestamp_ms, new.headers)


def spread(metrics: Pool, count: int, since_ms: int, until_ms: int) -> Iterator[NewRecord]:
    """Tell a pool again and again until there are `count` records, evenly between two times.

    The machines stay the same, as in life; every record has a time of its own, so no point meets another one.
    """
    apart_ms = (until_ms - since_ms) / count
    for number in range(count):
        record, metric = metrics[number % len(metrics)]
        at_ms = since_ms + round(number * apart_ms)
        yield replace(record, value=codec.encode(replace(metric, at_ms=at_ms)), timestamp_ms=at_ms)


def reps_among(metrics: Pool, count: int) -> int:
    """Count the measured reps among the first `count` of a pool that is told again and again."""
    is_rep = [isinstance(metric, RepMeasured) for _, metric in metrics]
    whole, rest = divmod(count, len(is_rep))
    return whole * sum(is_rep) + sum(is_rep[:rest])


async def write(log: Log, records: Iterator[NewRecord]) -> None:
    """Write them, a few batches at a time; one that stands there twice is still one point, for its time is its own."""

    async def writer() -> None:
        while batch := list(islice(records, BATCH)):
            await retried(partial(log.append, batch))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(writer())
