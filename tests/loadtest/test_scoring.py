"""Scoring: the scorer sees what is wrong, and a broken product misses its limits."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from loadtest import scoring
from loadtest.movement import FS_HZ, Movement, rep_signal
from loadtest.scoring import accuracy, forecast, losses, motion, progress, sides, stops
from loadtest.scoring.lifter import drawn
from loadtest.scoring.table import Limit, Row, Score
from streams.core import adaptive, controller
from streams.core.adaptive import Interval
from streams.core.measure import Measured, measure
from streams.core.session_rules import SESSION_RULES
from streams.core.telemetry import Rep

MOVEMENT = Movement(start=0.1, rom=0.5, concentric_s=1.0, hold_s=0.3, eccentric_s=2.0, load_N=200.0, inertia=10.0)


def row(rows: Sequence[Row], what: str) -> Row:
    (found,) = [one for one in rows if one.what == what]
    return found


def broken(change: Callable[[int, Measured], Measured]) -> Callable[[Sequence[Rep], float], list[Measured]]:
    """Measure as the product does, and change what it says of a rep; the number in its set is given."""
    return lambda reps, fraction: [
        change(rep.rep_number, one) for rep, one in zip(reps, measure(reps, fraction), strict=True)
    ]


def scaled(name: str, factor: float) -> Callable[[int, Measured], Measured]:
    def change(_: int, one: Measured) -> Measured:
        return replace(one, values={**one.values, name: one.values[name] * factor}) if name in one.values else one

    return change


def test_the_product_as_it_is_counts_every_rep_and_measures_it_within_its_limits() -> None:
    rows = accuracy.rows(accuracy.score(1, range(16)))
    assert [one.what for one in rows if one.cases > 100 and one.met is False] == []
    assert row(rows, "repetition count error").cases > 500
    assert row(rows, "velocity loss error").beside["median"] < 1.0  # 32 sets are too few for a 95th percentile
    assert all(one.cases for one in rows)


@pytest.mark.parametrize(("name", "what"), [("range_of_motion", "range error"), ("peak_force", "peak force error")])
def test_a_metric_that_is_off_by_5_percent_misses_its_limit(
    monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    monkeypatch.setattr(controller, "measure", broken(scaled(name, 1.05)))
    found = row(accuracy.rows(accuracy.score(1, range(3))), what)
    assert found.met is False
    assert found.seen is not None
    assert 4.0 < found.seen < 7.0


def test_a_velocity_that_is_off_by_5_percent_shows_but_leaves_the_loss_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "measure", broken(scaled("mean_velocity", 1.05)))
    rows = accuracy.rows(accuracy.score(1, range(3)))
    velocity = row(rows, "mean velocity error").beside["median"]
    assert 4.5 < velocity < 5.5
    assert row(rows, "velocity loss error").met


def test_a_velocity_that_falls_off_within_the_set_misses_the_limit_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def tired(number: int, one: Measured) -> Measured:
        return scaled("mean_velocity", 0.95 if number > 4 else 1.0)(number, one)

    monkeypatch.setattr(controller, "measure", broken(tired))
    rows = accuracy.rows(accuracy.score(1, range(3)))
    assert row(rows, "velocity loss error").met is False
    assert row(rows, "velocity loss error, VL3").met is False


def test_a_metric_that_a_good_rep_does_not_get_is_as_wrong_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "measure", broken(lambda _, one: replace(one, values={})))
    rows = accuracy.rows(accuracy.score(1, range(2)))
    assert row(rows, "range error").met is False
    assert row(rows, "velocity loss error").met is False


@pytest.mark.parametrize("is_valid", [True, False])
def test_reps_that_are_missed_or_invented_miss_the_limit_of_the_count(
    monkeypatch: pytest.MonkeyPatch, *, is_valid: bool
) -> None:
    monkeypatch.setattr(controller, "measure", broken(lambda _, one: replace(one, valid=is_valid)))
    found = accuracy.score(1, range(2))
    assert (found.invented if is_valid else found.missed) > 0
    assert (found.missed if is_valid else found.invented) == 0
    assert row(accuracy.rows(found), "repetition count error").met is False


def test_missed_and_invented_reps_never_cancel() -> None:
    found = accuracy.Found(reps=1_000, missed=1, invented=1)
    assert row(accuracy.rows(found), "repetition count error").seen == 0.2


def test_every_kind_of_message_comes_and_their_shares_add_up_to_all() -> None:
    assert sum(share for share, _ in motion.KINDS.values()) == pytest.approx(1.0)
    rng = np.random.default_rng(1)
    made = {motion.case(MOVEMENT, rng, with_context=True, timed=False).kind for _ in range(400)}
    assert made == set(motion.KINDS)


@pytest.mark.parametrize("kind", ["lost", "false_start", "re_rack", "noise"])
def test_what_is_no_repetition_has_no_truth(kind: motion.Kind) -> None:
    assert motion.KINDS[kind][1](MOVEMENT, np.random.default_rng(1)).truth is None


def test_the_truth_is_that_of_the_noise_free_movement() -> None:
    clean = rep_signal(MOVEMENT)
    noisy = motion.full(replace(MOVEMENT, tremor=0.05), np.random.default_rng(1))
    assert noisy.truth is not None
    assert noisy.truth.peak_force == clean.force[: clean.truth.marks[1]].max()
    assert (noisy.truth.rom, noisy.truth.mean_velocity) == (clean.truth.rom, clean.truth.mean_velocity)
    assert noisy.force.max() > 1.02 * float(clean.force.max())


def test_a_message_without_context_ends_where_the_machine_thinks_that_the_rep_does() -> None:
    rng = np.random.default_rng(1)
    made = motion.full(MOVEMENT, rng)
    for _ in range(50):
        cut = motion.shown(made, MOVEMENT, rng, with_context=False, timed=True)
        assert 0 <= cut.marks[0] <= motion.MACHINE_MISSES
        assert 1 <= len(cut.force) - cut.marks[3] <= motion.MACHINE_MISSES + 1


def test_a_message_with_context_begins_about_half_a_second_before_its_rep() -> None:
    rng = np.random.default_rng(1)
    made = motion.full(MOVEMENT, rng)
    for _ in range(50):
        cut = motion.shown(made, MOVEMENT, rng, with_context=True, timed=False)
        assert 45 <= cut.marks[0] <= 55
        assert 40 <= len(cut.force) - cut.marks[3] <= 60


def test_a_late_clock_moves_the_samples_and_not_the_truth() -> None:
    one, other = rep_signal(MOVEMENT), rep_signal(replace(MOVEMENT, late=0.4))
    assert other.truth.marks == one.truth.marks
    assert other.truth.rom == pytest.approx(one.truth.rom, rel=1e-3)
    assert not np.allclose(one.position, other.position, atol=1e-5)


def test_a_knock_adds_its_share_of_the_load_in_the_middle_of_the_concentric_alone() -> None:
    added = rep_signal(replace(MOVEMENT, spike=0.5)).force - rep_signal(MOVEMENT).force
    start, top = rep_signal(MOVEMENT).truth.marks[:2]
    assert added.max() == pytest.approx(100.0, rel=0.02)
    assert abs(int(added.argmax()) - (start + top) / 2) <= 1
    assert np.count_nonzero(added) <= 0.2 * FS_HZ + 1


def test_fresh_sets_go_on_tired_ones_are_ended_and_both_ways_agree() -> None:
    rows = stops.rows(stops.score(1, range(2)))
    assert row(rows, "false stops without fatigue").met
    assert row(rows, "false stops, velocities injected").met
    assert row(rows, "true 30 % loss caught").cases == 2 * stops.SETS_EACH["tired"]
    assert (row(rows, "true 30 % loss caught").seen or 0.0) > 60.0
    assert (row(rows, "both ways ended alike").seen or 0.0) > 60.0
    assert row(rows, "force spike of 60 % stopped").seen == 100.0
    assert row(rows, "sets of three reps stopped").seen == 0.0


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take a rule out of the controller's table."""

    def without(rule: str) -> None:
        kept = tuple(one for one in SESSION_RULES if one.id != rule)
        assert len(kept) < len(SESSION_RULES)
        monkeypatch.setattr("streams.core.turn.SESSION_RULES", kept)

    return without


