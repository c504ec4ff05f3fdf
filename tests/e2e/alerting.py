"""Alerts as Grafana evaluates them: queries, reductions, expressions and thresholds, on a real InfluxDB."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from dashboards.grafana import alerts
from loadtest.grafana import interpolated
from tests.e2e.grafana_history import Filled

Labels = dict[str, str]
Numbers = dict[frozenset[tuple[str, str]], float]

REDUCED: Mapping[str, Callable[[list[float]], float]] = {
    "last": lambda some: some[-1],
    "sum": sum,
    "max": max,
    "mean": lambda some: sum(some) / len(some),
}


class AnyPanel(dict[tuple[str, str], int]):
    """Has a number for every panel: here nobody looks at it."""

    def __missing__(self, key: tuple[str, str]) -> int:
        return 1


async def fires(history: Filled, uid: str, now_ms: int) -> list[Labels]:
    """Return the labels for which an alert fires at a time."""
    (rule,) = [one for one in alerts.provisioned(AnyPanel())["groups"][0]["rules"] if one["uid"] == uid]
    steps = {step["refId"]: step for step in rule["data"]}
    known: dict[str, Numbers] = {}
    for ref, step in steps.items():
        model = step["model"]
        match model.get("type"):
            case "reduce":
                known[ref] = await reduced(history, steps[model["expression"]], model["reducer"], now_ms)
            case "math":
                known[ref] = calculated(model["expression"], known)
            case "threshold":
                (condition,) = model["conditions"]
                assert condition["evaluator"]["type"] == "gt"
                over = condition["evaluator"]["params"][0]
                series = known[model["expression"]]
                known[ref] = {labels: float(value > over) for labels, value in series.items()}
    return [dict(labels) for labels, is_over in known[rule["condition"]].items() if is_over]


async def reduced(history: Filled, step: dict[str, Any], how: str, now_ms: int) -> Numbers:
    """Ask, and make one number of each series; a series without a number is none."""
    window = step["relativeTimeRange"]
    since_ms, until_ms = now_ms - 1_000 * window["from"], now_ms - 1_000 * window["to"]
    numbers: Numbers = {}
    for one in await history.ask(interpolated(step["model"]["query"], {}, since_ms, until_ms)):
        some = [row[1] for row in one["values"] if row[1] is not None]
        if some:
            numbers[frozenset(one.get("tags", {}).items())] = float(REDUCED[how](some))
    return numbers


def calculated(expression: str, known: Mapping[str, Numbers]) -> Numbers:
    """Calculate with the series that every name in the expression has."""
    names = re.findall(r"\$\{(\w)\}", expression)
    python = re.sub(r"\$\{(\w)\}", r"\1", expression).replace("&&", "and").replace("||", "or")
    shared = set.intersection(*(set(known[name]) for name in names))
    return {
        labels: float(eval(python, {"__builtins__": {}}, {name: known[name][labels] for name in names}))  # noqa: S307
        for labels in shared
    }
