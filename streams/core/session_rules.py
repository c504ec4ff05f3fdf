"""Session rules: the rows of the decision table that are asked while a session runs. A new rule is one row.

Rules, conditions, actions and bounds are those of docs/science.md, section 7.2. A condition is a pure function of the
situation and the policy; it returns what it wants done and why.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from streams.core import fatigue
from streams.core.commands import Change, Evidence
from streams.core.policy import Policy
from streams.core.rule import Match, Rule
from streams.core.session import RepNote, SessionState, SetState
from streams.core.telemetry import ButtonPressed, Capabilities, Event, FaultRaised, Screened, SymptomReported

LinkLoss = Literal["offline", "rebooted", "heartbeat_lost"]
"""How a machine was lost: its last will, another boot, or a hole in its own clock."""

MIN_WINDOW_SHARE = 0.2
"""Least share of the window that must be left when it is tightened; below it a movement is none (2.4)."""

MIN_REFERENCE_REPS = 3
"""Accepted reps of the set that make its largest peak force a reference."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules see: the cause, the session, the set, and what the machine can do."""

    cause: str
    session: SessionState | None
    locked: bool = False
    capabilities: Capabilities | None = None
    event: Event | None = None
    link_loss: LinkLoss | None = None

    @property
    def set(self) -> SetState | None:
        """The running set."""
        return None if self.session is None else self.session.set

    @property
    def fired(self) -> tuple[str, ...]:
        """The rules that already acted in this set, or since the last one."""
        if self.set is not None:
            return self.set.fired
        return () if self.session is None else self.session.between


def _stop(situation: Situation, *evidence: tuple[str, float | str]) -> Match:
    load_N = None if situation.session is None else situation.session.load_N
    least_N = 0.0 if situation.capabilities is None else situation.capabilities.load_min_N
    changes = (
        () if load_N is None else (Change(quantity="load_N", old=load_N, new=min(least_N, load_N), bound=least_N),)
    )
    told = tuple(Evidence(situation.cause, name, value) for name, value in evidence)
    return Match(action="stop", evidence=told, changes=changes)


def emergency_stop(situation: Situation, policy: Policy) -> Match | None:
    """0: a red flag, the stop button, a fault, a lost machine, or a force far beyond the patient's own peak."""
    if situation.link_loss is not None:
        return None if situation.session is None else _stop(situation, ("link", situation.link_loss))
    danger = _danger(situation.event)
    if danger is not None:
        return _stop(situation, danger)
    return _force_spike(situation, policy) if situation.event is None and not situation.locked else None


def _danger(event: Event | None) -> tuple[str, str] | None:
    """Name what is dangerous about an event, if anything is."""
    match event:
        case SymptomReported(symptom=symptom) if symptom != "none":
            return "symptom", symptom
        case ButtonPressed(button="stop"):
            return "button", "stop"
        case FaultRaised(fault=fault):
            return "fault", fault
        case Screened(outcome="red_flag"):
            return "screening", "red_flag"
    return None


def _force_spike(situation: Situation, policy: Policy) -> Match | None:
    reps = () if situation.set is None else situation.set.reps
    own = [rep.peak_force for rep in reps[:-1] if rep.accepted and rep.peak_force is not None]
    if len(own) < MIN_REFERENCE_REPS or not reps or reps[-1].peak_force is None:
        return None
    peak, reference = reps[-1].peak_force, max(own)
    if peak <= policy.spike_ratio * reference:
        return None
    return _stop(situation, ("peak_force", peak), ("peak_force_reference", reference))


def pain_stop(situation: Situation, policy: Policy) -> Match | None:
    """1: pain above the limit ends the exercise for today."""
    match situation.event:
        case SymptomReported(pain_nrs=int(pain)) if pain > policy.pain_stop and situation.session is not None:
            return None if situation.session.over else Match(action="end_exercise", evidence=_pain(situation, pain))
    return None


def pain_reduce(situation: Situation, policy: Policy) -> Match | None:
    """2: pain in the caution zone, or well above the start, takes load off and keeps away from the painful angle."""
    match situation.event:
        case SymptomReported(pain_nrs=int(pain), position=position) if situation.session is not None:
            if not (pain >= policy.pain_caution or _has_risen(situation.session, pain, policy)):
                return None
            if "pain_reduce" in situation.fired:
                return None
            changes = (*_lower(situation, policy.pain_cut_pct), *_keep_away(situation, position, policy))
            return Match(action="lower_load", evidence=_pain(situation, pain), changes=changes) if changes else None
    return None


def _has_risen(session: SessionState, pain: int, policy: Policy) -> bool:
    return session.pain_start is not None and pain >= session.pain_start + policy.pain_rise


def _pain(situation: Situation, pain: int) -> tuple[Evidence, ...]:
    session = situation.session
    return (
        Evidence(situation.cause, "pain_nrs", float(pain)),
        Evidence(situation.cause, "pain_nrs_at_start", None if session is None else session.pain_start),
        Evidence(situation.cause, "load_N", None if session is None else session.load_N),
    )


