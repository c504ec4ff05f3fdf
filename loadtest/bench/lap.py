"""Lap: the time between two looks at a count that grows, and what each process spent in between."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from loadtest.bench.processes import MachineTime, cpu_s, last_words, machine_time, peak_bytes
from loadtest.child import Child

LOOK_S = 0.05
"""Pause between two looks in s; so much too late the end of a lap is seen at most, 2 % of one of 2.5 s."""

Count = Callable[[], Awaitable[int]]
IsDone = Callable[[int], Awaitable[bool]]


class Unfinished(Exception):
    """A process ended before all was done; the message says which."""


class TooSlow(Exception):
    """The time was over before all was done: nothing is known to be lost, and nothing was measured."""


class Look(msgspec.Struct, frozen=True):
    """What was seen at one moment: the time, the count, and the CPU time so far, of each process and of the machine."""

    at_s: float
    count: int
    cpu_s: Mapping[str, float]
    machine: MachineTime


class Lap(msgspec.Struct, frozen=True):
    """Two looks, when the count had begun to grow and when all was done, and each process's peak memory in bytes."""

    first: Look
    last: Look
    peak_bytes: Mapping[str, int]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.last.at_s - self.first.at_s

    @property
    def share(self) -> float:
        """Share of the whole count that fell into it; what was there at the first look did not."""
        return 1.0 - self.first.count / self.last.count

    def figures(self, number: float, of: str) -> dict[str, float]:
        """Return CPU time and peak memory of each process, and what else the machine was busy with meanwhile.

        Parameters
        ----------
        number : float
            How many messages there were in all.
        of : str
            What they are, in the singular.
        """
        spent_s = {name: self.last.cpu_s[name] - self.first.cpu_s[name] for name in self.last.cpu_s}
        before, after = self.first.machine, self.last.machine
        apart_s = {
            "others": max(0.0, after.processes_s - before.processes_s - sum(spent_s.values())),
            "interrupts": after.interrupts_s - before.interrupts_s,
            "stolen": after.stolen_s - before.stolen_s,
        }
        return {
            **{f"{name}_cpu_us_per_{of}": 1e6 * one_s / (number * self.share) for name, one_s in spent_s.items()},
            **{f"{name}_cpu_pct": 100.0 * one_s / self.seconds for name, one_s in (spent_s | apart_s).items()},
            **{f"{name}_peak_rss_MB": peak / 1e6 for name, peak in self.peak_bytes.items()},
        }


class Watch:
    """Looks at a count and at the processes that make it grow.

    Parameters
    ----------
    count : callable
        Messages done so far, from 0.
    children : mapping of str to Child
        The processes to watch, by name.
    own : str
        Name of this process, which is watched, too.
    """

    def __init__(self, count: Count, children: Mapping[str, Child], own: str = "bench") -> None:
        self._count, self._children = count, children
        self._pids = {name: child.pid for name, child in children.items()} | {own: os.getpid()}

    async def lap(self, is_done: IsDone, limit_s: float) -> Lap:
        """Look until the count has begun to grow, and then until all is done.

        Parameters
        ----------
        is_done : callable
            Told the count of the last look, says whether that is all.
        limit_s : float
            How long to go on at most, in s.

        Raises
        ------
        Unfinished
            A process ended.
        TooSlow
            The time was over.
        """
        try:
            async with asyncio.timeout(limit_s):
                while (first := await self.look()).count == 0:
                    await asyncio.sleep(LOOK_S)
                last = first
                while not await is_done(last.count):
                    await asyncio.sleep(LOOK_S)
                    last = await self.look()
        except TimeoutError:
            raise TooSlow(f"not all was done within {limit_s:g} s") from None
        return self.between(first, last)

    async def look(self) -> Look:
        """Look once. Raises Unfinished."""
        for name, child in self._children.items():
            if not child.is_running:
                raise Unfinished(f"{name} has ended: {last_words(child)}")
        seen = await self._count()
        spent_s = {name: cpu_s(pid) for name, pid in self._pids.items()}
        return Look(time.monotonic(), seen, spent_s, machine_time())

    def between(self, first: Look, last: Look) -> Lap:
        """Make a lap of two looks."""
        return Lap(first, last, {name: peak_bytes(pid) for name, pid in self._pids.items()})
