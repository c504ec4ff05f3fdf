"""A port or an address that can't be had: one line that names its setting, and exit code 2."""

import socket
from pathlib import Path

import pytest

from tests.shell.spoken import Spineloop


@pytest.mark.parametrize("role", ["reflex", "page"])
def test_a_port_that_another_process_has_is_one_line_that_names_the_setting(
    role: str, spineloop: Spineloop, tmp_path: Path
) -> None:
    setting = "SPINELOOP_PAGE_PORT" if role == "page" else "SPINELOOP_HTTP_PORT"
    told = {"SPINELOOP_LOG_URL": f"sqlite://{tmp_path}", "SPINELOOP_METERS_S": "0", "SPINELOOP_HTTP_PORT": "0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = spineloop(role, **told | {setting: str(taken.getsockname()[1])})
    assert said.code == 2
    last = said.err.splitlines()[-1]
    assert last.startswith(f"spineloop: {setting}: [Errno 98] ")
    assert last.endswith("; each process here needs its own, or 0")
    assert "Traceback" not in said.err


def test_an_address_that_is_not_of_this_computer_blames_the_host_and_not_the_port(spineloop: Spineloop) -> None:
    told = {"SPINELOOP_HTTP_HOST": "192.0.2.1", "SPINELOOP_HTTP_TOKEN": "a-token-that-is-long-enough"}
    said = spineloop("reflex", **told)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("spineloop: SPINELOOP_HTTP_HOST: [Errno 99] ")
