"""Enrolling: `spineloop machines add`, `list` and `revoke`: who may connect to the machines' broker."""

import fcntl
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from spineloop import access, wiring
from spineloop.access import Entry, NoSuchName

RELOAD_LIMIT_S = 30.0
"""Longest wait for `--reload`."""

app = typer.Typer(no_args_is_help=True, help="Who may connect to the machines' broker: add, list, revoke.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="tenant/site/machine, tenant/site, or a service's name.")]
Folder = Annotated[Path, typer.Option(help="Folder of the register and the broker's files.")]
Reload = Annotated[
    str | None,
    typer.Option(help="Command that makes the broker read its files, 'docker compose exec -T mosquitto kill -HUP 1'."),
]
PidFile = Annotated[Path | None, typer.Option(help="Or its pid file: it gets SIGHUP.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HERE = Path("access")


@app.command()
def add(
    name: Name,
    *,
    folder: Folder = HERE,
    service: Annotated[str | None, typer.Option(help="A service instead: ingest, downlink or reflex.")] = None,
    scope: Annotated[str, typer.Option(help="Tenant or tenant/site that ingest or reflex is for; all otherwise.")] = "",
    reload: Reload = None,
    pid_file: PidFile = None,
    as_json: Json = False,
) -> None:
    """Make a credential and print its secret, once: it is not kept.

    Examples: `spineloop machines add acme/north/row-1`, `spineloop machines add acme/north` for the site's operators,
    `spineloop machines add ingest-0 --service ingest`
    """
    kind = next((one for one in access.SERVICES if one == service), None)
    if kind is None and service is not None:
        _fail(f"--service {service}: there are {', '.join(access.SERVICES)}")
    with _changing(folder):
        register, secret = access.add(access.read(folder), name, wiring.wall_clock_ms(), service=kind, scope=scope)
        access.write(folder, register)
    # The secret first: what follows may fail, and it can't be had again.
    typer.echo(
        msgspec.json.encode({"name": name, "secret": secret}) if as_json else f"name    {name}\nsecret  {secret}"
    )
    _reload(reload, pid_file)


@app.command("list")
def listed(*, folder: Folder = HERE, as_json: Json = False) -> None:
    """List who may connect, and who might once. No secrets: nobody has them but their owners.

    Example: `spineloop machines list --folder /srv/spineloop/access`
    """
    with _told():
        entries = access.read(folder).entries
    if as_json:
        typer.echo(msgspec.json.encode([_plain(entry) for entry in entries]))
        return
    table = Table("name", "kind", "for", "state", "added", "revoked")
    for entry in entries:
        state = "may connect" if entry.may_connect else "revoked"
        table.add_row(entry.name, entry.kind, entry.scope, state, _day(entry.added_ms), _day(entry.revoked_ms))
    Console().print(table)


@app.command()
def revoke(
    name: Name, *, folder: Folder = HERE, reload: Reload = None, pid_file: PidFile = None, as_json: Json = False
) -> None:
    """Take a credential away. Who is connected with it is cut when the broker has read its files.

    Example: `spineloop machines revoke acme/north/row-1 --reload 'docker compose exec -T mosquitto kill -HUP 1'`
    """
    with _changing(folder):
        register = access.revoke(access.read(folder), name, wiring.wall_clock_ms())
        access.write(folder, register)
    revoked = [_plain(entry) for entry in register.entries if entry.name == name]
    typer.echo(msgspec.json.encode(revoked[0]) if as_json else f"{name} has no credential any more")
    _reload(reload, pid_file)


@contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Let one at a time change a folder: two that read the same register would undo each other.

    The lock is on the folder itself. A file for it, made by root, would shut the owner of the folder out afterwards.
    """
    with _told():
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (NoSuchName, ValueError, OSError) as error:
        _fail(str(error))


def _reload(command: str | None, pid_file: Path | None) -> None:
    """Make the broker read its files; if that fails, say that what is written is not in force."""
    try:
        if command is not None:
            words = shlex.split(command)
            subprocess.run(words, check=True, timeout=RELOAD_LIMIT_S, stdout=subprocess.DEVNULL)  # noqa: S603 - the operator's own, without a shell
        elif pid_file is not None:
            os.kill(int(pid_file.read_text(encoding="ascii")), signal.SIGHUP)
        else:
            typer.echo("not in force before the broker has read its files: send it SIGHUP, or use --reload", err=True)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        _fail(f"written, but not in force: the broker was not told to read its files: {error}")


def _plain(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(entry)
    del told["hash"]
    return told | {"may_connect": entry.may_connect}


def _day(at_ms: int | None) -> str:
    return "" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d %H:%M}"


def _fail(message: str) -> NoReturn:
    typer.echo(f"spineloop: machines: {message}", err=True)
    raise typer.Exit(1)
