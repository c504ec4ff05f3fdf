"""What if: two policies on the same telemetry, paired as a clinician would pair them, and told in words."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from adaptors.sqlite_log import open_sqlite_log
from adaptors.sqlite_reading import open_sqlite_reading
from spineloop import policy_report
from spineloop.embedded import PARTITIONS
from spineloop.settings import Settings
from streams import what_if
from streams.core import codec
from streams.core.controller import Controller
from streams.core.policy import Policy
from streams.core.records import NewRecord, Record, header
from streams.core.topics import COMMAND, PATIENT, TELEMETRY
from streams.decisions import Decided, Difference, Pairing, pairs
from streams.replay import replay
from streams.stretch import At, Wanted
from streams.what_if import SideBySide, Tally, compare
from tests.shell import week
from tests.shell.spoken import Spineloop, in_thread
from tests.shell.week import everything, trimmed

REQUESTED = "spineloop.session_requested.v1"
BEGINS = {REQUESTED, "spineloop.session_started.v1"}
LOOSE = Policy(vl_stop_pct=25.0)


async def compared(
    folder: Path,
    after: Policy,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    slice_records: int = 500,
) -> SideBySide:
    settings = Settings.read({})
    async with open_sqlite_reading(folder / "log.db") as log:
        policies = settings.policy(), after
        return await compare(log, policies, wanted, settings.machine_catalogue(), slice_records=slice_records)


# --- two courses ------------------------------------------------------------------------------------------------------


async def test_the_same_policy_gives_no_difference_and_the_digest_of_the_replay(data: Path) -> None:
    found = await compared(data, Settings.read({}).policy())
    async with open_sqlite_reading(data / "log.db") as log:
        replayed = await replay(log, week.stages(), Wanted())
    assert (found.differences, found.shown) == (0, ())
    assert found.digest_before == found.digest_after == replayed.digest
    assert all(tally.is_same for tally in (*found.rules.values(), *found.patients.values()))
    assert sum(tally.before for tally in found.rules.values()) > 20


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(tenant="acme"),
        Wanted(machines=("acme/site-1/lumbar-01",)),
        Wanted(machines=("acme/site-1/lumbar-02", "acme/site-1/row-01")),
        Wanted(since=At(offset=40)),
    ],
)
async def test_the_digest_of_a_part_is_that_of_a_replay_of_this_part(wanted: Wanted, data: Path) -> None:
    found = await compared(data, LOOSE, wanted)
    async with open_sqlite_reading(data / "log.db") as log:
        replayed = await replay(log, week.stages(), wanted)
    assert PATIENT in replayed.outputs
    assert found.digest_before == replayed.digest


async def test_a_looser_limit_ends_fewer_sets_and_says_for_whom(data: Path) -> None:
    found = await compared(data, LOOSE)
    loss = found.rules["velocity_loss_stop"]
    assert 0 < loss.after < loss.before
    assert found.differences == len(found.shown) > 0
    differing = {patient for patient, tally in found.patients.items() if not tally.is_same}
    assert {one.side.patient for one in found.shown} == differing
    assert found.digest_before != found.digest_after
    assert [one.side.at_ms for one in found.shown] == sorted(one.side.at_ms for one in found.shown)


async def test_turned_round_the_same_decisions_differ(data: Path) -> None:
    one = await compared(data, LOOSE)
    async with open_sqlite_reading(data / "log.db") as log:
        settings = Settings.read({})
        other = await compare(log, (LOOSE, settings.policy()), Wanted(), settings.machine_catalogue())
    assert one.differences == other.differences
    assert {name: Tally(tally.after, tally.before, tally.same) for name, tally in one.rules.items()} == other.rules
    assert (one.digest_before, one.digest_after) == (other.digest_after, other.digest_before)


@pytest.mark.parametrize("slice_records", [1, 13])
async def test_slices_of_any_size_give_the_same(data: Path, slice_records: int) -> None:
    assert await compared(data, LOOSE, slice_records=slice_records) == await compared(data, LOOSE)


async def test_only_what_is_wanted_counts_and_the_rest_is_heard_all_the_same(data: Path) -> None:
    whole = await compared(data, LOOSE)
    machines = sorted({one.side.machine for one in whole.shown})
    parts = [await compared(data, LOOSE, Wanted(machines=(machine,))) for machine in machines]
    assert [one for part in parts for one in part.shown] == sorted(whole.shown, key=lambda one: one.side.machine)
    middle_ms = whole.shown[len(whole.shown) // 2].side.at_ms
    before = await compared(data, LOOSE, Wanted(until=At(time_ms=middle_ms)))
    after = await compared(data, LOOSE, Wanted(since=At(time_ms=middle_ms)))
    assert before.records + after.records == whole.records
    assert all(one.side.at_ms >= middle_ms for one in after.shown)


async def plans_in(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what was prescribed, by the request that asked for it."""
    async with open_sqlite_reading(folder / "log.db") as log:
        commands = [codec.decode_command(record.value or b"") for record in await everything(log, COMMAND)]
    return {
        one.cause: tuple((change.quantity, change.old, change.new) for change in one.changes)
        for one in commands
        if one.action == "prescribe"
    }


