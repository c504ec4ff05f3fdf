"""Session rules: the rows of the decision table that are asked while a session runs. A new rule is one row.

Rules, conditions, actions and bounds are those of docs/science.md, section 7.2. A condition is a pure function of the
situation and the policy; it returns what it wants done and why.
"""

from collections.abc import Sequence

from streams.core.baseline import LOAD_BAND, Baseline, is_alike
from streams.core.commands import Change, Evidence
from streams.core.danger import danger
from streams.core.fatigue_rules import paced_fatigue_stop, rest_extend, velocity_loss_stop
from streams.core.form_rules import rom_limit, rom_shortfall, tempo_or_bounce, unsteady_reduce
from streams.core.policy import Policy
from streams.core.rule import Match, Rule
from streams.core.session import SessionState
from streams.core.sets import RepNote
from streams.core.situation import MIN_WINDOW_SHARE, WINDOW_DECIMALS, Situation, lowered, range_step
from streams.core.telemetry import SessionStarted, SymptomReported

MIN_REFERENCE_REPS = 3
"""Accepted reps of the set that make its largest peak force a reference."""


def _stop(situation: Situation, *evidence: tuple[str, float | str]) -> Match:
    load_N = None if situation.session is None else situation.session.load_N
    least_N = 0.0 if situation.capabilities is None else situation.capabilities.load_min_N
    changes = (
        () if load_N is None else (Change(quantity="load_N", old=load_N, new=min(least_N, load_N), bound=least_N),)
    )
    told = tuple(Evidence(situation.cause, name, value) for name, value in evidence)
    return Match(action="stop", evidence=told, changes=changes)


def emergency_stop(situation: Situation, policy: Policy) -> Match | None:
    """0: danger stops the machine: the load goes to its minimum, locked until a clinician releases it.

    Danger is any symptom, the stop button, an operator's STOP, any fault, a screening with a red flag, a lost link, or
    a peak force above `spike_ratio` of the patient's own. That is the largest of at least 3 accepted reps before in the
    set, else that of earlier sessions at a load within 10 %, of force that is corrected alike; where there is neither,
    force is not asked. A link is lost by the last will, by another boot, or by a silence of the device clock of more
    than `heartbeat_s` times `heartbeat_missed`.
    """
    if situation.link_loss is not None:
        return None if situation.session is None else _stop(situation, ("link", situation.link_loss))
    if situation.asked is not None:
        return _stop(situation, ("operator", situation.asked.by), ("reason", situation.asked.reason))
    found = danger(situation.event)
    if found is not None:
        return _stop(situation, found)
    return _force_spike(situation, policy) if situation.event is None and not situation.locked else None


def _force_spike(situation: Situation, policy: Policy) -> Match | None:
    session, reps = situation.session, () if situation.set is None else situation.set.reps
    if session is None or not reps:
        return None
    peak, reference = reps[-1].peak_force, _own_peak(session, reps)
    if peak is None or reference is None or peak <= round(policy.spike_ratio * reference, 6):
        return None
    return _stop(situation, ("peak_force", peak), ("peak_force_reference", reference))


def _own_peak(session: SessionState, reps: Sequence[RepNote]) -> float | None:
    """Return the largest peak force of the set's accepted reps before the last, else that of earlier sessions."""
    *before, last = reps
    alike = [rep for rep in before if rep.accepted and is_alike(rep.corrected, last.corrected)]
    own = [rep.peak_force for rep in alike if rep.peak_force is not None]
    if len(own) >= MIN_REFERENCE_REPS:
        return max(own)
    return None if session.baseline is None else _in_band(session.baseline, session.load_N, last)


def _in_band(baseline: Baseline, load_N: float | None, rep: RepNote) -> float | None:
    is_near = load_N is not None and abs(load_N - baseline.load_N) <= LOAD_BAND * baseline.load_N + 1e-9
    return baseline.peak_force if is_near and is_alike(baseline.corrected, rep.corrected) else None


