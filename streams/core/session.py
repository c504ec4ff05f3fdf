"""Session: what the controller remembers of a machine and its running session. Frozen, bounded, serialisable.

Every list has a bound, so that a state stays below `stage.MAX_STATE_BYTES` whatever a machine sends. The running set
is in sets.py, what is learned for later sessions in learning.py.
"""

import msgspec

from streams.core import trouble
from streams.core.adaptive import Model
from streams.core.baseline import Baseline
from streams.core.commands import Command
from streams.core.learning import Learned
from streams.core.measure import Measured
from streams.core.sets import SetState
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
from streams.core.trouble import is_painful

MAX_HELD = 8
"""Messages that wait for an earlier one; at one message in 3 s that is 24 s, far more than `LATE_MS`."""

LATE_MS = 2_000
"""How long a later message waits for an earlier one, in ms of log time. After that the earlier one counts as lost."""

MAX_PENDING = 8
"""Commands of one machine that may wait for their acknowledgement; one more ends the oldest as expired."""

MAX_CLOSED = 32
"""Ids of closed commands that are remembered, so that a late acknowledgement can't close one twice."""

MAX_PAST_BOOTS = 8
"""Earlier boots whose late messages are still told from repeated ones; those of older ones are put aside."""

MAX_GONE = 64
"""Boots before those that are remembered only as over, by 8 bytes each: nothing of them begins a boot again."""

MAX_RECENT = 4
"""Sessions that are over and whose patients are remembered, for a pain that is told after them."""

MAX_AHEAD = 64
"""Messages of one boot that were acted on ahead of an earlier one and are remembered for it."""

MAX_HOLES = 64
"""Stretches of missing messages of one boot that may still be filled; what comes after the oldest is forgotten is
taken for a repetition."""

MAX_REPAIRS = 16
"""Stretches of messages that a machine may owe at a time; one more gives up the oldest, and says so."""

MAX_ASKING = 4
"""How many of them are asked for at a time; the others wait for their turn."""

MAX_REPAIRED = 16
"""Ids of closed requests that are remembered, so that a late acknowledgement is known for what it is."""

MAX_GAPPED = 8
"""Sessions of which something is missing that are remembered until it is settled."""

MAX_TEMPO_ERRORS = 100
"""Tempo errors of a session that are kept for their median; three sets of 30 reps fit."""

MAX_ASKED = 16
"""Ids of what operators asked for that are remembered, so that what is written twice counts once."""


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

    `holes` are stretches [first, next) before `due` that were given up as lost and have not come since, `losses` how
    often the link of a running session was lost, `back` the place at which it was last there again after it had been
    away, and how often it has been so at that place before; `left` the same of its going.
    """

    boot_id: str
    due: int = 0
    held: tuple[Held, ...] = ()
    ahead: tuple[int, ...] = ()
    holes: tuple[tuple[int, int], ...] = ()
    t_us: int | None = None
    losses: int = 0
    back: tuple[int, int] = (-1, 0)
    left: tuple[int, int] = (-1, 0)


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """A command that waits for its acknowledgement; `tries` counts how often it was sent."""

    command: Command
    sent_ms: int
    tries: int = 1


class Repair(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of a boot's messages that was given up, from `first` to `last`, of which `left` have not come since.

    `cause` is the message that showed it, `sessions` are those whose record lacks it. `command` asks for it, from the
    moment at which there is a place for it; `outcome` and `reason` tell how that ended.
    """

    boot_id: str
    first: int
    last: int
    left: int
    cause: str
    sessions: tuple[str, ...] = ()
    command: Command | None = None
    tries: int = 1
    outcome: str = ""
    reason: str = ""


