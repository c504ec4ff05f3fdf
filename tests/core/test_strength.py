"""Strength: the check values of science.md 3.15-3.17 and 2.5, the slow science, laws, and reasons."""

import math
import random
from typing import Literal

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.core import strength
from streams.core.strength import Changed, NoDetectableChange, Prior, Profile, Trend
from streams.core.undefined import why
from tests.core import slow_science

FORMS: tuple[Literal["hyperbola_from_zero", "hyperbola_from_one", "line"], ...] = (
    "hyperbola_from_zero",
    "hyperbola_from_one",
    "line",
)
LOADS, SPEEDS = [20.0, 40.0, 60.0], [1.0, 0.7, 0.4]
RETEST = [(100.0, 104.0), (80.0, 78.0), (60.0, 63.0)]

loads = st.integers(1, 40).map(lambda n: 5.0 * n)
trials = st.dictionaries(loads, st.floats(-0.1, 0.1), min_size=3, max_size=12)
own_trials = st.dictionaries(loads, st.floats(0.1, 1.5), min_size=1, max_size=8)
tested_often = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.lists(st.floats(1.0, 500.0), min_size=k, max_size=k), min_size=2, max_size=8)
)
tested_twice = st.lists(st.tuples(st.floats(1.0, 500.0), st.floats(1.0, 500.0)), min_size=2, max_size=8)
sessions = st.lists(st.floats(50.0, 200.0).map(lambda x: round(x, 6)), min_size=1, max_size=12)


def profile_of(loads: list[float], velocities: list[float]) -> Profile:
    profile = strength.load_velocity_profile(loads, velocities)
    assert profile is not None
    return profile


def test_a_profile_has_the_check_values_of_the_text() -> None:
    profile = profile_of(LOADS, SPEEDS)
    assert (f"{profile.a:.6f}", f"{profile.b:.6f}", f"{profile.r2:.6f}") == ("1.300000", "-0.015000", "1.000000")
    assert f"{profile.load_at_zero_velocity:.6f}" == "86.666667"
    assert f"{strength.e1rm(profile, mvt=0.2, heaviest_load=60.0):.6f}" == "73.333333"
    assert f"{strength.bench_press_1rm(70.0):.3f}" == "60.346"


@given(trials)
def test_a_profile_agrees_with_the_slow_science(noise: dict[float, float]) -> None:
    loads, velocities = list(noise), [1.5 - 0.006 * load + off for load, off in noise.items()]
    a, b, r2 = slow_science.line(loads, velocities)
    profile = strength.load_velocity_profile(loads, velocities)
    if profile is None:
        assert b >= -1e-9 or r2 < 0.90 + 1e-6
    else:
        found = (profile.a, profile.b, profile.r2, profile.load_at_zero_velocity)
        assert found == pytest.approx((a, b, r2, -a / b), rel=1e-9, abs=1e-9)


@given(trials, st.randoms(use_true_random=False))
def test_neither_order_nor_slower_trials_change_a_profile(noise: dict[float, float], dice: random.Random) -> None:
    fastest = [(load, 1.5 - 0.006 * load + 0.1 * off) for load, off in noise.items()]
    tried = [*fastest, *((load, v - 0.05) for load, v in fastest)]
    dice.shuffle(tried)
    one = strength.load_velocity_profile([load for load, _ in fastest], [v for _, v in fastest])
    other = strength.load_velocity_profile([load for load, _ in tried], [v for _, v in tried])
    assume(one is not None and other is not None)
    assert one is not None
    assert other is not None
    assert msgspec.structs.astuple(other) == pytest.approx(msgspec.structs.astuple(one), rel=1e-9)


