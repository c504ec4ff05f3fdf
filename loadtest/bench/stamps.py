"""Stamps: when a message, and what followed from it, passed each point of the loop. The trace in its headers tells.

A machine sends each message with a trace of its own (W3C `traceparent`); bridge, controller and downlink hand it on, so
a metric and a command carry the trace of what caused them. All times are of one wall clock, in ns since 1970.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from loadtest.bench.end_to_end import percentile

Point = Literal["sent", "acknowledged", "ingested", "logged", "measured", "decided", "received"]

HOPS: Mapping[str, Mapping[str, tuple[Point, Point]]] = {
    "rep": {
        "to_bridge": ("sent", "ingested"),
        "to_log": ("ingested", "logged"),
        "control": ("logged", "decided"),
        "downlink": ("decided", "received"),
    },
    "stop": {"reflex": ("sent", "received")},
}
"""The way of a command by what causes it, hop by hop: broker and bridge; the append to the log until another client has
read it; the controller, from there until its command could be read; downlink, broker and the machine's own client.
`ingested` is the record's timestamp, in whole ms, so the first two are known to 1 ms. STOP after a button goes from
broker to broker."""

SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Stamps:
    """Times by trace.

    Examples
    --------
    >>> stamps = Stamps()
    >>> stamps.begin("a", "rep", 1_000_000)
    >>> stamps.note("a", "received", 5_000_000)
    >>> stamps.spans_ms("rep", "sent", "received")
    [4.0]
    """

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        self._at_ns: dict[str, dict[Point, int]] = {}

    def begin(self, trace: str, kind: str, at_ns: int) -> None:
        """Note that a message of some kind is sent."""
        self._kinds[trace] = kind
        self._at_ns[trace] = {"sent": at_ns}

    def note(self, trace: str | None, point: Point, at_ns: int) -> None:
        """Note that it passes a point; only the first time counts, and traces of others don't."""
        if trace in self._at_ns:
            self._at_ns[trace].setdefault(point, at_ns)

    def missing(self, kind: str, point: Point) -> int:
        """Count the messages of a kind that did not come to a point."""
        return sum(point not in self._at_ns[trace] for trace, each in self._kinds.items() if each == kind)

    def spans_ms(self, kind: str, first: Point, last: Point) -> list[float]:
        """Return the times between two points, in ms, of all that passed both, the shortest first."""
        stamps = (self._at_ns[trace] for trace, each in self._kinds.items() if each == kind)
        return sorted((each[last] - each[first]) * 1e-6 for each in stamps if first in each and last in each)

    def hops_ms(self, kind: str) -> dict[str, list[float]]:
        """Return what each hop took, in ms, of those messages that led to a command."""
        went = [each for trace, each in self._at_ns.items() if self._kinds[trace] == kind and "received" in each]
        return {
            name: sorted((each[last] - each[first]) * 1e-6 for each in went if first in each and last in each)
            for name, (first, last) in HOPS[kind].items()
        }


def spread(name: str, found_ms: Iterable[float], shares: Mapping[str, float] = SHARES) -> dict[str, float]:
    """Return number and percentiles of ordered times, as figures of that name.

    Examples
    --------
    >>> spread("rep_to_command", [1.0, 2.0], {"p50": 0.5})
    {'rep_to_command_n': 2.0, 'rep_to_command_ms_p50': 1.0}
    """
    found = list(found_ms)
    told = {f"{name}_ms_{which}": percentile(found, share) for which, share in shares.items() if found}
    return {f"{name}_n": float(len(found)), **told}
