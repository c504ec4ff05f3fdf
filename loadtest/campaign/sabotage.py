"""Sabotage: rows taken out of the envelope, and rules that want what they may not, to see that the checker sees it.

A trick makes the stages wish for something that one row stands against. With the whole envelope nothing comes of it;
without that row the checker has to report it. Where another row stands behind, taking out one is not seen.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
from msgspec.structs import replace

from loadtest.campaign.one_world import live
from streams.core import bounds, envelope, invariants, turn
from streams.core.commands import Action, Change, Command, Evidence, Quantity, Stretch
from streams.core.envelope import ENVELOPE, Permitted, Refused
from streams.core.invariants import Verdict
from streams.core.known import Known
from streams.core.policy import Policy
from streams.core.rule import Match, Moment, Rule
from streams.core.session_rules import SESSION_RULES
from streams.core.situation import Situation
from streams.core.telemetry import Capabilities

Judge = Callable[[Known, Command], Verdict]
Spoil = Callable[[Known, Command], Command]


class Trick(msgspec.Struct, frozen=True, kw_only=True):
    """What stages are made to wish for, the row that stands against it, and what the checker calls it then.

    Where other rows stand `behind` this one, taking it out alone must not be seen.
    """

    row: Judge
    sees: frozenset[str]
    behind: tuple[Judge, ...] = ()
    spoil: Spoil | None = None
    rule: Rule[Situation] | None = None


@contextmanager
def at_work(trick: Trick, removed: tuple[Judge, ...]) -> Iterator[None]:
    """Let a trick be played with some rows out of the envelope."""
    kept = (envelope.ENVELOPE, envelope.permit, SESSION_RULES)

    def permit(known: Known, wish: Command) -> Permitted | Refused:
        return kept[1](known, wish if trick.spoil is None else trick.spoil(known, wish))

    rows = tuple(one for one in ENVELOPE if one.judge not in removed)
    rules = SESSION_RULES if trick.rule is None else (*SESSION_RULES, trick.rule)
    try:
        _put(rows, permit, rules)
        yield
    finally:
        _put(*kept)


def _put(
    rows: tuple[envelope.Invariant, ...],
    permit: Callable[[Known, Command], Permitted | Refused],
    rules: tuple[Rule[Situation], ...],
) -> None:
    for module, name, value in (
        (envelope, "ENVELOPE", rows),
        (envelope, "permit", permit),
        (turn, "SESSION_RULES", rules),
    ):
        setattr(module, name, value)


def seen(trick: Trick, removed: tuple[Judge, ...], worlds: int, seed: int = 0) -> frozenset[str]:
    """Live until the checker names an invariant that the trick breaks, or through all worlds; return which it named.

    Parameters
    ----------
    trick : Trick
        What is tried.
    removed : tuple of rows
        What is out of the envelope.
    worlds : int
        How many worlds at most.
    seed : int
        The first world.
    """
    found: set[str] = set()
    with at_work(trick, removed):
        for n in range(seed, seed + worlds):
            found |= {one.invariant for one in live(n).violations} & trick.sees
            if found:
                break
    return frozenset(found)


def _often(command: Command) -> bool:
    """Tell half of the commands from the others, always the same."""
    return zlib.crc32(command.command_id.encode()) % 2 == 0


def _raising(share: float, *, confirm: bool = True, cunning: bool = False) -> Spoil:
    """Ask for more load in half of the sessions, or, with cunning, in every one in which a rise is possible at all."""

    def spoil(known: Known, wish: Command) -> Command:
        is_timely = known.clean_sessions is not None and known.clean_sessions >= 2 and not known.learning
        if wish.prescription is None or known.load_N is None or not (is_timely if cunning else _often(wish)):
            return wish
        new_N = round(known.load_N * (1.0 + share), 3)
        if known.load_step_N is not None and known.load_min_N is not None:
            steps = math.floor((new_N - known.load_min_N) / known.load_step_N + 1e-6)
            new_N = round(known.load_min_N + steps * known.load_step_N, 3)
        if new_N <= known.load_N:
            return wish
        change = Change(quantity="load_N", old=known.load_N, new=new_N, bound=new_N)
        others = tuple(one for one in wish.changes if one.quantity != "load_N")
        told = replace(wish.prescription, load_N=new_N)
        return replace(wish, changes=(*others, change), prescription=told, confirm=confirm)

    return spoil


def _widening(known: Known, wish: Command) -> Command:
    """Ask for more range whenever a session begins."""
    if wish.prescription is None or known.window is None or not _often(wish):
        return wish
    new = round(known.window[1] + 0.02, 6)
    change = Change(quantity="window_hi", old=known.window[1], new=new, bound=new)
    others = tuple(one for one in wish.changes if one.quantity != "window_hi")
    return replace(wish, changes=(*others, change), prescription=replace(wish.prescription, window_hi=new))


def _hiding(known: Known, wish: Command) -> Command:
    """Add a rep without saying so."""
    if wish.prescription is None or known.in_force is None or not _often(wish):
        return wish
    return replace(wish, prescription=replace(wish.prescription, reps=known.in_force.reps + 1))


def _each(**fields: object) -> Spoil:
    """Spoil half of all commands but STOP in the same way."""

    def spoil(known: Known, wish: Command) -> Command:  # noqa: ARG001 - whatever is known
        return replace(wish, **fields) if wish.action != "stop" and _often(wish) else wish

    return spoil


def _no_number(known: Known, wish: Command) -> Command:  # noqa: ARG001 - whatever is known
    if wish.action == "stop" or not _often(wish):
        return wish
    return replace(wish, evidence=(*wish.evidence, Evidence(wish.cause, "peak_force", math.nan)))


def _hostile(
    rule: str,
    action: Action = "lower_load",
    quantity: Quantity = "load_N",
    factor: float = 0.95,
    *,
    moments: tuple[Moment, ...] = ("rep",),
    evidence: str = "rom_completeness_pct",
    reps: int = 2,
    even_locked: bool = False,
) -> Rule[Situation]:
    """Return a rule that always holds, and shows the last reps for it."""

    def match(situation: Situation, policy: Policy) -> Match | None:  # noqa: ARG001 - whatever the policy
        session = situation.session
        if session is None or session.set is None or session.prescription is None or situation.locked != even_locked:
            return None
        held = session.load_N if quantity == "load_N" else getattr(session.prescription, quantity)
        told = tuple(Evidence(rep.id, evidence, 80.0) for rep in session.set.valid[-reps:])
        if held is None or not told:
            return None
        new = round(_on_grid(held * factor, situation.capabilities) if quantity == "load_N" else held * factor, 6)
        return Match(
            action=action, evidence=told, changes=(Change(quantity=quantity, old=held, new=new, bound=50_000.0),)
        )

    return Rule(priority=-1, id=rule, moments=moments, match=match, parameters=(), source="sabotage")


def _on_grid(load_N: float, machine: Capabilities | None) -> float:
    if machine is None:
        return load_N
    steps = math.floor((load_N - machine.load_min_N) / machine.load_step_N + 1e-6)
    return round(machine.load_min_N + max(steps, 0) * machine.load_step_N, 3)


TRICKS: Mapping[str, Trick] = {
    "STOP is judged like any other command": Trick(row=invariants.stop_always_passes, sees=frozenset({"S2"})),
    "evidence that is no number": Trick(row=invariants.numbers_are_possible, spoil=_no_number, sees=frozenset({"S13"})),
    "no evidence": Trick(row=invariants.is_complete, spoil=_each(evidence=()), sees=frozenset({"S9"})),
    "a rep more, unlisted": Trick(row=invariants.says_all_that_it_changes, spoil=_hiding, sees=frozenset({"S9"})),
    "an old sequence": Trick(row=invariants.is_current, spoil=_each(sequence=0), sees=frozenset({"S10"})),
    "a request for messages hidden in another command": Trick(
        row=invariants.resend_moves_nothing,
        spoil=_each(missing=Stretch(first_seq=0, last_seq=1)),
        sees=frozenset({"S25"}),
    ),
    "commands before screening": Trick(
        row=invariants.screening_is_clear, rule=_hostile("rom_shortfall"), sees=frozenset({"S23"})
    ),
    "commands to a locked machine": Trick(
        row=invariants.machine_is_not_locked,
        rule=_hostile("rest_extend", "extend_rest", "rest_s", 1.01, moments=("rep", "event"), even_locked=True),
        sees=frozenset({"S8"}),
    ),
    "decisions from held data": Trick(
        row=invariants.data_is_whole,
        rule=_hostile("rest_extend", "extend_rest", "rest_s", 1.01, moments=("event", "set_end")),
        sees=frozenset({"S13"}),
    ),
    "decisions from one or two reps": Trick(
        row=invariants.enough_valid_reps, rule=_hostile("rom_shortfall"), sees=frozenset({"S14"})
    ),
    "decisions from a single rep": Trick(
        row=invariants.two_reps_agree, rule=_hostile("rom_shortfall", reps=1), sees=frozenset({"S15"})
    ),
    "velocity loss when paced": Trick(
        row=invariants.no_velocity_loss_when_paced,
        rule=_hostile("velocity_loss_stop", "end_set", evidence="velocity_loss_robust_pct"),
        sees=frozenset({"S16"}),
    ),
    "smoothness alone": Trick(
        row=invariants.not_by_similarity_alone,
        rule=_hostile("rom_shortfall", evidence="sparc_concentric"),
        sees=frozenset({"S19"}),
    ),
    "a decrease with every rep": Trick(
        row=invariants.once_a_set, rule=_hostile("rom_shortfall", factor=0.9), sees=frozenset({"S21"})
    ),
    "a shorter rest within a session": Trick(
        row=invariants.harder_only_by_the_planner_at_a_start,
        behind=(invariants.nothing_unknown_is_raised,),
        rule=_hostile("rest_extend", "extend_rest", "rest_s", 0.5, moments=("set_end", "rep")),
        sees=frozenset({"S1"}),
    ),
    "more load on an unknown machine": Trick(
        row=invariants.nothing_unknown_is_raised, spoil=_raising(0.04, cunning=True), sees=frozenset({"S13"})
    ),
    "more load after pain": Trick(
        row=invariants.two_clean_sessions_first, spoil=_raising(0.05), sees=frozenset({"S7"})
    ),
    "more load for a learner": Trick(
        row=invariants.no_load_while_learning, spoil=_raising(0.05), sees=frozenset({"S18"})
    ),
    "more range": Trick(row=invariants.range_is_not_widened, spoil=_widening, sees=frozenset({"S6"})),
    "more range than prescribed": Trick(
        row=bounds.range_stays_within_the_prescription,
        behind=(invariants.range_is_not_widened,),
        spoil=_widening,
        sees=frozenset({"S6"}),
    ),
    "a tenth more load": Trick(row=bounds.one_small_step, spoil=_raising(0.1), sees=frozenset({"S3"})),
    "more load every day": Trick(
        row=bounds.little_within_a_week, spoil=_raising(0.05, cunning=True), sees=frozenset({"S4"})
    ),
    "more load than the cap": Trick(row=bounds.within_machine_and_cap, spoil=_raising(0.05), sees=frozenset({"S5"})),
    "a rest without end": Trick(
        row=bounds.rest_has_an_end,
        rule=_hostile("rest_extend", "extend_rest", "rest_s", 4.0, moments=("set_end",)),
        sees=frozenset({"S21"}),
    ),
    "more load without asking": Trick(
        row=bounds.an_increase_is_confirmed, spoil=_raising(0.05, confirm=False), sees=frozenset({"S20"})
    ),
}
"""One trick for every row of the envelope."""
