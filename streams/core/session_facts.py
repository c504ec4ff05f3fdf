"""Session facts: what a session changes in what is known of a patient. Loads, clean sessions, strength, balance."""

from collections.abc import Mapping

from msgspec.structs import replace

from streams.core import balance_record, baseline, course, diary, muscles, trouble
from streams.core.adaptive import Model
from streams.core.diary import DAY_MS
from streams.core.known import on_grid
from streams.core.muscles import Catalogue
from streams.core.patient_facts import after_trouble, owing_a_cut
from streams.core.patient_state import (
    WEEK_MS,
    PastSession,
    PatientState,
    Plan,
    Series,
    find_plan,
    find_series,
    open_series,
    overlap,
    put_series,
    window_of,
    with_window,
)
from streams.core.policy import Policy
from streams.core.results import SessionSummarised
from streams.core.telemetry import Prescription

MAX_SESSIONS = 6
"""Past sessions of a series that are kept: the most that `progress_sessions` can ask for."""

MAX_TIMES = 28
"""Times of sessions that are kept for attendance: twice as many as the longest trend has marks."""

MAX_WORKS = 14
"""Sessions of one exercise within 7 days whose work is kept: two a day."""

SAFETY_RULES = trouble.RULES | {"pain_next_morning", "data_hold"}
"""Rules 0-4: a session in which one of them acted is not clean (S7)."""

FORM_RULES = frozenset({"rom_shortfall", "tempo_or_bounce", "rest_extend", "unsteady_reduce"})
"""Rules 8-11: a session in which one of them acted earns no progress (rule 14)."""


def summarised(
    state: PatientState, fact: SessionSummarised, now_ms: int, policy: Policy, machines: Catalogue = muscles.NONE
) -> PatientState:
    """Learn from a session: what is in force now, whether it was clean, when it was, how strong the patient is.

    It counts from when it began: nobody may have ended it, and then it is summed up when the next one begins.
    """
    now_ms = now_ms if fact.began_ms is None else min(now_ms, fact.began_ms)
    fired = acted(fact, policy)
    in_pain = trouble.is_painful(fact.pain_max) or bool(fired.keys() & trouble.RULES)
    in_trouble = in_pain or bool(fired.keys() & SAFETY_RULES)
    if fact.valid_reps:
        state = replace(state, diary=diary.with_visit(state.diary, fact.pain_start, now_ms))
    if is_accepted(fact, in_trouble=in_trouble):
        state = replace(state, records=balance_record.with_session(state.records, machines, fact, now_ms))
    plan = find_plan(state, fact.exercise, fact.side)
    if plan is not None and (base := plan.base) is not None:
        series = find_series(plan, fact.settings, fact.intent)
        series = series or open_series(plan, base, fact.settings, fact.intent)
        is_prescribed = series.proposed is not None and series.pain_session == series.paying  # not before the pain
        if "pain_stop" not in fired and is_prescribed:
            paid = series.pain_session or series.paid  # its cut was prescribed, and this session went well
            plan = plan if series.pain_session is None else replace(plan, pain_session=None)
            series = replace(series, pain_session=None, paid=paid)
        is_since = plan.edited_ms is None or (state.troubled_ms or 0) > plan.edited_ms
        if series.edited and _is_older(fact, plan):
            settled = _eased_to(series, fact) if in_pain and is_since else series
        else:
            settled = _settled(series, base, fact, in_pain=in_pain)
        is_whole = _is_whole(fact.prescription, base, settled)
        series = _trained(settled, past_session(fact, fired, is_whole=is_whole), fact, now_ms, policy)
        if is_accepted(fact, in_trouble=in_trouble):
            error_pct = muscles.typical_error_pct(machines, fact.exercise, policy.typical_error_pct)
            series = _measured(series, fact, now_ms, error_pct, policy)
        is_clean = _is_clean(fact, state.troubled_ms, in_trouble=in_trouble)
        series = replace(series, clean=series.clean + 1 if is_clean else 0)
        state = put_series(state, _attended(plan, fact, now_ms), series)
    if in_trouble:
        state = after_trouble(state, fact.at_ms)
    return owing_a_cut(state, fact.exercise, fact.session) if "pain_stop" in fired else state


