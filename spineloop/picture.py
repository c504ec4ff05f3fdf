"""Picture: a recording as one would publish it. Position and force over time, phases, rejections, and how tired it got.

Importing this module costs half a second, because matplotlib does: only who draws imports it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator

from spineloop.analyse import Analysis, RepRow
from spineloop.tables import WINDOW_UNITS
from streams.core import policy
from streams.core.excursions import Cuts
from streams.core.measure import PARTIAL_PCT
from streams.core.ragged import BoolArray, FloatArray
from streams.core.telemetry import PositionUnit

WIDTH_IN, LEFT_IN, RIGHT_IN = 15.0, 0.95, 0.75
"""Width of the picture and of its margins, in inches."""

HEAD_IN, ROW_IN, PANEL_IN, FOOT_IN = 0.95, 2.15, 2.75, 0.55
"""Heights in inches: of title and legend, of a stretch of time, of the panel under them, of what stands under that."""

POSITION_IN, FORCE_IN = 1.05, 0.62
"""Heights in inches of the two curves of a row."""

SHORTEST_ROW_S, LONGEST_ROW_S = 20.0, 80.0
"""Time in s that a row shows. A second is as long in every row."""

MARGIN_S = 1.5
"""Time in s shown before the first and after the last excursion of a row."""

MOST_ROWS = 24
"""Rows that are drawn; what comes after is left out, and the title says so."""

FEWEST_PLACES = 10.0
"""Reps that the panel has room for at least: two bars don't fill it."""

DPI = 110

CONCENTRIC, HOLD, ECCENTRIC, REJECTED = "#bfe3c6", "#f6e7ad", "#c3d8f0", "#d9d9d9"
POSITION, FORCE, AMBER, STOP = "#1b4079", "#a4461f", "#d08a00", "#b3261e"
_PHASES = (("concentric", CONCENTRIC), ("hold", HOLD), ("eccentric", ECCENTRIC))
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "hatch.color": "#8a8a8a",
    "svg.hashsalt": "spineloop",  # ids in the file are functions of what is drawn
    "svg.fonttype": "path",
    "path.simplify": True,
}
_LABEL_S = 0.012  # of the row: two labels that are nearer become one


class Row(NamedTuple):
    """A stretch of time: its set, its beginning and end in s, the excursions in it."""

    set_number: int
    start_s: float
    end_s: float
    reps: tuple[RepRow, ...]


