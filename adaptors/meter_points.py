"""Meter points: the meters of a process as rows of history, so that operators ask one source for everything.

A counter keeps its total and what it grew by since it was written last, so that a restart, which begins again at 0,
makes no dent. Of a histogram the percentiles of the time since then are kept: buckets can't be summed in InfluxQL.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from adaptors.points import FieldValue, Point

MEASUREMENT = "meter"

PERCENTILES: Mapping[str, float] = {"p50": 0.50, "p90": 0.90, "p99": 0.99}

Labels = tuple[tuple[str, str], ...]


class Reading(msgspec.Struct, frozen=True):
    """What a meter with these labels says at one moment.

    Parameters
    ----------
    name : str
        The meter, as Prometheus has it.
    kind : str
        What it is.
    labels : tuple of (str, str)
        Bounded names, sorted by key.
    value : float
        The level of a gauge; all that was counted by a counter; all that was observed by a histogram.
    buckets : tuple of (float, float)
        Of a histogram: upper bounds in ascending order, the last infinite, with how many were observed up to each.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    value: float
    buckets: tuple[tuple[float, float], ...] = ()


def points(before: Iterable[Reading], now: Iterable[Reading], who: Labels, t_ns: int) -> list[Point]:
    """Turn readings into points.

    Parameters
    ----------
    before : readings
        What was written last.
    now : readings
        What to write.
    who : tuple of (str, str)
        Tags of the process: its role, its instance.
    t_ns : int
        When `now` was read, in ns since 1970.

    Examples
    --------
    >>> total = Reading("spineloop_points_total", "counter", (), 7.0)
    >>> point, = points([], [total], (("role", "history"),), 5)
    >>> point.tags, point.fields
    ((('name', 'spineloop_points_total'), ('role', 'history')), {'value': 7.0, 'increase': 7.0})
    >>> points([total], [msgspec.structs.replace(total, value=9.0)], (), 6)[0].fields["increase"]
    2.0
    """
    known = {(one.name, one.labels): one for one in before}
    return [
        Point(
            MEASUREMENT,
            tuple(sorted((("name", one.name), *one.labels, *who))),
            _fields(known.get((one.name, one.labels)), one),
            t_ns,
        )
        for one in now
    ]


def _fields(before: Reading | None, now: Reading) -> dict[str, FieldValue]:
    if now.kind == "gauge":
        return {"value": now.value}
    if before is None or now.value < before.value:  # a counter that fell has begun again
        before = Reading(now.name, now.kind, now.labels, 0.0)
    fields: dict[str, FieldValue] = {"value": now.value, "increase": now.value - before.value}
    if now.kind == "histogram":
        told = dict(before.buckets)
        grown = [(bound, count - told.get(bound, 0.0)) for bound, count in now.buckets]
        found = {name: percentile(grown, share) for name, share in PERCENTILES.items()}
        fields |= {name: value for name, value in found.items() if value is not None}
    return fields


def percentile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return the value that a share of the observations does not exceed, as if each bucket were evenly filled.

    Parameters
    ----------
    buckets : sequence of (float, float)
        Upper bounds in ascending order, the last infinite, with how many were observed up to each.
    share : float
        Of 1; 0.5 is the median.

    Returns
    -------
    float or None
        None if nothing was observed; the largest finite bound for what lies beyond it.

    Examples
    --------
    >>> inf = float("inf")
    >>> percentile([(0.1, 50.0), (0.2, 100.0), (inf, 100.0)], 0.75)
    0.15
    >>> percentile([(0.1, 0.0), (inf, 4.0)], 0.5), percentile([(0.1, 0.0), (inf, 0.0)], 0.5)
    (0.1, None)
    """
    if not buckets or buckets[-1][1] <= 0.0:
        return None
    wanted = share * buckets[-1][1]
    for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *buckets]):
        if up_to >= wanted and up_to > below:
            part = (wanted - below) / (up_to - below)
            return low if high == float("inf") else round(low + part * (high - low), 9)
    return None
