"""Fleet: simulated machines on a real broker, in real time, bounded in reps and in time."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Generic

import msgspec

from loadtest.clocks import Clocks
from loadtest.disturbance import UNDISTURBED, Disturbance, Rates
from loadtest.kept import Kept
from loadtest.link import Connect, Link, M
from loadtest.live_machine import Barrier, LiveMachine
from loadtest.machine import Machine
from loadtest.outbox import MAX_WAITING
from loadtest.roster import assemble
from loadtest.tempo import CYCLE_S, Tempo
from loadtest.timings import Timings
from loadtest.truth import Ledger
from loadtest.visit import Habits
from streams.core.codec import Encoding

MAX_CONNECTING = 50
"""Machines that connect at a time: a broker that has just restarted meets no more."""

FINISH_S = 30.0
"""Longest time, in s, from the end of a run until every machine has said its last word."""

WATCH_S = 0.05
"""Pause between two looks at the count and the clock."""


class FleetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which fleet, how fast, and until when.

    Parameters
    ----------
    machines : int
        How many machines the fleet has.
    part, parts : int
        Which part of them this process plays, 0 to `parts - 1`.
    seed : int
        Decides everything that is left to chance.
    tenant, run : str
        Whose machines; and a name for boot ids, different for runs that share a log.
    speed : float
        Simulated seconds in a second.
    reps_per_s : float, optional
        Reps in a second that this part of the fleet shall bring; then the speed follows, and the machines begin one
        after the other, so that they don't all rest at the same time.
    max_reps : int, optional
        Reps after which it ends.
    max_s : float
        Time in s after which it ends.
    rates : Rates
        How often things go wrong.
    encoding : str
        `json` or `msgpack`.
    finish_s : float, optional
        Longest time, in s, from the end of the run until every machine has said its last word; `FINISH_S` if not told.
    max_waiting : int
        Messages that wait in a machine before it waits too. When time is fast, a day's worth is said in minutes, and
        nothing but memory is gained by living on while the broker can't follow.
    """

    machines: int = 10
    part: int = 0
    parts: int = 1
    seed: int = 1
    tenant: str = "demo"
    run: str = "run"
    speed: float = 1.0
    reps_per_s: float | None = None
    max_reps: int | None = None
    max_s: float = 60.0
    rates: Rates = UNDISTURBED
    encoding: Encoding = "msgpack"
    finish_s: float | None = None
    max_waiting: int = MAX_WAITING


class Fleet(Generic[M]):
    """Machines and their connections.

    Parameters
    ----------
    settings : FleetSettings
        Which fleet, how fast, and until when.
    connect : Connect
        Makes a machine's connections.
    now_ms : callable
        The wall clock, in ms since 1970.
    barrier : Barrier, optional
        Awaited after each message, before its machine goes on: for runs in lockstep.
    kept : Kept, optional
        Where machines keep what they said; without it they keep nothing, and what is lost on the way stays lost.
    ledger : Ledger, optional
        Where it is written down what really happened.
    clocks : Clocks, optional
        How wrong the machines' clocks are; right without it.

    Attributes
    ----------
    ledger : Ledger
        What really happened.
    timings : Timings
        When it happened.
    """

    def __init__(
        self,
        settings: FleetSettings,
        connect: Connect[M],
        *,
        now_ms: Callable[[], int],
        barrier: Barrier | None = None,
        kept: Kept | None = None,
        ledger: Ledger | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.ledger, self.timings = ledger or Ledger(), Timings()
        self._clocks = clocks or Clocks()
        self._settings, self._connect_one, self._now_ms, self._barrier = settings, connect, now_ms, barrier
        self._kept = kept
        self._connecting = asyncio.Semaphore(MAX_CONNECTING)
        self._finishing = asyncio.Event()
        self._another_rate: float | None = None
        self._machines: list[LiveMachine[M]] = []

    @property
    def unsaid(self) -> int:
        """Messages that the broker does not have; 0 after a run that ended well."""
        return sum(machine.unsaid for machine in self._machines)

    def finish(self) -> None:
        """End every session as it should end, soon."""
        self._finishing.set()

    def bring(self, reps_per_s: float) -> None:
        """Bring another number of reps in a second from now on."""
        self._another_rate = reps_per_s

    async def run(self) -> None:
        """Run until the count or the time is reached, or `finish` is called, and until every machine is gone.

        Raises
        ------
        TimeoutError
            The broker was away too long at the end: `unsaid` messages are lost with this process.
        ExceptionGroup
            A machine met what must not happen.
        """
        settings = self._settings
        own = assemble(
            settings.seed,
            settings.machines,
            self.ledger,
            tenant=settings.tenant,
            habits=Habits(run=settings.run),
            kept=self._kept,
        )[settings.part :: settings.parts]
        tempo = Tempo(settings.speed, settings.reps_per_s, len(own))
        tempo.adjust(elapsed_s=0.0, reps=0)
        spread_s = 0.0 if settings.reps_per_s is None else CYCLE_S
        self._machines = [
            self._live(machine, tempo, begins_s=spread_s * place / len(own)) for place, machine in enumerate(own)
        ]
        finish_s = FINISH_S if settings.finish_s is None else settings.finish_s
        async with asyncio.timeout(settings.max_s + finish_s) as limit, asyncio.TaskGroup() as tasks:
            for live in self._machines:
                tasks.create_task(live.run())
            await self._watch(tempo)
            limit.reschedule(asyncio.get_running_loop().time() + finish_s)
            for live in self._machines:
                live.finish()

    def _live(self, machine: Machine, tempo: Tempo, begins_s: float) -> LiveMachine[M]:
        return LiveMachine(
            machine,
            Disturbance(machine, self._settings.rates, self._settings.seed, self.ledger),
            self._connect,
            tempo,
            self.timings,
            now_ms=lambda: self._now_ms() + self._clocks.skew_ms(machine.key),
            seed=self._settings.seed,
            encoding=self._settings.encoding,
            begins_s=begins_s,
            max_waiting=self._settings.max_waiting,
            barrier=self._barrier,
        )

    async def _watch(self, tempo: Tempo) -> None:
        """Keep the tempo until the run is to end."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        most = math.inf if self._settings.max_reps is None else self._settings.max_reps
        while (elapsed_s := loop.time() - start_s) < self._settings.max_s and self.timings.reps < most:
            if self._another_rate is not None:
                tempo.change(self._another_rate, elapsed_s, self.timings.reps)
                self._another_rate = None
            tempo.adjust(elapsed_s, self.timings.reps)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finishing.wait(), WATCH_S)
                return

    async def _connect(self, machine: str, will_topic: str, will: bytes) -> Link[M]:
        async with self._connecting:
            return await self._connect_one(machine, will_topic, will)
