"""A wrong option ends its command with code 2, before anything is started, and with words that name it."""

from pathlib import Path
from typing import Any

import pytest

from spineloop import wiring
from streams.core.errors import BrokenPromise
from tests.shell.spoken import Spineloop


@pytest.mark.parametrize(
    ("command", "option"), [("serve", "--port"), ("serve", "--page-port"), ("demo", "--page-port")]
)
@pytest.mark.parametrize("port", [-1, 99_999])
def test_a_port_that_no_computer_has_is_refused_by_the_name_of_its_option(
    command: str, option: str, port: int, spineloop: Spineloop, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    said = spineloop(command, "--data", data, option, port, SPINELOOP_HTTP_PORT="0")
    assert said.code == 2
    assert f"'{option}'" in said.err
    assert not data.exists()


@pytest.mark.parametrize("command", ["serve", "play"])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "expected mqtt:// or mqtts://..., got 'nonsense'"),
        ("http://127.0.0.1:1883", "expected mqtt:// or mqtts://..., got 'http://127.0.0.1:1883'"),
        ("mqtt://127.0.0.1:99999", "'mqtt://127.0.0.1:99999': Port out of range 0-65535"),
        ("mqtt://me:secret@127.0.0.1", "no credentials here, they have settings of their own"),
    ],
)
def test_a_broker_that_can_not_be_one_is_refused_as_the_setting_is(
    command: str, url: str, why: str, spineloop: Spineloop, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    words = ("--data", data) if command == "serve" else (data, "--machine", "acme/north/m1")
    said = spineloop(command, *words, "--mqtt", url, SPINELOOP_HTTP_PORT="0")
    assert (said.code, said.err) == (2, f"spineloop: --mqtt: {why}\n")
    assert not data.exists()


def test_a_fleet_that_is_to_bring_no_rep_a_second_is_refused_by_the_name_of_its_option(spineloop: Spineloop) -> None:
    said = spineloop("simulate", "--seconds", 1, "--machines", 1, "--reps-per-s", 0)
    assert said.code == 2
    assert "'--reps-per-s'" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_data_that_can_not_have_a_place_is_refused_by_the_name_of_its_option(
    command: str, spineloop: Spineloop, tmp_path: Path
) -> None:
    file = tmp_path / "data"
    file.touch()
    for data, why in ((file, "[Errno 17] File exists"), (file / "below", "[Errno 20] Not a directory")):
        said = spineloop(command, "--data", data, "--no-page", SPINELOOP_HTTP_PORT="0")
        assert (said.code, said.err) == (2, f"spineloop: --data: {why}: '{data}'\n")


@pytest.mark.parametrize("command", ["create", "describe"])
def test_a_kafka_that_refuses_for_good_is_one_line_and_not_a_traceback(
    command: str, spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: Any) -> None:
        raise BrokenPromise("Kafka: [Error 31] ClusterAuthorizationFailedError")

    monkeypatch.setattr(wiring, f"{command}_topics", refused)
    said = spineloop("topics", command)
    assert (said.code, said.err) == (1, "spineloop: Kafka: [Error 31] ClusterAuthorizationFailedError\n")
