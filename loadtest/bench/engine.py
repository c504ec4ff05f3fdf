"""Engine: a telemetry topic full of what machines say, and who works it off: our control process, and peers beside it.

In each run the same records of the same broker are worked off by each contender in turn, alone: first by those that run
the controller with every metric and rule; then, from another broker and more of them, by those whose stage is empty: it
puts out 200 bytes for each record and counts it.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from itertools import chain, islice

import msgspec

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.contenders import Contender, controllers, empties
from loadtest.bench.lap import Lap, Unfinished, Watch
from loadtest.bench.processes import spawned
from loadtest.bench.report import Effort, Run
from loadtest.bench.stories import Said
from loadtest.bench.written import from_now
from loadtest.stack import Stack
from spineloop import wiring
from streams.core.telemetry import Rep
from streams.core.topics import DEAD_LETTER, METRIC
from streams.log import Log

MACHINES = 400
WARM_UP_MESSAGES = 20_000
MESSAGES, QUICK_MESSAGES = 40_000, 12_000
"""How many speak, and how much they say before a run: minutes of a chain of clinics. Each run goes on where the one
before it ended; while the fleet warms up, so do the servers: its first minutes are without reps."""

TIMES, QUICK_TIMES = 5, 2
"""How often those with the empty stage get the warm-up's messages in a run, under other ids: else they were done at
once."""

APPENDED = 2_000
"""Records appended at a time while the topic is filled."""

BEFORE_MS = 7_200_000
"""How long ago the story began, in ms: longer than it lasts, because Kafka refuses times to come."""

LIMIT_S = 120.0
"""Longest wait in s until one contender is done with a run."""

RATIOS: Mapping[str, tuple[str, str]] = {
    "ratio_to_faust": ("ours", "faust"),
    "ratio_to_quix": ("ours", "quix"),
    "ratio_to_quix_empty": ("ours", "quix_empty"),
    "ratio_to_bare": ("ours_empty", "bare"),
    "empty_ratio_to_faust": ("ours_empty", "faust_empty"),
    "empty_ratio_to_quix": ("ours_empty", "quix_empty"),
}
"""Records a second of the one, divided by those of the other. Against the empty stage on Quix ours has all its work;
the last two hold engine against engine, without what all have to compute."""


async def engine(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill the topic, let one after the other work it off, and compare how long they took."""
    start_ms = wiring.wall_clock_ms() - BEFORE_MS
    story = stories.story(seed=1, machines=MACHINES, tenant="bench", start_ms=start_ms)
    beginning = list(islice(story, WARM_UP_MESSAGES))
    pieces = [beginning, *(list(islice(story, _messages(effort))) for _ in range(effort.runs))]
    full = [run async for run in _runs(controllers, pieces)]
    times = QUICK_TIMES if effort.quick else TIMES
    again = [list(chain(*(_once_more(beginning, f"{run}-{n}") for n in range(times)))) for run in range(effort.runs)]
    empty = [run async for run in _runs(empties, [beginning, *again])]
    for one, other in zip(full, empty, strict=True):
        void = (*one.void, *other.void)
        figures = {**one.figures, **other.figures}
        yield Run({} if void else _ratios(figures) | figures, void)


def _messages(effort: Effort) -> int:
    return QUICK_MESSAGES if effort.quick else MESSAGES


def _once_more(said: Sequence[Said], boot_id: str) -> Sequence[Said]:
    return [msgspec.structs.replace(one, message=msgspec.structs.replace(one.message, boot_id=boot_id)) for one in said]


async def _runs(
    contenders: Callable[[Stack], Sequence[Contender]], pieces: Sequence[Sequence[Said]]
) -> AsyncGenerator[Run, None]:
    """Let contenders hear one piece after the other, on servers of their own; the first one is for warming up."""
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        everybody = Everybody(servers, log, contenders(servers))
        warm_up = await everybody.run(pieces[0])
        for piece in pieces[1:]:
            run = await everybody.run(piece)
            yield Run(run.figures, (*warm_up.void, *run.void))


class Everybody:
    """All contenders, each with states of its own, at the same end of the same topic."""

    def __init__(self, servers: Stack, log: Log, contenders: Sequence[Contender]) -> None:
        self._servers, self._log, self._contenders = servers, log, contenders

    async def run(self, said: Sequence[Said]) -> Run:
        """Let each of them hear what was said."""
        for start in range(0, len(said), APPENDED):
            await self._log.append([stories.record(one) for one in said[start : start + APPENDED]])
        figures: dict[str, float] = {}
        void: list[str] = []
        for each in self._contenders:
            try:
                found, wrong = await self._lap(each, said)
            except Unfinished as why:
                return Run({}, (f"{each.name}: {why}",))
            figures |= {f"{each.name}_{name}": value for name, value in found.items()}
            void += [f"{each.name}: {one}" for one in wrong]
        return Run(figures, tuple(void))

    async def _lap(self, who: Contender, said: Sequence[Said]) -> tuple[Mapping[str, float], tuple[str, ...]]:
        metric, letters = await from_now(self._log, METRIC), await from_now(self._log, DEAD_LETTER)
        async with who.watching(self._log, len(said)) as is_done, spawned(who.program) as worker:
            children = {"worker": worker, "kafka": self._servers.log.process}
            seen = await Watch(metric.count, children).lap(is_done, LIMIT_S)
        wrong = who.wrong(said, await metric.records())
        if number := await letters.count():
            wrong = (*wrong, f"{number} dead letters")
        return _figures(seen, said), wrong


def _figures(seen: Lap, said: Sequence[Said]) -> dict[str, float]:
    reps = _reps(said)
    told = seen.figures(reps, "rep")
    return {
        "reps_per_s": reps * seen.share / seen.seconds,
        "records_per_s": len(said) * seen.share / seen.seconds,
        "cpu_us_per_rep": told["worker_cpu_us_per_rep"],
        "cpu_us_per_record": told["worker_cpu_us_per_rep"] * reps / len(said),
        "kafka_cpu_us_per_record": told["kafka_cpu_us_per_rep"] * reps / len(said),
        "others_cpu_pct": told["others_cpu_pct"],
        "peak_rss_MB": told["worker_peak_rss_MB"],
        "records_per_rep": len(said) / reps,
    }


def _ratios(figures: Mapping[str, float]) -> dict[str, float]:
    by_rate = {
        name: figures[f"{one}_records_per_s"] / figures[f"{other}_records_per_s"]
        for name, (one, other) in RATIOS.items()
    }
    by_cpu = {
        f"cpu_{name}": figures[f"{other}_cpu_us_per_record"] / figures[f"{one}_cpu_us_per_record"]
        for name, (one, other) in RATIOS.items()
    }
    return by_rate | by_cpu


def _reps(said: Sequence[Said]) -> int:
    return sum(isinstance(one.message, Rep) for one in said)
