"""The plan rules, one by one: pain before, a gap before, two good sessions before, strength that stands still."""

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import diary, policy
from streams.core.commands import Change
from streams.core.course import Course, Mark
from streams.core.diary import DAY_MS, Diary
from streams.core.easing_rules import pain_next_morning, pain_resume, return_after_gap
from streams.core.errors import Malformed
from streams.core.patient_state import PastSession, PatientState, Plan, Series
from streams.core.plan_rules import PLAN_RULES
from streams.core.plan_situation import PlanSituation
from streams.core.policy import DEFAULT, Policy
from streams.core.progress_rules import MAX_EXTRA_REPS, progress_load, progress_reps_first, unmet
from streams.core.results import PlanRequested
from streams.core.review_rules import maintenance, plateau_review, strength_told
from streams.core.rule import Match
from streams.core.telemetry import Capabilities, Intent
from tests.core.patients import BASE, LUMBAR, MACHINE, coarse

NOW_MS = 1_700_000_000_000
GOOD = PastSession(
    session="s1",
    all_sets_done=True,
    incomplete=False,
    last_set_reps=11,
    target_reps=10,
    pain_max=1,
    rpe_max=6,
    fired=0,
    rom_completeness_min_pct=96.0,
    tempo_error_median_pct=8.0,
    tul_last_set_s=80.0,
)
FAST = replace(GOOD, tempo_error_median_pct=None, velocity_loss_max_pct=12.0)
READY = Series(
    settings="seat-4",
    intent="paced",
    settled=BASE,
    trained_ms=NOW_MS - 2 * DAY_MS,
    sessions=3,
    clean=3,
    past=(replace(GOOD, session="s0"), GOOD),
    week=((NOW_MS - 2 * DAY_MS, 400.0),),
)
PLAN = Plan(exercise="lumbar_extension", side="both", load_cap_N=600.0, base=BASE)


def situation(
    series: Series = READY,
    plan: Plan = PLAN,
    capabilities: Capabilities | None = LUMBAR,
    pain: Diary | None = None,
    **fields: Any,
) -> PlanSituation:
    request = PlanRequested(
        id=f"{MACHINE}/b1/9",
        machine=MACHINE,
        cause=f"{MACHINE}/b1/9",
        at_ms=NOW_MS,
        boot_id="b1",
        seq=9,
        session="s9",
        patient="acme/p1",
        exercise="lumbar_extension",
        side="both",
        intent=series.intent,
        settings="seat-4",
        capabilities=capabilities,
        locked=False,
    )
    patient = PatientState(diary=pain or Diary())
    return PlanSituation(request=request, plan=plan, series=replace(series, **fields), now_ms=NOW_MS, patient=patient)


def rise(of: PlanSituation, policy: Policy = DEFAULT) -> tuple[Change, ...] | None:
    match = progress_load(of, policy)
    return None if match is None else match.changes


def lowered(old: float, new: float) -> tuple[Change, ...]:
    return (Change(quantity="load_N", old=old, new=new, bound=20.0),)


def test_two_good_sessions_raise_the_load_by_one_increment() -> None:
    assert rise(situation()) == (Change(quantity="load_N", old=400.0, new=405.0, bound=440.0),)


def test_an_increment_of_5_percent_is_just_small_enough() -> None:
    machine = replace(LUMBAR, load_step_N=20.0)
    assert rise(situation(capabilities=machine)) == (Change(quantity="load_N", old=400.0, new=420.0, bound=440.0),)


def test_a_policy_may_ask_for_smaller_steps() -> None:
    finer = situation(capabilities=coarse(1.0))
    assert rise(finer, Policy(progress_step_pct=0.5)) == (Change(quantity="load_N", old=400.0, new=401.0, bound=440.0),)


