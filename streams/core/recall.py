"""Recall: a plan that waits for its start, and asks more than its patient may be asked since there was trouble (S7).

The planner says so to the controller, which withdraws it and asks for another (visit.py). What a clinician edited is
no more than what is in force, so it is not recalled. Nor is a plan for what its own machine tells of a session: there
the controller has heard of it first.
"""

import hashlib

from msgspec.structs import replace

from streams.core import trouble
from streams.core.invariants import CLEAN_SESSIONS
from streams.core.known import asks_more
from streams.core.patient_state import PatientState, Plan, Series, find_plan, find_series
from streams.core.plans import OF_REQUEST, PlanRecalled
from streams.core.results import PainReported, PatientFact, SessionSummarised, TroubleArose


def recalled(before: PatientState, state: PatientState, fact: PatientFact) -> tuple[PatientState, list[PlanRecalled]]:
    """Recall, once, every plan that a fact has made too hard.

    Parameters
    ----------
    before, state : PatientState
        What was known before the fact, and with it: a session has settled what was proposed for its series.
    fact : PatientFact
        A pain, trouble at a machine, or a session.
    """
    told = list[PlanRecalled]()
    if not _is_trouble(fact):
        return state, told
    plans = tuple(
        replace(plan, series=tuple(_kept(_series_before(before, plan, one), one, fact, told) for one in plan.series))
        for plan in state.plans
    )
    return (replace(state, plans=plans) if told else state), told


def _is_trouble(fact: PatientFact) -> bool:
    """Tell whether something happened to the patient: a hole in the data (rule 4) earns no raise, and undoes none."""
    match fact:
        case TroubleArose(rule=rule):
            return rule in trouble.RULES
        case SessionSummarised(pain_max=pain, rules_fired=fired):
            return trouble.is_painful(pain) or not trouble.RULES.isdisjoint(fired)
        case _:
            return isinstance(fact, PainReported)


def _series_before(before: PatientState, plan: Plan, series: Series) -> Series | None:
    known = find_plan(before, plan.exercise, plan.side)
    return None if known is None else find_series(known, series.settings, series.intent)


def _kept(then: Series | None, now: Series, fact: PatientFact, told: list[PlanRecalled]) -> Series:
    """Return a series without the machine that has its plan, if that has to be recalled there."""
    if then is None or then.proposed is None or then.proposed_at is None:
        return now
    if then.proposed_at == fact.machine and not isinstance(fact, PainReported):
        return now
    is_too_hard = now.clean < CLEAN_SESSIONS and asks_more(now.settled, then.proposed)
    owes_a_cut = now.pain_session is not None and now.pain_session != then.paying
    if not is_too_hard and not owes_a_cut:
        return now
    request = then.proposed.id.removesuffix(OF_REQUEST)
    mark = hashlib.blake2b(f"{fact.id} {request}".encode(), digest_size=8).hexdigest()
    told.append(
        PlanRecalled(id=f"{then.proposed_at}/recalled/{mark}", machine=then.proposed_at, cause=fact.id, request=request)
    )
    return replace(now, proposed_at=None)
