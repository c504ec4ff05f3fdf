"""Danger: the STOP that does not wait for the controller is the controller's own, and no other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import codec, policy
from streams.core.commands import Command
from streams.core.danger import danger, early_stop, stop_for
from streams.core.operators import OperatorAsked
from streams.core.records import Record
from streams.core.telemetry import (
    ButtonPressed,
    CommandApplied,
    FaultRaised,
    Heartbeat,
    Released,
    Screened,
    SymptomReported,
    Telemetry,
)
from streams.core.topics import TELEMETRY
from tests.core.story import MACHINE, PATIENT, Machine, commands, records, run

DANGERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "symptom": (SymptomReported, {"symptom": "dizziness", "felt": "now"}),
    "symptom of last night": (SymptomReported, {"symptom": "radiating", "felt": "next_morning"}),
    "button": (ButtonPressed, {"button": "stop"}),
    "fault": (FaultRaised, {"fault": "cable"}),
    "red flag": (Screened, {"patient": PATIENT, "outcome": "red_flag", "by": "physio-1"}),
}
HARMLESS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pain": (SymptomReported, {"symptom": "none", "felt": "now", "pain_nrs": 9}),
    "screened as clear": (Screened, {"patient": PATIENT, "outcome": "clear", "by": "physio-1"}),
    "released": (Released, {"by": "physio-1"}),
    "heartbeat": (Heartbeat, {}),
}


def at_once(message: Any, now_ms: int = 5) -> Command | None:
    return stop_for(MACHINE, codec.message_id(MACHINE, message), message, now_ms, policy.digest(policy.DEFAULT))


def stops(said: Any) -> list[Command]:
    return [one for one in commands(said) if one.action == "stop"]


@given(
    reps=st.integers(0, 2),
    is_training=st.booleans(),
    lost=st.integers(0, 3),
    is_old=st.booleans(),
    is_locked=st.booleans(),
    name=st.sampled_from(sorted(DANGERS)),
)
def test_whatever_came_before_the_controllers_stop_is_the_one_that_did_not_wait(  # noqa: PLR0917 - by hypothesis
    reps: int, is_training: bool, lost: int, is_old: bool, is_locked: bool, name: str
) -> None:
    machine = Machine()
    told: list[Telemetry] = machine.begin() if is_training else [machine.online()]
    told += [machine.rep(number + 1) for number in range(reps if is_training else 0)]
    if is_locked:
        told.append(machine.say(FaultRaised, fault="belt"))
    for _ in range(lost):
        machine.say(Heartbeat)
    kind, fields = DANGERS[name]
    last = machine.say(kind, **fields)
    if is_old:  # it comes when its boot is over
        told += Machine("b2").begin()
    state, _ = run(records(told))
    _, said = run([of_now(last, 10_000_000)], state)
    early = at_once(last)
    assert early is not None
    (stop,) = [one for one in stops(said) if one.cause == early.cause]  # an earlier one may be sent again meanwhile
    assert (stop.command_id, stop.rule, stop.cause, stop.machine) == (
        early.command_id,
        early.rule,
        early.cause,
        early.machine,
    )
    assert stop.evidence[: len(early.evidence)] == early.evidence
    assert stop.policy == early.policy


def of_now(message: Telemetry, now_ms: int) -> Record:
    return Record(TELEMETRY, 0, 1_000, MACHINE.encode(), codec.encode(message), now_ms)


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_needs_to_be_weighed_waits_for_the_controller(name: str) -> None:
    kind, fields = HARMLESS[name]
    assert at_once(Machine().say(kind, **fields)) is None


@pytest.mark.parametrize("name", sorted(DANGERS))
def test_the_machines_answer_to_the_early_stop_closes_the_controllers(name: str) -> None:
    machine = Machine()
    kind, fields = DANGERS[name]
    told = [*machine.begin(), machine.rep(1), machine.say(kind, **fields)]
    early = at_once(told[-1])
    assert early is not None
    answered = machine.say(CommandApplied, command_id=early.command_id, load_N=50.0)
    state, said = run(records([*told, answered]))
    assert [one.command_id for one in stops(said)] == [early.command_id]
    assert (state.pending, state.locked, state.closed[-1]) == ((), True, early.command_id)


def test_an_operators_early_stop_is_the_controllers_and_an_acknowledgement_is_none() -> None:
    asked = OperatorAsked(machine=MACHINE, id="1" * 32, by="Kim", reason="looks unwell", action="stop")
    (record,) = early_stop(asked, 5, "p")
    early = codec.decode_command(record.value or b"")
    _, said = run([of_now(asked, 5)])  # type: ignore[arg-type]
    (stop,) = stops(said)
    assert (stop.command_id, stop.evidence) == (early.command_id, early.evidence)
    seen = OperatorAsked(machine=MACHINE, id="1" * 32, by="Kim", reason="seen", action="acknowledge", alarm="a/b/c/1")
    assert early_stop(seen, 5, "p") == []


def test_every_event_that_is_dangerous_is_named_with_what_is_dangerous_about_it() -> None:
    named = {danger(Machine().say(kind, **fields)) for kind, fields in DANGERS.values()}
    assert named == {
        ("symptom", "dizziness"),
        ("symptom", "radiating"),
        ("button", "stop"),
        ("fault", "cable"),
        ("screening", "red_flag"),
    }
