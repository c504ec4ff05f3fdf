"""Muscles: the machine catalogue. Which groups an exercise trains, what is balanced against what, which norm holds.

It is data: `streams/machines.toml`, or the file that a clinic names. Ids and metrics are those of science.md 6.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streams.core.errors import Malformed
from streams.core.limits import Name
from streams.core.strength import TYPICAL_ERROR_PCT

BalanceMetric = Literal["ef", "si", "ratio", "pull_push"]
Mode = Literal["concentric", "eccentric", "isometric"]
Posture = Literal["sitting", "kneeling", "standing", "lying"]

MAX_ROWS = 64
"""Exercises, groups, pairs or norms of one file; a clinic has a dozen machines."""

TypicalError = Annotated[float, Meta(ge=1.0, le=30.0, description="Percent.")]
Ratio = Annotated[float, Meta(gt=0.0, le=20.0)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A muscle group: where it lies and what it does. For people; no machine measures one."""

    place: Text
    action: Text


class Exercise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an exercise trains, how, and how much its strength values scatter from day to day, in percent."""

    muscles: tuple[Name, ...]
    assisting: tuple[Name, ...] = ()
    note: Text | None = None
    mode: Mode = "concentric"
    typical_error_pct: TypicalError | None = None


class Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two exercises that are balanced against each other, or (`si`) the two sides of one.

    `weekly_work_min` is the least work of `a` over that of `b` within 7 days.
    """

    id: Name
    metric: BalanceMetric
    a: Name
    b: Name
    weekly_work_min: Ratio | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be compared."""
        if (self.metric == "si") != (self.a == self.b):
            wanted = "the sides of one exercise" if self.metric == "si" else "two exercises"
            raise ValueError(f"{self.id}: {self.metric} compares {wanted}, not {self.a} and {self.b}")


class Norm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mean and deviation of a pair's ratio in one posture, and the machine models for which they hold."""

    pair: Name
    posture: Posture
    models: tuple[Name, ...]
    mean: Ratio
    sd: Ratio
    source: Text


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a machine file says."""

    groups: Annotated[dict[Name, Group], Meta(max_length=MAX_ROWS)] = {}
    exercises: Annotated[dict[Name, Exercise], Meta(max_length=MAX_ROWS)] = {}
    pairs: Annotated[tuple[Pair, ...], Meta(max_length=MAX_ROWS)] = ()
    norms: Annotated[tuple[Norm, ...], Meta(max_length=MAX_ROWS)] = ()

    def __post_init__(self) -> None:
        """Refuse names that lead nowhere, and what stands there twice."""
        for name, exercise in self.exercises.items():
            for muscle in (*exercise.muscles, *exercise.assisting):
                _must_know(muscle, self.groups, f"exercises.{name}: no group")
        for pair in self.pairs:
            for exercise_name in (pair.a, pair.b):
                _must_know(exercise_name, self.exercises, f"pairs.{pair.id}: no exercise")
        pairs = [pair.id for pair in self.pairs]
        for norm in self.norms:
            _must_know(norm.pair, pairs, "norms: no pair")
        _must_differ(pairs, "pairs: twice")
        _must_differ([f"{norm.pair} of {model}" for norm in self.norms for model in norm.models], "norms: twice")


def _must_know(name: str, known: Mapping[str, object] | list[str], otherwise: str) -> None:
    if name not in known:
        raise ValueError(f"{otherwise} {name!r}")


def _must_differ(names: list[str], otherwise: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{otherwise} {twice[0]!r}")


NONE = Catalogue()
"""No machine is known: nothing is balanced against anything."""


def read(text: bytes) -> Catalogue:
    """Read a machine file (TOML). Raises Malformed naming the key.

    Examples
    --------
    >>> read(b'exercises.leg_press = {muscles = [], typical_error_pct = 4.5}').exercises["leg_press"].typical_error_pct
    4.5
    """
    try:
        return msgspec.toml.decode(text, type=Catalogue)
    except (ValueError, RecursionError) as error:
        raise Malformed("bad_machines", str(error)) from error


def pairs_of(machines: Catalogue, exercise: str) -> tuple[Pair, ...]:
    """Return the pairs in which an exercise takes part."""
    return tuple(pair for pair in machines.pairs if exercise in {pair.a, pair.b})


def norm_of(machines: Catalogue, pair: str, model: str) -> Norm | None:
    """Return the norm of a pair on a machine model; None (`no_norm`) where the file has no entry."""
    return next((norm for norm in machines.norms if norm.pair == pair and model in norm.models), None)


def typical_error_pct(machines: Catalogue, exercise: str, otherwise_pct: float) -> float:
    """Return how much strength values of an exercise scatter from day to day, in percent.

    Parameters
    ----------
    machines : Catalogue
        What is known of machines.
    exercise : str
        The exercise.
    otherwise_pct : float
        Typical error in percent of concentric strength where the file says nothing.

    Examples
    --------
    >>> typical_error_pct(NONE, "leg_press", 6.0)
    6.0
    """
    row = machines.exercises.get(exercise)
    if row is None:
        return otherwise_pct
    of_mode_pct = otherwise_pct if row.mode == "concentric" else TYPICAL_ERROR_PCT[row.mode]
    return row.typical_error_pct or of_mode_pct
