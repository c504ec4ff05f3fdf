"""Records as points: what becomes a tag, what a field, and at which nanosecond."""

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptors.line_protocol import line
from adaptors.points import Point, points, time_ns
from streams.core import catalogue, codec
from streams.core.commands import Change, Command, Evidence
from streams.core.danger import early_stop
from streams.core.errors import Malformed
from streams.core.operators import OperatorAsked
from streams.core.records import Record
from streams.core.results import (
    CommandClosed,
    MachineSeen,
    Notice,
    PatientAssessed,
    RepMeasured,
    SessionSummarised,
    SetSummarised,
)
from streams.core.telemetry import Heartbeat, Prescription
from streams.core.topics import COMMAND, METRIC

MACHINE = "acme/north/lumbar-1"
AT_MS = 1_700_000_000_123
UNBOUNDED = {"session", "patient", "id", "cause", "command_id", "boot_id", "prescription", "detail", "reason"}
COUNTERS = {"seq", "sequence", "expires_ms"}

names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
seqs = st.integers(0, 2**63 - 1)
counts = st.integers(0, 1_000)
times = st.integers(0, 2**42)
sides = st.sampled_from(["both", "left", "right"])
intents = st.sampled_from(["max", "paced", "unknown"])
prescriptions = st.builds(
    Prescription, id=st.just("acme/p1/9"), load_N=st.floats(0, 5_000), window_lo=st.none() | st.floats(-1, 1)
)
Strategies = dict[str, st.SearchStrategy[Any]]
by_name: Strategies = {
    "values": st.dictionaries(names, numbers, max_size=5),
    "undefined": st.dictionaries(names, names, max_size=5),
}
common: Strategies = {"id": st.just(f"{MACHINE}/b1/7/x"), "machine": st.just(MACHINE), "cause": texts, "at_ms": times}
told: Strategies = {"session": texts, "patient": st.none() | texts, "exercise": names, "side": sides, "intent": intents}
told |= {"settings": texts, "ended_by": texts, "reps": counts, "valid_reps": counts, "incomplete": st.booleans()}
told |= common | by_name

reps = st.builds(
    RepMeasured,
    **(common | by_name),
    boot_id=names,
    seq=seqs,
    session=texts,
    patient=st.none() | texts,
    set_number=counts,
    rep_number=counts,
    exercise=names,
    side=sides,
    intent=intents,
    settings=texts,
    load_N=numbers,
    valid=st.booleans(),
    reasons=st.lists(names, max_size=3).map(tuple),
    commands=st.lists(texts, max_size=3).map(tuple),
    corrected=st.none() | st.booleans(),
)
set_summaries = st.builds(
    SetSummarised,
    **told,
    set_number=counts,
    load_N=numbers,
    accepted_reps=counts,
    target_reps=st.none() | counts,
    rpe=st.none() | counts,
    corrected=st.none() | st.booleans(),
)
session_summaries = st.builds(
    SessionSummarised,
    **(told | {"patient": texts}),
    prescription=st.none() | prescriptions,
    start_load_N=st.none() | numbers,
    load_N=st.none() | numbers,
    sets=counts,
    last_set_reps=counts,
    all_sets_done=st.booleans(),
    pain_max=st.none() | counts,
    rpe_max=st.none() | counts,
    rules_fired=st.dictionaries(names, counts, max_size=3),
    corrected=st.none() | st.booleans(),
)
closed_commands = st.builds(
    CommandClosed,
    **common,
    command_id=texts,
    rule=names,
    action=names,
    outcome=st.sampled_from(["applied", "rejected", "expired"]),
    reason=texts,
)
notices = st.builds(Notice, **common, name=names, severity=st.sampled_from(["info", "warning", "alarm"]), detail=texts)
assessments = st.builds(
    PatientAssessed,
    **(common | by_name),
    patient=texts,
    exercise=names,
    side=sides,
    intent=intents,
    settings=texts,
    load_N=numbers,
    sessions=counts,
    clean_sessions=counts,
)
sightings = st.builds(
    MachineSeen,
    **common,
    mode=st.sampled_from(["offline", "idle", "requested", "resting", "lifting", "locked"]),
    online=st.booleans(),
    boot_id=names,
    session=st.none() | texts,
    patient=st.none() | texts,
)
metrics = reps | set_summaries | session_summaries | assessments | closed_commands | sightings | notices
commands = st.builds(
    Command,
    command_id=st.just(f"{MACHINE}/b1/7/end_set"),
    machine=st.just(MACHINE),
    boot_id=st.just("b1"),
    sequence=seqs,
    action=st.sampled_from(["stop", "lower_load", "cue"]),
    rule=texts,
    cause=texts,
    evidence=st.lists(st.builds(Evidence, texts, names, st.none() | texts | numbers), max_size=3).map(tuple),
    changes=st.lists(
        st.builds(Change, quantity=st.just("load_N"), old=numbers, new=numbers, bound=st.none() | numbers), max_size=1
    ).map(tuple),
    session=st.none() | st.just("s1"),
    set_number=st.none() | counts,
    cue=st.none() | texts,
    prescription=st.none() | prescriptions,
    confirm=st.booleans(),
    policy=texts,
    issued_ms=times,
    expires_ms=times,
)


