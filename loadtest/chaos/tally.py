"""Tally: what was said against what came of it, by name: in the log, measured, in history."""

from collections.abc import AsyncIterator, Iterable, Mapping

import aiohttp
import msgspec

from loadtest.bench.queries import Influx
from loadtest.stack import Stack
from streams.core import codec
from streams.core.records import header
from streams.core.results import RepMeasured
from streams.core.topics import COMMAND, METRIC, TELEMETRY
from streams.log import Log

NAMED = 3
"""How many of the lost and doubled are named."""


class Tally(msgspec.Struct, frozen=True):
    """How much was lost or doubled, and where, with some names."""

    lost: int = 0
    doubled: int = 0
    findings: tuple[str, ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        """Put two together."""
        return Tally(self.lost + other.lost, self.doubled + other.doubled, self.findings + other.findings)


def lost(where: str, wanted: Iterable[str], found: Iterable[str]) -> Tally:
    """Name what is missing.

    Examples
    --------
    >>> lost("log", ["a", "b"], ["b"])
    Tally(lost=1, doubled=0, findings=('1 not in the log: a',))
    """
    missing = sorted(set(wanted).difference(found))
    told = (f"{len(missing)} not in the {where}: {', '.join(missing[:NAMED])}",) if missing else ()
    return Tally(lost=len(missing), findings=told)


def in_history(found: int, wanted: int) -> Tally:
    """Compare two numbers of reps.

    Examples
    --------
    >>> in_history(found=3, wanted=2)
    Tally(lost=0, doubled=1, findings=('3 of 2 reps in history',))
    """
    told = (f"{found} of {wanted} reps in history",) if found != wanted else ()
    return Tally(lost=max(0, wanted - found), doubled=max(0, found - wanted), findings=told)


async def tallied(log: Log, stack: Stack, said: Mapping[str, bool]) -> Tally:
    """Look for everything that was said; whether it is a rep, `said` tells by its name.

    A message may stand in the log twice, and an output too, as long as its bytes are the same.
    """
    heard: set[str] = set()
    async for name, _ in _named(log, TELEMETRY):
        heard.add(name)
    measured: set[str] = set()
    forms: dict[str, bytes] = {}
    differing: set[str] = set()
    for topic in (METRIC, COMMAND):
        async for name, value in _named(log, topic):
            if forms.setdefault(name, value) != value:
                differing.add(name)
            if topic == METRIC and isinstance(metric := codec.decode_metric(value), RepMeasured):
                measured.add(metric.cause)
    told = (f"{len(differing)} in other bytes: {', '.join(sorted(differing)[:NAMED])}",) if differing else ()
    reps = {name for name, is_rep in said.items() if is_rep}
    return (
        lost("log", said, heard)
        + lost("metric topic", reps, measured)
        + Tally(doubled=len(differing), findings=told)
        + in_history(await reps_in_history(stack), len(measured))
    )


async def named_in_history(stack: Stack, machines: Iterable[str]) -> list[str]:
    """Return the names (`machine/boot/seq`) of the reps of these machines in history, as often as they stand there."""
    names: list[str] = []
    async with aiohttp.ClientSession() as session:
        influx = Influx(session, stack.history.url)
        for machine in machines:
            tenant, site, name = machine.split("/")
            place = f"tenant = '{tenant}' AND site = '{site}' AND machine = '{name}'"
            for one in await influx.ask(f'SELECT "boot_id", "seq" FROM "raw"."rep" WHERE {place}'):  # noqa: S608 - ours
                names += [f"{machine}/{boot_id}/{seq}" for _, boot_id, seq in one["values"]]
    return names


async def reps_in_history(stack: Stack) -> int:
    """Count the points of reps by one field that each of them has: all fields of millions would take minutes."""
    async with aiohttp.ClientSession() as session:
        series = await Influx(session, stack.history.url).ask('SELECT COUNT("load_N") FROM "raw"."rep"')
    return sum(int(one["values"][0][1]) for one in series)


async def _named(log: Log, topic: str) -> AsyncIterator[tuple[str, bytes]]:
    for number in await log.bounds(topic):
        async for records in log.read(topic, number):
            for record in records:
                yield header(record, "ce_id") or "", record.value or b""
