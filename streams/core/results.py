"""Results: what the stages found out. Measured reps, summaries, closed commands and notices."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from streams.core.adaptive import Model
from streams.core.baseline import Baseline
from streams.core.limits import SchemaVersion
from streams.core.telemetry import Capabilities, Intent, PainMoment, Prescription, Screening, Side, Symptom

Outcome = Literal["applied", "rejected", "expired"]
"""How a command ended; exactly one of these."""

Severity = Literal["info", "warning", "alarm"]

MachineMode = Literal["offline", "idle", "requested", "resting", "lifting", "locked"]
"""What a machine is doing: gone; no session; one that waits for its plan; between sets; in a set; locked by a STOP."""


class _Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every result carries: its id (a function of its cause), its machine, its cause, the log time in ms."""

    id: str
    machine: str
    cause: str
    at_ms: int
    schema_version: SchemaVersion = 1


class RepMeasured(_Result, frozen=True, kw_only=True, tag="rep_measured"):
    """One rep in numbers.

    `values` holds what is defined, in the units of the catalogue, rounded to its precision; `undefined` names every
    other metric with its reason. `commands` are the ids of the commands that this rep caused. `corrected` says that
    gravity, cam and friction were taken out of its force; None is unknown.
    """

    boot_id: str
    seq: int
    session: str
    patient: str | None
    set_number: int
    rep_number: int
    exercise: str
    side: Side
    intent: Intent
    settings: str
    load_N: float
    valid: bool
    reasons: tuple[str, ...]
    values: Mapping[str, float]
    undefined: Mapping[str, str]
    commands: tuple[str, ...] = ()
    corrected: bool | None = None


class SetSummarised(_Result, frozen=True, kw_only=True, tag="set_summarised"):
    """One set in numbers; `incomplete` when a message of it was lost.

    `corrected` says that gravity, cam and friction were taken out of the force of every valid rep, False that they were
    taken out of none; None is unknown, or some of each.
    """

    session: str
    patient: str | None
    set_number: int
    exercise: str
    side: Side
    intent: Intent
    settings: str
    load_N: float
    reps: int
    valid_reps: int
    accepted_reps: int
    target_reps: int | None
    incomplete: bool
    rpe: int | None
    ended_by: str
    values: Mapping[str, float]
    undefined: Mapping[str, str]
    commands: tuple[str, ...] = ()
    corrected: bool | None = None


class SessionSummarised(_Result, frozen=True, kw_only=True, tag="session_summarised"):
    """One session in numbers, for the planner and for history.

    `rules_fired` counts the commands of each rule. `load_N` is the load in force when the session ended, and
    `start_load_N` the one that it began with. `baseline` is what the accepted reps of this session alone were like,
    `model` what the adaptive model knows after it.
    `corrected` says that gravity, cam and friction were taken out of the force of every rep; None is unknown.
    `began_ms` is the log time in ms at which it was requested, or started if nobody requested it. A session in which
    something went wrong before it could start is told too: it has no sets, no reps and no prescription.
    `last_set_reps` are the accepted reps of the last set at the prescribed load; `all_sets_done` says that as many of
    these sets as were prescribed had the reps that were.
    """

    session: str
    patient: str | None
    exercise: str
    side: Side
    intent: Intent
    settings: str
    prescription: Prescription | None
    start_load_N: float | None
    load_N: float | None
    sets: int
    reps: int
    valid_reps: int
    last_set_reps: int
    all_sets_done: bool
    incomplete: bool
    pain_max: int | None
    rpe_max: int | None
    rules_fired: Mapping[str, int]
    ended_by: str
    values: Mapping[str, float]
    undefined: Mapping[str, str]
    pain_start: int | None = None
    baseline: Baseline | None = None
    torque_by_bin: tuple[float | None, ...] | None = None
    model: Model | None = None
    corrected: bool | None = None
    began_ms: int | None = None


class PatientAssessed(_Result, frozen=True, kw_only=True, tag="patient_assessed"):
    """What is known of a patient at one exercise after a session: strength, balance, and the load that is proposed.

    `load_N` is in force, `sessions` counts for learning and `clean_sessions` for progress.
    """

    patient: str
    exercise: str
    side: Side
    intent: Intent
    settings: str
    load_N: float
    sessions: int
    clean_sessions: int
    values: Mapping[str, float]
    undefined: Mapping[str, str]


class CommandClosed(_Result, frozen=True, kw_only=True, tag="command_closed"):
    """A command ended in exactly one way; `reason` says why it was rejected or expired."""

    command_id: str
    rule: str
    action: str
    outcome: Outcome
    reason: str = ""


class Notice(_Result, frozen=True, kw_only=True, tag="notice"):
    """Something an operator should know; `name` is one word for it, `detail` a sentence."""

    name: str
    severity: Severity
    detail: str


class MachineSeen(_Result, frozen=True, kw_only=True, tag="machine_seen"):
    """What a machine is doing, said when that changes and, while anything is heard of it, once a minute.

    `online` is what its presence said last: a locked machine may be there or gone.
    """

    mode: MachineMode
    online: bool
    boot_id: str
    session: str | None
    patient: str | None


Metric = RepMeasured | SetSummarised | SessionSummarised | PatientAssessed | CommandClosed | MachineSeen | Notice
"""What the metric topic carries."""


class PlanRequested(_Result, frozen=True, kw_only=True, tag="plan_requested"):
    """A patient wants to begin at this machine, which can do this; `seq` is the request's place in its boot."""

    boot_id: str
    seq: int
    session: str
    patient: str
    exercise: str
    side: Side
    intent: Intent
    settings: str
    capabilities: Capabilities | None
    locked: bool


class PatientScreened(_Result, frozen=True, kw_only=True, tag="patient_screened"):
    """The outcome of a screening."""

    patient: str
    outcome: Screening
    by: str


class PlanEdited(_Result, frozen=True, kw_only=True, tag="plan_edited"):
    """A clinician's bounds and targets; None leaves a value as it was."""

    patient: str
    exercise: str
    side: Side
    by: str
    load_cap_N: float | None
    prescription: Prescription | None
    guarded: bool | None
    reps_max: int | None = None
    tul_max_s: float | None = None
    per_week: float | None = None
    goal_load_N: float | None = None
    mvt: float | None = None


class PainReported(_Result, frozen=True, kw_only=True, tag="pain_reported"):
    """A pain of 0-10, or a symptom, outside the running session.

    It was felt on the morning after a session, on a day of the diary, or now by someone whose session is over:
    `session`, if that is known, and the `exercise` of the machine where it is told.
    """

    patient: str
    felt: PainMoment
    pain_nrs: int | None
    symptom: Symptom = "none"
    session: str | None = None
    exercise: str | None = None


class TroubleArose(_Result, frozen=True, kw_only=True, tag="trouble_arose"):
    """A safety rule acted on a patient, or a set decides nothing: no progress follows.

    The session's summary will say so too, but it may be long in coming. `left` is what decreases have left of the
    session's prescription until then, whether its machine has taken the last of them up or not.
    """

    patient: str
    session: str
    rule: str
    exercise: str | None = None
    side: Side = "both"
    intent: Intent = "unknown"
    settings: str | None = None
    left: Prescription | None = None


PatientFact = PlanRequested | PatientScreened | PlanEdited | PainReported | TroubleArose | SessionSummarised
"""What the patient topic carries."""
