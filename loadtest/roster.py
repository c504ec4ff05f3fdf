"""The roster: which machines a simulated fleet has, and who trains where."""

from loadtest import patient as patients
from loadtest.exercise import EXERCISES
from loadtest.kept import Kept
from loadtest.machine import Machine
from loadtest.truth import Ledger
from loadtest.visit import Habits

MACHINES_A_SITE = 25


def assemble(
    seed: int,
    machines: int,
    ledger: Ledger,
    *,
    tenant: str = "demo",
    habits: Habits | None = None,
    kept: Kept | None = None,
) -> tuple[Machine, ...]:
    """Build a fleet: circuits of one machine of each kind, five patients a circuit, each beginning at another machine.

    Examples
    --------
    >>> [machine.key for machine in assemble(7, 6, Ledger())][::5]
    ['demo/site-1/lumbar-01', 'demo/site-1/lumbar-02']
    """
    kinds = tuple(EXERCISES.values())
    fleet = []
    for number in range(machines):
        circuit, place = divmod(number, len(kinds))
        pool = [patients.draw(seed, circuit * len(kinds) + index + 1, tenant) for index in range(len(kinds))]
        fleet.append(
            Machine(
                f"{tenant}/site-{number // MACHINES_A_SITE + 1}/{kinds[place].short}-{circuit + 1:02d}",
                number=number,
                exercise=kinds[place],
                visitors=pool[place:] + pool[:place],
                seed=seed,
                ledger=ledger,
                habits=habits,
                kept=kept,
            )
        )
    return tuple(fleet)
