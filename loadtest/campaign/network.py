"""Network: what is said on one end and heard, later, twice, out of order or never, on the other."""

import heapq
from collections.abc import Iterator
from random import Random

import msgspec

from streams.core.measure import Measured
from streams.core.telemetry import Offline, Online, Telemetry


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Probabilities per message; presence is lost or doubled only, because its broker retains it."""

    lost: float = 0.0
    late: float = 0.0
    overtaken: float = 0.0
    doubled: float = 0.0


class Letter(msgspec.Struct, frozen=True):
    """One message on its way: the machine that says it, what a rep measured."""

    machine: str
    message: Telemetry
    measured: Measured | None = None


class Network:
    """Carries letters; what was sent first arrives first unless chance says otherwise."""

    def __init__(self, rng: Random, rates: Rates) -> None:
        self._rng, self._rates = rng, rates
        self._count = 0
        self._waiting: list[tuple[int, int, Letter]] = []

    def send(self, letter: Letter, now_ms: int) -> None:
        """Put a letter on its way; it may be lost, or come twice."""
        rng, rates = self._rng, self._rates
        delay_ms, fate = 0, rng.random()
        if fate < rates.lost:
            return
        fate -= rates.lost
        if not isinstance(letter.message, Online | Offline):
            if fate < rates.late:
                delay_ms = rng.randint(2_000, 90_000)
            elif fate < rates.late + rates.overtaken:
                delay_ms = rng.randint(200, 4_000)
        self._put(letter, now_ms + delay_ms)
        if rng.random() < rates.doubled:
            self._put(letter, now_ms + delay_ms + rng.choice((0, 100, 3_000, 40_000)))

    def arrived(self, now_ms: int) -> Iterator[tuple[int, Letter]]:
        """Return what has arrived, with its time in ms."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            at_ms, _, letter = heapq.heappop(self._waiting)
            yield at_ms, letter

    def _put(self, letter: Letter, at_ms: int) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (at_ms, self._count, letter))
