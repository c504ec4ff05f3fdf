"""Tempo: how fast simulated time passes, fixed or such that the whole fleet brings a given number of reps a second."""

TYPICAL_REPS_PER_S = 0.08
"""Reps that a machine brings in a second of simulated time, rests and visits included: the guess to begin with."""

GUESS_S = 100.0
"""Simulated time in s of every machine for which that guess stands in."""

CATCH_UP_S = 5.0
"""Time in s within which too many or too few reps are made up for."""

CYCLE_S = 130.0
"""A set and the rest after it, in s of simulated time: machines that begin within it rest at different times."""


class Tempo:
    """The speed of simulated time, the same for all machines.

    Parameters
    ----------
    speed : float
        Simulated seconds in a second.
    reps_per_s : float or None
        Reps that the fleet shall bring in a second, by choosing the speed.
    machines : int
        How many machines share them.

    Examples
    --------
    >>> tempo = Tempo(speed=1.0, reps_per_s=80.0, machines=100)
    >>> tempo.adjust(elapsed_s=0.0, reps=0)
    >>> tempo.speed
    10.0
    >>> tempo.change(8.0, elapsed_s=60.0, reps=4_800)
    >>> 0.0 < tempo.speed < 1.0
    True
    """

    def __init__(self, speed: float, reps_per_s: float | None, machines: int) -> None:
        self.speed = speed
        self._reps_per_s, self._machines = reps_per_s, machines
        self._lived_s = 0.0
        self._since_s, self._since_reps = 0.0, 0

    def wait_s(self, simulated_s: float) -> float:
        """Return how long a simulated time takes, in s, and take note that a machine lives through it."""
        self._lived_s += simulated_s
        return simulated_s / self.speed

    def change(self, reps_per_s: float, elapsed_s: float, reps: int) -> None:
        """Bring another number of reps in a second from now on, `elapsed_s` after the start; so many were brought."""
        self._reps_per_s, self._since_s, self._since_reps = reps_per_s, elapsed_s, reps
        self.adjust(elapsed_s, reps)

    def adjust(self, elapsed_s: float, reps: int) -> None:
        """Choose the speed again, `elapsed_s` after the start, when so many reps have been brought."""
        if self._reps_per_s is None:
            return
        density = (reps + TYPICAL_REPS_PER_S * GUESS_S * self._machines) / (self._lived_s + GUESS_S * self._machines)
        missing = self._reps_per_s * (elapsed_s - self._since_s) - (reps - self._since_reps)
        correction = min(1.5, max(0.5, 1.0 + missing / (self._reps_per_s * CATCH_UP_S)))
        self.speed = correction * self._reps_per_s / (density * self._machines)
