"""Balance rules: left against right, back against front, pull against push (science.md 6 and 7.2).

Only rule 12 changes anything, by one set. The rest are suggestions to the clinician: a ratio says nothing about tissue
or posture, and nobody knows a norm for most of them.
"""

import msgspec

from streams.core import balance, balance_record, muscles, strength
from streams.core.balance_record import Cells, PairRecord
from streams.core.commands import Change, Evidence
from streams.core.course import BASELINE_SESSION
from streams.core.muscles import Pair
from streams.core.patient_state import Plan, find_plan
from streams.core.plan_situation import PlanSituation, typical_error_pct
from streams.core.policy import Policy
from streams.core.rule import Match
from streams.core.telemetry import Side

MAX_SETS = 20
"""Most sets that a prescription can have."""

DECIMALS = 6


class Imbalance(msgspec.Struct, frozen=True):
    """Sides that differ by more than chance: the record that says so, the MDC in percent, the weaker side."""

    record: PairRecord
    mdc_pct: float
    weaker: Side


class Suggestion(msgspec.Struct, frozen=True):
    """What a clinician may want to think about: the pair, and the numbers."""

    pair: str
    evidence: tuple[Evidence, ...]


def side_balance(situation: PlanSituation, policy: Policy) -> Match | None:
    """12: the weaker side does one set more, once; the stronger side's load is not raised as long as it is so.

    Sides differ by a symmetry index beyond `si_pct` and beyond chance, to the same side in `si_sessions` tests. Where
    both sides move together, more for one would be more for the other: the load is not raised.
    """
    found = _imbalance(situation, policy)
    if found is None:
        return None
    if found.weaker != situation.request.side:
        return Match(action="prescribe", evidence=_sides_told(situation, found, policy))
    changes = _one_set_more(situation)
    if not changes:
        return None  # its one extra set is used up, and no longer stands in the way of rule 14
    return Match(action="prescribe", evidence=_sides_told(situation, found, policy), changes=changes, confirm=True)


def _one_set_more(situation: PlanSituation) -> tuple[Change, ...]:
    series, base = situation.series, situation.plan.base
    sets = series.sets
    if series.extra_set or base is None or series.goal is not None or sets >= min(base.sets + 1, MAX_SETS):
        return ()
    return (Change(quantity="sets", old=float(sets), new=float(sets + 1), bound=float(base.sets + 1)),)


def _imbalance(situation: PlanSituation, policy: Policy) -> Imbalance | None:
    request = situation.request
    cells: Cells = "both" if request.side == "both" else "each"
    for pair in muscles.pairs_of(situation.machines, request.exercise):
        record = balance_record.find(situation.patient.records, pair.id, cells)
        if pair.metric != "si" or record is None or not _is_of(record, situation):
            continue
        mdc_pct = strength.minimal_detectable_change(typical_error_pct(situation, request.exercise, policy))
        if mdc_pct is not None and balance.is_asymmetric(record.values, mdc_pct, policy.si_pct, policy.si_sessions):
            return Imbalance(record, mdc_pct, "left" if record.values[-1] > 0.0 else "right")
    return None


def _is_of(record: PairRecord, situation: PlanSituation) -> bool:
    """Tell whether a pair was tested with the settings and the intent of this request."""
    request = situation.request
    return record.keys is not None and record.keys[0][:2] == (request.settings, request.intent)


def _sides_told(situation: PlanSituation, found: Imbalance, policy: Policy) -> tuple[Evidence, ...]:
    tests = found.record.tests[-policy.si_sessions :]
    told = [Evidence(situation.request.id, "symmetry_index_pct", test.value) for test in tests]
    for test in tests:
        if test.a is not None and test.b is not None:
            told += situation.told(right_N=test.a, left_N=test.b)
    return (*told, *situation.told(mdc95_pct=round(found.mdc_pct, DECIMALS), weaker_side=found.weaker))


