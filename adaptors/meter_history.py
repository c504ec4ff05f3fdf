"""Meter history: writes the meters of this process into history now and then. It fails softly: nothing waits for it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from adaptors.meter_points import Labels, Reading, points
from adaptors.points import Point, Rejected
from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters

LAST_S = 2.0
"""Longest time in s for the last word of a process that has been told to stop; it has 10 s for everything."""

_log = structlog.get_logger()


class Sink(Protocol):
    """Keeps points."""

    async def write(self, points: Sequence[Point]) -> Sequence[Rejected]:
        """Store points; return those that are refused. Raises Busy, and BrokenPromise where a setting is wrong."""


class MeterHistory:
    """Writes what the meters say.

    What could not be written is not lost: the next points tell how much a counter grew since the last ones that were.

    Parameters
    ----------
    sink : Sink
        Where the points go.
    read : callable
        Reads every meter of this process.
    who : tuple of (str, str)
        Tags of this process.
    meters : Meters
        Counts what the sink refused (`spineloop_busy_total` of the component `meters`).
    now_ns : callable
        The wall clock, in ns since 1970.
    """

    def __init__(
        self,
        sink: Sink,
        read: Callable[[], Sequence[Reading]],
        who: Labels,
        meters: Meters,
        *,
        now_ns: Callable[[], int],
    ) -> None:
        self._sink, self._read, self._who, self._meters, self._now_ns = sink, read, who, meters, now_ns
        self._written: Sequence[Reading] = ()
        self._refused = False

    async def run(self, stop: asyncio.Event, every_s: float) -> None:
        """Write every so many seconds until `stop` is set, and once more then."""
        while not stop.is_set():
            await self.write()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.write()

    async def write(self) -> None:
        """Write once; what goes wrong is counted, and told when it begins and when it is over."""
        now = self._read()
        try:
            rejected = await self._sink.write(points(self._written, now, self._who, self._now_ns()))
        except (Busy, BrokenPromise) as error:
            self._note(str(error))
            return
        self._written = now
        self._note(rejected[0].detail if rejected else None)

    def _note(self, why: str | None) -> None:
        if why is not None:
            self._meters.count("spineloop_busy_total", component="meters")
        if (why is not None) != self._refused:
            self._refused = why is not None
            if self._refused:
                _log.warning("meters are not in history", why=why)
            else:
                _log.info("meters are in history again")
