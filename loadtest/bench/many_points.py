"""Many points: a history of weeks in line protocol, made of what the pipeline wrote of a short run.

A short embedded run leaves points of every kind, with the fields, tags and values that the pipeline gives them. They
are told again for many machines, patients and sessions, one session after the other in the order of time. Meters are
told again for every process, every 10 s in the last hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from spineloop import demo, logs, wiring
from spineloop.demo import Demo
from spineloop.exposition import Exposition
from spineloop.settings import Settings
from streams.core.meters import METERS

MACHINES, PATIENTS, DAYS = 500, 5_000, 30
TENANTS, SITES = 2, 5
SESSION: Mapping[str, int] = {
    "rep": 40,
    "machine": 26,
    "set_summary": 3,
    "session_summary": 1,
    "patient": 1,
    "command": 2,
    "command_closed": 2,
    "notice": 1,
}
"""Points of each kind in a session: three sets, and what is told of them and of the machine."""

POINTS_A_SESSION = sum(SESSION.values())
APART_NS: Mapping[str, int] = {"rep": 5_000_000_000, "machine": 60_000_000_000}
"""Time between two points of a kind; others are 90 s apart, as sets are."""

METERS_SHARE = 0.2
"""Of all points; every process writes some ten series."""

DENSE_S, DENSE_STEP_S = 21_600, 10
INSTANCES: Mapping[str, int] = {"ingest": 1, "control": 4, "plan": 2, "history": 2, "downlink": 1}
STAGES = ("control", "plan", "history-metric", "history-command", "downlink")

_PLACE = ("tenant", "site", "machine")


async def shapes(seconds: float = 15.0) -> dict[str, list[Any]]:
    """Return points of every kind, as an embedded run of a fleet leaves them in its history."""
    with TemporaryDirectory() as name:
        logs.configure("console", "error", role="bench")
        told = Demo(seconds=seconds, machines=12, seed=1, data=Path(name))
        await demo.run(told, Settings.read({}), Console(quiet=True))
        settings = Settings.read({"SPINELOOP_HISTORY_URL": f"sqlite://{name}"})
        async with wiring.open_history(settings) as history:
            found = {kind: list(await history.select(kind)) for kind in SESSION}
        async with wiring.meter_history("role", settings, _meters()) as meters:
            await meters.write()
        async with wiring.open_history(settings) as history:
            return found | {"meter": list(await history.select("meter"))}


def _meters() -> Exposition:
    """Use every meter once, with every stage."""
    exposition = Exposition()
    for name, meter in METERS.items():
        for stage in STAGES if meter.labels else ("",):
            labels = dict.fromkeys(meter.labels, stage)
            if meter.kind == "counter":
                exposition.count(name, 7.0, **labels)
            elif meter.kind == "gauge":
                exposition.set(name, 7.0, **labels)
            else:
                exposition.observe(name, 0.03, **labels)
    return exposition


def lines(found: Mapping[str, Sequence[Any]], count: int, now_ns: int) -> Iterator[str]:
    """Write so many points in the order of time, the last ones at `now_ns` or a little before.

    Every point has a time of its own, so that none overwrites another.
    """
    meters = list(_meter_lines(found["meter"], round(METERS_SHARE * count), now_ns))
    sessions = (count - len(meters)) // POINTS_A_SESSION + 1
    yield from islice(_sessions(found, sessions, now_ns), count - len(meters))
    yield from meters


def _sessions(found: Mapping[str, Sequence[Any]], sessions: int, now_ns: int) -> Iterator[str]:
    told = {kind: _forms(found[kind]) for kind in SESSION}
    apart_ns = DAYS * 86_400 * 1_000_000_000 // sessions
    for number in range(sessions):
        machine = number % MACHINES
        tenant, site = f"clinic-{machine % TENANTS}", f"site-{machine // TENANTS % SITES}"
        start_ns = now_ns - (sessions - number) * apart_ns - number % 997
        who = {
            "tenant": tenant,
            "site": site,
            "machine": f"machine-{machine:03}",
            "patient": f"{tenant}/p{number * 7_919 % PATIENTS:04}",
            "session": f"s-{number}",
        }
        for kind, points in SESSION.items():
            forms = told[kind]
            for n in range(points):
                at_ns = start_ns + n * APART_NS.get(kind, 90_000_000_000)
                if at_ns > now_ns:  # the last sessions have just begun: their points come closer, none on another
                    at_ns = now_ns - 1_000 * (points - n)
                yield forms[(machine + n * (kind != "machine")) % len(forms)] % (who | {"t": at_ns})


def _meter_lines(meters: Sequence[Any], count: int, now_ns: int) -> Iterator[str]:
    """Tell the meters of every process again: at a steady pace, and every 10 s in the last hours."""
    forms = []
    for role, instances in INSTANCES.items():
        for instance in range(instances):
            for point in meters:
                tags = dict(point.tags)
                if tags.get("stage", role).startswith(role) or "component" in tags:
                    forms.append(_form(point, {**tags, "role": role, "instance": str(instance)}, ()))
    dense = DENSE_S // DENSE_STEP_S
    rows = max(1, count // len(forms))
    sparse = max(0, rows - dense)
    step_ns = (DAYS * 86_400 - DENSE_S) * 1_000_000_000 // max(sparse, 1)
    begin_ns = now_ns - DAYS * 86_400 * 1_000_000_000
    times = [begin_ns + n * step_ns for n in range(sparse)]
    times += [now_ns - n * DENSE_STEP_S * 1_000_000_000 for n in reversed(range(min(rows, dense)))]
    for at_ns in times:
        for form in forms:
            yield form % {"t": at_ns}


def _forms(points: Sequence[Any]) -> list[str]:
    """Make a form of each point, in which place, patient, session and time are to be filled in."""
    return [_form(point, dict(point.tags), _PLACE) for point in points]


def _form(point: Any, tags: Mapping[str, str], open_tags: Sequence[str]) -> str:  # noqa: ANN401 - an adaptor's point
    told = {name: f"%({name})s" if name in open_tags else _tag(value) for name, value in tags.items()}
    head = ",".join([point.measurement, *(f"{name}={told[name]}" for name in sorted(told))])
    fields = ",".join(f"{name}={_field(name, value)}" for name, value in point.fields.items())
    return f"{head} {fields} %(t)d"


def _tag(value: str) -> str:
    return value.replace("%", "%%").replace(" ", "\\ ").replace(",", "\\,").replace("=", "\\=")


def _field(name: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value}i"
        case float():
            return repr(value)
    if name in {"patient", "session"}:
        return f'"%({name})s"'
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'
