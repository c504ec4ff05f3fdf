"""Doctor: tries each component that is configured, and says what is wrong and how to mend it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from rich.table import Table

from adaptors.mqtt_connection import Refused
from spineloop import wiring
from spineloop.settings import Settings, WrongSetting
from streams.core import policy
from streams.core.errors import BrokenPromise, Busy

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
        ("log", settings.log_url, _log, "start Kafka and run `spineloop topics create`, or set SPINELOOP_LOG_URL"),
        ("history", settings.history_url, _history, "start InfluxDB, or set SPINELOOP_HISTORY_URL, _USER, _PASSWORD"),
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


async def _mqtt(settings: Settings) -> str:
    connection = await wiring.connect(settings, "spineloop-doctor")()
    await connection.close()
    return "connected with MQTT 5"


async def _log(settings: Settings) -> str:
    if settings.log_url.startswith("sqlite"):
        async with wiring.open_log(settings, "doctor"):
            return "opened"
    rows = await wiring.describe_topics(settings)
    wrong = [f"{row.topic}: {difference}" for row in rows for difference in row.differences]
    if wrong:
        raise ValueError("; ".join(wrong))
    return f"{len(rows)} topics with {rows[0].partitions} partitions"


async def _history(settings: Settings) -> str:
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
        drawn.add_row(one.component, "yes" if one.is_well else "NO", one.found, one.mend)
    return drawn


def as_builtins(findings: Sequence[Finding]) -> Any:  # noqa: ANN401 - JSON
    """Return the findings as JSON can hold them."""
    return msgspec.to_builtins(findings)
