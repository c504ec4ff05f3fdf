"""Adaptive: the model against slow references, its laws, and how often its intervals hold what then happens.

Two worlds are looked at: the model's own assumptions, drawn from `PRIOR`, and the simulated lifters of loadtest, who
tire by other rules: fatigue carries over from set to set, and the first rep is 3 % slow.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.random import Generator
from numpy.typing import NDArray

from loadtest import patient as patients
from loadtest.exercise import EXERCISES
from loadtest.movement import Movement, rep_signal
from loadtest.patient import Condition, Patient, Task
from streams.core import adaptive
from streams.core.adaptive import (
    LOAD_EXPONENT,
    MAX_AHEAD,
    NOISE,
    PRIOR,
    RATE,
    SPEED,
    SPEED_EXPONENT,
    Interval,
    Model,
    SetSeen,
    learned,
    load_for,
    population_prior,
    predicted_loss,
    reps_left,
)
from streams.core.measure import measure
from streams.core.telemetry import Prescription
from tests.core.movements import message

Array = NDArray[np.float64]

TARGET_PCT = 20.0
BAND_POINTS = 5.0
"""A load is right if the loss that it truly causes lies this close to the target."""

TYPICAL = (0.50, 0.51, 0.49, 0.50, 0.47, 0.46, 0.47, 0.44, 0.43, 0.42)
TRAINED = learned(learned(PRIOR, SetSeen(300.0, TYPICAL)), SetSeen(330.0, TYPICAL[:8], 75.0))


def covariance(model: Model) -> Array:
    return np.array(model.covariance).reshape(5, 5)


def known_exactly(rate: float, noise: float) -> Model:
    """Return a model without doubt about a patient."""
    mean = (math.log(rate), 1.9, 0.0, -0.9, math.log(noise))
    return Model(mean, (0.0,) * 25, sets=1, reference_N=300.0)


def shares(rate: Array | float, reps: int) -> Array:
    """Return what the text says a set looks like without noise, shape (..., reps)."""
    falling: Array = np.maximum(1.0 - np.asarray(rate)[..., None] * np.arange(reps), 0.1)
    falling[..., 0] = 1.0 - 0.04
    return falling


def shown_losses(velocities: Sequence[float]) -> list[float]:
    """Return each rep's loss in percent against the fastest so far."""
    return [100.0 * (1.0 - v / best) for v, best in zip(velocities, accumulate(velocities, max), strict=True)]


# Where the prior comes from


def test_the_exponents_are_those_of_epley_and_of_a_published_load_velocity_line_at_55_percent() -> None:
    # reps to failure 30 (1 / w - 1) [Epley]; v falls in a line to zero at 1.16 of 1RM [Jidovtseff 2011]; the loss at
    # failure is 1 - v(1) / v(w), and a rep costs that, divided by the reps
    def ln_rate(w: float) -> float:
        return math.log((1.0 - (1.16 - 1.0) / (1.16 - w)) / (30.0 * (1.0 / w - 1.0)))

    def slope(low: float, high: float, at_low: float, at_high: float) -> float:
        return (at_high - at_low) / math.log(high / low)

    assert slope(0.549, 0.551, ln_rate(0.549), ln_rate(0.551)) == pytest.approx(PRIOR.mean[LOAD_EXPONENT], abs=0.05)
    for w in (0.40, 0.70):  # and the prior is wide enough for lighter and heavier work
        off = slope(w, w + 0.001, ln_rate(w), ln_rate(w + 0.001)) - PRIOR.mean[LOAD_EXPONENT]
        assert abs(off) < 1.645 * math.sqrt(covariance(PRIOR)[LOAD_EXPONENT, LOAD_EXPONENT])
    speed = slope(0.549, 0.551, math.log(1.16 - 0.549), math.log(1.16 - 0.551))
    assert speed == pytest.approx(PRIOR.mean[SPEED_EXPONENT], abs=0.05)


def test_the_noise_of_the_prior_has_the_measured_quartiles() -> None:
    sd = math.sqrt(covariance(PRIOR)[NOISE, NOISE])
    quartiles = [100.0 * math.exp(PRIOR.mean[NOISE] + z * sd) for z in (-0.6745, 0.0, 0.6745)]
    assert quartiles == pytest.approx([3.5, 4.6, 6.0], abs=0.05)