async def requests_in(folder: Path) -> dict[str, Record]:
    """Return the requests that are left in the telemetry, by their ids."""
    async with open_sqlite_reading(folder / "log.db") as log:
        left = await everything(log, TELEMETRY)
    return {header(one, "ce_id") or "": one for one in left if header(one, "ce_type") == REQUESTED}


@pytest.mark.parametrize("number", range(PARTITIONS))
async def test_where_one_partition_begins_later_the_plans_that_are_left_are_those_of_the_log(
    number: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # telemetry, partition 0   | screening | request | rep | rep ...
    # telemetry, partition 1       (screening is gone)  | request | rep ...
    # facts of a machine of 1              | screening --> remembered, though partition 0 begins before it
    said, hear = dict[str, tuple[Any, ...]](), what_if.Course.hear

    def heard(self: what_if.Course, record: Record, item: Any, *, counts: bool) -> list[Decided]:
        decided = hear(self, record, item, counts=counts)
        said.update({one.cause: one.changes for one in decided if one.action == "prescribe"})
        return decided

    monkeypatch.setattr(what_if.Course, "hear", heard)
    recorded = await plans_in(data)
    trimmed(data, TELEMETRY, number, 1)
    requests = await requests_in(data)
    found = await compared(data, Settings.read({}).policy())
    assert list(found.missing) == [number]
    assert len(said) > len({one.key for one in requests.values()})
    assert said == {cause: changes for cause, changes in recorded.items() if cause in requests}


async def test_only_what_nobody_recomputes_is_remembered_and_in_its_own_time(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, Record]] = []
    hear = what_if.Course.hear

    def heard(self: what_if.Course, record: Record, item: Any, *, counts: bool) -> list[Decided]:
        told.append(("heard", record))
        return hear(self, record, item, counts=counts)

    monkeypatch.setattr(what_if.Course, "remember", lambda _, fact: told.append(("remembered", fact)))
    monkeypatch.setattr(what_if.Course, "hear", heard)
    for number in (0, 3):
        trimmed(data, TELEMETRY, number, 6)
    async with open_sqlite_reading(data / "log.db") as log:
        left, facts = await everything(log, TELEMETRY), await everything(log, PATIENT)
    whole = {one.key for one in left if one.partition in {1, 2}}
    first_ms = {one.key: one.timestamp_ms for one in reversed(left) if header(one, "ce_type") in BEGINS}
    machines = {fact: codec.decode_patient_fact(fact.value or b"").machine.encode() for fact in facts}
    gone = [fact for fact, machine in machines.items() if machine not in whole]
    gone = [fact for fact in gone if fact.timestamp_ms < first_ms.get(machines[fact], math.inf)]
    assert len({machines[fact] for fact in gone}) > 1

    await compared(data, LOOSE)
    remembered = [place(record) for what, record in told if what == "remembered"]
    assert sorted(remembered) == sorted(place(fact) for fact in gone for _ in ("before", "after"))
    heard_ms = 0  # so far; a plan keeps the time of its request, and takes nobody back
    for what, record in told:
        assert what == "heard" or record.timestamp_ms > heard_ms
        heard_ms = max(heard_ms, record.timestamp_ms if what == "heard" else 0)


async def test_facts_that_are_gone_as_well_are_counted_and_told(
    data: Path, spineloop: Spineloop, tmp_path: Path
) -> None:
    same = tmp_path / "same.toml"
    same.write_text("vl_stop_pct = 20.0")
    gone = trimmed(data, PATIENT, 1, 2)
    words = ("replay", "--data", data, "--policy", same)
    assert (await in_thread(spineloop, *words, "--json")).told["missing_facts"] == {}  # all of them are recomputed
    trimmed(data, TELEMETRY, 0, 6)
    assert (await in_thread(spineloop, *words, "--json")).told["missing_facts"] == {"1": gone}
    line = f"partition 1: the first {gone} facts about patients are gone, and plans may lack them\n"
    assert line in (await in_thread(spineloop, *words)).out


