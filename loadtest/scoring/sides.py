"""Sides: patients one of whose sides is stronger, seen rep by rep by two load cells, and by the planner in time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec
import numpy as np
from numpy.random import Generator

from loadtest.exercise import EXERCISES
from loadtest.lifting import FORCE_SCALE_N, counts
from loadtest.movement import FloatArray, Movement, rep_signal
from loadtest.scoring.clinic import START_MS, Clinic, commands, metrics, prepared
from loadtest.scoring.motion import FORCE_NOISE
from loadtest.scoring.table import Limit, Row, median, percentile, share_pct
from streams.core.controller import Arrival, Controller
from streams.core.records import NewRecord
from streams.core.results import RepMeasured
from streams.core.telemetry import Prescription, Rep, Side

ASYMMETRIES_PCT = (0.0, 10.0, 20.0, 30.0)
SESSIONS, REPS = 3, 4
DAYS = 2.0
TYPICAL_ERROR = 0.06
"""By how much the strength of a side differs from one session to the next, as a share (science.md 9)."""

RULE = "side_balance"

WAYS = ("two cells", "side by side")
"""Both sides at once with a load cell each, or one session for each side."""


class Found(msgspec.Struct, frozen=True):
    """Errors of the index in points, rep by rep, and for each way and asymmetry how many runs the rule held in."""

    errors: tuple[float, ...] = ()
    runs: dict[str, int] = {}
    held: dict[str, int] = {}

    def merged(self, other: "Found") -> "Found":
        """Add what other patients showed."""
        return Found(self.errors + other.errors, _sum(self.runs, other.runs), _sum(self.held, other.held))


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in dict.fromkeys((*one, *other))}


class _Session(msgspec.Struct, frozen=True):
    """One session: the side, what is ordered for it, its reps, and the true index if both sides are seen at once."""

    side: Side
    ordered: Prescription
    reps: list[Rep]
    index_pct: float | None


class _Run(msgspec.Struct, frozen=True):
    """Sessions that are about to be done, one after the other: the clinic, the true index of each, the reps of each."""

    name: str
    clinic: Clinic
    sessions: list[_Session]


def score(seed: int, patients: Iterable[int]) -> Found:
    """Score some patients, each with every asymmetry and both ways; each has dice of its own."""
    runs = []
    for patient in patients:
        rng = np.random.default_rng([seed, 5, patient])
        for size_pct in ASYMMETRIES_PCT:
            signed_pct = size_pct * float(rng.choice((-1.0, 1.0)))
            two, each = (name_of(way, size_pct) for way in WAYS)
            runs += [_with_two_cells(two, signed_pct, rng), _side_by_side(each, signed_pct, rng)]
    reps = [rep for run in runs for session in run.sessions for rep in session.reps]
    items = iter(prepared(Controller(), reps, START_MS))
    errors: list[float] = []
    held = dict.fromkeys((run.name for run in runs), 0)
    for run in runs:
        held[run.name] += _is_found(run, items, errors)
    return Found(tuple(errors), dict(Counter(run.name for run in runs)), held)


def _is_found(run: _Run, items: Iterator[Arrival], errors: list[float]) -> bool:
    """Do all sessions, and tell whether the plans after them show the rule; note how wrong each index was."""
    clinic = run.clinic
    for session in run.sessions:
        clinic.side, clinic.prescription = session.side, session.ordered
        clinic.begin(days=DAYS)
        arrivals = [clinic.retold(item) for item in islice(items, len(session.reps))]
        said = metrics(record for item in arrivals for record in clinic.take(item))
        if session.index_pct is not None:
            told = [one.values.get("symmetry_index_pct", np.inf) for one in said if isinstance(one, RepMeasured)]
            errors += [abs(seen - session.index_pct) for seen in told]
        clinic.end_set(rpe=5)
        clinic.end()
    is_found = False
    for side, ordered in {session.side: session.ordered for session in run.sessions}.items():
        clinic.side, clinic.prescription = side, ordered
        is_found |= holds(clinic.begin(days=DAYS))
    return is_found


def name_of(way: str, size_pct: float) -> str:
    """Name one kind of run.

    Examples
    --------
    >>> name_of("two cells", 10.0)
    'two cells/10'
    """
    return f"{way}/{size_pct:g}"


def _prescription(name: str, load_N: float) -> Prescription:
    lo, hi = EXERCISES[name].window
    return Prescription(id="p", load_N=load_N, window_lo=lo, window_hi=hi, eccentric_s=1.5, reps=REPS, sets=1)


def _movement(clinic: Clinic, force_N: float, rng: Generator) -> Movement:
    lo, hi = clinic.exercise.window
    return Movement(
        start=lo,
        rom=hi - lo,
        concentric_s=float(rng.uniform(0.9, 1.1)),
        hold_s=0.3,
        eccentric_s=1.5,
        load_N=force_N,
        inertia=force_N * clinic.exercise.inertia_s2,
        tremor=0.005,
        late=float(rng.uniform(-0.5, 0.5)),
    )


def _with_two_cells(name: str, signed_pct: float, rng: Generator) -> _Run:
    """Do three sessions on a machine with a load cell for each side."""
    exercise = ("seated_row", "chest_press")[int(rng.integers(2))]
    load_N = 0.5 * EXERCISES[exercise].strength_N
    ordered = _prescription(exercise, load_N)
    clinic = Clinic(EXERCISES[exercise], "max", ordered)
    clinic.open()
    ahead = clinic.copy()  # what is measured ahead gets its place later
    scale_N = clinic.exercise.force_sign * FORCE_SCALE_N
    sessions = []
    for _ in range(SESSIONS):
        left, right = sides(signed_pct, rng)
        reps = []
        for _ in range(REPS):
            seen = rep_signal(_movement(clinic, load_N, rng), rng)
            two = [counts(_cell(seen.force * one / (left + right), load_N, rng), scale_N) for one in (left, right)]
            reps.append(ahead.rep(seen, load_N, force_left=two[0], force_right=two[1]))
        sessions.append(_Session("both", ordered, reps, 200.0 * (right - left) / (right + left)))
    return _Run(name, clinic, sessions)


def _cell(force: FloatArray, load_N: float, rng: Generator) -> FloatArray:
    noisy: FloatArray = force + 0.5 * FORCE_NOISE * load_N * rng.standard_normal(len(force))
    return noisy


def _side_by_side(name: str, signed_pct: float, rng: Generator) -> _Run:
    """Do three sessions of each side on a machine for one side."""
    exercise = EXERCISES["torso_rotation"]
    load_N = 0.5 * exercise.strength_N
    usual: dict[Side, float] = {"left": 1.0 - signed_pct / 200.0, "right": 1.0 + signed_pct / 200.0}
    ordered = {side: _prescription(exercise.name, load_N * share) for side, share in usual.items()}
    clinic = Clinic(exercise, "max", ordered["left"])
    for side, prescription in ordered.items():
        clinic.side, clinic.prescription = side, prescription
        clinic.open()
    ahead = clinic.copy()  # what is measured ahead gets its place later
    sessions = []
    for _ in range(SESSIONS):
        for side, share in zip(usual, sides(signed_pct, rng), strict=True):
            force_N = load_N * share
            reps = [ahead.rep(rep_signal(_movement(clinic, force_N, rng), rng), force_N) for _ in range(REPS)]
            sessions.append(_Session(side, ordered[side], reps, None))
    return _Run(name, clinic, sessions)


def sides(signed_pct: float, rng: Generator) -> tuple[float, float]:
    """Draw the strength of left and right in one session, as shares of their mean.

    Examples
    --------
    >>> left, right = np.mean([sides(20.0, np.random.default_rng(n)) for n in range(2_000)], axis=0)
    >>> round(float(left), 2), round(float(right), 2)
    (0.9, 1.1)
    """
    left, right = 1.0 - signed_pct / 200.0, 1.0 + signed_pct / 200.0
    noise = rng.standard_normal(2)
    return left * (1.0 + TYPICAL_ERROR * float(noise[0])), right * (1.0 + TYPICAL_ERROR * float(noise[1]))


def holds(said: Sequence[NewRecord]) -> bool:
    """Tell whether the rule named a plan, or was also true of it."""
    return any(
        command.rule == RULE or any(one.name == "also_true" and one.value == RULE for one in command.evidence)
        for command in commands(said)
    )


def rows(found: Found) -> list[Row]:
    """Put it into the table."""
    told = [
        Row(
            what="symmetry index error",
            unit="points",
            seen=percentile(found.errors, 95.0),
            cases=len(found.errors),
            beside={
                name: round(value, 4)
                for name, value in {"median": median(found.errors), "largest": max(found.errors, default=None)}.items()
                if value is not None
            },
            footnote="l",
        )
    ]
    for size_pct in ASYMMETRIES_PCT:
        names = [name_of(way, size_pct) for way in WAYS]
        runs, held = (sum(each.get(name, 0) for name in names) for each in (found.runs, found.held))
        by_way = {way: share_pct(found.held.get(name, 0), found.runs.get(name, 0)) for way, name in zip(WAYS, names,
                  strict=True)}  # fmt: skip
        is_none = not size_pct
        has_rule = any(found.held.values())  # of one that never holds nobody can say that it raises no false alarm
        told.append(
            Row(
                what="balanced sides: false alarms" if is_none else f"asymmetry of {size_pct:g} % found in 3 sessions",
                unit="%",
                seen=share_pct(held, runs) if has_rule or not is_none else None,
                limit=Limit("<", 0.1) if is_none else None,
                cases=runs,
                beside={way: round(value, 2) for way, value in by_way.items() if value is not None},
                footnote="m",
            )
        )
    return told
