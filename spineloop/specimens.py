"""Specimens: one plain message of every type, as it stands in the published schemas and in the AsyncAPI document."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streams.core.codec import type_name
from streams.core.commands import Change, Command, Evidence
from streams.core.known import Known
from streams.core.operators import OperatorAsked
from streams.core.plans import PlanMade, PlanRecalled, ScreeningTold
from streams.core.results import (
    CommandClosed,
    MachineSeen,
    Notice,
    PainReported,
    PatientAssessed,
    PatientScreened,
    PlanEdited,
    PlanRequested,
    RepMeasured,
    SessionSummarised,
    SetSummarised,
    TroubleArose,
)
from streams.core.telemetry import (
    ButtonPressed,
    Capabilities,
    ClinicianEdited,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    FaultRaised,
    Heartbeat,
    Offline,
    Online,
    Prescription,
    PrescriptionConfirmed,
    PrescriptionDeclined,
    Released,
    Rep,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
)

MACHINE, PATIENT, SESSION = "acme/north/row-1", "acme/p-0042", "row-1.boot-7.1"
_AT_MS = 1_767_225_600_000

_REP: Final[dict[str, Any]] = {
    "session": SESSION, "exercise": "seated_row", "side": "both", "intent": "max", "settings": "seat4-lever2",
}  # fmt: skip
_RESULT: Final[dict[str, Any]] = {"machine": MACHINE, "at_ms": _AT_MS, "cause": f"{MACHINE}/boot-7/12"}
_WHO: Final[dict[str, Any]] = {"patient": PATIENT, "exercise": "seated_row", "side": "both"}

_PRESCRIPTION = Prescription(id="plan-3", load_N=300.0, window_lo=0.1, window_hi=0.5, reps=8, sets=3, rest_s=90.0)
_CAPABILITIES = Capabilities(
    model="row-200", exercise="seated_row", position_unit="m", load_min_N=20.0, load_max_N=1500.0, load_step_N=5.0,
    travel_lo=0.0, travel_hi=0.75,
)  # fmt: skip
_COMMAND = Command(
    command_id=f"{MACHINE}/boot-7/12/pain_reduce", machine=MACHINE, boot_id="boot-7", sequence=96, action="lower_load",
    rule="pain_reduce", cause=f"{MACHINE}/boot-7/12", evidence=(Evidence(f"{MACHINE}/boot-7/12", "pain_nrs", 4),),
    changes=(Change(quantity="load_N", old=300.0, new=270.0, bound=20.0),), session=SESSION, set_number=1,
    policy="6f1d2c3b4a59", issued_ms=_AT_MS, expires_ms=_AT_MS + 30_000,
)  # fmt: skip


def _at(seq: int) -> dict[str, Any]:
    return {"boot_id": "boot-7", "seq": seq, "t_us": 2_500_000 * seq}


_ALL: Final[Sequence[msgspec.Struct]] = (
    Online(boot_id="boot-7", capabilities=_CAPABILITIES),
    Offline(boot_id="boot-7"),
    Rep(
        **_at(5), **_REP, set_number=1, rep_number=1, load_N=300.0, fs_hz=100.0, samples=4, force_scale_N=0.1,
        force=b"\xb8\x0b\xc2\x0b\xcc\x0b\xb8\x0b", position=b"\x00\x00\x05\x00\x14\x00\x00\x80", position_scale=0.0001,
        prescription=_PRESCRIPTION,
    ),
    SessionRequested(**_at(1), **_REP, patient=PATIENT),
    SessionStarted(**_at(3), **_REP, patient=PATIENT, prescription=_PRESCRIPTION, pain_nrs=1),
    SetStarted(**_at(4), session=SESSION, set_number=1, load_N=300.0),
    SetEnded(**_at(13), session=SESSION, set_number=1, reps_done=8, rpe=6),
    SessionEnded(**_at(40), session=SESSION),
    PrescriptionConfirmed(**_at(2), session=SESSION, command_id=f"{MACHINE}/boot-7/1/prescribe", by="patient"),
    PrescriptionDeclined(**_at(2), session=SESSION, command_id=f"{MACHINE}/boot-7/1/prescribe", by="patient"),
    SymptomReported(**_at(12), session=SESSION, pain_nrs=4, position=0.45),
    Screened(**_at(0), patient=PATIENT, outcome="clear", by="clinician-1"),
    ButtonPressed(**_at(14), button="stop"),
    FaultRaised(**_at(15), fault="range_limit"),
    ClinicianEdited(**_at(0), **_WHO, by="clinician-1", load_cap_N=400.0, reps_max=12),
    Released(**_at(16), by="clinician-1"),
    Heartbeat(**_at(17)),
    CommandApplied(**_at(18), command_id=_COMMAND.command_id, load_N=270.0),
    CommandRejected(**_at(18), command_id=_COMMAND.command_id, reason="no_session"),
    CommandExpired(**_at(18), command_id=_COMMAND.command_id),
    _COMMAND,
    RepMeasured(
        **_RESULT, **_REP, id=f"{MACHINE}/boot-7/5", boot_id="boot-7", seq=5, patient=PATIENT, set_number=1,
        rep_number=1, load_N=300.0, valid=True, reasons=("partial_rom",),
        values={"mean_velocity": 0.41, "rom_completeness_pct": 76.0}, undefined={"reps_left": "no_reference"},
        corrected=False,
    ),
    SetSummarised(
        **_RESULT, **_REP, id=f"{MACHINE}/boot-7/13/set", patient=PATIENT, set_number=1, load_N=300.0, reps=8,
        valid_reps=8, accepted_reps=7, target_reps=8, incomplete=False, rpe=6, ended_by="set_ended",
        values={"velocity_loss_pct": 14.2}, undefined={"reference_dtw": "no_reference"}, corrected=False,
    ),
    SessionSummarised(
        **_RESULT, **_REP, id=f"{MACHINE}/boot-7/40/session", patient=PATIENT, prescription=_PRESCRIPTION,
        start_load_N=300.0, load_N=270.0, sets=3, reps=24, valid_reps=24, last_set_reps=8, all_sets_done=True,
        incomplete=False, pain_max=4, rpe_max=6, rules_fired={"pain_reduce": 1}, ended_by="done",
        values={"work_J": 2880.0}, undefined={"symmetry_index_pct": "no_channel"}, pain_start=1, corrected=False,
    ),
    PatientAssessed(
        **_RESULT, **_WHO, id=f"{MACHINE}/boot-7/40/assessed", intent="max", settings="seat4-lever2", load_N=270.0,
        sessions=6, clean_sessions=0, values={"strength_trend_pct": 3.5}, undefined={},
    ),
    CommandClosed(
        **_RESULT, id=f"{_COMMAND.command_id}/closed", command_id=_COMMAND.command_id, rule="pain_reduce",
        action="lower_load", outcome="applied",
    ),
    Notice(
        **_RESULT, id=f"{MACHINE}/boot-7/12/notice/messages_lost", name="messages_lost", severity="warning",
        detail="2 messages never came",
    ),
    MachineSeen(
        **_RESULT, id=f"{MACHINE}/boot-7/4/seen/4", mode="lifting", online=True, boot_id="boot-7", session=SESSION,
        patient=PATIENT,
    ),
    PlanRequested(
        **_RESULT, **_REP, id=f"{MACHINE}/boot-7/1", boot_id="boot-7", seq=1, patient=PATIENT,
        capabilities=_CAPABILITIES, locked=False,
    ),
    PatientScreened(**_RESULT, id=f"{MACHINE}/boot-7/0", patient=PATIENT, outcome="clear", by="clinician-1"),
    PlanEdited(
        **_RESULT, **_WHO, id=f"{MACHINE}/boot-7/0", by="clinician-1", load_cap_N=400.0, prescription=None, guarded=None
    ),
    PainReported(**_RESULT, id=f"{MACHINE}/boot-7/0", patient=PATIENT, felt="next_morning", pain_nrs=2),
    TroubleArose(
        **_RESULT, id=f"{MACHINE}/boot-7/9/pain_reduce/trouble", patient=PATIENT, session=SESSION, rule="pain_reduce",
        exercise="seated_row", settings="seat-3", intent="paced", side="both", left=_PRESCRIPTION,
    ),
    OperatorAsked(machine=MACHINE, id="5f0c1d2e" * 4, by="Kim", reason="patient feels dizzy", action="stop"),
    PlanMade(boot_id="boot-7", command=_COMMAND, known=Known(origin="planner", now_ms=_AT_MS, boot_id="boot-7")),
    ScreeningTold(
        id=f"{MACHINE}/boot-7/3/screening_told", boot_id="boot-7", machine=MACHINE, cause=f"{MACHINE}/boot-7/3",
        session=SESSION, patient=PATIENT, outcome="clear",
    ),
    PlanRecalled(
        id=f"{MACHINE}/recalled/5f0c1d2e5f0c1d2e", machine=MACHINE, cause=f"{MACHINE}/boot-7/9/pain_reduce/trouble",
        request=f"{MACHINE}/boot-7/1",
    ),
)  # fmt: skip

SPECIMENS: Final[Mapping[str, msgspec.Struct]] = {type_name(one): one for one in _ALL}
"""By type."""
