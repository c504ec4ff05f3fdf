"""Measure: the whole way from messages to numbers, against the plain reference, and the laws that it keeps."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import segmentation, signals
from streams.core.catalogue import METRICS, OF_REPS, metric
from streams.core.measure import FLAGS, FLAGS_IN_ORDER, INVALID, INVALID_IN_ORDER, Measured, is_accepted, measure
from streams.core.telemetry import Rep
from tests.core import reference
from tests.core.movements import LOAD_N, SCALE, SCALE_N, Array, counts, message, ordered, path, reps

ANY_RATE = (100.0, 100.0, 50.0, 75.0, 128.0, 1000.0, 40.0)
NAMES = [row.name for row in OF_REPS]


def one(position: Array, force: Array | float = LOAD_N, **changes: Any) -> Measured:
    return measure([message(position, force, **changes)])[0]


def written(measured: list[Measured]) -> list[bytes]:
    return [msgspec.msgpack.encode(each) for each in measured]


@settings(max_examples=200, deadline=None)
@given(reps(ANY_RATE))
def test_every_rep_is_judged_and_measured_as_by_the_plain_reference(rep: Rep) -> None:
    measured, expected = measure([rep])[0], reference.measure(rep)
    assert set(measured.reasons) == expected.reasons
    assert set(measured.values) == set(expected.values)
    if not measured.valid:
        assert (measured.curve, measured.torque_by_bin, measured.marks_off_s) == (None, None, None)
        return
    assert {name: measured.undefined[name] for name in expected.undefined} == expected.undefined
    assert (measured.marks_off_s is None) == (expected.marks_off_s is None)
    assert (measured.marks_off_s or 0.0) == pytest.approx(expected.marks_off_s or 0.0, abs=0.00051)
    assert_beside(measured, expected)
    phases = segmentation.segment(signals.read([rep]))
    assert tuple(int(at[0]) for at in (phases.start, phases.top, phases.turn, phases.end)) == expected.limits
    for row in OF_REPS:
        if row.name in expected.values:
            exact, wanted = float(row.kernel(phases)[0][0]), expected.values[row.name]
            assert exact == pytest.approx(wanted, abs=1e-9, rel=1e-11)
            assert measured.values[row.name] == pytest.approx(wanted, abs=0.51 * 10.0**-row.decimals)


def assert_beside(measured: Measured, expected: reference.Answer) -> None:
    assert (measured.curve is None, measured.torque_by_bin is None) == (
        expected.curve is None,
        expected.torques is None,
    )
    if measured.curve is not None and expected.curve is not None:
        assert len(measured.curve) == 404
        assert np.frombuffer(measured.curve, "<f4") == pytest.approx(expected.curve, rel=1e-6, abs=1e-6)
    for found, wanted in zip(measured.torque_by_bin or (), expected.torques or (), strict=True):
        assert (found is None) == (wanted is None)
        assert found == (None if wanted is None else pytest.approx(wanted, abs=0.00501))


@settings(max_examples=40, deadline=None)
@given(st.lists(reps(ANY_RATE), max_size=8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_how_reps_are_cut_into_batches_does_not_show_in_a_byte(batch: list[Rep], cut: int, rng: Any) -> None:
    together = written(measure(batch))
    assert written(measure(batch[:cut]) + measure(batch[cut:])) == together
    assert [written(measure([rep]))[0] for rep in batch] == together
    order = list(range(len(batch)))
    rng.shuffle(order)
    assert written(measure([batch[i] for i in order])) == [together[i] for i in order]


def test_a_batch_of_many_chunks_gives_the_bytes_of_single_reps() -> None:
    rng = np.random.default_rng(7)
    batch = [
        message(path(rom=rng.uniform(0.3, 0.5), con_s=rng.uniform(0.4, 4.0)), LOAD_N * rng.uniform(0.9, 1.1))
        for _ in range(700)
    ]
    assert len(list(signals.chunks(batch))) > 2
    assert written(measure(batch)) == [written(measure([rep]))[0] for rep in batch]


@settings(max_examples=50, deadline=None)
@given(reps(ANY_RATE))
def test_every_metric_is_defined_or_says_why_not(rep: Rep) -> None:
    measured = measure([rep])[0]
    assert sorted([*measured.values, *measured.undefined]) == sorted(NAMES)
    assert list(measured.values) == [name for name in NAMES if name in measured.values]
    assert all(math.isfinite(value) for value in measured.values.values())
    assert measured.valid == INVALID.isdisjoint(measured.reasons)
    assert measured.valid or set(measured.undefined.values()) == {"invalid_rep"}
    order = INVALID_IN_ORDER + FLAGS_IN_ORDER
    assert list(measured.reasons) == sorted(measured.reasons, key=order.index)


def close(one: Measured, other: Measured, scales: dict[str, float] | None = None) -> bool:
    """Tell whether two measurements agree to two units of the last digit, some of them scaled."""
    if (one.reasons, one.undefined) != (other.reasons, other.undefined):
        return False
    return all(
        abs(one.values[row.name] * (scale := (scales or {}).get(row.name, 1.0)) - other.values[row.name])
        <= 2.0 * max(1.0, scale) * 10.0**-row.decimals
        for row in OF_REPS
        if row.name in one.values
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 500), st.integers(0, 500))
def test_more_context_changes_nothing(seed: int, before: int, after: int) -> None:
    x = path()
    noise = 2e-4 * np.random.default_rng(seed).standard_normal(len(x)) * (np.abs(np.arange(len(x)) - 185) < 170)
    wide = np.concatenate((np.zeros(before), x + noise, np.zeros(after)))
    prescription = ordered()
    assert close(one(x + noise, prescription=prescription), one(wide, prescription=prescription))


@settings(max_examples=50, deadline=None)
@given(reps(), st.sampled_from((0.25, 4.0)), st.sampled_from((0.5, 8.0)))
def test_another_unit_of_position_or_force_scales_what_it_should_and_nothing_else(
    rep: Rep, length: float, weight: float
) -> None:
    asked = rep.prescription
    if asked is not None:
        lo, hi = (None if end is None else end * length for end in (asked.window_lo, asked.window_hi))
        asked = replace(asked, window_lo=lo, window_hi=hi)
    scaled = replace(
        rep,
        position_scale=rep.position_scale * length,
        force_scale_N=rep.force_scale_N * weight,
        load_N=rep.load_N * weight,
        prescription=asked,
        velocity_scale=rep.velocity_scale and rep.velocity_scale * length,
        effective_mass_kg=rep.effective_mass_kg and rep.effective_mass_kg * weight / length,
        calibrated=rep.calibrated and (rep.calibrated[0] * length, rep.calibrated[1] * length),
    )
    lengths = dict.fromkeys(("range_of_motion", "mean_velocity", "peak_velocity", "mean_propulsive_velocity"), length)
    forces = dict.fromkeys(("peak_force", "mean_force", "end_range_force"), weight)
    works = dict.fromkeys(("concentric_work_J", "concentric_power_W"), length * weight)
    assert close(measure([rep])[0], measure([scaled])[0], lengths | forces | works)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_sign_belongs_to_the_machine_and_a_wrong_one_is_seen(seed: int, with_window: bool) -> None:
    x = path() + 2e-4 * np.random.default_rng(seed).standard_normal(len(path()))
    prescription = ordered() if with_window else None
    right = message(x, prescription=prescription)
    mirrored = message(-x, concentric_sign=-1, prescription=prescription)
    assert written(measure([right])) == written(measure([mirrored]))
    wrong = measure([replace(right, concentric_sign=-1)])[0]
    assert (wrong.valid, wrong.reasons, wrong.values) == (False, ("sign_mismatch",), {})
    pushed_as_pull = measure([replace(right, force_sign=-1)])[0]
    assert pushed_as_pull.reasons == ("unloaded",)


def test_a_clean_rep_reads_as_it_was_made() -> None:
    measured = one(path(rom=0.4, con_s=1.0, hold_s=0.5, ecc_s=1.0), prescription=ordered(eccentric_s=1.0))
    assert (measured.valid, measured.reasons, is_accepted(measured)) == (True, (), True)
    assert measured.values["range_of_motion"] == pytest.approx(0.4, abs=0.001)
    assert measured.values["concentric_time_s"] == pytest.approx(0.93, abs=0.03)
    assert measured.values["mean_velocity"] == pytest.approx(0.43, abs=0.015)
    assert measured.values["concentric_work_J"] == pytest.approx(120.0, abs=0.5)
    assert measured.values["concentric_power_W"] == pytest.approx(130.0, abs=4.0)
    assert measured.undefined == {
        "bottom_hold_time_s": "open_at_end",
        "inertial_share": "not_calibrated",
        "kinetic_share": "not_calibrated",
        "tremor_index_velocity_pct": "phase_too_short",
        "tremor_index_force_pct": "phase_too_short",
        "symmetry_index_pct": "no_channel",
    }


def test_flags_leave_a_rep_its_numbers_but_not_its_place_among_references() -> None:
    def reasons(position: Array, **changes: Any) -> tuple[str, ...]:
        measured = one(position, **changes)
        assert measured.valid
        assert "range_of_motion" in measured.values
        assert is_accepted(measured) == (measured.reasons == ())
        return measured.reasons

    assert reasons(path(rom=0.36), prescription=ordered()) == ()
    assert reasons(path(rom=0.30), prescription=ordered()) == ("partial_rom",)
    assert reasons(path(), prescription=ordered(concentric_s=2.0)) == ("tempo_fast",)
    assert reasons(path(), prescription=ordered(concentric_s=2.0), intent="max") == ()
    assert reasons(path(), warm_up=True) == ("warm_up",)
    assert reasons(path(before_s=0.2), warm_up=True) == ("no_context", "warm_up")


@pytest.mark.parametrize(("hole", "expected"), [((5, 12), 12.5), ((120, 126), None), ((120, 125), 12.5)])
def test_a_hole_in_the_load_cell_of_one_side_counts_only_within_the_rep(
    hole: tuple[int, int], expected: float | None
) -> None:
    x = path(before_s=1.0)
    left, right = np.full(len(x), 150.0), np.full(len(x), 170.0)
    left[slice(*hole)] = np.nan
    found = one(x, 320.0, force_left=counts(left / SCALE_N), force_right=counts(right / SCALE_N))
    assert found.reasons == ()
    assert found.values.get("symmetry_index_pct") == expected
    assert found.undefined.get("symmetry_index_pct") == (None if expected else "gap")


def test_flags_of_an_invalid_rep_are_not_judged() -> None:
    assert one(np.zeros(300), warm_up=True).reasons == ("below_min_rom",)


def test_a_gap_takes_what_depends_on_velocity_and_leaves_the_rest() -> None:
    x = path()
    x[100:108] = np.nan
    measured = one(x)
    gone = {name for name, reason in measured.undefined.items() if reason == "gap"}
    assert measured.reasons == ("gap",)
    assert gone == {row.name for row in OF_REPS if "no_gap" in row.needs}
    assert gone == set(NAMES) - {
        "range_of_motion", "rom_completeness_pct", "concentric_time_s", "top_hold_time_s", "eccentric_time_s",
        "bottom_hold_time_s", "time_under_load_s", "tempo_error_pct", "peak_force", "mean_force", "end_range_force",
        "peak_to_mean_force", "turnaround_impulse_s", "force_steadiness_cv_pct", "eccentric_time_ratio",
        "symmetry_index_pct",
    }  # fmt: skip
    assert measured.values["range_of_motion"] == pytest.approx(0.4, abs=0.001)


def test_a_machine_without_a_load_cell_still_measures_movement() -> None:
    measured = one(path(), np.nan)
    gone = {name for name, reason in measured.undefined.items() if reason == "no_channel"}
    assert measured.valid
    assert gone == {row.name for row in OF_REPS if "force" in row.needs} | {"symmetry_index_pct"}
    assert (measured.curve, measured.torque_by_bin) == (None, None)
    assert measured.values["mean_velocity"] > 0.0


@pytest.mark.parametrize(("fs_hz", "reasons"), [(49.9, ("rate_too_low",)), (50.0, ()), (2_000.0, ())])
def test_a_machine_must_sample_often_enough(fs_hz: float, reasons: tuple[str, ...]) -> None:
    assert one(path(fs_hz=fs_hz), fs_hz=fs_hz).reasons == reasons


@pytest.mark.parametrize(
    ("scale", "reason"), [(math.inf, "non_finite"), (math.nan, "non_finite"), (1e305, "non_finite")]
)
@pytest.mark.parametrize("field", ["position_scale", "force_scale_N"])
def test_what_is_not_finite_is_refused(field: str, scale: float, reason: str) -> None:
    assert measure([replace(message(path()), **{field: scale})])[0].reasons == (reason,)


def test_numbers_too_large_to_multiply_are_undefined_and_not_infinite() -> None:
    huge = replace(message(path()), position_scale=1e200, force_scale_N=1e200)
    measured = measure([huge])[0]
    assert measured.valid
    assert measured.undefined["concentric_work_J"] == "invalid_input"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_message_raises_whatever_its_samples_say(data: st.DataObject) -> None:
    samples = data.draw(st.integers(2, 400))
    raw = st.one_of(
        st.binary(min_size=2 * samples, max_size=2 * samples),
        st.sampled_from((b"\x00\x00", b"\xff\x7f", b"\x01\x80", b"\x00\x80", b"\x10\x00")).map(
            lambda two: two * samples
        ),
    )
    rep = replace(
        message(np.zeros(samples)),
        position=data.draw(raw),
        force=data.draw(raw),
        fs_hz=data.draw(st.floats(1.0, 2_000.0)),
        position_scale=data.draw(st.floats(1e-9, 1_000.0)),
        force_scale_N=data.draw(st.floats(1e-9, 1_000.0)),
        load_N=data.draw(st.floats(0.0, 50_000.0)),
        prescription=data.draw(
            st.one_of(
                st.none(),
                st.builds(ordered, window_lo=st.floats(-10.0, 10.0), window_hi=st.floats(-10.0, 10.0)),
                st.builds(ordered, concentric_s=st.floats(0.0, 3_600.0), eccentric_s=st.floats(0.0, 3_600.0)),
            )
        ),
    )
    measured = measure([rep])[0]
    assert set(measured.reasons) <= INVALID | FLAGS
    assert measured.valid or measured.reasons
    assert all(math.isfinite(value) for value in measured.values.values())


def spiked(x: Array) -> Array:
    x = x.copy()
    x[[120, 200]] += (0.3, -0.3)
    return x


def holed(x: Array, samples: int) -> Array:
    x = x.copy()
    x[100 : 100 + samples] = np.nan
    return x


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("position", "changes", "reasons"),
    [
        (np.zeros(2), {}, ("below_min_rom",)),
        (np.array([0.0, 0.4]), {}, ("open_at_end",)),
        (np.full(300, 0.2), {}, ("below_min_rom",)),
        (path(), {"force": 0.0}, ("unloaded",)),
        (path(), {"concentric_sign": -1}, ("sign_mismatch",)),
        (path(rom=0.3), {"prescription": ordered()}, ("partial_rom",)),
        (holed(path(), 5), {}, ()),
        (holed(path(), 8), {}, ("gap",)),
        (holed(path(), 50), {}, ("gap_over_100ms",)),
        (spiked(path()), {"prescription": ordered()}, ("tempo_fast",)),
        (path(rom=0.6554), {}, ("saturated",)),
        (np.full(300, np.nan), {}, ("gap_over_100ms", "below_min_rom")),
        (path(), {"settings": "unknown"}, ("unknown_settings",)),
        (path(), {"voluntary_pause": True}, ("voluntary_pause",)),
        (path(con_s=0.1), {}, ("too_short",)),
        (path(fs_hz=20.0), {"fs_hz": 20.0}, ("rate_too_low",)),
    ],
    ids=lambda value: None if isinstance(value, np.ndarray) else str(value),
)
def test_bad_input_ends_in_a_stated_reason_and_in_no_warning(
    position: Array, changes: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    measured = one(position, **changes)
    assert measured.reasons == reasons
    assert measured.valid == INVALID.isdisjoint(reasons)
    if not measured.valid:
        assert (measured.values, measured.curve) == ({}, None)


def test_a_velocity_that_disagrees_takes_what_is_derived_from_position_and_nothing_else() -> None:
    x = path()
    v = counts(1.3 * np.gradient(x) * 100.0 / 1e-3)
    measured = one(x, velocity=v, velocity_scale=1e-3)
    gone = {name for name, reason in measured.undefined.items() if reason == "scale_mismatch"}
    assert (measured.valid, measured.reasons) == (True, ("scale_mismatch",))
    assert gone == {row.name for row in OF_REPS if "velocity" in row.needs}
    assert {"mean_velocity", "sparc_concentric", "inertial_share"} <= gone
    assert {"range_of_motion", "concentric_work_J", "force_steadiness_cv_pct"} <= set(measured.values)


@pytest.mark.parametrize("fs_hz", [50.0, 200.0, 1000.0])
def test_a_rep_reads_nearly_the_same_at_every_rate(fs_hz: float) -> None:
    shape = {"con_s": 1.6, "ecc_s": 2.0, "hold_s": 0.6}
    at_100 = one(path(**shape), prescription=ordered())
    other = one(path(fs_hz=fs_hz, **shape), fs_hz=fs_hz, prescription=ordered())
    assert (other.reasons, other.undefined) == (at_100.reasons, at_100.undefined)
    for name, value in at_100.values.items():
        assert other.values[name] == pytest.approx(value, rel=0.03, abs=0.05), name


@settings(max_examples=30, deadline=None)
@given(st.lists(reps(ANY_RATE), min_size=1, max_size=5), st.integers(2, 12))
def test_the_same_rep_again_gives_the_same_bytes_again(batch: list[Rep], times: int) -> None:
    assert written(measure(batch * times)) == written(measure(batch)) * times


def test_saturated_samples_make_a_rep_invalid() -> None:
    assert one(path(), 32_767 * 0.05).reasons == ("saturated",)
    assert one(path(rom=0.4), position_scale=0.4 / 32_767).reasons == ("saturated",)
    assert one(path(rom=0.4), position_scale=0.4 / 32_766).reasons == ()


def test_nothing_in_is_nothing_out() -> None:
    assert measure([]) == []


def test_inputs_are_not_changed() -> None:
    x = path()
    x[100:104] = np.nan
    rep = message(x)
    before = msgspec.msgpack.encode(rep)
    measure([rep, rep])
    assert msgspec.msgpack.encode(rep) == before


def test_reps_do_not_share_what_may_be_changed() -> None:
    first, second = measure([message(path()), message(path())])
    first.values.clear()
    first.undefined.clear()
    assert second.values
    assert second.undefined


def test_the_catalogue_names_each_metric_of_a_level_once_and_rounds_to_it() -> None:
    assert len({(row.name, row.level) for row in METRICS}) == len(METRICS)
    assert metric("mean_velocity", "rep").decimals == 5
    measured = one(path() + SCALE * 0.3)
    assert all(value == round(value, metric(name, "rep").decimals) for name, value in measured.values.items())
