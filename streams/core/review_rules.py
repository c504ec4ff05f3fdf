"""Review rules: what a clinician should look at. Strength that stands still, goals that are reached."""

from streams.core import course, strength
from streams.core.commands import Evidence
from streams.core.diary import WEEK_DAYS
from streams.core.invariants import CLEAN_SESSIONS
from streams.core.patient_state import WEEK_MS
from streams.core.plan_situation import PlanSituation, is_learning, typical_error_pct
from streams.core.policy import Policy
from streams.core.rule import Match
from streams.core.strength import Changed

MAINTENANCE = "maintenance"

DECIMALS = 6


def plateau_review(situation: PlanSituation, policy: Policy) -> Match | None:
    """16: strength that stood still for `plateau_sessions` sessions is told the clinician; nothing changes.

    It stood still if the trend changed by less than is detectable, while the patient came to `attendance_min` of the
    sessions that were agreed.
    """
    followed, plan = situation.series.course, situation.plan
    marks = () if followed is None else followed.marks[-policy.plateau_sessions - 1 :]
    if len(marks) <= policy.plateau_sessions or plan.per_week is None or is_learning(situation, policy):
        return None
    then, now = marks[0], marks[-1]
    planned = plan.per_week * (now.at_ms - then.at_ms) / WEEK_MS
    attended = sum(then.at_ms < at_ms <= now.at_ms for at_ms in plan.times)
    if planned <= 0.0 or round(attended / planned, DECIMALS) < policy.attendance_min:
        return None
    mdc_pct = strength.minimal_detectable_change(typical_error_pct(situation, plan.exercise, policy))
    if isinstance(strength.compared(now.trend_pct, then.trend_pct, mdc_pct), Changed | None):
        return None
    told = situation.told(
        strength_trend_before_pct=then.trend_pct,
        strength_trend_pct=now.trend_pct,
        strength_mdc95_pct=None if mdc_pct is None else round(mdc_pct, DECIMALS),
        sessions=float(policy.plateau_sessions),
        attendance=round(attended / planned, DECIMALS),
    )
    return Match(action=None, evidence=told)


def is_kept_up(situation: PlanSituation) -> bool:
    """Tell whether the clinician's goal is reached, with clean sessions."""
    goal_N, series = situation.plan.goal_load_N, situation.series
    if goal_N is None or series.trained_ms is None or series.clean < CLEAN_SESSIONS:
        return False
    return series.settled.load_N >= goal_N


def maintenance(situation: PlanSituation, policy: Policy) -> Match | None:
    """18: a goal that is reached is kept up with the same load and one session in `maintenance_weeks`.

    It is reached when the load that the clinician aimed at is in force after two clean sessions.
    """
    if not is_kept_up(situation):
        return None
    first, last = policy.maintenance_weeks
    told = situation.told(
        goal_load_N=situation.plan.goal_load_N,
        load_N=situation.series.settled.load_N,
        clean_sessions=float(situation.series.clean),
        due_days=float(first * WEEK_DAYS),
        due_days_at_most=float(last * WEEK_DAYS),
    )
    return Match(action="prescribe", evidence=told)


def strength_told(situation: PlanSituation, policy: Policy) -> tuple[Evidence, ...]:
    """Show where strength stands, and say so if it is no detectable change; nothing while the patient learns."""
    followed = situation.series.course
    if followed is None or is_learning(situation, policy):
        return ()
    changed = course.change(followed, typical_error_pct(situation, situation.plan.exercise, policy))
    if changed is None:
        return ()
    news = round(changed.difference, DECIMALS) if isinstance(changed, Changed) else "no_detectable_change"
    return situation.told(strength_trend_pct=followed.trend_pct, strength_change_pct=news)
