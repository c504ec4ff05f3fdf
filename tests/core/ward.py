"""The ward: two machines and a patient with both stages behind them, and an oracle that hears what happens there."""

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.errors import Malformed
from streams.core.measure import Measured
from streams.core.planning import Planner
from streams.core.records import NewRecord, Record, header
from streams.core.results import Notice
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    CommandRejected,
    FaultRaised,
    Heartbeat,
    Online,
    Prescription,
    PrescriptionConfirmed,
    PrescriptionDeclined,
    Released,
    Rep,
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
from tests.core.oracle import DAY_MS, Key, Oracle
from tests.core.story import CAPABILITIES, PATIENT, Machine, minimum_jerk_rep

BACK, TURN = "acme/north/lumbar-1", "acme/north/rotation-1"
KEYS = (
    (BACK, Key("lumbar_extension", "both", "seat-4", "max")),
    (BACK, Key("lumbar_extension", "both", "seat-5", "max")),
    (TURN, Key("torso_rotation", "left", "seat-1", "paced")),
    (TURN, Key("torso_rotation", "right", "seat-1", "paced")),
)
BASE = Prescription(id="p1", load_N=300.0, window_lo=0.0, window_hi=1.0, reps=4, sets=2)
CONCENTRIC_S, ECCENTRIC_S, TIRED_S = 2.0, 1.2, 3.5

EVENTS = ("stop", "fault", "a rep is lost", "a rep is late", "a rep comes twice")


