"""Machines: what they say, and every duty that they have towards commands."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from loadtest import patient as patients
from loadtest.exercise import EXERCISES
from loadtest.machine import Machine
from loadtest.roster import assemble
from loadtest.truth import Ledger
from loadtest.visit import Habits
from streams.core import telemetry as told
from streams.core.codec import decode_up, encode, message_id
from streams.core.commands import Action, Change, Command
from streams.core.telemetry import Ack, Telemetry
from streams.core.topics import MachineTopic, Stream

KEY = "demo/site-1/row-01"
NOW_MS = 1_000
T = TypeVar("T")


def a_machine(seed: int = 7, ledger: Ledger | None = None, *, habits: Habits | None = None, **traits: Any) -> Machine:
    """Build a row whose patients never complain, unless told otherwise."""
    calm = {"pain_rate": 0.0, "incident_rate": 0.0, "compliance": 1.0, **traits}
    return Machine(
        KEY,
        number=3,
        exercise=EXERCISES["seated_row"],
        visitors=[replace(patients.draw(seed, index), **calm) for index in (1, 2)],
        seed=seed,
        ledger=ledger or Ledger(),
        habits=habits,
    )


def a_command(machine: Machine, action: Action, number: int = 1, **differences: Any) -> Command:
    command = Command(
        command_id=f"c{number}",
        machine=machine.key,
        boot_id=machine.programme.boot_id,
        sequence=number,
        action=action,
        rule="a_rule",
        cause="a/cause",
        evidence=(),
        policy="p",
        issued_ms=0,
        expires_ms=30_000,
    )
    return replace(command, **differences)


def lower(machine: Machine, load_N: float, number: int = 1) -> Command:
    change = Change(quantity="load_N", old=machine.programme.held_load, new=load_N)
    return a_command(machine, "lower_load", number, changes=(change,))


def words(machine: Machine, at_most: int = 5_000) -> Iterator[Telemetry]:
    """Let a machine live and yield what it says."""
    for _ in range(at_most):
        message = machine.step().message
        if message is not None:
            yield message
        if machine.done:
            return


def until(machine: Machine, kind: type[T], holds: Callable[[T], bool] = lambda _: True) -> T:
    """Let a machine live until it says something of this kind."""
    return next(word for word in words(machine) if isinstance(word, kind) and holds(word))


def stream_of(message: Telemetry) -> Stream:
    if isinstance(message, told.Rep):
        return "rep"
    if isinstance(message, told.Presence):
        return "presence"
    return "ack" if isinstance(message, Ack) else "event"


# Whatever a machine says


def test_everything_a_fleet_says_can_be_understood_and_has_no_hole_in_its_sequence() -> None:
    for machine in assemble(7, 10, Ledger()):
        due = 0
        for word in words(machine, at_most=400):
            assert decode_up(MachineTopic(machine.key, stream_of(word)), encode(word)) == word
            if not isinstance(word, told.Presence):
                assert word.seq == due
                due += 1


def test_a_session_is_told_in_order() -> None:
    machine = a_machine()
    told_so_far = []
    for word in words(machine):
        if not isinstance(word, told.Heartbeat | told.Rep):
            told_so_far.append(type(word).__name__)
        if isinstance(word, told.SessionEnded):
            break
    assert told_so_far[:5] == ["Online", "Screened", "ClinicianEdited", "SessionRequested", "SessionStarted"]
    assert told_so_far[5:] == ["SetStarted", "SetEnded"] * 3 + ["SessionEnded"]


def test_a_patient_is_screened_at_every_visit_and_the_clinician_orders_once() -> None:
    counts = Counter(type(word).__name__ for word in words(a_machine()))
    assert counts["SessionRequested"] > 4
    assert counts["Screened"] == counts["SessionRequested"]
    assert counts["ClinicianEdited"] == 2


def test_a_heartbeat_comes_every_5_s_of_device_time_and_the_device_clock_drifts() -> None:
    machine, elapsed_s, beats_us = a_machine(), 0.0, []
    for _ in range(3_000):
        step = machine.step()
        if isinstance(step.message, told.Heartbeat):
            beats_us.append(step.message.t_us)
            last_s = elapsed_s
        elapsed_s += step.delay_s
    assert {later - earlier for earlier, later in pairwise(beats_us)} == {5_000_000}
    assert 0.0 < abs(beats_us[-1] * 1e-6 / last_s - 1.0) < 300e-6


def test_the_device_clock_never_runs_backwards() -> None:
    clocks = [word.t_us for word in words(a_machine()) if not isinstance(word, told.Presence)]
    assert clocks == sorted(clocks)


def test_set_and_rep_numbers_count_up_from_one() -> None:
    set_number = rep_number = 0
    for word in words(a_machine()):
        if isinstance(word, told.SetStarted):
            set_number, rep_number = word.set_number, 0
        elif isinstance(word, told.Rep):
            rep_number += 1
            assert (word.set_number, word.rep_number) == (set_number, rep_number)
        elif isinstance(word, told.SetEnded):
            assert (word.set_number, word.reps_done) == (set_number, rep_number)


def test_every_rep_has_its_truth_beside_it() -> None:
    ledger = Ledger()
    machine = a_machine(ledger=ledger)
    reps = [word for word in words(machine, 500) if isinstance(word, told.Rep)]
    assert [f"{KEY}/{rep.boot_id}/{rep.seq}" for rep in reps] == list(ledger.truths)
    assert [rep.load_N for rep in reps] == [truth.load_N for truth in ledger.truths.values()]


# Obeying


def test_load_range_rest_and_sets_change_from_the_next_rep_or_set_on() -> None:
    machine = a_machine()
    rep = until(machine, told.Rep)
    assert rep.prescription is not None
    assert rep.prescription.window_hi is not None
    window_hi = rep.prescription.window_hi - 0.1
    changes = (
        Change(quantity="load_N", old=rep.load_N, new=rep.load_N - 20.0),
        Change(quantity="window_hi", old=rep.prescription.window_hi, new=window_hi),
    )
    (ack,) = machine.receive(a_command(machine, "lower_load", changes=changes), NOW_MS)
    assert isinstance(ack, told.CommandApplied)
    assert ack.load_N == rep.load_N - 20.0
    following = until(machine, told.Rep)
    assert following.load_N == ack.load_N
    assert following.prescription is not None
    assert following.prescription.window_hi == window_hi


def test_end_set_ends_the_set_before_its_next_rep_and_the_session_goes_on() -> None:
    machine = a_machine()
    until(machine, told.Rep, lambda rep: rep.rep_number == 4)
    machine.receive(a_command(machine, "end_set", set_number=1), NOW_MS)
    (ended,) = _story(machine, told.SetEnded)
    assert isinstance(ended, told.SetEnded)
    assert ended.reps_done == 4
    assert until(machine, told.SetStarted).set_number == 2


def test_end_exercise_ends_the_session() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    machine.receive(a_command(machine, "end_exercise"), NOW_MS)
    assert [type(word).__name__ for word in _story(machine, told.SessionEnded)] == ["SetEnded", "SessionEnded"]


def test_a_dropped_set_is_not_done() -> None:
    machine = a_machine()
    until(machine, told.SetEnded)
    machine.receive(a_command(machine, "drop_set"), NOW_MS)
    assert until(machine, told.SetStarted).set_number == 2
    ended = [word for word in _story(machine, told.SessionEnded) if isinstance(word, told.SetEnded)]
    assert [word.set_number for word in ended] == [2]


def test_a_rest_that_is_extended_while_it_runs_lasts_longer() -> None:
    machine = a_machine()
    ended = until(machine, told.SetEnded)
    rest = (Change(quantity="rest_s", old=75.0, new=105.0),)
    machine.receive(a_command(machine, "extend_rest", changes=rest), NOW_MS)
    started = until(machine, told.SetStarted)
    assert started.t_us - ended.t_us == pytest.approx(105e6, abs=1e4)


def test_a_cue_makes_a_sloppy_patient_use_the_whole_window() -> None:
    ledger = Ledger()
    machine = a_machine(ledger=ledger, range_habit=0.85, fatigue_rate=0.0)
    until(machine, told.Rep, lambda rep: rep.rep_number == 5)
    machine.receive(a_command(machine, "cue", cue="use the whole range"), NOW_MS)
    until(machine, told.SetEnded)
    roms = [truth.rom for truth in ledger.truths.values()]
    assert sum(roms[5:10]) / sum(roms[:5]) > 1.1


# Prescriptions


def test_a_session_begins_under_the_prescription_that_came() -> None:
    machine = a_machine()
    until(machine, told.SessionRequested)
    prescription = replace(machine.programme.prescription, id="plan", load_N=200.0)
    (ack,) = machine.receive(a_command(machine, "prescribe", prescription=prescription), NOW_MS)
    assert isinstance(ack, told.CommandApplied)
    assert until(machine, told.SessionStarted).prescription == prescription


def test_without_an_answer_the_patient_goes_on_with_what_the_machine_has() -> None:
    machine = a_machine(habits=Habits(patience_s=30.0))
    requested = until(machine, told.SessionRequested)
    held = machine.programme.prescription
    started = until(machine, told.SessionStarted)
    assert started.prescription == held
    assert started.t_us - requested.t_us == 30_000_000


def test_an_increase_takes_effect_only_after_consent() -> None:
    ledger = Ledger()
    machine = a_machine(ledger=ledger)
    until(machine, told.SessionRequested)
    more = replace(machine.programme.prescription, load_N=machine.programme.held_load + 10.0)
    proposal = a_command(machine, "prescribe", prescription=more, confirm=True)
    assert machine.receive(proposal, NOW_MS) == ()
    assert machine.receive(proposal, NOW_MS) == ()  # repeated while the patient thinks
    said = _story(machine, told.SessionStarted)
    assert [type(word).__name__ for word in said] == ["PrescriptionConfirmed", "CommandApplied", "SessionStarted"]
    assert machine.programme.held_load == more.load_N
    assert ledger.effects == {(KEY, "c1"): 1}


def test_a_declined_increase_leaves_the_old_values() -> None:
    machine = a_machine(compliance=0.0)
    until(machine, told.SessionRequested)
    held = machine.programme.prescription
    more = replace(held, load_N=held.load_N + 10.0)
    machine.receive(a_command(machine, "prescribe", prescription=more, confirm=True), NOW_MS)
    said = _story(machine, told.SessionStarted)
    assert [type(word).__name__ for word in said] == ["PrescriptionDeclined", "CommandRejected", "SessionStarted"]
    assert machine.programme.prescription == held


def test_consent_to_what_has_been_overtaken_has_no_effect() -> None:
    machine = a_machine()
    until(machine, told.SessionRequested)
    more = replace(machine.programme.prescription, load_N=machine.programme.held_load + 10.0)
    machine.receive(a_command(machine, "prescribe", 1, prescription=more, confirm=True), NOW_MS)
    machine.receive(lower(machine, 150.0, number=2), NOW_MS)
    assert until(machine, told.CommandRejected).reason == "stale_sequence"
    assert machine.programme.held_load == 150.0


def test_the_next_session_begins_with_what_was_in_force_in_the_last_one() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    machine.receive(lower(machine, 150.0), NOW_MS)
    first = until(machine, told.SessionEnded).session
    patient = until(machine, told.SessionStarted, lambda word: word.session != first).patient
    again = until(machine, told.SessionStarted, lambda word: word.patient != patient)
    assert again.prescription is not None
    assert again.prescription.load_N == 150.0


# S8, S10, S11, S12


def test_s8_after_stop_the_machine_is_locked_until_a_clinician_releases_it() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    (ack,) = machine.receive(a_command(machine, "stop"), NOW_MS)
    assert isinstance(ack, told.CommandApplied)
    assert ack.load_N == 20.0
    (refused,) = machine.receive(lower(machine, 20.0, number=2), NOW_MS)
    assert isinstance(refused, told.CommandRejected)
    assert refused.reason == "locked"
    said = _story(machine, told.Released)
    assert [type(word).__name__ for word in said] == ["SetEnded", "SessionEnded", "Released"]
    assert until(machine, told.SessionStarted).seq > 0


def test_s8_a_reboot_keeps_the_lock_and_loses_the_session() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    machine.receive(a_command(machine, "stop"), NOW_MS)
    machine.reboot()
    said = _story(machine, told.SessionRequested)
    assert [type(word).__name__ for word in said[:2]] == ["Online", "Released"]


def test_s8_stop_between_two_patients_locks_too() -> None:
    machine = a_machine()
    until(machine, told.SessionEnded)
    machine.receive(a_command(machine, "stop"), NOW_MS)
    said = _story(machine, told.SessionRequested)
    assert isinstance(said[0], told.Released)


def test_s10_a_repeated_command_is_answered_the_same_way_and_does_nothing() -> None:
    ledger = Ledger()
    machine = a_machine(ledger=ledger)
    until(machine, told.Rep)
    drop = a_command(machine, "drop_set")
    answers = [machine.receive(drop, now_ms)[0] for now_ms in (NOW_MS, NOW_MS, 99_999)]  # the last one after its expiry
    assert machine.programme.prescription.sets == 2
    assert {type(answer) for answer in answers} == {told.CommandApplied}
    assert [answer.seq for answer in answers] == list(range(answers[0].seq, answers[0].seq + 3))
    assert ledger.effects[KEY, "c1"] == 1
    assert ledger.received[KEY, "c1"] == 3


def test_s10_a_repeated_refusal_stays_a_refusal() -> None:
    machine = a_machine()
    early = lower(machine, 100.0)
    assert isinstance(machine.receive(early, NOW_MS)[0], told.CommandRejected)
    until(machine, told.Rep)
    (again,) = machine.receive(early, NOW_MS)
    assert isinstance(again, told.CommandRejected)
    assert again.reason == "no_session"


def test_s10_a_stop_repeated_after_the_release_does_not_lock_again() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    stop = a_command(machine, "stop")
    machine.receive(stop, NOW_MS)
    until(machine, told.Released)
    assert isinstance(machine.receive(stop, NOW_MS)[0], told.CommandApplied)
    assert not machine.programme.locked


def test_a_stop_for_what_was_said_before_the_release_is_answered_and_locks_nobody() -> None:
    machine = a_machine()
    rep = until(machine, told.Rep)
    machine.receive(a_command(machine, "stop"), NOW_MS)
    released = until(machine, told.Released)
    of_before = a_command(machine, "stop", 2, cause=message_id(machine.key, rep))
    assert isinstance(machine.receive(of_before, NOW_MS)[0], told.CommandApplied)
    assert not machine.programme.locked
    of_now = a_command(machine, "stop", 3, cause=message_id(machine.key, released))
    machine.receive(of_now, NOW_MS)
    assert machine.programme.locked


def test_s10_what_is_stale_foreign_or_expired_is_refused() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    machine.receive(a_command(machine, "cue", 5), NOW_MS)
    (stale,) = machine.receive(a_command(machine, "cue", 4), NOW_MS)
    (foreign,) = machine.receive(a_command(machine, "cue", 6, boot_id="run-b0"), NOW_MS)
    (expired,) = machine.receive(a_command(machine, "cue", 7), now_ms=30_000)
    assert isinstance(stale, told.CommandRejected)
    assert isinstance(foreign, told.CommandRejected)
    assert (stale.reason, foreign.reason) == ("stale_sequence", "other_boot")
    assert isinstance(expired, told.CommandExpired)
    assert machine.programme.cues == 1


def test_s10_an_expired_stop_from_an_earlier_boot_still_stops() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    (ack,) = machine.receive(a_command(machine, "stop", 0, boot_id="run-b0"), now_ms=99_999)
    assert isinstance(ack, told.CommandApplied)
    assert machine.programme.locked


def test_s11_the_machine_clamps_to_its_own_limits_and_says_what_it_holds() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    (ack,) = machine.receive(lower(machine, 3.0), NOW_MS)
    assert isinstance(ack, told.CommandApplied)
    assert ack.load_N == 20.0


def test_s12_a_machine_without_its_link_never_raises_its_load() -> None:
    loads = {
        word.prescription.load_N for word in words(a_machine()) if isinstance(word, told.Rep) and word.prescription
    }
    assert len(loads) == 2  # one for each patient, in every one of their sessions


# Complaints


def test_the_stop_button_locks_at_once() -> None:
    machine = a_machine(incident_rate=1.0)
    until(machine, told.ButtonPressed)
    assert machine.programme.locked
    assert until(machine, told.SessionEnded).reason == "stopped"
    until(machine, told.Released)


def test_after_a_red_flag_the_patient_waits_for_stop_and_the_machine_locks_itself_if_none_comes() -> None:
    machine = a_machine(incident_rate=1.0)
    flag = until(machine, told.SymptomReported)
    assert not machine.programme.locked
    ended = until(machine, told.SetEnded)
    assert ended.t_us - flag.t_us == 20_000_000
    assert machine.programme.locked


def test_pain_is_reported_with_the_place_where_it_hurts() -> None:
    report = until(a_machine(pain_rate=1.0), told.SymptomReported)
    assert report.pain_nrs is not None
    assert report.pain_nrs >= 3
    assert report.position is not None
    assert 0.05 < report.position <= 0.6


# Finishing and rebooting


@pytest.mark.parametrize("moment", [told.Online, told.Screened, told.SessionRequested, told.SetStarted, told.Rep])
def test_a_machine_that_is_asked_to_finish_says_goodbye_properly(moment: type[Telemetry]) -> None:
    machine = a_machine()
    word = until(machine, moment)
    machine.finish()
    rest = [word for word in words(machine) if not isinstance(word, told.Heartbeat)]
    ends = ["SetEnded"] if isinstance(word, told.SetStarted | told.Rep) else []
    ends += ["SessionEnded"] if isinstance(word, told.SessionRequested | told.SetStarted | told.Rep) else []
    assert [type(word).__name__ for word in rest] == [*ends, "Offline"]
    assert [decode_up(MachineTopic(KEY, stream_of(word)), encode(word)) for word in rest] == rest
    assert machine.done
    assert machine.step().message is None


def test_a_machine_that_loses_power_while_it_finishes_comes_online_before_it_goes() -> None:
    machine = a_machine()
    until(machine, told.Rep)
    machine.finish()
    machine.reboot()
    online, offline = words(machine)
    assert (type(online), type(offline)) == (told.Online, told.Offline)
    assert online.boot_id == offline.boot_id


def test_a_reboot_starts_a_new_sequence_in_a_new_boot() -> None:
    machine = a_machine()
    before = until(machine, told.Rep)
    machine.reboot()
    online = until(machine, told.Online)
    assert online.boot_id != before.boot_id
    first = next(word for word in words(machine) if not isinstance(word, told.Presence))
    assert (first.boot_id, first.seq) == (online.boot_id, 0)


def _story(machine: Machine, end: type[Telemetry]) -> list[Telemetry]:
    """Return what a machine says until a message of this kind, heartbeats left out."""
    said: list[Telemetry] = []
    for word in words(machine):
        if not isinstance(word, told.Heartbeat):
            said.append(word)
        if isinstance(word, end):
            return said
    raise AssertionError(f"{end.__name__} was never said")
