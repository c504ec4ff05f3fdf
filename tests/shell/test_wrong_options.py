"""A wrong option ends its command with code 2, before anything is started, and with words that name it."""

from pathlib import Path

import pytest

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
