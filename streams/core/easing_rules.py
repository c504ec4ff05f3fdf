"""Easing rules: what makes the next session lighter. Pain that ended the last one, pain since, an absence."""

from streams.core import diary
from streams.core.commands import Change, Evidence
from streams.core.diary import DAY_MS, WEEK_DAYS
from streams.core.plan_situation import PlanSituation, cut
from streams.core.policy import Policy
from streams.core.review_rules import is_kept_up
from streams.core.rule import Match

MORNING_CUT_PCT = 10.0
"""Cut of the load in percent after pain that rose since the last session [literature: Silbernagel 2007, default]."""


def pain_resume(situation: PlanSituation, policy: Policy) -> Match | None:
    """1: the session after one that pain ended starts `pain_resume_cut_pct` lower."""
    session = situation.series.pain_session
    if session is None:
        return None
    told = (Evidence(session, "ended_by", "pain_stop"), *_load_before(situation))
    return Match(action="prescribe", evidence=told, changes=cut(situation, policy.pain_resume_cut_pct))


def pain_next_morning(situation: PlanSituation, policy: Policy) -> Match | None:
    """3: pain that rose since the last session takes 10 % off the load and one set, but not the last one, once.

    It rose by `morning_rise` from before a session to the morning after it, or its mean of 7 days by `week_rise` over
    that of the 7 before. A clinician's prescription has taken the pain into account that was told until then.
    """
    book, now_ms = situation.patient.diary, situation.now_ms
    eased_ms, edited_ms = situation.series.eased_ms or 0, situation.plan.edited_ms or 0
    night = diary.over_night(book, now_ms, max(eased_ms, edited_ms), policy)
    # what rose from week to week stays in the mean for 7 days, and is answered once
    is_answered = now_ms // DAY_MS - eased_ms // DAY_MS < WEEK_DAYS
    weeks = None if is_answered else diary.over_weeks(book, now_ms, policy, edited_ms)
    told: tuple[Evidence, ...] = ()
    if night is not None:
        told += situation.told(pain_next_morning=night.now, pain_before_session=night.before)
    if weeks is not None:
        told += situation.told(pain_mean_7_days=weeks.now, pain_mean_7_days_before=weeks.before)
    if not told:
        return None
    changes = cut(situation, MORNING_CUT_PCT) + _one_set_less(situation)
    return Match(action="prescribe", evidence=(*told, *_load_before(situation)), changes=changes)


def _one_set_less(situation: PlanSituation) -> tuple[Change, ...]:
    sets = situation.series.settled.sets
    return () if sets <= 1 else (Change(quantity="sets", old=float(sets), new=float(sets - 1), bound=1.0),)


def return_after_gap(situation: PlanSituation, policy: Policy) -> Match | None:
    """17: an absence of the first of `gap_days` or more takes the first of `gap_cut_pct` off the load.

    From the second of `gap_days` on it is the second cut, and beyond the third learning begins anew. A clinician's
    prescription since then has taken the absence into account. A setting or an intent that was never trained is as old
    as the last session of its plan. Who keeps up what was reached comes as seldom as rule 18
    asks, and is not away.
    """
    trained_ms, edited_ms = situation.series.trained_ms, situation.plan.edited_ms
    if trained_ms is None:
        trained_ms = max(situation.plan.times, default=None)
    if trained_ms is None:
        return None
    days = round((situation.now_ms - max(trained_ms, edited_ms or trained_ms)) / DAY_MS, 4)
    first, second, _ = policy.gap_days
    if days < first or (is_kept_up(situation) and days <= policy.maintenance_weeks[1] * WEEK_DAYS):
        return None
    cut_pct = policy.gap_cut_pct[0] if days < second else policy.gap_cut_pct[1]
    told = (*situation.told(days_since_last_session=days), *_load_before(situation))
    return Match(action="prescribe", evidence=told, changes=cut(situation, cut_pct))


def _load_before(situation: PlanSituation) -> tuple[Evidence, ...]:
    return situation.told(load_N=situation.series.settled.load_N)
