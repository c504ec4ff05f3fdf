"""Disturbance: what a bad network and a bad power supply do to the messages of one machine, from a seed."""

import heapq
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from loadtest.machine import Machine
from loadtest.truth import Ledger
from streams.core.telemetry import Offline, Online, Telemetry

Seconds = tuple[float, float]
"""Shortest and longest, in s of simulated time."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How often things go wrong: probabilities per ordered message, `reboot` and `offline` per step of the machine.

    Parameters
    ----------
    duplicate, duplicate_s
        A second copy follows after this time.
    reorder, reorder_s
        The message is overtaken by those of this time: one to a few.
    late, late_s
        The message comes when nobody waits for it any more.
    lost
        The message does not leave the machine: a hole in `seq`, until the controller asks for it.
    reboot
        The machine starts again.
    offline, offline_s
        The link is down for this time; then everything comes at once. Commands are the caller's: see `is_offline`.
    """

    duplicate: float = 0.01
    duplicate_s: Seconds = (0.0, 10.0)
    reorder: float = 0.01
    reorder_s: Seconds = (1.0, 8.0)
    late: float = 0.005
    late_s: Seconds = (20.0, 120.0)
    lost: float = 0.001
    reboot: float = 0.0001
    offline: float = 0.0
    offline_s: Seconds = (60.0, 600.0)


UNDISTURBED = Rates(duplicate=0.0, reorder=0.0, late=0.0, lost=0.0, reboot=0.0)


class Delivery(msgspec.Struct, frozen=True):
    """A message, and after how many s of simulated time it is given to the network."""

    message: Telemetry
    delay_s: float = 0.0


class Disturbed(msgspec.Struct, frozen=True):
    """What a disturbed step brought: deliveries, and the simulated time in s until the following step."""

    deliveries: tuple[Delivery, ...]
    delay_s: float


class Disturbance:
    """Stands between one machine and the network; presence passes untouched, because it has no place in `seq`.

    Parameters
    ----------
    machine : Machine
        Whose messages these are.
    rates : Rates
        How often things go wrong; `UNDISTURBED` for never.
    seed : int
        Seed of the fleet; every machine has its own dice.
    ledger : Ledger
        Where everything is written down.
    """

    def __init__(self, machine: Machine, rates: Rates, seed: int, ledger: Ledger) -> None:
        self._machine, self._rates, self._ledger = machine, rates, ledger
        self._rng = np.random.default_rng([seed, *machine.key.encode()])
        self._now_s = self._online_at_s = self._last_s = 0.0

    @property
    def is_offline(self) -> bool:
        """Whether the link is down, so that commands can't come through either."""
        return self._now_s < self._online_at_s

    def step(self, now_ms: int | None = None, watch_ms: int | None = None) -> Disturbed:
        """Let the machine live on to its next moment, or lose power first; the times are those of its own clocks."""
        dice = self._rng.random(2)
        if dice[0] < self._rates.reboot:
            self._machine.reboot()
        if not self.is_offline and dice[1] < self._rates.offline:
            self._online_at_s = self._now_s + self._between(self._rates.offline_s)
        step = self._machine.step(now_ms, watch_ms)
        deliveries = () if step.message is None else self.disturb(step.message)
        self._now_s += step.delay_s
        return Disturbed(deliveries, step.delay_s)

    def disturb(self, message: Telemetry) -> tuple[Delivery, ...]:
        """Tell when a message is given to the network: once, twice, later or never."""
        duplicate, reorder, late, lost = self._rng.random(4)
        delay_s = max(0.0, self._online_at_s - self._now_s)
        if isinstance(message, Offline):  # a machine leaves when all that it had to say is out
            return (Delivery(message, max(0.0, self._last_s - self._now_s)),)
        if isinstance(message, Online):
            return (Delivery(message, delay_s),)
        if lost < self._rates.lost:
            self._ledger.withhold(self._machine.key, message)
            return ()
        if late < self._rates.late:
            delay_s += self._between(self._rates.late_s)
        elif reorder < self._rates.reorder:
            delay_s += self._between(self._rates.reorder_s)
        self._ledger.publish(self._machine.key, message, is_delayed=delay_s > 0.0)
        if duplicate >= self._rates.duplicate:
            return self._sent(Delivery(message, delay_s))
        self._ledger.duplicate(self._machine.key, message)
        return self._sent(
            Delivery(message, delay_s), Delivery(message, delay_s + self._between(self._rates.duplicate_s))
        )

    def again(self, message: Telemetry) -> Delivery:
        """Tell when a message that was asked for is given to the network: as soon as there is one."""
        self._ledger.say_again(self._machine.key, message)
        (delivery,) = self._sent(Delivery(message, max(0.0, self._online_at_s - self._now_s)))
        return delivery

    def _sent(self, *deliveries: Delivery) -> tuple[Delivery, ...]:
        self._last_s = max(self._last_s, *(self._now_s + delivery.delay_s for delivery in deliveries))
        return deliveries

    def _between(self, seconds: Seconds) -> float:
        return float(self._rng.uniform(*seconds))


def in_order_of_arrival(steps: Iterable[Disturbed]) -> Iterator[Telemetry]:
    """Merge the deliveries of many steps by the time at which they reach the network.

    Examples
    --------
    >>> from streams.core.telemetry import Heartbeat
    >>> first, second = (Heartbeat(boot_id="b1", seq=seq, t_us=seq) for seq in (0, 1))
    >>> steps = [Disturbed((Delivery(first, 6.0),), 5.0), Disturbed((Delivery(second),), 5.0)]
    >>> [message.seq for message in in_order_of_arrival(steps)]
    [1, 0]
    """
    at_s, count = 0.0, 0
    waiting: list[tuple[float, int, Telemetry]] = []
    for step in steps:
        for delivery in step.deliveries:
            # rounded to the device clock's us, so that what comes at one moment keeps its order
            heapq.heappush(waiting, (round(at_s + delivery.delay_s, 6), count, delivery.message))
            count += 1
        at_s += step.delay_s
        while waiting and waiting[0][0] < at_s:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
