"""Delivery: read a topic as a group, have the effect, move the position; in that order, for ever.

A record's position moves only after its effect is durable, so a kill at any moment repeats effects and loses none.
Effects must therefore be idempotent.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import Protocol, TypeVar

import msgspec
import structlog

from streams.core.errors import Busy
from streams.core.meters import Meters
from streams.core.records import Record

IDLE_POLL_S = 0.2
"""Longest wait for a first record in s, and so the longest that an idle delivery takes to notice that it shall end."""

FINISH_S = 4.0
"""Longest time for the batch in hand once we are told to stop, in s; a process that ends has 10 s for everything."""

ANSWER_S = 1.0
"""Longest wait for a log's answer in s; a log that takes longer is away."""

LOG = "log"
"""The component where the log refuses, as in every other role, so that nobody looks at the server of the effect."""

_log = structlog.get_logger()
_T = TypeVar("_T")

Effect = Callable[[Sequence[Record]], Awaitable[None]]
"""Has its effect for all of these records, or raises Busy to get the same ones again. It is idempotent."""

Dice = Callable[[], float]
"""A number from 0 up to, not including, 1; evenly spread, so that many that wait for one server come back apart."""


class Subscription(Protocol):
    """A member of a group that reads one topic."""

    @property
    def records_skipped(self) -> int:
        """How many records were deleted before they were read, because we are further behind than the retention."""

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        """Return the next records by partition, each in order, or nothing after `timeout_s`."""

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Store for each partition the offset of the next record to read. A partition lost meanwhile is ignored."""

    async def lag(self) -> Mapping[int, int]:
        """Return for each assigned partition the number of records that have not been handed out yet."""


class Log(Protocol):
    """Where the records come from."""

    def subscribe(self, topic: str, group: str) -> AbstractAsyncContextManager[Subscription]:
        """Join a group on a topic."""

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return for each partition the earliest offset and the offset of the next record. Raises Busy."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery paces itself.

    Parameters
    ----------
    max_records : int
        Records in one batch; also all that is ever held in memory.
    linger_s : float
        How long a batch waits to grow after its first record, in s; 0 sends what is there.
    first_retry_s, longest_retry_s : float
        Wait in s after the first refusal; each further one doubles it, up to the longest.
    """

    max_records: int = 5_000
    linger_s: float = 1.0
    first_retry_s: float = 0.1
    longest_retry_s: float = 10.0


def retry_s(pace: Pace, attempt: int, dice: float) -> float:
    """Return how long to wait after refusal number `attempt` (from 0), in s: half of it sure, half by the dice.

    Examples
    --------
    >>> [retry_s(Pace(), attempt, dice=0.5) for attempt in (0, 1, 2, 100)]
    [0.07500000000000001, 0.15000000000000002, 0.30000000000000004, 7.5]
    """
    wait_s = min(pace.longest_retry_s, pace.first_retry_s * 2.0 ** min(attempt, 62))
    return wait_s * (0.5 + 0.5 * dice)