def test_the_rates_of_the_prior_hold_the_endurance_of_trunk_extensors() -> None:
    # 26 reps to failure at 50 % of strength, 8 at 80 % [Fisher 2018]; 20 % is lost after half of them [Pareja-Blanco]
    sd = math.sqrt(covariance(PRIOR)[RATE, RATE])
    for reps in (26, 8):
        assert abs(math.log(0.20 / (reps / 2 - 1)) - PRIOR.mean[RATE]) < 1.645 * sd


def test_the_first_rep_is_as_rarely_the_fastest_as_in_real_sets() -> None:
    rng = np.random.default_rng(32)
    rate, noise = (
        np.exp(PRIOR.mean[k] + math.sqrt(covariance(PRIOR)[k, k]) * rng.standard_normal(20_000)) for k in (RATE, NOISE)
    )
    velocities = shares(rate, 8) * (1.0 + noise[:, None] * rng.standard_normal((20_000, 8)))
    expected, real = float(np.mean(velocities.argmax(axis=1) == 0)), 32 / 120
    assert abs(expected - real) < 1.96 * math.sqrt(real * (1.0 - real) / 120)


# The computation against slow references


@pytest.mark.parametrize("velocities", [TYPICAL, (0.3, 0.31, 0.29), (0.4, 0.5, 0.38, 0.44, 0.36, 0.31)])
@pytest.mark.parametrize("start", [PRIOR, TRAINED], ids=["prior", "trained"])
def test_learning_agrees_with_brute_force_to_1e9(start: Model, velocities: tuple[float, ...]) -> None:
    load_N, logs = 345.0, np.log(velocities)
    mean, spread = np.array(start.mean), covariance(start)
    x = math.log(load_N / 300.0) if start.sets else 0.0
    if not start.sets:
        mean[SPEED] = logs.mean()
    # noise: scaled inverse chi-square, from the residuals of a fitted line
    step = np.arange(1, len(logs))
    line = np.polyval(np.polyfit(step, velocities[1:], 1), step)
    known, new = 0.5 / spread[NOISE, NOISE], len(logs) - 3
    squares = known * math.exp(2.0 * mean[NOISE]) + sum((np.array(velocities[1:]) / line - 1.0) ** 2)
    mean[NOISE], spread[NOISE, NOISE] = 0.5 * math.log(squares / (known + new)), 0.5 / (known + new)
    sd = np.full(len(logs), math.exp(mean[NOISE]))
    sd[0] = math.hypot(sd[0], 0.02)
    # rate and velocity of the set: every pair of a dense grid, weighed
    h = np.array([[1.0, x, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, x, 0.0]])
    usual, scatter = h @ mean, np.diag(h @ spread @ h.T) + np.array([0.10, 0.06]) ** 2
    rates = usual[0] + math.sqrt(scatter[0]) * np.linspace(-8.5, 8.5, 1_701)
    speeds = logs.mean() + np.linspace(-0.35, 0.65, 2_001)
    ln_density = -0.5 * ((rates - usual[0]) ** 2 / scatter[0])[:, None] - 0.5 * (speeds - usual[1]) ** 2 / scatter[1]
    for ln_v, ln_share, one in zip(logs, np.log(shares(np.minimum(np.exp(rates), 0.9), len(logs))).T, sd, strict=True):
        ln_density -= 0.5 * ((ln_v - speeds - ln_share[:, None]) / one) ** 2
    density = np.exp(ln_density - ln_density.max())
    density /= density.sum()
    # the patient: condition on every rate (and every velocity), then mix
    for axis, values in ((0, rates), (1, speeds)):
        weights = density.sum(axis=1 - axis)
        gain = spread @ h[axis] / scatter[axis]
        means = mean[:, None] + gain[:, None] * (values - usual[axis])
        conditional = spread - np.outer(gain, h[axis] @ spread)
        mean, doubt = means @ weights, float(weights @ (values - weights @ values) ** 2)
        surprise = min(scatter[axis] / doubt, 1.0)  # no set leaves more doubt about the patient than there was
        spread = conditional + surprise * ((means - mean[:, None]) * weights) @ (means - mean[:, None]).T
    after = learned(start, SetSeen(load_N, velocities, 75.0))
    assert after.mean == pytest.approx(mean.tolist(), abs=1e-9)
    assert after.covariance == pytest.approx(spread.ravel().tolist(), abs=1e-9)


