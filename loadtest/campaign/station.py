"""Station: a machine that says what it is told to say, in its own order and by its own clock, and mostly obeys."""

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from msgspec.structs import replace

from streams.core.commands import Command
from streams.core.telemetry import (
    Ack,
    Capabilities,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    Offline,
    Online,
    Prescription,
    PrescriptionConfirmed,
    PrescriptionDeclined,
    Telemetry,
)

M = TypeVar("M")
Say = Callable[[Telemetry], None]


class Station:
    """One machine.

    Parameters
    ----------
    key : str
        `tenant/site/machine`.
    capabilities : Capabilities
        What it can do.
    rng : Random
        Where chance comes from.
    honesty : float
        Probability that it answers a command as a machine should.
    """

    def __init__(self, key: str, capabilities: Capabilities, rng: Random, honesty: float) -> None:
        self.key, self.capabilities, self._rng, self._honesty = key, capabilities, rng, honesty
        self.held: Prescription | None = None
        self.session: str | None = None
        self.running = self.locked = self.set_over = self.exercise_over = False
        self.t_us = 0
        self._boots = 0
        self._seq = 0
        self.reboot()

    @property
    def boot_id(self) -> str:
        """The boot that runs."""
        return f"b{self._boots}"

    def reboot(self) -> None:
        """Lose everything but the lock."""
        self._boots += 1
        self._seq, self.t_us = 0, self._rng.choice((0, 1_000_000))
        self.held, self.session, self.running = None, None, False

    def stamped(self, kind: Callable[..., M], **fields: Any) -> M:  # noqa: ANN401 - checked by the message
        """Return the next message in order."""
        self._seq += 1
        return kind(boot_id=self.boot_id, seq=self._seq - 1, t_us=self.t_us, **fields)

    def online(self) -> Online:
        """Return what a machine says when it is there."""
        return Online(boot_id=self.boot_id, t_us=self.t_us, capabilities=self.capabilities)

    def offline(self) -> Offline:
        """Return its last will."""
        return Offline(boot_id=self.boot_id)

    def answers(self, command: Command, now_ms: int) -> list[Telemetry]:
        """Obey a command, or not; return what the machine says to it."""
        if self._rng.random() >= self._honesty:
            return self._odd_answer(command)
        if command.action == "stop":
            self.locked = self.set_over = self.exercise_over = True
            return [self._ack(CommandApplied, command, load_N=self.capabilities.load_min_N)]
        why = self._refusal(command)
        if why is not None:
            return [self._ack(CommandRejected, command, reason=why)]
        if now_ms >= command.expires_ms:
            return [self._ack(CommandExpired, command)]
        if command.confirm and self._rng.random() < 0.15:
            said = self.stamped(
                PrescriptionDeclined, session=command.session, command_id=command.command_id, by="patient"
            )
            return [said, self._ack(CommandRejected, command, reason="declined")]
        said_before: list[Telemetry] = []
        if command.confirm:
            said_before = [
                self.stamped(
                    PrescriptionConfirmed, session=command.session, command_id=command.command_id, by="patient"
                )
            ]
        self._obey(command)
        return [
            *said_before,
            self._ack(CommandApplied, command, load_N=None if self.held is None else self.held.load_N),
        ]

    def _refusal(self, command: Command) -> str | None:
        if command.boot_id != self.boot_id:
            return "other_boot"
        if self.locked:
            return "locked"
        if command.session != self.session:
            return "other_session"
        return "session_running" if command.action == "prescribe" and self.running else None

    def _obey(self, command: Command) -> None:
        self.set_over = self.set_over or command.action in {"end_set", "end_exercise"}
        self.exercise_over = self.exercise_over or command.action == "end_exercise"
        if command.action == "prescribe":
            self.held = command.prescription
        elif self.held is not None:
            changed = {one.quantity: one.new for one in command.changes}
            changed |= {name: int(value) for name, value in changed.items() if name in {"reps", "sets"}}
            self.held = replace(self.held, **changed)

    def _odd_answer(self, command: Command) -> list[Telemetry]:
        """Answer nothing, wrongly, twice, or do it and say nothing."""
        match self._rng.randrange(6):
            case 0:
                return []
            case 1:
                return [self._ack(CommandRejected, command, reason="bad_value")]
            case 2:
                return [self._ack(CommandExpired, command)]
            case 3:
                self._obey(command)
                return []
            case 4:
                self._obey(command)
                return [self._ack(CommandApplied, command)]
        lie_N = round(self._rng.uniform(0.0, 50_000.0), 1)
        return [self._ack(CommandApplied, command, load_N=lie_N), self._ack(CommandApplied, command)]

    def _ack(self, kind: Callable[..., Ack], command: Command, **fields: Any) -> Ack:  # noqa: ANN401 - checked by the message
        return self.stamped(kind, command_id=command.command_id, **fields)
