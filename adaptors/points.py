"""Points: records of the metric and the command topic as rows of history.

Tags are bounded names (tenant, site, machine, exercise, side; rule, action and outcome of commands; name and severity
of notices). Sessions, patients and ids are fields, because as tags each of them would add series for ever. Every
number is a float, so that a field never changes its type; only the 64-bit counters stay integers. What is None or
empty is left out, and so are the reasons why a rep's metrics are undefined: the log has them, and here they would be
a fifth of all bytes.

Times
-----
History knows a point by measurement, tags and time in ns, while the log counts in ms. The ms is the log time of the
message; the ns within it comes from the id of the result, hence from its cause:

    (crc32(id without the seq of its cause) + seq of its cause) mod 1,000,000

A result that is delivered twice meets itself. Two results of one boot and one kind (the reps, or the commands of one
rule) differ in `seq` only, and can't meet unless a million messages lie between them: no machine sends a million
messages in 1 ms. Results of different boots or kinds meet with a chance of one in a million, and then still need the
same ms and the same tags to overwrite each other: after a reboot, say, with reps of both boots in one flush of 1 ms.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import get_args
from zlib import crc32

import msgspec

from streams.core.codec import decode_command, decode_metric
from streams.core.commands import Command, Evidence, Quantity
from streams.core.danger import EARLY
from streams.core.errors import Malformed
from streams.core.records import Record, header
from streams.core.results import (
    CommandClosed,
    MachineSeen,
    Metric,
    Notice,
    PatientAssessed,
    RepMeasured,
    SessionSummarised,
    SetSummarised,
)
from streams.core.telemetry import Prescription
from streams.core.topics import COMMAND

FieldValue = float | str | bool | int
Tags = tuple[tuple[str, str], ...]

MAX_SERIES_REMEMBERED = 16_384
"""Tag sets kept ready, about 1 kB each. A fleet with more series only pays for building them again."""

_NS_PER_MS = 1_000_000
_PLACE = ("tenant", "site", "machine")
_QUANTITIES: tuple[str, ...] = get_args(Quantity)


class Point(msgspec.Struct, frozen=True):
    """One row of history.

    Parameters
    ----------
    measurement : str
        What kind of thing was measured: `rep`, `set_summary`, `session_summary`, `patient`, `command`,
        `command_closed`, `machine`, `notice`.
    tags : tuple of (str, str)
        Bounded names, sorted by key, none of them empty.
    fields : dict of str to float, str, bool or int
        The values; at least one.
    t_ns : int
        Time in ns since 1970. Points of the same measurement, tags and time are one point, and their fields merge.
    """

    measurement: str
    tags: Tags
    fields: dict[str, FieldValue]
    t_ns: int


BEYOND_RETENTION = "beyond_retention"
"""Reason of a point that is older than history keeps anything: stored, it would be deleted at once."""


class Rejected(msgspec.Struct, frozen=True):
    """A point that history refuses for good: its index among the points written, one word, and a sentence."""

    index: int
    reason: str
    detail: str


def points(record: Record) -> Sequence[Point]:
    """Turn one record of the metric or the command topic into points.

    Raises
    ------
    Malformed
        The value is not a metric, not a command, or names no machine.

    Examples
    --------
    >>> from streams.core import codec, topics
    >>> notice = Notice(id="acme/north/m1/b1/7/gap", machine="acme/north/m1", cause="acme/north/m1/b1/7", at_ms=5,
    ...                 name="gap", severity="warning", detail="3 messages are missing")
    >>> point, = points(Record(topics.METRIC, 0, 0, b"acme/north/m1", codec.encode(notice), 5))
    >>> point.measurement, point.tags[:2], point.fields["detail"], point.t_ns
    ('notice', (('machine', 'm1'), ('name', 'gap')), '3 messages are missing', 5231948)
    """
    if record.value is None:
        raise Malformed("not_a_message", "a record without a value")
    if header(record, EARLY) is not None:
        return ()  # the controller's own STOP says it again, with all that it knows, and is the same point
    if record.topic == COMMAND:
        return (_command(decode_command(record.value)),)
    return (_point(decode_metric(record.value)),)


def _point(metric: Metric) -> Point:
    match metric:
        case RepMeasured():
            point = _rep(metric)
        case SetSummarised():
            point = _set_summary(metric)
        case SessionSummarised():
            point = _session_summary(metric)
        case PatientAssessed():
            point = _assessment(metric)
        case CommandClosed():
            point = _command_closed(metric)
        case MachineSeen():
            point = _machine(metric)
        case Notice():
            point = _notice(metric)
    return point


def time_ns(at_ms: int, id_: str) -> int:
    """Return the time in ns of the result `id_` (`tenant/site/machine/boot/seq/...`) that belongs to log time `at_ms`.

    Examples
    --------
    >>> time_ns(5, "acme/north/m1/b1/8") - time_ns(5, "acme/north/m1/b1/7")
    1
    """
    parts = id_.split("/")
    seq = parts.pop(4)[-6:] if len(parts) > 4 and parts[4].isdecimal() else "0"  # noqa: PLR2004 - see the form above
    return at_ms * _NS_PER_MS + (crc32("/".join(parts).encode()) + int(seq)) % _NS_PER_MS


@lru_cache(maxsize=MAX_SERIES_REMEMBERED)
def _tags(machine: str, *more: tuple[str, str]) -> Tags:
    names = machine.split("/")
    if len(names) != 3:  # noqa: PLR2004 - tenant, site and machine
        raise Malformed("bad_value", f"not a machine's key: {machine[:200]!r}")
    return tuple(sorted((key, value) for key, value in (*zip(_PLACE, names, strict=True), *more) if value))


def _rep(rep: RepMeasured) -> Point:
    fields: dict[str, FieldValue] = {
        **rep.values,
        "boot_id": rep.boot_id,
        "seq": rep.seq,
        "session": rep.session,
        "set_number": float(rep.set_number),
        "rep_number": float(rep.rep_number),
        "intent": rep.intent,
        "settings": rep.settings,
        "load_N": rep.load_N,
        "valid": rep.valid,
        "commands": float(len(rep.commands)),
        **_truths(corrected=rep.corrected),
        **_texts(patient=rep.patient, reasons=",".join(rep.reasons)),
    }
    tags = _tags(rep.machine, ("exercise", rep.exercise), ("side", rep.side))
    return Point("rep", tags, fields, time_ns(rep.at_ms, f"{rep.machine}/{rep.boot_id}/{rep.seq}"))


def _set_summary(summary: SetSummarised) -> Point:
    fields: dict[str, FieldValue] = {
        **summary.values,
        "id": summary.id,
        "cause": summary.cause,
        "session": summary.session,
        "set_number": float(summary.set_number),
        "intent": summary.intent,
        "settings": summary.settings,
        "load_N": summary.load_N,
        "reps": float(summary.reps),
        "valid_reps": float(summary.valid_reps),
        "accepted_reps": float(summary.accepted_reps),
        "incomplete": summary.incomplete,
        "commands": float(len(summary.commands)),
        **_numbers(target_reps=summary.target_reps, rpe=summary.rpe),
        **_truths(corrected=summary.corrected),
        **_texts(patient=summary.patient, ended_by=summary.ended_by, undefined=_pairs(summary.undefined)),
    }
    tags = _tags(summary.machine, ("exercise", summary.exercise), ("side", summary.side))
    return Point("set_summary", tags, fields, time_ns(summary.at_ms, summary.id))


def _session_summary(summary: SessionSummarised) -> Point:
    fields: dict[str, FieldValue] = {
        **summary.values,
        "id": summary.id,
        "cause": summary.cause,
        "session": summary.session,
        "intent": summary.intent,
        "settings": summary.settings,
        "sets": float(summary.sets),
        "reps": float(summary.reps),
        "valid_reps": float(summary.valid_reps),
        "last_set_reps": float(summary.last_set_reps),
        "all_sets_done": summary.all_sets_done,
        "incomplete": summary.incomplete,
        "commands": float(sum(summary.rules_fired.values())),
        **_numbers(start_load_N=summary.start_load_N, load_N=summary.load_N),
        **_numbers(pain_max=summary.pain_max, rpe_max=summary.rpe_max),
        **_truths(corrected=summary.corrected),
        **_texts(patient=summary.patient, ended_by=summary.ended_by),
        **_texts(undefined=_pairs(summary.undefined), rules_fired=_pairs(summary.rules_fired)),
        **_prescribed(summary.prescription),
    }
    tags = _tags(summary.machine, ("exercise", summary.exercise), ("side", summary.side))
    return Point("session_summary", tags, fields, time_ns(summary.at_ms, summary.id))


def _assessment(assessed: PatientAssessed) -> Point:
    fields: dict[str, FieldValue] = {
        **assessed.values,
        "id": assessed.id,
        "cause": assessed.cause,
        "patient": assessed.patient,
        "intent": assessed.intent,
        "settings": assessed.settings,
        "load_N": assessed.load_N,
        "sessions": float(assessed.sessions),
        "clean_sessions": float(assessed.clean_sessions),
        **_texts(undefined=_pairs(assessed.undefined)),
    }
    tags = _tags(assessed.machine, ("exercise", assessed.exercise), ("side", assessed.side))
    return Point("patient", tags, fields, time_ns(assessed.at_ms, assessed.id))


def _command(command: Command) -> Point:
    fields: dict[str, FieldValue] = {
        "command_id": command.command_id,
        "cause": command.cause,
        "boot_id": command.boot_id,
        "sequence": command.sequence,
        "policy": command.policy,
        "confirm": command.confirm,
        "expires_ms": command.expires_ms,
        **_numbers(set_number=command.set_number),
        **_asked_for(command),
        **_texts(session=command.session, cue=command.cue, evidence=", ".join(map(_evidence, command.evidence))),
        **_prescribed(command.prescription),
    }
    for change in command.changes:
        known = {"old": change.old, "new": change.new, "bound": change.bound}
        fields |= _numbers(**{f"{change.quantity}_{which}": value for which, value in known.items()})
    tags = _tags(command.machine, ("rule", command.rule), ("action", command.action))
    return Point("command", tags, fields, time_ns(command.issued_ms, command.command_id))


def _asked_for(command: Command) -> dict[str, FieldValue]:
    """Return the first and the last place of what is to be said again."""
    if command.missing is None:
        return {}
    return {"missing_first": command.missing.first_seq, "missing_last": command.missing.last_seq}


def _command_closed(closed: CommandClosed) -> Point:
    fields: dict[str, FieldValue] = {"command_id": closed.command_id, "cause": closed.cause}
    fields |= _texts(reason=closed.reason)
    tags = _tags(closed.machine, ("rule", closed.rule), ("action", closed.action), ("outcome", closed.outcome))
    return Point("command_closed", tags, fields, time_ns(closed.at_ms, closed.id))


def _machine(seen: MachineSeen) -> Point:
    fields: dict[str, FieldValue] = {
        "id": seen.id,
        "cause": seen.cause,
        "boot_id": seen.boot_id,
        "mode": seen.mode,
        "online": float(seen.online),
        "in_session": float(seen.mode in {"resting", "lifting"}),
        "locked": float(seen.mode == "locked"),
        **_texts(session=seen.session, patient=seen.patient),
    }
    return Point("machine", _tags(seen.machine), fields, time_ns(seen.at_ms, seen.id))


def _notice(notice: Notice) -> Point:
    fields: dict[str, FieldValue] = {"id": notice.id, "cause": notice.cause, **_texts(detail=notice.detail)}
    tags = _tags(notice.machine, ("name", notice.name), ("severity", notice.severity))
    return Point("notice", tags, fields, time_ns(notice.at_ms, notice.id))


def _numbers(**named: float | None) -> dict[str, FieldValue]:
    return {name: float(number) for name, number in named.items() if number is not None}


def _truths(**named: bool | None) -> dict[str, FieldValue]:
    return {name: truth for name, truth in named.items() if truth is not None}


def _texts(**named: str | None) -> dict[str, FieldValue]:
    return {name: text for name, text in named.items() if text}


def _pairs(named: Mapping[str, str] | Mapping[str, int]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(named.items()))


def _evidence(evidence: Evidence) -> str:
    return f"{evidence.name}={evidence.value} ({evidence.source})"


def _prescribed(prescription: Prescription | None) -> dict[str, FieldValue]:
    if prescription is None:
        return {}
    numbers = _numbers(**{f"prescribed_{name}": getattr(prescription, name) for name in _QUANTITIES})
    return {"prescription": prescription.id, **numbers}