def brute_force(model: Model, so_far: Sequence[float], ahead: int, seed: int) -> tuple[Array, Array]:
    """Draw half a million sets from the assumptions and weigh them by what was seen: velocities and weights."""
    rng, count, seen = np.random.default_rng(seed), 500_000, len(so_far)
    sds = np.sqrt(np.diag(covariance(model)) + np.array([0.10, 0.0, 0.06, 0.0, 0.0]) ** 2)
    rate, _, speed, _, noise = np.exp(np.array(model.mean)[:, None] + sds[:, None] * rng.standard_normal((5, count)))
    fresh = speed[:, None] * shares(np.minimum(rate, 0.9), seen + ahead)
    sd = np.repeat(noise[:, None], seen + ahead, axis=1)
    sd[:, 0] = np.hypot(sd[:, 0], 0.02)
    # so far the noise is taken for what it usually is: the model doesn't learn it before the set is over
    usual = np.hypot(math.exp(model.mean[NOISE]), np.where(np.arange(seen) == 0, 0.02, 0.0))
    off = (np.log(np.array(so_far)) - np.log(fresh[:, :seen])) / usual
    weights = np.exp(-0.5 * (off * off).sum(axis=1))
    velocities = fresh * (1.0 + sd * rng.standard_normal((count, seen + ahead)))
    velocities[:, :seen] = so_far
    return velocities, weights / weights.sum()


def quantiles(values: Array, weights: Array, at: Sequence[float]) -> list[float]:
    rising = values.argsort()
    return [float(one) for one in np.interp(at, weights[rising].cumsum(), values[rising])]


PREDICTIONS = [(TRAINED, n, 10 - n, 300.0) for n in (0, 1, 4, 8)] + [(known_exactly(0.03, 0.046), 0, 10, 300.0)]


@pytest.mark.parametrize(("model", "seen", "ahead", "load_N"), PREDICTIONS)
def test_the_predicted_loss_agrees_with_half_a_million_drawn_sets(
    model: Model, seen: int, ahead: int, load_N: float
) -> None:
    velocities, weights = brute_force(model, TYPICAL[:seen], ahead, seed=seen)
    losses = 100.0 * (1.0 - velocities[:, -1] / velocities.max(axis=1))
    low, high = quantiles(losses, weights, (0.05, 0.95))
    told = predicted_loss(model, load_N, seen + ahead, TYPICAL[:seen])
    assert told is not None
    assert told.value == pytest.approx(float(losses @ weights), abs=0.7)
    assert (told.low, told.high) == pytest.approx((low, high), abs=1.5)


@pytest.mark.parametrize("seen", [0, 1, 4])
def test_the_reps_left_agree_with_half_a_million_drawn_sets(seen: int) -> None:
    velocities, weights = brute_force(TRAINED, TYPICAL[:seen], 30, seed=seen)
    is_there = velocities <= 0.8 * np.maximum.accumulate(velocities, axis=1)
    left = np.where(is_there.any(axis=1), is_there.argmax(axis=1) + 1.0, 31.0) - seen
    told = reps_left(TRAINED, 300.0, TYPICAL[:seen], TARGET_PCT)
    assert told is not None
    rounding = np.random.default_rng(1).uniform(-0.5, 0.5, len(left))
    low, middle, high = quantiles(left + rounding, weights, (0.05, 0.5, 0.95))
    assert (told.low, told.value, told.high) == pytest.approx((low, middle, high), abs=0.6)


def test_a_set_without_fatigue_is_predicted_to_lose_six_percent() -> None:
    # best to last of 10 reps at a noise of 4.6 %: 6.6 % if no rep is slow by itself; the first one is, and then 6.4 %
    told = predicted_loss(known_exactly(1e-9, 0.046), 300.0, 10)
    assert told is not None
    assert 6.0 <= told.value <= 6.8
    told_of_eleven = predicted_loss(known_exactly(1e-9, 0.046), 300.0, 11)
    assert told_of_eleven is not None
    assert told_of_eleven.value == pytest.approx(6.6, abs=0.3)


# Laws

sets_seen = st.builds(
    SetSeen,
    st.floats(200.0, 500.0),
    st.lists(st.floats(0.2, 0.8), min_size=3, max_size=20).map(tuple),
    st.sampled_from((None, 75.0)),
)
models = st.lists(sets_seen, max_size=4).map(lambda seen: told_all(PRIOR, seen))
few_reps = st.lists(st.integers(200, 800).map(lambda mm_per_s: mm_per_s / 1_000.0), max_size=8)


def told_all(model: Model, seen: Sequence[SetSeen]) -> Model:
    for one in seen:
        model = learned(model, one)
    return model


