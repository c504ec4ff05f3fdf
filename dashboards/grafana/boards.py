"""Boards: a dashboard from its panels, with the variables that choose what it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from dashboards.grafana.influxql import Noted, Ready, source, table
from dashboards.grafana.panels import Shown, built

TAG = "spineloop"
"""By which a board finds the others."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A variable: what can be chosen, one or several."""

    name: str
    means: str
    query: str
    several: bool = False
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Annotations: when something happened."""

    name: str
    color: str
    noted: Noted


@dataclass(frozen=True, kw_only=True)
class Board:
    """A dashboard.

    Parameters
    ----------
    uid, title, means : str
        Its address, its name, what it is for.
    shown : sequence of Shown
        Its panels.
    choices : sequence of Choice
        Its variables, each may depend on those before it.
    since, refresh : str
        What it shows at first, and how often it asks again.
    """

    uid: str
    title: str
    means: str
    shown: Sequence[Shown]
    choices: Sequence[Choice] = ()
    marks: Sequence[Marks] = field(default=())
    since: str = "now-6h"
    refresh: str = "10s"


def places(*, several: bool) -> tuple[Choice, Choice, Choice]:
    """Return the chain tenant, site, machine; `several` machines can be chosen, or one."""
    seen = f"SHOW TAG VALUES FROM {table('machine')} WITH KEY ="
    at_tenant = 'WHERE "tenant" =~ /^$tenant$/'
    return (
        Choice(name="tenant", means="Who operates the machines.", query=f'{seen} "tenant"', several=several),
        Choice(name="site", means="Where they stand.", query=f'{seen} "site" {at_tenant}', several=several),
        Choice(
            name="machine",
            means="Which of them.",
            query=f'{seen} "machine" {at_tenant} AND "site" =~ /^$site$/',
            several=several,
        ),
    )


def drawn(board: Board) -> dashboard.Dashboard:
    """Build a dashboard."""
    made = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.means)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(board.since, "now")
        .refresh(board.refresh)
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .links([_to_the_others()])
        .variables([_variable(one) for one in board.choices])
        .annotations([_annotation(one) for one in board.marks])
    )
    result = made.build()
    result.panels = [panel.build() for panel in built(board.shown)]
    return result


def _to_the_others() -> builders.DashboardLink:
    return (
        builders.DashboardLink("Boards")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )


def _variable(choice: Choice) -> builders.QueryVariable:
    made = (
        builders.QueryVariable(choice.name)
        .label(choice.name)
        .description(choice.means)
        .datasource(source())
        .query(choice.query)
        .definition(choice.query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(choice.several)
        .include_all(choice.several)
    )
    if choice.several:
        made = made.current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
        if not choice.hidden:  # hundreds of names would be looked for one by one
            made = made.all_value(".*")
    return made.hide(dashboard.VariableHide.HIDE_VARIABLE) if choice.hidden else made


def _annotation(marks: Marks) -> builders.AnnotationQuery:
    return (
        builders.AnnotationQuery()
        .name(marks.name)
        .datasource(source())
        .enable(True)
        .icon_color(marks.color)
        .target(Ready(marks.noted))
    )
