"""Latency: from a rep or a stop button at a machine to the command that it leads to, and where each ms goes.

A story of a thousand machines is told in real time at three rates, all of it prepared beforehand, so that whoever tells
it has time to look at the clock. Machines of their own press the stop button in between, one every 100 ms.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import count, takewhile
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from loadtest import stack
from loadtest.bench import stories
from loadtest.bench.account import differences
from loadtest.bench.contenders import Covered
from loadtest.bench.end_to_end import Whole
from loadtest.bench.lap import LOOK_S, Lap, TooSlow, Unfinished, Watch
from loadtest.bench.observer import observing, trace_id
from loadtest.bench.report import Effort, Run
from loadtest.bench.stamps import Stamps, spread
from loadtest.bench.stories import Said
from loadtest.bench.waterfall import draw
from loadtest.bench.written import from_now
from loadtest.live_machine import stream_of
from loadtest.tempo import CYCLE_S
from spineloop import wiring
from streams.core import codec
from streams.core.controller import Controller
from streams.core.records import header
from streams.core.telemetry import ButtonPressed, Rep, Telemetry
from streams.core.topics import DEAD_LETTER, TELEMETRY, mqtt_topic

MACHINES = 1_000
NATURAL_REPS_PER_S = 80.0
"""What so many machines bring when they take the time that they take."""

RATES = {"low": 40.0, "natural": NATURAL_REPS_PER_S, "medium": 200.0}
"""Reps in a second; each has 2.7 other messages beside it."""

MEASURED_S, QUICK_MEASURED_S = 40.0, 10.0
SETTLING_S = 3.0
"""Told at each rate before it counts, in s."""

STOP_EVERY_S = 0.1
WINDOW = 500
"""Messages told at a time while the fleet warms up."""

LIMIT_S = 60.0
"""Longest wait in s until the beginning of the story has been worked off."""

PLAN = "/plan"
"""End of the ids that the planner's own messages in the telemetry topic have; no machine said them."""


class Ready(msgspec.Struct, frozen=True):
    """A message, as bytes, with when it is due in s of the story, and its name for the account."""

    topic: str
    payload: bytes
    at_s: float
    kind: str
    name: str
    trace: str


async def latency(effort: Effort) -> AsyncGenerator[Run, None]:
    """Tell the story at each rate, with stop buttons between, and look when what came of it."""
    measured_s = QUICK_MEASURED_S if effort.quick else MEASURED_S
    async with (
        stack.servers() as servers,
        stack.roles(servers) as roles,
        wiring.open_log(servers.settings(), "bench") as log,
        wiring.open_history(servers.settings()) as history,
        await wiring.connect(servers.settings(), "bench-machines")() as machines,
    ):
        told = Telling(Whole(servers, roles, log, history), machines)
        listening = asyncio.create_task(told.listen())
        await machines.subscribe(["spineloop/v1/bench/+/+/command"])
        story = prepared(stories.story(seed=1, machines=MACHINES, tenant="bench", spread_s=CYCLE_S))
        await told.warm_up(list(takewhile(lambda one: one.at_s < CYCLE_S, story)))
        for number in range(effort.runs):
            yield await told.run(story, f"b{number}", measured_s, effort.plots if number == effort.runs - 1 else None)
        listening.cancel()
        await asyncio.wait({listening})


def prepared(story: Iterator[Said]) -> Iterator[Ready]:
    """Encode a story."""
    return (ready(one.machine, one.message, one.at_ms * 1e-3) for one in story)


def ready(machine: str, message: Telemetry, at_s: float) -> Ready:
    """Encode a message and give it a trace."""
    name = codec.message_id(machine, message)
    kind = {Rep: "rep", ButtonPressed: "stop"}.get(type(message), "other")
    topic, trace = mqtt_topic(machine, stream_of(message)), blake2b(name.encode(), digest_size=16).hexdigest()
    return Ready(topic, codec.encode(message), at_s, kind, name, trace)


def with_stops(timed: Sequence[Ready], boot: str, length_s: float) -> Sequence[Ready]:
    """Put the stop buttons of machines of their own in between."""
    stops = (
        ready(
            f"bench/site-2/{boot}-{n:04d}",
            ButtonPressed(boot_id="b", seq=0, t_us=n, button="stop"),
            n * STOP_EVERY_S,
        )
        for n in count()
    )
    return sorted([*timed, *takewhile(lambda one: one.at_s < length_s, stops)], key=lambda one: one.at_s)


class Message(Protocol):
    """A command as the broker delivers it."""

    @property
    def user_properties(self) -> Sequence[tuple[str, str]]:
        """Names and values that travel beside the payload."""


M = TypeVar("M", bound=Message)


class Machines(Protocol[M]):
    """The connection of all machines."""

    async def publish(self, topic: str, payload: bytes, *, user_properties: Sequence[tuple[str, str]] = ()) -> bool:
        """Publish with QoS 1 and return when the broker has it."""

    async def receive(self, limit: int) -> Sequence[M]:
        """Return what has come, at least one and at most `limit` messages."""

    def ack(self, batch: Sequence[M]) -> None:
        """Acknowledge what was received."""


