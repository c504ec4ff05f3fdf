"""Acknowledgements: what an answer, a newer plan or time alone closes, and what goes on waiting and is sent again."""

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.commands import Change, Command
from streams.core.plans import PlanMade
from streams.core.records import NewRecord
from streams.core.results import CommandClosed, Notice, PlanRequested
from streams.core.session import MachineState
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    Heartbeat,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SymptomReported,
)
from tests.core.story import PRESCRIPTION, Machine, by_number, commands, facts, metrics, records, run
from tests.core.test_hostile_sessions import ASKED, BY, asked_and_planned, plan_for, told

ACK_GRACE_MS = 10_000
"""As docs/science.md has it: so long after its expiry a command may still be acknowledged."""


def waiting(state: MachineState) -> list[tuple[str, str | None]]:
    return [(one.command.action, one.command.session) for one in state.pending]


def edit(machine: Machine) -> Any:
    return machine.say(ClinicianEdited, **BY, prescription=PRESCRIPTION)


# --- a newer plan ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_training", [False, True])
def test_an_edit_of_the_plan_leaves_a_stop_waiting_that_is_sent_again_until_it_is_answered(is_training: bool) -> None:
    #  stop    session requested    plan edited    beat, beat, beat: nobody answers
    #  STOP                                        STOP again
    machine = Machine()
    before = [machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION)] if is_training else []
    story = [machine.online(), *before, machine.say(ButtonPressed, button="stop")]
    state, said = run(records([*story, machine.say(SessionRequested, **ASKED), edit(machine)], step_ms=10))
    (stop,) = commands(said)
    assert waiting(state) == [("stop", "s1" if is_training else None)]
    assert metrics(said, CommandClosed) == []
    _, said = run(records([machine.say(Heartbeat) for _ in range(4)], start_ms=2_000_000), state)
    assert {one.command_id for one in commands(said)} == {stop.command_id}


def test_an_edit_of_the_plan_withdraws_that_of_the_session_that_waits_and_no_other() -> None:
    machine = Machine()
    state, first = asked_and_planned(machine)
    state, said = run(told([machine.say(SessionRequested, **ASKED | {"session": "s2"})], 2_000_100), state)
    state, said = run(told([plan_for(facts(said, PlanRequested)[-1])], 2_000_200), state)
    (second,) = commands(said)
    assert waiting(state) == [("prescribe", "s1"), ("prescribe", "s2")]
    state, said = run(told([edit(machine)], 2_000_300), state)
    closed = [(one.command_id, one.outcome, one.reason) for one in metrics(said, CommandClosed)]
    assert closed == [(second.command_id, "expired", "edited")]
    assert [one.command for one in state.pending] == [first]


# --- nobody answers --------------------------------------------------------------------------------------------------


def a_raise(request: PlanRequested) -> PlanMade:
    """Answer a request as the planner does if a little more is due: a therapist has to confirm it."""
    plan = plan_for(request)
    more = replace(
        plan.command,
        rule="progress_load",
        prescription=replace(PRESCRIPTION, load_N=305.0),
        changes=(Change(quantity="load_N", old=300.0, new=305.0, bound=600.0),),
        confirm=True,
    )
    known = replace(plan.known, load_cap_N=600.0, week_low_N=300.0, clean_sessions=5, learning=False)
    return replace(plan, command=more, known=known)


@pytest.mark.parametrize(("is_raise", "again"), [(True, False), (False, True)])
def test_of_plans_that_nobody_answers_an_increase_is_not_sent_again(is_raise: bool, again: bool) -> None:
    machine = Machine()
    state, said = run(records([machine.online(), machine.say(SessionRequested, **ASKED)]))
    (request,) = facts(said, PlanRequested)
    state, said = run(told([a_raise(request) if is_raise else plan_for(request)]), state)
    (plan,) = commands(said)
    assert plan.confirm == is_raise
    _, said = run(records([machine.say(Heartbeat) for _ in range(6)], start_ms=2_000_000), state)
    assert {one.command_id for one in commands(said)} == ({plan.command_id} if again else set())


def a_decrease(machine: Machine) -> tuple[MachineState, Command]:
    state, said = run(records([*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)]))
    (command,) = commands(said)
    return state, command


@pytest.mark.parametrize(
    ("after_ms", "closed"), [(ACK_GRACE_MS, []), (ACK_GRACE_MS + 1, [("expired", "unacknowledged")])]
)
def test_a_command_waits_for_its_answer_until_ten_seconds_after_its_expiry(
    after_ms: int, closed: list[tuple[str, str]]
) -> None:
    #  sent    expires                   + 10 s    + 10.001 s
    #  waits   waits, not sent again     waits     expired
    machine = Machine()
    state, command = a_decrease(machine)
    state, said = run(records([machine.say(Heartbeat)], start_ms=command.expires_ms + after_ms), state)
    assert [(one.outcome, one.reason) for one in metrics(said, CommandClosed)] == closed
    assert waiting(state) == ([] if closed else [("lower_load", "s1")])
    assert commands(said) == []


