"""Programmes: whatever a command asks for within a session, it only ever gets easier."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest import programme as programmes
from loadtest.exercise import EXERCISES
from loadtest.programme import EASIER, Programme
from streams.core.commands import Action, Change, Command, Quantity
from streams.core.telemetry import Prescription

BASE = Prescription(
    id="base", load_N=300.0, window_lo=0.1, window_hi=0.5, eccentric_s=2.0, reps=10, sets=3, rest_s=75.0
)
RUNNING = Programme(
    machine="demo/site-1/row-01",
    boot_id="b1",
    capabilities=EXERCISES["seated_row"].capabilities,
    prescription=BASE,
    stage="running",
    session="s1",
    set_number=1,
    lifting=True,
)
AWAITING = replace(RUNNING, stage="awaiting", set_number=0, lifting=False)


def a_command(action: Action, **differences: Any) -> Command:
    command = Command(
        command_id="c1",
        machine=RUNNING.machine,
        boot_id="b1",
        sequence=5,
        action=action,
        rule="a_rule",
        cause="a/cause",
        evidence=(),
        session="s1",
        policy="p",
        issued_ms=0,
        expires_ms=30_000,
    )
    return replace(command, **differences)


def change(quantity: Quantity, new: float) -> tuple[Change, ...]:
    return (Change(quantity=quantity, old=0.0, new=new),)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (a_command("lower_load", changes=change("load_N", 270.0)), None),
        (a_command("lower_load", changes=change("load_N", 305.0)), "increase_in_session"),
        (a_command("tighten_range", changes=change("window_hi", 0.45)), None),
        (a_command("tighten_range", changes=change("window_hi", 0.55)), "increase_in_session"),
        (a_command("tighten_range", changes=change("window_lo", 0.05)), "increase_in_session"),
        (a_command("tighten_range", changes=change("window_hi", 0.05)), "bad_value"),
        (a_command("extend_rest", changes=change("rest_s", 105.0)), None),
        (a_command("extend_rest", changes=change("rest_s", 60.0)), "increase_in_session"),
        (a_command("drop_set", changes=change("sets", 4)), "increase_in_session"),
        (a_command("lower_load", changes=change("hold_s", 2.0)), "increase_in_session"),
        (a_command("lower_load", changes=change("eccentric_s", 1.0)), "increase_in_session"),
        (a_command("lower_load", changes=change("load_N", float("nan"))), "bad_value"),
        (a_command("lower_load", changes=change("load_N", float("-inf"))), "bad_value"),
        (a_command("lower_load", changes=change("load_N", -1.0)), "bad_value"),
        (a_command("prescribe", prescription=replace(BASE, load_N=315.0)), "increase_in_session"),
        (a_command("prescribe", prescription=BASE), "session_running"),
        (a_command("prescribe"), "bad_value"),
        (a_command("end_set", set_number=1), None),
        (a_command("end_set", set_number=2), "set_over"),
        (a_command("cue", boot_id="b0"), "other_boot"),
        (a_command("cue", session="s0"), "other_session"),
        (a_command("cue", expires_ms=10_000), "expired"),
        (a_command("cue", expires_ms=10_001), None),
        (a_command("cue", machine="demo/site-1/row-02"), "other_machine"),
        (a_command("stop", machine="demo/site-1/row-02"), "other_machine"),
    ],
)
def test_a_machine_refuses_what_is_harder_misplaced_or_late(command: Command, reason: str | None) -> None:
    assert programmes.refusal(RUNNING, command, now_ms=10_000) == reason


def test_a_sequence_not_above_the_last_applied_one_is_stale() -> None:
    after = programmes.obeyed(RUNNING, a_command("cue", sequence=5))
    verdicts = [programmes.refusal(after, a_command("cue", sequence=sequence), 0) for sequence in (4, 5, 6)]
    assert verdicts == ["stale_sequence", "stale_sequence", None]


@pytest.mark.parametrize(
    "differences", [{"boot_id": "b0"}, {"sequence": 0}, {"expires_ms": 0}, {"session": "s0"}, {"session": None}]
)
@pytest.mark.parametrize("programme", [RUNNING, AWAITING, replace(AWAITING, stage="idle", session=None)])
def test_stop_is_never_refused_whatever_its_boot_order_age_or_session(
    programme: Programme, differences: dict[str, Any]
) -> None:
    stop = a_command("stop", **differences)
    assert programmes.refusal(replace(programme, last_sequence=9), stop, now_ms=10_000) is None
    assert programmes.obeyed(programme, stop).held_load == programme.capabilities.load_min_N


@given(action=st.sampled_from([action for action in get_args(Action) if action != "stop"]))
def test_a_locked_machine_refuses_everything_but_stop(action: Action) -> None:
    locked = programmes.obeyed(RUNNING, a_command("stop"))
    assert programmes.refusal(locked, a_command(action, sequence=6, prescription=BASE), now_ms=0) == "locked"
    assert programmes.refusal(locked, a_command("stop", sequence=6), now_ms=0) is None


def test_a_prescription_before_the_session_may_raise_and_is_clamped_to_what_the_machine_can_do() -> None:
    wish = a_command("prescribe", prescription=Prescription(id="p", load_N=9_999.0, window_lo=-5.0, rest_s=600.0))
    assert programmes.refusal(AWAITING, wish, now_ms=0) is None
    held = programmes.obeyed(AWAITING, wish).prescription
    assert (held.load_N, held.window_lo, held.window_hi, held.rest_s) == (1_500.0, 0.0, 0.75, 180.0)


def test_what_a_command_says_is_done() -> None:
    def after(action: Action, **differences: Any) -> Programme:
        return programmes.obeyed(RUNNING, a_command(action, **differences))

    assert after("lower_load", changes=change("load_N", 273.0)).held_load == 270.0  # down to the grid of 5 N
    assert after("lower_load", changes=change("load_N", 1.0)).held_load == 20.0  # not below the machine's minimum
    assert after("tighten_range", changes=change("window_hi", 0.45)).prescription.window_hi == 0.45
    assert after("extend_rest", changes=change("rest_s", 999.0)).prescription.rest_s == 180.0
    assert after("drop_set").prescription.sets == 2
    assert after("drop_set", changes=change("sets", 1)).prescription.sets == 1
    assert after("cue").cues == 1
    assert after("end_set").set_over
    assert not after("end_set").exercise_over
    assert after("end_exercise").exercise_over


CHANGES = st.builds(
    Change,
    quantity=st.sampled_from(list(EASIER)),
    old=st.just(0.0),
    new=st.one_of(st.floats(), st.floats(-1.0, 400.0), st.floats(0.0, 1.0)),
)
COMMANDS = st.builds(
    a_command,
    st.sampled_from(get_args(Action)),
    changes=st.lists(CHANGES, max_size=3).map(tuple),
    sequence=st.integers(0, 50),
    prescription=st.none() | st.builds(Prescription, id=st.just("p"), load_N=st.floats(0.0, 2_000.0)),
)


@given(commands=st.lists(COMMANDS, max_size=20))
def test_no_sequence_of_commands_makes_anything_harder_within_a_session(commands: list[Command]) -> None:
    programme = RUNNING
    for command in commands:
        before = programme
        if programmes.refusal(programme, command, now_ms=0) is None:
            programme = programmes.obeyed(programme, command)
        assert programme.held_load <= before.held_load
        for quantity, easier in EASIER.items():
            old, new = getattr(before.prescription, quantity), getattr(programme.prescription, quantity)
            if old is not None:
                assert new <= old if easier == "less" else new >= old