class Telling(Generic[M]):
    """All machines on one connection, and what came of what they said."""

    def __init__(self, whole: Whole, machines: Machines[M]) -> None:
        self._whole, self._machines = whole, machines
        self._stamps = Stamps()
        self._unheard = 0

    async def listen(self) -> None:
        """Receive commands."""
        while True:
            batch = await self._machines.receive(100)
            now_ns = time.time_ns()
            for message in batch:
                self._stamps.note(trace_id(dict(message.user_properties).get("traceparent", "")), "received", now_ns)
            self._machines.ack(batch)

    async def warm_up(self, messages: Sequence[Ready]) -> None:
        """Tell the beginning as fast as it goes, and wait until the controller is through with it."""
        for start in range(0, len(messages), WINDOW):
            await asyncio.gather(*(self._say(one) for one in messages[start : start + WINDOW]))
        covered = Covered(self._whole.log, Controller())
        try:
            async with asyncio.timeout(LIMIT_S):
                while not await covered.at(0):
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise TooSlow(f"the warm-up was not done within {LIMIT_S:g} s") from None

    async def run(self, story: Iterator[Ready], boot: str, measured_s: float, plots: str | None) -> Run:
        """Tell on, at one rate after the other."""
        figures: dict[str, float] = {}
        void: list[str] = []
        hops: dict[str, dict[str, list[float]]] = {}
        for rate, reps_per_s in RATES.items():
            stretch = self._stretch(story, reps_per_s / NATURAL_REPS_PER_S, f"{boot}-{rate}", measured_s)
            try:
                found, wrong = await self.told(stretch, measured_s)
            except Unfinished as why:
                return Run({}, (str(why),))
            figures |= {f"{rate}_{name}": value for name, value in found.items()}
            void += [f"{rate}: {one}" for one in wrong]
            hops |= {f"{rate}, {kind}": self._stamps.hops_ms(kind) for kind in ("rep", "stop")}
        if plots is not None:
            await asyncio.to_thread(draw, hops, Path(plots) / "latency.svg")
        return Run(figures, tuple(void))

    def _stretch(self, story: Iterator[Ready], speed: float, boot: str, measured_s: float) -> Sequence[Ready]:
        """Cut off the next piece of the story, at its rate, and put the stop buttons in."""
        first = next(story)
        length_s = SETTLING_S + measured_s
        piece = [first, *takewhile(lambda one: (one.at_s - first.at_s) / speed < length_s, story)]
        timed = [msgspec.structs.replace(one, at_s=(one.at_s - first.at_s) / speed) for one in piece]
        return with_stops(timed, boot, length_s)

    async def told(self, stretch: Sequence[Ready], measured_s: float) -> tuple[dict[str, float], tuple[str, ...]]:
        """Tell a piece, each message when it is due; return figures, and what makes them void. Raises Unfinished."""
        self._stamps = Stamps()
        telemetry, letters = await from_now(self._whole.log, TELEMETRY), await from_now(self._whole.log, DEAD_LETTER)
        loop = asyncio.get_running_loop()
        told = 0

        async def number() -> int:
            return told

        watch = Watch(number, self._whole.children, own="machines")
        first = None
        async with observing(self._whole.servers.log.address, self._stamps):
            async with asyncio.TaskGroup() as saying:
                start_s = loop.time() + 0.1
                for one in stretch:
                    await asyncio.sleep(max(0.0, start_s + one.at_s - loop.time()))
                    is_measured = one.at_s >= SETTLING_S
                    if is_measured and first is None:
                        first = await watch.look()
                    saying.create_task(self._say(one, is_measured=is_measured))
                    told += one.kind == "rep"
            last = await watch.look()
            await self._answered()
        names = [one.name for one in stretch]
        there = [header(one, "ce_id") or "" for one in await telemetry.records()]
        wrong = [*differences(names, (name for name in there if not name.endswith(PLAN)))]
        amiss = {
            "dead letters": await letters.count(),
            "stops without a command": self._stamps.missing("stop", "received"),
            "stops without a command in the log": self._stamps.missing("stop", "decided"),
        }
        wrong += [f"{amount} {what}" for what, amount in amiss.items() if amount]
        if first is None:
            raise Unfinished("the story ended before it began")
        return self._figures(watch.between(first, last), measured_s), tuple(wrong)

    async def _say(self, one: Ready, *, is_measured: bool = False) -> None:
        if is_measured:
            self._stamps.begin(one.trace, one.kind, time.time_ns())
        properties = [("traceparent", f"00-{one.trace}-{one.trace[:16]}-01")]
        await self._machines.publish(one.topic, one.payload, user_properties=properties)
        self._stamps.note(one.trace, "acknowledged", time.time_ns())

    async def _answered(self) -> None:
        """Wait until every stop has its command, or as long as it may take at all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while self._stamps.missing("stop", "received") or self._stamps.missing("stop", "decided"):
                    await asyncio.sleep(LOOK_S)

    def _figures(self, seen: Lap, measured_s: float) -> dict[str, float]:
        stamps = self._stamps
        reps = seen.last.count - seen.first.count
        found = {
            "rep_to_command": stamps.spans_ms("rep", "sent", "received"),
            "stop": stamps.spans_ms("stop", "sent", "received"),
            "stop_in_the_log": stamps.spans_ms("stop", "sent", "decided"),
            "rep_to_metric": stamps.spans_ms("rep", "sent", "measured"),
            "rep_to_puback": stamps.spans_ms("rep", "sent", "acknowledged"),
        }
        hops = {f"{kind}_{hop}": ms for kind in ("rep", "stop") for hop, ms in stamps.hops_ms(kind).items()}
        told = seen.figures(max(1, reps), "rep")
        return {
            "reps_per_s": reps / measured_s,
            **{name: value for which, ms in found.items() for name, value in spread(which, ms).items()},
            **{
                name: value
                for which, ms in hops.items()
                for name, value in spread(which, ms, {"p50": 0.5, "p99": 0.99}).items()
                if not name.endswith("_n")
            },
            **{name: value for name, value in told.items() if name.endswith(("_pct", "_peak_rss_MB"))},
        }
