"""Undefined: a metric that does not exist for what it was given is None, and `why` tells the reason.

Kernels of one set, one test or one series are plain functions that raise `Undefined` where the formula ends. Under
`none_if_undefined` they return None instead. The reasons are those of science.md 3.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Literal, ParamSpec, TypeVar

Reason = Literal[
    "invalid_input",
    "invalid_rep",
    "too_few_reps",
    "no_reference",
    "no_channel",
    "wrong_intent",
    "gap",
    "phase_too_short",
    "no_movement",
    "zero_jerk",
    "degenerate_spectrum",
    "zero_denominator",
    "not_calibrated",
    "no_norm",
    "fit_rejected",
    "reps_over_10",
    "not_reported",
    "learning",
]

NEARLY_ZERO = 1e-12
"""A denominator up to this size counts as zero."""

P = ParamSpec("P")
T = TypeVar("T")


class Undefined(Exception):
    """The metric does not exist for this input; never leaves a function under `none_if_undefined`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def none_if_undefined(kernel: Callable[P, T]) -> Callable[P, T | None]:
    """Let a kernel return None where it is undefined, or where its result is too large for a number.

    Examples
    --------
    >>> inverse = none_if_undefined(lambda x: quotient(1.0, x))
    >>> inverse(4.0), inverse(0.0)
    (0.25, None)
    """

    @functools.wraps(kernel)
    def defined_or_none(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return _asked(kernel, *args, **kwargs)[0]

    return defined_or_none


def why(metric: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Reason | None:
    """Return the reason why a metric is undefined for this input; None where it is defined.

    Examples
    --------
    >>> inverse = none_if_undefined(lambda x: quotient(1.0, x))
    >>> why(inverse, 0.0)
    'zero_denominator'
    >>> why(inverse, 4.0) is None
    True
    """
    kernel: Callable[P, object] = getattr(metric, "__wrapped__", metric)
    return _asked(kernel, *args, **kwargs)[1]


def _asked(kernel: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> tuple[T | None, Reason | None]:
    try:
        value = kernel(*args, **kwargs)
    except Undefined as undefined:
        return None, undefined.reason
    except OverflowError:
        return None, "invalid_input"
    return (None, "invalid_input") if isinstance(value, float) and not math.isfinite(value) else (value, None)


def finite(*values: float | None) -> list[float]:
    """Return the values if all of them are finite numbers. Raises `Undefined` otherwise.

    Examples
    --------
    >>> finite(1, 2.5)
    [1.0, 2.5]
    """
    return all_finite(values)


def all_finite(values: Iterable[float | None]) -> list[float]:
    """Return a column of values if all of them are finite numbers. Raises `Undefined` otherwise.

    Examples
    --------
    >>> all_finite(x / 2 for x in (1, 2))
    [0.5, 1.0]
    """
    known = [math.nan if value is None else float(value) for value in values]
    if not all(map(math.isfinite, known)):
        raise Undefined("invalid_input")
    return known


def quotient(numerator: float, denominator: float) -> float:
    """Divide. Raises `Undefined` where the denominator counts as zero.

    Examples
    --------
    >>> quotient(1.0, 8.0)
    0.125
    """
    if abs(denominator) <= NEARLY_ZERO:
        raise Undefined("zero_denominator")
    return numerator / denominator
