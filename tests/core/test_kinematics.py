"""Kinematics and kinetics: known movements give known numbers."""

from typing import Any

import numpy as np
import pytest

from streams.core import kinematics, kinetics, lowpass, segmentation, signals
from streams.core.kinematics import Column
from streams.core.segmentation import Phases
from tests.core.movements import LOAD_N, Array, message, ordered, path


def phases(position: Array, force: Array | float = LOAD_N, **changes: Any) -> Phases:
    return segmentation.segment(signals.read([message(position, force, **changes)]))


def value(column: Column) -> float:
    values, undefined = column
    assert not any(holds[0] for holds in undefined.values())
    return float(values[0])


def reasons(column: Column) -> list[str]:
    return [reason for reason, holds in column[1].items() if holds[0]]


@pytest.mark.parametrize("con_s", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("rom", [0.1, 0.4])
def test_a_minimum_jerk_rep_shows_its_range_times_and_velocities(con_s: float, rom: float) -> None:
    rep = phases(path(rom=rom, con_s=con_s, hold_s=0.6, ecc_s=con_s))
    # 2 % of peak speed is passed after 3.67 % of the time, at 0.05 % of the way
    assert value(kinematics.range_of_motion(rep)) == pytest.approx(0.9990 * rom, rel=2e-3)
    assert value(kinematics.concentric_time(rep)) == pytest.approx(0.9267 * con_s, abs=0.04)
    assert value(kinematics.eccentric_time(rep)) == pytest.approx(0.9267 * con_s, abs=0.04)
    assert value(kinematics.top_hold_time(rep)) == pytest.approx(0.6 + 0.0733 * con_s, abs=0.04)
    assert value(kinematics.time_under_load(rep)) == pytest.approx(0.6 + 1.9267 * con_s, abs=0.04)
    assert value(kinematics.mean_velocity(rep)) == pytest.approx(1.078 * rom / con_s, rel=0.05)
    assert value(kinematics.peak_velocity(rep)) == pytest.approx(1.875 * rom / con_s, rel=0.03)


def test_six_hertz_leave_a_fast_rep_its_peak_velocity_and_three_would_not() -> None:
    x, true = path(con_s=0.4), 1.875 * 0.4 / 0.4
    assert value(kinematics.peak_velocity(phases(x))) == pytest.approx(true, rel=0.01)
    slow = lowpass.zero_lag(x[None], np.array([len(x)]), 3.0, 100.0)[0]
    assert np.diff(slow).max() * 100.0 < 0.95 * true


def test_the_time_at_the_bottom_is_not_in_the_message() -> None:
    assert reasons(kinematics.bottom_hold_time(phases(path()))) == ["open_at_end"]


def test_completeness_is_the_share_of_the_prescribed_window() -> None:
    completeness = value(kinematics.rom_completeness(phases(path(rom=0.3), prescription=ordered())))
    assert completeness == pytest.approx(75.0, abs=0.2)
    assert reasons(kinematics.rom_completeness(phases(path()))) == ["no_reference"]
    assert reasons(kinematics.rom_completeness(phases(path(), prescription=ordered(window_lo=None)))) == [
        "no_reference"
    ]


def test_tempo_is_judged_by_the_worse_phase_and_with_max_intent_by_the_eccentric() -> None:
    x = path(con_s=1.0, ecc_s=1.2)
    rep = phases(x, prescription=ordered())
    con_s, ecc_s = value(kinematics.concentric_time(rep)), value(kinematics.eccentric_time(rep))
    wanted = ordered(concentric_s=con_s / 1.5, eccentric_s=ecc_s / 0.9)
    assert value(kinematics.tempo_error(phases(x, prescription=wanted))) == pytest.approx(50.0)
    assert value(kinematics.tempo_error(phases(x, prescription=wanted, intent="unknown"))) == pytest.approx(50.0)
    assert value(kinematics.tempo_error(phases(x, prescription=wanted, intent="max"))) == pytest.approx(10.0)


@pytest.mark.parametrize("wanted", [None, 0.0])
def test_without_a_prescribed_time_there_is_no_tempo_error(wanted: float | None) -> None:
    free = ordered(concentric_s=wanted, eccentric_s=wanted)
    rep = phases(path(), prescription=free)
    assert reasons(kinematics.tempo_error(rep)) == ["no_reference"]
    assert not kinematics.is_tempo_fast(rep, 0.75)[0]
    half = phases(path(), prescription=ordered(concentric_s=wanted, eccentric_s=1.0))
    assert reasons(kinematics.tempo_error(half)) == []


@pytest.mark.parametrize("fraction", [0.5, 0.75, 0.9])
def test_a_phase_is_fast_below_that_fraction_of_its_time_and_not_at_it(fraction: float) -> None:
    rep = phases(path(), prescription=ordered())
    con_s = value(kinematics.concentric_time(rep))
    for share, is_fast in ((fraction, False), (fraction - 0.005, True)):
        wanted = ordered(concentric_s=con_s / share, eccentric_s=None)
        assert kinematics.is_tempo_fast(phases(path(), prescription=wanted), fraction)[0] == is_fast


def test_propulsive_velocity_leaves_out_where_nobody_pushes() -> None:
    x = path(con_s=1.0)
    force = np.full(len(x), LOAD_N)
    always = value(kinematics.mean_propulsive_velocity(phases(x, force)))
    assert always == pytest.approx(value(kinematics.mean_velocity(phases(x, force))), rel=2e-3)
    force[110:160] = 0.0  # the second half of the concentric flies
    rep = phases(x, force)
    pushed = rep.velocity[0, int(rep.start[0]) : int(rep.top[0])]
    pushed = pushed[rep.signals.force[0, int(rep.start[0]) : int(rep.top[0])] >= 0.05 * LOAD_N]
    assert value(kinematics.mean_propulsive_velocity(rep)) == pytest.approx(pushed.mean())
    assert reasons(kinematics.mean_propulsive_velocity(phases(x, 0.0))) == ["no_movement"]


def test_a_constant_force_works_along_the_range() -> None:
    rep = phases(path(con_s=1.3), 250.0)
    rom, con_s = value(kinematics.range_of_motion(rep)), value(kinematics.concentric_time(rep))
    assert value(kinetics.concentric_work(rep)) == pytest.approx(250.0 * rom, abs=1e-9)
    assert value(kinetics.concentric_power(rep)) == pytest.approx(250.0 * rom / con_s, abs=1e-9)
    assert value(kinetics.peak_force(rep)) == value(kinetics.mean_force(rep)) == pytest.approx(250.0)


def test_pulling_back_is_no_work() -> None:
    x = path(con_s=1.0)
    force = np.full(len(x), 200.0)
    force[110:] = -400.0
    rep = phases(x, force)
    assert value(kinetics.concentric_work(rep)) == pytest.approx(200.0 * 0.2, rel=0.12)
    assert value(kinetics.mean_force(rep)) == pytest.approx(-100.0, abs=20.0)


def test_the_peak_force_of_the_eccentric_is_not_that_of_the_concentric() -> None:
    x = path(con_s=1.0, hold_s=0.5)
    force = np.full(len(x), 200.0)
    force[240:260] = 500.0
    assert value(kinetics.peak_force(phases(x, force))) == pytest.approx(200.0, abs=0.1)
