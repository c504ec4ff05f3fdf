"""Delivery: the effect first, then the position, whatever is refused or killed in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptors import delivery as deliveries
from adaptors.delivery import Delivery, Effect, Pace, retry_s
from streams.core.errors import BrokenPromise, Busy
from streams.core.records import Record

TOPIC, GROUP = "topic", "group"
PACE = Pace(max_records=10, linger_s=0.0, first_retry_s=0.001, longest_retry_s=0.002)


class CountingMeters:
    """Keeps the sums, and of the refusals whose they were."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.sums[name] += int(amount)
        if name == "spineloop_busy_total":
            self.refused[labels["component"]] += int(amount)
        else:
            assert set(labels.values()) == {GROUP}

    def set(self, name: str, value: float, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...


class HandLog:
    """Partitions of records and one group's positions, in memory, with a number of refusals for each kind of call."""

    def __init__(self, *sizes: int) -> None:
        self.partitions = {p: [record(p, offset) for offset in range(size)] for p, size in enumerate(sizes)}
        self.positions: dict[int, int] = {}
        self.busy: Counter[str] = Counter()
        self.members = self.records_skipped = self.empty_polls = 0
        self._next: dict[int, int] = {}

    def refuse(self, call: str) -> None:
        if self.busy[call] > 0:
            self.busy[call] -= 1
            raise Busy(call)

    @asynccontextmanager
    async def subscribe(self, topic: str, group: str) -> AsyncIterator["HandLog"]:
        assert (topic, group) == (TOPIC, GROUP)
        self.refuse("subscribe")
        self._next = dict(self.positions)
        self.members += 1
        try:
            yield self
        finally:
            self.members -= 1

    async def poll(self, max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
        self.refuse("poll")
        for partition, records in self.partitions.items():
            start = self._next.get(partition, 0)
            if taken := records[start : start + max_records]:
                self._next[partition] = start + len(taken)
                return {partition: taken}
        await asyncio.sleep(min(timeout_s, 0.001))
        self.empty_polls += 1
        return {}

    async def commit(self, positions: Mapping[int, int]) -> None:
        self.refuse("commit")
        self.positions |= positions

    async def lag(self) -> Mapping[int, int]:
        return {p: len(records) - self._next.get(p, 0) for p, records in self.partitions.items()}

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        assert topic == TOPIC
        self.refuse("bounds")
        return {p: (0, len(records)) for p, records in self.partitions.items()}

    @property
    def is_done(self) -> bool:
        return all(self.positions.get(p, 0) == len(records) for p, records in self.partitions.items())


class Ledger:
    """An effect that writes down what it got, and the positions at that moment; it can refuse, or fail."""

    def __init__(self, log: HandLog, busy: int = 0, defect: Exception | None = None) -> None:
        self.batches: list[Sequence[Record]] = []
        self.refused: list[Sequence[Record]] = []
        self.positions: list[Mapping[int, int]] = []
        self.busy = busy
        self._log = log
        self._defect = defect

    async def __call__(self, records: Sequence[Record]) -> None:
        if self._defect is not None:
            raise self._defect
        if self.busy:
            self.busy -= 1
            self.refused.append(records)
            raise Busy("the sink is down")
        self.positions.append(dict(self._log.positions))
        self.batches.append(records)

    @property
    def offsets(self) -> dict[int, list[int]]:
        seen: dict[int, list[int]] = {}
        for one in (one for batch in self.batches for one in batch):
            seen.setdefault(one.partition, []).append(one.offset)
        return seen


def record(partition: int, offset: int) -> Record:
    return Record(TOPIC, partition, offset, b"key", b"value", 0)


def delivery(log: HandLog, effect: Effect, meters: CountingMeters | None = None, pace: Pace = PACE) -> Delivery:
    return Delivery(log, TOPIC, GROUP, effect, pace=pace, dice=lambda: 0.5, meters=meters or CountingMeters())


@asynccontextmanager
async def running(one: Delivery) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with asyncio.timeout(120.0), asyncio.TaskGroup() as tasks:
        tasks.create_task(one.run(stop))
        yield stop
        stop.set()


async def until_done(log: HandLog) -> None:
    while not log.is_done:
        await asyncio.sleep(0.001)


async def test_every_record_has_its_effect_once_in_order_before_its_position_moves() -> None:
    log = HandLog(25, 3)
    ledger = Ledger(log)
    async with running(one := delivery(log, ledger)):
        await until_done(log)
    assert ledger.offsets == {0: list(range(25)), 1: list(range(3))}
    for batch, positions in zip(ledger.batches, ledger.positions, strict=True):
        assert all(positions.get(one.partition, 0) <= one.offset for one in batch)
    assert (one.positions, one.progress()) == (log.positions, 28) == ({0: 25, 1: 3}, 28)


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3), limit=st.integers(1, 50))
async def test_no_batch_is_larger_than_its_limit_and_nothing_is_left_out(sizes: list[int], limit: int) -> None:
    log = HandLog(*sizes)
    ledger = Ledger(log)
    async with running(delivery(log, ledger, pace=Pace(max_records=limit, linger_s=0.0))):
        await until_done(log)
    assert max(map(len, ledger.batches), default=0) <= limit
    assert ledger.offsets == {p: list(range(size)) for p, size in enumerate(sizes) if size}


