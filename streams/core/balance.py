"""Balance: left against right, back against front, pull against push (science.md 3.12, 3.13, 6).

One index, one sign: Robinson's, positive when the right side is larger. The other four forms of the same pair are here
to be told apart from it, and no threshold belongs to them. Two machines are never compared in kilograms; only torque by
angle, calibrated, or the change against the own baseline. None is undefined, `undefined.why` tells the reason.
"""

import math
from collections.abc import Sequence

import msgspec

from streams.core.fatigue import median
from streams.core.strength import MDC95
from streams.core.undefined import Undefined, finite, none_if_undefined, quotient

DECIMALS = 3
"""Precision to which percentages are rounded before they are compared with a limit."""

MIN_SHARED_BINS = 3
"""Angle bins with both torques that make a ratio [default]."""


@none_if_undefined
def symmetry_index(left: float | None, right: float | None) -> float | None:
    """Return the symmetry index in percent, 100·2(R - L)/(R + L); positive when the right side is larger.

    Parameters
    ----------
    left, right : float
        The same measure of each side, in the same unit.

    Returns
    -------
    float or None
        None where the sum is not positive (`zero_denominator`); `invalid_input`.

    References
    ----------
    Robinson [standard]; Parkinson 2021.

    Examples
    --------
    >>> round(symmetry_index(left=120.0, right=100.0), 6)
    -18.181818
    """
    return 2.0 * _half_form(left, right)


@none_if_undefined
def half_symmetry_index(left: float | None, right: float | None) -> float | None:
    """Return 100·(R - L)/(R + L) in percent: half of `symmetry_index`, and easily taken for it.

    Parameters
    ----------
    left, right : float
        The same measure of each side, in the same unit.

    Returns
    -------
    float or None
        None where the sum is not positive (`zero_denominator`); `invalid_input`.

    References
    ----------
    Parkinson 2021.

    Examples
    --------
    >>> round(half_symmetry_index(left=120.0, right=100.0), 6)
    -9.090909
    """
    return _half_form(left, right)


def _half_form(left: float | None, right: float | None) -> float:
    left_known, right_known = finite(left, right)
    return 100.0 * quotient(right_known - left_known, max(right_known + left_known, 0.0))


@none_if_undefined
def limb_symmetry_index(left: float | None, right: float | None) -> float | None:
    """Return the limb symmetry index (LSI) in percent, 100·R/L; 100 is symmetry.

    Parameters
    ----------
    left, right : float
        The same measure of each side, in the same unit.

    Returns
    -------
    float or None
        None where the left side is zero (`zero_denominator`); `invalid_input`.

    References
    ----------
    Parkinson 2021.

    Examples
    --------
    >>> round(limb_symmetry_index(left=120.0, right=100.0), 6)
    83.333333
    """
    left_known, right_known = finite(left, right)
    return 100.0 * quotient(right_known, left_known)


@none_if_undefined
def side_difference(left: float | None, right: float | None) -> float | None:
    """Return by how much the weaker side falls short of the stronger, in percent, 100·(max - min)/max; without sign.

    Parameters
    ----------
    left, right : float
        The same measure of each side, in the same unit.

    Returns
    -------
    float or None
        None where the larger side is zero (`zero_denominator`); `invalid_input`.

    References
    ----------
    Parkinson 2021.

    Examples
    --------
    >>> round(side_difference(left=120.0, right=100.0), 6)
    16.666667
    """
    sides = finite(left, right)
    return 100.0 * quotient(max(sides) - min(sides), max(sides))


@none_if_undefined
def symmetry_angle(left: float | None, right: float | None) -> float | None:
    """Return the symmetry angle in percent, 100·(45° - atan(L/R))/90°; positive when the right side is larger.

    Parameters
    ----------
    left, right : float
        The same measure of each side, in the same unit.

    Returns
    -------
    float or None
        None where the right side is zero (`zero_denominator`); `invalid_input`.

    References
    ----------
    Parkinson 2021.

    Examples
    --------
    >>> round(symmetry_angle(left=120.0, right=100.0), 6)
    -5.771588
    """
    left_known, right_known = finite(left, right)
    return 100.0 * (45.0 - math.degrees(math.atan(quotient(left_known, right_known)))) / 90.0


