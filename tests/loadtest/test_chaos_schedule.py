"""The schedule of a fault campaign: everything follows from the seed, and a number of kills is that number."""

import pytest

from loadtest.chaos.faults import FAULTS, Blow, schedule

SECONDS, KILLS = 3_000.0, 200


def kills(blows: tuple[Blow, ...]) -> int:
    return sum(FAULTS[blow.fault].kills for blow in blows)


@pytest.mark.parametrize("seed", range(20))
def test_a_long_campaign_has_as_many_kills_as_asked_for_evenly_and_every_kind_of_fault(seed: int) -> None:
    blows = tuple(schedule(seed, SECONDS, KILLS))
    assert blows == schedule(seed, SECONDS, KILLS)
    assert kills(blows) == KILLS
    assert {blow.fault for blow in blows} == FAULTS.keys()
    assert [blow.at_s for blow in blows] == sorted(blow.at_s for blow in blows)
    assert blows[0].at_s >= 0.0
    assert blows[-1].at_s < SECONDS
    each_sixth = [
        kills(tuple(blow for blow in blows if sixth <= 6 * blow.at_s / SECONDS < sixth + 1)) for sixth in range(6)
    ]
    assert all(15 <= some <= 55 for some in each_sixth), each_sixth


def test_another_seed_has_another_schedule() -> None:
    assert schedule(1, SECONDS, KILLS) != schedule(2, SECONDS, KILLS)


def test_clocks_are_set_forward_and_back() -> None:
    steps_s = [blow.for_s for blow in schedule(1, SECONDS, KILLS) if blow.fault == "step-clocks"]
    assert min(steps_s) < 0 < max(steps_s)
