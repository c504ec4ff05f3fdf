"""Bounds: the rows of the envelope that say how far a change may go (science.md 7.4). They clamp or refuse."""

import math

from msgspec.structs import replace

from streams.core.commands import Command
from streams.core.invariants import Refusal, Verdict
from streams.core.known import (
    LOAD_DECIMALS,
    MAX_STEP_PCT,
    MAX_WEEK_PCT,
    Known,
    harder,
    in_force,
    new_value,
    old_value,
    on_grid,
    with_value,
)

MAX_REST_S = 180.0
"""Longest rest that a rule may ask for, in s (S21)."""


def range_stays_within_the_prescription(known: Known, wish: Command) -> Verdict:
    """S6: the limit never exceeds the prescribed window."""
    if known.window_prescribed is None:
        return None
    lowest, highest = known.window_prescribed
    lo, hi = new_value(wish, "window_lo"), new_value(wish, "window_hi")
    if (lo is not None and lo > highest) or (hi is not None and hi < lowest):
        return Refusal(f"{lo}..{hi} lies outside the prescribed {lowest}..{highest}")
    inside = wish
    if lo is not None and lo < lowest:
        inside = with_value(known, inside, "window_lo", lowest, lowest)
    if hi is not None and hi > highest:
        inside = with_value(known, inside, "window_hi", highest, highest)
    return inside


def _rise_up_to(known: Known, wish: Command, most_N: float, why: str) -> Verdict:
    """Clamp a rise of the load to a bound, on the machine's grid; refuse it when nothing is left of it."""
    new_N, old_N = new_value(wish, "load_N"), in_force(known, "load_N")
    if new_N is None or old_N is None or new_N <= old_N:
        return None
    fitting_N = on_grid(min(new_N, most_N), known.load_min_N, known.load_step_N)
    if not old_N < fitting_N <= most_N:
        return Refusal(f"{new_N} N from {old_N} N, at most {round(most_N, LOAD_DECIMALS)} N: {why}")
    return wish if fitting_N == new_N else with_value(known, wish, "load_N", fitting_N, round(most_N, LOAD_DECIMALS))


def one_small_step(known: Known, wish: Command) -> Verdict:
    """S3: at most 5 % and at most one prescribable increment above the old load."""
    if known.load_N is None:
        return None
    share_N = known.load_N * min(known.step_pct, MAX_STEP_PCT) / 100.0
    step_N = share_N if known.load_step_N is None else min(share_N, known.load_step_N)
    return _rise_up_to(known, wish, round(known.load_N + step_N, 6), "the step")


def little_within_a_week(known: Known, wish: Command) -> Verdict:
    """S4: at most 10 % above the lowest load prescribed in the last 7 days."""
    if known.week_low_N is None:
        return None
    share = 1.0 + min(known.week_cap_pct, MAX_WEEK_PCT) / 100.0
    return _rise_up_to(known, wish, round(known.week_low_N * share, 6), "7 days")


def within_machine_and_cap(known: Known, wish: Command) -> Verdict:
    """S5: machine minimum <= load <= min(clinician's cap, machine maximum), on the machine's grid."""
    new_N, told = new_value(wish, "load_N"), next((one for one in wish.changes if one.quantity == "load_N"), None)
    if new_N is None:
        return None
    old_N = known.load_N if known.load_N is not None else new_N if told is None else told.old
    if new_N > old_N and known.load_cap_N is None:
        return Refusal("no clinician's cap is known")
    tops = [top for top in (known.load_cap_N, known.load_max_N) if top is not None]
    most_N = min(tops, default=math.inf)
    fitting_N = on_grid(min(new_N, most_N), known.load_min_N, known.load_step_N)
    if fitting_N > most_N and wish.action == "prescribe":
        return Refusal(f"the machine holds at least {fitting_N} N, at most {most_N} N is allowed")
    if _turned(old_N, new_N, fitting_N):
        others = tuple(one for one in wish.changes if one.quantity != "load_N")
        if new_N < old_N and others and wish.prescription is None:
            return replace(wish, changes=others)  # the other decreases of the command hold
        return Refusal(f"{new_N} N from {old_N} N: only {fitting_N} N fits")
    bound_N = fitting_N if math.isinf(most_N) else most_N
    return wish if fitting_N == new_N else with_value(known, wish, "load_N", fitting_N, bound_N)


def _turned(old: float, asked: float, left: float) -> bool:
    """Tell whether clamping left nothing of what was asked, or made more of it: up stays up, down stays down."""
    return left <= old if asked > old else left > old if asked == old else left >= old


def rest_has_an_end(known: Known, wish: Command) -> Verdict:
    """S21: no rule lengthens the rest beyond 180 s."""
    change = next((one for one in wish.changes if one.quantity == "rest_s"), None)
    if change is None or change.new <= MAX_REST_S or change.new <= (old_s := old_value(known, change)):
        return None
    if old_s >= MAX_REST_S:
        return Refusal(f"the rest is {old_s} s already")
    return with_value(known, wish, "rest_s", MAX_REST_S, MAX_REST_S)


def an_increase_is_confirmed(known: Known, wish: Command) -> Verdict:
    """S20: an increase asks first."""
    return replace(wish, confirm=True) if not wish.confirm and harder(known, wish) else None
