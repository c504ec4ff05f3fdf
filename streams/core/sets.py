"""Sets: what the controller remembers of the running set and of its reps. Frozen, bounded, serialisable."""

from collections.abc import Sequence

import msgspec

MAX_REPS_KEPT = 60
"""Reps of the running set that are kept; a set of 60 reps lasts several minutes. Older ones leave the window."""

MAX_FIRED = 16
"""Rules of a set, with repetitions, that are remembered: more than there are that act more than once."""

EARLY_REPS = (2, 3, 4)
"""Valid reps of a set whose force at the end of range later ones are held against (science.md 4)."""

MAX_LOST = 8
"""Stretches of lost messages of a set whose places are remembered, the last ones; how many were lost is counted."""

NO_INPUT = "invalid_input"
"""Reason of a metric where nobody knows a better one."""


class RepNote(msgspec.Struct, frozen=True, array_like=True):
    """What later decisions need of one received rep; None where the metric is undefined.

    `is_fast` says that the patient was to be as fast as possible, and not warming up: only then is velocity a sign.
    `bottom_hold_s` is the time since the rep before ended, by the device clock. `corrected` says that gravity, cam and
    friction were taken out of its force. `work_why`, `velocity_why` and `rom_why` say why there is none. `prescribed_s`
    are the times of its concentric and its eccentric that were asked for, in s; with intent max the concentric is free.
    `dwell_s` is how long it rested at the turnaround out of which it bounced. `tremor_pct` is that of force,
    `tremor_velocity_pct` that of velocity, noted only where there is no load cell: two series that are never mixed.
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
    bottom_hold_s: float | None = None
    corrected: bool | None = None
    work_why: str | None = None
    velocity_why: str | None = None
    rom_why: str | None = None
    prescribed_s: tuple[float | None, float | None] = (None, None)
    dwell_s: float | None = None
    tremor_velocity_pct: float | None = None

    @property
    def why_no_velocity(self) -> str | None:
        """Why a valid rep has no velocity; None if it has one."""
        return (self.velocity_why or NO_INPUT) if self.valid and self.velocity is None else None

    @property
    def why_no_work(self) -> str | None:
        """Why a valid rep has no work; None if it has some."""
        return (self.work_why or NO_INPUT) if self.valid and self.work_J is None else None

    @property
    def why_no_rom(self) -> str | None:
        """Why a valid rep has no completeness of its range; None if it has one."""
        return (self.rom_why or NO_INPUT) if self.valid and self.rom_completeness_pct is None else None


class SetState(msgspec.Struct, frozen=True, array_like=True):
    """The running set.

    Parameters
    ----------
    missing : int
        Lost messages.
    held : bool
        Whether rule 4 holds all decisions.
    fired : tuple of str
        Rules that acted in it; those that act once have used themselves up. A cue is none of these.
    acted : tuple of (str, int)
        For each rule that acted or gave a cue, how many valid reps there were when it last did.
    rpe : int or None
        Exertion that was reported last, 0-10.
    tul_s : float
        Time under load of all valid reps in s, kept or not.
    early_forces : tuple
        Force at the end of range of the valid reps `EARLY_REPS`, as far as they have come.
    curve_sum : bytes or None
        Sum of the force curves of the accepted reps (`streams.core.curves`), and `curves`, how many they are.
    last : tuple of (int, int) or None
        Number of the last rep and the device clock in us at its message.
    noticed : tuple of str
        What was told once already.
    rest_s : float or None
        Rest before it by the device clock, in s; None before a session's first set.
    why_invalid : tuple of (str, int)
        For each reason why reps were invalid, how many were.
    lost : tuple of (int, int)
        Stretches [first, next) of the `seq` of lost messages, as far as they are known.
    """

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
    acted: tuple[tuple[str, int], ...] = ()
    tul_s: float = 0.0
    early_forces: tuple[float | None, ...] = ()
    curve_sum: bytes | None = None
    curves: int = 0
    last: tuple[int, int] | None = None
    noticed: tuple[str, ...] = ()
    rest_s: float | None = None
    why_invalid: tuple[tuple[str, int], ...] = ()
    lost: tuple[tuple[int, int], ...] = ()

    @property
    def valid(self) -> tuple[RepNote, ...]:
        """The valid reps, in order."""
        return tuple(rep for rep in self.reps if rep.valid)

    @property
    def fast(self) -> tuple[RepNote, ...]:
        """The valid reps of which velocity loss is known, in order."""
        return tuple(rep for rep in self.reps if rep.valid and rep.is_fast and rep.velocity is not None)

    @property
    def best_velocity(self) -> float | None:
        """The best mean velocity in m/s or rad/s, of the reps that were to be fast."""
        return max((rep.velocity for rep in self.fast if rep.velocity is not None), default=None)

    @property
    def corrected(self) -> bool | None:
        """Whether the force of the valid reps is corrected; None where they differ, or there are none."""
        kinds = {rep.corrected for rep in self.valid}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def valid_count(self) -> int:
        """How many reps of the set were valid, kept or not."""
        return self.received - self.invalid

    @property
    def last_two(self) -> tuple[RepNote, RepNote] | None:
        """The two valid reps that came last, in order; None before there are two."""
        last = [rep for rep in self.reps[-2:] if rep.valid]
        if len(last) < 2:  # noqa: PLR2004 - an invalid rep is among them: look further back
            last = [rep for rep in self.reps if rep.valid][-2:]
        return (last[0], last[1]) if len(last) == 2 else None  # noqa: PLR2004 - two

    def with_why(self, reasons: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Return `why_invalid` with an invalid rep that has these reasons.

        Examples
        --------
        >>> SetState(1, 300.0, why_invalid=(("too_short", 1),)).with_why(("too_short", "saturated"))
        (('too_short', 2), ('saturated', 1))
        """
        counts = dict(self.why_invalid)
        for reason in reasons:
            counts[reason] = counts.get(reason, 0) + 1
        return tuple(counts.items())

    def reps_since(self, rule: str) -> int | None:
        """Return how many valid reps came since a rule last acted or gave a cue; None if it never did."""
        return next((self.valid_count - count for name, count in self.acted if name == rule), None)

    def with_act(self, rule: str) -> tuple[tuple[str, int], ...]:
        """Return `acted` with a rule that acts now.

        Examples
        --------
        >>> SetState(1, 300.0, received=4, acted=(("rom_shortfall", 2),)).with_act("rom_shortfall")
        (('rom_shortfall', 4),)
        """
        others = tuple(one for one in self.acted if one[0] != rule)
        return (*others, (rule, self.valid_count))[-MAX_FIRED:]
