"""Who may connect: the command line, the files that it writes, and that mosquitto's own tool reads them."""

import asyncio
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from loadtest.child import installed
from spineloop import access
from spineloop.access import Entry, NoSuchName, Register
from tests.shell.spoken import Spineloop, in_thread


@pytest.fixture
def spineloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spineloop:
    return Spineloop(monkeypatch, capsys)


def test_a_secret_is_printed_once_and_is_in_no_file(spineloop: Spineloop, tmp_path: Path) -> None:
    said = spineloop("machines", "add", "acme/north/row-1", "--folder", tmp_path, "--json")
    secret = said.told["secret"]
    assert (said.code, said.told["name"], len(secret)) == (0, "acme/north/row-1", 43)
    assert "not in force" in said.err
    assert secret not in said.err
    assert not [path for path in tmp_path.iterdir() if secret in path.read_text(encoding="utf-8")]
    listed = spineloop("machines", "list", "--folder", tmp_path)
    assert "may connect" in listed.out
    assert "$7$" not in listed.out + spineloop("machines", "list", "--json", "--folder", tmp_path).out


def test_the_register_is_for_us_alone_and_the_brokers_files_for_its_group(spineloop: Spineloop, tmp_path: Path) -> None:
    spineloop("machines", "add", "acme/north/row-1", "--folder", tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"register.json": 0o600, "passwords": 0o640, "acl": 0o640}


async def test_who_changes_the_register_waits_for_whoever_is_at_it(spineloop: Spineloop, tmp_path: Path) -> None:
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    adding = asyncio.create_task(in_thread(spineloop, "machines", "add", "acme/north/row-1", "--folder", tmp_path))
    await asyncio.sleep(0.3)
    assert not adding.done()
    os.close(lock)
    assert (await adding).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave something behind that its owner can't write")
def test_what_root_has_added_its_owner_can_revoke(spineloop: Spineloop) -> None:
    nobody = 65_534
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder lets nobody in but root
        folder = Path(name)
        os.chown(folder, nobody, nobody)
        assert spineloop("machines", "add", "acme/north/row-1", "--folder", folder).code == 0
        assert {path.stat().st_uid for path in folder.iterdir()} == {nobody}
        os.seteuid(nobody)
        try:
            said = spineloop("machines", "revoke", "acme/north/row-1", "--folder", folder)
        finally:
            os.seteuid(0)
        assert (said.code, said.out) == (0, "acme/north/row-1 has no credential any more\n")


def test_who_is_revoked_is_out_of_the_brokers_files_and_stays_in_the_list(spineloop: Spineloop, tmp_path: Path) -> None:
    for name in ("acme/north/row-1", "acme/north"):
        spineloop("machines", "add", name, "--folder", tmp_path)
        assert f"{name}:" in (tmp_path / "passwords").read_text(encoding="ascii")
        assert spineloop("machines", "revoke", name, "--folder", tmp_path).code == 0
    assert (tmp_path / "passwords").read_text(encoding="ascii") == ""
    assert "user acme/north" not in (tmp_path / "acl").read_text(encoding="ascii")
    told = spineloop("machines", "list", "--json", "--folder", tmp_path).told
    assert [(one["name"], one["may_connect"], one["revoked_ms"] is None) for one in told] == [
        ("acme/north", False, False),
        ("acme/north/row-1", False, False),
    ]


def test_who_was_revoked_is_told_to_programs_as_in_the_list(spineloop: Spineloop, tmp_path: Path) -> None:
    spineloop("machines", "add", "acme/north/row-1", "--folder", tmp_path)
    said = spineloop("machines", "revoke", "acme/north/row-1", "--folder", tmp_path, "--json")
    assert said.code == 0
    assert [said.told] == spineloop("machines", "list", "--json", "--folder", tmp_path).told
    assert said.told["may_connect"] is False


@pytest.mark.parametrize(
    "words",
    [
        ["revoke", "acme/north/row-1"],
        ["add", "acme/north/row-1/more"],
        ["add", "ingest-0"],
        ["add", "ingest-0", "--service", "root"],
        ["add", "acme/north/row-1", "--service", "ingest"],
        ["add", "acme/north", "--scope", "umbra"],
        ["add", "ingest-0", "--service", "ingest", "--scope", "acme/#"],
        ["add", "downlink-0", "--service", "downlink", "--scope", "acme"],
        ["add", "ACME/north/row-1"],
        ["add", "+/+/+"],
        ["add", "acme/north/#"],
        ["add", "acme/north/row-1\n"],
        ["add", "acme/north/row-1:x"],
        ["add", "acme/north/row-1\nuser x"],
        ["add", ""],
    ],
)
def test_who_could_not_be_one_of_ours_is_refused_in_one_line(
    spineloop: Spineloop, tmp_path: Path, words: list[str]
) -> None:
    said = spineloop("machines", *words, "--folder", tmp_path)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert not (tmp_path / "passwords").exists()


