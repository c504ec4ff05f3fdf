"""Movements: the truth beside a signal is what the catalogue's segmentation finds in it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as scipy_signal

from loadtest.movement import CONTEXT_SAMPLES, FS_HZ, FloatArray, Movement, rep_signal

MOVEMENTS = st.builds(
    Movement,
    start=st.floats(-0.6, 0.6),
    rom=st.floats(0.1, 1.2),
    concentric_s=st.floats(0.5, 5.0),
    hold_s=st.floats(0.0, 2.0),
    eccentric_s=st.floats(0.5, 5.0),
    load_N=st.floats(10.0, 1_000.0),
    inertia=st.floats(0.0, 5.0),
    droop=st.floats(0.0, 0.3),
)


def segmented(x: FloatArray, v_rest: float = 0.0) -> tuple[int, int, int, int]:
    """Find concentric start and end, eccentric start and end of the one excursion in x, word by word as specified."""
    v = np.gradient(x) * FS_HZ
    y = (x - x.min()) / (x.max() - x.min())
    opening = next(k for k in range(len(y)) if y[k] >= 0.20)
    closing = next(k for k in range(opening, len(y)) if y[k] < 0.20)
    v_hold = max(0.02 * np.abs(v[opening:closing]).max(), v_rest)
    up = next(k for k in range(opening, len(y)) if y[k] >= 0.8)
    down = max(k for k in range(closing) if y[k] >= 0.8) + 1
    start = max(k for k in range(opening) if v[k] <= v_hold)
    top = next(k for k in range(up, len(y)) if v[k] <= v_hold)
    turn = max(k for k in range(down) if v[k] >= -v_hold)
    end = next(k for k in range(closing, len(y)) if v[k] >= -v_hold)
    if turn - top < 0.15 * FS_HZ:
        top = turn = int(np.argmax(x))
    return start, top, turn, end


def work(force: FloatArray, x: FloatArray, start: int, top: int) -> float:
    resisting = np.maximum(force, 0.0)[start : top + 1]
    return float(np.sum(0.5 * (resisting[1:] + resisting[:-1]) * np.diff(x[start : top + 1])))


@given(movement=MOVEMENTS)
@settings(max_examples=300, deadline=None)
def test_the_truth_is_what_the_noise_free_signal_says(movement: Movement) -> None:
    signal = rep_signal(movement)
    start, top, turn, end = segmented(signal.position)
    rom = signal.position[top] - signal.position[start]
    truth = signal.truth
    assert truth.marks == (start, top, turn, end)
    assert truth.rom == pytest.approx(rom, rel=0.01)
    assert truth.concentric_s == pytest.approx((top - start) / FS_HZ)
    assert truth.hold_s == pytest.approx((turn - top) / FS_HZ)
    assert truth.eccentric_s == pytest.approx((end - turn) / FS_HZ)
    assert truth.mean_velocity == pytest.approx(rom / (top - start) * FS_HZ, rel=0.01)


@given(movement=MOVEMENTS)
@settings(max_examples=200, deadline=None)
def test_the_work_is_force_times_way_wherever_the_patient_never_lets_go(movement: Movement) -> None:
    signal = rep_signal(movement)
    start, top = signal.truth.marks[:2]
    if signal.force.min() >= 0.0:
        work_J = work(signal.force, signal.position, start, top)
        assert signal.truth.work_J == pytest.approx(work_J, rel=0.01)
        assert signal.truth.power_W == pytest.approx(work_J / (top - start) * FS_HZ, rel=0.01)


@given(movement=MOVEMENTS)
@settings(max_examples=100, deadline=None)
def test_range_and_times_are_those_that_were_asked_for_when_there_is_a_hold(movement: Movement) -> None:
    truth = rep_signal(movement).truth
    if truth.hold_s > 0.0:
        assert truth.rom == pytest.approx(movement.rom)
        assert truth.concentric_s == pytest.approx(movement.concentric_s, abs=0.5 / FS_HZ + 1e-9)
        assert truth.eccentric_s == pytest.approx(movement.eccentric_s, abs=0.5 / FS_HZ + 1e-9)


@given(movement=MOVEMENTS)
@settings(max_examples=100, deadline=None)
def test_half_a_second_of_rest_surrounds_every_rep(movement: Movement) -> None:
    signal = rep_signal(movement)
    assert np.ptp(signal.position[:CONTEXT_SAMPLES]) == 0.0
    assert np.ptp(signal.position[-CONTEXT_SAMPLES:]) < 1e-9
    assert signal.truth.marks[0] >= CONTEXT_SAMPLES
    assert len(signal.position) - signal.truth.marks[3] > CONTEXT_SAMPLES


def test_seen_through_sensors_and_a_6_hz_filter_the_truth_is_met_within_3_and_on_average_within_half_a_percent() -> (
    None
):
    rng = np.random.default_rng(3)
    b, a = scipy_signal.butter(2, 6.0 / (FS_HZ / 2.0) / (math.sqrt(2.0) - 1.0) ** 0.25)
    errors = []
    for _ in range(200):
        movement = Movement(
            start=0.05,
            rom=rng.uniform(0.3, 0.9),
            concentric_s=rng.uniform(0.8, 3.0),
            hold_s=0.3,
            eccentric_s=rng.uniform(1.5, 3.5),
            load_N=200.0,
            inertia=20.0,
            tremor=0.01,
        )
        signal = rep_signal(movement, rng)
        x = scipy_signal.filtfilt(b, a, signal.position, padlen=50)
        v_rest = 3.0 * float(np.std(np.gradient(x)[:45])) * FS_HZ
        start, top = segmented(x, v_rest)[:2]
        velocity = (x[top] - x[start]) / (top - start) * FS_HZ
        work_J = work(signal.force, x, start, top)
        errors.append((velocity / signal.truth.mean_velocity - 1.0, work_J / signal.truth.work_J - 1.0))
    assert np.abs(errors).max() < 0.03
    assert np.abs(np.mean(errors, axis=0)).max() < 0.005


def test_the_same_dice_give_the_same_samples() -> None:
    movement = Movement(start=0.0, rom=0.5, concentric_s=1.0, hold_s=0.3, eccentric_s=2.0, load_N=100.0, tremor=0.01)
    one, two = (rep_signal(movement, np.random.default_rng(5)) for _ in range(2))
    assert one.force.tobytes() == two.force.tobytes()
    assert one.position.tobytes() == two.position.tobytes()
    assert one.truth == two.truth
