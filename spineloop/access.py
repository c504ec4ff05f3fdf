"""Access: who may connect to the machines' broker, and mosquitto's two files that are made from it.

The register is the truth and holds hashes only. `passwords` and `acl` are written anew from it each time, each as a
whole: a broker that reads them at any moment reads the old one or the new one.
"""

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from streams.core.limits import NAME
from streams.core.topics import UPWARD

REGISTER, PASSWORDS, ACL = "register.json", "passwords", "acl"
SECRET_BYTES = 32
"""Of randomness in a secret."""

ITERATIONS = 101
"""Of PBKDF2, mosquitto's own default. More would slow guessing, but 256 random bits can't be guessed, and the broker,
which has one thread, would pay for it at every connect and, for everybody connected, at every SIGHUP."""

Kind = Literal["machine", "operator", "ingest", "downlink", "reflex"]
_NAME = re.compile(rf"{NAME}(/{NAME}){{0,2}}", re.ASCII)
_SCOPE = re.compile(rf"({NAME}(/{NAME})?)?", re.ASCII)
_HASH = re.compile(r"(\$7\$[0-9]+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+)?", re.ASCII)
"""All for `fullmatch`: a line feed at the end would be a line of somebody's own in the broker's files."""

SERVICES: tuple[Kind, ...] = ("ingest", "downlink", "reflex")
"""What is no machine and no person: roles that talk to the broker."""
_LEVELS: dict[int, tuple[Kind, ...]] = {1: SERVICES, 2: ("operator",), 3: ("machine",)}


class NoSuchName(Exception):
    """A name can't be added, or is not there; the message is for a person."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One who may connect, or might once.

    Parameters
    ----------
    name : str
        User name: `tenant/site/machine`, `tenant/site` of its operators, or a service's, without `/`.
    kind : str
        What it may do.
    scope : str
        Tenant or `tenant/site` that a service is for; empty is all, and a downlink is for all.
    hash : str
        Of the secret, as mosquitto writes it; empty once it is revoked.
    added_ms, revoked_ms : int or None
        When, in ms since 1970.
    """

    name: str
    kind: Kind
    scope: str = ""
    hash: str = ""
    added_ms: int
    revoked_ms: int | None = None

    @property
    def may_connect(self) -> bool:
        """Whether it has a credential."""
        return bool(self.hash)


class Register(msgspec.Struct, frozen=True):
    """Everybody, by name."""

    entries: tuple[Entry, ...] = ()

    def find(self, name: str) -> Entry | None:
        """Return whoever has this name."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def put(self, entry: Entry) -> "Register":
        """Return a register with this entry in place of the one of its name."""
        others = [one for one in self.entries if one.name != entry.name]
        return Register(tuple(sorted([*others, _checked(entry)], key=lambda one: one.name)))


def add(
    register: Register, name: str, now_ms: int, *, service: Kind | None = None, scope: str = ""
) -> tuple[Register, str]:
    """Give a name its first credential, or one after it was revoked; return the secret, which is kept nowhere else.

    Raises
    ------
    NoSuchName
        The name has a credential, or can't be the name of one who is to do this.
    """
    kind = _kind(name, service)
    known = register.find(name)
    if known is not None and known.may_connect:
        raise NoSuchName(f"{name} has a credential already: revoke it first")
    if scope and kind not in SERVICES:
        raise NoSuchName(f"{name}: what {kind}s reach follows from the name, and can't be chosen")
    if scope and kind == "downlink":
        # They share one group and take any command: one that the broker then refuses is a dead letter, STOP included.
        raise NoSuchName(f"{name}: a downlink sends to all, and can't have a scope")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    entry = Entry(name=name, kind=kind, scope=scope, hash=hashed(secret, secrets.token_bytes(12)), added_ms=now_ms)
    return register.put(entry), secret


def revoke(register: Register, name: str, now_ms: int) -> Register:
    """Take the credential of a name away. Raises NoSuchName if it has none."""
    known = register.find(name)
    if known is None or not known.may_connect:
        raise NoSuchName(f"{name} has no credential")
    return register.put(msgspec.structs.replace(known, hash="", revoked_ms=now_ms))


def _checked(entry: Entry) -> Entry:
    """Refuse what could write a line of its own into the broker's files, also if the register was edited by hand."""
    if not (_NAME.fullmatch(entry.name) and _SCOPE.fullmatch(entry.scope) and _HASH.fullmatch(entry.hash)):
        raise NoSuchName(f"{entry.name!r}, for {entry.scope!r}: names are {NAME}, joined by /")
    return entry


