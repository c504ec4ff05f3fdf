"""The controller as a story: what a machine says, and what follows."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import codec, topics
from streams.core.controller import Controller
from streams.core.records import Record
from streams.core.results import CommandClosed, Notice, RepMeasured, SessionSummarised, SetSummarised
from streams.core.stage import MAX_STATE_BYTES
from streams.core.telemetry import (
    ButtonPressed,
    CommandApplied,
    CommandRejected,
    Heartbeat,
    Offline,
    Online,
    Released,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
    Telemetry,
)
from tests.core.story import MACHINE, PATIENT, PRESCRIPTION, Machine, commands, metrics, records, run

TIRING = (0.50, 0.55, 0.52, 0.50, 0.38, 0.36)
#  loss against the mean of the three fastest, about, %:  25    29; limit 20, two in a row


def story(velocities: tuple[float, ...] = TIRING, **fields: Any) -> list[Telemetry]:
    machine = Machine()
    told = machine.begin()
    told += [machine.rep(n, v, **fields) for n, v in enumerate(velocities, start=1)]
    told += [
        machine.say(SetEnded, session="s1", set_number=1, reps_done=len(velocities), rpe=7),
        machine.say(SessionEnded, session="s1"),
    ]
    return told


def test_two_reps_in_a_row_over_the_limit_end_the_set() -> None:
    _, said = run(records(story()))
    (command,) = commands(said)
    assert (command.action, command.rule, command.cause) == ("end_set", "velocity_loss_stop", f"{MACHINE}/b1/8")
    losses = [one.value for one in command.evidence if one.name == "velocity_loss_robust_pct"]
    assert losses == [pytest.approx(24.0, abs=2.0), pytest.approx(28.0, abs=2.0)]


def test_a_paced_set_is_never_stopped_by_velocity_loss() -> None:
    _, said = run(records(paced_story()))
    assert commands(said) == []


def paced_story() -> list[Telemetry]:
    machine = Machine()
    told = machine.begin(intent="paced")
    return told + [machine.rep(n, v, intent="paced") for n, v in enumerate(TIRING, start=1)]


def test_every_rep_is_said_once_with_its_numbers_and_the_commands_that_it_caused() -> None:
    _, said = run(records(story()))
    reps = metrics(said, RepMeasured)
    assert [rep.rep_number for rep in reps] == [1, 2, 3, 4, 5, 6]
    assert [len(rep.commands) for rep in reps] == [0, 0, 0, 0, 0, 1]
    assert reps[0].values["mean_velocity"] == pytest.approx(0.5, rel=0.05)
    assert reps[0].patient == "acme/p1"


def test_set_and_session_are_summed_up_for_history_and_for_the_planner() -> None:
    _, said = run(records(story()))
    (one_set,) = metrics(said, SetSummarised)
    (session,) = metrics(said, SessionSummarised)
    assert (one_set.reps, one_set.valid_reps, one_set.rpe, one_set.incomplete) == (6, 6, 7, False)
    assert one_set.values["velocity_loss_pct"] == pytest.approx(30.0, abs=2.0)
    assert (session.sets, session.reps, session.rules_fired) == (1, 6, {"velocity_loss_stop": 1})
    assert [record.key for record in said if record.topic == topics.PATIENT][-1] == b"acme/p1"


def test_a_stop_button_locks_until_a_clinician_releases() -> None:
    machine = Machine()
    told = machine.begin()
    told += [machine.say(ButtonPressed, button="stop"), machine.say(SymptomReported, session="s1", pain_nrs=4)]
    told += [machine.say(Released, by="physio-1")]
    state, said = run(records(told[:-1]))
    assert [command.action for command in commands(said)] == ["stop"]
    assert state.locked
    state, _ = run(records(told)[-1:], state)
    assert not state.locked


def test_pain_above_five_ends_the_exercise_and_pain_of_four_lowers_load_and_keeps_away_from_the_angle() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4, position=0.9)]
    told += [machine.say(SymptomReported, session="s1", pain_nrs=6)]
    _, said = run(records(told))
    lower, end = commands(said)
    assert (lower.action, end.action) == ("lower_load", "end_exercise")
    assert [(change.quantity, change.new) for change in lower.changes] == [("load_N", 270.0), ("window_hi", 0.812734)]


def test_pain_in_a_narrow_window_lowers_the_load_and_leaves_the_window() -> None:
    machine = Machine()
    narrow = replace(PRESCRIPTION, window_lo=0.0, window_hi=0.1)
    told = [*machine.begin(prescription=narrow), machine.say(SymptomReported, session="s1", pain_nrs=4, position=0.06)]
    (lower,) = commands(run(records(told))[1])
    assert [change.quantity for change in lower.changes] == ["load_N"]


def test_pain_between_two_sets_lowers_the_load_once() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(SetEnded, session="s1", set_number=1, reps_done=0)]
    told += [machine.say(SymptomReported, session="s1", pain_nrs=4) for _ in range(2)]
    assert [command.action for command in commands(run(records(told))[1])] == ["lower_load"]


def test_pain_between_request_and_start_belongs_to_the_session() -> None:
    machine = Machine()
    asked = {"session": "s1", "patient": PATIENT, "exercise": "lumbar_extension", "intent": "max", "settings": "h1"}
    told: list[Telemetry] = [machine.online(), machine.say(Screened, patient=PATIENT, outcome="clear", by="physio-1")]
    told += [machine.say(SessionRequested, **asked), machine.say(SymptomReported, session="s1", pain_nrs=7)]
    told += [machine.say(SessionStarted, **asked), machine.say(SessionEnded, session="s1")]
    _, said = run(records(told))
    assert [command.action for command in commands(said)] == ["end_exercise"]
    (session,) = metrics(said, SessionSummarised)
    assert (session.pain_max, session.rules_fired) == (7, {"pain_stop": 1})


def test_a_warm_up_rep_and_a_paced_rep_are_no_reference_for_velocity_loss() -> None:
    machine = Machine()
    told = machine.begin()
    told += [machine.rep(1, 0.9, warm_up=True), machine.rep(2, 0.9, intent="paced")]
    told += [machine.rep(n, 0.5) for n in range(3, 9)]
    assert commands(run(records(told))[1]) == []


def test_a_red_flag_at_screening_stops_and_locks() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(Screened, patient=PATIENT, outcome="red_flag", by="physio-1")]
    state, said = run(records(told))
    assert ([command.action for command in commands(said)], state.locked) == (["stop"], True)


def test_eight_unanswered_commands_keep_nobody_from_a_decrease() -> None:
    machine = Machine()
    told = machine.begin()
    for number in range(2, 11):
        told += [machine.say(SetStarted, session="s1", set_number=number, load_N=300.0)]
        told += [machine.say(SymptomReported, session="s1", pain_nrs=4)]
    told += [machine.say(SymptomReported, session="s1", pain_nrs=9)]
    state, said = run(records(told, step_ms=1))
    assert [command.action for command in commands(said)][-1] == "end_exercise"
    assert len(state.pending) <= 8


def test_a_stop_is_repeated_until_it_is_answered() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(ButtonPressed, button="stop")]
    told += [machine.say(Heartbeat) for _ in range(60)]
    state, said = run(records(told))
    assert len(commands(said)) > 15
    assert metrics(said, CommandClosed) == []
    assert [one.command.action for one in state.pending] == ["stop"]


def test_nothing_but_stop_is_sent_before_the_patient_is_screened() -> None:
    machine = Machine()
    told = [one for one in machine.begin() if not isinstance(one, Screened)]
    told += [machine.say(SymptomReported, session="s1", pain_nrs=6), machine.say(ButtonPressed, button="stop")]
    _, said = run(records(renumbered(told)))
    assert [command.action for command in commands(said)] == ["stop"]
    assert "S23" in metrics(said, Notice)[0].detail


def renumbered(messages: Sequence[Telemetry]) -> list[Telemetry]:
    """Close the holes that leaving messages out has made."""
    numbers = iter(range(len(messages)))
    return [
        message if isinstance(message, Online | Offline) else replace(message, seq=next(numbers))
        for message in messages
    ]


def test_a_lost_message_holds_all_decisions_of_its_set_but_reps_are_still_measured() -> None:
    told = story()
    del told[6]  # the third rep never comes
    _, said = run(records(told))
    assert commands(said) == []
    assert [rep.rep_number for rep in metrics(said, RepMeasured)] == [1, 2, 4, 5, 6]
    assert [one.name for one in metrics(said, Notice)] == ["messages_lost", "data_hold"]
    assert metrics(said, SetSummarised)[0].incomplete
    assert metrics(said, SessionSummarised)[0].rules_fired == {"data_hold": 1}  # and so no progress follows (S7)


def test_a_rep_that_comes_after_it_was_given_up_is_measured_once_and_decides_nothing() -> None:
    told = story()
    late = told.pop(6)
    _, said = run(records([*told, late, late]))
    assert [rep.rep_number for rep in metrics(said, RepMeasured)] == [1, 2, 4, 5, 6, 3]
    assert commands(said) == []


def test_a_machine_that_goes_offline_in_a_session_is_stopped_and_locked() -> None:
    machine = Machine()
    state, said = run(records([*machine.begin(), machine.rep(1), Offline(boot_id="b1")]))
    (command,) = commands(said)
    assert (command.action, command.evidence[0].value, state.locked) == ("stop", "offline", True)


def test_a_hole_in_the_machines_own_clock_counts_as_lost_heartbeats() -> None:
    machine = Machine()
    told = machine.begin()
    machine.t_us += 16_000_000
    _, said = run(records([*told, machine.say(Heartbeat)]))
    assert [command.evidence[0].value for command in commands(said)] == ["heartbeat_lost"]


def test_a_command_ends_in_exactly_one_way() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)]
    state, said = run(records(told))
    (command,) = commands(said)
    acks: list[Telemetry] = [
        machine.say(CommandApplied, command_id=command.command_id, load_N=270.0),
        machine.say(CommandRejected, command_id=command.command_id, reason="late"),
    ]
    state, said = run(records([*told, *acks])[-2:], state)
    assert [(one.outcome, one.command_id) for one in metrics(said, CommandClosed)] == [("applied", command.command_id)]
    assert state.session is not None
    assert state.session.load_N == 270.0


def test_an_unacknowledged_decrease_is_sent_again_under_its_key_and_expires_in_the_end() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)]
    told += [machine.say(Heartbeat) for _ in range(24)]
    state, said = run(records(told))
    sent = commands(said)
    assert len({command.command_id for command in sent}) == 1
    assert len(sent) > 2
    assert [one.outcome for one in metrics(said, CommandClosed)] == ["expired"]
    assert state.pending == ()


def test_a_reboot_in_a_session_stops_the_machine_and_closes_what_was_open() -> None:
    machine, after = Machine(), Machine("b2")
    told = [*machine.begin(), machine.rep(1), after.online(), after.say(Heartbeat)]
    late = machine.rep(2)
    state, said = run(records([*told, late]))
    assert [command.action for command in commands(said)] == ["stop"]
    assert [one.ended_by for one in metrics(said, SessionSummarised)] == ["rebooted"]
    assert [rep.rep_number for rep in metrics(said, RepMeasured)] == [1, 2]  # the late one is measured all the same
    assert state.boot is not None
    assert state.boot.boot_id == "b2"


def test_whatever_a_machine_sends_its_state_stays_small() -> None:
    machine = Machine()
    told: list[Telemetry] = machine.begin()
    told += [machine.rep(n) for n in range(1, 81)]
    held = [machine.rep(n) for n in range(81, 121)][::-1]
    state, _ = run(records([*told, *held], step_ms=1))
    assert len(Controller().save(state)) < MAX_STATE_BYTES


# --- laws ------------------------------------------------------------------------------------------------------------


def eventful() -> list[Telemetry]:
    """Tell of everything that leaves traces in the state: a tired set, pain that nobody answers, time passing."""
    machine = Machine()
    told = machine.begin()
    told += [machine.rep(n, v) for n, v in enumerate((*TIRING, 0.35), start=1)]
    told += [machine.say(SymptomReported, session="s1", pain_nrs=4, position=0.9)]
    told += [machine.say(Heartbeat) for _ in range(4)]
    told += [machine.say(SetEnded, session="s1", set_number=1, reps_done=7, rpe=7)]
    return [*told, machine.say(SessionEnded, session="s1")]


TOLD = records(eventful())
END, SAID = run(TOLD)


@given(cut=st.integers(0, len(TOLD)))
def test_where_the_batches_are_cut_and_a_restart_between_them_change_nothing(cut: int) -> None:
    stage = Controller()
    state, head = run(TOLD[:cut])
    state, tail = run(TOLD[cut:], stage.restore(stage.save(state)))
    assert (state, head + tail) == (END, SAID)


@given(repeats=st.lists(st.integers(0, len(TOLD) - 1), max_size=5))
def test_a_repeated_message_changes_nothing(repeats: list[int]) -> None:
    told = list(TOLD)
    for place in sorted(repeats, reverse=True):
        told.insert(place + 1, told[place])
    assert run(told) == (END, SAID)


@settings(deadline=None)
@given(order=st.permutations(range(4)), at=st.integers(1, len(TOLD) - 4))
def test_messages_that_overtake_each_other_within_the_bound_change_nothing(order: list[int], at: int) -> None:
    quick = [Record(r.topic, 0, r.offset, r.key, r.value, 1_000_000) for r in TOLD]  # all within the bound
    shuffled = quick[:at] + [quick[at + n] for n in order] + quick[at + 4 :]
    expected, said = run(quick)
    state, heard = run(shuffled)
    assert state == expected
    assert sorted(heard, key=lambda one: one.headers) == sorted(said, key=lambda one: one.headers)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert run(TOLD)[1] == SAID
    assert all(codec.encode(one) for one in metrics(SAID))