@given(models, sets_seen)
def test_a_set_never_leaves_more_doubt_than_the_days_between_add(model: Model, seen: SetSeen) -> None:
    after, drift = learned(model, seen), np.zeros(5)
    if model.sets and seen.rest_s is None:
        drift = np.square(adaptive.DRIFT)
    assert np.all(np.diag(covariance(after)) <= np.diag(covariance(model)) + drift + 1e-9)
    assert np.linalg.eigvalsh(covariance(after)).min() > -1e-8
    assert after.sets in {model.sets, model.sets + 1}


@given(st.lists(sets_seen, max_size=5), st.integers(0, 5))
def test_a_restart_between_any_two_sets_changes_nothing(seen: list[SetSeen], cut: int) -> None:
    first = told_all(PRIOR, seen[:cut])
    saved = msgspec.msgpack.encode(first)
    restored = msgspec.msgpack.decode(saved, type=Model)
    assert restored == first
    assert msgspec.msgpack.encode(restored) == saved
    assert told_all(restored, seen[cut:]) == told_all(PRIOR, seen)


@given(models, st.floats(0.3, 1.3), st.floats(1.0, 1.25), st.integers(2, 15))
def test_a_heavier_load_is_predicted_to_cost_more(model: Model, share: float, heavier: float, reps: int) -> None:
    load_N = share * (model.reference_N or 300.0)
    light, heavy = (predicted_loss(model, one, reps) for one in (load_N, heavier * load_N))
    assert light is not None
    assert heavy is not None
    assert heavy.value >= min(light.value, 85.0) - 1e-6  # beyond that there is no velocity left to lose
    fewer, more = (reps_left(model, one, (), TARGET_PCT) for one in (heavier * load_N, load_N))
    assert fewer is not None
    assert more is not None
    assert fewer.value <= more.value + 1e-6


@given(few_reps, st.floats(1e-3, 1e3))
def test_the_unit_of_velocity_does_not_matter(so_far: list[float], scale: float) -> None:
    seen = [SetSeen(300.0, TYPICAL), SetSeen(320.0, TYPICAL[2:], 75.0)]
    model = told_all(PRIOR, seen)
    other = told_all(PRIOR, [replace(one, velocities=tuple(scale * v for v in one.velocities)) for one in seen])
    shift = np.zeros(5)
    shift[SPEED] = math.log(scale)
    assert other.mean == pytest.approx((np.array(model.mean) + shift).tolist(), abs=1e-7)
    assert other.covariance == pytest.approx(model.covariance, abs=1e-7)
    for one, start in ((model, other), (PRIOR, PRIOR)):
        told = predicted_loss(one, 310.0, 10, so_far)
        scaled = predicted_loss(start, 310.0, 10, [scale * v for v in so_far])
        assert (told is None) == (scaled is None)
        if told is not None and scaled is not None:
            assert msgspec.structs.astuple(scaled) == pytest.approx(msgspec.structs.astuple(told), abs=1e-3)


@given(models, few_reps, st.integers(1, 20), st.floats(10.0, 40.0), st.floats(0.3, 3.0))
def test_every_interval_is_in_order_and_in_its_range(
    model: Model, so_far: list[float], reps: int, target_pct: float, share: float
) -> None:
    load_N = share * (model.reference_N or 300.0)
    loss = predicted_loss(model, load_N, reps, so_far)
    left = reps_left(model, load_N, so_far, target_pct)
    load = load_for(model, target_pct, max(reps, 3))
    for told, low, high in ((loss, 0.0, 100.0), (left, 0.0, MAX_AHEAD), (load, 0.0, math.inf)):
        assert told is None or low <= told.low <= told.value <= told.high <= high
    assert (loss is None) == (left is None)


@given(st.permutations(TYPICAL[1:]))
def test_the_order_of_the_reps_counts_as_the_model_says(later: list[float]) -> None:
    # rising instead of falling is a fresher patient; the velocities alone say nothing of fatigue
    falling = learned(PRIOR, SetSeen(300.0, (TYPICAL[0], *sorted(later, reverse=True))))
    any_way = learned(PRIOR, SetSeen(300.0, (TYPICAL[0], *later)))
    rising = learned(PRIOR, SetSeen(300.0, (TYPICAL[0], *sorted(later))))
    assert rising.mean[RATE] - 1e-9 <= falling.mean[RATE]
    assert any_way.mean[NOISE] >= min(rising.mean[NOISE], falling.mean[NOISE]) - 1e-9


