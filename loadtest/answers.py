"""Answers: how a machine answered each command, so that a repeated one is answered the same way and does nothing."""

from collections import OrderedDict
from typing import Literal

import msgspec

from loadtest.visit import Stamp
from streams.core.telemetry import Ack, CommandApplied, CommandExpired, CommandRejected

MAX_ANSWERS = 1_024
"""Answers that are kept; a session brings a few dozen. The oldest leaves first: its command is then refused as stale,
so even that one can't take effect twice. Only a STOP could, and the loop sends none that is older than an hour."""


class Answer(msgspec.Struct, frozen=True):
    """How a command ended at the machine; `load_N` is the load in N or N m that is held since then."""

    outcome: Literal["applied", "rejected", "expired"]
    reason: str = ""
    load_N: float | None = None

    def ack(self, stamp: Stamp, command_id: str) -> Ack:
        """Say it.

        Examples
        --------
        >>> Answer("expired").ack({"boot_id": "b1", "seq": 3, "t_us": 9}, "c1")
        CommandExpired(boot_id='b1', seq=3, t_us=9, schema_version=1, machine=None, command_id='c1')
        """
        if self.outcome == "applied":
            return CommandApplied(**stamp, command_id=command_id, load_N=self.load_N)
        if self.outcome == "expired":
            return CommandExpired(**stamp, command_id=command_id)
        return CommandRejected(**stamp, command_id=command_id, reason=self.reason)


class Answers:
    """The answers given so far, kept in memory that survives a reboot."""

    def __init__(self) -> None:
        self._by_id = OrderedDict[str, Answer]()  # a dict walks over all that it has lost at its front

    def earlier(self, command_id: str) -> Answer | None:
        """Return the answer that a command got before, or None if it is new."""
        return self._by_id.get(command_id)

    def keep(self, command_id: str, answer: Answer) -> None:
        """Remember an answer, and forget the oldest if there are too many."""
        self._by_id[command_id] = answer
        if len(self._by_id) > MAX_ANSWERS:
            self._by_id.popitem(last=False)
