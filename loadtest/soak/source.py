"""Source: a day of a small clinic, recorded with the loop closed, and told again and again as another day.

Each time every machine starts anew, with boots, sessions and times that nobody has heard of; patients come back every
third day. Only what the samples say is the same, and how machines answered on the first day.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from msgspec.structs import replace

from loadtest.bench.stepping import Strict, heard
from loadtest.bench.stories import Said, quickened, record
from loadtest.machine import Machine
from loadtest.roster import assemble
from loadtest.truth import Ledger
from loadtest.visit import Habits
from spineloop import wiring
from spineloop.settings import Settings
from streams.checkpoint import State
from streams.core.codec import decode_command
from streams.core.commands import Command
from streams.core.records import NewRecord
from streams.core.telemetry import Ack, Offline, Rep, SessionEnded, Telemetry
from streams.core.topics import COMMAND, METRIC, PATIENT
from streams.reducer import Reducer

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000
SPREAD_S = 600.0
"""Within so much time machines begin, one after the other."""

HABITS = Habits(heartbeat_s=10.0)
"""Heartbeats half as often as usual, still within what the controller waits for: they are most of all messages."""

SHIFTS = 3
"""Days after which the same patients come again."""


def day(seed: int, machines: int, hours: float) -> Sequence[Said]:
    """Record what machines say in so many hours, each from its first boot until its last session is over."""
    said = list(_lived(assemble(seed, machines, Ledger(), tenant="soak", habits=HABITS), 3_600.0 * hours))
    last = {one.machine: number for number, one in enumerate(said) if isinstance(one.message, SessionEnded)}
    kept = [one for number, one in enumerate(said) if number <= last.get(one.machine, -1)]
    ends = [said[number] for number in last.values()]
    gone = [Said(one.machine, Offline(boot_id=one.message.boot_id), one.at_ms + 1_000) for one in ends]
    return sorted([*kept, *gone], key=lambda one: one.at_ms)


def days(recorded: Sequence[Said]) -> Iterator[Sequence[Said]]:
    """Tell the same day for ever, each time as another one.

    Examples
    --------
    >>> from itertools import islice
    >>> ended = SessionEnded(boot_id="b", seq=0, t_us=0, session="s")
    >>> _, [second] = islice(days([Said("acme/north/m1", ended, 5)]), 2)
    >>> second.message.boot_id, second.message.session, second.at_ms
    ('b.1', 's.1', 86400005)
    """
    for number in count():
        yield [Said(one.machine, _on(number, one.message), one.at_ms + number * DAY_MS) for one in recorded]


def reps_of(said: Sequence[Said]) -> int:
    """Count the reps."""
    return sum(isinstance(one.message, Rep) for one in said)


def _lived(fleet: Sequence[Machine], until_s: float) -> Iterator[Said]:
    """Let machines live side by side, and answer what controller and planner ask of them."""
    stages = _Stages()
    moments = [(SPREAD_S * number / len(fleet), number) for number in range(len(fleet))]
    while moments[0][0] < until_s:
        at_s, number = moments[0]
        machine, at_ms = fleet[number], START_MS + round(1_000 * at_s)
        step = machine.step(at_ms)
        heapq.heapreplace(moments, (at_s + step.delay_s, number))
        waiting: deque[Telemetry] = deque([] if step.message is None else [quickened(step.message)])
        while waiting:
            one = Said(machine.key, waiting.popleft(), at_ms)
            yield one
            for command in stages.hear(record(one)):
                waiting += machine.receive(command, at_ms)


class _Stages:
    """Controller and planner with the log between them in memory."""

    def __init__(self) -> None:
        controller, planner = wiring.stages(Settings.read({}))
        self._controller = Reducer(controller, State(controller), Strict())
        self._planner = Reducer(planner, State(planner), Strict())
        self._offsets = count()

    def hear(self, said: NewRecord) -> Sequence[Command]:
        """Hear one message; return the commands that come of it."""
        commands: list[Command] = []
        waiting = deque([said])
        while waiting:
            one = waiting.popleft()
            if one.topic == COMMAND:
                commands.append(decode_command(one.value or b""))
            elif one.topic != METRIC:
                reducer = self._planner if one.topic == PATIENT else self._controller
                for _, outputs in reducer.take([heard(one, next(self._offsets))]):
                    waiting += outputs
        return commands


def _on(number: int, message: Telemetry) -> Telemetry:
    """Let a message be of another day; the command that it answers was caused on that day, too."""
    boot_id = f"{message.boot_id}.{number}"
    named: dict[str, Any] = {"boot_id": boot_id}
    if (session := getattr(message, "session", None)) is not None:
        named["session"] = f"{session}.{number}"
    if (patient := getattr(message, "patient", None)) is not None:
        named["patient"] = f"{patient}-{number % SHIFTS}"
    if isinstance(message, Ack):
        named["command_id"] = message.command_id.replace(f"/{message.boot_id}/", f"/{boot_id}/")
    return replace(message, **named)
