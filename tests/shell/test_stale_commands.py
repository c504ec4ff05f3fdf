"""Commands can't go stale: 10,000 of them through wrong clocks, hours without a link, copies, disorder and reboots."""

from collections import Counter
from collections.abc import Callable

import pytest

from loadtest import programme
from loadtest.saying import Saying
from streams.core import acknowledgements, envelope, invariants
from tests.shell.stale import SKEW_MS, Day

SEED = 20_261_128
COMMANDS = 10_000
SOME = 1_200
"""Commands of a day on which one check is missing."""


async def test_of_ten_thousand_commands_none_acts_late_or_out_of_order_and_each_ends_in_one_way() -> None:
    day = await Day(SEED, commands=COMMANDS).live()
    assert len(day.issued) >= COMMANDS
    assert day.wrongs() == {}
    ends = Counter(end for told in day.closed.values() for end in told)
    assert all(ends[end] > 50 for end in ("applied", "rejected", "expired")), ends
    actions = Counter(command.action for command in day.issued.values())
    assert all(actions[action] > 50 for action in ("stop", "lower_load", "end_exercise", "resend")), actions
    assert sum(count > 1 for count in day.copies.values()) > 500


Patch = pytest.MonkeyPatch


def _no_expiry_at_the_machine(patch: Patch) -> None:
    patch.setitem(programme.REFUSALS, "expired", lambda *_: False)


def _no_sequence_at_the_machine(patch: Patch) -> None:
    patch.setitem(programme.REFUSALS, "stale_sequence", lambda *_: False)


def _no_sequence_in_the_loop(patch: Patch) -> None:
    rows = tuple(row for row in envelope.ENVELOPE if row.judge is not invariants.is_current)
    patch.setattr(envelope, "ENVELOPE", rows)


def _nobody_looks_after_open_commands(patch: Patch) -> None:
    patch.setattr(acknowledgements, "look_after_pending", lambda *_: None)


@pytest.mark.parametrize(
    ("sabotage", "wrong"),
    [
        (_no_expiry_at_the_machine, "applied after its expiry"),
        (_no_sequence_at_the_machine, "applied out of order"),
        (_no_sequence_in_the_loop, "issued out of order"),
        (_nobody_looks_after_open_commands, "not ended, or twice"),
    ],
)
async def test_without_one_of_the_checks_it_is_seen(
    sabotage: Callable[[Patch], None], wrong: str, monkeypatch: Patch
) -> None:
    sabotage(monkeypatch)
    day = await Day(SEED, commands=SOME).live()
    assert wrong in day.wrongs()


async def test_machines_that_believe_their_slow_clocks_are_seen(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Saying, "log_time", lambda _self, _command, now_ms, _watch_ms: now_ms)
    day = await Day(SEED, commands=SOME, fastest_ms=-SKEW_MS // 2).live()
    assert "applied after its expiry" in day.wrongs()


async def test_a_downlink_that_does_not_see_the_time_is_seen() -> None:
    day = await Day(SEED, commands=SOME, downlink_sees_time=False).live()
    assert "sent after its expiry" in day.wrongs()


async def test_with_all_the_checks_such_a_day_is_well() -> None:
    assert (await Day(SEED, commands=SOME).live()).wrongs() == {}