def is_asymmetric(
    values: Sequence[float | None], mdc_pct: float | None, limit_pct: float = 15.0, tests: int = 3
) -> bool:
    """Tell whether the sides differ: the last tests all beyond the limit and beyond chance, on the same side.

    Parameters
    ----------
    values : sequence of floats
        Symmetry index of each test in percent, in order; only the last `tests` count.
    mdc_pct : float
        Minimal detectable change of the strength measure in percent: left differs from right by chance as a test
        differs from its repetition (chosen).
    limit_pct : float
        Index in percent that must be exceeded, 10-15 [default].
    tests : int
        Tests in a row.

    Returns
    -------
    bool
        False as long as a test is missing, or one of the values or the change is unknown.

    References
    ----------
    Parkinson 2021: cut-offs of 10-15 % are common and poorly supported.

    Examples
    --------
    >>> is_asymmetric([4.0, -17.1, -18.2, -16.5], mdc_pct=16.4)
    True
    >>> is_asymmetric([-17.1, 18.2, -16.5], mdc_pct=16.4)
    False
    """
    last = [round(value, DECIMALS) for value in values[-tests:] if value is not None and math.isfinite(value)]
    if len(last) < tests or mdc_pct is None or not math.isfinite(mdc_pct):
        return False
    least = max(limit_pct, round(mdc_pct, DECIMALS))
    return all(value > least for value in last) or all(value < -least for value in last)


@none_if_undefined
def extension_flexion_ratio(
    extension_by_bin: Sequence[float | None], flexion_by_bin: Sequence[float | None]
) -> float | None:
    """Return the ratio of back to front: the median over shared angle bins of T_ext/T_flex.

    Both tests are gravity-corrected, in the same posture and the same contraction mode.

    Parameters
    ----------
    extension_by_bin, flexion_by_bin : sequence of 7 floats or None
        Best accepted torque in N m at 0, 12, .. 72 degrees; None where a bin was not reached.

    Returns
    -------
    float or None
        None below three shared bins (`no_reference`) or where a shared flexion torque is zero (`zero_denominator`);
        bins that do not correspond are `invalid_input`.

    References
    ----------
    Kocjan 2014; at least 3 bins [default].

    Examples
    --------
    >>> extension_flexion_ratio((None, 180, 190, 200, None, 210, 220), (80, 90, 100, 100, 100, None, None))
    2.0
    """
    if len(extension_by_bin) != len(flexion_by_bin):
        raise Undefined("invalid_input")
    pairs = zip(extension_by_bin, flexion_by_bin, strict=True)
    shared = [finite(*pair) for pair in pairs if None not in pair]
    if len(shared) < MIN_SHARED_BINS:
        raise Undefined("no_reference")
    return median([quotient(extension, flexion) for extension, flexion in shared])


@none_if_undefined
def mdc_of_ratio(ratio: float | None, te_ext_pct: float | None, te_flex_pct: float | None) -> float | None:
    """Return the minimal detectable change of a ratio, 1.96·√2·EF·sqrt(TE_ext² + TE_flex²)/100, in its own unit.

    Parameters
    ----------
    ratio : float
        Extension over flexion, or any other quotient of two strengths, such as `pull_push`.
    te_ext_pct, te_flex_pct : float
        Typical error of numerator and denominator in percent.

    Returns
    -------
    float or None
        `invalid_input` if one of them is no number.

    References
    ----------
    [standard].

    Examples
    --------
    >>> round(mdc_of_ratio(2.0, te_ext_pct=6.0, te_flex_pct=8.0), 6)
    0.554372
    """
    known, of_extension, of_flexion = finite(ratio, te_ext_pct, te_flex_pct)
    return MDC95 * known * math.hypot(of_extension, of_flexion) / 100.0


class Norm(msgspec.Struct, frozen=True):
    """What a ratio is like in people on one machine in one posture: mean and standard deviation, dimensionless."""

    mean: float
    sd: float