def test_a_controller_without_its_rule_of_velocity_loss_catches_nothing(deaf: Callable[[str], None]) -> None:
    deaf("velocity_loss_stop")
    rows = stops.rows(stops.score(1, range(1)))
    assert row(rows, "true 30 % loss caught").seen == 0.0
    assert row(rows, "true 30 % loss caught").met is False


def test_a_controller_without_the_vote_catches_no_drift_and_with_it_most(deaf: Callable[[str], None]) -> None:
    caught = row(stops.rows(stops.score(1, range(1))), "paced vote: drift caught").seen
    deaf("paced_fatigue_stop")
    unheard = row(stops.rows(stops.score(1, range(1))), "paced vote: drift caught")
    assert caught is not None
    assert caught > 80.0
    assert (unheard.seen, unheard.met) == (0.0, False)


def test_false_stops_are_seen_where_velocity_is_noisier_than_any_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "VELOCITY_NOISE", 0.15)
    rows = stops.rows(stops.score(1, range(1)))
    assert row(rows, "false stops without fatigue").met is False
    assert row(rows, "false stops, velocities injected").met is False


def test_a_drifting_set_is_what_science_says() -> None:
    calm = replace(MOVEMENT, concentric_s=2.0, tremor=0.01)
    rng = np.random.default_rng(1)
    drift = np.repeat([0.0, 1.0], 4_000)
    reps = stops.paced(calm, drift, rng)
    fresh, tired = reps[:4_000], reps[4_000:]

    def ratio(of: Callable[[Movement], float]) -> float:
        return float(np.mean([of(one) for one in tired]) / np.mean([of(one) for one in fresh]))

    assert ratio(lambda one: one.concentric_s) == pytest.approx(1.60, abs=0.01)
    assert ratio(lambda one: one.rom) == pytest.approx(0.82, abs=0.01)
    assert ratio(lambda one: one.tremor) == pytest.approx(1.40, abs=0.01)
    assert ratio(lambda one: 1.0 - stops.end_share() * one.droop) == pytest.approx(0.80, abs=0.01)


