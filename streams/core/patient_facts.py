"""Patient facts: how a screening, an edit, a prescription and a session change what is known of a patient."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from streams.core.known import on_grid
from streams.core.patient_state import (
    DAY_MS,
    WEEK_MS,
    PastSession,
    PatientState,
    Plan,
    Series,
    find_plan,
    find_series,
    open_series,
    overlap,
    put_plan,
    put_series,
    window_of,
    with_window,
)
from streams.core.policy import Policy
from streams.core.results import PatientScreened, PlanEdited, SessionSummarised
from streams.core.telemetry import Prescription

MAX_WEEK = 8
"""Prescribed loads of the last 7 days that are kept. Beyond it the two oldest become one: the lower, for longer."""

SLACK_MS = 3 * 86_400_000
"""How far log time may go back, in ms, without a low load being forgotten too early: two producers, two clocks."""

MAX_SESSIONS = 6
"""Past sessions of a series that are kept: the most that `progress_sessions` can ask for."""

PAIN_CLEAN = 2
"""Highest pain of a clean session (S7)."""

SAFETY_RULES = frozenset({"emergency_stop", "pain_stop", "pain_reduce", "pain_next_morning", "data_hold"})
"""Rules 0-4: a session in which one of them acted is not clean (S7)."""

FORM_RULES = frozenset({"rom_shortfall", "tempo_or_bounce", "rest_extend", "unsteady_reduce"})
"""Rules 8-11: a session in which one of them acted earns no progress (rule 14)."""


def screened(state: PatientState, fact: PatientScreened) -> PatientState:
    """Take over the outcome of a screening."""
    return replace(state, screening=fact.outcome)


def edited(state: PatientState, fact: PlanEdited, now_ms: int) -> PatientState:
    """Take over a clinician's bounds and targets: they stand above what the series came to, up and down."""
    plan = find_plan(state, fact.exercise, fact.side) or Plan(exercise=fact.exercise, side=fact.side)
    news: dict[str, Any] = {"load_cap_N": fact.load_cap_N, "guarded": fact.guarded}
    plan = replace(plan, **{name: value for name, value in news.items() if value is not None})
    if fact.prescription is not None:
        base = replace(fact.prescription, id="clinician")
        renewed = tuple(_renewed(one, base) for one in plan.series)
        plan = replace(plan, base=base, edited_ms=now_ms, pain_session=None, series=renewed)
    return put_plan(state, plan)


def _renewed(series: Series, base: Prescription) -> Series:
    """Put a clinician's prescription in force: trained before it is raised, a wider window step by step (S6)."""
    wanted, last = window_of(base), window_of(series.settled)
    narrowed = wanted if series.trained_ms is None else overlap(wanted, last)
    return replace(
        series,
        settled=with_window(base, narrowed),
        proposed=None,
        edited=True,
        goal=None if narrowed == wanted else wanted,
        past=(),
        pain_session=None,
        week=(),
    )


def prescribed(
    state: PatientState, plan: Plan, series: Series, prescription: Prescription, now_ms: int
) -> PatientState:
    """Remember what was prescribed: it is only proposed until a session shows what became of it."""
    proposed = replace(prescription, id="planner")
    week = _add_to_week(series.week, now_ms, prescription.load_N)
    return put_series(state, plan, replace(series, proposed=proposed, edited=False, week=week))


def _add_to_week(week: tuple[tuple[int, float], ...], now_ms: int, load_N: float) -> tuple[tuple[int, float], ...]:
    """Keep only the loads that can still be the lowest of 7 days: each is lower than all that follow it."""
    at_ms = max(now_ms, week[-1][0]) if week else now_ms
    oldest_ms = at_ms - WEEK_MS - SLACK_MS
    kept = [(then_ms, then_N) for then_ms, then_N in week if then_ms >= oldest_ms and then_N < load_N]
    kept.append((at_ms, load_N))
    if len(kept) > MAX_WEEK:
        kept[:2] = [(kept[1][0], kept[0][1])]
    return tuple(kept)


