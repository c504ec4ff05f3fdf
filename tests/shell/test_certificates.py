"""`scripts/certificates`: key and certificate belong together, also after a run in which something failed."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

CERTIFICATES = Path(__file__).parents[2] / "scripts" / "certificates"


def run(folder: Path, *hosts: str, path: str = os.environ["PATH"]) -> "subprocess.CompletedProcess[str]":
    told = os.environ | {"PATH": path}
    return subprocess.run([CERTIFICATES, folder, *hosts], capture_output=True, text=True, check=False, env=told)


def without(tmp_path: Path, word: str) -> str:
    """Return a PATH on which openssl fails once it has done what has this word in it, as on a full disk."""
    there = shutil.which("openssl")
    fake = tmp_path / "bin" / "openssl"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(
        f'#!/bin/sh\n"{there}" "$@" || exit\ncase " $* " in *" {word} "*) echo "disk full" >&2; exit 1;; esac\n',
        encoding="ascii",
    )
    fake.chmod(0o755)
    return f"{fake.parent}:{os.environ['PATH']}"


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "ca.srl"}


def check(folder: Path) -> None:
    """Raise unless the key is that of the certificate."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.crt", folder / "server.key")


def test_a_second_run_renews_the_server_alone(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    assert run(folder, "broker.clinic.example").returncode == 0
    first = files(folder)
    assert (folder / "server.key").stat().st_mode & 0o777 == 0o600
    (folder / "server.key").chmod(0o640)  # for the broker's group
    assert run(folder, "broker.clinic.example", "10.0.0.7").returncode == 0
    second = files(folder)
    check(folder)
    assert first.keys() == second.keys() == {"ca.key", "ca.crt", "server.key", "server.crt"}
    assert {name for name in first if first[name] != second[name]} == {"server.key", "server.crt"}
    assert [(folder / name).stat().st_mode & 0o777 for name in ("server.key", "server.crt")] == [0o640, 0o644]


@pytest.mark.parametrize("step", ["-newkey", "-CAkey"])
def test_a_renewal_that_fails_leaves_the_pair_that_is_there(step: str, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    assert run(folder, "broker.clinic.example").returncode == 0
    before = files(folder)
    done = run(folder, "other.clinic.example", path=without(tmp_path, step))
    assert done.returncode == 1
    assert "disk full" in done.stderr
    assert files(folder) == before
    check(folder)


def test_an_authority_that_could_not_be_made_whole_is_made_by_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    assert run(folder, "broker.clinic.example", path=without(tmp_path, "-x509")).returncode == 1
    assert files(folder) == {}
    assert run(folder, "broker.clinic.example").returncode == 0
    check(folder)