async def test_what_ends_a_delivery_after_a_batch_is_asked_when_its_positions_have_moved() -> None:
    log = HandLog(5)
    ledger = Ledger(log)

    def check() -> None:
        if ledger.batches:
            raise BrokenPromise("too many")

    one = Delivery(log, TOPIC, GROUP, ledger, pace=PACE, dice=lambda: 0.0, meters=CountingMeters(), check=check)
    with pytest.raises(BrokenPromise):
        await one.run(asyncio.Event())
    assert (ledger.offsets, log.positions) == ({0: list(range(5))}, {0: 5})


async def test_a_batch_waits_for_more_records_until_it_is_full() -> None:
    log = HandLog(4, 4, 4)  # each poll hands out one partition
    ledger = Ledger(log)
    async with running(delivery(log, ledger, pace=Pace(max_records=12, linger_s=60.0))):
        await until_done(log)
    assert [len(batch) for batch in ledger.batches] == [12]


async def test_a_batch_that_waited_long_enough_goes_though_it_is_not_full() -> None:
    log = HandLog(4)
    ledger = Ledger(log)
    async with running(delivery(log, ledger, pace=Pace(max_records=12, linger_s=0.01))):
        await until_done(log)
    assert [len(batch) for batch in ledger.batches] == [4]


async def test_while_the_effect_is_refused_the_same_batch_comes_again_and_the_position_stays() -> None:
    log, meters = HandLog(25), CountingMeters()
    ledger = Ledger(log, busy=7)
    async with running(delivery(log, ledger, meters)):
        await until_done(log)
    assert ledger.refused == [ledger.batches[0]] * 7
    assert ledger.positions[0] == {}
    assert ledger.offsets == {0: list(range(25))}
    assert meters.sums == {"spineloop_busy_total": 7, "spineloop_records_total": 25}
    assert meters.refused == {GROUP: 7}


@pytest.mark.parametrize("call", ["subscribe", "poll", "commit"])
async def test_a_log_that_refuses_for_a_while_delays_and_loses_nothing(call: str) -> None:
    log, meters = HandLog(25), CountingMeters()
    log.busy[call] = 5
    ledger = Ledger(log)
    async with running(delivery(log, ledger, meters)):
        await until_done(log)
    assert (log.busy[call], ledger.offsets) == (0, {0: list(range(25))})
    assert meters.refused == {"log": 5}  # and not the group, whose effect has a server of its own


async def test_stop_finishes_the_batch_in_hand_and_leaves_the_group() -> None:
    log = HandLog(5)
    ledger = Ledger(log)
    async with running(one := delivery(log, ledger, pace=Pace(max_records=10, linger_s=60.0))) as stop:
        while not await in_hand(one, log):
            await asyncio.sleep(0.001)
        stop.set()
    assert (ledger.offsets, log.positions, log.members) == ({0: list(range(5))}, {0: 5}, 0)


async def in_hand(one: Delivery, log: HandLog) -> bool:
    return await one.lag() > 0 == sum((await log.lag()).values())


async def test_stop_during_an_outage_ends_at_once_and_leaves_the_position() -> None:
    log = HandLog(5)
    ledger = Ledger(log, busy=1_000_000)
    async with running(delivery(log, ledger, pace=Pace(linger_s=0.0, first_retry_s=3_600.0, longest_retry_s=3_600.0))):
        while not ledger.refused:
            await asyncio.sleep(0.001)
    assert (ledger.batches, log.positions, log.members) == ([], {}, 0)


