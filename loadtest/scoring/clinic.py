"""Clinic: one machine in front of the real controller and planner, with the log between them in memory."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any, TypeVar

from msgspec.structs import replace

from loadtest.exercise import Exercise
from loadtest.lifting import FORCE_SCALE_N, POSITION_SCALE, counts
from loadtest.movement import FS_HZ, RepSignal
from loadtest.scoring.motion import Case
from streams.core import codec, muscles, policy
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.errors import BrokenPromise, Malformed
from streams.core.measure import Measured
from streams.core.muscles import Catalogue
from streams.core.planning import Learned, Planner
from streams.core.records import NewRecord, Record
from streams.core.results import Metric
from streams.core.telemetry import (
    ClinicianEdited,
    Intent,
    Online,
    Ordered,
    Prescription,
    Rep,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    Side,
    Telemetry,
)
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY

M = TypeVar("M", bound=Ordered)

MACHINE = "sim/score/m1"
PATIENT_KEY = "sim/p1"
START_MS = 1_800_000_000_000

STEP_MS = 1
"""Log time between two messages. It is shorter than any patience, because nobody acknowledges commands here: what is
scored is the first command of a set, not its delivery."""


@cache
def shipped() -> Catalogue:
    """Read what is shipped about machines, their pairs and their norms."""
    return muscles.read((resources.files("streams") / "machines.toml").read_bytes())


class Clinic:
    """One machine and one patient. `controller` and `planner` are the real stages, and records pass between them.

    States are frozen: `copy` branches a clinic, so that many sets can follow the same beginning.
    """

    def __init__(self, exercise: Exercise, intent: Intent, prescription: Prescription, side: Side = "both") -> None:
        self.exercise, self.intent, self.side, self.prescription = exercise, intent, side, prescription
        self.controller, self.planner = Controller(), Planner(policy.DEFAULT, shipped())
        self.machine = self.controller.start(MACHINE.encode())
        self.patient = self.planner.start(PATIENT_KEY.encode())
        self.now_ms = START_MS
        self.seq = self.t_us = self.sessions = self.sets = self.reps = 0

    def copy(self) -> "Clinic":
        """Branch: what the copy hears changes nothing here."""
        other = Clinic(self.exercise, self.intent, self.prescription, self.side)
        other.__dict__.update(self.__dict__)
        return other

    def say(self, kind: Callable[..., M], after_s: float = 1.0, **fields: Any) -> M:  # noqa: ANN401 - any message
        """Make the machine's next message."""
        self.seq += 1
        self.t_us += round(after_s * 1e6)
        return kind(boot_id="b1", seq=self.seq - 1, t_us=self.t_us, **fields)

    def rep(self, seen: Case | RepSignal, load_N: float, **fields: Any) -> Rep:  # noqa: ANN401 - as the message
        """Put a movement on the wire, as the machine of this exercise would."""
        self.reps += 1
        exercise = self.exercise
        told: dict[str, Any] = {
            "session": f"s{self.sessions}",
            "set_number": max(self.sets, 1),
            "rep_number": self.reps,
            "exercise": exercise.name,
            "side": self.side,
            "intent": self.intent,
            "load_N": load_N,
            "settings": "seat-1",
            "fs_hz": FS_HZ,
            "samples": len(seen.force),
            "force": counts(seen.force, exercise.force_sign * FORCE_SCALE_N),
            "force_scale_N": FORCE_SCALE_N,
            "position": counts(seen.position, exercise.concentric_sign * POSITION_SCALE),
            "position_scale": POSITION_SCALE,
            "position_unit": exercise.unit,
            "concentric_sign": exercise.concentric_sign,
            "force_sign": exercise.force_sign,
            "prescription": self.prescription,
        }
        return self.say(Rep, len(seen.force) / FS_HZ, **(told | fields))

    def retold(self, item: Arrival) -> Arrival:
        """Give a rep that was measured ahead its place in the running set."""
        if not isinstance(item.message, Rep):
            raise BrokenPromise("only a rep has a place in a set")
        self.reps += 1
        rep = self.say(
            partial(replace, item.message),
            item.message.samples / FS_HZ,
            session=f"s{self.sessions}",
            side=self.side,
            set_number=self.sets,
            rep_number=self.reps,
            prescription=self.prescription,
        )
        return replace(item, id=codec.message_id(MACHINE, rep), message=rep)

    def measured_rep(self, load_N: float, after_s: float = 3.0, **values: float) -> list[NewRecord]:
        """Let the controller hear a good repetition whose measurements are given: what passes for the wire is skipped.

        `values` are metrics of the catalogue by name; all others are missing.
        """
        self.reps += 1
        rep = self.say(
            Rep,
            after_s,
            session=f"s{self.sessions}",
            set_number=self.sets,
            rep_number=self.reps,
            exercise=self.exercise.name,
            side=self.side,
            intent=self.intent,
            load_N=load_N,
            settings="seat-1",
            fs_hz=FS_HZ,
            samples=0,
            force=b"",
            force_scale_N=FORCE_SCALE_N,
            position=b"",
            position_scale=POSITION_SCALE,
            position_unit=self.exercise.unit,
            prescription=self.prescription,
        )
        measured = Measured(valid=True, reasons=(), values=values, undefined={})
        return self.take(Arrival(MACHINE, codec.message_id(MACHINE, rep), rep, measured))

    def open(self, cap_N: float | None = None) -> list[NewRecord]:
        """Come online, be screened, and be prescribed for."""
        online = Online(boot_id="b1", capabilities=self.exercise.capabilities)
        screened = self.say(Screened, patient=PATIENT_KEY, outcome="clear", by="dr-1")
        edited = self.say(
            ClinicianEdited,
            patient=PATIENT_KEY,
            exercise=self.exercise.name,
            side=self.side,
            by="dr-1",
            load_cap_N=cap_N,
            prescription=self.prescription,
        )
        return self.hear([online, screened, edited])

    def begin(self, days: float = 0.0) -> list[NewRecord]:
        """Ask for a plan, take it, and start the session and its first set; `days` after whatever was before."""
        self.now_ms += round(days * 86_400_000)
        self.sessions, self.sets = self.sessions + 1, 0
        common: dict[str, Any] = {
            "session": f"s{self.sessions}",
            "patient": PATIENT_KEY,
            "exercise": self.exercise.name,
            "side": self.side,
            "intent": self.intent,
            "settings": "seat-1",
        }
        said = self.hear([self.say(SessionRequested, **common)])
        planned = [command.prescription for command in commands(said) if command.action == "prescribe"]
        self.prescription = next((one for one in planned if one is not None), self.prescription)
        started = self.say(SessionStarted, **common, prescription=self.prescription, pain_nrs=0)
        return said + self.hear([started]) + self.next_set()

    def next_set(self) -> list[NewRecord]:
        """Put the load on."""
        self.sets, self.reps = self.sets + 1, 0
        session, load_N = f"s{self.sessions}", self.prescription.load_N
        return self.hear([self.say(SetStarted, session=session, set_number=self.sets, load_N=load_N)])

    def end_set(self, rpe: int | None = None) -> list[NewRecord]:
        """Put the load down, and say how hard it was."""
        session = f"s{self.sessions}"
        return self.hear(
            [self.say(SetEnded, session=session, set_number=self.sets, reps_done=self.reps, rpe=rpe)],
        )

    def end(self) -> list[NewRecord]:
        """Go home."""
        return self.hear([self.say(SessionEnded, session=f"s{self.sessions}")])

    def hear(self, messages: Sequence[Telemetry]) -> list[NewRecord]:
        """Encode messages, and let controller and planner hear them as they hear a log; return what they say."""
        return [record for item in prepared(self.controller, messages, self.now_ms) for record in self.take(item)]

    def take(self, item: Arrival) -> list[NewRecord]:
        """Let one arrival step the controller, and what it tells of the patient the planner."""
        self.now_ms += STEP_MS
        self.machine, said = self.controller.step(self.machine, item, self.now_ms)
        told = list(said)
        for record in said:
            if record.topic == PATIENT:
                told += self._learn(record)
        return told

    def _learn(self, record: NewRecord) -> list[NewRecord]:
        (item,) = self.planner.prepare([_record(PATIENT, record.key, record.value, self.now_ms)])
        if not isinstance(item, Learned):
            raise BrokenPromise(f"the controller wrote what the planner can't read: {item}")
        self.patient, planned = self.planner.step(self.patient, item, self.now_ms)
        told = list(planned)
        for plan in planned:
            if plan.topic == TELEMETRY:
                told += self.hear_record(plan)
        return told

    def hear_record(self, record: NewRecord) -> list[NewRecord]:
        """Let the controller hear a record that the planner wrote."""
        (item,) = self.controller.prepare([_record(TELEMETRY, record.key, record.value, self.now_ms)])
        if isinstance(item, Malformed):
            raise BrokenPromise(f"the planner wrote what the controller can't read: {item}")
        return self.take(item)


def prepared(controller: Controller, messages: Sequence[Telemetry], now_ms: int) -> list[Arrival]:
    """Encode messages and prepare them as one poll of the log: of many sets at once, because that is quicker."""
    records = [_record(TELEMETRY, MACHINE.encode(), codec.encode(message), now_ms) for message in messages]
    items = []
    for item in controller.prepare(records):
        if isinstance(item, Malformed):
            raise BrokenPromise(f"the scorer wrote what nobody can read: {item}")
        items.append(item)
    return items


def _record(topic: str, key: bytes, value: bytes | None, now_ms: int) -> Record:
    return Record(topic, 0, 0, key, value, now_ms)


def commands(said: Iterable[NewRecord]) -> list[Command]:
    """Return the commands among what was said."""
    return [codec.decode_command(record.value or b"") for record in said if record.topic == COMMAND]


def metrics(said: Iterable[NewRecord]) -> list[Metric]:
    """Return the results among what was said."""
    return [codec.decode_metric(record.value or b"") for record in said if record.topic == METRIC]
