"""The fault campaign of each run: everything breaks for five minutes, and at the end the books balance."""

from collections.abc import Callable

import pytest

from loadtest.chaos import campaign
from loadtest.chaos.faults import FAULTS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1_800)]

SEED = 20_261_128
SECONDS = 300.0
"""How long things break: every kind of fault several times, on everything that it can meet."""

REPS_PER_S = 60.0
"""What two cores bear with all workers starting again and again, and some room."""


async def test_while_everything_breaks_nothing_is_lost_doubled_stale_or_out_of_order(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    record_testsuite_property("seed", SEED)
    done = await campaign.run(SEED, SECONDS, REPS_PER_S, lambda _what, _share: None)
    assert done.is_clean, f"{done}"
    assert done.kills > SECONDS / 10
    assert done.faults.keys() == FAULTS.keys()
    assert done.clocks_off_s > 60
    assert done.reps > SECONDS * REPS_PER_S / 2