def test_the_noise_of_a_paced_set_is_as_large_as_science_says_and_of_each_rep_alone() -> None:
    reps = stops.paced(MOVEMENT, np.zeros(4_000), np.random.default_rng(1))
    noise = np.array([(one.concentric_s, one.rom, one.load_N) for one in reps])
    assert noise.std(axis=0) / noise.mean(axis=0) == pytest.approx([0.08, 0.03, 0.05], rel=0.05)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.05
    sagging = stops.paced(MOVEMENT, np.zeros(4_000), np.random.default_rng(1), sagging=True)
    ends = np.array([1.0 - stops.end_share() * one.droop for one in sagging])
    assert ends.std() == pytest.approx(0.05, rel=0.05)
    assert {one.load_N for one in sagging} == {MOVEMENT.load_N}


def test_a_fifth_less_at_the_end_of_the_range_is_seen_in_the_samples() -> None:
    def at_the_end(droop: float) -> float:
        signal = rep_signal(replace(MOVEMENT, inertia=0.0, concentric_s=2.0, droop=droop))
        start, top = signal.truth.marks[:2]
        way = signal.position[start : top + 1] - signal.position[start]
        return float(signal.force[start : top + 1][way >= 0.8 * way[-1]].mean())

    assert at_the_end(0.2 / stops.end_share()) / at_the_end(0.0) == pytest.approx(0.80, abs=0.005)


