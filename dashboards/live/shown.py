"""Shown: the view as plain values for JSON. Tiles of all machines, one machine, one patient, alarms, figures."""

import math
from collections.abc import Mapping
from typing import Any

from dashboards.live import curve, sentences
from dashboards.live.machine import Alarm, AskedView, CommandView, MachineView, SessionView
from dashboards.live.view import View
from streams.core import baseline
from streams.core.catalogue import metric
from streams.core.commands import Command
from streams.core.policy import Policy
from streams.core.telemetry import PositionUnit

MAX_ALARMS = 50
"""Alarms of the whole fleet that are listed: the newest."""

SHOWN_VALUES: Mapping[str, str] = {
    "range_of_motion": "Range of motion",
    "concentric_time_s": "Way out",
    "top_hold_time_s": "Hold",
    "eccentric_time_s": "Way back",
    "mean_velocity": "Mean velocity",
    "peak_velocity": "Peak velocity",
    "concentric_power_W": "Power",
    "mean_force": "Mean force",
    "peak_force": "Peak force",
    "sparc_concentric": "Smoothness (SPARC)",
    "force_steadiness_cv_pct": "Force variation",
    "symmetry_index_pct": "Right against left",
}
"""Values of the last rep that are listed, where they are defined, and what they are called."""

Shown = dict[str, Any]


def tile(one: MachineView, now_ms: int, chosen: Policy) -> Shown:
    """Show a machine in a few words: how it is, who is there, which rep of which set, velocity loss and its limit."""
    told: Shown = {"key": one.key, "state": one.state(now_ms), "alarms": len(one.open_alarms)}
    session = one.running
    if session is None:
        return told
    plan = session.prescription
    told |= {
        "patient": session.patient,
        "exercise": session.exercise,
        "set": session.set_number,
        "rep": session.counted,
        "sets": None if plan is None else plan.sets,
        "target": None if plan is None else plan.reps,
    }
    loss_pct = session.reps[-1].loss_pct if session.reps else None
    if loss_pct is not None:
        told |= {"loss": loss_pct, "limit": chosen.vl_stop_pct}
    return told


def alarms(view: View) -> tuple[list[Shown], int]:
    """Show the newest alarms that nobody has acknowledged, and how many there are."""
    found = sorted(((alarm, one) for one in view for alarm in one.open_alarms), key=lambda it: -it[0].at_ms)
    return [_alarm(view, alarm, one.unit) | {"machine": one.key} for alarm, one in found[:MAX_ALARMS]], len(found)


def _alarm(view: View, alarm: Alarm, unit: PositionUnit | None) -> Shown:
    stop = alarm.told
    text = _said(view, stop, unit) if isinstance(stop, Command) else sentences.notice(stop.name, stop.detail)
    told: Shown = {"id": alarm.id, "at_ms": alarm.at_ms, "text": text}
    if alarm.seen_by is not None:
        told |= {"seen_by": alarm.seen_by, "seen_why": alarm.seen_why, "seen_ms": alarm.seen_ms}
    return told


def limits(chosen: Policy) -> Shown:
    """Show the limits that charts draw."""
    return {
        "loss_stop": chosen.vl_stop_pct,
        "loss_amber": chosen.vl_amber_pct,
        "rom_low": chosen.rom_amber_pct,
        "rom_high": chosen.rom_over_pct,
        "tempo_ratio": chosen.vote_tempo_ratio,
        "si_pct": chosen.si_pct,
    }


def one_machine(view: View, key: str, now_ms: int) -> Shown:
    """Show a machine in full; `known` is false if the page has not heard of it."""
    one = view.get(key)
    if one is None:
        return {"look": "machine", "key": key, "known": False}
    can = one.capabilities
    return {
        "look": "machine",
        "key": key,
        "known": True,
        "state": one.state(now_ms),
        "heard_ms": one.heard_ms or None,
        "model": None if can is None else can.model,
        "exercise": None if can is None else can.exercise,
        "unit": sentences.force_unit(one.unit),
        "angle": one.unit == "rad",
        "session": None if one.session is None else _session(one.session, one.unit, is_over=one.running is None),
        "curve": _curve(view, one),
        "commands": [_command(view, told, one.unit) for told in reversed(one.commands)],
        "notices": [
            {
                "id": told.id,
                "at_ms": told.at_ms,
                "severity": told.severity,
                "text": sentences.notice(told.name, told.detail),
            }
            for told in reversed(one.notices)
        ],
        "alarms": [_alarm(view, alarm, one.unit) for alarm in reversed(one.alarms)],
        "asked": [_asked(told) for told in reversed(one.asked)],
    }


