"""The engine: drives a stage from the log and back, and keeps the promises E1 to E8 of docs/architecture.md."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import Any, Protocol

import msgspec
import structlog

from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters
from streams.core.records import Record
from streams.core.stage import Stage
from streams.log import Log, Subscription
from streams.partition import BUSY_PAUSE_S, SLICE_BYTES, SLICE_RECORDS, Partition, size
from streams.reducer import prepared

MAX_POLL_RECORDS = 2_000
"""Records taken from the log at a time, over all partitions. With 1.5 kB each that is 3 MB."""

BUFFERS_BYTES = 64 * 1024 * 1024
"""Most that the buffers of all partitions hold together (E6), in bytes of their records; each has the same share of it.
A poll that fills one may go beyond it by what the log hands out of a partition at once, 4 MiB."""

POLL_PAUSE_S = 0.005
"""Least time from one poll that brought something to the next, in s. At a low rate polls bring one record each, and a
record alone costs twenty times as much as one of many: in fetching, in arrays of one, in a write of its own. What comes
within so short a time goes together; the first record after a silence waits for nothing."""

GROUP = -1
"""Stands for all partitions: it moves when any of them does."""

LOOK_S = 1.0
"""Pause between two looks at the lag and two commits, and longest wait for a commit, in s."""

ANSWER_S = 3.0
"""Longest wait for an answer of the log about its ends or our lag, in s. Without one nothing can be done: not ready."""

QUARANTINES = 5
QUARANTINE_WINDOW_S = 60.0
"""So many keys quarantined within so many seconds stop the process: the release is bad, not the data."""

_log = structlog.get_logger()


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one engine paces itself; times in s.

    Parameters
    ----------
    checkpoint_s : float
        Longest time between a change and the checkpoint that covers it.
    checkpoint_keys : int
        Changed keys that make a checkpoint due earlier.
    stall_s : float
        Lag of a partition without progress for this long ends the process (E8); for half of it, we are not ready.
    dead_letters_in_a_row : int
        So many dead letters with nothing good between them end the process (E7).
    """

    checkpoint_s: float = 0.25
    checkpoint_keys: int = 1_000
    stall_s: float = 60.0
    dead_letters_in_a_row: int = 1_000