@pytest.mark.parametrize(
    ("news", "missing"),
    [
        ({"all_sets_done": False}, "all_sets_done"),
        ({"incomplete": True}, "incomplete"),
        ({"rom_completeness_min_pct": 89.9}, "rom_completeness_min_pct"),
        ({"rom_completeness_min_pct": None}, "rom_completeness_min_pct"),
        ({"tempo_error_median_pct": 15.1}, "tempo_error_median_pct"),
        ({"tempo_error_median_pct": None}, "tempo_error_median_pct"),
        ({"pain_max": 3}, "pain_max"),
        ({"pain_max": None}, "pain_max"),
        ({"rpe_max": 8}, "rpe_max"),
        ({"rpe_max": None}, "rpe_max"),
        ({"fired": 1}, "rules_fired"),
        ({"last_set_reps": 10}, "reps_over"),
        ({"target_reps": None}, "reps_over"),
        ({"last_set_reps": 10, "tul_last_set_s": 120.0}, "reps_over"),
    ],
)
@pytest.mark.parametrize("which", [0, 1], ids=["the session before", "the last session"])
def test_one_condition_unmet_or_unknown_in_one_of_two_sessions_keeps_the_load(
    which: int, news: dict[str, Any], missing: str
) -> None:
    past = list(READY.past)
    past[which] = replace(past[which], **news)
    assert unmet(past[which], of_intent("paced"), DEFAULT) == (missing,)
    assert rise(situation(past=tuple(past))) is None


def test_two_minutes_under_load_stand_for_a_rep_over_the_target() -> None:
    long = replace(GOOD, last_set_reps=10, tul_last_set_s=120.5)
    assert rise(situation(past=(long, long))) is not None


def test_conditions_hold_at_their_limits() -> None:
    edge = replace(GOOD, rom_completeness_min_pct=90.0, tempo_error_median_pct=15.0, pain_max=2, rpe_max=7)
    assert unmet(edge, of_intent("paced"), DEFAULT) == ()


def of_intent(intent: Intent, eccentric_s: float | None = None) -> Series:
    return replace(READY, intent=intent, settled=replace(BASE, eccentric_s=eccentric_s))


def test_as_fast_as_possible_needs_no_tempo_but_a_velocity_loss_below_its_limit() -> None:
    assert unmet(FAST, of_intent("max"), DEFAULT) == ()
    assert unmet(replace(FAST, velocity_loss_max_pct=20.0), of_intent("max"), DEFAULT) == ("velocity_loss_max_pct",)
    assert unmet(replace(FAST, velocity_loss_max_pct=None), of_intent("max"), DEFAULT) == ("velocity_loss_max_pct",)


@pytest.mark.parametrize(("error_pct", "is_met"), [(15.0, True), (15.1, False), (None, False)])
def test_as_fast_as_possible_the_way_back_keeps_its_tempo_where_it_has_one(
    error_pct: float | None, is_met: bool
) -> None:
    session = replace(FAST, tempo_error_median_pct=error_pct)
    assert (unmet(session, of_intent("max", eccentric_s=4.0), DEFAULT) == ()) == is_met
    match = progress_load(situation(of_intent("max", eccentric_s=4.0), past=(session, session)), DEFAULT)
    told = [] if match is None else [one.value for one in match.evidence if one.name == "tempo_error_median_pct"]
    assert told == ([error_pct] * 2 if is_met else [])


def test_velocity_loss_plays_no_part_when_paced_or_when_the_intent_is_unknown() -> None:
    lost = replace(GOOD, velocity_loss_max_pct=60.0)
    assert unmet(lost, of_intent("paced"), DEFAULT) == unmet(lost, of_intent("unknown"), DEFAULT) == ()
    match = progress_load(situation(past=(lost, lost)), DEFAULT)
    assert match is not None
    assert not any(one.name.startswith("velocity_loss") for one in match.evidence)


