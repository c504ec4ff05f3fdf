"""Partition: one partition of a stage's input, from its last checkpoint to the next one."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol, TypeVar

import structlog

from streams.checkpoint import REWRITE_RECORDS, Entries, State, found_since, written_with
from streams.core.dead_letters import InARow
from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters
from streams.core.records import Record
from streams.core.stage import Stage
from streams.log import Log
from streams.reducer import Reducer
from streams.traces import Trace

SLICE_RECORDS = 500
"""Records prepared together: enough for arrays to pay, few enough that a command waits for tens of ms at most."""

SLICE_BYTES = 2 * 1024 * 1024
"""Bytes at which a slice ends earlier: nearly three usual ones, but a few records of what is sampled fast."""

BUFFER_RECORDS = 4_000
"""Records taken but not yet processed, at which the partition is paused (E6): two polls, some 6 MB. Of larger records
there are fewer: the partitions of an engine share `BUFFERS_BYTES`."""

BUSY_PAUSE_S = 0.2
"""Pause between two tries of a write that the log refused for now."""

FINISH_S = 4.0
"""Longest time for the slice in hand and the last checkpoint when a partition is given up; SIGTERM has 10 s."""

UNPREPARED = object()
"""Stands for the item of a record that came with too many others to be prepared with them."""

T = TypeVar("T")
_log = structlog.get_logger()


def size(record: Record) -> int:
    """Return what a record takes, in bytes."""
    return len(record.key) + len(record.value or b"")


class Owner(Protocol):
    """What a partition tells the engine."""

    def reached(self, partition: int, position: int) -> None:
        """Hear that a checkpoint is durable."""

    @property
    def share_bytes(self) -> int:
        """Most that one partition may hold, in bytes of its records."""

    def progressed(self, partition: int) -> None:
        """Hear that something moved."""

    def drained(self, partition: int) -> None:
        """Hear that there is room again."""

    def quarantined(self) -> str | None:
        """Hear that a key was frozen; answer why the process has to end, when that happens too often."""


class Pace(Protocol):
    """The settings that a partition needs."""

    @property
    def checkpoint_s(self) -> float: ...  # noqa: D102 - told in EngineSettings
    @property
    def checkpoint_keys(self) -> int: ...  # noqa: D102
    @property
    def dead_letters_in_a_row(self) -> int: ...  # noqa: D102


class Partition:
    """Takes records in slices: prepare, step, outputs durable, then, in its own time, a checkpoint."""

    def __init__(
        self, stage: Stage[Any, Any], log: Log, meters: Meters, pace: Pace, *, number: int, owner: Owner
    ) -> None:
        self._stage = stage
        self._log = log
        self._meters = meters
        self._pace = pace
        self._number = number
        self._owner = owner
        self._state = State(stage)
        self._reducer = Reducer(stage, self._state, self)
        self._buffer: deque[tuple[Record, Any]] = deque()
        self._buffered_bytes = 0
        self._in_hand = 0
        self._expected = 0
        self._wake = asyncio.Event()
        self._finishing = False
        self._tasks: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._saved_s = time.monotonic()
        self._letters = InARow(pace.dead_letters_in_a_row)
        self._broken: str | None = None

    @property
    def waiting(self) -> int:
        """Records taken whose outputs are not durable yet."""
        return len(self._buffer) + self._in_hand

    async def restore(self) -> int:
        """Read the state partition to its end; return the offset to start from (E3)."""
        started_s = time.monotonic()
        await self._retry(self._read_state)
        _log.info(
            "state restored",
            stage=self._stage.name,
            partition=self._number,
            keys=len(self._state),
            position=self._state.position,
            seconds=round(time.monotonic() - started_s, 3),
        )
        self._expected = self._state.position
        return self._state.position

    async def _bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return the earliest and the next offset of each of a topic's partitions.

        Raises BrokenPromise if the topic has got ours since the log was opened: whoever counts anew would choose
        another partition for most keys, and find no states there.
        """
        bounds = await self._log.bounds(topic)
        if self._number not in bounds:
            raise BrokenPromise(
                f"{self._stage.name}: {self._stage.topic} has a partition {self._number} now, where {topic} had"
                f" {len(bounds)} in all: {self._what_to_do(len(bounds))}"
            )
        return bounds

    def _what_to_do(self, partitions: int) -> str:
        return (
            "the number of partitions of a topic can't be changed. Stop every role, bring back a copy of the log, or"
            f" delete {self._stage.topic} and {self._stage.state_topic}, make them anew with"
            f" SPINELOOP_PARTITIONS={partitions} (`spineloop topics create`) and start again without what they held"
        )

    def _check_partitions(self, was: int, now: int) -> None:
        """Raise BrokenPromise if all topics were given more partitions together, which nothing else shows."""
        if was not in {0, now}:
            raise BrokenPromise(
                f"{self._stage.name}: the states in {self._stage.state_topic} were written with {was} partitions, where"
                f" there are {now} now, and most keys would not find theirs: {self._what_to_do(now)}"
            )

    async def _read_state(self) -> None:
        topic, number = self._stage.state_topic, self._number
        bounds = await self._bounds(topic)
        first, end = bounds[number]
        if end - first > REWRITE_RECORDS:
            async for records in self._log.read(topic, number, end - 1, end):
                first = max(first, found_since(records[-1]))
        async for records in self._log.read(topic, number, first, end):
            self._state.join(records)
        self._check_partitions(self._state.partitions, len(bounds))
        self._state.partitions, self._state.end = len(bounds), end

    async def check_log(self) -> None:
        """Raise BrokenPromise if the states are not of this log.

        What it says from now on would pass for old, or belong to states that another partition has.
        """
        if not await self._retry(self._log_goes_on):
            raise self._another_log(self._state.position)
        if self._state.end == 0:
            await self._retry(self._ask_another)

    async def _ask_another(self) -> None:
        """Have the first partition that has states tell how many there were, as one that was added has none itself."""
        topic = self._stage.state_topic
        bounds = await self._bounds(topic)
        asked = next((number for number, (first, end) in sorted(bounds.items()) if first < end), None)
        if asked is None:
            return
        _, end = bounds[asked]
        async for records in self._log.read(topic, asked, end - 1, end):
            self._check_partitions(written_with(records[-1]), len(bounds))

    def _another_log(self, known: int) -> BrokenPromise:
        name, state_topic = self._stage.name, self._stage.state_topic
        return BrokenPromise(
            f"{name}: its states know {self._stage.topic}/{self._number} up to {known}, where it has"
            f" ended before or has another record: it was made anew, or has lost its end. Stop {name} everywhere,"
            f" delete the topic {state_topic}, make it anew and start again: then states come from what the log has"
        )

    async def _log_goes_on(self) -> bool:
        topic, number, position = self._stage.topic, self._number, self._state.position
        first, end = (await self._bounds(topic))[number]
        if position > end or self._state.last_ms is None or position <= first:  # too old to be there any more
            return position <= end
        last = [record async for some in self._log.read(topic, number, position - 1, position) for record in some]
        return all(record.timestamp_ms == self._state.last_ms for record in last)  # erasing changes all but the time

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to work on what is offered; what goes wrong, here or in a checkpoint, ends the group."""
        self._tasks = tasks
        self._task = tasks.create_task(self._run(), name=f"{self._stage.name}-{self._number}")

    def offer(self, records: Sequence[Record], items: Sequence[Any] | None = None) -> bool:
        """Take records, prepared or not; True when the buffer is full and no more should come.

        Raises BrokenPromise if they go back behind what was taken: a log that was made anew, or has lost its end, is
        read from its beginning, and all that is new in it would pass for done.
        """
        if records[0].offset < self._expected:
            raise self._another_log(self._expected)
        self._expected = records[-1].offset + 1
        self._buffer.extend(zip(records, repeat(UNPREPARED) if items is None else items, strict=items is not None))
        self._buffered_bytes += sum(map(size, records))
        self._wake.set()
        return self._fill() >= 1.0

    def _fill(self) -> float:
        """Tell how full the buffer is: 1 when it has reached one of its bounds (E6)."""
        return max(len(self._buffer) / BUFFER_RECORDS, self._buffered_bytes / self._owner.share_bytes)

    async def finish(self) -> None:
        """Finish the slice in hand, drop the rest (it was not covered by a checkpoint), checkpoint, stop."""
        self._finishing = True
        self._buffer.clear()
        self._buffered_bytes = 0
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=FINISH_S)
            for task in (self._task, self._saving):
                if task is not None:
                    task.cancel()  # a log that is away keeps it waiting: what it didn't write, the next owner computes

    async def _run(self) -> None:
        while not self._finishing:
            if self._buffer:
                await self._take(self._slice())
                if self._fill() < 0.5:  # noqa: PLR2004 - half of it
                    self._owner.drained(self._number)
                await asyncio.sleep(0)  # let the other partitions have their turn
            else:
                await self._rest()
            if self._broken is not None:
                break
            if self._checkpoint_is_due():
                self._begin_checkpoint()
        await self._settle()
        if self._broken is not None:  # last, when what was done is durable: a restart must get further (E7)
            raise BrokenPromise(self._broken)

    async def _rest(self) -> None:
        """Wait for records, or until a checkpoint is due."""
        self._owner.drained(self._number)
        self._wake.clear()
        may_save = self._state.is_dirty and (self._saving is None or self._saving.done())
        due_s = self._saved_s + self._pace.checkpoint_s - time.monotonic() if may_save else None
        try:
            await asyncio.wait_for(self._wake.wait(), None if due_s is None else max(due_s, 0.0))
        except TimeoutError:
            return

    def _slice(self) -> Sequence[tuple[Record, Any]]:
        taken: list[tuple[Record, Any]] = []
        taken_bytes = 0
        while self._buffer and len(taken) < SLICE_RECORDS and taken_bytes < SLICE_BYTES:
            taken.append(self._buffer.popleft())
            taken_bytes += size(taken[-1][0])
        self._buffered_bytes -= taken_bytes
        return taken

    async def _take(self, taken: Sequence[tuple[Record, Any]]) -> None:
        self._in_hand = len(taken)
        records, items = zip(*taken, strict=True)
        outputs = [
            output
            for _, caused in self._reducer.take(records, None if any(item is UNPREPARED for item in items) else items)
            for output in caused
        ]
        if outputs:
            await self._retry(
                lambda: self._log.append(outputs)
            )  # E1: durable before the position may cover what caused them
        self._in_hand = 0
        self._state.reach(records[-1].offset + 1, records[-1].timestamp_ms)
        self._owner.progressed(self._number)
        self._meters.count("spineloop_records_total", len(records), stage=self._stage.name)
        self._meters.count("spineloop_outputs_total", len(outputs), stage=self._stage.name)

    def stepped(self) -> None:
        """Hear that a record was reduced: not all of them are bad."""
        self._letters.good()

    def froze(self, record: Record, trace: Trace) -> None:
        """Hear that a key was frozen; too many of them stop the process, once this slice is durable (E7)."""
        # its place and not the key, which may be a patient's, nor what the exception says, which may quote one:
        # `spineloop dead-letters` shows both to those who may know
        _log.error(
            "key quarantined",
            stage=self._stage.name,
            partition=record.partition,
            offset=record.offset,
            defect=trace.places,
        )
        self._meters.count("spineloop_quarantined_total", stage=self._stage.name)
        self._broken = self._owner.quarantined() or self._broken

    def put_aside(self, record: Record, reason: str) -> None:
        """Hear of a dead letter; too many in a row stop the process, once this slice is durable (E7)."""
        self._meters.count("spineloop_dead_letters_total", stage=self._stage.name, reason=reason)
        self._letters.bad(record.key, reason)
        if self._letters.are_too_many:
            self._broken = f"{self._stage.name}: {self._letters.total} dead letters in a row"

    def _checkpoint_is_due(self) -> bool:
        if not self._state.is_dirty or (self._saving is not None and not self._saving.done()):
            return False
        waited_s = time.monotonic() - self._saved_s
        return waited_s >= self._pace.checkpoint_s or self._state.dirty_keys >= self._pace.checkpoint_keys

    def _begin_checkpoint(self) -> None:
        """Write a checkpoint beside the work, so that no command waits for it; at most one is under way.

        What it holds is taken here, between two slices. A task of its own begins later, when the next slice may have
        changed states and its outputs are not durable yet: then a kill would lose them (E1).
        """
        if self._tasks is not None:
            self._saving = self._tasks.create_task(self._checkpoint(self._state.position, self._state.snapshot()))
            self._saving.add_done_callback(lambda _: self._wake.set())  # the next one may be due

    async def _settle(self) -> None:
        """Write what the last checkpoint does not cover."""
        if self._saving is not None:
            await self._saving
        if self._state.is_dirty:
            await self._checkpoint(self._state.position, self._state.snapshot())

    async def _checkpoint(self, position: int, batches: Sequence[Entries]) -> None:
        started_s, reached_ms = time.monotonic(), self._state.reached_ms
        self._saved_s = started_s
        for entries in batches:
            base = await self._retry(
                lambda entries=entries: self._log.checkpoint(  # type: ignore[misc]  # bound now, used now
                    self._stage.state_topic, self._number, entries, reached_ms
                )
            )
            await self._mend(base)
            self._state.wrote(base, entries)
        self._meters.count("spineloop_checkpoints_total", stage=self._stage.name)
        self._meters.observe("spineloop_checkpoint_seconds", time.monotonic() - started_s, stage=self._stage.name)
        self._owner.reached(self._number, position)

    async def _mend(self, base: int) -> None:
        """Have every key written again that somebody else wrote since our last checkpoint (E3).

        Only a worker that was replaced while it slept does that. What it wrote is true but old; readers join states by
        position, so it does no harm until compaction forgets our newer record. Writing ours again, after it, forestalls
        that.

        A place before the one we expected says that the topic has lost its end: a broker whose power failed had not
        written it to its disk. What lay there nobody but us has any more.
        """
        if base == self._state.end:
            return
        if base < self._state.end:
            _log.error(
                "state topic has lost its end",
                stage=self._stage.name,
                partition=self._number,
                end=base,
                was=self._state.end,
            )
            self._state.lost(base)
            return
        self._meters.count("spineloop_late_checkpoints_total", stage=self._stage.name)
        _log.warning("late checkpoint of a replaced worker", stage=self._stage.name, partition=self._number)
        self._state.met(self._state.end, await self._retry(lambda: self._keys_between(self._state.end, base)))

    async def _keys_between(self, start: int, end: int) -> Sequence[bytes]:
        """Return whose states somebody else wrote."""
        foreign = self._log.read(self._stage.state_topic, self._number, start, end)
        return [record.key async for records in foreign for record in records]

    async def _retry(self, write: Callable[[], Awaitable[T]]) -> T:
        """Try until the log takes it; it is the watchdog that ends this, or the drain's deadline, not a count."""
        while True:
            try:
                return await write()
            except Busy as busy:
                self._meters.count("spineloop_busy_total", component="log")
                _log.warning("log is busy", stage=self._stage.name, reason=str(busy))
                await asyncio.sleep(BUSY_PAUSE_S)
