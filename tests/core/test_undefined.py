"""Undefined: None and a reason, never NaN, never infinity, never 0 for unknown."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import balance, fatigue, similarity, strength
from streams.core.undefined import Undefined, all_finite, finite, none_if_undefined, quotient, why

UNKNOWN = (None, math.nan, math.inf, -math.inf)

OF_A_SET = [
    fatigue.loss_best_to_last,
    fatigue.loss_best_to_mean_of_last_two,
    fatigue.rom_decay,
    fatigue.rom_cv,
    fatigue.end_point_sd,
    fatigue.work_fatigue,
    fatigue.fatigue_index,
    fatigue.fatigue_index_of_peak,
    fatigue.force_slope,
    fatigue.has_failed,
]
OF_PAIRS = [
    balance.symmetry_index,
    balance.half_symmetry_index,
    balance.limb_symmetry_index,
    balance.side_difference,
    balance.symmetry_angle,
    balance.pull_push_work,
    strength.epley,
    strength.brzycki,
]


@none_if_undefined
def root(x: float | None) -> float | None:
    """Return a root."""
    (known,) = finite(x)
    if known < 0.0:
        raise Undefined("no_movement")
    return math.sqrt(known)


def test_an_undefined_metric_is_none_and_tells_its_reason() -> None:
    assert root(4.0) == 2.0
    assert why(root, 4.0) is None
    assert root(-1.0) is None
    assert why(root, -1.0) == "no_movement"
    assert why(root, x=None) == "invalid_input"
    assert root.__doc__ == "Return a root."


def test_a_number_too_large_to_be_one_is_undefined() -> None:
    def square(x: float) -> float:
        return x * x

    assert none_if_undefined(square)(1e200) is None
    assert why(none_if_undefined(square), 1e200) == "invalid_input"
    assert none_if_undefined(math.exp)(1000.0) is None
    assert why(math.exp, 1000.0) == "invalid_input"


def test_our_own_mistakes_are_not_taken_for_undefined() -> None:
    with pytest.raises(ZeroDivisionError):
        none_if_undefined(lambda: 1 / 0)()


def test_finite_numbers_pass_as_floats_whatever_they_were() -> None:
    assert finite(1, 2.5) == [1.0, 2.5]
    assert all_finite(np.arange(3)) == [0.0, 1.0, 2.0]
    assert all_finite([]) == []


def test_a_denominator_of_a_trillionth_counts_as_zero() -> None:
    assert quotient(1.0, 1.1e-12) > 0.0
    assert quotient(1.0, -1.1e-12) < 0.0
    for nothing in (0.0, 1e-12, -1e-12):
        with pytest.raises(Undefined):
            quotient(1.0, nothing)


@pytest.mark.parametrize("metric", OF_A_SET)
@pytest.mark.parametrize("unknown", UNKNOWN)
def test_one_unknown_rep_makes_the_metric_of_a_set_undefined(metric: object, unknown: float | None) -> None:
    assert callable(metric)
    values = [0.5, 0.55, 0.52, 0.5, 0.49, 0.48, 0.47]
    assert metric(values) is not None
    for place in range(len(values)):
        holed = [*values[:place], unknown, *values[place + 1 :]]
        assert metric(holed) is None
        assert why(metric, holed) == "invalid_input"


@pytest.mark.parametrize("metric", OF_PAIRS)
@pytest.mark.parametrize("unknown", UNKNOWN)
def test_one_unknown_side_makes_the_metric_of_a_pair_undefined(metric: object, unknown: float | None) -> None:
    assert callable(metric)
    assert metric(3.0, 4.0) is not None
    assert why(metric, unknown, 4.0) == why(metric, 3.0, unknown) == "invalid_input"


anything = st.none() | st.floats()
columns = st.lists(anything, max_size=12)


@given(columns)
def test_whatever_comes_in_no_number_of_a_set_is_infinite_or_none_at_all(values: list[float | None]) -> None:
    for metric in OF_A_SET:
        answer = metric(values)
        told = msgspec.structs.astuple(answer) if isinstance(answer, fatigue.Slope) else (answer,)
        assert all(number is None or math.isfinite(number) for number in told)
        assert (answer is None) == (why(metric, values) is not None)
    for losses in (
        fatigue.velocity_loss,
        fatigue.velocity_loss_online,
        fatigue.velocity_loss_robust,
        fatigue.power_loss,
    ):
        assert all(loss is None or math.isfinite(loss) for loss in losses(values))
        assert len(losses(values)) == len(values)


@given(anything, anything)
def test_whatever_comes_in_no_number_of_a_pair_is_infinite_or_none_at_all(
    one: float | None, other: float | None
) -> None:
    for metric in OF_PAIRS:
        answer = metric(one, other)
        assert answer is None or math.isfinite(answer)
        assert (answer is None) == (why(metric, one, other) is not None)


@given(columns, columns)
def test_whatever_comes_in_curves_and_profiles_are_finite(one: list[float | None], other: list[float | None]) -> None:
    a, b = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    for distance in (similarity.rmse, similarity.nrmse, similarity.correlation, similarity.dtw):
        answer = distance(a, b)
        assert answer is None or math.isfinite(answer)
    for curve in (similarity.resampled(a), similarity.resampled(a, b), similarity.reference_curve([a, b, b, a, b])):
        assert curve is None or np.all(np.isfinite(curve))
    profile = strength.load_velocity_profile(one, other)
    assert profile is None or all(map(math.isfinite, (profile.a, profile.b, profile.load_at_zero_velocity)))
