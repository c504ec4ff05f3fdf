"""Campaign: many worlds in several processes, and the account of them."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loadtest.campaign.one_world import SESSIONS, Seen, live
from loadtest.campaign.scene import Violation

WORLDS_AT_ONCE = 8
"""Worlds that a process gets to do at a time: about 0.1 s of work."""

SEED_STRIDE = 2**32
"""Distance between the first worlds of two campaigns, so that no world belongs to both."""


class Account(msgspec.Struct):
    """What a campaign brought."""

    seed: int
    sessions: int = 0
    worlds: int = 0
    messages: int = 0
    commands: int = 0
    increases: int = 0
    violations: list[Violation] = []

    def add(self, seen: Seen) -> None:
        """Add what one world brought."""
        self.sessions += seen.sessions
        self.worlds += 1
        self.messages += seen.messages
        self.commands += seen.commands
        self.increases += seen.increases
        self.violations = sorted([*self.violations, *seen.violations], key=lambda one: one.seed)

    def write(self, path: Path) -> None:
        """Write it down as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def worlds(sessions: int, seed: int) -> Iterator[tuple[int, int]]:
    """Return the seed and the number of sessions of each world of a campaign.

    Examples
    --------
    >>> list(worlds(25, 0)), next(worlds(10, 1))
    ([(0, 10), (1, 10), (2, 5)], (4294967296, 10))
    """
    for n, first in enumerate(range(0, sessions, SESSIONS)):
        yield seed * SEED_STRIDE + n, min(SESSIONS, sessions - first)


def run(sessions: int, seed: int, processes: int) -> Iterator[Seen]:
    """Live through a campaign; what comes out does not depend on how many processes there are, but for its order.

    Parameters
    ----------
    sessions : int
        How many, in worlds of ten.
    seed : int
        Everything follows from it.
    processes : int
        How many at once; with one nothing is started.
    """
    if processes == 1:
        yield from map(_live, worlds(sessions, seed))
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_live, worlds(sessions, seed), chunksize=WORLDS_AT_ONCE)


def _live(world: tuple[int, int]) -> Seen:
    return live(*world)
