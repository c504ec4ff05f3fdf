"""Reconciliation: what must not be is found, and named."""

from msgspec.structs import replace

from loadtest.chaos.reconcile import Books, Finding, reconciled
from loadtest.truth import Ledger
from streams.core.commands import Command
from streams.core.records import Record
from streams.core.telemetry import Heartbeat
from streams.core.topics import COMMAND, TELEMETRY

KEY = "demo/site-1/row-01"


def a_record(seq: int) -> Record:
    name = f"{KEY}/b1/{seq}".encode()
    return Record(TELEMETRY, 0, seq, KEY.encode(), b"", 0, (("ce_id", name),))


def a_command(number: int, *, expires_ms: int = 9_000) -> Command:
    return Command(
        command_id=f"c{number}",
        machine=KEY,
        boot_id="b1",
        sequence=number,
        action="cue",
        rule="cue",
        cause=f"{KEY}/b1/0",
        evidence=(),
        policy="p",
        issued_ms=0,
        expires_ms=expires_ms,
    )


def books(*seqs: int, logged: tuple[int, ...] | None = None) -> Books:
    """Return the books of a machine that said these messages, of which the log has others if it is told so."""
    ledger = Ledger()
    for seq in seqs:
        ledger.publish(KEY, Heartbeat(boot_id="b1", seq=seq, t_us=seq))
    records = [a_record(seq) for seq in (seqs if logged is None else logged)]
    return Books(ledger=ledger, skew_ms={}, telemetry=records, metrics=(), outputs={}, expected={}, reps_in_history=0)


def test_books_that_agree_have_no_findings_and_a_repetition_in_the_log_is_none() -> None:
    assert reconciled(books(1, 2, 3, logged=(1, 2, 2, 3, 1))) == ()


def test_what_was_said_and_is_not_in_the_log_is_lost() -> None:
    assert reconciled(books(1, 2, 3, logged=(1, 3))) == (Finding("lost", "telemetry", f"{KEY}/b1/2"),)


def test_what_nobody_held_back_and_comes_after_what_was_said_later_is_out_of_order() -> None:
    assert reconciled(books(1, 2, 3, logged=(1, 3, 2))) == (Finding("out_of_order", "telemetry", f"{KEY}/b1/2"),)


def test_an_output_is_lost_invented_or_has_other_bytes() -> None:
    found = reconciled(
        replace(
            books(),
            expected={(COMMAND, "a"): b"1", (COMMAND, "b"): b"1"},
            outputs={(COMMAND, "b"): frozenset({b"2"}), (COMMAND, "c"): frozenset({b"1"})},
        )
    )
    assert [(each.kind, each.record.split()[0]) for each in found] == [
        ("differing", "b"),
        ("differing", "c"),
        ("lost", "a"),
    ]


def test_an_output_in_two_forms_is_doubled() -> None:
    found = reconciled(
        replace(books(), expected={(COMMAND, "a"): b"1"}, outputs={(COMMAND, "a"): frozenset({b"1", b"2"})})
    )
    assert [each.kind for each in found] == ["doubled"]


def test_a_command_that_took_effect_twice_is_doubled() -> None:
    told = books()
    for _ in range(2):
        told.ledger.hear(KEY, a_command(1), 0)
        told.ledger.obey(KEY, a_command(1))
    assert [each.kind for each in reconciled(told)] == ["doubled"]


def test_a_command_that_came_after_its_expiry_by_true_time_is_stale_however_the_machines_clock_stands() -> None:
    told = books()
    told.ledger.hear(KEY, a_command(1, expires_ms=9_000), 5_000)  # a clock that is five seconds behind
    told.ledger.obey(KEY, a_command(1, expires_ms=9_000))
    assert reconciled(told) == ()
    assert reconciled(replace(told, skew_ms={KEY: -5_000})) == (Finding("stale", KEY, "c1, 1000 ms too late"),)


def test_commands_that_take_effect_in_another_order_are_out_of_order() -> None:
    told = books()
    for number in (2, 1):
        told.ledger.hear(KEY, a_command(number), 0)
        told.ledger.obey(KEY, a_command(number))
    assert reconciled(told) == (Finding("out_of_order", KEY, "c1"),)