def draw(analysis: Analysis, cuts: Cuts, path: Path, kind: str) -> None:
    """Draw an analysis to a file, `kind` is png or svg; the same analysis gives the same bytes. Raises OSError."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # names of settings are plain text
        figure = picture(analysis, cuts)
        figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})


def picture(analysis: Analysis, cuts: Cuts) -> Figure:
    """Lay out an analysis: a row for each stretch of time, and a panel below."""
    every = rows(analysis, float(cuts.uniform.t_s[0]), float(cuts.uniform.t_s[-1]))
    drawn = every[:MOST_ROWS]
    has_panel = any(rep.valid for rep in analysis.reps)
    height_in = HEAD_IN + ROW_IN * len(drawn) + (PANEL_IN if has_panel else 0.0)
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI)
    sheet = Sheet(figure, height_in, max(SHORTEST_ROW_S, *(row.end_s - row.start_s for row in drawn)))
    _head(sheet, analysis, len(every) - len(drawn))
    for at, row in enumerate(drawn):
        _row(sheet, HEAD_IN + ROW_IN * at, row, analysis, cuts)
    if has_panel:
        _panel(sheet, HEAD_IN + ROW_IN * len(drawn) + 0.25, analysis)
    return figure


class Sheet(NamedTuple):
    """What is drawn on: the figure, its height in inches, the time in s over its width."""

    figure: Figure
    height_in: float
    row_s: float

    def axes(self, top_in: float, height_in: float, across: tuple[float, float] = (0.0, 1.0)) -> Axes:
        """Add axes so far below the upper edge, over this share of the width between the margins."""
        usable_in = WIDTH_IN - LEFT_IN - RIGHT_IN
        left_in, width_in = LEFT_IN + across[0] * usable_in, (across[1] - across[0]) * usable_in
        bottom_in = self.height_in - top_in - height_in
        place = (left_in / WIDTH_IN, bottom_in / self.height_in, width_in / WIDTH_IN, height_in / self.height_in)
        return self.figure.add_axes(place)

    def place(self, top_in: float) -> tuple[float, float]:
        """Return the left margin, so far below the upper edge, in shares of the figure."""
        return LEFT_IN / WIDTH_IN, 1.0 - top_in / self.height_in


def rows(analysis: Analysis, first_s: float, last_s: float) -> list[Row]:
    """Share out time among rows: sets apart, rests between sets left out, no repetition cut in two.

    A recording without an excursion is one row per `LONGEST_ROW_S`.
    """
    made: list[Row] = []
    for number, found in groupby(sorted(analysis.reps, key=lambda rep: (rep.set, rep.start_s)), lambda rep: rep.set):
        reps = list(found)
        whole_s = reps[-1].end_s - reps[0].start_s + 2.0 * MARGIN_S
        share_s = whole_s / np.ceil(whole_s / LONGEST_ROW_S)  # rows of one set are about equally long
        line: list[RepRow] = []
        for rep in reps:
            if line and rep.end_s - line[0].start_s + MARGIN_S > share_s:
                made.append(_around(number, line, first_s, last_s))
                line = []
            line.append(rep)
        made.append(_around(number, line, first_s, last_s))
    if made:
        return made
    edges = [*np.arange(first_s, last_s, LONGEST_ROW_S).tolist(), last_s]
    return [Row(1, start, max(end, start + 1.0), ()) for start, end in pairwise(edges)]


def _around(number: int, reps: Sequence[RepRow], first_s: float, last_s: float) -> Row:
    start = max(reps[0].start_s - MARGIN_S, first_s)
    return Row(number, start, max(min(reps[-1].end_s + MARGIN_S, last_s), start + 1.0), tuple(reps))


def _title(analysis: Analysis, left_out: int) -> str:
    about = analysis.recording
    load = "load unknown" if about.load_N is None else f"{about.load_N:g} {_force_unit(about.position_unit)}"
    count = f"{sum(rep.valid for rep in analysis.reps)} valid of {len(analysis.reps)} repetitions"
    more = f"; {left_out} more rows not drawn" if left_out else ""
    return f"{Path(about.file).name}: {about.exercise.replace('_', ' ')}, {about.intent} intent, {load}; {count}{more}"


def _force_unit(unit: PositionUnit) -> str:
    return "N m" if unit == "rad" else "N"


def _head(sheet: Sheet, analysis: Analysis, left_out: int) -> None:
    x, y = sheet.place(0.15)
    sheet.figure.text(x, y, _title(analysis, left_out), ha="left", va="top", fontsize=12.0)
    patches = [Patch(facecolor=color, label=name) for name, color in _PHASES]
    if not all(rep.valid for rep in analysis.reps):
        patches.append(Patch(facecolor=REJECTED, hatch="////", edgecolor="#8a8a8a", linewidth=0.0, label="rejected"))
    sheet.figure.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=sheet.place(0.42),
        ncols=4,
        frameon=False,
        borderpad=0.0,
        borderaxespad=0.0,
        fontsize=9.0,
    )
    if any(rep.valid and rep.reasons for rep in analysis.reps):
        sheet.figure.text(
            1.0 - RIGHT_IN / WIDTH_IN, sheet.place(0.42)[1], "* flagged", ha="right", va="top", fontsize=9.0
        )


def _row(sheet: Sheet, top_in: float, row: Row, analysis: Analysis, cuts: Cuts) -> None:
    """Draw position above and force below, on one axis of time."""
    across = (0.0, min(1.0, (row.end_s - row.start_s) / sheet.row_s))
    upper = sheet.axes(top_in, POSITION_IN, across)
    lower = sheet.axes(top_in + POSITION_IN + 0.06, FORCE_IN, across)
    unit, factor = WINDOW_UNITS[analysis.recording.position_unit]
    uniform = cuts.uniform
    shown = slice(*np.searchsorted(uniform.t_s, (row.start_s, row.end_s)).tolist())
    _trace(upper, uniform.t_s[shown], uniform.filtered[0, shown] * factor, uniform.missing[0, shown], POSITION)
    if not uniform.missing[1].all():
        _trace(lower, uniform.t_s[shown], uniform.filtered[1, shown], uniform.missing[1, shown], FORCE)
    low, high = (float(end) * factor for end in (uniform.filtered[0].min(), uniform.filtered[0].max()))
    upper.set_ylim(low - 0.06 * (high - low or 1.0), high + 0.24 * (high - low or 1.0))
    lower.set_ylim(*_span(uniform.filtered[1]))
    upper.set_ylabel(f"position\n{unit}", color=POSITION)
    force_unit = _force_unit(analysis.recording.position_unit)
    lower.set_ylabel(f"{'torque' if force_unit == 'N m' else 'force'}\n{force_unit}", color=FORCE)
    upper.tick_params(labelbottom=False)
    for axes in (upper, lower):
        axes.set_xlim(row.start_s, row.end_s)
        axes.xaxis.set_major_locator(MultipleLocator(5.0))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_label_coords(-0.033 / across[1], 0.5)
        axes.tick_params(labelsize=8, length=2.5)
    lower.text(1.0, -0.26, "  time, s", transform=lower.transAxes, ha="left", va="center", fontsize=8.0)
    if len({rep.set for rep in analysis.reps}) > 1:
        upper.set_title(f"set {row.set_number}", loc="left", fontsize=9.0, fontweight="bold", pad=3.0)
    for axes in (upper, lower):
        _shade(axes, row.reps)
    for rep in row.reps:
        if rep.valid:
            _number(upper, rep)
    for label in _labels(row, sheet.row_s):
        upper.text(
            label.at_s,
            0.5,
            label.text,
            rotation=90,
            ha="center",
            va="center",
            fontsize=7.0,
            color="#222222",
            transform=upper.get_xaxis_transform(),
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )


def _trace(axes: Axes, t_s: FloatArray, x: FloatArray, missing: BoolArray, color: str) -> None:
    """Draw a line, broken where samples are missing."""
    axes.plot(t_s, np.where(missing, np.nan, x), color=color, linewidth=1.0)


def _span(x: FloatArray) -> tuple[float, float]:
    low, high = min(float(x.min()), 0.0), float(x.max())
    return low - 0.04 * (high - low or 1.0), high + 0.10 * (high - low or 1.0)


def _shade(axes: Axes, reps: Sequence[RepRow]) -> None:
    """Colour the phases of valid reps and hatch the others; one collection a colour, which draws far faster."""
    phases = [rep.phases_s for rep in reps if rep.phases_s is not None]
    for at, (_, color) in enumerate(_PHASES):
        _bands(axes, [(marks[at], marks[at + 1]) for marks in phases], facecolor=color)
    rejected = [(rep.start_s, rep.end_s) for rep in reps if rep.phases_s is None]
    _bands(axes, rejected, facecolor=REJECTED, alpha=0.7, hatch="////", edgecolor="#8a8a8a")


def _bands(axes: Axes, spans_s: Sequence[tuple[float, float]], **look: Any) -> None:  # noqa: ANN401 - what matplotlib takes
    """Shade stretches of time over the whole height."""
    if spans_s:
        bars = [(first, last - first) for first, last in spans_s]
        axes.broken_barh(bars, (0.0, 1.0), transform=axes.get_xaxis_transform(), linewidth=0.0, zorder=0.5, **look)


def _number(axes: Axes, rep: RepRow) -> None:
    """Write the number of a valid rep above it, with a star if it is flagged."""
    axes.text(
        (rep.start_s + rep.end_s) / 2.0,
        0.985,
        str(rep.rep) + ("*" if rep.reasons else ""),
        ha="center",
        va="top",
        fontsize=8.0,
        color="#333333",
        transform=axes.get_xaxis_transform(),
    )


class Label(NamedTuple):
    """A reason, written beside what it is about."""

    at_s: float
    text: str


def _labels(row: Row, row_s: float) -> Iterator[Label]:
    """Name reasons: of each rejected excursion, and of those that follow each other closely once together."""
    apart_s = _LABEL_S * row_s
    waiting: list[RepRow] = []
    for rep in (*row.reps, None):
        joins = (
            rep is not None
            and waiting
            and not rep.valid
            and rep.reasons == waiting[-1].reasons
            and _middle(rep) - _middle(waiting[-1]) < apart_s
        )
        if waiting and not joins:
            many = f"{len(waiting)} x " if len(waiting) > 1 else ""
            at_s = (_middle(waiting[0]) + _middle(waiting[-1])) / 2.0
            yield Label(at_s, many + "\n".join(waiting[0].reasons))
            waiting = []
        if rep is not None and not rep.valid:
            waiting.append(rep)


def _middle(rep: RepRow) -> float:
    return (rep.start_s + rep.end_s) / 2.0


def _panel(sheet: Sheet, top_in: float, analysis: Analysis) -> None:
    """Draw what tells of fatigue: velocity loss where the patient was fast, tempo and range where he was paced."""
    height_in = PANEL_IN - 0.25 - FOOT_IN
    valid = [rep for rep in analysis.reps if rep.valid]
    if any(rep.velocity_loss_pct is not None for rep in valid):
        _losses(sheet.axes(top_in, height_in), valid)
    else:
        _tempo(sheet.axes(top_in, height_in, (0.0, 0.46)), valid, analysis)
        _ranges(sheet.axes(top_in, height_in, (0.54, 1.0)), valid, analysis)


def _places(axes: Axes, reps: Sequence[RepRow]) -> FloatArray:
    """Put reps side by side, with a place free between sets, and name them."""
    sets = [rep.set for rep in reps]
    breaks = np.concatenate(([0], np.cumsum(np.diff(sets) != 0)))
    x: FloatArray = (np.arange(len(reps)) + breaks).astype(np.float64)
    every = max(1, round(len(reps) / 40))
    named = [at for at, rep in enumerate(reps) if (rep.rep - 1) % every == 0]
    axes.set_xticks(x[named], [str(reps[at].rep) for at in named])
    axes.set_xlim(-0.8, max(float(x[-1]) + 0.8, FEWEST_PLACES))
    if len(set(sets)) > 1:
        for number in dict.fromkeys(sets):
            mine = x[[at for at, one in enumerate(sets) if one == number]]
            axes.text(
                (mine[0] + mine[-1]) / 2.0,
                -0.17,
                f"set {number}",
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="top",
            )
    axes.set_xlabel("repetition", loc="right", labelpad=1.0)
    axes.tick_params(labelsize=8, length=2.5)
    return x


def _losses(axes: Axes, reps: Sequence[RepRow]) -> None:
    x = _places(axes, reps)
    loss, robust = (
        np.array([np.nan if value is None else value for value in column])
        for column in ([rep.velocity_loss_online_pct for rep in reps], [rep.velocity_loss_robust_pct for rep in reps])
    )
    axes.bar(x, loss, width=0.7, color="#9db7d5", label="against the fastest so far")
    axes.plot(
        x, robust, color=POSITION, marker="o", markersize=3.5, linewidth=1.0,
        label="VL3, against the mean of the three fastest so far: decides",
    )  # fmt: skip
    _threshold(axes, policy.DEFAULT.vl_amber_pct, AMBER, "amber")
    _threshold(axes, policy.DEFAULT.vl_stop_pct, STOP, "stop")
    top = max(float(np.nanmax(loss, initial=0.0)), policy.DEFAULT.vl_stop_pct)
    axes.set_ylim(min(0.0, float(np.nanmin(robust, initial=0.0)) - 1.0), 1.08 * top)
    axes.set_ylabel("velocity loss\n%")
    _name_above(axes)


def _name_above(axes: Axes) -> None:
    """Put the legend between the axes and what stands above, where it covers nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.1,
        frameon=False,
        fontsize=8.5,
        ncols=3,
        borderpad=0.1,
    )


