"""What a machine says: repetitions, events, acknowledgements and presence, on their way up."""

from typing import Literal

import msgspec

from streams.core.limits import (
    Counter64,
    Days,
    Id,
    Load,
    LoadStep,
    MachineKey,
    Mass,
    Name,
    PatientKey,
    PerWeek,
    Position,
    Rating,
    RepCount,
    RepNumber,
    RepTarget,
    SampleCount,
    SampleIndex,
    SampleRate,
    Samples,
    Scale,
    SchemaVersion,
    Seconds,
    Seq,
    SetNumber,
    SetTarget,
    Speed,
    Token,
)

Side = Literal["both", "left", "right"]
Intent = Literal["max", "paced", "unknown"]
PositionUnit = Literal["m", "rad"]
Screening = Literal["clear", "clinician_decides", "excluded", "red_flag"]
Symptom = Literal["none", "red_flag", "neurological", "radiating", "chest", "dizziness"]
Sign = Literal[1, -1]
PainMoment = Literal["now", "next_morning", "daily"]
"""When a pain was felt: in the session, on the morning after it, or on a day of the diary."""


class Prescription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the patient is to do: load, window of movement, tempo, amount and rest.

    `window_lo` and `window_hi` are positions in m or rad after the sign is applied; the three times are the tempo in
    s, None where the patient moves as fast as possible. `tul_s` is the time under load of a set that is aimed at, where
    sets are timed instead of counted; `rpe` the exertion that is aimed at, 0-10. `session_s` is how long the session
    will take in s, rests included, and `due_days` in how many days it should be followed by the next one; both are
    information, no machine acts on them.
    """

    id: Id
    load_N: Load
    window_lo: Position | None = None
    window_hi: Position | None = None
    concentric_s: Seconds | None = None
    hold_s: Seconds | None = None
    eccentric_s: Seconds | None = None
    reps: RepTarget = 10
    sets: SetTarget = 1
    rest_s: Seconds = 90.0
    tul_s: Seconds | None = None
    rpe: Rating | None = None
    session_s: Seconds | None = None
    due_days: Days | None = None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine can do: its load range and grid in N (or N m), its travel in m or rad."""

    model: Name
    exercise: Name
    position_unit: PositionUnit
    load_min_N: Load
    load_max_N: Load
    load_step_N: LoadStep
    travel_lo: Position
    travel_hi: Position


class _Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What every ordered message up carries: the boot it belongs to, its place in it, the device clock in us.

    `machine` may repeat the topic's machine, and then must agree with it.
    """

    boot_id: Token
    seq: Seq
    t_us: Counter64
    schema_version: SchemaVersion = 1
    machine: MachineKey | None = None


class Rep(_Told, frozen=True, kw_only=True, tag="rep"):
    """One repetition with its samples, published 0.5 s after it ended, with 0.5 s of context on both sides.

    `force` and `position` hold `samples` little-endian int16 counts each; a count times its scale is N (or N m) and
    m (or rad). `marks` are the machine's own idea of concentric start, concentric end, eccentric start and eccentric
    end, as sample indices. `settings` is a hash of seat and lever positions, `unknown` where nobody told the machine.
    The count -32768 says "no sample here", in every channel.

    `velocity` is what the device itself takes for the velocity, if it does, in the sign convention of `position`;
    `effective_mass_kg` what it moves besides the load; `calibrated` the pain-free range of these settings in m or rad;
    `corrected` says that gravity, cam and friction are taken out of the force. `voluntary_pause` marks a rep that the
    patient interrupted on purpose.
    """

    session: Token
    set_number: SetNumber
    rep_number: RepNumber
    exercise: Name
    side: Side = "both"
    intent: Intent = "unknown"
    load_N: Load
    settings: Token
    fs_hz: SampleRate
    samples: SampleCount
    force: Samples
    force_scale_N: Scale
    position: Samples
    position_scale: Scale
    position_unit: PositionUnit = "m"
    concentric_sign: Sign = 1
    force_sign: Sign = 1
    force_left: Samples | None = None
    force_right: Samples | None = None
    marks: tuple[SampleIndex, SampleIndex, SampleIndex, SampleIndex] | None = None
    warm_up: bool = False
    prescription: Prescription | None = None
    velocity: Samples | None = None
    velocity_scale: Scale | None = None
    effective_mass_kg: Mass | None = None
    calibrated: tuple[Position, Position] | None = None
    corrected: bool = False
    voluntary_pause: bool = False


class SessionRequested(_Told, frozen=True, kw_only=True, tag="session_requested"):
    """A patient stands at the machine and wants to begin; the planner answers with a prescription."""

    session: Token
    patient: PatientKey
    exercise: Name
    side: Side = "both"
    intent: Intent = "unknown"
    settings: Token


class SessionStarted(_Told, frozen=True, kw_only=True, tag="session_started"):
    """The session began under this prescription; `pain_nrs` is the pain at the start, 0-10, if it was asked."""

    session: Token
    patient: PatientKey
    exercise: Name
    side: Side = "both"
    intent: Intent = "unknown"
    settings: Token
    prescription: Prescription | None = None
    pain_nrs: Rating | None = None


class SessionEnded(_Told, frozen=True, kw_only=True, tag="session_ended"):
    """The session is over."""

    session: Token
    reason: Literal["done", "stopped", "abandoned"] = "done"


class SetStarted(_Told, frozen=True, kw_only=True, tag="set_started"):
    """A set begins at this load in N (or N m)."""

    session: Token
    set_number: SetNumber
    load_N: Load


class SetEnded(_Told, frozen=True, kw_only=True, tag="set_ended"):
    """A set ended; the machine's own count of its reps, and the exertion that the patient reported, 0-10."""

    session: Token
    set_number: SetNumber
    reps_done: RepCount
    rpe: Rating | None = None


