"""Strength: what a patient could lift, how it changes over sessions, and which change is more than chance.

Load and velocity (science.md 3.15), repetitions near failure, the trend (3.16), typical error and minimal detectable
change (3.17), outliers (2.5), exertion. None is undefined, `undefined.why` tells the reason. Patients are not tested to
a single maximal lift: every maximum here is an estimate, and without a velocity at the maximum there is none.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from streams.core.fatigue import mean, median, sample_sd
from streams.core.undefined import NEARLY_ZERO, Undefined, all_finite, finite, none_if_undefined, quotient

DECIMALS = 6
"""Precision to which values are rounded before they are compared with a limit."""

MIN_LOADS = 3
"""Distinct loads that make a load-velocity profile [literature: Jidovtseff 2011]."""

BENCH_SPAN_MPS = 0.5
"""Span of velocity that a profile of linear bench-type data needs, in m/s [literature: Jidovtseff 2011]."""

MIN_R2 = 0.90
"""Coefficient of determination below which a profile is rejected [default]."""

MAX_EXTRAPOLATION = 1.5
"""Estimated maximum over the heaviest load used above which it is rejected [default]."""

MIN_POPULATION = 10
"""Patients on the same machine that make a prior [default]."""

MAX_REPS = 10
"""Repetitions up to which a maximum is estimated from them [standard]."""

EWMA_SESSIONS = 6
"""Sessions over which the exponentially weighted mean looks back [default]."""

MDC95 = 1.96 * math.sqrt(2.0)
"""Minimal detectable change (95 %) of the difference of two tests, in standard errors of measurement [standard]."""

OUTLIER_MADS = 3.5
"""Scaled median absolute deviations beyond which a value is an outlier [standard]."""

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations [standard]."""

MIN_HISTORY = 5
"""Values of a history that can tell an outlier [default]; in three or four nothing stands out."""

TYPICAL_ERROR_PCT: Mapping[Literal["concentric", "eccentric", "isometric"], float] = {
    "concentric": 6.0,  # measured on machines: 3.8-8.4
    "eccentric": 8.0,  # 6.2-10.2
    "isometric": 5.5,  # 3.7-7.3
}
"""Typical error of machine strength in percent, where the machine's profile has none [default]."""

Values = Sequence[float | None]
"""Numbers. None among them, or a number that is not finite, is no input."""


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """How velocity falls with load: v = a + b·L.

    Parameters
    ----------
    a : float
        Velocity without load, in m/s or rad/s.
    b : float
        Change of velocity per unit of load, negative.
    r2 : float or None
        1 - SS_res/SS_tot over the best trials; None where all have the same velocity.
    load_at_zero_velocity : float
        LD0 = -a/b, in the unit of the loads.
    """

    a: float
    b: float
    r2: float | None
    load_at_zero_velocity: float


@none_if_undefined
def load_velocity_profile(loads: Values, velocities: Values, min_span: float = 0.0) -> Profile | None:
    """Fit velocity over load by least squares, the fastest trial of each load: v = a + b·L.

    Parameters
    ----------
    loads : sequence of n floats
        Load of each trial, in one unit.
    velocities : sequence of n floats
        Mean velocity of each trial in m/s or rad/s.
    min_span : float
        Span of velocity that the trials must cover: `BENCH_SPAN_MPS` for linear bench-type data.

    Returns
    -------
    Profile or None
        None with fewer than 3 distinct loads, too small a span, b >= 0 or R² < 0.90 (`fit_rejected`); columns of
        different length or with what is no number are `invalid_input`.

    References
    ----------
    Jidovtseff 2011; R² [default].

    Examples
    --------
    >>> profile = load_velocity_profile([20, 40, 60], [1.0, 0.7, 0.4])
    >>> round(profile.a, 6), round(profile.b, 6), round(profile.load_at_zero_velocity, 6)
    (1.3, -0.015, 86.666667)
    """
    best = _best_trials(loads, velocities)
    if len(best) < MIN_LOADS or round(max(best.values()) - min(best.values()), DECIMALS) < min_span:
        raise Undefined("fit_rejected")
    load_mean, v_mean = mean(list(best)), mean(list(best.values()))
    xx = math.fsum((load - load_mean) ** 2 for load in best)
    xy = math.fsum((load - load_mean) * (v - v_mean) for load, v in best.items())
    b = quotient(xy, xx)
    profile = _profile(v_mean - b * load_mean, b, best)
    if profile.r2 is None or round(profile.r2, DECIMALS) < MIN_R2:
        raise Undefined("fit_rejected")
    return profile


