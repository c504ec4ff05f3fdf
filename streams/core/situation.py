"""Situation: what the rules of a session see, and the changes that several of them ask for."""

import math
from typing import Literal

import msgspec

from streams.core.commands import Change, Command, Quantity
from streams.core.invariants import MIN_VALID_REPS
from streams.core.known import on_grid
from streams.core.operators import OperatorAsked
from streams.core.session import SessionState
from streams.core.sets import RepNote, SetState
from streams.core.telemetry import Capabilities, Event

LinkLoss = Literal["offline", "rebooted", "heartbeat_lost"]
"""How a machine was lost: its last will, another boot, or a hole in its own clock."""

MIN_WINDOW_SHARE = 0.2
"""Least share of the window that must be left when it is tightened; below it a movement is none (2.4)."""

WINDOW_DECIMALS = 6
"""Ends of a window are written to a micrometre or a microradian."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules see: the cause, the session, the set, and what the machine can do.

    `reps` are the last two valid reps, if the second of them has just come and rules may go by reps (S14, S15).
    `pending` are the session's commands that nobody has acknowledged: the machine may have obeyed them.
    """

    cause: str
    session: SessionState | None
    locked: bool = False
    capabilities: Capabilities | None = None
    event: Event | None = None
    link_loss: LinkLoss | None = None
    reps: tuple[RepNote, RepNote] | None = None
    pending: tuple[Command, ...] = ()
    asked: OperatorAsked | None = None

    @property
    def set(self) -> SetState | None:
        """The running set."""
        return None if self.session is None else self.session.set

    @property
    def fired(self) -> tuple[str, ...]:
        """The rules that already acted in this set, or since the last one."""
        if self.set is not None:
            return self.set.fired
        return () if self.session is None else self.session.between

    def easiest(self, quantity: Quantity, value: float) -> float:
        """Return a value in force, or the easier one that a command on its way has asked for (S1)."""
        asked = [one.new for command in self.pending for one in command.changes if one.quantity == quantity]
        return (max if quantity in {"rest_s", "window_lo"} else min)([value, *asked])


def two_reps(running: SetState | None) -> tuple[RepNote, RepNote] | None:
    """Return a set's last two valid reps, if the second of them has just come and there are three or more."""
    if running is None or not running.reps or not running.reps[-1].valid or running.valid_count < MIN_VALID_REPS:
        return None
    return running.last_two


def lowered(situation: Situation, cut_pct: float) -> tuple[Change, ...]:
    """Lower the load by a share of the value in force, down to the machine's grid, never below its minimum.

    What a command on its way asked for is taken as in force: whether the machine has obeyed it or not, nothing rises.
    """
    machine, session = situation.capabilities, situation.session
    if machine is None or session is None or session.load_N is None:
        return ()
    old_N = situation.easiest("load_N", session.load_N)
    wanted_N = old_N * (1.0 - cut_pct / 100.0)
    new_N = on_grid(round(wanted_N, 6), machine.load_min_N, machine.load_step_N)
    if new_N >= old_N:
        return ()
    return (Change(quantity="load_N", old=old_N, new=new_N, bound=machine.load_min_N),)


def range_step(machine: Capabilities, window: tuple[float, float], degrees: float) -> float:
    """Return a step of range in rad; on a machine in metres as many percent of the window, in m.

    Examples
    --------
    >>> turning = Capabilities(model="lx", exercise="row", position_unit="rad", load_min_N=20.0, load_max_N=800.0,
    ...                        load_step_N=5.0, travel_lo=0.0, travel_hi=1.2)
    >>> round(range_step(turning, (0.0, 1.0), 5.0), 6)
    0.087266
    >>> range_step(msgspec.structs.replace(turning, position_unit="m"), (0.0, 0.4), 5.0)
    0.02
    """
    is_angle = machine.position_unit == "rad"
    return math.radians(degrees) if is_angle else (window[1] - window[0]) * degrees / 100.0
