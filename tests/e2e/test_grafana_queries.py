"""Grafana itself is not here, but all that it would ask: on a real InfluxDB that the pipeline has filled itself."""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from dashboards.grafana import alerts, builder
from loadtest.grafana import Everything, Values, chosen, interpolated, offered_in
from tests.core import story
from tests.e2e.grafana_history import SLOW, Filled, filled

pytestmark = pytest.mark.stack

BOARDS = {board.uid: builder.board_json(board) for board in builder.BOARDS}
PANELS = [(uid, panel) for uid, board in BOARDS.items() for panel in board["panels"]]

DAY_MS = 86_400_000
SINCE_MS = {"patient": 90 * DAY_MS}
"""How far back a board looks at first, if that is further than the run."""

MANY_CHOICES = 40
"""Machines or patients that are tried until a panel shows something."""

Numbers = dict[frozenset[tuple[str, str]], float]


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


# --- Alerts: queries, reductions, expressions and thresholds, as Grafana evaluates them.

REDUCED: Mapping[str, Callable[[list[float]], float]] = {
    "last": lambda some: some[-1],
    "sum": sum,
    "max": max,
    "mean": lambda some: sum(some) / len(some),
}


async def reduced(history: Filled, step: dict[str, Any], how: str, now_ms: int) -> Numbers:
    """Ask, and make one number of each series; a series without a number is none."""
    window = step["relativeTimeRange"]
    since_ms, until_ms = now_ms - 1_000 * window["from"], now_ms - 1_000 * window["to"]
    numbers: Numbers = {}
    for one in await history.ask(interpolated(step["model"]["query"], {}, since_ms, until_ms)):
        some = [row[1] for row in one["values"] if row[1] is not None]
        if some:
            numbers[frozenset(one.get("tags", {}).items())] = float(REDUCED[how](some))
    return numbers


def calculated(expression: str, known: Mapping[str, Numbers]) -> Numbers:
    """Calculate with the series that every name in the expression has."""
    names = re.findall(r"\$\{(\w)\}", expression)
    python = re.sub(r"\$\{(\w)\}", r"\1", expression).replace("&&", "and").replace("||", "or")
    shared = set.intersection(*(set(known[name]) for name in names))
    return {
        labels: float(eval(python, {"__builtins__": {}}, {name: known[name][labels] for name in names}))  # noqa: S307
        for labels in shared
    }


async def fires(history: Filled, uid: str, now_ms: int) -> tuple[list[dict[str, str]], int]:
    """Return the labels for which an alert fires at a time, and how many series it looked at."""
    (rule,) = [one for one in alerts.provisioned(AnyPanel())["groups"][0]["rules"] if one["uid"] == uid]
    steps = {step["refId"]: step for step in rule["data"]}
    known: dict[str, Numbers] = {}
    for ref, step in steps.items():
        model = step["model"]
        match model.get("type"):
            case "reduce":
                known[ref] = await reduced(history, steps[model["expression"]], model["reducer"], now_ms)
            case "math":
                known[ref] = calculated(model["expression"], known)
            case "threshold":
                (condition,) = model["conditions"]
                assert condition["evaluator"]["type"] == "gt"
                over = condition["evaluator"]["params"][0]
                series = known[model["expression"]]
                known[ref] = {labels: float(value > over) for labels, value in series.items()}
    result = known[rule["condition"]]
    return [dict(labels) for labels, is_over in result.items() if is_over], len(result)


class AnyPanel(dict[tuple[str, str], int]):
    """Has a number for every panel: here nobody looks at it."""

    def __missing__(self, key: tuple[str, str]) -> int:
        return 1


TENANT, SITE, NAME = story.MACHINE.split("/")
BAD = {"tenant": TENANT, "site": SITE, "machine": NAME}


async def test_a_stop_and_a_command_without_an_answer_call_for_the_machine(history: Filled) -> None:
    for uid in ("stop-issued", "command-unacknowledged"):
        assert BAD in (await fires(history, uid, history.until_ms))[0]
    stopped, _ = await fires(history, "stop-issued", history.until_ms + DAY_MS)
    assert not stopped


async def test_a_machine_is_silent_only_if_it_said_that_it_is_there_and_nothing_after_that(history: Filled) -> None:
    heard = await history.ask('SELECT LAST("online") FROM "raw"."machine"')
    last_ms = next(rows(heard))["time"]
    silent, looked_at = await fires(history, "machine-silent", last_ms + 1)
    assert BAD not in silent
    assert looked_at == 6
    silent, _ = await fires(history, "machine-silent", last_ms + 600_000)
    assert BAD in silent
    gone = {
        row["machine"]
        for row in rows(await history.ask('SELECT LAST("online") FROM "raw"."machine" GROUP BY *'))
        if row["last"] == 0.0
    }
    assert gone
    assert not gone & {one["machine"] for one in silent}


async def test_what_could_not_be_understood_or_stored_calls_for_somebody(history: Filled) -> None:
    letters, _ = await fires(history, "dead-letters-rising", history.until_ms)
    assert [one["stage"] for one in letters] == ["ingest"]
    refused, _ = await fires(history, "history-failing", history.until_ms)
    assert {one["component"] for one in refused} <= {"history-metric", "history-command"}
    assert refused


async def test_a_process_that_ended_is_silent(history: Filled) -> None:
    working, looked_at = await fires(history, "process-silent", history.until_ms)
    assert looked_at >= 5
    silent, _ = await fires(history, "process-silent", history.until_ms + 300_000)
    assert {one["role"] for one in silent} >= {"ingest", "control", "plan", "history", "downlink"}
    assert len(working) <= len(silent)


async def test_only_the_stage_that_falls_behind_and_the_broker_that_drops_call_for_somebody(history: Filled) -> None:
    for uid, name in (("lag-rising", "stage"), ("broker-dropping", "instance")):
        firing, _ = await fires(history, uid, history.until_ms)
        assert firing == [{name: SLOW}], uid
    dropping, looked_at = await fires(history, "broker-dropping", history.until_ms + 150_000)
    assert (dropping, looked_at) == ([{"instance": SLOW}], 2)


@pytest.mark.parametrize("uid", [alert.uid for alert in alerts.ALERTS])
async def test_no_alert_uses_a_variable_or_meets_more_series_than_the_source_returns(history: Filled, uid: str) -> None:
    (alert,) = [one for one in alerts.ALERTS if one.uid == uid]
    for series in alert.asked:
        query = interpolated(series.query, {}, history.since_ms, history.until_ms)  # fails on what is left of a `$`
        assert len(await history.ask(query)) <= 1_000


def test_the_alerts_are_all_that_was_asked_for() -> None:
    asked_for = {"machine-silent", "stop-issued", "command-unacknowledged", "dead-letters-rising", "lag-rising"}
    asked_for |= {"history-failing", "broker-dropping"}
    assert asked_for <= {alert.uid for alert in alerts.ALERTS}


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
