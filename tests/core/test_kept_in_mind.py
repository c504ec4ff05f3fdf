"""What no machine says at the moment is kept in mind: who was screened, which cut is owed, when a session was."""

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.diary import DAY_MS, MAX_VISITS
from streams.core.results import PainReported, TroubleArose
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    Released,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
)
from tests.core import patients
from tests.core.patients import BASE, GOOD, MACHINE, a_patient, a_trained_patient, load_of, notices
from tests.core.story import PATIENT, PRESCRIPTION, Machine
from tests.core.test_trouble import Gym

SESSION: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "intent": "max", "settings": "h1"}
FLEXION = SESSION | {"exercise": "abdominal_flexion"}


class Watched(Gym):
    """A gym, and what somebody sees who looks at it."""

    @property
    def alarms(self) -> list[str]:
        return [one.name for one in self.told if one.severity == "alarm"]

    @property
    def is_locked(self) -> bool:
        return self._at_machine.locked

    @property
    def plans(self) -> Any:
        return self._of_patient.plans

    def goes_to_another_machine(self) -> None:
        """Take one of which nothing is known, and which knows nothing of the patient."""
        self._at_machine = self._controller.start(MACHINE.encode())
        self.machine = Machine("b2")
        self.hear(self.machine.online())

    def screened_elsewhere(self, outcome: Any) -> None:
        """Let the planner know of a screening that was told at another machine."""
        self._of_patient = replace(self._of_patient, screening=outcome)

    def starts(self, session: str, told: Any = SESSION, **fields: Any) -> None:
        usual: dict[str, Any] = {"prescription": PRESCRIPTION, "pain_nrs": 0}
        self.says(SessionStarted, session=session, **told, **(usual | fields))

    def does_a_set(self, session: str, number: int = 1, load_N: float = 300.0, **rep: Any) -> None:
        self.says(SetStarted, session=session, set_number=number, load_N=load_N)
        for place in range(1, 5):
            self.hear(self.machine.rep(place, session=session, load_N=load_N, set_number=number, **rep))


def requested(gym: Watched) -> None:
    gym.says(SessionRequested, session="s1", **FLEXION)


def requested_while_locked(gym: Watched) -> None:
    gym.says(ButtonPressed, button="stop")
    gym.says(CommandApplied, command_id=gym.commands[-1].command_id, load_N=50.0)
    gym.says(SessionRequested, session="s1", **FLEXION)
    gym.says(Released, by="physio-1")


def started_at_once(gym: Watched) -> None:
    gym.starts("s0", FLEXION)
    gym.says(SessionEnded, session="s0")


@pytest.mark.parametrize("before", [requested, requested_while_locked, started_at_once])
def test_pain_ends_the_exercise_of_a_cleared_patient_also_where_nobody_has_prescribed_it(before: Any) -> None:
    gym = Watched()
    before(gym)
    since = len(gym.commands)
    gym.starts("s1", FLEXION)
    gym.does_a_set("s1", exercise="abdominal_flexion")
    gym.hurts(8, session="s1")
    assert gym.acted(since) == [("pain_stop", "end_exercise")]


@pytest.mark.parametrize("outcome", ["excluded", "clinician_decides", None])
def test_without_a_clear_screening_nothing_but_stop_is_allowed_and_somebody_is_told(outcome: Any) -> None:
    gym = Watched()
    gym.says(SessionRequested, session="s0", **FLEXION)  # what was screened here before is over
    gym.screened_elsewhere(outcome)
    gym.starts("s1", FLEXION)
    gym.does_a_set("s1", exercise="abdominal_flexion")
    since = len(gym.commands)
    gym.hurts(8, session="s1")
    assert gym.acted(since) == []
    gym.says(ButtonPressed, button="stop")
    assert gym.acted(since) == [("emergency_stop", "stop")]


