"""The plan rules, one by one: pain before, a gap before, two good sessions before."""

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.commands import Change
from streams.core.patient_state import DAY_MS, PastSession, Plan, Series
from streams.core.plan_rules import (
    MAX_EXTRA_REPS,
    PLAN_RULES,
    PlanSituation,
    pain_resume,
    progress_load,
    return_after_gap,
    unmet,
)
from streams.core.policy import DEFAULT, Policy
from streams.core.results import PlanRequested
from streams.core.telemetry import Capabilities
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
    series: Series = READY, plan: Plan = PLAN, capabilities: Capabilities | None = LUMBAR, **fields: Any
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
    return PlanSituation(request=request, plan=plan, series=replace(series, **fields), now_ms=NOW_MS)


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
    assert unmet(past[which], "paced", DEFAULT) == (missing,)
    assert rise(situation(past=tuple(past))) is None


def test_two_minutes_under_load_stand_for_a_rep_over_the_target() -> None:
    long = replace(GOOD, last_set_reps=10, tul_last_set_s=120.5)
    assert rise(situation(past=(long, long))) is not None


def test_conditions_hold_at_their_limits() -> None:
    edge = replace(GOOD, rom_completeness_min_pct=90.0, tempo_error_median_pct=15.0, pain_max=2, rpe_max=7)
    assert unmet(edge, "paced", DEFAULT) == ()


def test_as_fast_as_possible_needs_no_tempo_but_a_velocity_loss_below_its_limit() -> None:
    assert unmet(FAST, "max", DEFAULT) == ()
    assert unmet(replace(FAST, velocity_loss_max_pct=20.0), "max", DEFAULT) == ("velocity_loss_max_pct",)
    assert unmet(replace(FAST, velocity_loss_max_pct=None), "max", DEFAULT) == ("velocity_loss_max_pct",)


def test_velocity_loss_plays_no_part_when_paced_or_when_the_intent_is_unknown() -> None:
    lost = replace(GOOD, velocity_loss_max_pct=60.0)
    assert unmet(lost, "paced", DEFAULT) == unmet(lost, "unknown", DEFAULT) == ()
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


def test_a_cut_that_was_prescribed_is_not_prescribed_on_top_of_itself() -> None:
    again = pain_resume(situation(pain_session="s7", proposed=replace(BASE, load_N=320.0)), DEFAULT)
    assert again is not None
    assert again.changes == ()


def test_every_parameter_that_a_rule_names_is_in_the_policy() -> None:
    named = {name for row in PLAN_RULES for name in row.parameters}
    assert named <= set(Policy.__struct_fields__)


def test_the_return_is_asked_about_before_progress() -> None:
    assert [row.id for row in PLAN_RULES] == ["pain_stop", "return_after_gap", "progress_load"]
