"""Reconciliation: what must not be is found, and named."""

from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from loadtest.chaos.pages import Forms, Page, add, digest
from loadtest.chaos.reconcile import Books, Finding, reconciled
from loadtest.truth import Ledger
from streams.core.commands import Command
from streams.core.telemetry import Heartbeat
from streams.core.topics import COMMAND

KEY = "demo/site-1/row-01"


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


def books(*seqs: int, logged: tuple[int, ...] | None = None, now_ms: int = 0) -> Books:
    """Return the books of a machine that said these messages, of which the log has others if it is told so."""
    ledger = Ledger(lambda: now_ms)
    for seq in seqs:
        ledger.publish(KEY, Heartbeat(boot_id="b1", seq=seq, t_us=seq))
    heard = [f"{KEY}/b1/{seq}" for seq in (seqs if logged is None else logged)]
    return Books(ledger=ledger, pages=[Page(heard=heard)], in_history=())


def test_books_that_agree_have_no_findings_and_a_repetition_in_the_log_is_none() -> None:
    assert reconciled(books(1, 2, 3, logged=(1, 2, 2, 3, 1))) == ()


def test_what_was_said_and_is_not_in_the_log_is_lost() -> None:
    assert reconciled(books(1, 2, 3, logged=(1, 3))) == (Finding("lost", "telemetry", f"{KEY}/b1/2"),)


def test_what_nobody_held_back_and_comes_after_what_was_said_later_is_out_of_order() -> None:
    assert reconciled(books(1, 2, 3, logged=(1, 3, 2))) == (
        Finding("out_of_order", "telemetry", f"{KEY}/b1/2, of 0 ms, after 3"),
    )


def outputs_and_expected(outputs: Mapping[str, Sequence[bytes]], expected: Mapping[str, bytes]) -> list[Page]:
    """Return two pages: what was said stands in another partition than what led to it."""
    said: Forms = {}
    for name, values in outputs.items():
        for value in values:
            add(said, name, digest(value))
    due = {name: digest(value) for name, value in expected.items()}
    return [Page(outputs={COMMAND: said}), Page(expected={COMMAND: due})]


def test_an_output_is_lost_invented_or_has_other_bytes() -> None:
    pages = outputs_and_expected({"b": [b"2"], "c": [b"1"], "d": [b"1"]}, {"a": b"1", "b": b"1", "d": b"1"})
    found = reconciled(replace(books(), pages=pages))
    assert [(each.kind, each.record.split()[0]) for each in found] == [
        ("differing", "b"),
        ("differing", "c"),
        ("lost", "a"),
    ]


def test_an_output_in_two_forms_is_doubled_wherever_they_stand() -> None:
    pages = outputs_and_expected({"a": [b"1", b"2"]}, {"a": b"1"})
    assert [each.kind for each in reconciled(replace(books(), pages=pages))] == ["doubled"]
    apart = [Page(outputs={COMMAND: {"a": digest(value)}}) for value in (b"1", b"2")]
    assert [each.kind for each in reconciled(replace(books(), pages=[*apart, pages[1]]))] == ["doubled"]


def test_a_rep_is_lost_that_was_not_measured_and_doubled_if_history_has_more_than_were_measured() -> None:
    told = books()
    told.ledger.published[f"{KEY}/b1/1"] = "rep"
    heard = [f"{KEY}/b1/1"]
    there = replace(told, pages=[Page(heard=heard, measured={f"{KEY}/b1/1": 5})], in_history=heard)
    assert reconciled(there) == ()
    assert reconciled(replace(there, in_history=())) == (Finding("lost", "history", f"{KEY}/b1/1, of 5 ms"),)
    assert [each.kind for each in reconciled(replace(there, in_history=heard * 2))] == ["doubled"]
    assert [each.where for each in reconciled(replace(there, pages=[Page(heard=heard)]))] == ["metric", "history"]


def test_a_command_that_ended_in_two_ways_is_doubled() -> None:
    pages = [Page(ends=[("c1", "applied"), ("c1", "applied")]), Page(ends=[("c2", "applied"), ("c2", "expired")])]
    found = reconciled(replace(books(), pages=pages))
    assert found == (Finding("doubled", "command", "c2 ended as applied and expired"),)


def test_a_command_that_took_effect_twice_is_doubled() -> None:
    told = books()
    for _ in range(2):
        told.ledger.obey(KEY, a_command(1))
    assert [each.kind for each in reconciled(told)] == ["doubled"]


@pytest.mark.parametrize("late_ms", [0, 1, 1_000])
def test_a_command_that_takes_effect_at_its_expiry_by_true_time_or_later_is_stale_whatever_its_machine_believes(
    late_ms: int,
) -> None:
    told = books(now_ms=9_000 + late_ms)
    told.ledger.obey(KEY, a_command(1, expires_ms=9_000))
    assert reconciled(told) == (Finding("stale", KEY, f"c1, {late_ms} ms too late"),)


def test_a_command_that_takes_effect_just_before_its_expiry_is_not_stale_and_a_stop_never_is() -> None:
    told = books(now_ms=8_999)
    told.ledger.obey(KEY, a_command(1, expires_ms=9_000))
    assert reconciled(told) == ()
    late = books(now_ms=10_000)
    late.ledger.obey(KEY, replace(a_command(1, expires_ms=9_000), action="stop"))
    assert reconciled(late) == ()


def test_commands_that_take_effect_in_another_order_are_out_of_order() -> None:
    told = books()
    for number in (2, 1):
        told.ledger.obey(KEY, a_command(number))
    assert reconciled(told) == (Finding("out_of_order", KEY, "c1"),)