def _best_trials(loads: Values, velocities: Values) -> dict[float, float]:
    if len(loads) != len(velocities):
        raise Undefined("invalid_input")
    best: dict[float, float] = {}
    for load, v in zip(all_finite(loads), all_finite(velocities), strict=True):
        best[load] = max(v, best.get(load, v))
    return best


def _profile(a: float, b: float, best: Mapping[float, float]) -> Profile:
    if b >= 0.0:
        raise Undefined("fit_rejected")
    v_mean = mean(list(best.values()))
    residual = math.fsum((v - a - b * load) ** 2 for load, v in best.items())
    total = math.fsum((v - v_mean) ** 2 for v in best.values())
    r2 = 1.0 - residual / total if total > NEARLY_ZERO else None
    finite(a, b, -a / b)
    return Profile(a, b, r2, -a / b)


class Prior(msgspec.Struct, frozen=True):
    """What profiles of the same machine are like: means of a and b, their variances and covariance (n - 1)."""

    a: float
    b: float
    a_variance: float
    b_variance: float
    covariance: float


@none_if_undefined
def population_prior(profiles: Sequence[Profile]) -> Prior | None:
    """Return the mean profile of a population and how profiles vary around it.

    Parameters
    ----------
    profiles : sequence of Profile
        One of each patient on the same machine, loads and velocities in the same units.

    Returns
    -------
    Prior or None
        None below 10 patients (`no_reference`).

    References
    ----------
    [default].

    Examples
    --------
    >>> population_prior([Profile(1.3, -0.015, 1.0, 86.7)] * 9) is None
    True
    """
    if len(profiles) < MIN_POPULATION:
        raise Undefined("no_reference")
    a, b = all_finite(one.a for one in profiles), all_finite(one.b for one in profiles)
    a_mean, b_mean = mean(a), mean(b)
    together = math.fsum((x - a_mean) * (y - b_mean) for x, y in zip(a, b, strict=True)) / (len(profiles) - 1)
    return Prior(a_mean, b_mean, sample_sd(a) ** 2, sample_sd(b) ** 2, together)


@none_if_undefined
def shrunk_profile(loads: Values, velocities: Values, noise_sd: float | None, prior: Prior | None) -> Profile | None:
    """Fit velocity over load, drawn towards the population as far as the own loads leave it open.

    β = (XᵀX/s² + Λ0)⁻¹(Xᵀv/s² + Λ0·β0) with rows (1, L) of X, the fastest trial of each load.

    Parameters
    ----------
    loads : sequence of n floats
        Load of each trial, at least one, in the unit of the prior.
    velocities : sequence of n floats
        Mean velocity of each trial in m/s or rad/s.
    noise_sd : float
        Standard deviation of a trial's velocity, s, in m/s or rad/s.
    prior : Prior or None
        β0 and Λ0⁻¹.

    Returns
    -------
    Profile or None
        None without a prior or a trial (`no_reference`), or b >= 0 (`fit_rejected`); a noise that is not positive or a
        covariance that is none is `invalid_input`. R² is of this line, and does not decide.

    References
    ----------
    [default].

    Examples
    --------
    >>> prior = Prior(a=1.3, b=-0.015, a_variance=0.04, b_variance=1e-6, covariance=0.0)
    >>> profile = shrunk_profile([20.0], [1.1], noise_sd=0.05, prior=prior)
    >>> round(profile.a, 6), round(profile.b, 6)
    (1.39324, -0.014953)
    """
    best = _best_trials(loads, velocities)
    if prior is None or not best:
        raise Undefined("no_reference")
    (noise,) = finite(noise_sd)
    determinant = prior.a_variance * prior.b_variance - prior.covariance**2
    if noise <= 0.0 or prior.a_variance <= 0.0 or determinant <= 0.0:
        raise Undefined("invalid_input")
    aa, ab, bb = prior.b_variance / determinant, -prior.covariance / determinant, prior.a_variance / determinant
    # In terms of the difference from the prior, whose numbers are small: nothing large cancels.
    left = {load: v - prior.a - prior.b * load for load, v in best.items()}
    weight = 1.0 / noise**2
    normal_aa = aa + weight * len(best)
    normal_ab = ab + weight * math.fsum(best)
    normal_bb = bb + weight * math.fsum(load * load for load in best)
    right_a = weight * math.fsum(left.values())
    right_b = weight * math.fsum(load * off for load, off in left.items())
    normal = normal_aa * normal_bb - normal_ab**2
    a = prior.a + (normal_bb * right_a - normal_ab * right_b) / normal
    b = prior.b + (normal_aa * right_b - normal_ab * right_a) / normal
    return _profile(a, b, best)