def pain_stop(situation: Situation, policy: Policy) -> Match | None:
    """1: pain above `pain_stop` ends the exercise for today."""
    match situation.event:
        case SymptomReported(pain_nrs=int(pain)) | SessionStarted(pain_nrs=int(pain)) if (
            pain > policy.pain_stop and situation.session is not None
        ):
            evidence = _pain(situation, pain, situation.event)
            return None if situation.session.over else Match(action="end_exercise", evidence=evidence)
    return None


def pain_reduce(situation: Situation, policy: Policy) -> Match | None:
    """2: pain from `pain_caution` on, or `pain_rise` above the start, takes off `pain_cut_pct` of the load, once a set.

    If a painful position was told, the nearer end of the prescribed window moves to `pain_rom_back_deg` before it
    (in metres as many percent of the window), else the far end to as much before that of the calibrated pain-free
    range; as long as a fifth of the window is left. Where nothing can be taken off it acts all the same: no increase
    follows.
    """
    told, session = situation.event, situation.session
    if session is None or not isinstance(told, SymptomReported | SessionStarted) or told.pain_nrs is None:
        return None
    if not (told.pain_nrs >= policy.pain_caution or _has_risen(session, told.pain_nrs, policy)):
        return None
    if "pain_reduce" in situation.fired:
        return None
    position = _where(told)
    away = _pain_free(situation, policy) if position is None else _keep_away(situation, position, policy)
    changes = (*lowered(situation, policy.pain_cut_pct), *away)
    evidence = _pain(situation, told.pain_nrs, told)
    return Match(action="lower_load" if changes else None, evidence=evidence, changes=changes)


def _has_risen(session: SessionState, pain: int, policy: Policy) -> bool:
    return session.pain_start is not None and pain >= session.pain_start + policy.pain_rise


def _where(told: SymptomReported | SessionStarted) -> float | None:
    """Return where in the movement it hurt, in m or rad; at a start nobody moves."""
    return told.position if isinstance(told, SymptomReported) else None


def _pain(situation: Situation, pain: int, told: SymptomReported | SessionStarted) -> tuple[Evidence, ...]:
    """Show the pain, now and at the start, the load and the range (m or rad) in force, and where it hurt."""
    session = situation.session
    lo, hi = (None, None) if session is None or session.window is None else session.window
    return (
        Evidence(situation.cause, "pain_nrs", float(pain)),
        Evidence(situation.cause, "pain_nrs_at_start", None if session is None else session.pain_start),
        Evidence(situation.cause, "load_N", None if session is None else session.load_N),
        Evidence(situation.cause, "window_lo", lo),
        Evidence(situation.cause, "window_hi", hi),
        Evidence(situation.cause, "painful_position", _where(told)),
    )


def _keep_away(situation: Situation, position: float | None, policy: Policy) -> tuple[Change, ...]:
    """Move the nearer end of the window to 5 degrees before the painful position; 5 % of the window in metres."""
    session, machine = situation.session, situation.capabilities
    window = None if session is None else session.window
    prescribed = None if session is None else session.prescribed_window
    if position is None or machine is None or window is None or prescribed is None:
        return ()
    lo, hi = prescribed
    margin = range_step(machine, prescribed, policy.pain_rom_back_deg)
    if not lo - margin < position < hi + margin:
        return ()  # a window that ends so far before it is narrow enough
    is_high = hi - position <= position - lo
    new = round(position - margin if is_high else position + margin, WINDOW_DECIMALS)
    if (new - lo if is_high else hi - new) < MIN_WINDOW_SHARE * (hi - lo):
        return ()  # no movement would be left; the load goes down all the same
    if is_high:
        old = situation.easiest("window_hi", window[1])
        return (Change(quantity="window_hi", old=old, new=new, bound=hi),) if new < old else ()
    old = situation.easiest("window_lo", window[0])
    return (Change(quantity="window_lo", old=old, new=new, bound=lo),) if new > old else ()


