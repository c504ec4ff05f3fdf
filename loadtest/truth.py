"""Truth: what really happened in a simulation, kept beside it so that every metric and every decision can be scored."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping

import msgspec

from streams.core.codec import message_id, type_name
from streams.core.commands import Command
from streams.core.telemetry import Ack, CommandRejected, Telemetry


class RepTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What one repetition really was: what the catalogue's segmentation gives on its noise-free, unfiltered signal.

    Lengths are in m or rad, velocities in m/s or rad/s, as the machine measures. `marks` are the sample indices of
    concentric start and end, eccentric start and end. `loss_pct` is the velocity loss that fatigue alone causes,
    without noise, against the freshest rep of the set (None when paced); `fatigue` is the share of velocity lost since
    the session began; `symmetry_pct` is Robinson's index, positive when the right side is stronger.
    """

    marks: tuple[int, int, int, int]
    rom: float
    concentric_s: float
    hold_s: float
    eccentric_s: float
    mean_velocity: float
    work_J: float
    power_W: float
    load_N: float
    loss_pct: float | None
    fatigue: float
    symmetry_pct: float


CommandKey = tuple[str, str]
"""Machine and command id."""


class Ledger:
    """Everything that the simulated fleet did: messages sent or withheld, reps as they were, commands and answers.

    It grows by about 1 kB a rep, by less without truths, and is meant for runs that are bounded by their caller.

    Parameters
    ----------
    true_ms : callable, optional
        The true time in ms since 1970, whatever the machines' clocks say; without it no time is noted.
    keeps_truths : bool
        Whether truths are kept.

    Attributes
    ----------
    published, withheld : dict
        Type of every message by its id: given to the network at least once; never given to it.
    duplicated, delayed, repaired : set
        Ids of the messages that were sent twice; of those that were held back; of those that were withheld first, and
        published when the controller asked for them.
    truths : dict
        What each rep was, by message id.
    received, effects : Counter of (machine, command id)
        How often a command reached its machine, and how often it changed what the machine holds to.
    answers : dict
        Every acknowledgement of a command, in order; `applied`, `expired` or `rejected: reason`.
    obeyed : dict of str to list of Command
        What took effect at each machine, in that order.
    obeyed_ms : dict of (machine, command id) to int
        When it last did, in true time.
    reboots : Counter of str
        By machine.

    Examples
    --------
    >>> from streams.core.telemetry import Heartbeat
    >>> ledger = Ledger()
    >>> ledger.publish("acme/north/m1", Heartbeat(boot_id="b1", seq=0, t_us=1))
    >>> ledger.published
    {'acme/north/m1/b1/0': 'heartbeat'}
    """

    def __init__(self, true_ms: Callable[[], int] | None = None, *, keeps_truths: bool = True) -> None:
        self._true_ms, self._keeps_truths = true_ms, keeps_truths
        self.published: dict[str, str] = {}
        self.withheld: dict[str, str] = {}
        self.duplicated: set[str] = set()
        self.delayed: set[str] = set()
        self.repaired: set[str] = set()
        self.truths: dict[str, RepTruth] = {}
        self.received: Counter[CommandKey] = Counter()
        self.effects: Counter[CommandKey] = Counter()
        self.answers: defaultdict[CommandKey, list[str]] = defaultdict(list)
        self.obeyed: defaultdict[str, list[Command]] = defaultdict(list)
        self.obeyed_ms: dict[CommandKey, int] = {}
        self.reboots: Counter[str] = Counter()

    def publish(self, machine: str, message: Telemetry, *, is_delayed: bool = False) -> None:
        """Note that a message is given to the network, at once or held back for a while."""
        name = message_id(machine, message)
        self.published[name] = type_name(message)
        if is_delayed:
            self.delayed.add(name)

    def duplicate(self, machine: str, message: Telemetry) -> None:
        """Note that a message is given to the network a second time."""
        self.duplicated.add(message_id(machine, message))

    def withhold(self, machine: str, message: Telemetry) -> None:
        """Note that a message never leaves its machine."""
        self.withheld[message_id(machine, message)] = type_name(message)

    def say_again(self, machine: str, message: Telemetry) -> None:
        """Note that a message is given to the network because the controller asked for it."""
        name = message_id(machine, message)
        if self.withheld.pop(name, None) is not None:
            self.repaired.add(name)
            self.published[name] = type_name(message)
        else:
            self.duplicated.add(name)

    def lift(self, machine: str, rep: Telemetry, truth: RepTruth) -> None:
        """Note what a rep really was."""
        if self._keeps_truths:
            self.truths[message_id(machine, rep)] = truth

    def hear(self, machine: str, command: Command) -> None:
        """Note that a command reached its machine."""
        self.received[machine, command.command_id] += 1

    def obey(self, machine: str, command: Command) -> None:
        """Note that a command takes effect."""
        self.effects[machine, command.command_id] += 1
        self.obeyed[machine].append(command)
        if self._true_ms is not None:
            self.obeyed_ms[machine, command.command_id] = self._true_ms()

    def answer(self, machine: str, ack: Ack) -> None:
        """Note how a machine answered a command."""
        outcome = f"rejected: {ack.reason}" if isinstance(ack, CommandRejected) else type_name(ack)[len("command_") :]
        self.answers[machine, ack.command_id].append(outcome)

    @property
    def reps_published(self) -> int:
        """How many different reps were given to the network."""
        return sum(kind == "rep" for kind in self.published.values())

    @property
    def duplicate_effects(self) -> int:
        """How many commands took effect more than once; must be 0."""
        return sum(count > 1 for count in self.effects.values())

    def lost(self, measured: Collection[str]) -> frozenset[str]:
        """Return the ids of the reps that were published and are not among those that were measured."""
        reps = {name for name, kind in self.published.items() if kind == "rep"}
        return frozenset(reps.difference(measured))

    def outcomes(self) -> Mapping[str, int]:
        """Count the commands by their first answer: `applied`, `expired` or `rejected: reason`."""
        return Counter(answers[0] for answers in self.answers.values())