def test_a_profile_needs_three_loads_that_slow_the_patient_down_on_a_line() -> None:
    profile = strength.load_velocity_profile
    assert why(profile, [20, 40, 40], [1.0, 0.7, 0.6]) == "fit_rejected"  # two loads
    assert why(profile, [20, 40, 60], [0.4, 0.7, 1.0]) == "fit_rejected"  # faster with more load
    assert why(profile, [20, 40, 60], [0.5, 0.5, 0.5]) == "fit_rejected"
    assert why(profile, [20, 40, 60, 80], [1.0, 0.4, 0.9, 0.3]) == "fit_rejected"  # no line
    assert why(profile, LOADS, [0.6, 0.4, 0.2], min_span=strength.BENCH_SPAN_MPS) == "fit_rejected"
    assert profile(LOADS, [0.6, 0.4, 0.2]) is not None  # other machines are slower
    assert profile(LOADS, [0.7, 0.45, 0.2], min_span=strength.BENCH_SPAN_MPS) is not None
    assert why(profile, LOADS, [1.0, 0.7]) == "invalid_input"
    assert why(profile, LOADS, [1.0, None, 0.4]) == "invalid_input"
    assert why(profile, LOADS, [1.0, math.inf, 0.4]) == "invalid_input"


def test_a_profile_is_rejected_just_below_an_r2_of_ninety_percent() -> None:
    def of(wobble: float) -> Profile | None:
        return strength.load_velocity_profile([1, 2, 3, 4], [4.0 + wobble, 3.0 - wobble, 2.0 - wobble, 1.0 + wobble])

    # the wobble is orthogonal to the line: SS_res = 4·w², SS_tot = 5 + 4·w², R² = 0.90 at w² = 5/36
    just = math.sqrt(5.0 / 36.0)
    assert of(just - 1e-5) is not None
    assert of(just + 1e-5) is None


def test_a_maximum_needs_a_velocity_at_it_and_stays_near_the_loads_used() -> None:
    profile = profile_of(LOADS, SPEEDS)
    assert why(strength.e1rm, profile, None, 60.0) == "not_calibrated"
    assert why(strength.e1rm, None, 0.2, 60.0) == "fit_rejected"
    assert why(strength.e1rm, profile, 0.2, 48.8) == "fit_rejected"  # 73.33 is more than 1.5·48.8 = 73.2
    assert why(strength.e1rm, profile, 0.2, 48.9) is None
    assert why(strength.e1rm, profile, 1.3, 60.0) == "fit_rejected"  # no load at all
    assert why(strength.e1rm, profile, math.nan, 60.0) == "invalid_input"
    assert why(strength.e1rm, profile, 0.2, None) == "invalid_input"
    assert why(strength.bench_press_1rm, None) == "invalid_input"


PRIOR = Prior(a=1.2, b=-0.012, a_variance=0.04, b_variance=4e-6, covariance=-1e-4)


@given(own_trials, st.floats(0.01, 0.5))
def test_a_shrunk_profile_agrees_with_the_slow_science(own: dict[float, float], sd: float) -> None:
    loads, velocities = list(own), list(own.values())
    a, b = slow_science.shrunk_line(loads, velocities, sd, (1.2, -0.012), (0.04, 4e-6, -1e-4))
    profile = strength.shrunk_profile(loads, velocities, sd, PRIOR)
    if b >= 0.0:
        assert profile is None
    else:
        assert profile is not None
        assert (profile.a, profile.b) == pytest.approx((a, b), abs=1e-9)


def test_the_population_fades_as_own_loads_accumulate_or_get_more_exact() -> None:
    own = profile_of(LOADS, SPEEDS)

    def distance(times: int, sd: float) -> float:
        # a load that is tried again counts once, so more loads means other loads
        loads = [20.0 + 40.0 * n / (2 * times) for n in range(2 * times + 1)]
        shrunk = strength.shrunk_profile(loads, [1.3 - 0.015 * load for load in loads], sd, PRIOR)
        assert shrunk is not None
        return abs(shrunk.load_at_zero_velocity - own.load_at_zero_velocity)

    assert distance(1, 0.1) > distance(4, 0.1) > distance(16, 0.1) > distance(64, 0.1)
    assert distance(1, 1e-6) < 1e-6
    far = strength.shrunk_profile(LOADS, SPEEDS, 1e6, PRIOR)
    assert far is not None
    assert (far.a, far.b) == pytest.approx((PRIOR.a, PRIOR.b), abs=1e-9)
    assert own.r2 == 1.0


