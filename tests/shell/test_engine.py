"""The engine's promises E1 to E8 (docs/architecture.md), on the SQLite log; tests/e2e proves E2 and E3 on Kafka too."""

import asyncio
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from adaptors.sqlite_file import partition_of
from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from streams import checkpoint, partition, reducer
from streams import engine as engine_module
from streams.checkpoint import State, written_with
from streams.core.dead_letters import PREFIX
from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import MeterName
from streams.core.records import NewRecord, Record, header
from streams.core.topics import CONTROLLER_STATE, DEAD_LETTER, METRIC, STATE_MAX_BATCH_BYTES, TELEMETRY
from streams.engine import QUARANTINES, Engine, EngineSettings
from tests.shell.counts import Counts
from tests.shell.tally import Tally, told
from tests.shell.tally import said as said_of

PARTITIONS = 2
MORE = 4  # once somebody has given every topic more
QUICK = EngineSettings(checkpoint_s=0.01)

ONE_KEY_BYTES = 100
"""Room for the state of one key in a checkpoint, so that there are as many batches as keys, and one of the position."""


T = TypeVar("T")


class Killed(Exception):
    """What a kill -9 looks like from inside."""


class Brittle:
    """A SQLite log that notes each write, and can be made to refuse or to kill the process at one of them."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.writes: list[str] = []
        self.kill_before: int | None = None
        self.kill_after: int | None = None
        self.busy = 0
        self.subscribe = log.subscribe
        self.read = log.read
        self.is_away = False
        self.refusals = 0

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        if self.is_away:
            self.refusals += 1
            raise Busy("away")
        return await self._log.bounds(topic)

    async def append(self, records: Sequence[NewRecord]) -> None:
        await self._write("outputs", lambda: self._log.append(records))

    async def append_all_the_same(self, records: Sequence[NewRecord]) -> None:
        await self._log.append(records)

    async def checkpoint(
        self, topic: str, number: int, entries: Sequence[tuple[bytes, bytes | None]], timestamp_ms: int
    ) -> int:
        return await self._write("checkpoint", lambda: self._log.checkpoint(topic, number, entries, timestamp_ms))

    async def offset_at(self, topic: str, number: int, time_ms: int) -> int:
        return await self._log.offset_at(topic, number, time_ms)

    async def _write(self, what: str, write: Callable[[], Awaitable[T]]) -> T:
        if self.busy > 0 or self.is_away:
            self.busy -= 1
            raise Busy("not now")
        if len(self.writes) == self.kill_before:
            raise Killed
        done = await write()
        self.writes.append(what)
        if len(self.writes) == self.kill_after:
            raise Killed
        return done


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Brittle]:
    async with open_sqlite_log(folder / "log.db", PARTITIONS) as log:
        yield Brittle(log)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Brittle]:
    async with opened(tmp_path) as one:
        yield one


async def everything(log: Brittle, topic: str) -> list[Record]:
    return [record for number in range(PARTITIONS) async for records in log.read(topic, number) for record in records]


async def run_until_done(log: Brittle, stage: Tally | None = None, counts: Counts | None = None) -> None:
    """Run an engine until a checkpoint covers the whole input, then stop it as SIGTERM would."""
    stop = asyncio.Event()
    engine = Engine(stage or Tally(), log, counts or Counts(), QUICK)
    running = asyncio.create_task(engine.run(stop))
    while not running.done() and not await is_covered(log):
        await asyncio.wait({running}, timeout=0.01)
    stop.set()
    await running


async def is_covered(log: Brittle) -> bool:
    for number, (_, end) in (await log.bounds(TELEMETRY)).items():
        state = State(Tally())
        async for records in log.read(CONTROLLER_STATE, number):
            state.join(records)
        if state.position < end:
            return False
    return True


async def states(log: Brittle) -> dict[bytes, tuple[int, bytes | None, str | None]]:
    kept: dict[bytes, tuple[int, bytes | None, str | None]] = {}
    for number in range(PARTITIONS):
        state = State(Tally())
        async for records in log.read(CONTROLLER_STATE, number):
            state.join(records)
        kept |= {key: (live.position, live.saved, live.quarantine) for key, live in state._keys.items()}  # noqa: SLF001
    return kept


def is_killed(group: BaseExceptionGroup[BaseException]) -> bool:
    return group.subgroup(Killed) is not None


INPUT = [told(f"m{n % 3}", f"r{n}") for n in range(30)]


async def test_e1_outputs_are_durable_before_the_checkpoint_that_covers_their_input(log: Brittle) -> None:
    await log.append(INPUT)
    log.writes.clear()
    await run_until_done(log)
    assert log.writes[0] == "outputs"
    said = await everything(log, METRIC)
    assert {header(record, "ce_id") for record in said} == {f"r{n}" for n in range(30)}


class Checkpoints(Counts):
    """Hears when a checkpoint is written, all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_one = asyncio.Event()

    def count(self, name: MeterName, amount: float = 1.0, **labels: str) -> None:
        super().count(name, amount, **labels)
        if name == "spineloop_checkpoints_total":
            self.has_one.set()


class KilledInTheSecondSlice(Brittle):
    """A log that takes its time over the second outputs: a checkpoint is durable by then, and the process is killed."""

    def __init__(self, log: SqliteLog, has_checkpoint: asyncio.Event) -> None:
        super().__init__(log)
        self._has_checkpoint = has_checkpoint

    async def append(self, records: Sequence[NewRecord]) -> None:
        if self.writes:
            await self._has_checkpoint.wait()
            raise Killed
        await super().append(records)