def test_learning_narrows_what_is_predicted() -> None:
    widths, model, rng = [], PRIOR, np.random.default_rng(4)
    for _ in range(5):
        told = predicted_loss(model, 300.0, 10)
        assert told is not None
        widths.append(told.high - told.low)
        velocities = shares(0.025, 10) * (1.0 + 0.046 * rng.standard_normal(10))
        model = learned(model, SetSeen(300.0, tuple(velocities.tolist()), 75.0))
    assert widths[1] < 0.5 * widths[0]
    assert widths[-1] < widths[1]


def test_a_load_is_proposed_at_which_the_target_is_predicted() -> None:
    for target_pct in (15.0, 20.0, 30.0):
        proposed = load_for(TRAINED, target_pct, 10)
        assert proposed is not None
        rate = math.exp(TRAINED.mean[RATE]) * (proposed.value / 300.0) ** TRAINED.mean[LOAD_EXPONENT]
        assert adaptive.underlying_loss(rate, 10) == pytest.approx(target_pct, abs=1e-6)
    loads = [load_for(TRAINED, target_pct, reps) for target_pct, reps in ((15, 10), (20, 10), (20, 9), (20, 8))]
    values = [load.value for load in loads if load is not None]
    assert values == sorted(values)
    assert len(values) == 4


def test_the_loss_of_a_rep_that_is_done_is_what_was_shown() -> None:
    shown = [predicted_loss(TRAINED, 300.0, n, TYPICAL) for n in range(1, 11)]
    assert [one.value for one in shown if one is not None] == pytest.approx(shown_losses(TYPICAL))
    assert all(one is not None and one.low == one.value == one.high for one in shown)
    assert reps_left(TRAINED, 300.0, (0.5, 0.5, 0.4), TARGET_PCT) == Interval(0.0, 0.0, 0.0)


def test_a_model_that_never_saw_a_set_proposes_no_load() -> None:
    assert load_for(PRIOR, TARGET_PCT, 10) is None
    assert load_for(population_prior([TRAINED] * 12), TARGET_PCT, 10) is None


def test_a_population_is_as_wide_as_its_patients_differ() -> None:
    alike = [learned(TRAINED, SetSeen(300.0, TYPICAL[:n], 75.0)) for n in (5, 6, 7, 8, 9, 10) * 2]
    different = [replace(one, mean=(one.mean[0] + (-1.0) ** n, *one.mean[1:])) for n, one in enumerate(alike)]
    assert population_prior(alike[:9]) == population_prior([PRIOR] * 20) == PRIOR
    near, wide = population_prior(alike), population_prior(different)
    assert near.covariance[0] < PRIOR.covariance[0] < wide.covariance[0]
    assert near.covariance[0] > max(one.covariance[0] for one in alike)
    assert near.mean[RATE] == pytest.approx(np.mean([one.mean[RATE] for one in alike]), abs=1e-9)
    assert (near.sets, near.reference_N, near.mean[SPEED]) == (0, 0.0, 0.0)
    assert population_prior(alike[::-1]) == near


NO_SETS = [
    (),
    (0.5, 0.4),
    (0.0, 0.0, 0.0),
    (0.5, 0.5, 0.5, 0.5),
    (0.5, math.nan, 0.4),
    (0.5, math.inf, 0.4),
    (0.5, -0.4, 0.4),
    (0.5, 0.0, 0.4),
    (1e-300, 1.0, 1e300),
]


@pytest.mark.parametrize("velocities", NO_SETS)
def test_what_is_no_set_teaches_nothing(velocities: tuple[float, ...]) -> None:
    for model in (PRIOR, TRAINED):
        assert learned(model, SetSeen(300.0, velocities)) == model


@pytest.mark.parametrize("load_N", [0.0, -1.0, math.nan, math.inf, 1e-300, 1e300])
def test_what_is_no_load_teaches_and_predicts_nothing(load_N: float) -> None:
    assert learned(TRAINED, SetSeen(load_N, TYPICAL)) == TRAINED
    assert predicted_loss(TRAINED, load_N, 10) is None
    assert reps_left(TRAINED, load_N, (), TARGET_PCT) is None


def test_nothing_is_predicted_from_nonsense() -> None:
    for so_far in NO_SETS[2:]:
        assert predicted_loss(TRAINED, 300.0, 12, so_far) is None
        assert predicted_loss(TRAINED, 300.0, 1, so_far) is None
        assert reps_left(TRAINED, 300.0, so_far, TARGET_PCT) is None
    for reps in (0, -3, MAX_AHEAD + 1, 10**9):
        assert predicted_loss(TRAINED, 300.0, reps) is None
    for target_pct in (0.0, -5.0, 100.0, math.nan, math.inf):
        assert reps_left(TRAINED, 300.0, (), target_pct) is None
        assert load_for(TRAINED, target_pct, 10) is None
    for reps in (2, 0, -1, 10**9):
        assert load_for(TRAINED, TARGET_PCT, reps) is None


