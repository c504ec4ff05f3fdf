"""Known: the facts that a command is judged by, and what they say about a wish. "Harder" is defined here, once."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec
from msgspec.structs import replace

from streams.core.commands import Change, Command, Quantity
from streams.core.limits import Load, Position, RepTarget, Seconds, SetTarget
from streams.core.telemetry import Intent, Prescription, Screening

Origin = Literal["controller", "planner"]
Limit = Literal["load_N", "window_lo", "window_hi", "rest_s"]
"""Quantities that have a bound which a wish can be clamped to."""

WINDOW: tuple[Limit, Limit] = ("window_lo", "window_hi")

MAX_STEP_PCT = 5.0
MAX_WEEK_PCT = 10.0
"""Largest rise of the load in percent, at once and within 7 days; a policy can only ask for less (S3, S4)."""

LOAD_DECIMALS = 3
"""Loads are written to 1 mN, finer than any machine's grid."""

TEMPO = frozenset({"concentric_s", "hold_s", "eccentric_s"})
_LIMITS: Mapping[Quantity, Any] = {
    "load_N": Load,
    "window_lo": Position,
    "window_hi": Position,
    "reps": RepTarget,
    "sets": SetTarget,
    "rest_s": Seconds,
    "tul_s": Seconds,
    "concentric_s": Seconds,
    "hold_s": Seconds,
    "eccentric_s": Seconds,
}
RANGE: Mapping[Quantity, tuple[float, float]] = {
    quantity: (get_args(limit)[1].ge, get_args(limit)[1].le) for quantity, limit in _LIMITS.items()
}
"""Lowest and highest possible value of each quantity, as the wire admits it."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that the envelope judges by. None is unknown, and never satisfies an increase (S13).

    `held` says that rule 4 (`data_hold`) is in force, `fired_in_set` which rules have already decreased in this set,
    `last_sequence` the last sequence issued in this boot. `week_low_N` is the lowest load prescribed for the series in
    the last 7 days. `window`, `rest_s` and `load_N` are in force; `in_force` is the prescription with the rest of what
    is, where the asker knows it. `clean_sessions` counts the consecutive clean ones since the last trouble.
    """

    origin: Origin
    now_ms: int
    boot_id: str
    locked: bool = False
    screening: Screening | None = None
    held: bool = False
    at_session_start: bool = False
    intent: Intent = "unknown"
    valid_reps_in_set: int = 0
    fired_in_set: tuple[str, ...] = ()
    last_sequence: int = -1
    load_N: float | None = None
    load_min_N: float | None = None
    load_max_N: float | None = None
    load_step_N: float | None = None
    load_cap_N: float | None = None
    week_low_N: float | None = None
    window: tuple[float, float] | None = None
    window_prescribed: tuple[float, float] | None = None
    rest_s: float | None = None
    clean_sessions: int | None = None
    learning: bool = True
    step_pct: float = MAX_STEP_PCT
    week_cap_pct: float = MAX_WEEK_PCT
    in_force: Prescription | None = None


def is_possible(quantity: Quantity, value: float) -> bool:
    """Tell whether a value is a number within the quantity's range, whole where it counts something.

    Examples
    --------
    >>> is_possible("load_N", 400.0), is_possible("load_N", math.nan), is_possible("reps", 9.5)
    (True, False, False)
    """
    low, high = RANGE[quantity]
    return low <= value <= high and (quantity not in {"reps", "sets"} or value == int(value))


def is_harder(quantity: Quantity, old: float, new: float) -> bool:
    """Tell whether a change asks more of the patient; the only definition of "harder" that there is.

    A tempo has no easy direction: a shorter phase is faster (S1), a longer one is more time under load (S7).

    Examples
    --------
    >>> is_harder("load_N", 400.0, 420.0), is_harder("rest_s", 90.0, 120.0), is_harder("window_lo", 0.1, 0.0)
    (True, False, True)
    """
    if quantity in TEMPO:
        return new != old
    return new < old if quantity in {"rest_s", "window_lo"} else new > old


