"""Accuracy: whole simulated sets on the wire, through the controller, against what was put in."""

import math
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
import numpy as np
from numpy.random import Generator

from loadtest.exercise import EXERCISES, Exercise
from loadtest.movement import Movement
from loadtest.patient import RANGE_NOISE, TEMPO_NOISE, VELOCITY_NOISE
from loadtest.scoring import losses
from loadtest.scoring.clinic import START_MS, Clinic, metrics, prepared
from loadtest.scoring.motion import Case, case
from loadtest.scoring.table import Limit, Row, median, percentile, share_pct
from streams.core.controller import Controller
from streams.core.results import RepMeasured, SetSummarised
from streams.core.telemetry import Intent, Prescription, Rep

SETS_EACH = 4
"""Sets of one patient: with and without context, as fast as possible and to a tempo."""

Errors = dict[str, list[float]]
"""Relative errors in percent, or of loss in points, by name and whether the message had context."""


class Found(msgspec.Struct, frozen=True):
    """What some sets showed: true repetitions, those that were missed, those that were invented, and all errors."""

    reps: int = 0
    missed: int = 0
    invented: int = 0
    half: int = 0
    half_flagged: int = 0
    errors: Errors = {}
    wrong: tuple[str, ...] = ()
    """Each message that was judged wrongly: its kind, and why it was refused if it was."""

    def merged(self, other: "Found") -> "Found":
        """Add what other sets showed."""
        names = dict.fromkeys((*self.errors, *other.errors))
        return Found(
            self.reps + other.reps,
            self.missed + other.missed,
            self.invented + other.invented,
            self.half + other.half,
            self.half_flagged + other.half_flagged,
            {name: [*self.errors.get(name, ()), *other.errors.get(name, ())] for name in names},
            (*self.wrong, *other.wrong),
        )


class _Plan(msgspec.Struct, frozen=True):
    """How the reps of one set are meant to be."""

    exercise: Exercise
    intent: Intent
    prescription: Prescription
    with_context: bool
    loss: float
    tremor: float


class _Set(msgspec.Struct, frozen=True):
    """A set that is about to be heard."""

    clinic: Clinic
    cases: list[Case]
    reps: list[Rep]
    with_context: bool


def score(seed: int, patients: Iterable[int]) -> Found:
    """Score some patients; each has dice of its own."""
    sets = []
    for patient in patients:
        rng = np.random.default_rng([seed, 1, patient])
        sets += [_set(_plan(number, rng), rng) for number in range(SETS_EACH)]
    items = iter(prepared(Controller(), [rep for each in sets for rep in each.reps], START_MS))
    found = Found()
    for each in sets:
        said = [record for item in list(islice(items, len(each.reps))) for record in each.clinic.take(item)]
        measured = [one for one in metrics(said) if isinstance(one, RepMeasured)]
        (summary,) = [one for one in metrics(each.clinic.end_set()) if isinstance(one, SetSummarised)]
        found = found.merged(compared(each.cases, measured, summary, with_context=each.with_context))
    return found


def _plan(number: int, rng: Generator) -> _Plan:
    exercise = list(EXERCISES.values())[int(rng.integers(len(EXERCISES)))]
    intent: Intent = "max" if number % 2 else "paced"
    lo, hi = exercise.window
    load_N = round(float(rng.uniform(0.3, 0.8)) * exercise.strength_N)
    holds, rests = (0.0, 0.3, 0.5, 1.0), (0.3, 0.5, 1.0)
    prescription = Prescription(
        id="p",
        load_N=float(load_N),
        window_lo=lo,
        window_hi=hi,
        concentric_s=float(rng.choice((1.5, 2.0, 3.0, 4.0))) if intent == "paced" else None,
        hold_s=float(rng.choice(holds if intent == "paced" else rests)),
        eccentric_s=float(rng.choice((1.5, 2.0, 3.0, 4.0))),
        reps=12,
    )
    return _Plan(
        exercise, intent, prescription, number >= 2, float(rng.uniform(0.0, 0.4)), float(rng.uniform(0.002, 0.012))
    )


def _movements(plan: _Plan, rng: Generator) -> list[Movement]:
    """Draw the reps of a set; velocity and tempo tire and vary, tremor grows with fatigue."""
    ordered, n = plan.prescription, int(rng.integers(8, 13))
    lo, hi = plan.exercise.window
    fresh_s = ordered.concentric_s or float(rng.uniform(0.7, 1.6))
    own = float(rng.uniform(0.93, 1.02))
    moved = []
    for tired in np.linspace(0.0, plan.loss, n):
        rom = (hi - lo) * own * (1.0 + RANGE_NOISE * float(rng.standard_normal()))
        varied = 1.0 + (VELOCITY_NOISE if plan.intent == "max" else TEMPO_NOISE) * float(rng.standard_normal())
        moved.append(
            Movement(
                start=lo + float(rng.uniform(-0.02, 0.02)) * (hi - lo),
                rom=rom,
                concentric_s=fresh_s / ((1.0 - tired) * varied),
                hold_s=ordered.hold_s or 0.0,
                eccentric_s=(ordered.eccentric_s or 2.0) * (1.0 + TEMPO_NOISE * float(rng.standard_normal())),
                load_N=ordered.load_N,
                inertia=ordered.load_N * plan.exercise.inertia_s2,
                droop=0.5 * tired,
                tremor=plan.tremor * (1.0 + 3.0 * tired),
                late=float(rng.uniform(-0.5, 0.5)),
            )
        )
    return moved


