"""World: both stages in memory as the engine drives them, with a log time that moves and a checker that sees it all."""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

import msgspec

from loadtest.campaign.network import Letter
from streams.core import codec
from streams.core.commands import Command
from streams.core.controller import Arrival, Controller
from streams.core.patient_state import PatientState
from streams.core.planning import Learned, Planner
from streams.core.plans import Answer, PlanMade, PlanRecalled, ScreeningTold
from streams.core.policy import Policy
from streams.core.records import NewRecord, header
from streams.core.results import CommandClosed, Notice, PatientFact
from streams.core.session import MachineState
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY

S = TypeVar("S")

_HEARD = frozenset({"spineloop.notice.v1", "spineloop.command_closed.v1"})
"""What the checker reads of the metric topic."""


class Sent(msgspec.Struct, frozen=True):
    """A command as it stands in the log: its bytes, and whether it is sent for the first time."""

    command: Command
    value: bytes
    is_first: bool


Output = Sent | Notice | CommandClosed | PatientFact | Answer


class Keeper(Protocol[S]):
    """A stage, as far as it writes and reads its states."""

    def save(self, state: S) -> bytes:
        """Write a state."""

    def restore(self, saved: bytes) -> S:
        """Read a state."""


class Witness(Protocol):
    """Who watches what goes in and what comes out."""

    def heard(self, letter: Letter, now_ms: int, said: Sequence[Output]) -> None:
        """See a message of a machine, and what the controller said to it."""

    def answered(self, answer: Answer, now_ms: int, said: Sequence[Output]) -> None:
        """See an answer of the planner, and what the controller said to it."""

    def learned(self, fact: PatientFact, now_ms: int, said: Sequence[Output]) -> None:
        """See a fact about a patient, and what the planner said to it."""

    def changed(self, what: str) -> None:
        """See that something is not what it was before it was saved, or before it was repeated."""


def understood(records: Sequence[NewRecord]) -> list[Output]:
    """Read what a stage said, as far as anybody needs it."""
    outputs: list[Output] = []
    for record in records:
        value = record.value or b""
        if record.topic == COMMAND:
            attempt = header(record, "ce_id") or ""
            outputs.append(Sent(codec.decode_command(value), value, "#" not in attempt))
        elif record.topic == PATIENT:
            outputs.append(codec.decode_patient_fact(value))
        elif record.topic == METRIC and header(record, "ce_type") in _HEARD:
            outputs.append(codec.decode_metric(value))  # type: ignore[arg-type]  # the type says which two it may be
        elif record.topic == TELEMETRY:
            outputs.append(codec.decode_telemetry(record.key.decode(), value))  # type: ignore[arg-type]  # a plan
    return outputs


class World:
    """Both stages. An answer may take its time on the way back, which is when something else happens.

    Parameters
    ----------
    policy : Policy
        The numbers of the rules.
    witness : Witness
        The checker.
    rng : Random
        Where chance comes from.
    slow_plans, saves : float
        Probabilities that an answer comes back late, and that a state is written and read before a step.
    """

    def __init__(
        self, policy: Policy, witness: Witness, rng: Random, *, slow_plans: float = 0.0, saves: float = 0.02
    ) -> None:
        self.now_ms = 1_700_000_000_000
        self.inbox: dict[str, deque[Command]] = {}
        self.messages = self.commands = 0
        self.journal: list[str] | None = None
        self._witness, self._rng, self._slow_plans, self._saves = witness, rng, slow_plans, saves
        self._control, self._plan = Controller(policy), Planner(policy)
        self._machines: dict[str, MachineState] = {}
        self._patients: dict[str, PatientState] = {}
        self._answers: list[tuple[int, Answer]] = []
        self._history: list[tuple[str, Arrival, int, Sequence[NewRecord]]] = []

    def tell(self, letter: Letter, now_ms: int) -> None:
        """Let a message be heard, and everything that follows from it."""
        self.now_ms = max(self.now_ms, now_ms)
        self._late_answers()
        message = letter.message
        arrival = Arrival(letter.machine, codec.message_id(letter.machine, message), message, letter.measured)
        said = self._step(letter.machine, arrival)
        self.messages += 1
        self._witness.heard(letter, self.now_ms, said)
        self._pass_on(said)

    def repeat(self) -> None:
        """Go through everything once more, without a break: the same records must come out."""
        states: dict[str, MachineState] = {}
        for machine, arrival, at_ms, records in self._history:
            state = states.get(machine) or self._control.start(machine.encode())
            states[machine], again = self._control.step(state, arrival, at_ms)
            if list(again) != list(records):
                self._witness.changed(f"{arrival.id} gave other records when it was replayed")

    def _step(self, machine: str, arrival: Arrival) -> list[Output]:
        state = self._machines.get(machine) or self._control.start(machine.encode())
        if self._rng.random() < self._saves:
            state = self._kept(state, self._control)
        self._machines[machine], records = self._control.step(state, arrival, self.now_ms)
        self._history.append((machine, arrival, self.now_ms, records))
        said = understood(records)
        self._note(arrival, said)
        return said

    def _pass_on(self, said: Sequence[Output]) -> None:
        for output in said:
            match output:
                case Sent(command=command):
                    self.commands += output.is_first
                    self.inbox.setdefault(command.machine, deque()).append(command)
                case PlanMade() | ScreeningTold() | PlanRecalled() | Notice() | CommandClosed():
                    pass
                case _:
                    self._learn(output)

    def _learn(self, fact: PatientFact) -> None:
        patient = fact.patient or ""
        state = self._patients.get(patient) or self._plan.start(patient.encode())
        if self._rng.random() < self._saves:
            state = self._kept(state, self._plan)
        self._patients[patient], records = self._plan.step(state, Learned(fact), self.now_ms)
        said = understood(records)
        self._witness.learned(fact, self.now_ms, said)
        for answer in said:
            if isinstance(answer, Answer):
                slow = self._rng.random() < self._slow_plans
                self._answers.append((self.now_ms + (self._rng.randint(100, 20_000) if slow else 0), answer))
        self._late_answers()

    def _late_answers(self) -> None:
        due = [answer for at_ms, answer in self._answers if at_ms <= self.now_ms]
        self._answers = [one for one in self._answers if one[0] > self.now_ms]
        for answer in due:
            told = answer.command if isinstance(answer, PlanMade) else answer
            said = self._step(told.machine, Arrival(told.machine, told.cause, answer))
            self._witness.answered(answer, self.now_ms, said)
            self._pass_on(said)

    def _kept(self, state: S, stage: Keeper[S]) -> S:
        saved = stage.save(state)
        read = stage.restore(saved)
        if stage.save(read) != saved:
            self._witness.changed("a state is another one after it was saved and read")
        return read

    def _note(self, arrival: Arrival, said: Sequence[Output]) -> None:
        if self.journal is None:
            return
        self.journal.append(f"{self.now_ms} > {arrival.id} {arrival.message} {_told(arrival)}")
        self.journal += [f"{self.now_ms}   < {one}" for one in said]


def _told(arrival: Arrival) -> str:
    return "" if arrival.measured is None else f"{arrival.measured.reasons} {arrival.measured.values}"
