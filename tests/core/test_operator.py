"""What an operator asks for: a STOP or an acknowledgement, once, in the log, and never from a machine."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import codec
from streams.core.commands import Evidence
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.operators import OperatorAsked
from streams.core.records import Record
from streams.core.results import CommandClosed, Notice
from streams.core.session import MAX_ASKED
from streams.core.telemetry import CommandApplied, Released, Telemetry
from streams.core.topics import TELEMETRY, UPWARD, MachineTopic
from tests.core.story import MACHINE, Machine, commands, metrics, records, run

ALARM = f"{MACHINE}/b1/8/notice/unacknowledged"


def asked(number: int = 1, action: str = "stop", *, alarm: str | None = None, machine: str = MACHINE) -> OperatorAsked:
    return OperatorAsked(
        machine=machine,
        id=f"{number:032x}",
        by="Kim R.",
        reason="patient looks unwell",
        action=action,  # type: ignore[arg-type]
        alarm=alarm,
    )


def in_the_log(told: list[Telemetry | OperatorAsked]) -> list[Record]:
    return records(told)  # type: ignore[arg-type]


def mid_set() -> list[Telemetry | OperatorAsked]:
    machine = Machine()
    return [*machine.begin(), machine.rep(1), machine.rep(2)]


def test_a_stop_from_the_page_goes_through_rule_0_and_says_who_and_why() -> None:
    state, said = run(in_the_log([*mid_set(), asked()]))
    (stop,) = commands(said)
    cause = f"{MACHINE}/operator/{1:032x}"
    assert (stop.action, stop.rule, stop.cause, stop.command_id) == (
        "stop",
        "emergency_stop",
        cause,
        f"{cause}/emergency_stop",
    )
    assert stop.evidence == (
        Evidence(cause, "operator", "Kim R."),
        Evidence(cause, "reason", "patient looks unwell"),
    )
    assert [(one.quantity, one.new) for one in stop.changes] == [("load_N", 50.0)]
    assert (stop.boot_id, stop.session, state.locked) == ("b1", "s1", True)


def test_a_machine_that_nobody_has_heard_of_can_be_stopped() -> None:
    state, said = run(in_the_log([asked()]))
    (stop,) = commands(said)
    assert (stop.action, stop.boot_id, state.locked) == ("stop", "none", True)


def test_what_is_asked_twice_counts_once_and_what_is_asked_anew_counts_again() -> None:
    state, said = run(in_the_log([*mid_set(), asked(), asked()]))
    assert len(commands(said)) == 1
    _, more = run(in_the_log([asked(), asked(2), asked(2)]), state)
    (second,) = commands(more)
    assert second.cause.endswith(f"{2:032x}")
    assert second.sequence > commands(said)[0].sequence


def test_only_so_many_of_an_operators_wishes_are_remembered() -> None:
    state, _ = run(in_the_log([asked(n) for n in range(3 * MAX_ASKED)]))
    assert state.asked == tuple(f"{n:032x}" for n in range(2 * MAX_ASKED, 3 * MAX_ASKED))


def test_the_machine_confirms_an_operators_stop_and_a_clinician_releases_it() -> None:
    machine = Machine()
    told: list[Telemetry | OperatorAsked] = [*machine.begin(), machine.rep(1), asked()]
    told.append(machine.say(CommandApplied, command_id=f"{MACHINE}/operator/{1:032x}/emergency_stop", load_N=50.0))
    state, said = run(in_the_log(told))
    assert [(one.rule, one.outcome) for one in metrics(said, CommandClosed)] == [("emergency_stop", "applied")]
    assert state.locked
    state, _ = run(in_the_log([*told, machine.say(Released, by="physio-1")])[-1:], state)
    assert not state.locked


def test_a_release_that_was_said_before_an_operators_stop_does_not_undo_it() -> None:
    machine = Machine()
    begun, earlier = machine.begin(), machine.say(Released, by="physio-1")
    later = machine.rep(1)
    #   seq   begun.. | released (late) | rep 1      log   begun.., rep 1, STOP, released
    state, _ = run(in_the_log([*begun, later, asked(), earlier]))
    assert state.locked


def test_an_acknowledged_alarm_is_a_notice_with_name_and_reason_once() -> None:
    seen = asked(3, "acknowledge", alarm=ALARM)
    state, said = run(in_the_log([*mid_set(), seen, seen]))
    (notice,) = [one for one in metrics(said, Notice) if one.name == "alarm_acknowledged"]
    assert (notice.severity, notice.detail) == ("info", f"{ALARM} by Kim R.: patient looks unwell")
    assert notice.cause == f"{MACHINE}/operator/{3:032x}"
    assert commands(said) == []
    assert not state.locked


def test_an_operators_wish_survives_a_restart_between_any_two_records() -> None:
    told = in_the_log([*mid_set(), asked(), asked(2, "acknowledge", alarm=ALARM), asked(), asked(2)])
    whole, said = run(told)
    stage = Controller()
    state, pieces = stage.start(MACHINE.encode()), []
    for record in told:
        state, some = run([record], stage.restore(stage.save(state)))
        pieces += some
    assert (state, pieces) == (whole, said)


@pytest.mark.parametrize("stream", UPWARD)
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_machine_can_not_say_what_only_an_operator_may(stream: str, encoding: str) -> None:
    payload = codec.encode(asked(), encoding)  # type: ignore[arg-type]
    with pytest.raises(Malformed, match="unknown_type"):
        codec.decode_up(MachineTopic(MACHINE, stream), payload)  # type: ignore[arg-type]
    assert codec.decode_telemetry(MACHINE, payload) == asked()


def test_a_wish_for_one_machine_in_the_records_of_another_is_malformed() -> None:
    with pytest.raises(Malformed, match="foreign_machine"):
        codec.decode_telemetry("acme/north/lumbar-2", codec.encode(asked()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("by", ""),
        ("by", " Kim"),
        ("by", "K" * 65),
        ("reason", "no"),
        ("reason", "unwell\n"),
        ("reason", "un\x00well"),
        ("reason", "\u202ellewnu"),
        ("reason", "x" * 201),
        ("id", "1"),
        ("id", "A" * 32),
        ("machine", "lumbar-1"),
        ("action", "release"),
        ("alarm", ALARM),
    ],
)
def test_a_wish_without_a_plain_name_or_reason_is_malformed(field: str, value: str) -> None:
    told = msgspec.to_builtins(asked()) | {field: value}
    with pytest.raises(Malformed):
        codec.decode_telemetry(MACHINE, msgspec.json.encode(told))


def test_an_acknowledgement_without_an_alarm_is_malformed() -> None:
    told = msgspec.to_builtins(asked()) | {"action": "acknowledge"}
    with pytest.raises(Malformed, match="names its alarm"):
        codec.decode_telemetry(MACHINE, msgspec.json.encode(told))


NUMBERS = st.integers(0, 5)
WISHES = st.one_of(
    st.builds(asked, NUMBERS),
    st.builds(asked, NUMBERS.map(lambda n: n + 10), st.just("acknowledge"), alarm=st.just(ALARM)),
)


@given(wishes=st.lists(WISHES, max_size=12))
def test_whatever_operators_ask_and_how_often_each_wish_has_one_effect(wishes: list[OperatorAsked]) -> None:
    _, said = run(in_the_log([*mid_set(), *wishes]))
    stops = [command.command_id for command in commands(said) if "#" not in command.command_id]
    notices = [one.id for one in metrics(said, Notice) if one.name == "alarm_acknowledged"]
    assert sorted(set(stops)) == sorted({f"{one.cause}/emergency_stop" for one in wishes if one.action == "stop"})
    assert sorted(notices) == sorted({f"{one.cause}/notice/alarm_acknowledged" for one in wishes if one.alarm})


def test_the_topic_of_the_wish_is_the_machines_own() -> None:
    (record,) = in_the_log([asked()])
    assert (record.topic, record.key) == (TELEMETRY, MACHINE.encode())
