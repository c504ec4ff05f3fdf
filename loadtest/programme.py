"""The programme in force at a machine, and what a command may do to it: within a session, only make it easier."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from streams.core.commands import Change, Command, Quantity
from streams.core.telemetry import Capabilities, Prescription

REST_MAX_S = 180.0
"""Longest rest that a machine accepts from a command, in s."""


class Programme(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine holds to: the prescription in force, where the session stands, and what commands asked for."""

    machine: str
    boot_id: str
    capabilities: Capabilities
    prescription: Prescription
    stage: Literal["idle", "awaiting", "running"] = "idle"
    session: str | None = None
    set_number: int = 0
    lifting: bool = False
    locked: bool = False
    set_over: bool = False
    exercise_over: bool = False
    cues: int = 0
    last_sequence: int = -1

    @property
    def held_load(self) -> float:
        """The load that is really held, in N or N m: the minimum while the machine is locked."""
        return self.capabilities.load_min_N if self.locked else self.prescription.load_N


def on_grid(capabilities: Capabilities, load_N: float) -> float:
    """Round a load down to the machine's grid, which starts at its minimum, and keep it within its range; N or N m.

    Examples
    --------
    >>> from loadtest.exercise import EXERCISES
    >>> [on_grid(EXERCISES["seated_row"].capabilities, load_N) for load_N in (333.0, 1.0, 9e9)]
    [330.0, 20.0, 1500.0]
    """
    within_N = min(max(load_N, capabilities.load_min_N), capabilities.load_max_N)
    steps = math.floor((within_N - capabilities.load_min_N) / capabilities.load_step_N + 1e-9)
    return capabilities.load_min_N + steps * capabilities.load_step_N


def clamped(capabilities: Capabilities, prescription: Prescription) -> Prescription:
    """Bring a prescription within the machine's own limits; an open window becomes the machine's travel.

    Examples
    --------
    >>> from loadtest.exercise import EXERCISES
    >>> clamped(EXERCISES["seated_row"].capabilities, Prescription(id="p", load_N=9e9, window_lo=0.1)).window_hi
    0.75
    """
    lo, hi = capabilities.travel_lo, capabilities.travel_hi
    return replace(
        prescription,
        load_N=on_grid(capabilities, prescription.load_N),
        window_lo=lo if prescription.window_lo is None else min(max(prescription.window_lo, lo), hi),
        window_hi=hi if prescription.window_hi is None else min(max(prescription.window_hi, lo), hi),
        rest_s=min(prescription.rest_s, REST_MAX_S),
    )


EASIER: Mapping[Quantity, Literal["less", "more"]] = {
    "load_N": "less",
    "window_lo": "more",
    "window_hi": "less",
    "reps": "less",
    "sets": "less",
    "rest_s": "more",
    "tul_s": "less",
    "concentric_s": "more",
    "hold_s": "less",
    "eccentric_s": "more",
}
"""In which direction each quantity gets easier for the patient."""


def _is_harder(prescription: Prescription, change: Change) -> bool:
    held: float | None = getattr(prescription, change.quantity)
    if held is None:  # no tempo is prescribed: there is nothing that could get faster, and a hold is one more demand
        return change.quantity == "hold_s"
    return change.new > held if EASIER[change.quantity] == "less" else change.new < held


def _asks_harder(programme: Programme, command: Command) -> bool:
    changes = command.changes
    if command.action == "prescribe":
        if programme.stage != "running":
            return False  # before a session starts, the planner may raise
        changes += tuple(
            Change(quantity=quantity, old=0.0, new=value)
            for quantity in EASIER
            if (value := getattr(command.prescription, quantity)) is not None
        )
    return any(_is_harder(programme.prescription, change) for change in changes)


def _is_nonsense(programme: Programme, command: Command) -> bool:
    """Tell whether a command holds numbers that no machine could mean; merely too large ones are clamped."""
    if not all(math.isfinite(change.new) for change in command.changes):
        return True
    asked = command.prescription if command.action == "prescribe" else _changed(programme.prescription, command.changes)
    try:
        asked = msgspec.convert(msgspec.to_builtins(asked), Prescription)
    except msgspec.ValidationError:
        return True
    held = clamped(programme.capabilities, asked)
    return held.window_lo is None or held.window_hi is None or held.window_lo >= held.window_hi


Refusal = Callable[[Programme, Command, int], bool]

REFUSALS: Mapping[str, Refusal] = {
    "other_boot": lambda programme, command, _: command.boot_id != programme.boot_id,
    "expired": lambda _, command, now_ms: now_ms >= command.expires_ms,
    "stale_sequence": lambda programme, command, _: command.sequence <= programme.last_sequence,
    "locked": lambda programme, _, __: programme.locked,
    "no_session": lambda programme, _, __: programme.stage == "idle",
    "other_session": lambda programme, command, _: command.session not in {None, programme.session},
    "bad_value": lambda programme, command, _: _is_nonsense(programme, command),
    "increase_in_session": lambda programme, command, _: _asks_harder(programme, command),
    "session_running": lambda programme, command, _: command.action == "prescribe" and programme.stage == "running",
    "set_over": lambda programme, command, _: (
        command.action == "end_set" and not (programme.lifting and command.set_number in {None, programme.set_number})
    ),
}
"""Why a machine refuses, asked in this order. STOP for this machine is never refused, whatever its boot, order or age:
it may have been overtaken by the very command that it should have come before."""


def refusal(programme: Programme, command: Command, now_ms: int) -> str | None:
    """Return why the machine refuses a command that it has not seen before, or None if it obeys.

    Parameters
    ----------
    now_ms : int
        The machine's own idea of the log's time, in ms since 1970.
    """
    if command.machine != programme.machine:
        return "other_machine"
    if command.action == "stop":
        return None
    return next((reason for reason, holds in REFUSALS.items() if holds(programme, command, now_ms)), None)


def refuses_request(programme: Programme, command: Command, now_ms: int) -> str | None:
    """Return why the machine refuses a request to say messages again, or None; it moves nothing, so little matters."""
    if command.machine != programme.machine:
        return "other_machine"
    if now_ms >= command.expires_ms:
        return "expired"
    return "bad_value" if command.missing is None else None


def obeyed(programme: Programme, command: Command) -> Programme:
    """Let a command that was not refused take effect, clamped to the machine's own limits."""
    own_order = command.sequence if command.boot_id == programme.boot_id else -1
    programme = replace(programme, last_sequence=max(programme.last_sequence, own_order))
    if command.action == "stop":
        return locked(programme)
    if command.action == "prescribe" and command.prescription is not None:
        prescription = clamped(programme.capabilities, command.prescription)
    else:
        prescription = clamped(programme.capabilities, _changed(programme.prescription, command.changes))
    if command.action == "drop_set" and not any(change.quantity == "sets" for change in command.changes):
        prescription = replace(prescription, sets=max(1, prescription.sets - 1))
    return replace(
        programme,
        prescription=prescription,
        set_over=programme.set_over or command.action in {"end_set", "end_exercise"},
        exercise_over=programme.exercise_over or command.action == "end_exercise",
        cues=programme.cues + (command.action == "cue"),
    )


def locked(programme: Programme) -> Programme:
    """Ramp the load to the minimum and lock: what STOP and the stop button do. Only a clinician undoes it."""
    return replace(programme, locked=True, set_over=True, exercise_over=True)


def _changed(prescription: Prescription, changes: tuple[Change, ...]) -> Prescription:
    counts = {"reps", "sets"}
    new = {each.quantity: math.floor(each.new) if each.quantity in counts else each.new for each in changes}
    return replace(prescription, **new)
