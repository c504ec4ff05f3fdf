"""The reference: science.md 2.1-2.5 and 3.2-3.12 once more, one rep and one sample at a time, in plain Python.

Written from the text, without NumPy and without a look at the vectorised core, to be compared with it to 1e-9.
"""

import cmath
import math
import struct
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from streams.core.telemetry import Rep

HOLE = -32_768
LIMIT = 32_767
DT_S = 0.01


class Answer(NamedTuple):
    """What a rep is: reasons in any order, metrics before rounding, why others are undefined, limits of its phases.

    Then what stands beside the metrics: force over position, torque by angle, by how much the machine's marks are off.
    """

    reasons: set[str]
    values: dict[str, float]
    undefined: dict[str, str]
    limits: tuple[int, int, int, int] | None
    curve: list[float] | None = None
    torques: list[float | None] | None = None
    marks_off_s: float | None = None


def coefficients(fc_hz: float, fs_hz: float) -> tuple[float, float, float]:
    """Return b0, a1 and a2 of 2.2."""
    k = math.tan(math.pi * fc_hz / fs_hz) / (math.sqrt(2) - 1) ** 0.25
    d = 1 + math.sqrt(2) * k + k**2
    return k**2 / d, 2 * (k**2 - 1) / d, (1 - math.sqrt(2) * k + k**2) / d


def one_pass(x: list[float], fc_hz: float, fs_hz: float) -> list[float]:
    """Filter once, as if the first value had lasted for ever."""
    b0, a1, a2 = coefficients(fc_hz, fs_hz)
    x1 = x2 = y1 = y2 = x[0]
    y = []
    for x0 in x:
        y0 = b0 * x0 + 2 * b0 * x1 + b0 * x2 - a1 * y1 - a2 * y2
        x2, x1, y2, y1 = x1, x0, y1, y0
        y.append(y0)
    return y


def zero_lag(x: list[float], fc_hz: float = 6.0, fs_hz: float = 100.0) -> list[float]:
    """Pad by odd reflection, filter forward and backward, cut the padding."""
    p = min(50, len(x) - 1)
    left = [2 * x[0] - x[i] for i in range(p, 0, -1)]
    right = [2 * x[-1] - x[len(x) - 1 - i] for i in range(1, p + 1)]
    forward = one_pass(left + x + right, fc_hz, fs_hz)
    backward = one_pass(forward[::-1], fc_hz, fs_hz)[::-1]
    return backward[p : p + len(x)]


def at_100_hz(x: list[float], fs_hz: float) -> list[float]:
    """Resample to 100 Hz."""
    if fs_hz == 100.0:
        return x
    if fs_hz > 100.0:
        x = zero_lag(x, 40.0, fs_hz)
    y, k = [], 0
    while (place := k * fs_hz / 100.0) <= len(x) - 1 + 1e-9:
        i = min(int(place + 1e-9), len(x) - 1)
        rest = place - i
        y.append(x[i] if abs(rest) < 1e-9 else x[i] * (1 - rest) + x[i + 1] * rest)
        k += 1
    return y


def velocity(x: list[float]) -> list[float]:
    """Central differences, one-sided at both ends."""
    if len(x) == 1:
        return [0.0]
    inner = [(x[k + 1] - x[k - 1]) / (2 * DT_S) for k in range(1, len(x) - 1)]
    return [(x[1] - x[0]) / DT_S, *inner, (x[-1] - x[-2]) / DT_S]


def filled(counts: list[int]) -> list[float]:
    """Interpolate holes linearly, hold the nearest value at the ends, 0 where there is nothing at all."""
    known = [i for i, count in enumerate(counts) if count != HOLE]
    if not known:
        return [0.0] * len(counts)
    y = [float(count) for count in counts]
    for i in (i for i, count in enumerate(counts) if count == HOLE):
        before = max((k for k in known if k < i), default=known[0])
        after = min((k for k in known if k > i), default=known[-1])
        share = (i - before) / (after - before) if before < i < after else 0.0
        y[i] = counts[before if before < i else after] * (1 - share) + counts[after] * share
    return y


def holes(lost: list[bool]) -> list[tuple[int, int]]:
    """Return runs of lost samples as half-open ranges."""
    found, first = [], None
    for i, is_lost in enumerate([*lost, False]):
        if is_lost and first is None:
            first = i
        elif not is_lost and first is not None:
            found.append((first, i))
            first = None
    return found


