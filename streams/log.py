"""The log port: what the engine and the tools ask of Kafka, SQLite or whatever else keeps records."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from streams.core.records import NewRecord, Record


class Listener(Protocol):
    """Hears which partitions of a subscription come and go; neither call may raise.

    A member that leaves while `assigned` is at work may cancel it; `revoked` follows.
    """

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Answer the offset to start from for each new partition; one that is left out starts at its committed
        offset, or at the earliest record if there is none.
        """

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish with these partitions; when this returns, somebody else may have them."""


class Subscription(Protocol):
    """A member of a group that reads one topic; each partition goes to exactly one member."""

    @property
    def records_skipped(self) -> int:
        """How many records were deleted before they were read, because we are further behind than the retention."""

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        """Return the next records by partition, each in order, or nothing after `timeout_s`."""

    def pause(self, partition: int) -> None:
        """Hand out no more of this partition until it is resumed. A partition that is not assigned is ignored."""

    def resume(self, partition: int) -> None:
        """Undo `pause`."""

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store for each partition the offset of the next record to read. A partition lost meanwhile is ignored."""

    async def lag(self) -> Mapping[int, int]:
        """Return for each assigned partition the number of records that have not been handed out yet."""


class Log(Protocol):
    """Records in partitions, each in one order, kept on disk.

    Every call raises `streams.core.errors.Busy` when the log can't be reached or refuses for now.
    """

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Store records; when it returns, all are durable. Records of one key keep their order."""

    async def checkpoint(
        self, topic: str, partition: int, entries: Sequence[tuple[bytes, bytes | None]], timestamp_ms: int
    ) -> int:
        """Store keyed values in one partition of a compacted topic, all or none; return the offset of the first.

        Raises `streams.core.errors.BrokenPromise` if they exceed `STATE_MAX_BATCH_BYTES`.
        """

    def read(
        self, topic: str, partition: int, start: int | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """Read from `start` (None: the earliest) up to, not including, `stop` (None: the end at the time of call)."""

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return for each partition the earliest offset and the offset of the next record. KeyError: no such topic."""

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Return the offset of the first record that is not older than `time_ms`, or the end."""

    def subscribe(
        self, topic: str, group: str, listener: Listener | None = None
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join a group on a topic."""
