"""Lifting: the moments of one set, from putting the load on to the end of the rest."""

from typing import TypedDict

import numpy as np
from msgspec.structs import replace

from loadtest import patient as patients
from loadtest.exercise import Exercise
from loadtest.movement import CONTEXT_SAMPLES, FS_HZ, FloatArray, RepSignal, rep_signal
from loadtest.patient import Task
from loadtest.programme import Programme, locked
from loadtest.visit import Mode, Stamp, Turn, Visit, is_last
from streams.core import telemetry as told
from streams.core.errors import BrokenPromise

FORCE_SCALE_N = 0.1
POSITION_SCALE = 1e-4
"""N or N m, and m or rad, of one count: up to 3,276 N and 3.27 m or rad."""

NO_SAMPLE = -32_768
"""The count that says "no sample here"."""

FRESH = 0.15
"""Fatigue up to which a patient adds one rep to the last set."""


def start_set(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Put the load on and say that a set begins."""
    number = programme.set_number + 1
    message = told.SetStarted(**stamp, session=visit.session, set_number=number, load_N=programme.held_load)
    lifting = replace(programme, set_number=number, lifting=True, set_over=False)
    return Turn(replace(visit, mode=Mode.LIFT, reps=0), lifting, 1.0, message)


def lift(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Begin a repetition, under whatever is in force now; or put the load down."""
    if programme.set_over or visit.reps >= _target(visit, programme):
        return end_set(visit, programme, stamp)
    condition = visit.condition
    if programme.cues > visit.cues_heard and visit.rng.random() < visit.patient.compliance:
        condition = replace(condition, coached=True)
    task = Task(visit.exercise, visit.plan.side, visit.plan.intent, programme.prescription)
    movement, condition = patients.perform(visit.patient, condition, task, visit.rng)
    signal = rep_signal(movement, visit.rng)
    after_s = (len(signal.position) - CONTEXT_SAMPLES) / FS_HZ
    lifting = replace(
        visit,
        mode=Mode.PUBLISH,
        condition=condition,
        cues_heard=programme.cues,
        under=programme.prescription,
        signal=signal,
    )
    return Turn(lifting, programme, after_s)


def _target(visit: Visit, programme: Programme) -> int:
    is_last = programme.set_number >= programme.prescription.sets
    return programme.prescription.reps + (is_last and visit.condition.fatigue < FRESH)


def publish(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Say what the repetition was, half a second after it ended; perhaps the patient has something to report."""
    if visit.signal is None:
        raise BrokenPromise("no repetition is under way")
    signal, truth = visit.signal, visit.signal.truth
    complaint = patients.complaint(visit.patient, visit.rng)
    message = told.Rep(
        **stamp,
        session=visit.session,
        set_number=programme.set_number,
        rep_number=visit.reps + 1,
        exercise=visit.exercise.name,
        side=visit.plan.side,
        intent=visit.plan.intent,
        load_N=truth.load_N,
        settings=visit.patient.settings,
        fs_hz=FS_HZ,
        samples=len(signal.force),
        force=counts(signal.force, visit.exercise.force_sign * FORCE_SCALE_N),
        force_scale_N=FORCE_SCALE_N,
        position=counts(signal.position, visit.exercise.concentric_sign * POSITION_SCALE),
        position_scale=POSITION_SCALE,
        position_unit=visit.exercise.unit,
        concentric_sign=visit.exercise.concentric_sign,
        force_sign=visit.exercise.force_sign,
        marks=truth.marks,
        prescription=visit.under,
        **_sides(visit.exercise, signal),
    )
    after = replace(visit, mode=Mode.LIFT, signal=None, reps=visit.reps + 1)
    if complaint is None:
        return Turn(after, programme, float(visit.rng.uniform(0.1, 0.6)), message)
    return Turn(replace(after, mode=Mode.COMPLAIN, complaint=complaint), programme, 0.5, message)


class _Sides(TypedDict, total=False):
    force_left: bytes
    force_right: bytes


def _sides(exercise: Exercise, signal: RepSignal) -> _Sides:
    if not exercise.side_cells:
        return {}
    lean, scale_N = signal.truth.symmetry_pct / 400.0, exercise.force_sign * FORCE_SCALE_N
    left, right = signal.force * (0.5 - lean), signal.force * (0.5 + lean)
    return {"force_left": counts(left, scale_N), "force_right": counts(right, scale_N)}


def counts(values: FloatArray, scale: float) -> bytes:
    """Round to counts as they are on the wire, int16; NaN is a sample that the machine has lost.

    Examples
    --------
    >>> counts(np.array([0.1, np.nan]), 0.1).hex()
    '01000080'
    """
    whole = np.rint(values / scale)
    return np.where(np.isnan(whole), NO_SAMPLE, whole).astype("<i2").tobytes()


def complain(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Report pain or a symptom, or press the stop button."""
    complaint, lo, hi = visit.complaint, programme.prescription.window_lo, programme.prescription.window_hi
    if complaint.stop_button:  # the machine doesn't wait for anybody: it locks, and STOP finds it locked
        message = told.ButtonPressed(**stamp, button="stop")
        return Turn(replace(visit, mode=Mode.END_SET), locked(programme), 0.3, message)
    hurts_at = None
    if complaint.pain_nrs is not None and lo is not None and hi is not None:
        hurts_at = round(lo + visit.patient.pain_at * (hi - lo), 4)
    report = told.SymptomReported(
        **stamp,
        session=visit.session,
        pain_nrs=complaint.pain_nrs,
        symptom=complaint.symptom,
        position=hurts_at,
    )
    if complaint.symptom != "none":
        return Turn(replace(visit, mode=Mode.HALT), programme, visit.habits.halt_s, report)
    return Turn(replace(visit, mode=Mode.LIFT), programme, 6.0, report)


def halt(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Lock, because nobody sent STOP: without its link a machine stops by itself."""
    return end_set(visit, locked(programme), stamp)


def end_set(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Put the load down, ask how hard it was, and rest."""
    message = told.SetEnded(
        **stamp,
        session=visit.session,
        set_number=programme.set_number,
        reps_done=visit.reps,
        rpe=None if programme.locked else patients.exertion(visit.condition, visit.rng),
    )
    down = replace(programme, lifting=False)
    if visit.farewell or is_last(down):
        return Turn(replace(visit, mode=Mode.LEAVE, signal=None), down, 1.0, message)
    resting = replace(visit, mode=Mode.REST, signal=None, rest_since_us=stamp["t_us"])
    return Turn(resting, down, programme.prescription.rest_s, message)


def rest(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    """Start the next set if the rest is over and another set is due."""
    rested_s = (stamp["t_us"] - visit.rest_since_us) * 1e-6
    if is_last(programme):
        return Turn(replace(visit, mode=Mode.LEAVE), programme, 0.0)
    if rested_s < programme.prescription.rest_s:  # it was extended meanwhile
        return Turn(visit, programme, programme.prescription.rest_s - rested_s)
    condition = patients.rested(visit.condition, visit.patient, rested_s)
    return start_set(replace(visit, condition=condition), programme, stamp)