def test_the_evidence_shows_every_condition_of_both_sessions_and_the_caps() -> None:
    match = progress_load(situation(), DEFAULT)
    assert match is not None
    shown = {(one.source, one.name): one.value for one in match.evidence}
    for session in ("s0", "s1"):
        assert shown[session, "rom_completeness_min_pct"] == 96.0
        assert shown[session, "pain_max"] == 1.0
        assert shown[session, "last_set_reps"] == 11.0
    assert shown[f"{MACHINE}/b1/9", "load_cap_N"] == 600.0
    assert shown[f"{MACHINE}/b1/9", "week_low_N"] == 400.0


@pytest.mark.parametrize(
    "of",
    [
        situation(sessions=2),
        situation(plan=replace(PLAN, guarded=True)),
        situation(past=READY.past[:1]),
        situation(trained_ms=NOW_MS - 14 * DAY_MS),
        situation(trained_ms=None),
        situation(goal=(0.0, 1.0)),
        situation(capabilities=None),
    ],
    ids=["learning", "guarded", "one session", "14 days away", "never trained", "range widens", "unknown machine"],
)
def test_the_load_is_kept(of: PlanSituation) -> None:
    assert rise(of) is None


def test_an_increment_above_5_percent_gives_a_rep_instead() -> None:
    coarse_one = situation(capabilities=coarse(25.0))
    assert rise(coarse_one) == (Change(quantity="reps", old=10.0, new=11.0, bound=10.0 + MAX_EXTRA_REPS),)


def test_reps_do_not_rise_for_ever() -> None:
    long = replace(BASE, reps=10 + MAX_EXTRA_REPS)
    assert rise(situation(settled=long, capabilities=coarse(25.0))) is None


@pytest.mark.parametrize(
    ("days", "new_N"), [(13.9, None), (14.0, 360.0), (27.9, 360.0), (28.0, 320.0), (56.0, 320.0), (90.0, 320.0)]
)
def test_days_away_lower_the_load(days: float, new_N: float | None) -> None:
    match = return_after_gap(situation(trained_ms=NOW_MS - round(days * DAY_MS)), DEFAULT)
    assert (None if match is None else match.changes) == (None if new_N is None else lowered(400.0, new_N))


def test_a_clinicians_edit_after_the_absence_stands() -> None:
    edited = replace(PLAN, edited_ms=NOW_MS - DAY_MS)
    assert return_after_gap(situation(plan=edited, trained_ms=NOW_MS - 30 * DAY_MS), DEFAULT) is None


def test_a_session_that_ended_in_pain_takes_a_fifth_off_the_next_one() -> None:
    match = pain_resume(situation(pain_session="s7"), DEFAULT)
    assert match is not None
    assert match.changes == lowered(400.0, 320.0)
    assert ("s7", "ended_by", "pain_stop") in {(one.source, one.name, one.value) for one in match.evidence}


def test_a_cut_is_rounded_down_to_the_grid_and_ends_at_the_machines_minimum() -> None:
    off_grid = replace(BASE, load_N=407.0)  # 325.6 would be a fifth less
    match = pain_resume(situation(settled=off_grid, pain_session="s7"), DEFAULT)
    assert match is not None
    assert match.changes == lowered(407.0, 325.0)
    lightest = pain_resume(situation(settled=replace(BASE, load_N=20.0), pain_session="s7"), DEFAULT)
    assert lightest is not None
    assert lightest.changes == ()


@pytest.mark.parametrize(("load_N", "cut_pct", "new_N"), [(500.0, 7.0, 465.0), (350.0, 30.0, 245.0)])
def test_a_cut_that_ends_on_the_grid_takes_no_step_more(load_N: float, cut_pct: float, new_N: float) -> None:
    # in binary 500 (1 - 0.07) is a last bit less than 465
    hurt = situation(settled=replace(BASE, load_N=load_N), pain_session="s7")
    match = pain_resume(hurt, Policy(pain_resume_cut_pct=cut_pct))
    assert match is not None
    assert match.changes == lowered(load_N, new_N)


def test_a_cut_that_was_prescribed_is_not_prescribed_on_top_of_itself() -> None:
    again = pain_resume(situation(pain_session="s7", proposed=replace(BASE, load_N=320.0)), DEFAULT)
    assert again is not None
    assert again.changes == ()


