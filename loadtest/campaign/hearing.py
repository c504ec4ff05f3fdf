"""Hearing: what the checker makes of every message that counts."""

from loadtest.campaign.grounds import TUL_CAP_S
from loadtest.campaign.ledger import MachineSeen, PatientSeen, PlanSeen, SessionSeen, SetSeen, began
from loadtest.campaign.network import Letter
from streams.core.codec import message_id
from streams.core.policy import Policy
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    FaultRaised,
    Offline,
    Online,
    Released,
    Rep,
    Screened,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
    Telemetry,
)


class Hearing:
    """What is known of machines, patients and sessions; `now_ms` is the log time of what is being heard.

    Parameters
    ----------
    policy : Policy
        The numbers in force.
    """

    def __init__(self, policy: Policy) -> None:
        self.now_ms = 0
        self._policy = policy
        self._machines: dict[str, MachineSeen] = {}
        self._patients: dict[str, PatientSeen] = {}
        self._sessions: dict[str, str] = {}

    def machine(self, key: str) -> MachineSeen:
        """Return what is known of a machine."""
        return self._machines.setdefault(key, MachineSeen(self._policy.pain_stop))

    def patient(self, key: str | None) -> PatientSeen | None:
        """Return what is known of a patient."""
        return None if key is None else self._patients.setdefault(key, PatientSeen())

    def _plan(self, message: ClinicianEdited) -> PlanSeen:
        patient = self._patients.setdefault(message.patient, PatientSeen())
        return patient.plans.setdefault((message.exercise, message.side), PlanSeen())

    def rebooted(self, machine: MachineSeen) -> None:
        """Close what a machine forgot when it restarted."""
        machine.boots += 1
        machine.sequence, machine.t_us = -1, None
        if machine.session is not None and machine.session.started:
            self._troubled(machine, machine.session.patient)
        self.over(machine)

    def lost(self, machine: MachineSeen, count: int) -> None:
        """Note that messages never came."""
        if machine.session is not None:
            machine.session.missing += count
            if machine.session.set is not None:
                machine.session.set.missing += count

    def is_lost(self, machine: MachineSeen, letter: Letter) -> bool:
        """Tell whether a machine with a running session was lost before this message; note what follows from it."""
        message, session = letter.message, machine.session
        is_running = session is not None and session.started
        if isinstance(message, Online):
            return False
        if isinstance(message, Offline):
            was_there = machine.online and machine.order.boot_id == message.boot_id
            machine.online = machine.online and not was_there
            lost = was_there and is_running
        else:
            silent_s = 0.0 if machine.t_us is None else (message.t_us - machine.t_us) * 1e-6
            machine.t_us = message.t_us
            lost = is_running and silent_s > self._policy.heartbeat_s * self._policy.heartbeat_missed
        if lost and session is not None:
            self._troubled(machine, session.patient)
        return lost

    def _troubled(self, machine: MachineSeen, patient: str | None) -> None:
        if machine.session is not None:
            machine.session.in_trouble = True
        found = self.patient(patient)
        if found is not None:
            found.trouble()

    def over(self, machine: MachineSeen) -> None:
        """Close the session at a machine."""
        session, machine.session = machine.session, None
        if session is None or not session.started or session.patient is None:
            return
        patient = self._patients.setdefault(session.patient, PatientSeen())
        patient.finished(session, self.now_ms, self._policy)

    def tell(self, machine: MachineSeen, letter: Letter) -> str | None:
        """Let one message change what is known."""
        message, session = letter.message, machine.session
        match message:
            case Rep():
                return self._rep(machine, letter, message)
            case Online():
                machine.online, machine.capabilities = True, message.capabilities
            case Released():
                if machine.locked is None or _is_after(machine, message, machine.locked):
                    machine.locked, machine.released = None, (message.boot_id, message.seq)
            case SymptomReported():
                self._symptom(machine, message)
            case ButtonPressed(button="stop") | FaultRaised():
                self._troubled(machine, None if session is None else session.patient)
            case CommandApplied():
                self._applied(machine, message)
            case Screened():
                self._patients.setdefault(message.patient, PatientSeen()).screen(message.outcome, letter.machine)
            case ClinicianEdited():
                self._plan(message).edited(message, self.now_ms)
            case _:
                self._visited(machine, message)
        return None

    def _visited(self, machine: MachineSeen, message: Telemetry) -> None:
        """Let a message of the session's course change what is known."""
        session = machine.session
        match message:
            case SessionRequested():
                self.over(machine)
                session = SessionSeen(message.session, message.exercise, message.side, message.intent, message.settings)
                session.patient = message.patient
                machine.session, self._sessions[message.session] = session, message.patient
            case SessionStarted():
                if session is not None and not session.is_begun_by(message):
                    self.over(machine)
                machine.session = began(message, machine.session, self.now_ms)
                self._sessions[message.session] = message.patient
                if message.pain_nrs is not None and message.pain_nrs > 2:
                    self._troubled(machine, message.patient)
            case SetStarted() if session is not None and session.name != message.session:
                self.over(machine)
            case SetStarted() if session is not None:
                session.started = True
                session.held["load_N"] = message.load_N
                session.set, session.between = SetSeen(message.set_number), []
            case SetEnded() if session is not None and session.name == message.session and session.set is not None:
                session.rpe = max((one for one in (session.rpe, message.rpe) if one is not None), default=None)

    def _rep(self, machine: MachineSeen, letter: Letter, message: Rep) -> str | None:
        session = machine.session
        if session is None or session.name != message.session:
            self.over(machine)
            session = SessionSeen(message.session, message.exercise, message.side, message.intent, message.settings)
            session.hold(message.prescription)
            session.missing = 1
            machine.session = session
        if session.set is None or message.set_number > session.set.number:
            session.started, session.held["load_N"] = True, message.load_N
            session.set, session.between = SetSeen(message.set_number, missing=1), []
        if session.set.number != message.set_number or letter.measured is None:
            return None
        before_s, peaks = session.set.tul_s, tuple(session.set.peaks)
        _add(session, session.set, letter)
        if session.set.is_held(self._policy):
            self._troubled(machine, session.patient)
        peak = letter.measured.values.get("peak_force")
        if len(peaks) >= 3 and peak is not None and peak > self._policy.spike_ratio * max(peaks):
            return None if machine.locked else "stop"
        reached = before_s < TUL_CAP_S <= session.set.tul_s
        return "end_set" if reached and self._can_end(machine, session, session.set) else None

    def _can_end(self, machine: MachineSeen, session: SessionSeen, running: SetSeen) -> bool:
        """Tell whether a set that has had its time under load can be ended, and is not ended already."""
        patient = self.patient(session.patient)
        is_screened = patient is not None and patient.screening == "clear"
        is_open = machine.locked is None and not session.over and not running.is_ended
        return is_screened and is_open and len(running.valid) >= 3 and not running.is_held(self._policy)

    def _symptom(self, machine: MachineSeen, message: SymptomReported) -> None:
        session = machine.session
        if session is not None and message.felt == "now":
            session.pain = max((one for one in (session.pain, message.pain_nrs) if one is not None), default=None)
            session.rpe = max((one for one in (session.rpe, message.rpe) if one is not None), default=None)
        if message.symptom == "none" and (message.pain_nrs is None or message.pain_nrs <= 2):
            return
        named = self._sessions.get(message.session or "") or message.patient
        here = None if session is None else session.patient
        if message.felt == "now":
            self._troubled(machine, here)
        self._troubled(machine, named) if named == here else self._elsewhere(named)

    def _elsewhere(self, patient: str | None) -> None:
        found = self.patient(patient)
        if found is not None:
            found.trouble()

    def _applied(self, machine: MachineSeen, message: CommandApplied) -> None:
        command, session = machine.pending.get(message.command_id), machine.session
        if command is None or session is None or command.action == "stop":
            return
        if command.session == session.name or command.session is None:
            session.change(command)
        if message.load_N is not None:
            session.held["load_N"] = message.load_N


def _add(session: SessionSeen, running: SetSeen, letter: Letter) -> None:
    """Let a rep count in its set."""
    measured = letter.measured
    if measured is None:
        return
    running.received += 1
    if not measured.valid:
        running.invalid += 1
        return
    session.valid_reps += 1
    running.valid.append(message_id(letter.machine, letter.message))
    running.tul_s = round(running.tul_s + measured.values.get("time_under_load_s", 0.0), 6)
    if not measured.reasons and "peak_force" in measured.values:
        running.peaks.append(measured.values["peak_force"])


def _is_after(machine: MachineSeen, message: Released, stop: tuple[int, int]) -> bool:
    """Tell whether a release was said after the last STOP, in the running boot or in the one that was stopped."""
    if message.boot_id == machine.boot_id:
        return (machine.boots, message.seq) > stop
    return message.boot_id == machine.stopped_in and message.seq > stop[1]
