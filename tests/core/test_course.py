"""The course of strength: a baseline that is no first try, a trend in percent of it, and what begins it anew."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import course, strength
from streams.core.baseline import Baseline
from streams.core.course import MAX_MARKS, Course
from streams.core.patient_state import Series
from streams.core.plans import PlanMade
from streams.core.policy import DEFAULT
from streams.core.strength import Changed, NoDetectableChange
from tests.core.patients import BASE, GOOD, Patient, a_patient

WEAK: dict[str, Any] = {"pain_max": 3}


def run(*values: float) -> Course:
    followed = Course()
    for value in values:
        followed = course.followed(followed, value, 0, 6.0, DEFAULT)
    return followed


def trained(*forces: float, patient: Patient | None = None, **fields: Any) -> Patient:
    patient = patient or a_patient()
    for force in forces:
        patient.comes(2, **({"values": GOOD | {"best_peak_force": force}} | fields))
    return patient


def series_of(patient: Patient) -> Series:
    return patient.state.plans[-1].series[-1]


def course_of(patient: Patient) -> Course:
    followed = series_of(patient).course
    assert followed is not None
    return followed


def test_the_second_session_is_the_baseline_and_the_first_does_not_count() -> None:
    assert run(300.0).trend_pct is None
    assert (run(300.0, 400.0).baseline, run(300.0, 400.0).trend_pct) == (400.0, 100.0)


def test_the_trend_is_the_filter_of_the_values_in_percent_of_the_baseline() -> None:
    #  science.md 3.16: 100, 104, 103 with TE 6 and drift 1.5 give 102.060606 and 102.404562
    assert run(300.0, 400.0, 416.0, 412.0).trend_pct == pytest.approx(102.404562)


def test_a_weak_session_of_a_patient_who_learns_does_not_lower_the_trend() -> None:
    assert run(300.0, 400.0, 300.0).trend_pct == 100.0
    learnt = run(300.0, 400.0, 300.0, 300.0).trend_pct
    assert learnt is not None
    assert learnt < 100.0


def test_below_the_mdc_nothing_has_changed() -> None:
    still, better = run(1.0, 100.0, 104.0, 103.0), run(1.0, 100.0, *([130.0] * 12))
    unchanged = course.change(still, 6.0)
    assert isinstance(unchanged, NoDetectableChange)
    assert unchanged.mdc == pytest.approx(16.631151)
    assert isinstance(course.change(better, 6.0), Changed)
    assert course.change(run(1.0, 100.0), 6.0) is None


@pytest.mark.parametrize("unaccepted", [WEAK, {"incomplete": True}, {"rules_fired": {"emergency_stop": 1}}])
def test_a_session_that_is_not_accepted_teaches_nothing(unaccepted: dict[str, Any]) -> None:
    patient = trained(380.0, 400.0, 410.0)
    before = (series_of(patient).course, series_of(patient).baseline)
    trained(900.0, patient=patient, baseline=Baseline(load_N=400.0), **unaccepted)
    assert (series_of(patient).course, series_of(patient).baseline) == before


def test_a_session_of_unknown_pain_is_accepted_but_earns_nothing() -> None:
    patient = trained(380.0, 400.0, pain_max=None)
    assert course_of(patient).sessions == 2
    assert series_of(patient).clean == 0


@pytest.mark.parametrize(("window_hi", "sessions"), [(0.94, 3), (0.86, 3), (0.941, 1), (0.859, 1)])
def test_a_window_that_moved_by_more_than_5_percent_begins_anew(window_hi: float, sessions: int) -> None:
    patient = trained(380.0, 400.0)
    trained(410.0, patient=patient, prescription=replace(BASE, window_hi=window_hi))
    assert course_of(patient).sessions == sessions


def test_a_window_that_creeps_is_compared_with_that_of_the_first_session() -> None:
    patient = a_patient()
    for n in range(6):
        trained(400.0, patient=patient, prescription=replace(BASE, window_hi=round(0.9 - 0.01 * n, 3)))
    assert course_of(patient).sessions == 1


def test_what_is_corrected_for_gravity_is_not_compared_with_what_is_not() -> None:
    patient = trained(380.0, 400.0, corrected=True)
    trained(410.0, patient=patient, corrected=False)
    assert (course_of(patient).corrected, course_of(patient).sessions) == (False, 1)


def test_a_session_without_an_accepted_rep_says_nothing_of_its_force_and_begins_no_new_course() -> None:
    own = Baseline(load_N=400.0, peak_force=410.0, corrected=True)
    patient = trained(380.0, 400.0, corrected=True, baseline=own)
    before = (series_of(patient).course, series_of(patient).baseline)
    patient.comes(2, corrected=None)
    assert (series_of(patient).course, series_of(patient).baseline) == before


def test_another_seat_has_its_own_course() -> None:
    patient = trained(380.0, 400.0)
    patient.train(settings="seat-5", values=GOOD | {"best_peak_force": 500.0})
    assert course_of(patient).sessions == 1


def test_after_eight_weeks_there_is_a_new_baseline() -> None:
    patient = trained(380.0, 400.0, 410.0)
    patient.day += 55
    trained(300.0, patient=patient)
    assert course_of(patient).sessions == 1


def test_the_baseline_is_merged_over_sessions_and_handed_out_with_the_plan() -> None:
    patient = a_patient()
    for range_m in (0.70, 0.74):
        patient.comes(2, baseline=Baseline(load_N=400.0, ranges=(range_m,), peak_force=410.0))
    (made,) = [one for one in patient.ask() if isinstance(one, PlanMade)]
    assert made.baseline is not None
    assert made.baseline.ranges == (0.70, 0.74)
    assert made.baseline.range_of_motion == pytest.approx(0.72)


def test_a_baseline_of_another_window_is_not_merged() -> None:
    patient = a_patient()
    patient.comes(2, baseline=Baseline(load_N=400.0, ranges=(0.7,)))
    patient.comes(2, baseline=Baseline(load_N=400.0, ranges=(0.5,)), prescription=replace(BASE, window_hi=0.6))
    assert series_of(patient).baseline == Baseline(load_N=400.0, ranges=(0.5,))


@given(values=st.lists(st.floats(0.0, 50_000.0), max_size=60))
def test_the_trend_is_that_of_all_values_at_once_and_its_memory_is_bounded(values: list[float]) -> None:
    followed = run(*values)
    assert len(followed.marks) <= MAX_MARKS
    known = [value for value in values if value > 0.0][1:]
    if not known:
        assert followed.trend_pct is None
        return
    seen = [100.0 * value / known[0] for value in known]
    if len(seen) > 1 and seen[1] < seen[0]:
        del seen[1]  # still learning
    estimate = strength.trend_estimate(seen, 6.0, 1.5)
    assert followed.trend_pct == pytest.approx(estimate, rel=1e-6, abs=1e-5)
