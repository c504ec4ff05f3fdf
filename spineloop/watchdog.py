"""Watchdog: whether what a role needs answers, and the end of a delivery that hangs (E8). Engines watch themselves.

A question that raises Busy, or has no answer in time, makes a role not ready. It does not end it: the other side is
away, and a restart of ours would not bring it back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from adaptors.delivery import Delivery
from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters

LOOK_S = 1.0
"""Pause between two looks, in s."""

ANSWER_S = 3.0
"""Longest wait for all answers of one look, in s."""

_log = structlog.get_logger()

Question = Callable[[], Awaitable[object]]
"""Raises Busy while the one who is asked is away."""


class Needs:
    """What a role needs.

    Parameters
    ----------
    questions : callable
        Each asks one of the others whether it is there.

    Attributes
    ----------
    answer : bool
        Whether all of them answered the last time; not before the first time.
    """

    def __init__(self, *questions: Question) -> None:
        self.answer = False
        self._questions = questions

    async def ask(self) -> None:
        """Ask all of them once."""
        try:
            async with asyncio.timeout(ANSWER_S):
                for question in self._questions:
                    await question()
        except (Busy, TimeoutError):
            self.answer = False
        else:
            self.answer = True

    async def keep_asking(self) -> None:
        """Ask every second, until cancelled; what is wrong for good today, a password say, may be mended tomorrow."""
        try:
            while True:
                try:
                    await self.ask()
                except Exception as error:  # noqa: BLE001 - whoever asks must not end of it: nobody would be told again
                    self.answer = False
                    _log.warning("not ready", why=repr(error), retry_s=LOOK_S)
                await asyncio.sleep(LOOK_S)
        finally:
            self.answer = False


class Watched:
    """A delivery and who watches it.

    Parameters
    ----------
    delivery : Delivery
        What is watched.
    stall_s : float
        For how long it may have lag and neither deliver nor be refused, in s.
    meters : Meters
        Told the lag.
    needs : callable
        What it needs beside the log.
    """

    def __init__(self, delivery: Delivery, stall_s: float, meters: Meters, *needs: Question) -> None:
        self._delivery, self._stall_s, self._meters = delivery, stall_s, meters
        self._needs = Needs(self._look, *needs)
        self._lag = 0

    @property
    def ready(self) -> bool:
        """Whether it has its partitions, nothing refused what it did last, and all that it needs answers."""
        return self._delivery.ready and self._needs.answer

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; raise BrokenPromise when it hangs."""
        running = asyncio.create_task(self._delivery.run(stop))
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
            (watching if watching.done() else running).result()
        finally:
            for task in (running, watching):
                task.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)

    async def _watch(self) -> None:
        seen, since_s = -1, time.monotonic()
        while True:
            self._lag = 1  # if the log can't tell
            await self._needs.ask()
            progress = self._delivery.progress()
            if self._lag == 0 or progress != seen:
                seen, since_s = progress, time.monotonic()
            elif time.monotonic() - since_s > self._stall_s:
                raise BrokenPromise(
                    f"{self._delivery.group}: {self._lag} records of lag, no progress in {self._stall_s} s"
                )
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        self._lag = await self._delivery.lag()
        self._meters.set("spineloop_lag_records", self._lag, stage=self._delivery.group)
