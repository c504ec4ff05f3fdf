"""Momentum and eccentric control: swing, bounce, drop and the balance of both sides, of reps made to have it."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from streams.core import measure as measuring
from streams.core import momentum
from streams.core.measure import Measured, measure
from streams.core.ragged import Slices
from tests.core.movements import LOAD_N, Array, counts, message, minimum_jerk, ordered, path

SCALE_N = 0.05


def one(position: Array, force: Array | float = LOAD_N, **changes: Any) -> Measured:
    return measure([message(position, force, **changes)])[0]


def between(neighbour_s: float, con_s: float = 1.0, knock: float = 0.0) -> Array:
    """Return a rep of 0.4 m that follows another one without a rest; `knock` is a push in the turnaround, in m."""
    before = 0.4 * (1.0 - minimum_jerk(neighbour_s))
    x = np.concatenate((before, path(before_s=0.0, con_s=con_s)))
    at = np.arange(len(x)) - len(before)
    return x - knock * np.exp(-((at / 4.0) ** 2))


def test_a_constant_force_has_a_peak_of_its_mean_and_no_impulse() -> None:
    values = one(path()).values
    assert (values["peak_to_mean_force"], values["turnaround_impulse_s"]) == (1.0, 0.0)
    assert values["end_range_force"] == LOAD_N


def test_a_tenth_more_force_around_the_start_is_an_impulse_of_a_tenth_of_its_time() -> None:
    assert one(path(), 1.1 * LOAD_N).values["turnaround_impulse_s"] == pytest.approx(0.1 * 0.21)


def test_force_that_fades_at_the_end_of_the_range_is_seen_there() -> None:
    x = path(con_s=1.5)
    values = one(x, np.where(x > 0.32, 0.8, 1.0) * LOAD_N).values
    assert values["end_range_force"] == pytest.approx(0.8 * LOAD_N, rel=0.02)
    assert values["mean_force"] > 0.87 * LOAD_N


def test_shares_of_mass_follow_from_its_acceleration_and_speed() -> None:
    #  minimum jerk over 0.4 m in 1 s: peak speed 0.75 m/s, peak acceleration 2.309 m/ss
    values = one(path(), effective_mass_kg=50.0).values
    assert values["inertial_share"] == pytest.approx(50.0 * 2.309 / LOAD_N, rel=0.03)
    assert values["kinetic_share"] == pytest.approx(0.5 * 50.0 * 0.75**2 / (0.4 * LOAD_N), rel=0.02)
    twice = one(path(), effective_mass_kg=100.0).values
    assert twice["inertial_share"] == pytest.approx(2.0 * values["inertial_share"], abs=1e-3)


def test_what_a_machine_does_not_say_leaves_its_metrics_undefined() -> None:
    undefined = one(path()).undefined
    assert (undefined["inertial_share"], undefined["kinetic_share"]) == ("not_calibrated", "not_calibrated")
    assert undefined["symmetry_index_pct"] == "no_channel"
    assert undefined["eccentric_time_ratio"] == undefined["eccentric_speed_ratio"] == "no_reference"
    unloaded = one(path(), 0.0, load_N=0.0, effective_mass_kg=50.0).undefined
    names = ("turnaround_impulse_s", "inertial_share", "kinetic_share", "peak_to_mean_force", "force_steadiness_cv_pct")
    assert {unloaded[name] for name in names} == {"zero_denominator"}


def test_without_a_tenth_of_a_second_before_it_a_start_has_no_impulse() -> None:
    assert one(path(before_s=0.05)).undefined["turnaround_impulse_s"] == "phase_too_short"


@pytest.mark.parametrize(("left", "right", "index"), [
    (120.0, 100.0, -18.1818), (100.0, 120.0, 18.1818), (80.0, 80.0, 0.0), (0.0, 90.0, 200.0),
])  # fmt: skip
def test_both_sides_are_compared_by_robinsons_index(left: float, right: float, index: float) -> None:
    x = path()
    sides = {name: counts(np.full(len(x), force / SCALE_N)) for name, force in (("left", left), ("right", right))}
    measured = one(x, left + right, force_left=sides["left"], force_right=sides["right"])
    assert measured.values["symmetry_index_pct"] == pytest.approx(index, abs=1e-4)
    swapped = one(x, left + right, force_left=sides["right"], force_right=sides["left"])
    assert swapped.values["symmetry_index_pct"] == -measured.values["symmetry_index_pct"]


def test_sides_that_cannot_be_compared_say_why() -> None:
    def undefined(left: Array, right: Array) -> str:
        said = one(path(), force_left=counts(left / SCALE_N), force_right=counts(right / SCALE_N)).undefined
        return said["symmetry_index_pct"]

    some = np.full(len(path()), 150.0)
    holed = some.copy()
    holed[100:106] = np.nan
    assert undefined(some, -some) == undefined(-some, -some) == "zero_denominator"
    assert undefined(np.full_like(some, np.nan), some) == "no_channel"
    assert undefined(holed, some) == "gap"
    holed[105] = 150.0
    assert one(path(), force_left=counts(holed / SCALE_N), force_right=counts(some / SCALE_N)).values[
        "symmetry_index_pct"
    ] == pytest.approx(0.0)


def test_a_saturated_side_makes_a_rep_invalid() -> None:
    full = counts(np.full(len(path()), 40_000.0))
    assert one(path(), force_left=full, force_right=full).reasons == ("saturated",)


def test_a_rep_that_turns_at_once_and_hard_has_bounced() -> None:
    #  \       /     \       /
    #   \     /       \     /     turned gently: its acceleration is that of the phases beside it
    #    `-._/         \_.-'      bounced: a knock of 2 cm in 0.1 s
    assert "bounce" not in one(between(1.0)).reasons
    assert "bounce" in one(between(1.0, knock=0.02)).reasons
    assert "bounce" not in one(between(1.0, knock=0.0005)).reasons


@pytest.mark.parametrize("con_s", [0.3, 0.6, 1.5])
def test_a_rep_from_rest_cannot_bounce(con_s: float) -> None:
    assert "bounce" not in one(path(con_s=con_s)).reasons
    rested = np.concatenate((0.4 * (1.0 - minimum_jerk(1.0)), np.zeros(20), path(before_s=0.0, con_s=con_s)))
    assert "bounce" not in one(rested).reasons


@pytest.mark.parametrize(
    ("rest_s", "is_bounced"), [(0.0, True), (0.02, True), (0.04, True), (0.3, False), (0.5, False)]
)
def test_a_rest_at_the_bottom_is_no_bounce(rest_s: float, is_bounced: bool) -> None:
    #  straight down, rest, straight up
    rest, up = np.zeros(round(100.0 * rest_s)), np.linspace(0.0, 0.4, 60)
    x = np.concatenate((np.full(40, 0.4), up[::-1], rest, up[1:], np.full(30, 0.4), up[::-1], np.zeros(60)))
    measured = one(x)
    assert ("bounce" in measured.reasons) == is_bounced
    assert (measured.dwell_s is not None) == is_bounced
    assert measured.dwell_s is None or measured.dwell_s < 0.05  # the filter rounds the turnaround off


def test_a_dip_before_setting_off_is_no_bounce() -> None:
    x = path()
    assert "bounce" not in one(x - 0.02 * np.exp(-(((np.arange(len(x)) - 60) / 4.0) ** 2))).reasons


def test_where_acceleration_is_not_known_no_bounce_is_told() -> None:
    x = between(1.0, knock=0.02)
    holed = x.copy()
    holed[150:157] = np.nan
    assert one(holed).reasons == ("gap",)
    told = counts(1.2 * np.gradient(x) * 100.0 / 1e-3)
    assert one(x, velocity=told, velocity_scale=1e-3).reasons == ("scale_mismatch",)


def test_the_median_is_compared_exactly_whether_by_counting_or_by_sorting() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        length = rng.integers(1, 9, 6)
        flat = rng.integers(0, 4, int(length.sum())).astype(np.float64)
        slices = Slices(np.zeros(6, np.int64), length, 0)
        limit = rng.integers(0, 8, 6) / 2.0
        cut = np.split(flat, np.cumsum(length)[:-1])
        expected = [bool(np.median(part) < one) for part, one in zip(cut, limit, strict=True)]
        assert momentum._median_is_below(limit, flat, slices).tolist() == expected  # noqa: SLF001


def test_a_controlled_way_back_has_the_ratios_of_its_shape() -> None:
    values = one(path(ecc_s=2.0, con_s=2.0), prescription=ordered(eccentric_s=2.0, concentric_s=2.0)).values
    assert values["eccentric_time_ratio"] == pytest.approx(values["eccentric_time_s"] / 2.0, abs=1e-4)
    assert values["eccentric_speed_ratio"] == pytest.approx(1.875, rel=0.01)
    assert 0.9 < values["eccentric_drop"] < 1.6


def test_a_weight_that_is_dropped_at_the_end_is_seen() -> None:
    slow, fast = 0.4 - 0.3 * minimum_jerk(2.0), 0.1 * (1.0 - minimum_jerk(0.25))
    x = np.concatenate((np.zeros(60), 0.4 * minimum_jerk(1.0), np.full(30, 0.4), slow, fast, np.zeros(60)))
    assert one(x).values["eccentric_drop"] > 2.5


def test_no_reason_is_told_that_nobody_knows() -> None:
    rep = replace(message(path()), velocity=counts(np.zeros(len(path()))), velocity_scale=1e-3)
    told = set(measure([rep])[0].undefined.values())
    assert told <= set(measuring._WHY)  # noqa: SLF001
    assert "scale_mismatch" in told
