"""Stale: commands on their way through a day on which everything goes wrong, and what became of each of them.

Controller, downlink and machines are the real ones; broker, network and time are played. Machines have clocks that are
wrong by up to 5 minutes, lose their link for hours and their power now and then, and speak for minutes while nothing
reaches them. Messages come late, twice, in disorder or never; so do commands, and the broker hands out again, hours
later, what it had begun to hand out.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

from msgspec.structs import replace

from adaptors.downlink import Downlink, Sender
from loadtest.exercise import EXERCISES
from loadtest.kept import KeptOnDisk
from loadtest.machine import Machine
from loadtest.patient import draw
from loadtest.programme import Programme
from loadtest.truth import Ledger
from loadtest.visit import Habits
from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.records import NewRecord, Record
from streams.core.results import CommandClosed, Notice
from streams.core.session import MachineState
from streams.core.telemetry import (
    ButtonPressed,
    Heartbeat,
    Offline,
    Online,
    Ordered,
    Prescription,
    Released,
    Screened,
    SessionEnded,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
    Telemetry,
)
from streams.core.topics import COMMAND, METRIC
from tests.shell.counts import Counts

HOUR_MS = 3_600_000
SKEW_MS = 300_000
START_MS = 1_700_000_000_000
PATIENT = "demo/p1"
PLAN = Prescription(id="p", load_N=200.0, sets=20)
T = TypeVar("T", bound=Ordered)


class Talker(Machine):
    """The simulated machine, with other things to say: a session in a hurry, full of pain."""

    def __init__(self, number: int, ledger: Ledger, kept: KeptOnDisk, skew_ms: int, stamped: Callable[[], int]) -> None:
        exercise = next(iter(EXERCISES.values()))
        super().__init__(
            f"demo/north/m{number}",
            number=number,
            exercise=exercise,
            visitors=[draw(1, 1, "demo")],
            seed=1,
            ledger=ledger,
            habits=Habits(run="day"),
            kept=kept,
        )
        self._skew_ms, self._true_ms = skew_ms, stamped
        self._up_ms = stamped()

    @property
    def own_ms(self) -> int:
        """The time of day, as this machine believes."""
        return self._true_ms() + self._skew_ms

    def say(self, kind: Callable[..., T], **fields: Any) -> T:
        """Say something."""
        self._own_ms = self._watch_ms = self.own_ms
        self._now_us = 1_000 * (self._true_ms() - self._up_ms)
        message = kind(**self._stamp(), **fields)
        self._said(message)
        return message

    def online(self) -> Online:
        """Say that it is there."""
        return Online(boot_id=self.programme.boot_id, capabilities=self.programme.capabilities)

    def reboot(self) -> None:
        """Lose power."""
        super().reboot()
        self._up_ms = self._true_ms()

    def hold(self, **fields: Any) -> None:
        """Stand somewhere else in the session."""
        self._programme: Programme = replace(self._programme, **fields)


class Broker:
    """The connection of the downlink: takes commands for machines, as long as they last."""

    lost = None

    def __init__(self, take: Callable[[Command, int | None], None]) -> None:
        self._take = take

    async def publish(self, _topic: str, payload: bytes, *, expiry_s: int | None, **_others: object) -> bool:
        """Take a command."""
        self._take(codec.decode_command(payload), expiry_s)
        return True


class Day:
    """One day of some machines, until so many commands have been issued, and the quiet hours after it.

    Attributes
    ----------
    issued, closed : dict
        Every command by its id; how it ended, each time that this was said.
    late, disordered, sent_late, issued_disordered : list of str
        Commands that took effect after their expiry, or after a later one; that were given to the broker after their
        expiry; that the loop issued in another order than that of their sequence.
    """

    def __init__(
        self,
        seed: int,
        *,
        machines: int = 40,
        commands: int,
        fastest_ms: int = SKEW_MS,
        downlink_sees_time: bool = True,
    ) -> None:
        self.rng = Random(seed)
        self.now_ms = START_MS
        self.issued: dict[str, Command] = {}
        self.closed: defaultdict[str, list[str]] = defaultdict(list)
        self.late, self.disordered = list[str](), list[str]()
        self.sent_late, self.issued_disordered = list[str](), list[str]()
        self.copies, self.notices = Counter[str](), Counter[str]()
        self.ledger, self._wanted = Ledger(), commands
        self._controller = Controller()
        self._states: dict[str, MachineState] = {}
        self._kept = KeptOnDisk(":memory:")
        self._applied: dict[tuple[str, str], int] = {}
        self._sequences: dict[tuple[str, str], int] = {}
        self._due: list[tuple[int, int, Callable[[], Any]]] = []
        self._count = self._offset = 0
        self._away_until: dict[str, int] = {}
        self._deaf_until: dict[str, int] = {}
        self._is_calm = False
        self._machines = [
            Talker(n, self.ledger, self._kept, self.rng.randint(-SKEW_MS, fastest_ms), lambda: self.now_ms)
            for n in range(machines)
        ]
        broker: Any = Broker(self._take)

        async def connect() -> Any:
            return broker

        log: Any = None  # nothing here is malformed
        clock = (lambda: self.now_ms) if downlink_sees_time else (lambda: 0)
        self._downlink = Downlink(Sender(connect, Counts(), now_ms=clock), log, Counts())

    async def live(self) -> "Day":
        """Let it all happen."""
        for machine in self._machines:
            self._at(self.rng.randint(0, 5_000), partial(self._session, machine))
        while self._due:
            self.now_ms, _, happen = heapq.heappop(self._due)
            done = happen()
            if done is not None:
                await done
            if len(self.issued) >= self._wanted and not self._is_calm:
                self._calm_down()
        self._kept.close()
        return self

    def _at(self, after_ms: int, happen: Callable[[], Any]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now_ms + after_ms, self._count, happen))

    def _chance(self, share: float) -> bool:
        return not self._is_calm and self.rng.random() < share

    def _calm_down(self) -> None:
        """End the day: nothing goes wrong any more, everybody is there, and time passes by heartbeats."""
        self._is_calm = True
        back_ms = max([4 * HOUR_MS, *(until - self.now_ms for until in self._away_until.values())]) + 1_000
        for machine in self._machines:
            self._at(back_ms, partial(self._greet, machine))
            for n in range(1, 150):
                self._at(back_ms + 7_000 * n, partial(self._tell, machine, Heartbeat))

    # What machines say.

    def _session(self, machine: Talker) -> None:
        """Begin a session, unless the day is over."""
        if self._is_calm:
            return
        rng, name = self.rng, f"s{self._count}"
        machine.hold(stage="running", session=name, prescription=PLAN, lifting=False, set_number=0)
        who = {"session": name, "patient": PATIENT, "exercise": "row", "settings": "h1", "prescription": PLAN}
        steps: list[Callable[[], None]] = [
            lambda: self._heard(machine, machine.online()),
            lambda: self._tell(machine, Released, by="dr-1"),
            lambda: self._tell(machine, Screened, patient=PATIENT, outcome="clear", by="dr-1"),
            lambda: self._tell(machine, SessionStarted, **who),
        ]
        for number in range(1, rng.choice((4, 8, 50))):
            steps += self._set(machine, name, number)
        steps += [lambda: self._tell(machine, SessionEnded, session=name), lambda: self._session(machine)]
        self._one_by_one(machine, machine.programme.boot_id, steps)

    def _set(self, machine: Talker, name: str, number: int) -> list[Callable[[], None]]:
        """Return the steps of a set: something always hurts."""
        steps: list[Callable[[], None]] = [
            partial(self._begin_set, machine, name, number),
            lambda: self._tell(machine, SymptomReported, session=name, pain_nrs=4),
        ]
        if self._chance(0.1):  # it can't wait, and overtakes what does
            steps.append(lambda: self._tell(machine, SymptomReported, session=name, pain_nrs=7))
        if self._chance(0.03):
            steps.append(lambda: self._tell(machine, ButtonPressed, button="stop"))
            steps.append(lambda: self._tell(machine, Released, by="dr-1"))
        return [*steps, lambda: self._tell(machine, SetEnded, session=name, set_number=number, reps_done=3)]

    def _begin_set(self, machine: Talker, name: str, number: int) -> None:
        machine.hold(prescription=PLAN, set_number=number, lifting=True)
        self._tell(machine, SetStarted, session=name, set_number=number, load_N=PLAN.load_N)

    def _one_by_one(self, machine: Talker, boot_id: str, steps: Sequence[Callable[[], None]]) -> None:
        if self._is_calm or machine.programme.boot_id != boot_id:
            return
        steps[0]()
        pause_ms = self.rng.randint(300, 4_000)
        if self._chance(0.001):
            machine.reboot()
            self._heard(machine, machine.online())
            self._at(pause_ms, lambda: self._session(machine))
        elif self._chance(0.01):
            pause_ms = self.rng.randint(20_000, self.rng.choice((SKEW_MS, SKEW_MS, SKEW_MS, 3 * HOUR_MS)))
            self._away_until[machine.key] = self.now_ms + pause_ms
            self._heard(machine, Offline(boot_id=boot_id))
        if self._chance(0.004):
            self._deaf_until[machine.key] = self.now_ms + self.rng.randint(20_000, SKEW_MS)
        if len(steps) > 1:
            self._at(pause_ms + 100, lambda: self._one_by_one(machine, boot_id, steps[1:]))

    def _greet(self, machine: Talker) -> None:
        self._heard(machine, machine.online())

    def _tell(self, machine: Talker, kind: Callable[..., Ordered], **fields: Any) -> None:
        if kind is Released:
            machine.hold(locked=False, set_over=False, exercise_over=False)
        self._send(machine, machine.say(kind, **fields))

    # What the network makes of it.

    def _delay_ms(self, late: float = 0.01) -> int:
        if self._chance(0.08):
            return self.rng.randint(200, 6_000)
        return self.rng.randint(20_000, 600_000) if self._chance(late) else self.rng.randint(5, 150)

    def _send(self, machine: Talker, message: Ordered) -> None:
        """Say a message: it comes once, later, twice or never, and not before its machine is back."""
        if self._chance(0.01):
            return
        away_ms = max(0, self._away_until.get(machine.key, 0) - self.now_ms)
        for _ in range(1 + self._chance(0.03)):
            self._at(away_ms + self._delay_ms(), lambda: self._heard(machine, message))

    def _heard(self, machine: Talker, message: Telemetry) -> None:
        """Let the controller hear a message, and pass on what it says."""
        key = machine.key
        state = self._states.get(key) or self._controller.start(key.encode())
        arrival = Arrival(key, codec.message_id(key, message), message)
        self._states[key], said = self._controller.step(state, arrival, self.now_ms)
        for record in said:
            if record.topic == METRIC:
                self._note(codec.decode_metric(record.value or b""))
        orders = [record for record in said if record.topic == COMMAND]
        for record in orders:
            self._issue(codec.decode_command(record.value or b""))
        if orders:
            lag_ms = self.rng.randint(5_000, 90_000) if self._chance(0.02) else self.rng.randint(1, 30)
            self._at(lag_ms, lambda: self._downlink.deliver([self._record(one) for one in orders]))

    def _note(self, told: Any) -> None:
        if isinstance(told, CommandClosed):
            self.closed[told.command_id].append(told.outcome)
        elif isinstance(told, Notice):
            self.notices[told.name] += 1

    def _issue(self, command: Command) -> None:
        if self.issued.setdefault(command.command_id, command) is not command or command.action in {"stop", "resend"}:
            return
        boot = (command.machine, command.boot_id)
        if command.sequence <= self._sequences.get(boot, -1):
            self.issued_disordered.append(command.command_id)
        self._sequences[boot] = command.sequence

    def _record(self, record: NewRecord) -> Record:
        self._offset += 1
        return Record(
            record.topic, 0, self._offset, record.key, record.value, record.timestamp_ms, headers=record.headers
        )

    def _take(self, command: Command, expiry_s: int | None) -> None:
        """Carry a command to its machine; what has begun to be handed out comes again, however old it is by then."""
        if command.action != "stop" and self.now_ms >= command.expires_ms:
            self.sent_late.append(command.command_id)
        until_ms = max(self._away_until.get(command.machine, 0), self._deaf_until.get(command.machine, 0))
        away_ms = max(0, until_ms - self.now_ms)
        delays_ms = [away_ms + self._delay_ms(late=0.05)]
        if self._chance(0.05):
            delays_ms.append(away_ms + self.rng.randint(0, 60_000))
        if self._chance(0.03):
            delays_ms.append(away_ms + self.rng.randint(60_000, 3 * HOUR_MS))
        is_begun = self.rng.random() < 0.5
        for delay_ms in delays_ms:
            if expiry_s is None or delay_ms <= 1_000 * expiry_s or is_begun:
                self._at(delay_ms, lambda: self._reach(command))

    # What machines do about it.

    def _reach(self, command: Command) -> None:
        machine = self._machines[int(command.machine.rsplit("/m", 1)[1])]
        if self.now_ms < self._away_until.get(machine.key, 0):
            self._at(self._away_until[machine.key] - self.now_ms + 10, lambda: self._reach(command))
            return
        self.copies[command.command_id] += 1
        effects = self.ledger.effects[machine.key, command.command_id]
        again = machine.recalled(command, machine.own_ms)
        for message in again:
            self._send(machine, message)
        for ack in machine.receive(command, machine.own_ms):
            self._send(machine, ack)
        if self.ledger.effects[machine.key, command.command_id] > effects or again:
            self._took_effect(machine, command)

    def _took_effect(self, machine: Talker, command: Command) -> None:
        if command.action == "stop":
            return
        if self.now_ms >= command.expires_ms:
            self.late.append(command.command_id)
        if command.action == "resend":
            return
        boot = (machine.key, machine.programme.boot_id)
        if command.sequence <= self._applied.get(boot, -1) or command.boot_id != boot[1]:
            self.disordered.append(command.command_id)
        self._applied[boot] = max(command.sequence, self._applied.get(boot, -1))

    # What is wrong with it.

    def wrongs(self) -> dict[str, list[str]]:
        """Return what must not be, and is, by its kind."""
        answers = {name: set(told) for (_, name), told in self.ledger.answers.items()}
        ends = {name: self.closed.get(name, []) for name in self.issued}
        applied = {name for name, told in answers.items() if told == {"applied"}}
        found = {
            "applied after its expiry": self.late,
            "applied out of order": self.disordered,
            "sent after its expiry": self.sent_late,
            "issued out of order": self.issued_disordered,
            "not ended, or twice": [name for name, told in ends.items() if len(told) != 1],
            "ended and never issued": [name for name in self.closed if name not in self.issued],
            "answered in two ways": [name for name, told in answers.items() if len(told) > 1],
            "took effect twice": [name for (_, name), count in self.ledger.effects.items() if count > 1],
            "told as applied by no machine": [
                name for name, told in ends.items() if told == ["applied"] and name not in applied
            ],
        }
        return {kind: names for kind, names in found.items() if names}
