"""A folder is the one that was named, whatever characters are in its name; where nobody can write, it is told so."""

import asyncio
import errno
from pathlib import Path

import pytest

from adaptors.sqlite_log import open_sqlite_log
from loadtest.native import free_port
from spineloop import embedded, looking, wiring
from spineloop.embedded import PARTITIONS, Embedding
from spineloop.settings import Settings
from streams.core.topics import LOG_TOPICS
from tests.shell.counts import Counts
from tests.shell.spoken import Spineloop

NAMES = ("clinic#1", "clinic?mode=ro", "100%25", "a clinic; of two", "clinic@home", "[clinic]")


def inside(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
async def test_a_loop_in_one_process_keeps_its_data_in_the_folder_that_was_named(name: str, tmp_path: Path) -> None:
    nowhere = Embedding(data=tmp_path / name, mqtt_url="mqtt://127.0.0.1:1")
    async with embedded.opened(Settings.read({}), nowhere, Counts()):
        pass
    assert inside(tmp_path) == [name]
    assert inside(tmp_path / name) == ["history.db", "log.db"]


@pytest.mark.parametrize("name", NAMES)
async def test_who_looks_into_a_folder_finds_its_log_there(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    async with open_sqlite_log(tmp_path / name / "log.db", PARTITIONS):
        pass
    settings = Settings.read({"SPINELOOP_LOG_URL": f"sqlite://{tmp_path / name}"})
    async with wiring.open_for_reading(settings, "test") as log:
        assert all([await log.bounds(topic) for topic in LOG_TOPICS])
    assert await wiring.rewrite_log(settings, lambda record: record) == {}
    in_folder = looking.in_folder(Settings.read({}), tmp_path / name)
    assert in_folder.log_url == settings.log_url
    assert inside(tmp_path) == [name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with an embedded log."""

    async def fill() -> None:
        async with open_sqlite_log(tmp_path / "log.db", PARTITIONS):
            pass

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def nobody_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folder be on a disk that is read-only, which stops root too."""

    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(wiring, "TemporaryFile", refused)


TO_WRITE = (
    "serve --no-page",
    "dead-letters redrive --all",
    "replay --publish",
    "erase --patient acme/p1 --yes",
)


@pytest.mark.usefixtures("nobody_can_write")
@pytest.mark.parametrize("command", TO_WRITE)
def test_a_folder_that_can_not_be_written_is_one_line_that_names_the_option(
    command: str, spineloop: Spineloop, folder: Path
) -> None:
    said = spineloop(*command.split(), "--data", folder, SPINELOOP_HTTP_PORT="0")
    assert (said.code, said.err) == (2, f"spineloop: --data: can't write to {folder}: Read-only file system\n")
    assert inside(folder) == ["log.db"]


@pytest.mark.usefixtures("nobody_can_write")
@pytest.mark.parametrize("command", ["dead-letters list", "dead-letters show 0/0", "replay"])
def test_who_only_looks_needs_no_folder_to_write_to(command: str, spineloop: Spineloop, folder: Path) -> None:
    assert "write" not in spineloop(*command.split(), "--data", folder).err


@pytest.mark.parametrize("name", ["log.db", "history.db"])
def test_a_file_that_is_none_is_named(name: str, spineloop: Spineloop, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    said = spineloop("serve", "--no-page", "--data", tmp_path, SPINELOOP_HTTP_PORT="0")
    assert (said.code, said.err) == (2, f"spineloop: --data: can't write to {tmp_path / name}\n")


@pytest.mark.parametrize("setting", ["SPINELOOP_LOG_URL", "SPINELOOP_HISTORY_URL"])
def test_a_role_whose_folder_is_a_file_says_which_setting_names_it(
    setting: str, spineloop: Spineloop, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    there = dict.fromkeys(("SPINELOOP_LOG_URL", "SPINELOOP_HISTORY_URL"), f"sqlite://{tmp_path / 'data'}")
    named = there | {setting: f"sqlite://{tmp_path / 'file'}"}
    said = spineloop("history", SPINELOOP_HTTP_PORT=str(free_port()), **named)
    told = f"spineloop: {setting}: [Errno 17] File exists: '{tmp_path / 'file'}'"
    assert (said.code, said.err.splitlines()[-1]) == (2, told)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_is_no_wrong_setting(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(code, "full")

    monkeypatch.setattr(wiring, "TemporaryFile", full)
    wiring.check_folder(tmp_path, "--data")