@pytest.mark.parametrize("asks", [True, False])
def test_a_red_flag_that_was_told_at_another_machine_locks_the_one_at_which_the_patient_begins(asks: bool) -> None:
    gym = Watched()
    gym.starts("s0")
    gym.says(SessionEnded, session="s0")
    gym.screened_elsewhere("red_flag")
    gym.says(SessionRequested, session="s1", **SESSION) if asks else gym.starts("s1")
    assert gym.is_locked
    assert gym.commands[-1].action == "stop"
    assert gym.commands[-1].boot_id == gym.machine.boot_id


def test_a_red_flag_locks_again_after_a_release_when_the_same_patient_begins() -> None:
    gym = Watched()
    gym.says(Screened, patient=PATIENT, outcome="red_flag", by="physio-1")
    gym.says(Released, by="physio-1")
    assert not gym.is_locked
    gym.starts("s1")
    assert gym.is_locked


def test_a_start_without_a_request_asks_how_the_patient_was_screened_and_changes_no_plan() -> None:
    gym = Watched()
    gym.train()
    gym.says(Screened, patient="acme/p9", outcome="clear", by="physio-1")  # somebody else was here meanwhile
    before = gym.plans
    gym.starts("s9")
    assert gym.plans == before
    assert "plan_too_late" not in {one.name for one in gym.told}


def test_the_day_after_pain_another_machine_starts_a_fifth_lower_though_nobody_has_summed_up_the_session() -> None:
    gym = Watched()
    gym.train()
    gym.starts("s9")
    gym.does_a_set("s9")
    gym.hurts(8, session="s9")  # and the power is gone
    gym.now_ms += DAY_MS
    gym.goes_to_another_machine()
    gym.says(SessionRequested, session="s10", **SESSION)
    assert (gym.commands[-1].rule, load_of(gym.commands[-1])) == ("pain_stop", 240.0)


@pytest.mark.parametrize("is_taken_up", [True, False])
def test_the_day_after_pain_another_machine_starts_with_what_was_left_though_nobody_has_summed_up_the_session(
    is_taken_up: bool,
) -> None:
    gym = Watched()
    gym.train()
    gym.starts("s9")
    gym.does_a_set("s9")
    gym.hurts(4, session="s9")  # rule 2 takes a tenth off, and then the power is gone
    (easing,) = [one for one in gym.commands if one.rule == "pain_reduce"]
    if is_taken_up:
        gym.says(CommandApplied, command_id=easing.command_id, load_N=270.0)
    gym.now_ms += DAY_MS
    gym.goes_to_another_machine()
    gym.says(SessionRequested, session="s10", **SESSION)
    prescription = gym.commands[-1].prescription
    assert prescription is not None
    window = {one.quantity: one.new for one in easing.changes if one.quantity.startswith("window")}
    assert (prescription.load_N, {name: getattr(prescription, name) for name in window}) == (270.0, window)


@pytest.mark.parametrize("is_edited", [True, False])
def test_strong_pain_after_a_session_asks_for_its_cut_also_if_a_clinician_has_edited_since(is_edited: bool) -> None:
    gym = Watched()
    gym.starts("s9")
    gym.does_a_set("s9")
    gym.says(SessionEnded, session="s9")
    if is_edited:
        edited: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "by": "physio-1"}
        gym.says(ClinicianEdited, **edited, prescription=PRESCRIPTION)
    gym.hurts(8, session="s9")
    gym.now_ms += DAY_MS
    gym.says(SessionRequested, session="s10", **SESSION)
    assert (gym.commands[-1].rule, load_of(gym.commands[-1])) == ("pain_stop", 240.0)


def test_a_lost_message_in_a_session_that_ran_when_the_clinician_edited_does_not_undo_the_edit() -> None:
    gym = Watched()
    gym.train()
    gym.starts("s9")
    gym.says(SetStarted, session="s9", set_number=1, load_N=300.0)
    edited: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "by": "physio-1"}
    gym.says(ClinicianEdited, **edited, prescription=replace(PRESCRIPTION, load_N=320.0))
    gym.machine.say(SetEnded, session="s9", set_number=1, reps_done=0)  # never sent
    for _ in range(3):
        gym.hear(gym.machine.rep(1, session="s9"))
        gym.now_ms += 3_000
    assert "data_hold" in [one.name for one in gym.told]
    gym.now_ms += DAY_MS
    gym.goes_to_another_machine()
    gym.says(SessionRequested, session="s10", **SESSION)
    assert load_of(gym.commands[-1]) == 320.0


