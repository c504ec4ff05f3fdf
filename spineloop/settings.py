"""Settings: frozen, from one TOML file and the environment; a wrong one is a one-line error that names it."""

import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta
from msgspec.structs import fields

from dashboards.live.guard import MIN_TOKEN, is_loopback
from streams.core import muscles, policy
from streams.core.errors import Malformed
from streams.core.limits import NAME

PREFIX = "SPINELOOP_"
FILE = PREFIX + "CONFIG"
"""Names the TOML file; every other variable overrides a value of it."""

_SCHEMES: Mapping[str, tuple[str, ...]] = {
    "mqtt_url": ("mqtt", "mqtts"),
    "log_url": ("kafka", "sqlite"),
    "history_url": ("http", "https", "sqlite"),
}

SECRETS = ("mqtt_password", "history_password", "http_token", "page_token")
"""Never shown. Each can be given in a file as well, as orchestrators do: `SPINELOOP_MQTT_PASSWORD_FILE` names it."""

PLACEHOLDER = "replace-me"
"""How every secret begins in deploy/env.example: whoever reads that knows it."""

_BRACKETS = re.compile(r"(?:\[[^][]*\]|[^][]*)(?::[^][]*)?")
"""A server with an address in brackets, which has nothing before it and a port at most behind it, or with none."""

Heard = Annotated[str, Meta(pattern=rf"^(?:\+|{NAME})$(?!\n)")]
"""A level of an MQTT filter: `+`, or a name as it stands in topics. Anything else hears nobody."""

ClientId = Annotated[str, Meta(pattern=r"^[^/+#$\s\x00]{1,200}$(?!\n)")]
"""What every broker takes, with room for what a role's second connection adds to it."""