class Visit(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """One time that the patient comes: the first value of each is the dullest, and the likeliest."""

    days: float = 2.0
    place: int = 0
    edit: tuple[float, float, float] | None = None
    """What a clinician prescribes before: load and cap in N, end of the window in rad."""
    morning: int | None = None
    waiting: int | None = None
    answer: Literal["obeys", "declines", "is not there"] = "obeys"
    pain_start: int | None = 0
    pains: tuple[int | None, int | None] = (None, None)
    """In the first and the second set."""
    position: float | None = None
    event: str = "nothing"
    effort: Literal["a rep more", "as told", "a rep less", "tires"] = "a rep more"
    rpe: int | None = 6
    goes: Literal["ends", "leaves"] = "ends"
    after: int | None = None
    is_released: bool = True
    """Whether a clinician has unlocked what a STOP had locked."""


Forge = Callable[[Command], Command | None]
"""What becomes of a command before anybody sees it."""


class Station(Machine):
    """A machine with a key, what it holds, and what waits for it."""

    def __init__(self, key: str, state: Any) -> None:
        super().__init__()
        self.key, self.state = key, state
        self.held = BASE
        self.inbox = deque[Command]()
        self.is_set_over = self.is_over = False


class Ward:
    """Two machines and one patient, both stages behind them, and the oracle that hears everything."""

    def __init__(self) -> None:
        self.forge: Forge = lambda command: command
        self.now_ms = 1_700_000_000_000
        self.oracle = Oracle(CAPABILITIES)
        self._control, self._planner = Controller(), Planner()
        self._patient = self._planner.start(PATIENT.encode())
        self.stations = {key: Station(key, self._control.start(key.encode())) for key in (BACK, TURN)}
        self.said: list[Command] = []
        self.told: list[str] = []
        self._sessions = 0
        for station in self.stations.values():
            exercise = next(told.exercise for key, told in KEYS if key == station.key)
            capabilities = replace(CAPABILITIES, exercise=exercise)
            self.hear(station, Online(boot_id=station.boot_id, capabilities=capabilities))
            self.say(station, Screened, patient=PATIENT, outcome="clear", by="physio-1")
        for place in (0, 2, 3):
            self.edit(place, 600.0)

    def say(self, station: Station, kind: Any, **fields: Any) -> list[Command]:
        return self.hear(station, station.say(kind, **fields))

    def hear(self, station: Station, message: Telemetry, measured: Measured | None = None) -> list[Command]:
        """Let a message be heard, and its machine obey; return what was said to it."""
        self.said, self.told = [], []
        self._hear(station, message, measured)
        said = self.said
        while station.inbox:
            self._obey(station, station.inbox.popleft())
        self.said = []
        return said

    def _hear(self, station: Station, message: Telemetry, measured: Measured | None = None) -> None:
        self.now_ms += 500
        self.oracle.now_ms = self.now_ms
        self._step(station, Arrival(station.key, codec.message_id(station.key, message), message, measured))

    def _step(self, station: Station, arrival: Any) -> None:
        station.state, outputs = self._control.step(station.state, arrival, self.now_ms)
        for output in outputs:
            if output.topic == COMMAND:
                self._send(station, output)
            elif output.topic == METRIC:
                metric = codec.decode_metric(output.value or b"")
                self.told += [metric.name] if isinstance(metric, Notice) else []
            elif output.topic == PATIENT_TOPIC:
                self._plan(output)

    def _send(self, station: Station, output: NewRecord) -> None:
        command = self.forge(codec.decode_command(output.value or b""))
        if command is None:
            return
        if "#" not in (header(output, "ce_id") or "") and command.action != "resend":
            self.oracle.says(station.key, command)
            self.said.append(command)
            station.inbox.append(command)

    def _plan(self, fact: NewRecord) -> None:
        (item,) = self._planner.prepare([read_back(fact)])
        assert not isinstance(item, Malformed), item
        self._patient, outputs = self._planner.step(self._patient, item, self.now_ms)
        for output in outputs:
            if output.topic == TELEMETRY:
                (arrival,) = self._control.prepare([read_back(output)])
                self._step(self.stations[output.key.decode()], arrival)
            elif output.topic == METRIC:
                metric = codec.decode_metric(output.value or b"")
                self.told += [metric.name] if isinstance(metric, Notice) else []

    def _obey(self, station: Station, command: Command) -> None:
        """Do what a machine does; a plan waits for its patient."""
        if command.action == "prescribe":
            return
        station.is_set_over |= command.action in {"end_set", "end_exercise", "stop"}
        station.is_over |= command.action in {"end_exercise", "stop"}
        if command.action != "stop":
            changes: dict[str, Any] = {one.quantity: one.new for one in command.changes}
            station.held = replace(station.held, **changes)
        load_N = CAPABILITIES.load_min_N if command.action == "stop" else station.held.load_N
        self._hear(station, station.say(CommandApplied, command_id=command.command_id, load_N=load_N))

    def edit(self, place: int, cap_N: float, load_N: float = 300.0, window_hi: float = 1.0) -> None:
        station, key = self.stations[KEYS[place][0]], KEYS[place][1]
        base = replace(BASE, load_N=load_N, window_hi=window_hi)
        if key.intent == "paced":
            base = replace(base, concentric_s=CONCENTRIC_S, eccentric_s=ECCENTRIC_S)
        self.oracle.edits(key.exercise, key.side, base, cap_N)
        by: dict[str, Any] = {"patient": PATIENT, "exercise": key.exercise, "side": key.side, "by": "physio-1"}
        self.say(station, ClinicianEdited, **by, load_cap_N=cap_N, prescription=base)

    # --- a visit -----------------------------------------------------------------------------------------------------

    def receive(self, visit: Visit) -> None:
        """Let the patient come once."""
        machine, key = KEYS[visit.place]
        station = self.stations[machine]
        self._before(visit, station)
        if visit.is_released and machine in self.oracle.locked:
            self.oracle.locked.discard(machine)
            self.say(station, Released, by="physio-1")
        self._sessions += 1
        session = f"s{self._sessions}"
        who: dict[str, Any] = {"session": session, "patient": PATIENT, **key._asdict()}
        self.oracle.asks(machine, key)
        station.is_set_over = station.is_over = False
        said = self.say(station, SessionRequested, **who)
        self.oracle.requested(machine, sum(one.action == "prescribe" for one in said), self.told)
        if visit.waiting is not None:
            self.oracle.hurts(machine, visit.waiting)
            said += self.say(station, SymptomReported, session=session, pain_nrs=visit.waiting)
        plans = [one for one in said if one.action == "prescribe"]
        if (
            station.is_over
            or not plans
            or visit.answer == "is not there"
            or not self._takes_up(station, visit, key, plans[-1])
        ):
            return
        self._train(station, visit, who)

    def _before(self, visit: Visit, station: Station) -> None:
        morning_ms = self.now_ms + round(0.5 * DAY_MS)
        arrival_ms = self.now_ms + round(visit.days * DAY_MS)
        is_heard = self.oracle.visit_pain is not None and not self.oracle.left  # else nobody knows what it rose from
        if visit.morning is not None and is_heard and morning_ms < arrival_ms:
            self.now_ms = self.oracle.now_ms = morning_ms
            self.oracle.wakes_up(visit.morning)
            self.say(station, SymptomReported, patient=PATIENT, felt="next_morning", pain_nrs=visit.morning)
        self.now_ms = self.oracle.now_ms = arrival_ms
        if visit.edit is not None:
            load_N, cap_N, window_hi = visit.edit
            self.edit(visit.place, cap_N, load_N, window_hi)

    def _takes_up(self, station: Station, visit: Visit, key: Key, plan: Command) -> bool:
        """Let the patient agree to a plan, or not; return whether there is something to train with."""
        told = {"session": plan.session, "command_id": plan.command_id, "by": "patient"}
        assert plan.prescription is not None
        station.held = plan.prescription
        if plan.confirm and visit.answer == "declines":
            self.say(station, PrescriptionDeclined, **told)
            self.say(station, CommandRejected, command_id=plan.command_id, reason="declined")
            station.held = self.oracle.of(key).held
            return True
        if plan.confirm:
            self.say(station, PrescriptionConfirmed, **told)
        self.say(station, CommandApplied, command_id=plan.command_id, load_N=station.held.load_N)
        return True

    def _train(self, station: Station, visit: Visit, who: dict[str, Any]) -> None:
        session, machine = who["session"], station.key
        self.oracle.starts(machine, station.held, visit.pain_start)
        said = self.say(station, SessionStarted, **who, prescription=station.held, pain_nrs=visit.pain_start)
        if visit.waiting is None:
            self.oracle.answered(machine, visit.pain_start or 0, said)
        for number in range(1, station.held.sets + 1):
            if not station.is_over:
                self._set(station, visit, session, number)
        if visit.goes == "leaves":
            self.oracle.leaves(machine)
            return
        self.oracle.ends(machine)
        self.say(station, SessionEnded, session=session)
        if visit.after is not None and machine not in self.oracle.locked:
            self.oracle.hurts_after(KEYS[visit.place][1], visit.after)
            self.say(station, SymptomReported, session=session, pain_nrs=visit.after)

    def _set(self, station: Station, visit: Visit, session: str, number: int) -> None:
        """Do a set; what happens in it happens after its third rep, what a network does with its second."""
        machine, told = station.key, {"session": session, "set_number": number}
        self.oracle.begins_set(machine)
        station.is_set_over = False
        self.say(station, SetStarted, **told, load_N=station.held.load_N)
        more = {"a rep more": 1, "as told": 0, "a rep less": -1, "tires": 1}[visit.effort]
        reps, place = station.held.reps + more, 0
        event = visit.event if number == 1 else "nothing"
        while place < reps and not station.is_set_over:
            place += 1
            is_slow = visit.effort == "tires" and place > 3
            took_s = TIRED_S if is_slow else CONCENTRIC_S
            rep, v_mps = self._rep(station, visit, told | {"rep_number": place}, took_s), 1.0 / took_s
            if place == 2 and event.startswith("a rep"):
                self._on_a_bad_day(station, event, rep, v_mps)
            else:
                self._lift(station, rep, v_mps)
            if place == 3:
                self._third(station, visit, session, number)
        self.oracle.courses[machine].rpe_max = visit.rpe
        self.say(station, SetEnded, **told, reps_done=place, rpe=visit.rpe)

    def _lift(self, station: Station, rep: Rep, v_mps: float) -> None:
        self.oracle.lifts(station.key, v_mps)
        self.oracle.after_rep(station.key, self.hear(station, rep, measured_like(station.key, rep)))

    def _on_a_bad_day(self, station: Station, event: str, rep: Rep, v_mps: float) -> None:
        """Let the network lose a rep, overtake it or repeat it."""
        beat = station.say(Heartbeat)
        if event == "a rep is lost":
            self.oracle.loses(station.key)
            for _ in range(6):  # by then it is given up
                self.hear(station, beat)
                beat = station.say(Heartbeat)
        if event == "a rep is late":
            self.hear(station, beat)
        if event != "a rep is lost":
            self._lift(station, rep, v_mps)
        if event == "a rep comes twice":
            self.hear(station, rep, measured_like(station.key, rep))
        self.hear(station, beat)

    def _third(self, station: Station, visit: Visit, session: str, number: int) -> None:
        pain = visit.pains[number - 1] if number <= len(visit.pains) else None
        if pain is not None and not station.is_set_over:
            self.oracle.hurts(station.key, pain)
            where = {"session": session, "pain_nrs": pain, "position": visit.position}
            self.oracle.answered(station.key, pain, self.say(station, SymptomReported, **where))
        if number == 1 and visit.event in {"stop", "fault"}:
            said = (
                self.say(station, ButtonPressed, button="stop")
                if visit.event == "stop"
                else self.say(station, FaultRaised, fault="brake")
            )
            self.oracle.stopped(said)
            self.oracle.presses_stop(station.key)

    def _rep(self, station: Station, visit: Visit, told: dict[str, Any], concentric_s: float) -> Rep:
        """Lift over the whole window that is in force."""
        key = KEYS[visit.place][1]
        lo, hi = self.oracle.courses[station.key].window
        concentric_s *= 1.0 if key.intent == "paced" else hi - lo  # who tries to be fast is no slower in a short range
        position = lo + minimum_jerk_rep(concentric_s, ECCENTRIC_S, hi - lo)
        done: dict[str, Any] = {"exercise": key.exercise, "side": key.side, "settings": key.settings}
        done |= {"samples": len(position), "position": np.round(position / 1e-4).astype("<i2").tobytes()}
        done |= {"force": np.full(len(position), 3_000, "<i2").tobytes(), "intent": key.intent}
        number = told.pop("rep_number")
        return station.rep(number, load_N=station.held.load_N, prescription=station.held, **(done | told))


def measured_like(key: str, rep: Rep) -> Measured:
    """Measure a rep; what differs in its place only is measured once."""
    prescription = None if rep.prescription is None else replace(rep.prescription, id="p")
    placeless = {"seq": 0, "t_us": 0, "session": "s", "set_number": 1, "rep_number": 1}
    return _measured(key, replace(rep, **placeless, prescription=prescription))


@lru_cache(maxsize=4_096)
def _measured(key: str, rep: Rep) -> Measured:
    (item,) = Controller().prepare([Record(TELEMETRY, 0, 0, key.encode(), codec.encode(rep), 0)])
    assert isinstance(item, Arrival)
    assert item.measured is not None
    return item.measured


def read_back(record: NewRecord) -> Record:
    return Record(record.topic, 0, 0, record.key, record.value, record.timestamp_ms, record.headers)
