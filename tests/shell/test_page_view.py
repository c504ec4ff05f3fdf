"""What the operator page knows: folded from the log in any order between topics, bounded, and told in sentences."""

import json
import struct
import tracemalloc
from collections import defaultdict
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dashboards.live import curve, machine, sentences, shown
from dashboards.live.board import Board
from dashboards.live.machine import SILENT_MS, MachineView
from dashboards.live.patients import Patients
from dashboards.live.view import RAW_BYTES, TOPICS, View
from spineloop import redriving
from spineloop.specimens import SPECIMENS
from streams.core import codec
from streams.core.baseline import Baseline
from streams.core.commands import Change, Command, Evidence
from streams.core.dead_letters import dead_letter
from streams.core.measure import measure
from streams.core.operators import OperatorAsked
from streams.core.outputs import repeated, to_records
from streams.core.plan_rules import PLAN_RULES
from streams.core.plans import PlanMade
from streams.core.policy import DEFAULT
from streams.core.records import REPLAYED, NewRecord
from streams.core.results import CommandClosed, Notice, PatientAssessed, RepMeasured, SessionSummarised
from streams.core.session_rules import SESSION_RULES
from streams.core.telemetry import Heartbeat, Offline, Online, Released, Rep, SessionRequested, Telemetry
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY
from tests.core.story import CAPABILITIES, PRESCRIPTION, Machine
from tests.shell import clinic
from tests.shell.clinic import NOW_MS, STEADY, TIRING

KEY = "acme/north/lumbar-1"


def seen(records: Sequence[NewRecord], view: View | None = None) -> View:
    view = View() if view is None else view
    for record in clinic.placed(records):
        view.take(record)
    assert view.unread == 0
    return view


def plain(told: Any) -> Any:
    return json.loads(msgspec.json.encode(told))


def all_of_it(view: View) -> Any:
    keys = sorted(one.key for one in view)
    return plain(
        [
            [shown.tile(view.get(key) or MachineView(key), NOW_MS, DEFAULT) for key in keys],
            [shown.one_machine(view, key, NOW_MS) for key in keys],
            [shown.one_patient(view, patient) for patient in ("acme/p1", "acme/p2")],
        ]
    )


def test_a_tile_says_who_trains_which_rep_of_which_set_and_the_loss_against_its_limit() -> None:
    view = seen(clinic.whole(clinic.session(KEY, TIRING)))
    tile = shown.tile(view.get(KEY) or MachineView(KEY), NOW_MS, DEFAULT)
    assert tile == {
        "key": KEY,
        "state": "training",
        "alarms": 0,
        "patient": "acme/p1",
        "exercise": "lumbar_extension",
        "set": 1,
        "rep": 6,
        "sets": 2,
        "target": 10,
        "loss": pytest.approx(28.0, abs=2.0),
        "limit": 20.0,
    }


def test_every_rep_of_a_long_set_is_counted_once_though_the_last_are_listed() -> None:
    records = clinic.whole(clinic.session(KEY, [0.5] * (machine.MAX_REPS + 10)))
    view = seen([*records, *records])
    assert shown.tile(view.get(KEY) or MachineView(KEY), NOW_MS, DEFAULT)["rep"] == machine.MAX_REPS + 10
    session = shown.one_machine(view, KEY, NOW_MS)["session"]
    assert (session["counted"], len(session["reps"]), session["reps"][-1]["n"]) == (70, 60, 70)


def test_the_loss_that_is_shown_is_the_one_that_decides() -> None:
    view = seen(clinic.whole(clinic.session(KEY, TIRING)))
    detail = shown.one_machine(view, KEY, NOW_MS)
    (command,) = detail["commands"]
    told = [value for name, value in command["evidence"] if name == "velocity_loss_robust_pct"]
    assert [rep["loss"] for rep in detail["session"]["reps"]][-2:] == [
        pytest.approx(float(one), abs=0.06) for one in told
    ]
    assert command["text"].startswith("Set ended: velocity loss ")
    assert command["text"].endswith(" on two reps in a row, limit 20 %.")


BEGUN = clinic.session(KEY, STEADY[:2])


