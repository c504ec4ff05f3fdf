"""Fatigue: the check values of science.md 3.6-3.8, the slow science, the laws of velocity loss, and reasons."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import fatigue
from streams.core.undefined import why
from tests.core import slow_science

velocities = st.lists(st.floats(0.05, 2.0), max_size=20)
positive = st.floats(1.0, 500.0).map(lambda x: round(x, 6))
works = [100.0, 98.0, 95.0, 90.0, 85.0, 80.0, 75.0]


def digits(values: Sequence[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.6f}" for value in values]


def test_velocity_loss_has_the_check_values_of_the_text() -> None:
    v = [0.50, 0.55, 0.52, 0.44]
    assert digits(fatigue.velocity_loss(v)) == ["0.000000", "0.000000", "5.454545", "20.000000"]
    assert digits(fatigue.velocity_loss_online(v)) == ["0.000000", "0.000000", "5.454545", "20.000000"]
    assert digits(fatigue.velocity_loss_robust(v)) == ["-", "-", "0.636943", "15.923567"]
    assert digits([fatigue.loss_best_to_mean_of_last_two(v)]) == ["12.727273"]
    assert digits([fatigue.loss_best_to_last(v)]) == ["20.000000"]


def test_a_slow_rep_before_the_fastest_is_a_loss_only_while_nobody_knows_better() -> None:
    v = [0.50, 0.45, 0.55]
    assert digits(fatigue.velocity_loss(v)) == ["0.000000", "0.000000", "0.000000"]
    assert digits(fatigue.velocity_loss_online(v)) == ["0.000000", "10.000000", "0.000000"]


def test_fatigue_of_work_and_force_has_the_check_values_of_the_text() -> None:
    slope = fatigue.force_slope([200, 210, 204, 198, 190, 181])
    assert slope is not None
    assert digits([fatigue.work_fatigue(works), fatigue.fatigue_index(works)]) == ["21.717172", "18.088737"]
    assert digits([fatigue.fatigue_index_of_peak(works)]) == ["20.000000"]
    assert digits([slope.pct_per_rep, slope.r2]) == ["-3.428571", "0.990826"]
    assert not slope.nonlinear


def test_the_slope_says_when_a_line_does_not_describe_the_set() -> None:
    slope = fatigue.force_slope([200, 150, 199, 150, 199])
    assert slope is not None
    assert slope.nonlinear
    flat = fatigue.force_slope([200, 200, 200, 200])
    assert flat == fatigue.Slope(0.0, None, nonlinear=False)


def test_range_decay_and_spread_need_enough_reps() -> None:
    assert fatigue.rom_decay([0.5, 0.5, 0.5, 0.4]) is None
    assert fatigue.rom_decay([0.50, 0.52, 0.48, 0.5, 0.45, 0.43]) == pytest.approx(12.0)
    assert fatigue.rom_cv([0.5, 0.4, 0.5]) is None
    assert fatigue.rom_cv([0.4, 0.5, 0.4, 0.5]) == pytest.approx(100.0 * math.sqrt(0.01 / 3.0) / 0.45, abs=1e-9)


def test_too_few_reps_or_nothing_to_divide_by_give_no_number() -> None:
    assert fatigue.velocity_loss([]) == fatigue.velocity_loss_online([]) == fatigue.velocity_loss_robust([]) == []
    assert fatigue.velocity_loss([0.0, 0.0]) == fatigue.velocity_loss_online([0.0, 0.0]) == [None, None]
    assert fatigue.velocity_loss_robust([0.0, 0.0, 0.0]) == [None, None, None]
    assert fatigue.velocity_loss_online([0.0, 0.5, 0.4]) == [None, 0.0, pytest.approx(20.0)]
    assert fatigue.power_loss([]) == []
    assert fatigue.power_loss([0.0]) == [None]
    undefined = [
        (fatigue.loss_best_to_last, [], "too_few_reps"),
        (fatigue.loss_best_to_last, [0.0], "zero_denominator"),
        (fatigue.loss_best_to_mean_of_last_two, [0.5], "too_few_reps"),
        (fatigue.rom_cv, [0.5] * 3, "too_few_reps"),
        (fatigue.rom_cv, [0.0] * 4, "zero_denominator"),
        (fatigue.end_point_sd, [0.5] * 3, "too_few_reps"),
        (fatigue.rom_decay, [0.5] * 4, "too_few_reps"),
        (fatigue.rom_decay, [0.0] * 5, "zero_denominator"),
        (fatigue.work_fatigue, [1.0, 1.0], "too_few_reps"),
        (fatigue.work_fatigue, [0.0, 1.0, 1.0], "zero_denominator"),
        (fatigue.fatigue_index, [1.0] * 5, "too_few_reps"),
        (fatigue.fatigue_index, [0.0] * 6, "zero_denominator"),
        (fatigue.fatigue_index_of_peak, [1.0] * 5, "too_few_reps"),
        (fatigue.fatigue_index_of_peak, [0.0] * 6, "zero_denominator"),
        (fatigue.force_slope, [], "too_few_reps"),
        (fatigue.force_slope, [1.0, 2.0, 3.0, 2.0], "too_few_reps"),
        (fatigue.force_slope, [0.0] * 4, "zero_denominator"),
        (fatigue.has_failed, [], "too_few_reps"),
    ]
    for metric, values, reason in undefined:
        assert metric(values) is None
        assert why(metric, values) == reason


def test_an_unknown_velocity_hides_what_comes_after_it_and_nothing_before() -> None:
    v = [0.50, 0.55, 0.52, None, 0.44]
    assert fatigue.velocity_loss(v) == [None] * 5
    assert fatigue.power_loss([200.0, math.nan]) == [None, None]
    assert digits(fatigue.velocity_loss_online(v)) == ["0.000000", "0.000000", "5.454545", "-", "-"]
    assert digits(fatigue.velocity_loss_robust(v)) == ["-", "-", "0.636943", "-", "-"]


def test_the_set_recovers_only_where_tempo_and_load_leave_it_free_to() -> None:
    assert fatigue.set_recovery(0.45, 0.50) == 0.9
    assert why(fatigue.set_recovery, 0.45, 0.50, "paced") == "wrong_intent"
    assert why(fatigue.set_recovery, 0.45, 0.50, "unknown") == "wrong_intent"
    assert fatigue.set_recovery(180.0, 200.0, "paced", is_speed_given=True) == 0.9
    assert why(fatigue.set_recovery, 0.45, 0.0) == "zero_denominator"
    assert why(fatigue.set_recovery, None, 0.5) == "invalid_input"


def test_end_points_wander_by_their_sample_deviation() -> None:
    assert fatigue.end_point_sd([0.99, 1.01, 0.99, 1.01]) == pytest.approx(math.sqrt(4e-4 / 3.0), abs=1e-9)
    assert fatigue.end_point_sd([0.5] * 4) == 0.0


def test_three_reps_in_a_row_below_half_of_the_peak_are_failure() -> None:
    assert fatigue.has_failed([200.0, 150.0, 99.0, 99.0, 99.0])
    assert fatigue.has_failed([200.0, 150.0, 100.0, 99.0, 99.0]) is False  # half is not below half
    assert fatigue.has_failed([200.0, 99.0, 99.0, 101.0, 99.0, 99.0]) is False
    assert fatigue.has_failed([90.0, 90.0, 90.0, 200.0]) is False  # nobody knew of the peak yet


def test_a_hold_that_fades_on_a_line_has_lost_the_triangle_above_it() -> None:
    assert fatigue.endurance_loss([400.0] * 3001) == pytest.approx(0.0, abs=1e-9)
    assert fatigue.endurance_loss([400.0 - 0.1 * k for k in range(3001)]) == pytest.approx(37.5, abs=1e-9)
    assert fatigue.endurance_loss([400.0 - 0.2 * k for k in range(1501)], fs_hz=50.0) == pytest.approx(37.5, abs=1e-9)
    assert why(fatigue.endurance_loss, [400.0] * 3000) == "phase_too_short"
    assert why(fatigue.endurance_loss, [0.0] * 3001) == "zero_denominator"
    assert why(fatigue.endurance_loss, [math.nan] * 3001) == "invalid_input"
    assert why(fatigue.endurance_loss, [400.0] * 3001, 0.0) == "phase_too_short"
    assert why(fatigue.endurance_loss, [400.0] * 3001, math.inf) == "invalid_input"


@given(st.lists(positive, min_size=31, max_size=40))
def test_the_loss_of_a_hold_agrees_with_the_slow_science_and_ends_at_thirty_seconds(force: list[float]) -> None:
    loss = fatigue.endurance_loss(force, fs_hz=1.0)
    assert loss == pytest.approx(slow_science.endurance_loss(force, 1), abs=1e-9)
    assert fatigue.endurance_loss(force[:31], fs_hz=1.0) == loss


@given(velocities)
def test_velocity_losses_agree_with_the_slow_science(v: list[float]) -> None:
    assert fatigue.velocity_loss(v) == pytest.approx(slow_science.velocity_loss(v), abs=1e-9)
    assert fatigue.velocity_loss_online(v) == pytest.approx(slow_science.velocity_loss_online(v), abs=1e-9)
    robust, slow = fatigue.velocity_loss_robust(v), slow_science.velocity_loss_robust(v)
    assert robust[:2] == slow[:2]
    assert robust[2:] == pytest.approx(slow[2:], abs=1e-9)


@given(st.lists(positive, min_size=6, max_size=20), st.sampled_from([1, 2, 3]))
def test_fatigue_of_work_and_force_agrees_with_the_slow_science(values: list[float], k: int) -> None:
    assert fatigue.work_fatigue(values) == pytest.approx(slow_science.work_fatigue(values), abs=1e-9)
    assert fatigue.fatigue_index(values, k) == pytest.approx(slow_science.fatigue_index(values, k), abs=1e-9)
    of_peak = slow_science.fatigue_index_of_peak(values, k)
    assert fatigue.fatigue_index_of_peak(values, k) == pytest.approx(of_peak, abs=1e-9)
    slope = fatigue.force_slope(values)
    if len(values) - values.index(max(values)) < 4:
        assert slope is None
    elif slope is not None and slope.r2 is not None:
        assert (slope.pct_per_rep, slope.r2) == pytest.approx(slow_science.force_slope(values), abs=1e-9)


@given(st.lists(positive, min_size=6, max_size=20), st.floats(0.1, 10.0))
def test_fatigue_does_not_depend_on_the_unit(values: list[float], scale: float) -> None:
    scaled = [scale * one for one in values]
    for metric in (fatigue.work_fatigue, fatigue.fatigue_index, fatigue.fatigue_index_of_peak, fatigue.rom_cv):
        assert metric(scaled) == pytest.approx(metric(values), rel=1e-9, abs=1e-9)
    assert fatigue.power_loss(scaled) == pytest.approx(fatigue.power_loss(values), abs=1e-9)
    assert fatigue.end_point_sd(scaled) == pytest.approx(scale * (fatigue.end_point_sd(values) or 0.0), abs=1e-9)


@given(st.lists(positive, min_size=4, max_size=20), st.floats(-1.0, 1.0))
def test_end_points_wander_no_more_where_zero_is_elsewhere(ends: list[float], shift: float) -> None:
    shifted = fatigue.end_point_sd([one + shift for one in ends])
    assert shifted == pytest.approx(fatigue.end_point_sd(ends), abs=1e-9)


@given(velocities)
def test_rep_by_rep_equals_the_whole_set_on_every_prefix(v: list[float]) -> None:
    online, robust = fatigue.velocity_loss_online(v), fatigue.velocity_loss_robust(v)
    for n in range(len(v) + 1):
        assert fatigue.velocity_loss_online(v[:n]) == online[:n]
        assert fatigue.velocity_loss_robust(v[:n]) == robust[:n]


@given(velocities)
def test_online_and_post_hoc_agree_after_the_fastest_rep(v: list[float]) -> None:
    online, post_hoc = fatigue.velocity_loss_online(v), fatigue.velocity_loss(v)
    fastest = v.index(max(v)) if v else 0
    assert post_hoc[fastest:] == online[fastest:]
    assert not any(post_hoc[: fastest + 1])
    assert all(loss is not None and 0.0 <= loss < 100.0 for loss in online + post_hoc)


@given(velocities)
def test_the_robust_loss_is_never_above_the_plain_one(v: list[float]) -> None:
    pairs = zip(fatigue.velocity_loss_robust(v), fatigue.velocity_loss_online(v), strict=True)
    assert all(robust is None or robust <= (plain or 0.0) + 1e-9 for robust, plain in pairs)


@given(velocities, st.floats(0.1, 10.0))
def test_losses_do_not_depend_on_the_unit(v: list[float], scale: float) -> None:
    scaled = [one * scale for one in v]
    assert fatigue.velocity_loss(scaled) == pytest.approx(fatigue.velocity_loss(v), abs=1e-9)
    assert fatigue.velocity_loss_robust(scaled)[2:] == pytest.approx(fatigue.velocity_loss_robust(v)[2:], abs=1e-9)


def test_the_largest_z_of_a_small_set_is_below_two() -> None:
    # why no rule looks for outliers by z in a set of five
    for n, largest in ((3, "1.15"), (4, "1.50"), (5, "1.79")):
        values = [0.0] * (n - 1) + [1.0]
        z = (1.0 - fatigue.mean(values)) / fatigue.sample_sd(values)
        assert f"{z:.2f}" == largest


def test_the_median_of_any_order_is_the_same() -> None:
    assert {fatigue.median(list(order)) for order in itertools.permutations([1.0, 2.0, 4.0, 9.0])} == {3.0}