def front_back_balance(situation: PlanSituation, policy: Policy) -> Match | None:
    """13: back against front outside the machine's norm in `ef_sessions` tests is told the clinician; nothing changes.

    Outside is beyond `norm_sd` standard deviations by more than chance; a machine without a norm gets no verdict.
    """
    machine, machines = situation.request.capabilities, situation.machines
    for pair in muscles.pairs_of(machines, situation.request.exercise):
        record = balance_record.find(situation.patient.records, pair.id, "each")
        norm = None if machine is None else muscles.norm_of(machines, pair.id, machine.model)
        if pair.metric != "ef" or record is None or norm is None:
            continue  # no entry, no verdict
        errors_pct = [typical_error_pct(situation, exercise, policy) for exercise in (pair.a, pair.b)]
        usual = balance.Norm(norm.mean, norm.sd)
        if balance.is_off_norm(record.values, usual, *errors_pct, sds=policy.norm_sd, tests=policy.ef_sessions):
            last = record.values[-policy.ef_sessions :]
            told = [Evidence(situation.request.id, "extension_flexion_ratio", value) for value in last]
            mdc = balance.mdc_of_ratio(last[-1], *errors_pct)
            return Match(
                action=None,
                evidence=(
                    *told,
                    *situation.told(norm_mean=norm.mean, norm_sd=norm.sd, posture=norm.posture),
                    *situation.told(mdc95=None if mdc is None else round(mdc, DECIMALS)),
                ),
            )
    return None


def suggestions(situation: PlanSituation, policy: Policy) -> tuple[Suggestion, ...]:
    """Return what else is out of balance: sides that move together, and trends against the own baseline."""
    found = _imbalance(situation, policy) if situation.request.side == "both" else None
    told = [] if found is None else [Suggestion(found.record.pair, _sides_told(situation, found, policy))]
    for pair in muscles.pairs_of(situation.machines, situation.request.exercise):
        if pair.metric in {"ratio", "pull_push"}:
            evidence = (*_trends_apart(situation, pair, policy), *_too_little_work(situation, pair))
            told += [Suggestion(pair.id, evidence)] if evidence else []
    return tuple(told)


def _trends_apart(situation: PlanSituation, pair: Pair, policy: Policy) -> tuple[Evidence, ...]:
    """Compare two trends, each in percent of its own baseline: kilograms of two machines are never divided."""
    a_pct, b_pct = (_trend_pct(_plan(situation, exercise), policy) for exercise in (pair.a, pair.b))
    ratio = balance.pull_push(a_pct, 100.0, b_pct, 100.0)
    errors_pct = [typical_error_pct(situation, exercise, policy) for exercise in (pair.a, pair.b)]
    mdc = balance.mdc_of_ratio(ratio, *errors_pct)
    if ratio is None or mdc is None:
        return ()
    is_down, is_up = round(1.0 - ratio - mdc, DECIMALS) > 0.0, round(ratio - 1.0 - mdc, DECIMALS) > 0.0
    if not is_down and (pair.metric == "pull_push" or not is_up):
        return ()
    return situation.told(ratio=round(ratio, DECIMALS), mdc95=round(mdc, DECIMALS), own_baseline=1.0)


def _plan(situation: PlanSituation, exercise: str) -> Plan | None:
    return find_plan(situation.patient, exercise, situation.request.side)


def _trend_pct(plan: Plan | None, policy: Policy) -> float | None:
    """Return the trend of the series used last; None while the patient learns."""
    followed = plan.series[-1].course if plan is not None and plan.series else None
    if followed is None or followed.sessions < max(policy.learning_sessions, BASELINE_SESSION + 1):
        return None
    return followed.trend_pct


def _too_little_work(situation: PlanSituation, pair: Pair) -> tuple[Evidence, ...]:
    """Compare the work of a week; one without one of the two exercises, or with work that is unknown, says nothing."""
    plans = [_plan(situation, exercise) for exercise in (pair.a, pair.b)]
    a_J, b_J = (0.0 if plan is None else plan.work_J(situation.now_ms) for plan in plans)
    share = balance.pull_push_work(a_J, b_J) if (a_J or 0.0) > 0.0 and (b_J or 0.0) > 0.0 else None
    if share is None or pair.weekly_work_min is None or round(share, DECIMALS) >= pair.weekly_work_min:
        return ()
    return situation.told(weekly_work_ratio=round(share, DECIMALS), weekly_work_min=pair.weekly_work_min)
