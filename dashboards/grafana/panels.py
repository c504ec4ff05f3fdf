"""Panels: what a board shows, as rows of a table, and how a row becomes a panel of Grafana."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models import common, dashboard

from dashboards.grafana.influxql import Asked, Ready, source

COLUMNS = 24
"""Width of a board."""

Kind = Literal["stat", "line", "points", "bars", "states", "table"]

Steps = tuple[tuple[float | None, str], ...]
"""Thresholds: from which value on which colour; the first from the least value on."""

PLAIN: Steps = ((None, "text"),)
"""For what is never good or bad by its size."""

ALERT_WHEN_ANY: Steps = ((None, "green"), (1.0, "red"))

MODES: Mapping[str, str] = {
    "offline": "#8e8e8e",
    "idle": "blue",
    "requested": "purple",
    "resting": "super-light-green",
    "lifting": "green",
    "locked": "red",
}
SEVERITIES: Mapping[str, str] = {"info": "blue", "warning": "orange", "alarm": "red"}
SILENCE = "#4a4a4a"
"""Colour of a machine of which nothing was heard: darker than offline, which is something that was."""

OUTCOMES: Mapping[str, str] = {"applied": "green", "rejected": "orange", "expired": "red"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One panel.

    Parameters
    ----------
    title : str
        What it is called.
    kind : str
        How it is drawn.
    means : str
        What one sees.
    red : str
        What to do when it is red.
    unit : str
        As Grafana spells it; `suffix: J` for what it does not know.
    asked : tuple of Asked
        Its queries.
    steps : Steps
        Its thresholds.
    width, height : int
        In columns of 24, and in rows.
    words : mapping of str to str
        Colours of words among its values.
    window : str
        Time that it looks back, `5m` say, whatever the board shows.
    every : str
        Shortest time that one of its points stands for; else as many points as there is room for.
    total : str
        What a stat makes of its values: `lastNotNull`, `sum`.
    nothing : str
        What it shows when there is no value.
    silent_min : int
        Of a timeline: minutes without a value up to which the last one still counts.
    silent : str
        Of a table: the column in which no value means silence; others may be empty.
    links : tuple of (str, str, str)
        Column, title and address.
    hidden : tuple of str
        Columns of a table that are not shown.
    """

    title: str
    kind: Kind
    means: str
    red: str
    unit: str
    asked: tuple[Asked, ...]
    steps: Steps = PLAIN
    width: int = 12
    height: int = 8
    words: Mapping[str, str] | None = None
    window: str = ""
    every: str = ""
    total: str = "lastNotNull"
    nothing: str = ""
    silent_min: int = 0
    silent: str = ""
    links: tuple[tuple[str, str, str], ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What Grafana shows behind the panel's mark."""
        return f"{self.means}\n\nWhen it is red: {self.red}"


Panel = stat.Panel | timeseries.Panel | statetimeline.Panel | tables.Panel


def built(shown: Sequence[Shown]) -> list[Panel]:
    """Draw panels from left to right and from top to bottom, as wide and high as they say."""
    drawn: list[Panel] = []
    x = y = height = 0
    for number, one in enumerate(shown, start=1):
        if x + one.width > COLUMNS:
            x, y, height = 0, y + height, 0
        panel = _panel(_lettered(one))
        panel.id(number).grid_pos(dashboard.GridPos(h=one.height, w=one.width, x=x, y=y))
        drawn.append(panel)
        x, height = x + one.width, max(height, one.height)
    return drawn


def _lettered(shown: Shown) -> Shown:
    """Name the queries of a panel A, B, C."""
    return replace(shown, asked=tuple(replace(one, ref=chr(65 + n)) for n, one in enumerate(shown.asked)))


def _panel(shown: Shown) -> Panel:
    panel = _DRAWN[shown.kind](shown)
    panel.title(shown.title).description(shown.description).datasource(source()).unit(shown.unit)
    panel.thresholds(_thresholds(shown.steps))
    panel.targets([Ready(one) for one in shown.asked])
    if shown.words is not None:
        panel.mappings([_words(shown.words), *([_silence(shown, shown.nothing)] if shown.nothing else [])])
    if shown.window:
        panel.time_from(shown.window)
    if shown.every:
        panel.interval(shown.every)
    if shown.nothing:
        panel.no_value(shown.nothing)
    for column, title, url in shown.links:
        link = {"title": title, "url": url, "targetBlank": False}
        panel.override_by_name(column, [dashboard.DynamicConfigValue(id_val="links", value=[link])])
    if shown.silent:
        told = [_words(shown.words or {}), _silence(shown, "silent")]
        panel.override_by_name(shown.silent, [dashboard.DynamicConfigValue(id_val="mappings", value=told)])
    for column in shown.hidden:
        panel.override_by_name(column, [dashboard.DynamicConfigValue(id_val="custom.hidden", value=True)])
    return panel


def _thresholds(steps: Steps) -> builders.ThresholdsConfig:
    told = [dashboard.Threshold(value=value, color=color) for value, color in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(told)


def _words(colours: Mapping[str, str]) -> dashboard.ValueMap:
    told = {
        word: dashboard.ValueMappingResult(text=word, color=colour, index=n)
        for n, (word, colour) in enumerate(colours.items())
    }
    return dashboard.ValueMap(options=told)


def _silence(shown: Shown, text: str) -> dashboard.SpecialValueMap:
    """Say what no value means, in a colour of its own; a timeline leaves it out otherwise."""
    result = dashboard.ValueMappingResult(text=text, color=SILENCE, index=len(shown.words or ()))
    options = dashboard.DashboardSpecialValueMapOptions(match=dashboard.SpecialValueMatch.NULL, result=result)
    return dashboard.SpecialValueMap(options=options)


def _stat(shown: Shown) -> stat.Panel:
    reduced = common_builders.ReduceDataOptions().calcs([shown.total])
    if shown.unit == "string":
        reduced = reduced.fields("/.*/")
    return (
        stat.Panel()
        .reduce_options(reduced)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.NONE)
    )


def _lines(shown: Shown) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .legend(common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .span_nulls(False)
    )
    if len(shown.steps) > 1:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    match shown.kind:
        case "bars":
            panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(60)
        case "points":
            panel.draw_style(common.GraphDrawStyle.LINE).show_points(common.VisibilityMode.ALWAYS).span_nulls(True)
        case _:
            panel.draw_style(common.GraphDrawStyle.LINE).fill_opacity(10)
    return panel


def _states(shown: Shown) -> statetimeline.Panel:
    panel = statetimeline.Panel().show_value(common.VisibilityMode.NEVER).merge_values(True).row_height(0.8)
    if shown.silent_min:
        panel.span_nulls(60_000 * shown.silent_min + 1)  # in ms: values that are closer to each other are joined
    # Grafana's default is a continuous scale, on which what has no value is never drawn
    return panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))


def _table(shown: Shown) -> tables.Panel:
    panel = tables.Panel().filterable(True)
    if len(shown.asked) > 1:  # the answers have their times, and no two are the same
        panel.with_transformation(
            dashboard.DataTransformerConfig(id_val="filterFieldsByName", options={"exclude": {"names": ["Time"]}})
        )
        panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    if shown.words is not None:
        panel.cell_options(common.TableColoredBackgroundCellOptions())
    return panel


_DRAWN: Mapping[Kind, Callable[[Shown], Panel]] = {
    "stat": _stat,
    "line": _lines,
    "points": _lines,
    "bars": _lines,
    "states": _states,
    "table": _table,
}
