"""Smoothness: published values, closed forms, laws, and the batch against one movement at a time."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core import arc_length
from streams.core.ragged import Slices
from streams.core.smoothness import dimensionless_jerk, ldlj, sparc
from streams.core.undefined import why
from tests.core import reference
from tests.core.movements import Array, minimum_jerk

BELL = np.exp(-5.0 * np.arange(-1.0, 1.0, 0.01) ** 2)
"""The signal whose values the authors print."""


def speed(seconds: float, fs_hz: float = 100.0) -> Array:
    """Return the speed of a minimum-jerk movement over a way of 1."""
    u = np.arange(round(seconds * fs_hz)) / round(seconds * fs_hz)
    v: Array = 30.0 * u**2 - 60.0 * u**3 + 30.0 * u**4
    return v


def defined(value: float | None) -> float:
    assert value is not None
    return value


@st.composite
def movements(draw: st.DrawFn, least: int = 2, most: int = 900) -> Array:
    """Draw smooth movements, walks, noise, ripples of any frequency, and constants."""
    rng, samples = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(least, most))
    u = np.arange(samples) / samples
    ripple = np.sin(2.0 * np.pi * draw(st.floats(0.2, 50.0)) * np.arange(samples) / 100.0 + rng.random())
    bell = np.sin(np.pi * u)
    v: Array = draw(
        st.sampled_from(
            (
                bell,
                bell + 0.3 * ripple,
                bell + 0.02 * rng.standard_normal(samples),
                np.cumsum(rng.standard_normal(samples)),
                rng.standard_normal(samples),
                ripple,
                bell * np.sign(ripple),
                np.ones(samples),
            )
        )
    )
    return v


def in_a_batch(movements: list[Array]) -> list[float]:
    """Return minus the arc lengths of a batch, NaN where there is none."""
    length = np.array([len(v) for v in movements])
    slices = Slices(np.zeros_like(length), length, 0)
    lengths = arc_length.of_each(np.concatenate(movements), slices, np.ones(len(length), np.bool_))
    return [-value for value in lengths.tolist()]


def test_the_published_signal_has_its_published_values() -> None:
    values = (sparc(BELL, 100.0), dimensionless_jerk(BELL, 100.0), ldlj(BELL, 100.0))
    assert [f"{value:.5f}" for value in values] == ["-1.41403", "-335.74684", "-5.81636"]
    assert in_a_batch([BELL]) == pytest.approx([sparc(BELL, 100.0)], abs=1e-12)


@pytest.mark.parametrize("samples", [400, 401, 800, 3_000])
def test_jerk_of_a_minimum_jerk_movement_tends_to_its_closed_form_from_above(samples: int) -> None:
    limit = -math.log(204.8)
    assert limit == pytest.approx(-5.322033893165, abs=1e-12)
    value = defined(ldlj(speed(samples / 100.0), 100.0))
    assert limit < value < limit * (1.0 - 0.005)


def test_at_fifty_samples_it_is_still_percents_away() -> None:
    assert 0.01 < 1.0 - defined(ldlj(speed(0.5), 100.0)) / -math.log(204.8) < 0.05


@settings(max_examples=60, deadline=None)
@given(movements(least=1, most=300))
def test_one_movement_is_measured_as_by_the_plain_reference(v: Array) -> None:
    for kernel, plain in ((sparc, reference.sparc), (ldlj, reference.ldlj)):
        value, wanted = kernel(v, 100.0), plain(v.tolist())
        assert (why(kernel, v, 100.0) if value is None else value) == (
            wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=1e-9)
        )


@settings(max_examples=150, deadline=None)
@given(st.lists(movements(), min_size=1, max_size=40))
def test_a_batch_is_measured_like_one_movement_at_a_time(batch: list[Array]) -> None:
    wanted = [sparc(v, 100.0) for v in batch]
    assert in_a_batch(batch) == pytest.approx([math.nan if w is None else w for w in wanted], abs=1e-11, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(movements(), min_size=1, max_size=60), st.integers(0, 60), st.randoms(use_true_random=False))
def test_what_stands_beside_a_movement_does_not_change_a_bit_of_it(batch: list[Array], cut: int, rng: Any) -> None:
    def written(part: list[Array]) -> list[bytes]:
        return [np.float64(value).tobytes() for value in in_a_batch(part)] if part else []

    together = written(batch)
    assert written(batch[:cut]) + written(batch[cut:]) == together
    order = list(range(len(batch)))
    rng.shuffle(order)
    assert written([batch[i] for i in order]) == [together[i] for i in order]
    assert [written([v])[0] for v in batch] == together


@settings(max_examples=60, deadline=None)
@given(movements(), st.sampled_from((1e-6, 0.3, 7.0, 1e6)), st.sampled_from((1.0, -1.0)))
def test_neither_size_nor_sign_of_the_velocity_matters(v: Array, size: float, sign: float) -> None:
    for kernel in (sparc, ldlj):
        value, other = kernel(v, 100.0), kernel(sign * size * v, 100.0)
        if why(kernel, v, 100.0) == "zero_jerk":  # a constant; multiplied, its differences may round to something
            continue
        assert other == (None if value is None else pytest.approx(value, abs=1e-9))


@settings(max_examples=60, deadline=None)
@given(movements(most=300))
def test_a_movement_told_backwards_is_as_smooth(v: Array) -> None:
    for kernel in (sparc, ldlj):
        value = kernel(v, 100.0)
        assert kernel(v[::-1], 100.0) == (None if value is None else pytest.approx(value, abs=1e-8))


@pytest.mark.parametrize("fs_hz", [50.0, 200.0, 1000.0])
@pytest.mark.parametrize("seconds", [1.28, 2.56, 5.12])
def test_the_sampling_rate_shows_in_the_third_decimal_only(fs_hz: float, seconds: float) -> None:
    assert sparc(speed(seconds, fs_hz), fs_hz) == pytest.approx(sparc(speed(seconds), 100.0), abs=5e-3)
    assert ldlj(speed(seconds, fs_hz), fs_hz) == pytest.approx(ldlj(speed(seconds), 100.0), abs=0.08)


def test_arc_length_is_blind_to_tremor_and_jerk_is_not() -> None:
    clean = speed(4.0)
    shaken = clean + 0.1 * np.sin(2.0 * np.pi * 5.0 * np.arange(400) / 100.0)
    assert sparc(shaken, 100.0) == pytest.approx(sparc(clean, 100.0), abs=5e-5)
    assert defined(ldlj(shaken, 100.0)) < defined(ldlj(clean, 100.0)) - 7.0


@pytest.mark.parametrize(
    ("kernel", "v", "reason"),
    [
        (sparc, [], "phase_too_short"),
        (sparc, np.zeros(50), "no_movement"),
        (ldlj, np.zeros(50), "no_movement"),
        (dimensionless_jerk, np.zeros(50), "no_movement"),
        (ldlj, np.ones(50), "zero_jerk"),
        (ldlj, np.arange(64.0) / 64.0, "zero_jerk"),
        (ldlj, [1.0, 2.0], "zero_jerk"),
        (sparc, np.cos(np.pi * np.arange(256) * 0.7), "degenerate_spectrum"),
        (sparc, [1.0, math.nan], "invalid_input"),
        (ldlj, [1.0, math.inf, 1.0], "invalid_input"),
        (sparc, [1.0, None, 1.0], "invalid_input"),
        (sparc, np.ones((2, 50)), "invalid_input"),
        (ldlj, np.full(50, 1e300) * (-1.0) ** np.arange(50), "invalid_input"),
    ],
)
def test_what_is_undefined_says_why(kernel: Any, v: Any, reason: str) -> None:
    assert (kernel(v, 100.0), why(kernel, v, 100.0)) == (None, reason)


@pytest.mark.parametrize("fs_hz", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(fs_hz: float) -> None:
    assert why(sparc, BELL, fs_hz) == why(ldlj, BELL, fs_hz) == "invalid_input"


def test_lists_tuples_and_whole_numbers_are_signals_too() -> None:
    whole = [0, 1, 3, 6, 9, 10, 9, 6, 3, 1, 0] * 3
    assert sparc(whole, 100) == sparc(tuple(map(float, whole)), 100.0) == sparc(np.array(whole, np.int16), 100.0)


def test_a_phase_of_any_length_gets_the_bins_that_it_needs() -> None:
    #  17 to 32 samples are padded to 32, and so on; beyond 512, and below 9, the whole spectrum is computed
    batch = [
        1e-3 + np.diff(minimum_jerk(samples / 100.0))
        for samples in (2, 9, 17, 18, 21, 33, 34, 65, 129, 257, 513, 514, 900)
    ]
    assert in_a_batch(batch) == pytest.approx([sparc(v, 100.0) for v in batch], abs=1e-12)
