"""Analyse: every repetition of a recording in numbers, every set, and whatever is odd about it."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from spineloop import retold
from spineloop.retold import Heard
from streams.core import excursions, fatigue
from streams.core.catalogue import OF_REPS, metric
from streams.core.excursions import Cut, Cuts, SetRange
from streams.core.measure import Measured, is_accepted
from streams.core.oddities import Notice
from streams.core.ragged import FloatArray
from streams.core.recording import Columns, Protocol
from streams.core.reps import NOT_MEASURED
from streams.core.results import SetSummarised
from streams.core.telemetry import Intent, PositionUnit, Side


class RepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One excursion in numbers, in the units of the catalogue; times in s of the recording.

    `phases_s` are concentric start and end, eccentric start and end of a valid rep. Of the losses, `velocity_loss_pct`
    is that against the fastest of the whole set, `..._online_pct` against the fastest so far, and `..._robust_pct`
    against the mean of the three fastest so far, which decides (science.md 3.6).
    """

    set: int
    rep: int
    side: Side
    start_s: float
    end_s: float
    valid: bool
    accepted: bool
    reasons: tuple[str, ...]
    phases_s: tuple[float, float, float, float] | None
    velocity_loss_pct: float | None
    velocity_loss_online_pct: float | None
    velocity_loss_robust_pct: float | None
    values: Mapping[str, float]
    undefined: Mapping[str, str]


class SetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One set of one side: counts, the window in m or rad that it was judged by, and the controller's summary."""

    set: int
    side: Side
    start_s: float
    end_s: float
    window: tuple[float, float]
    window_is_prescribed: bool
    reps: int
    valid_reps: int
    accepted_reps: int
    reasons: Mapping[str, int]
    values: Mapping[str, float]
    undefined: Mapping[str, str]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded, and how it was read."""

    file: str
    rows: int
    duration_s: float
    fs_hz: float
    jitter_ms: float
    missing_samples: int
    position_unit: PositionUnit
    exercise: str
    intent: Intent
    load_N: float | None
    concentric_sign: int
    force_sign: int
    tempo: tuple[float, float, float] | None


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a recording."""

    reps: list[RepRow]
    sets: list[SetRow]
    notices: list[Notice]
    recording: About


def analyse(file: str, columns: Columns, protocol: Protocol) -> tuple[Analysis, Cuts]:
    """Analyse a recording; the cuts are for who draws or plays it. Raises WrongRecording."""
    cuts = excursions.cut(columns, protocol)
    heard = {side: retold.heard(cuts, _of_side(cuts, side), protocol) for side in _sides(cuts)}
    reps = _reps(cuts, heard, protocol.intent)
    return Analysis(
        reps=reps,
        sets=_sets(cuts, reps, heard),
        notices=list(cuts.notices),
        recording=_about(file, columns, protocol, cuts),
    ), cuts


def of_set(analysis: Analysis, number: int) -> Analysis:
    """Keep one set. Raises ValueError where there is no such set."""
    known = sorted({one.set for one in analysis.sets})
    if number not in known:
        raise ValueError(f"there is no set {number}, only {', '.join(map(str, known)) or 'none'}")
    return msgspec.structs.replace(
        analysis,
        reps=[rep for rep in analysis.reps if rep.set == number],
        sets=[one for one in analysis.sets if one.set == number],
        notices=[notice for notice in analysis.notices if notice.set_number in {None, number}],
    )


def _about(file: str, columns: Columns, protocol: Protocol, cuts: Cuts) -> About:
    uniform = cuts.uniform
    position, force, _ = uniform.missing
    return About(
        file=file,
        rows=len(columns.t_s),
        duration_s=round(float(columns.t_s[-1] - columns.t_s[0]), 3),
        fs_hz=round(uniform.fs_hz, 4),
        jitter_ms=round(1e3 * uniform.clock.jitter_s, 3),
        missing_samples=int((position | (force & ~force.all())).sum()),
        position_unit=columns.position_unit,
        exercise=protocol.exercise,
        intent=protocol.intent,
        load_N=protocol.load_N,
        concentric_sign=protocol.concentric_sign,
        force_sign=protocol.force_sign,
        tempo=protocol.tempo,
    )


def _sides(cuts: Cuts) -> tuple[Side, ...]:
    """Return the sides that moved, in order of appearance; where nobody moved, no side did."""
    return tuple(dict.fromkeys(one.rep.side for one in cuts.reps)) or ("both",)


def _of_side(cuts: Cuts, side: Side) -> list[Cut]:
    return [one for one in cuts.reps if one.rep.side == side]


def _measured(one: Cut, heard: Mapping[Side, Heard]) -> Measured:
    """Return what the controller says of a rep; nothing of one that it could not be told."""
    said = heard[one.rep.side].reps.get((one.rep.set_number, one.rep.rep_number))
    if said is None:
        return NOT_MEASURED
    return Measured(said.valid, said.reasons, dict(said.values), dict(said.undefined))