@pytest.mark.parametrize(
    ("told", "later_ms", "state"),
    [
        ([(KEY, Online(boot_id="b1", capabilities=CAPABILITIES), NOW_MS)], 0, "idle"),
        (BEGUN[:4], 0, "training"),
        (BEGUN[:3], 0, "resting"),
        (BEGUN, 0, "training"),
        (BEGUN, SILENT_MS + 1, "silent"),
        (clinic.session(KEY, STEADY, end=True), 0, "idle"),
        (clinic.session(KEY, STEADY, stop=True), 0, "stopped"),
        (clinic.session(KEY, STEADY, stop=True), SILENT_MS + 1, "stopped"),
        ([*BEGUN, (KEY, Offline(boot_id="b1"), NOW_MS)], 0, "stopped"),  # the link was lost while a patient trained
        ([BEGUN[0], (KEY, Offline(boot_id="b1"), NOW_MS)], 0, "offline"),
    ],
)
def test_the_state_of_a_machine_is_one_word(told: clinic.Told, later_ms: int, state: str) -> None:
    one = seen(clinic.whole(told)).get(KEY)
    assert one is not None
    assert one.state(NOW_MS + later_ms) == state


def test_a_session_that_was_asked_for_waits_until_it_begins() -> None:
    request = Machine().say(
        SessionRequested, session="s1", patient="acme/p1", exercise="lumbar_extension", settings="h1"
    )
    view = seen(clinic.spoken([(KEY, request, NOW_MS)]))
    assert shown.one_machine(view, KEY, NOW_MS)["state"] == "waiting"


@pytest.mark.parametrize("topics", [(TELEMETRY, METRIC), (METRIC, TELEMETRY)])
def test_nobody_waits_at_a_machine_that_began_anew_since(topics: tuple[str, ...]) -> None:
    request = SessionRequested(
        boot_id="b1", seq=0, t_us=1, session="s1", patient="acme/p1", exercise="lumbar_extension", settings="h1"
    )
    anew: list[Telemetry] = [Online(boot_id="b2", capabilities=CAPABILITIES), Heartbeat(boot_id="b2", seq=0, t_us=0)]
    records = clinic.whole(clinic.timed(KEY, [Machine().online(), request, Offline(boot_id="b1"), *anew]))
    view = seen([record for topic in topics for record in records if record.topic == topic])
    assert (view.get(KEY) or MachineView(KEY)).state(NOW_MS) == "idle"
    assert "patient" not in shown.tile(view.get(KEY) or MachineView(KEY), NOW_MS, DEFAULT)
    assert shown.one_machine(view, KEY, NOW_MS)["session"]["stage"] == "over"
    assert shown.one_patient(view, "acme/p1")["at"] == []


def test_a_clinicians_release_ends_a_stop() -> None:
    told = clinic.session(KEY, STEADY, stop=True)
    release = Released(boot_id="b1", seq=99, t_us=99_000_000, by="physio-1")
    view = seen([*clinic.whole(told), *clinic.spoken([(KEY, release, NOW_MS + 1)])])
    one = view.get(KEY)
    assert one is not None
    assert one.state(NOW_MS + 2) != "stopped"
    assert [alarm.seen_by for alarm in one.alarms] == [None]  # released, and still nobody has said that it was seen


def test_a_stop_from_the_page_is_no_sign_of_life_of_a_machine_that_hangs() -> None:
    later_ms = NOW_MS + 600_000
    wish = OperatorAsked(machine=KEY, id="1" * 32, by="Kim", reason="it hangs", action="stop")
    spoken = clinic.spoken(clinic.session(KEY, STEADY)) + to_records(wish, later_ms)
    view = seen(spoken + clinic.concluded(spoken))
    told_ = shown.one_machine(view, KEY, later_ms)
    assert (told_["state"], told_["heard_ms"]) == ("stopped", NOW_MS)


TWO_VISITS = [
    *clinic.session(KEY, TIRING, end=True, until_ms=NOW_MS - 60_000),
    *clinic.session("acme/north/lumbar-2", STEADY, stop=True, patient="acme/p2"),
]
ALL_OF_IT = clinic.whole(TWO_VISITS)


