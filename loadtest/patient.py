"""Simulated patients: what they can do, how they tire, what they complain of. Every draw comes from a seed."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.random import Generator

from loadtest.exercise import EXERCISES, Exercise
from loadtest.movement import Movement
from streams.core.telemetry import Intent, Prescription, Side, Symptom

VELOCITY_NOISE = 0.046
RANGE_NOISE = 0.03
TEMPO_NOISE = 0.08
"""Rep-to-rep coefficients of variation of mean velocity, range of motion and paced phase times (measured)."""

MAX_FATIGUE = 0.6
"""Share of velocity that fatigue can take; beyond it a patient stops of their own accord."""


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """One patient's constant truth.

    Parameters
    ----------
    strength : dict
        Share of the typical patient's strength, by exercise.
    strength_fall : float
        Share of strength that is lost from the start to the end of the window.
    speed : float
        Factor on the velocity that a typical patient reaches at the same share of strength.
    fatigue_rate : float
        Share of velocity lost with each rep at 55 % of strength.
    recovery_s : float
        Time constant of recovery, in s.
    tremor : float
        Amplitude of an 8 Hz ripple of the force, as a share of the load.
    asymmetry_pct : float
        Robinson's index, positive when the right side is stronger.
    range_habit, haste_habit : float
        Shares of the window and of the eccentric time that are used without being told.
    compliance : float
        Probability of following a cue or confirming a prescription.
    pain_rate, incident_rate : float
        Probability of a pain report, and of a red flag or the stop button, with each rep.
    pain_at : float
        Where in the window it hurts, from 0 to 1.
    """

    index: int
    key: str
    strength: Mapping[str, float]
    strength_fall: float
    speed: float
    fatigue_rate: float
    recovery_s: float
    tremor: float
    asymmetry_pct: float
    range_habit: float
    haste_habit: float
    compliance: float
    pain_start: int
    pain_rate: float
    pain_at: float
    incident_rate: float
    settings: str


class Condition(msgspec.Struct, frozen=True):
    """How a patient feels now: fatigue (share of velocity lost), reps and freshest velocity of the set, coaching."""

    fatigue: float = 0.0
    reps: int = 0
    freshest: float = 0.0
    coached: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a clinician ordered for a patient at a kind of machine."""

    side: Side
    intent: Intent
    prescription: Prescription
    load_cap_N: float
    guarded: bool


class Task(msgspec.Struct, frozen=True):
    """What a patient is about to do: the exercise, the side, the intent, the prescription in force."""

    exercise: Exercise
    side: Side
    intent: Intent
    prescription: Prescription


class Complaint(msgspec.Struct, frozen=True):
    """What a patient reports in the middle of a set."""

    pain_nrs: int | None = None
    symptom: Symptom = "none"
    stop_button: bool = False


def draw(seed: int, index: int, tenant: str = "demo") -> Patient:
    """Draw a patient; the same seed and index give the same patient.

    Examples
    --------
    >>> draw(7, 1).key, draw(7, 1) == draw(7, 1), draw(7, 1) == draw(8, 1)
    ('demo/p0001', True, False)
    """
    rng = np.random.default_rng([seed, index])
    return Patient(
        index=index,
        key=f"{tenant}/p{index:04d}",
        strength={name: float(rng.lognormal(0.0, 0.2)) for name in EXERCISES},
        strength_fall=float(rng.uniform(0.0, 0.3)),
        speed=float(rng.lognormal(0.0, 0.08)),
        fatigue_rate=float(min(rng.lognormal(math.log(0.025), 0.45), 0.08)),
        recovery_s=float(rng.uniform(45.0, 90.0)),
        tremor=float(rng.uniform(0.002, 0.012)),
        asymmetry_pct=float(rng.normal(0.0, 8.0)),
        range_habit=float(np.clip(rng.normal(0.985, 0.025), 0.85, 1.04)),
        haste_habit=float(np.clip(rng.normal(0.98, 0.09), 0.6, 1.15)),
        compliance=float(rng.uniform(0.7, 1.0)),
        pain_start=int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15])),
        pain_rate=float(rng.choice([0.002, 0.02], p=[0.75, 0.25])),
        pain_at=float(rng.uniform(0.6, 1.0)),
        incident_rate=0.0008,
        settings=f"seat{rng.integers(1, 9)}-lever{rng.integers(1, 6)}",
    )


