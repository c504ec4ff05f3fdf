"""Traces: what is kept of an exception of ours, and how much of it the log of a process may say."""

from collections.abc import Iterator
from traceback import format_exception, walk_tb

MAX_PLACES = 20
"""Calls that are told of an exception, the innermost ones: a recursion without end has a thousand."""


class Trace(str):
    r"""An exception as Python prints it, its message included, and its `places`, without any value.

    A message may quote what it met: a pseudonym, the data of a session. So the whole goes only where `spineloop erase`
    looks: into the dead letter, and its last line into the frozen state and the alarm. Logs of processes get `places`.

    Examples
    --------
    >>> trace = Trace.of(KeyError("acme/p1"))
    >>> str(trace), trace.places
    ("KeyError: 'acme/p1'\n", 'KeyError')
    """

    __slots__ = ("places",)

    places: str

    @classmethod
    def of(cls, error: BaseException) -> "Trace":
        """Take an exception while it is at hand."""
        trace = cls("".join(format_exception(error)))
        trace.places = places(error)
        return trace


def places(error: BaseException) -> str:
    """Tell types and places of an exception and of those that led to it: what the log of a process may say of it."""
    return ", after ".join(map(_places_of_one, _led_to(error)))


def _led_to(error: BaseException) -> Iterator[BaseException]:
    """Return an exception and then those that led to it, as far as Python would print them."""
    seen = set[int]()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _places_of_one(error: BaseException) -> str:
    """Tell the type of an exception, and through which calls it came: file, line and function."""
    codes = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    calls = [f"{code.co_filename}:{line} {code.co_qualname}" for code, line in codes[-MAX_PLACES:]]
    return f"{type(error).__qualname__}{' at ' if calls else ''}{', '.join(calls)}"