@given(st.lists(st.tuples(st.floats(), st.lists(st.floats(), max_size=70)), max_size=3), st.integers(), st.floats())
def test_no_numbers_whatever_raise(seen: list[tuple[float, list[float]]], reps: int, target_pct: float) -> None:
    model = told_all(PRIOR, [SetSeen(load_N, tuple(velocities)) for load_N, velocities in seen])
    assert all(math.isfinite(value) for value in (*model.mean, *model.covariance, model.reference_N))
    for load_N, so_far in seen:
        for told in (
            predicted_loss(model, load_N, reps, so_far),
            reps_left(model, load_N, so_far, target_pct),
            load_for(model, target_pct, reps),
        ):
            assert told is None or all(math.isfinite(value) for value in msgspec.structs.astuple(told))


# Calibration: how often 90 % intervals hold what then happens


class Scores:
    """How often intervals held, by what was predicted."""

    def __init__(self) -> None:
        self._held: defaultdict[tuple[str, int], list[bool]] = defaultdict(list)

    def note(self, kind: str, number: int, told: Interval | None, came: float) -> None:
        """Score a prediction about a set of that number; None counts as not held."""
        self._held[kind, number].append(told is not None and told.low <= came <= told.high)

    def pct(self, kind: str, *numbers: int) -> float:
        """Return the percentage of intervals that held, over sets of these numbers, or all."""
        held = [
            one
            for (name, n), all_of in self._held.items()
            for one in all_of
            if name == kind and (not numbers or n in numbers)
        ]
        return 100.0 * sum(held) / len(held)


def note_predictions(scores: Scores, number: int, model: Model, load_N: float, velocities: tuple[float, ...]) -> None:
    """Predict the tenth rep, and the reps left to 20 %, before the set and after 3 and 6 reps, and see what comes."""
    losses = shown_losses(velocities)
    for seen in (0, 3, 6):
        so_far = velocities[:seen]
        scores.note("loss", number, predicted_loss(model, load_N, 10, so_far), losses[9])
        if seen and losses[seen - 1] >= TARGET_PCT:
            continue
        left = next((n for n, loss in enumerate(losses[seen:], start=1) if loss >= TARGET_PCT), MAX_AHEAD)
        scores.note("left", number, reps_left(model, load_N, so_far, TARGET_PCT), min(left, MAX_AHEAD))


class Own(NamedTuple):
    """A patient as the model assumes them."""

    rate: float
    exponent: float
    speed: float
    speed_exponent: float
    noise: float

    def velocities(self, x: float, reps: int, rng: Generator) -> Array:
        """Do a set at a load of e^x times the reference."""
        rate = math.exp(self.rate + self.exponent * x + 0.10 * rng.standard_normal())
        speed = math.exp(self.speed + self.speed_exponent * x + 0.06 * rng.standard_normal())
        sd = np.full(reps, math.exp(self.noise))
        sd[0] = math.hypot(sd[0], 0.02)
        done: Array = speed * shares(rate, reps) * np.maximum(1.0 + sd * rng.standard_normal(reps), 0.05)
        return done


def until_near_failure(velocities: tuple[float, ...]) -> tuple[float, ...]:
    """Cut a set where 40 % is lost: at or near failure (Pareja-Blanco 2017)."""
    losses = shown_losses(velocities)
    return velocities[: next((n for n, loss in enumerate(losses, start=1) if loss >= 40.0), len(losses))]


def own_world(count: int, seed: int) -> Scores:
    """Let patients of the model's own kind do five sets each, at loads up to 25 % apart."""
    scores, rng, sds = Scores(), np.random.default_rng(seed), np.sqrt(np.diag(covariance(PRIOR)))
    for _ in range(count):
        drawn = np.array(PRIOR.mean) + sds * rng.standard_normal(5)
        own, model = Own(*np.maximum(drawn, (-9.0, 0.5, -9.0, -9.0, -9.0)).tolist()), PRIOR
        for number in range(5):
            x = float(rng.uniform(-0.25, 0.25)) if number else 0.0
            velocities = tuple(own.velocities(x, 60, rng).tolist())
            note_predictions(scores, number, model, 300.0 * math.exp(x), velocities)
            done = until_near_failure(velocities[: int(rng.integers(8, 13))])
            model = learned(model, SetSeen(300.0 * math.exp(x), done, 75.0))
            next_rate = own.rate + 0.10 * float(rng.standard_normal())
            right = 300.0 * math.exp((math.log(adaptive.rate_for(TARGET_PCT, 10)) - next_rate) / own.exponent)
            told = load_for(model, TARGET_PCT, 10)
            if told is not None:
                scores.note("load", number + 1, told, right)
    return scores


