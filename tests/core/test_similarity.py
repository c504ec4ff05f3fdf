"""Similarity: the check values of science.md 3.14, the slow science, and the laws of a distance."""

import itertools
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import similarity
from streams.core.similarity import FloatArray
from streams.core.undefined import why
from tests.core import slow_science

numbers = st.floats(-100.0, 100.0).map(lambda x: round(x, 6))
triangle = [0.0, 1.0, 2.0, 1.0, 0.0]


def curves(points: int) -> st.SearchStrategy[list[float]]:
    return st.lists(numbers, min_size=points, max_size=points)


pairs = st.integers(2, 30).flatmap(lambda n: st.tuples(curves(n), curves(n)))


def walk(seed: int, n: int = 101) -> FloatArray:
    """Return a smooth random curve."""
    return np.cumsum(np.cumsum(np.random.default_rng(seed).standard_normal(n)))


def test_waveforms_have_the_multiple_correlation_of_the_text() -> None:
    def of_two(other: list[float]) -> float | None:
        return similarity.cmc([triangle, other])

    assert of_two(triangle) == 1.0
    assert f"{of_two([1.5 * y for y in triangle]):.12f}" == "0.926226072210"
    assert f"{of_two([y + 1.0 for y in triangle]):.12f}" == "0.666666666667"
    assert of_two([2.0 - y for y in triangle]) is None
    assert why(similarity.cmc, [triangle, [2.0 - y for y in triangle]]) == "fit_rejected"


@given(st.integers(2, 8).flatmap(lambda points: st.lists(curves(points), min_size=2, max_size=5)))
def test_the_multiple_correlation_agrees_with_the_slow_science(waveforms: list[list[float]]) -> None:
    reason = why(similarity.cmc, waveforms)
    if reason == "zero_denominator":
        assert max(map(max, waveforms)) - min(map(min, waveforms)) < 1e-4
        return
    radicand = slow_science.cmc_radicand(waveforms)
    if reason == "fit_rejected":
        assert radicand < 1e-9
    else:
        assert (similarity.cmc(waveforms) or 0.0) ** 2 == pytest.approx(max(radicand, 0.0), abs=1e-9)


@given(st.lists(numbers, min_size=2, max_size=400), st.integers(2, 101))
def test_a_phase_over_time_agrees_with_the_slow_science(phase: list[float], points: int) -> None:
    expected = slow_science.resampled(phase, points)
    assert similarity.resampled(phase, points=points) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(numbers, st.floats(-0.2, 1.0)), min_size=2, max_size=200), st.booleans())
def test_a_phase_over_position_agrees_with_the_slow_science(samples: list[tuple[float, float]], rising: bool) -> None:
    phase = [y for y, _ in samples]
    direction = 1.0 if rising else -1.0
    # it moves on most of the time, hesitates now and then, and does not end where it began
    x = [direction * (0.5 + 0.01 * n + step / 10.0) for n, (_, step) in enumerate(samples)]
    if (x[-1] - x[0]) * direction <= 1e-6:
        x[-1] = x[0] + direction * 0.5
    expected = slow_science.resampled_by_position(phase, x, 101)
    steepest = max(abs(b - a) for a, b in itertools.pairwise(phase))
    smallest = _smallest_step(x)
    # where two positions nearly coincide, one step of the last digit of a position is a step of the curve
    assert similarity.resampled(phase, x) == pytest.approx(expected, abs=1e-9 + 1e-15 * steepest / smallest)


def _smallest_step(x: list[float]) -> float:
    furthest = [x[0]]
    for one in x[1:]:
        if abs(one - x[0]) > abs(furthest[-1] - x[0]) and (one - x[0]) * (x[-1] - x[0]) > 0.0:
            furthest.append(one)
    return min(abs(b - a) for a, b in itertools.pairwise(furthest))


