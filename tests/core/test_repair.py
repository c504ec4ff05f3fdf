"""Gap repair: what never came is asked for, once, and the record of its session is complete or said not to be."""

from typing import Any

import pytest

from streams.core.commands import Command
from streams.core.controller import Controller
from streams.core.envelope import Refused
from streams.core.policy import Policy
from streams.core.records import NewRecord, Record
from streams.core.results import CommandClosed, Notice, RepMeasured, SessionSummarised
from streams.core.session import MAX_ASKING, MAX_PENDING, MAX_REPAIRS, MachineState
from streams.core.stage import MAX_STATE_BYTES
from streams.core.telemetry import (
    ButtonPressed,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    Heartbeat,
    Offline,
    Released,
    SessionEnded,
    SetEnded,
    SymptomReported,
    Telemetry,
)
from tests.core.story import MACHINE, Machine, commands, metrics, records, resends, run

TTL_MS = 15 * 60_000
"""Expiry of a request by the default policy, in ms of log time."""


class Told:
    """A machine, what was heard of it, and what was said to it. Some of what it says is lost on the way."""

    def __init__(self, stage: Controller | None = None) -> None:
        self.machine, self.said, self.now_ms = Machine(), list[NewRecord](), 0
        self.state: MachineState | None = None
        self._stage = stage

    def hear(self, *messages: Telemetry, after_ms: int = 100) -> "Told":
        """Hear messages, one after the other."""
        for message in messages:
            self.now_ms += after_ms
            (record,) = records([message])
            at = Record(record.topic, record.partition, record.offset, record.key, record.value, self.now_ms)
            self.state, said = run([at], self.state, stage=self._stage)
            self.said += said
        return self

    def until_given_up(self) -> "Told":
        """Hear heartbeats until nothing waits any longer."""
        return self.hear(*(self.machine.say(Heartbeat) for _ in range(3)), after_ms=1_100)

    def beat_until(self, now_ms: int) -> "Told":
        """Hear heartbeats until this log time."""
        while self.now_ms < now_ms:
            self.hear(self.machine.say(Heartbeat), after_ms=5_000)
        return self

    def ends_session(self) -> "Told":
        """Hear the end of set and session."""
        self.hear(self.machine.say(SetEnded, session="s1", set_number=1, reps_done=4))
        return self.hear(self.machine.say(SessionEnded, session="s1"))

    def answers(self, command: Command, kind: type[Any] = CommandApplied, **fields: Any) -> "Told":
        """Hear the machine's answer."""
        return self.hear(self.machine.say(kind, command_id=command.command_id, **fields))

    @property
    def names(self) -> list[str]:
        """Return the names of all notices."""
        return [one.name for one in metrics(self.said, Notice)]

    @property
    def ends(self) -> list[tuple[str, str, str]]:
        """Return how commands ended."""
        return [(one.action, one.outcome, one.reason) for one in metrics(self.said, CommandClosed)]


def in_a_set() -> Told:
    told = Told()
    return told.hear(*told.machine.begin())


def with_a_hole(count: int = 1) -> tuple[Told, list[Any]]:
    """Return a running set of which some reps never came, and these reps."""
    told = in_a_set()
    lost = [told.machine.rep(number) for number in range(1, count + 1)]
    told.hear(told.machine.rep(count + 1)).until_given_up()
    return told, lost


def test_a_hole_is_asked_for_once_and_exactly() -> None:
    told, lost = with_a_hole(2)
    told.beat_until(60_000)
    (request,) = resends(told.said)
    assert request.missing is not None
    assert (request.boot_id, request.missing.first_seq, request.missing.last_seq) == ("b1", lost[0].seq, lost[1].seq)
    assert request.command_id == f"{MACHINE}/b1/{lost[0].seq}/resend-{lost[1].seq}"
    assert request.cause == f"{MACHINE}/b1/{lost[1].seq + 1}"
    assert request.expires_ms - request.issued_ms == TTL_MS


def test_every_hole_has_a_request_of_its_own() -> None:
    told = in_a_set()
    lost = [told.machine.rep(1)]
    told.hear(told.machine.rep(2))
    lost.append(told.machine.rep(3))
    told.hear(told.machine.rep(4)).until_given_up()
    asked = [one.missing for one in resends(told.said)]
    assert [(one.first_seq, one.last_seq) for one in asked if one] == [(one.seq, one.seq) for one in lost]


def test_what_was_only_overtaken_is_not_asked_for() -> None:
    told = in_a_set()
    late = told.machine.rep(1)
    told.hear(told.machine.rep(2), late).until_given_up()
    assert resends(told.said) == []


