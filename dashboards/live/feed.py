"""Feed: what keeps the view up to date. It follows the topics of the log from a little before their ends."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

import msgspec
import structlog

from dashboards.live.view import TOPICS
from streams.core.errors import Busy
from streams.core.records import NewRecord, Record

POLL_RECORDS = 200
"""Records that are folded at once: 5 ms during which nothing else of this process runs."""

POLL_S = 0.5
RETRY_S = 2.0

RATE_S = 10
"""Time over which the records per second are told, in s."""

_log = structlog.get_logger()


class Listener(Protocol):
    """Hears which partitions come and go."""

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Answer the offset to start from for each new partition."""

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish with these partitions."""


class Subscription(Protocol):
    """What the page asks of a member of a group."""

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        """Return the next records by partition, or nothing after `timeout_s`."""

    async def lag(self) -> Mapping[int, int]:
        """Return how many records of each partition have not been handed out."""


class Log(Protocol):
    """What the page asks of the log; each call raises Busy when the log refuses for now."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records durably."""

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return the earliest and the next offset of each partition."""

    def subscribe(
        self, topic: str, group: str, listener: Listener | None = None
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join a group on a topic."""


class Status(msgspec.Struct):
    """How following one topic goes: whether its end was reached, what the log refused last, records by second."""

    caught_up: bool = False
    refused: str | None = None
    by_second: dict[int, int] = msgspec.field(default_factory=dict)

    def count(self, second: int, records: int) -> None:
        """Count records in the second in which they were read."""
        self.by_second[second] = self.by_second.get(second, 0) + records
        for old in [each for each in self.by_second if each < second - RATE_S]:
            del self.by_second[old]

    def per_second(self, second: int) -> float:
        """Return the records per second over the last whole seconds."""
        return sum(count for at, count in self.by_second.items() if second - RATE_S <= at < second) / RATE_S


class Feed:
    """Follows every topic for one view.

    Parameters
    ----------
    log : Log
        Where the records are.
    group : str
        A group of this process alone: a page sees every partition, and leaves no position behind.
    take : callable
        What to do with each record.
    look_back : int
        Records of each topic before its end that are read first, so that a page shows something at once.
    now_s : callable
        A clock in s, for the rates.
    """

    def __init__(
        self, log: Log, group: str, take: Callable[[Record], None], *, look_back: int, now_s: Callable[[], float]
    ) -> None:
        self.status: dict[str, Status] = {topic: Status() for topic in TOPICS}
        self._log, self._group, self._take = log, group, take
        self._look_back, self._now_s = look_back, now_s
        self._next: defaultdict[str, dict[int, int]] = defaultdict(dict)

    @property
    def caught_up(self) -> bool:
        """Whether the end of every topic was reached once."""
        return all(one.caught_up for one in self.status.values())

    @property
    def refused(self) -> str | None:
        """Why the log can't be read at the moment; None if it can."""
        return next((one.refused for one in self.status.values() if one.refused), None)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set; what the log refuses is asked for again."""
        async with asyncio.TaskGroup() as tasks:
            for topic in TOPICS:
                tasks.create_task(self._keep_following(topic, stop))

    async def _keep_following(self, topic: str, stop: asyncio.Event) -> None:
        status = self.status[topic]
        while not stop.is_set():
            try:
                await self._follow(topic, stop)
            except Busy as busy:
                status.refused = str(busy) or "the log refuses for now"
                _log.warning("page can't read the log for now", topic=topic, why=str(busy))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RETRY_S)

    async def _follow(self, topic: str, stop: asyncio.Event) -> None:
        status, place = self.status[topic], _Place(self._log, topic, self._next[topic], self._look_back)
        group = f"{self._group}-{topic.split('.')[1]}"
        async with self._log.subscribe(topic, group, place) as subscription:
            while not stop.is_set():
                polled = await subscription.poll(POLL_RECORDS, POLL_S)
                status.refused = None
                for partition, records in polled.items():
                    for record in records:
                        self._take(record)
                    place.next[partition] = records[-1].offset + 1
                    if status.caught_up:
                        status.count(int(self._now_s()), len(records))
                if not status.caught_up:
                    status.caught_up = not any((await subscription.lag()).values())
                await asyncio.sleep(0)


class _Place:
    """Where to start: where we were, or some records before the end."""

    def __init__(self, log: Log, topic: str, known: dict[int, int], look_back: int) -> None:
        self.next = known
        self._log, self._topic, self._look_back = log, topic, look_back

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        bounds = await self._log.bounds(self._topic)
        each = self._look_back // max(len(bounds), 1)
        return {
            partition: max(first, self.next.get(partition, end - each))
            for partition, (first, end) in bounds.items()
            if partition in partitions
        }

    async def revoked(self, partitions: Collection[int]) -> None:
        """Nothing is held for a partition."""
