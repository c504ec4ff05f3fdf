"""The planner: from what a patient's sessions showed to the prescription of the next one. The only place that raises.

It answers a session request with exactly one plan, or with a notice that says why there is none. What the envelope
refuses to raise stays as it was; what it refuses altogether is not prescribed.
"""

import math

import msgspec
from msgspec.structs import replace

from streams.core import envelope, patient_facts, patient_state, plan_rules, rule
from streams.core.commands import Change, Command, Evidence
from streams.core.envelope import Known, Permitted, Refused
from streams.core.invariants import CLEAN_SESSIONS
from streams.core.known import is_harder
from streams.core.patient_state import START, PatientState, Series, Window, window_of, with_window
from streams.core.plan_rules import PLAN_RULES, PlanSituation
from streams.core.plans import PlanMade
from streams.core.policy import Policy
from streams.core.results import (
    Notice,
    PatientFact,
    PatientScreened,
    PlanEdited,
    PlanRequested,
    SessionSummarised,
    Severity,
)
from streams.core.telemetry import Prescription

__all__ = ["START", "PatientState", "step"]

PLANNED = 7
"""Place of the planner's command among the 8 that a message's `seq` leaves."""

WIDEN_DEG = 5.0
WIDEN_PCT = 5.0
"""How far a clinician's wider range is approached in one session: degrees, or percent of the window in metres (S6)."""

KEEP = "keep"
"""The rule's name when none holds: the next session is as the last one."""


class Ask(msgspec.Struct, frozen=True):
    """One request with all that its answer depends on."""

    situation: PlanSituation
    now: Prescription
    policy: Policy
    digest: str
    known: Known


class Choice(msgspec.Struct, frozen=True):
    """What is to be prescribed: the rule, its evidence, what changes."""

    rule: str
    evidence: tuple[Evidence, ...]
    changes: tuple[Change, ...] = ()

    @property
    def is_increase(self) -> bool:
        """Whether anything becomes harder."""
        return any(is_harder(one.quantity, one.old, one.new) for one in self.changes)


def step(  # noqa: PLR0917 - everything that a reducer may depend on, and nothing else
    state: PatientState, fact: PatientFact, fact_id: str, now_ms: int, policy: Policy, policy_digest: str
) -> tuple[PatientState, tuple[PlanMade | Notice, ...]]:
    """Take in one fact about a patient; a fact that was seen before changes nothing.

    Parameters
    ----------
    state : PatientState
        What is known of this patient; `START` at first.
    fact : PatientFact
        A request, a screening, an edit or a session summary.
    fact_id : str
        Its `ce_id`.
    now_ms : int
        Log time in ms since 1970.
    policy : Policy
        The numbers of the rules.
    policy_digest : str
        The policy's name, which stands in every command.

    Returns
    -------
    tuple of PatientState and outputs
        For a request one plan, or none, and notices that say what was not done and why.

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
    state, outputs = patient_state.note_seen(state, fact_id), tuple[PlanMade | Notice, ...]()
    match fact:
        case PlanRequested():
            state, outputs = _answer(state, fact, now_ms, policy, policy_digest)
        case PatientScreened():
            state = patient_facts.screened(state, fact)
        case PlanEdited():
            state = patient_facts.edited(state, fact, now_ms)
        case SessionSummarised():
            state = patient_facts.summarised(state, fact, now_ms, policy)
    return patient_state.bounded(state), outputs


def _answer(
    state: PatientState, request: PlanRequested, now_ms: int, policy: Policy, digest: str
) -> tuple[PatientState, tuple[PlanMade | Notice, ...]]:
    found = patient_state.of_request(state, request)
    if request.locked:
        return state, (_notice(request, now_ms, "machine_locked", "a clinician must release it first", "warning"),)
    if state.screening != "clear":
        detail = f"screening is {state.screening or 'not recorded'}"
        return state, (_notice(request, now_ms, "not_screened", detail, "warning"),)
    if found is None:
        detail = f"nobody has prescribed {request.exercise}, side {request.side}"
        return state, (_notice(request, now_ms, "no_prescription", detail, "warning"),)
    plan, series = found
    situation = PlanSituation(request=request, plan=plan, series=series, now_ms=now_ms)
    now = _in_force(situation)
    ask = Ask(situation, now, policy, digest, _known(state, situation, now, policy))
    return _prescribe(state, ask)


def _in_force(situation: PlanSituation) -> Prescription:
    """Return the settled prescription with the load in force and, where a clinician widened it, one step of range."""
    series = situation.series
    return with_window(replace(series.settled, load_N=series.load_N), _approach(series, situation))


def _approach(series: Series, situation: PlanSituation) -> Window | None:
    """Go from the settled window towards a clinician's wider one, 5 degrees at most in all; not after trouble (S7)."""
    last, goal, machine = window_of(series.settled), series.goal, situation.request.capabilities
    if last is None or goal is None or machine is None or (series.past and series.clean < CLEAN_SESSIONS):
        return last
    step = math.radians(WIDEN_DEG) if machine.position_unit == "rad" else (goal[1] - goal[0]) * WIDEN_PCT / 100.0
    below, above = max(last[0] - goal[0], 0.0), max(goal[1] - last[1], 0.0)
    if below + above <= step:
        return goal
    share = step / (below + above)
    return round(last[0] - share * below, 6), round(last[1] + share * above, 6)


