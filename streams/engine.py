"""The engine: drives a stage from the log and back, and keeps the promises E1 to E8 of docs/architecture.md."""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any

import msgspec
import structlog

from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters
from streams.core.records import Record
from streams.core.stage import Stage
from streams.log import Log, Subscription
from streams.partition import BUSY_PAUSE_S, SLICE_RECORDS, Partition
from streams.reducer import prepared

MAX_POLL_RECORDS = 2_000
"""Records taken from the log at a time, over all partitions. With 1.5 kB each that is 3 MB."""

POLL_PAUSE_S = 0.005
"""Least time from one poll that brought something to the next, in s. At a low rate polls bring one record each, and a
record alone costs twenty times as much as one of many: in fetching, in arrays of one, in a write of its own. What comes
within so short a time goes together; the first record after a silence waits for nothing."""

LOOK_S = 1.0
ANSWER_S = 3.0
"""Pause between two looks at the lag, and longest wait for the answer. Without one nothing can be done: not ready."""

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
        Lag without progress for this long ends the process (E8).
    dead_letters_in_a_row : int
        So many dead letters with nothing good between them end the process (E7).
    """

    checkpoint_s: float = 0.25
    checkpoint_keys: int = 1_000
    stall_s: float = 60.0
    dead_letters_in_a_row: int = 1_000


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
        self._progressed_s = time.monotonic()
        self._is_ready = False

    @property
    def ready(self) -> bool:
        """Whether the log answers, and all that the group assigned to us is restored."""
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
                self._tasks = tasks
                async with AsyncExitStack() as stops:
                    subscription = await self._join(stop, stops)
                    if subscription is None:
                        return
                    self._subscription = subscription
                    watchdog = tasks.create_task(self._watch(subscription))
                    await self._feed(subscription, stop)
                    watchdog.cancel()
                    await self.revoked(tuple(self._partitions))
        finally:
            self._subscription = self._tasks = None
            self._is_ready = False

    async def _join(self, stop: asyncio.Event, stops: AsyncExitStack) -> Subscription | None:
        """Become a member of the group; None if told to stop before. A log that is away for long is a stall (E8)."""
        self.progressed()
        while not stop.is_set():
            try:
                return await stops.enter_async_context(self._log.subscribe(self._stage.topic, self._stage.name, self))
            except Busy as busy:
                self._count_busy(busy)
                if time.monotonic() - self._progressed_s > self._settings.stall_s:
                    raise BrokenPromise(
                        f"{self._stage.name}: not in its group in {self._settings.stall_s} s: {busy}"
                    ) from busy
                await asyncio.sleep(BUSY_PAUSE_S)
        return None

    async def assigned(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Restore new partitions from their state topic; the checkpoint says where to start (E3)."""
        starts = dict(await asyncio.gather(*map(self._restored, partitions)))
        _log.info("partitions assigned", stage=self._stage.name, starts=starts)
        return starts

    async def _restored(self, number: int) -> tuple[int, int]:
        """Restore one partition and let it begin; half of the time goes into connecting, so all do it at once."""
        partition = Partition(self._stage, self._log, self._meters, self._settings, number=number, owner=self)
        start = await partition.restore()
        if self._tasks is not None:
            partition.start(self._tasks)
            self._partitions[number] = partition
        return number, start

    async def revoked(self, partitions: Collection[int]) -> None:
        """Finish the slice in hand of each partition and write its last checkpoint."""
        leaving = [partition for number in partitions if (partition := self._partitions.pop(number, None))]
        await asyncio.gather(*(partition.finish() for partition in leaving))
        _log.info("partitions revoked", stage=self._stage.name, partitions=sorted(partitions))

    async def reached(self, partition: int, position: int) -> None:
        """Take note of a durable checkpoint; the group's offset follows, for monitoring only (E1)."""
        self.progressed()
        if self._subscription is not None and partition in self._partitions:
            try:
                await self._subscription.commit({partition: position})
            except Busy as busy:  # the checkpoint is what counts
                self._count_busy(busy)

    def progressed(self) -> None:
        """Take note that something moved."""
        self._progressed_s = time.monotonic()

    def drained(self, partition: int) -> None:
        """Let a partition be read again."""
        if self._subscription is not None:
            self._subscription.resume(partition)

    def quarantined(self) -> None:
        """Count a quarantine; too many in a short time are a defect of the release (E7)."""
        now_s = time.monotonic()
        self._quarantined.append(now_s)
        if len(self._quarantined) == QUARANTINES and now_s - self._quarantined[0] < QUARANTINE_WINDOW_S:
            raise BrokenPromise(f"{QUARANTINES} keys quarantined within {QUARANTINE_WINDOW_S:.0f} s")

    async def _feed(self, subscription: Subscription, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                batches = await subscription.poll(MAX_POLL_RECORDS, 0.2)
                polled_s = time.monotonic()
            except Busy as busy:
                self._count_busy(busy)
                await asyncio.sleep(BUSY_PAUSE_S)
                continue
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
        items = iter(prepared(self._stage, together))
        return {number: list(islice(items, len(records))) for number, records in batches.items()}

    def _count_busy(self, busy: Busy) -> None:
        self._meters.count("spineloop_busy_total", component="log")
        _log.warning("log is busy", stage=self._stage.name, reason=str(busy))

    async def _lag(self, subscription: Subscription) -> int:
        """Return the records that are not dealt with; at least 1 while the log can't tell, for then nothing moves."""
        waiting = sum(partition.waiting for partition in self._partitions.values())
        try:
            async with asyncio.timeout(ANSWER_S):  # it waits while partitions are shared out or restored
                lag = waiting + sum((await subscription.lag()).values())
        except TimeoutError:
            lag, self._is_ready = waiting + 1, False
        except Busy as busy:
            self._count_busy(busy)
            lag, self._is_ready = waiting + 1, False
        else:
            self._is_ready = True
        return lag

    async def _is_log_away(self) -> bool:
        """Ask the log for something that has nothing to do with our group, whose coming together may be what hangs."""
        asked_s = time.monotonic()
        try:
            await self._log.bounds(self._stage.topic)
        except Busy:
            return True
        return time.monotonic() - asked_s > LOOK_S  # it was, when we asked

    async def _watch(self, subscription: Subscription) -> None:
        """End the process when there is lag, the log answers, and nothing moves (E8): a stall becomes a restart.

        While the log is away nothing moves either, but a restart of ours would mend nothing.
        """
        while True:
            if await self._is_log_away():
                self._is_ready = False
                self.progressed()
            else:
                await self._look(subscription)
            await asyncio.sleep(LOOK_S)

    async def _look(self, subscription: Subscription) -> None:
        lag = await self._lag(subscription)
        self._meters.set("spineloop_lag_records", lag, stage=self._stage.name)
        if lag == 0:
            self.progressed()
        elif time.monotonic() - self._progressed_s > self._settings.stall_s:
            raise BrokenPromise(f"{self._stage.name}: {lag} records of lag, no progress in {self._settings.stall_s} s")