async def test_a_cancelled_delivery_leaves_the_position_and_the_next_one_repeats_the_batch() -> None:
    log = HandLog(5)
    reached, never = asyncio.Event(), asyncio.Event()

    async def hang(_: Sequence[Record]) -> None:
        reached.set()
        await never.wait()

    task = asyncio.create_task(delivery(log, hang).run(asyncio.Event()))
    await asyncio.wait_for(reached.wait(), 120.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (log.positions, log.members) == ({}, 0)
    ledger = Ledger(log)
    async with running(delivery(log, ledger)):
        await until_done(log)
    assert ledger.offsets == {0: list(range(5))}


async def test_a_defect_in_the_effect_ends_the_delivery_before_the_position_moves() -> None:
    log = HandLog(5)
    with pytest.raises(BrokenPromise):
        await delivery(log, Ledger(log, defect=BrokenPromise("ours"))).run(asyncio.Event())
    assert (log.positions, log.members) == ({}, 0)


async def test_what_the_log_had_no_more_when_it_was_to_be_read_is_counted_once() -> None:
    log, meters = HandLog(3), CountingMeters()
    log.records_skipped = 7
    async with running(delivery(log, Ledger(log), meters)):
        await until_done(log)
        several = log.empty_polls + 3
        while log.empty_polls < several:
            await asyncio.sleep(0.001)
    assert (meters.sums["spineloop_records_skipped_total"], meters.sums["spineloop_records_total"]) == (7, 3)


async def test_the_lag_counts_what_is_in_hand_too() -> None:
    log = HandLog(25)
    ledger = Ledger(log, busy=1_000_000)
    one = delivery(log, ledger)
    assert await one.lag() == 0
    async with running(one):
        while not ledger.refused:
            await asyncio.sleep(0.001)
        assert await one.lag() == 25
        ledger.busy = 0
        await until_done(log)
        assert (await one.lag(), one.progress()) == (0, 25 + len(ledger.refused))  # a refusal is a sign of life


@pytest.mark.parametrize("call", ["poll", "commit"])
async def test_what_the_subscription_refuses_is_a_sign_of_life_only_while_the_log_is_away(call: str) -> None:
    log, meters = HandLog(25), CountingMeters()
    log.busy[call] = 1_000_000
    async with running(one := delivery(log, Ledger(log), meters)):
        while meters.sums["spineloop_busy_total"] < 3:
            await asyncio.sleep(0.001)
        await one.lag()
        assert one.progress() == 0
        log.busy["bounds"] = 1
        with pytest.raises(Busy, match="the log is away"):
            await one.lag()
        assert one.progress() == 1


async def test_a_log_that_gives_no_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "ANSWER_S", 0.01)
    log = HandLog(0)

    async def silent(_: str) -> Mapping[int, tuple[int, int]]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(log, "bounds", silent)
    async with running(one := delivery(log, Ledger(log))):
        while not log.members:
            await asyncio.sleep(0.001)
        with pytest.raises(Busy, match="the log is away"):
            await one.lag()
    assert one.progress() == 1


@given(attempt=st.integers(0, 10_000), dice=st.floats(0, 1, exclude_max=True))
def test_a_retry_waits_between_half_and_all_of_a_bounded_time_that_doubles(attempt: int, dice: float) -> None:
    pace = Pace(first_retry_s=0.1, longest_retry_s=10.0)
    longest_s = min(10.0, 0.1 * 2 ** min(attempt, 10))
    assert longest_s / 2 <= retry_s(pace, attempt, dice) <= longest_s


async def test_a_batch_that_hangs_when_it_is_told_to_stop_is_left_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "FINISH_S", 0.05)
    log, stop, begun = HandLog(3), asyncio.Event(), asyncio.Event()

    async def hangs(_: Sequence[Record]) -> None:
        begun.set()
        await asyncio.Event().wait()

    one = Delivery(log, TOPIC, GROUP, hangs, pace=PACE, dice=lambda: 0.0, meters=CountingMeters())
    running = asyncio.create_task(one.run(stop))
    await begun.wait()
    stop.set()
    async with asyncio.timeout(120.0):
        await running
    assert (log.positions, log.members) == ({}, 0)
