"""Eyes: what every process holds, and how far every group is behind, moment by moment, while something is away."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from loadtest.chaos.ground import Ground
from loadtest.chaos.lags import Lag, lags
from loadtest.chaos.worker import peak, private
from loadtest.link import Connection, M
from streams.core.errors import Busy
from streams.core.records import header
from streams.core.topics import TELEMETRY
from streams.log import Log

LOOK_S = 0.5

DROPPED = "$SYS/broker/publish/messages/dropped"

CAUGHT_UP_S = 1.0
"""Who is behind by no more than what arrives in this time, in s, has caught up."""


class Moment(msgspec.Struct, frozen=True):
    """When, in s of the monotonic clock, and every group's lag."""

    at_s: float
    lags: dict[str, Lag]


class CatchUp(msgspec.Struct, frozen=True):
    """How a group caught up: behind by how many records, after how many s it was not, at how many records a second.

    `times` is that rate over the rate of arrival; None for `after_s` says that it did not.
    """

    behind: int
    arrival_per_s: float
    after_s: float | None = None
    per_s: float | None = None
    times: float | None = None


class Heard:
    """What of all that was said is in the log already.

    Parameters
    ----------
    log : Log
        Where the telemetry is.
    said : collection of str
        Ids of what was said; it may grow.
    """

    def __init__(self, log: Log, said: Collection[str]) -> None:
        self._log, self._said = log, said
        self._there: set[str] = set()
        self._next: Counter[int] = Counter()

    async def lag(self) -> dict[str, Lag]:
        """Read on, and tell how much is missing."""
        for number in await self._log.bounds(TELEMETRY):
            async for records in self._log.read(TELEMETRY, number, self._next[number]):
                names = (header(record, "ce_id") or "" for record in records)
                self._there.update(name for name in names if name in self._said)
                self._next[number] = records[-1].offset + 1
        return self.missing()

    def missing(self) -> dict[str, Lag]:
        """Tell how much was missing when it was last read."""
        return {TELEMETRY: Lag(len(self._said) - len(self._there), len(self._said))}


class Eyes:
    """Looks at processes and groups.

    Attributes
    ----------
    peak_MB : dict of str to float
        Most memory that each process was seen to hold: roles with all that is mapped into them, servers without the
        files that they map, which the kernel takes back when it needs room.
    resident_MB : dict of str to float
        The same of the servers with these files.
    highest : Counter of str
        Each group's largest lag.
    moments : list of Moment
        All that was seen of the groups; nothing while Kafka does not answer.
    also : callable
        Tells of more lags than those of groups.
    dropped : int
        Messages that mosquitto says it has dropped.
    """

    def __init__(self, ground: Ground, log: Log) -> None:
        self.peak_MB: dict[str, float] = {}
        self.resident_MB: dict[str, float] = {}
        self.highest: Counter[str] = Counter()
        self.moments: list[Moment] = []
        self.also: Callable[[], Awaitable[dict[str, Lag]]] = _nothing
        self.dropped = 0
        self._ground, self._log = ground, log

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self._weigh()
            try:
                seen = await lags(self._log, self._ground.stack.log.address) | await self.also()
            except Busy:
                pass  # while the log is away nobody knows
            else:
                self.moments.append(Moment(time.monotonic(), seen))
                self.highest |= Counter({group: lag.records for group, lag in seen.items()})
            await asyncio.sleep(LOOK_S)

    async def hear(self, connection: Connection[M]) -> None:
        """Hear what the broker says of itself, for ever."""
        await connection.subscribe([DROPPED])
        while True:
            batch = await connection.receive(10)
            self.dropped = int(batch[-1].payload)
            connection.ack(batch)

    def _weigh(self) -> None:
        workers = {name: worker.peak_bytes for name, worker in self._ground.workers.items()}
        servers = {name: server.pid for name, server in self._ground.servers.items()}
        _raise(self.peak_MB, workers | {name: private(pid) for name, pid in servers.items()})
        _raise(self.resident_MB, {name: peak(pid) for name, pid in servers.items()})

    def arrival_per_s(self, group: str, since_s: float) -> float:
        """Return how many records a second have come in for a group since a moment."""
        seen = [one for one in self.moments if one.at_s >= since_s and group in one.lags]
        if len(seen) < 2:
            return 0.0
        return (seen[-1].lags[group].end - seen[0].lags[group].end) / (seen[-1].at_s - seen[0].at_s)

    def catch_up(self, group: str, since_s: float, arrival_per_s: float) -> CatchUp:
        """Tell how a group caught up from a moment on."""
        seen = [one for one in self.moments if one.at_s >= since_s and group in one.lags]
        if not seen:
            return CatchUp(0, arrival_per_s)
        first = seen[0]
        behind = first.lags[group].records
        for one in seen[1:]:
            if one.lags[group].records <= CAUGHT_UP_S * arrival_per_s:
                done = one.lags[group].end - first.lags[group].end + behind - one.lags[group].records
                took_s = one.at_s - first.at_s
                per_s = done / took_s
                times = round(per_s / arrival_per_s, 1) if arrival_per_s else None
                return CatchUp(behind, round(arrival_per_s, 1), round(took_s, 1), round(per_s, 1), times)
        return CatchUp(behind, round(arrival_per_s, 1))

    def is_behind(self, group: str, arrival_per_s: float) -> bool:
        """Tell whether a group was behind when it was last looked at; one that never had anything was not."""
        last = self.moments[-1].lags.get(group)
        return last is not None and last.records > CAUGHT_UP_S * arrival_per_s


def _raise(most_MB: dict[str, float], found_bytes: Mapping[str, int]) -> None:
    """Put down what is more than was seen before; nothing is seen of who is not there."""
    for name, found in found_bytes.items():
        if found:
            most_MB[name] = max(most_MB.get(name, 0.0), round(found / 1e6, 1))


async def _nothing() -> dict[str, Lag]:
    return {}