def test_velocities_are_noisy_by_4_6_percent_of_what_fatigue_leaves() -> None:
    rng = np.random.default_rng(1)
    drawn_v = np.array([stops.velocities(10, 0.30, rng) for _ in range(5_000)])
    assert drawn_v.mean(axis=0) == pytest.approx(np.linspace(1.0, 0.7, 10), abs=0.003)
    assert drawn_v.std(axis=0) / drawn_v.mean(axis=0) == pytest.approx(np.full(10, 0.046), abs=0.002)


def test_the_models_intervals_and_loads_are_scored() -> None:
    rows = forecast.rows(forecast.score(1, range(20)))
    loss = row(rows, "90 % intervals: loss at the set's end")
    assert loss.cases == 20 * forecast.SETS * 2
    assert 75.0 < (loss.seen or 0.0) <= 100.0


@pytest.mark.parametrize(("low", "high"), [(50.0, 50.1), (-1e9, 1e9)])
def test_intervals_that_are_too_narrow_or_hold_everything_miss_their_limit(
    monkeypatch: pytest.MonkeyPatch, low: float, high: float
) -> None:
    def certain(*_: object) -> Interval:
        return Interval(50.0, low, high)

    monkeypatch.setattr(adaptive, "predicted_loss", certain)
    rows = forecast.rows(forecast.score(1, range(3)))
    assert row(rows, "90 % intervals: loss at the set's end").met is False


def test_a_model_that_proposes_half_the_load_is_never_in_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    right = adaptive.load_for

    def half(*asked: Any) -> Interval | None:
        found = right(*asked)
        return None if found is None else replace(found, value=0.5 * found.value)

    monkeypatch.setattr(adaptive, "load_for", half)
    found = row(forecast.rows(forecast.score(1, range(5))), "load controller in the target band within 2 sets")
    assert found.met is False


def test_the_load_that_a_lifter_is_thought_to_need_truly_brings_the_target() -> None:
    rng = np.random.default_rng(1)
    lifters = [drawn(3, index, rng) for index in range(20)]
    assert [one.expected_loss_pct(one.load_for_target()) for one in lifters] == pytest.approx([20.0] * 20, abs=0.01)


def test_a_lifters_velocities_fall_as_the_expected_loss_says() -> None:
    lifter = drawn(3, 1, np.random.default_rng(1))
    load_N = lifter.load_for_target()
    sets = np.array([lifter.look_ahead(load_N, 10) for _ in range(3_000)]).mean(axis=0)
    assert 100.0 * (1.0 - sets[-1] / sets.max()) == pytest.approx(20.0, abs=0.5)


def test_the_planner_raises_only_within_its_envelope_so_it_needs_sessions() -> None:
    courses = progress.score(1, range(6)).courses
    away = [one for one in courses if one.sessions != 0]
    assert away
    assert all(one.sessions is None or one.sessions > 3 for one in away)  # it learns for three sessions


def test_an_index_that_is_off_by_5_points_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(_: int, one: Measured) -> Measured:
        values = one.values
        return replace(one, values={**values, "symmetry_index_pct": values["symmetry_index_pct"] + 5.0})

    right = row(sides.rows(sides.score(1, range(1))), "symmetry index error").seen
    monkeypatch.setattr(
        controller,
        "measure",
        broken(lambda number, one: shifted(number, one) if "symmetry_index_pct" in one.values else one),
    )
    wrong = row(sides.rows(sides.score(1, range(1))), "symmetry index error").seen
    assert right is not None
    assert wrong is not None
    assert right < 1.0
    assert wrong == pytest.approx(5.0, abs=1.0)


def test_a_rule_that_never_holds_is_not_praised_for_raising_no_false_alarm() -> None:
    names = {sides.name_of(way, size): 10 for way in sides.WAYS for size in sides.ASYMMETRIES_PCT}
    found = row(sides.rows(sides.Found((), names, {})), "balanced sides: false alarms")
    assert (found.seen, found.met) == (None, False)