def acted(fact: SessionSummarised, policy: Policy) -> Mapping[str, int]:
    """Return which rules acted in a session, and how often; what only named its plan did not act in it.

    A session counts the command that prescribed it, too. Rule 3 acts nowhere else, and rule 1 acts in a session when a
    pain above its limit is told there, and only then: also if the exercise had ended before, or nobody was allowed to
    end it.
    """
    fired = {rule: count for rule, count in fact.rules_fired.items() if count}
    fired.pop("pain_next_morning", None)
    if fact.pain_max is None or fact.pain_max <= policy.pain_stop:
        fired.pop("pain_stop", None)
    else:
        fired.setdefault("pain_stop", 1)
    return fired | ({fact.ended_by: 1} if fact.ended_by in SAFETY_RULES else {})


def is_accepted(fact: SessionSummarised, *, in_trouble: bool) -> bool:
    """Tell whether a session's values may become baseline, trend or test (science.md 3.16)."""
    return not in_trouble and not fact.incomplete and fact.valid_reps > 0


def _is_clean(fact: SessionSummarised, troubled_ms: int | None, *, in_trouble: bool) -> bool:
    """Tell whether nothing was wrong; an unknown pain is not a low one, and no rep is no session (S13).

    A session that had begun when the patient told of trouble is none of those that come after it.
    """
    is_later = troubled_ms is None or fact.began_ms is None or fact.began_ms > troubled_ms
    return is_accepted(fact, in_trouble=in_trouble) and fact.pain_max is not None and is_later


def _is_older(fact: SessionSummarised, plan: Plan) -> bool:
    """Tell whether a session began before the clinician's last edit, or nobody knows when."""
    return plan.edited_ms is None or fact.began_ms is None or fact.began_ms <= plan.edited_ms


def _settled(series: Series, base: Prescription, fact: SessionSummarised, *, in_pain: bool) -> Series:
    """Settle what was proposed: never more than prescribed, never more than the session shows.

    A proposal that the session does not name may never have come to the machine: what it eased stays eased, what it
    asked for more is not taken up (S20); and not after pain either (S7).
    """
    before, asked, told = series.settled, series.proposed or series.settled, fact.prescription
    shown = None if told is None else window_of(told)
    is_narrower = overlap(window_of(asked), shown) != window_of(asked)  # the way to a wider range is not gone on (S6)
    is_taken_up = told is not None and told.id == asked.id
    if not is_taken_up or in_pain:
        asked = _eased(before, asked)
    window = overlap(window_of(asked), shown)
    shown_N = fact.load_N if fact.load_N is not None else before.load_N
    settled = replace(
        asked,
        id=before.id,
        load_N=on_grid(min(asked.load_N, shown_N), None, None),  # down to 1 mN: rounding must not raise
        reps=asked.reps if told is not None and told.reps >= asked.reps else min(asked.reps, before.reps),
        sets=asked.sets if told is not None and told.sets >= asked.sets else min(asked.sets, before.sets),
        tul_s=_settled_tul_s(before.tul_s, asked.tul_s, None if told is None else told.tul_s),
    )
    if series.moved_from is not None and is_taken_up and fact.valid_reps:  # what was learned was learned elsewhere
        series = replace(series, moved_from=None, sessions=0, past=(), course=None, baseline=None, model=None)
    return replace(
        series,
        settled=with_window(settled, window),
        proposed=None,
        goal=None if is_narrower or window == series.goal else series.goal,
        extra_set=series.extra_set or settled.sets > base.sets,
        heavier=series.heavier and not (is_taken_up and fact.valid_reps),
        easing_ms=None,
        eased_ms=series.eased_ms if series.easing_ms is None else series.easing_ms,
    )


def _eased_to(series: Series, fact: SessionSummarised) -> Series:
    """Ease what a clinician edited during a session to what it ended with: there was trouble after the edit."""
    shown = None if fact.prescription is None else window_of(fact.prescription)
    load_N = series.settled.load_N if fact.load_N is None else min(series.settled.load_N, fact.load_N)
    settled = replace(series.settled, load_N=on_grid(load_N, None, None))
    return replace(series, settled=with_window(settled, overlap(window_of(settled), shown)))