class Committing(Protocol):
    """A member of a group, as far as its offsets go."""

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store for each partition the offset of the next record to read. Raises Busy."""


class Engine:
    """One member of a stage's group: any number of partitions, each run by a task of its own."""

    def __init__(self, stage: Stage[Any, Any], log: Log, meters: Meters, settings: EngineSettings) -> None:
        self._stage = stage
        self._log = log
        self._meters = meters
        self._settings = settings
        self._partitions: dict[int, Partition] = {}
        self._subscription: Subscription | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._quarantined: deque[float] = deque(maxlen=QUARANTINES)
        self._progressed_s: dict[int, float] = {}
        self._reached: dict[int, int] = {}
        self._stop = asyncio.Event()
        self._has_begun = False
        self._is_ready = False
        self._skipped = 0

    @property
    def ready(self) -> bool:
        """Whether the log answers, all that the group assigned to us is restored, and no partition stands still."""
        return self._is_ready

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then finish what was taken and write a last checkpoint.

        Raises
        ------
        ExceptionGroup
            Holding BrokenPromise, when a promise can't be kept.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks, self._stop = tasks, stop
                async with AsyncExitStack() as stops:
                    subscription = await self._join(stop, stops)
                    if subscription is None:
                        return
                    self._subscription = subscription
                    watchdog = tasks.create_task(self._watch(subscription))
                    await self._feed(subscription, stop)
                    watchdog.cancel()
                    await self.revoked(tuple(self._partitions))
                    await self.commit(subscription)
        finally:
            self._subscription = self._tasks = None
            self._is_ready = False

    async def _join(self, stop: asyncio.Event, stops: AsyncExitStack) -> Subscription | None:
        """Become a member of the group; None if told to stop before. A log that is away for long is a stall (E8)."""
        self.progressed(GROUP)
        while not stop.is_set():
            try:
                async with _until(stop):
                    topic, group = self._stage.topic, self._stage.name
                    return await stops.enter_async_context(self._log.subscribe(topic, group, self))
            except Busy as busy:
                self._count_busy(busy)
                if self._stood_s(GROUP) > self._settings.stall_s:
                    raise BrokenPromise(
                        f"{self._stage.name}: not in its group in {self._settings.stall_s} s: {busy}"
                    ) from busy
                await asyncio.sleep(BUSY_PAUSE_S)
        return None

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Restore new partitions from their state topic; the checkpoint says where to start (E3).

        Told to stop meanwhile, we begin with none of them.
        """
        starts: dict[int, int] = {}
        async with _until(self._stop):
            starts = dict(await asyncio.gather(*map(self._restored, partitions)))
        if starts:
            self._has_begun = True
        elif partitions:
            await self.revoked(partitions)
        _log.info("partitions assigned", stage=self._stage.name, starts=starts)
        return starts

    async def _restored(self, number: int) -> tuple[int, int]:
        """Restore one partition and let it begin; half of the time goes into connecting, so all do it at once."""
        self._reached.pop(number, None)  # somebody else may have been further
        partition = Partition(self._stage, self._log, self._meters, self._settings, number=number, owner=self)
        start = await partition.restore()
        if not self._has_begun:  # later, whoever had the partition before us has done so: a rebalance is not to wait
            await partition.check_log()
        if self._tasks is not None:
            partition.start(self._tasks)
            self._partitions[number] = partition
            self.progressed(number)
        return number, start

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish the slice in hand of each partition and write its last checkpoint."""
        leaving = [partition for number in partitions if (partition := self._partitions.pop(number, None))]
        await asyncio.gather(*(partition.finish() for partition in leaving))
        _log.info("partitions revoked", stage=self._stage.name, partitions=sorted(partitions))

    def reached(self, partition: int, position: int) -> None:
        """Take note of a durable checkpoint; the group's offset follows within a second, for monitoring only (E1)."""
        self.progressed(partition)
        self._reached[partition] = position

    async def commit(self, member: Committing) -> None:
        """Let the group's offsets follow the checkpoints: all together, for each commit is a request of its own."""
        reached = dict(self._reached)
        try:
            async with asyncio.timeout(LOOK_S):
                await member.commit(reached)
        except TimeoutError:
            return  # the checkpoint is what counts, and the next commit tells these offsets too
        except Busy as busy:
            self._count_busy(busy)
        else:
            self._reached = dict(self._reached.items() - reached.items())

    @property
    def share_bytes(self) -> int:
        """Most that one partition may hold, in bytes of its records."""
        return BUFFERS_BYTES // max(1, len(self._partitions))

    def progressed(self, partition: int) -> None:
        """Take note that something moved."""
        self._progressed_s[partition] = self._progressed_s[GROUP] = time.monotonic()

    def _stood_s(self, partition: int) -> float:
        return time.monotonic() - self._progressed_s[partition]

    def drained(self, partition: int) -> None:
        """Let a partition be read again."""
        if self._subscription is not None:
            self._subscription.resume(partition)

    def quarantined(self) -> str | None:
        """Count a quarantine; too many in a short time are a defect of the release (E7)."""
        now_s = time.monotonic()
        self._quarantined.append(now_s)
        if len(self._quarantined) == QUARANTINES and now_s - self._quarantined[0] < QUARANTINE_WINDOW_S:
            return f"{QUARANTINES} keys quarantined within {QUARANTINE_WINDOW_S:.0f} s"
        return None

    async def _feed(self, subscription: Subscription, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                batches = await subscription.poll(MAX_POLL_RECORDS, 0.2)
                polled_s = time.monotonic()
            except Busy as busy:
                self._count_busy(busy)
                await asyncio.sleep(BUSY_PAUSE_S)
                continue
            self._count_skipped(subscription)
            items = self._prepared(batches)
            for number, records in batches.items():
                partition = self._partitions.get(number)
                if partition is not None and partition.offer(records, items.get(number)):
                    subscription.pause(number)  # E6: full; `drained` resumes it
            left_s = polled_s + POLL_PAUSE_S - time.monotonic() if batches else 0.0
            await asyncio.sleep(max(0.0, left_s))  # a poll that never waits must not starve the partitions

    def _prepared(self, batches: Mapping[int, Sequence[Record]]) -> Mapping[int, Sequence[Any]]:
        """Prepare what came in a small poll together, whatever its partition; of a large one, each slice is enough."""
        together = [record for records in batches.values() for record in records]
        if len(batches) < 2 or len(together) > SLICE_RECORDS:  # noqa: PLR2004 - of one partition there is nothing to join
            return {}
        if sum(map(size, together)) > SLICE_BYTES:
            return {}
        items = iter(prepared(self._stage, together))
        return {number: list(islice(items, len(records))) for number, records in batches.items()}

    def _count_busy(self, busy: Busy) -> None:
        self._meters.count("spineloop_busy_total", component="log")
        _log.warning("log is busy", stage=self._stage.name, reason=str(busy))

    def _count_skipped(self, subscription: Subscription) -> None:
        """Count what retention took before we came to it: nothing vanishes without a word (E7)."""
        if (skipped := subscription.records_skipped - self._skipped) > 0:
            self._skipped += skipped
            self._meters.count("spineloop_records_skipped_total", skipped, stage=self._stage.name)

    async def _lags(self, subscription: Subscription) -> dict[int, int]:
        """Return the records of each partition that are not dealt with.

        `GROUP` has those of partitions that are not ours yet, or 1 while the log can't tell, for then nothing moves.
        """
        lags = {number: partition.waiting for number, partition in self._partitions.items()} | {GROUP: 0}
        try:
            async with asyncio.timeout(ANSWER_S):  # it waits while partitions are shared out or restored
                for number, lag in (await subscription.lag()).items():
                    lags[number if number in lags else GROUP] += lag
        except TimeoutError:
            lags[GROUP] = 1
        except Busy as busy:
            self._count_busy(busy)
            lags[GROUP] = 1
        return lags

    async def _is_log_away(self) -> bool:
        """Ask the log for something that has nothing to do with our group, whose coming together may be what hangs."""
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._log.bounds(self._stage.topic)
        except (Busy, TimeoutError):
            return True
        return time.monotonic() - asked_s > LOOK_S  # it was, when we asked

    async def _watch(self, subscription: Subscription) -> None:
        """End the process when a partition has lag, the log answers, and nothing moves (E8): a stall becomes a restart.

        While the log is away nothing moves either, but a restart of ours would mend nothing.
        """
        while True:
            if await self._is_log_away():
                self._is_ready = False
                for number in (*self._partitions, GROUP):
                    self.progressed(number)
            else:
                await self._look(subscription)
            await asyncio.sleep(LOOK_S)

    async def _look(self, subscription: Subscription) -> None:
        await self.commit(subscription)
        lags, limit_s = await self._lags(subscription), self._settings.stall_s
        self._meters.set("spineloop_lag_records", sum(lags.values()), stage=self._stage.name)
        now_s = time.monotonic()
        self._progressed_s |= {number: now_s for number, lag in lags.items() if lag == 0}
        slowest = max(lags, key=self._stood_s)
        self._is_ready = lags[GROUP] == 0 and self._stood_s(slowest) <= limit_s / 2
        if self._stood_s(slowest) > limit_s:
            where = "" if slowest == GROUP else f" in partition {slowest}"
            raise BrokenPromise(
                f"{self._stage.name}: {lags[slowest]} records of lag{where}, no progress in {limit_s} s"
            )


@asynccontextmanager
async def _until(stop: asyncio.Event) -> AsyncIterator[None]:
    """Break a block off, without an error, as soon as `stop` is set."""

    async def watch(limit: asyncio.Timeout) -> None:
        await stop.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    limit = asyncio.timeout(None)
    try:
        async with limit:
            watching = asyncio.create_task(watch(limit))
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