def strength_at(patient: Patient, exercise: Exercise, side: Side, at: float) -> float:
    """Return the strength at a place of the window (0 to 1), in N or N m.

    Examples
    --------
    >>> patient, row = draw(7, 1), EXERCISES["seated_row"]
    >>> strength_at(patient, row, "both", 0.0) >= strength_at(patient, row, "both", 1.0)
    True
    """
    lean = {"both": 0.0, "left": -0.5, "right": 0.5}[side] * patient.asymmetry_pct / 100.0
    return exercise.strength_N * patient.strength[exercise.name] * (1.0 + lean) * (1.0 - patient.strength_fall * at)


def order(patient: Patient, exercise: Exercise, side: Side, seed: int) -> Plan:
    """Draw what the clinician orders: three patients in five lift as fast as they can, the others to a tempo.

    Examples
    --------
    >>> order(draw(7, 1), EXERCISES["seated_row"], "both", seed=7).prescription.sets in {2, 3}
    True
    """
    rng = np.random.default_rng([seed, patient.index, *exercise.name.encode()])
    intent: Intent = "max" if rng.random() < 0.6 else "paced"
    share = (0.55 if intent == "max" else 0.45) * float(rng.uniform(0.85, 1.1))
    load_N = math.floor(share * strength_at(patient, exercise, side, 0.5) / exercise.load_step_N) * exercise.load_step_N
    prescription = Prescription(
        id=f"{patient.key}/{exercise.name}/{side}/base",
        load_N=max(load_N, exercise.load_min_N),
        window_lo=exercise.window[0],
        window_hi=exercise.window[1],
        eccentric_s=2.0,
        reps=int(rng.integers(10, 13)),
        sets=3,
        rest_s=75.0,
    )
    if intent == "paced":
        prescription = replace(
            prescription, concentric_s=2.0, hold_s=0.5, eccentric_s=2.5, reps=prescription.reps + 3, sets=2, rest_s=60.0
        )
    return Plan(
        side=side,
        intent=intent,
        prescription=prescription,
        load_cap_N=math.ceil(1.3 * prescription.load_N),
        guarded=bool(rng.random() < 0.1),
    )


def perform(patient: Patient, condition: Condition, task: Task, rng: Generator) -> tuple[Movement, Condition]:
    """Draw the next repetition of a set, and tell how the patient is after it."""
    ordered, fatigue = task.prescription, condition.fatigue
    lo, hi = _window(task)
    effort = ordered.load_N / strength_at(patient, task.exercise, task.side, 0.5)
    noise = rng.standard_normal(3).clip(-3.5, 3.5)
    is_max = task.intent == "max"
    decay = 1.0 - (0.15 if is_max else 0.45) * fatigue
    rom = (hi - lo) * (1.0 if condition.coached else patient.range_habit) * decay * (1.0 + RANGE_NOISE * noise[0])
    expected = _expected_velocity(patient, task.exercise, effort, condition)
    freshest = max(condition.freshest, expected)
    if is_max:
        concentric_s = rom / (expected * (1.0 + VELOCITY_NOISE * noise[1]))
    else:
        concentric_s = (ordered.concentric_s or 2.0) * (1.0 + 1.5 * fatigue) * (1.0 + TEMPO_NOISE * noise[1])
    haste = 1.0 if condition.coached else patient.haste_habit
    movement = Movement(
        start=lo,
        rom=float(rom),
        concentric_s=float(concentric_s),
        hold_s=ordered.hold_s or 0.3,
        eccentric_s=float((ordered.eccentric_s or 2.0) * haste * (1.0 + TEMPO_NOISE * noise[2])),
        load_N=ordered.load_N,
        inertia=ordered.load_N * task.exercise.inertia_s2,
        droop=0.5 * fatigue,
        tremor=patient.tremor * (1.0 + 3.0 * fatigue),
        symmetry_pct=patient.asymmetry_pct,
        loss_pct=100.0 * (1.0 - expected / freshest) if is_max else None,
        fatigue=fatigue,
    )
    tired = min(fatigue + _cost(patient, effort) * (1.0 if is_max else 1.5), MAX_FATIGUE)
    return movement, replace(condition, fatigue=tired, reps=condition.reps + 1, freshest=freshest)


