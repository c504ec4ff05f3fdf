"""Recordings become repetitions: the clock, the gaps, the excursions, and the same numbers as from a live stream."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from loadtest.movement import rep_signal
from streams.core import codec, excursions
from streams.core.excursions import MAX_REPS, cut, fitting_scale, limits, measured
from streams.core.limits import MAX_MESSAGE_BYTES
from streams.core.measure import measure
from streams.core.oddities import period
from streams.core.recording import Columns, Protocol, WrongRecording, on_uniform_clock
from streams.core.stamps import uniform_clock
from tests.core.movements import counts, message, minimum_jerk
from tests.core.recordings import BOTTOM_M, LOAD_N, ROM_M, Recorded, lift, recorded, tiring

KNOWN = Protocol(load_N=LOAD_N, intent="max")
FLAWLESS = recorded(*[lift()] * 4)


def verdicts(columns: Columns, protocol: Protocol = KNOWN) -> list[tuple[str, ...]]:
    """Return the reasons of each excursion, `valid` first where it is."""
    return [(("valid",) if one.valid else ()) + one.reasons for one in measured(cut(columns, protocol))]


def notices(columns: Columns, protocol: Protocol = KNOWN) -> set[str]:
    return {notice.name for notice in cut(columns, protocol).notices}


# the clock


@pytest.mark.parametrize("seed", range(5))
def test_stamps_of_a_host_are_put_on_the_clock_of_the_device_and_lost_samples_are_found(seed: int) -> None:
    #  device  20 ms a sample; two samples lost at 1,000, half a second at 2,000
    #  host    late by up to 35 ms, so that steps are 0 to 55 ms
    rng = np.random.default_rng(seed)
    late_s = np.minimum(rng.exponential(0.006, 3_000), 0.035)
    stamps = np.maximum.accumulate(np.arange(3_000.0) * 0.02 + late_s)
    keep = np.ones(3_000, np.bool_)
    keep[1_000:1_002] = keep[2_000:2_025] = False
    clock = uniform_clock(stamps[keep])
    assert (clock.number == np.flatnonzero(keep)).all()
    assert clock.fs_hz == pytest.approx(50.0, rel=2e-5)
    assert 0.02 < clock.jitter_s < 0.035


def test_a_burst_after_a_pause_of_the_host_is_jitter_and_no_gap() -> None:
    stamps = np.arange(3_000.0) * 0.01
    for first in range(200, 2_900, 300):  # nine samples wait for the tenth: up to 90 ms late
        stamps[first : first + 10] = stamps[first + 9]
    clock = uniform_clock(stamps)
    assert (clock.number == np.arange(3_000)).all()
    assert clock.jitter_s == pytest.approx(0.09, abs=0.005)


@given(data=st.data(), fs_hz=st.sampled_from([50.0, 100.0, 128.0, 1_000.0]))
@settings(max_examples=50)
def test_samples_that_are_lost_from_a_clean_clock_are_found_exactly(data: st.DataObject, fs_hz: float) -> None:
    lost = data.draw(st.sets(st.integers(1, 398), max_size=60))
    keep = np.array([row not in lost for row in range(400)])
    clock = uniform_clock((np.arange(400) / fs_hz)[keep])
    assert (clock.number == np.flatnonzero(keep)).all()
    assert clock.fs_hz == pytest.approx(fs_hz)


def test_velocity_comes_from_the_fitted_clock_and_not_from_the_stamps_of_the_host() -> None:
    #  the same movement, sampled at 50 Hz by the device and stamped by a host that is late by up to 35 ms
    rng = np.random.default_rng(7)
    half = FLAWLESS.t_s[::2]
    stamps = np.maximum.accumulate(half + np.minimum(rng.exponential(0.008, len(half)), 0.035))
    columns = Columns(t_s=stamps, force=FLAWLESS.force[::2], position=FLAWLESS.position[::2])
    assert np.diff(stamps).max() > 0.04
    found = measured(cut(columns, KNOWN))
    truth = FLAWLESS.truths[0].mean_velocity
    assert [one.values["mean_velocity"] for one in found] == pytest.approx([truth] * 4, rel=0.02)
    by_stamps = np.gradient(columns.position, np.maximum(stamps, stamps + np.arange(len(half)) * 1e-9))
    by_clock = found[0].values["peak_velocity"]
    assert by_clock == pytest.approx(measured(cut(FLAWLESS.columns(), KNOWN))[0].values["peak_velocity"], rel=0.01)
    assert by_stamps.max() > 1.5 * by_clock  # what differentiating host stamps would have told
    assert {"jitter", "resampled"} <= notices(columns)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_rate(rows: int) -> None:
    x = np.zeros(rows)
    with pytest.raises(WrongRecording, match="rate"):
        on_uniform_clock(Columns(t_s=x, force=x, position=x), KNOWN)


def test_one_row_a_second_shows_no_movement() -> None:
    x = np.arange(10.0)
    with pytest.raises(WrongRecording, match="too few"):
        on_uniform_clock(Columns(t_s=x, force=x, position=x / 10.0), KNOWN)


def test_a_night_between_two_sets_costs_no_memory_and_times_stay_true() -> None:
    night_s = 8 * 3_600.0
    later = np.where(FLAWLESS.t_s > FLAWLESS.starts_s[2] - 0.7, FLAWLESS.t_s + night_s, FLAWLESS.t_s)
    cuts = cut(FLAWLESS.columns(t_s=later), KNOWN)
    assert len(cuts.uniform.t_s) < len(FLAWLESS.t_s) + 250
    starts = [FLAWLESS.starts_s[0], FLAWLESS.starts_s[1], *(s + night_s for s in FLAWLESS.starts_s[2:])]
    assert [one.start_s for one in cuts.reps] == pytest.approx(starts, abs=0.03)
    assert [one.number for one in cuts.sets] == [1, 2]


# the numbers


def test_every_repetition_is_found_with_its_true_range_times_work_and_velocity() -> None:
    told = tiring(seed=None)
    cuts = cut(told.columns(), KNOWN)
    for one, marks, truth, start_s in zip(measured(cuts), limits(cuts), told.truths, told.starts_s, strict=True):
        assert (one.valid, one.reasons) == (True, ())
        assert cuts.uniform.t_s[marks[0]] == pytest.approx(start_s, abs=0.015)
        assert one.values["range_of_motion"] == pytest.approx(truth.rom, rel=2e-3)
        assert one.values["concentric_time_s"] == pytest.approx(truth.concentric_s, abs=0.03)
        assert one.values["eccentric_time_s"] == pytest.approx(truth.eccentric_s, abs=0.03)
        assert one.values["top_hold_time_s"] == pytest.approx(truth.hold_s, abs=0.03)
        assert one.values["concentric_work_J"] == pytest.approx(truth.work_J, rel=0.01)


def test_a_recording_of_a_machines_counts_gives_the_numbers_of_its_messages() -> None:
    #  messages as a machine cuts them, 0.5 s of context; the recording is what lies in them, one after the other
    rng = np.random.default_rng(3)
    signals = [rep_signal(lift(rom=0.45 - 0.01 * n, concentric_s=0.8 + 0.05 * n), rng) for n in range(6)]
    force, position = (
        [np.rint(getattr(signal, name) / scale) * scale for signal in signals]
        for name, scale in (("force", 0.1), ("position", 1e-4))
    )
    t_s = np.arange(sum(map(len, force))) / 100.0
    cuts = cut(Columns(t_s=t_s, force=np.concatenate(force), position=np.concatenate(position)), KNOWN)
    window = (cuts.sets[0].lo, cuts.sets[0].hi)
    messages = [
        message(x, f, intent="max", load_N=LOAD_N, position_scale=1e-4, force_scale_N=0.1, calibrated=window)
        for x, f in zip(position, force, strict=True)
    ]
    for one, live in zip(measured(cuts), measure(messages), strict=True):
        assert one.valid
        assert live.valid
        assert {**one.values} == pytest.approx(
            {name: value for name, value in live.values.items() if name != "rom_completeness_pct"}, rel=1e-4, abs=2e-3
        )


def test_counts_of_a_machine_come_back_as_its_own_counts() -> None:
    rng = np.random.default_rng(4)
    told = rng.integers(-3_000, 3_000, 500).astype(np.float64)
    scale = fitting_scale(told * 1e-4)
    assert scale == 1e-4
    assert np.frombuffer(counts(told * 1e-4 / scale), "<i2").tolist() == told.tolist()


@given(largest=st.floats(1e-5, 50_000.0), seed=st.integers(0, 2**32 - 1))
def test_a_scale_lets_everything_fit_and_loses_next_to_nothing(largest: float, seed: int) -> None:
    x = largest * np.random.default_rng(seed).uniform(-1.0, 1.0, 50)
    scale = fitting_scale(x)
    assert np.abs(x / scale).max() < 32_767
    assert scale < np.abs(x).max() / 6_000


@pytest.mark.parametrize("rom", [0.012, 0.02, 0.04, 0.06])
def test_a_short_way_is_written_as_finely_as_a_long_one(rom: float) -> None:
    short = recorded(*[lift(rom=rom)] * 3)
    protocol = Protocol(load_N=LOAD_N, window=(BOTTOM_M, BOTTOM_M + rom))
    position = np.round(short.position - BOTTOM_M, 5)
    for shift in (0.0, BOTTOM_M):
        moved = replace(protocol, window=(shift, shift + rom))
        reps = measured(cut(short.columns(position=position + shift), moved))
        assert [one.values["range_of_motion"] for one in reps] == [pytest.approx(rom, rel=0.02)] * 3


def test_a_load_that_nobody_knows_makes_no_rep_unloaded_whatever_the_zero_of_the_sensor() -> None:
    unknown = Protocol(window=(BOTTOM_M, BOTTOM_M + ROM_M))
    reps = measured(cut(FLAWLESS.columns(force=np.full(len(FLAWLESS.t_s), -0.5)), unknown))
    assert [one.reasons for one in reps] == [()] * 4
    assert all(
        one.values["mean_propulsive_velocity"] == pytest.approx(one.values["mean_velocity"], rel=0.02) for one in reps
    )


def test_the_message_of_every_excursion_is_one_that_a_machine_may_send() -> None:
    cuts = cut(tiring().columns(velocity=np.gradient(tiring().position) * 100.0), KNOWN)
    for one in cuts.reps:
        payload = codec.encode(one.rep)
        assert len(payload) < MAX_MESSAGE_BYTES
        assert codec.decode_telemetry("a/b/c", payload) == one.rep


@given(
    shift_s=st.floats(-1e3, 1e6),
    sign=st.sampled_from([1, -1]),
    force_sign=st.sampled_from([1, -1]),
)
@settings(max_examples=20, deadline=None)
def test_neither_the_hour_nor_the_sign_of_a_sensor_changes_a_number(shift_s: float, sign: int, force_sign: int) -> None:
    told = tiring(4)
    protocol = replace(KNOWN, concentric_sign=sign, force_sign=force_sign)
    moved = Columns(t_s=told.t_s + round(shift_s, 2), force=force_sign * told.force, position=sign * told.position)
    assert measured(cut(moved, protocol)) == measured(cut(told.columns(), KNOWN))


@given(
    roms=st.lists(st.sampled_from([0.35, 0.4, 0.45]), min_size=1, max_size=4),
    concentric_s=st.floats(0.4, 2.0),
    rest_s=st.floats(0.0, 2.0),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=25, deadline=None)
def test_as_many_repetitions_are_found_as_were_done(
    roms: list[float], concentric_s: float, rest_s: float, seed: int
) -> None:
    told = recorded(*(lift(rom=rom, concentric_s=concentric_s) for rom in roms), rest_s=rest_s, seed=seed)
    found = measured(cut(told.columns(), KNOWN))
    assert [one.valid for one in found] == [True] * len(roms)
    assert [one.values["range_of_motion"] for one in found] == pytest.approx(roms, rel=0.01)


# windows, sets and sides


def test_without_a_window_the_range_of_the_set_judges_and_nobody_speaks_of_completeness() -> None:
    #  rom  0.45  0.45  0.24  0.10   of the set's 0.45: full, full, a partial rep that counts, below 30 %
    told = recorded(lift(), lift(), lift(rom=0.24), lift(rom=0.10))
    found = measured(cut(told.columns(), KNOWN))
    assert [(one.valid, one.reasons) for one in found] == [(True, ())] * 3 + [(False, ("below_min_rom",))]
    assert {one.undefined["rom_completeness_pct"] for one in found[:3]} == {"no_reference"}


def test_with_a_window_half_a_range_is_flagged_as_partial() -> None:
    told = recorded(lift(), lift(rom=0.24))
    protocol = replace(KNOWN, window=(BOTTOM_M, BOTTOM_M + ROM_M))
    full, half = measured(cut(told.columns(), protocol))
    assert (full.reasons, half.reasons) == ((), ("partial_rom",))
    assert full.values["rom_completeness_pct"] == pytest.approx(100.0, abs=0.5)
    assert half.values["rom_completeness_pct"] == pytest.approx(100.0 * 0.24 / 0.45, abs=0.5)


def test_each_set_of_the_column_has_its_own_window() -> None:
    told = recorded(lift(), lift(), lift(rom=0.12), lift(rom=0.12))
    number = np.where(told.t_s < told.starts_s[2] - 0.7, 1, 3)
    cuts = cut(told.columns(set_number=number), KNOWN)
    assert [(one.number, round(one.hi, 2)) for one in cuts.sets] == [(1, 0.5), (3, 0.17)]
    assert [(one.rep.set_number, one.rep.rep_number) for one in cuts.reps] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert [one.valid for one in measured(cuts)] == [True] * 4


def test_without_a_column_a_long_pause_begins_a_new_set() -> None:
    told = recorded(lift(), lift(), rest_s=35.0)
    assert [one.rep.set_number for one in cut(told.columns(), KNOWN).reps] == [1, 2]
    patient = replace(KNOWN, rest_s=60.0)
    assert [one.rep.set_number for one in cut(told.columns(), patient).reps] == [1, 1]


def test_a_rep_is_of_the_side_that_moved_when_it_was_highest() -> None:
    side = tuple("left" if t_s < FLAWLESS.starts_s[2] - 0.7 else "right" for t_s in FLAWLESS.t_s)
    cuts = cut(FLAWLESS.columns(side=side), KNOWN)
    assert [one.rep.side for one in cuts.reps] == ["left", "left", "right", "right"]


def test_a_quick_rejected_movement_is_not_taken_for_its_long_neighbour() -> None:
    #  a twitch of 0.2 s, a tenth of a second after it a full repetition: the context of the first reaches the second
    twitch = 0.16 * np.sin(np.linspace(0.0, math.pi, 20)) ** 2
    whole = recorded(lift(), rest_s=0.2)
    position = np.concatenate((np.full(80, BOTTOM_M), BOTTOM_M + twitch, whole.position[45:]))
    columns = Columns(t_s=np.arange(len(position)) / 100.0, force=np.full(len(position), LOAD_N), position=position)
    first, second = measured(cut(columns, KNOWN))
    assert not first.valid
    assert second.valid
    assert second.values["range_of_motion"] == pytest.approx(ROM_M, rel=0.01)


def test_of_two_quick_repetitions_each_is_measured_by_itself_though_each_is_in_the_context_of_the_other() -> None:
    def up_and_down(concentric_s: float, eccentric_s: float) -> list[NDArray[np.float64]]:
        return [minimum_jerk(concentric_s), 1.0 - minimum_jerk(eccentric_s)]

    rest = np.zeros(80)
    way = np.concatenate([rest, *up_and_down(0.5, 0.3), np.zeros(3), *up_and_down(0.3, 0.3), rest])
    position = BOTTOM_M + ROM_M * way
    columns = Columns(t_s=np.arange(len(position)) / 100.0, force=np.full(len(position), LOAD_N), position=position)
    first, second = measured(cut(columns, KNOWN))
    assert [one.valid for one in (first, second)] == [True, True]
    assert first.values["concentric_time_s"] > second.values["concentric_time_s"] + 0.1


# what is wrong with recordings


def test_a_file_that_ends_within_a_repetition_says_so_of_the_last_one() -> None:
    keep = FLAWLESS.t_s < FLAWLESS.starts_s[3] + 1.3
    assert verdicts(FLAWLESS.columns(keep)) == [("valid",)] * 3 + [("open_at_end",)]


@pytest.mark.parametrize(
    ("lost_ms", "verdict"),
    [(50, ("valid",)), (60, ("valid", "gap")), (100, ("valid", "gap")), (110, ("gap_over_100ms",))],
)
def test_a_gap_is_forgotten_flagged_or_fatal_by_its_length(lost_ms: int, verdict: tuple[str, ...]) -> None:
    first = round((FLAWLESS.starts_s[1] + 0.3) * 100)
    keep = np.ones(len(FLAWLESS.t_s), np.bool_)
    keep[first : first + lost_ms // 10] = False
    assert verdicts(FLAWLESS.columns(keep)) == [("valid",), verdict, ("valid",), ("valid",)]
    assert "gaps" in notices(FLAWLESS.columns(keep))


@pytest.mark.parametrize(("channel", "lost"), [("position", 20), ("force", 20)])
def test_empty_cells_are_gaps_like_rows_that_are_not_there(channel: str, lost: int) -> None:
    holed = np.array(getattr(FLAWLESS, channel))
    first = round((FLAWLESS.starts_s[2] + 0.3) * 100)
    holed[first : first + lost] = np.nan
    columns = FLAWLESS.columns(**{channel: holed})
    assert verdicts(columns) == [("valid",), ("valid",), ("gap_over_100ms",), ("valid",)]
    assert "missing_samples" in notices(columns)


@pytest.mark.parametrize("fs_hz", [50.0, 200.0, 1_000.0])
@pytest.mark.parametrize(("lost_ms", "verdict"), [(40, ("valid",)), (80, ("valid", "gap")), (500, ("gap_over_100ms",))])
def test_gaps_are_judged_alike_at_every_rate(fs_hz: float, lost_ms: int, verdict: tuple[str, ...]) -> None:
    t_s = np.arange(0.0, FLAWLESS.t_s[-1], 1.0 / fs_hz)
    position, force = (np.interp(t_s, FLAWLESS.t_s, x) for x in (FLAWLESS.position, FLAWLESS.force))
    begin_s = FLAWLESS.starts_s[1] + 0.3
    keep = (t_s < begin_s - 1e-9) | (t_s >= begin_s + lost_ms / 1e3 - 1e-9)
    columns = Columns(t_s=t_s[keep], force=force[keep], position=position[keep])
    assert verdicts(columns) == [("valid",), verdict, ("valid",), ("valid",)]


def test_a_turned_sign_is_a_reason_for_every_repetition_and_a_notice_that_says_what_to_do() -> None:
    columns = FLAWLESS.columns(position=-FLAWLESS.position)
    cuts = cut(columns, KNOWN)
    assert verdicts(columns) == [("sign_mismatch",)] * 4
    assert any("--concentric-sign" in notice.detail for notice in cuts.notices)
    assert verdicts(columns, replace(KNOWN, concentric_sign=-1)) == [("valid",)] * 4


def test_the_devices_velocity_tells_a_wrong_sign_and_a_wrong_scale() -> None:
    derived = np.gradient(FLAWLESS.position) * 100.0
    assert not notices(FLAWLESS.columns(velocity=derived)) & {"sign_mismatch", "scale_mismatch"}
    assert "sign_mismatch" in notices(FLAWLESS.columns(velocity=-derived))
    assert verdicts(FLAWLESS.columns(velocity=-derived)) == [("sign_mismatch",)] * 4
    assert "scale_mismatch" in notices(FLAWLESS.columns(velocity=1.2 * derived))


def test_a_constant_position_and_pure_noise_are_no_movement() -> None:
    t_s = np.arange(1_000) / 100.0
    noise = 1e-3 * np.random.default_rng(1).standard_normal(1_000)
    for position in (np.full(1_000, 0.3), 0.3 + noise):
        columns = Columns(t_s=t_s, force=np.full(1_000, LOAD_N), position=position)
        assert verdicts(columns) == []
        assert "no_movement" in notices(columns)


def test_two_samples_are_a_recording_without_movement() -> None:
    columns = Columns(t_s=np.array([0.0, 0.01]), force=np.zeros(2), position=np.array([0.0, 0.3]))
    assert all("valid" not in verdict for verdict in verdicts(columns))


def test_a_force_of_nothing_is_unloaded_under_a_known_load_and_no_channel_under_an_unknown_one() -> None:
    columns = FLAWLESS.columns(force=np.zeros(len(FLAWLESS.t_s)))
    assert verdicts(columns) == [("unloaded",)] * 4
    found = measured(cut(columns, Protocol(intent="max")))
    assert [one.undefined["peak_force"] for one in found] == ["no_channel"] * 4
    assert {"no_force", "load_unknown"} <= notices(columns, Protocol())


def test_a_spike_is_left_out_and_told_and_the_repetition_is_hardly_changed() -> None:
    told = tiring(4)
    spiked = told.position.copy()
    spiked[round((told.starts_s[1] + 0.4) * 100)] += 2.0
    spiked[round((told.starts_s[2] + 0.2) * 100)] = np.inf
    columns = told.columns(position=spiked)
    assert verdicts(columns) == [("valid",)] * 4
    assert {"spikes", "out_of_range"} <= notices(columns)
    found, clean = (measured(cut(one, KNOWN)) for one in (columns, told.columns()))
    assert [one.values["mean_velocity"] for one in found] == pytest.approx(
        [one.values["mean_velocity"] for one in clean], rel=2e-3
    )


@given(seed=st.integers(0, 1_000), noise=st.sampled_from([1e-5, 1e-4, 1e-3, 5e-3]), concentric_s=st.floats(0.25, 2.0))
@settings(max_examples=25, deadline=None)
def test_neither_noise_nor_a_fast_movement_is_taken_for_spikes(seed: int, noise: float, concentric_s: float) -> None:
    told = recorded(lift(concentric_s=concentric_s, eccentric_s=concentric_s), lift())
    noisy = told.position + noise * np.random.default_rng(seed).standard_normal(len(told.position))
    assert "spikes" not in notices(told.columns(position=noisy))


def test_a_plateau_is_a_notice_and_with_the_sensors_limit_a_reason() -> None:
    told = tiring(4)
    clipped = np.minimum(told.force, 470.0)
    assert "plateau" in notices(told.columns(force=clipped))
    assert verdicts(told.columns(force=clipped), replace(KNOWN, force_limit=470.0)) == [("saturated",)] * 4
    assert "plateau" not in notices(told.columns()) | notices(FLAWLESS.columns())


def test_thirty_rows_a_second_are_too_few_for_every_repetition() -> None:
    t_s = np.arange(0.0, FLAWLESS.t_s[-1], 1.0 / 30.0)
    position, force = (np.interp(t_s, FLAWLESS.t_s, x) for x in (FLAWLESS.position, FLAWLESS.force))
    columns = Columns(t_s=t_s, force=force, position=position)
    assert verdicts(columns) == [("rate_too_low",)] * 4
    assert "rate_too_low" in notices(columns)


def test_a_movement_of_minutes_is_too_long_and_still_fits_a_message() -> None:
    slow = np.concatenate((np.zeros(100), np.full(50_000, 0.4), np.zeros(100)))
    columns = Columns(t_s=np.arange(len(slow)) / 100.0, force=np.full(len(slow), LOAD_N), position=slow)
    assert verdicts(columns) == [("too_long",)]
    (one,) = cut(columns, KNOWN).reps
    assert len(codec.encode(one.rep)) < MAX_MESSAGE_BYTES


def test_a_rattling_sensor_gives_no_more_excursions_than_a_set_may_have() -> None:
    x = np.tile(np.repeat([0.0, 0.5], 20), 1_100)
    columns = Columns(t_s=np.arange(len(x)) / 100.0, force=np.full(len(x), LOAD_N), position=x)
    assert len(cut(columns, KNOWN).reps) == MAX_REPS
    assert "too_many" in notices(columns)


# the period


def test_reps_that_repeat_themselves_agree_with_the_period_and_pauses_do_not() -> None:
    steady = recorded(*[lift()] * 6)
    assert "period_mismatch" not in notices(steady.columns())
    x = np.tile(np.concatenate((np.sin(np.linspace(0.0, math.pi, 100)), np.zeros(20))), 8)
    assert period(x) == pytest.approx(1.2, abs=0.02)


def test_two_movements_in_one_cycle_are_noticed() -> None:
    #  high, low, high, low: excursions every 3.6 s, the whole repeats itself every 7.3 s
    pair = recorded(lift(rom=0.45), lift(rom=0.10), rest_s=0.0)
    several = np.tile(pair.position, 6)
    columns = Columns(t_s=np.arange(len(several)) / 100.0, force=np.full(len(several), LOAD_N), position=several)
    assert "period_mismatch" in notices(columns)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_nothing_that_can_be_read_ends_in_a_traceback(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = data.draw(st.integers(2, 600))
    steps = data.draw(st.sampled_from([np.full(rows, 0.01), rng.exponential(0.02, rows), rng.choice([0.0, 5.0], rows)]))
    kind = data.draw(st.sampled_from(["walk", "noise", "constant", "huge", "holes"]))
    position = np.cumsum(rng.standard_normal(rows)) * 0.02 if kind == "walk" else 0.1 * rng.standard_normal(rows)
    position = np.full(rows, 0.2) if kind == "constant" else position * (1e300 if kind == "huge" else 1.0)
    position[rng.random(rows) < 0.3 * (kind == "holes")] = np.nan
    t_s = np.cumsum(steps)
    columns = Columns(t_s=t_s, force=100.0 * rng.standard_normal(rows), position=position, velocity=position)
    window = data.draw(st.sampled_from([None, (0.0, 0.1), (5.0, 9.0)]))
    try:
        cuts = cut(columns, Protocol(window=window))
    except WrongRecording as wrong:
        assert "\n" not in str(wrong)  # noqa: PT017 - one line is the promise
        return
    for one in measured(cuts):
        assert one.valid or one.reasons
        assert all(math.isfinite(value) for value in one.values.values())
    assert all(first <= last for first, *_, last in excursions.limits(cuts))


def test_times_of_a_generated_recording_are_true() -> None:
    """Without this the tests above could agree with a generator that is wrong."""
    told: Recorded = recorded(lift(), lift())
    for start_s, truth in zip(told.starts_s, told.truths, strict=True):
        start = round(start_s * 100)
        assert told.position[start] == pytest.approx(BOTTOM_M, abs=2e-3)
        assert told.position[start + truth.marks[1] - truth.marks[0]] == pytest.approx(BOTTOM_M + ROM_M, abs=2e-3)
