"""Replaying: what `spineloop replay` does, from the words of the command line to tables, JSON and one HTML file."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spineloop import policy_report, wiring
from spineloop.embedded import PARTITIONS
from spineloop.settings import Settings, WrongSetting
from streams.core import policy
from streams.core.controller import Controller
from streams.core.errors import Malformed
from streams.core.planning import Planner
from streams.core.policy import Policy
from streams.core.records import NewRecord
from streams.log import Log
from streams.replay import At, OutOfRange, Replayed, Wanted, replay
from streams.what_if import Compared, compare

CHUNK_RECORDS = 500
"""Metrics that are published together."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    wanted: Wanted
    data: Path | None = None
    policy_file: Path | None = None
    html: Path | None = None
    publish: bool = False
    as_json: bool = False


def place(text: str | None, option: str) -> At | None:
    """Read an offset or a time. Raises WrongSetting naming the option.

    Examples
    --------
    >>> place("1200", "--from"), place("2026-11-01", "--to")
    (At(offset=1200, time_ms=None), At(offset=None, time_ms=1793491200000))
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return At(offset=int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongSetting(f"{option}: expected an offset or a time such as 2026-11-23T18:00, got {text!r}") from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return At(time_ms=round(aware.timestamp() * 1_000))


def other_policy(file: Path) -> Policy:
    """Read the policy that is to be tried. Raises WrongSetting."""
    try:
        return policy.read(file.read_bytes())
    except (OSError, Malformed) as error:
        raise WrongSetting(f"--policy: {error}") from error


@asynccontextmanager
async def opened(settings: Settings, data: Path | None, role: str) -> AsyncIterator[Log]:
    """Open the log of the settings, or an embedded one in a folder. Raises WrongSetting if there is none."""
    async with wiring.open_log(settings if data is None else _in_folder(settings, data), role) as log:
        yield log


def _in_folder(settings: Settings, data: Path) -> Settings:
    if not (data / "log.db").is_file():
        raise WrongSetting(f"--data: no log in {data}")
    return replace(settings, log_url=f"sqlite://{data.absolute()}", partitions=PARTITIONS)


async def run(settings: Settings, options: Options, out: Console, err: Console) -> int:
    """Replay, and say what was found; return the exit code: 1 if the log says otherwise."""
    async with opened(settings, options.data, "replay") as log:
        try:
            if options.policy_file is not None:
                return await _try_other(log, settings, options, out, err)
            return await _recompute(log, settings, options, out, err)
        except OutOfRange as error:
            raise WrongSetting(str(error)) from error
        except KeyError as error:
            raise WrongSetting(f"the log has no topic {error}") from error


async def _recompute(log: Log, settings: Settings, options: Options, out: Console, err: Console) -> int:
    chosen = settings.policy()
    stages = (Controller(chosen), Planner(chosen, settings.machine_catalogue()))
    again = _Again(log) if options.publish else None
    with _progress(err) as advance:
        found = await replay(log, stages, options.wanted, advance, None if again is None else again.take)
    if again is not None:
        await again.finish()
    if options.as_json:
        out.print_json(data=msgspec.to_builtins(found) | {"policy": policy.digest(chosen)})
    else:
        _tell(found, out)
    return 1 if found.differing else 0


def _tell(found: Replayed, out: Console) -> None:
    out.print(f"records read {found.records:,}, of the wanted stretch {found.counted:,}")
    for topic, count in found.outputs.items():
        out.print(f"{topic}: {count:,}")
    for partition, missing in found.missing.items():
        out.print(f"partition {partition}: the first {missing:,} records are gone; states that they led to, too")
    if found.differing:
        out.print(f"the log says otherwise at {len(found.differing)} keys, first {' '.join(found.differing[0])}")
    out.print(f"digest {found.digest}")


async def _try_other(log: Log, settings: Settings, options: Options, out: Console, err: Console) -> int:
    before, after = settings.policy(), other_policy(options.policy_file or Path())
    with _progress(err) as advance:
        found = await compare(log, before, after, options.wanted, settings.machine_catalogue(), advance)
    if options.html is not None:
        options.html.write_text(policy_report.html(found, before, after, _stretch(options.wanted)), encoding="utf-8")
    if options.as_json:
        out.print_json(data=_as_json(found, before, after))
        return 0
    for name, old, new in policy_report.changed_parameters(before, after):
        out.print(f"{name}: {old} -> {new}")
    out.print(f"{found.records:,} records, {found.sessions:,} sessions, {found.differences:,} decisions differ")
    for table in policy_report.tables(found):
        out.print(table)
    if options.html is not None:
        out.print(f"report: {options.html}")
    return 0


def _as_json(found: Compared, before: Policy, after: Policy) -> dict[str, Any]:
    changed = {name: [old, new] for name, old, new in policy_report.changed_parameters(before, after)}
    digests = {"before": policy.digest(before), "after": policy.digest(after)}
    told: dict[str, Any] = msgspec.to_builtins(found)
    return {"policies": digests, "changed": changed} | told


def _stretch(wanted: Wanted) -> str:
    ends = [_at(wanted.since, "the beginning"), _at(wanted.until, "the end")]
    whose = wanted.tenant or ", ".join(wanted.machines) or "all machines"
    return f"{whose}, from {ends[0]} to {ends[1]}"


def _at(at: At | None, otherwise: str) -> str:
    if at is None:
        return otherwise
    if at.time_ms is None:
        return f"offset {at.offset}"
    return datetime.fromtimestamp(at.time_ms / 1_000, UTC).isoformat(timespec="seconds")


class _Again:
    """Publishes recomputed metrics: history writes the same points over the old ones. Commands are never sent again."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: list[NewRecord] = []

    async def take(self, record: NewRecord) -> None:
        """Keep a metric until there are enough to write."""
        self._waiting.append(record)
        if len(self._waiting) >= CHUNK_RECORDS:
            await self.finish()

    async def finish(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            await self._log.append(waiting)


@contextmanager
def _progress(err: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, and nothing anywhere else."""
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("replay", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
