"""Plan situation: what the plan rules see, and what several of them say about it."""

import msgspec

from streams.core import muscles
from streams.core.commands import Change, Evidence
from streams.core.diary import DAY_MS
from streams.core.known import on_grid
from streams.core.muscles import Catalogue
from streams.core.patient_state import START, PatientState, Plan, Series
from streams.core.policy import Policy
from streams.core.results import PlanRequested


class PlanSituation(msgspec.Struct, frozen=True, kw_only=True):
    """The request, the plan, the series as it stands, the patient as a whole, the machines, and the log time in ms."""

    request: PlanRequested
    plan: Plan
    series: Series
    now_ms: int
    patient: PatientState = START
    machines: Catalogue = muscles.NONE

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

    def told(self, **values: float | str | None) -> tuple[Evidence, ...]:
        """Put what is known now into evidence."""
        return tuple(Evidence(self.request.id, name, value) for name, value in values.items())


def is_learning(situation: PlanSituation, policy: Policy) -> bool:
    """Tell whether the load may not rise yet: first sessions, new settings, or back after a long absence (S18)."""
    is_new = situation.series.sessions < policy.learning_sessions or situation.days_away is None
    return is_new or begins_anew(situation, policy)


def begins_anew(situation: PlanSituation, policy: Policy) -> bool:
    """Tell whether learning begins anew (S18), and what is compared with it, after a long absence or elsewhere (S6)."""
    if situation.series.moved_from is not None:
        return True
    days = situation.days_away
    return days is not None and days > policy.gap_days[2]


def typical_error_pct(situation: PlanSituation, exercise: str, policy: Policy) -> float:
    """Return how much an exercise's strength values scatter from day to day, in percent."""
    return muscles.typical_error_pct(situation.machines, exercise, policy.typical_error_pct)


def cut(situation: PlanSituation, cut_pct: float) -> tuple[Change, ...]:
    """Lower the settled load by a share, down to the grid; one that was prescribed but not trained is not repeated."""
    machine, series = situation.request.capabilities, situation.series
    least_N, step_N = (None, None) if machine is None else (machine.load_min_N, machine.load_step_N)
    wanted_N = round(series.settled.load_N * (1.0 - cut_pct / 100.0), 6)  # or a last bit would take a step more
    new_N = on_grid(wanted_N, least_N, step_N)
    if new_N >= series.load_N:
        return ()
    return (Change(quantity="load_N", old=series.load_N, new=new_N, bound=least_N or 0.0),)