@none_if_undefined
def deviation_from_norm(value: float | None, norm: Norm | None, sds: float = 2.0) -> float | None:
    """Return how far a ratio lies outside mean ± 2 SD of a norm: negative below, positive above, 0 within.

    Parameters
    ----------
    value : float
        The ratio.
    norm : Norm or None
        Entry of the machine's profile for this posture; there is no norm that fits every machine.
    sds : float
        Standard deviations that still belong to the norm [default].

    Returns
    -------
    float or None
        None without an entry: no verdict (`no_norm`); `invalid_input`.

    References
    ----------
    Kocjan 2014: extension/flexion 2.1 ± 0.4 sitting, 1.9 ± 0.4 kneeling, 1.1 ± 0.6 standing (n = 60).

    Examples
    --------
    >>> sitting = Norm(mean=2.1, sd=0.4)
    >>> round(deviation_from_norm(1.0, sitting), 6), deviation_from_norm(2.8, sitting), deviation_from_norm(1.3, None)
    (-0.3, 0.0, None)
    """
    if norm is None:
        raise Undefined("no_norm")
    known, mean, sd = finite(value, norm.mean, norm.sd)
    return known - min(max(known, mean - sds * sd), mean + sds * sd)


def is_off_norm(
    ratios: Sequence[float | None],
    norm: Norm | None,
    te_ext_pct: float | None,
    te_flex_pct: float | None,
    *,
    sds: float = 2.0,
    tests: int = 3,
) -> bool:
    """Tell whether the last tests all lie outside the norm by more than chance explains.

    Parameters
    ----------
    ratios : sequence of floats
        Extension over flexion of each test, in order; only the last `tests` count.
    norm : Norm or None
        Entry of the machine's profile for this posture.
    te_ext_pct, te_flex_pct : float
        Typical error of the two torques in percent.
    sds : float
        Standard deviations that still belong to the norm [default].
    tests : int
        Tests in a row.

    Returns
    -------
    bool
        False as long as a test is missing, or the norm, a ratio or its error is unknown.

    References
    ----------
    Kocjan 2014.

    Examples
    --------
    >>> is_off_norm([0.6, 0.6, 0.7], Norm(mean=2.1, sd=0.4), te_ext_pct=6.0, te_flex_pct=6.0)
    True
    >>> is_off_norm([0.6, 0.6, 1.2], Norm(mean=2.1, sd=0.4), te_ext_pct=6.0, te_flex_pct=6.0)
    False
    """
    last = ratios[-tests:]
    off = [deviation_from_norm(ratio, norm, sds) for ratio in last]
    by_chance = [mdc_of_ratio(ratio, te_ext_pct, te_flex_pct) for ratio in last]
    return len(last) == tests and all(
        deviation is not None and mdc is not None and round(abs(deviation), DECIMALS) > round(mdc, DECIMALS)
        for deviation, mdc in zip(off, by_chance, strict=True)
    )


@none_if_undefined
def pull_push(
    row: float | None, row_baseline: float | None, press: float | None, press_baseline: float | None
) -> float | None:
    """Return how seated row changed against chest press, (row/its baseline)/(press/its baseline); 1 is no change.

    It says nothing about tissue length or posture, and there is no norm; its chance variation is `mdc_of_ratio`.

    Parameters
    ----------
    row, press : float
        Trend of strength on each machine, each in its own unit.
    row_baseline, press_baseline : float
        The patient's own baseline of each, in the unit of the trend.

    Returns
    -------
    float or None
        None where a baseline or the press is zero (`zero_denominator`); `invalid_input`.

    References
    ----------
    [default].

    Examples
    --------
    >>> round(pull_push(row=90.0, row_baseline=100.0, press=66.0, press_baseline=60.0), 6)
    0.818182
    """
    row_known, row_first, press_known, press_first = finite(row, row_baseline, press, press_baseline)
    return quotient(quotient(row_known, row_first), quotient(press_known, press_first))


@none_if_undefined
def pull_push_work(row_J: float | None, press_J: float | None) -> float | None:
    """Return the work of a week of seated row over that of chest press; at least 1.0 is the aim [default].

    Parameters
    ----------
    row_J, press_J : float
        Work of the week in J.

    Returns
    -------
    float or None
        None without any press (`zero_denominator`); `invalid_input`.

    References
    ----------
    [default].

    Examples
    --------
    >>> pull_push_work(row_J=12_000.0, press_J=10_000.0)
    1.2
    """
    return quotient(*finite(row_J, press_J))
