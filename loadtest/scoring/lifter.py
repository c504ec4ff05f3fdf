"""Lifter: a simulated patient at one machine, as fast as possible, and the load that truly tires them so far."""

import math
from collections.abc import Callable

from numpy.random import Generator

from loadtest import patient as patients
from loadtest.exercise import EXERCISES, Exercise
from loadtest.patient import Condition, Patient, Task
from streams.core.telemetry import Prescription

REPS, TARGET_PCT = 10, 20.0
"""What a load is sought for: ten reps that end at a velocity loss of 20 %."""


class Lifter:
    """One patient, one machine; the dice are the caller's.

    Parameters
    ----------
    seed, index : int
        Which patient.
    exercise : str
        Which machine.
    rng : Generator
        Dice for everything that the patient does.
    """

    def __init__(self, seed: int, index: int, exercise: str, rng: Generator) -> None:
        self.patient: Patient = patients.draw(seed, index)
        self.exercise: Exercise = EXERCISES[exercise]
        self.condition = Condition()
        self._rng = rng

    def expected_loss_pct(self, load_N: float) -> float:
        """Return the loss in percent that ten fresh reps at a load truly come to."""
        return patients.expected_loss_pct(self.patient, self.exercise, "both", load_N, REPS)

    def load_for_target(self) -> float:
        """Return the load in N or N m at which that is 20 %."""
        return _sought(self.expected_loss_pct, 4.0 * self.exercise.load_max_N)

    def lift(self, load_N: float, reps: int) -> list[float]:
        """Do reps of a set, noise and all; return their mean velocities in m/s or rad/s."""
        lo, hi = self.exercise.window
        task = Task(self.exercise, "both", "max", Prescription(id="p", load_N=load_N, window_lo=lo, window_hi=hi))
        velocities = []
        for _ in range(reps):
            movement, self.condition = patients.perform(self.patient, self.condition, task, self._rng)
            velocities.append(movement.rom / movement.concentric_s)
        return velocities

    def look_ahead(self, load_N: float, reps: int) -> list[float]:
        """Return the velocities that a whole set would have, without doing it: `do` takes the first of them."""
        before = self.condition
        velocities = self.lift(load_N, reps)
        self.condition = before
        return velocities

    def do(self, load_N: float, reps: int) -> None:
        """Tire as reps do whose velocities are known already: fatigue has no dice."""
        rng, self._rng = self._rng, self._rng.spawn(1)[0]
        self.lift(load_N, reps)
        self._rng = rng

    def rest(self, seconds: float | None) -> None:
        """Rest between two sets; None is until the next session."""
        if seconds is None:
            self.condition = Condition()
        else:
            self.condition = patients.rested(self.condition, self.patient, seconds)

    def exertion(self) -> int:
        """Return the exertion that the patient reports now, 0-10."""
        return patients.exertion(self.condition, self._rng)


class Stranger:
    """A lifter whom the model does not describe: fatigue speeds up towards the end of a set, a heavier load matters
    less than usual, one set differs from another by 10 %, and the noise is 6 %. Takes what `Lifter` takes.
    """

    BEND, LOAD_EXPONENT, SET_SCATTER, NOISE = 1.5, 1.3, 0.10, 0.06

    def __init__(self, seed: int, index: int, exercise: str, rng: Generator) -> None:
        patient = patients.draw(seed, index)
        self.exercise: Exercise = EXERCISES[exercise]
        self._strength_N = patients.strength_at(patient, self.exercise, "both", 0.5)
        self._loss = (REPS - 1) * patient.fatigue_rate  # share that is lost at the tenth rep and 55 % of strength
        self._set = 1.0
        self._rng = rng

    def expected_loss_pct(self, load_N: float) -> float:
        """Return the loss in percent that ten reps at a load usually come to."""
        heavier: float = (load_N / (0.55 * self._strength_N)) ** self.LOAD_EXPONENT
        return 100.0 * min(self._loss * heavier, 1.0)

    def load_for_target(self) -> float:
        """Return the load in N or N m at which that is 20 %."""
        return _sought(self.expected_loss_pct, 4.0 * self.exercise.load_max_N)

    def look_ahead(self, load_N: float, reps: int) -> list[float]:
        """Return the velocities of a whole set."""
        lost = self._set * self.expected_loss_pct(load_N) / 100.0
        fresh = max(1.55 - load_N / self._strength_N, 0.2)
        shares = [max(1.0 - lost * (rep / (REPS - 1)) ** self.BEND, 0.1) for rep in range(reps)]
        return [fresh * share * (1.0 + self.NOISE * float(self._rng.standard_normal())) for share in shares]

    def do(self, load_N: float, reps: int) -> None:
        """Lift; a stranger recovers completely between two sets."""

    def rest(self, seconds: float | None) -> None:  # noqa: ARG002 - however long
        """Rest; the next set is a little easier or harder than usual."""
        self._set = math.exp(self.SET_SCATTER * float(self._rng.standard_normal()))


def _sought(loss_pct: Callable[[float], float], most_N: float) -> float:
    """Return the load that brings the target, to a millionth of the largest one."""
    low, high = 0.0, most_N
    while high - low > 1e-6 * most_N:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if loss_pct(middle) < TARGET_PCT else (low, middle)
    return 0.5 * (low + high)


def drawn(seed: int, index: int, rng: Generator) -> Lifter:
    """Draw the machine of a patient."""
    return Lifter(seed, index, _machine(rng), rng)


def stranger(seed: int, index: int, rng: Generator) -> Stranger:
    """Draw the machine of a patient who is not like the others."""
    return Stranger(seed, index, _machine(rng), rng)


def _machine(rng: Generator) -> str:
    names = tuple(EXERCISES)
    return names[int(rng.integers(len(names)))]