def _known(state: PatientState, situation: PlanSituation, now: Prescription, policy: Policy) -> Known:
    """Gather the facts that the envelope judges by."""
    request, plan, series = situation.request, situation.plan, situation.series
    machine = request.capabilities
    return Known(
        origin="planner",
        now_ms=situation.now_ms,
        boot_id=request.boot_id,
        locked=request.locked,
        screening=state.screening,
        at_session_start=True,
        intent=request.intent,
        load_N=now.load_N,
        load_min_N=None if machine is None else machine.load_min_N,
        load_max_N=None if machine is None else machine.load_max_N,
        load_step_N=None if machine is None else machine.load_step_N,
        load_cap_N=plan.load_cap_N,
        week_low_N=series.week_low_N(situation.now_ms),
        window=window_of(now),
        window_prescribed=None if plan.base is None else window_of(plan.base),
        rest_s=now.rest_s,
        clean_sessions=series.clean,
        learning=plan_rules.is_learning(situation, policy),
        step_pct=policy.progress_step_pct,
        week_cap_pct=policy.week_cap_pct,
        in_force=now,
    )


def _prescribe(state: PatientState, ask: Ask) -> tuple[PatientState, tuple[PlanMade | Notice, ...]]:
    """Choose, ask the envelope, and fall back to what is in force where it refuses an increase."""
    situation, notices = ask.situation, list[Notice]()
    choice = _choose(ask)
    verdict = envelope.permit(ask.known, _wish(ask, choice))
    if isinstance(verdict, Refused) and choice.is_increase:
        detail = f"{choice.rule} refused by {verdict.invariant}: {verdict.detail}"
        notices.append(_notice(situation.request, situation.now_ms, "increase_refused", detail))
        choice = _kept(ask, (Evidence(situation.request.id, "refused_by", verdict.invariant),))
        verdict = envelope.permit(ask.known, _wish(ask, choice))
    if isinstance(verdict, Refused):
        detail = f"refused by {verdict.invariant}: {verdict.detail}"
        return state, (*notices, _notice(situation.request, situation.now_ms, "not_permitted", detail, "warning"))
    notices += _remarks(ask, choice, verdict)
    command = verdict.command
    if command.prescription is not None:
        state = patient_facts.prescribed(
            state, situation.plan, situation.series, command.prescription, situation.now_ms
        )
    plan = PlanMade(boot_id=command.boot_id, command=command, known=ask.known, machine=command.machine)
    return state, (plan, *notices)


def _choose(ask: Ask) -> Choice:
    """Let the first rule that holds name the plan, and the lowest load that any of them asks for count."""
    decision = rule.decide(PLAN_RULES, "plan", ask.situation, ask.policy)
    if decision is None:
        return _kept(ask)
    names = {decision.rule, *decision.also_true}
    matches = [row.match(ask.situation, ask.policy) for row in PLAN_RULES if row.id in names]
    changes = min((match.changes for match in matches if match is not None), key=lambda asked: _load(ask, asked))
    also = tuple(Evidence(ask.situation.request.id, "also_true", name) for name in decision.also_true)
    return Choice(decision.rule, (*decision.match.evidence, *also), changes)


def _load(ask: Ask, changes: tuple[Change, ...]) -> float:
    return next((one.new for one in changes if one.quantity == "load_N"), ask.now.load_N)


def _kept(ask: Ask, why: tuple[Evidence, ...] = ()) -> Choice:
    """Choose what is in force, and show which conditions for more the last session did not meet."""
    series, request = ask.situation.series, ask.situation.request
    told = [Evidence(request.id, "load_N", ask.now.load_N), Evidence(request.id, "sessions", float(series.sessions))]
    for session in series.past[-1:]:
        told += [
            Evidence(session.session, "unmet", name) for name in plan_rules.unmet(session, series.intent, ask.policy)
        ]
    return Choice(KEEP, (*told, *why))


def _wish(ask: Ask, choice: Choice) -> Command:
    """Put a choice into a command with the complete prescription."""
    request, now_ms = ask.situation.request, ask.situation.now_ms
    new = {one.quantity: int(one.new) if one.quantity in {"reps", "sets"} else one.new for one in choice.changes}
    return Command(
        command_id=f"{request.id}/prescribe",
        machine=request.machine,
        boot_id=request.boot_id,
        sequence=8 * request.seq + PLANNED,
        action="prescribe",
        rule=choice.rule,
        cause=request.id,
        evidence=choice.evidence,
        changes=choice.changes,
        session=request.session,
        prescription=replace(ask.now, id=f"{request.id}/prescription", **new),
        confirm=choice.is_increase,
        policy=ask.digest,
        issued_ms=now_ms,
        expires_ms=now_ms + round(1_000 * ask.policy.plan_ttl_s),
    )


def _remarks(ask: Ask, choice: Choice, verdict: Permitted) -> list[Notice]:
    """Say what is noteworthy about a permitted plan: clamps, and a rep where a load was due."""
    request, now_ms, remarks = ask.situation.request, ask.situation.now_ms, list[Notice]()
    if verdict.clamped:
        detail = f"{choice.rule} by {', '.join(verdict.clamped)}"
        remarks.append(_notice(request, now_ms, "plan_clamped", detail))
    if any(one.quantity == "reps" for one in choice.changes):
        step_N, load_N = ask.situation.step_N, ask.now.load_N
        detail = f"an increment of {step_N} N is more than {ask.policy.progress_step_pct} % of {load_N} N"
        remarks.append(_notice(request, now_ms, "rep_instead_of_load", detail))
    return remarks


def _notice(request: PlanRequested, now_ms: int, name: str, detail: str, severity: Severity = "info") -> Notice:
    return Notice(
        id=f"{request.id}/notice/{name}",
        machine=request.machine,
        cause=request.id,
        at_ms=now_ms,
        name=name,
        severity=severity,
        detail=detail,
    )