@given(dice=st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_in_which_order_the_topics_are_read_changes_nothing(dice: Any) -> None:
    by_topic: dict[str, list[NewRecord]] = defaultdict(list)
    for record in ALL_OF_IT:
        by_topic[record.topic].append(record)
    mixed: list[NewRecord] = []
    while any(by_topic.values()):
        mixed.append(by_topic[dice.choice([topic for topic, rest in by_topic.items() if rest])].pop(0))
    assert all_of_it(seen(mixed)) == all_of_it(seen(ALL_OF_IT))


@pytest.mark.parametrize("topics", list(permutations([TELEMETRY, METRIC, COMMAND, PATIENT])))
def test_a_topic_may_be_read_to_its_end_before_another_is_begun(topics: tuple[str, ...]) -> None:
    one_by_one = [record for topic in topics for record in ALL_OF_IT if record.topic == topic]
    assert all_of_it(seen(one_by_one)) == all_of_it(seen(ALL_OF_IT))


@given(dice=st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_what_is_read_twice_changes_nothing(dice: Any) -> None:
    again = [dice.choice(ALL_OF_IT) for _ in range(20)]
    assert all_of_it(seen([*ALL_OF_IT, *again])) == all_of_it(seen(ALL_OF_IT))


def test_the_controller_is_not_behind_for_a_rep_that_is_said_again() -> None:
    told_ = clinic.session(KEY, STEADY)
    again = (*told_[-1][:2], NOW_MS + 14_000)
    assert seen(clinic.whole([*told_, again])).behind_ms == 0
    assert (
        seen([*clinic.whole(told_), *clinic.spoken([(KEY, Machine("b2").rep(1), NOW_MS + 14_000)])]).behind_ms == 14_000
    )


def test_how_many_reps_are_known_when_they_come_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.live.view.MAX_REPS_KNOWN", 3)
    view = seen(clinic.spoken(clinic.session(KEY, STEADY)))
    assert len(view._reps) == 3  # noqa: SLF001


def test_a_late_word_of_an_earlier_session_does_not_bring_it_back() -> None:
    first = clinic.session(KEY, STEADY, end=True, until_ms=NOW_MS - 60_000)
    view = seen(clinic.whole(first))
    request = SessionRequested(
        boot_id="b1", seq=50, t_us=1, session="s2", patient="acme/p2", exercise="lumbar_extension", settings="h1"
    )
    seen(clinic.spoken([(KEY, request, NOW_MS)]), view)
    said_ = [codec.decode_metric(one.value or b"") for one in clinic.whole(first) if one.topic == METRIC]
    rep = next(one for one in said_ if isinstance(one, RepMeasured))
    seen(to_records(replace(rep, at_ms=NOW_MS + 5, rep_number=40), NOW_MS + 5), view)
    assert shown.one_machine(view, KEY, NOW_MS)["session"]["id"] == "s2"


def test_a_page_that_begins_in_the_middle_of_a_session_shows_what_goes_on() -> None:
    records = clinic.whole(clinic.session(KEY, TIRING))
    view = seen([one for one in records if one.topic != TELEMETRY])
    session = shown.one_machine(view, KEY, NOW_MS)["session"]
    assert (session["patient"], session["set"], len(session["reps"]), session["stage"]) == ("acme/p1", 1, 6, "running")


def test_what_cannot_be_read_is_counted_and_the_page_goes_on() -> None:
    view = View()
    for record in clinic.placed([NewRecord(topic, b"\xff", b"?", NOW_MS) for topic in TOPICS]):
        view.take(record)
    assert view.unread == len(TOPICS) - 1  # whatever it holds, a dead letter is a dead letter
    assert seen(clinic.whole(BEGUN), View()).get(KEY) is not None


# --- Commands, alarms, what operators ask for


def told(text: str, action: str = "end_set", **fields: Any) -> Command:
    given_: dict[str, Any] = {
        "command_id": f"{KEY}/b1/8/{text}",
        "machine": KEY,
        "boot_id": "b1",
        "sequence": 64,
        "action": action,
        "rule": text,
        "cause": f"{KEY}/b1/8",
        "evidence": (Evidence("m", "button", "stop"),),
        "policy": "p",
        "issued_ms": NOW_MS,
        "expires_ms": NOW_MS + 30_000,
    }
    return Command(**(given_ | fields))


def test_a_command_that_is_sent_again_is_the_same_one_and_its_end_is_shown() -> None:
    command = told("velocity_loss_stop")
    again = repeated(command, 2, NOW_MS + 5_000)
    closed = CommandClosed(
        id=f"{command.command_id}/closed",
        machine=KEY,
        cause="c",
        at_ms=NOW_MS,
        command_id=command.command_id,
        rule=command.rule,
        action=command.action,
        outcome="rejected",
        reason="set_over",
    )
    view = seen([*to_records(closed, NOW_MS), *to_records(command, NOW_MS), again])
    (one,) = shown.one_machine(view, KEY, NOW_MS)["commands"]
    assert (one["outcome"], one["reason"]) == ("rejected", "set over")
    assert view.commands == {"issued": 1, "repeated": 1, "rejected": 1}


def asked(action: str, number: int = 1, alarm: str | None = None) -> list[NewRecord]:
    wish = OperatorAsked(
        machine=KEY,
        id=f"{number:032x}",
        by="Kim",
        reason="patient unwell",
        action=action,  # type: ignore[arg-type]
        alarm=alarm,
    )
    return to_records(wish, NOW_MS)


@pytest.mark.parametrize("ack_first", [False, True])
def test_an_alarm_stays_until_somebody_has_seen_it_and_says_who(ack_first: bool) -> None:
    stop = told("emergency_stop", "stop")
    stopped, acknowledged = to_records(stop, NOW_MS), asked("acknowledge", alarm=stop.command_id)
    view = seen([*acknowledged, *stopped] if ack_first else [*stopped, *acknowledged])
    assert shown.alarms(view) == ([], 0)
    (alarm,) = shown.one_machine(view, KEY, NOW_MS)["alarms"]
    assert (alarm["seen_by"], alarm["seen_why"]) == ("Kim", "patient unwell")


@pytest.mark.parametrize("topics", [(TELEMETRY, COMMAND), (COMMAND, TELEMETRY)])
def test_an_alarm_has_the_machines_unit_whichever_topic_is_read_first(topics: tuple[str, ...]) -> None:
    forces = (Evidence("m", "peak_force", 320.0), Evidence("m", "peak_force_reference", 180.0))
    stop = told("emergency_stop", "stop", evidence=forces)
    records = [*clinic.spoken(clinic.session(KEY)), *to_records(stop, NOW_MS)]
    view = seen([record for topic in topics for record in records if record.topic == topic])
    text = "Machine stopped and locked: a force of 320 N m, the patient's own peak is 180 N m."
    assert [alarm["text"] for alarm in shown.alarms(view)[0]] == [text]
    assert [alarm["text"] for alarm in shown.one_machine(view, KEY, NOW_MS)["alarms"]] == [text]


def test_what_a_replay_writes_again_opens_no_alarm_and_is_no_news_of_a_machine() -> None:
    old = Notice(id="n", machine=KEY, cause="c", at_ms=NOW_MS - 9, name="refused", severity="alarm", detail="x")
    view = seen([replace(one, headers=(*one.headers, (REPLAYED, b"1"))) for one in to_records(old, NOW_MS - 9)])
    assert (shown.alarms(view), view.get(KEY), view.counts[METRIC], view.last_ms) == (([], 0), None, 0, {})


def test_alarms_of_the_fleet_come_newest_first_and_all_are_counted() -> None:
    stops = [
        told("emergency_stop", "stop", machine=f"a/b/m{n}", command_id=f"c{n}", issued_ms=NOW_MS + n) for n in range(70)
    ]
    listed, count = shown.alarms(seen([record for stop in stops for record in to_records(stop, NOW_MS)]))
    assert (count, len(listed), listed[0]["machine"]) == (70, shown.MAX_ALARMS, "a/b/m69")


def test_what_an_operator_asked_for_shows_how_far_it_has_come() -> None:
    records = clinic.spoken(clinic.session(KEY, STEADY)) + asked("stop")
    view = seen(records)
    status = [shown.one_machine(view, KEY, NOW_MS)["asked"][0]["status"]]
    concluded = clinic.concluded(records)
    seen(concluded, view)
    status.append(shown.one_machine(view, KEY, NOW_MS)["asked"][0]["status"])
    stop = next(codec.decode_command(one.value or b"") for one in concluded if one.topic == COMMAND)
    end = CommandClosed(
        id="x", machine=KEY, cause="c", at_ms=NOW_MS, command_id=stop.command_id, rule="r", action="stop",
        outcome="applied",
    )  # fmt: skip
    seen(to_records(end, NOW_MS), view)
    detail = shown.one_machine(view, KEY, NOW_MS)
    assert [*status, detail["asked"][0]["status"]] == ["recorded", "sent", "applied"]
    assert (
        detail["commands"][0]["text"] == "Machine stopped and locked: Kim pressed STOP on this page (“patient unwell”)."
    )
    assert detail["state"] == "stopped"


def answered() -> list[NewRecord]:
    """Tell of a STOP and an acknowledgement, their answers, and so much an hour later that every list is full."""
    stop, acknowledgement = asked("stop"), asked("acknowledge", 2, alarm="a1")
    said_ = [*stop, *acknowledgement, *clinic.concluded([*clinic.spoken(clinic.session(KEY)), *stop, *acknowledgement])]
    for n in range(machine.MAX_COMMANDS + machine.MAX_CLOSED):
        later_ms = NOW_MS + 3_600_000 + n
        command = told("tempo_or_bounce", "cue", command_id=f"c{n}", cause=f"{KEY}/b1/{n}", issued_ms=later_ms)
        notice = Notice(id=f"n{n}", machine=KEY, cause="c", at_ms=later_ms, name="late", severity="info", detail="x")
        said_ += [record for one in (command, notice, closed_of(command)) for record in to_records(one, later_ms)]
    return said_


def closed_of(command: Command) -> CommandClosed:
    return CommandClosed(
        id=f"{command.command_id}/closed", machine=KEY, cause="c", at_ms=command.issued_ms,
        command_id=command.command_id, rule=command.rule, action=command.action, outcome="applied",
    )  # fmt: skip


@pytest.mark.parametrize("topics", list(permutations([TELEMETRY, METRIC, COMMAND])))
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_wish_that_was_answered_never_falls_back_whatever_comes_later_and_whichever_topic_is_read_first(
    topics: tuple[str, ...], is_closed: bool
) -> None:
    records = answered()
    if is_closed:
        stop = next(codec.decode_command(one.value or b"") for one in records if one.topic == COMMAND)
        first = next(n for n, one in enumerate(records) if one.topic == COMMAND)
        records[first + 1 : first + 1] = to_records(closed_of(stop), NOW_MS)
    view = seen([record for topic in topics for record in records if record.topic == topic])
    status = [one["status"] for one in shown.one_machine(view, KEY, NOW_MS)["asked"]]
    assert status == ["noted", "applied" if is_closed else "sent"]


# --- Bounds


def test_five_hundred_busy_machines_take_less_than_50_megabytes() -> None:
    notices = [
        Notice(id=f"{KEY}/{n}", machine=KEY, cause="c", at_ms=n, name="refused", severity="alarm", detail="x" * 200)
        for n in range(machine.MAX_NOTICES)
    ]
    evidence = (Evidence("m" * 40, "mean_velocity", 0.51234),) * 12
    stops = [told("r", "stop", command_id=f"{KEY}/b1/{n}/r", evidence=evidence) for n in range(machine.MAX_COMMANDS)]
    longest = clinic.session(KEY, [0.5] * machine.MAX_REPS)
    said_ = [one for one in clinic.concluded(clinic.spoken(longest)) if one.topic == METRIC]
    told_ = [record for one in notices for record in to_records(one, NOW_MS)]
    told_ += [record for one in stops for record in to_records(one, NOW_MS)]
    full = clinic.placed([*said_, *told_, *clinic.spoken(longest)[-1:]])
    tracemalloc.start()
    view = View()
    for n in range(50):  # a tenth, because memory that is watched is slow
        key = f"acme/north/lumba{n:03}".encode()
        assert len(key) == len(KEY)
        for record in full:
            view.take(replace(record, key=key, value=(record.value or b"").replace(KEY.encode(), key)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(one.session.reps) for one in view if one.session] == [machine.MAX_REPS] * 50
    assert {(len(one.commands), len(one.notices), len(one.alarms)) for one in view} == {(12, 12, 8)}
    assert 10 * held < 50e6


def test_lists_of_one_machine_are_bounded_however_much_is_read() -> None:
    view = View()
    for n in range(200):
        seen(to_records(told("r", "stop", command_id=f"c{n}", issued_ms=n), n), view)
        notice = Notice(id=f"n{n}", machine=KEY, cause="c", at_ms=n, name="late", severity="info", detail="x")
        seen(to_records(notice, n), view)
        seen(asked("acknowledge", n, alarm=f"c{n}"), view)
        seen([dead_letter(NewRecord(METRIC, b"k", b"?", n), stage="history", reason="bad_value", detail="x")], view)
    one = view.get(KEY)
    assert one is not None
    assert (len(one.commands), len(one.notices), len(one.alarms), len(one.asked), len(view.letters)) == (
        12,
        12,
        8,
        6,
        200,
    )


def test_alarms_that_nobody_has_seen_stay_longest() -> None:
    view = seen(to_records(told("r", "stop", command_id="first", issued_ms=0), 0))
    for n in range(1, 20):
        seen(to_records(told("r", "stop", command_id=f"c{n}", issued_ms=n), n), view)
        seen(asked("acknowledge", n, alarm=f"c{n}"), view)
    assert [alarm["id"] for alarm in shown.alarms(view)[0]] == ["first"]


def test_samples_of_last_reps_are_bounded_and_those_read_last_stay() -> None:
    (told_,) = clinic.spoken(clinic.session(KEY, [0.5]))[-1:]
    size = len(told_.value or b"")
    view = View(raw_bytes=3 * size)
    for n in range(5):
        seen([replace(told_, key=f"acme/north/lumbar-{n}".encode())], view)
    drawn = [n for n in range(5) if view.curve(f"acme/north/lumbar-{n}") is not None]
    assert drawn == [2, 3, 4]
    assert 500 * size < RAW_BYTES


def test_a_patients_history_is_bounded_as_a_whole_and_the_oldest_leaves() -> None:
    summary = next(
        codec.decode_metric(one.value or b"")
        for one in clinic.whole(clinic.session(KEY, STEADY, end=True))
        if one.topic == METRIC and b"session_summarised" in (one.value or b"")
    )
    assert isinstance(summary, SessionSummarised)
    patients = Patients(max_rows=4)
    for n in range(20):
        patients.summarised(replace(summary, id=f"s{n}", at_ms=n, patient=f"acme/p{n % 4}"))
    kept = [len(patients.history(f"acme/p{n}")["sessions"]) for n in range(4)]
    assert kept == [2, 2, 2, 2]
    assert [row.id for row in patients.history("acme/p3")["sessions"]] == ["s19", "s15"]
    assert "acme/p9" not in patients


# --- Patients, curves, letters


def test_a_patient_has_sessions_and_assessments_and_the_machine_they_train_at() -> None:
    assessed = PatientAssessed(
        id="a", machine=KEY, cause="c", at_ms=NOW_MS, patient="acme/p1", exercise="lumbar_extension", side="both",
        intent="max", settings="h1", load_N=300.0, sessions=4, clean_sessions=3,
        values={"strength_trend_pct": 104.0, "symmetry_index_pct": -18.0}, undefined={},
    )  # fmt: skip
    records = clinic.whole(clinic.session(KEY, STEADY, end=True)) + to_records(assessed, NOW_MS)
    records += clinic.spoken(clinic.session("acme/north/lumbar-9", [0.5]))
    told_ = plain(shown.one_patient(seen(records), "acme/p1"))
    assert (told_["known"], told_["at"], len(told_["sessions"])) == (True, ["acme/north/lumbar-9"], 1)
    assert told_["assessments"][0]["symmetry_pct"] == -18.0
    assert told_["units"] == {KEY: "N m"}
    assert not shown.one_patient(seen([]), "acme/p404")["known"]


def test_the_last_reps_curve_is_what_the_core_measures_beside_the_patients_own() -> None:
    told_ = clinic.session(KEY, STEADY)
    view = seen(clinic.whole(told_))
    drawn = shown.one_machine(view, KEY, NOW_MS)["curve"]
    rep = told_[-1][1]
    assert isinstance(rep, Rep)
    (measured,) = measure([rep])
    assert drawn["force"] == curve.points(measured.curve)
    assert (drawn["n"], len(drawn["force"]), drawn["own"]) == (len(STEADY), 101, ())


@pytest.mark.parametrize(("corrected", "is_shown"), [(False, True), (True, False), (None, True)])
def test_a_curve_of_corrected_force_is_not_drawn_beside_one_that_is_not(corrected: bool | None, is_shown: bool) -> None:
    own = Baseline(load_N=300.0, curve=struct.pack("<101f", *[300.0] * 101), corrected=corrected)
    plan = SPECIMENS["plan_made"]
    assert isinstance(plan, PlanMade)
    plan = replace(plan, machine=KEY, command=replace(plan.command, machine=KEY, session="s1"), baseline=own)
    told_ = NewRecord(TELEMETRY, KEY.encode(), codec.encode(plan), NOW_MS)
    drawn = shown.one_machine(seen([*clinic.whole(clinic.session(KEY, STEADY)), told_]), KEY, NOW_MS)["curve"]
    assert bool(drawn["own"]) is is_shown


def test_a_rep_without_a_curve_says_why() -> None:
    rep = replace(
        clinic.session(KEY, STEADY)[-1][1], force=struct.pack("<h", -32768) * 2, samples=2, position=b"\0" * 4
    )
    drawn = curve.of(KEY, codec.encode(rep))
    assert drawn is not None
    assert (drawn.force, drawn.why != "") == ((), True)
    assert curve.of(KEY, codec.encode(Heartbeat(boot_id="b1", seq=1, t_us=1))) is None
    assert curve.of(KEY, b"?") is None


def test_a_dead_letter_tells_place_stage_and_reason_and_nothing_of_its_content() -> None:
    letter = dead_letter(
        NewRecord(TELEMETRY, KEY.encode(), b"secret", 5), stage="controller", reason="bad_value", detail="why"
    )
    told_ = plain(shown.letters(seen([letter])))
    assert told_["reasons"] == [["bad_value", 1]]
    (one,) = told_["letters"]
    assert (one["key"], one["stage"], one["detail"], one["size"], one["source"]) == (
        KEY,
        "controller",
        "why",
        6,
        TELEMETRY,
    )
    assert "secret" not in json.dumps(told_)


def test_marks_of_a_redrive_are_no_dead_letters() -> None:
    letter = dead_letter(
        NewRecord(TELEMETRY, KEY.encode(), b"?", 5), stage="controller", reason="bad_value", detail="x"
    )
    (lies,) = clinic.placed([letter])
    marks = [
        redriving._mark(lies, "begun", NOW_MS, redriving.Begun(TELEMETRY, {0: 1})),  # noqa: SLF001
        redriving._mark(lies, "done", NOW_MS),  # noqa: SLF001
    ]
    told_ = shown.letters(seen([letter, *marks]))
    assert (len(told_["letters"]), told_["reasons"]) == (1, [("bad_value", 1)])
    copied = dead_letter(marks[0], stage="controller", reason="bad_type", detail="a stranger put it into the telemetry")
    assert shown.letters(seen([letter, *marks, copied]))["reasons"] == [("bad_value", 1), ("bad_type", 1)]


def test_a_browser_is_told_only_what_changed_since_it_looked() -> None:
    view = seen(clinic.whole(clinic.fleet(20)))
    board = Board(view)
    board.refresh(NOW_MS)
    assert len(board.since(0)["tiles"]) == 20
    before = board.version
    board.refresh(NOW_MS + 10)
    assert board.since(before) == {}
    key = "acme/south/flexion-01"
    seen(to_records(told("emergency_stop", "stop", machine=key), NOW_MS), view)
    board.refresh(NOW_MS + 20)
    news = board.since(before)
    assert ([json.loads(bytes(raw))["key"] for raw in news["tiles"]], news["alarm_count"]) == ([key], 2)
    before = board.version
    board.refresh(NOW_MS + SILENT_MS + 2_000)  # nothing was read, but time has passed
    assert {json.loads(bytes(raw))["state"] for raw in board.since(before)["tiles"]} == {"silent"}


def test_a_machine_that_the_view_drops_leaves_the_board_and_every_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.live.view.MAX_MACHINES", 2)
    view, first, second, third = View(), "acme/north/lumbar-1", "acme/north/lumbar-2", "acme/north/lumbar-3"
    board = Board(seen(clinic.whole([*clinic.session(first), *clinic.session(second)]), view))
    board.refresh(NOW_MS)
    before = board.version
    seen(clinic.whole(clinic.session(third)), view)
    board.refresh(NOW_MS + 1_000)
    news = board.since(before)
    assert (news["gone"], [json.loads(bytes(raw))["key"] for raw in news["tiles"]]) == ([first], [third])
    assert {json.loads(bytes(raw))["key"] for raw in board.since(0)["tiles"]} == {second, third}
    assert "gone" not in board.since(0) | board.since(board.version)
    before = board.version
    seen(clinic.whole(clinic.session(first)), view)  # it comes back, and another one leaves
    board.refresh(NOW_MS + 2_000)
    news = board.since(before)
    assert (news["gone"], [json.loads(bytes(raw))["key"] for raw in news["tiles"]]) == ([second], [first])


def test_of_how_many_patients_it_is_known_when_they_changed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.live.view.MAX_PATIENTS", 2)
    view = View()
    for n in (1, 2, 1, 3):
        assessed = PatientAssessed(
            id=f"a{n}{view.version}", machine=KEY, cause="c", at_ms=NOW_MS, patient=f"acme/p{n}", exercise="row",
            side="both", intent="max", settings="h1", load_N=300.0, sessions=4, clean_sessions=3, values={},
            undefined={},
        )  # fmt: skip
        seen(to_records(assessed, NOW_MS), view)
    assert [view.version_of(f"patient acme/p{n}") for n in (1, 2, 3)] == [3, 0, 4]


# --- Sentences


def test_every_rule_that_commands_has_its_own_words() -> None:
    mute = {"data_hold", "front_back_balance", "plateau_review"}  # these tell, and command nothing
    rules = {rule.id for rule in SESSION_RULES} | {rule.id for rule in PLAN_RULES}
    assert rules - mute <= set(sentences.GROUNDS)


def said(rule: str, action: str, evidence: dict[str, Any], **fields: Any) -> str:
    rows = [
        Evidence("m", name, value)
        for name, values in evidence.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return sentences.sentence(told(rule, action, evidence=tuple(rows), **fields), "rad", DEFAULT)


@pytest.mark.parametrize(
    ("rule", "action", "evidence", "fields", "text"),
    [
        (
            "velocity_loss_stop",
            "end_set",
            {"velocity_loss_robust_pct": [21.4, 23.1]},
            {},
            "Set ended: velocity loss 21 % and 23 % on two reps in a row, limit 20 %.",
        ),
        (
            "pain_reduce",
            "lower_load",
            {"pain_nrs": 4.0, "pain_nrs_at_start": 0},
            {"changes": (Change(quantity="load_N", old=390.0, new=350.0, bound=20.0),)},
            "Load lowered from 390 to 350 N m: pain 4 of 10, 0 at the start.",
        ),
        ("emergency_stop", "stop", {"link": "offline"}, {}, "Machine stopped and locked: the machine went offline."),
        (
            "emergency_stop",
            "stop",
            {"peak_force": 512.3, "peak_force_reference": 380.0},
            {},
            "Machine stopped and locked: a force of 512 N m, the patient's own peak is 380 N m.",
        ),
        (
            "rom_limit",
            "tighten_range",
            {"rom_completeness_pct": [107.2, 108.9]},
            {"changes": (Change(quantity="window_hi", old=1.0, new=0.95, bound=0.9),)},
            (
                "Far end of the range moved from 57.3° to 54.4°: "
                "two reps in a row went to 107.2 % and 108.9 % of the prescribed range, limit 105 %."
            ),
        ),
        (
            "paced_fatigue_stop",
            "end_set",
            {"tul_of_set_s": 181.2, "tul_cap_s": 180.0},
            {},
            "Set ended: time under load 181 s, limit 180 s.",
        ),
        (
            "tempo_or_bounce",
            "cue",
            {"eccentric_time_s": [1.4, 1.3], "eccentric_time_s_prescribed": [2.0, 2.0], "bounce": 1},
            {"cue": "slow_down"},
            (
                "Hint on the screen, “slow down”: "
                "two hasty reps in a row, the way back took 1.3 s instead of 2 s and the movement bounced."
            ),
        ),
        (
            "progress_load",
            "prescribe",
            {"last_set_reps": 11.0},
            {
                "prescription": replace(PRESCRIPTION, load_N=315.0),
                "changes": (Change(quantity="load_N", old=300.0, new=315.0, bound=330.0),),
            },
            (
                f"Session prescribed, 315 N m, 2 {sentences.TIMES} 10 (load raised from 300 to 315 N m): "
                "the last 2 sessions met every condition; asks for confirmation."
            ),
        ),
        (
            "rest_extend",
            "drop_set",
            {"set_recovery": 0.86},
            {"changes": (Change(quantity="sets", old=3, new=2, bound=2),)},
            "2 sets instead of 3: the best rep reached 86 % of the first set's velocity, at least 90 %.",
        ),
        (
            "rest_extend",
            "extend_rest",
            {"set_recovery": 0.897},
            {"changes": (Change(quantity="rest_s", old=60.0, new=90.0, bound=90.0),)},
            "Rest lengthened from 60 to 90 s: the best rep reached 89.7 % of the first set's velocity, at least 90 %.",
        ),
        (
            "side_balance",
            "prescribe",
            {"symmetry_index_pct": [18.0, 17.2, 19.9], "weaker_side": "left"},
            {},
            "Session prescribed: the left side was weaker in 3 tests in a row (18 %, 17 %, 20 %).",
        ),
        ("resend", "resend", {"missing_seq": 3}, {}, "Asked for messages that never came: 3 are missing."),
        ("of_tomorrow", "end_set", {"some_number": 3.14159}, {}, "Set ended: some number 3.14."),
    ],
)  # fmt: skip
def test_a_command_is_told_with_its_evidence_in_a_sentence(
    rule: str, action: str, evidence: dict[str, Any], fields: dict[str, Any], text: str
) -> None:
    assert said(rule, action, evidence, **fields) == text


NAMES = st.sampled_from(
    ["pain_nrs", "velocity_loss_robust_pct", "tul_of_set_s", "vote_rom", "link", "operator", "peak_force", "unmet", "x"]
)
VALUES = st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63), st.text(max_size=20))


@given(
    rule=st.sampled_from(sorted(sentences.GROUNDS)),
    action=st.sampled_from(["stop", "end_set", "lower_load", "cue", "prescribe", "drop_set"]),
    evidence=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    change=st.sampled_from(["load_N", "window_lo", "rest_s", "sets", "reps", "tul_s", "hold_s"]),
)
def test_no_evidence_leaves_the_page_without_a_sentence(
    rule: str, action: str, evidence: list[tuple[str, Any]], change: str
) -> None:
    rows = tuple(Evidence("m", name, value) for name, value in evidence)
    changes = (Change(quantity=change, old=2, new=1.0),)  # type: ignore[arg-type]
    text = sentences.sentence(told(rule, action, evidence=rows, changes=changes), None, None)
    assert text.endswith(".")


def test_a_command_of_another_policy_is_told_without_our_limits() -> None:
    evidence = tuple(Evidence("m", "velocity_loss_robust_pct", loss) for loss in (26.0, 28.0))
    view = seen(to_records(told("velocity_loss_stop", evidence=evidence, policy="another"), NOW_MS))
    assert "limit" not in shown.one_machine(view, KEY, NOW_MS)["commands"][0]["text"]


def test_every_topic_of_the_log_that_tells_something_is_read() -> None:
    assert DEAD_LETTER in TOPICS
    assert len(TOPICS) == 5
