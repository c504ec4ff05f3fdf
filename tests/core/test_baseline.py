"""Baselines: what they keep, how they are merged, and how a session learns one from its accepted reps."""

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import learning
from streams.core.baseline import MAX_RANGES, Baseline, Moments, is_comparable, merged
from streams.core.learning import MAX_CURVES, MAX_VALUES, Learned
from streams.core.measure import Measured
from streams.core.sets import RepNote

VALUES = st.lists(st.floats(-1e3, 1e3), max_size=30)


def moments_of(values: list[float]) -> Moments:
    moments = Moments()
    for value in values:
        moments = moments.with_one(value)
    return moments


@given(values=VALUES)
def test_moments_are_mean_and_sample_deviation(values: list[float]) -> None:
    moments = moments_of(values)
    assert moments.n == len(values)
    if values:
        assert moments.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    if len(values) > 1:
        assert moments.sd == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)
    else:
        assert moments.sd is None


@given(one=VALUES, other=VALUES)
def test_merging_moments_is_as_if_all_values_had_come_together(one: list[float], other: list[float]) -> None:
    apart, together = moments_of(one).merged(moments_of(other)), moments_of(one + other)
    assert apart.n == together.n
    assert apart.mean == pytest.approx(together.mean, abs=1e-9)
    assert apart.squares == pytest.approx(together.squares, rel=1e-6, abs=1e-5)


def test_a_baseline_of_another_load_begins_anew_and_keeps_the_ranges() -> None:
    old = Baseline(load_N=400.0, ranges=(0.5,), peak_force=500.0, steadiness=Moments(6, 4.0, 1.0))
    new = Baseline(load_N=500.0, ranges=(0.6,), peak_force=600.0)
    assert merged(old, new) == Baseline(load_N=500.0, ranges=(0.5, 0.6), peak_force=600.0)
    assert merged(None, new) == new


def test_only_the_last_ranges_are_kept() -> None:
    baseline = Baseline(load_N=400.0)
    for n in range(MAX_RANGES + 3):
        baseline = merged(baseline, Baseline(load_N=400.0, ranges=(float(n),)))
    assert len(baseline.ranges) == MAX_RANGES
    assert baseline.range_of_motion == 5.0


@pytest.mark.parametrize(
    ("load_N", "tempo_s", "expected"),
    [(440.0, 2.0, True), (440.1, 2.0, False), (360.0, 2.2, True), (400.0, 2.21, False), (400.0, None, False)],
)
def test_reps_are_comparable_within_ten_percent_of_load_and_tempo(
    load_N: float, tempo_s: float | None, expected: bool
) -> None:
    own = Baseline(load_N=400.0, concentric_s=2.0)
    assert is_comparable(own, Baseline(load_N=load_N, concentric_s=tempo_s)) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(True, True, True), (False, False, True), (True, False, False), (False, True, False), (None, True, True)],
)
def test_corrected_force_is_compared_with_no_other_and_an_unknown_one_with_both(
    one: bool | None, other: bool | None, expected: bool
) -> None:
    own, its = Baseline(load_N=400.0, corrected=one), Baseline(load_N=400.0, corrected=other)
    assert is_comparable(own, its) is is_comparable(its, own) is expected


def test_a_baseline_of_corrected_force_is_not_merged_with_one_that_is_not() -> None:
    old = Baseline(load_N=400.0, ranges=(0.5,), peak_force=100.0, steadiness=Moments(6, 4.0, 1.0), corrected=True)
    new = Baseline(load_N=400.0, ranges=(0.6,), peak_force=140.0, corrected=False)
    assert merged(old, new) == replace(new, ranges=(0.5, 0.6))


def test_a_baseline_of_an_earlier_release_becomes_known_with_the_next_session() -> None:
    old, new = Baseline(load_N=400.0, peak_force=100.0), Baseline(load_N=400.0, peak_force=90.0, corrected=True)
    assert merged(old, new) == replace(new, peak_force=100.0)
    assert merged(new, old) == replace(new, peak_force=100.0)


# --- what a session learns -------------------------------------------------------------------------------------------


def note(**fields: Any) -> RepNote:
    unknown: dict[str, Any] = dict.fromkeys(
        ("velocity", "rom_completeness_pct", "tempo_error_pct", "time_under_load_s", "work_J")
    )
    usual: dict[str, Any] = {"id": "m/b/1", "number": 1, "valid": True, "accepted": True, "is_fast": False}
    numbers: dict[str, Any] = {
        "range_of_motion": 1.0,
        "peak_force": 300.0,
        "steadiness_pct": 4.0,
        "tremor_pct": 2.0,
        "corrected": False,
    }
    return RepNote(**(usual | unknown | numbers | fields))


def measured(
    curve: np.ndarray | None = None, bins: tuple[float | None, ...] | None = None, **values: float
) -> Measured:
    stored = None if curve is None else curve.astype("<f4").tobytes()
    return Measured(valid=True, reasons=(), values=values, undefined={}, curve=stored, torque_by_bin=bins)


