"""The slow science: formulas of science.md 3.6-3.17 and 5 once more, one value at a time, in exact or plain arithmetic.

Written from the text, without NumPy and without a look at the core, to be compared with it to 1e-9. Inputs are such
that everything is defined; what is undefined is for the tests to say in words.
"""

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction
from functools import cache

Numbers = Sequence[float]


def velocity_loss(v: Numbers) -> list[float]:
    j = 0
    for i in range(len(v)):
        if v[i] > v[j]:
            j = i
    return [0.0 if i <= j else 100 * (1 - v[i] / v[j]) for i in range(len(v))]


def velocity_loss_online(v: Numbers) -> list[float]:
    return [100 * (1 - v[i] / max(v[: i + 1])) for i in range(len(v))]


def velocity_loss_robust(v: Numbers) -> list[float | None]:
    losses: list[float | None] = []
    for i in range(1, len(v) + 1):
        fastest = sorted(v[:i], reverse=True)[:3]
        losses.append(None if i < 3 else 100 * (1 - v[i - 1] / (sum(fastest) / 3)))
    return losses


def work_fatigue(w: Numbers) -> float:
    m = math.floor(len(w) / 3)
    first = sum(w[i - 1] for i in range(1, m + 1))
    last = sum(w[i - 1] for i in range(len(w) - m + 1, len(w) + 1))
    return 100 * (first - last) / first


def fatigue_index(w: Numbers, k: int) -> float:
    return 100 * (1 - statistics.mean(w[len(w) - k :]) / statistics.mean(w[:k]))


def fatigue_index_of_peak(w: Numbers, k: int) -> float:
    return 100 * (1 - statistics.mean(w[len(w) - k :]) / max(w))


def line(x: Numbers, y: Numbers) -> tuple[float, float, float]:
    """Return intercept, slope and R² of the least-squares line, from the normal equations in fractions."""
    xs, ys, n = [Fraction(one) for one in x], [Fraction(one) for one in y], len(x)
    sx, sy = sum(xs), sum(ys)
    sxx = sum(one * one for one in xs)
    sxy = sum(one * other for one, other in zip(xs, ys, strict=True))
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    intercept = (sy - slope * sx) / n
    rest = sum((other - intercept - slope * one) ** 2 for one, other in zip(xs, ys, strict=True))
    total = sum((other - sy / n) ** 2 for other in ys)
    return float(intercept), float(slope), float(1 - rest / total)


def force_slope(f: Numbers) -> tuple[float, float]:
    peak = max(f)
    falling = list(f)[list(f).index(peak) :]
    _, slope, r2 = line(range(1, len(falling) + 1), falling)
    return 100 * slope / peak, r2


def endurance_loss(force: Numbers, fs_hz: int) -> float:
    area = 0.0
    for k in range(30 * fs_hz):
        area += (force[k] + force[k + 1]) / 2 / fs_hz
    return 100 * (1 - area / (30 * max(force[: 30 * fs_hz + 1])))


def symmetry_index(left: float, right: float) -> float:
    return float(100 * 2 * (Fraction(right) - Fraction(left)) / (Fraction(right) + Fraction(left)))


def symmetry_angle(left: float, right: float) -> float:
    return 100 * (math.pi / 4 - math.atan(left / right)) / (math.pi / 2)


def extension_flexion_ratio(extension: Sequence[float | None], flexion: Sequence[float | None]) -> float:
    ratios = []
    for n in range(7):
        e, f = extension[n], flexion[n]
        if e is not None and f is not None:
            ratios.append(e / f)
    return statistics.median(ratios)


