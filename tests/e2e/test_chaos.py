"""The short fault campaign: everything breaks for a while, and at the end the books balance."""

from collections.abc import Callable

import pytest

from loadtest.chaos import campaign

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SEED = 20_261_128
SECONDS = 60.0
"""How long things break: long enough for every kind of fault, short enough for each commit."""

REPS_PER_S = 30.0
"""What a machine that runs other things beside bears with all workers starting again and again."""


async def test_while_everything_breaks_nothing_is_lost_doubled_stale_or_out_of_order(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    record_testsuite_property("seed", SEED)
    done = await campaign.run(SEED, SECONDS, REPS_PER_S, lambda _what, _share: None)
    assert done.is_clean, f"{done}"
    assert done.kills > 0
    assert done.reps > SECONDS * REPS_PER_S / 2
