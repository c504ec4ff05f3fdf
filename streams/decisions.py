"""Decisions: commands in short, and which of two policies' decisions are about the same thing.

A set that one policy ends at rep 6 and another one at rep 8 is one difference, not two. So decisions are paired within
a set: first those that are the same, then those of one rule, then those of one action, and what is left stands alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from streams.core.telemetry import Prescription

OPEN_SETS = 4
"""Sets of a machine whose decisions wait for the other policy's; a later decision closes the oldest."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One command: for whom, at which rep or on which message, what it changes, and what led to it."""

    machine: str
    patient: str | None
    session: str | None
    set_number: int | None
    rep_number: int | None
    on: str
    at_ms: int
    cause: str
    rule: str
    action: str
    cue: str | None = None
    changes: tuple[tuple[str, float, float], ...] = ()
    prescription: Prescription | None = None
    evidence: tuple[tuple[str, str, float | str | None], ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """What was decided of one thing under either policy; None is nothing."""

    before: Decided | None
    after: Decided | None

    @property
    def side(self) -> Decided:
        """The side that there is, the one before if there are both."""
        one = self.before or self.after
        if one is None:
            raise ValueError("nothing was decided on either side")
        return one

    @property
    def is_none(self) -> bool:
        """Whether both sides are the same, but for the evidence, which names the policy's own numbers."""
        return self.before is not None and self.after is not None and _same(self.before) == _same(self.after)


def _same(one: Decided) -> tuple[Any, ...]:
    return one.cause, one.rule, one.action, one.cue, one.changes, one.prescription


def _rule(one: Decided) -> tuple[Any, ...]:
    return one.rule, one.action


def _action(one: Decided) -> tuple[Any, ...]:
    return (one.action,)


Likeness = Callable[[Decided], tuple[Any, ...]]
LIKENESSES: Sequence[Likeness] = (_same, _rule, _action)
"""In this order; what is alike by one of them is one thing."""


def pairs(before: Sequence[Decided], after: Sequence[Decided]) -> list[Difference]:
    """Pair what two policies decided in one set.

    Examples
    --------
    >>> def end(rep: int) -> Decided:
    ...     return Decided(machine="m", patient=None, session="s", set_number=1, rep_number=rep, on="rep", at_ms=rep,
    ...                    cause=f"m/b/{rep}", rule="velocity_loss_stop", action="end_set")
    >>> [(pair.before.rep_number, pair.after.rep_number) for pair in pairs([end(6)], [end(8)])]
    [(6, 8)]
    """
    left, right = list(before), list(after)
    found: list[Difference] = []
    for likeness in LIKENESSES:
        for one in tuple(left):
            other = next((each for each in right if likeness(each) == likeness(one)), None)
            if other is not None:
                found.append(Difference(one, other))
                left.remove(one)
                right.remove(other)
    return [*found, *(Difference(one, None) for one in left), *(Difference(None, one) for one in right)]


class Pairing:
    """Gathers decisions of both policies by set, and gives them out as pairs when the set is long over."""

    def __init__(self) -> None:
        self._machines: dict[str, OrderedDict[tuple[str | None, int | None], tuple[list[Decided], list[Decided]]]] = {}

    def take(self, before: Sequence[Decided], after: Sequence[Decided]) -> Iterator[Difference]:
        """Take what one record led to; give out the sets that it closes."""
        for side, decisions in enumerate((before, after)):
            for one in decisions:
                sets = self._machines.setdefault(one.machine, OrderedDict())
                sets.setdefault((one.session, one.set_number), ([], []))[side].append(one)
                if len(sets) > OPEN_SETS:
                    _, closed = sets.popitem(last=False)
                    yield from pairs(*closed)

    def rest(self) -> Iterator[Difference]:
        """Give out the sets that are still open, machine by machine."""
        for _, sets in sorted(self._machines.items()):
            for both in sets.values():
                yield from pairs(*both)
        self._machines.clear()
