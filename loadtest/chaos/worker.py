"""Worker: one process of a role, and the orchestrator that starts it again whenever it has ended."""

import asyncio
import signal
import time
from collections.abc import Callable

from loadtest.bench.processes import peak_bytes, private_bytes
from loadtest.child import Child, Program

PAUSE_S = 0.5
"""Pause in s before a process that ended is started again, as an orchestrator does."""


class Worker:
    """A role that should run, or should not.

    Attributes
    ----------
    is_wanted : bool
        Whether it should run now.
    ended : list of int
        Exit statuses of those that ended without being killed by us.
    peak_bytes : int
        Most memory that any of its processes was seen to hold, in bytes.
    """

    def __init__(self, program: Program, *, is_wanted: bool = True) -> None:
        self.child = Child(program)
        self.is_wanted = is_wanted
        self.ended: list[int] = []
        self.peak_bytes = 0
        self._is_ours = False
        self._ended_s = -PAUSE_S

    @property
    def name(self) -> str:
        """Its role and number."""
        return self.child.program.name

    def look(self) -> None:
        """Start it if it should run and does not; note what it holds if it does."""
        if self.child.is_running:
            self.peak_bytes = max(self.peak_bytes, peak(self.child.pid))
            self._ended_s = time.monotonic()
        elif self.is_wanted and time.monotonic() - self._ended_s >= PAUSE_S:
            self._note_end()
            self.child.launch()

    async def kill(self) -> None:
        """Kill it, once it runs if it was just about to be started again; true to life, nobody is told."""
        while not self.child.is_running:
            await asyncio.sleep(PAUSE_S)
        self._is_ours = True
        await self.child.kill()

    def tell(self, what: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self.child.is_running:
            self.child.tell(what)

    async def stop(self) -> None:
        """Let it drain and go."""
        self.is_wanted = False
        self.tell(signal.SIGCONT)
        if self.child.has_started:
            await self.child.stop()
            self._is_ours = self.child.status == -signal.SIGTERM  # told before it could listen

    def _note_end(self) -> None:
        if self.child.has_started and not self._is_ours and self.child.status:
            self.ended.append(self.child.status)
        self._is_ours = False


def peak(pid: int) -> int:
    """Return the most memory that a process has held so far, in bytes; 0 if it is gone."""
    return _seen(peak_bytes, pid)


def private(pid: int) -> int:
    """Return the memory that a process holds now without the files that it maps, in bytes; 0 if it is gone."""
    return _seen(private_bytes, pid)


def _seen(look: Callable[[int], int], pid: int) -> int:
    try:
        return look(pid)
    except (OSError, IndexError):  # it ended while we looked
        return 0