def test_a_line_stays_a_line_however_it_is_sampled() -> None:
    uneven = np.sort(np.random.default_rng(3).uniform(0.0, 1.0, 57))
    line = 20.0 + 3.0 * uneven
    expected = np.linspace(line[0], line[-1], 101)
    assert similarity.resampled(line, uneven) == pytest.approx(expected, abs=1e-9)
    assert similarity.resampled(line[::-1], uneven[::-1]) == pytest.approx(expected[::-1], abs=1e-9)
    assert similarity.resampled(np.linspace(3.0, 4.0, 57)) == pytest.approx(np.linspace(3.0, 4.0, 101), abs=1e-9)


def test_going_back_adds_nothing_to_a_curve_over_position() -> None:
    #             forward           back        on again
    position = [0.0, 0.1, 0.2, 0.3, 0.25, 0.2, 0.3, 0.4, 0.5]
    force = [10.0, 11.0, 12.0, 13.0, 99.0, 99.0, 99.0, 14.0, 15.0]
    assert similarity.resampled(force, position, points=6) == pytest.approx([10.0, 11.0, 12.0, 13.0, 14.0, 15.0])


def test_a_phase_without_movement_or_of_one_sample_has_no_curve() -> None:
    assert similarity.resampled([1.0]) is None
    assert why(similarity.resampled, [1.0]) == "phase_too_short"
    assert why(similarity.resampled, [1.0, 2.0, 3.0], [0.5, 0.9, 0.5]) == "no_movement"
    assert why(similarity.resampled, [1.0, 2.0, 3.0], [0.5, 0.9]) == "invalid_input"
    assert why(similarity.resampled, [1.0, math.nan, 3.0]) == "invalid_input"
    assert why(similarity.resampled, np.array([1.0, None, 3.0])) == "invalid_input"
    assert why(similarity.resampled, [[1.0, 2.0], [3.0, 4.0]]) == "invalid_input"


def test_the_reference_is_the_median_of_five_curves_or_more() -> None:
    five = [[1.0, 5.0], [2.0, 1.0], [9.0, 2.0], [3.0, 9.0], [0.0, 4.0]]
    assert similarity.reference_curve(five) == pytest.approx([2.0, 4.0])
    assert similarity.reference_curve([*five, [4.0, 4.5]]) == pytest.approx([2.5, 4.25])
    assert why(similarity.reference_curve, five[1:]) == "no_reference"
    assert why(similarity.reference_curve, [*five, [1.0]]) == "invalid_input"


def test_one_wild_rep_hardly_moves_the_reference() -> None:
    own = [walk(seed=1) + offset for offset in (-0.2, -0.1, 0.0, 0.1)]
    assert similarity.reference_curve([*own, walk(seed=1) + 1000.0]) == pytest.approx(walk(seed=1))


@given(pairs)
def test_distances_agree_with_the_slow_science(pair: tuple[list[float], list[float]]) -> None:
    a, b = pair
    assert similarity.rmse(a, b) == pytest.approx(slow_science.rmse(a, b), abs=1e-9)
    if max(b) > min(b):
        expected = slow_science.rmse(a, b) / (max(b) - min(b))
        assert similarity.nrmse(a, b) == pytest.approx(expected, rel=1e-9)
    for band in (0, 3, 10):
        slow = slow_science.dtw([[y] for y in a], [[y] for y in b], band)
        assert similarity.dtw(a, b, band) == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_curves_of_101_points_agree_with_the_slow_science(seed: int) -> None:
    a, b = walk(seed), walk(seed + 100)
    slow = slow_science.dtw([[y] for y in a.tolist()], [[y] for y in b.tolist()], 10)
    assert similarity.dtw(a, b) == pytest.approx(slow, abs=1e-9)
    vectors, others = np.stack([a, b], axis=1), np.stack([b, a[::-1]], axis=1)
    slow = slow_science.dtw(vectors.tolist(), others.tolist(), 10)
    assert similarity.dtw(vectors, others) == pytest.approx(slow, abs=1e-9)
    assert similarity.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)


