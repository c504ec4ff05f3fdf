"""Force curve: force by position and torque by angle, of reps whose force is a known function of position."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.measure import Measured, measure
from tests.core.movements import LOAD_N, SCALE_N, Array, message, path


def one(position: Array, force: Array | float = LOAD_N, **changes: Any) -> Measured:
    return measure([message(position, force, **changes)])[0]


def curve(measured: Measured) -> Array:
    assert measured.curve is not None
    return np.frombuffer(measured.curve, "<f4").astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 6.0), st.floats(0.1, 0.5), st.floats(-300.0, 300.0))
def test_a_force_in_proportion_to_position_is_a_straight_curve(con_s: float, rom: float, slope: float) -> None:
    x = path(con_s=con_s, rom=rom)
    points = curve(one(x, 300.0 + slope * x / rom))
    straight = np.linspace(points[0], points[-1], 101)
    assert len(points) == 101
    assert points == pytest.approx(straight, abs=0.01 * abs(slope) + 2.0 * SCALE_N)
    assert points[-1] - points[0] == pytest.approx(slope, abs=0.02 * abs(slope) + 2.0 * SCALE_N)


def test_a_position_counts_where_it_is_reached_first() -> None:
    #  up to 0.2 m, back to 0.15, up to 0.4: force is 100 N on the first way, 300 N afterwards
    up = np.concatenate((np.linspace(0.0, 0.2, 60), np.linspace(0.2, 0.15, 30)[1:], np.linspace(0.15, 0.4, 80)[1:]))
    x = np.concatenate((np.zeros(60), up, np.full(20, 0.4), np.linspace(0.4, 0.0, 100), np.zeros(60)))
    force = np.where(np.arange(len(x)) < 60 + 75, 100.0, 300.0)
    points = curve(one(x, force, load_N=200.0))
    assert points[:45] == pytest.approx(100.0, abs=1.0)
    assert points[56:] == pytest.approx(300.0, abs=12.0)


def test_without_force_or_without_a_rep_there_is_no_curve() -> None:
    assert one(path(), np.nan).curve is None
    assert one(np.zeros(300)).curve is None
    assert one(path(), np.nan, position_unit="rad").torque_by_bin is None
    assert one(path()).torque_by_bin is None


def test_torque_is_the_largest_of_each_twelve_degrees() -> None:
    x = math.radians(50.0) / 0.4 * path(con_s=3.0) + math.radians(10.0)  # from 10 to 60 degrees
    measured = one(x, 100.0 + np.degrees(x), position_unit="rad", position_scale=1e-4)
    #                              0-12   12-24  24-36  36-48  48-60  60-72  72-84
    assert measured.torque_by_bin is not None
    assert measured.torque_by_bin[:5] == pytest.approx((112.0, 124.0, 136.0, 148.0, 160.0), abs=1.0)
    assert measured.torque_by_bin[6] is None


def test_what_lies_outside_the_bins_is_left_out() -> None:
    x = math.radians(140.0) / 0.4 * path(con_s=3.0) - math.radians(30.0)  # from -30 to 110 degrees
    found = one(x, 100.0, position_unit="rad", position_scale=1e-4).torque_by_bin
    assert found == (100.0,) * 7
    below = one(x - 3.0, 100.0, position_unit="rad", position_scale=1e-3).torque_by_bin
    assert below == (None,) * 7


def test_torques_are_rounded_to_hundredths_and_curves_are_not() -> None:
    measured = one(path(), 123.4567, position_unit="rad", force_scale_N=0.01234)
    assert measured.torque_by_bin is not None
    assert all(value == round(value, 2) for value in measured.torque_by_bin if value is not None)
    assert curve(measured) == pytest.approx(round(123.4567 / 0.01234) * 0.01234, rel=1e-6)