def shrunk_line(
    loads: Numbers, v: Numbers, sd: float, prior: tuple[float, float], covariance: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the two coefficients of science.md 5, in fractions; `covariance` is var a, var b, cov."""
    va, vb, c = (Fraction(one) for one in covariance)
    lambda_aa, lambda_ab, lambda_bb = vb / (va * vb - c * c), -c / (va * vb - c * c), va / (va * vb - c * c)
    a0, b0 = (Fraction(one) for one in prior)
    s2 = Fraction(sd) ** 2
    xs, vs = [Fraction(one) for one in loads], [Fraction(one) for one in v]
    maa = len(xs) / s2 + lambda_aa
    mab = sum(xs) / s2 + lambda_ab
    mbb = sum(one * one for one in xs) / s2 + lambda_bb
    ra = sum(vs) / s2 + lambda_aa * a0 + lambda_ab * b0
    rb = sum(one * other for one, other in zip(xs, vs, strict=True)) / s2 + lambda_ab * a0 + lambda_bb * b0
    determinant = maa * mbb - mab * mab
    return float((mbb * ra - mab * rb) / determinant), float((maa * rb - mab * ra) / determinant)


def ewma(z: Numbers, n: int) -> float:
    """Return the last value from the closed form: weights that fall by 1 - lambda, all that is left on the first."""
    weight = Fraction(2, n + 1)
    total = (1 - weight) ** (len(z) - 1) * Fraction(z[0])
    for back in range(len(z) - 1):
        total += weight * (1 - weight) ** back * Fraction(z[len(z) - 1 - back])
    return float(total)


def kalman(z: Numbers, te: float, drift: float) -> list[tuple[float, float]]:
    """Return x and P after every session; P in the form 1/(1/(P + q) + 1/r)."""
    r, q = Fraction(te) ** 2, Fraction(drift) ** 2
    x, p, seen = Fraction(z[0]), r, [(float(z[0]), float(r))]
    for one in z[1:]:
        predicted = p + q
        p = 1 / (1 / predicted + 1 / r)
        x = p * (x / predicted + Fraction(one) / r)
        seen.append((float(x), float(p)))
    return seen


def typical_error(tests: Sequence[Numbers]) -> float:
    if all(len(one) == 2 for one in tests):
        return statistics.stdev([one[1] - one[0] for one in tests]) / math.sqrt(2)
    squares, degrees = 0.0, 0
    for one in tests:
        for value in one:
            squares += (value - statistics.mean(one)) ** 2
        degrees += len(one) - 1
    return math.sqrt(squares / degrees)


def resampled(y: Numbers, points: int) -> list[float]:
    curve = []
    for point in range(points):
        at = Fraction(point * (len(y) - 1), points - 1)
        k = min(math.floor(at), len(y) - 2)
        curve.append(float(Fraction(y[k]) + (at - k) * (Fraction(y[k + 1]) - Fraction(y[k]))))
    return curve


def resampled_by_position(y: Numbers, x: Numbers, points: int) -> list[float]:
    """Return the value where the movement first gets to each position; it rises or falls, and may hesitate."""
    curve = []
    for point in range(points):
        there = x[0] + (x[-1] - x[0]) * point / (points - 1)
        curve.append(_first_there(y, x, there))
    return curve


def _first_there(y: Numbers, x: Numbers, there: float) -> float:
    sign = 1 if x[-1] > x[0] else -1
    furthest = 0
    for k in range(1, len(x)):
        if sign * x[k] > sign * x[furthest]:
            if sign * x[k] >= sign * there:
                return y[furthest] + (y[k] - y[furthest]) * (there - x[furthest]) / (x[k] - x[furthest])
            furthest = k
    return y[furthest]


def rmse(a: Numbers, b: Numbers) -> float:
    return math.sqrt(sum((one - other) ** 2 for one, other in zip(a, b, strict=True)) / len(a))


def dtw(a: Sequence[Numbers], b: Sequence[Numbers], band: int) -> float:
    """Return the least cost over all warping paths, by recursion from the end."""

    @cache
    def cost(i: int, j: int) -> float:
        if i < 0 or j < 0 or abs(i - j) > band:
            return math.inf
        here = math.dist(a[i], b[j])
        return here if i == j == 0 else here + min(cost(i - 1, j), cost(i, j - 1), cost(i - 1, j - 1))

    for k in range(len(a)):  # from the start on, so that the recursion stays shallow
        cost(k, k)
    return cost(len(a) - 1, len(b) - 1) / len(a)


def cmc_radicand(curves: Sequence[Numbers]) -> float:
    m, f = len(curves), len(curves[0])
    everything = [value for curve in curves for value in curve]
    within = sum((curve[n] - sum(c[n] for c in curves) / m) ** 2 for curve in curves for n in range(f))
    total = sum((value - sum(everything) / (m * f)) ** 2 for value in everything)
    return 1 - (within / (f * (m - 1))) / (total / (m * f - 1))
