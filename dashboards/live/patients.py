"""Patients: the last sessions and assessments of each, folded from the log; the oldest leave when they are too many."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.core.results import PatientAssessed, SessionSummarised

MAX_ROWS = 20_000
"""Sessions, and assessments, of all patients together: 10 MB each, a week of a large chain or a year of a clinic."""

MAX_SHOWN = 40
"""Sessions, and assessments, of one patient that are shown."""


class SessionRow(msgspec.Struct, frozen=True, gc=False):
    """One session that is over, as a row of the history."""

    id: str
    at_ms: int
    machine: str
    exercise: str
    side: str
    intent: str
    load_N: float | None
    sets: int
    reps: int
    valid_reps: int
    target: int | None
    pain_start: int | None
    pain_max: int | None
    rpe_max: int | None
    incomplete: bool
    ended_by: str
    rules: str
    peak_force: float | None
    loss_pct: float | None
    symmetry_pct: float | None
    work_J: float | None


class AssessmentRow(msgspec.Struct, frozen=True, gc=False):
    """What was known after a session: trend of strength, balance, proposal."""

    id: str
    at_ms: int
    exercise: str
    side: str
    load_N: float
    sessions: int
    clean_sessions: int
    strength_pct: float | None
    detectable_pct: float | None
    change_pct: float | None
    symmetry_pct: float | None
    extension_flexion: float | None
    proposed_N: tuple[float, float, float] | None


class Patients:
    """The history of all patients, bounded as a whole."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._sessions: dict[str, dict[str, SessionRow]] = {}
        self._assessments: dict[str, dict[str, AssessmentRow]] = {}
        self._order: deque[tuple[dict[str, dict[str, Any]], str, str]] = deque()

    def __contains__(self, patient: str) -> bool:
        return patient in self._sessions or patient in self._assessments

    def summarised(self, session: SessionSummarised) -> str | None:
        """Keep a session; return its patient if that is news."""
        if session.patient is None:
            return None
        values = session.values
        row = SessionRow(
            id=session.id,
            at_ms=session.at_ms,
            machine=session.machine,
            exercise=session.exercise,
            side=session.side,
            intent=session.intent,
            load_N=session.load_N,
            sets=session.sets,
            reps=session.reps,
            valid_reps=session.valid_reps,
            target=None if session.prescription is None else session.prescription.reps * session.prescription.sets,
            pain_start=session.pain_start,
            pain_max=session.pain_max,
            rpe_max=session.rpe_max,
            incomplete=session.incomplete,
            ended_by=session.ended_by,
            rules=", ".join(f"{rule} {count}" for rule, count in session.rules_fired.items() if rule != "keep"),
            peak_force=values.get("best_peak_force"),
            loss_pct=values.get("velocity_loss_max_pct"),
            symmetry_pct=values.get("symmetry_index_pct"),
            work_J=values.get("work_J"),
        )
        return self._keep(self._sessions, session.patient, row)

    def assessed(self, told: PatientAssessed) -> str | None:
        """Keep an assessment; return its patient if that is news."""
        values = told.values
        proposed = [values.get(f"proposed_load{end}_N") for end in ("", "_low", "_high")]
        row = AssessmentRow(
            id=told.id,
            at_ms=told.at_ms,
            exercise=told.exercise,
            side=told.side,
            load_N=told.load_N,
            sessions=told.sessions,
            clean_sessions=told.clean_sessions,
            strength_pct=values.get("strength_trend_pct"),
            detectable_pct=values.get("minimal_detectable_change_pct"),
            change_pct=values.get("detectable_change_pct"),
            symmetry_pct=values.get("symmetry_index_pct"),
            extension_flexion=values.get("extension_flexion_ratio"),
            proposed_N=None if None in proposed else tuple(proposed),  # type: ignore[arg-type]
        )
        return self._keep(self._assessments, told.patient, row)

    def _keep(self, kept: dict[str, dict[str, Any]], patient: str, row: SessionRow | AssessmentRow) -> str | None:
        rows = kept.setdefault(patient, {})
        if row.id in rows:
            return None
        rows[row.id] = row
        self._order.append((kept, patient, row.id))
        while len(self._order) > 2 * self._max_rows:
            old, whose, id_ = self._order.popleft()
            del old[whose][id_]
            if not old[whose]:
                del old[whose]
        return patient

    def history(self, patient: str) -> Mapping[str, Any]:
        """Return what is known of a patient, the last first."""
        return {
            "sessions": _latest(self._sessions.get(patient, {})),
            "assessments": _latest(self._assessments.get(patient, {})),
        }


def _latest(rows: Mapping[str, Any]) -> list[Any]:
    return sorted(rows.values(), key=lambda row: row.at_ms, reverse=True)[:MAX_SHOWN]
