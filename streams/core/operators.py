"""Operators: what a person at the operator page asks for, on its way to the controller (docs/decisions/0004)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streams.core.limits import Id, MachineKey, SchemaVersion

AskedId = Annotated[
    str, Meta(pattern="^[0-9a-f]{32}$", description="Random id, 32 hexadecimal digits: what is sent again has it too.")
]

_WORDS = r"^(?![\s\S]*[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff])\S"
"""No line ends, no control characters and nothing that turns the direction of writing; not blank at the start."""

OperatorName = Annotated[str, Meta(max_length=64, pattern=_WORDS, description="Who asks.")]
Reason = Annotated[
    str, Meta(min_length=3, max_length=200, pattern=_WORDS, description="Why, in a sentence; no name of a patient.")
]
Asked = Literal["stop", "acknowledge"]


class OperatorAsked(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="operator_asked"):
    """An operator wants a machine stopped, or has seen an alarm.

    It stands in the telemetry topic under the machine's key, outside the order of any boot, as a plan does. No machine
    can say it. `id` makes it count once, however often it is written; `alarm` is the id of the notice or command that
    was seen.

    Examples
    --------
    >>> OperatorAsked(machine="a/b/c", id="0" * 32, by="Kim", reason="seen", action="acknowledge")
    Traceback (most recent call last):
    ...
    ValueError: an acknowledgement names its alarm, a STOP names none
    """

    machine: MachineKey
    id: AskedId
    by: OperatorName
    reason: Reason
    action: Asked
    alarm: Id | None = None
    schema_version: SchemaVersion = 1

    def __post_init__(self) -> None:
        """Refuse an acknowledgement of nothing."""
        if (self.action == "acknowledge") != (self.alarm is not None):
            raise ValueError("an acknowledgement names its alarm, a STOP names none")

    @property
    def cause(self) -> str:
        """The id of what follows from it; no message of a machine has one like it."""
        return f"{self.machine}/operator/{self.id}"
