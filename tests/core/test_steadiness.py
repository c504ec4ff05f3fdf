"""Steadiness: tremor and unsteady force of known signals, against closed forms and the plain reference."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.measure import measure
from streams.core.steadiness import steadiness_cv, tremor_index
from streams.core.undefined import why
from tests.core import reference
from tests.core.movements import LOAD_N, Array, message, path

T_S = np.arange(400) / 100.0


@st.composite
def signals(draw: st.DrawFn, least: int = 1) -> Array:
    rng, samples = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(least, 400))
    shape = np.sin(np.pi * np.arange(samples) / samples)
    x: Array = draw(st.sampled_from((0.0, 1.0, 300.0))) + shape * draw(st.sampled_from((0.0, 50.0)))
    return x + draw(st.sampled_from((0.0, 0.1, 5.0))) * rng.standard_normal(samples)


def test_a_tenth_of_ripple_at_5_hz_is_an_index_of_ten_over_root_two() -> None:
    index = tremor_index(1.0 + 0.1 * np.sin(2.0 * np.pi * 5.0 * T_S), 100.0)
    assert f"{index:.10f}" == "7.0710678119"


@pytest.mark.parametrize(("f_hz", "share"), [(3.75, 0.0), (4.0, 1.0), (8.5, 1.0), (12.0, 1.0), (12.25, 0.0)])
def test_the_band_includes_both_its_ends(f_hz: float, share: float) -> None:
    ripple = 2.0 + 0.2 * np.cos(2.0 * np.pi * f_hz * T_S)
    assert tremor_index(ripple, 100.0) == pytest.approx(share * 10.0 / math.sqrt(2.0), abs=1e-9)


def test_a_force_that_rises_in_a_straight_line_is_steady() -> None:
    assert steadiness_cv(100.0 + 10.0 * T_S, 100.0) == pytest.approx(0.0, abs=1e-9)


def test_an_alternating_force_deviates_by_its_amplitude() -> None:
    force = 200.0 + 10.0 * (-1.0) ** np.arange(100)
    assert steadiness_cv(force, 100.0) == pytest.approx(5.0, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(signals())
def test_one_signal_is_measured_as_by_the_plain_reference(x: Array) -> None:
    for kernel, plain in ((tremor_index, reference.tremor_index), (steadiness_cv, reference.steadiness_cv)):
        value, wanted = kernel(x, 100.0), plain(x.tolist())
        assert (why(kernel, x, 100.0) if value is None else value) == (
            wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=1e-9, rel=1e-9)
        )


@settings(max_examples=60, deadline=None)
@given(signals(least=100), st.sampled_from((0.01, 3.0, 1e4)))
def test_the_unit_does_not_matter(x: Array, scale: float) -> None:
    for kernel in (tremor_index, steadiness_cv):
        value = kernel(x, 100.0)
        if value is not None and abs(x.mean()) > 1e-3:
            assert kernel(scale * x, 100.0) == pytest.approx(value, rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(100, 700), st.integers(0, 2**32 - 1), st.integers(1, 600))
def test_a_turn_of_the_signal_leaves_its_tremor(samples: int, seed: int, by: int) -> None:
    x = 5.0 + np.random.default_rng(seed).standard_normal(samples)
    assert tremor_index(np.roll(x, by), 100.0) == pytest.approx(tremor_index(x, 100.0), abs=1e-9)


@pytest.mark.parametrize(
    ("kernel", "x", "reason"),
    [
        (tremor_index, np.ones(99), "phase_too_short"),
        (tremor_index, [], "phase_too_short"),
        (tremor_index, np.zeros(100), "zero_denominator"),
        (tremor_index, np.full(100, math.nan), "invalid_input"),
        (steadiness_cv, np.ones(81), "phase_too_short"),
        (steadiness_cv, np.zeros(200), "zero_denominator"),
        (steadiness_cv, np.full(200, math.inf), "invalid_input"),
    ],
)
def test_what_is_undefined_says_why(kernel: Any, x: Any, reason: str) -> None:
    assert (kernel(x, 100.0), why(kernel, x, 100.0)) == (None, reason)


def test_the_middle_sixty_percent_begin_at_fifty_samples() -> None:
    #  N  81: floor(81/5) = 16 on both sides leave 49; 82 leaves 50
    assert [why(steadiness_cv, np.ones(samples), 100.0) for samples in (81, 82)] == ["phase_too_short", None]


def test_a_trembling_rep_shows_it_in_force_and_in_velocity() -> None:
    x = path(con_s=2.0)
    t_s = np.arange(len(x)) / 100.0
    calm, shaken = (
        measure([message(x + depth * 2e-4 * np.sin(50.0 * t_s), LOAD_N * (1.0 + depth * 0.05 * np.sin(50.0 * t_s)))])[0]
        for depth in (0.0, 1.0)
    )
    for name in ("tremor_index_force_pct", "tremor_index_velocity_pct", "force_steadiness_cv_pct"):
        assert shaken.values[name] > 2.0 + 2.0 * calm.values[name]
    assert shaken.values["tremor_index_force_pct"] == pytest.approx(5.0 / math.sqrt(2.0), rel=0.05)
    assert shaken.values["sparc_concentric"] == pytest.approx(calm.values["sparc_concentric"], abs=0.01)
