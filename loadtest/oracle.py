"""The oracle: what the stages must have said, recomputed by the pure reducers from what stands in the log."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from loadtest.stack import Stack
from spineloop import wiring
from streams.checkpoint import State
from streams.core.controller import Controller
from streams.core.errors import BrokenPromise, Busy, Malformed
from streams.core.records import NewRecord, Record, header
from streams.core.stage import Stage
from streams.log import Log

LAST_ENTRIES = 2_000
"""Entries at the end of a state partition that hold a whole checkpoint: more than keys change between two."""

LOOK_S = 0.1
"""Pause between two looks, in s."""

LIMIT_S = 180.0
"""Longest wait for what must come, in s: nothing is measured with it, and a server may be silent for a while."""

Said = dict[tuple[str, str | None], bytes | None]
"""Value of every output, by topic and `ce_id`."""

_T = TypeVar("_T")


@asynccontextmanager
async def log_of(stack: Stack) -> AsyncIterator[Log]:
    """Open the log of a stack, to look at it."""
    async with wiring.open_log(stack.settings(), "oracle") as log:
        yield log


async def everything(log: Log, topic: str) -> list[Record]:
    """Read a topic from its beginning to its end, partition by partition."""

    async def read() -> list[Record]:
        return [
            record
            for number in await log.bounds(topic)
            async for records in log.read(topic, number)
            for record in records
        ]

    return await retried(read)


async def expected(log: Log, stage: Stage[Any, Any] | None = None, prepared_together: int = 1) -> Said:
    """Let a stage hear its whole topic again, without an engine."""
    stage = stage or Controller()
    return recomputed(await everything(log, stage.topic), stage, prepared_together)


class Hearing:
    """A stage that hears records, without an engine.

    Parameters
    ----------
    stage : Stage
        What hears.
    prepared_together : int
        So many records are prepared at a time: one is slow, and the strictest (E4).
    """

    def __init__(self, stage: Stage[Any, Any], prepared_together: int = 1) -> None:
        self._stage, self._together = stage, prepared_together
        self._states: dict[bytes, Any] = {}

    def hear(self, records: Sequence[Record]) -> Iterator[NewRecord]:
        """Hear the next records; return what the stage says."""
        for start in range(0, len(records), self._together):
            together = records[start : start + self._together]
            for record, item in zip(together, self._stage.prepare(together), strict=True):
                if isinstance(item, Malformed):
                    raise BrokenPromise(f"{record.topic} {record.partition} {record.offset}: {item}")
                state = self._states.get(record.key) or self._stage.start(record.key)
                try:
                    self._states[record.key], outputs = self._stage.step(state, item, record.timestamp_ms)
                except Malformed:  # what the stage puts aside
                    continue
                yield from outputs


def recomputed(records: Sequence[Record], stage: Stage[Any, Any], prepared_together: int = 1) -> Said:
    """Let a stage hear these records, so many prepared at a time."""
    said = Hearing(stage, prepared_together).hear(records)
    return {(output.topic, header(output, "ce_id")): output.value for output in said}


async def found(log: Log, topics: Sequence[str]) -> Said:
    """Read what was really said; what was said twice must have been said in the same bytes."""
    values: defaultdict[tuple[str, str | None], set[bytes | None]] = defaultdict(set)
    for topic in topics:
        for record in await everything(log, topic):
            values[topic, header(record, "ce_id")].add(record.value)
    twice = {key: len(some) for key, some in values.items() if len(some) > 1}
    if twice:
        raise BrokenPromise(f"said in different bytes: {twice}")
    return {key: some.pop() for key, some in values.items()}


async def is_covered(log: Log, stage: Stage[Any, Any] | None = None) -> bool:
    """Tell whether checkpoints cover the whole of a stage's input; the last ones are enough, each says how far."""
    stage = stage or Controller()
    ends, kept = await log.bounds(stage.topic), await log.bounds(stage.state_topic)
    for number, (_, end) in ends.items():
        state = State(stage)
        async for records in log.read(stage.state_topic, number, start=max(0, kept[number][1] - LAST_ENTRIES)):
            state.join(records)
        if state.position < end:
            return False
    return True


async def retried(ask: Callable[[], Awaitable[_T]], limit_s: float = LIMIT_S) -> _T:
    """Ask again while a server is busy, as every role does, but not for ever."""
    since_s: float | None = None
    while True:
        try:
            return await ask()
        except Busy:
            now_s = asyncio.get_running_loop().time()
            since_s = now_s if since_s is None else since_s
            if now_s - since_s > limit_s:
                raise
            await asyncio.sleep(LOOK_S)


async def until(holds: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S, look_s: float = LOOK_S) -> None:
    """Wait for something to become true; a server that is too busy to tell is asked again."""
    async with asyncio.timeout(limit_s):
        while not await retried(holds, limit_s):
            await asyncio.sleep(look_s)


async def fill(log: Log, records: Sequence[NewRecord]) -> None:
    """Append records in batches, and again what may not have been stored, as the bridge does."""
    for start in range(0, len(records), 200):
        await retried(partial(log.append, records[start : start + 200]))
