"""Watch: the checker at work. It takes in every message that counts, and judges every command that comes out."""

from collections.abc import Iterable, Sequence

from loadtest.campaign import requests
from loadtest.campaign.grounds import TUL_CAP_S
from loadtest.campaign.hearing import Hearing
from loadtest.campaign.ledger import MachineSeen, PatientSeen, values_of
from loadtest.campaign.network import Letter
from loadtest.campaign.order import Counted, Item, Lost, NewBoot
from loadtest.campaign.scene import Scene, Violation
from loadtest.campaign.violations import violations
from loadtest.campaign.world import Output, Sent
from streams.core.codec import message_id, type_name
from streams.core.commands import Command
from streams.core.plans import Answer, PlanMade, PlanRecalled, ScreeningTold
from streams.core.policy import Policy
from streams.core.results import CommandClosed, Notice, PatientFact, PlanEdited, PlanRequested
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    FaultRaised,
    Offline,
    Online,
    Released,
    Screened,
    SessionEnded,
    SetEnded,
    SymptomReported,
    Telemetry,
)

TROUBLE = frozenset({"emergency_stop", "pain_stop", "pain_reduce"})
REFUSES_A_DECREASE = frozenset({"S5", "S8", "S9", "S10", "S13", "S14", "S21", "S23"})
"""What alone may stand against a decrease (S2)."""

LATE_ANSWER_MS = 10_000
"""How long after its expiry a command may still be answered (S12)."""


