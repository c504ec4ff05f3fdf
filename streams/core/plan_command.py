"""Plan command: a choice as one complete prescription, and the facts by which the envelope judges it."""

import math

from msgspec.structs import replace

from streams.core import workout
from streams.core.commands import Command
from streams.core.course import Window
from streams.core.diary import WEEK_DAYS
from streams.core.envelope import Known
from streams.core.invariants import CLEAN_SESSIONS
from streams.core.patient_state import Series, window_of, with_window
from streams.core.plan_choice import Ask, Choice
from streams.core.plan_situation import PlanSituation, is_learning
from streams.core.plans import OF_REQUEST
from streams.core.policy import Policy
from streams.core.review_rules import MAINTENANCE
from streams.core.telemetry import Prescription

PLANNED = 7
"""Place of the planner's command among the 8 that a message's `seq` leaves."""

WIDEN_DEG = 5.0
WIDEN_PCT = 5.0
"""How far a clinician's wider range is approached in one session: degrees, or percent of the window in metres (S6)."""


def in_force(situation: PlanSituation) -> Prescription:
    """Return what is settled with load and sets in force and, where a clinician widened it, one step of range.

    A clinician's maximum holds here too: it may have been lowered since.
    """
    series, plan, settled = situation.series, situation.plan, situation.series.settled
    reps = settled.reps if plan.reps_max is None else min(settled.reps, plan.reps_max)
    tul_s = settled.tul_s if settled.tul_s is None or plan.tul_max_s is None else min(settled.tul_s, plan.tul_max_s)
    in_force = replace(settled, load_N=series.load_N, sets=series.sets, reps=reps, tul_s=tul_s)
    return with_window(in_force, _approach(series, situation))


def _approach(series: Series, situation: PlanSituation) -> Window | None:
    """Go from the settled window towards a clinician's wider one, 5 degrees at most in all.

    Not after trouble (S7), and not in the session in which the clinician's own edit raises the load (S6).
    """
    last, goal, machine = window_of(series.settled), series.goal, situation.request.capabilities
    is_proved = series.trained_ms is None or series.clean >= CLEAN_SESSIONS  # an edit does not make trouble undone
    if last is None or goal is None or machine is None or series.heavier or not is_proved:
        return last
    step = math.radians(WIDEN_DEG) if machine.position_unit == "rad" else (goal[1] - goal[0]) * WIDEN_PCT / 100.0
    below, above = max(last[0] - goal[0], 0.0), max(goal[1] - last[1], 0.0)
    if below + above <= step:
        return goal
    share = step / (below + above)
    return round(last[0] - share * below, 6), round(last[1] + share * above, 6)


def known(situation: PlanSituation, now: Prescription, policy: Policy) -> Known:
    """Gather the facts that the envelope judges by."""
    request, plan, series = situation.request, situation.plan, situation.series
    machine = request.capabilities
    return Known(
        origin="planner",
        now_ms=situation.now_ms,
        boot_id=request.boot_id,
        locked=request.locked,
        screening=situation.patient.screening,
        at_session_start=True,
        intent=request.intent,
        load_N=now.load_N,
        load_min_N=None if machine is None else machine.load_min_N,
        load_max_N=None if machine is None else machine.load_max_N,
        load_step_N=None if machine is None else machine.load_step_N,
        load_cap_N=plan.load_cap_N,
        week_low_N=series.week_low_N(situation.now_ms),
        window=window_of(now),
        window_prescribed=None if plan.base is None else window_of(plan.base),
        rest_s=now.rest_s,
        clean_sessions=series.clean,
        learning=is_learning(situation, policy),
        step_pct=policy.progress_step_pct,
        week_cap_pct=policy.week_cap_pct,
        in_force=now,
    )


def wish(ask: Ask, choice: Choice) -> Command:
    """Put a choice into a command with the complete prescription, and how long the session will take."""
    request, now_ms = ask.situation.request, ask.situation.now_ms
    new = {one.quantity: int(one.new) if one.quantity in {"reps", "sets"} else one.new for one in choice.changes}
    prescription = replace(ask.now, id=f"{request.id}{OF_REQUEST}", **new)
    prescription = replace(
        prescription,
        session_s=workout.session_s(prescription, request.intent),
        due_days=ask.policy.maintenance_weeks[0] * WEEK_DAYS if choice.rule == MAINTENANCE else None,
    )
    return Command(
        command_id=f"{request.id}/prescribe",
        machine=request.machine,
        boot_id=request.boot_id,
        sequence=8 * request.seq + PLANNED,
        action="prescribe",
        rule=choice.rule,
        cause=request.id,
        evidence=choice.evidence,
        changes=choice.changes,
        session=request.session,
        prescription=prescription,
        confirm=choice.is_increase,
        policy=ask.digest,
        issued_ms=now_ms,
        expires_ms=now_ms + round(1_000 * ask.policy.plan_ttl_s),
    )