def test_pain_of_another_exercises_session_asks_for_the_cut_of_that_exercise_alone() -> None:
    patient = a_trained_patient()
    patient.edit(BASE, exercise="row", load_cap_N=600.0)
    prescription = patient.plan(session="s7").prescription
    patient.train(405.0, session="s7", prescription=prescription)
    usual: dict[str, Any] = {"machine": MACHINE, "at_ms": patient.now_ms, "patient": "acme/p1"}
    patient.take(PainReported(id="t", cause="t", session="s7", exercise="row", felt="now", pain_nrs=8, **usual))
    assert load_of(patient.plan(exercise="row")) == 400.0
    assert patient.plan().rule == "pain_stop"


def test_a_late_summary_of_a_session_whose_cut_was_made_cuts_no_second_time() -> None:
    patient = a_trained_patient()
    prescription = patient.plan().prescription
    usual: dict[str, Any] = {"machine": MACHINE, "at_ms": patient.now_ms, "patient": "acme/p1"}
    arose = TroubleArose(id="t", cause="t", session="s9", rule="pain_stop", exercise="lumbar_extension", **usual)
    began_ms = patient.now_ms
    patient.take(arose)
    after = load_of(patient.comes(1))
    assert after == 320.0
    patient.day += 1
    told: dict[str, Any] = {"rules_fired": {"pain_stop": 1}, "ended_by": "superseded", "began_ms": began_ms}
    patient.train(400.0, session="s9", pain_max=8, prescription=prescription, **told)
    assert load_of(patient.comes(1)) == after


def test_a_session_that_was_planned_before_the_pain_does_not_settle_its_cut() -> None:
    #  s1   plan for s2   pain 8, of s1   s2 goes well   plan: a fifth lower   goes well   plan: no second cut
    patient = a_trained_patient()
    last = patient.state.plans[0].series[0].past[-1].session
    prescription = patient.plan(session="s2").prescription
    assert prescription is not None
    usual: dict[str, Any] = {"machine": MACHINE, "at_ms": patient.now_ms, "patient": "acme/p1"}
    patient.take(PainReported(id="t", cause="t", session=last, felt="now", pain_nrs=8, **usual))
    patient.train(prescription.load_N, session="s2", prescription=prescription)
    after = load_of(patient.comes(1))
    assert after == 320.0
    assert load_of(patient.comes(1)) == after


def test_pain_on_the_left_lowers_the_right_as_well() -> None:
    patient = a_patient()
    for side in ("left", "right"):
        patient.edit(BASE, side=side, load_cap_N=600.0)
    for side in ("left", "right"):
        prescription = patient.plan(side=side).prescription
        patient.train(side=side, prescription=prescription)
    patient.train(side="left", pain_max=8, rules_fired={"pain_stop": 1}, ended_by="pain_stop")
    assert [load_of(patient.plan(side=side)) for side in ("left", "right")] == [320.0, 320.0]


def test_pain_on_the_left_lowers_the_right_that_was_never_trained_and_no_seat_twice() -> None:
    patient = a_patient()
    for side in ("left", "right"):
        patient.edit(BASE, side=side, load_cap_N=600.0)
    told: dict[str, Any] = {"pain_max": 8, "rules_fired": {"pain_stop": 1}, "ended_by": "pain_stop"}
    patient.train(side="left", prescription=patient.plan(side="left").prescription, **told)
    plan = patient.plan(side="right")
    assert (plan.rule, load_of(plan)) == ("pain_stop", 320.0)
    patient.train(load_of(plan), side="right", prescription=plan.prescription)
    assert load_of(patient.plan(side="right", settings="seat-5")) == 320.0


