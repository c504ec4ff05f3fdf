"""Progress: how many sessions the real planner needs under its envelope until a load is the right one."""

from collections.abc import Iterable

import msgspec
import numpy as np

from loadtest.scoring.clinic import Clinic, commands
from loadtest.scoring.forecast import REST_S, START_OFF, is_in_band
from loadtest.scoring.lifter import REPS, Lifter, drawn
from loadtest.scoring.stops import STOPPING
from loadtest.scoring.table import Row, median, share_pct
from streams.core.telemetry import Prescription

SESSIONS, SETS, DAYS = 24, 2, 3.5
"""Sessions that are waited for, sets of each, and the days between two: a programme of twelve weeks."""


class Course(msgspec.Struct, frozen=True):
    """One patient: by which share the first load missed, and after how many sessions it was right; None if never."""

    off: float
    sessions: int | None


class Found(msgspec.Struct, frozen=True):
    """All courses."""

    courses: tuple[Course, ...] = ()

    def merged(self, other: "Found") -> "Found":
        """Add other patients."""
        return Found(self.courses + other.courses)


def score(seed: int, patients: Iterable[int]) -> Found:
    """Follow some patients; each has dice of its own."""
    courses = []
    for patient in patients:
        rng = np.random.default_rng([seed, 6, patient])
        lifter = drawn(seed, patient, rng)
        off = float(rng.uniform(-START_OFF, START_OFF))
        courses.append(Course(off, _sessions(lifter, off)))
    return Found(tuple(courses))


def _sessions(lifter: Lifter, off: float) -> int | None:
    lo, hi = lifter.exercise.window
    right_N = lifter.load_for_target()
    ordered = Prescription(
        id="p", load_N=round(right_N * (1.0 + off), 3), window_lo=lo, window_hi=hi, reps=REPS, sets=SETS, rest_s=REST_S
    )
    clinic = Clinic(lifter.exercise, "max", ordered)
    clinic.open(cap_N=round(2.0 * right_N, 3))
    for number in range(SESSIONS):
        clinic.begin(days=DAYS)
        if is_in_band(lifter.expected_loss_pct(clinic.prescription.load_N)):
            return number
        lifter.rest(None)
        for place in range(clinic.prescription.sets):
            if place:
                lifter.rest(REST_S)
                clinic.next_set()
            _set(lifter, clinic, is_last=place == clinic.prescription.sets - 1)
            clinic.end_set(rpe=lifter.exertion())
        clinic.end()
    return None


def _set(lifter: Lifter, clinic: Clinic, *, is_last: bool) -> None:
    """Lift until the target or a command ends the set, and one rep more in the last one, as rule 14 asks."""
    lo, hi = lifter.exercise.window
    load_N, target = clinic.prescription.load_N, clinic.prescription.reps
    while clinic.reps < target + is_last:
        (velocity,) = lifter.lift(load_N, 1)
        said = clinic.measured_rep(
            load_N,
            mean_velocity=round(velocity, 5),
            range_of_motion=round(hi - lo, 5),
            rom_completeness_pct=100.0,
            concentric_time_s=round((hi - lo) / velocity, 2),
            time_under_load_s=round((hi - lo) / velocity + 2.3, 2),
            peak_force=round(load_N, 2),
        )
        if any(command.action in STOPPING for command in commands(said)):
            return


def rows(found: Found) -> list[Row]:
    """Put it into the table: only those who began outside the band have something to reach."""
    away = [one for one in found.courses if one.sessions != 0]
    light, heavy = [one for one in away if one.off < 0.0], [one for one in away if one.off >= 0.0]
    needed = [float(one.sessions) for one in away if one.sessions is not None]
    beside = {
        "begun too light": share_pct(sum(one.sessions is not None for one in light), len(light)),
        "begun too heavy": share_pct(sum(one.sessions is not None for one in heavy), len(heavy)),
        "sessions, median of those": median(needed),
        "most": max(needed, default=None),
        "in the band from the start": share_pct(len(found.courses) - len(away), len(found.courses)),
    }
    return [
        Row(
            what=f"planner: in the target band within {SESSIONS} sessions",
            unit="%",
            seen=share_pct(len(needed), len(away)),
            cases=len(away),
            beside={name: round(value, 2) for name, value in beside.items() if value is not None},
            footnote="k",
        )
    ]