def test_intervals_hold_nine_times_out_of_ten_under_the_own_assumptions() -> None:
    scores = own_world(400, seed=3)
    for kind in ("loss", "left"):
        for number in range(5):
            assert 85.0 <= scores.pct(kind, number) <= 95.0, (kind, number)
    for number in range(1, 6):
        assert 85.0 <= scores.pct("load", number) <= 95.0, number


class Lifter(NamedTuple):
    """A simulated patient of loadtest at one machine, and the load at which ten reps truly cost 20 %."""

    patient: Patient
    task: Task
    right_N: float

    def lift(self, load_N: float, reps: int, condition: Condition, rng: Generator) -> tuple[list[Movement], Condition]:
        """Do a set as fast as possible; return its movements, and how the patient is then."""
        ordered = replace(self.task.prescription, load_N=load_N)
        task, movements = Task(self.task.exercise, "both", "max", ordered), []
        for _ in range(reps):
            movement, condition = patients.perform(self.patient, condition, task, rng)
            movements.append(movement)
        return movements, condition

    def true_loss_pct(self, load_N: float) -> float:
        """Return what fatigue alone does to ten fresh reps."""
        loss = self.lift(load_N, 10, Condition(), np.random.default_rng(0))[0][-1].loss_pct
        assert loss is not None
        return loss


def velocities_of(movements: Sequence[Movement]) -> tuple[float, ...]:
    return tuple(one.rom / one.concentric_s for one in movements)


def lifter(index: int) -> Lifter:
    """Draw a patient, and find the right load by halving."""
    exercise = list(EXERCISES.values())[index % len(EXERCISES)]
    ordered = Prescription(id="p", load_N=1.0, window_lo=exercise.window[0], window_hi=exercise.window[1])
    one = Lifter(patients.draw(11, index), Task(exercise, "both", "max", ordered), 0.0)
    low_N, high_N = 1.0, 10_000.0
    while high_N > low_N * 1.0001:
        middle_N = math.sqrt(low_N * high_N)
        low_N, high_N = (middle_N, high_N) if one.true_loss_pct(middle_N) < TARGET_PCT else (low_N, middle_N)
    return one._replace(right_N=low_N)


def sessions(one: Lifter, first_N: float, rng: Generator) -> Iterator[tuple[SetSeen, tuple[float, ...]]]:
    """Do two sessions of three sets of 10 to 12 reps: what is seen of each, and how it would have gone on."""
    condition = Condition()
    for number in range(6):
        rest_s = 75.0 if number % 3 else None
        condition = Condition() if rest_s is None else patients.rested(condition, one.patient, rest_s)
        movements, _ = one.lift(first_N, 60, condition, rng)
        reps = int(rng.integers(10, 13))
        _, condition = one.lift(first_N, reps, condition, np.random.default_rng(0))  # fatigue has no dice
        velocities = velocities_of(movements)
        yield SetSeen(first_N, velocities[:reps], rest_s), velocities


@cache
def population(machine: int) -> Model:
    """Return what twenty patients of a machine showed in two sessions."""
    known = []
    for n in range(20):
        rng = np.random.default_rng([5, n, machine])
        one = lifter(100_000 + len(EXERCISES) * n + machine)
        done = sessions(one, one.right_N * float(rng.uniform(0.75, 1.25)), rng)
        known.append(told_all(PRIOR, [seen for seen, _ in done]))
    return population_prior(known)


class Searched(NamedTuple):
    """How intervals held, and the true losses at the loads that were proposed, by the number of sets before."""

    scores: Scores
    losses_pct: dict[int, list[float]]

    def in_band_pct(self, sets: int) -> float:
        """Return the percentage of patients whose load is right."""
        losses = self.losses_pct[sets]
        return 100.0 * sum(abs(loss - TARGET_PCT) <= BAND_POINTS for loss in losses) / len(losses)


