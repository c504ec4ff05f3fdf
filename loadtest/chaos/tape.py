"""Tape: what a simulated fleet says, encoded once and told again and again, each time by a fleet of its own.

To make a message anew costs as much as to measure it, so a fleet that does can't bring a thousand reps a second beside
everything that has to bear them. Each lap of the tape is of another tenant, and once all have had their turn, of their
next boots: no machine says anything twice, and there are no more of them than there may be.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from typing import Any, Protocol

import msgspec

from loadtest.bench import stories
from loadtest.bench.stories import Said
from loadtest.live_machine import stream_of
from loadtest.tempo import CYCLE_S
from spineloop.wiring import wall_clock_ms
from streams.core import codec
from streams.core.records import MSGPACK_TYPE, NewRecord, cloud_event
from streams.core.telemetry import Presence, Rep, SessionEnded, SessionStarted
from streams.core.topics import TELEMETRY, Stream, mqtt_topic
from streams.log import Log

TENANT = "lap-0000"
"""Whose machines are recorded; every lap replaces it by its own number, as long in bytes."""

BOOT = "run-b1"
"""The boot of each of them that is recorded; replaced likewise."""

TENANTS = 40
"""With 250 machines each they are 10,000, of which 2,000 reps a second are a rep in 5 s."""

TICK_S = 0.01
"""Pause between two tellings: what is due by then is told together."""

MOST_LATE_S = 1.0
"""Who is later than this lets the rest go, in s: then the rate reached is less than the rate asked for, and told so."""


class Cue(msgspec.Struct, frozen=True):
    """One message: whose, on which stream, its id, its bytes, and when it was said, in ms of the recording."""

    machine: str
    stream: Stream
    name: str
    ce_type: str
    payload: bytes
    is_rep: bool
    at_ms: int

    def at(self, tenant: str, boot: str) -> "Cue":
        """Let another tenant's machine say it, in another boot."""
        machine, name = self.machine.replace(TENANT, tenant), self.name.replace(TENANT, tenant).replace(BOOT, boot)
        payload = self.payload.replace(TENANT.encode(), tenant.encode()).replace(BOOT.encode(), boot.encode())
        return Cue(machine, self.stream, name, self.ce_type, payload, self.is_rep, self.at_ms)

    def record(self, now_ms: int) -> NewRecord:
        """Write it as the bridge does."""
        headers = cloud_event(
            ce_id=self.name, ce_type=self.ce_type, source=self.machine, time_ms=now_ms, content_type=MSGPACK_TYPE
        )
        return NewRecord(TELEMETRY, self.machine.encode(), self.payload, now_ms, headers)


def recorded(seed: int, machines: int, reps: int) -> Sequence[Cue]:
    """Record so many machines until they have done so many reps together; then whoever trains ends the session."""
    cues: list[Cue] = []
    last: dict[str, Said] = {}
    training: dict[str, str] = {}
    for said in stories.story(seed, machines, TENANT, spread_s=CYCLE_S):
        cues.append(_cue(said))
        match said.message:
            case SessionStarted(session=session):
                training[said.machine] = session
            case SessionEnded():
                training.pop(said.machine, None)
            case Rep():
                reps -= 1
        if not isinstance(said.message, Presence):
            last[said.machine] = said
        if reps == 0:
            break
    return [*cues, *(_cue(_end(last[machine], session)) for machine, session in training.items())]


def _cue(said: Said) -> Cue:
    message = said.message
    name, kind, is_rep = codec.message_id(said.machine, message), codec.ce_type(message), isinstance(message, Rep)
    return Cue(said.machine, stream_of(message), name, kind, codec.encode(message), is_rep, said.at_ms)


def _end(last: Said, session: str) -> Said:
    """End a session just after a message: a new boot in the middle of it would be a lost link, and a STOP."""
    told: Any = last.message
    ended = SessionEnded(boot_id=told.boot_id, seq=told.seq + 1, t_us=told.t_us, session=session)
    return Said(last.machine, ended, last.at_ms)


def laps(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Tell a tape for ever.

    Examples
    --------
    >>> from itertools import islice
    >>> cues = recorded(seed=7, machines=2, reps=1)
    >>> told = list(islice(laps(cues), 2 * len(cues)))
    >>> told[0].machine, told[len(cues)].machine, len({cue.name for cue in told}) == len(told)
    ('lap-0000/site-1/lumbar-01', 'lap-0001/site-1/lumbar-01', True)
    """
    for number in count():
        boot, tenant = divmod(number, TENANTS)
        for cue in cues:
            yield cue.at(f"lap-{tenant:04d}", f"b{boot:05d}")


Say = Callable[[Sequence[Cue]], Awaitable[None]]
"""Returns when all of these are where they should be."""


class Teller:
    """Tells a tape at a rate, which may be changed at any time.

    Attributes
    ----------
    reps_per_s : float
        The rate; 0 is silence.
    said : dict of str to bool
        Id of everything that was told, and whether it was a rep.
    reps : int
        How many were.
    """

    def __init__(self, cues: Iterator[Cue], say: Say) -> None:
        self.reps_per_s = 0.0
        self.said: dict[str, bool] = {}
        self.reps = 0
        self._cues, self._say = cues, say

    async def run(self) -> None:
        """Tell for ever, in order: what is due at one moment is said before the next."""
        loop = asyncio.get_running_loop()
        due, last_s = 0.0, loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now_s = loop.time()
            due = min(due + self.reps_per_s * (now_s - last_s), self.reps_per_s * MOST_LATE_S)
            last_s = now_s
            if due >= 1.0:
                reps, due = divmod(due, 1.0)
                await self._tell(int(reps))

    async def _tell(self, reps: int) -> None:
        told: list[Cue] = []
        for cue in self._cues:
            told.append(cue)
            reps -= cue.is_rep
            if reps == 0:
                break
        await self._say(told)
        self.said |= {cue.name: cue.is_rep for cue in told}
        self.reps += sum(cue.is_rep for cue in told)


def into_log(log: Log) -> Say:
    """Write into the telemetry topic, where the bridge is not what is asked about."""

    async def say(told: Sequence[Cue]) -> None:
        now_ms = wall_clock_ms()
        await log.append([cue.record(now_ms) for cue in told])

    return say


class Connection(Protocol):
    """A connection to the machines' broker."""

    async def publish(self, topic: str, payload: bytes) -> bool:
        """Publish with QoS 1 and return when the broker has it."""


def over(connections: Sequence[Connection]) -> Say:
    """Publish over a few connections; each machine keeps to its own, and so its order."""

    async def one(cue: Cue) -> None:
        connection = connections[hash(cue.machine) % len(connections)]
        await connection.publish(mqtt_topic(cue.machine, cue.stream), cue.payload)

    async def say(told: Sequence[Cue]) -> None:
        await asyncio.gather(*map(one, told))

    return say
