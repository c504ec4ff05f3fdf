"""Watchdog: a delivery that hangs ends its process (E8), and a stall becomes a restart. Engines watch themselves."""

import asyncio
import time
from contextlib import suppress

from adaptors.delivery import Delivery
from streams.core.errors import BrokenPromise, Busy
from streams.core.meters import Meters

LOOK_S = 1.0
"""Pause between two looks, in s."""


async def watched(delivery: Delivery, stop: asyncio.Event, stall_s: float, meters: Meters) -> None:
    """Run a delivery until `stop` is set; raise BrokenPromise if it has lag and neither delivers nor is refused."""
    running = asyncio.create_task(delivery.run(stop))
    watching = asyncio.create_task(_watch(delivery, stall_s, meters))
    try:
        await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        (watching if watching.done() else running).result()
    finally:
        for task in (running, watching):
            task.cancel()
        await asyncio.gather(running, watching, return_exceptions=True)


async def _watch(delivery: Delivery, stall_s: float, meters: Meters) -> None:
    seen, since_s = -1, time.monotonic()
    while True:
        await asyncio.sleep(LOOK_S)
        lag = 1  # if the log can't tell
        with suppress(Busy):
            lag = await delivery.lag()
            meters.set("spineloop_lag_records", lag, stage=delivery.group)
        progress = delivery.progress()
        if lag == 0 or progress != seen:
            seen, since_s = progress, time.monotonic()
        elif time.monotonic() - since_s > stall_s:
            raise BrokenPromise(f"{delivery.group}: {lag} records of lag, no progress in {stall_s} s")
