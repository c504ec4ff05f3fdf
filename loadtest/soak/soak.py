"""The soak itself: controller, planner and history in one process on an embedded log that is pruned behind them.

The source waits for history, so that nothing ever lies further behind than `IN_FLIGHT` reps; the log keeps four days of
its own time, which are more than that. History's points are counted and dropped: where they go is another program.
"""

import asyncio
import gc
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from loadtest.bench import stories
from loadtest.bench.report import Host, host
from loadtest.bench.stories import Said
from loadtest.soak import source
from loadtest.soak.memory import Sample, growth_pct, in_use, rss_bytes
from spineloop import wiring
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from streams.core.topics import DEAD_LETTER
from streams.log import Log

MACHINES, HOURS = 30, 0.75
"""What a day consists of: some 5,000 reps, in sessions that do not go in step."""

IN_FLIGHT = 4_000
"""Reps that history has not got yet, at which the source waits."""

APPENDED = 500
"""Messages that are put into the log together."""

KEPT_MS = 4 * source.DAY_MS
"""How long the log keeps anything, in its own time."""

SAMPLES = 200
"""How often memory is looked at, at most; at the end of a day, when no session goes on."""

WARM_UP = 0.1
"""Share of the reps after which it counts."""

MOST_PCT = 1.0
"""Growth from there to the end, in %, at which the soak has failed."""

LINES = 25
"""Lines of code that are named if Python's allocations are traced."""


class Soaked(msgspec.Struct, frozen=True):
    """What a soak found.

    `reps` were said, and `measured` came out: as many, if nothing was lost or doubled. `points` counts what history
    got, by measurement; `notices` what the controller had to remark; `log_bytes` is what its files hold at the end.
    `growth_pct` is that of the resident set, which decides; the two after it say whether what is in use grows as well.
    """

    seed: int
    host: Host
    reps: int
    messages: int
    measured: int
    dead_letters: int
    points: dict[str, int]
    notices: dict[str, int]
    took_s: float
    cpu_s: float
    log_bytes: int
    growth_pct: float
    blocks_growth_pct: float
    malloc_growth_pct: float
    samples: list[Sample]
    grown: list[str]

    @property
    def is_good(self) -> bool:
        """Whether everything was measured once, and memory did not grow."""
        return self.measured == self.reps and not self.dead_letters and self.growth_pct < MOST_PCT

    def write(self, path: Path) -> None:
        """Write it down as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


class Passage:
    """What has been said and what has arrived; the history of the soak, which only counts.

    Parameters
    ----------
    recorded : sequence of Said
        The day that is told again and again.
    reps : int
        How many are to be said at least; the last day is said to its end.
    told : callable
        Hears of each look at the memory.
    is_traced : bool
        Compare Python's allocations after warm-up and at the end, too.
    """

    def __init__(
        self, recorded: Sequence[Said], reps: int, told: Callable[[Sample], None], *, is_traced: bool = False
    ) -> None:
        self.samples: list[Sample] = []
        self.points: Counter[str] = Counter()
        self.notices: Counter[str] = Counter()
        self.said_reps = self.messages = self.at_ms = 0
        self.grown: list[str] = []
        self._recorded, self._wanted, self._told = recorded, reps, told
        self._is_traced = is_traced
        self._before: tracemalloc.Snapshot | None = None
        self._news = asyncio.Event()
        self._start_s = time.monotonic()

    async def write(self, points: Sequence[Any]) -> Sequence[Any]:
        """Count points; none is refused."""
        for point in points:
            self.points[point.measurement] += 1
            if point.measurement == "notice":
                self.notices[dict(point.tags)["name"]] += 1
        self._news.set()
        return ()

    async def ping(self) -> None:
        """Be there."""

    def now_ms(self) -> int:
        """Tell the time of the log: that of the last message."""
        return self.at_ms

    async def feed(self, log: Log) -> None:
        """Say everything, and wait until it has arrived."""
        for day in source.days(self._recorded):
            for start in range(0, len(day), APPENDED):
                await self._say(log, day[start : start + APPENDED])
            if self.said_reps >= len(self.samples) * self._wanted / SAMPLES:
                await self._arrived(self.said_reps)  # what is on its way, or goes on, differs from hour to hour
                self._look()
            if self.said_reps >= self._wanted:
                break
        await self._arrived(self.said_reps)
        if self._before is not None:
            compared = tracemalloc.take_snapshot().compare_to(self._before, "lineno")
            self.grown = [str(line) for line in compared[:LINES]]

    async def _say(self, log: Log, piece: Sequence[Said]) -> None:
        await self._arrived(self.said_reps - IN_FLIGHT)
        self.said_reps += source.reps_of(piece)
        self.messages += len(piece)
        self.at_ms = piece[-1].at_ms
        await log.append([stories.record(one) for one in piece])

    async def _arrived(self, reps: int) -> None:
        while self.points["rep"] < reps:
            self._news.clear()
            await self._news.wait()

    def _look(self) -> None:
        """Look at the memory; of what waits for the collector of garbage none is in use."""
        gc.collect()
        at_s = round(time.monotonic() - self._start_s, 1)
        self.samples.append(Sample(self.said_reps, rss_bytes(), at_s, *in_use()))
        self._told(self.samples[-1])
        if self._is_traced and self._before is None and self.said_reps > WARM_UP * self._wanted:
            self._before = tracemalloc.take_snapshot()


async def run(reps: int, seed: int, told: Callable[[Sample], None], *, is_traced: bool = False) -> Soaked:
    """Let at least so many reps through, in whole days."""
    if is_traced:
        tracemalloc.start()
    recorded = source.day(seed, MACHINES, HOURS)
    passage = Passage(recorded, reps, told, is_traced=is_traced)
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    with TemporaryDirectory() as name:
        async with wiring.open_short_log(Path(name), KEPT_MS, passage.now_ms) as log:
            await _let_through(log, passage)
            letters = sum(end for _, end in (await log.bounds(DEAD_LETTER)).values())
            log_bytes = await asyncio.to_thread(_size, Path(name))
    warm = [one for one in passage.samples if one.reps >= WARM_UP * passage.said_reps]
    return Soaked(
        seed=seed,
        host=host(),
        reps=passage.said_reps,
        messages=passage.messages,
        measured=passage.points["rep"],
        dead_letters=letters,
        points=dict(passage.points),
        notices=dict(passage.notices),
        took_s=round(time.monotonic() - start_s, 1),
        cpu_s=round(time.process_time() - start_cpu_s, 1),
        log_bytes=log_bytes,
        growth_pct=growth_pct(warm),
        blocks_growth_pct=growth_pct(warm, "blocks"),
        malloc_growth_pct=growth_pct(warm, "malloc_bytes"),
        samples=passage.samples,
        grown=passage.grown,
    )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def _let_through(log: Log, passage: Passage) -> None:
    settings, meters, stop = Settings.read({}), Exposition(), asyncio.Event()
    roles = (
        wiring.control(settings, log, meters),
        wiring.plan(settings, log, meters),
        wiring.history(settings, log, passage, meters),
    )
    async with asyncio.TaskGroup() as tasks:
        for role in roles:
            tasks.create_task(role.run(stop), name=role.name)
        await passage.feed(log)
        stop.set()