def test_a_downlink_has_no_scope_for_what_another_tenant_is_told_would_be_refused(
    spineloop: Spineloop, tmp_path: Path
) -> None:
    words = ("machines", "add", "downlink-0", "--service", "downlink", "--folder", tmp_path)
    said = spineloop(*words, "--scope", "acme")
    assert said.err == "spineloop: machines: downlink-0: a downlink sends to all, and can't have a scope\n"
    assert spineloop(*words).code == 0


def test_a_second_credential_is_not_made_before_the_first_is_revoked(spineloop: Spineloop, tmp_path: Path) -> None:
    assert spineloop("machines", "add", "acme/north/row-1", "--folder", tmp_path).code == 0
    before = (tmp_path / "passwords").read_bytes()
    assert spineloop("machines", "add", "acme/north/row-1", "--folder", tmp_path).code == 1
    assert (tmp_path / "passwords").read_bytes() == before


def test_a_register_that_was_tampered_with_writes_no_line_of_its_own(spineloop: Spineloop, tmp_path: Path) -> None:
    entry = Entry(name="ops\ntopic readwrite #", kind="ingest", hash="", added_ms=1)
    (tmp_path / "register.json").write_bytes(msgspec.json.encode(Register((entry,))))
    assert spineloop("machines", "add", "acme/north/row-1", "--folder", tmp_path).code == 1
    assert not (tmp_path / "acl").exists()


def test_the_acl_gives_each_what_it_needs_and_no_more() -> None:
    register, _ = access.add(Register(), "acme/north/row-1", 1)
    register, _ = access.add(register, "acme/north", 1)
    register, _ = access.add(register, "ingest-acme", 1, service="ingest", scope="acme")
    register, _ = access.add(register, "downlink-0", 1, service="downlink")
    register, _ = access.add(register, "reflex-0", 1, service="reflex", scope="acme/north")
    lines = [line for line in access.acl(register).splitlines() if line and not line.startswith("#")]
    assert lines == [
        "pattern write spineloop/v1/%u/rep",
        "pattern write spineloop/v1/%u/event",
        "pattern write spineloop/v1/%u/ack",
        "pattern write spineloop/v1/%u/presence",
        "pattern read spineloop/v1/%u/command",
        "user acme/north",
        "topic read spineloop/v1/acme/north/#",
        "user downlink-0",
        "topic write spineloop/v1/+/+/+/command",
        "user ingest-acme",
        "topic read spineloop/v1/acme/+/+/rep",
        "topic read spineloop/v1/acme/+/+/event",
        "topic read spineloop/v1/acme/+/+/ack",
        "topic read spineloop/v1/acme/+/+/presence",
        "topic read $SYS/broker/publish/messages/dropped",
        "user reflex-0",
        "topic read spineloop/v1/acme/north/+/event",
        "topic write spineloop/v1/acme/north/+/command",
    ]


def test_the_hash_is_mosquittos_own(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    tool = installed("mosquitto_passwd", package="mosquitto")
    subprocess.run([tool, "-c", "-b", str(file), "acme/north/row-1", "s3cret"], check=True, timeout=30)
    name, theirs = file.read_text(encoding="ascii").strip().split(":")
    _, seven, iterations, salt, _ = theirs.split("$")
    assert (name, seven) == ("acme/north/row-1", "7")
    assert access.hashed("s3cret", msgspec.json.decode(f'"{salt}"', type=bytes), int(iterations)) == theirs


def test_the_broker_is_told_by_a_command_or_a_signal_and_a_failure_is_not_silent(
    spineloop: Spineloop, tmp_path: Path
) -> None:
    heard = list[int]()
    before = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    try:
        (tmp_path / "pid").write_text(f"{os.getpid()}\n", encoding="ascii")
        there = ("--folder", tmp_path / "access")
        assert spineloop("machines", "add", "a/b/c", *there, "--pid-file", tmp_path / "pid").err == ""
        assert heard == [signal.SIGHUP]
        touching = f"{sys.executable} -c \"import pathlib; pathlib.Path('{tmp_path}/told').touch()\""
        assert spineloop("machines", "add", "a/b/d", *there, "--reload", touching).code == 0
        assert (tmp_path / "told").exists()
        said = spineloop("machines", "revoke", "a/b/d", *there, "--reload", "false")
        assert said.code == 1
        assert "written, but not in force" in said.err
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_name_with_a_credential_can_not_be_added_by_hand_with_a_bad_scope() -> None:
    with pytest.raises(NoSuchName):
        access.add(Register(), "ingest-0", 1, service="ingest", scope="acme\ntopic readwrite #")
