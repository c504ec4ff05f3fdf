"""The reference: science.md 2.1-2.5 and 3.5-3.7 once more, one rep and one sample at a time, in plain Python.

Written from the text, without NumPy and without a look at the vectorised core, to be compared with it to 1e-9.
"""

import math
import struct
from typing import NamedTuple

from streams.core.telemetry import Rep

HOLE = -32_768
LIMIT = 32_767
DT_S = 0.01


class Answer(NamedTuple):
    """What a rep is: reasons in any order, metrics before rounding, and the four limits of its phases."""

    reasons: set[str]
    values: dict[str, float]
    limits: tuple[int, int, int, int] | None


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


def measure(rep: Rep) -> Answer:  # noqa: C901, PLR0912, PLR0915 - one long proof to be read beside the text
    """Do everything, in the order of the text."""
    if rep.fs_hz < 50.0:
        return Answer({"rate_too_low"}, {}, None)
    if not math.isfinite(rep.position_scale * rep.force_scale_N * rep.load_N * rep.fs_hz):
        return Answer({"non_finite"}, {}, None)
    reasons = set()
    raw_x = list(struct.unpack(f"<{rep.samples}h", rep.position))
    raw_f = list(struct.unpack(f"<{rep.samples}h", rep.force))
    if any(abs(count) == LIMIT for count in raw_x + raw_f):
        reasons.add("saturated")
    has_force = any(count != HOLE for count in raw_f)
    lost = [a == HOLE or (has_force and b == HOLE) for a, b in zip(raw_x, raw_f, strict=True)]
    x = [count * rep.position_scale * rep.concentric_sign for count in filled(raw_x)]
    f = [count * rep.force_scale_N * rep.force_sign for count in filled(raw_f)]
    x, f = zero_lag(at_100_hz(x, rep.fs_hz)), zero_lag(at_100_hz(f, rep.fs_hz))
    n, v = len(x), velocity(x)
    asked = rep.prescription
    lo, hi, r_ref = min(x), max(x), None
    covered = hi - lo
    if asked and asked.window_lo is not None and asked.window_hi is not None and asked.window_hi > asked.window_lo:
        lo, hi = asked.window_lo, asked.window_hi
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
        return Answer(reasons, {}, None)
    o, c = max(found, key=lambda run: (run[1] - run[0], -run[0]))
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
        if y_peak < 0.8 and rom < 0.30 * (hi - lo):
            reasons.add("below_min_rom")
        if top - start < 20 or end - turn < 20:
            reasons.add("too_short")
        if has_force and all(value < 0.05 * rep.load_N for value in f[start : max(top, start + 1)]):
            reasons.add("unloaded")
        if end - start > 3000:
            reasons.add("too_long")
    if reasons:
        return Answer(reasons, {}, (start, top, turn, end))

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
    broken = any(length > 10 and b > start - 40 and a < end + 40 for a, b, length in gaps)
    if start < 40 or n - end < 40 or broken:
        reasons.add("no_context")
    if rep.warm_up:
        reasons.add("warm_up")
    if not has_gap:
        values["mean_velocity"] = (x[top] - x[start]) / t_con
        values["peak_velocity"] = max(v[start:top])
    if has_force:
        values["peak_force"] = max(f[start:top])
        values["mean_force"] = sum(f[start:top]) / (top - start)
    if has_force and not has_gap:
        pushing = [v[k] for k in range(start, top) if f[k] >= 0.05 * rep.load_N]
        if pushing:
            values["mean_propulsive_velocity"] = sum(pushing) / len(pushing)
        push = [max(value, 0.0) for value in f]
        work = sum((push[k] + push[k + 1]) / 2 * (x[k + 1] - x[k]) for k in range(start, top))
        values["concentric_work_J"], values["concentric_power_W"] = work, work / t_con
    return Answer(reasons, values, (start, top, turn, end))