def place(record: Record) -> tuple[int, int]:
    return record.partition, record.offset


async def test_a_defect_of_ours_freezes_one_key_and_the_others_go_on(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sqlite_reading(data / "log.db") as log:
        poor = (await everything(log, TELEMETRY))[-1].key.decode()
    step = Controller.step

    def brittle(self: Controller, state: Any, item: Any, now_ms: int) -> Any:
        if item.machine == poor:
            raise ZeroDivisionError
        return step(self, state, item, now_ms)

    whole = await compared(data, LOOSE)
    monkeypatch.setattr(Controller, "step", brittle)
    found = await compared(data, LOOSE)
    assert [one for one in whole.shown if one.side.machine != poor] == list(found.shown)


async def test_records_that_can_t_be_understood_are_counted(data: Path) -> None:
    async with open_sqlite_log(data / "log.db", PARTITIONS) as log:
        await log.append([NewRecord(TELEMETRY, b"acme/site-1/m", b"?", week.START_MS)])
    assert dict((await compared(data, LOOSE)).letters) == {"bad_value": 1}


async def test_no_more_differences_are_kept_than_can_be_shown_and_all_are_counted(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await compared(data, LOOSE)
    monkeypatch.setattr(what_if, "MAX_SHOWN", 2)
    found = await compared(data, LOOSE)
    assert (found.differences, len(found.shown)) == (whole.differences, 2)


# --- pairs ------------------------------------------------------------------------------------------------------------


def decided(rep: int, rule: str = "velocity_loss_stop", action: str = "end_set", **fields: Any) -> Decided:
    told: dict[str, Any] = {
        "machine": "acme/s/m1",
        "patient": "acme/p1",
        "session": "s1",
        "set_number": 1,
        "rep_number": rep,
        "on": "rep",
        "at_ms": 1_000 * rep,
        "cause": f"acme/s/m1/b/{rep}",
    }
    return Decided(rule=rule, action=action, **(told | fields))


def test_a_set_that_ends_two_reps_later_is_one_difference_and_not_two() -> None:
    assert pairs([decided(6)], [decided(8)]) == [Difference(decided(6), decided(8))]


def test_a_set_that_another_rule_ends_is_one_difference_too() -> None:
    other = decided(7, "paced_fatigue_stop")
    assert pairs([decided(6)], [other]) == [Difference(decided(6), other)]


def test_what_is_the_same_is_paired_first_then_what_is_of_one_rule() -> None:
    #            rep 3  rep 5  rep 7
    # before     cue           end
    # after             cue    end
    before, after = [decided(3, "tempo", "cue"), decided(7)], [decided(5, "tempo", "cue"), decided(7)]
    assert pairs(before, after) == [
        Difference(before[1], after[1]),
        Difference(before[0], after[0]),
    ]
    assert [pair.is_none for pair in pairs(before, after)] == [True, False]


def test_the_same_command_with_another_load_differs_and_with_other_evidence_does_not() -> None:
    lower = decided(5, "form", "lower_load", changes=(("load_N", 300.0, 285.0),), evidence=(("a", "n", 1.0),))
    assert Difference(lower, replace(lower, evidence=(("a", "n", 2.0),))).is_none
    assert not Difference(lower, replace(lower, changes=(("load_N", 300.0, 270.0),))).is_none


def test_a_command_that_moves_to_another_set_is_two_differences() -> None:
    pairing = Pairing()
    assert not list(pairing.take([decided(6)], []))
    assert not list(pairing.take([], [decided(3, set_number=2)]))
    assert list(pairing.rest()) == [Difference(decided(6), None), Difference(None, decided(3, set_number=2))]


sides = st.lists(
    st.builds(
        decided,
        st.integers(1, 4),
        st.sampled_from(["velocity_loss_stop", "tempo", "form"]),
        st.sampled_from(["end_set", "cue"]),
        set_number=st.integers(1, 7),
        machine=st.sampled_from(["acme/s/m1", "acme/s/m2"]),
    ),
    max_size=3,
)


@given(told=st.lists(st.tuples(sides, sides), max_size=8))
def test_however_they_come_every_decision_is_in_one_pair(told: Sequence[tuple[list[Decided], list[Decided]]]) -> None:
    pairing = Pairing()
    found = [pair for both in told for pair in pairing.take(*both)] + list(pairing.rest())
    for side, name in enumerate(("before", "after")):
        given_all = sorted((one for both in told for one in both[side]), key=repr)
        assert sorted((one for pair in found if (one := getattr(pair, name))), key=repr) == given_all
    assert all(pair.before is not None or pair.after is not None for pair in found)


@given(both=sides)
def test_a_side_and_itself_do_not_differ(both: list[Decided]) -> None:
    assert all(pair.is_none for pair in pairs(both, both))


# --- words and pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Difference(decided(7), decided(9)), "set 1: ends the set at rep 9 instead of rep 7 (velocity_loss_stop)"),
        (
            Difference(decided(7), decided(6, "paced_fatigue_stop")),
            "set 1: ends the set at rep 6 by paced_fatigue_stop instead of at rep 7 by velocity_loss_stop",
        ),
        (
            Difference(
                decided(5, "form", "lower_load", changes=(("load_N", 300.0, 285.0),)),
                decided(5, "form", "lower_load", changes=(("load_N", 300.0, 270.0),)),
            ),
            "set 1: lowers the load (load 300 to 270) at rep 5, instead of load 300 to 285 (form)",
        ),
        (
            Difference(
                None,
                decided(
                    0, "progress", "prescribe", set_number=None, rep_number=None, on="session_requested",
                    changes=(("load_N", 300.0, 315.0),),
                ),
            ),
            "before the session: now prescribes (load 300 to 315) on session requested (progress)",
        ),
        (
            Difference(decided(0, "rest_extend", "extend_rest", set_number=None, rep_number=None, on="set_ended"),
                       None),
            "between sets: no longer lengthens the rest on set ended (rest_extend)",
        ),
        (
            Difference(None, decided(4, "tempo", "cue", cue="slow_down")),
            "set 1: now gives a cue: slow down at rep 4 (tempo)",
        ),
    ],
)  # fmt: skip
def test_a_difference_in_words(one: Difference, words: str) -> None:
    assert policy_report.sentence(one) == words