class WrongSetting(Exception):
    """A setting can't be used; the message is one line that names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. `SPINELOOP_LOG_URL` in the environment is `log_url` in the file.

    Parameters
    ----------
    mqtt_url : str
        `mqtt://host:port` of the machines' broker, `mqtts://` with TLS.
    broker : str
        `mosquitto`, or what keeps the order between filters as it does; else `iotcore`, as `serve` and `demo` embed it.
    mqtt_username, mqtt_password : str or None
        Credentials there.
    mqtt_ca_file : str
        Certificate of the authority that signed the broker's, for `mqtts://` alone; empty takes the system's
        authorities.
    ingest_client_id, downlink_client_id, reflex_client_id : str
        Fixed client ids, without `/`, `+`, `#`, `$` or space: the broker keeps their sessions. Each process of a role
        needs its own.
    ingest_tenant, ingest_site : str
        Which machines this bridge or reflex hears: a name, or `+` for all. Several bridges need disjoint ones.
    log_url : str
        `kafka://host:port[,host:port]` or `sqlite:///path/to/directory`, from the root and as it stands.
    partitions, replication : int
        Of every topic, when topics are created.
    kafka_session_timeout_s : float
        After this silence a worker of a group is replaced.
    instance : str
        Name of this process within its role; gives its partitions back to it after a restart. Empty: any.
    history_url : str
        `http://host:8086` (InfluxDB) or `sqlite:///path/to/directory`, as above.
    history_database, history_retention : str
        Where points go: on InfluxDB 2 that is the bucket `database/retention`.
    history_user, history_password : str
        Any user name and an API token as password on InfluxDB 2.
    http_host, http_port : str, int
        Where `/metrics`, `/healthz` and `/readyz` answer; port 0 switches them off. Each process on one computer needs
        its own.
    http_token : str
        What a reader of `/metrics` must show, at least 16 characters; needed beyond loopback. The other two tell
        nobody more than one word, and ask nobody.
    page_host, page_port : str, int
        Where the operator page listens; port 0 switches it off in `serve` and `demo`.
    page_token : str
        What a browser must know to see the page, at least 16 characters; needed beyond loopback.
    log_format, log_level : str
        Structured logs on stderr.
    meters_s : float
        Pause between two writings of a process's meters into history, in s; 0 writes none.
    checkpoint_s : float
        Longest time between a change and the checkpoint that covers it.
    stall_s : float
        Lag without progress for so long ends a process.
    policy_file : str
        TOML file of the clinic's policy; empty takes the defaults.
    machines : str
        TOML file of the clinic's machines, their muscles, pairs and norms; empty takes the one that is shipped.
    """

    mqtt_url: str = "mqtt://127.0.0.1:1883"
    broker: Literal["mosquitto", "iotcore"] = "mosquitto"
    mqtt_username: str | None = None
    mqtt_password: str | None = None
    mqtt_ca_file: str = ""
    ingest_client_id: ClientId = "spineloop-ingest-0"
    downlink_client_id: ClientId = "spineloop-downlink-0"
    reflex_client_id: ClientId = "spineloop-reflex-0"
    ingest_tenant: Heard = "+"
    ingest_site: Heard = "+"
    log_url: str = "kafka://127.0.0.1:9092"
    partitions: Annotated[int, Meta(ge=1, le=1_000)] = 12
    replication: Annotated[int, Meta(ge=1, le=10)] = 1
    kafka_session_timeout_s: Annotated[float, Meta(ge=6.0, le=300.0)] = 10.0
    instance: str = ""
    history_url: str = "http://127.0.0.1:8086"
    history_database: str = "telemetry"
    history_retention: str = "raw"
    history_user: str = "spineloop"
    history_password: str = ""
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Meta(ge=0, le=65_535)] = 9464
    http_token: str = ""
    page_host: str = "127.0.0.1"
    page_port: Annotated[int, Meta(ge=0, le=65_535)] = 8480
    page_token: str = ""
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    meters_s: Annotated[float, Meta(ge=0.0, le=3_600.0)] = 10.0
    checkpoint_s: Annotated[float, Meta(ge=0.01, le=60.0)] = 0.25
    stall_s: Annotated[float, Meta(ge=1.0, le=3_600.0)] = 60.0
    policy_file: str = ""
    machines: str = ""

    def __repr__(self) -> str:
        """Show what is set, and of a secret only that it is."""
        told = {field.name: getattr(self, field.name) for field in fields(type(self))}
        hidden = {name: "(secret)" for name in SECRETS if told[name]}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in (told | hidden).items())})"

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the file that the environment names, then the environment.

        Raises
        ------
        WrongSetting
            One line that names the setting and what is wrong with it.

        Examples
        --------
        >>> Settings.read({"SPINELOOP_PARTITIONS": "24"}).partitions
        24
        >>> Settings.read({"SPINELOOP_PARTITIONS": "many"})
        Traceback (most recent call last):
        ...
        spineloop.settings.WrongSetting: SPINELOOP_PARTITIONS: Expected `int`, got `str`
        """
        told = _from_file(environment[FILE]) if environment.get(FILE) else {}
        told |= _from_environment(environment)
        try:
            settings = msgspec.convert(told, cls, strict=False)
        except msgspec.ValidationError as error:
            raise WrongSetting(_one_line(str(error))) from error
        for name, schemes in _SCHEMES.items():
            _check_url(PREFIX + name.upper(), getattr(settings, name), schemes)
        if "mqtt_url" in told:  # else a command may still name another broker
            check_authority(settings)
        for name in SECRETS:
            _check_secret(name, getattr(settings, name))
        _check_listener(settings.page_host, settings.page_token, "PAGE", "page")
        _check_listener(settings.http_host, settings.http_token, "HTTP", "listener of /metrics")
        return settings

    def at_broker(self, url: str | None) -> Self:
        """Take the broker that `--mqtt` names instead, if it names one. Raises WrongSetting."""
        if url is None:
            return self
        _check_url("--mqtt", url, _SCHEMES["mqtt_url"])
        told = msgspec.structs.replace(self, mqtt_url=url)
        check_authority(told, "--mqtt")
        return told

    def policy(self) -> policy.Policy:
        """Read the policy file, or take the defaults. Raises WrongSetting."""
        if not self.policy_file:
            return policy.DEFAULT
        try:
            return policy.read(Path(self.policy_file).read_bytes())
        except (OSError, Malformed) as error:
            raise WrongSetting(f"{PREFIX}POLICY_FILE: {error}") from error

    def machine_catalogue(self) -> muscles.Catalogue:
        """Read the machine file, or take the one that is shipped. Raises WrongSetting."""
        try:
            if not self.machines:
                return muscles.read((resources.files("streams") / "machines.toml").read_bytes())
            return muscles.read(Path(self.machines).read_bytes())
        except (OSError, Malformed) as error:
            raise WrongSetting(f"{PREFIX}MACHINES: {error}") from error


def _from_file(path: str) -> dict[str, Any]:
    try:
        told = msgspec.toml.decode(Path(path).read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise WrongSetting(f"{FILE}: {error}") from error
    except ValueError as error:
        raise WrongSetting(f"{FILE}: {path}: {error}") from error
    unknown = told.keys() - {field.name for field in fields(Settings)}
    if unknown:
        raise WrongSetting(f"{FILE}: {path}: {min(unknown)!r}: no such setting")
    return told


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + field.name.upper(): field.name for field in fields(Settings)}
    in_files = {f"{PREFIX}{name.upper()}_FILE": name for name in SECRETS}
    unknown = [n for n in environment if n.startswith(PREFIX) and n not in known and n not in in_files and n != FILE]
    if unknown:
        raise WrongSetting(f"{min(unknown)}: no such setting; known are {', '.join(sorted(known | in_files))}")
    told = {known[name]: value for name, value in environment.items() if name in known}
    for variable, name in in_files.items():
        if not environment.get(variable):
            continue
        if name in told:
            raise WrongSetting(f"{variable}: {PREFIX}{name.upper()} is set as well; which is it to be?")
        try:
            told[name] = Path(environment[variable]).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise WrongSetting(f"{variable}: {error}") from error
    return told


def _one_line(message: str) -> str:
    """Put the setting's name in front of what msgspec says of it."""
    found = re.fullmatch(r"(?P<what>.*) - at `\$\.(?P<name>\w+)`", message)
    if found is None:
        return message
    return f"{PREFIX}{found['name'].upper()}: {found['what']}"


