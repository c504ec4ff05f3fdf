"""Grafana itself is not here, but all that it would ask: on a real InfluxDB that the pipeline has filled itself."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from dashboards.grafana import alerts, builder
from loadtest.grafana import Everything, Values, chosen, interpolated, offered_in
from tests.e2e.grafana_history import Filled, filled

pytestmark = pytest.mark.stack

BOARDS = {board.uid: builder.board_json(board) for board in builder.BOARDS}
PANELS = [(uid, panel) for uid, board in BOARDS.items() for panel in board["panels"]]

DAY_MS = 86_400_000
SINCE_MS = {"patient": 90 * DAY_MS}
"""How far back a board looks at first, if that is further than the run."""

MANY_CHOICES = 40
"""Machines or patients that are tried until a panel shows something."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def history() -> AsyncIterator[Filled]:
    async with filled() as found:
        yield found


async def choices(history: Filled, board: dict[str, Any]) -> Sequence[Values]:
    """Return every way to choose: one value of a single variable, all values of a multiple one."""
    ways: list[dict[str, str | Sequence[str]]] = [{}]
    for variable in board["templating"]["list"]:
        longer: list[dict[str, str | Sequence[str]]] = []
        for way in ways:
            query = interpolated(variable["query"], way, 0, history.until_ms)
            offered = offered_in(await history.ask(query))
            ones: Sequence[str | Sequence[str]] = [chosen(variable, offered)] if variable["multi"] else offered
            longer += [way | {variable["name"]: one} for one in ones]
        ways = longer
    return ways[:MANY_CHOICES]


def rows(series: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in series:
        for row in one["values"]:
            yield one.get("tags", {}) | dict(zip(one["columns"], row, strict=True))


def values_in(series: Sequence[dict[str, Any]]) -> list[Any]:
    """Return every value that is there, but the times."""
    return [value for row in rows(series) for name, value in row.items() if name != "time" and value is not None]


@pytest.mark.parametrize("uid", BOARDS)
async def test_every_variable_offers_something(history: Filled, uid: str) -> None:
    ways = await choices(history, BOARDS[uid])
    assert ways
    for name in (variable["name"] for variable in BOARDS[uid]["templating"]["list"]):
        assert any(way[name] for way in ways), name


@pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid}: {panel['title']}" for uid, panel in PANELS])
async def test_every_query_of_a_panel_is_understood_and_finds_something(
    history: Filled, uid: str, panel: dict[str, Any]
) -> None:
    ways = await choices(history, BOARDS[uid])
    since_ms = min(history.since_ms, history.until_ms - SINCE_MS.get(uid, 0))
    for target in panel["targets"]:
        shown = [
            values_in(await history.ask(interpolated(target["query"], way, since_ms, history.until_ms))) for way in ways
        ]
        assert any(shown), target["query"]


@pytest.mark.parametrize("uid", [uid for uid, board in BOARDS.items() if board["annotations"]["list"]])
async def test_every_annotation_has_a_time_a_text_and_tags(history: Filled, uid: str) -> None:
    ways = await choices(history, BOARDS[uid])
    for annotation in BOARDS[uid]["annotations"]["list"]:
        target = annotation["target"]
        marks = [
            mark
            for way in ways
            for mark in rows(await history.ask(interpolated(target["query"], way, history.since_ms, history.until_ms)))
        ]
        assert marks
        for column in ("time", target["textColumn"], *target["tagsColumn"].split(",")):
            assert any(mark[column] for mark in marks), column


