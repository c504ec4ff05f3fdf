"""Outages and a flood, each for some seconds on real servers: nobody dies, and afterwards all is there, once."""

from collections.abc import Mapping

import pytest

from loadtest.chaos import scenes
from loadtest.chaos.lags import HISTORY
from loadtest.chaos.scenes import LIMIT_MB, Account

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1_800)]

SEED = 20_261_128


def check(account: Account) -> None:
    assert account.is_clean, f"{account}"
    assert account.said > 0
    assert max(account.peak_MB.values()) <= LIMIT_MB
    assert all(pressed.answered == pressed.pressed for pressed in account.stops.values())


async def test_what_history_missed_while_it_was_away_is_there_once_when_it_is_back() -> None:
    account = await scenes.history_away(SEED, 60.0, 300.0)
    check(account)
    assert account.highest_lag[HISTORY] >= account.said


async def test_while_the_log_is_away_no_process_ends_and_afterwards_all_that_machines_said_is_there_once() -> None:
    stalls_soon: Mapping[str, str] = {"stall_s": "20"}  # less than half of the time that it is away
    check(await scenes.log_away(SEED, 45.0, 20.0, stalls_soon))


async def test_a_flood_becomes_lag_and_is_worked_off() -> None:
    check(await scenes.flood(SEED, 10.0, 20.0))
