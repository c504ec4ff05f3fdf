"""Signals: counts become physical quantities at 100 Hz, filtered as science.md 2.2 says and as SciPy does it."""

import cmath
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy import signal

from streams.core import lowpass, signals
from tests.core import reference
from tests.core.movements import SCALE, SCALE_N, Array, message, path

LENGTHS = (1, 2, 3, 40, 50, 51, 52, 120, 301)


def walk(samples: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    x: Array = 0.3 + 0.01 * np.cumsum(rng.standard_normal(samples))
    return x


def alone(x: Array, fc_hz: float = 6.0, fs_hz: float = 100.0) -> Array:
    filtered: Array = lowpass.zero_lag(x[None], np.array([len(x)]), fc_hz, fs_hz)[0]
    return filtered


def by_scipy(x: Array, fc_hz: float, fs_hz: float) -> Array:
    b0, a1, a2 = lowpass.design(fc_hz, fs_hz)
    b, a = [b0, 2.0 * b0, b0], [1.0, a1, a2]
    settled = signal.lfilter_zi(b, a)
    p = min(50, len(x) - 1)
    padded = np.concatenate((2.0 * x[0] - x[p:0:-1], x, 2.0 * x[-1] - x[::-1][1 : p + 1]))
    forward, _ = signal.lfilter(b, a, padded, zi=settled * padded[0])
    backward, _ = signal.lfilter(b, a, forward[::-1], zi=settled * forward[-1])
    filtered: Array = backward[::-1][p : p + len(x)]
    return filtered


def test_the_coefficients_for_6_hz_are_those_of_the_text() -> None:
    assert [f"{c:.10f}" for c in lowpass.design(6.0, 100.0)] == ["0.0405946814", "-1.3547488152", "0.5171275410"]


@pytest.mark.parametrize(("fc_hz", "fs_hz"), [(6.0, 100.0), (10.0, 100.0), (40.0, 1000.0), (40.0, 101.0)])
def test_forward_and_backward_leave_the_share_of_one_over_root_two_at_the_cut_off(fc_hz: float, fs_hz: float) -> None:
    b0, a1, a2 = lowpass.design(fc_hz, fs_hz)
    z = cmath.exp(-2j * math.pi * fc_hz / fs_hz)
    gain = abs(b0 * (1 + z) ** 2 / (1 + a1 * z + a2 * z * z)) ** 2
    assert gain == pytest.approx(1 / math.sqrt(2), abs=1e-12)


@pytest.mark.parametrize("samples", LENGTHS)
@pytest.mark.parametrize(("fc_hz", "fs_hz"), [(6.0, 100.0), (10.0, 100.0), (40.0, 1000.0), (40.0, 2000.0)])
def test_the_filter_agrees_with_scipy_and_with_the_plain_recursion(samples: int, fc_hz: float, fs_hz: float) -> None:
    x = walk(samples, seed=samples)
    filtered = alone(x, fc_hz, fs_hz)
    assert filtered == pytest.approx(reference.zero_lag(list(x), fc_hz, fs_hz), abs=1e-9)
    if samples > 1:
        assert filtered == pytest.approx(by_scipy(x, fc_hz, fs_hz), abs=1e-9)


def test_what_is_filtered_beside_a_signal_does_not_change_a_bit_of_it() -> None:
    rows = [walk(samples, seed=samples) for samples in LENGTHS]
    together = np.full((len(rows), 500), np.pi)  # what stands behind a short signal must not be felt either
    for place, row in enumerate(rows):
        together[place, : len(row)] = row
    for order in (np.arange(len(rows)), np.arange(len(rows))[::-1], np.tile(np.arange(len(rows)), 9)):
        filtered = lowpass.zero_lag(together[order], np.array(LENGTHS)[order], 6.0, 100.0)
        for place, which in enumerate(order):
            assert filtered[place, : LENGTHS[which]].tobytes() == alone(rows[which]).tobytes()


def test_with_context_a_message_is_as_good_as_the_whole_set() -> None:
    reps = [path(before_s=0.0, after_s=0.0, con_s=0.8, ecc_s=0.9, hold_s=0.0) for _ in range(3)]
    whole = alone(np.concatenate(reps))
    first, last = len(reps[0]), 2 * len(reps[0])
    bare = alone(reps[1])
    assert np.abs(bare - whole[first:last]).max() > 1e-4
    for context in (40, 50):
        message = alone(np.concatenate(reps)[first - context : last + context])[context:-context]
        assert np.abs(message - whole[first:last]).max() < 1e-9


def test_noise_leaves_as_much_velocity_at_rest_as_the_gain_says() -> None:
    noise = np.random.default_rng(5).standard_normal((1, 20_000))
    x = lowpass.zero_lag(noise, np.array([20_000]), 6.0, 100.0)[0]
    v = (x[2:] - x[:-2]) * 50.0
    assert v.std() == pytest.approx(lowpass.noise_gain(6.0, 100.0), rel=0.05)


@pytest.mark.parametrize("fs_hz", [50.0, 62.5, 99.0, 100.0, 100.5, 128.0, 250.0, 1000.0, 2000.0])
@pytest.mark.parametrize("samples", [2, 7, 300])
def test_every_rate_comes_onto_the_grid_of_100_hz(fs_hz: float, samples: int) -> None:
    x = walk(samples, seed=3)
    y, n = signals.to_100_hz(np.stack((x, np.zeros(samples))), np.array([samples, 2]), fs_hz)
    expected = reference.at_100_hz(list(x), fs_hz)
    assert n[0] == len(expected)
    assert y[0, : n[0]] == pytest.approx(expected, abs=1e-9)


def test_a_movement_reads_the_same_from_a_fast_and_from_a_slow_machine() -> None:
    at_100 = signals.read([message(path())]).position[0, :-1]
    for fs_hz in (50.0, 200.0, 1000.0):
        x = signals.read([message(path(fs_hz=fs_hz), fs_hz=fs_hz)]).position[0]
        both = min(len(x), len(at_100)) - 1
        assert x[:both] == pytest.approx(at_100[:both], abs=2e-3)


def test_counts_become_metres_and_newtons_with_their_signs() -> None:
    x, force = np.full(60, -0.25), np.full(60, -100.0)
    read = signals.read([message(x, force, concentric_sign=-1, force_sign=-1)])
    assert read.position[0, :-1] == pytest.approx(0.25, abs=SCALE)
    assert read.force[0, :-1] == pytest.approx(100.0, abs=SCALE_N)
    assert read.raw_position[0, :-1] == pytest.approx(0.25, abs=SCALE)
    assert read.raw_force[0, :-1] == pytest.approx(100.0, abs=SCALE_N)
    assert np.isnan(read.position[0, -1])


def test_rows_of_different_length_end_where_their_messages_end() -> None:
    read = signals.read([message(np.full(samples, 0.1)) for samples in (60, 2, 300)])
    assert list(np.isfinite(read.position).sum(axis=1)) == list(read.n) == [60, 2, 300]


@pytest.mark.parametrize(("lost", "noted"), [(1, []), (5, []), (6, [False]), (10, [False]), (11, [True])])
@pytest.mark.parametrize("fs_hz", [100.0, 200.0, 1000.0])
def test_gaps_are_bridged_and_noted_by_their_length_in_time(lost: int, noted: list[bool], fs_hz: float) -> None:
    holed = np.linspace(0.1, 0.4, round(3.0 * fs_hz))
    straight = holed.copy()
    first, stop = round(1.0 * fs_hz), round((1.0 + lost / 100.0) * fs_hz)
    holed[first:stop] = np.nan
    read = signals.read([message(straight, fs_hz=fs_hz), message(holed, fs_hz=fs_hz)])
    assert list(read.gaps.is_long) == noted
    assert read.raw_position[1, :-1] == pytest.approx(read.raw_position[0, :-1], abs=SCALE)
    if noted:
        assert (read.gaps.row[0], read.gaps.first[0]) == (1, 100.0)
        assert read.gaps.last[0] == pytest.approx(100.0 + lost - 100.0 / fs_hz)


def test_a_sample_is_missing_when_either_channel_lacks_it() -> None:
    x, force = path(), np.full(len(path()), 300.0)
    x[100:104] = np.nan
    force[104:108] = np.nan
    assert list(signals.read([message(x, force)]).gaps.last) == [107.0]


def test_a_machine_without_a_load_cell_has_no_gaps_but_no_force_either() -> None:
    read = signals.read([message(path(), np.nan), message(path())])
    assert list(read.has_force) == [False, True]
    assert len(read.gaps.row) == 0


def test_a_message_full_of_holes_becomes_a_standstill() -> None:
    read = signals.read([message(np.full(30, np.nan))])
    assert list(read.position[0, :-1]) == [0.0] * 30
    assert list(read.gaps.is_long) == [True]


@pytest.mark.parametrize("channel", ["position", "force"])
def test_a_count_at_full_scale_is_saturated_and_one_below_is_not(channel: str) -> None:
    def saturated(value: int) -> bool:
        raw = np.array([0, value, 0], "<i2").tobytes()
        return bool(signals.read([replace(message(np.zeros(3)), **{channel: raw})]).saturated[0])

    assert [saturated(value) for value in (32_766, 32_767, -32_766, -32_767)] == [False, True, False, True]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((50.0, 100.0, 1000.0)), st.integers(2, 40_000)), max_size=40))
def test_chunks_hold_every_rep_once_and_stay_bounded(shapes: list[tuple[float, int]]) -> None:
    rep = message(np.zeros(2))
    reps = [replace(rep, fs_hz=fs_hz, samples=samples) for fs_hz, samples in shapes]
    chunks = list(signals.chunks(reps))
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(reps)))
    for chunk in chunks:
        assert len({reps[index].fs_hz for index in chunk}) == 1
        assert len(chunk) == 1 or len(chunk) * max(reps[i].samples for i in chunk) <= signals.MAX_CELLS


def test_velocity_is_exact_for_a_parabola_but_at_its_ends() -> None:
    t_s = np.arange(10) / 100.0
    v = signals.velocity(np.append(t_s**2, np.nan)[None], np.array([10]))[0]
    assert v[1:-2] == pytest.approx(2.0 * t_s[1:-1], abs=1e-12)
    assert (v[0], v[9]) == pytest.approx((0.01, 0.17), abs=1e-12)