async def test_e1_a_checkpoint_that_is_written_beside_the_next_slice_holds_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "SLICE_RECORDS", 5)
    monkeypatch.setitem(globals(), "QUICK", EngineSettings(checkpoint_s=0.0))
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as log:
        await log.append([told("m0", f"r{n}") for n in range(30)])
        counts = Checkpoints()
        with pytest.raises(ExceptionGroup) as killed:
            await run_until_done(KilledInTheSecondSlice(log, counts.has_one), counts=counts)
        assert killed.group_contains(Killed)
        await run_until_done(Brittle(log))
        said = await everything(Brittle(log), METRIC)
        assert {header(record, "ce_id") for record in said} == {f"r{n}" for n in range(30)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=4),
    room=st.sampled_from([STATE_MAX_BATCH_BYTES, ONE_KEY_BYTES]),
)
@example(kills=[(False, at) for at in (2, 3, 4, 5)], room=ONE_KEY_BYTES)
@example(kills=[(True, 1)], room=STATE_MAX_BATCH_BYTES)
@example(kills=[(True, 2)], room=STATE_MAX_BATCH_BYTES)
@example(kills=[(True, 3)], room=STATE_MAX_BATCH_BYTES)
@example(kills=[(True, 4)], room=STATE_MAX_BATCH_BYTES)
def test_e2_e3_e5_killed_before_or_after_any_write_nothing_is_lost_and_no_effect_differs(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[bool, int]], room: int
) -> None:
    async def story() -> None:
        folder = tmp_path_factory.mktemp("log")
        async with opened(folder) as log:
            await log.append(INPUT)
            for before, at in kills:
                log.writes.clear()
                log.kill_before, log.kill_after = (at, None) if before else (None, at + 1)
                try:
                    await run_until_done(log)
                except* Killed:
                    pass
            log.kill_before = log.kill_after = None
            await run_until_done(log)
            said = await everything(log, METRIC)
            values = {(header(record, "ce_id"), record.value) for record in said}
            assert len(values) == len(INPUT)  # every input once; what was said twice was said in the same bytes
            assert {key: state for key, (_, state, _) in (await states(log)).items()} == dict.fromkeys(
                (b"m0", b"m1", b"m2"), b"10"
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "STATE_MAX_BATCH_BYTES", room)
        asyncio.run(story())


async def test_e3_a_late_checkpoint_of_a_replaced_worker_sets_nothing_back_and_is_mended(log: Brittle) -> None:
    number, old = await a_sleeper(log)
    stop, counts = asyncio.Event(), Counts()
    running = asyncio.create_task(Engine(Tally(), log, counts, QUICK).run(stop))
    await log.append([told(key, f"more-{key}") for key in ("m0", "m1", "m2")])
    await until(lambda: is_covered(log))
    before = await states(log)
    await log.checkpoint(CONTROLLER_STATE, number, old, 0)  # the sleeper wakes and writes what it held
    assert await states(log) == before
    await log.append([told(key, f"yet-more-{key}") for key in ("m0", "m1", "m2")])
    await until(lambda: is_mended(log, number))
    stop.set()
    await running
    newest = {record.key: record.value for record in await everything(log, CONTROLLER_STATE)}  # as compaction keeps it
    kept = await states(log)
    assert all(newest[key] is not None and kept[key][1] == b"12" for key in (b"m0", b"m1", b"m2"))
    assert counts.totals["spineloop_late_checkpoints_total"] >= 1


