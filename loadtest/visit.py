"""A visit: one patient at one machine, from screening to farewell, as frozen state.

`loadtest.script` tells what happens in each of its modes.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypedDict

import msgspec
from msgspec.structs import replace
from numpy.random import Generator

from loadtest.exercise import Exercise
from loadtest.movement import RepSignal
from loadtest.patient import Complaint, Condition, Patient, Plan
from loadtest.programme import Programme
from streams.core import telemetry as told
from streams.core.commands import Command


class Mode(Enum):
    """What comes next in a visit."""

    SCREEN = auto()
    EDIT = auto()
    REQUEST = auto()
    AWAIT = auto()
    CONFIRM = auto()
    ANSWER = auto()
    BEGIN = auto()
    SET = auto()
    LIFT = auto()
    PUBLISH = auto()
    COMPLAIN = auto()
    HALT = auto()
    END_SET = auto()
    REST = auto()
    LEAVE = auto()
    GONE = auto()


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How a machine and the people around it behave; times in s of simulated time.

    Parameters
    ----------
    run : str
        Stands in every boot id: runs that share a log need different ones.
    patience_s : float
        How long a patient waits for a prescription before going on with what the machine has.
    halt_s : float
        How long a machine waits for STOP after a red flag before it locks itself.
    release_after_s : float
        When the clinician releases a locked machine.
    heartbeat_s : float
        Period of heartbeats, on the device clock.
    """

    run: str = "run"
    patience_s: float = 60.0
    halt_s: float = 20.0
    release_after_s: float = 120.0
    heartbeat_s: float = 5.0


class Stamp(TypedDict):
    """What every ordered message carries."""

    boot_id: str
    seq: int
    t_us: int


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One patient at one machine; everything but the state of `rng` is frozen.

    `is_ordered` tells that the clinician has given the machine this patient's plan before; `signal` is the repetition
    under way and `under` the prescription that it was begun with; `proposal` is a command that waits for consent and
    `agreed` the patient's word on it; `farewell` tells that the visit is cut short.
    """

    patient: Patient
    exercise: Exercise
    plan: Plan
    rng: Generator
    session: str
    habits: Habits
    is_ordered: bool = False
    mode: Mode = Mode.SCREEN
    condition: Condition = Condition()
    reps: int = 0
    cues_heard: int = 0
    under: told.Prescription | None = None
    signal: RepSignal | None = None
    complaint: Complaint = Complaint()
    rest_since_us: int = 0
    proposal: Command | None = None
    agreed: bool = False
    began: bool = False
    farewell: bool = False


class Turn(msgspec.Struct, frozen=True):
    """What a moment brought: both states, when the next moment comes in s of the device clock, what is said."""

    visit: Visit
    programme: Programme
    after_s: float
    message: told.Rep | told.Event | None = None


Moment = Callable[[Visit, Programme, Stamp], Turn]


def heading_out(visit: Visit, programme: Programme) -> Visit:
    """Send a visit to its end by the shortest way: put the load down, then say that the session is over."""
    mode = Mode.END_SET if programme.lifting else Mode.GONE if programme.stage == "idle" else Mode.LEAVE
    return replace(visit, mode=mode, proposal=None, farewell=True)


def is_last(programme: Programme) -> bool:
    """Tell whether no further set follows the one that is running or has just ended."""
    return programme.exercise_over or programme.set_number >= programme.prescription.sets