def test_a_population_is_ten_patients_with_means_and_covariance() -> None:
    profiles = [Profile(1.0 + 0.02 * n, -0.010 - 0.0004 * n, 0.99, 90.0) for n in range(10)]
    prior = strength.population_prior(profiles)
    assert prior is not None
    # of 0..9: mean 4.5, sum of squares about it 82.5
    assert (prior.a, prior.b) == pytest.approx((1.09, -0.0118), abs=1e-12)
    assert prior.a_variance == pytest.approx(0.02**2 * 82.5 / 9.0, rel=1e-9)
    assert prior.b_variance == pytest.approx(0.0004**2 * 82.5 / 9.0, rel=1e-9)
    assert prior.covariance == pytest.approx(-0.02 * 0.0004 * 82.5 / 9.0, rel=1e-9)
    assert why(strength.population_prior, profiles[1:]) == "no_reference"


def test_nothing_is_shrunk_without_own_trials_or_towards_what_is_no_population() -> None:
    shrunk = strength.shrunk_profile
    assert why(shrunk, LOADS, SPEEDS, 0.05, None) == "no_reference"
    assert why(shrunk, [], [], 0.05, PRIOR) == "no_reference"
    assert why(shrunk, LOADS, SPEEDS, 0.0, PRIOR) == "invalid_input"
    assert why(shrunk, LOADS, SPEEDS, None, PRIOR) == "invalid_input"
    assert why(shrunk, LOADS, SPEEDS, 0.05, Prior(1.2, -0.012, 0.04, 4e-6, 4e-4)) == "invalid_input"
    assert why(shrunk, LOADS, [0.4, 0.7, 1.0], 0.001, PRIOR) == "fit_rejected"
    alone = shrunk([40.0], [0.7], 0.05, PRIOR)
    assert alone is not None
    assert alone.r2 is None


def test_repetitions_near_failure_have_the_check_values_of_the_text() -> None:
    assert f"{strength.epley(50, 10):.6f}" == f"{strength.brzycki(50, 10):.6f}" == "66.666667"
    assert f"{strength.epley(80, 5):.6f}" == "93.333333"
    assert strength.brzycki(80, 5) == 90.0
    assert strength.epley(73, 1) == strength.brzycki(73, 1) == 73.0
    forms = [strength.fraction_of_1rm(10, form) for form in FORMS]
    assert [f"{form:.6f}" for form in forms] == ["0.750188", "0.758898", "0.727273"]
    assert f"{strength.fraction_of_1rm(1):.6f}" == "0.967773"  # 1/1.0333 = 0.9677731..
    assert strength.fraction_of_1rm(1, "hyperbola_from_one") == strength.fraction_of_1rm(1, "line") == 1.0


def test_more_than_ten_repetitions_tell_nothing_about_one() -> None:
    # the bare formulas would say 56 and 57.6
    assert strength.epley(40, 12) is None
    assert strength.brzycki(40, 12) is None
    for estimate in (strength.epley, strength.brzycki):
        assert why(estimate, 40, 12) == why(estimate, 40, 11) == "reps_over_10"
        assert why(estimate, 40, 0) == why(estimate, None, 5) == why(estimate, 40, math.nan) == "invalid_input"
    assert why(strength.fraction_of_1rm, 11) == "reps_over_10"
    assert why(strength.fraction_of_1rm, 0, "line") == "invalid_input"


@given(st.floats(1.0, 500.0), st.integers(1, 9))
def test_one_more_repetition_with_the_same_load_means_a_higher_maximum(load: float, reps: int) -> None:
    for estimate in (strength.epley, strength.brzycki):
        assert (estimate(load, reps) or math.inf) < (estimate(load, reps + 1) or 0.0)
    for form in FORMS:
        one, more = (strength.fraction_of_1rm(n, form) for n in (reps, reps + 1))
        assert (one or 0.0) > (more or math.inf)


