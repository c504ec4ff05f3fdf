"""Scenes: history away, the log away, a flood; each until everybody has caught up, and the books are balanced."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from loadtest import oracle
from loadtest.chaos import backlog, tally, tape
from loadtest.chaos.buttons import Buttons, Presses
from loadtest.chaos.eyes import CatchUp, Eyes, Heard, Moment
from loadtest.chaos.ground import WORKERS, Ground, beside, prepared
from loadtest.chaos.lags import CONTROL, GROUPS, HISTORY
from loadtest.chaos.tally import Tally
from loadtest.chaos.tape import Teller
from loadtest.disturbance import UNDISTURBED
from loadtest.fleet import Fleet, FleetSettings
from loadtest.kept import KeptOnDisk
from spineloop import wiring
from streams.core.topics import TELEMETRY
from streams.log import Log

LIMIT_MB = 512.0
"""What a process may hold."""

BEFORE_S = 15.0
"""How long all is well first, in s: to know what arrives, and how soon a STOP is answered."""

SETTLE_S = 900.0
"""Longest wait in s until everybody has caught up."""

REST_S = 120.0
"""Longest wait in s, once they have, for what is still on its way."""

LOOK_S = 0.5

CONNECTIONS = 2
"""Over which a tape is told: to the broker, and behind it, messages are all the same."""

TIMES = 10.0
"""How much more than usual a flood is."""

MACHINES, REPS_A_LAP = 250, 5_000


class Account(msgspec.Struct, kw_only=True):
    """What came of a scene.

    Parameters
    ----------
    seconds, rate : float
        How long it was so, and how many reps a second that stands for.
    said : int
        Messages, or records, that have to be found again.
    catch_up : mapping of str to CatchUp
        By group.
    highest_lag : mapping of str to int
        By group, in records.
    peak_MB, resident_MB : mapping of str to float
        By process; servers without and with the files that they map.
    stops : mapping of str to Presses
        By phase in which they were pressed.
    dropped, repaired : int
        Messages that mosquitto confirmed and did not keep, and those that machines were asked for again.
    ended : mapping of str to list of int
        Exit statuses of workers that ended by themselves.
    """

    scene: str
    seconds: float
    rate: float
    said: int
    catch_up: Mapping[str, CatchUp]
    highest_lag: Mapping[str, int]
    peak_MB: Mapping[str, float]
    resident_MB: Mapping[str, float]
    stops: Mapping[str, Presses]
    dropped: int
    repaired: int = 0
    ended: Mapping[str, list[int]]
    tally: Tally
    tails: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost or doubled, every STOP answered, nobody died, and nobody held too much."""
        is_answered = all(one.answered == one.pressed for one in self.stops.values())
        return is_answered and not (self.tally.findings or self.ended) and max(self.peak_MB.values()) <= LIMIT_MB


@dataclass(frozen=True, slots=True)
class Field:
    """All that a scene needs."""

    ground: Ground
    log: Log
    eyes: Eyes
    buttons: Buttons[Any]

    async def until_caught_up(self, arrival_per_s: Mapping[str, float], limit_s: float = SETTLE_S) -> None:
        """Wait until none of these groups is behind, or too long."""
        since_s = time.monotonic()

        async def is_done() -> bool:
            seen = bool(self.eyes.moments) and self.eyes.moments[-1].at_s > since_s
            return seen and not any(self.eyes.is_behind(group, per_s) for group, per_s in arrival_per_s.items())

        await _patiently(is_done, limit_s)

    async def arrival(self, groups: Sequence[str]) -> dict[str, float]:
        """Let all be well for a while; return how many records a second each of these groups gets."""
        await asyncio.sleep(BEFORE_S)
        since_s = time.monotonic()
        await asyncio.sleep(BEFORE_S)
        return {group: self.eyes.arrival_per_s(group, since_s) for group in groups}

    async def rest(self, groups: Sequence[str] = ()) -> None:
        """Press no more, and wait for what is on its way, until nobody is behind at all."""
        self.buttons.is_resting = True
        await self.until_caught_up(dict.fromkeys((*GROUPS, *groups), 0.0), REST_S)

        async def are_answered() -> bool:
            return not self.buttons.unanswered

        await _patiently(are_answered, REST_S)

    async def account(self, scene: str, seconds: float, rate: float, **more: Any) -> Account:  # noqa: ANN401
        """Put down what was seen."""
        ended = {name: worker.ended for name, worker in self.ground.workers.items() if worker.ended}
        account = Account(
            scene=scene,
            seconds=seconds,
            rate=rate,
            highest_lag=dict(self.eyes.highest),
            peak_MB=dict(sorted(self.eyes.peak_MB.items())),
            resident_MB=dict(sorted(self.eyes.resident_MB.items())),
            stops=self.buttons.told(),
            dropped=self.eyes.dropped,
            ended=ended,
            **more,
        )
        if not account.is_clean:
            account.tails = self.ground.stack.tails()
        return account


