"""Rules: how a decision table is read. Conditions are functions, one row each, in priority order."""

from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from streams.core.commands import Action, Change, Evidence
from streams.core.policy import Policy
from streams.core.telemetry import Prescription

Moment = Literal["event", "rep", "set_end", "plan"]
S = TypeVar("S")


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that holds: what it wants done, and the numbers that say so. `action` None only records that it holds."""

    action: Action | None
    evidence: tuple[Evidence, ...]
    changes: tuple[Change, ...] = ()
    cue: str | None = None
    prescription: Prescription | None = None
    confirm: bool = False


class Rule(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """One row of the table: priority, id, the moments at which it is asked, its condition, where it comes from."""

    priority: int
    id: str
    moments: tuple[Moment, ...]
    match: Callable[[S, Policy], Match | None]
    parameters: tuple[str, ...]
    source: str


class Decision(msgspec.Struct, frozen=True):
    """The rule that acts, and the ids of the lower ones that hold too."""

    rule: str
    match: Match
    also_true: tuple[str, ...]


def decide(rules: Sequence[Rule[S]], moment: Moment, situation: S, policy: Policy) -> Decision | None:
    """Ask the rules of a moment in order of priority; the first that holds acts, the others are recorded."""
    held = [(rule.id, match) for rule in rules if moment in rule.moments and (match := rule.match(situation, policy))]
    if not held:
        return None
    return Decision(held[0][0], held[0][1], tuple(rule_id for rule_id, _ in held[1:]))