class Gapped(msgspec.Struct, frozen=True, array_like=True):
    """A session whose record lacks something: whether it is over, and why it will stay so, if it will."""

    session: str
    over: bool = False
    failed: str = ""


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """The running session, or the one that was requested and has not `started` yet.

    Parameters
    ----------
    over : bool
        Whether nothing more is to be done today.
    prescription : Prescription or None
        What is to be done; what rules 2 and 10 took off it is off.
    between : tuple of str
        The rules that acted since the last set ended.
    limit : tuple of (float, float) or None
        The window in m or rad that rule 5 has left of the prescribed one for this session.
    baseline, learned : Baseline or None, Learned
        What the patient's reps were like in earlier sessions, and what they are like in this one.
    first_best : float or None
        Best mean velocity of the first set that has one, in m/s or rad/s.
    rest_extended : int
        Which set's end, counted from 1, lengthened the rest last; 0 is none.
    noticed : tuple of str
        What was told once already.
    model : Model or None
        What the adaptive model knows of the patient at this series; None is the population's prior.
    set_ended_us : int or None
        Device clock in us at the end of the last set.
    began_ms : int or None
        Log time in ms at which it was requested, or started if nobody requested it.
    tightened : float
        How much of the range rule 5 has taken away in this session, in m or rad.
    cut_N : float or None
        The load in N or N m that decreases of this session have left of the prescribed one; no set may begin with more.
    calibrated : tuple of (float, float) or None
        The pain-free range that the machine was calibrated to at this seat, in m or rad, as the last rep has it.
    work_sets : int
        The sets that count for progress: with a rep that was accepted, and at the load that was prescribed.
        `last_set_reps` and `fewest_set_reps` are accepted reps of these, `tul_last_set_s` is of the last of them.
    work_J, work_why : float or None, str or None
        Work of those valid reps of which it is known, in J, and why it is not of the first of the others.
    velocity_loss_why : str or None
        Why the first set without a velocity loss has none.
    screening : str or None
        How its patient was screened, where the machine has been told of another patient's screening since.
    taught : bool
        Whether a set of it has taught the adaptive model something.
    rom_why : str or None
        Why the first valid rep without a completeness of its range has none: then the session has none (S13).
    is_loss_known : bool
        Whether each work set has a velocity loss: otherwise the session has none (S13).
    recalled : tuple of (str, str) or None
        What its plan was withdrawn for, the planner's recall or a release, and the cause of that, until another plan is
        asked for.
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
    limit: tuple[float, float] | None = None
    baseline: Baseline | None = None
    learned: Learned = Learned()
    first_best: float | None = None
    rest_extended: int = 0
    noticed: tuple[str, ...] = ()
    model: Model | None = None
    set_ended_us: int | None = None
    began_ms: int | None = None
    tightened: float = 0.0
    work_sets: int = 0
    cut_N: float | None = None
    calibrated: tuple[float, float] | None = None
    work_why: str | None = None
    velocity_loss_why: str | None = None
    screening: Screening | None = None
    taught: bool = False
    rom_why: str | None = None
    is_loss_known: bool = True
    recalled: tuple[str, str] | None = None

    @property
    def waits(self) -> bool:
        """Whether it was requested and nothing of it has begun: only then may a plan still come."""
        return self.request_id is not None and not self.started and self.set is None

    @property
    def is_known(self) -> bool:
        """Whether its start was heard: who trains, and under which prescription."""
        return self.started and self.patient is not None and self.prescription is not None

    @property
    def is_troubled(self) -> bool:
        """Whether there was pain in it, or one of rules 0-2 acted (S7)."""
        return is_painful(self.pain_max) or any(rule in trouble.RULES for rule, _ in self.rules_fired)

    @property
    def prescribed_window(self) -> tuple[float, float] | None:
        """The prescribed window in m or rad; None if there is none or only half of one."""
        told = self.prescription
        if told is None or told.window_lo is None or told.window_hi is None:
            return None
        return told.window_lo, told.window_hi

    @property
    def window(self) -> tuple[float, float] | None:
        """The window in force, in m or rad."""
        return self.prescribed_window if self.limit is None else self.limit


class MachineState(msgspec.Struct, frozen=True, array_like=True):
    """All that the controller remembers of one machine.

    `screened_seq` is the last screening's place in this boot, `released_seq` that of the last release. `stopped_seq` is
    that of the last word before the last STOP, in the boot `stopped_in`.
    `recent` are the last sessions that are over, with their patients, `gone` marks of boots before those in `past`,
    `asked` the ids of what operators asked for last. `repairs` are the stretches that the machine owes, `repaired` the
    ids of requests for them that are closed, `gapped` the sessions that wait for them.
    """

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
    screened_seq: int = -1
    stopped_seq: int = -1
    recent: tuple[tuple[str, str], ...] = ()
    gone: tuple[bytes, ...] = ()
    asked: tuple[str, ...] = ()
    repairs: tuple[Repair, ...] = ()
    repaired: tuple[str, ...] = ()
    gapped: tuple[Gapped, ...] = ()
    released_seq: int = -1
    stopped_in: str = ""
