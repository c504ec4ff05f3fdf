"""Tables: an analysis for a person, in mm or degrees: what was recorded, the reps, the sets, what is odd."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from spineloop.analyse import About, Analysis, RepRow, SetRow
from streams.core.catalogue import OF_SETS_AND_SESSIONS, Metric
from streams.core.oddities import Notice
from streams.core.telemetry import PositionUnit


def table(analysis: Analysis) -> RenderableType:
    """Draw an analysis for a person: what was recorded, the reps, the sets, the notices."""
    parts: list[RenderableType] = [_headline(analysis.recording)]
    if analysis.reps:
        parts.append(_table_of_reps(analysis))
    if any(one.reps for one in analysis.sets):
        parts.append(_table_of_sets(analysis))
    if analysis.notices:
        parts.append(_table_of_notices(analysis.notices))
    return Group(*parts)


def _headline(about: About) -> str:
    load = "load unknown" if about.load_N is None else f"{about.load_N:g} {_unit('N|N m', about.position_unit)}"
    jitter = f", stamps up to {about.jitter_ms:.0f} ms off" if about.jitter_ms >= 1.0 else ""
    return (
        f"{Path(about.file).name}: {about.duration_s:.1f} s, {about.rows} rows at {about.fs_hz:g} Hz{jitter}; "
        f"{about.exercise}, intent {about.intent}, {load}"
    )


def _unit(units: str, position_unit: PositionUnit) -> str:
    """Choose the unit that goes with the machine's positions.

    Examples
    --------
    >>> _unit("N|N m", "rad"), _unit("%", "m")
    ('N m', '%')
    """
    linear, _, angular = units.partition("|")
    return angular if angular and position_unit == "rad" else linear


class Column(NamedTuple):
    """One column of the table of reps: metric, heading, factor and decimals; unit and factor of rad machines."""

    name: str
    heading: str
    units: tuple[str, str]
    factors: tuple[float, float]
    decimals: tuple[int, int]


_DEG = 180.0 / np.pi
_SAME = (1.0, 1.0)
# fmt: off
COLUMNS: tuple[Column, ...] = (
    Column("range_of_motion", "ROM", ("mm", "deg"), (1e3, _DEG), (0, 1)),
    Column("rom_completeness_pct", "of window", ("%", "%"), _SAME, (0, 0)),
    Column("concentric_time_s", "con", ("s", "s"), _SAME, (2, 2)),
    Column("top_hold_time_s", "hold", ("s", "s"), _SAME, (2, 2)),
    Column("eccentric_time_s", "ecc", ("s", "s"), _SAME, (2, 2)),
    Column("mean_velocity", "MV", ("m/s", "deg/s"), (1.0, _DEG), (3, 1)),
    Column("peak_force", "peak", ("N", "N m"), _SAME, (0, 0)),
    Column("concentric_work_J", "work", ("J", "J"), _SAME, (1, 1)),
    Column("sparc_concentric", "SPARC", ("", ""), _SAME, (2, 2)),
    Column("ldlj_concentric", "LDLJ", ("", ""), _SAME, (2, 2)),
)
# fmt: on
"""What the table shows of a rep; JSON and CSV have everything."""


def _table_of_reps(analysis: Analysis) -> Table:
    is_angular = analysis.recording.position_unit == "rad"
    known = {name for rep in analysis.reps for name in rep.values}
    shown = [column for column in COLUMNS if column.name in known]
    has_losses = any(rep.velocity_loss_pct is not None for rep in analysis.reps)
    has_sides = len({rep.side for rep in analysis.reps}) > 1
    drawn = Table(title="repetitions", title_justify="left")
    for heading in ("set", "rep", "start\ns"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    if has_sides:
        drawn.add_column("side", no_wrap=True)
    for column in shown:
        drawn.add_column(f"{column.heading}\n{column.units[is_angular]}", justify="right", no_wrap=True)
    if has_losses:
        drawn.add_column("loss\n%", justify="right", no_wrap=True)
        drawn.add_column("VL3\n%", justify="right", no_wrap=True)
    drawn.add_column("verdict", overflow="fold")
    for rep in analysis.reps:
        cells = [str(rep.set), str(rep.rep), f"{rep.start_s:.2f}"] + [rep.side] * has_sides
        cells += [
            _shown(rep.values.get(each.name), each.factors[is_angular], each.decimals[is_angular]) for each in shown
        ]
        if has_losses:
            cells += [_shown(rep.velocity_loss_pct, 1.0, 1), _shown(rep.velocity_loss_robust_pct, 1.0, 1)]
        drawn.add_row(*cells, _verdict(rep), style=None if rep.valid else "red")
    return drawn


def _shown(value: float | None, factor: float, decimals: int) -> str:
    return "-" if value is None else f"{round(value * factor, decimals) + 0.0:.{decimals}f}"  # no -0.0


def _verdict(rep: RepRow) -> str:
    word = "accepted" if rep.accepted else "flagged" if rep.valid else "rejected"
    return f"{word}: {', '.join(rep.reasons)}" if rep.reasons else word


def _table_of_sets(analysis: Analysis) -> Table:
    sets = [one for one in analysis.sets if one.reps]
    has_sides = len({one.side for one in sets}) > 1
    unit = analysis.recording.position_unit
    drawn = Table(title="sets", title_justify="left")
    drawn.add_column("what", no_wrap=True)
    for one in sets:
        drawn.add_column(f"set {one.set}" + (f"\n{one.side}" if has_sides else ""), justify="right", no_wrap=True)
    drawn.add_column("definition", min_width=30, overflow="fold")
    drawn.add_row(
        "reps", *(f"{one.valid_reps}, {one.accepted_reps}, {one.reps}" for one in sets), "valid, accepted, all"
    )
    drawn.add_row(f"window, {WINDOW_UNITS[unit][0]}", *(_window(one, unit) for one in sets), _judged_by(sets))
    for row in OF_SETS_AND_SESSIONS:
        if row.level == "set" and any(row.name in one.values for one in sets):
            cells = (_reading(one.values.get(row.name), one.undefined.get(row.name)) for one in sets)
            drawn.add_row(_labelled(row, unit), *cells, row.formula)
    return drawn


WINDOW_UNITS: Mapping[PositionUnit, tuple[str, float]] = {"m": ("mm", 1e3), "rad": ("deg", _DEG)}
"""How positions are shown: unit and factor."""


def _window(one: SetRow, unit: PositionUnit) -> str:
    lo, hi = (f"{end * WINDOW_UNITS[unit][1]:.0f}" for end in one.window)
    return f"{lo} to {hi}"


def _judged_by(sets: Sequence[SetRow]) -> str:
    return "prescribed" if sets[0].window_is_prescribed else "smallest and largest position of the set"


def _labelled(row: Metric, position_unit: PositionUnit) -> str:
    """Name a metric with its unit once.

    Examples
    --------
    >>> _labelled(OF_SETS_AND_SESSIONS[0], "rad"), _labelled(OF_SETS_AND_SESSIONS[1], "rad")
    ('best mean velocity, rad/s', 'velocity loss, %')
    """
    unit = _unit(row.unit, position_unit)
    name = row.name.removesuffix("_pct").removesuffix(f"_{unit}").replace("_", " ")
    return name if unit in {"", "-"} else f"{name}, {unit}"


def _reading(value: float | None, reason: str | None) -> str:
    return reason or "-" if value is None else f"{value:.4g}"


def _table_of_notices(notices: Iterable[Notice]) -> Table:
    drawn = Table(title="notices", title_justify="left")
    drawn.add_column("what", no_wrap=True)
    drawn.add_column("set", justify="right")
    drawn.add_column("detail", overflow="fold")
    for notice in notices:
        drawn.add_row(notice.name, str(notice.set_number or ""), notice.detail)
    return drawn
