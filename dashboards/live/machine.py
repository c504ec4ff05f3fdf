"""Machine: what the page remembers of one machine, folded from what the log says of it. Frozen and bounded.

Topics are read side by side, so a record can come before one that the log had first: every fold looks at times and
ids, not at arrival. What is older than the running session leaves it as it is.
"""

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from streams.core import fatigue
from streams.core.commands import Command, Evidence
from streams.core.operators import Asked, OperatorAsked
from streams.core.plans import Answer, PlanMade
from streams.core.results import (
    CommandClosed,
    MachineSeen,
    Metric,
    Notice,
    Outcome,
    RepMeasured,
    SessionSummarised,
    SetSummarised,
    Severity,
)
from streams.core.telemetry import (
    Capabilities,
    Intent,
    Offline,
    Online,
    PositionUnit,
    Prescription,
    Released,
    Rep,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
    Telemetry,
)

MAX_REPS = 60
"""Reps of the running set that are shown; the controller keeps as many."""

MAX_SETS = 12
MAX_COMMANDS = 12
MAX_NOTICES = 12
MAX_ALARMS = 8
MAX_ASKED = 6
MAX_ANSWERS = 12
"""Answers to what operators asked for that are kept until their wish has been read, too: three topics."""

MAX_CLOSED = 16
"""Ends of commands that are kept until their command has been read, too: two topics."""

MAX_EVIDENCE = 24
MAX_PAST = 4
"""Sessions that are over, of which a late word does not bring them back."""

SILENT_MS = 20_000
"""A machine that has said nothing for so long is silent: four heartbeats."""

Status = Literal["recorded", "sent", "noted"] | Outcome
"""How far a wish of an operator has come."""

State = Literal["stopped", "offline", "silent", "training", "resting", "waiting", "idle"]


class RepView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One rep of the running set. `loss_pct` is VL3, the loss that decides; None where velocity says nothing."""

    number: int
    at_ms: int
    valid: bool
    flags: tuple[str, ...]
    load_N: float
    velocity: float | None = None
    loss_pct: float | None = None
    rom_pct: float | None = None
    rom: float | None = None
    concentric_s: float | None = None
    hold_s: float | None = None
    eccentric_s: float | None = None
    peak_force: float | None = None


class SetView(msgspec.Struct, frozen=True, gc=False):
    """One set that is over."""

    number: int
    reps: int
    valid_reps: int
    target: int | None
    load_N: float
    rpe: int | None
    ended_by: str
    incomplete: bool
    loss_pct: float | None
    time_under_load_s: float | None


class SessionView(msgspec.Struct, frozen=True):
    """The session that runs, was asked for, or was the last one.

    `counted` are the valid reps of the set, of which `reps` has the last.
    `reference` is the patient's own force over the concentric, as the planner handed it out, `reference_corrected` of
    which kind it is; `values` are those of the last rep, `left` how many reps the adaptive model expects and its
    interval.
    """

    id: str
    since_ms: int
    patient: str | None = None
    exercise: str | None = None
    side: str | None = None
    intent: Intent | None = None
    stage: Literal["waiting", "running", "over"] = "waiting"
    ended_by: str | None = None
    prescription: Prescription | None = None
    load_N: float | None = None
    set_number: int = 0
    set_runs: bool = False
    reps: tuple[RepView, ...] = ()
    counted: int = 0
    sets: tuple[SetView, ...] = ()
    values: Mapping[str, float] = {}
    left: tuple[float, float, float] | None = None
    expected_loss_pct: tuple[float, float, float] | None = None
    reference: bytes | None = None
    reference_corrected: bool | None = None
    pain: int | None = None


class CommandView(msgspec.Struct, frozen=True):
    """One command and how it ended; its evidence without the ids that it comes from."""

    command: Command
    outcome: Outcome | None = None
    reason: str = ""

    @property
    def id(self) -> str:
        """The command's id."""
        return self.command.command_id


class NoticeView(msgspec.Struct, frozen=True):
    """Something that the controller or the planner told the operator."""

    id: str
    at_ms: int
    name: str
    severity: Severity
    detail: str


class Alarm(msgspec.Struct, frozen=True):
    """Something that an operator must see, a STOP or a notice, and who has seen it.

    A STOP becomes a sentence when it is shown: the machine's unit, which another topic tells, may not be known before.
    """

    id: str
    at_ms: int
    told: Command | NoticeView
    seen_by: str | None = None
    seen_why: str | None = None
    seen_ms: int | None = None


