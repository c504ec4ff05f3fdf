"""Outputs: a stage's messages as records, each on its topic, under its key, with CloudEvents headers."""

import msgspec

from streams.core import codec
from streams.core.commands import Command
from streams.core.operators import OperatorAsked
from streams.core.plans import Answer, PlanMade, PlanRecalled, ScreeningTold
from streams.core.records import MSGPACK_TYPE, Header, NewRecord, Record, cloud_event
from streams.core.results import (
    Metric,
    Notice,
    PainReported,
    PatientFact,
    PatientScreened,
    PlanEdited,
    PlanRequested,
    SessionSummarised,
    TroubleArose,
)
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY

Output = Command | Metric | PatientFact | Answer | OperatorAsked


def to_records(output: Output, now_ms: int, extra: tuple[Header, ...] = ()) -> list[NewRecord]:
    """Write one output; a session summary goes to history and to the planner.

    Examples
    --------
    >>> from streams.core.results import Notice
    >>> notice = Notice(id="a/b/c/1/2/n", machine="a/b/c", cause="x", at_ms=5, name="n", severity="info", detail="")
    >>> [(record.topic, record.key) for record in to_records(notice, 5)]
    [('spineloop.metric.v1', b'a/b/c')]
    """
    match output:
        case Command():
            return [_record(COMMAND, output.machine, output, ce_id=output.command_id, now_ms=now_ms, extra=extra)]
        case PlanMade(command=command):
            return [
                _record(
                    TELEMETRY, command.machine, output, ce_id=f"{command.command_id}/plan", now_ms=now_ms, extra=extra
                )
            ]
        case (
            OperatorAsked(machine=machine, cause=ce_id)
            | ScreeningTold(machine=machine, id=ce_id)
            | PlanRecalled(machine=machine, id=ce_id)
        ):
            return [_record(TELEMETRY, machine, output, ce_id=ce_id, now_ms=now_ms, extra=extra)]
        case PlanRequested() | PlanEdited() | PatientScreened() | PainReported() | TroubleArose():
            return [_record(PATIENT, output.patient, output, ce_id=output.id, now_ms=now_ms, extra=extra)]
        case SessionSummarised(patient=str(patient)):
            return [
                _record(METRIC, output.machine, output, ce_id=output.id, now_ms=now_ms, extra=extra),
                _record(PATIENT, patient, output, ce_id=output.id, now_ms=now_ms, extra=extra),
            ]
        case _:
            return [_record(METRIC, output.machine, output, ce_id=output.id, now_ms=now_ms, extra=extra)]


def quarantine_notice(record: Record, detail: str, machine: str | None = None) -> list[NewRecord]:
    """Tell the operator that the key of a record is frozen, and why; where the key is none, of which machine it is."""
    cause = f"{record.topic}/{record.partition}/{record.offset}"
    notice = Notice(
        id=f"{cause}/notice/quarantined",
        machine=record.key.decode(errors="replace") if machine is None else machine,
        cause=cause,
        at_ms=record.timestamp_ms,
        name="quarantined",
        severity="alarm",
        detail=detail,
    )
    return to_records(notice, record.timestamp_ms)


def repeated(command: Command, attempt: int, now_ms: int) -> NewRecord:
    """Write a command once more under the same key: its `ce_id` names the attempt, so that it is sent again (S12)."""
    return _record(COMMAND, command.machine, command, ce_id=f"{command.command_id}#{attempt}", now_ms=now_ms, extra=())


def _record(
    topic: str, key: str, message: msgspec.Struct, *, ce_id: str, now_ms: int, extra: tuple[Header, ...]
) -> NewRecord:
    headers = cloud_event(
        ce_id=ce_id,
        ce_type=codec.ce_type(message),
        source=key,
        time_ms=now_ms,
        content_type=MSGPACK_TYPE,
        extra=extra,
    )
    return NewRecord(topic, key.encode(), codec.encode(message), now_ms, headers)