class Delivery:
    """One member of a group that has one effect for every record of a topic.

    A partition that moves to another member meanwhile is no matter: the other repeats what was not committed.

    Parameters
    ----------
    log : Log
        Where the records come from.
    topic, group : str
        What to read, and under whose name; the group also names this delivery in logs and meters.
    effect : callable
        What to do with a batch.
    pace : Pace
        Size and timing of batches and retries.
    dice : callable
        Jitter for the retries; `random.random` outside of tests.
    meters : Meters
        Counts refusals (`spineloop_busy_total`, by component: the group for its effect, `log` for all that the log
        refuses), deliveries (`spineloop_records_total`, by stage) and what the log had no more when it was to be read
        (`spineloop_records_skipped_total`).
    check : callable
        Asked after each batch, once its positions have moved; raises what has to end the process, which then gets
        further when it is started again.

    Attributes
    ----------
    positions : dict of int to int
        For each partition the offset of the next record, as last committed.
    group : str
        As given.
    """

    def __init__(
        self,
        log: Log,
        topic: str,
        group: str,
        effect: Effect,
        *,
        pace: Pace,
        dice: Dice,
        meters: Meters,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.positions: dict[int, int] = {}
        self._log, self._topic, self.group = log, topic, group
        self._effect = effect
        self._pace = pace
        self._dice = dice
        self._meters = meters
        self._check = check
        self._delivered = self._refused = 0
        self._in_hand = self._skipped = 0
        self._is_refused = False
        self._subscription: Subscription | None = None

    @property
    def ready(self) -> bool:
        """Whether it is a member of its group, and its last call was not refused."""
        return self._subscription is not None and not self._is_refused

    def progress(self) -> int:
        """Return a number that grows while there is lag, or we hang: records delivered, effects refused, log away.

        What the other side refuses counts, for a restart of ours would not mend it. What our own subscription refuses
        while the log answers does not: it may be broken for good, and a restart makes a new one.
        """
        return self._delivered + self._refused

    async def lag(self) -> int:
        """Return how many records of our partitions are not delivered yet. Raises Busy; while the log is away, surely.

        Whoever watches us asks this again and again, so here is where we notice that the log is away.
        """
        if self._subscription is None:
            return self._in_hand
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._log.bounds(self._topic)  # has nothing to do with our group, which may be what hangs
        except (Busy, TimeoutError) as error:
            self._refused += 1
            raise Busy(f"{self.group}: the log is away: {error}") from error
        return self._in_hand + sum((await self._subscription.lag()).values())

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, then finish the batch in hand; one that is refused or takes long is left undone.

        A cancellation leaves the batch at once. Either way the position of what is not done has not moved.
        """
        try:
            async with AsyncExitStack() as stack, _until_stopped(stop):
                join = self._log.subscribe
                subscription = await self._patiently(
                    stop, LOG, lambda: stack.enter_async_context(join(self._topic, self.group))
                )
                self._subscription = subscription
                while not stop.is_set():
                    await self._deliver(stop, subscription, await self._gather(stop, subscription))
        except TimeoutError:
            if not stop.is_set():
                raise
            _log.warning("stopped before the last batch was delivered", group=self.group, limit_s=FINISH_S)
        except Busy as busy:
            if not stop.is_set():
                raise  # closing the subscription was refused
            _log.warning("stopped before the last batch was delivered", group=self.group, why=str(busy))
        finally:
            self._subscription, self._in_hand = None, 0

    async def _gather(self, stop: asyncio.Event, subscription: Subscription) -> Mapping[int, Sequence[Record]]:
        """Wait for a first record, then for more until the batch is full or has waited long enough."""
        batch: dict[int, list[Record]] = {}
        now_s = asyncio.get_running_loop().time
        await self._take(stop, subscription, batch, IDLE_POLL_S)
        until_s = now_s() + self._pace.linger_s
        while 0 < self._in_hand < self._pace.max_records and (left_s := until_s - now_s()) > 0 and not stop.is_set():
            await self._take(stop, subscription, batch, min(left_s, IDLE_POLL_S))
        return batch

    async def _take(
        self, stop: asyncio.Event, subscription: Subscription, batch: dict[int, list[Record]], wait_s: float
    ) -> None:
        room = self._pace.max_records - self._in_hand
        polled = await self._patiently(stop, LOG, lambda: subscription.poll(room, wait_s))
        for partition, records in polled.items():
            batch.setdefault(partition, []).extend(records)
            self._in_hand += len(records)
        if (skipped := subscription.records_skipped - self._skipped) > 0:
            self._skipped += skipped
            self._meters.count("spineloop_records_skipped_total", skipped, stage=self.group)

    async def _deliver(
        self, stop: asyncio.Event, subscription: Subscription, batch: Mapping[int, Sequence[Record]]
    ) -> None:
        """Have the effect, and only then move the positions."""
        records = [record for part in batch.values() for record in part]
        if not records:
            return
        await self._patiently(stop, self.group, lambda: self._have_effect(records))
        positions = {partition: part[-1].offset + 1 for partition, part in batch.items() if part}
        await self._patiently(stop, LOG, lambda: subscription.commit(positions))
        self.positions |= positions
        self._delivered += len(records)
        self._in_hand = 0
        self._meters.count("spineloop_records_total", len(records), stage=self.group)
        self._check()

    async def _have_effect(self, records: Sequence[Record]) -> None:
        try:
            await self._effect(records)
        except Busy:
            self._refused += 1
            raise

    async def _patiently(self, stop: asyncio.Event, component: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a call for as long as `component` refuses it; raise Busy only if it still does once `stop` is set."""
        for attempt in count():
            try:
                done = await call()
            except Busy as busy:
                self._is_refused = True
                self._meters.count("spineloop_busy_total", component=component)
                if stop.is_set():
                    raise
                wait_s = retry_s(self._pace, attempt, self._dice())
                _log.warning("refused for now", group=self.group, why=str(busy), attempt=attempt, retry_s=wait_s)
            else:
                self._is_refused = False
                return done
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)
        raise AssertionError("count() has no end")


@asynccontextmanager
async def _until_stopped(stop: asyncio.Event) -> AsyncIterator[None]:
    """Raise TimeoutError when a block goes on for too long after `stop` was set."""

    async def watch(limit: asyncio.Timeout) -> None:
        await stop.wait()
        limit.reschedule(asyncio.get_running_loop().time() + FINISH_S)

    async with asyncio.timeout(None) as limit:
        watching = asyncio.create_task(watch(limit))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})