def test_the_weighted_mean_has_the_check_values_of_the_text() -> None:
    smooth = strength.ewma([100.0, 104.0, 103.0])
    assert [f"{x:.6f}" for x in smooth] == ["100.000000", "101.142857", "101.673469"]
    assert strength.ewma([]) == []
    assert strength.ewma([100.0, None, math.nan, 104.0, 103.0]) == smooth


def test_the_trend_has_the_check_values_of_the_text() -> None:
    first = Trend.started(100.0, typical_error_pct=6.0)
    second = first.updated(104.0, typical_error_pct=6.0, drift_pct=1.5)
    third = second.updated(103.0, typical_error_pct=6.0, drift_pct=1.5)
    assert first == Trend(100.0, 36.0, 1)
    assert (f"{second.x:.6f}", f"{second.p:.6f}") == ("102.060606", "18.545455")
    assert (f"{third.x:.6f}", f"{third.p:.6f}", third.n) == ("102.404562", "13.181273", 3)
    gains = [(after.x - before.x) / (z - before.x) for before, after, z in ((first, second, 104), (second, third, 103))]
    assert [f"{gain:.6f}" for gain in gains] == ["0.515152", "0.366146"]


def test_the_gain_of_a_long_trend_is_that_of_the_text() -> None:
    trend = Trend.started(100.0)
    for _ in range(200):
        trend = trend.updated(100.0)
    assert f"{trend.updated(101.0).x - 100.0:.6f}" == "0.220696"


@given(sessions, st.floats(2.0, 15.0).map(lambda x: round(x, 3)), st.floats(0.5, 5.0).map(lambda x: round(x, 3)))
def test_the_trend_and_the_weighted_mean_agree_with_the_slow_science(z: list[float], te: float, drift: float) -> None:
    trend = Trend()
    for one, (x, p) in zip(z, slow_science.kalman(z, te, drift), strict=True):
        trend = trend.updated(one, te, drift)
        assert (trend.x, trend.p) == pytest.approx((x, p), abs=1e-9)
    assert strength.trend_estimate(z, te, drift) == trend.x
    assert strength.ewma(z)[-1] == pytest.approx(slow_science.ewma(z, 6), abs=1e-9)


@given(sessions, st.floats(-40.0, 40.0))
def test_a_shift_of_all_sessions_shifts_the_trend_and_every_estimate_lies_among_them(
    z: list[float], shift: float
) -> None:
    estimate = strength.trend_estimate(z)
    assert estimate is not None
    assert min(z) - 1e-9 <= estimate <= max(z) + 1e-9
    assert strength.trend_estimate([one + shift for one in z]) == pytest.approx(estimate + shift, abs=1e-9)


@given(sessions, st.integers(0, 12))
def test_a_trend_that_was_stored_goes_on_where_it_was(z: list[float], cut: int) -> None:
    trend = Trend()
    for n, one in enumerate(z):
        if n == cut:
            trend = msgspec.msgpack.decode(msgspec.msgpack.encode(trend), type=Trend)
        trend = trend.updated(one)
    assert (strength.trend_estimate(z), len(z)) == (trend.x, trend.n)


def test_what_is_no_observation_changes_no_trend() -> None:
    trend = Trend.started(100.0)
    assert trend.updated(None) is trend.updated(math.nan) is trend.updated(math.inf) is trend
    assert Trend().updated(None) == Trend()
    assert strength.trend_estimate([None, 100.0, math.nan, 104.0]) == strength.trend_estimate([100.0, 104.0])
    assert why(strength.trend_estimate, [None]) == "no_reference"


def test_the_typical_error_has_the_check_values_of_the_text() -> None:
    relative = strength.relative_typical_error(RETEST)
    assert f"{strength.typical_error(RETEST):.6f}" == "2.273030"
    assert f"{relative:.6f}" == "2.811996"
    assert f"{strength.minimal_detectable_change(relative):.6f}" == "7.794456"
    assert f"{strength.minimal_detectable_change(1.0):.9f}" == "2.771858582"
    assert f"{strength.minimal_detectable_change(6.0):.6f}" == "16.631151"
    assert f"{strength.minimal_detectable_change(6.0, sessions=4):.6f}" == "8.315576"


