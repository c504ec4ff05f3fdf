"""Patient facts: how a screening, an edit, a prescription and a reported pain change what is known of a patient.

What a session changes stands in session_facts.py.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from streams.core import diary
from streams.core.course import Window
from streams.core.diary import DAY_MS
from streams.core.known import on_grid
from streams.core.patient_state import (
    WEEK_MS,
    PatientState,
    Plan,
    Series,
    beside,
    find_plan,
    find_series,
    overlap,
    put_plan,
    put_series,
    share_nothing,
    window_of,
    with_window,
)
from streams.core.policy import Policy
from streams.core.results import PainReported, PatientScreened, PlanEdited, TroubleArose
from streams.core.telemetry import Prescription
from streams.core.trouble import is_painful

MAX_WEEK = 8
"""Prescribed loads of the last 7 days that are kept. Beyond it the two oldest become one: the lower, for longer."""

SLACK_MS = 3 * DAY_MS
"""How far log time may go back, in ms, without a low load being forgotten too early: two producers, two clocks."""

MOVED_CUT_PCT = 20.0
"""How much less than was trained is prescribed at first in a window that shares nothing with the trained one, in
percent, as after an absence of 28 days [default]."""

EDITABLE = ("load_cap_N", "guarded", "reps_max", "tul_max_s", "per_week", "goal_load_N", "mvt")
"""Bounds and targets of a plan that a clinician may edit one by one."""


def screened(state: PatientState, fact: PatientScreened) -> PatientState:
    """Take over the outcome of a screening."""
    return replace(state, screening=fact.outcome)


def edited(state: PatientState, fact: PlanEdited, now_ms: int) -> PatientState:
    """Take over a clinician's bounds and targets: they stand above what the series came to, up and down.

    A series that was never trained begins as one that is opened now: no wider than those that were.
    """
    plan = find_plan(state, fact.exercise, fact.side) or Plan(exercise=fact.exercise, side=fact.side)
    news: dict[str, Any] = {name: value for name in EDITABLE if (value := getattr(fact, name)) is not None}
    plan = replace(plan, **news)
    if fact.prescription is not None:
        base = replace(fact.prescription, id="clinician", session_s=None, due_days=None)
        renewed = tuple(_renewed(one, base) for one in plan.series)
        trained = tuple(one for one in renewed if one.trained_ms is not None)
        series = tuple(one if one in trained else replace(one, settled=beside(one.settled, trained)) for one in renewed)
        plan = replace(plan, base=base, edited_ms=now_ms, pain_session=None, series=series)
    return put_plan(state, plan)


def _renewed(series: Series, base: Prescription) -> Series:
    """Put a clinician's prescription in force: trained before it is raised, a wider window step by step (S6).

    One that shares nothing with the trained window can't be approached: it holds at once, with less load than was
    trained until somebody has trained in it (docs/decisions/0016), however often it is said.
    """
    trained = series.moved_from or replace(series.settled, load_N=series.load_N)
    last = window_of(trained)
    wanted = _both_ends(base, last)
    is_open = wanted is None and (base.window_lo, base.window_hi) != (None, None)  # one end, and nothing up to it
    narrowed = wanted if series.trained_ms is None or is_open else overlap(wanted, last)
    is_moved = series.trained_ms is not None and share_nothing(wanted, last)
    most_N = on_grid(trained.load_N * (1.0 - MOVED_CUT_PCT / 100.0), None, None)  # down to 1 mN
    if is_moved and most_N < base.load_N:
        base = replace(base, load_N=most_N)
    return replace(
        series,
        settled=with_window(base, narrowed),
        moved_from=trained if is_moved else None,
        proposed=None,
        edited=True,
        goal=None if narrowed == wanted else wanted,
        heavier=series.trained_ms is not None and (series.heavier or base.load_N > trained.load_N),
        past=(),
        pain_session=None,
        easing_ms=None,
        extra_set=False,
    )


def _both_ends(base: Prescription, last: Window | None) -> Window | None:
    """Return the prescribed window; the end that a clinician left open stays where it was, if that leaves any range."""
    lo, hi = base.window_lo, base.window_hi
    if last is not None and (lo is None) != (hi is None):
        lo, hi = last[0] if lo is None else lo, last[1] if hi is None else hi
    return None if lo is None or hi is None or (window_of(base) is None and lo >= hi) else (lo, hi)


def prescribed(
    state: PatientState,
    plan: Plan,
    series: Series,
    prescription: Prescription,
    now_ms: int,
    *,
    eases_pain: bool = False,
    at: str | None = None,
) -> PatientState:
    """Remember what was prescribed, and at which machine: it is only proposed until a session shows what became of it.

    The proposal keeps its id, by which a session shows that it was taken up.
    """
    proposed = replace(prescription, session_s=None, due_days=None)
    week = _add_to_week(series.week, now_ms, prescription.load_N)
    easing_ms = now_ms if eases_pain else None
    series = replace(
        series,
        proposed=proposed,
        edited=False,
        week=week,
        easing_ms=easing_ms,
        paying=series.pain_session,
        proposed_at=at,
    )
    return put_series(state, plan, series)


def _add_to_week(week: tuple[tuple[int, float], ...], now_ms: int, load_N: float) -> tuple[tuple[int, float], ...]:
    """Keep only the loads that can still be the lowest of 7 days: each is lower than all that follow it."""
    at_ms = max(now_ms, week[-1][0]) if week else now_ms
    oldest_ms = at_ms - WEEK_MS - SLACK_MS
    kept = [(then_ms, then_N) for then_ms, then_N in week if then_ms >= oldest_ms and then_N < load_N]
    kept.append((at_ms, load_N))
    if len(kept) > MAX_WEEK:
        kept[:2] = [(kept[1][0], kept[0][1])]
    return tuple(kept)


def pain_reported(state: PatientState, fact: PainReported, now_ms: int, policy: Policy) -> PatientState:
    """Write a pain down; one above 2, one that rose, or a symptom takes the clean sessions of all series away (S7)."""
    if fact.symptom != "none":
        state = after_trouble(state, fact.at_ms)
    if fact.pain_nrs is None:
        return state
    if fact.session is not None and fact.felt == "now" and fact.pain_nrs > policy.pain_stop:
        seen: set[str | None] = {plan.exercise for plan in state.plans if _has_seen(plan, fact.session)}
        for exercise in seen or {fact.exercise}:  # an edit forgets the sessions, and then it is the machine's
            state = owing_a_cut(state, exercise, fact.session)
    book = diary.with_pain(state.diary, fact.pain_nrs, now_ms, is_morning=fact.felt == "next_morning")
    state = replace(state, diary=book)
    rose = diary.over_night(book, now_ms, now_ms - 1, policy) or diary.over_weeks(book, now_ms, policy)
    return after_trouble(state, fact.at_ms) if is_painful(fact.pain_nrs) or rose is not None else state


def _has_seen(plan: Plan, session: str | None) -> bool:
    return any(past.session == session for series in plan.series for past in series.past)


def trouble_arose(state: PatientState, fact: TroubleArose) -> PatientState:
    """Know of trouble before its session is summed up: nothing rises (S7), and rule 1 is owed its cut.

    Whoever goes on at another machine goes on with what decreases have left.
    """
    state = _eased_to_what_is_left(after_trouble(state, fact.at_ms), fact)
    if fact.rule != "pain_stop" or fact.exercise is None:
        return state
    return owing_a_cut(state, fact.exercise, fact.session)


def _eased_to_what_is_left(state: PatientState, fact: TroubleArose) -> PatientState:
    left, plan = fact.left, find_plan(state, fact.exercise or "", fact.side)
    series = None if plan is None or fact.settings is None else find_series(plan, fact.settings, fact.intent)
    if left is None or plan is None or series is None:
        return state
    settled = replace(series.settled, load_N=min(series.settled.load_N, left.load_N))
    eased = replace(series, settled=with_window(settled, overlap(window_of(settled), window_of(left))))
    others = tuple(eased if one is series else one for one in plan.series)
    return replace(state, plans=tuple(replace(plan, series=others) if one is plan else one for one in state.plans))


def owing_a_cut(state: PatientState, exercise: str | None, session: str) -> PatientState:
    """Ask every setting and side of an exercise for the cut of rule 1, once: the back hurts, not the seat."""
    plans = tuple(
        replace(plan, pain_session=session) if plan.exercise == exercise and not plan.series else plan
        for plan in state.plans
    )
    return each_series(
        replace(state, plans=plans),
        lambda plan, series: plan.exercise == exercise and series.paid != session,
        pain_session=session,
    )


def after_trouble(state: PatientState, at_ms: int) -> PatientState:
    """Take the clean sessions of all series away, and those that had begun before the trouble, at `at_ms`."""
    state = replace(state, troubled_ms=max(at_ms, state.troubled_ms or at_ms))
    return each_series(state, lambda _plan, _series: True, clean=0)


def each_series(state: PatientState, of: Callable[[Plan, Series], bool], **fields: Any) -> PatientState:  # noqa: ANN401 - checked by the struct
    """Change some fields of every series that is meant."""
    plans = tuple(
        replace(plan, series=tuple(replace(one, **fields) if of(plan, one) else one for one in plan.series))
        for plan in state.plans
    )
    return replace(state, plans=plans)