def _expected_velocity(patient: Patient, exercise: Exercise, effort: float, condition: Condition) -> float:
    """Return what a repetition's velocity would be without noise, in m/s or rad/s; `effort` as a share of strength."""
    first = 0.97 if condition.reps == 0 else 1.0  # from rest, without the stretch that precedes every other rep
    span = exercise.window[1] - exercise.window[0]
    return span * patient.speed * max(1.55 - effort, 0.2) * (1.0 - condition.fatigue) * first


def _cost(patient: Patient, effort: float) -> float:
    """Return the share of velocity that a repetition costs when it is done as fast as possible."""
    return patient.fatigue_rate * (effort / 0.55) ** 2


def expected_loss_pct(patient: Patient, exercise: Exercise, side: Side, load_N: float, reps: int) -> float:
    """Return the loss in percent that a fresh patient truly comes to, as fast as possible and without noise.

    It is that of the last rep against the freshest of the set.

    Examples
    --------
    >>> row, patient = EXERCISES["seated_row"], draw(7, 1)
    >>> losses = [expected_loss_pct(patient, row, "both", load_N, reps=10) for load_N in (200.0, 300.0, 400.0)]
    >>> losses == sorted(losses)
    True
    """
    effort, condition = load_N / strength_at(patient, exercise, side, 0.5), Condition()
    velocities = []
    for _ in range(reps):
        velocities.append(_expected_velocity(patient, exercise, effort, condition))
        tired = min(condition.fatigue + _cost(patient, effort), MAX_FATIGUE)
        condition = replace(condition, fatigue=tired, reps=condition.reps + 1)
    return 100.0 * (1.0 - velocities[-1] / max(velocities))


def _window(task: Task) -> tuple[float, float]:
    lo, hi = task.prescription.window_lo, task.prescription.window_hi
    return task.exercise.window[0] if lo is None else lo, task.exercise.window[1] if hi is None else hi


def rested(condition: Condition, patient: Patient, seconds: float) -> Condition:
    """Return the condition after a rest, ready for the next set.

    Examples
    --------
    >>> rested(Condition(fatigue=0.3, reps=8), draw(7, 1), seconds=1e6)
    Condition(fatigue=0.0, reps=0, freshest=0.0, coached=False)
    """
    return Condition(fatigue=condition.fatigue * math.exp(-seconds / patient.recovery_s), coached=condition.coached)


def exertion(condition: Condition, rng: Generator) -> int:
    """Return the exertion that the patient reports, 0 to 10."""
    return int(np.clip(round(4.0 + 14.0 * condition.fatigue + rng.normal(0.0, 0.7)), 0, 10))


def complaint(patient: Patient, rng: Generator) -> Complaint | None:
    """Draw what the patient reports after a repetition; mostly nothing."""
    dice = rng.random(3)
    if dice[0] < patient.incident_rate:
        symptoms: tuple[Symptom, ...] = ("red_flag", "neurological", "radiating", "chest", "dizziness")
        return Complaint(stop_button=True) if dice[1] < 0.5 else Complaint(symptom=symptoms[int(5 * dice[2])])
    if dice[0] < patient.incident_rate + patient.pain_rate:
        return Complaint(pain_nrs=3 + int(3 * dice[2]) if dice[1] < 0.75 else 6 + int(3 * dice[2]))
    return None
