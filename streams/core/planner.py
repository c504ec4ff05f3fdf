"""The planner: from what a patient's sessions showed to the prescription of the next one. The only place that raises.

It answers a session request with exactly one plan, or with a notice that says why there is none and with what the
controller has to know all the same: how the patient was screened. A plan that waits is recalled after trouble
(recall.py). What the envelope refuses to raise stays as it was; what it refuses altogether is not prescribed. What only
a clinician may decide is proposed in notices.
"""

from collections.abc import Iterable

from streams.core import (
    assessment,
    balance_rules,
    envelope,
    foresight,
    muscles,
    patient_facts,
    patient_state,
    plan_command,
    recall,
    session_facts,
)
from streams.core.adaptive import Model
from streams.core.commands import Evidence
from streams.core.envelope import Permitted, Refused
from streams.core.muscles import Catalogue
from streams.core.patient_state import START, PatientState
from streams.core.plan_choice import Ask, Choice, choose, kept
from streams.core.plan_situation import PlanSituation, begins_anew
from streams.core.plans import FOR_SCREENING, Answer, PlanMade, ScreeningTold
from streams.core.policy import Policy
from streams.core.results import (
    Notice,
    PainReported,
    PatientAssessed,
    PatientFact,
    PatientScreened,
    PlanEdited,
    PlanRequested,
    SessionSummarised,
    Severity,
    TroubleArose,
)

__all__ = ["START", "PatientState", "step"]

Outputs = tuple[Answer | PatientAssessed | Notice, ...]


def step(  # noqa: PLR0917 - everything that a reducer may depend on, and nothing else
    state: PatientState,
    fact: PatientFact,
    fact_id: str,
    now_ms: int,
    policy: Policy,
    policy_digest: str,
    machines: Catalogue = muscles.NONE,
) -> tuple[PatientState, Outputs]:
    """Take in one fact about a patient; a fact that was seen before changes nothing.

    Parameters
    ----------
    state : PatientState
        What is known of this patient; `START` at first.
    fact : PatientFact
        A request, a screening, an edit, a reported pain or a session summary.
    fact_id : str
        Its `ce_id`.
    now_ms : int
        Log time in ms since 1970.
    policy : Policy
        The numbers of the rules.
    policy_digest : str
        The policy's name, which stands in every command.
    machines : Catalogue
        Which exercises are balanced against each other, and what is usual.

    Returns
    -------
    tuple of PatientState and outputs
        For a request one plan, or none, and notices that say what was not done and why; for a session what is known
        after it; after trouble the recall of each plan that waits and asks too much.

    Examples
    --------
    >>> from streams.core import policy
    >>> fact = PatientScreened(
    ...     id="a/b/m/b1/3", machine="a/b/m", cause="a/b/m/b1/3", at_ms=5, patient="a/p", outcome="clear", by="dr"
    ... )
    >>> state, outputs = step(START, fact, fact.id, 5, policy.DEFAULT, "digest")
    >>> state.screening, outputs
    ('clear', ())
    """
    if patient_state.is_seen(state, fact_id):
        return state, ()
    before, outputs = state, Outputs()
    state = patient_state.note_seen(state, fact_id)
    match fact:
        case PlanRequested():
            state, outputs = _answer(state, fact, now_ms, policy, policy_digest, machines)
        case PatientScreened():
            state = patient_facts.screened(state, fact)
        case PlanEdited():
            state = patient_facts.edited(state, fact, now_ms)
        case PainReported():
            state = patient_facts.pain_reported(state, fact, now_ms, policy)
        case TroubleArose():
            state = patient_facts.trouble_arose(state, fact)
        case SessionSummarised():
            state = session_facts.summarised(state, fact, now_ms, policy, machines)
            found = assessment.assessed(state, fact, now_ms, policy, machines)
            outputs = () if found is None else (found,)
    state, recalls = recall.recalled(before, state, fact)
    return patient_state.bounded(state), (*outputs, *recalls)


def _answer(  # noqa: PLR0917 - as above
    state: PatientState, request: PlanRequested, now_ms: int, policy: Policy, digest: str, machines: Catalogue
) -> tuple[PatientState, Outputs]:
    found = patient_state.of_request(state, request)
    if request.locked:
        return state, _no_plan(state, request, now_ms, "machine_locked", "a clinician must release it first")
    if state.screening != "clear":
        detail = f"screening is {state.screening or 'not recorded'}"
        return state, _no_plan(state, request, now_ms, "not_screened", detail)
    if request.id.endswith(FOR_SCREENING):
        return state, _screening(state, request)
    if found is None:
        detail = f"nobody has prescribed {request.exercise}, side {request.side}"
        return state, _no_plan(state, request, now_ms, "no_prescription", detail)
    plan, series = found
    situation = PlanSituation(
        request=request, plan=plan, series=series, now_ms=now_ms, patient=state, machines=machines
    )
    now = plan_command.in_force(situation)
    ask = Ask(situation, now, policy, digest, plan_command.known(situation, now, policy))
    return _prescribe(state, ask)


