"""Lap: the time between two looks at a count that grows, and what each process spent in between."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

LOOK_S = 0.05
"""Pause between two looks in s: the end of a lap is seen so much too late at most, 2 % of one of three seconds."""

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")

Count = Callable[[], Awaitable[int]]
IsDone = Callable[[int], Awaitable[bool]]


class Look(msgspec.Struct, frozen=True):
    """What was seen at one moment: the time in s, the count, and the CPU time spent so far by each process, in s."""

    at_s: float
    count: int
    cpu_s: Mapping[str, float]
    machine_s: float


class Lap(msgspec.Struct, frozen=True):
    """Two looks: when the count had begun to grow, and when all was done. Peak memory of each process, in MB."""

    first: Look
    last: Look
    peak_MB: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.last.at_s - self.first.at_s

    @property
    def count(self) -> int:
        """How much the count grew."""
        return self.last.count - self.first.count

    def figures(self, number: float, of: str) -> dict[str, float]:
        """Return CPU time per message and peak memory of each process, and how busy others kept the machine meanwhile.

        Parameters
        ----------
        number : float
            How many messages the lap stands for.
        of : str
            What they are, in the singular.
        """
        spent_s = {name: self.last.cpu_s[name] - self.first.cpu_s[name] for name in self.last.cpu_s}
        others_s = self.last.machine_s - self.first.machine_s - sum(spent_s.values())
        return {
            **{f"{name}_cpu_us_per_{of}": 1e6 * cpu_s / number for name, cpu_s in spent_s.items()},
            **{f"{name}_cpu_pct": 100.0 * cpu_s / self.seconds for name, cpu_s in spent_s.items()},
            **{f"{name}_peak_rss_MB": peak_MB for name, peak_MB in self.peak_MB.items()},
            "others_cpu_pct": 100.0 * others_s / self.seconds,
        }


async def lap(count: Count, is_done: IsDone, processes: Mapping[str, int], limit_s: float) -> Lap:
    """Look until the count has begun to grow, and then until all is done; raises TimeoutError after `limit_s`.

    Parameters
    ----------
    count : callable
        Messages done so far, from 0.
    is_done : callable
        Told the count, says whether that is all.
    processes : mapping of str to int
        Ids of the processes to watch, by name.
    """
    async with asyncio.timeout(limit_s):
        while (first := await _look(count, processes)).count == 0:
            await asyncio.sleep(LOOK_S)
        last = first
        while not await is_done(last.count):
            await asyncio.sleep(LOOK_S)
            last = await _look(count, processes)
    return Lap(first, last, {name: peak_MB(pid) for name, pid in processes.items()})


async def _look(count: Count, processes: Mapping[str, int]) -> Look:
    seen = await count()
    return Look(time.monotonic(), seen, {name: cpu_s(pid) for name, pid in processes.items()}, machine_s())


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its threads have spent, in s, to 10 ms.

    Examples
    --------
    >>> cpu_s(os.getpid()) > 0.0
    True
    """
    # the name, in brackets, may hold spaces; user and system time are fields 14 and 15, the state after it is field 3
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def machine_s() -> float:
    """Return the CPU time that all processes of the machine have spent since it started, in s, over all cores."""
    user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text(encoding="utf-8").split()[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) * _TICK_S


def peak_MB(pid: int) -> float:
    """Return the most memory that a process has held so far (its resident set), in MB.

    Examples
    --------
    >>> peak_MB(os.getpid()) > 5.0
    True
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1_024 / 1e6