def _check_secret(name: str, secret: str | None) -> None:
    if secret is not None and secret.startswith(PLACEHOLDER):
        raise WrongSetting(f"{PREFIX}{name.upper()}: still begins with {PLACEHOLDER}, as in deploy/env.example")


def check_authority(settings: Settings, named_by: str = f"{PREFIX}MQTT_URL") -> None:
    """Refuse an authority for a connection without TLS. Raises WrongSetting."""
    if settings.mqtt_ca_file and scheme_of(settings.mqtt_url) != "mqtts":
        raise WrongSetting(f"{PREFIX}MQTT_CA_FILE: needs mqtts://, and {named_by} is {settings.mqtt_url!r}")


def _check_listener(host: str, token: str, name: str, what: str) -> None:
    """Refuse what everybody on the network could read, or act through."""
    if token and len(token) < MIN_TOKEN:
        raise WrongSetting(f"{PREFIX}{name}_TOKEN: at least {MIN_TOKEN} characters, or it could be guessed")
    if not token and not is_loopback(host):
        raise WrongSetting(f"{PREFIX}{name}_TOKEN: needed for a {what} on {host}, which others can reach")


def scheme_of(url: str) -> str:
    """Return what a URL begins with, such as `kafka`."""
    return url.partition(":")[0].lower()


def kafka_servers(url: str) -> str:
    """Return the servers that a `kafka://` URL names, as Kafka's clients want them.

    Examples
    --------
    >>> kafka_servers("kafka://one:9092,[::1]:9092/")
    'one:9092,[::1]:9092'
    """
    return ",".join(server.netloc for server in _servers(url))


def sqlite_folder(url: str) -> Path:
    """Return the folder that a `sqlite://` URL names: the rest of it as it stands, for a path may have any character.

    Examples
    --------
    >>> str(sqlite_folder("sqlite:///srv/clinic#1"))
    '/srv/clinic#1'
    """
    return Path(url.partition(":")[2].removeprefix("//"))


def _check_url(setting: str, url: str, schemes: tuple[str, ...]) -> None:
    scheme = scheme_of(url)
    if "@" in url and scheme != "sqlite":  # URLs are shown; this one isn't
        raise WrongSetting(f"{setting}: no credentials here, they have settings of their own")
    if scheme != "sqlite" and not {"?", "#"}.isdisjoint(url):  # as InfluxDB 1.x takes credentials; nobody reads it
        raise WrongSetting(f"{setting}: nothing behind a ? or # here, credentials have settings of their own")
    if scheme not in schemes:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise WrongSetting(f"{setting}: expected {wanted}..., got {url!r}")
    if scheme == "sqlite":
        _check_folder(setting, url)
    else:
        _check_servers(setting, url, scheme)


def _check_folder(setting: str, url: str) -> None:
    if not sqlite_folder(url).is_absolute():
        raise WrongSetting(f"{setting}: expected a path from the root, sqlite:///..., got {url!r}")
    if not url.partition(":")[2].strip("/"):
        raise WrongSetting(f"{setting}: {url!r} names no place")


def _check_servers(setting: str, url: str, scheme: str) -> None:
    """Refuse what has no host, or a port that can't be one; Kafka alone may have several of both."""
    if not url.partition(":")[2].startswith("//"):
        raise WrongSetting(f"{setting}: expected {scheme}://host:port, got {url!r}")
    try:
        servers = _servers(url)
        ports = [server.port for server in servers]
    except ValueError as error:
        raise WrongSetting(f"{setting}: {url!r}: {error}") from error
    if not all(_BRACKETS.fullmatch(server.netloc) for server in servers):  # not every version of Python sees to that
        raise WrongSetting(f"{setting}: {url!r}: Invalid IPv6 URL")
    if not all(server.hostname for server in servers):
        raise WrongSetting(f"{setting}: {url!r} names no place")
    if 0 in ports or any(server.netloc.endswith(":") for server in servers):
        raise WrongSetting(f"{setting}: {url!r} names no port")


def _servers(url: str) -> list[SplitResult]:
    """Take the servers apart that a URL names, each by itself: Kafka's may be addresses in brackets behind a comma."""
    named = url.partition(":")[2].removeprefix("//").partition("/")[0]
    return [urlsplit(f"//{server}") for server in (named.split(",") if scheme_of(url) == "kafka" else [named])]
