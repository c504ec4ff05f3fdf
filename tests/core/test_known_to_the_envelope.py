"""What the envelope knows: facts of another patient or another boot allow nothing, and hide no danger."""

from collections.abc import Iterable

from streams.core.records import NewRecord
from streams.core.results import Notice, PlanRequested
from streams.core.telemetry import (
    ButtonPressed,
    FaultRaised,
    Heartbeat,
    Released,
    Screened,
    SessionRequested,
    SessionStarted,
    SetStarted,
    SymptomReported,
    Telemetry,
)
from tests.core.story import PATIENT, PRESCRIPTION, Machine, commands, facts, metrics, records, run
from tests.core.test_hostile_sessions import ASKED, plan_for, told

ANOTHER = ASKED | {"patient": "acme/p2"}


def refused(said: Iterable[NewRecord]) -> list[str]:
    """Return what the envelope refused, and by which invariant."""
    return [one.detail.partition(":")[0] for one in metrics(said, Notice) if one.name == "refused"]


def test_that_another_patient_was_screened_as_clear_allows_nothing_but_a_stop() -> None:
    #  p1 clear    p2 begins    pain 4          stop
    #                           refused, S23    STOP
    machine = Machine()
    story = [
        machine.online(),
        machine.say(Screened, patient=PATIENT, outcome="clear", by="dr-1"),
        machine.say(SessionStarted, **ANOTHER, prescription=PRESCRIPTION),
        machine.say(SetStarted, session="s1", set_number=1, load_N=300.0),
        machine.say(SymptomReported, session="s1", pain_nrs=4),
        machine.say(ButtonPressed, button="stop"),
    ]
    _, said = run(records(story, step_ms=10))
    assert [one.action for one in commands(said)] == ["stop"]
    assert refused(said) == ["lower_load by pain_reduce refused by S23"]


def test_that_another_patient_was_screened_as_clear_allows_no_plan() -> None:
    machine = Machine()
    request = machine.say(SessionRequested, **ANOTHER)
    late = machine.say(Screened, patient=PATIENT, outcome="clear", by="dr-1")  # of somebody else, after the request
    state, said = run(records([machine.online(), request, late], step_ms=10))
    (asked,) = facts(said, PlanRequested)
    _, said = run(told([plan_for(asked, screening=None)]), state)
    assert commands(said) == []
    assert refused(said) == ["prescribe by keep refused by S23"]


def test_a_patient_who_trains_stays_cleared_while_the_next_one_is_screened_at_the_machine() -> None:
    #  p1 clear   trains   p2 clear   p1: pain 4          p1 excluded   p2 clear   p1: pain 7
    #                                 lower_load                                   refused, S23
    machine = Machine()
    story = [*machine.begin(), machine.say(Screened, patient="acme/p2", outcome="clear", by="dr-1")]
    story += [machine.say(SymptomReported, session="s1", pain_nrs=4)]
    state, said = run(records(story, step_ms=10))
    assert [one.action for one in commands(said)] == ["lower_load"]
    story = [machine.say(Screened, patient=PATIENT, outcome="excluded", by="dr-1")]
    story += [machine.say(Screened, patient="acme/p2", outcome="clear", by="dr-1")]
    story += [machine.say(SymptomReported, session="s1", pain_nrs=7)]
    _, said = run(told(story), state)
    assert (commands(said), refused(said)) == ([], ["end_exercise by pain_stop refused by S23"])


def test_a_danger_that_comes_late_stops_though_an_earlier_boot_was_released_at_a_later_place() -> None:
    #  b1   0 .. 19 beats      20 stop                       21 released
    #  b2   1 and 2 beats      0 given up as lost, 3 beats   0 comes, and is a fault: STOP
    first, second = Machine("b1"), Machine("b2")
    beats = [first.say(Heartbeat) for _ in range(20)]
    end: list[Telemetry] = [first.say(ButtonPressed, button="stop"), first.say(Released, by="dr-1")]
    state, _ = run(records([first.online(), *beats, *end, second.online()], step_ms=10))
    assert not state.locked
    fault = second.say(FaultRaised, fault="encoder")
    later = [second.say(Heartbeat) for _ in range(3)]
    state, said = run(records([*later, fault], start_ms=3_000_000, step_ms=2_500), state)
    assert state.locked
    assert "stop" in [one.action for one in commands(said)]
