"""Outbox: what a machine has to say, by the moment at which it may be said. It outlives connections."""

import asyncio
import heapq

from streams.core.telemetry import Telemetry

MAX_WAITING = 10_000
"""Messages that wait in one machine: a day of training. When it is full, the machine waits too."""

EARLY_S = 0.001
"""How much too early, in s, still is in time: the event loop rounds its timers to that."""


class Outbox:
    """Messages in the order of their moments; one task puts them in and one takes them out.

    Parameters
    ----------
    max_waiting : int
        Messages that wait before it is full.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int, Telemetry]] = []
        self._count = self._in_hand = 0
        self._is_hurried = self._has_ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._empty = asyncio.Event()
        self._room.set()
        self._empty.set()

    def __len__(self) -> int:
        """Messages that were not said yet."""
        return len(self._waiting) + self._in_hand

    def put(self, message: Telemetry, at_s: float) -> None:
        """Add a message that may be said at this time of the event loop, in s, and after all that may be said before.

        Times are rounded to us, so that what comes at one moment keeps its order.
        """
        heapq.heappush(self._waiting, (round(at_s, 6), self._count, message))
        self._count += 1
        self._empty.clear()
        if len(self._waiting) >= self._max_waiting:
            self._room.clear()
        if at_s > self._loop.time():
            self._loop.call_at(at_s, self._changed.set)
        else:
            self._idle.clear()
        self._changed.set()

    async def next(self) -> Telemetry | None:
        """Take the next message, when its time has come; None after the last one. What was taken before is said."""
        self._in_hand = 0
        while True:
            if self._waiting and (self._is_hurried or self._waiting[0][0] <= self._loop.time() + EARLY_S):
                self._in_hand = 1
                self._idle.clear()
                self._room.set()
                return heapq.heappop(self._waiting)[2]
            self._idle.set()
            if not self._waiting:
                self._empty.set()
                if self._has_ended:
                    return None
            self._changed.clear()
            await self._changed.wait()

    @property
    def is_full(self) -> bool:
        """Whether whoever puts in has to wait."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until it is not full."""
        await self._room.wait()

    async def idle(self) -> bool:
        """Wait until nothing is due, so that nothing has to wait for what is put in now; tell whether it goes on."""
        await self._idle.wait()
        return not self._has_ended

    async def empty(self) -> None:
        """Wait until everything is said."""
        await self._empty.wait()

    def hurry(self) -> None:
        """Let nothing wait for its moment any more, only for its turn."""
        self._is_hurried = True
        self._changed.set()

    def end(self) -> None:
        """Say that nothing more will be put in."""
        self._has_ended = True
        self._changed.set()
