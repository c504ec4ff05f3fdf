"""Segmentation: every rep is found where it is, and every message that holds none says why."""

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from streams.core import segmentation, signals
from streams.core.segmentation import Phases
from streams.core.telemetry import Prescription, Rep
from tests.core.movements import LOAD_N, SCALE, Array, counts, message, minimum_jerk, ordered, path


def phases(*reps: Rep) -> Phases:
    return segmentation.segment(signals.read(reps))


def limits(found: Phases) -> tuple[int, ...]:
    return tuple(int(one[0]) for one in (found.start, found.top, found.turn, found.end))


def invalid(position: Array, force: Array | float = LOAD_N, **changes: Any) -> list[str]:
    found = phases(message(position, force, **changes))
    return [reason for reason, holds in found.invalid.items() if holds[0]]


def flagged(position: Array, **changes: Any) -> list[str]:
    found = phases(message(position, **changes))
    assert not any(holds[0] for holds in found.invalid.values())
    return [reason for reason, holds in found.flagged.items() if holds[0]]


def slow_share(share_of_peak: float) -> float:
    """Return the share of a minimum-jerk movement's time before its speed passes that share of its peak.

    Its speed is 16 u u (1 - u)(1 - u) of its peak.
    """
    return (1.0 - math.sqrt(1.0 - math.sqrt(share_of_peak))) / 2.0


