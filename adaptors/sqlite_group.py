"""The groups of one SqliteLog object: who reads which partition of a topic, and how far each member has come."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog

from streams.core.records import Record

OTHERS_S = 0.5
"""How often a member with nothing to read looks whether another process has written, in s. What this process writes it
hears of at once."""

_log = structlog.get_logger()


class Listener(Protocol):
    """Hears which partitions come and go."""

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Answer the offset to start from for each new partition, or leave it out."""

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish with these partitions."""


class Source(Protocol):
    """What a member asks of the log, about one topic."""

    async def look(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return the earliest and the next offset of each partition."""

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return the next offset of each partition as far as this process knows."""

    async def fetch(
        self, topic: str, ranges: Mapping[int, tuple[int, int]], enough: int
    ) -> Mapping[int, Sequence[Record]]:
        """Read partitions in this order from an offset up to another, until there is enough."""

    async def committed(self, topic: str, group: str) -> Mapping[int, int]:
        """Return the committed position of each partition that has one."""

    async def commit(self, topic: str, group: str, positions: Mapping[int, int]) -> None:
        """Store positions."""


class SqliteSubscription:
    """A member of a group.

    Parameters
    ----------
    source : Source
        The log.
    topic, group : str
        What to read, and under whose name.
    listener : Listener or None
        Hears which partitions come and go.
    has_gaps : bool
        The topic is compacted, so that an offset without a record is nothing to wonder at.

    Attributes
    ----------
    records_skipped : int
        Records that were deleted before they were read, because this group is further behind than the retention.
    """

    def __init__(self, source: Source, topic: str, group: str, listener: Listener | None, *, has_gaps: bool) -> None:
        self.records_skipped = 0
        self._source = source
        self._topic, self._group = topic, group
        self._listener = listener
        self._has_gaps = has_gaps
        self._ours: set[int] = set()
        self._next: dict[int, int] = {}  # first the partition that waits longest for its turn
        self._ready: dict[int, Sequence[Record]] = {}
        self._paused: set[int] = set()
        self._news = asyncio.Event()
        self._assigning: asyncio.Future[Mapping[int, int]] | None = None

    @property
    def partitions(self) -> frozenset[int]:
        """Those that are ours, until the listener has finished with them."""
        return frozenset(self._ours)

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        """Return the next records by partition, each in order, or nothing after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            self._news.clear()
            if not any(partition not in self._paused for partition in self._ready):
                await self._fetch(max_records)
            if records := self._hand_out(max_records):
                return records
            left_s = deadline_s - loop.time()
            if left_s <= 0.0:
                return {}
            await self._wait(min(left_s, OTHERS_S))

    def pause(self, partition: int) -> None:
        """Hand out no more of this partition until it is resumed. A partition that is not assigned is ignored."""
        if partition in self._next:
            self._paused.add(partition)

    def resume(self, partition: int) -> None:
        """Undo `pause`."""
        if partition in self._paused:
            self._paused.remove(partition)
            self._news.set()

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store for each partition the offset of the next record to read. A partition lost meanwhile is ignored."""
        ours = {partition: offset for partition, offset in positions.items() if partition in self._ours}
        if ours:
            await self._source.commit(self._topic, self._group, ours)

    async def lag(self) -> Mapping[int, int]:
        """Return for each assigned partition the number of records that have not been handed out yet."""
        bounds = await self._source.look(self._topic)
        return {partition: bounds[partition][1] - offset for partition, offset in self._next.items()}

    def wake(self) -> None:
        """Let a poll that waits look again."""
        self._news.set()

    async def gain(self, partitions: frozenset[int]) -> None:
        """Take over partitions: from where the listener says, from the committed offset, or else from the earliest."""
        self._ours |= partitions
        offsets: Mapping[int, int] = {}
        if self._listener is not None:
            self._assigning = asyncio.ensure_future(self._listener.assigned(partitions))
            await asyncio.wait({self._assigning})
            if self._assigning.cancelled():
                return  # we are leaving
            offsets = self._assigning.result()
        committed = await self._source.committed(self._topic, self._group)
        bounds = await self._source.look(self._topic)
        for partition in partitions:
            first, end = bounds[partition]
            offset = offsets.get(partition, committed.get(partition, first))
            if offset > end:
                _log.warning("log_ends_before_position", topic=self._topic, partition=partition, at=offset, end=end)
                offset = first
            self._next[partition] = offset
        self._news.set()

    def give_up(self) -> None:
        """Wait no more for a listener that is taking partitions over: it may read from a file that is locked."""
        if self._assigning is not None:
            self._assigning.cancel()

    async def lose(self, partitions: frozenset[int]) -> None:
        """Hand out no more of these partitions, then let the listener finish with them."""
        for partition in partitions:
            self._next.pop(partition, None)
            self._ready.pop(partition, None)
            self._paused.discard(partition)
        if partitions and self._listener is not None:
            await self._listener.revoked(partitions)
        self._ours -= partitions

    async def _wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            await self._source.look(self._topic)

    async def _fetch(self, enough: int) -> None:
        ends = self._source.ends(self._topic)
        ranges = {
            partition: (offset, ends[partition])
            for partition, offset in self._next.items()
            if offset < ends[partition] and partition not in self._paused
        }
        if not ranges:
            return
        for partition, records in (await self._source.fetch(self._topic, ranges, enough)).items():
            offset, end = ranges[partition]
            if self._next.get(partition) != offset:
                continue  # lost meanwhile, and perhaps taken over again elsewhere
            if not records:
                self._next[partition] = end
                continue
            self._ready[partition] = records
            self._notice_gap(partition, records[0].offset - offset)

    def _hand_out(self, max_records: int) -> dict[int, Sequence[Record]]:
        handed: dict[int, Sequence[Record]] = {}
        for partition in [each for each in self._ready if each not in self._paused]:
            records = self._ready.pop(partition)
            if len(records) > max_records:
                self._ready[partition] = records[max_records:]
                records = records[:max_records]
            del self._next[partition]
            self._next[partition] = records[-1].offset + 1
            handed[partition] = records
            max_records -= len(records)
            if max_records == 0:
                break
        return handed

    def _notice_gap(self, partition: int, gap: int) -> None:
        if gap > 0 and not self._has_gaps:
            self.records_skipped += gap
            _log.warning("records_gone_before_read", topic=self._topic, partition=partition, records=gap)


class Group:
    """The members of a group on a topic, each with its share of the partitions.

    Parameters
    ----------
    partitions : int
        How many the topic has.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._members: list[SqliteSubscription] = []
        self._sharing = asyncio.Lock()

    async def join(self, member: SqliteSubscription) -> None:
        """Give a new member its share."""
        # shielded: a listener that has heard the beginning of a change is to hear its end
        await asyncio.shield(self._join(member))

    async def leave(self, member: SqliteSubscription) -> None:
        """Give a member's partitions to those that stay."""
        member.give_up()
        await asyncio.shield(self._leave(member))

    def wake(self) -> None:
        """Let every member that waits for records look again."""
        for member in self._members:
            member.wake()

    async def _join(self, member: SqliteSubscription) -> None:
        async with self._sharing:
            self._members.append(member)
            await self._share_out()

    async def _leave(self, member: SqliteSubscription) -> None:
        async with self._sharing:
            if member in self._members:
                self._members.remove(member)
                await member.lose(member.partitions)
                await self._share_out()

    async def _share_out(self) -> None:
        shares = {
            member: frozenset(range(nth, self._partitions, len(self._members)))
            for nth, member in enumerate(self._members)
        }
        for member, share in shares.items():
            if lost := member.partitions - share:
                await member.lose(lost)
        for member, share in shares.items():
            if gained := share - member.partitions:
                await member.gain(gained)