def pains(*told: tuple[float, int], morning: bool = True, before: int | None = 2) -> Diary:
    """Write a diary with a session 3 days ago and these pains, each so many days ago."""
    book = diary.with_visit(Diary(), before, NOW_MS - 3 * DAY_MS)
    for days, pain in told:
        book = diary.with_pain(book, pain, NOW_MS - round(days * DAY_MS), is_morning=morning)
    return book


def shown(match: Match | None) -> dict[str, Any]:
    assert match is not None
    return {one.name: one.value for one in match.evidence}


def eased(match: Match | None) -> dict[str, float]:
    assert match is not None
    return {one.quantity: one.new for one in match.changes}


def test_more_pain_on_the_morning_after_takes_a_tenth_and_a_set_off() -> None:
    match = pain_next_morning(situation(pain=pains((2.5, 3))), DEFAULT)
    assert eased(match) == {"load_N": 360.0, "sets": 1.0}
    assert (shown(match)["pain_next_morning"], shown(match)["pain_before_session"]) == (3, 2)


@pytest.mark.parametrize(
    "pain",
    [pains((2.5, 2)), pains((1.4, 3)), pains((2.5, 3), before=None), pains((2.5, 3), morning=False), pains((3.1, 5))],
    ids=["as before", "two mornings later", "nobody asked before", "in the evening", "before the session"],
)
def test_a_morning_that_is_no_worse_changes_nothing(pain: Diary) -> None:
    assert pain_next_morning(situation(pain=pain), DEFAULT) is None


def test_a_clinic_may_let_the_morning_be_worse_by_one() -> None:
    patient = Policy(morning_rise=2)
    assert pain_next_morning(situation(pain=pains((2.5, 3))), patient) is None
    assert pain_next_morning(situation(pain=pains((2.5, 4))), patient) is not None


def test_of_two_reports_of_one_morning_the_worse_counts_whichever_came_first() -> None:
    for told in ([(2.5, 5), (2.4, 0)], [(2.5, 0), (2.4, 5)]):
        assert shown(pain_next_morning(situation(pain=pains(*told)), DEFAULT))["pain_next_morning"] == 5


def test_of_two_sessions_before_a_morning_the_one_with_less_pain_counts() -> None:
    book = diary.with_visit(pains(before=4), 1, NOW_MS - 3 * DAY_MS + 3_600_000)
    book = diary.with_pain(book, 3, NOW_MS - 2 * DAY_MS, is_morning=True)
    assert shown(pain_next_morning(situation(pain=book), DEFAULT))["pain_before_session"] == 1


def test_where_nobody_asked_before_the_session_the_diary_stands_for_it() -> None:
    book = diary.with_pain(Diary(), 1, NOW_MS - 4 * DAY_MS, is_morning=False)
    book = diary.with_visit(book, None, NOW_MS - 3 * DAY_MS)
    book = diary.with_pain(book, 2, NOW_MS - 2 * DAY_MS, is_morning=True)
    assert shown(pain_next_morning(situation(pain=book), DEFAULT))["pain_before_session"] == 1


def test_a_morning_that_a_session_or_a_clinician_has_answered_asks_for_nothing_more() -> None:
    asked_ms = NOW_MS - 2 * DAY_MS
    assert pain_next_morning(situation(pain=pains((2.5, 5)), eased_ms=asked_ms), DEFAULT) is None
    assert pain_next_morning(situation(pain=pains((2.5, 5)), plan=replace(PLAN, edited_ms=asked_ms)), DEFAULT) is None
    assert pain_next_morning(situation(pain=pains((1.9, 5)), eased_ms=asked_ms), DEFAULT) is not None


def test_one_set_stays() -> None:
    match = pain_next_morning(situation(pain=pains((2.5, 3)), settled=replace(BASE, sets=1)), DEFAULT)
    assert eased(match) == {"load_N": 360.0}


