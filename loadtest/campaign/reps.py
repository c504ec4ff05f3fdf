"""Reps: measurements that no sensor took, good ones and every kind of bad one."""

from random import Random
from typing import Literal

from streams.core.measure import FLAGS_IN_ORDER, INVALID_IN_ORDER, Measured
from streams.core.telemetry import Intent, Prescription

Manner = Literal["good", "tiring", "short", "long", "hasty", "rough", "slow", "broken", "blank"]
"""How the reps of a set are done: as asked; ever slower; too short or too long a way; too fast; unsteady; with so much
time under load that the cap comes; invalid; without numbers."""

MANNERS: tuple[Manner, ...] = ("good", "tiring", "short", "long", "hasty", "rough", "slow", "broken", "blank")


def measured(rng: Random, manner: Manner, number: int, told: Prescription, intent: Intent) -> Measured:
    """Return what one rep might have measured.

    Parameters
    ----------
    rng : Random
        Where chance comes from.
    manner : Manner
        How the set is done.
    number : int
        Place of the rep in its set, from 1 on.
    told : Prescription
        What was asked for.
    intent : Intent
        As fast as possible, or paced.
    """
    if manner == "broken" and rng.random() < 0.6:
        return Measured(valid=False, reasons=(rng.choice(INVALID_IN_ORDER),), values={}, undefined={})
    values = _values(rng, manner, number, told)
    reasons: tuple[str, ...] = ()
    if manner not in {"good", "tiring", "slow"} and rng.random() < 0.5:
        reasons = (rng.choice(FLAGS_IN_ORDER),)
    if manner == "hasty":
        reasons = ("bounce",) if rng.random() < 0.5 else ("tempo_fast",)
    if manner == "blank":
        values = {name: value for name, value in values.items() if rng.random() < 0.4}
    elif intent == "max":
        values.pop("tempo_error_pct")
    return Measured(valid=True, reasons=reasons, values=values, undefined={})


def _values(rng: Random, manner: Manner, number: int, told: Prescription) -> dict[str, float]:
    share = {"short": rng.uniform(0.5, 0.93), "long": rng.uniform(1.02, 1.2)}.get(manner, rng.uniform(0.94, 1.04))
    pace = {"hasty": rng.uniform(0.4, 0.8), "rough": rng.uniform(0.8, 1.6)}.get(manner, rng.uniform(0.92, 1.08))
    if manner == "tiring":
        pace *= 1.0 + 0.09 * number
        share *= 1.0 - 0.03 * number
    lo, hi = told.window_lo or 0.0, 1.0 if told.window_hi is None else told.window_hi
    concentric_s, eccentric_s = (told.concentric_s or 1.0) * pace, (told.eccentric_s or 2.0) * pace
    steady = 4.0 if manner in {"rough", "tiring"} else 1.0
    peak = told.load_N * (1.0 + 0.1 * rng.random()) * (rng.choice((1.0, 1.2, 1.6)) if manner == "rough" else 1.0)
    return {
        "range_of_motion": round(share * max(hi - lo, 0.01), 4),
        "rom_completeness_pct": round(100.0 * share, 3),
        "concentric_time_s": round(concentric_s, 4),
        "eccentric_time_s": round(eccentric_s, 4),
        "time_under_load_s": round(rng.uniform(25.0, 40.0) if manner == "slow" else concentric_s + eccentric_s, 2),
        "tempo_error_pct": round(100.0 * abs(pace - 1.0), 3),
        "mean_velocity": round(0.5 / pace, 4),
        "concentric_work_J": round(told.load_N * 0.5, 3),
        "peak_force": round(peak, 3),
        "force_steadiness_cv_pct": round(steady * rng.uniform(4.0, 6.0), 3),
        "tremor_index_force_pct": round(steady * rng.uniform(2.0, 3.0), 3),
        "end_range_force": round(told.load_N * (1.0 - 0.04 * number if manner == "tiring" else 1.0), 3),
        "sparc_concentric": round(-1.5 - steady * rng.random(), 4),
    }
