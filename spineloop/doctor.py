"""Doctor: tries each component that is configured, says what is wrong and how to mend it, and makes nothing itself."""

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from adaptors.mqtt_connection import Refused
from spineloop import wiring
from spineloop.settings import Settings, WrongSetting, scheme_of, sqlite_folder
from streams.core import policy
from streams.core.errors import BrokenPromise, Busy
from streams.core.topics import TELEMETRY

RECENT_MS = 3_600_000
"""How far back reps are counted: everything that is kept would be minutes of work for a server that is well."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one component; `mend` says what to do if it is not well."""

    component: str
    is_well: bool
    found: str
    mend: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Try the broker, the log, the history and the policy, one after the other."""
    trials: Sequence[tuple[str, str, Callable[[Settings], Awaitable[str]], str]] = (
        ("mqtt", settings.mqtt_url, _mqtt, "start the broker, or set SPINELOOP_MQTT_URL, _USERNAME, _PASSWORD"),
        ("log", settings.log_url, _log, _mend_log(settings.log_url)),
        ("history", settings.history_url, _history, _mend_history(settings.history_url)),
        ("policy", settings.policy_file or "defaults", _policy, "mend the file that SPINELOOP_POLICY_FILE names"),
        ("machines", settings.machines or "shipped", _machines, "mend the file that SPINELOOP_MACHINES names"),
    )
    return [await _try(name, where, trial, mend, settings) for name, where, trial, mend in trials]


async def _try(
    name: str, where: str, trial: Callable[[Settings], Awaitable[str]], mend: str, settings: Settings
) -> Finding:
    try:
        found = await trial(settings)
    except (Busy, BrokenPromise, Refused, ValueError, OSError, WrongSetting) as error:
        return Finding(component=name, is_well=False, found=f"{where}: {error}", mend=mend)
    return Finding(component=name, is_well=True, found=f"{where}: {found}")


def _mend_log(url: str) -> str:
    if _is_file(url):
        return f"{_made_by_serve(url)}, or set SPINELOOP_LOG_URL, SPINELOOP_PARTITIONS"
    return "start Kafka and run `spineloop topics create`, or set SPINELOOP_LOG_URL"


def _mend_history(url: str) -> str:
    if _is_file(url):
        return f"{_made_by_serve(url)}, or set SPINELOOP_HISTORY_URL"
    return "start InfluxDB, or set SPINELOOP_HISTORY_URL, _USER, _PASSWORD"


def _made_by_serve(url: str) -> str:
    return f"`spineloop serve --data {sqlite_folder(url)}` makes one that is missing"


def _is_file(url: str) -> bool:
    return scheme_of(url) == "sqlite"


async def _mqtt(settings: Settings) -> str:
    connection = await wiring.connect(settings, "spineloop-doctor")()
    await connection.close()
    return "connected with MQTT 5"


async def _log(settings: Settings) -> str:
    if _is_file(settings.log_url):
        return await _embedded_log(settings)
    rows = await wiring.describe_topics(settings)
    wrong = [f"{row.topic}: {difference}" for row in rows for difference in row.differences]
    if wrong:
        raise ValueError("; ".join(wrong))
    return f"{len(rows)} topics with {rows[0].partitions} partitions"


async def _embedded_log(settings: Settings) -> str:
    """Look for what a role would refuse, without opening the file as a role does: that makes what is missing."""
    async with wiring.open_for_reading(settings, "doctor") as log:
        partitions = len(await log.bounds(TELEMETRY))
    if partitions != settings.partitions:
        raise ValueError(f"it has {partitions} partitions, and SPINELOOP_PARTITIONS is {settings.partitions}")
    folder = sqlite_folder(settings.log_url)
    for place in (folder, folder / "log.db"):  # SQLite makes two more files beside it
        if not os.access(place, os.W_OK):
            raise ValueError(f"{place} can't be written to")
    return f"a log with {partitions} partitions"


async def _history(settings: Settings) -> str:
    if _is_file(settings.history_url):
        file = sqlite_folder(settings.history_url) / "history.db"
        if not file.is_file():  # to open it would make it
            raise ValueError(f"no history at {file}")
    async with wiring.open_history(settings) as history:
        since_ms = wiring.wall_clock_ms() - RECENT_MS
        return f"{await history.reps_since(since_ms * 1_000_000)} reps in the last hour"


async def _machines(settings: Settings) -> str:
    return f"{len(settings.machine_catalogue().exercises)} exercises"


async def _policy(settings: Settings) -> str:
    return f"digest {policy.digest(settings.policy())}"


def table(findings: Sequence[Finding]) -> Table:
    """Draw the findings for a person."""
    drawn = Table("component", "well", "found", "how to mend it")
    for one in findings:
        # as it is: in a plain str rich takes [fd00::5] for markup
        drawn.add_row(one.component, "yes" if one.is_well else "NO", Text(one.found), Text(one.mend))
    return drawn


def as_builtins(findings: Sequence[Finding]) -> Any:  # noqa: ANN401 - JSON
    """Return the findings as JSON can hold them."""
    return msgspec.to_builtins(findings)
