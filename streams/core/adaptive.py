"""Adaptive: how fast a patient tires and how that depends on the load, learned set by set, every number with its doubt.

It proposes and never decides: rules and envelope stay as they are. docs/adaptive.md has the model on one page. Within a
set velocity falls by the same share of the fresh velocity with every rep, and the rep-to-rep noise is multiplicative:

    V_i = speed * (1 - rate * (i - 1)) * (1 + noise * e_i), rate ~ load ** exponent, speed ~ load ** speed_exponent

Two losses are told apart. The *shown* one is the loss of a rep against the fastest so far, itself included, noise and
all (as `fatigue.velocity_loss_online`). The *underlying* one is what fatigue alone does to the freshest rep of the set.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import NamedTuple

import msgspec
import numpy as np

from streams.core.ragged import FloatArray, IntArray

RATE, LOAD_EXPONENT, SPEED, SPEED_EXPONENT, NOISE = range(5)
"""Places in `Model.mean`: ln of the rate, its exponent, ln of the fresh velocity, its exponent, ln of the noise."""

MIN_REPS = 3
"""Reps below which a set teaches nothing: two velocities are a difference, and three the first sight of a slope."""

MAX_REPS = 60
"""Reps of a set that are looked at; a session keeps no more of them either."""

MAX_AHEAD = 40
"""Reps that are looked ahead; `reps_left` says 40 where it is 40 or more."""

MIN_PATIENTS = 10
"""Patients that make a population [default]."""

FIRST_GUESS = 0.15
"""By how much a first load is off, in units of ln: evenly likely up to 25 % either way [default]."""

FAR = 4.0
"""Ratio of loads beyond which nothing that was learned at one applies to the other [default]."""

FROM_REST = 0.04
FROM_REST_SD = 0.02
"""Share by which the first rep, from rest, is slower than a fresh one, and how much that varies [measured].

The fastest rep was the first in 32 of 120 real sets; with this noise and decline 0.04 gives that, 0.03-0.06 its range.
"""

RATE_SCATTER, SPEED_SCATTER = 0.10, 0.06
"""By how much a single set differs from the patient's usual rate and velocity, in units of ln.

A repeated endurance test has a typical error of about 10 % (Udermann 2003), machine strength one of 6 %.
"""

DRIFT = (0.03, 0.0, 0.015, 0.0, 0.0)
"""Change from session to session, in units of ln: 1.5 % of strength, and for the rate that times its exponent."""

MAX_NOISE_WEIGHT = 60.0
"""Degrees of freedom up to which noise is trusted, so that a change of it is seen after a handful of sets [default]."""

LEAST_EXPONENT = 0.5
"""A heavier load never tires less [default]."""

LEAST_NOISE, MOST_NOISE = 0.01, 0.3
"""No rep repeats another to better than 1 %, and beyond 30 % there is nothing to predict [default]."""

SPREAD = 100.0
"""Ratio of two velocities of one set that no patient can have done [default]."""

DECIMALS = 9
SHOWN_DECIMALS = 6
"""Precision of a model and of an interval: no last bit of a platform's logarithm shows."""

_FLOOR = 0.1  # share of the fresh velocity below which no set goes on
_MOST = math.log(0.9)  # of the fresh velocity with every rep
_STEPS = np.arange(float(MAX_REPS + MAX_AHEAD))
_COARSE, _FINE = np.linspace(-4.0, 4.0, 65), np.linspace(-8.0, 8.0, 641)


