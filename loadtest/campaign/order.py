"""Order: in which order the checker believes that a machine's messages count. Its own idea, from docs/architecture.md.

What comes too early waits for the earlier one, at most 2 s or 8 messages, and not beyond the machine's farewell; then
the earlier one counts as lost. What can't wait counts at once. Nothing counts twice, and what comes after it was given
up counts only if it is dangerous, or forbids.
"""

from typing import Literal

import msgspec

from loadtest.campaign.network import Letter
from streams.core.telemetry import (
    ButtonPressed,
    CommandApplied,
    CommandExpired,
    CommandRejected,
    FaultRaised,
    Ordered,
    Released,
    Screened,
    SymptomReported,
)

WAIT_MS = 2_000
WAITING = 8

How = Literal["in turn", "ahead", "late", "new boot"]


class Lost(msgspec.Struct, frozen=True):
    """So many messages never came."""

    count: int


class Counted(msgspec.Struct, frozen=True):
    """A message that counts now, and how it came to."""

    letter: Letter
    how: How


class NewBoot(msgspec.Struct, frozen=True):
    """The machine has restarted; everything before is over."""

    boot_id: str


Item = Counted | Lost | NewBoot


class _Boot:
    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id
        self.due = 0
        self.counted: set[int] = set()
        self.given_up: set[int] = set()
        self.gaps: set[tuple[int, int]] = set()
        self.waiting: dict[int, tuple[int, Letter]] = {}

    def give_up(self, seq: int) -> int:
        """Give up what was not heard before a place in the sequence; return how many messages that are."""
        missing = [one for one in range(self.due, seq) if one not in self.counted]
        self.given_up.update(missing)
        firsts = [one for one in missing if one - 1 not in missing]
        lasts = [one for one in missing if one + 1 not in missing]
        self.gaps.update(zip(firsts, lasts, strict=True))
        return len(missing)


def is_danger(message: object, pain_stop: int) -> bool:
    """Tell whether a message can't wait: a symptom, strong pain now, the stop button, a fault, a red flag."""
    match message:
        case SymptomReported(symptom=symptom, felt=felt, pain_nrs=pain):
            return symptom != "none" or (felt == "now" and pain is not None and pain > pain_stop)
        case ButtonPressed(button="stop") | FaultRaised() | Screened(outcome="red_flag"):
            return True
    return False


class Order:
    """The order of one machine's messages."""

    def __init__(self, pain_stop: int) -> None:
        self._pain_stop = pain_stop
        self._boots: list[_Boot] = []

    @property
    def boot_id(self) -> str | None:
        """The boot that runs."""
        return self._boots[-1].boot_id if self._boots else None

    def is_past(self, boot_id: str) -> bool:
        """Tell whether a boot is over."""
        return any(one.boot_id == boot_id for one in self._boots[:-1])

    def gaps(self, boot_id: str) -> set[tuple[int, int]]:
        """Return the stretches of a boot that were given up, first and last place."""
        return {gap for one in self._boots if one.boot_id == boot_id for gap in one.gaps}

    def is_repeated(self, boot_id: str, seq: int) -> bool:
        """Tell whether a message has been heard before, whether it counts yet or not."""
        boot = next((one for one in self._boots if one.boot_id == boot_id), None)
        return boot is not None and (seq in boot.counted or seq in boot.waiting)

    def boot(self, boot_id: str) -> list[Item]:
        """Begin another boot if this is one: what waited counts first."""
        if self.boot_id == boot_id:
            return []
        items = self.leave()
        self._boots.append(_Boot(boot_id))
        return [*items, NewBoot(boot_id)]

    def leave(self) -> list[Item]:
        """Return what waited and counts now, because the machine is gone."""
        return self._let_go(self._boots[-1], 0, at_once=True) if self._boots else []

    def take(self, letter: Letter, message: Ordered, now_ms: int, *, is_of_here: bool = True) -> list[Item]:
        """Take a message in; return what counts now. A pain that is of no session `here` waits for its turn."""
        if self.is_repeated(message.boot_id, message.seq):
            return []
        past = next((one for one in self._boots[:-1] if one.boot_id == message.boot_id), None)
        if past is not None:
            if message.seq not in past.given_up:
                past.give_up(message.seq)
                past.due = max(past.due, message.seq + 1)
            past.counted.add(message.seq)
            return self._too_late(letter)
        begun = self.boot(message.boot_id)
        boot = self._boots[-1]
        if message.seq in boot.given_up:
            boot.counted.add(message.seq)
            return self._too_late(letter)
        is_pain = isinstance(message, SymptomReported) and message.symptom == "none"
        if message.seq > boot.due and is_danger(message, self._pain_stop) and (is_of_here or not is_pain):
            boot.counted.add(message.seq)
            return [*begun, Counted(letter, "ahead")]
        boot.waiting[message.seq] = (now_ms, letter)
        return begun + self._let_go(boot, now_ms)

    def _too_late(self, letter: Letter) -> list[Item]:
        message = letter.message
        counts = isinstance(message, CommandApplied | CommandRejected | CommandExpired | Released)
        forbids = isinstance(message, Screened) and message.outcome != "clear"
        return [Counted(letter, "late")] if counts or forbids or is_danger(message, self._pain_stop) else []

    def _let_go(self, boot: _Boot, now_ms: int, *, at_once: bool = False) -> list[Item]:
        items: list[Item] = []
        for seq in sorted(boot.waiting):
            if any(one not in boot.counted for one in range(boot.due, seq)):
                since_ms = min(at_ms for at_ms, _ in boot.waiting.values())
                if not (at_once or now_ms - since_ms >= WAIT_MS or len(boot.waiting) > WAITING):
                    break
                items.append(Lost(boot.give_up(seq)))
            items.append(Counted(boot.waiting.pop(seq)[1], "in turn"))
            boot.counted.add(seq)
            boot.due = seq + 1
        return items