@cache
def lifters_world(count: int, *, by_population: bool) -> Searched:
    """Let simulated patients begin at a load up to 25 % off the right one, and stay there for two sessions."""
    scores, losses = Scores(), defaultdict(list)
    for index in range(count):
        rng, one = np.random.default_rng([17, index]), lifter(index)
        model = population(index % len(EXERCISES)) if by_population else PRIOR
        first_N = one.right_N * float(rng.uniform(0.75, 1.25))
        for number, (seen, velocities) in enumerate(sessions(one, first_N, rng)):
            note_predictions(scores, number, model, first_N, velocities)
            model = learned(model, seen)
            proposed = load_for(model, TARGET_PCT, 10)
            losses[number + 1].append(math.inf if proposed is None else one.true_loss_pct(proposed.value))
            scores.note("load", number + 1, proposed, one.right_N)
    return Searched(scores, losses)


@pytest.mark.parametrize("kind", ["loss", "left"])
def test_intervals_hold_nine_times_out_of_ten_with_simulated_lifters(kind: str) -> None:
    found = lifters_world(300, by_population=True).scores
    anybody = lifters_world(300, by_population=False).scores  # where nobody has trained before
    for scores in (found, anybody):
        assert 85.0 <= scores.pct(kind) <= 95.0
        for number in range(1, 6):
            assert 85.0 <= scores.pct(kind, number) <= 95.0, number
    # a first set is predicted for a stranger at a load that was guessed: these lifters differ less than that allows for
    assert 85.0 <= found.pct(kind, 0) <= anybody.pct(kind, 0)


@pytest.mark.parametrize("by_population", [True, False])
def test_after_two_sets_nine_proposals_in_ten_are_right(*, by_population: bool) -> None:
    found = lifters_world(300, by_population=by_population)
    assert found.in_band_pct(2) >= 90.0
    assert found.in_band_pct(6) >= 95.0
    for number in range(1, 7):  # nearly always: unlike people, these lifters don't differ from one day to the next
        assert found.scores.pct("load", number) >= 90.0, number


def test_the_exponent_is_what_the_proposals_hang_on() -> None:
    #  what two sets at a load up to 25 % off can't tell; the intervals know it
    expected = {1.2: 95.0, 1.9: 90.0, 2.6: 72.0}
    for exponent, least_pct in expected.items():
        right, held, rng = [], [], np.random.default_rng(9)
        for _ in range(500):
            off, model = math.log(rng.uniform(0.75, 1.25)), PRIOR
            rate = adaptive.rate_for(TARGET_PCT, 10) * math.exp(exponent * off)
            for _ in range(2):
                velocities = shares(rate, 11) * (1.0 + 0.046 * rng.standard_normal(11))
                model = learned(model, SetSeen(300.0, tuple(velocities.tolist()), 75.0))
            told = load_for(model, TARGET_PCT, 10)
            assert told is not None
            true_rate = rate * (told.value / 300.0) ** exponent
            right.append(abs(adaptive.underlying_loss(true_rate, 10) - TARGET_PCT) <= BAND_POINTS)
            held.append(told.low <= 300.0 * math.exp(-off) <= told.high)
        assert 100.0 * np.mean(right) >= least_pct, exponent
        assert 100.0 * np.mean(held) >= 85.0, exponent


def test_measured_velocities_teach_what_true_ones_do() -> None:
    one, rng = lifter(3), np.random.default_rng(8)
    true, measured = PRIOR, PRIOR
    for _ in range(2):
        movements, _ = one.lift(one.right_N, 12, Condition(), rng)
        signals = [rep_signal(movement, rng) for movement in movements]
        found = measure(
            [message(one.position, one.force, intent="max", load_N=300.0, prescription=None) for one in signals]
        )
        assert all(each.valid for each in found)
        velocities = tuple(each.values["mean_velocity"] for each in found)
        assert velocities == pytest.approx([signal.truth.mean_velocity for signal in signals], rel=0.03)
        true = learned(true, SetSeen(one.right_N, tuple(signal.truth.mean_velocity for signal in signals)))
        measured = learned(measured, SetSeen(one.right_N, velocities))
    proposed, told = load_for(measured, TARGET_PCT, 10), load_for(true, TARGET_PCT, 10)
    assert proposed is not None
    assert told is not None
    assert proposed.value == pytest.approx(told.value, rel=0.02)
    assert abs(one.true_loss_pct(proposed.value) - TARGET_PCT) <= BAND_POINTS
    assert proposed.low <= one.right_N <= proposed.high
