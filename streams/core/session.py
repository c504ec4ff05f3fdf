"""Session: what the controller remembers of a machine, its running session and set. Frozen, bounded, serialisable.

Every list has a bound, so that a state stays below `stage.MAX_STATE_BYTES` whatever a machine sends.
"""

import msgspec

from streams.core.commands import Command
from streams.core.measure import Measured
from streams.core.telemetry import (
    Ack,
    Capabilities,
    Event,
    Intent,
    Prescription,
    Rep,
    Screening,
    Side,
)

MAX_HELD = 8
"""Messages that wait for an earlier one; at one message in 3 s that is 24 s, far more than `LATE_MS`."""

LATE_MS = 2_000
"""How long a later message waits for an earlier one, in ms of log time. After that the earlier one counts as lost."""

MAX_REPS_KEPT = 60
"""Reps of the running set that are kept; a set of 60 reps lasts several minutes. Older ones leave the window."""

MAX_PENDING = 8
"""Commands of one machine that may wait for their acknowledgement; one more ends the oldest as expired."""

MAX_FIRED = 16
"""Rules of a set, with repetitions, that are remembered: more than there are that act more than once."""

MAX_CLOSED = 32
"""Ids of closed commands that are remembered, so that a late acknowledgement can't close one twice."""

MAX_PAST_BOOTS = 3
"""Earlier boots whose late messages are still told from repeated ones."""

MAX_AHEAD = 64
"""Messages of one boot that were acted on ahead of an earlier one and are remembered for it."""

MAX_HOLES = 16
"""Stretches of missing messages of one boot that may still be filled; what comes after the oldest is forgotten is
taken for a repetition."""

MAX_TEMPO_ERRORS = 100
"""Tempo errors of a session that are kept for their median; three sets of 30 reps fit."""


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """One ordered message as it was heard: its id, what it says (a rep without its samples), its measurements."""

    id: str
    message: Rep | Event | Ack
    measured: Measured | None = None


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A message that came before an earlier one, and the log time in ms at which it came."""

    since_ms: int
    heard: Heard


class Boot(msgspec.Struct, frozen=True, array_like=True):
    """The order of one boot: the next `seq` that is due, what waits behind it, what was acted on ahead of its turn.

    `holes` are stretches [first, next) before `due` that were given up as lost and have not come since.
    """

    boot_id: str
    due: int = 0
    held: tuple[Held, ...] = ()
    ahead: tuple[int, ...] = ()
    holes: tuple[tuple[int, int], ...] = ()
    t_us: int | None = None


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """A command that waits for its acknowledgement; `tries` counts how often it was sent."""

    command: Command
    sent_ms: int
    tries: int = 1


class RepNote(msgspec.Struct, frozen=True, array_like=True):
    """What later decisions need of one received rep; None where the metric is undefined.

    `is_fast` says that the patient was to be as fast as possible, and not warming up: only then is velocity a sign.
    """

    id: str
    number: int
    valid: bool
    accepted: bool
    is_fast: bool
    velocity: float | None
    range_of_motion: float | None
    rom_completeness_pct: float | None
    tempo_error_pct: float | None
    time_under_load_s: float | None
    work_J: float | None
    peak_force: float | None
    concentric_s: float | None = None
    eccentric_s: float | None = None
    is_bounced: bool = False
    is_paused: bool = False
    steadiness_pct: float | None = None
    tremor_pct: float | None = None
    end_range_force: float | None = None


class SetState(msgspec.Struct, frozen=True, array_like=True):
    """The running set. `fired` are the rules that acted in it, `missing` the count of lost messages."""

    number: int
    load_N: float
    reps: tuple[RepNote, ...] = ()
    received: int = 0
    invalid: int = 0
    accepted: int = 0
    missing: int = 0
    held: bool = False
    fired: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    rpe: int | None = None

    @property
    def valid(self) -> tuple[RepNote, ...]:
        """The valid reps, in order."""
        return tuple(rep for rep in self.reps if rep.valid)

    @property
    def fast(self) -> tuple[RepNote, ...]:
        """The valid reps of which velocity loss is known, in order."""
        return tuple(rep for rep in self.reps if rep.valid and rep.is_fast and rep.velocity is not None)

    @property
    def valid_count(self) -> int:
        """How many reps of the set were valid, kept or not."""
        return self.received - self.invalid


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """The running session, or the one that was requested and has not `started` yet.

    `between` are the rules that acted since the last set ended; `over` says that nothing more is to be done today.
    """

    id: str
    patient: str | None
    exercise: str
    side: Side
    intent: Intent
    settings: str
    request_id: str | None = None
    started: bool = False
    over: bool = False
    prescription: Prescription | None = None
    start_load_N: float | None = None
    load_N: float | None = None
    pain_start: int | None = None
    pain_max: int | None = None
    rpe_max: int | None = None
    sets: int = 0
    reps: int = 0
    valid_reps: int = 0
    last_set_reps: int = 0
    fewest_set_reps: int | None = None
    missing: int = 0
    rules_fired: tuple[tuple[str, int], ...] = ()
    rom_completeness_min_pct: float | None = None
    tempo_errors_pct: tuple[float, ...] = ()
    velocity_loss_max_pct: float | None = None
    tul_last_set_s: float | None = None
    work_J: float | None = None
    between: tuple[str, ...] = ()
    set: SetState | None = None


class MachineState(msgspec.Struct, frozen=True, array_like=True):
    """All that the controller remembers of one machine."""

    machine: str
    boot: Boot | None = None
    past: tuple[Boot, ...] = ()
    online: bool = False
    capabilities: Capabilities | None = None
    locked: bool = False
    last_sequence: int = -1
    screened: tuple[str, Screening] | None = None
    session: SessionState | None = None
    pending: tuple[Pending, ...] = ()
    closed: tuple[str, ...] = ()