def _set(plan: _Plan, rng: Generator) -> _Set:
    """Begin a session, and make the reps of its first set."""
    clinic = Clinic(plan.exercise, plan.intent, plan.prescription)
    clinic.open()
    clinic.begin()
    timed = plan.intent == "max"
    cases = [case(one, rng, with_context=plan.with_context, timed=timed) for one in _movements(plan, rng)]
    return _Set(clinic, cases, [clinic.rep(one, plan.prescription.load_N) for one in cases], plan.with_context)


def compared(
    cases: Sequence[Case], measured: Sequence[RepMeasured], summary: SetSummarised, *, with_context: bool
) -> Found:
    """Compare the messages of one set with what was said of them."""
    errors: Errors = {}
    wrong = []
    suffix = "" if with_context else " without context"
    for each, told in zip(cases, measured, strict=True):
        if told.valid != (each.truth is not None):
            wrong.append(f"{each.kind}{suffix}: {', '.join(told.reasons) or 'valid'}")
        elif each.truth is not None:
            truths = {
                "range_of_motion": each.truth.rom,
                "peak_force": each.truth.peak_force,
                "mean_velocity": each.truth.mean_velocity,
            }
            for name, truth in truths.items():
                if truth is not None:
                    seen = told.values.get(name, math.inf)  # what a good repetition does not get is as wrong as can be
                    errors.setdefault(name + suffix, []).append(100.0 * abs(seen / truth - 1.0))
    halves = [told for each, told in zip(cases, measured, strict=True) if each.kind == "half"]
    for name, error in _loss_errors(cases, measured, summary):
        errors.setdefault(name + suffix, []).append(error)
    real = sum(each.truth is not None for each in cases)
    missed = sum(each.truth is not None and not told.valid for each, told in zip(cases, measured, strict=True))
    return Found(
        reps=real,
        missed=missed,
        invented=len(wrong) - missed,
        half=len(halves),
        half_flagged=sum("partial_rom" in told.reasons for told in halves),
        errors=errors,
        wrong=tuple(wrong),
    )


def _loss_errors(
    cases: Sequence[Case], measured: Sequence[RepMeasured], summary: SetSummarised
) -> Iterable[tuple[str, float]]:
    """Compare the losses in the set's summary with the same definitions on true velocities.

    A set in which a repetition was missed or invented has none to compare: its count is wrong already.
    """
    real = [each.truth for each in cases if each.truth is not None]
    true = [truth.mean_velocity for truth in real if truth.mean_velocity is not None]
    is_whole = len(true) == len(real) >= 3 and all(
        told.valid == (each.truth is not None) for each, told in zip(cases, measured, strict=True)
    )
    if summary.intent == "max" and is_whole:
        values = summary.values
        yield "velocity_loss", abs(values.get("velocity_loss_pct", math.inf) - losses.best_to_last(true))
        yield "velocity_loss_robust", abs(values.get("velocity_loss_robust_pct", math.inf) - losses.robust(true))


def rows(found: Found) -> list[Row]:
    """Put it into the table."""
    misjudged = share_pct(found.missed + found.invented, found.reps)
    told = [
        Row(
            what="repetition count error",
            unit="%",
            seen=misjudged,
            limit=Limit("<=", 0.1),
            cases=found.reps,
            beside={"missed": float(found.missed), "invented": float(found.invented)},
            footnote="a",
        ),
        _error_row("range error", "range_of_motion", found, Limit("<=", 2.0)),
        _error_row("peak force error", "peak_force", found, Limit("<=", 2.0)),
        _error_row("mean velocity error", "mean_velocity", found, None),
        _error_row("velocity loss error", "velocity_loss", found, Limit("<=", 3.0), "points"),
        _error_row("velocity loss error, VL3", "velocity_loss_robust", found, Limit("<=", 3.0), "points"),
    ]
    halves = share_pct(found.half_flagged, found.half)
    return [*told, Row(what="half range flagged as partial", unit="%", seen=halves, cases=found.half, footnote="b")]


def _error_row(what: str, name: str, found: Found, limit: Limit | None, unit: str = "%") -> Row:
    with_it, without = found.errors.get(name, []), found.errors.get(f"{name} without context", [])
    both = [*with_it, *without]
    beside = {
        "median": median(both),
        "p95 with context": percentile(with_it, 95.0),
        "p95 without": percentile(without, 95.0),
        "largest": max(both, default=None),
    }
    return Row(
        what=what,
        unit=unit,
        seen=percentile(both, 95.0),
        limit=limit,
        cases=len(both),
        beside={name: round(value, 4) for name, value in beside.items() if value is not None},
        footnote="c" if unit == "points" else "b",
    )
