"""Learning: what a session's accepted reps are like, for later sessions to be judged by. Warm-up is not accepted."""

from collections.abc import Sequence
from statistics import median

import msgspec
from msgspec.structs import replace

from streams.core import similarity
from streams.core.baseline import Baseline, Moments, is_comparable
from streams.core.measure import Measured
from streams.core.sets import RepNote

MAX_CURVES = 9
"""Curves that are kept for their point-wise median: the first ones, when the patient is fresh. An odd number, so that
each point of the median is one that was measured."""

MAX_VALUES = 100
"""Ranges and symmetry indices of a session that are kept for their median; three sets of 30 reps fit."""


class Learned(msgspec.Struct, frozen=True, array_like=True):
    """What was learned so far. `load_N`, `concentric_s` and `first_corrected` are those of the first accepted rep.

    Range, steadiness, tremor, peak and curves are of reps in its load band and tempo, whose force is corrected as its
    is; `symmetries_pct` are of all accepted reps, and `symmetry_why` says why the first of the others has none.
    `corrected` says whether gravity was taken out of the force of each; if it was of some only, `best_force` and
    `torque_by_bin` are of the others.
    """

    load_N: float | None = None
    concentric_s: float | None = None
    ranges: tuple[float, ...] = ()
    steadiness: Moments = Moments()
    tremor: Moments = Moments()
    peak_force: float | None = None
    curves: tuple[bytes, ...] = ()
    best_force: float | None = None
    torque_by_bin: tuple[float | None, ...] | None = None
    symmetries_pct: tuple[float, ...] = ()
    corrected: bool | None = None
    first_corrected: bool | None = None
    symmetry_why: str | None = None
    tremor_velocity: Moments = Moments()


def with_rep(learned: Learned, note: RepNote, measured: Measured, load_N: float, concentric_s: float | None) -> Learned:
    """Learn from a rep, if it is accepted, done at a load in N or N m and a prescribed concentric time in s."""
    if not note.accepted:
        return learned
    if learned.corrected is None or (learned.corrected and not note.corrected):
        learned = replace(learned, corrected=note.corrected, best_force=None, torque_by_bin=None)
    symmetry_pct = measured.values.get("symmetry_index_pct")
    if symmetry_pct is not None:
        learned = replace(learned, symmetries_pct=(*learned.symmetries_pct, symmetry_pct)[-MAX_VALUES:])
    elif learned.symmetry_why is None:
        learned = replace(learned, symmetry_why=measured.undefined.get("symmetry_index_pct"))
    if note.corrected == learned.corrected:
        learned = replace(
            learned,
            best_force=_larger(learned.best_force, note.peak_force),
            torque_by_bin=best_of_each(learned.torque_by_bin, measured.torque_by_bin),
        )
    first = _first(learned)
    now = Baseline(load_N=load_N, concentric_s=concentric_s, corrected=note.corrected)
    if first is not None and not is_comparable(first, now):
        return learned
    kept = learned.curves
    if measured.curve is not None and len(kept) < MAX_CURVES:
        kept = (*kept, measured.curve)
    return replace(
        learned,
        load_N=load_N if first is None else first.load_N,
        concentric_s=concentric_s if first is None else first.concentric_s,
        ranges=learned.ranges
        if note.range_of_motion is None
        else (*learned.ranges, note.range_of_motion)[-MAX_VALUES:],
        steadiness=_with(learned.steadiness, note.steadiness_pct),
        tremor=_with(learned.tremor, note.tremor_pct),
        peak_force=_larger(learned.peak_force, note.peak_force),
        curves=kept,
        first_corrected=note.corrected if first is None else first.corrected,
        tremor_velocity=_with(learned.tremor_velocity, note.tremor_velocity_pct),
    )


def baseline(learned: Learned) -> Baseline | None:
    """Return what was learned in the form in which it is kept; None without an accepted rep.

    Examples
    --------
    >>> baseline(Learned(load_N=400.0, ranges=(0.51, 0.50, 0.55))).ranges
    (0.51,)
    """
    if learned.load_N is None:
        return None
    return Baseline(
        load_N=learned.load_N,
        concentric_s=learned.concentric_s,
        ranges=(round(median(learned.ranges), 5),) if learned.ranges else (),
        steadiness=learned.steadiness,
        tremor=learned.tremor,
        peak_force=learned.peak_force,
        curve=_own_curve(learned.curves),
        corrected=learned.first_corrected,
        tremor_velocity=learned.tremor_velocity,
    )


def _own_curve(stored: Sequence[bytes]) -> bytes | None:
    """Return the point-wise median of five curves or more, as it is stored."""
    read = [curve for one in stored if (curve := similarity.from_bytes(one)) is not None]
    reference = similarity.reference_curve(read)
    return None if reference is None else similarity.to_bytes(reference)


def best_of_each(
    one: Sequence[float | None] | None, other: Sequence[float | None] | None
) -> tuple[float | None, ...] | None:
    """Return the larger value of each bin, None where neither has one.

    Examples
    --------
    >>> best_of_each((100.0, None, 80.0), (90.0, None, 95.0))
    (100.0, None, 95.0)
    >>> best_of_each(None, (90.0,))
    (90.0,)
    """
    if one is None or other is None:
        left = one if other is None else other
        return None if left is None else tuple(left)
    return tuple(_larger(mine, its) for mine, its in zip(one, other, strict=True))


def _first(learned: Learned) -> Baseline | None:
    if learned.load_N is None:
        return None
    return Baseline(load_N=learned.load_N, concentric_s=learned.concentric_s, corrected=learned.first_corrected)


def _with(moments: Moments, value: float | None) -> Moments:
    return moments if value is None else moments.with_one(value)


def _larger(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
