"""What hostile sessions once got away with (`python -m loadtest envelope`): each mend as a story."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.adaptive import PRIOR
from streams.core.baseline import Baseline
from streams.core.commands import Change, Command, Evidence
from streams.core.controller import Arrival, Controller
from streams.core.errors import Malformed
from streams.core.known import Known
from streams.core.plans import PlanMade
from streams.core.records import NewRecord, Record
from streams.core.results import (
    CommandClosed,
    Notice,
    PainReported,
    PatientScreened,
    PlanEdited,
    PlanRequested,
    RepMeasured,
    SessionSummarised,
)
from streams.core.session import (
    MAX_GAPPED,
    MAX_GONE,
    MAX_HOLES,
    MAX_PAST_BOOTS,
    MAX_RECENT,
    MachineState,
    Pending,
)
from streams.core.stage import MAX_STATE_BYTES
from streams.core.telemetry import (
    ButtonPressed,
    ClinicianEdited,
    CommandApplied,
    FaultRaised,
    Heartbeat,
    Offline,
    Prescription,
    Released,
    Rep,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
)
from tests.core.patients import BASE, LUMBAR, a_patient, a_trained_patient, coarse, load_of
from tests.core.story import (
    CAPABILITIES,
    MACHINE,
    PATIENT,
    PRESCRIPTION,
    Machine,
    Numbers,
    by_number,
    commands,
    facts,
    metrics,
    records,
    run,
)

ASKED: dict[str, Any] = {
    "session": "s1",
    "patient": PATIENT,
    "exercise": "lumbar_extension",
    "intent": "paced",
    "settings": "h1",
}
BY: dict[str, Any] = {"patient": PATIENT, "exercise": "lumbar_extension", "by": "dr-1"}


def stops(said: Sequence[NewRecord]) -> dict[str, int]:
    """Return the sequence of each STOP by its id; what is sent again is one STOP."""
    return {one.command_id: one.sequence for one in commands(said) if one.action == "stop"}


def names(said: Sequence[NewRecord]) -> list[str]:
    return [one.name for one in metrics(said, Notice)]


def plan_for(request: PlanRequested, prescription: Prescription = PRESCRIPTION, screening: Any = "clear") -> PlanMade:
    """Answer a request as the planner does: what is in force stays."""
    wish = Command(
        command_id=f"{request.id}/prescribe",
        machine=MACHINE,
        boot_id=request.boot_id,
        sequence=8 * request.seq + 7,
        action="prescribe",
        rule="keep",
        cause=request.id,
        evidence=(Evidence(request.id, "load_N", prescription.load_N),),
        session=request.session,
        prescription=prescription,
        policy="p",
        issued_ms=0,
        expires_ms=10_000_000,
    )
    known = Known(
        origin="planner",
        now_ms=0,
        boot_id=request.boot_id,
        screening=screening,
        load_N=prescription.load_N,
        in_force=prescription,
    )
    return PlanMade(boot_id=request.boot_id, command=wish, known=known, machine=MACHINE)


def asked_and_planned(machine: Machine, state: MachineState | None = None) -> tuple[MachineState, Command]:
    """Come online, ask for a session, and get the plan."""
    state, said = run(records([machine.online(), machine.say(SessionRequested, **ASKED)]), state)
    (asked,) = facts(said, PlanRequested)
    state, said = run(told([plan_for(asked)]), state)
    (command,) = commands(said)
    return state, command


def told(messages: Sequence[Any], start_ms: int = 2_000_000) -> list[Record]:
    return records(messages, start_ms=start_ms, step_ms=10)


# --- STOP and release ------------------------------------------------------------------------------------------------


def test_each_lost_link_of_a_boot_has_a_stop_of_its_own() -> None:
    #  offline   online   released   session again   offline
    #  STOP                                          another STOP, above the first
    machine = Machine()
    story = [*machine.begin(), Offline(boot_id="b1"), machine.online(), machine.say(Released, by="dr-1")]
    story += [machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION), Offline(boot_id="b1")]
    state, said = run(records(story))
    first, second = stops(said).items()
    assert first[0] != second[0]
    assert first[1] < second[1]
    assert state.locked


def test_a_link_lost_twice_between_two_words_of_the_machine_gets_two_sequences() -> None:
    machine = Machine()
    lost = [Offline(boot_id="b1"), machine.online()]
    _, said = run(records([*machine.begin(), *lost, *lost]))
    first, second = stops(said).values()
    assert first < second


def test_danger_that_breaks_a_long_silence_stops_for_the_silence_and_for_itself() -> None:
    machine = Machine()
    story = machine.begin()
    machine.t_us += 16_000_000
    _, said = run(records([*story, machine.say(FaultRaised, fault="encoder")]))
    assert len(stops(said)) == 2
    assert sorted(stops(said).values()) == list(stops(said).values())


def test_a_last_will_that_is_handed_out_again_is_no_second_loss() -> None:
    machine = Machine()
    _, said = run(records([*machine.begin(), Offline(boot_id="b1"), Offline(boot_id="b1")]))
    assert len(stops(said)) == 1


def test_a_release_that_was_said_before_the_stop_does_not_undo_it() -> None:
    #  seq   3 (lost)   released 4 (waits)   fault 5 (at once)   beat 6, 2 s later: 4 counts now
    machine = Machine()
    begun = machine.begin()
    machine.say(Heartbeat)
    release, fault = machine.say(Released, by="dr-1"), machine.say(FaultRaised, fault="encoder")
    state, said = run(records([*begun, release, fault, machine.say(Heartbeat)]))
    assert state.locked
    assert "release_ignored" in names(said)
    assert "released" not in names(said)
    state, said = run(told([machine.say(Released, by="dr-1")]), state)
    assert not state.locked


def test_a_release_in_the_next_boot_unlocks() -> None:
    machine, after = Machine(), Machine("b2")
    story = [*machine.begin(), machine.say(Heartbeat), machine.say(ButtonPressed, button="stop")]
    state, _ = run(records([*story, after.online(), after.say(Released, by="dr-1")]))
    assert not state.locked


def test_a_late_danger_of_an_earlier_boot_stops_and_leaves_later_commands_their_sequences() -> None:
    #  b1   0 .. 40, and 41 comes only after b2 has begun; a decrease in b2 must still be above the STOP
    machine, after = Machine(), Machine("b2")
    story: list[Any] = [machine.online(), *(machine.say(Heartbeat) for _ in range(41))]
    late = machine.say(FaultRaised, fault="encoder")
    state, said = run(records([*story, *after.begin(), late, after.say(Released, by="dr-1")]))
    (stop,) = stops(said)
    word = after.say(CommandApplied, command_id=stop)
    state, said = run(told([word, after.say(SymptomReported, session="s1", pain_nrs=4)]), state)
    assert [one.action for one in commands(said)] == ["lower_load"]


def test_what_waits_for_its_answer_is_not_sent_again_to_a_locked_machine() -> None:
    machine = Machine()
    story = [*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)]
    story += [machine.say(ButtonPressed, button="stop"), *(machine.say(Heartbeat) for _ in range(6))]
    _, said = run(records(story))
    sent = [one.action for one in commands(said)]
    assert sent.count("lower_load") == 1
    assert sent.count("stop") > 1  # nobody answers it: it is sent until somebody does


def test_no_boot_of_long_ago_begins_again() -> None:
    machines = [Machine(f"b{n}") for n in range(MAX_PAST_BOOTS + 3)]
    first_words = [machine.say(Heartbeat) for machine in machines]
    state, _ = run(records(first_words))
    last = machines[-1].boot_id
    state, said = run(told([machines[0].online(), machines[0].say(Heartbeat), Offline(boot_id="b0")]), state)
    assert state.boot is not None
    assert (state.boot.boot_id, names(said)) == (last, [])
    state, said = run(told([machines[0].say(ButtonPressed, button="stop")]), state)
    assert state.boot is not None
    assert (state.boot.boot_id, state.locked, [one.boot_id for one in commands(said)]) == (last, True, [last])


def test_a_rep_of_a_boot_that_nobody_remembers_is_put_aside_and_changes_nothing() -> None:
    machines = [Machine(f"b{n}") for n in range(MAX_PAST_BOOTS + 2)]
    begun = [word for machine in machines for word in machine.begin()]
    state, _ = run(records(begun))
    of_last, of_first = records([machines[1].rep(1), machines[0].rep(1)])
    _, said = run([of_last], state)
    assert [one.boot_id for one in metrics(said, RepMeasured)] == ["b1"]
    stage = Controller()
    (item,) = stage.prepare([of_first])
    assert isinstance(item, Arrival)
    with pytest.raises(Malformed, match="forgotten_boot"):
        stage.step(state, item, of_first.timestamp_ms)


def test_a_release_that_a_machine_brings_along_from_the_boot_of_its_stop_frees_it() -> None:
    #  b1: stop pressed    released, kept by the machine    power off    b2: online    b1's release comes
    first, second = Machine("b1"), Machine("b2")
    pressed, released = first.say(ButtonPressed, button="stop"), first.say(Released, by="dr-1")
    state, _ = run(records([first.online(), pressed, second.online()]))
    assert state.locked
    state, said = run(told([released]), state)
    assert (state.locked, names(said)[0]) == (False, "released")


def test_a_release_of_an_earlier_boot_frees_nobody_from_what_has_happened_since() -> None:
    first, second = Machine("b1"), Machine("b2")
    early, pressed = first.say(Released, by="dr-1"), first.say(ButtonPressed, button="stop")
    late = first.say(Released, by="dr-1")
    state, _ = run(records([first.online(), pressed, second.online()]))
    stays, said = run(told([early]), state)
    assert stays.locked
    assert "late" in names(said)
    again, _ = run(told([second.say(ButtonPressed, button="stop")]), state)
    stays, said = run(told([late], start_ms=3_000_000), again)
    assert stays.locked
    assert "late" in names(said)


def test_a_session_that_a_reboot_cut_off_stays_locked_though_the_earlier_stop_was_released() -> None:
    first, second = Machine("b1"), Machine("b2")
    story = [*first.begin(), Offline(boot_id="b1"), first.online()]
    released = first.say(Released, by="dr-1")
    again = [first.say(SessionStarted, **ASKED, prescription=PRESCRIPTION)]
    state, _ = run(records([*story, released, *again, second.online()]))
    assert state.locked  # the second session ran when the machine restarted
    late = first.say(Released, by="dr-1")
    state, _ = run(told([late]), state)
    assert state.locked


def lowered(number: int, load_N: float, session: str = "s1") -> Command:
    """Return a decrease as the controller issued it."""
    return Command(
        command_id=f"{MACHINE}/b1/{number}/lower",
        machine=MACHINE,
        boot_id="b1",
        sequence=8 * number,
        action="lower_load",
        rule="pain_reduce",
        cause=f"{MACHINE}/b1/{number}",
        evidence=(),
        session=session,
        changes=(Change(quantity="load_N", old=load_N + 30.0, new=load_N),),
        policy="p",
        issued_ms=1_000_000,
        expires_ms=9_000_000,
    )


@pytest.mark.parametrize(
    ("second", "held_N"),
    [
        (lowered(2, 240.0), 240.0),  # the answer to the first, said again or late, is older than what is held
        (lowered(2, 240.0, session="s0"), 270.0),  # and that of another session tells nothing of this one
    ],
)
def test_an_acknowledgement_raises_no_load_and_tells_of_its_own_session_only(second: Command, held_N: float) -> None:
    machine = Machine()
    state, _ = run(records(machine.begin()))
    first = lowered(1, 270.0)
    state = replace(state, pending=(Pending(first, 1_000_000), Pending(second, 1_000_000)))
    answers = [
        machine.say(CommandApplied, command_id=second.command_id, load_N=240.0),
        machine.say(CommandApplied, command_id=first.command_id, load_N=270.0),
    ]
    state, _ = run(told(answers, start_ms=1_020_000), state)
    assert state.session is not None
    assert (state.session.load_N, state.pending) == (held_N, ())


def test_the_answer_to_a_plan_that_comes_after_a_decrease_raises_no_load() -> None:
    #  plan 300: its answer is lost   start   pain 4: 270   the answer comes: 270 stays
    machine = Machine()
    story: list[Any] = [machine.say(Screened, patient=PATIENT, outcome="clear", by="dr-1")]
    state, _ = run(records(story))
    state, plan = asked_and_planned(machine, state)
    late = machine.say(CommandApplied, command_id=plan.command_id, load_N=300.0)
    story = [machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION), machine.say(Heartbeat)]
    state, said = run(records([*story, machine.say(SymptomReported, pain_nrs=4)], start_ms=2_000_000), state)
    (lower,) = [one for one in commands(said) if one.action == "lower_load"]
    story = [machine.say(CommandApplied, command_id=lower.command_id, load_N=270.0), late]
    state, said = run(records(story, start_ms=2_010_000), state)
    assert [one.outcome for one in metrics(said, CommandClosed)] == ["applied", "applied"]
    assert state.session is not None
    assert state.session.load_N == 270.0


def test_a_machine_that_names_ever_new_sessions_while_something_is_missing_stays_small() -> None:
    machine = Machine()
    words = [*machine.begin()]
    machine.say(Heartbeat)  # lost
    words += [machine.rep(1, session=f"{number:064d}") for number in range(3 * MAX_GAPPED)]
    state, _ = run(records(words, step_ms=3_000))
    assert [len(owed.sessions) <= MAX_GAPPED for owed in state.repairs] == [True]


def test_a_state_with_full_books_of_all_its_boots_stays_small() -> None:
    #  nine boots, each with as many holes as are remembered, their places as long as they can be
    state, stage = Controller().start(MACHINE.encode()), Controller()
    for number in range(MAX_PAST_BOOTS + 1):
        machine, dice = Machine(f"{number:064d}"), Random(number)
        places = sorted({dice.randrange(2**53 - 1) for _ in range(2 * MAX_HOLES)})
        beats = [Heartbeat(boot_id=machine.boot_id, seq=seq, t_us=n) for n, seq in enumerate(places)]
        state, _ = run(records(beats, step_ms=5_000), state)
    assert len(state.past) == MAX_PAST_BOOTS
    assert len(stage.save(state)) < MAX_STATE_BYTES // 2


def test_a_stop_of_the_last_message_that_a_boot_can_say_can_be_read_and_one_beyond_is_no_message() -> None:
    machine = Machine()
    state, said = run(records([*machine.begin(), ButtonPressed(boot_id="b1", seq=2**53 - 1, t_us=9, button="stop")]))
    assert (state.locked, len(stops(said))) == (True, 1)
    beyond = ButtonPressed(boot_id="b1", seq=2**53, t_us=9, button="stop")
    (item,) = Controller().prepare(records([beyond]))
    assert isinstance(item, Malformed)


def test_only_so_many_boots_and_sessions_are_remembered() -> None:
    words = [Machine(f"b{n}").say(Heartbeat) for n in range(MAX_GONE + 20)]
    state, _ = run(records(words))
    assert len(state.gone) == MAX_GONE
    machine = Machine()
    asks = [machine.say(SessionRequested, **(ASKED | {"session": f"s{n}"})) for n in range(2 * MAX_RECENT)]
    state, _ = run(records(asks))
    assert len(state.recent) == MAX_RECENT


# --- screening -------------------------------------------------------------------------------------------------------


def test_a_screening_of_an_earlier_visit_permits_nothing_until_the_plan_says_it_again() -> None:
    #  visit 1: screened here, clear     elsewhere: nobody knows     visit 2: a plan brings it, or nothing but STOP
    machine = Machine()
    state, _ = run(records([*machine.begin(), machine.say(SessionEnded, session="s1")]))
    assert state.screened is None
    story: list[Any] = [machine.say(SessionRequested, **(ASKED | {"session": "s2"}))]
    story += [machine.say(SessionStarted, **(ASKED | {"session": "s2"}), prescription=PRESCRIPTION)]
    story += [machine.say(SymptomReported, session="s2", pain_nrs=7), machine.say(ButtonPressed, button="stop")]
    _, said = run(told(story), state)
    assert list(dict.fromkeys(one.action for one in commands(said))) == ["stop"]
    assert any("S23" in one.detail for one in metrics(said, Notice))


def test_who_was_cleared_elsewhere_trains_here_by_the_plan() -> None:
    machine = Machine()
    state, _ = run(records([machine.online(), machine.say(Screened, patient=PATIENT, outcome="excluded", by="dr-1")]))
    state, command = asked_and_planned(machine, state)
    assert (command.action, state.screened) == ("prescribe", (PATIENT, "clear"))


def test_a_red_flag_that_overtook_the_request_is_newer_than_the_plan() -> None:
    #  seq   0   request 1   clear 2   red flag 3       heard   0, red flag, request, clear
    machine = Machine()
    first: Any = machine.say(Heartbeat)
    request = machine.say(SessionRequested, **ASKED)
    clear = machine.say(Screened, patient=PATIENT, outcome="clear", by="dr-1")
    flag = machine.say(Screened, patient=PATIENT, outcome="red_flag", by="dr-1")
    state, said = run(records([first, flag, request, clear], step_ms=10))
    assert [one.outcome for one in facts(said, PatientScreened)] == ["red_flag"]
    (asked,) = facts(said, PlanRequested)
    _, said = run(told([plan_for(asked)]), state)
    assert "prescribe" not in [one.action for one in commands(said)]


@pytest.mark.parametrize("outcome", ["excluded", "clinician_decides"])
def test_a_screening_that_is_not_clear_forbids_also_if_it_was_given_up_and_comes_after_all(outcome: Any) -> None:
    #  clear   begins   excluded: lost   3 beats: given up   excluded: comes   pain 7: refused, S23
    machine = Machine()
    begun = machine.begin()
    lost = machine.say(Screened, patient=PATIENT, outcome=outcome, by="dr-1")
    beats: list[Any] = [machine.say(Heartbeat) for _ in range(3)]
    _, said = run(records([*begun, *beats, lost, machine.say(SymptomReported, session="s1", pain_nrs=7)]))
    assert [one.outcome for one in facts(said, PatientScreened)] == ["clear", outcome]
    assert commands(said) == []


def test_a_clear_screening_that_comes_too_late_allows_nothing() -> None:
    machine = Machine()
    late = machine.say(Screened, patient=PATIENT, outcome="clear", by="dr-1")
    beats: list[Any] = [machine.say(Heartbeat) for _ in range(3)]
    _, said = run(records([*beats, late]))
    assert (facts(said, PatientScreened), names(said)[-1]) == ([], "late")


def test_an_edit_that_comes_too_late_is_an_alarm_for_it_is_not_in_force() -> None:
    machine = Machine()
    late = machine.say(ClinicianEdited, **BY, load_cap_N=200.0)
    beats: list[Any] = [machine.say(Heartbeat) for _ in range(3)]
    _, said = run(records([*beats, late]))
    last = metrics(said, Notice)[-1]
    assert (last.name, last.severity, facts(said, PlanEdited)) == ("late", "alarm", [])


def test_who_is_cleared_after_a_red_flag_of_an_earlier_boot_is_cleared() -> None:
    #  b1   0, then nothing   100 red flag: comes late, STOP
    #  b2                     0 beat                           1 released   2 clear
    first, second = Machine("b1"), Machine("b2")
    story: list[Any] = [first.say(Heartbeat), second.say(Heartbeat)]
    flag = replace(first.say(Screened, patient=PATIENT, outcome="red_flag", by="dr-1"), seq=100)
    story += [flag, second.say(Released, by="dr-1"), second.say(Screened, patient=PATIENT, outcome="clear", by="dr-1")]
    state, said = run(records(story))
    assert [one.outcome for one in facts(said, PatientScreened)] == ["red_flag", "clear"]
    assert (state.screened, state.locked) == ((PATIENT, "clear"), False)


# --- pain and trouble beside the running session ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("felt", "expected"), [({"pain_nrs": 4}, (4, "none")), ({"symptom": "radiating"}, (None, "radiating"))]
)
def test_what_is_told_of_a_session_that_is_over_reaches_the_planner(felt: Any, expected: Any) -> None:
    machine = Machine()
    story = [*machine.begin(), machine.say(SessionEnded, session="s1")]
    story += [machine.say(SymptomReported, session="s1", **felt)]
    (fact,) = facts(run(records(story))[1], PainReported)
    assert (fact.patient, fact.felt, (fact.pain_nrs, fact.symptom)) == (PATIENT, "now", expected)


def test_a_pain_that_was_given_up_and_comes_after_all_reaches_the_planner() -> None:
    machine = Machine()
    begun, late = machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)
    _, said = run(records([*begun, machine.say(Heartbeat), machine.say(Heartbeat), late]))
    assert [(one.felt, one.pain_nrs) for one in facts(said, PainReported)] == [("now", 4)]
    assert commands(said) == []


@pytest.mark.parametrize("pain", [None, 3, 7])
def test_the_pain_at_a_start_that_was_given_up_and_comes_after_all_reaches_the_planner(pain: int | None) -> None:
    #  start with pain: lost   set, 3 reps: given up   start comes
    machine = Machine()
    start = machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION, pain_nrs=pain)
    story: list[Any] = [machine.say(SetStarted, session="s1", set_number=1, load_N=300.0)]
    story += [machine.rep(number) for number in range(1, 4)]
    _, said = run(records([machine.online(), *story, start]))
    told_on = [(one.patient, one.session, one.pain_nrs) for one in facts(said, PainReported)]
    assert told_on == ([] if pain is None else [(PATIENT, "s1", pain)])
    assert "late" in names(said)


def test_a_pain_in_a_session_that_goes_on_after_another_was_requested_finds_its_patient() -> None:
    #  s1 runs   s2 is requested: s1 is over   a rep of s1: it goes on, but no rep says whose it is   pain in s1
    machine = Machine()
    story = [*machine.begin(), machine.say(SessionRequested, **(ASKED | {"session": "s2"})), machine.rep(1)]
    story += [machine.say(SymptomReported, session="s1", pain_nrs=7)]
    (fact,) = facts(run(records(story))[1], PainReported)
    assert (fact.patient, fact.pain_nrs) == (PATIENT, 7)


@pytest.mark.parametrize("session", ["s1", None])
def test_a_pain_that_overtakes_the_start_of_its_session_ends_the_exercise(session: str | None) -> None:
    #  seq   0 clear   1 beat   2 start   3 pain 7       heard   0, 1, pain, start
    machine = Machine()
    clear: Any = machine.say(Screened, patient=PATIENT, outcome="clear", by="dr-1")
    beat = machine.say(Heartbeat)
    start = machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION)
    pain = machine.say(SymptomReported, session=session, pain_nrs=7)
    _, said = run(records([machine.online(), clear, beat, pain, start], step_ms=10))
    assert [one.action for one in commands(said)] == ["end_exercise"]


def test_a_pain_of_nobody_known_is_told_as_one() -> None:
    machine = Machine()
    story = [*machine.begin(), machine.say(SymptomReported, session="elsewhere", pain_nrs=4)]
    _, said = run(records(story))
    assert facts(said, PainReported) == []
    assert "whose_pain" in names(said)


@pytest.mark.parametrize(
    ("kind", "fields", "rule"),
    [
        (SymptomReported, {"session": "s1", "pain_nrs": 7}, "pain_stop"),
        (ButtonPressed, {"button": "stop"}, "emergency_stop"),
    ],
)
def test_trouble_before_a_session_could_start_is_summarised(kind: Any, fields: Any, rule: str) -> None:
    machine = Machine()
    state, _ = asked_and_planned(machine)
    story = [machine.say(kind, **fields), machine.say(SessionRequested, **(ASKED | {"session": "s2"}))]
    _, said = run(told(story), state)
    (session,) = facts(said, SessionSummarised)
    assert (session.session, session.patient, session.reps, session.prescription) == ("s1", PATIENT, 0, None)
    assert rule in session.rules_fired


def test_a_request_that_is_given_up_in_peace_is_no_session() -> None:
    machine = Machine()
    state, _ = asked_and_planned(machine)
    _, said = run(told([machine.say(SessionRequested, **(ASKED | {"session": "s2"}))]), state)
    assert facts(said, SessionSummarised) == []


def test_a_session_that_starts_again_has_still_lost_what_it_lost() -> None:
    machine = Machine()
    begun = machine.begin("paced")
    machine.say(Heartbeat)
    story = [*begun, machine.say(Heartbeat), machine.say(Heartbeat)]
    story += [machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION), machine.say(SessionEnded, session="s1")]
    (session,) = metrics(run(records(story))[1], SessionSummarised)
    assert session.incomplete


def test_a_session_whose_start_is_said_again_keeps_its_sets_and_what_pain_took_off() -> None:
    #  load 300   3 reps   pain 4: 270   start again, with 300   pain 4: once a set   set 2 at 300: alarm   end
    machine = Machine()
    begun = [*machine.begin(), *(machine.rep(number) for number in range(1, 4))]
    state, said = run(records([*begun, machine.say(SymptomReported, session="s1", pain_nrs=4)]))
    (lower,) = commands(said)
    again: list[Any] = [machine.say(CommandApplied, command_id=lower.command_id, load_N=270.0)]
    again += [machine.say(SessionStarted, **(ASKED | {"intent": "max"}), prescription=PRESCRIPTION, pain_nrs=4)]
    again += [machine.say(SetStarted, session="s1", set_number=2, load_N=300.0)]
    again += [machine.say(SessionEnded, session="s1")]
    _, said = run(told(again), state)
    (session,) = facts(said, SessionSummarised)
    assert (session.load_N, session.sets, session.valid_reps) == (270.0, 2, 3)
    assert (commands(said), "load_back_up" in names(said)) == ([], True)


@pytest.mark.parametrize("other", [{"patient": "acme/p2"}, {"settings": "h2"}, {"side": "left"}])
def test_a_session_that_starts_again_with_somebody_or_something_else_is_another_one(other: dict[str, str]) -> None:
    machine = Machine()
    begun = [*machine.begin(), *(machine.rep(number) for number in range(1, 4))]
    again = machine.say(SessionStarted, **(ASKED | {"intent": "max"} | other), prescription=PRESCRIPTION)
    state, said = run(records([*begun, again]))
    (session,) = facts(said, SessionSummarised)
    assert (session.patient, session.settings, session.side, session.valid_reps) == (PATIENT, "h1", "both", 3)
    assert state.session is not None
    assert (state.session.valid_reps, state.session.pain_max) == (0, None)


def test_a_session_that_had_begun_when_the_pain_was_told_is_not_one_of_the_two_that_follow() -> None:
    #  begins   pain of 3, daily   ends     good     asks for more     good      asks for more
    #                              no       1                          2
    patient = a_trained_patient()
    began_ms = patient.now_ms
    patient.day += 0.01
    patient.hurts(3, "daily")
    patient.day += 0.01
    patient.train(began_ms=began_ms)
    rules: list[str] = []
    for _ in range(3):
        patient.day += 2
        rules.append(patient.plan().rule)
        patient.train(began_ms=patient.now_ms)
    assert rules[:2] == ["keep", "keep"]
    assert rules[2] == "progress_load"


def test_a_pain_or_a_symptom_after_the_session_takes_the_clean_sessions_away() -> None:
    patient = a_trained_patient()
    told_by: dict[str, Any] = {"machine": MACHINE, "cause": "x", "at_ms": patient.now_ms, "patient": PATIENT}
    patient.take(PainReported(id="x", **told_by, felt="now", pain_nrs=None, symptom="dizziness"))
    assert {one.clean for plan in patient.state.plans for one in plan.series} == {0}
    assert patient.state.diary.entries == ()  # a symptom is no pain


# --- decreases that follow each other --------------------------------------------------------------------------------


def too_far(_: Rep) -> Numbers:
    return {"range_of_motion": 1.06, "rom_completeness_pct": 106.0}


def test_a_second_decrease_starts_from_what_the_first_asked_for() -> None:
    #  load 300   pain 4: 270, unanswered   SET 2   pain 4: 10 % of 270, not of 300
    machine = Machine()
    story = [*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4, position=0.9)]
    story += [machine.say(SetStarted, session="s1", set_number=2, load_N=300.0)]
    story += [machine.say(SymptomReported, session="s1", pain_nrs=4, position=0.95)]
    state, said = run(records(story, step_ms=10))
    first, second = commands(said)
    assert [(one.quantity, one.old, one.new) for one in first.changes] == [
        ("load_N", 300.0, 270.0),
        ("window_hi", 1.0, 0.812734),
    ]
    assert [(one.quantity, one.old, one.new) for one in second.changes] == [("load_N", 270.0, 240.0)]
    assert state.session is not None
    assert state.session.load_N == 300.0  # until the machine says otherwise


def test_an_answer_without_a_load_means_the_load_that_was_asked_for() -> None:
    machine = Machine()
    state, said = run(records([*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)]))
    (lower,) = commands(said)
    state, _ = run(told([machine.say(CommandApplied, command_id=lower.command_id)]), state)
    assert state.session is not None
    assert state.session.load_N == 270.0


def test_a_set_whose_beginning_was_lost_does_not_undo_what_pain_took_off() -> None:
    #  load 300   pain 4: 270   SET 2 with 300: lost   rep with 300: alarm, and 270 stays
    machine = Machine()
    story = [*machine.begin(), machine.say(SymptomReported, session="s1", pain_nrs=4)]
    state, said = run(records(story))
    (lower,) = commands(said)
    applied = machine.say(CommandApplied, command_id=lower.command_id, load_N=270.0)
    machine.say(SetStarted, session="s1", set_number=2, load_N=300.0)
    reps = [machine.rep(number, set_number=2) for number in range(1, 4)]
    state, said = run(records([applied, *reps], start_ms=2_000_000), state)
    assert "load_back_up" in names(said)
    assert state.session is not None
    assert state.session.load_N == 270.0


def test_a_set_of_another_session_changes_nothing_in_the_one_before() -> None:
    #  s1 at 300   its end, and the start of s2: lost   SET of s2 at 100
    machine = Machine()
    begun = machine.begin()
    machine.say(SessionEnded, session="s1")
    machine.say(SessionStarted, **(ASKED | {"session": "s2", "patient": "acme/p2"}), prescription=PRESCRIPTION)
    other: list[Any] = [machine.say(SetStarted, session="s2", set_number=1, load_N=100.0)]
    other += [machine.rep(number, session="s2", load_N=100.0) for number in range(1, 4)]
    state, said = run(records([*begun, *other]))
    (session,) = facts(said, SessionSummarised)
    assert (session.session, session.load_N, session.sets) == ("s1", 300.0, 1)
    assert state.session is not None
    assert (state.session.id, state.session.load_N) == ("s2", 100.0)


def test_pain_after_a_set_whose_beginning_was_lost_takes_a_tenth_off() -> None:
    #  SET 1   pain 4: 270   SET 2: lost, its reps are heard   pain 4: 240
    machine = Machine()
    story = [*machine.begin(), machine.say(SetEnded, session="s1", set_number=1, reps_done=0)]
    state, said = run(records([*story, machine.say(SymptomReported, session="s1", pain_nrs=4)]))
    machine.say(SetStarted, session="s1", set_number=2, load_N=270.0)
    again: list[Any] = [machine.rep(number, set_number=2, load_N=270.0) for number in range(1, 4)]
    again += [machine.say(SetEnded, session="s1", set_number=2, reps_done=3)]
    again += [machine.say(SymptomReported, session="s1", pain_nrs=4)]
    _, more = run(records(again, start_ms=2_000_000), state)
    assert [one.new for command in commands([*said, *more]) for one in command.changes] == [270.0, 240.0]


@pytest.mark.parametrize("step_N", [1e-310, 1e-4, 1e4])
def test_pain_takes_a_tenth_off_however_fine_the_machine_says_its_grid_is(step_N: float) -> None:
    machine = Machine()
    online, *begun = machine.begin()
    fine = replace(online, capabilities=replace(CAPABILITIES, load_step_N=step_N))
    _, said = run(records([fine, *begun, machine.say(SymptomReported, session="s1", pain_nrs=4)]))
    (lower,) = commands(said)
    assert [one.new for one in lower.changes] == [270.0 if step_N < 1.0 else 50.0]


def test_rule_5_takes_5_degrees_of_a_session_also_after_pain_has_taken_range() -> None:
    machine = Machine()
    state, _ = run(records(machine.begin("paced")))
    taken: list[float] = []
    for n in range(1, 20):
        pain = machine.say(SymptomReported, session="s1", pain_nrs=4, position=0.9) if n == 8 else None
        word = pain or machine.rep(n, intent="paced")
        state, said = run(told([word]), state, values=too_far)
        for command in commands(said):
            taken += [one.old - one.new for one in command.changes if command.rule == "rom_limit"]
            state, _ = run(told([machine.say(CommandApplied, command_id=command.command_id)]), state)
    assert state.session is not None
    assert state.session.window == (0.0, 0.812734)  # as far as the pain asked
    assert taken == [pytest.approx(0.06), pytest.approx(0.027266)]  # 5 degrees are 0.087266 rad


def test_the_rep_that_reaches_180_s_under_load_ends_the_set_also_if_it_goes_too_far() -> None:
    #  time under load, s   36   72  108  144  180  216
    #  range, %            100  100  100  106  106  106
    #                                          end  and only then the limit, if the patient goes on
    machine = Machine()
    words = [*machine.begin("paced"), *(machine.rep(n, intent="paced") for n in range(1, 7))]
    shares, one = (100.0,) * 3 + (106.0,) * 3, (1.0,) * 6
    values = by_number(rom_completeness_pct=shares, time_under_load_s=(36.0,) * 6, range_of_motion=one)
    _, said = run(records(words, step_ms=10), values=values)
    assert [(command.cause.rsplit("/", 1)[1], command.rule) for command in commands(said)] == [
        ("7", "paced_fatigue_stop"),
        ("8", "rom_limit"),
    ]


def test_a_tightening_that_nobody_answered_counts_towards_the_5_degrees() -> None:
    machine = Machine()
    words = [*machine.begin("paced"), *(machine.rep(n, intent="paced") for n in range(1, 9))]
    _, said = run(records(words, step_ms=10), values=too_far)
    assert [(one.old, one.new) for command in commands(said) for one in command.changes] == [
        (1.0, 0.94),
        (0.94, 0.912734),
    ]


# --- plans and edits -------------------------------------------------------------------------------------------------


def test_an_edit_while_the_plan_is_awaited_asks_for_another_one_and_the_old_one_comes_too_late() -> None:
    machine = Machine()
    state, said = run(records([machine.online(), machine.say(SessionRequested, **ASKED)]))
    (old,) = facts(said, PlanRequested)
    lower = replace(PRESCRIPTION, load_N=200.0)
    state, said = run(told([machine.say(ClinicianEdited, **BY, prescription=lower)]), state)
    (new,) = facts(said, PlanRequested)
    assert (new.session, new.patient) == ("s1", PATIENT)
    assert new.id != facts(said, PlanEdited)[0].id  # the planner knows facts by their ids
    state, said = run(told([plan_for(old), plan_for(new, lower)]), state)
    assert [one.prescription for one in commands(said)] == [lower]
    assert "plan_too_late" in names(said)


def test_an_edit_is_for_the_next_session_once_strong_pain_has_ended_the_one_that_waits() -> None:
    machine = Machine()
    state, _ = asked_and_planned(machine)
    words = [machine.say(SymptomReported, pain_nrs=7), machine.say(ClinicianEdited, **BY, prescription=PRESCRIPTION)]
    _, said = run(told(words), state)
    assert [command.action for command in commands(said)] == ["end_exercise"]
    assert len(facts(said, PlanEdited)) == 1
    assert facts(said, PlanRequested) == []
    assert "edit_for_next_session" in names(said)


def test_an_edit_withdraws_the_plan_that_nobody_has_answered() -> None:
    machine = Machine()
    state, command = asked_and_planned(machine)
    state, said = run(told([machine.say(ClinicianEdited, **BY, load_cap_N=200.0)]), state)
    assert [(one.command_id, one.outcome) for one in metrics(said, CommandClosed)] == [(command.command_id, "expired")]
    assert state.pending == ()


def test_an_edit_for_somebody_else_leaves_the_plan_alone() -> None:
    machine = Machine()
    state, command = asked_and_planned(machine)
    other = BY | {"patient": "acme/p2"}
    state, said = run(told([machine.say(ClinicianEdited, **other, load_cap_N=200.0)]), state)
    assert facts(said, PlanRequested) == []
    assert [one.command for one in state.pending] == [command]


def test_an_edit_does_not_make_trouble_undone_for_a_wider_range() -> None:
    patient = a_trained_patient()
    patient.comes(0, pain_max=4)
    patient.edit(replace(BASE, window_lo=0.0, window_hi=1.0))
    windows = []
    for _ in range(3):
        prescription = patient.comes(2).prescription
        assert prescription is not None
        windows.append((prescription.window_lo, prescription.window_hi))
    assert windows[:2] == [(0.1, 0.9)] * 2
    assert windows[2][1] > 0.9  # type: ignore[operator]  # two clean sessions later, step by step


def test_reps_that_were_proposed_and_never_sent_are_not_taken_up() -> None:
    patient = a_trained_patient()
    proposed = patient.plan(capabilities=coarse(20.5)).prescription
    assert proposed is not None
    before = patient.state.plans[0].series[-1].settled.reps
    assert proposed.reps == before + 1
    held = replace(BASE, reps=proposed.reps)  # the machine's own idea, by another name
    patient.train(390.0, prescription=held, last_set_reps=13)
    assert patient.state.plans[0].series[-1].settled.reps == before


def test_a_plan_that_was_never_trained_does_not_stand_above_what_the_others_came_down_to() -> None:
    #  seat 5 is planned for at 400 and left; seat 4 comes down to 300; seat 5 again: 300
    patient = a_patient()
    assert load_of(patient.plan(settings="seat-5")) == 400.0
    patient.train(300.0)
    assert load_of(patient.plan(settings="seat-5")) == 300.0


def test_a_cut_at_an_unknown_machine_has_a_bound() -> None:
    for capabilities, bound in ((None, 0.0), (LUMBAR, 20.0)):
        patient = a_trained_patient()
        patient.train(rules_fired={"pain_stop": 1}, pain_max=6)
        patient.day += 2
        (change,) = patient.plan(capabilities=capabilities).changes
        assert (change.quantity, change.bound) == ("load_N", bound)


def test_a_range_of_which_a_clinician_names_one_end_keeps_the_other_where_it_was() -> None:
    #  0.1 .. 0.9   from 0.3 on, no end: 0.3 .. 0.9   from 0.95 on, no end: nothing would be left, it stands alone
    for lo, expected in ((0.3, (0.3, 0.9)), (0.95, (0.95, None))):
        patient = a_trained_patient()
        patient.edit(replace(BASE, window_lo=lo, window_hi=None))
        prescription = patient.plan().prescription
        assert prescription is not None
        assert (prescription.window_lo, prescription.window_hi) == expected


def test_a_session_under_a_narrower_range_ends_the_way_to_a_wider_one() -> None:
    patient = a_trained_patient()
    patient.edit(replace(BASE, window_hi=1.1))
    wider = patient.comes(0, prescription=BASE).prescription
    assert wider is not None
    assert wider.window_hi == pytest.approx(0.987266)  # 5 degrees further
    patient.day += 2
    again = patient.plan().prescription
    assert again is not None
    assert again.window_hi == 0.9  # nobody knows why it was narrower: a clinician may ask again


def test_a_set_begins_the_session_whose_start_was_lost() -> None:
    #  requested, planned | started is lost | set, reps, link lost: STOP, and the planner hears of the session
    machine = Machine()
    state, _ = asked_and_planned(machine)
    machine.say(SessionStarted, **ASKED)
    story: list[Any] = [machine.say(SetStarted, session="s1", set_number=1, load_N=300.0), machine.rep(1)]
    state, said = run(records([*story, Offline(boot_id="b1")], start_ms=2_000_000), state)
    assert len(stops(said)) == 1
    _, said = run(told([machine.say(SessionEnded, session="s1")]), state)
    (session,) = facts(said, SessionSummarised)
    assert (session.patient, session.incomplete, session.pain_max) == (PATIENT, True, None)


@pytest.mark.parametrize(
    "other", [{"settings": "h2"}, {"side": "left"}, {"intent": "max"}, {"exercise": "row"}, {"patient": "acme/p2"}]
)
def test_what_was_learned_in_one_seat_judges_nobody_in_another(other: dict[str, str]) -> None:
    machine = Machine()
    story: list[Any] = [machine.online(), machine.say(SessionRequested, **ASKED)]
    state, said = run(records(story))
    (request,) = facts(said, PlanRequested)
    own = replace(plan_for(request), baseline=Baseline(load_N=300.0, peak_force=330.0), model=PRIOR)
    state, _ = run(told([own]), state)
    start = machine.say(SessionStarted, **ASKED, prescription=PRESCRIPTION)
    as_asked, _ = run(told([start]), state)
    elsewhere, _ = run(told([replace(start, **other)]), state)
    assert as_asked.session is not None
    assert elsewhere.session is not None
    assert (as_asked.session.baseline, as_asked.session.model) == (own.baseline, PRIOR)
    assert (elsewhere.session.baseline, elsewhere.session.model) == (None, None)


def test_no_plan_comes_for_a_session_in_which_a_set_has_begun() -> None:
    machine = Machine()
    state, said = run(records([machine.online(), machine.say(SessionRequested, **ASKED)]))
    (request,) = facts(said, PlanRequested)
    begun = machine.say(SetStarted, session="s1", set_number=1, load_N=300.0)
    edit = machine.say(ClinicianEdited, **BY, load_cap_N=200.0)
    state, said = run(told([begun, edit, plan_for(request)]), state)
    assert (commands(said), facts(said, PlanRequested)) == ([], [])
    assert "plan_too_late" in names(said)