async def test_the_numbers_of_the_fleet_are_those_of_the_machines(history: Filled) -> None:
    (way,) = await choices(history, BOARDS["fleet"])
    shown = {}
    for panel in BOARDS["fleet"]["panels"][:5]:
        query = interpolated(panel["targets"][0]["query"], way, history.since_ms, history.until_ms)
        shown[panel["title"]] = sum(values_in(await history.ask(query)))
    seen = list(rows(await history.ask('SELECT * FROM "raw"."machine" ORDER BY time')))
    last = {(row["tenant"], row["site"], row["machine"]): row for row in seen}
    assert shown["Machines online"] == sum(row["online"] for row in last.values())
    assert shown["Locked"] == sum(row["locked"] for row in last.values()) >= 1  # the machine of the bad moment
    stops = list(rows(await history.ask('SELECT * FROM "raw"."command" WHERE "action" = \'stop\'')))
    assert shown["STOPs"] == len(stops) >= 1
    alarms = list(rows(await history.ask('SELECT * FROM "raw"."notice" WHERE "severity" = \'alarm\'')))
    assert shown["Alarms"] == len(alarms) >= 1


async def test_the_band_around_the_strength_of_a_patient_is_what_can_be_detected(history: Filled) -> None:
    (panel,) = [one for one in BOARDS["patient"]["panels"] if one["title"].startswith("Strength against")]
    ways = [way for way in await choices(history, BOARDS["patient"]) if way["patient"] == "acme/p1"]
    (way,) = ways
    since_ms = history.until_ms - 90 * DAY_MS
    trend, band = [
        list(rows(await history.ask(interpolated(target["query"], way, since_ms, history.until_ms))))
        for target in panel["targets"]
    ]
    lumbar = [row["trend"] for row in trend if row["exercise"] == "lumbar_extension"]
    assert lumbar == sorted(lumbar)
    assert lumbar[0] == 100.0
    assert {(row["lower end"], row["upper end"]) for row in band} == {(100.0 - 16.6312, 100.0 + 16.6312)}


async def test_a_patients_prescriptions_are_those_of_the_own_sessions_with_their_reasons(history: Filled) -> None:
    (panel,) = [one for one in BOARDS["patient"]["panels"] if one["title"] == "Prescriptions and why"]
    told = {}
    for way in await choices(history, BOARDS["patient"]):
        query = interpolated(panel["targets"][0]["query"], way, history.since_ms, history.until_ms)
        told[str(way["patient"])] = list(rows(await history.ask(query)))
    prescribed = list(rows(await history.ask('SELECT * FROM "raw"."command" WHERE "action" = \'prescribe\'')))
    assert 1 <= sum(map(len, told.values())) <= len(prescribed)
    assert not told["acme/p1"]  # nobody asked for one at a machine
    assert all(row["rule"] and row["prescribed_load_N"] > 0.0 for some in told.values() for row in some)


@pytest.mark.parametrize("uid", [alert.uid for alert in alerts.ALERTS])
async def test_no_alert_uses_a_variable_or_meets_more_series_than_the_source_returns(history: Filled, uid: str) -> None:
    (alert,) = [one for one in alerts.ALERTS if one.uid == uid]
    for series in alert.asked:
        query = interpolated(series.query, {}, history.since_ms, history.until_ms)  # fails on what is left of a `$`
        assert len(await history.ask(query)) <= 1_000


def test_what_a_board_says_for_all_is_what_the_runner_puts_in() -> None:
    told = {
        (uid, one["name"]): one.get("allValue")
        for uid, board in BOARDS.items()
        for one in board["templating"]["list"]
        if one["multi"]
    }
    assert {told.pop(("patient", name)) for name in ("machine", "session")} == {None}  # those of the patient only
    assert set(told.values()) == {Everything.pattern}
    assert interpolated('"site" =~ /^$site$/', {"site": Everything(["a", "b"])}, 0, 1) == '"site" =~ /^.*$/'


def test_the_runner_escapes_as_grafana_does() -> None:
    chosen: Values = {"machine": ["row-01", "press-01"], "tenant": "a"}
    told = interpolated('"machine" =~ /^$machine$/ AND "tenant" =~ /^$tenant$/', chosen, 0, 1)
    assert told == r'"machine" =~ /^(row\-01|press\-01)$/ AND "tenant" =~ /^a$/'