def recorded(message: object, topic: str = METRIC) -> Record:
    value = codec.encode(message) if not isinstance(message, bytes | None) else message  # type: ignore[arg-type]
    return Record(topic, 0, 0, MACHINE.encode(), value, AT_MS)


def point_of(message: object) -> Point:
    (point,) = points(recorded(message, COMMAND if isinstance(message, Command) else METRIC))
    return point


def rep(seq: int, boot_id: str = "b1") -> RepMeasured:
    return RepMeasured(
        id=f"{MACHINE}/{boot_id}/{seq}/rep",
        machine=MACHINE,
        cause=f"{MACHINE}/{boot_id}/{seq}",
        at_ms=AT_MS,
        boot_id=boot_id,
        seq=seq,
        session="s1",
        patient="acme/p1",
        set_number=2,
        rep_number=3,
        exercise="extension",
        side="left",
        intent="max",
        settings="h1",
        load_N=300.0,
        valid=False,
        reasons=("gap", "bounce"),
        values={"mean_velocity": 0.41},
        undefined={"tempo_error": "no_reference"},
        commands=("c1",),
        corrected=True,
    )


def test_a_rep_is_one_point_with_bounded_tags_and_its_metrics_as_fields() -> None:
    point = point_of(rep(7))
    assert point.measurement == "rep"
    assert point.tags == (
        ("exercise", "extension"),
        ("machine", "lumbar-1"),
        ("side", "left"),
        ("site", "north"),
        ("tenant", "acme"),
    )
    assert point.fields == {
        "mean_velocity": 0.41,
        "boot_id": "b1",
        "seq": 7,
        "session": "s1",
        "patient": "acme/p1",
        "set_number": 2.0,
        "rep_number": 3.0,
        "intent": "max",
        "settings": "h1",
        "load_N": 300.0,
        "valid": False,
        "reasons": "gap,bounce",
        "commands": 1.0,
        "corrected": True,
    }


def test_a_command_is_one_point_with_rule_and_action_as_tags_and_its_evidence_in_words() -> None:
    point = point_of(
        Command(
            command_id=f"{MACHINE}/b1/7/velocity_loss",
            machine=MACHINE,
            boot_id="b1",
            sequence=7,
            action="lower_load",
            rule="velocity_loss",
            cause=f"{MACHINE}/b1/7",
            evidence=(Evidence(f"{MACHINE}/b1/7", "velocity_loss", 23.1),),
            changes=(Change(quantity="load_N", old=300.0, new=270.0, bound=None),),
            policy="p1",
            issued_ms=AT_MS,
            expires_ms=AT_MS + 30_000,
        )
    )
    assert point.tags == (
        ("action", "lower_load"),
        ("machine", "lumbar-1"),
        ("rule", "velocity_loss"),
        ("site", "north"),
        ("tenant", "acme"),
    )
    assert point.fields == {
        "command_id": f"{MACHINE}/b1/7/velocity_loss",
        "cause": f"{MACHINE}/b1/7",
        "boot_id": "b1",
        "sequence": 7,
        "policy": "p1",
        "confirm": False,
        "expires_ms": AT_MS + 30_000,
        "evidence": f"velocity_loss=23.1 ({MACHINE}/b1/7)",
        "load_N_old": 300.0,
        "load_N_new": 270.0,
    }


@given(message=reps | set_summaries | session_summaries)
def test_no_metric_of_the_catalogue_hides_behind_another_field_or_is_refused(message: Any) -> None:
    level = codec.type_name(message).split("_", 1)[0]  # rep_measured, set_summarised, session_summarised
    values = {metric.name: 7.25 for metric in catalogue.METRICS if metric.level == level}
    point = point_of(msgspec.structs.replace(message, values=values))
    assert values.items() <= point.fields.items()
    assert all(f"{name}=7.25" in line(point) for name in values)