class AwayWhenAsked(Brittle):
    """A log that can't read back what somebody else wrote, so many times."""

    def __init__(self, log: SqliteLog) -> None:
        super().__init__(log)
        self.refused_reads = 0
        self.read = self._read  # type: ignore[assignment]

    async def _read(
        self, topic: str, number: int, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        if topic == CONTROLLER_STATE and self.refused_reads > 0 and start:
            self.refused_reads -= 1
            raise Busy("no leader yet")
        async for records in self._log.read(topic, number, start, end):
            yield records


async def test_e1_the_offsets_of_the_group_follow_the_checkpoints_and_are_there_when_it_has_ended(
    tmp_path: Path,
) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as log:
        await log.append(INPUT)
        await run_until_done(Brittle(log))
        ends = {number: end for number, (_, end) in (await log.bounds(TELEMETRY)).items() if end}
        assert await log.committed(TELEMETRY, Tally.name) == ends


class RefusesTheFirst:
    """A member of a group whose first commit is refused."""

    def __init__(self) -> None:
        self.tries = 0
        self.committed: dict[int, int] = {}

    async def commit(self, positions: Mapping[int, int]) -> None:
        self.tries += 1
        if self.tries == 1:
            raise Busy("not now")
        self.committed |= positions


async def test_e1_an_offset_whose_commit_was_refused_follows_with_the_next_one_and_is_committed_once(
    tmp_path: Path,
) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as log:
        engine, member = Engine(Tally(), log, Counts(), QUICK), RefusesTheFirst()
        engine.reached(0, 100)
        await engine.commit(member)
        engine.reached(1, 200)
        await engine.commit(member)
        assert member.committed == {0: 100, 1: 200}
        member.committed.clear()
        await engine.commit(member)
        assert member.committed == {}


async def test_e3_what_a_stranger_wrote_is_read_as_soon_as_the_log_lets_us(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as opened_log:
        log = AwayWhenAsked(opened_log)
        number, old = await a_sleeper(log)
        stop, counts = asyncio.Event(), Counts()
        running = asyncio.create_task(Engine(Tally(), log, counts, QUICK).run(stop))
        await log.append([told(key, f"more-{key}") for key in ("m0", "m1", "m2")])
        await until(lambda: is_covered(log))
        await log.checkpoint(CONTROLLER_STATE, number, old, 0)
        log.refused_reads = 2
        await log.append([told(key, f"yet-more-{key}") for key in ("m0", "m1", "m2")])
        await until(lambda: is_mended(log, number))
        stop.set()
        await running
        assert (log.refused_reads, counts.totals["spineloop_late_checkpoints_total"]) == (0, 1)


async def test_e3_what_a_state_topic_has_lost_of_its_end_is_written_again(tmp_path: Path) -> None:
    first, second = of_one_partition(2)
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        log, stop = Brittle(real), asyncio.Event()
        running = asyncio.create_task(Engine(Tally(), log, Counts(), QUICK).run(stop))
        await log.append([told(first, "r0"), told(first, "r1")])
        await until(lambda: is_covered(log))
        lose_states(tmp_path / "log.db")
        await log.append([told(second, "s0")])
        await until(lambda: is_covered(log))
        stop.set()
        await running
        kept = {key: state for key, (_, state, _) in (await states(log)).items()}
        assert kept == {first.encode(): b"2", second.encode(): b"1"}


def lose_states(file: Path) -> None:
    """Empty the state topic behind everybody's back, as a broker does that has lost what was not on its disk yet."""
    with closing(sqlite3.connect(file)) as connection, connection:
        ours = "(SELECT id FROM partition WHERE topic = ?)"
        connection.execute(f"DELETE FROM batch WHERE partition_id IN {ours}", (CONTROLLER_STATE,))  # noqa: S608
        connection.execute("UPDATE partition SET next_offset = 0 WHERE topic = ?", (CONTROLLER_STATE,))


async def test_while_a_checkpoint_takes_long_a_partition_that_has_nothing_to_do_does_nothing(log: Brittle) -> None:
    owner, held = Idle(), asyncio.Event()
    write = log.checkpoint

    async def slow(*told_: Any) -> int:
        await held.wait()
        return await write(*told_)

    log.checkpoint = slow  # type: ignore[method-assign, assignment]
    one = partition.Partition(Tally(), log, Counts(), QUICK, number=0, owner=owner)
    await one.restore()
    async with asyncio.TaskGroup() as tasks:
        one.start(tasks)
        first, second = (Record(TELEMETRY, 0, n, b"m0", b"r", 5) for n in range(2))
        one.offer([first])
        while one._saving is None:  # noqa: SLF001
            await asyncio.sleep(0)
        one.offer([second])
        await until(lambda: said(owner.moved == 2))
        before = owner.turns
        await asyncio.sleep(10 * QUICK.checkpoint_s)
        assert owner.turns - before <= 1
        held.set()
        await until(lambda: said(owner.at == 2))  # and what came meanwhile has its checkpoint at once
        await one.finish()


async def said(what: bool) -> bool:
    return what


class Idle:
    """Counts what a partition tells its engine."""

    def __init__(self) -> None:
        self.turns = self.moved = self.at = 0

    def reached(self, partition: int, position: int) -> None:  # noqa: ARG002
        self.at = position

    share_bytes = 1_000_000

    def progressed(self, partition: int) -> None:  # noqa: ARG002
        self.moved += 1

    def drained(self, partition: int) -> None:  # noqa: ARG002
        self.turns += 1

    def quarantined(self) -> None: ...


async def a_sleeper(log: Brittle) -> tuple[int, list[tuple[bytes, bytes | None]]]:
    """Let a worker do its work; return a partition of its and what it held there first, as if it had slept since."""
    await log.append(INPUT)
    await run_until_done(log)
    number = 0 if await keys_of(log, 0) else 1
    return number, [(r.key, r.value) for r in await first_checkpoint(log, number)]


async def keys_of(log: Brittle, number: int) -> set[bytes]:
    return {record.key async for records in log.read(TELEMETRY, number) for record in records}


async def first_checkpoint(log: Brittle, number: int) -> list[Record]:
    """Return the oldest state records of a partition, as a worker that slept since then would hold them."""
    found: list[Record] = []
    async for records in log.read(CONTROLLER_STATE, number):
        found += records
    return found


async def is_mended(log: Brittle, number: int) -> bool:
    """Tell whether the last record of each key is its newest, so that compaction can't forget it."""
    state, last = State(Tally()), State(Tally())
    records = [record async for some in log.read(CONTROLLER_STATE, number) for record in some]
    state.join(records)
    last.join({record.key: record for record in records}.values())
    return (
        last.position == state.position
        and await is_covered(log)
        and all(
            last._keys[key].position == live.position  # noqa: SLF001
            for key, live in state._keys.items()  # noqa: SLF001
        )
    )


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while not await holds():
            await asyncio.sleep(0.01)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 29), max_size=5, unique=True))
