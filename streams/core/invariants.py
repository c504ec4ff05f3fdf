"""Invariants: the rows of the envelope that say whether a command may be sent at all (science.md 7.4).

Each takes the facts and the wish, and refuses, lets it pass at once, or says nothing. How far a change may go is the
matter of bounds.py; the order in which all of them are read stands in envelope.py.
"""

import math

import msgspec

from streams.core.commands import Command, Evidence, Quantity
from streams.core.known import RANGE, TEMPO, WINDOW, Known, harder, in_force, is_possible, new_value

CLEAN_SESSIONS = 2
"""Consecutive clean sessions after pain, a symptom, a fault or rules 0-4, before anything may be raised (S7)."""

MIN_VALID_REPS = 3
"""Valid reps of the set before a rep-based command (S14)."""

MIN_REPS_AGREEING = 2
"""Different reps whose numbers a rep-based command must show (S15)."""

TUL_CAP_S = 180.0
"""Time under load of a set in s that ends it by the first rep that reaches it (S15, S21)."""

_DURING_HOLD = frozenset({"emergency_stop", "pain_stop", "pain_reduce", "pain_next_morning"})
_REP_RULES = frozenset(
    {"rom_limit", "velocity_loss_stop", "paced_fatigue_stop", "rom_shortfall", "tempo_or_bounce", "unsteady_reduce"}
)
_ONCE_A_SET = frozenset({"pain_reduce", "rom_shortfall", "tempo_or_bounce", "unsteady_reduce"})
_NEVER_ALONE = ("reference_", "dtw", "cmc", "sparc", "ldlj", "composite", "form_score")
_ADJUSTING = frozenset({"lower_load", "tighten_range", "extend_rest", "drop_set"})


class Granted(msgspec.Struct, frozen=True):
    """A row's answer that ends the reading: the command passes as it is."""


class Refusal(msgspec.Struct, frozen=True):
    """A row's answer that ends the reading: the command is refused, and why."""

    detail: str


Verdict = Command | Refusal | Granted | None
"""What a row says: a clamped command, no, yes at once, or nothing."""


def _grounds(wish: Command) -> tuple[Evidence, ...]:
    """Return the evidence of a wish; that lesser rules hold as well is none."""
    return tuple(one for one in wish.evidence if one.name != "also_true")


def stop_always_passes(known: Known, wish: Command) -> Verdict:  # noqa: ARG001 - no fact can matter
    """S2: nothing refuses, delays or changes a STOP."""
    return Granted() if wish.action == "stop" else None


def numbers_are_possible(known: Known, wish: Command) -> Verdict:
    """S13: no number is out of its range, infinite or none."""
    told = [(one.quantity, value) for one in wish.changes for value in (one.old, one.new)]
    if wish.prescription is not None:
        told += [(name, value) for name in RANGE if (value := getattr(wish.prescription, name)) is not None]
    for quantity, value in told:
        if not is_possible(quantity, value):
            return Refusal(f"{quantity} {value} is not possible")
    others = [one.bound for one in wish.changes] + [one.value for one in wish.evidence]
    if any(isinstance(value, int | float) and not math.isfinite(value) for value in others):
        return Refusal("a bound or an evidence is not a finite number")
    lo, hi = (new_value(wish, name) if new_value(wish, name) is not None else in_force(known, name) for name in WINDOW)
    return Refusal(f"the window {lo}..{hi} is upside down") if lo is not None and hi is not None and lo > hi else None


def is_complete(known: Known, wish: Command) -> Verdict:  # noqa: ARG001 - whatever is known
    """S9: rule, evidence with values, old and new value, bound, expiry and key are there."""
    if not (wish.rule and wish.cause and wish.command_id):
        return Refusal("no rule, no cause or no key")
    if not any(one.source and one.name and one.value is not None for one in _grounds(wish)):
        return Refusal("no evidence with a source and a value")
    if wish.expires_ms <= wish.issued_ms:
        return Refusal("no time until the expiry")
    if wish.action in _ADJUSTING and not wish.changes:
        return Refusal(f"{wish.action} without an old and a new value")
    if (unbound := next((one.quantity for one in wish.changes if one.bound is None), None)) is not None:
        return Refusal(f"{unbound} changes without its bound")
    return None