def test_what_is_said_again_is_measured_decides_nothing_and_makes_the_record_complete() -> None:
    told, lost = with_a_hole()
    (request,) = resends(told.said)
    told.ends_session().hear(*lost).answers(request)
    assert [rep.rep_number for rep in metrics(told.said, RepMeasured)] == [2, 1]
    assert commands(told.said) == []
    (summary,) = metrics(told.said, SessionSummarised)
    assert summary.incomplete
    (word,) = [one for one in metrics(told.said, Notice) if one.name.startswith("record_")]
    assert (word.name, word.id) == ("record_complete", f"{MACHINE}/b1/{lost[0].seq}/notice/record_complete/s1")
    assert told.ends == [("resend", "applied", "")]
    assert told.state is not None
    assert (told.state.repairs, told.state.gapped) == ((), ())


def test_a_record_that_was_filled_while_its_session_ran_is_said_to_be_complete_when_it_ends() -> None:
    told, lost = with_a_hole()
    told.hear(*lost)
    assert "record_complete" not in told.names
    assert told.ends_session().names[-1] == "record_complete"


def test_a_record_is_complete_only_when_the_last_hole_is_filled() -> None:
    told, lost = with_a_hole(3)
    told.ends_session().hear(*lost[:2], lost[0])
    assert "record_complete" not in told.names
    assert told.hear(lost[2]).names[-1] == "record_complete"


@pytest.mark.parametrize("kind", [CommandRejected, CommandExpired])
def test_what_a_machine_no_longer_has_stays_missing_and_that_is_said(kind: type[Any]) -> None:
    told, _ = with_a_hole()
    (request,) = resends(told.said)
    told.ends_session().answers(request, kind, **({"reason": "not_kept"} if kind is CommandRejected else {}))
    assert told.names[-1] == "record_incomplete"
    assert metrics(told.said, Notice)[-1].detail.endswith(
        "not_kept" if kind is CommandRejected else "told by the machine"
    )
    assert [outcome for _, outcome, _ in told.ends] == ["rejected" if kind is CommandRejected else "expired"]


def test_a_request_that_nobody_answers_expires_and_the_record_is_said_to_stay_incomplete() -> None:
    told, _ = with_a_hole()
    told.ends_session().beat_until(TTL_MS + 60_000)
    assert told.ends == [("resend", "expired", "unacknowledged")]
    assert told.names.count("record_incomplete") == 1
    assert "record_complete" not in told.names


def test_an_answer_without_the_messages_leaves_the_record_incomplete_in_the_end() -> None:
    told, _ = with_a_hole()
    (request,) = resends(told.said)
    told.ends_session().answers(request).beat_until(TTL_MS + 60_000)
    assert told.ends == [("resend", "applied", "")]
    assert told.names.count("record_incomplete") == 1


def test_an_answer_ahead_of_the_messages_is_no_end_of_the_waiting() -> None:
    told, lost = with_a_hole()
    (request,) = resends(told.said)
    told.ends_session().answers(request).hear(*lost)
    assert told.names[-1] == "record_complete"


def test_a_second_answer_changes_nothing() -> None:
    told, lost = with_a_hole()
    (request,) = resends(told.said)
    told.hear(*lost).answers(request).answers(request).answers(request, CommandRejected, reason="not_kept")
    assert told.ends == [("resend", "applied", "")]
    assert "unknown_command" not in told.names


def test_a_machine_that_was_away_gets_the_request_again_when_it_comes_back() -> None:
    told = in_a_set()
    told.machine.rep(1)
    told.hear(told.machine.rep(2), Offline(boot_id="b1"))
    (request,) = resends(told.said)
    told.hear(told.machine.online(), after_ms=60_000)
    again = resends(told.said)
    assert again == [request, request]
    assert [dict(one.headers)["ce_id"] for one in told.said if one.topic.endswith("command.v1")][-1].endswith(b"#2")


def test_a_machine_that_was_away_for_hours_is_asked_no_more() -> None:
    told = in_a_set()
    told.machine.rep(1)
    told.hear(told.machine.rep(2), Offline(boot_id="b1"))
    told.hear(told.machine.online(), after_ms=3 * 3_600_000)
    assert len(resends(told.said)) == 1
    assert ("resend", "expired", "unacknowledged") in told.ends


def test_what_a_boot_that_is_over_still_owes_is_asked_for_and_taken() -> None:
    told = in_a_set()
    old, lost = told.machine, told.machine.rep(1)
    told.hear(old.rep(2))
    told.machine = Machine("b2")
    told.hear(told.machine.online())
    (request,) = resends(told.said)
    assert (request.boot_id, metrics(told.said, SessionSummarised)[0].ended_by) == ("b1", "rebooted")
    told.hear(lost).answers(request)
    assert told.names[-1] == "record_complete"
    assert [rep.rep_number for rep in metrics(told.said, RepMeasured)] == [2, 1]