def _reps(cuts: Cuts, heard: Mapping[Side, Heard], intent: Intent) -> list[RepRow]:
    t_s = cuts.uniform.t_s
    found = excursions.judged(cuts, [_measured(one, heard) for one in cuts.reps])
    losses = _losses(cuts.reps, found) if intent == "max" else [(None, None, None)] * len(found)
    return [
        RepRow(
            set=one.rep.set_number,
            rep=one.rep.rep_number,
            side=one.rep.side,
            start_s=round(float(t_s[marks[0]]) if measured.valid else one.start_s, 3),
            end_s=round(float(t_s[marks[3]]) if measured.valid else one.end_s, 3),
            valid=measured.valid,
            accepted=is_accepted(measured),
            reasons=measured.reasons,
            phases_s=_times(t_s, marks) if measured.valid else None,
            velocity_loss_pct=loss[0],
            velocity_loss_online_pct=loss[1],
            velocity_loss_robust_pct=loss[2],
            values=measured.values,
            undefined=measured.undefined,
        )
        for one, measured, marks, loss in zip(cuts.reps, found, excursions.limits(cuts), losses, strict=True)
    ]


def _times(t_s: FloatArray, marks: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    start, top, turn, end = (round(float(t_s[mark]), 3) for mark in marks)
    return start, top, turn, end


Losses = tuple[float | None, float | None, float | None]


def _losses(cuts: Sequence[Cut], found: Sequence[Measured]) -> list[Losses]:
    """Return the velocity losses of every rep: of the valid ones with a velocity, set by set and side by side."""
    losses: list[Losses] = [(None, None, None)] * len(found)
    places = [place for place, measured in enumerate(found) if "mean_velocity" in measured.values]
    series = sorted(places, key=lambda place: _series(cuts[place]))
    for _, same in groupby(series, key=lambda place: _series(cuts[place])):
        reps = list(same)
        velocities = [found[place].values["mean_velocity"] for place in reps]
        columns = (
            fatigue.velocity_loss(velocities),
            fatigue.velocity_loss_online(velocities),
            fatigue.velocity_loss_robust(velocities),
        )
        for place, post_hoc, online, robust in zip(reps, *columns, strict=True):
            losses[place] = (_rounded(post_hoc), _rounded(online), _rounded(robust))
    return losses


def _series(one: Cut) -> tuple[int, Side]:
    return one.rep.set_number, one.rep.side


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, metric("velocity_loss_pct", "set").decimals)


def _sets(cuts: Cuts, reps: Sequence[RepRow], heard: Mapping[Side, Heard]) -> list[SetRow]:
    """Summarise each set, each side by itself; a set in which nobody moved has no side of its own."""
    rows: list[SetRow] = []
    for side, said in heard.items():
        for one in cuts.sets:
            its = [rep for rep in reps if (rep.set, rep.side) == (one.number, side)]
            if its or not any(rep.set == one.number for rep in reps):
                rows.append(_set(one, side if its else "both", its, said.sets[one.number], cuts))
    return sorted({(row.set, row.side): row for row in rows}.values(), key=_order)


def _order(row: SetRow) -> tuple[int, Side]:
    return row.set, row.side


def _set(one: SetRange, side: Side, reps: Sequence[RepRow], summary: SetSummarised, cuts: Cuts) -> SetRow:
    t_s = cuts.uniform.t_s
    return SetRow(
        set=one.number,
        side=side,
        start_s=round(float(t_s[one.first]), 3),
        end_s=round(float(t_s[one.stop - 1]), 3),
        window=(round(one.lo, 6), round(one.hi, 6)),
        window_is_prescribed=cuts.has_window,
        reps=len(reps),
        valid_reps=sum(rep.valid for rep in reps),
        accepted_reps=sum(rep.accepted for rep in reps),
        reasons=dict(sorted(Counter(reason for rep in reps for reason in rep.reasons).items())),
        values=summary.values,
        undefined=summary.undefined,
    )


def as_json(analysis: Analysis) -> str:
    """Write an analysis as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(analysis), indent=2).decode()


def write_csv(analysis: Analysis, path: Path) -> None:
    """Write one row for each rep, in SI units; an empty cell is undefined. Raises OSError."""
    names = [row.name for row in OF_REPS]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_LEADING, *LOSSES, *names])
        for rep in analysis.reps:
            leading = (rep.set, rep.rep, rep.side, rep.start_s, rep.end_s, int(rep.valid), " ".join(rep.reasons))
            losses = (getattr(rep, name) for name in LOSSES)
            writer.writerow([*leading, *map(_cell, losses), *(_cell(rep.values.get(name)) for name in names)])


_LEADING = ("set", "rep", "side", "start_s", "end_s", "valid", "reasons")
LOSSES = ("velocity_loss_pct", "velocity_loss_online_pct", "velocity_loss_robust_pct")


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
