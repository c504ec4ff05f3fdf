"""Patients: repeatable, tiring, and as noisy as real ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest import patient as patients
from loadtest.exercise import EXERCISES
from loadtest.movement import rep_signal
from loadtest.patient import Condition, Patient, Task
from streams.core.telemetry import Intent

ROW = EXERCISES["seated_row"]


def a_task(patient: Patient, intent: Intent) -> Task:
    prescription = patients.order(patient, ROW, "both", seed=7).prescription
    tempo = {"concentric_s": 2.0, "hold_s": 0.5, "eccentric_s": 2.5} if intent == "paced" else {"concentric_s": None}
    return Task(ROW, "both", intent, replace(prescription, **tempo))


@given(seed=st.integers(0, 2**32), index=st.integers(0, 10_000))
def test_the_same_seed_and_index_give_the_same_patient(seed: int, index: int) -> None:
    assert patients.draw(seed, index) == patients.draw(seed, index)


def test_the_plan_of_a_patient_depends_on_nothing_but_seed_patient_exercise_and_side() -> None:
    patient = patients.draw(7, 3)
    for exercise in EXERCISES.values():
        assert patients.order(patient, exercise, "both", 7) == patients.order(patient, exercise, "both", 7)


def test_three_plans_in_five_ask_for_the_greatest_speed() -> None:
    plans = [patients.order(patients.draw(1, n), ROW, "both", 1) for n in range(1_000)]
    assert 0.55 < sum(plan.intent == "max" for plan in plans) / 1_000 < 0.65


def test_without_fatigue_velocity_varies_by_4_6_and_range_by_3_percent() -> None:
    patient, rng = patients.draw(7, 1), np.random.default_rng(1)
    fresh, task = Condition(reps=1), a_task(patient, "max")
    truths = [rep_signal(patients.perform(patient, fresh, task, rng)[0]).truth for _ in range(3_000)]
    velocity = np.array([truth.mean_velocity for truth in truths])
    rom = np.array([truth.rom for truth in truths])
    assert 0.043 < velocity.std() / velocity.mean() < 0.049
    assert 0.028 < rom.std() / rom.mean() < 0.032


def test_velocity_is_lost_rep_by_rep_when_lifting_as_fast_as_possible() -> None:
    patient, rng, condition = patients.draw(7, 1), np.random.default_rng(1), Condition()
    task, losses = a_task(patient, "max"), []
    for _ in range(12):
        movement, condition = patients.perform(patient, condition, task, rng)
        losses.append(movement.loss_pct)
    assert losses[:2] == [0.0, 0.0]  # the second rep has the stretch that the first one lacks
    assert losses[1:] == sorted(losses[1:])  # type: ignore[type-var]  # None only when paced
    assert losses[-1] == pytest.approx(
        100.0 * (1.0 - (1.0 - 11.0 * _cost(patient, task)) / (1.0 - _cost(patient, task)))
    )


def _cost(patient: Patient, task: Task) -> float:
    effort = task.prescription.load_N / patients.strength_at(patient, ROW, "both", 0.5)
    return patient.fatigue_rate * (effort / 0.55) ** 2


def test_a_tired_patient_slows_down_and_shortens_the_range_when_paced() -> None:
    patient, task = patients.draw(7, 1), a_task(patients.draw(7, 1), "paced")
    rng = np.random.default_rng(1)
    fresh = [patients.perform(patient, Condition(), task, rng)[0] for _ in range(500)]
    tired = [patients.perform(patient, Condition(fatigue=0.4), task, rng)[0] for _ in range(500)]
    slower = np.mean([rep.concentric_s for rep in tired]) / np.mean([rep.concentric_s for rep in fresh])
    shorter = np.mean([rep.rom for rep in tired]) / np.mean([rep.rom for rep in fresh])
    assert float(slower) == pytest.approx(1.60, abs=0.02)
    assert float(shorter) == pytest.approx(0.82, abs=0.01)
    assert {rep.loss_pct for rep in tired} == {None}
    assert {rep.droop for rep in tired} == {0.2}


def test_a_lighter_load_is_lifted_faster_and_tires_less() -> None:
    patient, task = patients.draw(7, 1), a_task(patients.draw(7, 1), "max")
    lighter = Task(ROW, "both", "max", replace(task.prescription, load_N=0.8 * task.prescription.load_N))
    heavy_rep, after_heavy = patients.perform(patient, Condition(), task, np.random.default_rng(1))
    light_rep, after_light = patients.perform(patient, Condition(), lighter, np.random.default_rng(1))
    assert light_rep.rom / light_rep.concentric_s > heavy_rep.rom / heavy_rep.concentric_s
    assert after_light.fatigue < after_heavy.fatigue


def test_a_coached_patient_uses_the_whole_window_and_the_whole_time() -> None:
    patient = replace(patients.draw(7, 1), range_habit=0.85, haste_habit=0.6)
    task = a_task(patient, "paced")
    own, _ = patients.perform(patient, Condition(), task, np.random.default_rng(1))
    coached, _ = patients.perform(patient, Condition(coached=True), task, np.random.default_rng(1))
    assert own.rom / coached.rom == pytest.approx(0.85)
    assert own.eccentric_s / coached.eccentric_s == pytest.approx(0.6)


@given(seconds=st.floats(0.0, 1_000.0), longer=st.floats(0.0, 1_000.0))
def test_a_longer_rest_never_leaves_a_patient_more_tired(seconds: float, longer: float) -> None:
    patient, tired = patients.draw(7, 1), Condition(fatigue=0.4, reps=10)
    short, long = (patients.rested(tired, patient, s) for s in (seconds, seconds + longer))
    assert long.fatigue <= short.fatigue <= tired.fatigue


def test_complaints_come_as_often_as_the_patient_is_prone_to_them() -> None:
    patient, rng = replace(patients.draw(7, 1), pain_rate=0.02, incident_rate=0.01), np.random.default_rng(1)
    complaints = [patients.complaint(patient, rng) for _ in range(20_000)]
    pains = [each.pain_nrs for each in complaints if each is not None and each.pain_nrs is not None]
    incidents = [each for each in complaints if each is not None and each.pain_nrs is None]
    assert 330 < len(pains) < 470
    assert set(pains) == {3, 4, 5, 6, 7, 8}
    assert 150 < len(incidents) < 250
    assert all(each.stop_button != (each.symptom != "none") for each in incidents)
