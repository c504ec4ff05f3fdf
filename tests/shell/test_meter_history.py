"""Meters in history: what grew, percentiles, what a refusal costs; and what the broker says of itself."""

import asyncio
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptors import broker_watch, mqtt_client, sqlite_history
from adaptors.meter_history import MeterHistory
from adaptors.meter_points import Reading, percentile, points
from adaptors.mqtt_connection import Connection
from adaptors.points import Point, Rejected
from adaptors.sqlite_history import open_sqlite_history
from loadtest.native import mosquitto
from spineloop.exposition import SECONDS, Exposition
from streams.core.errors import BrokenPromise, Busy

WHO = (("instance", "0"), ("role", "control"))


class Refusing:
    """A history that is away for a while."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.written: list[Point] = []

    async def write(self, points: Sequence[Point]) -> Sequence[Rejected]:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.written += points
        return []


def told(sink: Refusing, exposition: Exposition) -> MeterHistory:
    return MeterHistory(sink, exposition.readings, WHO, exposition, now_ns=lambda: 7)


def increases(sink: Refusing, name: str) -> list[object]:
    return [point.fields["increase"] for point in sink.written if dict(point.tags)["name"] == name]


async def test_what_could_not_be_written_is_in_what_is_written_next() -> None:
    sink, exposition = Refusing(None, Busy("away"), BrokenPromise("no such database"), None), Exposition()
    writing = told(sink, exposition)
    for _ in range(4):
        exposition.count("spineloop_points_total", 10.0)
        await writing.write()
    assert increases(sink, "spineloop_points_total") == [10.0, 30.0]
    assert increases(sink, "spineloop_busy_total") == [2.0]


async def test_only_what_a_process_uses_is_written_and_its_memory() -> None:
    sink, exposition = Refusing(), Exposition()
    exposition.set("spineloop_lag_records", 3.0, stage="control")
    exposition.observe("spineloop_rep_to_command_seconds", 0.015)
    await told(sink, exposition).write()
    by_name = {dict(point.tags)["name"]: point for point in sink.written}
    assert by_name.keys() == {
        "process_resident_memory_bytes",
        "spineloop_lag_records",
        "spineloop_rep_to_command_seconds",
    }
    lag = by_name["spineloop_lag_records"]
    assert (dict(lag.tags)["stage"], lag.fields, lag.t_ns) == ("control", {"value": 3.0}, 7)
    assert by_name["spineloop_rep_to_command_seconds"].fields["p50"] == pytest.approx(0.015)
    assert all(point.tags == tuple(sorted(point.tags)) for point in sink.written)


async def test_a_history_file_that_is_damaged_ends_no_meters(tmp_path: Path) -> None:
    exposition = Exposition()
    async with open_sqlite_history(tmp_path / "history.db") as sink:
        writing = MeterHistory(sink, exposition.readings, WHO, exposition, now_ns=lambda: 7)
        with closing(sqlite3.connect(tmp_path / "history.db")) as other:
            other.execute("DROP TABLE point")
        await writing.write()
        with pytest.raises(BrokenPromise, match="no such table: point"):
            await sink.ping()
    assert b'spineloop_busy_total{component="meters"} 1.0' in exposition.text()


async def test_it_writes_at_once_and_once_more_when_it_is_told_to_stop(tmp_path: Path) -> None:
    exposition, stop = Exposition(), asyncio.Event()
    async with open_sqlite_history(tmp_path / "history.db") as sink:
        writing = MeterHistory(sink, exposition.readings, WHO, exposition, now_ns=iter(range(5)).__next__)
        running = asyncio.create_task(writing.run(stop, every_s=600.0))
        while await sink.count("meter") < 1:
            await asyncio.sleep(0.01)
        stop.set()
        await running
        assert await sink.count("meter") == 2


async def test_in_sqlite_meters_older_than_a_week_go_piece_by_piece_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # written, day        20 ... 1    20, and 10 s    20, and 20 s    20, and 30 s
    # too old, day                       1 to 13         8 to 13            -
    # gone, day                          1 to 7          8 to 13            -
    # left                      20            14               9           10
    monkeypatch.setattr(sqlite_history, "TRIM_POINTS", 7)
    day_ns = 86_400 * 10**9
    async with open_sqlite_history(tmp_path / "history.db") as sink:
        await sink.write([Point("rep", (("machine", "m1"),), {"seq": 1}, day_ns)])
        old = [Point("meter", WHO, {"value": 1.0}, day * day_ns) for day in range(20, 0, -1)]
        await sink.write(old)
        left = [await sink.count("meter")]
        for seconds in (10, 20, 30):
            await sink.write([Point("meter", WHO, {"value": 2.0}, 20 * day_ns + seconds * 10**9)])
            left.append(await sink.count("meter"))
        oldest = min(point.t_ns for point in await sink.select("meter"))
        assert await sink.count("rep") == 1
    assert (left, oldest) == ([20, 14, 9, 10], 14 * day_ns)


async def test_in_sqlite_meters_go_on_going_after_a_clock_was_set_back(tmp_path: Path) -> None:
    day_ns = 86_400 * 10**9
    async with open_sqlite_history(tmp_path / "history.db") as sink:
        for day in (9_000, 1, 2, 20):
            await sink.write([Point("meter", WHO, {"value": 1.0}, day * day_ns)])
        assert [point.t_ns // day_ns for point in await sink.select("meter")] == [20, 9_000]


def test_a_counter_that_begins_again_tells_what_it_counted_since() -> None:
    before, now = (Reading("c_total", "counter", (), value) for value in (100.0, 4.0))
    assert points([before], [now], (), 0)[0].fields == {"value": 4.0, "increase": 4.0}


def test_the_percentiles_are_those_since_the_last_time() -> None:
    exposition = Exposition()
    exposition.observe("spineloop_checkpoint_seconds", 9.0, stage="plan")
    before = exposition.readings()
    for _ in range(100):
        exposition.observe("spineloop_checkpoint_seconds", 0.003, stage="plan")
    (point,) = [one for one in points(before, exposition.readings(), (), 0) if "p99" in one.fields]
    assert 0.002 < float(point.fields["p50"]) < float(point.fields["p99"]) <= 0.005
    quiet = points(exposition.readings(), exposition.readings(), (), 0)
    assert not [one for one in quiet if "p99" in one.fields]


@given(st.lists(st.floats(0.0, 9.9), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_percentile_is_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    buckets = [(bound, float(sum(one <= bound for one in seconds))) for bound in (*SECONDS, float("inf"))]
    true = sorted(seconds)[max(1, math.ceil(share * len(seconds) - 1e-9)) - 1]
    low = max((bound for bound in SECONDS if bound < true), default=0.0)
    high = min(bound for bound in SECONDS if bound >= true)
    found = percentile(buckets, share)
    assert found is not None
    assert low - 1e-9 <= found <= high + 1e-9


@pytest.mark.broker
async def test_mosquitto_tells_what_it_has_dropped() -> None:
    exposition = Exposition()
    async with mosquitto() as broker, asyncio.timeout(120.0):
        watching = asyncio.create_task(
            broker_watch.watch(lambda: mqtt_client.connect(broker.url, client_id="watch"), exposition)
        )
        while not [one for one in exposition.readings() if one.name == "spineloop_broker_dropped_messages"]:
            await asyncio.sleep(0.05)
        watching.cancel()
    (found,) = [one for one in exposition.readings() if one.name == "spineloop_broker_dropped_messages"]
    assert found.value == 0.0


async def test_a_broker_that_is_away_is_asked_again() -> None:
    asked = 0

    async def connect() -> Connection:
        nonlocal asked
        asked += 1
        raise Busy("away")

    watching = asyncio.create_task(broker_watch.watch(connect, Exposition(), retry_s=0.001))
    async with asyncio.timeout(120.0):
        while asked < 3:
            await asyncio.sleep(0.001)
    watching.cancel()