def week_by_week(before: list[int], now: list[int]) -> Diary:
    """Write a pain a day: so many of the 7 days before the last 7, then so many of the last 7."""
    told = [(7 + n, pain) for n, pain in enumerate(before)] + list(enumerate(now))
    return pains(*((float(days), pain) for days, pain in told), morning=False)


@pytest.mark.parametrize(
    ("before", "now", "holds"),
    [
        ([2] * 7, [3] * 7, True),
        ([2] * 7, [3] * 6 + [2], False),
        ([2, 2, 2], [3, 3, 3], True),
        ([2, 2], [9, 9, 9], False),
        ([2, 2, 2], [9, 9], False),
        ([3] * 7, [2] * 7, False),
    ],
    ids=["by one", "by less", "three days each", "a week of two days", "two days of this week", "better"],
)
def test_a_week_that_hurts_more_than_the_one_before_takes_the_same_off(
    before: list[int], now: list[int], *, holds: bool
) -> None:
    match = pain_next_morning(situation(pain=week_by_week(before, now)), DEFAULT)
    assert (match is not None) == holds
    if holds:
        assert eased(match) == {"load_N": 360.0, "sets": 1.0}
        assert (shown(match)["pain_mean_7_days"], shown(match)["pain_mean_7_days_before"]) == (3.0, 2.0)


def test_a_worse_week_is_answered_once_in_7_days() -> None:
    pain = week_by_week([2] * 7, [3] * 7)
    assert pain_next_morning(situation(pain=pain, eased_ms=NOW_MS - 6 * DAY_MS), DEFAULT) is None
    assert pain_next_morning(situation(pain=pain, eased_ms=NOW_MS - 7 * DAY_MS), DEFAULT) is not None


@pytest.mark.parametrize(
    ("now", "edited_days", "holds"),
    [
        ([4] * 6 + [2], 5.5, True),
        ([4] * 6 + [2], 2.5, True),
        ([4] * 6 + [2], 1.5, False),
        ([2] * 3 + [6] * 4, 2.5, False),
        ([3] * 3 + [0] * 4, 2.5, False),
    ],
    ids=["since the edit", "on three days since", "on two days since", "before the edit only", "but not the week"],
)
def test_after_a_clinicians_edit_a_week_is_worse_by_what_was_told_since(
    now: list[int], edited_days: float, *, holds: bool
) -> None:
    plan = replace(PLAN, edited_ms=NOW_MS - round(edited_days * DAY_MS))
    match = pain_next_morning(situation(pain=week_by_week([2] * 7, now), plan=plan), DEFAULT)
    assert (match is not None) == holds


TIMED = replace(BASE, tul_s=90.0)


def more(of: PlanSituation, policy: Policy = DEFAULT) -> tuple[Change, ...] | None:
    match = progress_reps_first(of, policy)
    return None if match is None else match.changes


@pytest.mark.parametrize(
    "of", [situation(sessions=2), situation(plan=replace(PLAN, guarded=True))], ids=["learning", "guarded"]
)
def test_who_learns_or_is_guarded_gets_a_rep_more_and_no_load(of: PlanSituation) -> None:
    assert rise(of) is None
    assert more(of) == (Change(quantity="reps", old=10.0, new=11.0, bound=15.0),)


def test_who_neither_learns_nor_is_guarded_gets_load_instead() -> None:
    assert more(situation()) is None


