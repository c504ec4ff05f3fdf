"""Faults: what can break, how often, for how long; `FAULTS` is their table of contents, a schedule a draw from it."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import msgspec

from loadtest.chaos.ground import SERVER_OF, WORKERS, Ground
from loadtest.child import DidNotStart
from loadtest.clocks import MOST_MS

PAUSE_S = (0.5, 3.0)
"""Shortest and longest time in s between the beginnings of two faults."""

SAVE_S = 30.0
"""Longest wait in s until mosquitto has saved what it holds."""

SLOW_S = 0.05
"""How long a slow connection holds back each piece, in s."""


CLOCKS = 5
"""One machine in so many has its clock set at a time."""

JUMP_S = MOST_MS / 1_000


class Blow(msgspec.Struct, frozen=True):
    """One fault of a schedule: when in s, what, to whom, and for how long in s; a clock, by how much."""

    at_s: float
    fault: str
    target: str
    for_s: float

    def told(self) -> str:
        """Say it in one line.

        Examples
        --------
        >>> Blow(2.5, "cut", "log", 1.25).told()
        'at   2.5 s: cut log, 1.2 s'
        """
        return f"at {self.at_s:5.1f} s: {self.fault} {self.target}" + (f", {self.for_s:.1f} s" if self.for_s else "")


Act = Callable[[Ground, Blow], Awaitable[None]]


class Fault(msgspec.Struct, frozen=True):
    """A kind of fault: what it does, whom it can meet, for how long in s, and its weight among the others."""

    act: Act
    targets: Sequence[str]
    for_s: tuple[float, float] = (0.0, 0.0)
    weight: float = 1.0
    kills: bool = False


async def kill_worker(ground: Ground, blow: Blow) -> None:
    """SIGKILL; the orchestrator starts it again."""
    await ground.workers[blow.target].kill()


async def freeze_worker(ground: Ground, blow: Blow) -> None:
    """SIGSTOP, and SIGCONT when others may have taken its place."""
    worker = ground.workers[blow.target]
    worker.tell(signal.SIGSTOP)
    await asyncio.sleep(blow.for_s)
    worker.tell(signal.SIGCONT)


async def kill_server(ground: Ground, blow: Blow) -> None:
    """SIGKILL, away for a while, and back with the same data."""
    server = ground.servers[blow.target]
    await server.kill()
    await asyncio.sleep(blow.for_s)
    await server.start()


async def freeze_server(ground: Ground, blow: Blow) -> None:
    """SIGSTOP: connections stay, nothing answers."""
    server = ground.servers[blow.target]
    server.tell(signal.SIGSTOP)
    await asyncio.sleep(blow.for_s)
    server.tell(signal.SIGCONT)


async def restart_broker(ground: Ground, _: Blow) -> None:
    """SIGTERM and start: it saves what it holds, so nothing may be lost."""
    await ground.servers["mosquitto"].restart()


async def crash_broker(ground: Ground, blow: Blow) -> None:
    """SIGKILL of mosquitto, just after it has saved and before anybody could say more.

    What it took since its last save dies with it: that is not promised (docs/reliability.md), so it is not tested. What
    it had saved comes back, also to those who had acknowledged it meanwhile.
    """
    links = [ground.links[name] for name, server in SERVER_OF.items() if server == "mosquitto"]
    server, saved = ground.servers["mosquitto"], ground.broker.folder / "mosquitto.db"
    for link in links:
        link.cut()
    try:
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        server.tell(signal.SIGUSR1)
        async with asyncio.timeout(SAVE_S):
            while not saved.exists() or saved.stat().st_mtime_ns == before:
                await asyncio.sleep(0.02)
        await server.kill()
        await asyncio.sleep(blow.for_s)
        await server.start()
    finally:
        for link in links:
            link.mend()


async def cut(ground: Ground, blow: Blow) -> None:
    """Reset all connections of a link, and new ones too."""
    ground.links[blow.target].cut()
    await asyncio.sleep(blow.for_s)
    ground.links[blow.target].mend()


async def slow(ground: Ground, blow: Blow) -> None:
    """Hold back every piece of every connection of a link."""
    ground.links[blow.target].slow_s = SLOW_S
    await asyncio.sleep(blow.for_s)
    ground.links[blow.target].mend()


async def fill_disk(ground: Ground, blow: Blow) -> None:
    """Leave no room for history, then do what an operator must: make room, and restart it twice with nobody writing.

    After a write that found no room InfluxDB 1.6.7 refuses all others until it is restarted. The first start cuts off
    what was half written, but goes on writing behind the place where it ended; what it then confirms, the next start
    does not find. Only a second start begins at the right place (all measured).
    """
    link, server = ground.links["history"], ground.servers[blow.target]
    await ground.disk.fill()
    try:
        await asyncio.sleep(blow.for_s)
        link.cut()
    finally:
        await ground.disk.free()
    try:
        for _ in range(2):
            await server.restart()
    finally:
        link.mend()


async def step_clocks(ground: Ground, blow: Blow) -> None:
    """Set the clocks of some machines, all by as much: back if it is negative."""
    for machine in ground.clocks.machines[int(blow.target.rpartition("-")[2]) :: CLOCKS]:
        ground.clocks.step(machine, round(1_000 * blow.for_s))


_EVERYBODY = tuple(f"{role}-{number}" for role, number in WORKERS)

FAULTS: Mapping[str, Fault] = {
    "kill": Fault(kill_worker, _EVERYBODY, weight=12.0, kills=True),
    "freeze": Fault(freeze_worker, _EVERYBODY, (0.5, 9.0), weight=4.0),
    "kill-server": Fault(kill_server, ("kafka", "influxdb"), (0.0, 2.0), weight=1.0, kills=True),
    "freeze-server": Fault(freeze_server, ("mosquitto", "kafka", "influxdb"), (0.3, 3.0)),
    "restart-broker": Fault(restart_broker, ("mosquitto",)),
    "crash-broker": Fault(crash_broker, ("mosquitto",), (0.0, 1.0), kills=True),
    "cut": Fault(cut, tuple(SERVER_OF), (0.1, 2.0), weight=3.0),
    "slow": Fault(slow, tuple(SERVER_OF), (1.0, 4.0)),
    "full-disk": Fault(fill_disk, ("influxdb",), (1.0, 5.0)),
    "step-clocks": Fault(step_clocks, tuple(f"clocks-{number}" for number in range(CLOCKS)), (-JUMP_S, JUMP_S)),
}


def schedule(seed: int, seconds: float, kills: int | None = None) -> Sequence[Blow]:
    """Draw the faults of so many seconds: each kind once, in any order, and then by weight.

    They come every few seconds, or, if a number of kills is given, evenly and as many as it takes for so many kills.

    Examples
    --------
    >>> blows = schedule(7, 60.0)
    >>> blows == schedule(7, 60.0), {blow.fault for blow in blows} == set(FAULTS), max(blow.at_s for blow in blows) < 60
    (True, True, True)
    >>> blows = schedule(7, 3_000.0, kills=200)
    >>> sum(FAULTS[blow.fault].kills for blow in blows), blows == schedule(7, 3_000.0, kills=200)
    (200, True)
    """
    dice = random.Random(seed)
    if kills is None:
        return tuple(_drawn(dice, seconds))
    whats = list(_until_killed(dice, kills))
    each_s = seconds / len(whats)
    return tuple(_blow(dice, what, (place + dice.random()) * each_s) for place, what in enumerate(whats))


def _drawn(dice: random.Random, seconds: float) -> Iterator[Blow]:
    whats = _whats(dice)
    at_s = dice.uniform(*PAUSE_S)
    while at_s < seconds:
        yield _blow(dice, next(whats), at_s)
        at_s += dice.uniform(*PAUSE_S)


def _until_killed(dice: random.Random, kills: int) -> Iterator[str]:
    """Draw until there are so many kills."""
    for what in _whats(dice):
        kills -= FAULTS[what].kills
        yield what
        if kills <= 0:
            return


def _whats(dice: random.Random) -> Iterator[str]:
    first = list(FAULTS)
    dice.shuffle(first)
    yield from first
    while True:
        yield dice.choices(list(FAULTS), [fault.weight for fault in FAULTS.values()])[0]


def _blow(dice: random.Random, what: str, at_s: float) -> Blow:
    fault = FAULTS[what]
    return Blow(round(at_s, 3), what, dice.choice(fault.targets), round(dice.uniform(*fault.for_s), 3))


class Strikes:
    """Lets the faults of a schedule happen; two never meet one server, link or worker at a time.

    Attributes
    ----------
    done : list of Blow
        What has happened so far.
    failed : list of str
        What could not be made to happen, and why; the others go on.
    """

    def __init__(self, ground: Ground) -> None:
        self.done: list[Blow] = []
        self.failed: list[str] = []
        self._ground = ground
        self._busy: set[str] = set()
        self._changed = asyncio.Condition()

    async def run(self, blows: Sequence[Blow]) -> None:
        """Let them happen, each at its time or as soon as its target has recovered from the one before."""
        start_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for blow in blows:
                await asyncio.sleep(start_s + blow.at_s - asyncio.get_running_loop().time())
                tasks.create_task(self._strike(blow))

    async def _strike(self, blow: Blow) -> None:
        target = SERVER_OF.get(blow.target, blow.target)
        async with self._changed:
            await self._changed.wait_for(lambda: target not in self._busy)
            self._busy.add(target)
        try:
            await FAULTS[blow.fault].act(self._ground, blow)
            self.done.append(blow)
        except (DidNotStart, OSError) as error:  # a TimeoutError is one
            self.failed.append(f"{blow.told()}: {error!r}")
        finally:
            self._busy.discard(target)
            async with self._changed:
                self._changed.notify_all()
