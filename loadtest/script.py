"""The script of a visit: what happens in each mode. `MOMENTS` is its table of contents."""

from collections.abc import Mapping

from msgspec.structs import replace

from loadtest import lifting
from loadtest.programme import Programme, clamped
from loadtest.visit import Mode, Moment, Stamp, Turn, Visit
from streams.core import telemetry as told
from streams.core.errors import BrokenPromise


def _screen(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    message = told.Screened(**stamp, patient=visit.patient.key, outcome="clear", by="clinician-1")
    return Turn(replace(visit, mode=Mode.REQUEST if visit.is_ordered else Mode.EDIT), programme, 2.0, message)


def _edit(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    message = told.ClinicianEdited(
        **stamp,
        patient=visit.patient.key,
        exercise=visit.exercise.name,
        side=visit.plan.side,
        by="clinician-1",
        load_cap_N=visit.plan.load_cap_N,
        prescription=visit.plan.prescription,
        guarded=visit.plan.guarded,
    )
    return Turn(replace(visit, mode=Mode.REQUEST), programme, 3.0, message)


def _request(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    message = told.SessionRequested(
        **stamp,
        session=visit.session,
        patient=visit.patient.key,
        exercise=visit.exercise.name,
        side=visit.plan.side,
        intent=visit.plan.intent,
        settings=visit.patient.settings,
    )
    awaiting = Programme(
        machine=programme.machine,
        boot_id=programme.boot_id,
        capabilities=programme.capabilities,
        prescription=clamped(programme.capabilities, visit.plan.prescription),
        stage="awaiting",
        session=visit.session,
        last_sequence=programme.last_sequence,
    )
    return Turn(replace(visit, mode=Mode.AWAIT), awaiting, visit.habits.patience_s, message)


def _lose_patience(visit: Visit, programme: Programme, _: Stamp) -> Turn:
    return Turn(replace(visit, mode=Mode.BEGIN), programme, 0.0)


def _confirm(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    if visit.proposal is None:
        raise BrokenPromise("nobody proposed anything to consent to")
    agreed = bool(visit.rng.random() < visit.patient.compliance)
    kind = told.PrescriptionConfirmed if agreed else told.PrescriptionDeclined
    message = kind(**stamp, session=visit.session, command_id=visit.proposal.command_id, by="patient")
    return Turn(replace(visit, mode=Mode.ANSWER, agreed=agreed), programme, 0.2, message)


def _begin(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    message = told.SessionStarted(
        **stamp,
        session=visit.session,
        patient=visit.patient.key,
        exercise=visit.exercise.name,
        side=visit.plan.side,
        intent=visit.plan.intent,
        settings=visit.patient.settings,
        prescription=programme.prescription,
        pain_nrs=visit.patient.pain_start,
    )
    return Turn(replace(visit, mode=Mode.SET, began=True), replace(programme, stage="running"), 5.0, message)


def _leave(visit: Visit, programme: Programme, stamp: Stamp) -> Turn:
    stopped = programme.locked or programme.exercise_over
    message = told.SessionEnded(
        **stamp,
        session=visit.session,
        reason="stopped" if stopped else "abandoned" if visit.farewell or not visit.began else "done",
    )
    idle = replace(programme, stage="idle", session=None, lifting=False)
    return Turn(replace(visit, mode=Mode.GONE), idle, 0.0, message)


MOMENTS: Mapping[Mode, Moment] = {
    Mode.SCREEN: _screen,
    Mode.EDIT: _edit,
    Mode.REQUEST: _request,
    Mode.AWAIT: _lose_patience,
    Mode.CONFIRM: _confirm,
    Mode.BEGIN: _begin,
    Mode.SET: lifting.start_set,
    Mode.LIFT: lifting.lift,
    Mode.PUBLISH: lifting.publish,
    Mode.COMPLAIN: lifting.complain,
    Mode.HALT: lifting.halt,
    Mode.END_SET: lifting.end_set,
    Mode.REST: lifting.rest,
    Mode.LEAVE: _leave,
}
"""`ANSWER` is missing: acknowledging is the machine's business. `GONE` is the end."""
