"""Damaged messages: what is wrong ends aside, whole, and nobody stumbles; and the search sees what it is for."""

import random
import subprocess
import sys
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import arrival
from ingest import bridge as bridges
from loadtest.fuzzing import fuzz
from loadtest.fuzzing.fuzz import REASONS
from loadtest.fuzzing.mutants import Case, mutant
from streams.core import codec
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.topics import MachineTopic, parse_mqtt

GOOD = list(islice(fuzz.said(seed=1), 1_500))


def test_forty_thousand_damaged_messages_are_taken_or_put_aside_and_nothing_raises_or_blocks() -> None:
    account = fuzz.run(40_000, seed=7)
    assert account.wrong == []
    assert account.cases == 40_000
    assert account.taken > 10_000
    assert account.outputs > 10_000
    unreachable = {"wrong_stream", "bad_key"}  # the bridge leaves commands on their way down alone, and makes the keys
    assert account.letters.keys() == REASONS - unreachable
    assert {"bad_key", "not_a_message", "unknown_type", "bad_value"} <= account.stage_letters.keys()
    assert (account.went_back, account.stayed) == (1_000, fuzz.LETTERS_BACK)


def test_the_same_seed_gives_the_same_account() -> None:
    assert fuzz.run(1_500, seed=3) == fuzz.run(1_500, seed=3) != fuzz.run(1_500, seed=4)


@settings(max_examples=1_000)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_whatever_is_damaged_decoding_says_a_message_or_why_not(seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD) - 100))
    case = mutant(random.Random(seed), GOOD[start : start + 100])
    payload = case.payload
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(payload)))
        payload = payload[:at] + data.draw(st.binary(max_size=8)) + payload[at:]
    reason = None
    try:
        topic = parse_mqtt(case.topic)
        told = codec.decode_up(topic, payload)
        assert codec.decode_up(topic, codec.encode(told)) == told
    except Malformed as why:
        reason = why.reason
    assert reason is None or reason in REASONS


# --- the search sees what it is for


def test_a_stage_that_stumbles_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    step, steps = Controller.step, iter(range(10**9))

    def stumbling(self: Controller, state: Any, item: Any, now_ms: int) -> Any:
        if next(steps) == 700:
            raise ZeroDivisionError("stumbled")
        return step(self, state, item, now_ms)

    monkeypatch.setattr(Controller, "step", stumbling)
    found = fuzz.run(3_000, seed=7).wrong
    assert any(one.startswith("froze") and "ZeroDivisionError: stumbled" in one for one in found)


def test_a_bridge_that_changes_a_letter_or_leaves_out_why_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    aside = arrival.to_dead_letter

    def shortened(message: Any, why: Malformed, now_ms: int) -> Any:
        letter = aside(message, why, now_ms)
        return msgspec.structs.replace(letter, value=(letter.value or b"")[:-1], headers=letter.headers[:-1])

    monkeypatch.setattr(bridges, "to_dead_letter", shortened)
    seen = {one.partition(":")[0] for one in fuzz.run(1_000, seed=7).wrong}
    assert {"the bytes were changed", "a letter without exception.message"} <= seen


@pytest.mark.parametrize("part", ["key", "id"])
def test_a_bridge_that_files_a_message_under_another_machine_is_seen(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = arrival.to_record

    def elsewhere(topic: MachineTopic, message: Any, now_ms: int) -> Any:
        record = taken(topic, message, now_ms)
        if part == "key":
            return msgspec.structs.replace(record, key=record.key[::-1])
        changed = tuple((name, value[::-1] if name == "ce_id" else value) for name, value in record.headers)
        return msgspec.structs.replace(record, headers=changed)

    monkeypatch.setattr(bridges, "to_record", elsewhere)
    found = fuzz.run(500, seed=7).wrong
    assert any(one.startswith({"key": "under the key", "id": "with the id"}[part] + " of another") for one in found)


def test_a_letter_under_another_key_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    aside = arrival.to_dead_letter

    def elsewhere(message: Any, why: Malformed, now_ms: int) -> Any:
        letter = aside(message, why, now_ms)
        return msgspec.structs.replace(letter, key=letter.key[::-1])

    monkeypatch.setattr(bridges, "to_dead_letter", elsewhere)
    assert any(one.startswith("under the key of another") for one in fuzz.run(500, seed=7).wrong)


def test_a_good_message_that_is_put_aside_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: Any) -> Any:
        raise Malformed("bad_value", "nothing is good enough")

    monkeypatch.setattr(bridges, "to_record", refusing)
    assert any(one.startswith("a good message was put aside") for one in fuzz.run(500, seed=7).wrong)


def test_the_messages_that_are_damaged_are_those_of_a_fleet() -> None:
    near = deque[Case](GOOD, maxlen=fuzz.NEAR)
    assert {"rep", "event"} <= {parse_mqtt(case.topic).stream for case in near}
    assert {codec.is_json(case.payload) for case in near} == {True, False}


def test_the_command_line_tells_the_account_and_ends_with_0(tmp_path: Path) -> None:
    report = tmp_path / "fuzz.json"
    command = [sys.executable, "-m", "loadtest", "fuzz", "--cases", "2000", "--seed", "2", "--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "wrong 0" in done.stdout) == (0, True), done
    told = msgspec.json.decode(report.read_bytes())
    assert (told["cases"], told["wrong"], told["seed"]) == (2_000, [], 2)