def _session(session: SessionView, unit: PositionUnit | None, *, is_over: bool) -> Shown:
    plan = session.prescription
    told: Shown = {
        "id": session.id,
        "since_ms": session.since_ms,
        "patient": session.patient,
        "exercise": session.exercise,
        "side": session.side,
        "intent": session.intent,
        "stage": "over" if is_over else session.stage,
        "ended_by": session.ended_by,
        "load_N": session.load_N,
        "set": session.set_number,
        "counted": session.counted,
        "runs": session.set_runs and not is_over,
        "left": session.left,
        "pain": session.pain,
        "reps": [
            {
                "n": rep.number,
                "valid": rep.valid,
                "flags": [flag.replace("_", " ") for flag in rep.flags],
                "load_N": rep.load_N,
                "loss": rep.loss_pct,
                "v": rep.velocity,
                "rom": rep.rom_pct,
                "out_s": rep.concentric_s,
                "hold_s": rep.hold_s,
                "back_s": rep.eccentric_s,
                "peak": rep.peak_force,
            }
            for rep in session.reps
        ],
        "done": [
            {
                "n": done.number,
                "reps": done.reps,
                "valid": done.valid_reps,
                "target": done.target,
                "load_N": done.load_N,
                "rpe": done.rpe,
                "loss": done.loss_pct,
                "tul_s": done.time_under_load_s,
                "incomplete": done.incomplete,
            }
            for done in session.sets
        ],
        "values": _values(session.values, unit),
    }
    if plan is not None:
        told["plan"] = {
            "load_N": plan.load_N,
            "sets": plan.sets,
            "reps": plan.reps,
            "rest_s": plan.rest_s,
            "out_s": plan.concentric_s,
            "hold_s": plan.hold_s,
            "back_s": plan.eccentric_s,
            "tul_s": plan.tul_s,
            "window": _window(plan.window_lo, plan.window_hi, unit),
        }
    return told


def _window(lo: float | None, hi: float | None, unit: PositionUnit | None) -> str | None:
    if lo is None or hi is None:
        return None
    return f"{sentences.position(lo, unit)} to {sentences.position(hi, unit)}"


def _values(values: Mapping[str, float], unit: PositionUnit | None) -> list[tuple[str, str]]:
    return [(label, _value(name, values[name], unit)) for name, label in SHOWN_VALUES.items() if name in values]


def _value(name: str, value: float, unit: PositionUnit | None) -> str:
    """Write a metric of a rep with its unit; angles in degrees.

    Examples
    --------
    >>> _value("range_of_motion", 1.0, "rad"), _value("mean_velocity", 0.396, "m"), _value("peak_force", 320.0, "rad")
    ('57.3°', '0.396 m/s', '320 N m')
    """
    units = metric(name, "rep").unit.split("|")
    of_it = units[-1] if unit == "rad" else units[0]
    if of_it.startswith("rad"):
        return f"{math.degrees(value):.1f}°{of_it[3:]}"
    return sentences.number(value) + ("" if of_it == "-" else f" {of_it}")


def _curve(view: View, one: MachineView) -> Shown | None:
    drawn, session = view.curve(one.key), one.session
    if drawn is None or session is None:
        return None
    is_alike = baseline.is_alike(session.reference_corrected, drawn.corrected)
    return {
        "n": drawn.rep_number,
        "set": drawn.set_number,
        "force": drawn.force,
        "why": drawn.why,
        "own": curve.points(session.reference if is_alike else None),
    }


def _command(view: View, told: CommandView, unit: PositionUnit | None) -> Shown:
    command = told.command
    return {
        "id": command.command_id,
        "at_ms": command.issued_ms,
        "action": command.action,
        "rule": command.rule,
        "text": _said(view, command, unit, is_undone=told.outcome in {"rejected", "expired"}),
        "outcome": told.outcome,
        "reason": told.reason.replace("_", " "),
        "asks": command.confirm,
        "evidence": [(one.name, _plain(one.value)) for one in command.evidence],
    }


def _said(view: View, command: Command, unit: PositionUnit | None, *, is_undone: bool = False) -> str:
    chosen = view.policy if command.policy == view.digest else None
    return sentences.sentence(command, unit, chosen, is_undone=is_undone)


def _plain(value: float | str | None) -> str:
    return "unknown" if value is None else sentences.number(value)


def _asked(told: AskedView) -> Shown:
    """Show what an operator asked for and how far it has come."""
    return {
        "id": told.id,
        "at_ms": told.at_ms,
        "action": told.action,
        "by": told.by,
        "reason": told.reason,
        "status": told.status,
    }


def one_patient(view: View, patient: str) -> Shown:
    """Show what the page has read of a patient: sessions and assessments, the last first."""
    at = [one.key for one in view if one.running and one.running.patient == patient]
    history = view.patients.history(patient)
    machines = [one for row in history["sessions"] if (one := view.get(row.machine)) is not None]
    return {
        "look": "patient",
        "key": patient,
        "known": patient in view.patients or bool(at),
        "at": at,
        "units": {one.key: sentences.force_unit(one.unit) for one in machines if one.unit is not None},
        **history,
    }


def letters(view: View) -> Shown:
    """Show the last dead letters, and how many there were of each reason."""
    return {"look": "letters", "letters": list(view.letters), "reasons": view.reasons.most_common()}
