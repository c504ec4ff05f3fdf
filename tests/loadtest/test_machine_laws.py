"""Laws of the simulated machine: repeatable to the byte, no command twice, nothing harder within a session."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.machine import Machine
from loadtest.roster import assemble
from loadtest.truth import Ledger
from loadtest.visit import Habits
from streams.core import telemetry as told
from streams.core.codec import encode
from streams.core.commands import Action, Change, Command
from streams.core.telemetry import Prescription, Telemetry

NOW_MS = 1_000


class Order(msgspec.Struct, frozen=True):
    """A command to come: after how many messages, what it asks for, how much, and whether it repeats the one before."""

    wait: int
    action: Action
    load_N: float
    repeats: bool
    reboots: bool


ORDERS = st.lists(
    st.builds(
        Order,
        wait=st.integers(0, 8),
        action=st.sampled_from(get_args(Action)),
        load_N=st.floats(0.0, 300.0),
        repeats=st.booleans(),
        reboots=st.integers(0, 20).map(lambda dice: dice == 0),
    ),
    max_size=25,
)


def a_machine(seed: int, ledger: Ledger) -> Machine:
    return assemble(seed, 1, ledger, habits=Habits(patience_s=10.0, release_after_s=20.0))[0]


def words(machine: Machine, count: int) -> Iterator[Telemetry]:
    spoken = (message for _ in range(10_000) if (message := machine.step().message) is not None)
    return islice(spoken, count)


def a_command(machine: Machine, order: Order, number: int) -> Command:
    changes = {
        "lower_load": (Change(quantity="load_N", old=0.0, new=order.load_N),),
        "tighten_range": (Change(quantity="window_hi", old=0.0, new=order.load_N / 200.0),),
        "extend_rest": (Change(quantity="rest_s", old=0.0, new=order.load_N),),
    }
    return Command(
        command_id=f"c{number}",
        machine=machine.key,
        boot_id=machine.programme.boot_id,
        sequence=number,
        action=order.action,
        rule="a_rule",
        cause="a/cause",
        evidence=(),
        changes=changes.get(order.action, ()),
        prescription=Prescription(id=f"p{number}", load_N=order.load_N) if order.action == "prescribe" else None,
        confirm=order.load_N > 150.0,
        policy="p",
        issued_ms=0,
        expires_ms=30_000,
    )


def live(seed: int, orders: Sequence[Order], ledger: Ledger) -> list[Telemetry]:
    """Run one machine in lockstep with these orders and return all that it said."""
    machine, command = a_machine(seed, ledger), None
    said: list[Telemetry] = []
    for number, order in enumerate(orders):
        said += words(machine, order.wait)
        if order.reboots:
            machine.reboot()
        if command is None or not order.repeats:
            command = a_command(machine, order, number)
        said += machine.receive(command, NOW_MS)
    return [*said, *words(machine, 40)]


def as_bytes(said: Sequence[Telemetry]) -> bytes:
    return b"".join(encode(word) for word in said)


@given(seed=st.integers(0, 1_000), orders=ORDERS)
@settings(max_examples=40, deadline=None)
def test_the_same_seed_and_the_same_commands_give_the_same_bytes(seed: int, orders: Sequence[Order]) -> None:
    assert as_bytes(live(seed, orders, Ledger())) == as_bytes(live(seed, orders, Ledger()))


def test_another_seed_gives_other_bytes() -> None:
    assert as_bytes(live(1, [], Ledger())) != as_bytes(live(2, [], Ledger()))


@given(orders=ORDERS)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_the_sequence_of_a_boot_has_no_hole(orders: Sequence[Order]) -> None:
    due: dict[str, int] = {}
    for word in live(7, orders, Ledger()):
        if not isinstance(word, told.Presence):
            assert word.seq == due.get(word.boot_id, 0)
            due[word.boot_id] = word.seq + 1


@given(seed=st.integers(0, 1_000), orders=ORDERS)
@settings(max_examples=60, deadline=None)
def test_no_command_takes_effect_twice(seed: int, orders: Sequence[Order]) -> None:
    ledger = Ledger()
    live(seed, orders, ledger)
    assert ledger.duplicate_effects == 0
    assert set(ledger.effects.values()) <= {1}


@given(seed=st.integers(0, 1_000), orders=ORDERS)
@settings(max_examples=60, deadline=None)
def test_a_command_took_effect_exactly_if_it_was_acknowledged_as_applied(seed: int, orders: Sequence[Order]) -> None:
    ledger = Ledger()
    live(seed, orders, ledger)
    applied = {command for command, answers in ledger.answers.items() if answers[0] == "applied"}
    assert applied == set(ledger.effects)
    assert all(len(set(answers)) == 1 for answers in ledger.answers.values())


@given(seed=st.integers(0, 1_000), orders=ORDERS)
@settings(max_examples=100, deadline=None)
def test_the_load_never_rises_within_a_session(seed: int, orders: Sequence[Order]) -> None:
    held: dict[str, float] = {}
    for word in live(seed, orders, Ledger()):
        if isinstance(word, told.SetStarted | told.Rep):
            assert word.load_N <= held.get(word.session, word.load_N)
            held[word.session] = word.load_N


@given(seed=st.integers(0, 1_000), orders=ORDERS)
@settings(max_examples=60, deadline=None)
def test_between_stop_and_release_no_repetition_begins(seed: int, orders: Sequence[Order]) -> None:
    machine, is_locked = a_machine(seed, Ledger()), False
    for number, order in enumerate(orders):
        for word in words(machine, order.wait):
            is_locked = machine.programme.locked
            assert not (is_locked and isinstance(word, told.Rep | told.SetStarted))
        machine.receive(a_command(machine, order, number), NOW_MS)
        assert machine.programme.locked == (is_locked or order.action == "stop")
        is_locked = machine.programme.locked