class Model(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one patient at one machine: a Gaussian over five numbers.

    Parameters
    ----------
    mean : tuple of float, shape (5,)
        Ln of the share of fresh velocity that a rep costs at the reference load; exponent of the load in it; ln of
        the fresh velocity at the reference load; exponent of the load in it; ln of the rep-to-rep noise.
    covariance : tuple of float, shape (25,)
        Row by row.
    sets : int
        Sets that it learned from. Before the first one it knows neither a load nor a velocity.
    reference_N : float
        Load against which loads are counted, in N or N m: that of the first set; 0 before it.
    """

    mean: tuple[float, ...]
    covariance: tuple[float, ...]
    sets: int
    reference_N: float = 0.0


class Interval(msgspec.Struct, frozen=True):
    """A prediction, and the interval that holds what will happen 9 times out of 10."""

    value: float
    low: float
    high: float


class SetSeen(msgspec.Struct, frozen=True):
    """A set that was done as fast as possible.

    Parameters
    ----------
    load_N : float
        In N or N m.
    velocities : tuple of float
        Mean concentric velocities of its valid reps in order, in m/s or rad/s; the unit doesn't matter.
    rest_s : float or None
        Rest before it; None for the first set of a session that is learned from.
    """

    load_N: float
    velocities: tuple[float, ...]
    rest_s: float | None = None


def _diagonal(sds: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.diag(np.square(sds)).ravel().tolist())


PRIOR = Model(
    mean=(math.log(0.025), 1.9, 0.0, -0.9, math.log(0.046)), covariance=_diagonal((0.7, 0.5, 1.0, 0.4, 0.4)), sets=0
)
"""Anybody at any machine, at a load that a clinician chose. Where each number comes from stands in docs/adaptive.md."""


def population_prior(models: Sequence[Model]) -> Model:
    """Return what a new patient of a machine is like, from those who trained there; `PRIOR` for fewer than ten.

    The spread is that of the patients' means plus what is not known of each (law of total variance), wider by the
    error of the mean. Load and velocity are personal and start unknown.

    Examples
    --------
    >>> one = learned(PRIOR, SetSeen(300.0, (0.5, 0.5, 0.49, 0.48, 0.46, 0.46)))
    >>> population_prior([one] * 9) == PRIOR, population_prior([one] * 10).sets
    (True, 0)
    """
    known = [model for model in models if model.sets > 0]
    if len(known) < MIN_PATIENTS:
        return PRIOR
    means = np.array([model.mean for model in known])
    doubt = np.mean([model.covariance for model in known], axis=0).reshape(5, 5)
    covariance = np.diag((means.var(axis=0, ddof=1) + doubt.diagonal()) * (1.0 + 1.0 / len(known)))
    mean = means.mean(axis=0)
    covariance[RATE, RATE] += (mean[LOAD_EXPONENT] * FIRST_GUESS) ** 2
    mean[SPEED], covariance[SPEED, SPEED] = PRIOR.mean[SPEED], PRIOR.covariance[SPEED * 6]
    return _packed(mean, covariance, 0, 0.0)


def learned(model: Model, seen: SetSeen) -> Model:
    """Let a set change what is known; one of fewer than three reps, or that no patient can have done, changes nothing.

    The set's own rate and velocity are found on a grid over their prior, exactly but for its fineness; what they say of
    the patient's usual ones follows from Gaussian conditioning, with the scatter from set to set in between.

    Examples
    --------
    >>> after = learned(PRIOR, SetSeen(300.0, (0.50, 0.50, 0.49, 0.47, 0.46, 0.46, 0.43, 0.43)))
    >>> after.sets, round(100.0 * math.exp(after.mean[RATE]), 1), after.covariance[0] < PRIOR.covariance[0]
    (1, 2.4, True)
    >>> learned(after, SetSeen(300.0, (0.50, 0.48))) == after
    True
    """
    logs = _logs(seen.velocities[:MAX_REPS])
    if logs is None or len(logs) < MIN_REPS:
        return model
    mean, covariance = np.array(model.mean), np.array(model.covariance).reshape(5, 5)
    if model.sets and seen.rest_s is None:
        covariance += np.diag(np.square(DRIFT))
    mean[NOISE], covariance[NOISE, NOISE] = _noise(mean[NOISE], covariance[NOISE, NOISE], logs)
    usual = _usual(_packed(mean, covariance, model.sets, model.reference_N), seen.load_N, logs)
    if usual is None:
        return model
    if not model.sets:
        mean[SPEED] = usual.speed
    fit = _fit(usual, logs, _FINE)
    rate, rate_spread = _moments(fit.weights, fit.rates)
    speed, speed_spread = _moments(fit.weights, fit.speeds)
    for place, off, before, now in (
        (RATE, rate - usual.rate, usual.rate_variance, rate_spread),
        (SPEED, speed - usual.speed, usual.speed_variance, speed_spread + fit.speed_variance),
    ):
        gain = (covariance[:, place] + usual.x * covariance[:, place + 1]) / before
        mean += gain * off
        # a set that contradicts what is known may leave more doubt about itself, but not about the patient
        covariance -= np.outer(gain, gain) * max(before - now, 0.0)
    mean[LOAD_EXPONENT] = max(mean[LOAD_EXPONENT], LEAST_EXPONENT)
    return _packed(mean, covariance, model.sets + 1, model.reference_N or seen.load_N)


def _moments(weights: FloatArray, values: FloatArray) -> tuple[float, float]:
    mean = float(weights @ values)
    return mean, float(weights @ (values - mean) ** 2)


def predicted_loss(model: Model, load_N: float, reps: int, so_far: Sequence[float] = ()) -> Interval | None:
    """Return the shown velocity loss of a rep in percent: against the fastest up to it, noise and all.

    Parameters
    ----------
    model : Model
        What is known of the patient.
    load_N : float
        Load of the set in N or N m.
    reps : int
        Number of the rep in the set, from 1.
    so_far : sequence of float
        Mean velocities of the valid reps of the running set, in the unit in which the model learned.

    Returns
    -------
    Interval or None
        The mean and the 90 % interval; a rep that is done is known. None where there is nothing to predict from, or
        the rep is more than `MAX_AHEAD` ahead.

    Examples
    --------
    >>> loss = predicted_loss(PRIOR, 300.0, 10, (0.50, 0.51, 0.50, 0.49))
    >>> 0.0 <= loss.low < loss.value < loss.high
    True
    """
    if 1 <= reps <= len(so_far) and _logs(so_far) is not None:
        shown = round(100.0 * (1.0 - so_far[reps - 1] / max(so_far[:reps])), SHOWN_DECIMALS)
        return Interval(shown, shown, shown)
    expected = _expected(model, load_N, so_far)
    if expected is None or not 1 <= reps - len(so_far) <= MAX_AHEAD:
        return None
    what_ifs = _what_ifs(model, *expected)
    velocities = _velocities(what_ifs, 0, reps - len(so_far))
    losses = 100.0 * (1.0 - velocities[-1] / np.maximum(velocities.max(axis=0), what_ifs.best))
    return _interval(np.sort(losses), float(losses.sum()) / _WHAT_IFS)


def reps_left(model: Model, load_N: float, so_far: Sequence[float], target_pct: float) -> Interval | None:
    """Return after how many more reps the shown loss first reaches the target; 0 if the last rep's did.

    The bounds fall between whole numbers, so that those inside are 90 % and not more.

    Parameters
    ----------
    model : Model
        What is known of the patient.
    load_N : float
        Load of the set in N or N m.
    so_far : sequence of float
        Mean velocities of the valid reps of the running set; may be empty.
    target_pct : float
        Velocity loss in percent, between 0 and 100.

    Returns
    -------
    Interval or None
        The median and the 90 % interval, `MAX_AHEAD` standing for that many or more. None where there is nothing to
        predict from.

    Examples
    --------
    >>> left = reps_left(PRIOR, 300.0, (0.50, 0.51, 0.50, 0.49), 20.0)
    >>> 0.0 < left.low < left.value < left.high <= MAX_AHEAD
    True
    """
    if not 0.0 < target_pct < 100.0:  # noqa: PLR2004 - percent
        return None
    enough = 1.0 - target_pct / 100.0
    expected = _expected(model, load_N, so_far)
    if expected is None:
        return None
    if so_far and so_far[-1] <= enough * max(so_far):  # a third of the reps of a story: no what-ifs for them
        return Interval(0.0, 0.0, 0.0)
    left = _first_there(_what_ifs(model, *expected), enough)
    rising = np.minimum(left + _BETWEEN, MAX_AHEAD)
    rising.sort()
    return _interval(rising, float(rising[_WHAT_IFS // 2]))


def _first_there(what_ifs: "_WhatIfs", enough: float) -> FloatArray:
    """Return after how many reps each what-if set has lost enough, shape (293,); `MAX_AHEAD` for those beyond 90 %."""
    left = np.full(_WHAT_IFS, float(MAX_AHEAD))
    fastest = enough * what_ifs.best
    for first, stop in pairwise(_LOOKS):  # most sets get there soon: only the others are looked at any further
        velocities = _velocities(what_ifs, first, stop)
        rising = velocities * enough
        np.maximum(rising[0], fastest, out=rising[0])
        for before, now in pairwise(rising):  # four times as fast as `accumulate` along the reps
            np.maximum(before, now, out=now)
        is_there = velocities <= rising
        is_ever = is_there.any(axis=0)
        left[what_ifs.places] = np.where(is_ever, is_there.argmax(axis=0) + (first + 1.0), MAX_AHEAD)
        on = np.flatnonzero(~is_ever)
        if _WHAT_IFS - len(on) > _ENDS[1][0] + 1:
            break
        fastest = rising[-1][on]
        what_ifs = _WhatIfs(what_ifs.done, what_ifs.places[on], what_ifs.cost[on], what_ifs.noise[on], 0.0)
    return left


def load_for(model: Model, target_pct: float, reps: int) -> Interval | None:
    """Return the load in N or N m at which so many reps end at a target for the underlying loss.

    A load is chosen for what fatigue does, not for what noise shows. The interval is that of the next set, which
    differs from the patient's usual one.

    Parameters
    ----------
    model : Model
        What is known of the patient.
    target_pct : float
        Underlying velocity loss of the last rep in percent, between 0 and 100.
    reps : int
        Reps of the set, at least 3.

    Returns
    -------
    Interval or None
        The median and the 90 % interval. None before the first set, and where the load is out of reach of what was
        seen (`FAR`).

    Examples
    --------
    >>> after = learned(PRIOR, SetSeen(300.0, (0.50, 0.50, 0.49, 0.47, 0.46, 0.46, 0.43, 0.43)))
    >>> proposed = load_for(after, 20.0, 10)
    >>> proposed.low < proposed.value < proposed.high
    True
    """
    if not model.sets or not 0.0 < target_pct < 100.0 or not MIN_REPS <= reps <= MAX_REPS:  # noqa: PLR2004 - percent
        return None
    aim = math.log(rate_for(target_pct, reps)) - model.mean[RATE]
    crossings = _crossings(model, aim)
    if crossings is None or max(map(abs, crossings)) > math.log(FAR):
        return None
    x = (crossings[0], aim / model.mean[LOAD_EXPONENT], crossings[1])
    low, value, high = (round(model.reference_N * math.exp(one), SHOWN_DECIMALS) for one in x)
    return Interval(value, low, high)


def _crossings(model: Model, aim: float) -> tuple[float, float] | None:
    """Return between which ln of load / reference the rate's ln rises by `aim`, 9 times out of 10 (Fieller 1954).

    They solve (aim - exponent x)^2 = z^2 (variance of rate + exponent x); None where the exponent may well be zero.
    The scatter from set to set is part of that variance.
    """
    exponent, covariance, z2 = model.mean[LOAD_EXPONENT], model.covariance, _Z90 * _Z90
    a = exponent * exponent - z2 * covariance[6]
    b = exponent * aim + z2 * covariance[1]
    c = aim * aim - z2 * (covariance[0] + RATE_SCATTER**2)
    root = b * b - a * c
    if a <= 0.0 or root < 0.0:
        return None
    return (b - math.sqrt(root)) / a, (b + math.sqrt(root)) / a


def underlying_loss(rate: float, reps: int) -> float:
    """Return the loss in percent that fatigue alone causes at a rep, against the freshest rep up to it.

    Examples
    --------
    >>> round(underlying_loss(0.05, 10), 6), underlying_loss(0.05, 1)
    (42.708333, 0.0)
    """
    shares = [1.0 - FROM_REST, *(max(1.0 - rate * step, _FLOOR) for step in range(1, reps))]
    return 100.0 * (1.0 - shares[-1] / max(shares))


def rate_for(target_pct: float, reps: int) -> float:
    """Return the rate, the share of fresh velocity that each rep costs, at which a rep is at an underlying loss.

    Examples
    --------
    >>> round(underlying_loss(rate_for(20.0, 10), 10), 9), round(underlying_loss(rate_for(60.0, 8), 8), 9)
    (20.0, 60.0)
    """
    left = 1.0 - target_pct / 100.0
    second_is_freshest = (1.0 - left) / (reps - 1 - left)
    first_is_freshest = (1.0 - left * (1.0 - FROM_REST)) / (reps - 1)
    return second_is_freshest if second_is_freshest <= FROM_REST else first_is_freshest


class _Usual(NamedTuple):
    """What a set at this load is expected to be, its scatter included: means and variances in units of ln."""

    x: float
    rate: float
    rate_variance: float
    speed: float
    speed_variance: float
    noise: float


class _Fit(NamedTuple):
    """A set's rate on a grid, shape (Q,): ln of the rate, its weight, ln of the fresh velocity that goes with it."""

    rates: FloatArray
    weights: FloatArray
    speeds: FloatArray
    speed_variance: float


def _logs(velocities: Sequence[float]) -> FloatArray | None:
    """Return the logarithms; None for what no patient can have done: standing still, or thrice the very same."""
    if not all(0.0 < v < math.inf for v in velocities):
        return None
    if velocities:
        slowest, fastest = min(velocities), max(velocities)
        if fastest > SPREAD * slowest or (fastest == slowest and len(velocities) >= MIN_REPS):
            return None
    logs: FloatArray = np.log(np.array(velocities, dtype=float))
    return logs


def _usual(model: Model, load_N: float, logs: FloatArray) -> _Usual | None:
    if not 0.0 < load_N < math.inf:
        return None
    x = math.log(load_N / model.reference_N) if model.sets else 0.0
    if abs(x) > math.log(FAR):
        return None
    mean, covariance = model.mean, model.covariance
    # before the first set the velocity is unknown: centred on what is seen, so that no unit of velocity matters
    speed = mean[SPEED] if model.sets else (fmean(logs.tolist()) if len(logs) else 0.0)
    return _Usual(
        x=x,
        rate=mean[RATE] + mean[LOAD_EXPONENT] * x,
        rate_variance=covariance[0] + 2.0 * x * covariance[1] + x * x * covariance[6] + RATE_SCATTER**2,
        speed=speed + mean[SPEED_EXPONENT] * x,
        speed_variance=covariance[12] + 2.0 * x * covariance[13] + x * x * covariance[18] + SPEED_SCATTER**2,
        noise=math.exp(mean[NOISE]),
    )


def _fit(usual: _Usual, logs: FloatArray, grid: FloatArray) -> _Fit:
    """Weigh rates by prior and likelihood; the velocity is integrated out, being Gaussian for each rate."""
    rates = usual.rate + math.sqrt(usual.rate_variance) * grid
    precision = np.full(len(logs), usual.noise**-2)
    precision[0] = 1.0 / (usual.noise**2 + FROM_REST_SD**2)
    shares = np.maximum(1.0 - np.exp(np.minimum(rates, _MOST))[:, None] * _STEPS[: len(logs)], _FLOOR)
    shares[:, 0] = 1.0 - FROM_REST
    off = logs - usual.speed - np.log(shares)
    total = 1.0 / usual.speed_variance + float(precision.sum())
    above = off @ precision / total
    misfit = (off * off) @ precision - total * above * above + grid * grid
    weights = np.exp(0.5 * (misfit.min() - misfit))
    return _Fit(rates, weights / weights.sum(), usual.speed + above, 1.0 / total)


def _noise(mean: float, variance: float, logs: FloatArray) -> tuple[float, float]:
    """Learn from the reps after the first, about their own straight line; 1 / (2 variance) are degrees of freedom."""
    later = np.exp(logs[1:] - logs.max())
    step = np.arange(float(len(later))) - (len(later) - 1) / 2.0
    line = later.mean() + step * (float(step @ later) / float(step @ step))
    off = (later - line) / np.maximum(line, _FLOOR)
    known, new = 0.5 / variance, len(later) - 2
    squares = (known * math.exp(2.0 * mean) + float(off @ off)) / (known + new)
    noise = min(max(math.sqrt(squares), LEAST_NOISE), MOST_NOISE)
    return math.log(noise), 0.5 / min(known + new, MAX_NOISE_WEIGHT)


def _packed(mean: FloatArray, covariance: FloatArray, sets: int, reference_N: float) -> Model:
    rounded = [tuple((np.round(values, DECIMALS) + 0.0).tolist()) for values in (mean, covariance.ravel())]
    return Model(rounded[0], rounded[1], sets, reference_N)


_WHAT_IFS, _GENERATOR, _OWN = 293, 12, 4
_LOOKS = (0, 8, 20, MAX_AHEAD)
"""Reps ahead after which those what-if sets that have lost enough are put aside."""


def _table() -> FloatArray:
    """Return what-if sets in standard deviations, shape (44, 293): rate, velocity, noise, rounding, then every rep.

    A lattice (Korobov) instead of dice: each row holds the same 293 evenly likely values, and of all primes from 233
    to 313 and their generators this pair leaves the least correlation between rows before they are shifted. Rates rise
    from set to set, because interpolation is quick where one place follows the other.
    """
    factors = np.array([pow(_GENERATOR, power, _WHAT_IFS) for power in range(_OWN + MAX_AHEAD)])
    shifts = np.arange(len(factors)) * 181  # the golden section of 293: or else the first column were all at the end
    places = (np.outer(factors, np.arange(_WHAT_IFS)) + shifts[:, None]) % _WHAT_IFS
    quantiles = np.array([NormalDist().inv_cdf((place + 0.5) / _WHAT_IFS) for place in range(_WHAT_IFS)])
    values: FloatArray = quantiles[places[:, np.argsort(places[0])]]
    return values


_Z90 = NormalDist().inv_cdf(0.95)
_TABLE = _table()
_RATE_OFF, _SPEED_OFF, _NOISE_OFF = _TABLE[:3]
_UNIFORM, _BETWEEN = (
    np.array([NormalDist().cdf(off) - half for off in _TABLE[row]]) for row, half in ((0, 0.0), (3, 0.5))
)
_REP_OFF = _TABLE[_OWN:]
_ALL = np.arange(_WHAT_IFS)
_ENDS = tuple((int(at), at - int(at)) for at in (0.05 * _WHAT_IFS - 0.5, 0.95 * _WHAT_IFS - 0.5))


class _WhatIfs(NamedTuple):
    """What-if sets after `done` reps, shape (293,) or (n,): what a rep costs and noise, in shares of fresh velocity.

    `places` says which ones they are, `best` is the fastest rep so far.
    """

    done: int
    places: IntArray
    cost: FloatArray
    noise: FloatArray
    best: FloatArray | float


def _expected(model: Model, load_N: float, so_far: Sequence[float]) -> tuple[_Usual, FloatArray] | None:
    """Return what the running set is expected to be, and its logarithms; None where nothing can be predicted from."""
    logs = _logs(so_far)
    if logs is None or len(logs) > MAX_REPS:
        return None
    usual = _usual(model, load_N, logs)
    return None if usual is None else (usual, logs)


def _what_ifs(model: Model, usual: _Usual, logs: FloatArray) -> _WhatIfs:
    """Return all that may be the case after some reps."""
    rates, best = usual.rate + math.sqrt(usual.rate_variance) * _RATE_OFF, 0.0
    if len(logs):
        fit = _fit(usual, logs, _COARSE)
        rates = np.interp(_UNIFORM, fit.weights.cumsum() - 0.5 * fit.weights, fit.rates)
        speeds = np.interp(rates, fit.rates, fit.speeds) + math.sqrt(fit.speed_variance) * _SPEED_OFF
        best = np.exp(float(logs.max()) - speeds)
    noise = np.minimum(usual.noise * np.exp(math.sqrt(model.covariance[24]) * _NOISE_OFF), MOST_NOISE)
    return _WhatIfs(len(logs), _ALL, np.exp(np.minimum(rates, _MOST)), noise, best)


def _velocities(what_ifs: _WhatIfs, first: int, stop: int) -> FloatArray:
    """Return some of the next reps of every what-if set, shape (stop - first, n); fresh velocity is 1."""
    done, places, cost, noise, _ = what_ifs
    velocities = _STEPS[done + first : done + stop, None] * -cost
    velocities += 1.0
    np.maximum(velocities, _FLOOR, out=velocities)
    noisy = noise * (_REP_OFF[first:stop] if places is _ALL else _REP_OFF[first:stop].take(places, axis=1))
    noisy += 1.0
    velocities *= noisy
    if not done and not first:
        velocities[0] = (1.0 - FROM_REST) * (1.0 + np.hypot(noise, FROM_REST_SD) * _REP_OFF[0])
    return velocities


def _interval(rising: FloatArray, value: float) -> Interval:
    """Return the central 90 % of evenly likely outcomes in rising order."""
    low, high = (float(rising[place]) * (1.0 - part) + float(rising[place + 1]) * part for place, part in _ENDS)
    inside = min(max(value, low), high)
    return Interval(*(round(one, SHOWN_DECIMALS) + 0.0 for one in (inside, low, high)))