def _threshold(axes: Axes, at: float, color: str, name: str) -> None:
    axes.axhline(at, color=color, linewidth=1.0, linestyle=(0, (5, 3)))
    axes.text(
        1.004,
        at,
        f"{name} {at:g}",
        color=color,
        fontsize=8.0,
        ha="left",
        va="center",
        transform=axes.get_yaxis_transform(),
    )


def _tempo(axes: Axes, reps: Sequence[RepRow], analysis: Analysis) -> None:
    x = _places(axes, reps)
    asked = analysis.recording.tempo
    series = (
        ("concentric", "concentric_time_s", "#3f8f52", "o", 0),
        ("hold", "top_hold_time_s", "#b08d00", "s", 1),
        ("eccentric", "eccentric_time_s", "#2f6db5", "^", 2),
    )
    top = 0.0
    for name, metric, color, marker, at in series:
        values = np.array([rep.values[metric] for rep in reps])
        top = max(top, float(values.max()), asked[at] if asked else 0.0)
        label = name + (f", prescribed {asked[at]:g} s" if asked else "")
        axes.plot(x, values, color=color, marker=marker, markersize=3.5, linewidth=1.0, label=label)
        if asked is not None and asked[at] > 0.0:
            axes.axhline(asked[at], color=color, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.set_ylim(0.0, 1.08 * top)
    axes.set_ylabel("tempo\ns")
    _name_above(axes)


def _ranges(axes: Axes, reps: Sequence[RepRow], analysis: Analysis) -> None:
    x = _places(axes, reps)
    if all("rom_completeness_pct" in rep.values for rep in reps):
        values = np.array([rep.values["rom_completeness_pct"] for rep in reps])
        axes.set_ylabel("range\n% of the window")
        _threshold(axes, policy.DEFAULT.rom_amber_pct, AMBER, "amber")
        _threshold(axes, PARTIAL_PCT, STOP, "partial")
    else:
        unit, factor = WINDOW_UNITS[analysis.recording.position_unit]
        values = np.array([rep.values["range_of_motion"] * factor for rep in reps])
        axes.set_ylabel(f"range\n{unit}")
    axes.bar(x, values, width=0.7, color="#9db7d5")
    axes.set_ylim(0.0, 1.15 * float(values.max()))