def on_grid(load_N: float, load_min_N: float | None, load_step_N: float | None) -> float:
    """Return the highest load of a machine's grid that is not above `load_N`, or the machine's minimum, in N.

    Without a known grid the load is rounded down to 1 mN.

    Examples
    --------
    >>> on_grid(404.9, 20.0, 5.0), on_grid(12.0, 20.0, 5.0), on_grid(404.9, None, None)
    (400.0, 20.0, 404.9)
    """
    finest_N = 10.0**-LOAD_DECIMALS
    least_N = load_min_N or 0.0
    step_N = max(load_step_N or finest_N, finest_N)
    rounding = 0.5 * finest_N / step_N + 1e-9  # a load that was rounded to 1 mN stays on its own grid point
    steps = math.floor((load_N - least_N) / step_N + rounding)
    if steps >= 1 and round(least_N + steps * step_N, LOAD_DECIMALS) > load_N:
        steps -= 1
    return round(least_N + steps * step_N, LOAD_DECIMALS) if steps >= 1 else least_N


def asks_more(before: Prescription, after: Prescription) -> bool:
    """Tell whether a prescription is harder than another in anything that both of them say.

    Examples
    --------
    >>> before = Prescription(id="p", load_N=300.0, reps=10, sets=2, rest_s=90.0)
    >>> asks_more(before, before), asks_more(before, replace(before, load_N=280.0, reps=11))
    (False, True)
    """
    told = ((quantity, getattr(before, quantity), getattr(after, quantity)) for quantity in RANGE)
    return any(is_harder(one, old, new) for one, old, new in told if old is not None and new is not None)


def in_force(known: Known, quantity: Quantity) -> float | None:
    """Return the value that is in force now, None where it is not known."""
    value: float | None
    match quantity:
        case "load_N":
            value = known.load_N
        case "rest_s":
            value = known.rest_s
        case "window_lo" | "window_hi":
            value = None if known.window is None else known.window[quantity == "window_hi"]
        case _:
            value = None if known.in_force is None else getattr(known.in_force, quantity)
    return value


def old_value(known: Known, change: Change) -> float:
    """Return the value before a change: the one in force, or what the change says where nobody knows better."""
    value = in_force(known, change.quantity)
    return change.old if value is None else value


def harder(known: Known, wish: Command) -> tuple[Change, ...]:
    """Return the changes of a wish that ask more of the patient."""
    return tuple(one for one in wish.changes if is_harder(one.quantity, old_value(known, one), one.new))


def new_value(wish: Command, quantity: Quantity) -> float | None:
    """Return the value that the wish leads to, None where it says nothing about it."""
    if wish.prescription is not None:
        value: float | None = getattr(wish.prescription, quantity)
        return value
    return next((one.new for one in wish.changes if one.quantity == quantity), None)


def with_value(known: Known, wish: Command, quantity: Limit, new: float, bound: float) -> Command:
    """Return the wish with another new value, in its changes and in its prescription."""
    told = next((one for one in wish.changes if one.quantity == quantity), None)
    known_old = in_force(known, quantity)
    old = known_old if known_old is not None else new if told is None else told.old
    change = Change(quantity=quantity, old=old, new=new, bound=bound)
    changes = tuple(change if one is told else one for one in wish.changes)
    prescription = wish.prescription
    if prescription is not None:
        prescription = replace(prescription, **{quantity: new})
    return replace(wish, changes=changes if told else (*changes, change), prescription=prescription)


_LOADS = ("load_N", "load_min_N", "load_max_N", "load_step_N", "load_cap_N", "week_low_N")


def only_possible(known: Known) -> Known:
    """Return the facts without those that can't be: no number, infinite or out of range is unknown (S13)."""
    told = {name: value for name in (*_LOADS, "rest_s") if (value := getattr(known, name)) is not None}
    wrong: dict[str, Any] = {
        name: None for name, value in told.items() if not is_possible("load_N" if name in _LOADS else "rest_s", value)
    }
    for name in ("window", "window_prescribed"):
        ends = getattr(known, name)
        if ends is not None and not (ends[0] <= ends[1] and all(is_possible("window_lo", end) for end in ends)):
            wrong[name] = None
    for name in ("step_pct", "week_cap_pct"):
        if not 0.0 <= getattr(known, name) < math.inf:
            wrong[name] = 0.0
    return replace(known, **wrong) if wrong else known