def _prescribe(state: PatientState, ask: Ask) -> tuple[PatientState, Outputs]:
    """Choose, ask the envelope, and fall back to what is in force where it refuses an increase."""
    situation, notices = ask.situation, list[Notice]()
    request, now_ms = situation.request, situation.now_ms
    choice = choose(ask)
    notices += _proposals(ask, choice)
    verdict = envelope.permit(ask.known, plan_command.wish(ask, choice))
    if isinstance(verdict, Refused) and choice.is_increase:
        detail = f"{choice.rule} refused by {verdict.invariant}: {verdict.detail}"
        notices.append(_notice(request, now_ms, "increase_refused", detail))
        choice = kept(ask, (Evidence(request.id, "refused_by", verdict.invariant),))
        verdict = envelope.permit(ask.known, plan_command.wish(ask, choice))
    if isinstance(verdict, Refused):
        detail = f"refused by {verdict.invariant}: {verdict.detail}"
        return state, (*notices, *_no_plan(state, request, now_ms, "not_permitted", detail))
    notices += _remarks(ask, choice, verdict)
    command = verdict.command
    if command.prescription is not None:
        state = patient_facts.prescribed(
            state,
            situation.plan,
            situation.series,
            command.prescription,
            now_ms,
            eases_pain=choice.eases_pain,
            at=request.machine,
        )
    if choice.eases_pain:  # a session that waits for this plan comes after the trouble, one not summed up yet doesn't
        state = patient_facts.after_trouble(state, request.at_ms - 1)
    plan = PlanMade(
        boot_id=command.boot_id,
        command=command,
        known=ask.known,
        baseline=None if begins_anew(situation, ask.policy) else situation.series.baseline,
        model=_model(ask),
        machine=command.machine,
    )
    return state, (plan, *notices)


def _proposals(ask: Ask, choice: Choice) -> list[Notice]:
    """Say what a clinician may want to change; no proposal is ever a command."""
    request, now_ms = ask.situation.request, ask.situation.now_ms
    told = [_notice(request, now_ms, rule, _spelt_out(match.evidence)) for rule, match in choice.proposals]
    for suggestion in balance_rules.suggestions(ask.situation, ask.policy):
        detail = f"{suggestion.pair}: {_spelt_out(suggestion.evidence)}"
        told.append(_notice(request, now_ms, "balance", detail, of=suggestion.pair))
    model, reps = _model(ask), ask.now.reps
    if ask.situation.series.intent == "max" and model is not None:
        found = foresight.proposed(model, ask.policy, reps)
        if found is not None and not found.low <= ask.now.load_N <= found.high:
            detail = foresight.in_words(found, ask.policy, reps, ask.now.load_N)
            told.append(_notice(request, now_ms, "load_proposed", detail))
    return told


def _model(ask: Ask) -> Model | None:
    """Return what the adaptive model knows; after a long absence it begins anew, as all learning does."""
    return None if begins_anew(ask.situation, ask.policy) else ask.situation.series.model


def _spelt_out(evidence: Iterable[Evidence]) -> str:
    return ", ".join(f"{one.name} {one.value}" for one in evidence)


def _remarks(ask: Ask, choice: Choice, verdict: Permitted) -> list[Notice]:
    """Say what is noteworthy about a permitted plan: clamps, and a rep where a load was due."""
    request, now_ms, remarks = ask.situation.request, ask.situation.now_ms, list[Notice]()
    if verdict.clamped:
        detail = f"{choice.rule} by {', '.join(verdict.clamped)}"
        remarks.append(_notice(request, now_ms, "plan_clamped", detail))
    if choice.rule == "progress_load" and any(one.quantity in {"reps", "tul_s"} for one in choice.changes):
        step_N, load_N = ask.situation.step_N, ask.now.load_N
        detail = f"an increment of {step_N} N is more than {ask.policy.progress_step_pct} % of {load_N} N"
        remarks.append(_notice(request, now_ms, "rep_instead_of_load", detail))
    return remarks


def _no_plan(state: PatientState, request: PlanRequested, now_ms: int, name: str, detail: str) -> Outputs:
    """Say why there is no plan, and what the controller has to know without one."""
    return (*_screening(state, request), _notice(request, now_ms, name, detail, "warning"))


def _screening(state: PatientState, request: PlanRequested) -> Outputs:
    if state.screening is None:
        return ()
    told = ScreeningTold(
        id=f"{request.id}/screening_told",
        boot_id=request.boot_id,
        machine=request.machine,
        cause=request.id,
        session=request.session,
        patient=request.patient,
        outcome=state.screening,
    )
    return (told,)


def _notice(
    request: PlanRequested, now_ms: int, name: str, detail: str, severity: Severity = "info", *, of: str = ""
) -> Notice:
    return Notice(
        id=f"{request.id}/notice/{name}{of and '/'}{of}",
        machine=request.machine,
        cause=request.id,
        at_ms=now_ms,
        name=name,
        severity=severity,
        detail=detail,
    )
