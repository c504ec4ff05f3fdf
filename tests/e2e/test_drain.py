"""SIGTERM under load, on real servers: every role ends well, and nothing that was dealt with is dealt with again."""

import pytest

from loadtest import drain

pytestmark = pytest.mark.stack


async def test_what_a_role_had_dealt_with_before_sigterm_is_not_dealt_with_again_after_its_restart() -> None:
    done = await drain.run(seed=3, rounds=1, rate=40.0, away=False)
    assert {one.role: one.status for one in done.drains} == dict.fromkeys(drain.LOADED, 0)
    assert not any(done.again.values()), done.again
    assert done.reps >= len(drain.LOADED) * drain.MOVED
