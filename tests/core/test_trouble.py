"""Trouble counts whenever it is told: before a session, at its start, beside it and after it; and light is light."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import pytest
from msgspec.structs import replace

from streams.core.commands import Command
from streams.core.records import Record
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    Heartbeat,
    Released,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
)
from tests.core.patients import a_trained_patient, load_of
from tests.core.story import PATIENT, PRESCRIPTION
from tests.core.test_both_stages import Clinic

SETS = 2


def nothing() -> None:
    """Nothing happens."""


class Gym(Clinic):
    """A clinic whose patient does every set as prescribed and one rep more, unless a test says otherwise."""

    def __init__(self, prescribed: float = 300.0) -> None:
        self._is_held, self._waiting = False, list[Record]()
        super().__init__()
        self.session = ""
        self.settled_N = prescribed
        self.edit(replace(PRESCRIPTION, load_N=prescribed))

    @classmethod
    def with_a_raise_due(cls) -> Self:
        """One of whose patient the next plan asks more."""
        gym = cls()
        for _ in range(4):
            gym.settled_N = gym.then_comes()
        return gym

    def edit(self, prescription: Any) -> None:
        edited: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "by": "physio-1"}
        self.says(ClinicianEdited, **edited, load_cap_N=600.0, prescription=prescription)

    def hold_plans(self) -> Callable[[], None]:
        """Make the planner slower than the patient, until what is returned is called."""
        self._is_held = True

        def let_through() -> None:
            self._is_held = False
            for record in self._waiting:
                self._plan(record)

        return let_through

    def _plan(self, record: Record) -> None:
        if self._is_held:
            self._waiting.append(record)
        else:
            super()._plan(record)

    def hurts(self, pain: int, **fields: Any) -> None:
        self.says(SymptomReported, **({"session": self.session} | fields), pain_nrs=pain)

    def train(
        self,
        *,
        asks: bool = True,
        pain_start: int = 0,
        before: Callable[[], None] = nothing,
        during: Callable[[], None] = nothing,
        loads: Sequence[float] | None = None,
        held: float | None = None,
        **rep: Any,
    ) -> Command:
        """Come, obey, train, go, and come again two days later; return what was prescribed last.

        `before` happens after the plan and before the start, `during` after the third rep of the first set. `loads` are
        those of the sets, `held` is what the machine really holds in each rep.
        """
        self._sessions += 1
        self.session = session = f"s{self._sessions}"
        told: dict[str, Any] = {"session": session, "patient": PATIENT, "exercise": "lumbar_extension"}
        told |= {"intent": "max", "settings": "h1"}
        if asks:
            self.says(SessionRequested, **told)
        before()
        command = [one for one in self.commands if one.action == "prescribe"][-1] if asks else None
        prescription = PRESCRIPTION if command is None else command.prescription
        assert prescription is not None
        if command is not None:
            self.says(CommandApplied, command_id=command.command_id, load_N=prescription.load_N)
        self.says(SessionStarted, **told, prescription=prescription, pain_nrs=pain_start)
        for number, load_N in enumerate(loads or [prescription.load_N] * SETS, start=1):
            self.says(SetStarted, session=session, set_number=number, load_N=load_N)
            for place in range(1, prescription.reps + 2):
                done: dict[str, Any] = {"session": session, "set_number": number, "load_N": held or load_N}
                self.hear(self.machine.rep(place, **(done | {"prescription": prescription} | rep)))
                if (number, place) == (1, 3):
                    during()
            self.says(SetEnded, session=session, set_number=number, reps_done=prescription.reps + 1, rpe=6)
        self.says(SessionEnded, session=session)
        self.now_ms += 2 * 86_400_000
        return command or self.commands[-1]

    def then_comes(self) -> float:
        """Train as prescribed; return the prescribed load in N."""
        return self.train().prescription.load_N  # type: ignore[union-attr]

    def acted(self, since: int) -> list[tuple[str, str]]:
        return [(one.rule, one.action) for one in self.commands[since:] if one.action != "prescribe"]


def test_a_patient_who_trains_as_prescribed_is_raised() -> None:
    gym = Gym.with_a_raise_due()
    assert gym.then_comes() > gym.settled_N


@pytest.mark.parametrize("felt", ["now", "next_morning"])
def test_pain_between_plan_and_start_takes_a_raise_back_before_it_begins(felt: str) -> None:
    gym = Gym.with_a_raise_due()
    command = gym.train(before=lambda: gym.hurts(4, felt=felt))
    assert command.prescription is not None
    assert command.prescription.load_N <= gym.settled_N
    assert not command.confirm
    assert gym.then_comes() <= gym.settled_N


def test_pain_that_is_told_before_the_plan_has_come_forbids_the_raise() -> None:
    gym = Gym.with_a_raise_due()
    let_through = gym.hold_plans()

    def then() -> None:
        gym.hurts(4)
        let_through()

    assert gym.train(before=then).prescription.load_N <= gym.settled_N  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pain", "answer", "share"), [(4, ("pain_reduce", "lower_load"), 1.0), (8, ("pain_stop", "end_exercise"), 0.8)]
)
def test_pain_at_the_start_is_pain(pain: int, answer: tuple[str, str], share: float) -> None:
    gym = Gym.with_a_raise_due()
    before = len(gym.commands)
    gym.train(pain_start=pain)
    assert gym.acted(before) == [answer]
    assert gym.then_comes() <= share * gym.settled_N


def test_a_raise_that_was_trained_in_pain_is_not_kept() -> None:
    gym = Gym.with_a_raise_due()
    gym.train(during=lambda: gym.hurts(3))
    assert gym.then_comes() <= gym.settled_N


def test_pain_is_answered_in_every_session_that_begins_without_a_plan() -> None:
    gym = Gym()
    for _ in range(2):
        before = len(gym.commands)
        gym.train(asks=False, during=lambda: gym.hurts(8))
        assert gym.acted(before) == [("pain_stop", "end_exercise")]


def test_pain_is_answered_though_the_plan_came_after_the_start() -> None:
    gym = Gym()
    gym.train()
    let_through = gym.hold_plans()

    def late() -> None:
        let_through()
        gym.hurts(8)

    before = len(gym.commands)
    gym.train(during=late)
    assert gym.acted(before) == [("pain_stop", "end_exercise")]


def test_an_edit_during_a_session_does_not_undo_what_pain_took_off_after_it() -> None:
    gym = Gym()

    def edited_then_painful() -> None:
        gym.edit(replace(PRESCRIPTION, load_N=310.0, reps=12))
        gym.hurts(4)
        gym.says(CommandApplied, command_id=gym.commands[-1].command_id, load_N=gym.commands[-1].changes[0].new)

    gym.train(during=edited_then_painful, loads=[300.0, 270.0])
    assert gym.then_comes() == 270.0


def test_a_pain_before_an_edit_is_known_to_whoever_edits() -> None:
    gym = Gym()

    def painful_then_edited() -> None:
        gym.hurts(4)
        gym.edit(replace(PRESCRIPTION, load_N=290.0))

    gym.train(during=painful_then_edited, loads=[300.0, 270.0])
    assert gym.then_comes() == 290.0


def test_strong_pain_costs_a_fifth_also_if_the_exercise_had_been_stopped_before() -> None:
    gym = Gym()

    def stopped_and_painful() -> None:
        gym.says(ButtonPressed, button="stop")
        gym.hurts(8)

    gym.train(during=stopped_and_painful)
    gym.says(Released, by="physio-1")
    assert gym.then_comes() == 240.0


def test_strong_pain_costs_a_fifth_also_if_it_is_told_just_after_the_session() -> None:
    gym = Gym()
    gym.train()
    gym.hurts(8)
    assert gym.then_comes() == 240.0


@pytest.mark.parametrize("other", [{"settings": "seat-5"}, {"intent": "max"}])
@pytest.mark.parametrize(("days", "share"), [(20, 0.9), (40, 0.8)])
def test_an_absence_is_one_in_another_seat_too(other: dict[str, str], days: int, share: float) -> None:
    patient = a_trained_patient()
    load_N = load_of(patient.comes(2))
    patient.day += days - 2
    assert load_of(patient.plan(**other)) <= share * load_N


def test_the_load_that_the_machine_holds_counts_and_not_the_one_that_was_told() -> None:
    gym = Gym.with_a_raise_due()
    for _ in range(4):
        gym.train(held=200.0)
    assert gym.then_comes() <= 215.0


def test_a_decrease_begins_at_the_load_that_the_machine_holds() -> None:
    gym = Gym()
    gym.train(held=200.0, during=lambda: gym.hurts(4))
    (change,) = gym.commands[-1].changes
    assert (change.old, change.new) == (200.0, 180.0)


@pytest.mark.parametrize(
    "done",
    [
        {"voluntary_pause": True},
        {"warm_up": True},
        {"side": "left"},
        {"exercise": "abdominal_flexion"},
        {"loads": [150.0, 300.0]},
    ],
)
def test_what_is_no_work_as_prescribed_earns_no_raise(done: dict[str, Any]) -> None:
    gym = Gym()
    for _ in range(6):
        gym.train(**done)
    assert gym.then_comes() <= 300.0


def test_a_rise_of_pain_with_nothing_left_to_take_off_is_trouble_all_the_same() -> None:
    gym = Gym(prescribed=50.0)  # the machine's least
    for _ in range(5):
        gym.train(during=lambda: gym.hurts(2))
    prescription = gym.train(during=lambda: gym.hurts(2)).prescription
    assert prescription is not None
    assert (prescription.load_N, prescription.reps) == (50.0, PRESCRIPTION.reps)


def test_a_plan_is_not_sent_again_once_its_session_runs() -> None:
    gym = Gym()
    gym.session = "s1"
    told: dict[str, Any] = {"session": "s1", "patient": PATIENT, "exercise": "lumbar_extension"}
    told |= {"intent": "max", "settings": "h1"}
    gym.says(SessionRequested, **told)
    (plan,) = gym.commands
    gym.says(SessionStarted, **told, prescription=plan.prescription, pain_nrs=0)
    gym.says(SetStarted, session="s1", set_number=1, load_N=300.0)
    for number in range(1, 4):
        gym.now_ms += 6_000
        gym.hear(gym.machine.rep(number, session="s1"))
    assert gym.commands == [plan]


@pytest.mark.parametrize("ends", ["requested", "ended", "started_elsewhere"])
def test_a_plan_is_not_sent_again_once_its_session_is_over_before_it_began(ends: str) -> None:
    gym = Gym()
    told: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "intent": "max", "settings": "h1"}
    gym.says(SessionRequested, session="s1", **told)
    match ends:
        case "requested":
            gym.says(SessionRequested, session="s2", **told)
        case "ended":
            gym.says(SessionEnded, session="s1")
        case _:
            gym.says(SessionStarted, session="s2", **told, prescription=PRESCRIPTION, pain_nrs=0)
    for _ in range(4):
        gym.now_ms += 6_000
        gym.says(Heartbeat)
    assert [one.session for one in gym.commands].count("s1") == 1
    if ends == "requested":
        assert gym.commands[-1].session == "s2"  # the plan that is waited for is sent again


def test_a_painful_position_just_beyond_the_window_narrows_it() -> None:
    gym = Gym()
    gym.train(during=lambda: gym.hurts(4, position=1.04))
    high = next(one for one in gym.commands[-1].changes if one.quantity == "window_hi")
    assert high.new == pytest.approx(1.04 - 0.0873, abs=1e-3)