def excursions(above: list[bool]) -> list[tuple[int, int]]:
    """Return the stretches above the opening level as half-open ranges."""
    return holes(above)


def sigma_v(step: float) -> float:
    """Return the deviation of velocity that rounding to counts leaves at rest."""
    impulse = [0.0] * 401
    impulse[200] = 1.0
    v = velocity(zero_lag(impulse))
    return step / math.sqrt(12) * math.sqrt(sum(value * value for value in v))


def spectrum(x: list[complex]) -> list[complex]:
    """Transform a power of two of samples, halving them again and again."""
    if len(x) == 1:
        return x
    even, odd = spectrum(x[::2]), spectrum(x[1::2])
    turned = [cmath.exp(-2j * math.pi * k / len(x)) * odd[k] for k in range(len(odd))]
    return [a + b for a, b in zip(even, turned, strict=True)] + [a - b for a, b in zip(even, turned, strict=True)]


def sparc(v: list[float], fs_hz: float = 100.0) -> float | str:
    """Do the three steps of 3.2."""
    if max(abs(value) for value in v) == 0.0:
        return "no_movement"
    size = 2 ** (math.ceil(math.log2(len(v))) + 4)
    amplitude = [abs(bin_) for bin_ in spectrum([*map(complex, v), *[0j] * (size - len(v))])]
    largest = max(amplitude)
    low = [(k * fs_hz / size, amplitude[k] / largest) for k in range(size) if k * fs_hz / size <= 10.0]
    above = [k for k, (_, share) in enumerate(low) if share >= 0.05]
    if not above or above[0] == above[-1]:
        return "degenerate_spectrum"
    kept = low[above[0] : above[-1] + 1]
    width = kept[-1][0] - kept[0][0]
    return -sum(math.hypot((f1 - f0) / width, m1 - m0) for (f0, m0), (f1, m1) in pairwise(kept))


def dimensionless_jerk(v: list[float], fs_hz: float = 100.0) -> float | str:
    """Add up the squares of 3.3."""
    peak, dt_s = max(abs(value) for value in v), 1.0 / fs_hz
    if peak == 0.0:
        return "no_movement"
    squares = sum(((v[k + 2] - 2 * v[k + 1] + v[k]) / dt_s**2) ** 2 * dt_s for k in range(len(v) - 2))
    return -((len(v) * dt_s) ** 3) / peak**2 * squares


def ldlj(v: list[float], fs_hz: float = 100.0) -> float | str:
    """Take the logarithm of 3.3."""
    jerk = dimensionless_jerk(v, fs_hz)
    if isinstance(jerk, str):
        return jerk
    return "zero_jerk" if abs(jerk) <= 1e-12 else -math.log(abs(jerk))