@given(pairs)
def test_warping_is_symmetric_and_never_dearer_than_standing_still(pair: tuple[list[float], list[float]]) -> None:
    a, b = pair
    warped, still = similarity.dtw(a, b), similarity.dtw(a, b, band=0)
    assert warped is not None
    assert still is not None
    assert still == pytest.approx(np.mean(np.abs(np.subtract(a, b))), abs=1e-9)
    assert warped <= still + 1e-9
    assert similarity.dtw(b, a) == pytest.approx(warped, abs=1e-9)
    assert similarity.dtw(a, a) == 0.0


@given(pairs, st.floats(0.1, 10.0), st.floats(-50.0, 50.0))
def test_scale_and_offset_of_both_curves_do_what_the_unit_does(
    pair: tuple[list[float], list[float]], scale: float, offset: float
) -> None:
    a, b = (np.array(curve) for curve in pair)
    c, d = (scale * curve + offset for curve in (a, b))
    assert similarity.rmse(c, d) == pytest.approx(scale * (similarity.rmse(a, b) or 0.0), abs=1e-7)
    assert similarity.dtw(c, d) == pytest.approx(scale * (similarity.dtw(a, b) or 0.0), abs=1e-7)
    if np.ptp(b) > 1e-3:
        assert similarity.nrmse(c, d) == pytest.approx(similarity.nrmse(a, b), rel=1e-6, abs=1e-7)
    if np.ptp(a) > 1e-3 and np.ptp(b) > 1e-3:
        assert similarity.correlation(c, d) == pytest.approx(similarity.correlation(a, b), abs=1e-6)


def test_a_rep_that_is_only_late_is_near_by_warping_and_far_point_by_point() -> None:
    t = np.linspace(0.0, 1.0, 101)
    early, late = np.exp(-(((t - 0.45) / 0.1) ** 2)), np.exp(-(((t - 0.52) / 0.1) ** 2))
    assert (similarity.dtw(early, late) or 1.0) < 0.1 * float(np.mean(np.abs(early - late)))


def test_curves_that_can_not_be_compared_have_no_distance() -> None:
    for distance in (similarity.rmse, similarity.nrmse, similarity.correlation, similarity.dtw):
        assert why(distance, [1.0, 2.0], [1.0, 2.0, 3.0]) == "invalid_input"
        assert why(distance, [1.0, math.inf], [1.0, 2.0]) == "invalid_input"
        assert why(distance, [], []) == "invalid_input"
        assert why(distance, [1.0, 2.0], [1.0, 3.0]) is None
    assert why(similarity.nrmse, [1.0, 2.0], [3.0, 3.0]) == "zero_denominator"
    assert why(similarity.correlation, [1.0, 2.0], [3.0, 3.0]) == "zero_denominator"
    assert why(similarity.correlation, [2.0, 2.0], [3.0, 4.0]) == "zero_denominator"
    assert why(similarity.dtw, [1.0], [1.0], band=-1) == "invalid_input"
    assert why(similarity.cmc, [triangle]) == "no_reference"
    assert why(similarity.cmc, [[1.0, 1.0], [1.0, 1.0]]) == "zero_denominator"
    assert why(similarity.cmc, [[1.0, 1.0], [1.0]]) == "invalid_input"


def test_a_stored_curve_comes_back_as_float32_holds_it() -> None:
    curve = walk(seed=7)
    stored = similarity.to_bytes(curve)
    assert stored == struct.pack("<101f", *curve)
    restored = similarity.from_bytes(stored)
    assert restored is not None
    assert restored.tolist() == curve.astype(np.float32).tolist()
    assert similarity.to_bytes(restored) == stored


def test_what_is_no_curve_is_not_stored_and_not_read() -> None:
    assert why(similarity.to_bytes, np.ones(100)) == "invalid_input"
    assert why(similarity.to_bytes, np.full(101, np.nan)) == "invalid_input"
    assert why(similarity.to_bytes, np.full(101, 1e39)) == "invalid_input"
    assert why(similarity.from_bytes, b"\0" * 403) == "invalid_input"
    assert why(similarity.from_bytes, struct.pack("<101f", *[math.nan] * 101)) == "invalid_input"
