"""A plan that waits for its start is recalled after trouble, wherever it arose, and another takes its place (S7)."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import codec
from streams.core.commands import Command
from streams.core.records import Record
from streams.core.session import MachineState
from streams.core.telemetry import (
    ButtonPressed,
    CommandApplied,
    FaultRaised,
    Heartbeat,
    Released,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SymptomReported,
    Telemetry,
)
from streams.core.topics import TELEMETRY
from tests.core.story import MACHINE, PATIENT, PRESCRIPTION, Machine
from tests.core.test_trouble import Gym

ELSEWHERE = "acme/north/press-1"
TOLD: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "intent": "max", "settings": "h1"}
OTHER: dict[str, Any] = TOLD | {"exercise": "leg_press", "session": "e1", "prescription": PRESCRIPTION, "pain_nrs": 0}


class TwoRooms(Gym):
    """A gym with a second machine, at which the same patient may have trouble."""

    def __init__(self) -> None:
        self.there = Machine("e1")
        self._here, self._states = MACHINE, {ELSEWHERE: MachineState(ELSEWHERE)}
        super().__init__()
        self.elsewhere(self.there.online())

    def _control(self, record: Record) -> None:
        before = self._here
        self._turn_to(record.key.decode())
        super()._control(record)
        self._turn_to(before)

    def _turn_to(self, machine: str) -> None:
        self._states[self._here] = self._at_machine
        self._here, self._at_machine = machine, self._states[machine]

    def elsewhere(self, message: Telemetry) -> None:
        self._control(Record(TELEMETRY, 0, 0, ELSEWHERE.encode(), codec.encode(message), self.now_ms))

    def says_elsewhere(self, kind: Any, **fields: Any) -> None:
        self.elsewhere(self.there.say(kind, **fields))

    def waits(self, *, is_taken_up: bool = True) -> Command:
        """Ask for a session at the first machine, which takes its plan up, and return that."""
        self.session = "w1"
        self.says(SessionRequested, session="w1", **TOLD)
        plan = self.plans()[-1]
        if is_taken_up:
            self.obeys(plan)
        return plan

    def obeys(self, plan: Command) -> None:
        self.says(CommandApplied, command_id=plan.command_id, load_N=load_of(plan))

    def plans(self) -> list[Command]:
        return [one for one in self.commands if one.action == "prescribe" and one.machine == MACHINE]

    def hurts_elsewhere(self, pain: int) -> None:
        self.says_elsewhere(SessionStarted, **OTHER)
        self.says_elsewhere(SymptomReported, session="e1", pain_nrs=pain)


def load_of(plan: Command) -> float:
    assert plan.prescription is not None
    return plan.prescription.load_N


def strong_pain(gym: TwoRooms) -> None:
    gym.hurts_elsewhere(8)


def lesser_pain(gym: TwoRooms) -> None:
    gym.hurts_elsewhere(4)


def pain_that_only_the_summary_tells(gym: TwoRooms) -> None:
    gym.hurts_elsewhere(3)
    gym.says_elsewhere(SessionEnded, session="e1")


def stop(gym: TwoRooms) -> None:
    gym.says_elsewhere(SessionStarted, **OTHER)
    gym.says_elsewhere(ButtonPressed, button="stop")


def next_morning(gym: TwoRooms) -> None:
    gym.says_elsewhere(SymptomReported, patient=PATIENT, felt="next_morning", pain_nrs=6)


TROUBLES = [strong_pain, lesser_pain, pain_that_only_the_summary_tells, stop, next_morning]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_raise_that_waits_is_withdrawn_by_trouble_at_another_machine(trouble: Callable[[TwoRooms], None]) -> None:
    gym = TwoRooms.with_a_raise_due()
    raised = gym.waits()
    assert load_of(raised) > gym.settled_N
    trouble(gym)
    assert load_of(gym.plans()[-1]) <= gym.settled_N
    assert not gym.plans()[-1].confirm
    assert gym.plans()[-1].sequence > raised.sequence


def test_a_raise_that_was_not_taken_up_yet_is_withdrawn_with_the_next_word_of_its_machine() -> None:
    gym = TwoRooms.with_a_raise_due()
    raised = gym.waits(is_taken_up=False)
    lesser_pain(gym)
    assert gym.plans()[-1] is raised  # it would have the sequence of the first: its machine would refuse it
    gym.says(Heartbeat)
    assert load_of(gym.plans()[-1]) == gym.settled_N
    assert gym.plans()[-1].sequence > raised.sequence
    count = len(gym.plans())
    for _ in range(3):
        gym.obeys(raised)
        gym.says(Heartbeat)
    assert len(gym.plans()) == count


def test_a_raise_is_withdrawn_once_whatever_else_goes_wrong() -> None:
    gym = TwoRooms.with_a_raise_due()
    gym.waits()
    count = len(gym.plans())
    lesser_pain(gym)
    gym.obeys(gym.plans()[-1])
    gym.says_elsewhere(ButtonPressed, button="stop")
    gym.says_elsewhere(FaultRaised, fault="cable")
    gym.says_elsewhere(SessionEnded, session="e1")
    assert len(gym.plans()) == count + 1


def test_a_plan_that_raises_nothing_is_left_alone() -> None:
    gym = TwoRooms()
    plan = gym.waits()
    stop(gym)
    gym.says(Heartbeat)
    assert gym.plans() == [plan]


def test_a_heavier_prescription_of_a_clinician_is_not_withdrawn() -> None:
    gym = TwoRooms.with_a_raise_due()
    gym.edit(replace(PRESCRIPTION, load_N=330.0))
    plan = gym.waits()
    assert load_of(plan) == 330.0
    stop(gym)
    gym.says(Heartbeat)
    assert gym.plans()[-1] is plan


def test_an_edit_after_the_plan_is_not_recalled_either() -> None:
    gym = TwoRooms.with_a_raise_due()
    gym.waits()
    gym.edit(replace(PRESCRIPTION, load_N=330.0))
    plan = gym.plans()[-1]
    stop(gym)
    gym.says(Heartbeat)
    assert gym.plans()[-1] is plan


def test_strong_pain_at_the_same_exercise_elsewhere_costs_the_waiting_session_its_fifth() -> None:
    gym = TwoRooms()
    gym.train()
    gym.waits()
    gym.says_elsewhere(SessionStarted, **(OTHER | {"exercise": "lumbar_extension", "settings": "h2"}))
    gym.says_elsewhere(SymptomReported, session="e1", pain_nrs=8)
    assert load_of(gym.plans()[-1]) == 240.0


def test_a_session_that_has_started_gets_no_other_plan() -> None:
    gym = TwoRooms.with_a_raise_due()
    raised = gym.waits()
    gym.says(SessionStarted, session="w1", **TOLD, prescription=raised.prescription, pain_nrs=0)
    stop(gym)
    gym.says(Heartbeat)
    assert gym.plans()[-1] is raised


def test_a_raise_that_waits_is_withdrawn_when_its_machine_is_released_from_a_stop() -> None:
    gym = TwoRooms.with_a_raise_due()
    raised = gym.waits()
    gym.says(ButtonPressed, button="stop")
    gym.says(Heartbeat)
    assert gym.plans()[-1] is raised  # a locked machine gets nothing (S8)
    gym.says(Released, by="physio-1")
    assert load_of(gym.plans()[-1]) == gym.settled_N
    assert not gym.plans()[-1].confirm


def test_a_stop_elsewhere_while_the_machine_is_locked_is_known_after_the_release() -> None:
    gym = TwoRooms.with_a_raise_due()
    gym.waits()
    gym.says(ButtonPressed, button="stop")
    stop(gym)
    count = len(gym.plans())
    gym.says(Released, by="physio-1")
    assert len(gym.plans()) == count + 1
    assert load_of(gym.plans()[-1]) == gym.settled_N


def test_what_strong_pain_has_ended_gets_no_other_plan_with_the_release() -> None:
    gym = TwoRooms.with_a_raise_due()
    gym.waits()
    gym.hurts(8)
    gym.says(ButtonPressed, button="stop")
    count = len(gym.plans())
    gym.says(Released, by="physio-1")
    assert len(gym.plans()) == count