@none_if_undefined
def e1rm(profile: Profile | None, mvt: float | None, heaviest_load: float | None) -> float | None:
    """Return the estimated maximum for one repetition, (MVT - a)/b, in the unit of the loads.

    Parameters
    ----------
    profile : Profile or None
        Load-velocity profile of the same patient, exercise, range and seat.
    mvt : float or None
        Velocity at the maximum in m/s or rad/s, by a clinician; no published one exists for trunk machines.
    heaviest_load : float
        Heaviest load of the profile's trials.

    Returns
    -------
    float or None
        None without MVT (`not_calibrated`), without a profile, where the maximum is not positive or above 1.5 times the
        heaviest load (`fit_rejected`); `invalid_input`.

    References
    ----------
    Jidovtseff 2011; 1.5 [default].

    Examples
    --------
    >>> profile = load_velocity_profile([20, 40, 60], [1.0, 0.7, 0.4])
    >>> round(e1rm(profile, mvt=0.2, heaviest_load=60.0), 6)
    73.333333
    """
    if mvt is None:
        raise Undefined("not_calibrated")
    if profile is None:
        raise Undefined("fit_rejected")
    slowest, heaviest = finite(mvt, heaviest_load)
    maximum = quotient(slowest - profile.a, profile.b)
    if not 0.0 < round(maximum, DECIMALS) <= round(MAX_EXTRAPOLATION * heaviest, DECIMALS):
        raise Undefined("fit_rejected")
    return maximum


@none_if_undefined
def bench_press_1rm(load_at_zero_velocity: float | None) -> float | None:
    """Return the maximum of a bench press in kg from its load at zero velocity, 0.871·LD0 - 0.624; no other exercise.

    Parameters
    ----------
    load_at_zero_velocity : float
        LD0 in kg.

    Returns
    -------
    float or None
        `invalid_input`.

    References
    ----------
    Jidovtseff 2011.

    Examples
    --------
    >>> round(bench_press_1rm(70.0), 6)
    60.346
    """
    (known,) = finite(load_at_zero_velocity)
    return 0.871 * known - 0.624


@none_if_undefined
def epley(load: float | None, reps: float | None) -> float | None:
    """Return the maximum for one repetition from repetitions near failure, w·(1 + r/30); one repetition is w itself.

    Parameters
    ----------
    load : float
        w, in any unit.
    reps : int
        r, 1 to 10.

    Returns
    -------
    float or None
        In the unit of the load. None above 10 repetitions (`reps_over_10`), below one (`invalid_input`).

    References
    ----------
    Epley [standard].

    Examples
    --------
    >>> round(epley(50, reps=10), 6), epley(40, reps=12)
    (66.666667, None)
    """
    weight, count = _near_failure(load, reps)
    return weight if count == 1.0 else weight * (1.0 + count / 30.0)


