"""Clocks: how wrong the time of day is at each machine of a fleet. Nobody but who judges a run knows."""

import random
from collections.abc import Sequence

MOST_MS = 300_000
"""How far a clock is off at most when it is switched on, and how far it jumps at most, in ms."""


class Clocks:
    """The clocks of a fleet, all right if there is no seed; else each is off from the start by up to 5 minutes.

    Parameters
    ----------
    seed : int, optional
        Decides how far each is off.

    Examples
    --------
    >>> clocks = Clocks()
    >>> clocks.step("a/b/m1", -90_000)
    >>> clocks.step("a/b/m1", 30_000)
    >>> clocks.skew_ms("a/b/m1"), clocks.skew_ms("a/b/m2")
    (-60000, 0)
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._skew_ms: dict[str, int] = {}

    @property
    def machines(self) -> Sequence[str]:
        """Whose clocks were ever looked at, in that order."""
        return tuple(self._skew_ms)

    def skew_ms(self, machine: str) -> int:
        """Return by how much a machine's clock is ahead now, in ms."""
        skew_ms = self._skew_ms.get(machine)
        if skew_ms is None:
            drawn = 0 if self._seed is None else random.Random(f"{self._seed}/{machine}").randint(-MOST_MS, MOST_MS)
            skew_ms = self._skew_ms[machine] = drawn
        return skew_ms

    def step(self, machine: str, by_ms: int) -> None:
        """Let a clock jump."""
        self._skew_ms[machine] = self.skew_ms(machine) + by_ms