def tremor_index(x: list[float], fs_hz: float = 100.0) -> float | str:
    """Transform the bins of 3.4, one by one."""
    n = len(x)
    if n < 100:
        return "phase_too_short"
    mean = sum(x) / n
    if abs(mean) <= 1e-12:
        return "zero_denominator"
    power = 0.0
    for k in range(1, (n - 1) // 2 + 1):
        if 4.0 <= k * fs_hz / n <= 12.0:
            power += abs(sum(value * cmath.exp(-2j * math.pi * k * i / n) for i, value in enumerate(x))) ** 2
    return 100 * math.sqrt(2 * power) / (n * abs(mean))


def steadiness_cv(force: list[float]) -> float | str:
    """Subtract the line of 3.9."""
    cut = len(force) // 5
    middle = force[cut : len(force) - cut]
    n = len(middle)
    if n < 50:
        return "phase_too_short"
    mean, centre = sum(middle) / n, (n - 1) / 2
    if abs(mean) <= 1e-12:
        return "zero_denominator"
    slope = sum((i - centre) * (value - mean) for i, value in enumerate(middle)) / sum(
        (i - centre) ** 2 for i in range(n)
    )
    left = [value - mean - slope * (i - centre) for i, value in enumerate(middle)]
    return 100 * math.sqrt(sum(value**2 for value in left) / n) / mean


def regression(told: list[float], computed: list[float]) -> tuple[float, float] | None:
    """Return slope and r of 2.3, None where nothing moves."""
    mean_t, mean_c = sum(told) / len(told), sum(computed) / len(computed)
    shared = sum((a - mean_t) * (b - mean_c) for a, b in zip(told, computed, strict=True))
    spread_t, spread_c = sum((a - mean_t) ** 2 for a in told), sum((b - mean_c) ** 2 for b in computed)
    if spread_c == 0.0 or spread_t == 0.0:
        return None
    return shared / spread_c, shared / math.sqrt(spread_c * spread_t)


def force_over_position(x: list[float], force: list[float], start: int, top: int) -> list[float]:
    """Read the force where each of 101 positions is reached first."""
    curve = []
    for j in range(101):
        wanted = x[start] + j / 100 * (x[top] - x[start])
        k = start if j == 0 else next((k for k in range(start + 1, top + 1) if x[k] >= wanted), top)
        share = 0.0 if k == start else (wanted - x[k - 1]) / (x[k] - x[k - 1])
        curve.append(force[k] if k == start else force[k - 1] + share * (force[k] - force[k - 1]))
    return curve


def torque_by_bin(angle: list[float], torque: list[float]) -> list[float | None]:
    """Return the largest torque of each 12 degrees."""
    bins: list[float | None] = [None] * 7
    for a, value in zip(angle, torque, strict=True):
        b = math.floor(math.degrees(a) / 12)
        if 0 <= b < 7:
            bins[b] = value if bins[b] is None else max(bins[b] or -math.inf, value)
    return bins


def bounces(v: list[float], start: int, top: int, v_hold: float) -> bool:
    """Judge the turnaround at the start, 3.10."""
    n = len(v)
    a = [(v[min(k + 1, n - 1)] - v[max(k - 1, 0)]) / (DT_S * (min(k + 1, n - 1) - max(k - 1, 0))) for k in range(n)]
    last_before = next((k for k in range(start - 1, -1, -1) if abs(v[k]) >= v_hold), None)
    first_behind = next((k for k in range(start, n) if abs(v[k]) >= v_hold), None)
    if last_before is None or first_behind is None or first_behind - last_before - 1 >= 5 or v[last_before] >= 0:
        return False
    eccentric = next((k for k in range(last_before - 1, -1, -1) if v[k] >= -v_hold), 0)
    hardest = max(abs(a[k]) for k in range(max(0, start - 10), min(n, start + 11)))
    return start - eccentric >= 20 and hardest > 3 * median(abs(a[k]) for k in range(eccentric, top))


def measure(rep: Rep) -> Answer:  # noqa: C901, PLR0912, PLR0915 - one long proof to be read beside the text
    """Do everything, in the order of the text."""
    if rep.fs_hz < 50.0:
        return Answer({"rate_too_low"}, {}, {}, None)
    if not math.isfinite(rep.position_scale * rep.force_scale_N * rep.load_N * rep.fs_hz):
        return Answer({"non_finite"}, {}, {}, None)
    reasons = set()
    raw_x = list(struct.unpack(f"<{rep.samples}h", rep.position))
    raw_f = list(struct.unpack(f"<{rep.samples}h", rep.force))
    sides = {
        name: list(struct.unpack(f"<{rep.samples}h", channel))
        for name, channel in (("left", rep.force_left), ("right", rep.force_right))
        if channel is not None
    }
    if any(abs(count) == LIMIT for count in [*raw_x, *raw_f, *sides.get("left", ()), *sides.get("right", ())]):
        reasons.add("saturated")
    if rep.settings == "unknown":
        reasons.add("unknown_settings")
    has_force = any(count != HOLE for count in raw_f)
    lost = [a == HOLE or (has_force and b == HOLE) for a, b in zip(raw_x, raw_f, strict=True)]
    x = [count * rep.position_scale * rep.concentric_sign for count in filled(raw_x)]
    f = [count * rep.force_scale_N * rep.force_sign for count in filled(raw_f)]
    bare_x, bare_f = at_100_hz(x, rep.fs_hz), at_100_hz(f, rep.fs_hz)
    x, f = zero_lag(bare_x), zero_lag(bare_f)
    n, v = len(x), velocity(x)
    has_wrong_sign = has_wrong_scale = False
    if rep.velocity is not None and rep.velocity_scale is not None:
        counts = list(struct.unpack(f"<{rep.samples}h", rep.velocity))
        if any(count != HOLE for count in counts):
            told = [count * rep.velocity_scale * rep.concentric_sign for count in filled(counts)]
            fit = regression(zero_lag(at_100_hz(told, rep.fs_hz)), v)
            has_wrong_sign = fit is not None and fit[0] < 0
            has_wrong_scale = fit is None or not (0.95 <= fit[0] <= 1.05) or abs(fit[1]) < 0.99
    asked = rep.prescription
    lo, hi, r_ref = min(x), max(x), None
    covered = hi - lo
    if asked and asked.window_lo is not None and asked.window_hi is not None and asked.window_hi > asked.window_lo:
        lo, hi = asked.window_lo, asked.window_hi
        r_ref = hi - lo
    elif rep.calibrated and rep.calibrated[1] > rep.calibrated[0]:
        lo, hi = rep.calibrated
        r_ref = hi - lo
    is_noise = r_ref is None and covered < 20 * rep.position_scale
    y = [(value - lo) / (hi - lo) if hi > lo else 0.0 for value in x]
    found = [] if is_noise else excursions([value >= 0.20 for value in y])
    gaps = [((a * 100 / rep.fs_hz), (b - 1) * 100 / rep.fs_hz, (b - a) * 100 / rep.fs_hz) for a, b in holes(lost)]
    upper = min(x) + 0.8 * covered
    is_inverted = covered >= max(20 * rep.position_scale, 0.3 * (r_ref or 0.0)) and x[0] >= upper and x[-1] >= upper
    if not found:
        reasons.add("sign_mismatch" if is_inverted else "below_min_rom")
        if any(length > 10 for _, _, length in gaps):
            reasons.add("gap_over_100ms")
        return Answer(reasons, {}, {}, None)
    longest = max(b - a for a, b in found)
    said = None if rep.marks is None else [mark * 100 / rep.fs_hz for mark in rep.marks]

    def claim(run: tuple[int, int]) -> tuple[bool, bool, bool, bool, int]:
        a, b = run
        is_said = said is not None and said[0] < said[1] and 0 < a <= said[1] < b
        return is_said, 2 * (b - a) >= longest, b < n, n - b >= 25, a

    o, c = max(found, key=claim)
    y_peak = max(y[o:c])
    v_hold = max(0.02 * max(abs(value) for value in v[o:c]), 3 * sigma_v(rep.position_scale))

    def first(condition: list[bool], start: int, otherwise: int) -> int:
        return next((k for k in range(start, n) if condition[k]), otherwise)

    def last(condition: list[bool], stop: int, otherwise: int) -> int:
        return next((k for k in range(stop - 1, -1, -1) if condition[k]), otherwise)

    not_rising, not_falling = [value <= v_hold for value in v], [value >= -v_hold for value in v]
    rises = next(k for k in range(o, c) if y[k] >= 0.8 * y_peak)
    falls = next(k for k in range(c - 1, o - 1, -1) if y[k] >= 0.8 * y_peak)
    start = last(not_rising, o, 0)
    top = first(not_rising, rises, n - 1)
    turn = last(not_falling, falls + 1, 0)
    end = first(not_falling, c, n - 1)
    tie = 1e-9 * (hi - lo)
    if turn - top < 15:
        top = turn = next(k for k in range(o, c) if y[k] >= y_peak - 1e-9)

    earlier = [run for run in found if run[1] <= o]
    closing = earlier[-1][1] if earlier else None
    was_still = first(not_falling, closing or 0, n)
    known = closing is not None or was_still > 0
    if known and abs(start - was_still) < 15 and (closing is None or start >= closing):
        a, b = sorted((start, was_still))
        start = next(k for k in range(a, b + 1) if x[k] <= min(x[a : b + 1]) + tie)
    later = [run for run in found if run[0] >= c]
    opening = later[0][0] if later else n
    leaves = last(not_rising, opening, -1)
    if (later or leaves < n - 1) and leaves >= c and abs(leaves - end) < 15:
        a, b = sorted((end, leaves))
        end = next(k for k in range(a, b + 1) if x[k] <= min(x[a : b + 1]) + tie)

    is_closed = c < n
    is_inverted = is_inverted and not (is_closed and o > 0)
    rom = abs(x[top] - x[start])
    t_con, t_hold, t_ecc = (top - start) * DT_S, (turn - top) * DT_S, (end - turn) * DT_S
    inside = [length for a, b, length in gaps if b >= start and a <= end]
    if any(length > 10 for length in inside):
        reasons.add("gap_over_100ms")
    if is_inverted:
        reasons.add("sign_mismatch")
    elif not is_closed:
        reasons.add("open_at_end")
    else:
        if has_wrong_sign:
            reasons.add("sign_mismatch")
        if y_peak < 0.8 and rom < 0.30 * (hi - lo):
            reasons.add("below_min_rom")
        if top - start < 20 or end - turn < 20:
            reasons.add("too_short")
        if has_force and rep.load_N and all(value < 0.05 * rep.load_N for value in f[start : max(top, start + 1)]):
            reasons.add("unloaded")
        if end - start > 3000:
            reasons.add("too_long")
    if reasons:
        return Answer(reasons, {}, {}, (start, top, turn, end))

    values = {
        "range_of_motion": rom,
        "concentric_time_s": t_con,
        "top_hold_time_s": t_hold,
        "eccentric_time_s": t_ecc,
        "time_under_load_s": t_con + t_hold + t_ecc,
    }
    if r_ref:
        values["rom_completeness_pct"] = 100 * rom / r_ref
        if round(values["rom_completeness_pct"], 3) < 80:
            reasons.add("partial_rom")
    tempo = []
    if asked and asked.concentric_s and rep.intent != "max":
        tempo.append((t_con, asked.concentric_s))
    if asked and asked.eccentric_s:
        tempo.append((t_ecc, asked.eccentric_s))
    if tempo:
        values["tempo_error_pct"] = max(100 * abs(t - wanted) / wanted for t, wanted in tempo)
        if any(round(t / wanted, 9) < 0.75 for t, wanted in tempo):
            reasons.add("tempo_fast")
    middle = [value >= 0.5 for value in y]
    if sum(middle[k] != middle[k - 1] for k in range(max(o, 1), c + 1)) > 2:
        reasons.add("double_crossing")
    has_gap = any(5 < length <= 10 for length in inside)
    if has_gap:
        reasons.add("gap")
    broken = any(length > 10 and b > start - 50 and a < end + 50 for a, b, length in gaps)
    before, behind, off_s = float(start), float(n - end), None
    if rep.marks is not None:
        marks = [mark * 100 / rep.fs_hz for mark in rep.marks]
        off = max(abs(mark - limit) for mark, limit in zip(marks, (start, top, turn, end), strict=True))
        off_s = off * DT_S if off > 10 + 1e-9 else None
        if abs(marks[0] - start) <= 10:
            before = max(marks[0], start)
        if abs(marks[3] - end) <= 10:
            behind = n - min(marks[3], end)
    if before < 50 or behind < 50 or broken:
        reasons.add("no_context")
    if rep.warm_up:
        reasons.add("warm_up")
    if rep.voluntary_pause:
        reasons.add("voluntary_pause")
    if has_wrong_scale:
        reasons.add("scale_mismatch")
    if not has_gap and not has_wrong_scale and bounces(v, start, top, v_hold):
        reasons.add("bounce")
    undefined: dict[str, str] = {}

    def put(name: str, value: float | str | None, **lacking: bool) -> None:
        """Write a metric, or the first reason why there is none; the reasons in the order of the text."""
        why = next((reason for reason in ("no_channel", "gap", "scale_mismatch") if lacking.get(reason)), None)
        if why is None and isinstance(value, str):
            why = value
        if why is None and value is not None:
            values[name] = float(value)
        else:
            undefined[name] = why or "no reason"

    derived = {"gap": has_gap, "scale_mismatch": has_wrong_scale}
    cell = {"no_channel": not has_force}
    con, ecc = v[start:top], v[turn:end]
    peak, mean = max(f[start:top]), sum(f[start:top]) / (top - start)
    put("mean_velocity", (x[top] - x[start]) / t_con, **derived)
    put("peak_velocity", max(con), **derived)
    put("peak_force", peak, **cell)
    put("mean_force", mean, **cell)
    pushing = [v[k] for k in range(start, top) if not rep.load_N or f[k] >= 0.05 * rep.load_N]
    put("mean_propulsive_velocity", sum(pushing) / len(pushing) if pushing else "no_movement", **derived, **cell)
    push = [max(value, 0.0) for value in f]
    work = sum((push[k] + push[k + 1]) / 2 * (x[k + 1] - x[k]) for k in range(start, top))
    put("concentric_work_J", work, gap=has_gap, **cell)
    put("concentric_power_W", work / t_con, gap=has_gap, **cell)

    far = [f[k] for k in range(start, top) if x[k] >= x[top] - 0.2 * (x[top] - x[start])]
    put("end_range_force", sum(far) / len(far) if far else "no_movement", **cell)
    put("peak_to_mean_force", peak / mean if abs(mean) > 1e-12 else "zero_denominator", **cell)
    if start < 10 or n - start <= 10:
        impulse: float | str = "phase_too_short"
    elif rep.load_N <= 1e-12:
        impulse = "zero_denominator"
    else:
        impulse = sum((f[k] - rep.load_N) * DT_S for k in range(start - 10, start + 11)) / rep.load_N
    put("turnaround_impulse_s", impulse, **cell)
    bends = [(v[k + 1] - v[k - 1]) / (2 * DT_S) if k else (v[1] - v[0]) / DT_S for k in range(start, top)]
    mass = rep.effective_mass_kg
    if mass is None:
        inertial: float | str = "not_calibrated"
        kinetic: float | str = "not_calibrated"
    else:
        inertial = max(abs(mass * value) for value in bends) / rep.load_N if rep.load_N > 1e-12 else "zero_denominator"
        kinetic = 0.5 * mass * max(con) ** 2 / work if abs(work) > 1e-12 else "zero_denominator"
    put("inertial_share", inertial, **derived)
    put("kinetic_share", kinetic, **derived, **cell)
    for phase, speed in (("concentric", con), ("eccentric", [-value for value in ecc])):
        put(f"sparc_{phase}", sparc(speed), **derived)
        put(f"ldlj_{phase}", ldlj(speed), **derived)
    put("tremor_index_velocity_pct", tremor_index(velocity(bare_x)[start:top]), **derived)
    put("tremor_index_force_pct", tremor_index(bare_f[start:top]), gap=has_gap, **cell)
    put("force_steadiness_cv_pct", steadiness_cv(bare_f[start:top]), **cell)
    t_wanted = asked.eccentric_s if asked else None
    put("eccentric_time_ratio", t_ecc / t_wanted if t_wanted else "no_reference")
    fastest = max(abs(value) for value in ecc)
    put("eccentric_speed_ratio", fastest / (rom / t_wanted) if t_wanted else "no_reference", **derived)
    near = [abs(v[k]) for k in range(turn, end) if x[k] <= x[end] + 0.2 * (x[turn] - x[end])]
    average = sum(abs(value) for value in ecc) / len(ecc)
    put("eccentric_drop", max(near) / average if near else "no_movement", **derived)
    put("symmetry_index_pct", symmetry(rep, sides, slice(start, top), end))
    curve = force_over_position(x, f, start, top) if has_force else None
    torques = torque_by_bin(x[start:top], f[start:top]) if has_force and rep.position_unit == "rad" else None
    return Answer(reasons, values, undefined, (start, top, turn, end), curve, torques, off_s)


def symmetry(rep: Rep, sides: dict[str, list[int]], concentric: slice, end: int) -> float | str:
    """Compare both sides, 3.12."""
    means = []
    for counts in (sides.get("left"), sides.get("right")):
        if counts is None or all(count == HOLE for count in counts):
            return "no_channel"
        force = [count * rep.force_scale_N * rep.force_sign for count in filled(counts)]
        phase = zero_lag(at_100_hz(force, rep.fs_hz))[concentric]
        means.append(sum(phase) / len(phase))
    for a, b in [hole for counts in sides.values() for hole in holes([count == HOLE for count in counts])]:
        is_inside = (b - 1) * 100 / rep.fs_hz >= concentric.start and a * 100 / rep.fs_hz <= end
        if is_inside and (b - a) * 100 > 5 * rep.fs_hz:
            return "gap"
    left, right = means
    return 200 * (right - left) / (right + left) if right + left > 1e-12 else "zero_denominator"