def _pain_free(situation: Situation, policy: Policy) -> tuple[Change, ...]:
    """Move the far end of the window to 5 degrees before that of the calibrated range, from which it goes no further.

    Nobody knows where it hurts, and the far end is where the load is held: rule 5 takes back the same one.
    """
    session, machine = situation.session, situation.capabilities
    prescribed = None if session is None else session.prescribed_window
    if session is None or machine is None or session.window is None or session.calibrated is None or prescribed is None:
        return ()
    lo, hi = prescribed
    old = situation.easiest("window_hi", session.window[1])
    new = round(max(session.calibrated) - range_step(machine, prescribed, policy.pain_rom_back_deg), WINDOW_DECIMALS)
    if new >= old or new - lo < MIN_WINDOW_SHARE * (hi - lo):
        return ()
    return (Change(quantity="window_hi", old=old, new=new, bound=hi),)


def data_hold(situation: Situation, policy: Policy) -> Match | None:
    """4: a lost message, or too many invalid reps, hold the set: only rules 0-3 act on it.

    Too many are more than `hold_invalid_fraction` of at least `hold_min_reps`. It ends when the share falls or with the
    set; what was lost stays lost.
    """
    running = situation.set
    if running is None:
        return None
    too_many = running.received >= policy.hold_min_reps and (
        running.invalid > policy.hold_invalid_fraction * running.received
    )
    if not (too_many or running.missing):
        return None
    told: dict[str, int | str] = {"received": running.received, "invalid": running.invalid, **dict(running.why_invalid)}
    told["missing"] = running.missing
    if running.lost:
        told["missing_seq"] = "+".join(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in running.lost)
    return Match(action=None, evidence=tuple(Evidence(situation.cause, name, value) for name, value in told.items()))


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
        priority=5,
        id="rom_limit",
        moments=("rep",),
        match=rom_limit,
        parameters=("rom_over_pct", "rom_step_deg", "tul_cap_s"),
        source="[default]; Steele 2013 [literature]",
    ),
    Rule(
        priority=6,
        id="velocity_loss_stop",
        moments=("rep",),
        match=velocity_loss_stop,
        parameters=("vl_stop_pct", "vl_min_reps"),
        source="Pareja-Blanco 2017 [literature]; [measured]",
    ),
    Rule(
        priority=7,
        id="paced_fatigue_stop",
        moments=("rep",),
        match=paced_fatigue_stop,
        parameters=(
            "votes_needed",
            "tul_cap_s",
            "vote_tempo_ratio",
            "vote_rom_fraction",
            "vote_force_fraction",
            "vote_force_min_rep",
            "vote_rpe_over",
            "rom_over_pct",
            "unsteady_sd",
            "unsteady_ratio",
        ),
        source="Kieser [literature]; [default]",
    ),
    Rule(
        priority=8,
        id="rom_shortfall",
        moments=("rep",),
        match=rom_shortfall,
        parameters=("rom_amber_pct", "form_cut_pct"),
        source="[default]",
    ),
    Rule(
        priority=9,
        id="tempo_or_bounce",
        moments=("rep",),
        match=tempo_or_bounce,
        parameters=("tempo_fast_fraction", "form_cut_pct"),
        source="[default]",
    ),
    Rule(
        priority=10,
        id="rest_extend",
        moments=("set_end",),
        match=rest_extend,
        parameters=("recovery_min", "rest_step_s", "rest_max_s"),
        source="Grgic 2018 [literature]",
    ),
    Rule(
        priority=11,
        id="unsteady_reduce",
        moments=("rep",),
        match=unsteady_reduce,
        parameters=("unsteady_sd", "unsteady_ratio", "unsteady_vl_pct", "form_cut_pct"),
        source="Parrella 2026 [literature]; [default]",
    ),
)
"""In order of priority."""