# --- a set that should have ended ------------------------------------------------------------------------------------

PACED = replace(PRESCRIPTION, concentric_s=2.0, eccentric_s=1.2, rpe=5)
TIRED = by_number(  # from rep 5 on
    mean_velocity=(0.52,) * 4 + (0.40, 0.39, 0.34, 0.30, 0.29),
    concentric_time_s=(2.0,) * 4 + (2.6,) * 5,
    range_of_motion=(1.0,) * 4 + (0.88,) * 5,
    rom_completeness_pct=(100.0,) * 9,
    eccentric_time_s=(1.2,) * 9,
)
ANSWERS: dict[str, tuple[type, dict[str, Any]]] = {
    "rejected": (CommandRejected, {"reason": "busy"}),
    "expired": (CommandExpired, {}),
}


def in_a_set(
    machine: Machine, intent: str, numbers: range, state: MachineState | None = None
) -> tuple[MachineState, list[Command], list[NewRecord]]:
    story = machine.begin(intent=intent, prescription=PACED) if state is None else []
    story += [machine.rep(n, intent=intent, prescription=PACED) for n in numbers]
    state, said = run(records(story, start_ms=1_000_000 * numbers.start, step_ms=100), state, values=TIRED)
    return state, list({one.command_id: one for one in commands(said)}.values()), said


def answered(machine: Machine, state: MachineState, command: Command, outcome: str) -> tuple[MachineState, list[str]]:
    """Let the machine answer, or nobody; return the alarms about it."""
    if outcome == "unanswered":
        told, at_ms = machine.say(Heartbeat), command.expires_ms + ACK_GRACE_MS + 1
    else:
        kind, fields = ANSWERS[outcome]
        told, at_ms = machine.say(kind, command_id=command.command_id, **fields), command.issued_ms + 100
    state, said = run(records([told], start_ms=at_ms), state)
    return state, [f"{one.name}: {one.detail}" for one in metrics(said, Notice) if one.severity == "alarm"]


@pytest.mark.parametrize("outcome", [*ANSWERS, "unanswered"])
@pytest.mark.parametrize(("intent", "rule"), [("max", "velocity_loss_stop"), ("paced", "paced_fatigue_stop")])
def test_a_set_that_the_machine_did_not_end_is_ended_by_the_next_rep_that_is_as_bad_and_is_an_alarm_once(
    intent: str, rule: str, outcome: str
) -> None:
    #  rep     5, 6: end set    7: end set    8: end set, 9
    #  answer             no           no
    #                  alarm
    machine = Machine()
    state, (first,), _ = in_a_set(machine, intent, range(1, 7))
    state, alarms = answered(machine, state, first, outcome)
    assert [(alarm.split(":")[0], rule in alarm) for alarm in alarms] == [("set_not_ended", True)]
    state, (second,), _ = in_a_set(machine, intent, range(7, 8), state)
    state, alarms = answered(machine, state, second, outcome)
    assert alarms == []
    state, (third,), _ = in_a_set(machine, intent, range(8, 10), state)
    ended = (first, second, third)
    assert {(one.rule, one.action, one.set_number) for one in ended} == {(rule, "end_set", 1)}
    assert len({one.command_id for one in ended}) == len(ended)
    assert first.sequence < second.sequence < third.sequence
    assert all(len({one.source for one in command.evidence}) >= 2 for command in ended)  # S15


def test_of_a_set_that_is_over_nobody_is_told_that_it_was_not_ended() -> None:
    machine = Machine()
    state, (command,), _ = in_a_set(machine, "max", range(1, 7))
    over = machine.say(SetEnded, session="s1", set_number=1, reps_done=6)
    state, _ = run(records([over], start_ms=command.issued_ms), state)
    assert answered(machine, state, command, "rejected")[1] == []


def test_a_set_that_the_machine_ended_asks_for_its_end_once_though_a_rep_was_on_its_way() -> None:
    machine = Machine()
    state, (command,), _ = in_a_set(machine, "max", range(1, 7))
    applied = machine.say(CommandApplied, command_id=command.command_id)
    state, _ = run(records([applied], start_ms=command.issued_ms), state)
    assert in_a_set(machine, "max", range(7, 9), state)[1] == []


def test_after_a_stop_nobody_is_told_of_a_set_that_was_not_ended() -> None:
    machine = Machine()
    state, (command,), _ = in_a_set(machine, "max", range(1, 7))
    pressed = machine.say(ButtonPressed, button="stop")
    state, _ = run(records([pressed], start_ms=command.issued_ms), state)
    assert answered(machine, state, command, "rejected")[1] == []
