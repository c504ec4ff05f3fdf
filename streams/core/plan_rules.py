"""Plan rules: the rows of the decision table that are asked before a session. A new rule is one row.

Rules, conditions, actions and bounds are those of science.md section 7.2. The first match names the command, and the
lowest load that any match asks for counts.
"""

from collections.abc import Callable

import msgspec

from streams.core.commands import Change, Evidence
from streams.core.known import LOAD_DECIMALS, on_grid
from streams.core.patient_state import DAY_MS, PastSession, Plan, Series
from streams.core.policy import Policy
from streams.core.results import PlanRequested
from streams.core.rule import Match, Rule
from streams.core.telemetry import Intent

MAX_EXTRA_REPS = 5
"""Reps above the clinician's target that rule 14 may ask for where the machine's increment is too coarse [default].
Science.md names no bound; 10 to 15 is the width of the usual repetition ranges."""


class PlanSituation(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan rules see: the request, the plan, the series as it stands, and the log time in ms."""

    request: PlanRequested
    plan: Plan
    series: Series
    now_ms: int

    @property
    def days_away(self) -> float | None:
        """Days since the series was last trained, None if it never was."""
        if self.series.trained_ms is None:
            return None
        return round(max(self.now_ms - self.series.trained_ms, 0) / DAY_MS, 4)

    @property
    def step_N(self) -> float | None:  # noqa: N802 - SI symbols keep their case
        """The machine's increment in N, None if unknown."""
        return None if self.request.capabilities is None else self.request.capabilities.load_step_N


def is_learning(situation: PlanSituation, policy: Policy) -> bool:
    """Tell whether the load may not rise yet: first sessions, new settings, or back after a long absence (S18)."""
    days = situation.days_away
    return situation.series.sessions < policy.learning_sessions or days is None or days > policy.gap_days[2]


def pain_resume(situation: PlanSituation, policy: Policy) -> Match | None:
    """1, continued: after a session that pain ended, this one starts lower."""
    session = situation.series.pain_session
    if session is None:
        return None
    told = (Evidence(session, "ended_by", "pain_stop"), *_load_before(situation))
    return Match(action="prescribe", evidence=told, changes=_cut(situation, policy.pain_resume_cut_pct))


def return_after_gap(situation: PlanSituation, policy: Policy) -> Match | None:
    """17: strength fades; a clinician's edit since then has taken the absence into account."""
    trained_ms, edited_ms = situation.series.trained_ms, situation.plan.edited_ms
    if trained_ms is None:
        return None
    days = round((situation.now_ms - max(trained_ms, edited_ms or trained_ms)) / DAY_MS, 4)
    first, second, _ = policy.gap_days
    if days < first:
        return None
    cut_pct = policy.gap_cut_pct[0] if days < second else policy.gap_cut_pct[1]
    told = (Evidence(situation.request.id, "days_since_last_session", days), *_load_before(situation))
    return Match(action="prescribe", evidence=told, changes=_cut(situation, cut_pct))


def _load_before(situation: PlanSituation) -> tuple[Evidence, ...]:
    return (Evidence(situation.request.id, "load_N", situation.series.settled.load_N),)


def _cut(situation: PlanSituation, cut_pct: float) -> tuple[Change, ...]:
    """Lower the settled load by a share, down to the grid; one that was prescribed but not trained is not repeated."""
    machine, series = situation.request.capabilities, situation.series
    least_N, step_N = (None, None) if machine is None else (machine.load_min_N, machine.load_step_N)
    new_N = on_grid(series.settled.load_N * (1.0 - cut_pct / 100.0), least_N, step_N)
    if new_N >= series.load_N:
        return ()
    return (Change(quantity="load_N", old=series.load_N, new=new_N, bound=least_N),)


class Condition(msgspec.Struct, frozen=True):
    """One condition of rule 14 on a session: the value's name, the value, and whether it is met (None: unknown)."""

    name: str
    value: Callable[[PastSession], float | None]
    is_met: Callable[[float, Policy], bool]
    needed: Callable[[Intent], bool] = lambda _: True

    def holds(self, session: PastSession, intent: Intent, policy: Policy) -> bool:
        """Tell whether it is met; an unknown value never is (S13), one that this intent does not have always."""
        value = self.value(session)
        return not self.needed(intent) or (value is not None and self.is_met(value, policy))


CONDITIONS: tuple[Condition, ...] = (
    Condition("all_sets_done", lambda one: float(one.all_sets_done), lambda value, _: value == 1.0),
    Condition("incomplete", lambda one: float(one.incomplete), lambda value, _: value == 0.0),
    Condition(
        "rom_completeness_min_pct",
        lambda one: one.rom_completeness_min_pct,
        lambda value, policy: value >= policy.rom_amber_pct,
    ),
    Condition(
        "tempo_error_median_pct",
        lambda one: one.tempo_error_median_pct,
        lambda value, policy: value <= policy.tempo_tol_pct,
        lambda intent: intent != "max",  # as fast as possible has no tempo
    ),
    Condition(
        "velocity_loss_max_pct",
        lambda one: one.velocity_loss_max_pct,
        lambda value, policy: value < policy.vl_stop_pct,
        lambda intent: intent == "max",  # paced has no velocity loss (S16)
    ),
    Condition("pain_max", lambda one: one.pain_max, lambda value, policy: value <= policy.pain_ok),
    Condition("rpe_max", lambda one: one.rpe_max, lambda value, policy: value <= policy.rpe_max),
    Condition("rules_fired", lambda one: float(one.fired), lambda value, _: value == 0.0),
)
"""Rule 14's conditions on each of the last sessions, but for the one that offers a choice."""


def unmet(session: PastSession, intent: Intent, policy: Policy) -> tuple[str, ...]:
    """Name the conditions of rule 14 that a session does not meet.

    Examples
    --------
    >>> from streams.core.policy import DEFAULT
    >>> session = PastSession("s1", True, False, 11, 10, 1, None, 0, 96.0, 8.0)
    >>> unmet(session, "paced", DEFAULT)
    ('rpe_max',)
    """
    missing = tuple(one.name for one in CONDITIONS if not one.holds(session, intent, policy))
    return missing if _is_beyond_target(session, policy) else (*missing, "reps_over")


def _is_beyond_target(session: PastSession, policy: Policy) -> bool:
    """Tell whether the last set went beyond its target, by reps or by time under load."""
    more_reps = session.target_reps is not None and session.last_set_reps >= session.target_reps + policy.reps_over
    return more_reps or (session.tul_last_set_s is not None and session.tul_last_set_s > policy.tul_progress_s)


def progress_load(situation: PlanSituation, policy: Policy) -> Match | None:
    """14: after good sessions in a row the load goes up by one small step; one rep where the step is not small."""
    series, days = situation.series, situation.days_away
    last = series.past[-policy.progress_sessions :]
    if situation.plan.guarded or is_learning(situation, policy) or len(last) < policy.progress_sessions:
        return None
    if days is None or days >= policy.gap_days[0] or series.goal is not None:  # never with a wider range (S6)
        return None
    if any(unmet(session, series.intent, policy) for session in last):
        return None
    changes = _one_rep_more(situation) if is_coarse(situation, policy) else _one_step_up(situation, policy)
    told = tuple(one for session in last for one in _session_evidence(session, series.intent))
    caps = (
        Evidence(situation.request.id, "days_since_last_session", days),
        Evidence(situation.request.id, "load_N", series.load_N),
        Evidence(situation.request.id, "load_cap_N", situation.plan.load_cap_N),
        Evidence(situation.request.id, "week_low_N", series.week_low_N(situation.now_ms)),
        Evidence(situation.request.id, "load_step_N", situation.step_N),
    )
    return Match(action="prescribe", evidence=(*told, *caps), changes=changes, confirm=True) if changes else None


def _session_evidence(session: PastSession, intent: Intent) -> tuple[Evidence, ...]:
    asked = {one.name: one.value(session) for one in CONDITIONS if one.needed(intent)}
    asked |= {
        "last_set_reps": session.last_set_reps,
        "target_reps": session.target_reps,
        "tul_last_set_s": session.tul_last_set_s,
    }
    return tuple(
        Evidence(session.session, name, None if value is None else float(value)) for name, value in asked.items()
    )


def is_coarse(situation: PlanSituation, policy: Policy) -> bool:
    """Tell whether the machine's increment is more than the load may rise at once."""
    step_N = situation.step_N
    return step_N is not None and step_N > round(situation.series.load_N * policy.progress_step_pct / 100.0, 6)


def _one_step_up(situation: PlanSituation, policy: Policy) -> tuple[Change, ...]:
    machine, series = situation.request.capabilities, situation.series
    if machine is None:
        return ()  # an unknown machine raises nothing (S13)
    share_N = min(series.load_N * policy.progress_step_pct / 100.0, machine.load_step_N)
    new_N = on_grid(round(series.load_N + share_N, 6), machine.load_min_N, machine.load_step_N)
    week_N = series.week_low_N(situation.now_ms) * (1.0 + policy.week_cap_pct / 100.0)
    caps = [cap for cap in (machine.load_max_N, situation.plan.load_cap_N, week_N) if cap is not None]
    bound_N = round(min(caps), LOAD_DECIMALS)
    return () if new_N <= series.load_N else (Change(quantity="load_N", old=series.load_N, new=new_N, bound=bound_N),)


def _one_rep_more(situation: PlanSituation) -> tuple[Change, ...]:
    reps, base = situation.series.settled.reps, situation.plan.base
    most = MAX_EXTRA_REPS + (reps if base is None else base.reps)
    if reps >= most:
        return ()
    return (Change(quantity="reps", old=float(reps), new=float(reps + 1), bound=float(most)),)


PLAN_RULES: tuple[Rule[PlanSituation], ...] = (
    Rule(
        priority=1,
        id="pain_stop",
        moments=("plan",),
        match=pain_resume,
        parameters=("pain_resume_cut_pct",),
        source="Thomee 1997 [literature]",
    ),
    Rule(
        priority=17,
        id="return_after_gap",
        moments=("plan",),
        match=return_after_gap,
        parameters=("gap_days", "gap_cut_pct"),
        source="Tucci 1992 [literature], [default]",
    ),
    Rule(
        priority=14,
        id="progress_load",
        moments=("plan",),
        match=progress_load,
        parameters=(
            "progress_sessions",
            "progress_step_pct",
            "week_cap_pct",
            "rom_amber_pct",
            "tempo_tol_pct",
            "vl_stop_pct",
            "rpe_max",
            "pain_ok",
            "reps_over",
            "tul_progress_s",
            "learning_sessions",
        ),
        source="ACSM 2009, Kieser, Buskard 2019 [literature]",
    ),
)
"""In the order in which they are asked: 17 before 14, or someone back after five weeks would be raised."""
