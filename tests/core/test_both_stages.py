"""Controller and planner together: what one says, the other hears, as it is in the log."""

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Controller
from streams.core.diary import DAY_MS
from streams.core.errors import Malformed
from streams.core.planning import Planner
from streams.core.records import NewRecord, Record
from streams.core.results import Notice
from streams.core.telemetry import (
    ClinicianEdited,
    CommandApplied,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
    Telemetry,
)
from streams.core.topics import COMMAND, METRIC, TELEMETRY
from streams.core.topics import PATIENT as PATIENT_TOPIC
from tests.core.story import MACHINE, PATIENT, PRESCRIPTION, Machine


class Clinic:
    """One machine and one patient, with both stages behind it; the clock moves by hand."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.now_ms = 1_700_000_000_000
        self._controller, self._planner = Controller(), Planner()
        self._at_machine = self._controller.start(MACHINE.encode())
        self._of_patient = self._planner.start(PATIENT.encode())
        self._sessions = 0
        self.commands: list[Command] = []
        self.told: list[Notice] = []
        self.hear(self.machine.online())
        self.says(Screened, patient=PATIENT, outcome="clear", by="physio-1")
        edited: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "by": "physio-1"}
        self.says(ClinicianEdited, **edited, load_cap_N=600.0, prescription=PRESCRIPTION)

    def says(self, kind: Any, **fields: Any) -> None:
        self.hear(self.machine.say(kind, **fields))

    def hear(self, message: Telemetry) -> None:
        self._control(Record(TELEMETRY, 0, 0, MACHINE.encode(), codec.encode(message), self.now_ms))

    def _control(self, record: Record) -> None:
        self.now_ms += 10
        (item,) = self._controller.prepare([record])
        assert not isinstance(item, Malformed), item
        self._at_machine, outputs = self._controller.step(self._at_machine, item, self.now_ms)
        for output in outputs:
            if output.topic == COMMAND:
                self.commands.append(codec.decode_command(output.value or b""))
            elif output.topic == METRIC:
                metric = codec.decode_metric(output.value or b"")
                self.told += [metric] if isinstance(metric, Notice) else []
            elif output.topic == PATIENT_TOPIC:
                self._plan(read_back(output))

    def _plan(self, record: Record) -> None:
        (item,) = self._planner.prepare([record])
        assert not isinstance(item, Malformed), item
        self._of_patient, outputs = self._planner.step(self._of_patient, item, self.now_ms)
        for output in outputs:
            if output.topic == TELEMETRY:
                self._control(read_back(output))

    def visit(self, pain: int = 1) -> Command:
        """Come, obey what is prescribed, do one rep, say how much it hurts, go; return the command."""
        self._sessions += 1
        session = f"s{self._sessions}"
        told: dict[str, Any] = {
            "session": session,
            "patient": PATIENT,
            "exercise": "lumbar_extension",
            "intent": "max",
            "settings": "h1",
        }
        self.says(SessionRequested, **told)
        command = self.commands[-1]
        prescription = command.prescription
        assert prescription is not None
        self.says(CommandApplied, command_id=command.command_id, load_N=prescription.load_N)
        self.says(SessionStarted, **told, prescription=prescription, pain_nrs=1)
        self.says(SetStarted, session=session, set_number=1, load_N=prescription.load_N)
        self.hear(self.machine.rep(1, session=session, load_N=prescription.load_N, prescription=prescription))
        self.says(SymptomReported, session=session, pain_nrs=pain)
        self.says(SetEnded, session=session, set_number=1, reps_done=1)
        self.says(SessionEnded, session=session)
        self.now_ms += DAY_MS
        return command


def read_back(record: NewRecord) -> Record:
    return Record(record.topic, 0, 0, record.key, record.value, record.timestamp_ms, record.headers)


def loads(commands: list[Command]) -> list[tuple[str, float]]:
    return [(one.rule, one.prescription.load_N) for one in commands if one.prescription is not None]


def test_the_cut_after_pain_is_prescribed_once_and_the_command_that_prescribed_it_is_no_new_pain() -> None:
    #  pain    1     6     1     1
    #  load  300   300   240   240
    clinic = Clinic()
    told = [clinic.visit(pain) for pain in (1, 6, 1, 1)]
    assert loads(told) == [("keep", 300.0), ("keep", 300.0), ("pain_stop", 240.0), ("keep", 240.0)]


@pytest.mark.parametrize("patient", [PATIENT, None])
def test_a_bad_morning_told_at_a_machine_reaches_the_plan(patient: str | None) -> None:
    clinic = Clinic()
    clinic.visit()
    clinic.says(SymptomReported, patient=patient, felt="next_morning", pain_nrs=3)
    rules = [clinic.visit().rule for _ in range(2)]
    assert rules == (["pain_next_morning", "keep"] if patient else ["keep", "keep"])  # nobody knows whose pain it is


def waiting_room(clinic: Clinic, pain: int, *, is_taken_up: bool) -> float:
    """Ask for a session, tell of pain before it starts, obey, and return the load that is trained with."""
    told: dict[str, Any] = {
        "session": "w1",
        "patient": PATIENT,
        "exercise": "lumbar_extension",
        "intent": "max",
        "settings": "h1",
    }
    clinic.says(SessionRequested, **told)
    held = clinic.commands[-1].prescription
    assert held is not None
    if is_taken_up:
        clinic.says(CommandApplied, command_id=clinic.commands[-1].command_id, load_N=held.load_N)
    heard = len(clinic.commands)
    for kind in (SymptomReported, SessionStarted, SetStarted):
        fields: dict[Any, dict[str, Any]] = {
            SymptomReported: {"session": "w1", "pain_nrs": pain},
            SessionStarted: told | {"prescription": held, "pain_nrs": pain},
            SetStarted: {"session": "w1", "set_number": 1, "load_N": held.load_N},
        }
        clinic.says(kind, **fields[kind])
        for command in clinic.commands[heard:]:
            loads_N = [one.new for one in command.changes if one.quantity == "load_N"]
            held = command.prescription or replace(held, load_N=min([held.load_N, *loads_N]))
            clinic.says(CommandApplied, command_id=command.command_id, load_N=held.load_N)
        heard = len(clinic.commands)
    return held.load_N


@pytest.mark.parametrize("is_taken_up", [False, True])
def test_pain_that_is_told_while_a_session_waits_takes_a_tenth_off_whether_its_plan_was_taken_up_or_not(
    is_taken_up: bool,
) -> None:
    assert waiting_room(Clinic(), 4, is_taken_up=is_taken_up) == 270.0


@pytest.mark.parametrize("pain_first", [False, True])
@pytest.mark.parametrize("is_lost", [False, True])
def test_strong_pain_ends_the_exercise_and_lowers_the_next_session_also_where_the_start_came_late(
    is_lost: bool, pain_first: bool
) -> None:
    clinic = Clinic()
    told: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "intent": "max", "settings": "h1"}
    start: Any = clinic.machine.say(SessionStarted, session="g", **told, prescription=PRESCRIPTION, pain_nrs=0)
    if not is_lost:
        clinic.hear(start)
    clinic.says(SetStarted, session="g", set_number=1, load_N=300.0)
    for number in (1, 2, 3, 4):
        clinic.now_ms += 2_000
        clinic.hear(clinic.machine.rep(number, session="g"))
    hurts: Any = clinic.machine.say(SymptomReported, session="g", pain_nrs=8)
    for message in ([hurts, start] if pain_first else [start, hurts]) if is_lost else [hurts]:
        clinic.hear(message)
    assert [one.action for one in clinic.commands if one.action != "resend"][-1] == "end_exercise"
    clinic.says(SetEnded, session="g", set_number=1, reps_done=4)
    clinic.says(SessionEnded, session="g")
    clinic.now_ms += DAY_MS
    clinic.says(SessionRequested, session="h", **told)
    assert loads(clinic.commands[-1:]) == [("pain_stop", 240.0)]


def test_a_plan_tells_how_long_the_session_takes() -> None:
    #  as fast as possible, 4 s a rep: 10 reps, twice, 90 s between
    prescription = Clinic().visit().prescription
    assert prescription is not None
    assert prescription.session_s == 170.0
