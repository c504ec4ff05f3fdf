"""The soak: its days are new to the stages, all of them are measured, and growth is noticed."""

import pytest

from loadtest.soak import soak, source
from loadtest.soak.memory import Sample, growth_pct
from streams.core import codec
from streams.core.telemetry import Rep, SessionStarted


def test_every_day_is_new_and_says_the_same_reps() -> None:
    days = source.days(source.day(seed=2, machines=3, hours=0.2))
    first, second = next(days), next(days)
    names = [{codec.message_id(one.machine, one.message) for one in day} for day in (first, second)]
    assert len(names[0]) == len(first)  # each message has a place of its own
    assert not names[0] & names[1]
    sessions = [
        {one.message.session for one in day if isinstance(one.message, SessionStarted)} for day in (first, second)
    ]
    assert sessions[0]
    assert not sessions[0] & sessions[1]
    assert source.reps_of(first) == source.reps_of(second) > 0
    assert [one.message.force for one in first if isinstance(one.message, Rep)] == [
        one.message.force for one in second if isinstance(one.message, Rep)
    ]


async def test_every_rep_that_is_said_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "MACHINES", 3)
    monkeypatch.setattr(soak, "HOURS", 0.2)
    heard: list[Sample] = []
    done = await soak.run(1_000, seed=2, told=heard.append)
    assert done.measured == done.reps >= 1_000
    assert done.dead_letters == 0
    assert done.points["session_summary"] > 0
    assert done.points["patient"] > 0  # the planner has worked, too
    assert done.samples == heard


def test_what_grows_is_noticed_and_what_only_wavers_is_not() -> None:
    wavers = [Sample(1_000 * n, 100_000_000 + 200_000 * (-1) ** n, float(n)) for n in range(100)]
    grows = [Sample(1_000 * n, 100_000_000 + 20_000 * n, float(n)) for n in range(100)]
    assert abs(growth_pct(wavers)) < 0.1
    assert growth_pct(grows) == pytest.approx(1.98)
