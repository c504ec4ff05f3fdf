"""The codec: what no decoder of a single kind would notice by itself."""

import pytest

from streams.core import codec
from streams.core.errors import Malformed
from streams.core.topics import MachineTopic, Stream

HEARTBEAT = b'{"type":"heartbeat","boot_id":"%s","seq":1,"t_us":1}'


def reason_of(stream: Stream, payload: bytes) -> str:
    with pytest.raises(Malformed) as refused:
        codec.decode_up(MachineTopic("acme/north/m1", stream), payload)
    return refused.value.reason


@pytest.mark.parametrize("payload", [b"{}", b'{"boot_id":"b1"}', b'{"type":""}', b'{"type":"heartbeat"}', b"\x80"])
def test_a_rep_without_its_type_is_of_an_unknown_type(payload: bytes) -> None:
    assert reason_of("rep", payload) == "unknown_type"


def test_a_command_without_its_type_is_of_an_unknown_type() -> None:
    with pytest.raises(Malformed, match="unknown_type"):
        codec.decode_command(b"{}")


def test_a_line_feed_at_the_end_of_a_name_is_not_overlooked() -> None:
    assert codec.decode_up(MachineTopic("acme/north/m1", "event"), HEARTBEAT % b"b1")
    assert reason_of("event", HEARTBEAT % b"b1\\n") == "bad_value"
