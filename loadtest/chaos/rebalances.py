"""Rebalances: a worker joins and leaves again and again; how long is a partition silent each time?"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest import oracle
from loadtest.bench.written import from_now
from loadtest.chaos import tape
from loadtest.chaos.ground import Ground, Group, beside, prepared
from loadtest.chaos.lags import CONTROL, lags
from loadtest.chaos.tape import Teller
from streams.core.topics import METRIC
from streams.log import Log

AT_WORK: Group = (("control", 0), ("control", 1))
GUESTS: Group = (("control", 2),)
"""Controllers alone: it is their partitions that are shared out, and nobody else has to be fed."""

GUEST = "control-2"

LOOK_S = 0.05

WARM_UP_S = 15.0

MACHINES, REPS_A_LAP = 250, 5_000

AIM_S = 3.0
"""No partition may be silent for longer, in s."""


class Report(msgspec.Struct, kw_only=True):
    """What came of it.

    Parameters
    ----------
    seed, rate, each_s
        As asked for: reps a second, and the time in s from one coming or going to the next.
    told_per_s, metrics_per_s : float
        Reps that were written into the log in a second, and records of any kind that came out as metrics.
    lag : int
        Messages that nobody had dealt with at the end.
    quiet_s : float
        Longest silence in s of the same length of time without a rebalance: what the load itself brings.
    silences_s : sequence of float
        Longest silence of any partition in s, for each rebalance in turn; comings and goings alternate.
    """

    seed: int
    rate: float
    each_s: float
    rebalances: int
    told_per_s: float
    metrics_per_s: float
    lag: int
    quiet_s: float
    silences_s: Sequence[float]

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


async def run(seed: int, rebalances: int, rate: float, each_s: float, *, instances: bool) -> Report:
    """Force so many rebalances of the controllers while `rate` reps a second come in."""
    chosen = {} if instances else {"instance": ""}
    cues = tape.recorded(seed, MACHINES, REPS_A_LAP)
    async with prepared(chosen, at_work=AT_WORK, guests=GUESTS) as ground, oracle.log_of(ground.stack) as log:
        ears, teller = Ears(log), Teller(tape.laps(cues), tape.into_log(log))
        teller.reps_per_s = rate
        async with beside(teller.run(), ears.listen()):
            await asyncio.sleep(WARM_UP_S)
            ears.take()
            await asyncio.sleep(each_s)
            quiet_s = ears.take()
            metric, reps, start_s = await from_now(log, METRIC), teller.reps, time.monotonic()
            silences_s = [await _one(ground, ears, each_s) for _ in range(rebalances)]
            seconds = time.monotonic() - start_s
            return Report(
                seed=seed,
                rate=rate,
                each_s=each_s,
                rebalances=rebalances,
                told_per_s=round((teller.reps - reps) / seconds, 1),
                metrics_per_s=round(await metric.count() / seconds, 1),
                lag=(await lags(log, ground.stack.log.address))[CONTROL].records,
                quiet_s=quiet_s,
                silences_s=silences_s,
            )


async def _one(ground: Ground, ears: Ears, each_s: float) -> float:
    """Let the guest come or go, and listen until `each_s` after it has: to start takes long beside so much work."""
    guest = ground.workers[GUEST]
    if guest.is_wanted:
        await guest.stop()
    else:
        guest.is_wanted = True
        await ground.answer()
    await asyncio.sleep(each_s)
    return ears.take()