@none_if_undefined
def brzycki(load: float | None, reps: float | None) -> float | None:
    """Return the maximum for one repetition from repetitions near failure, 36·w/(37 - r).

    Parameters
    ----------
    load : float
        w, in any unit.
    reps : int
        r, 1 to 10.

    Returns
    -------
    float or None
        In the unit of the load. None above 10 repetitions (`reps_over_10`), below one (`invalid_input`).

    References
    ----------
    Brzycki [standard].

    Examples
    --------
    >>> round(brzycki(80, reps=5), 6), brzycki(40, reps=12)
    (90.0, None)
    """
    weight, count = _near_failure(load, reps)
    return 36.0 * weight / (37.0 - count)


def _near_failure(load: float | None, reps: float | None) -> tuple[float, float]:
    weight, count = finite(load, reps)
    if count < 1.0:
        raise Undefined("invalid_input")
    if count > MAX_REPS:
        raise Undefined("reps_over_10")
    return weight, count


@none_if_undefined
def fraction_of_1rm(
    reps: float | None, form: Literal["hyperbola_from_zero", "hyperbola_from_one", "line"] = "hyperbola_from_zero"
) -> float | None:
    """Return the share of the maximum at which so many repetitions are possible.

    `hyperbola_from_zero` 1/(1 + 0.0333·r), `hyperbola_from_one` 1/(1 + 0.0353·(r - 1)), `line` 1 - (r - 1)/33.

    Parameters
    ----------
    reps : int
        r, 1 to 10.
    form : str
        Which of the three; they differ by 3 % at 10 repetitions.

    Returns
    -------
    float or None
        Dimensionless. None above 10 repetitions (`reps_over_10`), below one (`invalid_input`).

    References
    ----------
    [standard].

    Examples
    --------
    >>> [round(fraction_of_1rm(10, form), 6) for form in ("hyperbola_from_zero", "hyperbola_from_one", "line")]
    [0.750188, 0.758898, 0.727273]
    """
    _, count = _near_failure(1.0, reps)
    if form == "line":
        return 1.0 - (count - 1.0) / 33.0
    return 1.0 / (1.0 + (0.0333 * count if form == "hyperbola_from_zero" else 0.0353 * (count - 1.0)))


def ewma(values: Values, sessions: int = EWMA_SESSIONS) -> list[float]:
    """Return the exponentially weighted mean after each value: x + λ(z - x), λ = 2/(N + 1); it begins at the first.

    Parameters
    ----------
    values : sequence of floats
        Accepted session values in percent of the personal baseline; what is no number is no observation.
    sessions : int
        N.

    Returns
    -------
    list of floats
        One for each observation.

    References
    ----------
    [standard]; N [default].

    Examples
    --------
    >>> [round(x, 6) for x in ewma([100.0, 104.0, 103.0])]
    [100.0, 101.142857, 101.673469]
    """
    smooth: list[float] = []
    for z in values:
        if z is not None and math.isfinite(z):
            smooth.append(smooth[-1] + 2.0 / (sessions + 1.0) * (z - smooth[-1]) if smooth else float(z))
    return smooth


class Trend(msgspec.Struct, frozen=True, array_like=True):
    """Strength over sessions as a scalar Kalman filter sees it; `Trend()` has seen none.

    Only accepted values enter: none of flagged reps, pain above 2, warm-up, another settings hash, an invalid set.

    Parameters
    ----------
    x : float
        Estimate in percent of the personal baseline; 0 before the first session.
    p : float
        Its variance in percent².
    n : int
        Sessions seen.
    """

    x: float = 0.0
    p: float = 0.0
    n: int = 0

    @classmethod
    def started(cls, z: float, typical_error_pct: float = 6.0) -> "Trend":
        """Begin with a first session: x = z, P = TE².

        Examples
        --------
        >>> Trend.started(100.0)
        Trend(x=100.0, p=36.0, n=1)
        """
        return cls().updated(z, typical_error_pct)

    def updated(self, z: float | None, typical_error_pct: float = 6.0, drift_pct: float = 1.5) -> "Trend":
        """Add one session: P + q, K = P/(P + r), x + K(z - x), (1 - K)·P, with r = TE² and q = drift².

        What is no number is no observation and changes nothing.

        Examples
        --------
        >>> trend = Trend.started(100.0).updated(104.0)
        >>> round(trend.x, 6), round(trend.p, 6), trend.n
        (102.060606, 18.545455, 2)
        """
        if z is None or not math.isfinite(z):
            return self
        noise = typical_error_pct**2
        if not self.n:
            return Trend(float(z), noise, 1)
        p = self.p + drift_pct**2
        gain = p / (p + noise)
        return Trend(self.x + gain * (z - self.x), (1.0 - gain) * p, self.n + 1)