@given(tested_often)
def test_the_typical_error_agrees_with_the_slow_science(tests: list[list[float]]) -> None:
    assert strength.typical_error(tests) == pytest.approx(slow_science.typical_error(tests), abs=1e-9)
    once_tested = [*tests, [250.0]]
    assert strength.typical_error(once_tested) == strength.typical_error(tests)
    assert strength.relative_typical_error(once_tested) == strength.relative_typical_error(tests)


@given(
    st.lists(st.tuples(st.floats(1.0, 500.0), st.floats(1.0, 500.0)), min_size=2, max_size=8), st.floats(-50.0, 50.0)
)
def test_learning_that_all_share_is_no_error_of_two_tests(tests: list[tuple[float, float]], learned: float) -> None:
    after = [(first, second + learned) for first, second in tests]
    assert strength.typical_error(after) == pytest.approx(strength.typical_error(tests), abs=1e-9)


def test_an_error_needs_somebody_who_was_tested_again() -> None:
    assert why(strength.typical_error, []) == "no_reference"
    assert why(strength.typical_error, [(100.0,), (80.0,)]) == "no_reference"
    assert why(strength.typical_error, [(100.0, 104.0)]) == "no_reference"  # one difference has no deviation
    assert strength.typical_error([(100.0, 104.0, 102.0)]) == pytest.approx(2.0)
    assert why(strength.typical_error, [(100.0, math.nan), (80.0, 81.0)]) == "invalid_input"
    assert why(strength.relative_typical_error, [(-1.0, 1.0), (1.0, -1.0)]) == "zero_denominator"
    assert why(strength.minimal_detectable_change, -1.0) == "invalid_input"
    assert why(strength.minimal_detectable_change, 6.0, sessions=0) == "invalid_input"
    assert why(strength.minimal_detectable_change, None) == "invalid_input"


def test_a_change_below_the_detectable_one_is_told_as_none() -> None:
    assert strength.compared(115.0, 100.0, 16.6) == NoDetectableChange(16.6)
    assert strength.compared(85.0, 100.0, 16.6) == NoDetectableChange(16.6)
    assert strength.compared(80.0, 100.0, 16.6) == Changed(-20.0)
    assert strength.compared(116.6, 100.0, 16.6) == Changed(116.6 - 100.0)  # not below it
    assert why(strength.compared, 116.6, None, 16.6) == "invalid_input"


def test_an_outlier_lies_beyond_three_and_a_half_scaled_deviations() -> None:
    history = [96.0, 98.0, 100.0, 102.0, 104.0]  # median 100, deviations 4, 2, 0, 2, 4: MAD 2
    limit = 3.5 * 1.4826 * 2.0
    assert strength.is_outlier(100.0 + limit + 1e-9, history)
    assert strength.is_outlier(100.0 - limit - 1e-9, history)
    assert strength.is_outlier(100.0 + limit - 1e-9, history) is False
    assert why(strength.is_outlier, 100.0, history[1:]) == "no_reference"
    assert why(strength.is_outlier, None, history) == "invalid_input"
    assert why(strength.is_outlier, 100.0, [*history, math.nan]) == "invalid_input"


def test_exertion_tells_the_reserve_only_where_the_table_does() -> None:
    assert [strength.reps_in_reserve(rpe) for rpe in (10, 9, 8, 7)] == [0, 1, 2, 3]
    assert why(strength.reps_in_reserve, None) == "not_reported"
    assert why(strength.reps_in_reserve, 6) == why(strength.reps_in_reserve, 9.5) == "not_calibrated"
    assert why(strength.reps_in_reserve, 11) == why(strength.reps_in_reserve, math.nan) == "invalid_input"
