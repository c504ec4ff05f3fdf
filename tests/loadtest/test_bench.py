"""The benches: what a report holds, what makes a run void, and that the stories are what the budgets speak of."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import pytest

from adaptors import points
from dashboards.grafana import alerts, builder
from loadtest import grafana
from loadtest.bench import bridge, contenders, end_to_end, history, many_points, ramp, scale_kafka, stepping, stories
from loadtest.bench.__main__ import measured
from loadtest.bench.lap import Unfinished, Watch
from loadtest.bench.latency import prepared
from loadtest.bench.many_points import SESSION
from loadtest.bench.peers.empty import OUTPUT_BYTES, Empty
from loadtest.bench.report import Effort, Report, Run, Spread
from loadtest.bench.stamps import Point, Stamps
from loadtest.bench.stories import Said
from loadtest.child import Program, running
from loadtest.native import temporary_folder
from streams.core import codec
from streams.core.controller import Controller
from streams.core.errors import Busy, Malformed
from streams.core.measure import measure
from streams.core.records import NewRecord, Record
from streams.core.telemetry import Rep
from streams.core.topics import COMMAND, METRIC

QUICK = Effort(quick=True)


async def three_runs(effort: Effort) -> AsyncGenerator[Run, None]:
    assert effort.quick
    for reps_per_s in (3.0, 1.0, 2.0):
        yield Run({"reps_per_s": reps_per_s})


async def a_lossy_one(effort: Effort) -> AsyncGenerator[Run, None]:  # noqa: ARG001
    yield Run({"reps_per_s": 9.0})
    yield Run({"reps_per_s": 99.0}, ("1 of 10 lost, m/b/7 for one",))


async def test_a_report_holds_least_middle_and_largest_of_every_figure_and_says_where() -> None:
    report = await measured({"three": three_runs}, QUICK)
    assert (report.benches["three"].runs, report.is_void) == (3, False)
    written = msgspec.json.decode(report.json())
    assert written["effort"] == {"quick": True, "reps_per_s": 200.0, "plots": None}
    assert written["benches"]["three"]["figures"]["reps_per_s"] == {"min": 1.0, "median": 2.0, "max": 3.0}
    assert written["host"].keys() == {"cpu", "cores", "memory_GB", "kernel", "python", "load_1min"}


async def test_a_run_that_lost_something_is_void_and_its_figures_do_not_count() -> None:
    report = await measured({"three": three_runs, "lossy": a_lossy_one}, QUICK)
    assert report.is_void
    assert report.benches["lossy"].void == ("1 of 10 lost, m/b/7 for one",)
    assert report.benches["lossy"].figures == {"reps_per_s": Spread(9.0, 9.0, 9.0)}


async def a_slow_one(effort: Effort) -> AsyncGenerator[Run, None]:  # noqa: ARG001
    yield Run({"reps_per_s": 9.0})
    with temporary_folder() as folder:
        async with running(Program("idle", ("sleep", "60"), folder / "log", answers=at_once)) as child:
            await Watch(one, {"idle": child}).lap(never, limit_s=0.2)


async def test_a_bench_that_this_machine_is_too_slow_for_says_so_and_is_not_void() -> None:
    report = await measured({"slow": a_slow_one}, QUICK)
    assert (report.benches["slow"].slow, report.is_void) == ("not all was done within 0.2 s", False)
    assert report.benches["slow"].figures == {"reps_per_s": Spread(9.0, 9.0, 9.0)}


async def a_silent_server(effort: Effort) -> AsyncGenerator[Run, None]:  # noqa: ARG001
    yield Run({"reps_per_s": 9.0})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(not_now())


async def not_now() -> None:
    raise Busy("Kafka: read: no answer in time")


async def test_a_server_that_is_silent_for_too_long_loses_nothing_and_a_defect_beside_it_is_no_excuse() -> None:
    report = await measured({"silent": a_silent_server}, QUICK)
    assert (report.benches["silent"].slow, report.is_void) == ("Kafka: read: no answer in time", False)

    async def stumbles(effort: Effort) -> AsyncGenerator[Run, None]:  # noqa: ARG001
        yield Run({})
        raise ExceptionGroup("both", [Busy("not now"), KeyError("a defect")])

    with pytest.raises(ExceptionGroup, match="both"):
        await measured({"broken": stumbles}, QUICK)


async def without_a_run(effort: Effort) -> AsyncGenerator[Run, None]:  # noqa: ARG001
    for figures in tuple[dict[str, float], ...]():
        yield Run(figures)


async def test_a_bench_without_a_run_is_void_and_a_time_out_of_its_own_is_no_excuse() -> None:
    assert (await measured({"none": without_a_run}, QUICK)).is_void

    async def times_out(effort: Effort) -> AsyncGenerator[Run, None]:  # noqa: ARG001
        yield Run({})
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await measured({"broken": times_out}, QUICK)


async def test_a_process_that_ends_before_all_is_done_leaves_no_figures() -> None:
    with temporary_folder() as folder:
        program = Program("short", ("sh", "-c", "echo out of ideas; sleep 0.1"), folder / "log", answers=at_once)
        async with running(program) as child:
            watch = Watch(one, {"short": child})
            with pytest.raises(Unfinished, match="short has ended: out of ideas"):
                await watch.lap(never, limit_s=30.0)


async def at_once() -> bool:
    return True


async def one() -> int:
    return 1


async def never(count: int) -> bool:  # noqa: ARG001
    return False


def test_the_bridge_must_bring_every_message_once_and_in_the_order_of_its_machine() -> None:
    queued = bridge.to_queue("b", stories.reps(seed=1, count=5), 2 * bridge.MACHINES)
    there = stored([stories.record(Said(machine, rep, at_ms=0)) for machine, rep in queued])
    assert not bridge.why_void(queued, there)
    assert bridge.why_void(queued, there[1:]) == (f"1 of {len(queued)} lost, bench/site-1/m000/b/0 for one",)
    assert bridge.why_void(queued, [*there, there[7]]) == ("1 doubled, bench/site-1/m007/b/0 for one",)
    assert bridge.why_void(queued, there[::-1]) == (f"{bridge.MACHINES} keys out of order, bench/site-1/m000 for one",)
    assert bridge.why_void(queued, there, letters=2) == ("2 dead letters",)


def test_the_engine_must_measure_every_rep_once() -> None:
    said = list(islice(stories.story(seed=1, machines=2, tenant="acme"), 100))
    metrics = decided([stories.record(one) for one in said])
    reps = [codec.message_id(one.machine, one.message) for one in said if isinstance(one.message, Rep)]
    is_rep = [b"rep_measured" in (record.value or b"") for record in metrics]
    first = is_rep.index(True)
    assert sum(is_rep) == len(reps) > 10
    assert not contenders.reps_are_measured(said, metrics)
    lost, doubled = metrics[:first] + metrics[first + 1 :], [*metrics, metrics[first]]
    assert contenders.reps_are_measured(said, lost) == (f"1 of {len(reps)} lost, {reps[0]} for one",)
    assert contenders.reps_are_measured(said, doubled) == (f"1 doubled, {reps[0]} for one",)
    assert not end_to_end.why_void(reps, metrics, stored=len(reps), counted={"dead letters": 0})
    assert end_to_end.why_void(reps, metrics, stored=3, counted={"dead letters": 2}) == (
        f"3 reps stored of {len(reps)}",
        "2 dead letters",
    )


def test_the_controller_alone_says_what_it_says_one_record_after_the_other() -> None:
    said = [stories.record(one) for one in islice(stories.story(seed=1, machines=2, tenant="acme"), 100)]
    alone = stepping.outputs_of([stepping.heard(one, offset) for offset, one in enumerate(said)])
    assert [one.value for one in alone if one.topic == METRIC] == [one.value for one in decided(said)]


def decided(records: list[NewRecord]) -> list[Record]:
    """Return what the controller says to these, on the metric topic."""
    controller = Controller()
    states: dict[bytes, Any] = {}
    said: list[NewRecord] = []
    for record, item in zip(stored(records), controller.prepare(stored(records)), strict=True):
        state = states.get(record.key) or controller.start(record.key)
        assert not isinstance(item, Malformed)
        states[record.key], outputs = controller.step(state, item, record.timestamp_ms)
        said += outputs
    return [record for record in stored(said) if record.topic == METRIC]


def stored(records: list[NewRecord]) -> list[Record]:
    return [Record(one.topic, 0, n, one.key, one.value, one.timestamp_ms, one.headers) for n, one in enumerate(records)]


def test_the_reps_of_a_story_are_those_of_the_budgets() -> None:
    reps = stories.reps(seed=1, count=300)
    assert fmean(rep.samples for rep in reps) == pytest.approx(300.0, abs=30.0)
    assert fmean(len(codec.encode(rep)) for rep in reps) == pytest.approx(1_600.0, abs=150.0)
    assert sum(one.valid for one in measure(reps)) > 290


def test_a_bench_is_one_command_with_a_report_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.bench"]
    subprocess.run([*command, "features", "--quick", "--report", tmp_path / "report.json"], check=True)
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert (list(report.benches), report.is_void) == (["features"], False)
    assert subprocess.run([*command, "futures"], check=False).returncode == 2


def test_a_history_of_weeks_has_every_point_once_and_ends_now() -> None:
    place = (("machine", "m1"), ("site", "s1"), ("tenant", "t1"))
    shapes = {
        kind: [points.Point(kind, place, {"load_N": 1.0, "session": "s", "note": '50 % "'}, 0)] for kind in SESSION
    }
    stage = (("name", "lag"), ("stage", "control"))
    shapes["meter"] = [points.Point("meter", stage, {"value": 1.0, "increase": 2.0}, 0)]
    now_ns = 1_790_000_000_000_000_000
    told = list(many_points.lines(shapes, 5_000, now_ns))
    assert len(told) == 5_000
    places = [(line.partition(" ")[0], line.rpartition(" ")[2]) for line in told]
    assert len(set(places)) == 5_000
    assert max(int(at_ns) for _, at_ns in places) == now_ns
    assert {head.partition(",")[0] for head, _ in places} == {*SESSION, "meter"}
    assert {'note="50 % \\""' in line for line in told if not line.startswith("meter")} == {True}


def test_history_must_store_every_point_of_every_tenant_once_and_a_command_said_again_is_no_other() -> None:
    told = history.concluded(tenants=2, messages=6_000, machines=40)
    stored = history.expected(told)
    there = {(one.measurement, one.tags, one.t_ns) for record in told for one in points.points(record)}
    assert stored == Counter(measurement for measurement, _, _ in there)
    assert stored["rep"] > 100
    assert stored["command"] < sum(record.topic == COMMAND for record in told)
    assert not history.why_void(told, stored)
    assert history.why_void(told, {**stored, "rep": stored["rep"] - 1}) == (
        f"rep: {stored['rep']} points told, {stored['rep'] - 1} stored",
    )


def test_the_queries_that_are_timed_are_all_that_boards_and_alerts_ask() -> None:
    assert grafana.boards() == {board.uid: builder.board_json(board) for board in builder.BOARDS}
    assert [one.query for one in grafana.alerts()] == [one.query for alert in alerts.ALERTS for one in alert.asked]
    asked = sum(len(list(grafana.panels(board))) for board in grafana.boards().values())
    assert asked > 60


def test_a_story_told_twice_as_fast_says_in_ten_seconds_what_it_says_in_twenty() -> None:
    calm, quick = (
        ramp.cut(prepared(stories.story(seed=1, machines=4, tenant="acme", spread_s=10.0)), length_s, speed)
        for length_s, speed in ((20.0, 1.0), (10.0, 2.0))
    )
    assert [one.name for one in quick] == [one.name for one in calm]
    assert [2.0 * one.at_s for one in quick] == [one.at_s for one in calm]
    assert len(quick) > 10


def test_few_machines_and_many_say_the_same_reps_each_in_an_order_without_holes() -> None:
    pool = stories.reps(seed=1, count=5)
    few, many = (list(scale_kafka.told(machines, 20, pool)) for machines in (2, 10))
    spoken = [[one.message.force for one in said if isinstance(one.message, Rep)] for said in (few, many)]
    assert spoken[0] == spoken[1]
    names = [codec.message_id(one.machine, one.message) for one in few]
    assert [name for name in names if "m00001" in name] == [f"bench/site-1/m00001/b/{seq}" for seq in range(10)]


def test_the_empty_stage_must_put_out_every_message_once() -> None:
    said = list(islice(stories.story(seed=1, machines=2, tenant="acme"), 20))
    stage = Empty()
    records = stored([stories.record(one) for one in said])
    outputs = stored([output for one in records for output in stage.step(0, one, one.timestamp_ms)[1]])
    assert {len(one.value or b"") for one in outputs} <= set(range(OUTPUT_BYTES + 1))
    assert not contenders.all_is_passed_on(said, outputs)
    assert contenders.all_is_passed_on(said, outputs[1:])[0].startswith("1 of 20 lost")
    assert contenders.all_is_passed_on(said, [*outputs, outputs[3]])[0].startswith("1 doubled")


def test_the_hops_of_a_command_add_up_to_its_latency_and_what_led_to_none_has_none() -> None:
    stamps = Stamps()
    for trace, kind in (("a", "rep"), ("b", "rep"), ("c", "stop")):
        stamps.begin(trace, kind, at_ns=1_000_000)
    points: tuple[Point, ...] = ("ingested", "logged", "decided", "received")
    for place, point in enumerate(points):
        stamps.note("a", point, at_ns=(3 + place) * 1_000_000)
        stamps.note("a", point, at_ns=99_000_000)  # a repetition is not the first
    stamps.note(None, "received", at_ns=1)
    assert stamps.hops_ms("rep") == {"to_bridge": [2.0], "to_log": [1.0], "control": [1.0], "downlink": [1.0]}
    assert stamps.spans_ms("rep", "sent", "received") == [5.0]
    assert (stamps.missing("rep", "received"), stamps.spans_ms("stop", "sent", "received")) == (1, [])
