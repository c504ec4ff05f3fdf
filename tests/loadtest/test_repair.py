"""Machines keep what they said, on disk, and say it again when they are asked to; they need no right clock for it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loadtest.disturbance import UNDISTURBED, Disturbance, Rates
from loadtest.kept import Kept, KeptOnDisk
from loadtest.machine import Machine
from loadtest.roster import assemble
from loadtest.saying import MAX_SAID, Saying
from loadtest.truth import Ledger
from streams.core.codec import message_id
from streams.core.commands import Command, Evidence, Stretch
from streams.core.telemetry import CommandApplied, CommandExpired, CommandRejected, Heartbeat, Ordered, Presence

NOW_MS = 1_000_000
KEY = "demo/site-1/lumbar-01"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptOnDisk]:
    with closing(KeptOnDisk(tmp_path / "machines.sqlite")) as store:
        yield store


def beat(seq: int, boot_id: str = "b1") -> Heartbeat:
    return Heartbeat(boot_id=boot_id, seq=seq, t_us=seq)


def a_machine(kept: Kept | None = None, ledger: Ledger | None = None) -> Machine:
    return assemble(3, 1, ledger or Ledger(), kept=kept)[0]


def lived(machine: Machine, messages: int, now_ms: int | None = None) -> list[Ordered]:
    """Let a machine say so many messages that have a place."""
    said: list[Ordered] = []
    while len(said) < messages:
        message = machine.step(now_ms).message
        if message is not None and not isinstance(message, Presence):
            said.append(message)
    return said


def request(machine: Machine, first: int, last: int, **fields: Any) -> Command:
    cause = f"{machine.key}/{machine.programme.boot_id}/{last + 1}"
    usual: dict[str, Any] = {
        "command_id": f"{machine.key}/{machine.programme.boot_id}/{first}/resend-{last}",
        "machine": machine.key,
        "boot_id": machine.programme.boot_id,
        "sequence": 0,
        "action": "resend",
        "rule": "resend",
        "cause": cause,
        "evidence": (Evidence(cause, "missing_seq", last - first + 1),),
        "missing": Stretch(first_seq=first, last_seq=last),
        "policy": "p",
        "issued_ms": NOW_MS,
        "expires_ms": NOW_MS + 900_000,
    }
    return Command(**(usual | fields))


def test_what_a_machine_said_can_be_said_again_word_for_word(kept: KeptOnDisk) -> None:
    machine = a_machine(kept)
    said = lived(machine, 12)
    asked = request(machine, 2, 9)
    assert list(machine.recalled(asked, NOW_MS)) == said[2:10]
    (ack,) = machine.receive(asked, NOW_MS)
    assert isinstance(ack, CommandApplied)


def test_it_survives_the_end_of_the_process_and_a_reboot(tmp_path: Path) -> None:
    path = tmp_path / "machines.sqlite"
    with closing(KeptOnDisk(path)) as before:
        machine = a_machine(before)
        said = lived(machine, 6)
        asked = request(machine, 0, 5)
    with closing(KeptOnDisk(path)) as after:
        machine = a_machine(after)
        machine.reboot()
        assert list(machine.recalled(asked, NOW_MS)) == said


def test_a_request_is_obeyed_by_a_locked_machine_whatever_its_sequence_and_holds_back_no_command(
    kept: KeptOnDisk,
) -> None:
    machine = a_machine(kept)
    said = lived(machine, 6)
    machine.receive(request(machine, 0, 1, action="stop", missing=None, command_id="c", sequence=48), NOW_MS)
    before = machine.programme
    asked = request(machine, 0, 3)
    assert list(machine.recalled(asked, NOW_MS)) == said[:4]
    assert isinstance(machine.receive(asked, NOW_MS)[0], CommandApplied)
    assert machine.programme == before


def test_a_request_that_comes_again_is_answered_again_and_nothing_is_said_again(kept: KeptOnDisk) -> None:
    machine = a_machine(kept)
    lived(machine, 6)
    asked = request(machine, 0, 3)
    machine.recalled(asked, NOW_MS)
    machine.receive(asked, NOW_MS)
    assert machine.recalled(asked, NOW_MS) == ()
    assert isinstance(machine.receive(asked, NOW_MS + 10**9)[0], CommandApplied)


@pytest.mark.parametrize(("first", "last"), [(4, 90), (90, 2**62)])
def test_what_is_not_kept_is_said_so_and_what_is_there_comes_all_the_same(
    kept: KeptOnDisk, first: int, last: int
) -> None:
    machine = a_machine(kept)
    said = lived(machine, 6)
    asked = request(machine, first, last)
    assert list(machine.recalled(asked, NOW_MS)) == said[first:]
    (ack,) = machine.receive(asked, NOW_MS)
    assert isinstance(ack, CommandRejected)
    assert ack.reason == "not_kept"


def test_a_machine_that_keeps_nothing_says_so() -> None:
    machine = a_machine()
    lived(machine, 6)
    assert machine.recalled(request(machine, 0, 1), NOW_MS) == ()
    (ack,) = machine.receive(request(machine, 0, 1), NOW_MS)
    assert isinstance(ack, CommandRejected)


def test_a_request_past_its_expiry_is_not_obeyed(kept: KeptOnDisk) -> None:
    machine = a_machine(kept)
    lived(machine, 6)
    asked = request(machine, 0, 3)
    assert machine.recalled(asked, asked.expires_ms) == ()
    assert isinstance(machine.receive(asked, asked.expires_ms)[0], CommandExpired)


def test_only_so_many_messages_and_bytes_of_a_machine_are_kept_and_the_oldest_goes_first(tmp_path: Path) -> None:
    with closing(KeptOnDisk(tmp_path / "a", max_count=5)) as few:
        for seq in range(12):
            few.keep(KEY, beat(seq))
            few.keep("demo/site-1/other", beat(seq))
        assert [one.seq for one in few.between(KEY, "b1", 0, 99)] == [7, 8, 9, 10, 11]
    with closing(KeptOnDisk(tmp_path / "a", max_bytes=100)) as small:  # the bounds hold for what was kept before, too
        small.keep(KEY, beat(12))
        left = small.between(KEY, "b1", 0, 99)
        assert [one.seq for one in left] == list(range(13 - len(left), 13))
        assert 1 <= len(left) < 5


def test_a_message_is_kept_once(kept: KeptOnDisk) -> None:
    for _ in range(3):
        kept.keep(KEY, beat(1))
    assert kept.between(KEY, "b1", 0, 5) == [beat(1)]


def test_what_was_withheld_and_then_asked_for_counts_as_published() -> None:
    ledger = Ledger()
    machine = a_machine(ledger=ledger)
    unlucky = Disturbance(machine, Rates(lost=1.0, reboot=0.0), 1, ledger)
    while not ledger.withheld:
        unlucky.step()
    ((name, kind),) = ledger.withheld.items()
    unlucky.again(beat(int(name.rsplit("/", 1)[1]), name.split("/")[3]))
    assert (ledger.withheld, ledger.repaired, list(ledger.published)) == ({}, {name}, [name])
    assert kind


def test_what_comes_a_second_time_was_published_once() -> None:
    ledger = Ledger()
    machine = a_machine(ledger=ledger)
    lucky = Disturbance(machine, UNDISTURBED, 1, ledger)
    said = next(
        one.message for _ in iter(int, 1) for one in lucky.step().deliveries if isinstance(one.message, Ordered)
    )
    lucky.again(said)
    assert (ledger.repaired, ledger.duplicated) == (set(), {message_id(machine.key, said)})


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_ms", [-300_000, 0, 300_000])
@pytest.mark.parametrize(("age_ms", "is_expired"), [(0, False), (29_999, False), (30_000, True), (3_600_000, True)])
def test_a_machine_knows_how_old_a_command_is_though_its_clock_is_wrong(
    skew_ms: int, age_ms: int, is_expired: bool
) -> None:
    machine = a_machine()
    said = lived(machine, 3, NOW_MS + skew_ms)[-1]
    cause = message_id(machine.key, said)
    late = request(
        machine, 0, 1, action="cue", missing=None, command_id="c", cause=cause, sequence=9, expires_ms=NOW_MS + 30_000
    )
    (ack,) = machine.receive(late, NOW_MS + skew_ms + age_ms)
    assert isinstance(ack, CommandExpired) is is_expired


@pytest.mark.parametrize("jump_ms", [-300_000, 300_000])
@pytest.mark.parametrize(("age_ms", "is_expired"), [(29_999, False), (30_000, True)])
def test_a_clock_that_is_set_after_a_message_was_said_makes_no_command_older_or_younger(
    jump_ms: int, age_ms: int, is_expired: bool
) -> None:
    machine = a_machine()
    said = lived(machine, 3, NOW_MS)[-1]
    cause = message_id(machine.key, said)
    late = request(
        machine, 0, 1, action="cue", missing=None, command_id="c", cause=cause, sequence=9, expires_ms=NOW_MS + 30_000
    )
    (ack,) = machine.receive(late, NOW_MS + jump_ms + age_ms, watch_ms=NOW_MS + age_ms)
    assert isinstance(ack, CommandExpired) is is_expired


def test_a_cause_that_is_forgotten_is_too_old() -> None:
    saying = Saying()
    machine = a_machine()
    command = request(machine, 0, 1)
    for number in range(MAX_SAID):
        saying.note(str(number), NOW_MS)
    assert saying.log_time(command, 5, NOW_MS) == command.expires_ms