def test_both_sides_differ_by_the_asymmetry_and_6_percent_of_chance() -> None:
    rng = np.random.default_rng(1)
    drawn_sides = np.array([sides.sides(20.0, rng) for _ in range(5_000)])
    assert drawn_sides.mean(axis=0) == pytest.approx([0.9, 1.1], abs=0.005)
    assert drawn_sides.std(axis=0) / drawn_sides.mean(axis=0) == pytest.approx([0.06, 0.06], abs=0.003)


@pytest.mark.parametrize("part", [accuracy, stops, forecast, progress, sides])
def test_the_same_seed_gives_the_same_figures_however_patients_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, part: Any
) -> None:
    monkeypatch.setattr(stops, "SETS_EACH", dict.fromkeys(stops.SETS_EACH, 1))
    whole = part.rows(part.score(5, range(2)))
    assert part.rows(part.score(5, range(1)).merged(part.score(5, range(1, 2)))) == whole


def test_another_seed_gives_other_figures() -> None:
    assert accuracy.rows(accuracy.score(1, range(1))) != accuracy.rows(accuracy.score(2, range(1)))


def test_more_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [scoring.Part(forecast.score, forecast.rows)]
    alone = scoring.scored(3, 12, parts)
    monkeypatch.setattr(scoring, "FEW", 0)
    assert scoring.scored(3, 12, parts).rows == alone.rows


@pytest.mark.parametrize(("seen", "status"), [(1.0, 0), (3.0, 1), (None, 1)])
def test_one_missed_limit_is_enough_to_fail_and_the_report_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], seen: float | None, status: int
) -> None:
    def nothing(seed: int, patients: Iterable[int]) -> accuracy.Found:  # noqa: ARG001 - as every part
        return accuracy.Found()

    def rows_of(_: accuracy.Found) -> list[Row]:
        free = Row(what="no limit", unit="%", seen=99.0, footnote="a")
        return [Row(what="range", unit="%", seen=seen, limit=Limit("<=", 2.0), cases=7), free]

    monkeypatch.setattr(scoring.scored, "__defaults__", ([scoring.Part(nothing, rows_of)],))
    report = tmp_path / "truth.json"
    assert scoring.run(7, 1, report) == status
    told = json.loads(report.read_bytes())
    assert told["missed"] == (["range"] if status else [])
    assert [one["met"] for one in told["rows"]] == [not status, None]
    assert (told["seed"], told["patients"], list(told["footnotes"])) == (7, 1, ["a"])
    printed = capsys.readouterr().out
    assert "range" in printed
    assert ("NO" in printed) == bool(status)


def test_every_footnote_that_a_row_names_is_explained() -> None:
    empty: list[list[Row]] = [part.rows(found) for part, found in zip(scoring.PARTS, _NOTHING, strict=True)]  # type: ignore[misc]
    named = {one.footnote for rows in empty for one in rows}
    assert named == set(scoring.FOOTNOTES)


_NOTHING = (accuracy.Found(), stops.Found(), forecast.Found(), progress.Found(), sides.Found())


def test_nothing_scored_is_nothing_met() -> None:
    rows = [one for part, found in zip(scoring.PARTS, _NOTHING, strict=True) for one in part.rows(found)]
    assert {one.met for one in rows if one.limit is not None} == {False}
    assert Score(seed=1, patients=0, seconds=0.0, rows=tuple(rows), footnotes={}).missed


def test_the_scorers_own_losses_are_those_of_the_published_example() -> None:
    v = [0.50, 0.55, 0.52, 0.44]
    assert [round(loss, 6) for loss in losses.shown(v)] == [0.0, 0.0, 5.454545, 20.0]
    assert losses.robust(v[:3]) == pytest.approx(0.636943, abs=1e-6)