@pytest.mark.parametrize(("days", "load_N"), [(2, 310.0), (21, 270.0), (60, 240.0)])
@pytest.mark.parametrize("ends", [True, False])
def test_who_leaves_without_ending_a_session_was_away_as_long_as_who_ended_it(
    days: int, load_N: float, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gym = Watched()
    for _ in range(3):
        gym.then_comes()
    says = gym.says
    with monkeypatch.context() as patched:
        if not ends:
            patched.setattr(gym, "says", lambda kind, **told: None if kind is SessionEnded else says(kind, **told))
        gym.train()
    gym.now_ms += (days - 2) * DAY_MS
    gym.says(SessionRequested, session="s10", **SESSION)
    assert load_of(gym.commands[-1]) == load_N


def test_a_set_that_begins_with_what_pain_took_off_is_an_alarm_and_the_next_plan_keeps_the_lower_load() -> None:
    gym = Watched()
    gym.train()

    def in_pain() -> None:
        gym.hurts(4)
        gym.says(CommandApplied, command_id=gym.commands[-1].command_id, load_N=270.0)

    gym.train(during=in_pain, loads=[300.0, 300.0])
    assert gym.alarms == ["load_back_up"]
    assert gym.then_comes() == 270.0


def test_what_was_taken_off_a_lighter_set_before_is_no_limit_for_the_prescribed_load() -> None:
    gym = Watched()
    gym.train()

    def in_pain() -> None:
        gym.hurts(4)
        gym.says(CommandApplied, command_id=gym.commands[-1].command_id, load_N=134.0)

    gym.train(during=in_pain, loads=[150.0, 300.0])
    assert gym.alarms == []


@pytest.mark.parametrize("answer", [CommandRejected, CommandExpired, None])
def test_an_exercise_that_the_machine_did_not_end_is_an_alarm_and_the_next_pain_ends_it(answer: Any) -> None:
    gym = Watched()
    gym.says(SessionRequested, session="s1", **SESSION)
    gym.says(CommandApplied, command_id=gym.commands[-1].command_id, load_N=300.0)
    gym.starts("s1", prescription=gym.commands[-1].prescription)
    gym.does_a_set("s1")
    gym.hurts(8, session="s1")
    command = gym.commands[-1]
    assert command.action == "end_exercise"
    if answer is None:
        gym.now_ms = command.expires_ms + 60_000
    else:
        gym.says(answer, command_id=command.command_id, **({"reason": "busy"} if answer is CommandRejected else {}))
    gym.says(SetEnded, session="s1", set_number=1, reps_done=4)
    assert "not_ended" in gym.alarms
    gym.does_a_set("s1", 2)
    since = len(gym.commands)
    gym.hurts(9, session="s1")
    assert gym.acted(since) == [("pain_stop", "end_exercise")]


def test_an_exercise_that_a_stop_ended_stays_ended_though_the_machine_refused_to_end_it() -> None:
    gym = Watched()
    gym.starts("s1")
    gym.does_a_set("s1")
    gym.hurts(8, session="s1")
    command = gym.commands[-1]
    gym.says(ButtonPressed, button="stop")
    gym.says(Released, by="physio-1")
    gym.says(CommandRejected, command_id=command.command_id, reason="busy")
    since = len(gym.commands)
    gym.hurts(9, session="s1")
    assert ("pain_stop", "end_exercise") not in gym.acted(since)


def test_pain_between_request_and_start_takes_a_tenth_off_as_soon_as_there_is_a_load() -> None:
    gym = Watched()
    gym.train()
    gym.says(SessionRequested, session="s9", **SESSION)
    gym.hurts(4, session="s9")
    plan = gym.commands[-1]
    gym.says(CommandApplied, command_id=plan.command_id, load_N=300.0)
    since = len(gym.commands)
    gym.starts("s9", prescription=plan.prescription, pain_nrs=None)
    assert gym.acted(since) == [("pain_reduce", "lower_load")]
    assert [(one.quantity, one.new) for one in gym.commands[-1].changes] == [("load_N", 270.0)]


def test_pain_without_a_position_takes_the_far_end_back_to_before_the_calibrated_range_once() -> None:
    gym = Watched()
    gym.train(calibrated=(0.0, 1.0))
    since = len(gym.commands)

    def in_pain() -> None:
        gym.hurts(4)
        gym.hurts(5)

    gym.train(calibrated=(0.0, 1.0), during=in_pain)
    (command,) = [one for one in gym.commands[since:] if one.rule == "pain_reduce"]
    assert {one.quantity: one.new for one in command.changes} == {"load_N": 270.0, "window_hi": 0.912734}


def test_pain_without_a_position_never_widens_a_range_that_ends_before_the_calibrated_one() -> None:
    gym = Watched()
    gym.train(calibrated=(0.0, 1.2), during=lambda: gym.hurts(4))
    (command,) = [one for one in gym.commands if one.rule == "pain_reduce"]
    assert [one.quantity for one in command.changes] == ["load_N"]


@pytest.mark.parametrize("hours_to_utc", [1, 8, 9])
def test_two_mornings_with_a_session_between_them_are_two_wherever_midnight_is(hours_to_utc: int) -> None:
    patient = a_trained_patient(sessions=4)
    midnight = 19_686 - hours_to_utc / 24

    def at(day: int, hour: float) -> None:
        patient.day = midnight + day + hour / 24 - 1_700_000_000_000 / DAY_MS

    def comes(pain: int) -> None:
        command = patient.plan()
        done: dict[str, Any] = {"prescription": command.prescription, "last_set_reps": 12}
        patient.train(load_of(command), pain_start=pain, **done)

    at(0, 10)
    comes(2)
    at(1, 9.5)
    patient.hurts(2)
    at(1, 10.5)
    comes(0)
    at(2, 7.5)
    patient.hurts(2)  # two more than before the session
    assert patient.state.plans[0].series[0].clean == 0
    at(2, 10.5)
    assert patient.plan().rule == "pain_next_morning"


@pytest.mark.parametrize("machines", [1, MAX_VISITS, MAX_VISITS + 1, 2 * MAX_VISITS])
def test_the_least_pain_of_a_day_is_remembered_at_however_many_machines_it_was_spent(machines: int) -> None:
    patient = a_trained_patient(sessions=4)
    command = patient.plan()
    patient.train(load_of(command), prescription=command.prescription, last_set_reps=12, pain_start=0)
    for number in range(1, machines):
        patient.day += 0.005
        patient.train(100.0, exercise=f"other{number}", pain_start=1)
    patient.day += 0.8
    patient.hurts(1)
    assert patient.plan().rule == "pain_next_morning"


@pytest.mark.parametrize("less", [{"reps": 3}, {"sets": 1}])
def test_all_of_less_than_was_prescribed_earns_nothing(less: dict[str, int]) -> None:
    patient = a_trained_patient()
    light = replace(BASE, id="by-hand", **less)
    for _ in range(2):
        patient.train(prescription=light, last_set_reps=light.reps + 1, values=GOOD | {"tul_last_set_s": 130.0})
        patient.day += 2
    assert patient.plan().rule == "keep"


def test_a_maximum_that_a_clinician_lowers_holds_in_the_next_plan() -> None:
    patient = a_patient()
    patient.edit(guarded=True)
    for _ in range(6):
        last = patient.comes(2).prescription
    assert last is not None
    assert last.reps > 10
    patient.edit(reps_max=10)
    patient.day += 2
    prescription = patient.plan().prescription
    assert prescription is not None
    assert prescription.reps == 10


def test_a_lowered_maximum_of_time_under_load_holds_as_well() -> None:
    patient = a_patient(base=replace(BASE, tul_s=120.0))
    patient.edit(tul_max_s=90.0)
    prescription = patient.plan().prescription
    assert prescription is not None
    assert prescription.tul_s == 90.0


def test_the_planner_tells_the_screening_wherever_it_tells_no_plan() -> None:
    patient = a_patient()
    assert notices(patient.ask(exercise="row")) == ["no_prescription"]
    assert notices(patient.ask(locked=True)) == ["machine_locked"]
    patient.ask()
    assert [one.outcome for one in patient.screenings] == ["clear", "clear"]
    nobody = patients.Patient()
    nobody.ask()
    assert nobody.screenings == []
