"""One simulated machine: says what a machine says and obeys what a machine must obey. No I/O, no clock, one seed."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto

import msgspec
import numpy as np
from msgspec.structs import replace

from loadtest import patient as patients
from loadtest import programme as programmes
from loadtest.answers import Answer, Answers
from loadtest.exercise import Exercise
from loadtest.kept import Kept, Nothing
from loadtest.patient import Patient, Plan
from loadtest.programme import Programme
from loadtest.saying import Saying
from loadtest.script import MOMENTS
from loadtest.truth import Ledger
from loadtest.visit import Habits, Mode, Stamp, Visit, heading_out, is_last
from streams.core import telemetry as told
from streams.core.codec import message_id
from streams.core.commands import Command
from streams.core.errors import BrokenPromise
from streams.core.telemetry import Ack, Ordered, Prescription, Telemetry


class Phase(Enum):
    """What a machine does next when no patient is busy with it, and `VISIT` when one is."""

    BOOT = auto()
    ARRIVE = auto()
    VISIT = auto()
    LOCKED = auto()
    SHUT_DOWN = auto()
    DONE = auto()


class Next(msgspec.Struct, frozen=True):
    """What a step brought: a message to publish, if any, and the simulated time in s until the following step."""

    message: Telemetry | None
    delay_s: float


class Machine:
    """A machine and the patients who come to it, one after the other, for ever.

    The same seed, and the same commands at the same steps, give the same bytes.

    Parameters
    ----------
    key : str
        `tenant/site/machine`.
    number : int
        Its place in the fleet; part of every seed.
    exercise : Exercise
        What kind of machine it is.
    visitors : sequence of Patient
        Who trains on it, in turn.
    seed : int
        Seed of the fleet.
    ledger : Ledger
        Where truths, commands and their effects are written down.
    habits : Habits
        Times and names.
    kept : Kept
        Where it keeps what it said; nowhere, if nobody says.
    """

    def __init__(
        self,
        key: str,
        *,
        number: int,
        exercise: Exercise,
        visitors: Sequence[Patient],
        seed: int,
        ledger: Ledger,
        habits: Habits | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.key, self._exercise, self._visitors, self._seed = key, exercise, tuple(visitors), (seed, number)
        self._ledger, self._habits = ledger, habits or Habits()
        self._rng = np.random.default_rng(self._seed)
        self._device_s_per_s = 1.0 + 1e-6 * float(self._rng.normal(0.0, 50.0))
        self._plans: dict[tuple[str, str], Plan] = {}
        self._answers, self._saying, self._kept = Answers(), Saying(), kept or Nothing()
        self._own_ms: int | None = None
        self._watch_ms: int | None = None
        self._boots = self._visits = 0
        self._finishing = False
        self._phase = Phase.BOOT
        self._visit: Visit | None = None
        self._seq = self._now_us = self._due_us = self._beat_us = 0
        self._phases: Mapping[Phase, Callable[[], Telemetry | None]] = {
            Phase.BOOT: self._come_online,
            Phase.ARRIVE: self._arrive,
            Phase.VISIT: self._go_on,
            Phase.LOCKED: self._release,
            Phase.SHUT_DOWN: self._shut_down,
        }
        self._boot(is_locked=False)

    @property
    def done(self) -> bool:
        """Whether the machine has said its last word."""
        return self._phase is Phase.DONE

    @property
    def programme(self) -> Programme:
        """What the machine holds to now."""
        return self._programme

    def step(self, now_ms: int | None = None, watch_ms: int | None = None) -> Next:
        """Live on to the next moment: a message, a heartbeat or nothing to say, and how long until the one after it.

        Once `done` there is nothing more to say.

        Parameters
        ----------
        now_ms : int, optional
            The time of day by the machine's own clock, which may be wrong, and may jump.
        watch_ms : int, optional
            The time by a watch that nobody sets, from anywhere; by it old commands are told from new ones. Without one
            the clock has to do.
        """
        self._look_at_clocks(now_ms, watch_ms)
        if self.done:
            return Next(None, 0.0)
        if self._finishing and not self._has_a_question():
            self._head_out()
        message: Telemetry | None
        if self._beat_us < self._due_us and self._phase is not Phase.BOOT:
            self._now_us = self._beat_us
            self._beat_us += round(self._habits.heartbeat_s * 1e6)
            message = told.Heartbeat(**self._stamp())
        else:
            self._now_us = self._due_us
            message = self._phases[self._phase]()
        if message is not None and not isinstance(message, told.Presence):
            self._said(message)
        until_us = 0 if self.done else min(self._due_us, self._beat_us) - self._now_us
        return Next(message, until_us * 1e-6 / self._device_s_per_s)

    def receive(self, command: Command, now_ms: int, watch_ms: int | None = None) -> Sequence[Ack]:
        """Obey or refuse a command, and answer; what needs the patient's consent is answered by a later step.

        Parameters
        ----------
        now_ms : int
            The machine's own idea of the log's time, in ms since 1970.
        watch_ms : int, optional
            As for `step`.
        """
        self._look_at_clocks(now_ms, watch_ms)
        self._ledger.hear(self.key, command)
        answer = self._answers.earlier(command.command_id)
        if answer is not None:
            return self._acknowledge(command, answer)
        proposal = self._visit.proposal if self._visit is not None else None
        if proposal is not None and proposal.command_id == command.command_id:
            return ()
        if command.action == "resend":
            return self._acknowledge(command, self._answer_of_request(command))
        if command.action == "stop" and self._is_released_since(command.cause):
            return self._acknowledge(command, Answer("applied", load_N=self._programme.held_load))
        reason = programmes.refusal(self._programme, command, self._log_ms(command))
        if reason is None and proposal is not None and command.action == "prescribe":
            reason = "awaiting_consent"
        if reason is not None:
            answer = Answer("expired") if reason == "expired" else Answer("rejected", reason)
        elif command.confirm and command.action == "prescribe" and self._visit is not None:
            self._turn_to(replace(self._visit, mode=Mode.CONFIRM, proposal=command), after_s=2.0)
            return ()
        else:
            answer = self._obey(command)
        return self._acknowledge(command, answer)

    def _is_released_since(self, cause: str) -> bool:
        """Tell whether a clinician has released the machine since it said this itself: that has been dealt with."""
        own, _, seq = cause.rpartition("/")
        return own == f"{self.key}/{self._programme.boot_id}" and seq.isdecimal() and int(seq) < self._released_seq

    def recalled(self, command: Command, now_ms: int, watch_ms: int | None = None) -> Sequence[Ordered]:
        """Return what a request for messages wants to hear again and is still here; then `receive` answers it.

        It moves nothing, so neither lock nor session nor sequence matters. Nothing is said for it twice.
        """
        if command.action != "resend" or self._answers.earlier(command.command_id) is not None:
            return ()
        self._look_at_clocks(now_ms, watch_ms)
        if programmes.refuses_request(self._programme, command, self._log_ms(command)):
            return ()
        return self._kept_of(command)

    def _kept_of(self, command: Command) -> Sequence[Ordered]:
        missing = command.missing
        if missing is None:
            return ()
        return self._kept.between(self.key, command.boot_id, missing.first_seq, missing.last_seq)

    def _answer_of_request(self, command: Command) -> Answer:
        reason = programmes.refuses_request(self._programme, command, self._log_ms(command))
        if reason == "expired":
            return Answer("expired")
        if reason is None and command.missing is not None:
            asked = command.missing.last_seq - command.missing.first_seq + 1
            reason = None if len(self._kept_of(command)) == asked else "not_kept"
        return Answer("applied", load_N=self._programme.held_load) if reason is None else Answer("rejected", reason)

    def finish(self) -> None:
        """Ask the machine to end the running set and session at the next step, and then to stop."""
        self._finishing = True

    def reboot(self) -> None:
        """Lose power and start again: a new boot, a new sequence, nothing left of the session. A lock survives."""
        self._ledger.reboots[self.key] += 1
        self._boot(is_locked=self._programme.locked)

    def _boot(self, *, is_locked: bool) -> None:
        self._boots += 1
        self._seq = self._now_us = self._due_us = 0
        self._released_seq = -1
        self._beat_us = round(self._habits.heartbeat_s * 1e6)
        self._phase = Phase.BOOT
        self._visit = None
        capabilities = self._exercise.capabilities
        self._programme = Programme(
            machine=self.key,
            boot_id=f"{self._habits.run}-b{self._boots}",
            capabilities=capabilities,
            prescription=Prescription(id="none", load_N=capabilities.load_min_N),
            locked=is_locked,
        )

    def _look_at_clocks(self, now_ms: int | None, watch_ms: int | None) -> None:
        self._own_ms, self._watch_ms = now_ms, now_ms if watch_ms is None else watch_ms

    def _log_ms(self, command: Command) -> int:
        """Return the latest that it can be now by the log's clock, as far as this machine can tell, in ms."""
        if self._own_ms is None or self._watch_ms is None:  # a machine without clocks, in tests
            return command.issued_ms
        return self._saying.log_time(command, self._own_ms, self._watch_ms)

    def _said(self, message: Ordered) -> None:
        """Give a message its place for good: it is kept before anybody hears it."""
        self._seq += 1
        self._kept.keep(self.key, message)
        if self._watch_ms is not None:
            self._saying.note(message_id(self.key, message), self._watch_ms)

    def _stamp(self) -> Stamp:
        return {"boot_id": self._programme.boot_id, "seq": self._seq, "t_us": self._now_us}

    def _then(self, phase: Phase, after_s: float) -> None:
        self._phase = phase
        self._due_us = self._now_us + round(after_s * 1e6)

    def _turn_to(self, visit: Visit, after_s: float) -> None:
        self._visit = visit
        self._then(Phase.VISIT, after_s)

    def _come_online(self) -> Telemetry:
        if self._programme.locked:
            self._then(Phase.LOCKED, self._habits.release_after_s)
        else:
            self._then(Phase.ARRIVE, float(self._rng.uniform(1.0, 5.0)))
        capabilities = self._programme.capabilities
        return told.Online(boot_id=self._programme.boot_id, t_us=self._now_us, capabilities=capabilities)

    def _arrive(self) -> None:
        self._visits += 1
        visitor = self._visitors[(self._visits - 1) % len(self._visitors)]
        rng = np.random.default_rng([*self._seed, visitor.index, self._visits])
        side: told.Side = ("left", "right")[self._visits % 2] if self._exercise.one_sided else "both"
        plan = self._plans.get((visitor.key, side))
        visit = Visit(
            patient=visitor,
            exercise=self._exercise,
            plan=plan or patients.order(visitor, self._exercise, side, self._seed[0]),
            rng=rng,
            session=f"{self.key.rsplit('/', 1)[-1]}.{self._programme.boot_id}.{self._visits}",
            habits=self._habits,
            is_ordered=plan is not None,
        )
        self._turn_to(visit, after_s=0.0)

    def _go_on(self) -> Telemetry | None:
        visit = self._visit
        if visit is None:
            raise BrokenPromise("a visit goes on without a visitor")
        if visit.mode is Mode.ANSWER and visit.proposal is not None:
            return self._settle(visit, visit.proposal)
        turn = MOMENTS[visit.mode](visit, self._programme, self._stamp())
        if isinstance(turn.message, told.Rep) and visit.signal is not None:
            self._ledger.lift(self.key, turn.message, visit.signal.truth)
        if isinstance(turn.message, told.ClinicianEdited):
            self._plans[visit.patient.key, visit.plan.side] = visit.plan
        if isinstance(turn.message, told.SessionEnded):  # the next session begins with what was in force in this one
            plan = replace(visit.plan, prescription=turn.programme.prescription)
            self._plans[visit.patient.key, visit.plan.side] = plan
        self._programme = turn.programme
        self._turn_to(turn.visit, turn.after_s)
        if turn.visit.mode is Mode.GONE:
            self._farewell()
        return turn.message

    def _farewell(self) -> None:
        self._visit = None
        if self._finishing:
            self._then(Phase.SHUT_DOWN, 0.0)
        elif self._programme.locked:
            self._then(Phase.LOCKED, self._habits.release_after_s)
        else:
            self._then(Phase.ARRIVE, 10.0)

    def _settle(self, visit: Visit, command: Command) -> Ack:
        self._turn_to(replace(visit, mode=Mode.BEGIN, proposal=None), after_s=1.0)
        reason = programmes.refusal(self._programme, command, self._log_ms(command)) if visit.agreed else "declined"
        if reason == "expired":  # while the patient thought it over
            return self._acknowledgement(command, Answer("expired"))
        answer = self._obey(command) if reason is None else Answer("rejected", reason)
        return self._acknowledgement(command, answer)

    def _obey(self, command: Command) -> Answer:
        self._ledger.obey(self.key, command)
        self._programme = programmes.obeyed(self._programme, command)
        visit = self._visit
        if self._programme.locked:
            self._head_out()
        elif visit is not None and visit.mode is Mode.AWAIT and command.action == "prescribe":
            self._turn_to(replace(visit, mode=Mode.BEGIN), after_s=1.0)
        elif visit is not None and visit.mode is Mode.REST and is_last(self._programme):
            self._turn_to(visit, after_s=0.5)
        return Answer("applied", load_N=self._programme.held_load)

    def _has_a_question(self) -> bool:
        return self._visit is not None and self._visit.mode in {Mode.CONFIRM, Mode.ANSWER}

    def _head_out(self) -> None:
        """End what is running by the shortest way; a lock leads to the clinician, an end to the last word."""
        if self._visit is not None:
            visit = heading_out(self._visit, self._programme)
            if visit.mode is Mode.GONE:
                self._farewell()
            elif visit.mode is not self._visit.mode:
                self._turn_to(visit, after_s=0.3)
        elif self._finishing and self._phase is not Phase.BOOT:  # who has not come online can't leave
            self._then(Phase.SHUT_DOWN, 0.0)
        elif self._phase is Phase.ARRIVE:
            self._then(Phase.LOCKED, self._habits.release_after_s)

    def _acknowledge(self, command: Command, answer: Answer) -> Sequence[Ack]:
        ack = self._acknowledgement(command, answer)
        self._said(ack)
        return (ack,)

    def _acknowledgement(self, command: Command, answer: Answer) -> Ack:
        self._answers.keep(command.command_id, answer)
        ack = answer.ack(self._stamp(), command.command_id)
        self._ledger.answer(self.key, ack)
        return ack

    def _release(self) -> Telemetry:
        self._programme = replace(self._programme, locked=False)
        self._then(Phase.ARRIVE, 5.0)
        released = told.Released(**self._stamp(), by="clinician-1")
        self._released_seq = released.seq
        return released

    def _shut_down(self) -> Telemetry:
        self._phase = Phase.DONE
        return told.Offline(boot_id=self._programme.boot_id)
