"""Fatigue within one set: velocity loss, decay of range, fatigue of work and force (science.md 3.6-3.8).

Every function takes the values of the valid reps of one set, in order, and returns percent unless it says otherwise;
whether the intent of the set lets them mean anything is for the caller to know. None is undefined: of a list, entry by
entry; otherwise `undefined.why` tells the reason. Values are exact: whoever stores or compares one rounds it first, to
the `decimals` of its row in the catalogue. These numbers steer the set in which they arise; they are too unreliable to
be trended as an outcome.
"""

import itertools
import math
from bisect import insort
from collections.abc import Sequence

import msgspec

from streams.core.telemetry import Intent
from streams.core.undefined import NEARLY_ZERO, Undefined, all_finite, finite, none_if_undefined, quotient

Values = Sequence[float | None]
"""One number for each rep. None among them, or a number that is not finite, is no input."""

NONLINEAR_R2 = 0.5
"""Coefficient of determination below which a straight line does not describe the set [default]."""

FAILED_SHARE = 0.5
"""Share of the peak below which a rep has failed [literature: IJSM 2012]."""

FAILED_REPS = 3
"""Failed reps in a row that are failure [literature: IJSM 2012]."""

ENDURANCE_S = 30.0
"""Length of the isometric endurance test in s [literature: Surakka 2005]."""


def velocity_loss(velocities: Values) -> list[float | None]:
    """Return each rep's loss against the fastest of the whole set; 0 up to and including the first fastest one.

    With j the first fastest rep: 0 up to rep j, then 100·(1 - V_i/V_j).

    Parameters
    ----------
    velocities : sequence of n floats
        Mean concentric velocity of each rep in m/s or rad/s.

    Returns
    -------
    list of n floats, in percent
        None throughout if nothing moved (`zero_denominator`) or a velocity is no number (`invalid_input`).

    References
    ----------
    Sanchez-Medina 2011; Pareja-Blanco 2017.

    Examples
    --------
    >>> [round(loss, 6) for loss in velocity_loss([0.50, 0.55, 0.52, 0.44])]
    [0.0, 0.0, 5.454545, 20.0]
    """
    known = _until_unknown(velocities)
    best = max(known, default=0.0)
    if len(known) < len(velocities) or best <= NEARLY_ZERO:
        return [None] * len(velocities)
    until_best = known.index(best) + 1
    return [*[0.0] * until_best, *[_loss(v, best) for v in known[until_best:]]]


def velocity_loss_online(velocities: Values) -> list[float | None]:
    """Return each rep's loss against the fastest so far, itself included: known when the rep is.

    100·(1 - V_i/max(V_1..V_i)), equal to `velocity_loss` from the fastest rep on.

    Parameters
    ----------
    velocities : sequence of n floats
        Mean concentric velocity of each rep in m/s or rad/s.

    Returns
    -------
    list of n floats, in percent
        None while nothing has moved (`zero_denominator`), and from a velocity on that is no number (`invalid_input`).

    References
    ----------
    Encoder convention.

    Examples
    --------
    >>> [round(loss, 6) for loss in velocity_loss_online([0.50, 0.45, 0.55])]
    [0.0, 10.0, 0.0]
    """
    known = _until_unknown(velocities)
    losses = map(_loss, known, itertools.accumulate(known, max))
    return [*losses, *[None] * (len(velocities) - len(known))]


def velocity_loss_robust(velocities: Values) -> list[float | None]:
    """Return each rep's loss against the mean of the three fastest so far (VL3), which decides; None before the third.

    VL3_i = 100·(1 - V_i/REF3_i), REF3_i the mean of the three largest of V_1..V_i. It may be negative.

    Parameters
    ----------
    velocities : sequence of n floats
        Mean concentric velocity of each rep in m/s or rad/s.

    Returns
    -------
    list of n floats, in percent
        None before the third rep (`too_few_reps`), while nothing has moved (`zero_denominator`), and from a velocity
        on that is no number (`invalid_input`).

    References
    ----------
    [measured]: against the plain reference, noise alone ends a set far less often (science.md 9).

    Examples
    --------
    >>> [loss if loss is None else round(loss, 6) for loss in velocity_loss_robust([0.50, 0.55, 0.52, 0.44])]
    [None, None, 0.636943, 15.923567]
    """
    slowest_first: list[float] = []
    losses: list[float | None] = []
    for v in _until_unknown(velocities):
        insort(slowest_first, v)
        del slowest_first[:-3]
        losses.append(_loss(v, *slowest_first) if len(slowest_first) == 3 else None)  # noqa: PLR2004 - VL3
    return losses + [None] * (len(velocities) - len(losses))


