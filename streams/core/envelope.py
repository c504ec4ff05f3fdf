"""Envelope: the safety invariants that every command passes last (science.md 7.4), one row of a table each.

A row lets a command pass, clamps it, or refuses it. The rows are read from top to bottom: first STOP, then whether the
command is whole and may be sent at all, then its ground, then whether it may make anything harder, then how far.
S11 and S12 are duties of machine and controller, S17 of the policy, S22 and S24 are laws of the stages.
"""

from collections.abc import Callable

import msgspec

from streams.core import bounds, invariants
from streams.core.commands import Command
from streams.core.invariants import Granted, Refusal, Verdict
from streams.core.known import Known, Origin, only_possible

__all__ = ["ENVELOPE", "Invariant", "Known", "Origin", "Permitted", "Refused", "permit"]


class Permitted(msgspec.Struct, frozen=True):
    """The command that may be sent, and the invariants that changed it on the way."""

    command: Command
    clamped: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True):
    """The command that may not be sent, the invariant that says so, and why."""

    command: Command
    invariant: str
    detail: str


class Invariant(msgspec.Struct, frozen=True):
    """One row: its number in science.md, the part of it that it guards, and the function that judges."""

    id: str
    says: str
    judge: Callable[[Known, Command], Verdict]


ENVELOPE: tuple[Invariant, ...] = (
    Invariant("S2", "STOP always passes", invariants.stop_always_passes),
    Invariant("S13", "numbers are finite and in range", invariants.numbers_are_possible),
    Invariant("S9", "rule, evidence, values, bound, expiry and key are there", invariants.is_complete),
    Invariant("S9", "every change is listed", invariants.says_all_that_it_changes),
    Invariant("S25", "a request to say messages again moves nothing", invariants.resend_moves_nothing),
    Invariant("S10", "this boot, above the last sequence, not expired", invariants.is_current),
    Invariant("S23", "screening is clear", invariants.screening_is_clear),
    Invariant("S8", "a locked machine gets nothing", invariants.machine_is_not_locked),
    Invariant("S13", "data are not held", invariants.data_is_whole),
    Invariant("S14", "at least 3 valid reps for a rep-based command", invariants.enough_valid_reps),
    Invariant("S15", "no single rep decides", invariants.two_reps_agree),
    Invariant("S16", "no velocity loss when paced", invariants.no_velocity_loss_when_paced),
    Invariant("S19", "no similarity or smoothness alone", invariants.not_by_similarity_alone),
    Invariant("S21", "one decrease per rule and set", invariants.once_a_set),
    Invariant(
        "S1", "harder only by the planner, at a session's start", invariants.harder_only_by_the_planner_at_a_start
    ),
    Invariant("S13", "nothing unknown satisfies an increase", invariants.nothing_unknown_is_raised),
    Invariant("S7", "two clean sessions before an increase", invariants.two_clean_sessions_first),
    Invariant("S18", "no load increase while learning", invariants.no_load_while_learning),
    Invariant("S6", "the range is never widened", invariants.range_is_not_widened),
    Invariant("S6", "the range stays within the prescription", bounds.range_stays_within_the_prescription),
    Invariant("S3", "at most 5 % and one increment", bounds.one_small_step),
    Invariant("S4", "at most 10 % in 7 days", bounds.little_within_a_week),
    Invariant("S5", "within machine and cap, on the grid", bounds.within_machine_and_cap),
    Invariant("S21", "rest of at most 180 s", bounds.rest_has_an_end),
    Invariant("S20", "an increase is confirmed", bounds.an_increase_is_confirmed),
)


def permit(known: Known, wish: Command) -> Permitted | Refused:
    """Judge a command: the last thing that happens to it before it is issued.

    Parameters
    ----------
    known : Known
        The facts at this moment.
    wish : Command
        What controller or planner want.

    Returns
    -------
    Permitted or Refused
        The command, possibly clamped, with the invariants that clamped it; or the invariant that refuses it. Permitting
        a permitted command again changes nothing.

    Examples
    --------
    >>> from streams.core.commands import Evidence
    >>> stop = Command(
    ...     command_id="m/1/stop", machine="a/b/m", boot_id="b1", sequence=8, action="stop", rule="emergency_stop",
    ...     cause="m/1", evidence=(Evidence("m/1", "button", "stop"),), policy="p", issued_ms=0, expires_ms=30_000,
    ... )
    >>> known = Known(origin="controller", now_ms=60_000, boot_id="b2", locked=True)
    >>> permit(known, stop) == Permitted(stop, ())
    True
    >>> permit(known, msgspec.structs.replace(stop, action="end_set", boot_id="b2")).invariant
    'S10'
    """
    facts, command, clamped = only_possible(known), wish, list[str]()
    for row in ENVELOPE:
        match row.judge(facts, command):
            case Granted():
                return Permitted(command, ())
            case Refusal(detail=detail):
                return Refused(wish, row.id, detail)
            case Command() as judged if judged is not command:
                command = judged
                clamped.append(row.id)
    return Permitted(command, tuple(dict.fromkeys(clamped)))