@asynccontextmanager
async def field(chosen: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[Field]:
    """Start everything, with somebody who presses buttons and somebody who looks."""
    async with (
        prepared(chosen, at_work=WORKERS, guests=(), is_disk_small=False) as ground,
        oracle.log_of(ground.stack) as log,
        await _connected(ground, "buttons") as hands,
        await _connected(ground, "broker-eyes") as ears,
    ):
        eyes, buttons = Eyes(ground, log), Buttons(hands)
        async with beside(eyes.watch(), eyes.hear(ears), buttons.press(), buttons.listen()):
            yield Field(ground, log, eyes, buttons)


def _connected(ground: Ground, name: str) -> Awaitable[Any]:
    return wiring.connect(ground.stack.settings(mqtt_url=ground.at_machines.url), name)()


class Scene(msgspec.Struct, frozen=True):
    """What is played, how long in s, and at how many reps a second, if nobody asks for anything else."""

    play: Callable[..., Coroutine[Any, Any, Account]]
    seconds: float
    rate: float


async def history_away(
    seed: int, seconds: float, rate: float, chosen: Mapping[str, str] = MappingProxyType({})
) -> Account:
    """InfluxDB is away while the metrics of so many seconds come; they are written at full speed, not waited for."""
    metrics = backlog.pool(tape.recorded(seed, MACHINES, REPS_A_LAP))
    per_s = rate * len(metrics) / REPS_A_LAP
    count = round(seconds * per_s)
    async with field(chosen) as on:
        await asyncio.sleep(BEFORE_S)
        await on.ground.servers["influxdb"].stop()
        on.buttons.phase = "away"
        now_ms = wiring.wall_clock_ms()
        await backlog.write(on.log, backlog.spread(metrics, count, now_ms - round(1_000 * seconds), now_ms))

        async def is_seen() -> bool:
            return on.eyes.highest[HISTORY] >= count

        await _patiently(is_seen, REST_S)
        on.buttons.phase = "catch-up"
        await on.ground.servers["influxdb"].start()
        back_s = time.monotonic()
        await on.until_caught_up({HISTORY: per_s})
        caught_up = {HISTORY: on.eyes.catch_up(HISTORY, back_s, per_s)}
        await on.rest()
        books = tally.in_history(await tally.reps_in_history(on.ground.stack), backlog.reps_among(metrics, count))
        return await on.account("history", seconds, rate, said=count, catch_up=caught_up, tally=books)


async def log_away(seed: int, seconds: float, rate: float, chosen: Mapping[str, str] = MappingProxyType({})) -> Account:
    """Kafka is away while machines go on: what they say is in mosquitto, as far as that has room, and in them."""
    async with field(chosen) as on, asyncio.TaskGroup() as tasks:
        settings = FleetSettings(
            machines=max(20, round(rate)),
            seed=seed,
            run=f"outage-{seed}",
            reps_per_s=rate,
            max_s=seconds + SETTLE_S + 120.0,
            finish_s=REST_S,
            rates=UNDISTURBED,
        )
        at_machines = on.ground.stack.settings(mqtt_url=on.ground.at_machines.url)
        kept = KeptOnDisk(on.ground.stack.folder / "machines.sqlite")
        fleet: Fleet[Any] = Fleet(settings, wiring.machine_connect(at_machines), now_ms=wiring.wall_clock_ms, kept=kept)
        heard = Heard(on.log, fleet.ledger.published)
        on.eyes.also = heard.lag
        training = tasks.create_task(fleet.run())
        arrival = await on.arrival((TELEMETRY, CONTROL, HISTORY))
        kafka = on.ground.servers["kafka"]
        on.buttons.phase = "away"
        await kafka.kill()
        await asyncio.sleep(seconds)
        on.buttons.phase = "catch-up"
        await kafka.start()
        back_s = time.monotonic()
        on.eyes.moments.append(Moment(back_s, heard.missing()))  # the next look may find half of it done
        await on.until_caught_up(arrival)
        fleet.finish()
        await training
        await on.rest((TELEMETRY,))
        said = {name: kind == "rep" for name, kind in fleet.ledger.published.items()}
        return await on.account(
            "log",
            seconds,
            rate,
            said=len(said),
            catch_up={group: on.eyes.catch_up(group, back_s, per_s) for group, per_s in arrival.items()},
            repaired=len(fleet.ledger.duplicated),
            tally=await oracle.retried(lambda: tally.tallied(on.log, on.ground.stack, said)),
        )


async def flood(seed: int, seconds: float, rate: float, chosen: Mapping[str, str] = MappingProxyType({})) -> Account:
    """Ten times as many reps a second as `rate`, then `rate` again."""
    cues = tape.recorded(seed, MACHINES, REPS_A_LAP)
    async with field(chosen) as on, await _connected(on.ground, "tape-0") as one:
        async with await _connected(on.ground, "tape-1") as other:
            teller = Teller(tape.laps(cues), tape.over((one, other)))
            teller.reps_per_s = rate
            async with beside(teller.run()):
                arrival = await on.arrival((CONTROL, HISTORY))
                on.buttons.phase, teller.reps_per_s, reps = "flood", TIMES * rate, teller.reps
                await asyncio.sleep(seconds)
                reps, teller.reps_per_s = teller.reps - reps, rate
                on.buttons.phase, over_s = "catch-up", time.monotonic()
                await on.until_caught_up(arrival)
                teller.reps_per_s = 0.0
                await on.rest()
        return await on.account(
            "flood",
            seconds,
            reps / seconds,
            said=len(teller.said),
            catch_up={group: on.eyes.catch_up(group, over_s, per_s) for group, per_s in arrival.items()},
            tally=await oracle.retried(lambda: tally.tallied(on.log, on.ground.stack, teller.said)),
        )


SCENES: Mapping[str, Scene] = {
    "history": Scene(history_away, 1_800.0, 1_000.0),
    "log": Scene(log_away, 300.0, 60.0),
    "flood": Scene(flood, 60.0, 100.0),
}


async def _patiently(is_done: Callable[[], Awaitable[bool]], limit_s: float) -> None:
    """Wait; what does not come in time is found missing in the books."""
    try:
        async with asyncio.timeout(limit_s):
            while not await is_done():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        return
