"""Every role is killed with -9 again and again, at 200 reps a second: nothing is lost, no effect is doubled."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtest import stack
from loadtest.child import Child
from loadtest.disturbance import Rates
from loadtest.fleet import Fleet, FleetSettings
from loadtest.kept import KeptOnDisk
from loadtest.oracle import everything, expected, found, is_covered, log_of, retried, until
from spineloop import wiring
from spineloop.wiring import ROLES
from streams.core import codec
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.results import CommandClosed, RepMeasured
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1_800)]

KILLS = 20
SEED = 20_261_123
PAUSE_S = (0.5, 3.0)
"""Shortest and longest time between a role's return and the next kill."""

AFTERWARDS_REPS_PER_S = 10.0
"""What machines bring when nobody is killed any more: who can't follow 200 has time for what waits."""

FLEET = FleetSettings(machines=60, seed=SEED, run="kills", reps_per_s=200.0, max_s=900.0, finish_s=180.0, rates=Rates())


async def kill_at_random(roles: dict[str, Child], dice: random.Random) -> Counter[str]:
    """Kill roles, each at least once, and start each again at once."""
    victims = [*ROLES, *dice.choices(ROLES, k=KILLS - len(ROLES))]
    dice.shuffle(victims)
    for name in victims:
        await asyncio.sleep(dice.uniform(*PAUSE_S))
        await roles[name].kill()
        await roles[name].restart()
    return Counter(victims)


async def test_twenty_kills_at_200_reps_a_second_lose_nothing_and_double_no_effect(
    record_testsuite_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record_testsuite_property("seed", SEED)
    with capsys.disabled():
        print(f" [seed {SEED}] ", end="", flush=True)  # noqa: T201 - a person who sees it fail wants the same dice
    async with stack.servers() as servers, log_of(servers) as log:
        kept = KeptOnDisk(tmp_path / "machines.sqlite")
        connect = wiring.machine_connect(servers.settings())
        fleet: Fleet[Any] = Fleet(FLEET, connect, now_ms=wiring.wall_clock_ms, kept=kept)
        async with stack.roles(servers) as roles, wiring.open_history(servers.settings()) as history:
            running = asyncio.create_task(fleet.run())
            killed = await kill_at_random(roles, random.Random(SEED))

            async def something_is_repaired() -> bool:
                return bool(fleet.ledger.repaired)

            fleet.bring(AFTERWARDS_REPS_PER_S)
            # What never left its machine is asked for, and is among the published.
            await until(something_is_repaired, limit_s=600.0)
            fleet.finish()
            await running
            published = {name for name, kind in fleet.ledger.published.items() if kind == "rep"}
            await until(lambda: everything_is_dealt_with(log), limit_s=300.0)

            async def all_in_history() -> bool:
                return await history.count("rep") >= len(published)

            try:
                await until(all_in_history, limit_s=300.0)
            except TimeoutError:
                pytest.fail(f"{await history.count('rep')} of {len(published)} in history\n{servers.tails()}")
            in_history = await retried(lambda: history.count("rep"))
        assert set(killed) == set(ROLES)
        assert in_history == len(published)
        assert fleet.ledger.duplicate_effects == 0
        assert await measured(log) == published
        planner = Planner(machines=servers.settings().machine_catalogue())
        assert await found(log, (METRIC, COMMAND, PATIENT)) == {
            key: value
            for key, value in (await expected(log, Controller()) | await expected(log, planner)).items()
            if key[0] != TELEMETRY
        }
        assert await outcomes_of_one_command(log) == {1}


async def everything_is_dealt_with(log: Log) -> bool:
    return await is_covered(log, Controller()) and await is_covered(log, Planner())


async def measured(log: Log) -> set[str]:
    """Return the message ids of all reps that were measured."""
    found_ = [codec.decode_metric(record.value or b"") for record in await everything(log, METRIC)]
    return {one.cause for one in found_ if isinstance(one, RepMeasured)}


async def outcomes_of_one_command(log: Log) -> set[int]:
    """Return how many different outcomes commands have; each must have one."""
    told = [codec.decode_metric(record.value or b"") for record in await everything(log, METRIC)]
    outcomes: dict[str, set[str]] = {}
    for one in told:
        if isinstance(one, CommandClosed):
            outcomes.setdefault(one.command_id, set()).add(one.outcome)
    return {len(some) for some in outcomes.values()}
