"""Commands: one adjustment on its way down, with the evidence for it."""

from typing import Literal

import msgspec

from streams.core.limits import Counter64, Id, MachineKey, SchemaVersion, Token
from streams.core.telemetry import Prescription

Action = Literal[
    "stop",  # ramp the load to its minimum and lock until a clinician releases
    "end_exercise",  # no further set today
    "end_set",  # stop counting, put the load down
    "lower_load",
    "tighten_range",
    "extend_rest",
    "drop_set",  # one set fewer than prescribed
    "cue",  # show a hint, change nothing
    "prescribe",  # the whole prescription of the session that is about to begin
    "resend",  # say again what never came: it moves nothing
]
Quantity = Literal[
    "load_N", "window_lo", "window_hi", "reps", "sets", "rest_s", "tul_s", "concentric_s", "hold_s", "eccentric_s"
]


Number = int | float
"""A number that is written again exactly as it was read: an int stays one. With float alone a state that was saved and
restored would write 3.0 where it wrote 3 before, and the same command would have other bytes (E4)."""


class Evidence(msgspec.Struct, frozen=True):
    """One number that led to a command: the id of the rep, event or session it comes from, its name, its value."""

    source: str
    name: str
    value: Number | str | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity from its old to its new value, and the bound that was in force for it (None: no bound known)."""

    quantity: Quantity
    old: Number
    new: Number
    bound: Number | None = None


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Places in a boot's sequence, the first and the last of them included."""

    first_seq: Counter64
    last_seq: Counter64


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="command"):
    """One adjustment.

    `command_id` is also the idempotency key: the same cause and rule give the same id. `sequence` grows within
    `boot_id`; a machine refuses what is not above the last one that it applied, what belongs to another boot, and what
    has expired (STOP excepted). Times are log times in ms since 1970. `confirm` means: ask before it takes effect.

    `missing` are the messages that `resend` asks for, of the boot that `boot_id` names, which may be over. It has no
    place among the others: its sequence is 0, and no machine goes by it.
    """

    command_id: Id
    machine: MachineKey
    boot_id: Token
    sequence: Counter64
    action: Action
    rule: str
    cause: str
    evidence: tuple[Evidence, ...]
    changes: tuple[Change, ...] = ()
    session: Token | None = None
    set_number: int | None = None
    cue: str | None = None
    prescription: Prescription | None = None
    confirm: bool = False
    missing: Stretch | None = None
    policy: str
    issued_ms: int
    expires_ms: int
    schema_version: SchemaVersion = 1