def summarised(state: PatientState, fact: SessionSummarised, now_ms: int, policy: Policy) -> PatientState:
    """Learn from a session: what is in force now, whether it was clean, when it was."""
    fired = {rule for rule, count in fact.rules_fired.items() if count} | {fact.ended_by}
    in_trouble = bool(fired & SAFETY_RULES) or (fact.pain_max is not None and fact.pain_max > PAIN_CLEAN)
    plan = find_plan(state, fact.exercise, fact.side)
    if plan is not None and plan.base is not None:
        series = find_series(plan, fact.settings, fact.intent)
        series = series or open_series(plan, plan.base, fact.settings, fact.intent)
        if "pain_stop" not in fired and series.proposed is not None:
            series = replace(series, pain_session=None)  # its cut was prescribed, and this session went well
        series = _trained(_settled(series, fact), fact, now_ms, policy)
        state = put_series(state, plan, replace(series, clean=series.clean + 1 if _is_clean(fact, fired) else 0))
    if in_trouble:
        state = _after_trouble(state)
    return _owing_a_cut(state, fact) if "pain_stop" in fired else state


def _is_clean(fact: SessionSummarised, fired: set[str]) -> bool:
    """Tell whether nothing was wrong; an unknown pain is not a low one, and no rep is no session (S13)."""
    painless = fact.pain_max is not None and fact.pain_max <= PAIN_CLEAN
    return painless and not fact.incomplete and fact.valid_reps > 0 and not fired & SAFETY_RULES


def _settled(series: Series, fact: SessionSummarised) -> Series:
    """Settle what was proposed: never more than prescribed, never more than the session shows."""
    if series.edited:
        return series  # the session began before the clinician's edit took effect
    asked, told = series.proposed or series.settled, fact.prescription
    shown_N = fact.load_N if fact.load_N is not None else series.settled.load_N
    load_N = on_grid(min(asked.load_N, shown_N), None, None)  # down to 1 mN: rounding must not raise
    is_accepted = told is not None and told.reps >= asked.reps
    settled = replace(asked, load_N=load_N, reps=asked.reps if is_accepted else series.settled.reps)
    window = overlap(window_of(asked), None if told is None else window_of(told))
    tightened = window != window_of(asked)
    return replace(series, settled=with_window(settled, window), proposed=None, goal=None if tightened else series.goal)


def _trained(series: Series, fact: SessionSummarised, now_ms: int, policy: Policy) -> Series:
    """Add a session to the series; after a long absence it begins anew (S18)."""
    if series.trained_ms is not None and now_ms - series.trained_ms > policy.gap_days[2] * DAY_MS:
        series = replace(series, sessions=0, past=())
    if fact.valid_reps:
        series = replace(series, sessions=series.sessions + 1, trained_ms=max(now_ms, series.trained_ms or now_ms))
    return replace(series, past=(*series.past, past_session(fact))[-MAX_SESSIONS:])


def past_session(fact: SessionSummarised) -> PastSession:
    """Keep of a session what rule 14 asks about."""
    blocking = SAFETY_RULES | FORM_RULES
    return PastSession(
        session=fact.session,
        all_sets_done=fact.all_sets_done,
        incomplete=fact.incomplete,
        last_set_reps=fact.last_set_reps,
        target_reps=None if fact.prescription is None else fact.prescription.reps,
        pain_max=fact.pain_max,
        rpe_max=fact.rpe_max,
        fired=sum(count for rule, count in fact.rules_fired.items() if rule in blocking),
        rom_completeness_min_pct=fact.values.get("rom_completeness_min_pct"),
        tempo_error_median_pct=fact.values.get("tempo_error_median_pct"),
        velocity_loss_max_pct=fact.values.get("velocity_loss_max_pct"),
        tul_last_set_s=fact.values.get("tul_last_set_s"),
    )


def _after_trouble(state: PatientState) -> PatientState:
    return _each_series(state, lambda _: True, clean=0)


def _owing_a_cut(state: PatientState, fact: SessionSummarised) -> PatientState:
    """Ask every setting of the exercise for the cut of rule 1: the back hurts, not the seat."""
    return _each_series(
        state, lambda plan: (plan.exercise, plan.side) == (fact.exercise, fact.side), pain_session=fact.session
    )


def _each_series(state: PatientState, of: Callable[[Plan], bool], **fields: Any) -> PatientState:  # noqa: ANN401 - checked by the struct
    plans = tuple(
        replace(plan, series=tuple(replace(one, **fields) for one in plan.series)) if of(plan) else plan
        for plan in state.plans
    )
    return replace(state, plans=plans)