@none_if_undefined
def loss_best_to_last(velocities: Values) -> float | None:
    """Return the loss from the fastest rep to the last in percent, 100·(1 - V_n/max V).

    Parameters
    ----------
    velocities : sequence of n floats
        Mean concentric velocity of each rep in m/s or rad/s.

    Returns
    -------
    float or None
        None without reps (`too_few_reps`) or without movement (`zero_denominator`); `invalid_input`.

    References
    ----------
    Sanchez-Medina 2011.

    Examples
    --------
    >>> round(loss_best_to_last([0.50, 0.55, 0.52, 0.44]), 6)
    20.0
    """
    v = _at_least(1, velocities)
    return _loss_pct(v[-1], max(v))


@none_if_undefined
def loss_best_to_mean_of_last_two(velocities: Values) -> float | None:
    """Return the loss from the fastest rep to the mean of the last two in percent, 100·(1 - (V_n-1 + V_n)/(2·max V)).

    Parameters
    ----------
    velocities : sequence of n floats
        Mean concentric velocity of each rep in m/s or rad/s.

    Returns
    -------
    float or None
        None below two reps (`too_few_reps`) or without movement (`zero_denominator`); `invalid_input`.

    References
    ----------
    Sanchez-Medina 2011.

    Examples
    --------
    >>> round(loss_best_to_mean_of_last_two([0.50, 0.55, 0.52, 0.44]), 6)
    12.727273
    """
    v = _at_least(2, velocities)
    return _loss_pct(mean(v[-2:]), max(v))


def power_loss(powers: Values) -> list[float | None]:
    """Return each rep's loss of power against the best of the set, 100·(1 - P_i/P_best).

    Parameters
    ----------
    powers : sequence of n floats
        Concentric power of each rep in W.

    Returns
    -------
    list of n floats, in percent
        None throughout without power (`zero_denominator`) or if one is no number (`invalid_input`).

    References
    ----------
    Ciccone 2017.

    Examples
    --------
    >>> power_loss([200.0, 200.0, 150.0])
    [0.0, 0.0, 25.0]
    """
    known = _until_unknown(powers)
    if len(known) < len(powers):
        return [None] * len(powers)
    return [_loss(power, max(known)) for power in known]


@none_if_undefined
def rom_decay(roms: Values) -> float | None:
    """Return how much the last two ranges fall short of the median of the first three, in percent.

    100·(1 - mean(R last 2)/median(R first 3)).

    Parameters
    ----------
    roms : sequence of n floats
        Range of motion of each rep in m or rad.

    Returns
    -------
    float or None
        None below five reps (`too_few_reps`) or where the first ones have no range (`zero_denominator`);
        `invalid_input`.

    References
    ----------
    [default].

    Examples
    --------
    >>> round(rom_decay([0.50, 0.52, 0.48, 0.47, 0.45, 0.43]), 6)
    12.0
    """
    known = _at_least(5, roms)
    return _loss_pct(mean(known[-2:]), median(known[:3]))


@none_if_undefined
def rom_cv(roms: Values) -> float | None:
    """Return the coefficient of variation of range in percent, 100·SD(R)/mean(R), SD with n - 1.

    Parameters
    ----------
    roms : sequence of n floats
        Range of motion of each rep in m or rad.

    Returns
    -------
    float or None
        None below four reps (`too_few_reps`) or where the mean is zero (`zero_denominator`); `invalid_input`.

    References
    ----------
    [measured]: 3.0 % in a fresh set, quartiles 2.0 and 4.3.

    Examples
    --------
    >>> round(rom_cv([0.49, 0.51, 0.49, 0.51]), 6)
    2.309401
    """
    known = _at_least(4, roms)
    return 100.0 * quotient(sample_sd(known), mean(known))


@none_if_undefined
def end_point_sd(end_points: Values) -> float | None:
    """Return how much one end point of the movement wanders: its standard deviation (n - 1), in its own unit.

    Parameters
    ----------
    end_points : sequence of n floats
        Position of the same end of each rep, the top or the bottom, in m or rad.

    Returns
    -------
    float or None
        None below four reps (`too_few_reps`); `invalid_input`.

    References
    ----------
    [measured].

    Examples
    --------
    >>> round(end_point_sd([0.99, 1.01, 0.99, 1.01]), 6)
    0.011547
    """
    return sample_sd(_at_least(4, end_points))


