"""Replaying: what `spineloop replay` does, from the words of the command line to tables, JSON and one HTML file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace
from rich.console import Console

from spineloop import looking, policy_report, wiring
from spineloop.looking import Data, From, To
from spineloop.settings import Settings, WrongSetting
from spineloop.whole_file import whole_file
from streams.core import policy
from streams.core.errors import Malformed
from streams.core.policy import Policy
from streams.core.records import REPLAYED, NewRecord
from streams.log import Log
from streams.replay import Replayed, replay
from streams.stretch import OutOfRange, Readable, Wanted, check_order
from streams.what_if import SideBySide, compare

CHUNK_RECORDS = 500
"""Metrics that are published together."""

SHOWN_KEYS = 3
"""Keys at which the log says otherwise that are named."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    wanted: Wanted
    data: Path | None = None
    policy_file: Path | None = None
    html: Path | None = None
    publish: bool = False
    as_json: bool = False


def command(
    since: From = None,
    until: To = None,
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    machine: Annotated[
        list[str] | None, typer.Option(help="Only this machine, tenant/site/machine; repeatable.")
    ] = None,
    policy_file: Annotated[
        Path | None, typer.Option("--policy", help="Policy file (TOML) to try: show what it would have decided.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="With --policy: write the comparison here, as one file.")] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Write the metrics again, never a command; only from a whole log.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    data: Data = None,
) -> None:
    """Recompute metrics and decisions from the log, or see what another policy would have decided.

    Without --publish nothing is touched: no topic, no device, no history. Exit 1 if the log says otherwise.

    Example: `spineloop replay --data ./data --from 2026-11-01 --policy tried.toml --html what-if.html`
    """
    wanted = Wanted(
        since=looking.place(since, "--from"),
        until=looking.place(until, "--to"),
        tenant=tenant,
        machines=tuple(machine or ()),
    )
    asked = Asked(wanted=wanted, data=data, policy_file=policy_file, html=html, publish=publish, as_json=as_json)
    _check(asked)
    left = "some metrics may have been written again, the same as before" if publish else "nothing was changed"
    code = looking.run("replay", lambda settings: _run(looking.in_folder(settings, data, writes=publish), asked), left)
    if code:
        raise typer.Exit(code)


def _check(asked: Asked) -> None:
    if asked.policy_file is not None and asked.publish:
        raise WrongSetting("--publish writes what the clinic's own policy says; it does not go with --policy")
    if asked.html is not None:
        if asked.policy_file is None:
            raise WrongSetting("--html shows two policies side by side; it needs --policy")
        looking.check_place_for(asked.html, "--html")
    try:
        check_order(asked.wanted)
    except OutOfRange as error:
        raise WrongSetting(f"--to: {error}") from error


def other_policy(file: Path) -> Policy:
    """Read the policy that is to be tried. Raises WrongSetting, one line that names the parameter."""
    try:
        return policy.read(file.read_bytes())
    except OSError as error:
        raise WrongSetting(f"--policy: {error}") from error
    except Malformed as error:
        raise WrongSetting(f"--policy: {file}: {named(error.detail)}") from error


def named(detail: str) -> str:
    """Put the name of a parameter in front of what is wrong with it.

    Examples
    --------
    >>> named("Expected `float` <= 30.0 - at `$.vl_stop_pct`")
    'vl_stop_pct: Expected `float` <= 30.0'
    >>> named("Object contains unknown field `speed`")
    'Object contains unknown field `speed`'
    """
    found = re.fullmatch(r"(?P<what>.*) - at `\$\.(?P<name>\S+)`", detail, re.DOTALL)
    return " ".join((detail if found is None else f"{found['name']}: {found['what']}").split())


async def _run(settings: Settings, asked: Asked) -> int:
    """Replay, and say what was found; return the exit code."""
    before = settings.policy()
    if asked.policy_file is not None:
        after = other_policy(asked.policy_file)
        async with looking.for_reading(settings, "replay") as log:
            return await _try_other(log, settings, asked, before, after)
    if not asked.publish:
        async with looking.for_reading(settings, "replay") as log:
            found = await _recompute(log, settings, asked, before)
    else:
        async with looking.for_writing(settings, "replay") as log:
            found = await _publish(log, settings, asked, before)
    if asked.as_json:
        typer.echo(msgspec.json.encode(msgspec.to_builtins(found) | {"policy": policy.digest(before)}))
    else:
        _tell(found, before)
    return 1 if found.log.differing and not asked.publish else 0


async def _recompute(log: Readable, settings: Settings, asked: Asked, chosen: Policy) -> Replayed:
    with looking.progress("replay") as advance:
        return await replay(log, wiring.stages(settings, chosen), asked.wanted, advance=advance)


async def _publish(log: Log, settings: Settings, asked: Asked, chosen: Policy) -> Replayed:
    again = _Again(log)
    with looking.progress("replay") as advance:
        found = await replay(log, wiring.stages(settings, chosen), asked.wanted, advance=advance, publish=again.take)
    await again.finish()
    return found


def _tell(found: Replayed, chosen: Policy) -> None:
    typer.echo(f"read {found.records:,} records, {found.counted:,} of them in the stretch, which led to")
    for topic, count in found.outputs.items():
        typer.echo(f"  {count:>9,}  {topic}")
    _tell_what_is_gone(found.letters, found.missing)
    log, name = found.log, policy.digest(chosen)
    if log.not_done is not None:
        typer.echo(f"not compared with what the log says: {log.not_done}")
    elif not log.differing:
        typer.echo("the log says the same, byte for byte")
    else:
        some = ", ".join(" ".join(place) for place in log.differing[:SHOWN_KEYS])
        typer.echo(f"the log says otherwise at {len(log.differing):,} keys, the first: {some}")
        others = {other: count for other, count in log.policies.items() if other != name}
        if others:
            told = ", ".join(f"{count:,} by {other}" for other, count in others.items())
            typer.echo(f"its commands were decided by other policies ({told}); this is {name}: SPINELOOP_POLICY_FILE")
    typer.echo(f"digest {found.digest}")


def _tell_what_is_gone(letters: Mapping[str, int], missing: Mapping[int, int]) -> None:
    if letters:
        told = ", ".join(f"{count:,} {reason}" for reason, count in letters.items())
        typer.echo(f"dead letters: {told}")
    for partition, gone in missing.items():
        typer.echo(f"partition {partition}: retention has removed the first {gone:,} records, and what they led to")


async def _try_other(log: Readable, settings: Settings, asked: Asked, before: Policy, after: Policy) -> int:
    with looking.progress("replay") as advance:
        found = await compare(log, (before, after), asked.wanted, settings.machine_catalogue(), advance=advance)
    if asked.html is not None:
        page = policy_report.html(found, before, after, stretch(asked.wanted))
        with whole_file(asked.html) as file:
            file.write_text(page, encoding="utf-8")
    if asked.as_json:
        typer.echo(msgspec.json.encode(_as_json(found, before, after)))
        return 0
    typer.echo(f"{stretch(asked.wanted)}: {found.records:,} records, {found.sessions:,} sessions")
    for name, old, new in policy_report.changed_parameters(before, after):
        typer.echo(f"{name}: {old} -> {new}")
    _tell_what_is_gone(found.letters, found.missing)
    for partition, gone in found.missing_facts.items():
        typer.echo(f"partition {partition}: the first {gone:,} facts about patients are gone, and plans may lack them")
    typer.echo(f"{found.differences:,} decisions differ")
    for table in policy_report.tables(found):
        Console().print(table)
    typer.echo(policy_report.CAVEAT)
    typer.echo(f"digest {found.digest_after}" + (f", report {asked.html}" if asked.html else ""))
    return 0


def _as_json(found: SideBySide, before: Policy, after: Policy) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found)
    digests = {"before": told.pop("digest_before"), "after": told.pop("digest_after")}
    changed = {name: [old, new] for name, old, new in policy_report.changed_parameters(before, after)}
    policies = {"before": policy.digest(before), "after": policy.digest(after)}
    words = policy_report.in_words(found)
    shown = {"shown": told.pop("shown")}
    return {"digest": digests["after"], "digests": digests, "policies": policies, "changed": changed, **told} | {
        "in_words": words,
        "caveat": policy_report.CAVEAT,
        **shown,
    }


def stretch(wanted: Wanted) -> str:
    """Say in words what was looked at.

    Examples
    --------
    >>> stretch(Wanted(tenant="acme"))
    'acme, from the beginning to the end'
    """
    begin, end = wanted.since or "the beginning", wanted.until or "the end"
    whose = ", ".join(wanted.machines) or wanted.tenant or "All machines"
    return f"{whose}, from {begin} to {end}"


class _Again:
    """Publishes recomputed metrics: history writes the same points over the old ones. Commands are never sent again."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: list[NewRecord] = []

    async def take(self, record: NewRecord) -> None:
        """Keep a metric until there are enough to write."""
        self._waiting.append(replace(record, headers=(*record.headers, (REPLAYED, b"1"))))
        if len(self._waiting) >= CHUNK_RECORDS:
            await self.finish()

    async def finish(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            await self._log.append(waiting)