def test_e4_no_batch_boundary_shows_in_the_outputs(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    async def outputs(cuts: Sequence[int]) -> dict[str | None, bytes | None]:
        async with opened(tmp_path_factory.mktemp("log")) as log:
            for start, end in zip([0, *cuts], [*cuts, len(INPUT)], strict=True):
                await log.append(INPUT[start:end])
                await run_until_done(log)
            return {header(record, "ce_id"): record.value for record in await everything(log, METRIC)}

    assert asyncio.run(outputs(sorted(cuts))) == asyncio.run(outputs([]))


class Together(Tally):
    """A stage that notes of which partitions each of its batches is."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[set[int]] = []

    def prepare(self, records: Sequence[Record]) -> Sequence[Any]:
        self.batches.append({record.partition for record in records})
        return super().prepare(records)


async def test_what_comes_in_one_small_poll_is_prepared_together_whatever_its_partition(log: Brittle) -> None:
    await log.append([told(f"m{n}", f"r{n}") for n in range(30)])
    stage = Together()
    await run_until_done(log, stage)
    assert stage.batches == [set(range(PARTITIONS))]
    assert {header(record, "ce_id") for record in await everything(log, METRIC)} == {f"r{n}" for n in range(30)}


async def test_e6_a_slow_partition_is_paused_and_memory_is_bounded(
    log: Brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "BUFFER_RECORDS", 50)
    monkeypatch.setattr(partition, "SLICE_RECORDS", 10)
    monkeypatch.setattr("streams.engine.MAX_POLL_RECORDS", 20)
    await log.append([told("m0", f"r{n}") for n in range(1_000)])
    log.busy = 20  # the outputs can't be written for a while: everything backs up
    stop = asyncio.Event()
    engine = Engine(Tally(), log, Counts(), QUICK)
    monkeypatch.setattr(partition, "BUSY_PAUSE_S", 0.01)
    running = asyncio.create_task(engine.run(stop))
    most = 0
    while not await is_covered(log):
        most = max(most, *(p.waiting for p in engine._partitions.values()), 0)  # noqa: SLF001
        await asyncio.sleep(0.005)
    stop.set()
    await running
    assert 0 < most < 50 + 20 + 10  # the buffer, the poll that filled it, the slice in hand
    assert len({header(r, "ce_id") for r in await everything(log, METRIC)}) == 1_000


async def test_e6_of_large_records_fewer_are_held_however_many_partitions_share_the_memory(
    log: Brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "BUFFERS_BYTES", 400_000)
    monkeypatch.setattr(partition, "SLICE_BYTES", 50_000)
    monkeypatch.setattr(partition, "BUSY_PAUSE_S", 0.01)
    large = "x" * 10_000
    for n in range(20):  # in batches of 100 kB: a poll hands out whole ones
        await log.append([told(f"m{k % 4}", f"r{n}-{k}-{large}") for k in range(10)])
    monkeypatch.setattr(engine_module, "MAX_POLL_RECORDS", 10)
    log.busy = 40  # the outputs can't be written for a while: everything backs up
    stop, most = asyncio.Event(), 0
    engine = Engine(Tally(), log, Counts(), QUICK)
    running = asyncio.create_task(engine.run(stop))
    while not await is_covered(log):
        most = max(most, sum(p.waiting for p in engine._partitions.values()))  # noqa: SLF001
        await asyncio.sleep(0.005)
    stop.set()
    await running
    assert 0 < most < 40 + PARTITIONS * (10 + 6)  # the buffers, the polls that filled them, the slices in hand
    assert len({header(r, "ce_id") for r in await everything(log, METRIC)}) == 200


async def test_e7_what_is_malformed_goes_to_dead_letters_and_the_stream_goes_on(log: Brittle) -> None:
    await log.append([told("m0", "r0"), told("m0", "?"), told("m0", "r1")])
    await run_until_done(log)
    (letter,) = await everything(log, DEAD_LETTER)
    assert (letter.value, header(letter, "__connect.errors.exception.message")) == (b"?", "nonsense: a question mark")
    assert sorted(record.value or b"" for record in await everything(log, METRIC)) == [b"r0:1", b"r1:2"]


@pytest.mark.parametrize("defect", ["boom", "bang"])
async def test_e7_a_defect_on_one_key_freezes_that_key_alone_until_a_redrive(log: Brittle, defect: str) -> None:
    await log.append([told("m0", "r0"), told("m0", defect), told("m1", "s0"), told("m0", "r1"), told("m1", "s1")])
    await run_until_done(log)
    letters = await everything(log, DEAD_LETTER)
    assert [letter.value for letter in letters] == [defect.encode(), b"r1"]
    assert "ZeroDivisionError" in (header(letters[0], "__connect.errors.exception.stacktrace") or "")
    said = {record.value for record in await everything(log, METRIC)}
    assert {b"r0:1", b"s0:1", b"s1:2"} < said
    assert any(b"ZeroDivisionError" in (value or b"") for value in said)  # the alarm
    assert (await states(log))[b"m0"][1:] == (b"1", f"ZeroDivisionError: {defect}")
    await log.append(
        [
            NewRecord(TELEMETRY, letter.key, letter.value, 2_000, ((reducer.REDRIVE, b"1"), *letter.headers))
            for letter in letters
        ]
    )
    await run_until_done(log, Tally(mended=True))
    assert (await states(log))[b"m0"][1:] == (b"3", None)


async def test_e7_the_log_of_a_process_says_where_a_key_was_frozen_and_not_whose_it_is(log: Brittle) -> None:
    whose = "a name that no folder has by chance"
    await log.append([told(whose, "r0"), told(whose, "boom")])
    with capture_logs() as lines:
        await run_until_done(log)
    (frozen,) = [line for line in lines if line["event"] == "key quarantined"]
    (letter,) = await everything(log, DEAD_LETTER)
    place = [int(header(letter, f"__connect.errors.{name}") or -1) for name in ("partition", "offset")]
    assert [frozen["partition"], frozen["offset"]] == place
    assert whose not in str(frozen.values())


class Quoting(Tally):
    """Its defects say of whom they are, as a KeyError does."""

    def __init__(self, failing: str) -> None:
        super().__init__()
        self._failing = failing

    def prepare(self, records: Sequence[Record]) -> Sequence[Any]:
        if self._failing == "prepare":
            raise KeyError("acme/p1")
        return super().prepare(records)

    def step(self, state: int, item: bytes, now_ms: int) -> Any:  # noqa: ARG002 - it fails whatever it is told
        raise KeyError("acme/p1")


@pytest.mark.parametrize("failing", ["prepare", "step"])
async def test_e7_the_log_of_a_process_says_what_failed_and_where_and_the_dead_letter_alone_on_what_it_did(
    log: Brittle, failing: str
) -> None:
    await log.append([told("m0", "r0")])
    with capture_logs() as lines:
        await run_until_done(log, Quoting(failing))
    (frozen,) = [line for line in lines if line["event"] == "key quarantined"]
    assert re.fullmatch(rf"KeyError at .*/reducer\.py:\d+ .*/test_engine\.py:\d+ Quoting\.{failing}", frozen["defect"])
    assert "acme/p1" not in str(lines)
    (letter,) = await everything(log, DEAD_LETTER)
    assert "KeyError: 'acme/p1'" in (header(letter, PREFIX + "exception.stacktrace") or "")


async def test_e7_replay_quarantines_the_same_keys_at_the_same_records(tmp_path: Path) -> None:
    frozen = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        async with opened(tmp_path / name) as log:
            await log.append([told("m0", "r0"), told("m0", "boom"), told("m0", "r1"), told("m1", "bang")])
            await run_until_done(log)
            frozen.append(await states(log))
    assert frozen[0] == frozen[1]


async def test_e7_several_quarantines_in_a_short_time_stop_the_process(log: Brittle) -> None:
    await log.append([told(f"m{n}", "boom") for n in range(QUARANTINES)])
    with pytest.raises(ExceptionGroup) as failed:
        await run_until_done(log)
    assert failed.group_contains(BrokenPromise, match="5 keys quarantined")


async def test_e7_too_many_dead_letters_in_a_row_stop_the_process(log: Brittle) -> None:
    await log.append([told("m0", "?") for _ in range(11)])
    engine = Engine(Tally(), log, Counts(), EngineSettings(checkpoint_s=0.01, dead_letters_in_a_row=10))
    with pytest.raises(ExceptionGroup) as failed:
        await engine.run(asyncio.Event())
    assert failed.group_contains(BrokenPromise, match="11 dead letters in a row")


async def started_until_done(log: Brittle, settings_: EngineSettings) -> list[int]:
    """Start an engine again and again until one goes on; return how far each of the others came."""
    reached: list[int] = []
    for _ in range(10):
        stop = asyncio.Event()
        running = asyncio.create_task(Engine(Tally(), log, Counts(), settings_).run(stop))
        while not running.done() and not await is_covered(log):
            await asyncio.wait({running}, timeout=0.01)
        stop.set()
        try:
            await running
        except* BrokenPromise:
            reached.append(sum([await position(log, number) for number in range(PARTITIONS)]))
        else:
            return reached
    raise AssertionError(f"none went on: {reached}")


async def position(log: Brittle, number: int) -> int:
    state = State(Tally())
    async for records in log.read(CONTROLLER_STATE, number):
        state.join(records)
    return state.position


def of_one_partition(how_many: int, name: str = "m") -> list[str]:
    """Return keys that come to lie in partition 0."""
    keys = (f"{name}{n}" for n in count())
    return list(islice((key for key in keys if partition_of(key.encode(), PARTITIONS) == 0), how_many))


async def test_e7_too_many_quarantines_are_durable_before_they_stop_the_process_so_each_start_gets_further(
    log: Brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    #  slices of 20    100 good   5 defects   150 good   5 defects   50 good
    #  start 1         .....................x                                 ends at 120
    #  start 2                              ..................x               ends at 260
    #  start 3                                                ..............  goes on
    monkeypatch.setattr(partition, "SLICE_RECORDS", 20)
    healthy = of_one_partition(20, "healthy")
    good = [told(healthy[n % 20], f"g{n}") for n in range(300)]
    defects = [told(key, "boom") for key in of_one_partition(2 * QUARANTINES)]
    await log.append([*good[:100], *defects[:QUARANTINES], *good[100:250], *defects[QUARANTINES:], *good[250:]])
    assert await started_until_done(log, QUICK) == [120, 260]
    assert sum(why is not None for _, _, why in (await states(log)).values()) == 2 * QUARANTINES
    assert [letter.key for letter in await everything(log, DEAD_LETTER)] == [record.key for record in defects]
    assert {f"g{n}" for n in range(300)} < {header(record, "ce_id") for record in await everything(log, METRIC)}


async def test_e7_too_many_dead_letters_are_durable_before_they_stop_the_process_and_none_is_written_twice(
    log: Brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "SLICE_RECORDS", 20)
    keys = of_one_partition(40)
    await log.append([*(told(keys[n % 40], "?") for n in range(300)), told(keys[0], "r")])
    reached = await started_until_done(log, EngineSettings(checkpoint_s=0.01, dead_letters_in_a_row=100))
    assert reached == [120, 240]
    assert len(await everything(log, DEAD_LETTER)) == 300
    assert "r" in {header(record, "ce_id") for record in await everything(log, METRIC)}


async def test_e7_neither_a_frozen_key_nor_one_that_talks_nonsense_ends_the_process_for_the_others(
    log: Brittle,
) -> None:
    frozen = [told("m0", "boom"), *(told("m0", f"r{n}") for n in range(300))]
    await log.append([*frozen, *(told("m1", "?") for _ in range(300)), told("m2", "good")])
    stop, limited = asyncio.Event(), EngineSettings(checkpoint_s=0.01, dead_letters_in_a_row=150)
    running = asyncio.create_task(Engine(Tally(), log, Counts(), limited).run(stop))
    await until(lambda: is_covered(log))
    stop.set()
    await running
    assert len(await everything(log, DEAD_LETTER)) == 601
    assert b"good:1" in {record.value for record in await everything(log, METRIC)}


class Growing(Tally):
    """A stage whose state is all that it was told, and so grows without a bound."""

    def start(self, key: bytes) -> Any:  # noqa: ARG002 - bytes, and not a number
        return b""

    def step(self, state: Any, item: bytes, now_ms: int) -> tuple[Any, Sequence[NewRecord]]:
        return state + item, [said_of(item.decode(), item, now_ms)]

    def save(self, state: Any) -> bytes:
        return bytes(state)

    def restore(self, saved: bytes) -> Any:
        return saved

    def alarm(self, record: Record, detail: str) -> Sequence[NewRecord]:  # noqa: ARG002
        return [said_of("alarm", ALARM, record.timestamp_ms)]


ALARM = b"alarm"


@pytest.mark.parametrize("has_restarts", [False, True])
@pytest.mark.parametrize("checkpoint_s", [0.0, 3_600.0])
async def test_e7_a_state_that_outgrows_its_bound_freezes_its_key_at_the_same_record_whenever_it_is_written(
    log: Brittle, monkeypatch: pytest.MonkeyPatch, checkpoint_s: float, has_restarts: bool
) -> None:
    monkeypatch.setattr(partition, "SLICE_RECORDS", 3)
    words = [told("m0", f"r{n:02} " + 2_996 * "x") for n in range(16)]  # 3 kB each: the eleventh is too much
    for some in (words[:6], words[6:9], words[9:], [told("m1", "good")]):
        await log.append(some)
        if has_restarts or some[0].key == b"m1":
            await run_until_answered(log, Growing(), EngineSettings(checkpoint_s=checkpoint_s))
    letters = await everything(log, DEAD_LETTER)
    assert [(letter.value or b"")[:3] for letter in letters] == [b"r%02d" % n for n in range(10, 16)]
    assert "TooLarge: its state would have 33000 bytes" in (header(letters[0], PREFIX + "exception.message") or "")
    assert b"good" in {record.value for record in await everything(log, METRIC)}
    kept = await states(log)
    assert (len(kept[b"m0"][1] or b""), kept[b"m1"][2]) == (30_000, None)


async def run_until_answered(log: Brittle, stage: Growing, settings_: EngineSettings) -> None:
    """Run an engine until every record has led to something."""
    stop = asyncio.Event()
    running = asyncio.create_task(Engine(stage, log, Counts(), settings_).run(stop))
    told_ = len(await everything(log, TELEMETRY))

    async def is_answered() -> bool:
        outputs = [record for record in await everything(log, METRIC) if record.value != ALARM]
        return running.done() or len(outputs) + len(await everything(log, DEAD_LETTER)) >= told_

    await until(is_answered)
    stop.set()
    await running


async def test_e8_lag_without_progress_ends_the_process(log: Brittle) -> None:
    await log.append(INPUT)
    log.busy = 1_000_000
    engine = Engine(Tally(), log, Counts(), EngineSettings(checkpoint_s=0.01, stall_s=0.5))
    with pytest.raises(ExceptionGroup) as failed:
        await engine.run(asyncio.Event())
    assert failed.group_contains(BrokenPromise, match="no progress")


class OneStands(Brittle):
    """A log that never answers to the outputs of one record."""

    async def append(self, records: Sequence[NewRecord]) -> None:
        if any((record.value or b"").startswith(b"stuck") for record in records):
            await asyncio.Event().wait()
        await super().append(records)


async def test_e8_a_partition_that_stands_still_ends_the_process_though_another_goes_on(tmp_path: Path) -> None:
    (stands,) = of_one_partition(1)
    moves = next(f"m{n}" for n in count() if partition_of(b"m%d" % n, PARTITIONS) == 1)
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        engine = Engine(Tally(), OneStands(real), Counts(), EngineSettings(checkpoint_s=0.01, stall_s=6.0))
        running = asyncio.create_task(engine.run(asyncio.Event()))
        await real.append([told(stands, "stuck"), told(stands, "r")])
        was_ready, told_before = False, False
        async with asyncio.timeout(120):
            while not running.done():
                await real.append([told(moves, "beat")])
                was_ready |= engine.ready
                told_before |= was_ready and not engine.ready and not running.done()
                await asyncio.wait({running}, timeout=0.02)
        with pytest.raises(ExceptionGroup) as failed:
            await running
        assert failed.group_contains(BrokenPromise, match="lag in partition 0, no progress")
        assert told_before


class AwayAtFirst(Brittle):
    """A log whose groups can't be joined so many times."""

    def __init__(self, log: SqliteLog, refusals: int) -> None:
        super().__init__(log)
        self.refusals, self._join = refusals, log.subscribe
        self.subscribe = self._subscribe  # type: ignore[assignment]

    @asynccontextmanager
    async def _subscribe(self, *what: Any) -> AsyncIterator[Any]:
        if self.refusals > 0:
            self.refusals -= 1
            raise Busy("away")
        async with self._join(*what) as subscription:
            yield subscription


async def test_e8_an_engine_whose_log_is_away_when_it_starts_joins_when_it_is_back(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as log:
        await log.append(INPUT)
        await run_until_done(AwayAtFirst(log, refusals=2))
        assert len(await everything(Brittle(log), METRIC)) == len(INPUT)


async def test_e8_an_engine_whose_log_stays_away_when_it_starts_ends_the_process(tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as log:
        engine = Engine(Tally(), AwayAtFirst(log, refusals=1_000_000), Counts(), EngineSettings(stall_s=0.5))
        with pytest.raises(ExceptionGroup) as failed:
            await engine.run(asyncio.Event())
        assert failed.group_contains(BrokenPromise, match="not in its group")


class NeverJoined(Brittle):
    """A log whose groups never come together."""

    def __init__(self, log: SqliteLog) -> None:
        super().__init__(log)
        self.asked, self.subscribe = asyncio.Event(), self._subscribe  # type: ignore[assignment]

    @asynccontextmanager
    async def _subscribe(self, *what: Any) -> AsyncIterator[Any]:
        self.asked.set()
        await asyncio.Event().wait()
        yield what


class NeverRead(Brittle):
    """A log that takes for ever to read states back."""

    def __init__(self, log: SqliteLog) -> None:
        super().__init__(log)
        self.asked, self.read = asyncio.Event(), self._read  # type: ignore[assignment]

    async def _read(self, *what: Any) -> AsyncIterator[Any]:
        self.asked.set()
        await asyncio.Event().wait()
        yield what


@pytest.mark.parametrize("slow", [NeverJoined, NeverRead])
async def test_e8_a_stop_is_heard_while_an_engine_joins_or_restores(
    tmp_path: Path, slow: type[NeverJoined | NeverRead]
) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        log, stop = slow(real), asyncio.Event()
        running = asyncio.create_task(Engine(Tally(), log, Counts(), QUICK).run(stop))
        await log.asked.wait()
        stop.set()
        async with asyncio.timeout(60):
            await running


@pytest.mark.parametrize("slow", [NeverJoined, NeverRead])
async def test_e8_an_engine_that_is_cancelled_ends_though_it_joins_or_restores(
    tmp_path: Path, slow: type[NeverJoined | NeverRead]
) -> None:
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        log = slow(real)
        running = asyncio.create_task(Engine(Tally(), log, Counts(), QUICK).run(asyncio.Event()))
        await log.asked.wait()
        running.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait({running})
        assert running.cancelled()


async def test_e8_a_log_that_is_away_ends_nobody_however_long_and_what_waited_is_done_when_it_is_back(
    log: Brittle,
) -> None:
    engine, stop = Engine(Tally(), log, Counts(), EngineSettings(checkpoint_s=0.01, stall_s=2.5)), asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    await until(lambda: now(engine.ready))
    log.is_away = True
    await log.append_all_the_same(INPUT)
    await until(lambda: now(log.refusals >= 5))  # one a second: that would have ended it
    assert not running.done()
    log.is_away = False
    await until(lambda: is_covered(log))
    stop.set()
    await running


class Freezes(Brittle):
    """A log that can be made to answer nothing any more when it is asked for its ends."""

    is_frozen = False

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        if self.is_frozen:
            await asyncio.Event().wait()
        return await super().bounds(topic)


async def test_e8_an_engine_whose_log_gives_no_answer_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "ANSWER_S", 0.05)
    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        log, stop = Freezes(real), asyncio.Event()
        engine = Engine(Tally(), log, Counts(), QUICK)
        running = asyncio.create_task(engine.run(stop))
        await until(lambda: now(engine.ready))
        log.is_frozen = True
        await until(lambda: now(not engine.ready))
        log.is_frozen = False
        await until(lambda: now(engine.ready))
        stop.set()
        await running


async def now(answer: bool) -> bool:
    return answer


async def test_e8_a_stop_finishes_what_was_taken_and_checkpoints_it(log: Brittle) -> None:
    await log.append(INPUT)
    stop, counts = asyncio.Event(), Counts()
    slow = EngineSettings(checkpoint_s=3_600.0)
    running = asyncio.create_task(Engine(Tally(), log, counts, slow).run(stop))
    await until(lambda: seen(log))
    stop.set()
    await running
    assert await is_covered(log)
    assert Counter(header(r, "ce_id") for r in await everything(log, METRIC)).most_common(1)[0][1] == 1


async def seen(log: Brittle) -> bool:
    return len(await everything(log, METRIC)) == len(INPUT)


@pytest.mark.parametrize("records", [[], [told("m0", f"new{n}", 2_000) for n in range(60)]], ids=["empty", "longer"])
async def test_states_of_another_log_end_the_process_with_a_word_on_what_to_do(
    log: Brittle, tmp_path: Path, records: list[NewRecord]
) -> None:
    await log.append(INPUT)
    await run_until_done(log)
    (tmp_path / "anew").mkdir()
    async with opened(tmp_path / "anew") as other:
        for record in await everything(log, CONTROLLER_STATE):
            await other.checkpoint(CONTROLLER_STATE, record.partition, [(record.key, record.value)], 0)
        await other.append(records)
        with pytest.raises(ExceptionGroup) as failed:
            async with asyncio.timeout(120):
                await Engine(Tally(), other, Counts(), QUICK).run(asyncio.Event())
        assert failed.group_contains(BrokenPromise, match=f"delete the topic {CONTROLLER_STATE}")


async def test_e7_what_retention_took_before_an_engine_came_back_is_counted(log: Brittle, tmp_path: Path) -> None:
    key = of_one_partition(1)[0]
    await log.append([told(key, f"r{n}") for n in range(3)])
    await run_until_done(log)
    for n in range(3, 6):  # a row each
        await log.append([told(key, f"r{n}")])
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection, connection:
        ours = "(SELECT id FROM partition WHERE topic = ?)"
        connection.execute(f"DELETE FROM batch WHERE partition_id IN {ours} AND last_offset < 5", (TELEMETRY,))  # noqa: S608
    counts = Counts()
    await run_until_done(log, counts=counts)
    assert counts.totals["spineloop_records_skipped_total"] == 2
    assert {header(r, "ce_id") for r in await everything(log, METRIC)} == {"r0", "r1", "r2", "r5"}


class Meddled(Brittle):
    """A log that may hand out something else before it is read: `instead` is told who listens, and says what, if so."""

    def __init__(self, log: SqliteLog, instead: Callable[[Engine], Awaitable[Mapping[int, Sequence[Record]]]]) -> None:
        super().__init__(log)
        self._join, self._instead = log.subscribe, instead
        self.subscribe = self._subscribe  # type: ignore[assignment]

    @asynccontextmanager
    async def _subscribe(self, topic: str, group: str, listener: Engine) -> AsyncIterator[Any]:
        async with self._join(topic, group, listener) as subscription:
            poll = subscription.poll

            async def polled(max_records: int, timeout_s: float) -> Mapping[int, Sequence[Record]]:
                return await self._instead(listener) or await poll(max_records, timeout_s)

            subscription.poll = polled  # type: ignore[method-assign]
            yield subscription


async def test_a_log_that_is_made_anew_while_an_engine_reads_it_ends_the_process_and_nothing_passes_for_done(
    tmp_path: Path,
) -> None:
    anew = list[Mapping[int, Sequence[Record]]]()

    async def from_the_beginning(_: Engine) -> Mapping[int, Sequence[Record]]:
        return anew.pop() if anew else {}

    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        log, stop = Meddled(real, from_the_beginning), asyncio.Event()
        await log.append(INPUT)
        running = asyncio.create_task(Engine(Tally(), log, Counts(), QUICK).run(stop))
        await until(lambda: is_covered(log))
        number = partition_of(b"m0", PARTITIONS)
        anew.append({number: [Record(TELEMETRY, number, 0, b"m0", b"new", 2_000)]})
        await asyncio.wait({running}, timeout=60)
        stop.set()
        with pytest.raises(ExceptionGroup) as failed:
            await running
        assert failed.group_contains(BrokenPromise, match=f"delete the topic {CONTROLLER_STATE}")
        assert len(await everything(log, METRIC)) == len(INPUT)


async def test_a_topic_that_gets_a_partition_more_while_an_engine_reads_it_ends_the_process_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    has_grown = asyncio.Event()

    async def grown(listener: Engine) -> Mapping[int, Sequence[Record]]:
        if has_grown.is_set():
            await listener.assigned([PARTITIONS])
        return {}

    async with open_sqlite_log(tmp_path / "log.db", PARTITIONS) as real:
        log = Meddled(real, grown)
        await log.append(INPUT)
        running = asyncio.create_task(Engine(Tally(), log, Counts(), QUICK).run(asyncio.Event()))
        await until(lambda: is_covered(log))
        has_grown.set()
        with pytest.raises(ExceptionGroup) as failed:
            async with asyncio.timeout(120):
                await running
        (error,) = failed.value.exceptions
        assert isinstance(error, BrokenPromise)
        found = f"tally: {TELEMETRY} has a partition {PARTITIONS} now, where {CONTROLLER_STATE} had {PARTITIONS} in all"
        assert str(error).startswith(found)
        assert f"with SPINELOOP_PARTITIONS={PARTITIONS} " in str(error)
        assert "\n" not in str(error)


@asynccontextmanager
async def grown_together(folder: Path) -> AsyncIterator[Brittle]:
    """Open a log whose topics were all given more partitions, each as many, while nobody had it open."""
    with closing(sqlite3.connect(folder / "log.db")) as connection, connection:
        rows = [(TELEMETRY, number) for number in range(PARTITIONS, MORE)]
        connection.executemany("INSERT INTO partition (topic, number) VALUES (?, ?)", rows)
    async with open_sqlite_log(folder / "log.db", MORE) as log:
        yield Brittle(log)


async def test_topics_that_all_got_more_partitions_together_end_the_process_before_a_key_misses_its_state(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as before:
        await before.append(INPUT)
        await run_until_done(before)
    async with grown_together(tmp_path) as log:
        await log.append([told(f"m{n}", "more") for n in range(9)])
        with pytest.raises(ExceptionGroup) as failed:
            async with asyncio.timeout(20):
                await Engine(Tally(), log, Counts(), QUICK).run(asyncio.Event())
        (error,) = failed.value.exceptions
        assert isinstance(error, BrokenPromise)
        found = (
            f"tally: the states in {CONTROLLER_STATE} were written with {PARTITIONS} partitions, where there are {MORE}"
        )
        assert str(error).startswith(found)
        assert f"with SPINELOOP_PARTITIONS={MORE} " in str(error)
        assert "\n" not in str(error)
        with pytest.raises(BrokenPromise, match="were written with"):  # also who is given none but what was added
            await Engine(Tally(), log, Counts(), QUICK).assigned([MORE - 1])
        assert log.writes == ["outputs"]  # those that the test has appended


async def test_states_that_do_not_tell_a_number_of_partitions_go_on_and_tell_it_from_then_on(
    log: Brittle, tmp_path: Path
) -> None:
    await log.append(INPUT)
    await run_until_done(log)
    (tmp_path / "old").mkdir()
    async with opened(tmp_path / "old") as other:
        for record in await everything(log, CONTROLLER_STATE):
            old = msgspec.msgpack.encode(msgspec.msgpack.decode(record.value or b"")[:-1])
            assert written_with(msgspec.structs.replace(record, value=old)) == 0
            await other.checkpoint(CONTROLLER_STATE, record.partition, [(record.key, old)], 0)
        await other.append([*INPUT, *(told(f"m{n}", "more") for n in range(3))])
        await run_until_done(other)
        assert {header(record, "ce_id") for record in await everything(other, METRIC)} == {"more"}
        last = {record.partition: record for record in await everything(other, CONTROLLER_STATE)}
        assert {written_with(record) for record in last.values()} == {PARTITIONS}


async def test_states_go_on_with_a_log_whose_records_were_erased_or_are_too_old_to_be_there(
    log: Brittle, tmp_path: Path
) -> None:
    await log.append(INPUT)
    await run_until_done(log)
    (tmp_path / "erased").mkdir()
    async with opened(tmp_path / "erased") as other:
        for record in await everything(log, CONTROLLER_STATE):
            await other.checkpoint(CONTROLLER_STATE, record.partition, [(record.key, record.value)], 0)
        await other.append(
            [told(record.key.decode(), "erased") for record in INPUT]
        )  # at the same time, in the same place
        await other.append([told("m0", "more")])
        await run_until_done(other)
        assert {header(record, "ce_id") for record in await everything(other, METRIC)} == {"more"}
