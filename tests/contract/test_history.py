"""History keeps points: the same sentences for SQLite and for a real InfluxDB."""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adaptors.delivery import Delivery, Pace
from adaptors.history import GROUPS, History
from adaptors.influx_history import InfluxAddress, InfluxHistory, open_influx_history
from adaptors.line_protocol import line
from adaptors.points import BEYOND_RETENTION, FieldValue, Point, points
from adaptors.sqlite_group import SqliteSubscription
from adaptors.sqlite_history import SqliteHistory, open_sqlite_history
from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from loadtest.native import Server, influxdb
from streams.core import codec
from streams.core.errors import BrokenPromise, Busy, Malformed
from streams.core.records import NewRecord, Record
from streams.core.results import Notice, RepMeasured
from streams.core.topics import DEAD_LETTER, METRIC

MACHINE = "acme/north/lumbar-1"
AT_MS = 1_700_000_000_123
T_NS = AT_MS * 1_000_000
BATCH = 5_000
LIMIT_S = 120.0
"""Longest wait for one answer of InfluxDB, in s."""

databases = count()


@dataclass
class Place:
    """A history, and the switch of what it is kept in."""

    history: InfluxHistory | SqliteHistory
    down: Callable[[], Awaitable[None]]
    up: Callable[[], Awaitable[None]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def influx_server() -> AsyncIterator[Server]:
    async with influxdb() as server:
        yield server


def address(server: Server) -> InfluxAddress:
    return InfluxAddress(
        url=f"http://{server.host}:{server.port}", database=f"test-{next(databases)}", timeout_s=LIMIT_S
    )


@asynccontextmanager
async def in_influxdb(server: Server) -> AsyncIterator[Place]:
    async with open_influx_history(address(server)) as history:
        await history.prepare()
        yield Place(history, down=server.process.kill, up=server.process.start)


@asynccontextmanager
async def in_sqlite(path: Path) -> AsyncIterator[Place]:
    async with open_sqlite_history(path, lock_wait_s=0.01) as history:
        other = sqlite3.connect(path, isolation_level=None)

        async def down() -> None:
            other.execute("BEGIN EXCLUSIVE")

        async def up() -> None:
            other.execute("ROLLBACK")

        yield Place(history, down, up)
        other.close()


@pytest_asyncio.fixture(params=["sqlite", "influxdb"])
async def place(request: pytest.FixtureRequest, influx_server: Server, tmp_path: Path) -> AsyncIterator[Place]:
    async with in_sqlite(tmp_path / "history.db") if request.param == "sqlite" else in_influxdb(influx_server) as place:
        yield place


def rep(number: int, at_ms: int = AT_MS) -> Record:
    cause = f"{MACHINE}/b1/{number}"
    measured = RepMeasured(
        id=f"{cause}/rep",
        machine=MACHINE,
        cause=cause,
        at_ms=at_ms,
        boot_id="b1",
        seq=number,
        session='s "1"\\',
        patient=None,
        set_number=1,
        rep_number=1,
        exercise="extension",
        side="both",
        intent="max",
        settings="h1",
        load_N=300.0,
        valid=True,
        reasons=(),
        values={"mean_velocity": 0.1 + number},
        undefined={},
    )
    return record(measured, number)


def record(message: RepMeasured | Notice, offset: int = 0) -> Record:
    return Record(METRIC, 0, offset, MACHINE.encode(), codec.encode(message), AT_MS)


def pulse(number: int, value: FieldValue = 1.5) -> Point:
    return Point("pulse", (("machine", "m1"),), {"value": value}, T_NS + number)


def in_order(some: Sequence[Point]) -> list[Point]:
    return sorted(some, key=lambda point: (point.measurement, point.t_ns, point.tags))


def with_types(point: Point) -> dict[str, tuple[type, FieldValue]]:
    return {name: (type(value), value) for name, value in point.fields.items()}


async def test_written_points_can_be_read_back_with_the_same_values(place: Place) -> None:
    detail = '3 are missing,\n= "so"'
    notice = Notice(id="i1", machine=MACHINE, cause="", at_ms=AT_MS, name="gap", severity="alarm", detail=detail)
    for message in (rep(7), record(notice)):
        (point,) = points(message)
        assert await place.history.write([point]) == []
        (back,) = await place.history.select(point.measurement)
        assert (back, with_types(back)) == (point, with_types(point))
        assert await place.history.count(point.measurement) == 1


wild = st.lists(st.sampled_from([*",= \\\"'#_", "time", "\n", "\t", "\x00"]) | st.text(max_size=3), max_size=5).map(
    "".join
)
tame = st.text(",= \"'#_aB1\N{SNOWMAN}", max_size=5).map(lambda text: "k" + text)
odd = tame | tame | tame | wild
values: Mapping[str, st.SearchStrategy[FieldValue]] = {
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "i": st.integers(-(2**63), 2**63 - 1),
    "b": st.booleans(),
    "s": wild | st.text(max_size=200),
}
# A field's name begins with its type, a tag's with t: in one measurement a name has one meaning.
fields = st.dictionaries(
    st.tuples(st.sampled_from("fibs"), odd).map("".join), st.fixed_dictionaries(dict(values)), max_size=5
).map(lambda named: {name: by_type[name[0]] for name, by_type in named.items()})
tags = st.lists(st.tuples(odd.map(lambda name: "t" + name), odd), max_size=3).map(lambda some: tuple(sorted(some)))
rows = st.lists(st.tuples(tags, fields), min_size=1, max_size=8)


@given(measurement=odd, rows=rows)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_point_that_the_encoder_takes_is_taken_and_comes_back_unchanged(
    place: Place, measurement: str, rows: list[tuple[tuple[tuple[str, str], ...], dict[str, FieldValue]]]
) -> None:
    name = f"m{next(databases)}{measurement}"
    offered = [Point(name, tags_, fields_, T_NS + n) for n, (tags_, fields_) in enumerate(rows)]
    taken = [point for point in offered if is_taken(point)]
    assume(taken)
    rejected = await place.history.write(offered)
    assert {one.index for one in rejected} == {n for n, point in enumerate(offered) if point not in taken}
    back = await place.history.select(name)
    assert [(p, with_types(p)) for p in in_order(back)] == [(p, with_types(p)) for p in in_order(taken)]


def is_taken(point: Point) -> bool:
    try:
        line(point)
    except Malformed:
        return False
    return True


async def test_writing_twice_changes_nothing(place: Place) -> None:
    batch = [point for number in range(100) for point in points(rep(number))]
    await place.history.write(batch)
    once = await place.history.select("rep")
    await place.history.write(batch)
    assert await place.history.select("rep") == once
    assert await place.history.count("rep") == 100


async def test_two_reps_of_a_machine_in_the_same_ms_both_stay(place: Place) -> None:
    await place.history.write([*points(rep(7)), *points(rep(8))])
    assert sorted(point.fields["seq"] for point in await place.history.select("rep")) == [7, 8]


async def test_the_fields_of_one_point_merge(place: Place) -> None:
    first: dict[str, FieldValue] = {"a": 1.0, "b": 1.0, "least": 5e-324, "most": 2**63 - 1, "text": '"\\\n'}
    later: dict[str, FieldValue] = {"b": 2.0, "c": "x"}
    for part in (first, later):
        await place.history.write([Point("pulse", (("machine", "m1"),), part, T_NS)])
    (back,) = await place.history.select("pulse")
    assert with_types(back) == with_types(Point("pulse", (), first | later, T_NS))


async def test_points_with_other_tags_at_the_same_time_stay_apart(place: Place) -> None:
    both = [Point("pulse", (("machine", "m1"), ("side", side)), {"value": 1.0}, T_NS) for side in ("left", "right")]
    await place.history.write(both)
    assert in_order(await place.history.select("pulse")) == in_order(both)


async def test_one_bad_point_among_5000_comes_back_with_its_reason_and_the_good_ones_stay(place: Place) -> None:
    batch = [pulse(number) for number in range(BATCH)]
    batch[1_234] = pulse(1_234, math.nan)
    (rejected,) = await place.history.write(batch)
    assert (rejected.index, rejected.reason) == (1_234, "not_finite")
    assert await place.history.count("pulse") == BATCH - 1


async def test_more_points_than_one_transaction_holds_are_all_kept(place: Place) -> None:
    batch = [pulse(number, math.inf if number == BATCH else 1.0) for number in range(BATCH + 2)]
    assert [rejected.index for rejected in await place.history.write(batch)] == [BATCH]
    assert await place.history.count("pulse") == BATCH + 1


async def test_a_history_that_is_down_is_busy_and_takes_the_same_batch_when_it_is_back(place: Place) -> None:
    batch = [pulse(number) for number in range(10)]
    await place.history.write(batch[:5])
    await place.down()
    with pytest.raises(Busy):
        await place.history.write(batch)
    await place.up()
    assert await place.history.write(batch) == []
    assert in_order(await place.history.select("pulse")) == batch


async def test_a_text_is_rewritten_in_every_point_that_has_it_however_old_and_nowhere_else(place: Place) -> None:
    day_ns, now_ns = 86_400 * 10**9, AT_MS * 10**6
    who = ["acme/p-1", "acme/p-2", "acme/p-1", "acme/p-1"]
    days = [0, 1, 2, 9]
    batch = [
        Point("visit", (("machine", "m1"),), {"patient": name, "load": 1.5}, now_ns - day * day_ns)
        for name, day in zip(who, days, strict=True)
    ]
    assert await place.history.write(batch) == []
    assert await place.history.rewrite("acme/p-1", lambda text: text.replace("acme/p-1", "acme/e")) == 3
    told = {point.t_ns: point.fields for point in await place.history.select("visit")}
    assert told == {
        now_ns - day * day_ns: {"patient": name.replace("p-1", "e"), "load": 1.5}
        for name, day in zip(who, days, strict=True)
    }


class Killed(BaseException):
    """Stands for the end of the process."""


class NoMeters:
    """Counts nothing."""

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None: ...
    def set(self, name: str, value: float, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...


class MortalMember:
    """A member of a group that is killed a number of times just before a position moves."""

    records_skipped = 0

    def __init__(self, member: SqliteSubscription, deaths: list[str]) -> None:
        self.poll, self.lag = member.poll, member.lag
        self._member = member
        self._deaths = deaths

    async def commit(self, positions: Mapping[int, int]) -> None:
        if self._deaths:
            raise Killed(self._deaths.pop())
        await self._member.commit(positions)


class MortalLog:
    """A log in SQLite, whose members die."""

    def __init__(self, log: SqliteLog, deaths: int) -> None:
        self.deaths = ["between write and commit"] * deaths
        self.bounds = log.bounds
        self._log = log

    @asynccontextmanager
    async def subscribe(self, topic: str, group: str) -> AsyncIterator[MortalMember]:
        async with self._log.subscribe(topic, group) as member:
            yield MortalMember(member, self.deaths)


async def test_a_kill_between_write_and_commit_loses_nothing_and_doubles_nothing(place: Place, tmp_path: Path) -> None:
    async with open_sqlite_log(tmp_path / "log.db", 1, now_ms=lambda: AT_MS) as log:
        await log.append([NewRecord(METRIC, one.key, one.value, AT_MS) for one in map(rep, range(25))])
        mortal = MortalLog(log, deaths=2)
        store = History(place.history, log, NoMeters()).store
        stop, pace = asyncio.Event(), Pace(max_records=10, linger_s=0.0)
        while True:
            one = Delivery(mortal, METRIC, GROUPS[METRIC], store, pace=pace, dice=lambda: 0.0, meters=NoMeters())
            running = asyncio.create_task(one.run(stop))
            while not running.done() and one.progress() < 25:
                await asyncio.sleep(0.001)
            if not running.done():
                break
            with pytest.raises(Killed):
                await running
        stop.set()
        await running
        assert (mortal.deaths, (await log.bounds(DEAD_LETTER))[0]) == ([], (0, 0))
    assert [point.fields["seq"] for point in in_order(await place.history.select("rep"))] == list(range(25))


async def test_influxdb_says_why_it_refuses_a_field_of_another_type_and_keeps_the_rest(influx_server: Server) -> None:
    async with in_influxdb(influx_server) as place:
        await place.history.write([pulse(0)])
        batch = [pulse(number, 7 if number in {17, 4_000} else 1.5) for number in range(BATCH)]
        rejected = await place.history.write(batch)
        assert [one.index for one in rejected] == [17, 4_000]
        assert all("field type conflict" in one.detail for one in rejected)
        assert await place.history.count("pulse") == BATCH - 2
        assert len(await place.history.write([pulse(number, 7) for number in range(BATCH)])) == BATCH


async def test_influxdb_says_why_it_refuses_a_point_older_than_its_retention(influx_server: Server) -> None:
    async with open_influx_history(address(influx_server)) as history:
        await history.prepare(keep_days=1)
        await history.prepare(keep_days=30)  # what is there stays as it is
        (rejected,) = await history.write([pulse(0)])
        assert "beyond retention policy" in rejected.detail
        assert rejected.reason == BEYOND_RETENTION


async def test_influxdb_tells_a_point_that_is_too_old_from_one_that_is_wrong(influx_server: Server) -> None:
    now_ns = time.time_ns()
    async with open_influx_history(address(influx_server)) as history:
        await history.prepare(keep_days=1)
        recent = [msgspec.structs.replace(pulse(number), t_ns=now_ns + number) for number in range(3)]
        assert not await history.write(recent)
        wrong = msgspec.structs.replace(pulse(0, 7), t_ns=now_ns + 5)
        rejected = await history.write([pulse(0), *recent, wrong, pulse(1), wrong])
        assert [(one.index, one.reason) for one in rejected] == [
            (0, BEYOND_RETENTION),
            (4, "refused"),
            (5, BEYOND_RETENTION),
            (6, "refused"),
        ]
        old = [pulse(number) for number in range(BATCH)]
        assert {one.reason for one in await history.write(old)} == {BEYOND_RETENTION}


async def test_influxdb_that_refuses_to_rewrite_what_is_too_old_is_told_of_when_all_else_is_done(
    influx_server: Server,
) -> None:
    there, now_ns, day_ns = address(influx_server), time.time_ns(), 86_400 * 10**9
    async with open_influx_history(there) as history, aiohttp.ClientSession() as operator:
        await history.prepare(keep_days=30)
        days = {
            day: Point("visit", (("machine", "m1"),), {"patient": "acme/p-1"}, now_ns - day * day_ns) for day in (8, 1)
        }
        assert await history.write([*days.values()]) == []
        shorter = f'ALTER RETENTION POLICY "{there.retention}" ON "{there.database}" DURATION 7d'
        await operator.post(f"{there.url}/query", data={"q": shorter})  # a shard goes as a whole, and later
        with pytest.raises(BrokenPromise, match=r"refuses to change 1 of 2 points.*beyond_retention"):
            await history.rewrite("acme/p-1", lambda text: text.replace("acme/p-1", "acme/e"))
        told = {point.t_ns: point.fields["patient"] for point in await history.select("visit")}
        assert told == {days[8].t_ns: "acme/p-1", days[1].t_ns: "acme/e"}


@pytest.mark.parametrize("missing", ["database", "retention"])
async def test_influxdb_without_our_place_ends_the_process_with_its_name(influx_server: Server, missing: str) -> None:
    there = address(influx_server)
    async with open_influx_history(there) as history:
        await history.prepare()
    elsewhere = msgspec.structs.replace(there, **{missing: "elsewhere"})
    async with open_influx_history(elsewhere) as history:
        with pytest.raises(BrokenPromise, match=f"history_{missing} 'elsewhere'"):
            await history.write([pulse(0)])
