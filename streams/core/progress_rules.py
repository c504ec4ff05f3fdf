"""Progress rules: what a row of good sessions earns. More load by one small step, or more repetitions first."""

from collections.abc import Callable

import msgspec

from streams.core.commands import Change, Evidence
from streams.core.known import LOAD_DECIMALS, on_grid
from streams.core.patient_state import PastSession, Series
from streams.core.plan_situation import PlanSituation, is_learning
from streams.core.policy import Policy
from streams.core.rule import Match

MAX_EXTRA_REPS = 5
"""Repetitions, or steps of time under load, above the clinician's target that a rule may ask for where the clinician
set no maximum [default]. Science.md names no bound; 10 to 15 is the width of the usual repetition ranges."""

MOST_REPS = 200
"""Most repetitions that a prescription can have."""


class Condition(msgspec.Struct, frozen=True):
    """One condition of rules 14 and 15 on a session: its name, the value, and whether it is met (None: unknown)."""

    name: str
    value: Callable[[PastSession], float | None]
    is_met: Callable[[float, Policy], bool]
    needed: Callable[[Series], bool] = lambda _: True

    def holds(self, session: PastSession, series: Series, policy: Policy) -> bool:
        """Tell whether it is met; an unknown value never is (S13), one that this series does not have always."""
        value = self.value(session)
        return not self.needed(series) or (value is not None and self.is_met(value, policy))


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
        # as fast as possible is the concentric alone: the way back may have a tempo all the same
        lambda series: series.intent != "max" or series.settled.eccentric_s is not None,
    ),
    Condition(
        "velocity_loss_max_pct",
        lambda one: one.velocity_loss_max_pct,
        lambda value, policy: value < policy.vl_stop_pct,
        lambda series: series.intent == "max",  # paced has no velocity loss (S16)
    ),
    Condition("pain_max", lambda one: one.pain_max, lambda value, policy: value <= policy.pain_ok),
    Condition("rpe_max", lambda one: one.rpe_max, lambda value, policy: value <= policy.rpe_max),
    Condition("rules_fired", lambda one: float(one.fired), lambda value, _: value == 0.0),
)
"""What rules 14 and 15 ask of each of the last sessions, but for the one that offers a choice."""


def unmet(session: PastSession, series: Series, policy: Policy) -> tuple[str, ...]:
    """Name the conditions of rule 14 that a session of a series does not meet.

    Examples
    --------
    >>> from streams.core.policy import DEFAULT
    >>> from streams.core.telemetry import Prescription
    >>> series = Series(settings="seat-4", intent="paced", settled=Prescription(id="x", load_N=400.0))
    >>> session = PastSession("s1", True, False, 11, 10, 1, None, 0, 96.0, 8.0)
    >>> unmet(session, series, DEFAULT)
    ('rpe_max',)
    """
    missing = tuple(one.name for one in CONDITIONS if not one.holds(session, series, policy))
    return missing if _is_beyond_target(session, policy) else (*missing, "reps_over")


def _is_beyond_target(session: PastSession, policy: Policy) -> bool:
    """Tell whether the last set went beyond its target, by reps or by time under load."""
    more_reps = session.target_reps is not None and session.last_set_reps >= session.target_reps + policy.reps_over
    return more_reps or (session.tul_last_set_s is not None and session.tul_last_set_s > policy.tul_progress_s)


def progress_load(situation: PlanSituation, policy: Policy) -> Match | None:
    """14: `progress_sessions` good sessions in a row raise the load by one small step, after a confirmation.

    The step is the smaller of `progress_step_pct` and one increment, `week_cap_pct` within 7 days at most; where the
    increment is the larger, reps or time under load go up as in rule 15. A session is good if every set was done, by
    reps without a flag and at the prescribed load, no message was lost, every rep reached `rom_amber_pct`, the tempo
    error is within `tempo_tol_pct` (with intent max: of the way back, where it has a tempo; and velocity loss is below
    `vl_stop_pct`), pain is up to `pain_ok`, exertion up to `rpe_max`, none of rules 0-4 and 8-11 acted, and its last
    set had `reps_over` reps above the target or more than `tul_progress_s` under load. What is unknown is not met. It
    does not hold for who is guarded, learns, or has been away for the first of `gap_days`.
    """
    if situation.plan.guarded or is_learning(situation, policy):
        return None
    earned, series = _earned(situation, policy), situation.series
    changes = _one_more(situation, policy) if is_coarse(situation, policy) else _one_step_up(situation, policy)
    if earned is None or not changes:
        return None
    caps = situation.told(
        load_N=series.load_N,
        load_cap_N=situation.plan.load_cap_N,
        week_low_N=series.week_low_N(situation.now_ms),
        load_step_N=situation.step_N,
    )
    return Match(action="prescribe", evidence=(*earned, *caps), changes=changes, confirm=True)


def progress_reps_first(situation: PlanSituation, policy: Policy) -> Match | None:
    """15: who learns or is guarded earns `rep_step` reps where rule 14 would raise the load; the load stays.

    Where sets are timed it is `tul_step_s` of time under load. Both go up to the clinician's maximum, and time under
    load to `tul_cap_s`.
    """
    is_new, is_guarded = is_learning(situation, policy), situation.plan.guarded
    if not (is_new or is_guarded):
        return None
    earned, changes = _earned(situation, policy), _one_more(situation, policy)
    if earned is None or not changes:
        return None
    why = situation.told(learning=float(is_new), guarded=float(is_guarded), sessions=float(situation.series.sessions))
    return Match(action="prescribe", evidence=(*earned, *why), changes=changes, confirm=True)


def _earned(situation: PlanSituation, policy: Policy) -> tuple[Evidence, ...] | None:
    """Return every condition of the last sessions with its value if all are met, None if one is not."""
    series, days = situation.series, situation.days_away
    last = series.past[-policy.progress_sessions :]
    if len(last) < policy.progress_sessions or any(unmet(session, series, policy) for session in last):
        return None
    if days is None or days >= policy.gap_days[0] or series.goal is not None:  # never with a wider range (S6)
        return None
    told = tuple(one for session in last for one in _session_evidence(session, series))
    return (*told, *situation.told(days_since_last_session=days))


def _session_evidence(session: PastSession, series: Series) -> tuple[Evidence, ...]:
    asked = {one.name: one.value(session) for one in CONDITIONS if one.needed(series)}
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


def _one_more(situation: PlanSituation, policy: Policy) -> tuple[Change, ...]:
    """Ask for more of the same: repetitions, or time under load in s where sets are timed."""
    plan, settled = situation.plan, situation.series.settled
    base = plan.base or settled
    if settled.tul_s is None:
        most = min(plan.reps_max or base.reps + MAX_EXTRA_REPS, MOST_REPS)
        new = min(settled.reps + policy.rep_step, most)
        change = Change(quantity="reps", old=float(settled.reps), new=float(new), bound=float(most))
    else:
        most_s = plan.tul_max_s or (base.tul_s or settled.tul_s) + MAX_EXTRA_REPS * policy.tul_step_s
        most_s = min(most_s, policy.tul_cap_s)  # rule 7 ends the set there
        change = Change(
            quantity="tul_s", old=settled.tul_s, new=min(settled.tul_s + policy.tul_step_s, most_s), bound=most_s
        )
    return (change,) if change.new > change.old else ()