async def test_the_report_is_one_file_with_pictures_words_and_the_caveat(
    data: Path, spineloop: Spineloop, tmp_path: Path
) -> None:
    tried, report = tmp_path / "tried.toml", tmp_path / "report.html"
    tried.write_text("vl_stop_pct = 25.0\npain_caution = 2")
    words = ("replay", "--data", data, "--policy", tried, "--html", report, "--json")
    said = await in_thread(spineloop, *words)
    assert said.code == 0, said.err
    told, page = said.told, report.read_text(encoding="utf-8")
    assert told["changed"] == {"pain_caution": [3, 2], "vl_stop_pct": [20.0, 25.0]}
    assert re.fullmatch(r"[0-9a-f]{64}", told["digest"])
    assert (await in_thread(spineloop, *words)).told == told
    assert policy_report.CAVEAT in page
    assert "velocity loss that ends a set" in page
    pictures = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]  # noqa: S314 - our own
    assert len(pictures) == 2
    rule = [text.text for text in pictures[0].iter("text")]
    tally = told["rules"]["velocity_loss_stop"]
    place = rule.index("velocity_loss_stop")
    assert rule[place + 1 : place + 3] == [f"before {tally['before']}", f"after {tally['after']}"]
    for patient, lines in told["in_words"].items():
        assert f"<h3>{patient}</h3>" in page
        assert all(line in page for line in lines)
    assert not re.search(r"(src|href)=|@import|url\(", page)  # it needs nothing else


async def test_the_same_policy_on_the_command_line_gives_no_difference(
    data: Path, spineloop: Spineloop, tmp_path: Path
) -> None:
    (tmp_path / "same.toml").write_text("vl_stop_pct = 20.0")
    said = await in_thread(spineloop, "replay", "--data", data, "--policy", tmp_path / "same.toml", "--json")
    plain = await in_thread(spineloop, "replay", "--data", data, "--json")
    assert (said.told["differences"], said.told["changed"], said.told["in_words"]) == (0, {}, {})
    assert said.told["digest"] == plain.told["digest"]
    text = await in_thread(spineloop, "replay", "--data", data, "--policy", tmp_path / "same.toml")
    assert "0 decisions differ" in text.out


def test_a_page_without_any_command_says_so_and_what_is_not_ours_is_escaped() -> None:
    nothing = SideBySide(
        records=0, sessions=0, rules={}, patients={}, differences=0, shown=(), digest_before="", digest_after="",
        letters={}, missing={},
    )  # fmt: skip
    page = policy_report.html(nothing, Policy(), Policy(), "<b>all</b>")
    assert "No command under either policy." in page
    assert "Nothing: both policies are the same." in page
    assert "&lt;b&gt;all&lt;/b&gt;" in page