def _eased(before: Prescription, asked: Prescription) -> Prescription:
    """Return what was in force before, with all that was asked less of."""
    eased = replace(
        before,
        load_N=min(before.load_N, asked.load_N),
        reps=min(before.reps, asked.reps),
        sets=min(before.sets, asked.sets),
        rest_s=max(before.rest_s, asked.rest_s),
        tul_s=before.tul_s if before.tul_s is None or asked.tul_s is None else min(before.tul_s, asked.tul_s),
    )
    return with_window(eased, overlap(window_of(before), window_of(asked)))


def _settled_tul_s(before_s: float | None, asked_s: float | None, told_s: float | None) -> float | None:
    """Take over a longer time under load only if the session was prescribed with it."""
    if before_s is None or asked_s is None or (told_s is not None and told_s >= asked_s):
        return asked_s
    return min(asked_s, before_s)


def _trained(series: Series, past: PastSession, fact: SessionSummarised, now_ms: int, policy: Policy) -> Series:
    """Add a session to the series; after a long absence it begins anew (S18), and so does what it is compared with."""
    if series.trained_ms is not None and now_ms - series.trained_ms > policy.gap_days[2] * DAY_MS:
        series = replace(series, sessions=0, past=(), course=None, baseline=None, model=None)
    if fact.valid_reps:
        series = replace(series, sessions=series.sessions + 1, trained_ms=max(now_ms, series.trained_ms or now_ms))
    return replace(series, past=(*series.past, past)[-MAX_SESSIONS:])


def _is_whole(told: Prescription | None, base: Prescription, series: Series) -> bool:
    """Tell whether a session was prescribed as many reps and sets as are in force, or as the clinician had them.

    A machine may be started with any prescription, and all of a little is not all.
    """
    if told is None:
        return False
    return told.reps >= min(series.settled.reps, base.reps) and told.sets >= min(series.sets, base.sets)


def past_session(fact: SessionSummarised, fired: Mapping[str, int], *, is_whole: bool) -> PastSession:
    """Keep of a session what rules 14 and 15 ask about."""
    blocking = SAFETY_RULES | FORM_RULES
    return PastSession(
        session=fact.session,
        all_sets_done=fact.all_sets_done and is_whole,
        incomplete=fact.incomplete,
        last_set_reps=fact.last_set_reps,
        target_reps=None if fact.prescription is None else fact.prescription.reps,
        pain_max=fact.pain_max,
        rpe_max=fact.rpe_max,
        fired=sum(count for rule, count in fired.items() if rule in blocking),
        rom_completeness_min_pct=fact.values.get("rom_completeness_min_pct"),
        tempo_error_median_pct=fact.values.get("tempo_error_median_pct"),
        velocity_loss_max_pct=fact.values.get("velocity_loss_max_pct"),
        tul_last_set_s=fact.values.get("tul_last_set_s"),
    )


def _measured(series: Series, fact: SessionSummarised, now_ms: int, typical_error_pct: float, policy: Policy) -> Series:
    """Let an accepted session count for strength and for what the patient's reps are like."""
    window = window_of(series.settled if fact.prescription is None else fact.prescription)
    followed = course.resumed(series.course, window, corrected=fact.corrected)
    known = series.baseline if followed is series.course else None
    if fact.baseline is not None:
        known = baseline.merged(known, fact.baseline)
    force = fact.values.get("best_peak_force")
    if force is not None:
        followed = course.followed(followed, force, now_ms, typical_error_pct, policy)
    return replace(series, course=followed, baseline=known, model=_of_more_sets(series.model, fact.model))


def _of_more_sets(known: Model | None, told: Model | None) -> Model | None:
    """Keep the model that saw more sets: a session that began without a plan began without what was known, too."""
    if known is None or told is None:
        return told if known is None else known
    return known if known.sets > told.sets else told


def _attended(plan: Plan, fact: SessionSummarised, now_ms: int) -> Plan:
    """Count a session for attendance, and its work for the week: of lost reps nobody knows it."""
    if not fact.valid_reps:
        return plan
    work = tuple(one for one in plan.work if one[0] >= now_ms - WEEK_MS)
    work_J = None if fact.incomplete else fact.values.get("work_J")
    work = (*work, (now_ms, work_J))[-MAX_WORKS:]
    return replace(plan, times=(*plan.times, now_ms)[-MAX_TIMES:], work=work)