def learn(*reps: tuple[RepNote, Measured], load_N: float = 300.0, tempo_s: float | None = 2.0) -> Learned:
    learned = Learned()
    for one, its in reps:
        learned = learning.with_rep(learned, one, its, load_N, tempo_s)
    return learned


def test_nothing_is_learned_from_a_rep_that_is_not_accepted() -> None:
    assert learn((note(accepted=False), measured())) == Learned()
    assert learning.baseline(Learned()) is None


def test_a_session_keeps_its_median_range_its_moments_and_its_largest_peak() -> None:
    reps = [note(range_of_motion=r, peak_force=p) for r, p in ((1.0, 300.0), (0.9, 340.0), (0.96, 320.0))]
    own = learning.baseline(learn(*((one, measured()) for one in reps)))
    assert own is not None
    assert (own.load_N, own.concentric_s, own.ranges, own.peak_force) == (300.0, 2.0, (0.96,), 340.0)
    assert (own.steadiness.n, own.steadiness.mean, own.tremor.mean) == (3, 4.0, 2.0)


def test_the_tremor_of_velocity_is_a_series_of_its_own() -> None:
    heard, unheard = note(tremor_pct=2.0), note(tremor_pct=None, tremor_velocity_pct=5.0)
    own = learning.baseline(learn(*((one, measured()) for one in (heard, heard, unheard))))
    assert own is not None
    assert (own.tremor, own.tremor_velocity) == (Moments(2, 2.0, 0.0), Moments(1, 5.0, 0.0))
    assert merged(own, own).tremor_velocity == Moments(2, 5.0, 0.0)


def test_reps_at_another_load_are_no_part_of_the_baseline_but_of_the_strength_that_was_shown() -> None:
    learned = learn((note(), measured(bins=(100.0, None))))
    learned = learning.with_rep(learned, note(peak_force=500.0), measured(bins=(90.0, 80.0)), 400.0, 2.0)
    assert (learned.peak_force, learned.best_force, learned.ranges) == (300.0, 500.0, (1.0,))
    assert learned.torque_by_bin == (100.0, 80.0)


@pytest.mark.parametrize("first", [True, False])
def test_a_session_learns_from_reps_whose_force_is_corrected_like_that_of_the_first(first: bool) -> None:
    learned = Learned()
    for peak_force, corrected in ((100.0, first), (140.0, not first), (110.0, first)):
        one = note(peak_force=peak_force, corrected=corrected)
        learned = learning.with_rep(learned, one, measured(), 300.0, 2.0)
    own = learning.baseline(learned)
    assert own is not None
    assert (own.corrected, own.peak_force, own.steadiness.n) == (first, 110.0, 2)


def test_the_strength_of_a_session_with_both_kinds_of_force_is_that_of_reps_that_are_not_corrected() -> None:
    learned = Learned()
    for peak_force, corrected in ((140.0, True), (100.0, False), (150.0, True), (90.0, False)):
        one = note(peak_force=peak_force, corrected=corrected)
        learned = learning.with_rep(learned, one, measured(bins=(peak_force,)), 300.0, 2.0)
    assert (learned.corrected, learned.best_force, learned.torque_by_bin) == (False, 100.0, (100.0,))


def test_the_own_curve_is_the_point_wise_median_of_the_first_five_to_nine() -> None:
    line = np.linspace(100.0, 200.0, 101)
    reps = [(note(), measured(curve=line + n)) for n in range(12)]
    four, five, many = (learning.baseline(learn(*reps[:count])) for count in (4, 5, 12))
    assert four is not None
    assert five is not None
    assert many is not None
    assert four.curve is None
    assert five.curve == (line + 2).astype("<f4").tobytes()
    assert many.curve == (line + (MAX_CURVES - 1) / 2).astype("<f4").tobytes()


def test_what_a_session_learns_stays_bounded() -> None:
    reps = [(note(), measured(curve=np.ones(101), symmetry_index_pct=1.0))] * (MAX_VALUES + 50)
    learned = learn(*reps)
    assert (len(learned.ranges), len(learned.symmetries_pct)) == (MAX_VALUES, MAX_VALUES)
    assert len(learned.curves) == MAX_CURVES


@given(values=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=40), cut=st.integers(0, 40))
def test_learning_in_two_sessions_and_merging_counts_every_rep_once(values: list[float], cut: int) -> None:
    own: Baseline | None = None
    for part in (values[:cut], values[cut:]):
        new = learning.baseline(learn(*((note(steadiness_pct=value), measured()) for value in part)))
        own = own if new is None else merged(own, new)
    assert own is not None
    assert own.steadiness.n == len(values)
    assert math.isclose(own.steadiness.mean, statistics.fmean(values), abs_tol=1e-9)
    assert replace(own, steadiness=Moments(), tremor=Moments(), ranges=()) == Baseline(
        load_N=300.0, concentric_s=2.0, peak_force=300.0, corrected=False
    )


def test_a_session_is_corrected_only_if_every_rep_of_it_was() -> None:
    learned = Learned()
    for corrected, says in ((True, True), (False, False), (True, False)):
        learned = learning.with_rep(learned, note(corrected=corrected), measured(), 300.0, 2.0)
        assert learned.corrected is says