@pytest.mark.parametrize("con_s", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("ecc_s", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("hold_s", [0.3, 2.0])
@pytest.mark.parametrize("prescription", [None, ordered(), ordered(window_lo=-0.1, window_hi=0.42)])
def test_a_clean_rep_begins_and_ends_where_its_speed_passes_two_percent(
    con_s: float, ecc_s: float, hold_s: float, prescription: Prescription | None
) -> None:
    #         60       60+con    +hold      +ecc
    #  ________/~~~~~~~~~~~\______\~~~~~~~~~~~\________   true start and end of each movement, 2 % of peak speed inside
    found = phases(message(path(con_s=con_s, ecc_s=ecc_s, hold_s=hold_s), prescription=prescription))
    fastest = 1.0 / min(con_s, ecc_s)
    con_cut, ecc_cut = (100.0 * s * slow_share(0.02 * fastest * s) for s in (con_s, ecc_s))
    top, turn = 60.0 + 100.0 * con_s, 60.0 + 100.0 * (con_s + hold_s)
    truth = (60.0 + con_cut, top - con_cut, turn + ecc_cut, turn + 100.0 * ecc_s - ecc_cut)
    assert limits(found) == pytest.approx(truth, abs=2.5)


@pytest.mark.parametrize("hold_s", [0.0, 0.05])
def test_without_a_hold_the_concentric_ends_and_the_eccentric_begins_at_the_top(hold_s: float) -> None:
    found = phases(message(path(hold_s=hold_s)))
    assert limits(found)[1] == limits(found)[2] == int(np.nanargmax(found.signals.position[0]))


def test_reps_without_a_rest_share_their_turnaround() -> None:
    #  ____/\/\/\____    each message: one rep and 0.5 s of its neighbours
    reps = [path(rom=rom, hold_s=0.0, before_s=0.0, after_s=0.0, con_s=0.9, ecc_s=0.9) for rom in (0.38, 0.40, 0.39)]
    whole = np.concatenate((np.zeros(50), *reps, np.zeros(60)))
    cuts = [50 + 180 * i for i in range(3)]
    found = phases(*(message(whole[cut - 50 : cut + 230]) for cut in cuts))
    assert not any(holds.any() for reason, holds in found.invalid.items())
    assert not found.flagged["no_context"].any()
    ends, starts = found.end + cuts - 50, found.start + cuts - 50
    assert list(ends[:2]) == list(starts[1:]) == pytest.approx([230, 410], abs=1)


def test_a_rest_at_the_bottom_keeps_the_limits_of_both_reps_apart() -> None:
    reps = [np.concatenate((path(before_s=0.0, after_s=0.0), np.zeros(40))) for _ in range(2)]
    whole = np.concatenate((np.zeros(60), *reps, np.zeros(60)))
    middle = 60 + len(reps[0])
    first, second = phases(message(whole[: middle + 10])), phases(message(whole[middle - 50 :]))
    assert limits(second)[0] + middle - 50 - limits(first)[3] > 40


def test_a_bare_rep_is_measured_and_says_that_it_lacks_context() -> None:
    bare = path(before_s=0.0, after_s=0.0)
    found = phases(message(bare))
    assert flagged(bare) == ["no_context"]
    assert limits(found) == pytest.approx((0, 100, 130, len(bare) - 1), abs=6)


@pytest.mark.parametrize(("before_s", "after_s", "expected"), [
    (0.5, 0.5, []), (0.35, 0.5, ["no_context"]), (0.5, 0.35, ["no_context"]),
])  # fmt: skip
def test_context_is_needed_on_both_sides(before_s: float, after_s: float, expected: list[str]) -> None:
    assert flagged(path(before_s=before_s, after_s=after_s)) == expected


@pytest.mark.parametrize("position", [
    np.zeros(2), np.full(2, 0.05), np.zeros(300), np.full(300, -0.4), np.full(300, np.nan)[:8],
    5.0 * SCALE * np.random.default_rng(1).standard_normal(300),
], ids=["two samples", "two samples off zero", "zeros", "constant", "no samples", "noise"])  # fmt: skip
@pytest.mark.parametrize("prescription", [None, ordered()])
def test_where_nothing_moves_there_is_no_rep(position: Array, prescription: Prescription | None) -> None:
    assert invalid(position, prescription=prescription) == ["below_min_rom"]


@pytest.mark.parametrize(("rom", "expected"), [
    (0.33, []), (0.20, []), (0.125, []), (0.115, ["below_min_rom"]), (0.07, ["below_min_rom"]),
])  # fmt: skip
def test_a_rep_needs_thirty_percent_of_the_prescribed_range(rom: float, expected: list[str]) -> None:
    assert invalid(path(rom=rom), prescription=ordered()) == expected


def test_without_a_window_a_small_rep_is_a_full_one() -> None:
    assert invalid(path(rom=0.07)) == []


def test_a_window_that_is_upside_down_is_none() -> None:
    found = phases(message(path(), prescription=ordered(window_lo=0.4, window_hi=0.0)))
    assert np.isnan(found.reference[0])
    assert not any(holds[0] for holds in found.invalid.values())


def test_a_phase_of_less_than_a_fifth_of_a_second_is_too_short() -> None:
    assert invalid(path(con_s=0.12)) == ["too_short"]
    assert invalid(path(ecc_s=0.12)) == ["too_short"]
    assert invalid(path(con_s=0.4, ecc_s=0.4)) == []


def test_a_rep_of_more_than_half_a_minute_is_too_long() -> None:
    assert invalid(path(hold_s=27.5)) == []
    assert invalid(path(hold_s=28.5)) == ["too_long"]


def test_a_concentric_without_load_is_no_rep() -> None:
    x = path()
    light, half = np.full(len(x), 0.04 * LOAD_N), np.full(len(x), 0.04 * LOAD_N)
    half[100:] = LOAD_N
    assert invalid(x, light) == invalid(x, 0.0) == invalid(x, -LOAD_N) == ["unloaded"]
    assert invalid(x, half) == invalid(x, 0.06 * LOAD_N) == []
    assert invalid(x, 0.0, load_N=0.0) == []
    assert invalid(x, np.nan) == []  # no load cell, no verdict


def test_a_message_that_stops_in_the_eccentric_is_open() -> None:
    x = path()
    assert invalid(x[:200]) == ["open_at_end"]
    assert invalid(x[:100], prescription=ordered()) == ["open_at_end"]


@pytest.mark.parametrize("prescription", [None, ordered()])
def test_a_wrong_sign_is_seen(prescription: Prescription | None) -> None:
    assert invalid(path(), concentric_sign=-1, prescription=prescription) == ["sign_mismatch"]
    assert invalid(-path(), concentric_sign=-1, prescription=prescription) == []


def test_a_push_that_falls_back_below_the_middle_is_two_in_one() -> None:
    def stumble(depth: float) -> Array:
        up, dip = 0.4 * minimum_jerk(1.0), (0.4 - depth) * (1.0 - minimum_jerk(0.5))
        back = np.concatenate((depth + dip, depth + dip[::-1]))
        return np.concatenate((np.zeros(60), up, back, 0.4 - up, np.zeros(60)))

    assert flagged(stumble(0.12)) == ["double_crossing"]
    assert flagged(stumble(0.28)) == []


def test_a_bump_beside_a_rep_is_not_taken_for_it() -> None:
    bump = 0.15 * np.concatenate((minimum_jerk(0.4), 1.0 - minimum_jerk(0.4)))
    before = phases(message(np.concatenate((np.zeros(60), bump, path())), prescription=ordered()))
    behind = phases(message(np.concatenate((path(), bump, np.zeros(60))), prescription=ordered()))
    assert limits(before)[0] >= 60 + len(bump) + 60
    assert limits(behind) == limits(phases(message(path(), prescription=ordered())))


def bare(*seconds: float) -> Array:
    con_s, ecc_s = seconds
    return path(con_s=con_s, hold_s=0.0, ecc_s=ecc_s, before_s=0.0, after_s=0.0)


@pytest.mark.parametrize("has_marks", [True, False])
@pytest.mark.parametrize(
    ("slow", "quick"), [((1.2, 1.2), (0.7, 0.8)), ((0.4, 0.4), (0.4, 0.4)), ((0.8, 0.8), (0.5, 0.5))]
)
def test_the_rep_before_is_not_measured_a_second_time_however_much_of_it_the_context_holds(
    slow: tuple[float, float], quick: tuple[float, float], *, has_marks: bool
) -> None:
    #  ____/\/\____   the message is about the second; of the first it may hold nothing, a part, or all and more
    first, second, rest = bare(*slow), bare(*quick), np.zeros(60)
    whole = np.concatenate((np.zeros(200), first, second, rest))
    start, top, end = 200 + len(first), 200 + len(first) + round(100 * quick[0]), len(whole) - len(rest)
    for before in (10, 50, 60, 80, len(first), len(first) + 60, len(first) + 200):
        cut = start - before
        marks = (start - cut, top - cut, top - cut, end - cut) if has_marks else None
        found = limits(phases(message(whole[cut:], prescription=ordered(), marks=marks)))
        assert found[1] == pytest.approx(top - cut, abs=3), before


def test_a_rep_that_never_ended_is_open_also_if_the_context_holds_the_whole_one_before() -> None:
    x = np.concatenate((np.zeros(60), bare(1.0, 1.2), 0.4 * minimum_jerk(0.9), np.full(20, 0.4)))
    start = 60 + 220
    assert invalid(x, prescription=ordered(), marks=(start, start + 90, start + 105, len(x) - 1)) == ["open_at_end"]


def test_marks_of_a_machine_that_counts_them_without_the_context_do_not_choose_a_piece_of_the_rep_before() -> None:
    x = np.concatenate((np.zeros(60), bare(1.2, 1.2), bare(0.36, 0.82), np.zeros(50)))[60 + 240 - 50 :]
    found = phases(message(x, prescription=ordered(), marks=(0, 36, 36, 118)))
    assert limits(found)[1] == pytest.approx(86, abs=3)
    assert segmentation.marks_off_s(found)[0] == pytest.approx(0.5, abs=0.05)


def test_a_rebound_is_not_taken_for_the_rep_before_it() -> None:
    rebound = 0.24 * np.concatenate((minimum_jerk(0.22), 1.0 - minimum_jerk(0.22)))
    x = np.concatenate((np.zeros(60), bare(0.35, 0.35), rebound, np.zeros(6)))
    assert limits(phases(message(x, prescription=ordered())))[1] == pytest.approx(95, abs=3)


def test_the_beginning_of_the_next_rep_is_not_taken_for_the_rep() -> None:
    own, next_one = bare(0.5, 0.5), 0.4 * minimum_jerk(1.0)
    x = np.concatenate((np.zeros(60), own, next_one[:95]))
    assert limits(phases(message(x, prescription=ordered())))[1] == pytest.approx(110, abs=3)


def test_a_gap_counts_where_it_is() -> None:
    def holed(first: int, samples: int) -> Array:
        x = path()
        x[first : first + samples] = np.nan
        return x

    assert flagged(holed(100, 5)) == []
    assert flagged(holed(100, 6)) == flagged(holed(200, 10)) == ["gap"]
    assert invalid(holed(100, 11)) == ["gap_over_100ms"]
    assert flagged(holed(10, 10)) == flagged(holed(1, 11)) == []  # at rest, long before the rep
    assert flagged(holed(40, 11)) == ["no_context"]
    assert "gap_over_100ms" in invalid(holed(70, 220))


@pytest.mark.parametrize("at", [20, 110, 150, 330])
@pytest.mark.parametrize("height", [-0.6, 0.1, 0.2])
@pytest.mark.parametrize("prescription", [None, ordered()])
def test_a_spike_never_stops_the_segmentation(at: int, height: float, prescription: Prescription | None) -> None:
    x = path()
    x[at] += height
    reasons = invalid(x, prescription=prescription)
    assert set(reasons) <= {"too_short", "below_min_rom"}


@pytest.mark.parametrize(
    ("first", "expected"), [(62, []), (52, []), (51, []), (49, ["no_context"]), (39, ["no_context"])]
)  # fmt: skip
def test_context_counts_from_the_marks_of_the_machine_if_they_are_near_the_limits(
    first: int, expected: list[str]
) -> None:
    #  the machine sends 50 samples before its own mark; ours may lie up to 10 samples earlier
    x = path(before_s=0.4)
    start = limits(phases(message(x)))[0]
    assert 40 <= start < 50
    assert flagged(x) == ["no_context"]
    assert flagged(x, marks=(first, 140, 170, 290)) == (expected if first - start <= 10 else ["no_context"])


def test_marks_that_are_more_than_a_tenth_of_a_second_off_are_told() -> None:
    x = path()
    found = limits(phases(message(x)))

    def off_s(*by: int, **changes: Any) -> float | None:
        marks = tuple(limit + one for limit, one in zip(found, by, strict=True))
        return segmentation.marks_off_s(phases(message(x, marks=marks, **changes)))[0]

    assert [off_s(0, 0, 0, 0), off_s(10, -10, 0, 10), off_s(0, 11, -2, 0)] == [None, None, 0.11]
    assert off_s(0, 0, 0, -60) == 0.6
    assert segmentation.marks_off_s(phases(message(x)))[0] is None
    assert off_s(0, 0, 0, -60, settings="unknown") is None  # nothing is measured of an invalid rep


def test_marks_of_a_fast_machine_are_compared_in_time() -> None:
    fast = message(path(fs_hz=1_000.0), fs_hz=1_000.0)
    found = limits(phases(fast))
    marks = tuple(10 * limit + 5 for limit in found)
    assert segmentation.marks_off_s(phases(replace(fast, marks=marks)))[0] is None
    assert segmentation.marks_off_s(phases(replace(fast, marks=(0, *marks[1:]))))[0] == found[0] / 100.0


def test_without_a_prescribed_window_the_calibrated_range_counts() -> None:
    found = phases(message(path(rom=0.3), calibrated=(0.0, 0.5)))
    assert found.reference[0] == 0.5
    prescribed = phases(message(path(rom=0.3), calibrated=(0.0, 0.5), prescription=ordered()))
    assert prescribed.reference[0] == 0.4
    half = phases(message(path(rom=0.3), calibrated=(0.0, 0.5), prescription=ordered(window_hi=None)))
    assert half.reference[0] == 0.5
    assert np.isnan(phases(message(path(rom=0.3), calibrated=(0.5, 0.5))).reference[0])


def test_unknown_settings_make_a_rep_invalid() -> None:
    assert invalid(path(), settings="unknown") == ["unknown_settings"]
    assert flagged(path(), voluntary_pause=True) == ["voluntary_pause"]


def told(x: Array, slope: float = 1.0, noise: float = 0.0) -> dict[str, Any]:
    """Return the velocity that a device might tell of positions in m at 100 Hz."""
    v = slope * np.gradient(x) * 100.0 + noise * np.random.default_rng(9).standard_normal(len(x))
    return {"velocity": counts(v / 1e-3), "velocity_scale": 1e-3}


@pytest.mark.parametrize(("slope", "noise", "expected"), [
    (1.0, 0.0, []), (0.955, 0.0, []), (1.045, 0.0, []), (1.0, 0.05, []),
    (0.94, 0.0, ["scale_mismatch"]), (1.06, 0.0, ["scale_mismatch"]), (0.0, 0.0, ["scale_mismatch"]),
    (1.0, 0.5, ["scale_mismatch"]), (57.3, 0.0, ["scale_mismatch"]),
])  # fmt: skip
def test_a_velocity_of_another_scale_is_flagged(slope: float, noise: float, expected: list[str]) -> None:
    x = path()
    assert flagged(x, **told(x, slope, noise)) == expected
    assert flagged(-x, concentric_sign=-1, **told(-x, slope, noise)) == expected


def test_a_velocity_of_the_opposite_sign_makes_a_rep_invalid() -> None:
    x = path()
    assert invalid(x, **told(x, -1.0)) == ["sign_mismatch"]
    assert invalid(x, velocity=counts(np.full(len(x), np.nan)), velocity_scale=1e-3) == []


def test_what_a_device_says_at_a_thousand_hertz_is_compared_as_well() -> None:
    x = path(fs_hz=1_000.0)
    v = counts(np.gradient(x) * 1_000.0 / 1e-3)
    assert flagged(x, fs_hz=1_000.0, velocity=v, velocity_scale=1e-3) == []
    assert flagged(x, fs_hz=1_000.0, velocity=v, velocity_scale=1.2e-3) == ["scale_mismatch"]
