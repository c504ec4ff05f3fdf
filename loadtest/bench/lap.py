"""Lap: the time between two looks at a count that grows, and what each process spent in between."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from loadtest.bench.processes import cpu_s, machine_cpu_s, peak_bytes

LOOK_S = 0.05
"""Pause between two looks in s; so much too late the end of a lap is seen at most, 2 % of one of 2.5 s."""

Count = Callable[[], Awaitable[int]]
IsDone = Callable[[int], Awaitable[bool]]


class Look(msgspec.Struct, frozen=True):
    """What was seen at one moment: the time, the count, and the CPU time so far, of each process and of everything."""

    at_s: float
    count: int
    cpu_s: Mapping[str, float]
    machine_cpu_s: float


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
        """Return CPU time and peak memory of each process, and how busy others kept the machine meanwhile.

        Parameters
        ----------
        number : float
            How many messages there were in all.
        of : str
            What they are, in the singular.
        """
        spent_s = {name: self.last.cpu_s[name] - self.first.cpu_s[name] for name in self.last.cpu_s}
        others_s = self.last.machine_cpu_s - self.first.machine_cpu_s - sum(spent_s.values())
        return {
            **{f"{name}_cpu_us_per_{of}": 1e6 * one_s / (number * self.share) for name, one_s in spent_s.items()},
            **{f"{name}_cpu_pct": 100.0 * one_s / self.seconds for name, one_s in spent_s.items()},
            **{f"{name}_peak_rss_MB": peak / 1e6 for name, peak in self.peak_bytes.items()},
            "others_cpu_pct": 100.0 * others_s / self.seconds,
        }


async def lap(count: Count, is_done: IsDone, processes: Mapping[str, int], limit_s: float) -> Lap:
    """Look until the count has begun to grow, and then until all is done; raises TimeoutError after `limit_s`.

    Parameters
    ----------
    count : callable
        Messages done so far, from 0.
    is_done : callable
        Told the count of the last look, says whether that is all.
    processes : mapping of str to int
        Ids of the processes to watch, by name.
    """
    async with asyncio.timeout(limit_s):
        while (first := await look(count, processes)).count == 0:
            await asyncio.sleep(LOOK_S)
        last = first
        while not await is_done(last.count):
            await asyncio.sleep(LOOK_S)
            last = await look(count, processes)
    return Lap(first, last, {name: peak_bytes(pid) for name, pid in processes.items()})


async def look(count: Count, processes: Mapping[str, int]) -> Look:
    """Look once."""
    seen = await count()
    return Look(time.monotonic(), seen, {name: cpu_s(pid) for name, pid in processes.items()}, machine_cpu_s())