class PrescriptionConfirmed(_Told, frozen=True, kw_only=True, tag="prescription_confirmed"):
    """Patient or clinician agreed to the increase that the command proposes."""

    session: Token
    command_id: Id
    by: Literal["patient", "clinician"]


class PrescriptionDeclined(_Told, frozen=True, kw_only=True, tag="prescription_declined"):
    """Patient or clinician refused the increase: the old values stay."""

    session: Token
    command_id: Id
    by: Literal["patient", "clinician"]


class SymptomReported(_Told, frozen=True, kw_only=True, tag="symptom_reported"):
    """What the patient feels: pain 0-10, exertion 0-10, a symptom, and the position in m or rad where it hurts.

    A pain that was felt on another day than today names its patient, because no session tells who it is.
    """

    session: Token | None = None
    patient: PatientKey | None = None
    felt: PainMoment = "now"
    pain_nrs: Rating | None = None
    rpe: Rating | None = None
    symptom: Symptom = "none"
    position: Position | None = None


class Screened(_Told, frozen=True, kw_only=True, tag="screened"):
    """The outcome of a patient's screening; nothing but STOP is sent before it is clear."""

    patient: PatientKey
    outcome: Screening
    by: Token


class ButtonPressed(_Told, frozen=True, kw_only=True, tag="button_pressed"):
    """A button on the machine."""

    button: Literal["stop", "pause", "help"]


class FaultRaised(_Told, frozen=True, kw_only=True, tag="fault_raised"):
    """The machine found a fault in itself, or its movement crossed the hard limit of its range."""

    fault: Name


class ClinicianEdited(_Told, frozen=True, kw_only=True, tag="clinician_edited"):
    """A clinician set bounds or targets for a patient and an exercise; None leaves a value as it was.

    `reps_max` and `tul_max_s` bound what rule 15 may ask for; `per_week` are the sessions that were agreed; reaching
    `goal_load_N` begins maintenance; `mvt` is the velocity of a single possible rep, in m/s or rad/s.
    """

    patient: PatientKey
    exercise: Name
    side: Side = "both"
    by: Token
    load_cap_N: Load | None = None
    prescription: Prescription | None = None
    guarded: bool | None = None
    reps_max: RepTarget | None = None
    tul_max_s: Seconds | None = None
    per_week: PerWeek | None = None
    goal_load_N: Load | None = None
    mvt: Speed | None = None


class Released(_Told, frozen=True, kw_only=True, tag="released"):
    """A clinician unlocked the machine after a STOP."""

    by: Token


class Heartbeat(_Told, frozen=True, kw_only=True, tag="heartbeat"):
    """The machine is alive; sent every 5 s. `queued` counts messages that it still keeps."""

    queued: Counter64 = 0


class CommandApplied(_Told, frozen=True, kw_only=True, tag="command_applied"):
    """The machine did it; `load_N` is what it really holds now, in N (or N m)."""

    command_id: Id
    load_N: Load | None = None


class CommandRejected(_Told, frozen=True, kw_only=True, tag="command_rejected"):
    """The machine refused."""

    command_id: Id
    reason: Name


class CommandExpired(_Told, frozen=True, kw_only=True, tag="command_expired"):
    """The command reached the machine after its expiry and had no effect."""

    command_id: Id


class Online(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="online"):
    """Retained: the machine is connected, in this boot, and can do this. Outside the order of `seq`."""

    boot_id: Token
    t_us: Counter64 = 0
    capabilities: Capabilities
    schema_version: SchemaVersion = 1
    machine: MachineKey | None = None


class Offline(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="offline"):
    """Retained, and the last will: the connection of this boot is gone. Outside the order of `seq`."""

    boot_id: Token
    schema_version: SchemaVersion = 1
    machine: MachineKey | None = None


Event = (
    SessionRequested
    | SessionStarted
    | SessionEnded
    | SetStarted
    | SetEnded
    | PrescriptionConfirmed
    | PrescriptionDeclined
    | SymptomReported
    | Screened
    | ButtonPressed
    | FaultRaised
    | ClinicianEdited
    | Released
    | Heartbeat
)
Ack = CommandApplied | CommandRejected | CommandExpired
Presence = Online | Offline
Ordered = Rep | Event | Ack
"""Messages with a place in their boot's sequence."""
Telemetry = Ordered | Presence