def _lower(situation: Situation, cut_pct: float) -> tuple[Change, ...]:
    """Lower the load by a share of the value in force, down to the machine's grid, never below its minimum."""
    machine, session = situation.capabilities, situation.session
    if machine is None or session is None or session.load_N is None:
        return ()
    wanted_N = session.load_N * (1.0 - cut_pct / 100.0)
    steps = math.floor((wanted_N - machine.load_min_N) / machine.load_step_N + 1e-9)
    new_N = round(machine.load_min_N + max(steps, 0) * machine.load_step_N, 3)
    if new_N >= session.load_N:
        return ()
    return (Change(quantity="load_N", old=session.load_N, new=new_N, bound=machine.load_min_N),)


def _keep_away(situation: Situation, position: float | None, policy: Policy) -> tuple[Change, ...]:
    """Move the nearer end of the window to 5 degrees before the painful position; 5 % of the window in metres."""
    session, machine = situation.session, situation.capabilities
    prescription = None if session is None else session.prescription
    if position is None or machine is None or prescription is None:
        return ()
    lo, hi = prescription.window_lo, prescription.window_hi
    if lo is None or hi is None or not lo < position <= hi:
        return ()
    back = policy.pain_rom_back_deg
    margin = math.radians(back) if machine.position_unit == "rad" else (hi - lo) * back / 100.0
    is_high = hi - position <= position - lo
    new = round(position - margin if is_high else position + margin, 6)
    if (new - lo if is_high else hi - new) < MIN_WINDOW_SHARE * (hi - lo):
        return ()  # no movement would be left; the load goes down all the same
    if is_high:
        return (Change(quantity="window_hi", old=hi, new=new, bound=hi),)
    return (Change(quantity="window_lo", old=lo, new=new, bound=lo),)


def data_hold(situation: Situation, policy: Policy) -> Match | None:
    """4: too many invalid reps, or a lost message: nothing is decided from this set but a stop."""
    running = situation.set
    if running is None:
        return None
    too_many = running.received >= policy.hold_min_reps and (
        running.invalid > policy.hold_invalid_fraction * running.received
    )
    if not (too_many or running.missing):
        return None
    counts = {"received": running.received, "invalid": running.invalid, "missing_seq": running.missing}
    return Match(action=None, evidence=tuple(Evidence(situation.cause, name, n) for name, n in counts.items()))


def velocity_loss_stop(situation: Situation, policy: Policy) -> Match | None:
    """6: two consecutive valid reps at or beyond the velocity loss limit, against the mean of the three fastest."""
    running = situation.set
    if running is None or "velocity_loss_stop" in running.fired:
        return None
    moved = [(rep, rep.velocity) for rep in running.fast if rep.velocity is not None]
    if [rep for rep, _ in moved[-2:]] != list(running.valid[-2:]):  # another kind of rep came between: not consecutive
        return None
    loss_pct = fatigue.velocity_loss_robust([velocity for _, velocity in moved])
    last_two = [loss for loss in loss_pct[-2:] if loss is not None and round(loss, 3) >= policy.vl_stop_pct]
    if len(moved) < policy.vl_min_reps or len(last_two) < 2:  # noqa: PLR2004 - "two consecutive" is the rule (S15)
        return None
    velocities = [velocity for _, velocity in moved]
    told: list[Evidence] = []
    for n, loss in zip((len(moved) - 1, len(moved)), last_two, strict=True):
        told += _loss_evidence(moved[n - 1][0], velocities[:n], loss)
    return Match(action="end_set", evidence=tuple(told))


def _loss_evidence(rep: RepNote, velocities: Sequence[float], loss_pct: float) -> tuple[Evidence, ...]:
    reference = sum(sorted(velocities)[-3:]) / 3.0
    return (
        Evidence(rep.id, "mean_velocity", velocities[-1]),
        Evidence(rep.id, "velocity_reference", round(reference, 6)),
        Evidence(rep.id, "velocity_loss_robust_pct", round(loss_pct, 3)),
    )


SESSION_RULES: tuple[Rule[Situation], ...] = (
    Rule(
        priority=0,
        id="emergency_stop",
        moments=("event", "rep"),
        match=emergency_stop,
        parameters=("spike_ratio", "heartbeat_s", "heartbeat_missed"),
        source="AHA 2007 [literature/standard], [default]",
    ),
    Rule(
        priority=1,
        id="pain_stop",
        moments=("event",),
        match=pain_stop,
        parameters=("pain_stop",),
        source="Thomee 1997 [literature]",
    ),
    Rule(
        priority=2,
        id="pain_reduce",
        moments=("event",),
        match=pain_reduce,
        parameters=("pain_caution", "pain_rise", "pain_cut_pct", "pain_rom_back_deg"),
        source="Thomee 1997; Ostelo 2008 [literature]",
    ),
    Rule(
        priority=4,
        id="data_hold",
        moments=("rep", "set_end"),
        match=data_hold,
        parameters=("hold_invalid_fraction", "hold_min_reps"),
        source="[default]",
    ),
    Rule(
        priority=6,
        id="velocity_loss_stop",
        moments=("rep",),
        match=velocity_loss_stop,
        parameters=("vl_stop_pct", "vl_min_reps"),
        source="Pareja-Blanco 2017 [literature]; [measured]",
    ),
)
"""In order of priority."""
