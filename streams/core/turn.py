"""Turn: one step of the controller in the making. The state so far, and what it has to say."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from streams.core import envelope, order, trouble
from streams.core.commands import Command, Evidence
from streams.core.envelope import Known, Refused
from streams.core.operators import OperatorAsked
from streams.core.outputs import to_records
from streams.core.plans import PlanMade
from streams.core.policy import Policy
from streams.core.records import Header, NewRecord
from streams.core.results import CommandClosed, Metric, Notice, Outcome, PatientFact, Severity, TroubleArose
from streams.core.rule import Decision, Moment, decide
from streams.core.session import MAX_PENDING, MachineState, Pending, SessionState
from streams.core.session_rules import SESSION_RULES
from streams.core.sets import MAX_FIRED, SetState
from streams.core.situation import LinkLoss, Situation, two_reps
from streams.core.telemetry import Event, Ordered, Prescription, Screened, Screening

PLANNED = 7
AFTER_LOSS = 6
"""Places of the planner's command and of the stop after a lost link among the 8 that a message's `seq` leaves."""

ACK_GRACE_MS = 10_000
"""How long after its expiry a command may still be acknowledged, in ms of log time: the way back takes time too."""

MAX_NOTICED = 8
"""Names of notices of a set or a session that are remembered; there are fewer that are told only once."""


class Turn:
    """Everything that one step changes and says; it lives no longer than the step."""

    def __init__(
        self, state: MachineState, now_ms: int, policy: Policy, digest: str, trace: tuple[Header, ...] = ()
    ) -> None:
        self.state = state
        self.now_ms = now_ms
        self.policy = policy
        self.records: list[NewRecord] = []
        self.digest = digest
        self._trace = trace

    @property
    def session(self) -> SessionState | None:
        """The session, running or requested."""
        return self.state.session

    @property
    def running(self) -> SessionState | None:
        """The session, if it has started."""
        return self.state.session if self.state.session is not None and self.state.session.started else None

    @property
    def set(self) -> SetState | None:
        """The running set."""
        return None if self.state.session is None else self.state.session.set

    def change(self, **fields: Any) -> None:  # noqa: ANN401 - checked by the struct
        """Change the machine's state."""
        self.state = replace(self.state, **fields)

    def change_session(self, **fields: Any) -> None:  # noqa: ANN401
        """Change the session, if there is one."""
        if self.state.session is not None:
            self.change(session=replace(self.state.session, **fields))

    def change_set(self, **fields: Any) -> None:  # noqa: ANN401
        """Change the set, if there is one."""
        if self.set is not None:
            self.change_session(set=replace(self.set, **fields))

    def say(self, output: Metric | PatientFact) -> None:
        """Put a result out."""
        self.records += to_records(output, self.now_ms, self._trace)

    def notice(self, cause: str, name: str, detail: str, severity: Severity = "info") -> None:
        """Tell the operator."""
        self.say(
            Notice(
                id=f"{cause}/notice/{name}",
                machine=self.state.machine,
                cause=cause,
                at_ms=self.now_ms,
                name=name,
                severity=severity,
                detail=detail,
            )
        )

    def is_issued(self, command_id: str) -> bool:
        """Tell whether a command was issued already, as far as it is remembered."""
        return command_id in self.state.closed or any(
            one.command.command_id == command_id for one in self.state.pending
        )

    def is_of_this_boot(self, message: Ordered) -> bool:
        """Tell whether a message belongs to the boot that is running."""
        return self.state.boot is not None and self.state.boot.boot_id == message.boot_id

    def is_before_last_stop(self, message: Ordered) -> bool:
        """Tell whether a message was said before the last STOP, or in a boot in which that was not given."""
        if message.boot_id == self.state.stopped_in:
            return message.seq < self.state.stopped_seq
        return not self.is_of_this_boot(message)

    def sequence_of(self, message: Ordered) -> int:
        """Return the sequence of what a message causes; what an earlier boot says comes after the last word of this."""
        return 8 * message.seq if self.is_of_this_boot(message) else self.sequence_now()

    def sequence_now(self) -> int:
        """Return the sequence of what no message of this boot causes: a lost link, a late word of an earlier boot."""
        due = 0 if self.state.boot is None else self.state.boot.due
        return 8 * max(due - 1, 0) + AFTER_LOSS

    def latest(self) -> int:
        """Return the last place in the running boot that was heard of."""
        return -1 if self.state.boot is None else order.latest(self.state.boot)

    def ask(
        self,
        moment: Moment,
        cause: str,
        sequence: int,
        *,
        event: Event | None = None,
        link_loss: LinkLoss | None = None,
        asked: OperatorAsked | None = None,
        key: str | None = None,
        after_seq: int | None = None,
    ) -> str | None:
        """Ask the rules of a moment; return the id of the command that was issued, if one was.

        `key` stands before the rule in the command's id where its cause alone is not enough, `after_seq` is the place
        of the last message of this boot that was said before a STOP; both follow from cause and sequence otherwise.
        """
        situation = Situation(
            cause=cause,
            session=self.running if link_loss else self.session,
            locked=self.state.locked,
            capabilities=self.state.capabilities,
            event=event,
            link_loss=link_loss,
            reps=two_reps(self.set) if moment == "rep" and not self.state.locked else None,
            pending=self._on_their_way(),
            asked=asked,
        )
        decision = decide(SESSION_RULES, moment, situation, self.policy)
        is_held = decision is not None and decision.rule == "data_hold"
        if moment == "rep" and self.set is not None and self.set.held != is_held:
            self.change_set(held=is_held)
        if decision is None:
            return None
        if decision.match.action == "stop":
            place = sequence // 8 if after_seq is None else after_seq
            boot_id = "" if self.state.boot is None else self.state.boot.boot_id
            before = self.state.stopped_seq if self.state.stopped_in == boot_id else -1
            self.change(stopped_seq=max(before, place), stopped_in=boot_id)
            sequence = max(sequence, self.state.last_sequence + 1)  # always one of its own: STOP follows STOP (S10)
        return self._decided(decision, cause, sequence, key or cause)

    def _on_their_way(self) -> tuple[Command, ...]:
        """Return the commands of the running session that the machine may have obeyed and has not acknowledged."""
        running = self.running
        sent = (one.command for one in self.state.pending)
        return tuple(one for one in sent if running and one.session == running.id and one.action != "stop")

    def _decided(self, decision: Decision, cause: str, sequence: int, key: str) -> str | None:
        """Turn a decision into a command; return its id, or None if it is a mere hold or was refused."""
        match = decision.match
        if match.action is None:
            self._note(decision.rule, cause, match.evidence)
            return None
        running, open_set = self.running, self.set
        wish = Command(
            command_id=f"{key}/{decision.rule}",
            machine=self.state.machine,
            boot_id="none" if self.state.boot is None else self.state.boot.boot_id,
            sequence=sequence,
            action=match.action,
            rule=decision.rule,
            cause=cause,
            evidence=(*match.evidence, *(Evidence(cause, "also_true", name) for name in decision.also_true)),
            changes=match.changes,
            session=None if running is None else running.id,
            set_number=None if open_set is None else open_set.number,
            cue=match.cue,
            prescription=match.prescription,
            confirm=match.confirm,
            policy=self.digest,
            issued_ms=self.now_ms,
            expires_ms=self.now_ms + round(1_000 * self.policy.command_ttl_s),
        )
        return self._issue(self.known(), wish)

    def planned(self, plan: PlanMade) -> None:
        """Turn the planner's wish into a command: its half of the facts, the machine's half from here."""
        mine = self.known()
        known = replace(
            plan.known,
            now_ms=self.now_ms,
            boot_id=mine.boot_id,
            locked=mine.locked,
            screening=mine.screening,
            at_session_start=self.session is not None and not self.session.started,
            last_sequence=mine.last_sequence,
            clean_sessions=0 if self.session is not None and self.session.is_troubled else plan.known.clean_sessions,
            load_min_N=mine.load_min_N,
            load_max_N=mine.load_max_N,
            load_step_N=mine.load_step_N,
        )
        self._issue(known, plan.command)

    def known(self) -> Known:
        """Gather what the envelope judges by."""
        state, session, open_set = self.state, self.session, self.set
        machine = state.capabilities
        prescription = None if session is None else session.prescription
        return Known(
            origin="controller",
            now_ms=self.now_ms,
            boot_id="none" if state.boot is None else state.boot.boot_id,
            locked=state.locked,
            screening=self._screening(),
            held=open_set is not None and open_set.held,
            intent="unknown" if session is None else session.intent,
            valid_reps_in_set=0 if open_set is None else open_set.valid_count,
            fired_in_set=() if open_set is None else open_set.fired,
            last_sequence=state.last_sequence,
            load_N=None if session is None else session.load_N,
            load_min_N=None if machine is None else machine.load_min_N,
            load_max_N=None if machine is None else machine.load_max_N,
            load_step_N=None if machine is None else machine.load_step_N,
            window=None if session is None else session.window,
            window_prescribed=None if session is None else session.prescribed_window,
            rest_s=None if prescription is None else prescription.rest_s,
        )

    def _screening(self) -> Screening | None:
        """Return how this session's patient was screened, None where nobody knows."""
        session, told = self.session, self.state.screened
        if session is None or session.patient is None:
            return None
        return told[1] if told is not None and told[0] == session.patient else session.screening

    def note_screening(self, message: Screened) -> None:
        """Know how a patient was screened; whoever trains here meanwhile stays screened as before (S23)."""
        if self.session is not None and self.session.patient != message.patient:
            self.change_session(screening=self._screening())
        place = message.seq if self.is_of_this_boot(message) else -1  # an earlier boot counted for itself
        self.change(screened=(message.patient, message.outcome), screened_seq=place)

    def _issue(self, known: Known, wish: Command) -> str | None:
        verdict = envelope.permit(known, wish)
        if isinstance(verdict, Refused):
            self.refused(verdict)
            if wish.rule in trouble.RULES and wish.action != "prescribe":
                self.tell_of_trouble(wish.rule, wish.cause, wish.command_id)
            return None
        command = verdict.command
        if verdict.clamped:
            self.notice(command.command_id, "clamped", f"{command.rule} by {', '.join(verdict.clamped)}")
        self.records += to_records(command, self.now_ms, self._trace)
        self.change(
            last_sequence=max(self.state.last_sequence, command.sequence),
            locked=self.state.locked or command.action == "stop",
            pending=(*self.state.pending, Pending(command, self.now_ms)),
        )
        self._note_fired(command.rule, command)
        if command.rule in trouble.RULES and command.action != "prescribe":
            self.tell_of_trouble(command.rule, command.cause, command.command_id)
        if command.action in {"stop", "end_exercise"}:
            self.change_session(over=True)
        elif command.action == "extend_rest" and self.session is not None:
            self.change_session(rest_extended=self.session.sets + 1)
        elif command.action == "tighten_range":
            told = ", ".join(f"{one.quantity} from {one.old} to {one.new}" for one in command.changes)
            self.notice(command.command_id, "range_exceeded", told, "warning")
        return command.command_id

    def tell_of_trouble(self, rule: str, cause: str, key: str) -> None:
        """Let the planner know at once: the patient may be at another machine before this session is summed up."""
        session = self.session
        if session is not None and session.patient is not None:
            self.say(
                TroubleArose(
                    id=f"{key}/trouble",
                    machine=self.state.machine,
                    cause=cause,
                    at_ms=self.now_ms,
                    patient=session.patient,
                    session=session.id,
                    rule=rule,
                    exercise=session.exercise,
                    side=session.side,
                    intent=session.intent,
                    settings=session.settings,
                    left=None if rule == "data_hold" else self._left(session),  # a hole in the data eases nothing
                )
            )

    def _left(self, session: SessionState) -> Prescription | None:
        """Return what decreases have left of a session's prescription, those included that are on their way."""
        if not session.started or session.load_N is None or session.prescription is None:
            return None
        left = replace(session.prescription, load_N=min(session.load_N, session.prescription.load_N))
        sent = [one for one in self._on_their_way() if one.rule != "rom_limit"]  # a limit is for the session alone
        for change in (change for command in sent for change in command.changes):
            old = getattr(left, change.quantity)
            if change.quantity in {"load_N", "window_lo", "window_hi"} and old is not None:
                nearer = max if change.quantity == "window_lo" else min
                left = replace(left, **{change.quantity: nearer(old, change.new)})
        return left

    def refused(self, verdict: Refused) -> None:
        """Tell that the envelope has refused a command, and why."""
        wish = verdict.command
        told = f"{wish.action} by {wish.rule} refused by {verdict.invariant}: {verdict.detail}"
        self.notice(wish.command_id, "refused", told, "warning")

    def closed(self, command: Command, cause: str, outcome: Outcome, reason: str = "") -> None:
        """Tell how a command ended."""
        self.say(
            CommandClosed(
                id=f"{command.command_id}/closed",
                machine=self.state.machine,
                cause=cause,
                at_ms=self.now_ms,
                command_id=command.command_id,
                rule=command.rule,
                action=command.action,
                outcome=outcome,
                reason=reason,
            )
        )

    def _note(self, rule: str, cause: str, evidence: Sequence[Evidence]) -> None:
        """Note, once a set, that a rule acts without a command: no progress follows.

        Rule 4 says so to the operator, and why: nothing is decided from its set. Rule 2 has nothing left to take off.
        """
        if self.running is None or (rule == "data_hold" and self.set is None):
            return
        if rule in (self.running.between if self.set is None else self.set.fired):
            return
        self._note_fired(rule)
        if rule == "data_hold" and self.set is not None:
            why = ", ".join(f"{one.name} {one.value}" for one in evidence)
            self.notice(cause, rule, f"set {self.set.number} decides nothing: {why}", "warning")
        self.tell_of_trouble(rule, cause, f"{cause}/{rule}")

    def _note_fired(self, rule: str, command: Command | None = None) -> None:
        """Remember that a rule acted. A cue is remembered too, but uses nothing up."""
        if self.set is not None and command is not None:
            told = (*self.set.commands, command.command_id)[-MAX_PENDING:]
            self.change_set(commands=told, acted=self.set.with_act(rule))
        if command is None or command.action != "cue":
            if self.set is not None:
                self.change_set(fired=(*self.set.fired, rule)[-MAX_FIRED:])
            elif self.session is not None:
                self.change_session(between=(*self.session.between, rule)[-MAX_FIRED:])
        if self.session is not None:
            fired = dict(self.session.rules_fired)
            fired[rule] = fired.get(rule, 0) + 1
            self.change_session(rules_fired=tuple(sorted(fired.items())))

    def notice_once(self, cause: str, name: str, detail: str, severity: Severity = "info", *, a_set: bool) -> None:
        """Tell the operator something once a set, or once a session."""
        told = self.set if a_set else self.session
        if told is None or name in told.noticed:
            return
        change = self.change_set if a_set else self.change_session
        change(noticed=(*told.noticed, name)[-MAX_NOTICED:])
        self.notice(cause, name, detail, severity)

    def take_over(self, screening: Screening | None) -> None:
        """Know from the planner how this session's patient was screened at another machine, if nobody told it here."""
        session = self.session
        if session is None or session.patient is None or screening is None or self.known().screening is not None:
            return
        self.change(screened=(session.patient, screening))