class AskedView(msgspec.Struct, frozen=True):
    """What an operator asked for, and how far it has come: recorded, sent, and how it ended."""

    id: str
    cause: str
    at_ms: int
    action: Asked
    by: str
    reason: str
    status: Status = "recorded"


class MachineView(msgspec.Struct, frozen=True):
    """All that the page remembers of one machine; times are log times in ms since 1970.

    `last_word` is when the controller spoke of the machine last, and of which session; empty if it knew of none.
    """

    key: str
    heard_ms: int = 0
    online_ms: int = 0
    offline_ms: int = 0
    stopped_ms: int = 0
    released_ms: int = 0
    boot_id: str | None = None
    capabilities: Capabilities | None = None
    unit: PositionUnit | None = None
    session: SessionView | None = None
    past: tuple[str, ...] = ()
    commands: tuple[CommandView, ...] = ()
    closed: tuple[tuple[str, Outcome, str], ...] = ()
    notices: tuple[NoticeView, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    seen: tuple[tuple[str, str, str, int], ...] = ()
    asked: tuple[AskedView, ...] = ()
    answers: tuple[tuple[int, str, Status], ...] = ()
    last_rep_id: str | None = None
    last_word: tuple[int, str] = (0, "")

    @property
    def running(self) -> SessionView | None:
        """The session that runs or was asked for; None once it is over, or the controller knew of none after it."""
        at_ms, known = self.last_word
        session = self.session
        if session is None or session.stage == "over" or (not known and at_ms > session.since_ms):
            return None
        return session

    def state(self, now_ms: int) -> State:
        """Say in one word how the machine is; what matters most first.

        Examples
        --------
        >>> MachineView("a/b/c", heard_ms=5_000, stopped_ms=1).state(6_000), MachineView("a/b/c").state(60_000)
        ('stopped', 'silent')
        """
        running = self.running
        if self.stopped_ms and self.stopped_ms >= self.released_ms:
            return "stopped"
        if self.offline_ms and self.offline_ms >= max(self.online_ms, self.heard_ms):
            return "offline"
        if now_ms - self.heard_ms > SILENT_MS:
            return "silent"
        if running is None:
            return "idle"
        if running.stage == "waiting":
            return "waiting"
        return "training" if running.set_runs else "resting"

    @property
    def open_alarms(self) -> tuple[Alarm, ...]:
        """Alarms that nobody has acknowledged."""
        return tuple(alarm for alarm in self.alarms if alarm.seen_by is None)


def heard(view: MachineView, message: Telemetry | Answer | OperatorAsked, at_ms: int) -> MachineView:
    """Fold what a machine, the planner or an operator said; a rep only tells its unit here."""
    if not isinstance(message, OperatorAsked | Answer | Offline):
        view = replace(view, heard_ms=max(view.heard_ms, at_ms), boot_id=message.boot_id)
    fold = HEARD.get(type(message))
    return view if fold is None else fold(view, message, at_ms)


def alive(view: MachineView, at_ms: int) -> MachineView:
    """Fold a sign of life of which nothing else matters."""
    return replace(view, heard_ms=max(view.heard_ms, at_ms))


def _opened(view: MachineView, session: str, at_ms: int) -> SessionView | None:
    """Return the session of this id, new if it is not older than the one that is there; None if it is."""
    now = view.session
    if now is not None and now.id == session:
        return now if at_ms >= now.since_ms else replace(now, since_ms=at_ms)
    is_old = session in view.past or (now is not None and at_ms < now.since_ms)
    return None if is_old else SessionView(session, at_ms)


def _same(view: MachineView, session: str, at_ms: int) -> SessionView | None:
    """Return the session of this id; a new one only where there is none, for what ends a session begins none."""
    return _opened(view, session, at_ms) if view.session is None or view.session.id == session else None


def _with_session(view: MachineView, session: SessionView | None, **fields: Any) -> MachineView:  # noqa: ANN401
    if session is None:
        return view
    past = view.past
    if view.session is not None and view.session.id != session.id:
        past = (*past, view.session.id)[-MAX_PAST:]
    return replace(view, session=replace(session, **fields), past=past)


def _online(view: MachineView, message: Online, at_ms: int) -> MachineView:
    can = message.capabilities
    return replace(view, online_ms=max(view.online_ms, at_ms), capabilities=can, unit=can.position_unit)


def _offline(view: MachineView, _: Offline, at_ms: int) -> MachineView:
    return replace(view, offline_ms=max(view.offline_ms, at_ms))


def _released(view: MachineView, _: Released, at_ms: int) -> MachineView:
    return replace(view, released_ms=max(view.released_ms, at_ms))


def _moved(view: MachineView, rep: Rep, at_ms: int) -> MachineView:
    del at_ms
    return replace(view, unit=rep.position_unit)


def _requested(view: MachineView, message: SessionRequested, at_ms: int) -> MachineView:
    told = {name: getattr(message, name) for name in ("patient", "exercise", "side", "intent")}
    return _with_session(view, _opened(view, message.session, at_ms), **told)


def _started(view: MachineView, message: SessionStarted, at_ms: int) -> MachineView:
    told = {name: getattr(message, name) for name in ("patient", "exercise", "side", "intent")}
    session = _opened(view, message.session, at_ms)
    if session is None:
        return view
    plan = message.prescription or session.prescription
    load_N = plan.load_N if plan is not None and session.load_N is None else session.load_N
    pain = message.pain_nrs if session.pain is None else session.pain
    stage = "over" if session.stage == "over" else "running"
    return _with_session(view, session, stage=stage, prescription=plan, load_N=load_N, pain=pain, **told)


def _ended(view: MachineView, message: SessionEnded, at_ms: int) -> MachineView:
    return _with_session(view, _same(view, message.session, at_ms), stage="over", set_runs=False)


def _set_started(view: MachineView, message: SetStarted, at_ms: int) -> MachineView:
    session = _opened(view, message.session, at_ms)
    if session is None or message.set_number < session.set_number:
        return view
    session = _at_set(session, message.set_number)
    is_over = session.stage == "over" or any(one.number == message.set_number for one in session.sets)
    return _with_session(
        view,
        session,
        stage="over" if session.stage == "over" else "running",
        set_runs=not is_over,
        load_N=session.load_N if session.reps else message.load_N,
    )


def _at_set(session: SessionView, number: int) -> SessionView:
    if number <= session.set_number:
        return session
    return replace(session, set_number=number, reps=(), counted=0, values={}, left=None)


def _set_ended(view: MachineView, message: SetEnded, at_ms: int) -> MachineView:
    session = _same(view, message.session, at_ms)
    if session is None or message.set_number < session.set_number:
        return view
    return _with_session(view, _at_set(session, message.set_number), set_runs=False)


def _symptom(view: MachineView, message: SymptomReported, at_ms: int) -> MachineView:
    del at_ms
    session = view.session
    if (
        session is None
        or message.felt != "now"
        or message.pain_nrs is None
        or message.session not in {None, session.id}
    ):
        return view
    return _with_session(view, session, pain=message.pain_nrs)


def _planned(view: MachineView, plan: PlanMade, at_ms: int) -> MachineView:
    wish = plan.command
    session = None if wish.session is None else _opened(view, wish.session, at_ms)
    if session is None:
        return view
    own, prescription = plan.baseline, session.prescription or wish.prescription
    curve, corrected = (None, None) if own is None else (own.curve, own.corrected)
    return _with_session(view, session, prescription=prescription, reference=curve, reference_corrected=corrected)


def _asked(view: MachineView, message: OperatorAsked, at_ms: int) -> MachineView:
    if any(one.id == message.id for one in view.asked):
        return view
    status: Status = next((status for _, cause, status in view.answers if cause == message.cause), "recorded")
    told = AskedView(message.id, message.cause, at_ms, message.action, message.by, message.reason, status)
    view = replace(view, asked=(*view.asked, told)[-MAX_ASKED:])
    if message.alarm is None:
        return view
    seen = (message.alarm, message.by, message.reason, at_ms)
    view = replace(view, seen=(*view.seen, seen)[-MAX_ALARMS:])
    return replace(view, alarms=tuple(_seen(alarm, view) for alarm in view.alarms))


HEARD: Mapping[type, Callable[[MachineView, Any, int], MachineView]] = {
    Online: _online,
    Offline: _offline,
    Released: _released,
    Rep: _moved,
    SessionRequested: _requested,
    SessionStarted: _started,
    SessionEnded: _ended,
    SetStarted: _set_started,
    SetEnded: _set_ended,
    SymptomReported: _symptom,
    PlanMade: _planned,
    OperatorAsked: _asked,
}
"""What changes more than the sign of life of a machine."""


def _answered(view: MachineView, cause: str, status: Status, at_ms: int) -> MachineView:
    """Take over how far a wish of an operator has come; it never goes back, whatever has left the lists since."""
    if not cause.startswith(f"{view.key}/operator/"):
        return view
    known = next((one for one in view.answers if one[1] == cause), None)
    if known is not None and status == "sent":
        return view
    answer = (at_ms if known is None else known[0], cause, status)
    answers = sorted([*(one for one in view.answers if one is not known), answer])[-MAX_ANSWERS:]
    asked = tuple(replace(one, status=_later(one.status, status)) if one.cause == cause else one for one in view.asked)
    return replace(view, answers=tuple(answers), asked=asked)


def _later(before: Status, now: Status) -> Status:
    return before if now == "sent" and before != "recorded" else now


def _seen(alarm: Alarm, view: MachineView) -> Alarm:
    told = next((one for one in view.seen if one[0] == alarm.id), None)
    if told is None or alarm.seen_by is not None:
        return alarm
    return replace(alarm, seen_by=told[1], seen_why=told[2], seen_ms=told[3])


def _with_alarm(view: MachineView, alarm: Alarm) -> MachineView:
    """Add an alarm; where there are too many, those that were seen leave first."""
    if any(one.id == alarm.id for one in view.alarms):
        return view
    alarms = sorted((*view.alarms, _seen(alarm, view)), key=lambda one: (one.seen_by is None, one.at_ms))
    return replace(view, alarms=tuple(sorted(alarms[-MAX_ALARMS:], key=lambda one: one.at_ms)))


def commanded(view: MachineView, command: Command) -> MachineView:
    """Fold a command; one that is sent again is the same one."""
    if any(one.id == command.command_id for one in view.commands):
        return view
    evidence = tuple(Evidence("", intern(one.name), one.value) for one in command.evidence[:MAX_EVIDENCE])
    command = replace(command, evidence=evidence)
    outcome, reason = next(((end, why) for id_, end, why in view.closed if id_ == command.command_id), (None, ""))
    told = CommandView(command, outcome, reason)
    commands = sorted((*view.commands, told), key=lambda one: one.command.issued_ms)
    view = replace(view, commands=tuple(commands[-MAX_COMMANDS:]))
    view = _answered(view, command.cause, outcome or "sent", command.issued_ms)
    if command.action == "stop":
        view = replace(view, stopped_ms=max(view.stopped_ms, command.issued_ms))
        view = _with_alarm(view, Alarm(command.command_id, command.issued_ms, command))
    return view


def measured(view: MachineView, metric: Metric) -> MachineView:
    """Fold a record of the metric topic."""
    fold = MEASURED.get(type(metric))
    return view if fold is None else fold(view, metric)


def _rep(view: MachineView, rep: RepMeasured) -> MachineView:
    session = _opened(view, rep.session, rep.at_ms)
    view = alive(view, rep.at_ms)
    if session is None or rep.set_number < session.set_number:
        return view
    session = _at_set(session, rep.set_number)
    is_full = len(session.reps) == MAX_REPS
    if any(one.number == rep.rep_number for one in session.reps) or (
        is_full and rep.rep_number < session.reps[0].number  # it has left the list
    ):
        return view
    values = rep.values
    told = RepView(
        number=rep.rep_number,
        at_ms=rep.at_ms,
        valid=rep.valid,
        flags=rep.reasons,
        load_N=rep.load_N,
        velocity=values.get("mean_velocity"),
        loss_pct=_loss_pct(session, rep),
        rom_pct=values.get("rom_completeness_pct"),
        rom=values.get("range_of_motion"),
        concentric_s=values.get("concentric_time_s"),
        hold_s=values.get("top_hold_time_s"),
        eccentric_s=values.get("eccentric_time_s"),
        peak_force=values.get("peak_force"),
    )
    is_over = session.stage == "over" or any(one.number == rep.set_number for one in session.sets)
    session = replace(
        session,
        stage="over" if session.stage == "over" else "running",
        set_runs=not is_over,
        patient=rep.patient or session.patient,
        exercise=rep.exercise,
        side=rep.side,
        intent=rep.intent,
        load_N=rep.load_N,
        reps=(*session.reps, told)[-MAX_REPS:],
        counted=session.counted + told.valid,
        values=values,
        left=_three(values, "reps_left", "reps_left_low", "reps_left_high"),
    )
    return _with_session(replace(view, last_rep_id=rep.cause), session)


def _is_fast(intent: str | None, flags: tuple[str, ...]) -> bool:
    """Tell whether velocity is a sign: the patient was to be fast, and not warming up."""
    return intent == "max" and "warm_up" not in flags


def _loss_pct(session: SessionView, rep: RepMeasured) -> float | None:
    velocity = rep.values.get("mean_velocity")
    if velocity is None or not rep.valid or not _is_fast(rep.intent, rep.reasons):
        return None
    before = [one.velocity for one in session.reps if one.valid and "warm_up" not in one.flags]
    losses = fatigue.velocity_loss_robust([*(one for one in before if one is not None), velocity])
    return None if losses[-1] is None else round(losses[-1], 1)


def _three(values: Mapping[str, float], *names: str) -> tuple[float, float, float] | None:
    told = [values[name] for name in names if name in values]
    return (told[0], told[1], told[2]) if len(told) == len(names) else None


def _set(view: MachineView, told: SetSummarised) -> MachineView:
    session = _same(view, told.session, told.at_ms)
    if session is None or any(one.number == told.set_number for one in session.sets):
        return view
    done = SetView(
        number=told.set_number,
        reps=told.reps,
        valid_reps=told.valid_reps,
        target=told.target_reps,
        load_N=told.load_N,
        rpe=told.rpe,
        ended_by=told.ended_by,
        incomplete=told.incomplete,
        loss_pct=told.values.get("velocity_loss_robust_pct"),
        time_under_load_s=told.values.get("time_under_load_s"),
    )
    runs = session.set_runs and told.set_number < session.set_number
    return _with_session(view, session, sets=(*session.sets, done)[-MAX_SETS:], set_runs=runs)


def _session_over(view: MachineView, told: SessionSummarised) -> MachineView:
    session = _same(view, told.session, told.at_ms)
    return _with_session(view, session, stage="over", set_runs=False, ended_by=told.ended_by)


def _closed(view: MachineView, told: CommandClosed) -> MachineView:
    commands = tuple(
        replace(one, outcome=told.outcome, reason=told.reason) if one.id == told.command_id else one
        for one in view.commands
    )
    end = (told.command_id, told.outcome, told.reason)
    view = _answered(view, told.command_id.rpartition("/")[0], told.outcome, told.at_ms)  # an id is cause and rule
    return replace(view, commands=commands, closed=(*view.closed, end)[-MAX_CLOSED:])


def _watched(view: MachineView, told: MachineSeen) -> MachineView:
    """Take over what the controller says of a machine, for a page that has not read how it came to that.

    It is no sign of life: an operator's STOP makes the controller speak of a machine that hangs.
    """
    at_ms = told.at_ms
    view = replace(view, last_word=max(view.last_word, (at_ms, told.session or "")))
    if not told.online:
        view = replace(view, offline_ms=max(view.offline_ms, at_ms))
    if told.mode == "locked":
        view = replace(view, stopped_ms=max(view.stopped_ms, at_ms))
    else:
        view = replace(view, released_ms=max(view.released_ms, at_ms))
    session = None if told.session is None else _same(view, told.session, at_ms)
    if session is None:
        return view
    runs = session.stage == "waiting" and told.mode in {"resting", "lifting"}
    return _with_session(
        view, session, patient=told.patient or session.patient, stage="running" if runs else session.stage
    )


def _notice(view: MachineView, notice: Notice) -> MachineView:
    if any(one.id == notice.id for one in view.notices):
        return view
    told = NoticeView(notice.id, notice.at_ms, notice.name, notice.severity, notice.detail)
    view = replace(view, notices=tuple(sorted((*view.notices, told), key=lambda one: one.at_ms)[-MAX_NOTICES:]))
    if notice.name == "alarm_acknowledged":
        view = _answered(view, notice.cause, "noted", notice.at_ms)
    if notice.severity == "alarm":
        view = _with_alarm(view, Alarm(notice.id, notice.at_ms, told))
    return view


MEASURED: Mapping[type, Callable[[MachineView, Any], MachineView]] = {
    RepMeasured: _rep,
    SetSummarised: _set,
    SessionSummarised: _session_over,
    CommandClosed: _closed,
    MachineSeen: _watched,
    Notice: _notice,
}
"""What of the metric topic belongs to a machine."""
