"""One world: a number of sessions from one seed, and what was wrong with them."""

import traceback
from random import Random

import msgspec
from msgspec.structs import replace

from loadtest.campaign import draws
from loadtest.campaign.scene import Violation
from loadtest.campaign.sessions import Life
from loadtest.campaign.temper import STEADY, UNSTEADY, WILD
from loadtest.campaign.watch import Watch
from loadtest.campaign.world import World

SESSIONS = 10
"""Sessions of one world: three to learn, two good ones to earn an increase, and room for what follows."""

REPLAYED = 16
"""One world in so many is gone through twice."""


class Seen(msgspec.Struct, frozen=True):
    """What one world brought."""

    seed: int
    sessions: int
    messages: int
    commands: int
    increases: int
    violations: tuple[Violation, ...]
    journal: tuple[str, ...] = ()


def live(seed: int, sessions: int = SESSIONS, *, is_told: bool = False) -> Seen:
    """Live through a world.

    Parameters
    ----------
    seed : int
        Everything follows from it.
    sessions : int
        How many sessions.
    is_told : bool
        Whether to keep a journal of what was said.
    """
    rng = Random(seed)
    policy = draws.policy(rng)
    watch = Watch(policy)
    temper = rng.choices((STEADY, UNSTEADY, WILD), weights=(6, 3, 1))[0]
    world = World(policy, watch, rng, slow_plans=temper.slow_plans)
    world.journal = [] if is_told else None
    life = Life(rng, world, temper)
    try:
        for _ in range(sessions):
            life.session()
        if seed % REPLAYED == 0:
            world.repeat()
    except Exception as error:  # noqa: BLE001 - a stage that raises is a finding like any other
        where = traceback.extract_tb(error.__traceback__)[-1]
        watch.found.append(Violation("raised", f"{type(error).__name__} {error} in {where.name}, line {where.lineno}"))
    found = tuple(replace(one, seed=seed) for one in watch.found)
    return Seen(seed, sessions, world.messages, world.commands, watch.increases, found, tuple(world.journal or ()))
