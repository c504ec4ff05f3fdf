"""Assessment: what is known of a patient at one exercise after a session, in numbers: strength, balance, proposals."""

from streams.core import balance_record, course, foresight, muscles, strength
from streams.core.muscles import Catalogue
from streams.core.patient_state import PatientState, Series, find_plan, find_series
from streams.core.policy import Policy
from streams.core.results import PatientAssessed, SessionSummarised
from streams.core.set_metrics import Reading, split

DECIMALS = 4

PROPOSED = ("proposed_load_N", "proposed_load_low_N", "proposed_load_high_N")


def assessed(
    state: PatientState, fact: SessionSummarised, now_ms: int, policy: Policy, machines: Catalogue
) -> PatientAssessed | None:
    """Put what a session has changed into numbers; None if nobody has prescribed this exercise."""
    plan = find_plan(state, fact.exercise, fact.side)
    series = None if plan is None else find_series(plan, fact.settings, fact.intent)
    if series is None or fact.patient is None:
        return None
    error_pct = muscles.typical_error_pct(machines, fact.exercise, policy.typical_error_pct)
    values, undefined = split(
        {
            **_strength(series, error_pct),
            **_balance(state, fact, machines),
            **_proposal(series, policy),
        }
    )
    return PatientAssessed(
        id=f"{fact.id}/assessed",
        machine=fact.machine,
        cause=fact.id,
        at_ms=now_ms,
        patient=fact.patient,
        exercise=fact.exercise,
        side=fact.side,
        intent=fact.intent,
        settings=fact.settings,
        load_N=series.load_N,
        sessions=series.sessions,
        clean_sessions=series.clean,
        values=values,
        undefined=undefined,
    )


def _strength(series: Series, typical_error_pct: float) -> dict[str, Reading]:
    """Return trend and band in percent of the baseline; the change is 0 while it is not detectable."""
    followed = series.course
    trend_pct = None if followed is None else followed.trend_pct
    mdc_pct = strength.minimal_detectable_change(typical_error_pct)
    change = None if followed is None else course.change(followed, typical_error_pct)
    detectable: Reading = "learning"
    if change is not None:
        detectable = round(change.difference, DECIMALS) if isinstance(change, strength.Changed) else 0.0
    return {
        "strength_trend_pct": "learning" if trend_pct is None else round(trend_pct, DECIMALS),
        "minimal_detectable_change_pct": "no_reference" if mdc_pct is None else round(mdc_pct, DECIMALS),
        "detectable_change_pct": detectable,
    }


def _balance(state: PatientState, fact: SessionSummarised, machines: Catalogue) -> dict[str, Reading]:
    """Return the last complete test of sides, and of back against front, that the exercise belongs to."""
    told: dict[str, Reading] = {"symmetry_index_pct": "no_reference", "extension_flexion_ratio": "no_reference"}
    for pair in muscles.pairs_of(machines, fact.exercise):
        cells: balance_record.Cells = "both" if pair.metric == "si" and fact.side == "both" else "each"
        record = balance_record.find(state.records, pair.id, cells)
        name = {"si": "symmetry_index_pct", "ef": "extension_flexion_ratio"}.get(pair.metric)
        if record is not None and record.values and name is not None:
            told[name] = round(record.values[-1], DECIMALS)
    return told


def _proposal(series: Series, policy: Policy) -> dict[str, Reading]:
    if series.intent != "max":
        return dict.fromkeys(PROPOSED, "wrong_intent")
    found = None if series.model is None else foresight.proposed(series.model, policy, series.settled.reps)
    if found is None:
        return dict.fromkeys(PROPOSED, "no_reference")
    return dict(zip(PROPOSED, (round(end, 1) for end in (found.value, found.low, found.high)), strict=True))
