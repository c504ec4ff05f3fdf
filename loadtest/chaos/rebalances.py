"""Rebalances: a worker joins and leaves again and again; how long is a partition silent each time?"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest import oracle
from loadtest.chaos.ground import Ground, prepared
from loadtest.fleet import Fleet, FleetSettings
from spineloop import wiring
from streams.core.topics import METRIC
from streams.log import Log

GUEST = "control-2"

EACH_S = 6.0
"""Time in s for one rebalance, from one coming or going to the next."""

LOOK_S = 0.05

WARM_UP_S = 15.0

AIM_S = 3.0
"""No partition may be silent for longer, in s."""


class Report(msgspec.Struct, kw_only=True):
    """Longest silence of any partition in s, for each rebalance in turn; comings and goings alternate."""

    seed: int
    rate: float
    rebalances: int
    quiet_s: float
    """Longest silence of the same length of time without a rebalance: what the load itself brings."""
    silences_s: Sequence[float]
    reps: int

    @property
    def longest_s(self) -> float:
        """The figure of the promise."""
        return max(self.silences_s)

    def write(self, path: Path) -> None:
        """Write it down as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


class Ears:
    """Listens to every partition of the metric topic, and knows how long each has said nothing."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ends: dict[int, tuple[int, float]] = {}
        self.longest_s = 0.0

    async def listen(self) -> None:
        """Listen for ever."""
        while True:
            for number, (_, end) in (await self._log.bounds(METRIC)).items():
                now_s = time.monotonic()
                before, since_s = self._ends.get(number, (-1, now_s))
                self.longest_s = max(self.longest_s, now_s - since_s)
                if end != before:
                    self._ends[number] = (end, now_s)
            await asyncio.sleep(LOOK_S)

    def take(self) -> float:
        """Return the longest silence in s since the last call, of one that goes on what it has reached."""
        longest_s, self.longest_s = self.longest_s, 0.0
        return round(longest_s, 2)


async def run(seed: int, rebalances: int, rate: float, **chosen: str) -> Report:
    """Force so many rebalances of the controllers while a fleet brings `rate` reps a second."""
    async with prepared(None, **chosen) as ground, oracle.log_of(ground.stack) as log:
        settings = FleetSettings(
            machines=max(40, round(rate / 2)),
            seed=seed,
            run=f"rebalances-{seed}",
            reps_per_s=rate,
            max_s=WARM_UP_S + (rebalances + 3) * EACH_S + 60.0,
        )
        at_machines = ground.stack.settings(mqtt_url=ground.at_machines.url)
        fleet: Fleet[Any] = Fleet(settings, wiring.machine_connect(at_machines), now_ms=wiring.wall_clock_ms)
        ears = Ears(log)
        training, listening = asyncio.create_task(fleet.run()), asyncio.create_task(ears.listen())
        try:
            await asyncio.sleep(WARM_UP_S)
            ears.take()
            await asyncio.sleep(EACH_S)
            quiet_s = ears.take()
            silences_s = [await _one(ground, ears) for _ in range(rebalances)]
        finally:
            listening.cancel()
            fleet.finish()
            await asyncio.gather(training, listening, return_exceptions=True)
    return Report(
        seed=seed,
        rate=rate,
        rebalances=rebalances,
        quiet_s=quiet_s,
        silences_s=silences_s,
        reps=fleet.ledger.reps_published,
    )


async def _one(ground: Ground, ears: Ears) -> float:
    guest, start_s = ground.workers[GUEST], time.monotonic()
    if guest.is_wanted:
        await guest.stop()
    else:
        guest.is_wanted = True
    await asyncio.sleep(max(0.0, EACH_S - (time.monotonic() - start_s)))
    return ears.take()