def says_all_that_it_changes(known: Known, wish: Command) -> Verdict:
    """S9: nothing is changed that is not listed with its old value, and nothing twice."""
    if len({one.quantity for one in wish.changes}) < len(wish.changes):
        return Refusal("one quantity is changed twice")
    if (wish.action == "prescribe") != (wish.prescription is not None):
        return Refusal("a prescription belongs to `prescribe`, and to nothing else")
    if wish.action == "cue" and wish.changes:
        return Refusal("a cue changes nothing")
    return None if wish.prescription is None else _hidden_change(known, wish)


def _hidden_change(known: Known, wish: Command) -> Refusal | None:
    listed = {one.quantity: one.new for one in wish.changes}
    for quantity in RANGE:
        old, new = in_force(known, quantity), getattr(wish.prescription, quantity)
        if quantity in listed and listed[quantity] != new:
            return Refusal(f"{quantity} is {new} in the prescription and {listed[quantity]} in the changes")
        if quantity not in listed and new != old and (old is not None or _has_amounts(known, quantity)):
            return Refusal(f"{quantity} goes from {old} to {new} without being listed")
    return None


def _has_amounts(known: Known, quantity: Quantity) -> bool:
    """Tell whether None means "none is in force" for this quantity rather than "nobody knows"."""
    return known.in_force is not None and quantity in TEMPO


def resend_moves_nothing(known: Known, wish: Command) -> Verdict:
    """S25: a request to say messages again changes nothing and has no place in the sequence, so nothing else holds it.

    A locked machine and an unscreened patient's may be asked too, and of a boot that is over.
    """
    if (wish.action == "resend") != (wish.missing is not None):
        return Refusal("a stretch of messages belongs to `resend`, and `resend` names one")
    if wish.missing is None:
        return None
    if wish.changes or wish.cue is not None or wish.confirm or wish.sequence:
        return Refusal("a request to say messages again changes nothing, asks nothing and has no sequence")
    if wish.missing.first_seq > wish.missing.last_seq:
        return Refusal("the stretch of messages is upside down")
    return Refusal("expired") if known.now_ms >= wish.expires_ms else Granted()


def is_current(known: Known, wish: Command) -> Verdict:
    """S10: this boot, a sequence above the last one, and not expired."""
    if wish.boot_id != known.boot_id:
        return Refusal(f"for boot {wish.boot_id}, the machine is in {known.boot_id}")
    if wish.sequence <= known.last_sequence:
        return Refusal(f"sequence {wish.sequence} is not above {known.last_sequence}")
    return Refusal("expired") if known.now_ms >= wish.expires_ms else None


def screening_is_clear(known: Known, wish: Command) -> Verdict:  # noqa: ARG001 - whatever the wish is
    """S23: before screening is recorded as clear nothing but STOP goes out."""
    return None if known.screening == "clear" else Refusal(f"screening is {known.screening or 'unknown'}")


def machine_is_not_locked(known: Known, wish: Command) -> Verdict:  # noqa: ARG001 - whatever the wish is
    """S8: after STOP only a clinician's release unlocks."""
    return Refusal("locked until a clinician releases it") if known.locked else None


def data_is_whole(known: Known, wish: Command) -> Verdict:
    """S13: while data are held (rule 4), only rules 0-3 act."""
    return Refusal("data are held") if known.held and wish.rule not in _DURING_HOLD else None


def enough_valid_reps(known: Known, wish: Command) -> Verdict:
    """S14: no rep-based command on fewer than 3 valid reps."""
    if wish.rule in _REP_RULES and known.valid_reps_in_set < MIN_VALID_REPS:
        return Refusal(f"{known.valid_reps_in_set} valid reps")
    return None