@none_if_undefined
def trend_estimate(values: Values, typical_error_pct: float = 6.0, drift_pct: float = 1.5) -> float | None:
    """Return where the trend stands after these sessions, in percent of the personal baseline.

    Parameters
    ----------
    values : sequence of floats
        Accepted session values in percent of the personal baseline; what is no number is no observation.
    typical_error_pct : float
        TE in percent, positive.
    drift_pct : float
        True change of strength expected from session to session, in percent, 1-2 [default].

    Returns
    -------
    float or None
        None before the first observation (`no_reference`).

    References
    ----------
    Kalman filter [standard]; TE [measured].

    Examples
    --------
    >>> round(trend_estimate([100.0, 104.0, 103.0]), 6)
    102.404562
    """
    trend = Trend()
    for z in values:
        trend = trend.updated(z, typical_error_pct, drift_pct)
    if not trend.n:
        raise Undefined("no_reference")
    return trend.x


@none_if_undefined
def typical_error(tests: Sequence[Values]) -> float | None:
    """Return the typical error (standard error of measurement) of a test, in its own unit.

    Two tests of everybody: SD(second - first)/√2, so that learning, which all share, is no error. Otherwise
    sqrt(sum of squares within subjects/sum of (k_i - 1)).

    Parameters
    ----------
    tests : sequence of n sequences
        The k_i values of each subject in order; who was tested once tells nothing.

    Returns
    -------
    float or None
        None if nobody, or of two tests only one subject, was tested again (`no_reference`); `invalid_input`.

    References
    ----------
    [standard].

    Examples
    --------
    >>> round(typical_error([(100, 104), (80, 78), (60, 63)]), 6)
    2.27303
    """
    return _typical_error(_repeated(tests))


@none_if_undefined
def relative_typical_error(tests: Sequence[Values]) -> float | None:
    """Return the typical error in percent of the grand mean of all values used.

    Parameters
    ----------
    tests : sequence of n sequences
        As in `typical_error`.

    Returns
    -------
    float or None
        None as `typical_error`, and where the mean is zero (`zero_denominator`).

    References
    ----------
    [standard].

    Examples
    --------
    >>> round(relative_typical_error([(100, 104), (80, 78), (60, 63)]), 6)
    2.811996
    """
    used = _repeated(tests)
    return 100.0 * quotient(_typical_error(used), mean([value for values in used for value in values]))


def _repeated(tests: Sequence[Values]) -> list[list[float]]:
    return [values for values in map(all_finite, tests) if len(values) > 1]


def _typical_error(used: Sequence[Sequence[float]]) -> float:
    if all(len(values) == 2 for values in used):  # noqa: PLR2004 - test and retest
        if len(used) < 2:  # noqa: PLR2004 - of one difference there is no deviation
            raise Undefined("no_reference")
        return sample_sd([second - first for first, second in used]) / math.sqrt(2.0)
    within = math.fsum((value - mean(values)) ** 2 for values in used for value in values)
    return math.sqrt(within / sum(len(values) - 1 for values in used))


