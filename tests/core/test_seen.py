"""Seen: what a machine is doing is said when it changes and once in each minute of its clock, and nothing else."""

import pytest

from streams.core.codec import decode_metric
from streams.core.controller import Controller
from streams.core.results import MachineSeen
from streams.core.session import MachineState
from streams.core.telemetry import (
    ButtonPressed,
    Heartbeat,
    Offline,
    Released,
    SessionEnded,
    SessionRequested,
    SetEnded,
    Telemetry,
)
from tests.core.story import MACHINE, PATIENT, Machine, metrics, records, run


def seen(told: list[Telemetry], state: MachineState | None = None) -> list[MachineSeen]:
    return metrics(run(records(told), state)[1], MachineSeen)


def modes(told: list[Telemetry]) -> list[str]:
    return [one.mode for one in seen(told)]


def test_a_visit_is_told_from_coming_to_going() -> None:
    machine = Machine()
    request = machine.say(
        SessionRequested, session="s1", patient=PATIENT, exercise="lumbar_extension", intent="max", settings="h1"
    )
    told = [
        machine.online(),
        request,
        *machine.begin()[1:],
        machine.rep(1),
        machine.say(SetEnded, session="s1", set_number=1, reps_done=1),
        machine.say(SessionEnded, session="s1"),
        Offline(boot_id="b1"),
    ]
    assert modes(told) == ["idle", "requested", "resting", "lifting", "resting", "idle", "offline"]
    assert {one.patient for one in seen(told) if one.session == "s1"} == {PATIENT}


def test_a_stopped_machine_is_locked_until_it_is_released_even_if_it_goes_and_comes() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.say(ButtonPressed, button="stop"), Offline(boot_id="b1")]
    told += [machine.online(), machine.say(Released, by="physio-1")]
    shown = [(one.mode, one.online) for one in seen(told)]
    assert shown[-4:] == [("locked", True), ("locked", False), ("locked", True), ("lifting", True)]


def test_one_that_comes_and_goes_without_a_word_is_told_of_each_time_under_an_id_of_its_own() -> None:
    machine = Machine()
    told = [machine.online(), *(Offline(boot_id="b1"), machine.online()) * 3]
    assert modes(told) == ["idle", *("offline", "idle") * 3]
    assert len({one.id for one in seen(told)}) == 7


def test_one_that_goes_after_a_word_and_comes_and_goes_again_without_one_is_told_of_each_time() -> None:
    machine = Machine()
    told = [machine.online(), machine.say(Heartbeat), *(Offline(boot_id="b1"), machine.online()) * 3]
    assert modes(told) == ["idle", *("offline", "idle") * 3]
    assert len({one.id for one in seen(told)}) == 7


def test_a_machine_that_does_nothing_is_told_of_once_a_minute_of_its_clock() -> None:
    machine = Machine()
    told = [machine.online(), *(machine.say(Heartbeat) for _ in range(120))]  # 2 s apart
    assert modes(told) == ["idle"] * 5
    assert len({one.id for one in seen(told)}) == 5


def test_nothing_is_said_for_a_repetition() -> None:
    machine = Machine()
    told = [*machine.begin(), machine.rep(1)]
    state, _ = run(records(told))
    assert seen(told, state) == []


def test_a_machine_that_restarts_is_told_of_though_nobody_saw_it_go() -> None:
    before, after = Machine(), Machine("b2")
    assert modes([*before.begin(), after.online()])[-1] == "locked"  # its session was stopped: the link was lost
    assert [one.boot_id for one in seen([before.online(), after.online(), after.say(Heartbeat)])] == ["b1"]


@pytest.mark.parametrize("cut", range(1, 6))
def test_where_the_story_is_cut_changes_nothing(cut: int) -> None:
    machine = Machine()
    told = records([*machine.begin(), machine.rep(1), machine.say(SetEnded, session="s1", set_number=1, reps_done=1)])
    whole = run(told)[1]
    stage = Controller()
    state, first = run(told[:cut])
    rest = run(told[cut:], stage.restore(stage.save(state)))[1]
    assert [*first, *rest] == whole
    assert all(decode_metric(record.value or b"") for record in whole if record.topic.endswith("metric.v1"))


def test_the_key_names_the_machine() -> None:
    assert {one.machine for one in seen(Machine().begin())} == {MACHINE}