def test_a_late_message_of_a_boot_that_is_over_shows_what_is_missing_before_it() -> None:
    told = in_a_set()
    old = told.machine
    lost, late = old.rep(1), old.rep(2)
    told.machine = Machine("b2")
    told.hear(told.machine.online(), late)
    (request,) = resends(told.said)
    assert request.missing is not None
    assert (request.boot_id, request.missing.first_seq, request.missing.last_seq) == ("b1", lost.seq, lost.seq)
    assert told.hear(lost).names[-1] == "record_complete"


def test_a_session_that_nobody_heard_begin_is_complete_when_its_beginning_has_come() -> None:
    told = Told()
    start = told.machine.begin()
    told.hear(*start[:2], told.machine.rep(1)).until_given_up().ends_session()
    assert metrics(told.said, SessionSummarised)[0].incomplete
    assert told.hear(*start[2:]).names.count("record_complete") == 1


def test_a_locked_machine_and_an_unscreened_patient_s_are_asked_too() -> None:
    told = Told()
    start = [one for one in told.machine.begin() if type(one).__name__ != "Screened"]
    told.hear(start[0], told.machine.say(ButtonPressed, button="stop"))
    told.until_given_up()
    assert told.state is not None
    assert told.state.locked
    assert len(resends(told.said)) == 1


# --- requests hold back nobody ---------------------------------------------------------------------------------------


def with_many_holes(count: int) -> Told:
    told = in_a_set()
    for number in range(2 * count):
        rep = told.machine.rep(number + 1)
        if number % 2:
            told.hear(rep, after_ms=10)
    return told.until_given_up()


def test_only_so_many_requests_are_open_and_the_next_ones_follow_when_they_are_answered() -> None:
    told = with_many_holes(MAX_ASKING + 2)
    asked = resends(told.said)
    assert len(asked) == MAX_ASKING
    told.answers(asked[0], CommandRejected, reason="not_kept")
    assert len(resends(told.said)) == MAX_ASKING + 1


def test_what_is_too_much_is_given_up_and_that_is_said() -> None:
    told = with_many_holes(MAX_REPAIRS + 3)
    assert told.state is not None
    assert len(told.state.repairs) == MAX_REPAIRS
    assert len(Controller().save(told.state)) < MAX_STATE_BYTES
    assert told.ends.count(("resend", "expired", "crowded_out")) == 3
    told.ends_session().beat_until(told.now_ms + 6 * TTL_MS)
    assert told.names.count("record_incomplete") == 1
    assert "record_complete" not in told.names


def test_open_requests_leave_the_places_and_the_sequence_of_decreases_alone() -> None:
    told = with_many_holes(MAX_REPAIRS)
    assert told.state is not None
    assert (told.state.pending, told.state.last_sequence) == ((), -1)
    pain = told.machine.say(SymptomReported, session="s1", pain_nrs=4)
    told.hear(pain)
    (lower,) = commands(told.said)
    assert (lower.action, lower.sequence) == ("lower_load", 8 * pain.seq)
    assert [one.command.command_id for one in told.state.pending] == [lower.command_id]


def test_a_decrease_by_the_very_message_that_shows_a_hole_is_sent_in_the_same_step() -> None:
    told = in_a_set()
    told.machine.rep(1)
    told.hear(told.machine.say(SymptomReported, session="s1", pain_nrs=4)).until_given_up()
    assert {one.action for one in commands(told.said)} == {"lower_load"}
    assert len(resends(told.said)) == 1


def test_a_full_house_of_unanswered_decreases_crowds_out_no_request_and_the_other_way_round() -> None:
    told = with_many_holes(MAX_REPAIRS)
    asked = len(resends(told.said))
    for _ in range(MAX_PENDING + 2):
        told.hear(told.machine.say(ButtonPressed, button="stop"), told.machine.say(Released, by="physio-1"))
    assert told.state is not None
    assert len(told.state.pending) == MAX_PENDING
    assert len(resends(told.said)) == asked
    assert not [end for end in told.ends if end[0] == "resend"]


def test_a_request_is_never_a_repetition_that_alarms() -> None:
    told, _ = with_a_hole()
    told.beat_until(120_000)
    assert "unacknowledged" not in told.names


def test_the_time_that_a_machine_has_is_the_policy_s() -> None:
    told = Told(Controller(Policy(resend_ttl_min=2.0)))
    told.hear(*told.machine.begin())
    told.machine.rep(1)
    told.hear(told.machine.rep(2)).until_given_up()
    (request,) = resends(told.said)
    assert request.expires_ms - request.issued_ms == 120_000


def test_a_request_that_the_envelope_refuses_is_told_and_the_record_stays_incomplete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.core.envelope.permit", lambda _, wish: Refused(wish, "S25", "no"))
    told, _ = with_a_hole()
    told.ends_session()
    assert resends(told.said) == []
    assert {"refused", "record_incomplete"} <= set(told.names)