@none_if_undefined
def work_fatigue(works: Values) -> float | None:
    """Return the loss from the first to the last third of the reps in percent, the middle ignored.

    With m = floor(n/3): 100·(sum of the first m - sum of the last m)/sum of the first m.

    Parameters
    ----------
    works : sequence of n floats
        Concentric work of each rep in J.

    Returns
    -------
    float or None
        None below three reps (`too_few_reps`) or where the first third did no work (`zero_denominator`);
        `invalid_input`.

    References
    ----------
    Biodex convention [standard].

    Examples
    --------
    >>> round(work_fatigue([100, 98, 95, 90, 85, 80, 75]), 6)
    21.717172
    """
    known = _at_least(3, works)
    third = len(known) // 3
    return _loss_pct(math.fsum(known[-third:]), math.fsum(known[:third]))


@none_if_undefined
def fatigue_index(values: Values, k: int = 3) -> float | None:
    """Return the loss from the mean of the first `k` reps to that of the last `k`, in percent.

    100·(1 - mean(last k)/mean(first k)). A reference at the first reps underestimates fatigue.

    Parameters
    ----------
    values : sequence of n floats
        Work in J, or peak force in N or N m, of each rep.
    k : int
        Reps at each end, 3 or 5.

    Returns
    -------
    float or None
        None below 2 k reps (`too_few_reps`) or where the first k mean nothing (`zero_denominator`); `invalid_input`.

    References
    ----------
    Ciccone 2017.

    Examples
    --------
    >>> round(fatigue_index([100, 98, 95, 90, 85, 80, 75]), 6)
    18.088737
    """
    known = _at_least(2 * k, values)
    return _loss_pct(mean(known[-k:]), mean(known[:k]))


@none_if_undefined
def fatigue_index_of_peak(values: Values, k: int = 3) -> float | None:
    """Return the loss from the best rep to the mean of the last `k` in percent, 100·(1 - mean(last k)/max).

    Parameters
    ----------
    values : sequence of n floats
        Work in J, or peak force in N or N m, of each rep.
    k : int
        Reps at the end, 3 or 5.

    Returns
    -------
    float or None
        None below 2 k reps (`too_few_reps`) or where the best is zero (`zero_denominator`); `invalid_input`.

    References
    ----------
    Ciccone 2017.

    Examples
    --------
    >>> round(fatigue_index_of_peak([100, 98, 95, 90, 85, 80, 75]), 6)
    20.0
    """
    known = _at_least(2 * k, values)
    return _loss_pct(mean(known[-k:]), max(known))


class Slope(msgspec.Struct, frozen=True):
    """A trend within a set: percent of the peak rep per rep, and how much of the set it explains (None: it is flat)."""

    pct_per_rep: float
    r2: float | None
    nonlinear: bool


@none_if_undefined
def force_slope(values: Values) -> Slope | None:
    """Fit peak force, or work, over rep number from the peak rep on by least squares; 100·slope/peak value.

    Parameters
    ----------
    values : sequence of n floats
        Peak force in N or N m, or work in J, of each rep.

    Returns
    -------
    Slope or None
        In percent of the peak rep per rep, `nonlinear` with R² < 0.5. None below four reps from the peak rep on
        (`too_few_reps`) or without force (`zero_denominator`); `invalid_input`.

    References
    ----------
    IJSM 2012: the most reliable of the usual indicators, given that it is a line.

    Examples
    --------
    >>> slope = force_slope([200, 210, 204, 198, 190, 181])
    >>> round(slope.pct_per_rep, 6), round(slope.r2, 6), slope.nonlinear
    (-3.428571, 0.990826, False)
    """
    known = _at_least(4, values)
    peak = max(known)
    falling = _at_least(4, known[known.index(peak) :])
    x_mean, y_mean = (len(falling) - 1) / 2.0, mean(falling)
    xx = math.fsum((i - x_mean) ** 2 for i in range(len(falling)))
    xy = math.fsum((i - x_mean) * (y - y_mean) for i, y in enumerate(falling))
    yy = math.fsum((y - y_mean) ** 2 for y in falling)
    r2 = (xy / xx) * (xy / yy) if yy > NEARLY_ZERO else None
    (pct_per_rep,) = finite(100.0 * quotient(xy / xx, max(peak, 0.0)))
    return Slope(pct_per_rep, r2, r2 is not None and r2 < NONLINEAR_R2)


