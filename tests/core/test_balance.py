"""Balance: the check values of science.md 3.12, the laws of an index, and when a verdict may be given."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import balance
from streams.core.balance import Norm, deviation_from_norm, is_asymmetric, is_off_norm
from streams.core.undefined import why
from tests.core import slow_science

strengths = st.floats(1.0, 2000.0)
SITTING = Norm(mean=2.1, sd=0.4)


def test_one_pair_reads_differently_in_each_of_the_five_forms() -> None:
    pair = {"left": 120.0, "right": 100.0}
    assert f"{balance.symmetry_index(**pair):.6f}" == "-18.181818"
    assert f"{balance.half_symmetry_index(**pair):.6f}" == "-9.090909"
    assert f"{balance.limb_symmetry_index(**pair):.6f}" == "83.333333"
    assert f"{balance.side_difference(**pair):.6f}" == "16.666667"
    assert f"{balance.symmetry_angle(**pair):.6f}" == "-5.771588"


@given(strengths, strengths)
def test_the_indices_agree_with_the_slow_science(left: float, right: float) -> None:
    expected = slow_science.symmetry_index(left, right)
    assert balance.symmetry_index(left, right) == pytest.approx(expected, abs=1e-9)
    assert balance.half_symmetry_index(left, right) == pytest.approx(expected / 2.0, abs=1e-9)
    assert balance.symmetry_angle(left, right) == pytest.approx(slow_science.symmetry_angle(left, right), abs=1e-9)


@given(strengths, strengths)
def test_the_sides_changed_over_change_the_sign_and_nothing_else(left: float, right: float) -> None:
    for index in (balance.symmetry_index, balance.half_symmetry_index, balance.symmetry_angle):
        one, other = index(left, right), index(right, left)
        assert one is not None
        assert one == pytest.approx(-(other or 0.0), abs=1e-9)
        assert (one > 0.0) == (right > left)
    assert balance.side_difference(left, right) == balance.side_difference(right, left)


@given(strengths, strengths, st.floats(0.01, 100.0))
def test_no_index_depends_on_the_unit(left: float, right: float, scale: float) -> None:
    for index in (balance.symmetry_index, balance.limb_symmetry_index, balance.side_difference, balance.symmetry_angle):
        assert index(left * scale, right * scale) == pytest.approx(index(left, right), rel=1e-9, abs=1e-9)


def test_a_pair_without_strength_has_no_index() -> None:
    assert balance.symmetry_index(0.0, 0.0) is None
    assert why(balance.symmetry_index, 0.0, 0.0) == "zero_denominator"
    assert why(balance.symmetry_index, -5.0, 3.0) == "zero_denominator"
    assert why(balance.half_symmetry_index, -5.0, 5.0) == "zero_denominator"
    assert why(balance.limb_symmetry_index, 0.0, 3.0) == "zero_denominator"
    assert why(balance.side_difference, 0.0, 0.0) == "zero_denominator"
    assert why(balance.symmetry_angle, 3.0, 0.0) == "zero_denominator"
    for index in (balance.symmetry_index, balance.limb_symmetry_index, balance.side_difference, balance.symmetry_angle):
        assert why(index, None, 3.0) == "invalid_input"
        assert why(index, 3.0, math.nan) == "invalid_input"
        assert why(index, 3.0, 4.0) is None


def test_sides_differ_after_three_tests_beyond_the_limit_on_the_same_side() -> None:
    #                     SI, %                        MDC   verdict
    story: list[tuple[list[float | None], float, bool]] = [
        ([-18.0, -18.0, -18.0], 10.0, True),
        ([18.0, 18.0, 18.0], 10.0, True),
        ([-18.0, -18.0], 10.0, False),  # one test is missing
        ([-18.0, 18.0, -18.0], 10.0, False),  # now this side, now that
        ([-18.0, -14.0, -18.0], 10.0, False),  # once within the limit
        ([-18.0, -18.0, -18.0], 19.0, False),  # chance explains it
        ([2.0, -18.0, -18.0, -18.0], 10.0, True),  # it began a test later
        ([-18.0, -18.0, -18.0, -2.0], 10.0, False),  # it is over
        ([-15.0, -15.0, -15.0], 10.0, False),  # the limit itself is not beyond it
        ([-15.0000004, -15.0, -15.0], 10.0, False),  # nor are its last digits
        ([-18.0, None, -18.0], 10.0, False),  # one test is unknown
        ([-18.0, math.nan, -18.0], 10.0, False),
    ]
    for values, mdc_pct, verdict in story:
        assert is_asymmetric(values, mdc_pct) is verdict, values
    assert not is_asymmetric([-18.0, -18.0, -18.0], None)
    assert is_asymmetric([-12.0, -12.0, -12.0], 10.0, limit_pct=11.0)
    assert is_asymmetric([-18.0, -18.0, -18.0, -18.0], 10.0, tests=4)


@given(st.lists(st.floats(-60.0, 60.0), max_size=6), st.floats(0.0, 40.0))
def test_the_verdict_is_the_same_in_the_mirror(values: list[float], mdc_pct: float) -> None:
    assert is_asymmetric(values, mdc_pct) == is_asymmetric([-one for one in values], mdc_pct)


torques = st.lists(st.none() | st.floats(10.0, 400.0), min_size=7, max_size=7)


@given(torques, torques)
def test_back_against_front_agrees_with_the_slow_science(
    extension: list[float | None], flexion: list[float | None]
) -> None:
    shared = sum(None not in pair for pair in zip(extension, flexion, strict=True))
    ratio = balance.extension_flexion_ratio(extension, flexion)
    if shared < 3:
        assert ratio is None
        assert why(balance.extension_flexion_ratio, extension, flexion) == "no_reference"
    else:
        assert ratio == pytest.approx(slow_science.extension_flexion_ratio(extension, flexion), abs=1e-9)


def test_back_against_front_needs_three_bins_that_both_tests_have() -> None:
    ratio = balance.extension_flexion_ratio
    assert ratio((200, 200, 200, None, None, None, None), (100, 80, 100, 90, None, None, None)) == 2.0
    assert why(ratio, (200, 200, None, 1, 1, 1, 1), (100, 80, 100, None, None, None, None)) == "no_reference"
    assert why(ratio, (1.0,) * 7, (1.0,) * 6) == "invalid_input"
    assert why(ratio, (1.0,) * 7, (1.0,) * 6 + (math.inf,)) == "invalid_input"
    assert why(ratio, (1.0,) * 7, (1.0,) * 6 + (0.0,)) == "zero_denominator"


def test_the_detectable_change_of_a_ratio_joins_both_errors() -> None:
    # 1.96·√2·2.1·sqrt(6² + 8²)/100 = 2.771858582·2.1·0.1
    assert balance.mdc_of_ratio(2.1, 6.0, 8.0) == pytest.approx(0.5820903022, abs=1e-9)
    assert why(balance.mdc_of_ratio, 2.1, 6.0, None) == "invalid_input"


def test_only_what_lies_outside_two_deviations_deviates() -> None:
    assert deviation_from_norm(2.9, SITTING) == pytest.approx(0.0, abs=1e-9)
    assert deviation_from_norm(3.4, SITTING) == pytest.approx(0.5)
    assert deviation_from_norm(1.0, SITTING) == pytest.approx(-0.3)
    assert deviation_from_norm(1.6, SITTING, sds=1.0) == pytest.approx(-0.1)
    assert deviation_from_norm(1.3, None) is None
    assert why(deviation_from_norm, 1.3, None) == "no_norm"
    assert why(deviation_from_norm, None, SITTING) == "invalid_input"


@given(st.floats(0.1, 6.0))
def test_a_ratio_taken_back_by_its_deviation_lies_within_the_norm(ratio: float) -> None:
    deviation = deviation_from_norm(ratio, SITTING)
    assert deviation is not None
    assert 1.3 - 1e-9 <= ratio - deviation <= 2.9 + 1e-9


def test_a_front_back_ratio_is_off_after_three_tests_that_chance_does_not_explain() -> None:
    assert is_off_norm([0.6, 0.7, 0.6], SITTING, 6.0, 6.0)
    assert is_off_norm([2.0, 0.6, 0.7, 0.6], SITTING, 6.0, 6.0)
    assert not is_off_norm([0.6, 0.7], SITTING, 6.0, 6.0)
    assert not is_off_norm([0.6, 0.7, 1.2], SITTING, 6.0, 6.0)  # 0.1 below the norm, 0.28 by chance
    assert not is_off_norm([0.6, 0.7, None], SITTING, 6.0, 6.0)
    assert not is_off_norm([0.6, 0.7, 0.6], None, 6.0, 6.0)
    assert not is_off_norm([0.6, 0.7, 0.6], SITTING, te_ext_pct=None, te_flex_pct=6.0)


@given(strengths, strengths, st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_pull_against_push_does_not_compare_machines(row: float, press: float, row_lever: float, lever: float) -> None:
    ratio = balance.pull_push(row, 100.0, press, 80.0)
    assert ratio == pytest.approx((row / 100.0) / (press / 80.0), rel=1e-9)
    assert balance.pull_push(row * row_lever, 100.0 * row_lever, press * lever, 80.0 * lever) == pytest.approx(ratio)


def test_pull_against_push_needs_baselines() -> None:
    assert balance.pull_push(100.0, 100.0, 80.0, 80.0) == 1.0
    assert why(balance.pull_push, 100.0, 0.0, 80.0, 80.0) == "zero_denominator"
    assert why(balance.pull_push, 100.0, 100.0, 0.0, 80.0) == "zero_denominator"
    assert why(balance.pull_push, 100.0, None, 80.0, 80.0) == "invalid_input"
    assert balance.pull_push_work(900.0, 1000.0) == 0.9
    assert why(balance.pull_push_work, 900.0, 0.0) == "zero_denominator"
