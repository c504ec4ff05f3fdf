"""The files of Grafana: what its schema takes, what people can read, and what the tables of dashboards/grafana say."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import alerting, dashboard

from dashboards.grafana import alerts, builder
from dashboards.grafana.influxql import SILENT, UID
from dashboards.grafana.panels import SILENCE
from streams.core.catalogue import METRICS
from streams.core.meters import METERS

register_default_plugins()

FILES = builder.files()
BOARDS: dict[str, dict[str, Any]] = {board.uid: builder.board_json(board) for board in builder.BOARDS}
PANELS = [(uid, panel) for uid, board in BOARDS.items() for panel in board["panels"]]
NAMES = [f"{uid}: {panel['title']}" for uid, panel in PANELS]
RULES: list[dict[str, Any]] = yaml.safe_load(FILES[builder.ALERTING])["groups"][0]["rules"]

each_panel = pytest.mark.parametrize(("uid", "panel"), PANELS, ids=NAMES)
each_board = pytest.mark.parametrize("uid", BOARDS)
each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule["uid"] for rule in RULES])


def queries(uid: str) -> Iterator[str]:
    board = BOARDS[uid]
    yield from (variable["query"] for variable in board["templating"]["list"])
    yield from (annotation["target"]["query"] for annotation in board["annotations"]["list"])
    yield from (target["query"] for panel in board["panels"] for target in panel["targets"])


def every_query() -> Iterator[str]:
    for uid in BOARDS:
        yield from queries(uid)
    yield from (series.query for alert in alerts.ALERTS for series in alert.asked)


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_the_tables_say(name: str) -> None:
    assert (builder.HERE / name).read_text(encoding="utf-8") == FILES[name], "run scripts/dashboards"


def test_a_board_that_was_edited_by_hand_is_noticed_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "HERE", tmp_path)
    builder.write()
    file = tmp_path / "boards" / "fleet.json"
    file.write_text(file.read_text(encoding="utf-8").replace("Machines online", "My machines"), encoding="utf-8")
    assert [name for name, text in FILES.items() if (tmp_path / name).read_text(encoding="utf-8") != text] == [
        "boards/fleet.json"
    ]
    builder.write()
    assert file.read_text(encoding="utf-8") == FILES["boards/fleet.json"]


def test_there_are_no_boards_but_those_of_the_tables() -> None:
    assert {path.name for path in (builder.HERE / "boards").iterdir()} == {f"{uid}.json" for uid in BOARDS}


@each_board
def test_a_board_goes_through_the_schema_and_comes_out_the_same(uid: str) -> None:
    read = dashboard.Dashboard.from_json(json.loads(FILES[f"boards/{uid}.json"]))
    assert json.loads(JSONEncoder(sort_keys=True).encode(read)) == BOARDS[uid]
    assert BOARDS[uid]["schemaVersion"] == 42


@each_rule
def test_a_rule_goes_through_the_schema(rule: dict[str, Any]) -> None:
    read = alerting.Rule.from_json(rule)
    told = json.loads(JSONEncoder().encode(read))
    for name in ("uid", "title", "condition", "data", "noDataState", "execErrState", "for", "annotations", "labels"):
        assert told[name] == rule[name], name


def test_the_uids_are_unique_and_short_enough() -> None:
    uids = [board["uid"] for board in BOARDS.values()] + [rule["uid"] for rule in RULES]
    assert [uid for uid, times in Counter(uids).items() if times > 1] == []
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) for uid in uids)


@each_board
def test_the_ids_and_titles_of_the_panels_are_unique_and_no_panel_covers_another(uid: str) -> None:
    panels = BOARDS[uid]["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = {panel["title"]: panel["gridPos"] for panel in panels}
    assert all(place["x"] + place["w"] <= 24 for place in places.values())
    for (one, a), (other, b) in combinations(places.items(), 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one, other)


@each_panel
def test_a_panel_says_what_it_shows_and_what_to_do_when_it_is_red(uid: str, panel: dict[str, Any]) -> None:
    meaning, _, doing = panel["description"].partition("\n\nWhen it is red: ")
    assert panel["title"]
    assert len(meaning) > 20, uid
    assert len(doing) > 10, uid


@each_panel
def test_a_panel_has_a_unit_and_thresholds_and_asks_our_source(uid: str, panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"], uid
    steps = defaults["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert sources == [{"type": "influxdb", "uid": UID}] * len(sources)
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) >= 1


def test_a_machine_is_silent_for_the_timeline_when_it_is_for_the_alert_and_then_has_a_colour_of_its_own() -> None:
    (panel,) = [panel for _, panel in PANELS if panel["type"] == "state-timeline"]
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["color"]["mode"] == "thresholds"  # else what has no value is not drawn, whatever its mapping says
    words, silence = defaults["mappings"]
    assert (silence["options"]["match"], silence["options"]["result"]["text"]) == ("null", "silent")
    assert silence["options"]["result"]["color"] not in {one["color"] for one in words["options"].values()}
    (alert,) = [one for one in alerts.ALERTS if one.uid == "machine-silent"]
    (minutes,) = re.findall(r"GROUP BY time\((\d+)m\)", alert.asked[0].query)
    assert defaults["custom"]["spanNulls"] - 1 == 60_000 * int(minutes)  # Grafana joins what is closer than that
    assert f"time > now() - {minutes}m" in panel["targets"][0]["query"]


@pytest.mark.parametrize(
    ("title", "text"),
    [("What every machine is doing", "silent"), ("Last values of every machine", "silent"), ("Doing", "nothing heard")],
)
def test_a_silent_machine_has_the_colour_of_silence_wherever_it_is_told_what_machines_are_doing(
    title: str, text: str
) -> None:
    (panel,) = [panel for _, panel in PANELS if panel["title"] == title]
    query = panel["targets"][0]["query"]
    assert f"time > now() - {SILENT}" in query
    assert 'WHERE "online" = 0' in query  # who is offline says nothing more, and is not silent
    defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
    of_doing = [one["properties"] for one in overrides if one["matcher"]["options"] == "doing"]
    (*_, silence) = of_doing[0][0]["value"] if of_doing else defaults["mappings"]
    assert silence["options"]["match"] == "null"
    assert (silence["options"]["result"]["text"], silence["options"]["result"]["color"]) == (text, SILENCE)


def test_a_table_tells_of_the_silence_of_machines_and_not_of_what_else_they_lack() -> None:
    (panel,) = [panel for _, panel in PANELS if panel["title"] == "Last values of every machine"]
    assert [one["type"] for one in panel["fieldConfig"]["defaults"]["mappings"]] == ["value"]  # no rep is no silence
    assert "noValue" not in panel["fieldConfig"]["defaults"]
    said = panel["targets"][1]["query"]  # has a row of each machine, whatever it said last
    assert 'LAST("online") AS "online"' in said
    assert "mode" not in said
    assert "$timeFilter" in said


def test_the_source_is_the_provisioned_one() -> None:
    path = builder.HERE / "provisioning/datasources/influx.yaml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    assert (source["uid"], source["type"], source["jsonData"]["maxSeries"]) == (UID, "influxdb", 1000)


@each_board
def test_every_variable_that_is_used_is_there_and_every_one_that_is_there_is_used(uid: str) -> None:
    variables = [variable["name"] for variable in BOARDS[uid]["templating"]["list"]]
    used = {name for query in queries(uid) for name in re.findall(r"\$\{?(\w+)", query)}
    assert used - {"timeFilter", "__interval", "__interval_ms"} == set(variables)


@each_board
def test_a_variable_depends_only_on_those_before_it(uid: str) -> None:
    known: set[str] = set()
    for variable in BOARDS[uid]["templating"]["list"]:
        assert set(re.findall(r"\$(\w+)", variable["query"])) <= known
        known.add(variable["name"])


def test_machines_are_found_by_tenant_then_site_then_name() -> None:
    for uid in ("fleet", "machine"):
        assert [one["name"] for one in BOARDS[uid]["templating"]["list"]][:3] == ["tenant", "site", "machine"]


@each_board
def test_a_variable_with_several_values_is_matched_as_a_whole_and_nothing_else(uid: str) -> None:
    for variable in BOARDS[uid]["templating"]["list"]:
        for query in queries(uid):
            name = variable["name"]
            bare = query.replace(f"=~ /^${name}$/", "").replace(f"= '${name}'", "" if not variable["multi"] else "?")
            assert f"${name}" not in bare, query
            assert "?" not in bare, query


def test_every_query_is_influxql_with_its_retention_policy_and_a_time() -> None:
    for query in every_query():
        assert re.match(r"(SELECT|SHOW TAG VALUES) ", query), query
        sources = re.findall(r"FROM (\(|\"raw\"\.\"\w+\")", query)
        assert len(sources) == query.count("FROM "), query
        assert query.startswith("SHOW") or "$timeFilter" in query or "time > now()" in query, query


def test_every_meter_that_is_asked_for_exists() -> None:
    asked = {name for query in every_query() for name in re.findall(r"spineloop_\w+", query)}
    assert asked <= METERS.keys()
    assert len(asked) >= 12


def test_what_the_broker_counts_is_asked_for_by_its_rises_or_as_it_is_for_the_broker_may_start_again() -> None:
    asked = [query for query in every_query() if "spineloop_broker_dropped_messages" in query]
    assert len(asked) >= 3
    for query in asked:
        assert "NON_NEGATIVE_DIFFERENCE(" in query or re.match(r'SELECT LAST\("value"\) FROM', query), query
    assert not [query for query in every_query() if re.search(r"\b(SPREAD|(?<!NON_NEGATIVE_)DIFFERENCE)\(", query)]


def test_an_alert_takes_the_mean_of_one_process_and_never_of_all_that_have_a_role() -> None:
    #  lag of four   0  0  0  4,000     mean 1,000: nobody is called
    #                         stuck     sum  4,000
    means = [series.query for alert in alerts.ALERTS for series in alert.asked if "MEAN(" in series.query]
    assert means
    for query in means:
        assert re.fullmatch(
            r'SELECT SUM\("(\w+)"\) FROM \(SELECT MEAN\("value"\) AS "\1" .* '
            r'GROUP BY "stage", "role", "instance"\) GROUP BY "stage"',
            query,
        ), query


def test_every_metric_that_a_board_asks_for_is_in_the_catalogue() -> None:
    known = {row.name for row in METRICS}
    asked = {name for query in every_query() for name in re.findall(r"\"(\w+_(?:pct|s|concentric|eccentric))\"", query)}
    prescribed = {name for name in asked if name.startswith("prescribed_")}
    of_patients = {"strength_trend_pct", "minimal_detectable_change_pct", "detectable_change_pct"}
    assert asked - prescribed - of_patients <= known


def test_every_link_leads_to_a_board_with_variables_that_it_has() -> None:
    links = [
        link
        for _, panel in PANELS
        for override in panel["fieldConfig"]["overrides"]
        for changed in override["properties"]
        if changed["id"] == "links"
        for link in changed["value"]
    ]
    assert links
    for link in links:
        path, _, query = link["url"].partition("?")
        uid = path.removeprefix("/d/")
        names = set(re.findall(r"var-(\w+)=", query))
        assert names <= {variable["name"] for variable in BOARDS[uid]["templating"]["list"]}
        assert "${__url_time_range}" in query


@each_board
def test_a_board_can_be_reached_from_every_other(uid: str) -> None:
    (link,) = BOARDS[uid]["links"]
    assert link["tags"] == BOARDS[uid]["tags"]
    assert (link["type"], link["keepTime"]) == ("dashboards", True)
    assert BOARDS[uid]["editable"] is False


def test_no_name_of_a_person_is_asked_for() -> None:
    assert not [query for query in every_query() if re.search(r"\b(name|birth|email)\w*\" =~|patient_name", query)]


@each_rule
def test_a_rule_reduces_each_query_and_ends_in_its_threshold(rule: dict[str, Any]) -> None:
    refs = [step["refId"] for step in rule["data"]]
    assert refs[-1] == rule["condition"]
    assert len(set(refs)) == len(refs)
    for place, step in enumerate(rule["data"]):
        model = step["model"]
        if step["datasourceUid"] == UID:
            assert step["relativeTimeRange"]["from"] > step["relativeTimeRange"]["to"] >= 0
            assert rule["data"][place + 1]["model"]["expression"] == step["refId"]
            assert not re.search(r"\$(?!timeFilter)", model["query"])
        else:
            named = re.findall(r"\$\{(\w+)\}", model["expression"]) or [model["expression"]]
            assert set(named) <= set(refs[:place])


@each_rule
def test_a_rule_says_what_has_happened_what_to_do_and_where_to_look(rule: dict[str, Any]) -> None:
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["description"]) > 20
    panels = {panel["id"] for panel in BOARDS[rule["dashboardUid"]]["panels"]}
    assert rule["panelId"] in panels
    assert rule["labels"]["severity"] in {"critical", "warning"}
    labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    grouped = {
        name
        for step in rule["data"]
        if step["datasourceUid"] == UID
        for name in re.findall(r"\"(\w+)\"", step["model"]["query"].rpartition("GROUP BY")[2])
    }
    assert labels <= grouped


def test_a_source_that_does_not_answer_calls_once() -> None:
    assert [rule["uid"] for rule in RULES if rule["execErrState"] != "KeepLast"] == ["history-failing"]
    assert {rule["noDataState"] for rule in RULES} <= {"OK", "Alerting"}


def test_the_page_for_operators_tells_of_every_board_and_every_alert() -> None:
    page = (builder.HERE.parents[1] / "docs" / "dashboards.md").read_text(encoding="utf-8")
    for uid, board in BOARDS.items():
        assert f"## {board['title']}" in page, uid
    for rule in RULES:
        assert f'id="{rule["uid"]}"' in page, rule["uid"]
        assert rule["title"] in page