@none_if_undefined
def has_failed(peak_forces: Values) -> bool | None:
    """Tell whether the set went to failure: three reps in a row below half of the strongest so far.

    Parameters
    ----------
    peak_forces : sequence of n floats
        Peak force of each rep in N or N m.

    Returns
    -------
    bool or None
        None without reps (`too_few_reps`); `invalid_input`.

    References
    ----------
    IJSM 2012.

    Examples
    --------
    >>> has_failed([200, 180, 99, 95, 90]), has_failed([200, 99, 95, 101, 90])
    (True, False)
    """
    failed = 0
    for force, peak in zip(peak_forces, itertools.accumulate(_at_least(1, peak_forces), max), strict=True):
        failed = failed + 1 if force is not None and force < FAILED_SHARE * peak else 0
        if failed == FAILED_REPS:
            return True
    return False


@none_if_undefined
def endurance_loss(force: Values, fs_hz: float = 100.0) -> float | None:
    """Return the fatigue of a maximal hold of 30 s in percent (FATI): how much of the area under its peak is missing.

    100·(1 - integral of F dt/(30·F_peak)), from the first sample on, by trapezoids (chosen).

    Parameters
    ----------
    force : sequence of floats
        Force in N, or torque in N m, from the start of the hold on; what comes after 30 s is not looked at.
    fs_hz : float
        Sampling rate in Hz.

    Returns
    -------
    float or None
        None if the sample at 30 s is missing (`phase_too_short`) or there is no force (`zero_denominator`);
        `invalid_input`.

    References
    ----------
    Surakka 2005, area method.

    Examples
    --------
    >>> round(endurance_loss([400.0 - 0.1 * k for k in range(3001)]), 6)
    37.5
    """
    (rate,) = finite(fs_hz)
    intervals = round(ENDURANCE_S * rate)
    held = all_finite(force[: intervals + 1])
    if intervals < 1 or len(held) <= intervals:
        raise Undefined("phase_too_short")
    area = (math.fsum(held) - 0.5 * (held[0] + held[-1])) / intervals
    return _loss_pct(area, max(held))


@none_if_undefined
def set_recovery(
    best: float | None, first_best: float | None, intent: Intent = "max", *, is_speed_given: bool = False
) -> float | None:
    """Return a set's best over that of the first set, a ratio.

    Parameters
    ----------
    best, first_best : float
        Best mean velocity of the set and of the first one; best peak force where the machine gives the speed.
    intent : str
        What the patient was asked for. Where tempo and load are given too, they fix velocity and force both.
    is_speed_given : bool
        Whether the machine gives the speed (isokinetic, isometric), so that force can tell.

    Returns
    -------
    float or None
        None unless intent is max or the speed is given (`wrong_intent`), and where the first set has no best
        (`zero_denominator`); `invalid_input`.

    References
    ----------
    Grgic 2018; [default].

    Examples
    --------
    >>> set_recovery(0.45, 0.50)
    0.9
    """
    if intent != "max" and not is_speed_given:
        raise Undefined("wrong_intent")
    now, first = finite(best, first_best)
    return quotient(now, first)


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value, correctly rounded sum first, so that no order of adding shows."""
    return math.fsum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value; of an even count, the mean of the middle two.

    Examples
    --------
    >>> median([3.0, 1.0, 2.0, 4.0])
    2.5
    """
    rising, half = sorted(values), len(values) // 2
    return rising[half] if len(values) % 2 else (rising[half - 1] + rising[half]) / 2.0


def sample_sd(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1) of at least two values."""
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / (len(values) - 1))


def _at_least(count: int, values: Values) -> list[float]:
    known = all_finite(values)
    if len(known) < count:
        raise Undefined("too_few_reps")
    return known


def _until_unknown(values: Values) -> list[float]:
    """Return the values before the first one that is no finite number."""
    known = itertools.takewhile(lambda value: value is not None and math.isfinite(value), values)
    return [float(value) for value in known if value is not None]


def _loss_pct(value: float, reference: float) -> float:
    """Return a loss in percent. Raises `Undefined`: what is not positive is nothing to lose from."""
    return 100.0 * (1.0 - quotient(value, max(reference, 0.0)))


@none_if_undefined
def _loss(value: float, *references: float) -> float | None:
    """Return a loss in percent against the mean of the references; None where that is not positive."""
    return _loss_pct(value, mean(references))
