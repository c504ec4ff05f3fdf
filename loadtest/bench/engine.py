"""Engine: a telemetry topic full of what machines say, and the control process that works it off."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from itertools import islice

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.account import differences
from loadtest.bench.lap import Lap, Unfinished, Watch
from loadtest.bench.processes import spawned
from loadtest.bench.report import Effort, Run
from loadtest.bench.stories import Said
from loadtest.bench.written import from_now
from loadtest.stack import Stack
from spineloop import wiring
from streams.checkpoint import State
from streams.core import codec
from streams.core.controller import Controller
from streams.core.records import Record
from streams.core.results import RepMeasured
from streams.core.telemetry import Rep
from streams.core.topics import CONTROLLER_STATE, DEAD_LETTER, METRIC, TELEMETRY
from streams.log import Log

MACHINES = 400
WARM_UP_MESSAGES = 20_000
MESSAGES, QUICK_MESSAGES = 60_000, 20_000
"""How many speak, and how much they say before a run: five minutes of a chain of clinics. Each run goes on where the
one before it ended; while the fleet warms up, so do the servers: its first minutes are without reps."""

APPENDED = 2_000
"""Records appended at a time while the topic is filled."""

BEFORE_MS = 7_200_000
"""How long ago the story began, in ms: longer than it lasts, because Kafka refuses times to come."""

LIMIT_S = 120.0
"""Longest wait in s until a checkpoint covers everything."""


async def engine(effort: Effort) -> AsyncGenerator[Run, None]:
    """Fill the topic, start the process, and watch its outputs and its checkpoints."""
    start_ms = wiring.wall_clock_ms() - BEFORE_MS
    story = stories.story(seed=1, machines=MACHINES, tenant="bench", start_ms=start_ms)
    async with stack.servers() as servers, wiring.open_log(servers.settings(), "bench") as log:
        warm_up = await _run(servers, log, list(islice(story, WARM_UP_MESSAGES)))
        if warm_up.void:
            yield warm_up
        for _ in range(effort.runs):
            yield await _run(servers, log, list(islice(story, QUICK_MESSAGES if effort.quick else MESSAGES)))


async def _run(servers: Stack, log: Log, said: Sequence[Said]) -> Run:
    metric, letters = await from_now(log, METRIC), await from_now(log, DEAD_LETTER)
    await _fill(log, said)
    async with spawned(servers.role("control")) as control:
        try:
            seen = await Watch(metric.count, {"control": control, "kafka": servers.log.process}).lap(
                Covered(log).at, LIMIT_S
            )
        except Unfinished as why:
            return Run({}, (str(why),))
    return Run(_figures(seen, said), why_void(said, await metric.records(), letters=await letters.count()))


async def _fill(log: Log, said: Sequence[Said]) -> None:
    for start in range(0, len(said), APPENDED):
        await log.append([stories.record(one) for one in said[start : start + APPENDED]])


class Covered:
    """Whether checkpoints cover the whole of the telemetry topic; asked in earnest once no more outputs come."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._outputs = -1

    async def at(self, outputs: int) -> bool:
        """Tell it, told how many outputs there are by now."""
        has_rested, self._outputs = outputs == self._outputs, outputs
        if not has_rested:
            return False
        states = await self._log.bounds(CONTROLLER_STATE)
        for number, (_, end) in (await self._log.bounds(TELEMETRY)).items():
            if await self._position(number, states[number][1]) < end:
                return False
        return True

    async def _position(self, number: int, end: int) -> int:
        """Read the position that the last checkpoint of a partition ends with."""
        state = State(Controller())
        async for records in self._log.read(CONTROLLER_STATE, number, max(0, end - 1)):
            state.join(records)
        return state.position


def why_void(said: Iterable[Said], found: Iterable[Record], *, letters: int = 0) -> tuple[str, ...]:
    """Say which reps were not measured, or more than once."""
    reps = [codec.message_id(one.machine, one.message) for one in said if isinstance(one.message, Rep)]
    metrics = [codec.decode_metric(record.value or b"") for record in found]
    wrong = differences(reps, (metric.cause for metric in metrics if isinstance(metric, RepMeasured)))
    return (*wrong, f"{letters} dead letters") if letters else wrong


def _figures(seen: Lap, said: Sequence[Said]) -> dict[str, float]:
    reps = [one.message.samples for one in said if isinstance(one.message, Rep)]
    return {
        "reps_per_s": len(reps) * seen.share / seen.seconds,
        "records_per_s": len(said) * seen.share / seen.seconds,
        **seen.figures(len(reps), "rep"),
        "records_per_rep": len(said) / len(reps),
        "outputs_per_rep": seen.last.count / len(reps),
        "samples_per_rep": sum(reps) / len(reps),
    }