def _kind(name: str, service: Kind | None) -> Kind:
    kinds = _LEVELS.get(name.count("/") + 1, ())
    if service in kinds:
        return service
    if service is None and len(kinds) == 1:
        return kinds[0]
    raise NoSuchName(
        f"{name}: a machine is tenant/site/machine, a site's operators are tenant/site, "
        "a service is a name without / and needs --service"
    )


def hashed(secret: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Hash a secret as mosquitto 2 does: PBKDF2 with SHA-512.

    Examples
    --------
    >>> hashed("secret", b"twelve bytes")[:27]
    '$7$101$dHdlbHZlIGJ5dGVz$...'
    """
    key = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def passwords(register: Register) -> str:
    """Write mosquitto's password file."""
    return "".join(f"{entry.name}:{entry.hash}\n" for entry in register.entries if entry.may_connect)


def acl(register: Register) -> str:
    """Write mosquitto's ACL file: what is not in it is refused.

    The patterns hold for everybody, and give nothing to who is no machine: a name of one or two levels makes of them a
    topic that nobody hears.
    """
    lines = [
        "# Written by `spineloop machines`: changes are lost.",
        *(f"pattern write spineloop/v1/%u/{stream}" for stream in UPWARD),
        "pattern read spineloop/v1/%u/command",
    ]
    for entry in register.entries:
        if entry.may_connect and entry.kind != "machine":
            lines += ["", f"user {entry.name}", *_rights(entry)]
    return "\n".join(lines) + "\n"


def _rights(entry: Entry) -> Iterable[str]:
    tenant, _, site = entry.scope.partition("/")
    place = f"spineloop/v1/{tenant or '+'}/{site or '+'}/+"
    match entry.kind:
        case "operator":
            yield f"topic read spineloop/v1/{entry.name}/#"
        case "ingest":
            yield from (f"topic read {place}/{stream}" for stream in UPWARD)
            yield "topic read $SYS/broker/publish/messages/dropped"
        case "downlink":
            yield f"topic write {place}/command"
        case "reflex":
            yield f"topic read {place}/event"
            yield f"topic write {place}/command"
        case "machine":
            return


def read(folder: Path) -> Register:
    """Read the register of a folder; nobody is in a folder that has none. Raises ValueError and OSError."""
    try:
        register = msgspec.json.decode((folder / REGISTER).read_bytes(), type=Register)
    except FileNotFoundError:
        return Register()
    except msgspec.DecodeError as error:
        raise ValueError(f"{folder / REGISTER}: {error}") from error
    return Register(tuple(_checked(entry) for entry in register.entries))


def write(folder: Path, register: Register) -> None:
    """Write the register and what is made from it: for us alone the one, for the folder's group the others.

    The files for the broker come first. Who is stopped between them has not changed the register, and repeats.
    """
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    _replace(folder / PASSWORDS, passwords(register).encode(), 0o640)
    _replace(folder / ACL, acl(register).encode(), 0o640)
    _replace(folder / REGISTER, msgspec.json.format(msgspec.json.encode(register), indent=1) + b"\n", 0o600)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write beside a file and rename: a reader never sees half of it, and a crash leaves one of the two."""
    folder = path.parent.stat()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            elif folder.st_gid in os.getgroups():
                os.fchown(file.fileno(), -1, folder.st_gid)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
