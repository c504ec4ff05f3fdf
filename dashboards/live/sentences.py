"""Sentences: what a command does and why, told to a person; numbers from its evidence, limits from the policy."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from streams.core.commands import Change, Command
from streams.core.policy import Policy
from streams.core.telemetry import PositionUnit

TIMES = "\N{MULTIPLICATION SIGN}"

CUES: Mapping[str, str] = {
    "use_full_range": "use the full range",
    "slow_down": "slow down",
    "stay_within_range": "stay within the range",
}
LOSSES: Mapping[str, str] = {
    "offline": "the machine went offline",
    "rebooted": "the machine restarted",
    "heartbeat_lost": "the machine was silent for too long",
}
DANGERS: Mapping[str, str] = {
    "operator": "{value} pressed STOP on this page",
    "button": "the stop button was pressed",
    "fault": "the machine reported a fault, {value}",
    "symptom": "the patient reported a symptom, {value}",
    "screening": "screening found a red flag",
    "link": "the link was lost",
}
NOTICES: Mapping[str, str] = {
    "unacknowledged": "Not confirmed by the machine",
    "not_ended": "The exercise goes on",
    "set_not_ended": "The set goes on",
    "load_back_up": "The load is back up",
    "quarantined": "Frozen by a defect of the software",
    "data_hold": "Nothing is decided",
    "record_complete": "Record complete after all",
    "record_incomplete": "Record stays incomplete",
    "late": "Came late",
    "alarm_acknowledged": "Alarm seen",
    "refused": "Held back by the safety envelope",
    "clamped": "Limited by the safety envelope",
}
SIGNS: Mapping[str, str] = {
    "vote_tempo": "slower than the tempo",
    "vote_rom": "range getting shorter",
    "vote_unsteady": "less steady than usual",
    "vote_end_range_force": "less force at the end of the range",
    "vote_rpe": "exertion above the target",
}
UNMET: Mapping[str, str] = {
    "all_sets_done": "every set done",
    "incomplete": "no lost message",
    "rom_completeness_min_pct": "the full range",
    "tempo_error_median_pct": "a steadier tempo",
    "velocity_loss_max_pct": "less velocity loss",
    "pain_max": "less pain",
    "rpe_max": "less exertion",
    "rules_fired": "no correction by a rule",
    "reps_over": "reps over the target",
}


def sentence(command: Command, unit: PositionUnit | None, policy: Policy | None, *, is_undone: bool = False) -> str:
    """Say what a command does and why.

    Parameters
    ----------
    command : Command
        With its evidence.
    unit : str or None
        The machine's position unit, m or rad; None is unknown and taken for m.
    policy : Policy or None
        The policy that the command was decided by, for its limits; None if it is not at hand.
    is_undone : bool
        Whether the machine refused it, or never answered.

    Examples
    --------
    >>> from streams.core.commands import Evidence
    >>> from streams.core.policy import DEFAULT
    >>> told = [Evidence(f"m/b/{n}", "velocity_loss_robust_pct", loss) for n, loss in enumerate((21.4, 23.1))]
    >>> command = Command(
    ...     command_id="c", machine="a/b/m", boot_id="b", sequence=8, action="end_set", rule="velocity_loss_stop",
    ...     cause="m/b/1", evidence=tuple(told), policy="p", issued_ms=0, expires_ms=30_000,
    ... )
    >>> sentence(command, "m", DEFAULT)
    'Set ended: velocity loss 21 % and 23 % on two reps in a row, limit 20 %.'
    >>> sentence(command, "m", None, is_undone=True)
    'Not done: set ended, because velocity loss 21 % and 23 % on two reps in a row.'
    """
    why = GROUNDS.get(command.rule, _plain)(Told(_values(command), unit, policy))
    effect = _effect(command, unit)
    if is_undone:
        effect = f"Not done: {effect[:1].lower()}{effect[1:]}"
    return f"{effect}{(', because ' if is_undone else ': ') if why else ''}{why}."


class Told(msgspec.Struct, frozen=True):
    """What a rule has seen: its evidence by name, without what was not known, and what it is read with."""

    values: Mapping[str, Sequence[float | int | str]]
    unit: PositionUnit | None
    policy: Policy | None

    def all(self, name: str) -> list[float]:
        """Return every number of this name, in order."""
        return [float(value) for value in self.values.get(name, ()) if not isinstance(value, str)]

    def last(self, name: str) -> float | None:
        """Return the last number of this name."""
        return next(reversed(self.all(name)), None)

    def two(self, name: str, decimals: int = 0) -> str:
        """Return the last two numbers of this name, in percent."""
        return " and ".join(f"{value:.{decimals}f} %" for value in self.all(name)[-2:])


def _values(command: Command) -> Mapping[str, Sequence[float | int | str]]:
    told: dict[str, list[float | int | str]] = {}
    for one in command.evidence:
        if one.value is not None:
            told.setdefault(one.name, []).append(one.value)
    return told


def notice(name: str, detail: str) -> str:
    """Say what a notice says, under a name that a person knows.

    Examples
    --------
    >>> notice("unacknowledged", "prescribe sent again")
    'Not confirmed by the machine: prescribe sent again.'
    """
    told = re.sub(r"^1 messages\b", "1 message", detail.replace("_", " "))
    return f"{NOTICES.get(name, name.replace('_', ' ').capitalize())}: {told}."


def force_unit(unit: PositionUnit | None) -> str:
    """Return the unit of a load: N on a machine that moves in m, N m on one that turns.

    Examples
    --------
    >>> force_unit("rad"), force_unit(None)
    ('N m', 'N')
    """
    return "N m" if unit == "rad" else "N"


def number(value: float | str) -> str:
    """Write a number as a person reads it: three digits that count, no exponent.

    Examples
    --------
    >>> [number(value) for value in (23.149, 335.0, 0.36884, 2.0, 1234.5)]
    ['23.1', '335', '0.369', '2', '1234']
    """
    if isinstance(value, str):
        return value.replace("_", " ")
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def position(value: float, unit: PositionUnit | None) -> str:
    """Write a position: degrees on a machine that turns, cm on one that pushes.

    Examples
    --------
    >>> position(0.8127, "rad"), position(0.3688, "m")
    ('46.6°', '36.9 cm')
    """
    return f"{math.degrees(value):.1f}°" if unit == "rad" else f"{100.0 * value:.1f} cm"


def _effect(command: Command, unit: PositionUnit | None) -> str:
    changed = {one.quantity: one for one in command.changes}
    match command.action:
        case "stop":
            text = "Machine stopped and locked"
        case "end_exercise":
            text = "Exercise ended for today"
        case "end_set":
            text = "Set ended"
        case "cue":
            cue = command.cue or "hint"
            text = f"Hint on the screen, “{CUES.get(cue, cue.replace('_', ' '))}”"
        case "prescribe":
            text = _prescribed(command, unit)
        case "resend":
            text = "Asked for messages that never came"
        case _:
            told = [_change(one, unit) for one in changed.values()]
            text = _capital(", ".join(told)) if told else command.action.replace("_", " ").capitalize()
    return text


def _prescribed(command: Command, unit: PositionUnit | None) -> str:
    plan = command.prescription
    if plan is None:
        return "Session prescribed"
    amount = f"{plan.sets} {TIMES} {plan.reps}" if plan.tul_s is None else f"{plan.sets} {TIMES} {number(plan.tul_s)} s"
    told = f"Session prescribed, {number(plan.load_N)} {force_unit(unit)}, {amount}"
    changes = [_change(one, unit) for one in command.changes if one.new != one.old]
    return f"{told} ({', '.join(changes)})" if changes else told


def _change(change: Change, unit: PositionUnit | None) -> str:
    old, new = float(change.old), float(change.new)
    way = "raised" if new > old else "lowered"
    match change.quantity:
        case "load_N":
            text = f"load {way} from {number(old)} to {number(new)} {force_unit(unit)}"
        case "window_lo" | "window_hi":
            end = "far" if change.quantity == "window_hi" else "near"
            text = f"{end} end of the range moved from {position(old, unit)} to {position(new, unit)}"
        case "rest_s":
            text = f"rest {'lengthened' if new > old else 'shortened'} from {number(old)} to {number(new)} s"
        case "sets":
            text = f"{number(new)} sets instead of {number(old)}" if new != 1 else f"1 set instead of {number(old)}"
        case "reps":
            text = f"{number(new)} reps instead of {number(old)}"
        case "tul_s":
            text = f"time under load {way} from {number(old)} to {number(new)} s"
        case _:
            text = f"{change.quantity.removesuffix('_s').replace('_', ' ')} from {number(old)} to {number(new)} s"
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _emergency(told: Told) -> str:
    danger, values = next(((name, values) for name, values in told.values.items() if name in DANGERS), ("", ("",)))
    peak, own = told.last("peak_force"), told.last("peak_force_reference")
    if danger == "link":
        return LOSSES.get(str(values[-1]), number(str(values[-1])))
    if danger:
        reason = "".join(f" (“{value}”)" for value in told.values.get("reason", ()))
        return DANGERS[danger].format(value=str(values[-1]).replace("_", " ")) + reason
    if peak is None or own is None:
        return _plain(told)
    unit = force_unit(told.unit)
    return f"a force of {number(peak)} {unit}, the patient's own peak is {number(own)} {unit}"


def _pain(told: Told) -> str:
    pain, start = told.last("pain_nrs"), told.last("pain_nrs_at_start")
    if pain is None:
        return "pain ended the last session"
    return f"pain {pain:.0f} of 10" + ("" if start is None else f", {start:.0f} at the start")


def _morning(told: Told) -> str:
    now, before = told.last("pain_next_morning"), told.last("pain_before_session")
    if now is not None and before is not None:
        return f"pain {now:.0f} of 10 on the morning after the last session, {before:.0f} before it"
    now, before = told.last("pain_mean_7_days"), told.last("pain_mean_7_days_before")
    if now is None or before is None:
        return "pain rose since the last session"
    return f"mean pain {number(now)} of 10 this week, {number(before)} the week before"


def _velocity(told: Told) -> str:
    limit = "" if told.policy is None else f", limit {number(told.policy.vl_stop_pct)} %"
    return f"velocity loss {told.two('velocity_loss_robust_pct')} on two reps in a row{limit}"


def _paced(told: Told) -> str:
    signs = [text for name, text in SIGNS.items() if "yes" in told.values.get(name, ())]
    if not signs:
        spent, cap = told.last("tul_of_set_s"), told.last("tul_cap_s")
        return f"time under load {number(spent or 0.0)} s, limit {number(cap or 0.0)} s"
    details = []
    time_s, limit_s = told.last("concentric_time_s"), told.last("concentric_time_s_limit")
    if time_s is not None and limit_s is not None:
        details.append(f"{number(time_s)} s, limit {number(limit_s)} s")
    way, shortest = told.last("range_of_motion"), told.last("range_of_motion_limit")
    if way is not None and shortest is not None:
        details.append(f"{position(way, told.unit)}, at least {position(shortest, told.unit)}")
    return " and ".join(signs) + (f" ({'; '.join(details)})" if details else "")


def _too_far(told: Told) -> str:
    limit = "" if told.policy is None else f", limit {number(told.policy.rom_over_pct)} %"
    return f"two reps in a row went to {told.two('rom_completeness_pct', 1)} of the prescribed range{limit}"


def _short(told: Told) -> str:
    limit = "" if told.policy is None else f", at least {number(told.policy.rom_amber_pct)} %"
    return f"two reps in a row reached {told.two('rom_completeness_pct', 1)} of the range{limit}"


def _hasty(told: Told) -> str:
    parts = []
    for name, phase in (("concentric_time_s", "out"), ("eccentric_time_s", "back")):
        time_s, wanted_s = told.last(name), told.last(f"{name}_prescribed")
        if time_s is not None and wanted_s is not None:
            parts.append(f"the way {phase} took {number(time_s)} s instead of {number(wanted_s)} s")
    if "bounce" in told.values:
        parts.append("the movement bounced")
    return "two hasty reps in a row, " + " and ".join(parts) if parts else "two hasty reps in a row"


def _recovery(told: Told) -> str:
    share = told.last("set_recovery")
    limit = "" if told.policy is None else f", at least {100.0 * told.policy.recovery_min:.0f} %"
    return "" if share is None else f"the best rep reached {number(100.0 * share)} % of the first set's velocity{limit}"


def _unsteady(told: Told) -> str:
    for name, text in (
        ("force_steadiness_cv_pct", "force varied by"),
        ("tremor_index_force_pct", "force trembled by"),
        ("tremor_index_velocity_pct", "the movement trembled by"),
    ):
        value, limit = told.last(name), told.last(f"{name}_limit")
        if value is not None and limit is not None:
            return f"{text} {number(value)} %, the patient's own limit is {number(limit)} %"
    return "the movement was less steady than usual"


def _progress(told: Told) -> str:
    sessions = "the last sessions" if told.policy is None else f"the last {told.policy.progress_sessions} sessions"
    held = "learning" if told.last("learning") else "guarded" if told.last("guarded") else ""
    more = f"; the load stays while {held}" if held else ""
    return f"{sessions} met every condition{more}; asks for confirmation"


def _gap(told: Told) -> str:
    days = told.last("days_since_last_session")
    return "" if days is None else f"{days:.0f} days since the last session"


def _kept(told: Told) -> str:
    missing = [UNMET.get(str(name), number(str(name))) for name in told.values.get("unmet", ())]
    done = told.last("sessions")
    if not missing:
        return "first session" if done == 0.0 else "as last time"
    return f"as last time; for more it still takes {', '.join(missing)}"


def _sides(told: Told) -> str:
    values = [f"{abs(float(value)):.0f} %" for value in told.values.get("symmetry_index_pct", ())]
    weaker = str(told.values.get("weaker_side", ("one",))[-1])
    return f"the {weaker} side was weaker in {len(values)} tests in a row ({', '.join(values)})"


def _goal(told: Told) -> str:
    goal_N, days = told.last("goal_load_N"), told.last("due_days")
    goal = "" if goal_N is None else f" of {number(goal_N)} {force_unit(told.unit)}"
    return f"the goal{goal} is reached" + ("" if days is None else f", next session in {days:.0f} days")


def _restored(_: Told) -> str:
    return "two clean sessions give back the set that pain took away"


def _missing(told: Told) -> str:
    count = told.last("missing_seq")
    return "1 is missing" if count == 1 else f"{number(count or 0)} are missing"


def _plain(told: Told) -> str:
    """Say what a rule that is not known here has seen."""
    return ", ".join(f"{name.replace('_', ' ')} {number(values[-1])}" for name, values in [*told.values.items()][:4])


GROUNDS: Mapping[str, Callable[[Told], str]] = {
    "emergency_stop": _emergency,
    "pain_stop": _pain,
    "pain_reduce": _pain,
    "pain_next_morning": _morning,
    "rom_limit": _too_far,
    "velocity_loss_stop": _velocity,
    "paced_fatigue_stop": _paced,
    "rom_shortfall": _short,
    "tempo_or_bounce": _hasty,
    "rest_extend": _recovery,
    "unsteady_reduce": _unsteady,
    "side_balance": _sides,
    "progress_load": _progress,
    "progress_reps_first": _progress,
    "return_after_gap": _gap,
    "maintenance": _goal,
    "keep": _kept,
    "restore_sets": _restored,
    "resend": _missing,
}
"""How each rule's ground is told; a rule that is not here shows its evidence as it is."""