@given(message=metrics | commands)
def test_the_same_record_gives_the_same_point_within_the_ms_of_its_log_time(message: object) -> None:
    point = point_of(message)
    at_ms = message.issued_ms if isinstance(message, Command) else message.at_ms  # type: ignore[attr-defined]
    assert point == point_of(message)
    assert point.t_ns // 1_000_000 == at_ms


@given(message=reps | set_summaries | session_summaries)
def test_history_says_whether_force_is_corrected_as_far_as_that_is_known(message: Any) -> None:
    assert point_of(message).fields.get("corrected") is message.corrected


@given(message=metrics | commands)
def test_no_tag_is_empty_or_unbounded_and_tags_are_sorted(message: object) -> None:
    tags = point_of(message).tags
    assert all(value for _, value in tags)
    assert not UNBOUNDED & {key for key, _ in tags}
    assert list(tags) == sorted(tags)


@given(message=metrics | commands)
def test_every_number_is_a_float_but_the_64_bit_counters(message: object) -> None:
    fields = point_of(message).fields
    whole = {name for name, value in fields.items() if isinstance(value, int) and not isinstance(value, bool)}
    assert whole <= COUNTERS
    assert all(type(value) in {float, int, str, bool} for value in fields.values())


@given(seq=seqs, ahead=st.integers(1, 999_999))
def test_two_reps_of_a_boot_in_the_same_ms_have_different_times(seq: int, ahead: int) -> None:
    assert point_of(rep(seq)).t_ns != point_of(rep(seq + ahead)).t_ns


@given(boot=names, seq=seqs, ahead=st.integers(1, 999_999), kind=names)
def test_two_results_of_a_kind_in_the_same_ms_have_different_times(boot: str, seq: int, ahead: int, kind: str) -> None:
    first, second = (f"{MACHINE}/{boot}/{number}/{kind}" for number in (seq, seq + ahead))
    assert time_ns(AT_MS, first) != time_ns(AT_MS, second)


def test_reps_of_two_boots_in_the_same_ms_are_told_apart_by_the_boot_too() -> None:
    assert point_of(rep(7, "b1")).t_ns != point_of(rep(7, "b2")).t_ns


@given(id_=texts)
def test_an_id_of_any_form_has_a_time_within_its_ms(id_: str) -> None:
    assert time_ns(AT_MS, id_) // 1_000_000 == AT_MS


@given(value=st.binary(max_size=200))
def test_bytes_that_are_no_metric_are_malformed_and_nothing_worse(value: bytes) -> None:
    with pytest.raises(Malformed):
        points(recorded(value))


@pytest.mark.parametrize("topic", [METRIC, COMMAND])
@pytest.mark.parametrize("value", [None, Heartbeat(boot_id="b1", seq=1, t_us=1)], ids=["deleted", "telemetry"])
def test_a_record_that_does_not_belong_here_is_malformed(topic: str, value: object) -> None:
    with pytest.raises(Malformed):
        points(recorded(value, topic))


@given(machine=st.text(max_size=30))
def test_a_result_without_a_machine_of_three_names_is_malformed(machine: str) -> None:
    assume(machine.count("/") != 2)
    notice = Notice(id="x", machine=machine, cause="", at_ms=AT_MS, name="gap", severity="info", detail="")
    with pytest.raises(Malformed, match="bad_value"):
        point_of(notice)


def test_what_a_machine_is_doing_is_a_word_and_three_numbers_that_can_be_added_up() -> None:
    seen = MachineSeen(
        id=f"{MACHINE}/b1/7/seen/lifting",
        machine=MACHINE,
        cause=f"{MACHINE}/b1/7",
        at_ms=AT_MS,
        mode="lifting",
        online=True,
        boot_id="b1",
        session="s1",
        patient=None,
    )
    (point,) = points(Record(METRIC, 0, 0, MACHINE.encode(), codec.encode(seen), AT_MS))
    assert (point.measurement, point.tags) == (
        "machine",
        (("machine", "lumbar-1"), ("site", "north"), ("tenant", "acme")),
    )
    told = {name: point.fields.get(name) for name in ("mode", "online", "in_session", "locked", "patient")}
    assert told == {"mode": "lifting", "online": 1.0, "in_session": 1.0, "locked": 0.0, "patient": None}


def test_a_stop_that_did_not_wait_for_the_controller_is_no_point_beside_the_controllers() -> None:
    asked = OperatorAsked(machine="acme/north/m1", id="0" * 32, by="Kim", reason="unwell", action="stop")
    (early,) = early_stop(asked, 5, "p")
    record = Record(early.topic, 0, 0, early.key, early.value, 5, early.headers)
    assert points(record) == ()
    assert len(points(msgspec.structs.replace(record, headers=()))) == 1