class Watch:
    """The checker of one world.

    Parameters
    ----------
    policy : Policy
        The numbers in force.
    """

    def __init__(self, policy: Policy) -> None:
        self.found: list[Violation] = []
        self._policy = policy
        self._hearing = Hearing(policy)
        self._values: dict[str, bytes] = {}
        self._closed: set[str] = set()
        self.increases = 0

    def heard(self, letter: Letter, now_ms: int, said: Sequence[Output]) -> None:
        """See a message of a machine, and what the controller said to it."""
        self._hearing.now_ms = now_ms
        machine = self._hearing.machine(letter.machine)
        new: dict[str, list[Command]] = {}
        for sent in said:
            if isinstance(sent, Sent) and sent.is_first and sent.command.action != "resend":
                new.setdefault(sent.command.cause, []).append(sent.command)
        self._at_once(machine, letter, new)
        for item in self._counting(machine, letter):
            match item:
                case NewBoot(boot_id=boot_id):
                    machine.boot_id = boot_id
                    self._judge(machine, _of_the_link(new, message_id(letter.machine, letter.message)))
                    self._hearing.rebooted(machine)
                case Lost(count=count):
                    self._hearing.lost(machine, count)
                case Counted():
                    self._count(machine, item, new, said)
        for commands in new.values():
            for command in commands:
                self._wrong("S22", f"{command.command_id} came out, and its cause did not count now")
        self._requests(machine, said)
        self._afterwards(machine, said)

    def answered(self, answer: Answer, now_ms: int, said: Sequence[Output]) -> None:
        """See an answer of the planner, and what the controller said to it."""
        self._hearing.now_ms = now_ms
        if isinstance(answer, PlanMade):
            self._planned(answer, said)
        elif isinstance(answer, PlanRecalled):
            self._recalled(answer, said)
        else:
            self._screened(answer, said)

    def _recalled(self, told: PlanRecalled, said: Sequence[Output]) -> None:
        """S7: a plan that is recalled brings no command but what asks for another."""
        machine = self._hearing.machine(told.machine)
        if any(isinstance(one, Sent) and one.is_first and one.command.action != "resend" for one in said):
            self._wrong("S7", f"{told.id} led to a command")
        self._requests(machine, said)
        self._afterwards(machine, said)

    def _screened(self, told: ScreeningTold, said: Sequence[Output]) -> None:
        """S23: a red flag on record locks the machine where its patient waits or trains; nothing else follows."""
        machine = self._hearing.machine(told.machine)
        session = machine.session
        issued = [
            one.command for one in said if isinstance(one, Sent) and one.is_first and one.command.cause == told.cause
        ]
        is_here = session is not None and (session.name, session.patient) == (told.session, told.patient)
        is_due = told.outcome == "red_flag" and is_here and machine.locked is None
        if [one.action for one in issued] != (["stop"] if is_due else []):
            self._wrong("S23", f"{told.id} says {told.outcome} and led to {[one.action for one in issued]}")
        self._judge(machine, issued)
        self._requests(machine, said)
        self._afterwards(machine, said)

    def _planned(self, plan: PlanMade, said: Sequence[Output]) -> None:
        machine = self._hearing.machine(plan.command.machine)
        sent = [one.command for one in said if isinstance(one, Sent) and one.is_first]
        issued = [one for one in sent if one.action != "resend"]
        self._judge(machine, issued)
        self._requests(machine, said)
        told = {one.name for one in said if isinstance(one, Notice)}
        if not issued and not told & {"refused", "plan_too_late"}:
            self._wrong("S24", f"{plan.command.command_id} was neither issued nor refused")
        if issued and issued[0] != plan.command and "clamped" not in told:
            self._wrong("S24", f"{plan.command.command_id} was changed without a word")
        self._afterwards(machine, said)

    def learned(self, fact: PatientFact, now_ms: int, said: Sequence[Output]) -> None:
        """See a fact about a patient, and what the planner said to it."""
        self._hearing.now_ms = now_ms
        plans = [one for one in said if isinstance(one, PlanMade)]
        is_answered = any(isinstance(one, Notice | ScreeningTold) for one in said)
        if isinstance(fact, PlanRequested) and not plans and not is_answered:
            self._wrong("S24", f"{fact.id} was neither planned nor refused")
        if len(plans) > isinstance(fact, PlanRequested):
            self._wrong("S22", f"{fact.id} brought {len(plans)} plans")

    def changed(self, what: str) -> None:
        """See that something is not what it was."""
        self._wrong("S22", what)

    def _wrong(self, invariant: str, detail: str) -> None:
        self.found.append(Violation(invariant, detail))

    def _counting(self, machine: MachineSeen, letter: Letter) -> list[Item]:
        """Return what counts now that this has come."""
        message = letter.message
        if not isinstance(message, Online | Offline):
            return machine.order.take(letter, message, self._hearing.now_ms, is_of_here=_is_of_here(machine, message))
        if machine.order.is_past(message.boot_id):
            return []
        if isinstance(message, Online):
            return [*machine.order.boot(message.boot_id), Counted(letter, "in turn")]
        leaves = machine.online and message.boot_id == machine.order.boot_id
        return [*(machine.order.leave() if leaves else ()), Counted(letter, "in turn")]

    def _at_once(self, machine: MachineSeen, letter: Letter, new: dict[str, list[Command]]) -> None:
        """S2: danger is answered by a STOP in the very step in which it is heard, whatever else is missing."""
        message = letter.message
        match message:
            case SymptomReported(symptom="none"):
                return
            case SymptomReported() | ButtonPressed(button="stop") | FaultRaised() | Screened(outcome="red_flag"):
                told = type_name(message)
            case _:
                return
        boot_id, released_seq = machine.released
        is_released_since = message.boot_id == boot_id and message.seq < released_seq
        if is_released_since or machine.order.is_repeated(message.boot_id, message.seq):
            return
        cause = message_id(letter.machine, message)
        if not any(one.action == "stop" for one in new.get(cause, ())):
            self._wrong("S2", f"no STOP at once after {told}: {cause}")

    def _judge(self, machine: MachineSeen, commands: Iterable[Command]) -> None:
        for command in commands:
            session = machine.session
            patient = self._hearing.patient(None if session is None else session.patient)
            scene = Scene(command, machine, patient, self._hearing.now_ms, self._policy)
            self.found += violations(scene)
            self.increases += command.action == "prescribe" and bool(scene.raised)
            self._issued(machine, command, patient)

    def _requests(self, machine: MachineSeen, said: Sequence[Output]) -> None:
        """Judge the requests for messages: they are sent when there is a place for them, whatever counts now."""
        for sent in said:
            if isinstance(sent, Sent) and sent.is_first and sent.command.action == "resend":
                scene = Scene(sent.command, machine, None, self._hearing.now_ms, self._policy)
                self.found += requests.violations(scene)

    def _issued(self, machine: MachineSeen, command: Command, patient: PatientSeen | None) -> None:
        """Write down what a command did by coming out."""
        session = machine.session
        machine.sequence = max(machine.sequence, command.sequence)
        machine.pending[command.command_id] = command
        if command.action == "stop":
            machine.locked, machine.stopped_in = (machine.boots, _place(machine, command)), command.boot_id
        if session is None:
            return
        if command.rule in TROUBLE and command.action != "prescribe":
            session.in_trouble = True
        if patient is not None and (session.in_trouble or command.rule == "pain_next_morning"):
            patient.trouble()
        session.over = session.over or command.action in {"stop", "end_exercise"}
        if command.action != "cue":
            (session.between if session.set is None else session.set.fired).append(command.rule)
        if session.set is not None and command.action == "end_set":
            session.set.is_ended = True
        if command.rule == "rom_limit":
            session.tightened[command.command_id] = command.changes
        if command.action == "prescribe" and command.prescription is not None and patient is not None:
            plan = patient.plans.get((session.exercise, session.side))
            if plan is not None and plan.base is not None:
                series = patient.series(plan, session.settings, session.intent)
                series.proposed = values_of(command.prescription)
                series.week.append((self._hearing.now_ms, command.prescription.load_N))

    def _count(
        self, machine: MachineSeen, item: Counted, new: dict[str, list[Command]], said: Sequence[Output]
    ) -> None:
        """Let a message count: the silence before it, what it says, what it caused, what it ends."""
        letter = item.letter
        cause = message_id(letter.machine, letter.message)
        lost = item.how == "in turn" and self._hearing.is_lost(machine, letter)
        self._judge(machine, _of_the_link(new, cause))
        owed = self._hearing.tell(machine, letter)
        self._judge(machine, new.pop(cause, ()))
        self._owes(machine, item, "stop" if lost else owed, said)
        self._close(machine, item)

    def _owes(self, machine: MachineSeen, item: Counted, owed: str | None, said: Sequence[Output]) -> None:
        """S2, S21 and S24: what this message had to bring about."""
        message = item.letter.message
        cause = message_id(item.letter.machine, message)
        commands = [one.command for one in said if isinstance(one, Sent) and one.command.cause == cause]
        notices = [one for one in said if isinstance(one, Notice)]
        if owed == "stop" and not any(one.action == "stop" for one in commands):
            self._wrong("S2", f"no STOP after {cause}")
        excused = any(one.name == "refused" and one.cause == f"{cause}/paced_fatigue_stop" for one in notices)
        if (
            owed == "end_set"
            and not excused
            and not any(one.action in {"end_set", "end_exercise", "stop"} for one in commands)
        ):
            self._wrong("S21", f"{TUL_CAP_S} s under load did not end the set: {cause}")
        if item.how == "late":
            return
        if isinstance(message, Released):
            self._owes_a_word(machine, cause, {one.name for one in notices if one.cause == cause})
        if isinstance(message, ClinicianEdited) and not any(isinstance(one, PlanEdited) for one in said):
            self._wrong("S24", f"no word of the edit {cause}")

    def _owes_a_word(self, machine: MachineSeen, cause: str, told: set[str]) -> None:
        """S24: a release is told as what it is: one that unlocked, or one that was said before the last STOP."""
        if not told & {"released", "release_ignored"}:
            self._wrong("S24", f"no word of the release {cause}")
        if machine.locked is not None and "released" in told:
            self._wrong("S8", f"{cause} is older than the STOP that it was taken to undo")

    def _close(self, machine: MachineSeen, item: Counted) -> None:
        """Let a message end what it ends, after the rules were asked."""
        session, message = machine.session, item.letter.message
        match message:
            case SetEnded() if session is not None and session.name == message.session and item.how == "in turn":
                session.set = None
            case SessionEnded() if session is not None and session.name == message.session and item.how == "in turn":
                self._hearing.over(machine)
            case CommandApplied() | CommandRejected() | CommandExpired():
                machine.pending.pop(message.command_id, None)

    def _afterwards(self, machine: MachineSeen, said: Sequence[Output]) -> None:
        """S8, S10, S12, S24: what is sent again is the same and still allowed; what is closed is closed once."""
        for output in said:
            match output:
                case Sent(command=command, value=value, is_first=is_first):
                    if not is_first and command.command_id not in self._values:
                        self._wrong("S10", f"{command.command_id} was sent again, and never before")
                    if self._values.setdefault(command.command_id, value) != value:
                        self._wrong("S10", f"{command.command_id} has two contents")
                    if not is_first:
                        self._sent_again(machine, command)
                case CommandClosed(command_id=command_id, outcome=outcome, reason=reason):
                    self._closing(machine.pending.get(command_id), reason)
                    if outcome != "applied" and machine.session is not None:
                        machine.session.tightened.pop(command_id, None)
                    if command_id in self._closed:
                        self._wrong("S24", f"{command_id} was closed twice")
                    self._closed.add(command_id)
                    machine.pending.pop(command_id, None)
                case Notice(name="refused", detail=detail):
                    self._refused(detail)

    def _closing(self, command: Command | None, reason: str) -> None:
        """S12: nothing counts as unanswered before its answer may have been late, and a STOP never does."""
        if command is None or reason != "unacknowledged":
            return
        if command.action == "stop" or self._hearing.now_ms <= command.expires_ms + LATE_ANSWER_MS:
            self._wrong("S12", f"{command.command_id} was given up at {self._hearing.now_ms}")

    def _sent_again(self, machine: MachineSeen, command: Command) -> None:
        if command.action == "stop":
            return
        if machine.locked is not None and command.action != "resend":
            self._wrong("S8", f"{command.command_id} was sent again to a locked machine")
        if command.confirm:
            self._wrong("S12", f"the increase {command.command_id} was sent again")
        if command.expires_ms <= self._hearing.now_ms:
            self._wrong("S10", f"{command.command_id} was sent again after it had expired")

    def _refused(self, detail: str) -> None:
        action, _, rest = detail.partition(" by ")
        invariant = rest.partition(" refused by ")[2].partition(":")[0]
        if action == "stop":
            self._wrong("S2", f"a STOP was refused: {detail}")
        elif action in {"lower_load", "end_exercise", "tighten_range"} and invariant not in REFUSES_A_DECREASE:
            self._wrong("S2", f"a decrease was refused: {detail}")


def _place(machine: MachineSeen, command: Command) -> int:
    """Return the place in the running boot of what caused a command; a link was lost before what says so."""
    boot_id, seq = command.cause.rsplit("/", 2)[1:]
    if not seq.isdigit() or boot_id != machine.order.boot_id:
        return -1
    return int(seq) - any(told.name == "link" for told in command.evidence)


def _is_of_here(machine: MachineSeen, message: Telemetry) -> bool:
    """Tell whether the session that is heard of is the one of a pain: any other has to wait for its own."""
    session = machine.session
    if not isinstance(message, SymptomReported) or machine.order.boot_id != message.boot_id:
        return False
    if session is None or session.patient is None:
        return False
    if message.session is not None:
        return message.session == session.name
    return message.patient in {None, session.patient}


def _of_the_link(new: dict[str, list[Command]], cause: str) -> list[Command]:
    """Take out what a lost link caused: it was lost before the message that says so."""
    found = [one for one in new.get(cause, ()) if any(told.name == "link" for told in one.evidence)]
    if found:
        new[cause] = [one for one in new[cause] if one not in found]
    return found
