"""A file that can not be read: one line and an exit code, before anything is waited for."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from loadtest.native import free_port
from spineloop import running
from spineloop.settings import WrongSetting
from tests.shell.spoken import Spineloop

MISSING = "/nowhere/at.all"
SAID = f"spineloop: SPINELOOP_POLICY_FILE: [Errno 2] No such file or directory: '{MISSING}'\n"


def nowhere() -> dict[str, str]:
    """Name a log that is away, and a stall after which it would take the blame."""
    away = f"kafka://127.0.0.1:{free_port()}"
    return {"SPINELOOP_LOG_URL": away, "SPINELOOP_STALL_S": "1", "SPINELOOP_HTTP_PORT": str(free_port())}


@pytest.mark.parametrize("setting", ["SPINELOOP_POLICY_FILE", "SPINELOOP_MACHINES", "SPINELOOP_MQTT_CA_FILE"])
def test_a_file_that_is_wrong_ends_a_role_at_once_though_the_log_is_away(
    setting: str, spineloop: Spineloop, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("?")
    said = spineloop("control", **{setting: str(wrong)}, **nowhere())
    assert said.code == 2
    assert said.err.startswith(f"spineloop: {setting}: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("role", ["ingest", "plan", "history", "downlink", "reflex", "page"])
def test_every_role_reads_the_policy_before_it_looks_for_its_servers(role: str, spineloop: Spineloop) -> None:
    said = spineloop(role, SPINELOOP_POLICY_FILE=MISSING, **nowhere())
    assert (said.code, said.err) == (2, SAID)


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_no_loop_in_one_process_makes_a_folder_for_a_policy_that_is_wrong(
    command: str, spineloop: Spineloop, tmp_path: Path
) -> None:
    said = spineloop(command, "--data", tmp_path / "data", SPINELOOP_POLICY_FILE=MISSING)
    assert (said.code, said.err) == (2, SAID)
    assert not (tmp_path / "data").exists()


def test_a_setting_that_shows_itself_wrong_at_work_is_one_line_too(
    spineloop: Spineloop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail() -> None:
        raise WrongSetting("SPINELOOP_MACHINES: gone since the start")

    monkeypatch.setattr(running, "run", run)
    said = spineloop("plan")
    assert (said.code, said.err) == (2, "spineloop: SPINELOOP_MACHINES: gone since the start\n")


def test_a_log_of_a_later_version_is_one_line_and_not_a_traceback(spineloop: Spineloop, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db")) as file:
        file.execute("PRAGMA user_version = 99")
    said = spineloop("serve", "--data", tmp_path, "--port", free_port(), "--no-page", SPINELOOP_HTTP_PORT="0")
    assert said.code == 1
    assert "spineloop: serve: the log file has version 99" in said.err
    assert "Traceback" not in said.err


def test_a_history_that_is_no_database_is_one_line_and_not_a_traceback(spineloop: Spineloop, tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"?" * 5_000)
    said = spineloop("serve", "--data", tmp_path, "--port", free_port(), "--no-page", SPINELOOP_HTTP_PORT="0")
    assert said.code == 1
    assert f"spineloop: serve: history {tmp_path / 'history.db'}: file is not a database" in said.err
    assert "Traceback" not in said.err
