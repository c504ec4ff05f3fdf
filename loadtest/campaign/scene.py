"""Scene: a command, what the checker knows at the moment at which it came out, and what is wrong with it."""

from collections.abc import Callable, Iterator

import msgspec

from loadtest.campaign.ledger import (
    QUANTITIES,
    MachineSeen,
    PatientSeen,
    PlanSeen,
    SeriesSeen,
    SessionSeen,
    Values,
    harder,
    values_of,
)
from streams.core.commands import Command
from streams.core.policy import Policy


class Violation(msgspec.Struct, frozen=True):
    """What was seen that may never be: the invariant, what happened, in which world."""

    invariant: str
    detail: str
    seed: int = -1


class Scene(msgspec.Struct, frozen=True):
    """A command, and what is known of the world at the moment at which it came out."""

    command: Command
    machine: MachineSeen
    patient: PatientSeen | None
    now_ms: int
    policy: Policy

    @property
    def session(self) -> SessionSeen | None:
        """The session at the machine."""
        return self.machine.session

    @property
    def plan(self) -> PlanSeen | None:
        """The plan that the session is about."""
        session = self.session
        if session is None or self.patient is None:
            return None
        return self.patient.plans.get((session.exercise, session.side))

    @property
    def series(self) -> SeriesSeen | None:
        """The series that the session is about."""
        plan, session = self.plan, self.session
        if plan is None or session is None or plan.base is None:
            return None
        return plan.of(session.settings, session.intent)

    @property
    def raised(self) -> tuple[str, ...]:
        """What the command asks more of than is in force."""
        in_force, wanted = self.values
        return tuple(name for name in QUANTITIES if harder(name, in_force[name], wanted[name]))

    @property
    def values(self) -> tuple[Values, Values]:
        """The values in force, and those that the command leads to."""
        if self.command.action == "prescribe":
            series = self.series
            return (series.in_force if series else values_of(None)), values_of(self.command.prescription)
        wanted = values_of(None) | {one.quantity: one.new for one in self.command.changes}
        return self._lowest_asked(), wanted

    def _lowest_asked(self) -> Values:
        """Return what the machine holds, or less where a command that it may have obeyed already asks for less."""
        session = self.session
        lowest = dict(values_of(None) if session is None else session.held)
        for pending in self.machine.pending.values():
            if pending.action == "stop" or pending.session != self.command.session:
                continue
            for one in pending.changes:
                if harder(one.quantity, one.new, lowest[one.quantity]) or lowest[one.quantity] is None:
                    lowest[one.quantity] = one.new
        return lowest


Judge = Callable[[Scene], Iterator[str]]
