"""Processes: what one has spent so far, CPU time and memory, as the kernel counts it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from loadtest.child import Child, Program

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its threads have spent, in s, to 10 ms.

    Examples
    --------
    >>> cpu_s(os.getpid()) > 0.0
    True
    """
    # the name, in brackets, may hold spaces; the state behind it is field 3, user and system time are 14 and 15
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


class MachineTime(msgspec.Struct, frozen=True):
    """CPU time that the machine has spent since it started, over all cores, in s.

    `interrupts_s` went into interrupts, most of them of the network; a kernel may count it to no process. `stolen_s`
    is what a hypervisor gave to others.
    """

    processes_s: float
    interrupts_s: float
    stolen_s: float


def machine_time() -> MachineTime:
    """Read the machine's time."""
    told = [int(each) * _TICK_S for each in Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]]
    user, nice, system, _, _, irq, softirq, stolen = told
    return MachineTime(user + nice + system, irq + softirq, stolen)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has held so far (its resident set), in bytes.

    Examples
    --------
    >>> peak_bytes(os.getpid()) > 5_000_000
    True
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1_024


def private_bytes(pid: int) -> int:
    """Return the memory that a process holds now without files that are mapped into it, in bytes.

    A database maps its files; what of them is in memory counts to its resident set, and the kernel takes it back when
    anybody else needs room.

    Examples
    --------
    >>> 5_000_000 < private_bytes(os.getpid()) <= peak_bytes(os.getpid())
    True
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kinds = ("RssAnon:", "RssShmem:")
    return sum(int(status.partition(kind)[2].split()[0]) for kind in kinds) * 1_024


def last_words(child: Child) -> str:
    """Return the last line that a process has logged."""
    lines = child.program.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing logged"


@asynccontextmanager
async def spawned(program: Program) -> AsyncIterator[Child]:
    """Run a program as long as the block, which begins before the program answers: its first message counts, too."""
    child = Child(program)
    answering = asyncio.create_task(child.start())
    await asyncio.sleep(0)  # it has its process id as soon as it was given its first turn
    try:
        yield child
        await answering
    finally:
        await asyncio.wait({answering})  # it ends when the program answers, fails, or has taken too long
        await child.stop()