def two_reps_agree(known: Known, wish: Command) -> Verdict:  # noqa: ARG001 - the evidence says it
    """S15: no single rep triggers a rule, the cap of time under load excepted."""
    if wish.rule not in _REP_RULES or len({one.source for one in _grounds(wish)}) >= MIN_REPS_AGREEING:
        return None
    tul_s = [one.value for one in wish.evidence if one.name == "tul_of_set_s"]
    capped = any(isinstance(value, int | float) and value >= TUL_CAP_S for value in tul_s)
    return None if wish.rule == "paced_fatigue_stop" and capped else Refusal("evidence of one rep only")


def no_velocity_loss_when_paced(known: Known, wish: Command) -> Verdict:
    """S16: velocity loss is an input of a rule only where the patient tries to be fast."""
    by_loss = wish.rule == "velocity_loss_stop" or any(one.name.startswith("velocity_loss") for one in wish.evidence)
    return Refusal(f"velocity loss with intent {known.intent}") if by_loss and known.intent != "max" else None


def not_by_similarity_alone(known: Known, wish: Command) -> Verdict:  # noqa: ARG001 - the evidence says it
    """S19: likeness to a reference (DTW, CMC ..), SPARC, LDLJ or a composite score alone give no more than a cue."""
    told = _grounds(wish)
    alone = all(one.name.startswith(_NEVER_ALONE) for one in told)
    return Refusal("smoothness or similarity alone") if alone and told and wish.action != "cue" else None


def once_a_set(known: Known, wish: Command) -> Verdict:
    """S21: rules 2, 8, 9 and 11 decrease once per set."""
    spent = wish.rule in _ONCE_A_SET and wish.rule in known.fired_in_set and wish.action != "cue"
    return Refusal(f"{wish.rule} has acted in this set") if spent else None


def harder_only_by_the_planner_at_a_start(known: Known, wish: Command) -> Verdict:
    """S1: within a session nothing is made harder."""
    raised = harder(known, wish)
    if not raised or (known.origin == "planner" and known.at_session_start and wish.action == "prescribe"):
        return None
    return Refusal(f"{raised[0].quantity} harder by the {known.origin}, or not at a session's start")


def nothing_unknown_is_raised(known: Known, wish: Command) -> Verdict:
    """S13: what is not known satisfies no condition for an increase."""
    if wish.action == "prescribe" and known.load_N is None:
        return Refusal("the load in force is unknown")
    raised = harder(known, wish)
    needed: dict[str, float | None] = {"clean_sessions": known.clean_sessions} if raised else {}
    if any(one.quantity == "load_N" for one in raised):
        names = ("load_N", "load_min_N", "load_max_N", "load_step_N", "week_low_N")
        needed |= {name: getattr(known, name) for name in names}
    needed |= {one.quantity: in_force(known, one.quantity) for one in raised if one.quantity in {*WINDOW, "rest_s"}}
    unknown = [name for name, value in needed.items() if value is None]
    return Refusal(f"unknown: {', '.join(unknown)}") if unknown else None


def two_clean_sessions_first(known: Known, wish: Command) -> Verdict:
    """S7: after pain > 2, a symptom, a fault or rules 0-4, two clean sessions come before any increase."""
    clean = known.clean_sessions
    if clean is None or clean >= CLEAN_SESSIONS or not harder(known, wish):
        return None
    return Refusal(f"{clean} clean sessions, {CLEAN_SESSIONS} needed")


def no_load_while_learning(known: Known, wish: Command) -> Verdict:
    """S18: in the learning phase, with new settings or after more than 56 days the load does not rise."""
    load = any(one.quantity == "load_N" for one in harder(known, wish))
    return Refusal("learning") if load and known.learning else None


def range_is_not_widened(known: Known, wish: Command) -> Verdict:
    """S6: no command widens the range, alone or together with the load."""
    wider = [one.quantity for one in harder(known, wish) if one.quantity in WINDOW]
    return Refusal(f"{wider[0]} would widen the range") if wider else None