@none_if_undefined
def minimal_detectable_change(typical_error: float | None, sessions: int = 1) -> float | None:
    """Return the smallest change that chance does not explain (MDC95), 1.96·√2·TE/√n, in the unit of the error.

    Parameters
    ----------
    typical_error : float
        Typical error, not negative.
    sessions : int
        n, if means of so many sessions are compared.

    Returns
    -------
    float or None
        `invalid_input` for a negative error or no session.

    References
    ----------
    [standard].

    Examples
    --------
    >>> round(minimal_detectable_change(6.0), 6), round(minimal_detectable_change(6.0, sessions=4), 6)
    (16.631151, 8.315576)
    """
    error, count = finite(typical_error, sessions)
    if error < 0.0 or count < 1.0:
        raise Undefined("invalid_input")
    return MDC95 * error / math.sqrt(count)


class Changed(msgspec.Struct, frozen=True):
    """The difference is at least what can be detected; in the unit of the values, positive is more than before."""

    difference: float


class NoDetectableChange(msgspec.Struct, frozen=True):
    """The difference is below what can be detected, which is told instead of it."""

    mdc: float


@none_if_undefined
def compared(now: float | None, before: float | None, mdc: float | None) -> Changed | NoDetectableChange | None:
    """Say whether something has changed; below the minimal detectable change the answer is that nothing can be seen.

    Parameters
    ----------
    now, before : float
        Values of one series.
    mdc : float
        Minimal detectable change in the same unit.

    Returns
    -------
    Changed, NoDetectableChange or None
        None where one of them is no number (`invalid_input`).

    References
    ----------
    Kienbacher 2014, Keller 2001.

    Examples
    --------
    >>> compared(now=112.0, before=100.0, mdc=16.6)
    NoDetectableChange(mdc=16.6)
    >>> compared(now=120.0, before=100.0, mdc=16.6)
    Changed(difference=20.0)
    """
    later, earlier, detectable = finite(now, before, mdc)
    difference = later - earlier
    if round(abs(difference), DECIMALS) < round(detectable, DECIMALS):
        return NoDetectableChange(detectable)
    return Changed(difference)


@none_if_undefined
def is_outlier(value: float | None, history: Values) -> bool | None:
    """Tell whether a value lies apart from the patient's own history: |x - median| > 3.5·1.4826·MAD.

    Never by z within a set: of n values the largest possible z is (n - 1)/√n, 1.79 for five.

    Parameters
    ----------
    value : float
        In the unit of the history.
    history : sequence of floats
        Earlier accepted values of the same series, at least 5.

    Returns
    -------
    bool or None
        None below five values (`no_reference`); `invalid_input`.

    References
    ----------
    [standard]; 5 [default].

    Examples
    --------
    >>> history = [0.50, 0.52, 0.49, 0.51, 0.50, 0.48]
    >>> is_outlier(0.44, history), is_outlier(0.47, history)
    (True, False)
    """
    (x,), known = finite(value), all_finite(history)
    if len(known) < MIN_HISTORY:
        raise Undefined("no_reference")
    center = median(known)
    return abs(x - center) > OUTLIER_MADS * MAD_TO_SD * median([abs(one - center) for one in known])


@none_if_undefined
def reps_in_reserve(rpe: float | None) -> int | None:
    """Return how many repetitions a reported exertion leaves: 10 none, 9 one, 8 two, 7 three; never from velocity.

    Parameters
    ----------
    rpe : int or None
        Exertion 0-10 as reported.

    Returns
    -------
    int or None
        None without a report (`not_reported`), for what is not in the table (`not_calibrated`), outside 0-10
        (`invalid_input`).

    References
    ----------
    RPE trial (PMC11057620).

    Examples
    --------
    >>> [reps_in_reserve(rpe) for rpe in (10, 9, 8, 7, 6, None)]
    [0, 1, 2, 3, None, None]
    """
    if rpe is None:
        raise Undefined("not_reported")
    (exertion,) = finite(rpe)
    if not 0.0 <= exertion <= 10.0:  # noqa: PLR2004 - the scale
        raise Undefined("invalid_input")
    reserve = {10.0: 0, 9.0: 1, 8.0: 2, 7.0: 3}.get(exertion)
    if reserve is None:
        raise Undefined("not_calibrated")
    return reserve