def test_the_evidence_of_a_rep_says_why_it_is_no_load() -> None:
    guarded = shown(progress_reps_first(situation(plan=replace(PLAN, guarded=True)), DEFAULT))
    assert (guarded["guarded"], guarded["learning"], guarded["pain_max"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("news", [{"pain_max": 3}, {"fired": 1}, {"last_set_reps": 10}, {"rpe_max": None}])
def test_reps_are_earned_as_load_is(news: dict[str, Any]) -> None:
    assert more(situation(sessions=2, past=(READY.past[0], replace(GOOD, **news)))) is None


@pytest.mark.parametrize(
    "fields", [{"past": READY.past[:1]}, {"goal": (0.0, 1.0)}, {"trained_ms": NOW_MS - 14 * DAY_MS}]
)
def test_reps_wait_for_two_sessions_a_settled_range_and_a_recent_visit(fields: dict[str, Any]) -> None:
    assert more(situation(**({"sessions": 2} | fields))) is None


@pytest.mark.parametrize(
    ("reps_max", "reps", "new"), [(12, 11, 12.0), (12, 12, None), (None, 14, 15.0), (None, 15, None)]
)
def test_reps_end_at_the_clinicians_maximum_or_5_above_the_target(
    reps_max: int | None, reps: int, new: float | None
) -> None:
    of = situation(sessions=2, plan=replace(PLAN, reps_max=reps_max), settled=replace(BASE, reps=reps))
    assert [one.new for one in more(of) or ()] == ([] if new is None else [new])


@pytest.mark.parametrize(
    ("tul_max_s", "tul_s", "new_s"),
    [(None, 90.0, 100.0), (105.0, 100.0, 105.0), (105.0, 105.0, None), (None, 140.0, None), (300.0, 175.0, 180.0)],
    ids=["ten seconds", "up to the maximum", "at the maximum", "five steps above the target", "never above 180 s"],
)
def test_where_sets_are_timed_ten_seconds_stand_for_a_rep(
    tul_max_s: float | None, tul_s: float, new_s: float | None
) -> None:
    plan = replace(PLAN, base=TIMED, tul_max_s=tul_max_s)
    changes = more(situation(sessions=2, plan=plan, settled=replace(TIMED, tul_s=tul_s))) or ()
    assert [(one.quantity, one.new) for one in changes] == ([] if new_s is None else [("tul_s", new_s)])


def course_of(*trend_pct: float) -> Course:
    """Return a course of sessions every 3.5 days, the last one 2 days ago."""
    last_ms, n = NOW_MS - 2 * DAY_MS, len(trend_pct)
    marks = tuple(Mark(last_ms - round((n - 1 - k) * 3.5 * DAY_MS), pct) for k, pct in enumerate(trend_pct))
    return Course(sessions=n + 1, baseline=400.0, marks=marks)


STILL = (100.0, 101.0, 102.0, 101.0, 101.0, 102.0, 101.0)
TIMES = tuple(mark.at_ms for mark in course_of(*STILL).marks)


def review(trend_pct: tuple[float, ...] = STILL, per_week: float | None = 2.0, **fields: Any) -> Match | None:
    plan = replace(PLAN, per_week=per_week, times=fields.pop("times", TIMES))
    return plateau_review(situation(plan=plan, course=course_of(*trend_pct), **fields), DEFAULT)


def test_strength_that_stands_still_over_6_sessions_is_shown_to_the_clinician() -> None:
    match = review()
    assert match is not None
    assert (match.action, match.changes) == (None, ())
    assert (shown(match)["strength_trend_before_pct"], shown(match)["strength_trend_pct"]) == (100.0, 101.0)
    assert shown(match)["strength_mdc95_pct"] == pytest.approx(16.631151)
    assert shown(match)["attendance"] == 1.0


@pytest.mark.parametrize(("last_pct", "holds"), [(116.63, True), (116.632, False), (83.37, True), (83.36, False)])
def test_a_change_beyond_the_mdc_up_or_down_is_no_plateau(last_pct: float, *, holds: bool) -> None:
    assert (review((*STILL[:-1], last_pct)) is not None) == holds


def test_six_sessions_need_seven_marks() -> None:
    assert review(STILL[1:]) is None


@pytest.mark.parametrize(("per_week", "holds"), [(2.5, True), (2.6, False), (None, False)])
def test_who_did_not_come_as_agreed_is_not_on_a_plateau(per_week: float | None, *, holds: bool) -> None:
    #  6 sessions in 3 weeks: 80 % of 2.5 a week
    assert (review(per_week=per_week) is not None) == holds


def test_who_learns_is_not_on_a_plateau() -> None:
    assert review(sessions=2) is None


def test_no_detectable_change_is_said_in_so_many_words() -> None:
    still = replace(course_of(*STILL), trend=replace(Course().trend, x=101.0, p=10.0, n=7))
    told = {one.name: one.value for one in strength_told(situation(course=still), DEFAULT)}
    assert told == {"strength_trend_pct": 101.0, "strength_change_pct": "no_detectable_change"}
    better = replace(course_of(*STILL, 120.0), trend=replace(Course().trend, x=120.0, p=10.0, n=8))
    told = {one.name: one.value for one in strength_told(situation(course=better), DEFAULT)}
    assert told["strength_change_pct"] == 20.0


@pytest.mark.parametrize(
    ("goal_N", "clean", "holds"), [(400.0, 2, True), (400.1, 2, False), (400.0, 1, False), (None, 9, False)]
)
def test_a_goal_that_is_reached_with_clean_sessions_is_kept_up(
    goal_N: float | None, clean: int, *, holds: bool
) -> None:
    match = maintenance(situation(plan=replace(PLAN, goal_load_N=goal_N), clean=clean), DEFAULT)
    assert (match is not None) == holds
    if match is not None:
        assert match.changes == ()
        assert (shown(match)["goal_load_N"], shown(match)["due_days"], shown(match)["due_days_at_most"]) == (
            400.0,
            14,
            28,
        )


@pytest.mark.parametrize(("days", "new_N"), [(14, None), (28, None), (28.1, 320.0), (60, 320.0)])
def test_who_keeps_up_a_goal_may_stay_away_for_4_weeks(days: float, new_N: float | None) -> None:
    away = situation(plan=replace(PLAN, goal_load_N=400.0), trained_ms=NOW_MS - round(days * DAY_MS))
    match = return_after_gap(away, DEFAULT)
    assert (None if match is None else match.changes) == (None if new_N is None else lowered(400.0, new_N))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gap_days = [28, 14, 56]", "gap_days must rise"),
        ("gap_cut_pct = [20.0, 10.0]", "gap_cut_pct must not fall"),
        ("maintenance_weeks = [4, 2]", "maintenance_weeks must rise"),
        ("maintenance_weeks = [0, 2]", "maintenance_weeks"),
        ("maintenance_weeks = [2, 9]", "maintenance_weeks"),  # 63 days
        ("gap_days = [14, 28, 57]", "gap_days"),  # S18: nothing rises after more than 56
        ("si_pct = 9.9", "si_pct"),
        ("si_sessions = 2", "si_sessions"),
        ("ef_sessions = 7", "ef_sessions"),
        ("plateau_sessions = 13", "plateau_sessions"),
        ("attendance_min = 1.1", "attendance_min"),
        ("morning_rise = 0", "morning_rise"),
        ("tul_cap_s = 181", "tul_cap_s"),
    ],
)
def test_a_policy_out_of_its_bounds_or_with_bounds_out_of_order_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(Malformed) as wrong:
        policy.read(text.encode())
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_every_parameter_that_a_rule_names_is_in_the_policy() -> None:
    named = {name for row in PLAN_RULES for name in row.parameters}
    assert named <= set(Policy.__struct_fields__)


def test_rules_are_asked_in_order_of_priority_but_for_17_and_18_which_come_before_what_raises() -> None:
    assert [row.priority for row in PLAN_RULES] == [1, 3, 17, 18, 12, 13, 14, 15, 16]


def test_every_rule_of_the_table_that_is_asked_at_plan_time_is_there_once() -> None:
    assert {row.id for row in PLAN_RULES} == {
        "pain_stop",
        "pain_next_morning",
        "side_balance",
        "front_back_balance",
        "progress_load",
        "progress_reps_first",
        "plateau_review",
        "return_after_gap",
        "maintenance",
    }
