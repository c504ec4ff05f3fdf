"""Grafana's part: which queries boards and alerts ask, and what Grafana puts in for their variables before it asks."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parents[1] / "dashboards" / "grafana"

Values = Mapping[str, str | Sequence[str]]
"""What is chosen of each variable: one value, or several."""

POINTS = 1_000
"""Points that a panel of a usual width has room for: `$__interval` is the time that is shown by this."""

INTERVALS_S = (
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1_200,
    1_800,
    3_600,
    7_200,
    10_800,
    21_600,
    43_200,
    86_400,
)
"""To what Grafana rounds an interval, in s."""

UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Question(NamedTuple):
    """One query as it stands in a file: what shows it, and the time that it looks at before now, in s."""

    title: str
    query: str
    since_s: int
    until_s: int = 0
    every_s: int = 1
    """Shortest interval that it asks for."""


def boards() -> dict[str, dict[str, Any]]:
    """Return every board by its uid, as it is committed."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "boards").glob("*.json"))
    }


def panels(board: Mapping[str, Any]) -> Iterator[Question]:
    """Return what the panels and annotations of a board ask."""
    for panel in board["panels"]:
        since_s = seconds(panel.get("timeFrom") or board["time"]["from"])
        for target in panel["targets"]:
            yield Question(panel["title"], target["query"], since_s, every_s=seconds(panel.get("interval") or "1s"))
    for one in board["annotations"]["list"]:
        yield Question(f"annotation {one['name']}", one["target"]["query"], seconds(board["time"]["from"]))


def alerts() -> Iterator[Question]:
    """Return what the alerts ask."""
    text = (HERE / "provisioning" / "alerting" / "rules.yaml").read_text(encoding="utf-8")
    told = json.loads(text.partition("\n")[2])  # written as JSON, after a line that says so
    for rule in told["groups"][0]["rules"]:
        for step in rule["data"]:
            if "query" in step["model"]:
                window = step["relativeTimeRange"]
                yield Question(rule["title"], step["model"]["query"], window["from"], window["to"])


def seconds(text: str) -> int:
    """Read how far back a board or a panel looks, in s.

    Examples
    --------
    >>> seconds("now-6h"), seconds("5m"), seconds("now-90d")
    (21600, 300, 7776000)
    """
    found = re.fullmatch(r"(?:now-)?(\d+)([smhd])", text)
    if found is None:
        raise ValueError(f"not a time before now: {text!r}")
    return int(found[1]) * UNITS_S[found[2]]


def interval_s(since_s: float, points: int = POINTS) -> int:
    """Return the interval in s that Grafana takes for a stretch of time.

    Examples
    --------
    >>> interval_s(3_600), interval_s(21_600), interval_s(90 * 86_400)
    (5, 20, 7200)
    """
    return min(INTERVALS_S, key=lambda one: abs(one - since_s / points))


def regex(values: Sequence[str]) -> str:
    r"""Write values as Grafana writes them within /.../: escaped, several as alternatives.

    Examples
    --------
    >>> regex(["row-1", "row-2"])
    '(row\\-1|row\\-2)'
    """
    escaped = [re.sub(r"([\\^$*+?.()|\[\]{}/-])", r"\\\1", value) for value in values]
    return f"({'|'.join(escaped)})" if len(escaped) > 1 else "".join(escaped)


def interpolated(query: str, values: Values, since_ms: int, until_ms: int, every_s: int = 10) -> str:
    """Put in what Grafana puts in: the time, the interval, and the variables, escaped within /.../."""
    query = query.replace("$timeFilter", f"time >= {since_ms}ms and time <= {until_ms}ms")
    query = query.replace("$__interval_ms", str(1_000 * every_s)).replace("$__interval", f"{every_s}s")
    for name, chosen in values.items():
        several = [chosen] if isinstance(chosen, str) else list(chosen)
        said = chosen.pattern if isinstance(chosen, Everything) else regex(several)
        query = query.replace(f"/^${name}$/", f"/^{said}$/")
        query = query.replace(f"'${name}'", f"'{several[0] if several else ''}'")
    left = re.sub(r"\$/", "", query)
    if "$" in left:
        raise ValueError(f"a variable that nobody chose: {query}")
    return query


class Everything(tuple[str, ...]):
    """All values of a variable that is asked for as a whole: Grafana puts in the board's own words for *All*."""

    __slots__ = ()
    pattern = ".*"
    """What a board says for *All*; a test holds it against the boards."""


def chosen(variable: Mapping[str, Any], offered: Sequence[str]) -> str | Sequence[str]:
    """Choose as a board does that was just opened: all of several, or the first."""
    if not variable["multi"]:
        return offered[0] if offered else ""
    return Everything(offered) if variable.get("allValue") == Everything.pattern else list(offered)


def offered_in(series: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a variable's query offers: the last column, as Grafana takes it."""
    return sorted({str(row[1]) for one in series for row in one["values"]})
