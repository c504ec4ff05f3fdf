"""Floor: the machines, the patients, the network between them and the world, and a clock that all of them share."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from loadtest.campaign import draws
from loadtest.campaign.network import Letter, Network
from loadtest.campaign.station import Station
from loadtest.campaign.temper import Temper
from loadtest.campaign.world import World
from streams.core.commands import Command
from streams.core.measure import Measured
from streams.core.telemetry import (
    ClinicianEdited,
    CommandApplied,
    Intent,
    Offline,
    Online,
    Prescription,
    Released,
    Side,
    Telemetry,
)


class Visit(msgspec.Struct, frozen=True):
    """Who trains where and how."""

    patient: str
    station: Station
    side: Side
    intent: Intent
    settings: str


class Floor:
    """Where everything happens.

    Parameters
    ----------
    rng : Random
        Where chance comes from.
    world : World
        Where it is told.
    temper : Temper
        How it is.
    troubles : sequence of callables
        What may happen before anything is said.
    """

    def __init__(self, rng: Random, world: World, temper: Temper, troubles: Sequence["Trouble"]) -> None:
        self.rng, self._world, self.temper, self._troubles = rng, world, temper, troubles
        self._network = Network(rng, temper.rates)
        self._now_ms = world.now_ms
        self._count = 0
        self._kept: dict[tuple[str, str, int], Letter] = {}
        kinds = rng.sample(draws.MACHINES, temper.machines)
        self.stations = [
            Station(
                f"acme/north/{kind.model}",
                draws.machine(rng, kind, is_odd=rng.random() < temper.odd_machines),
                rng,
                temper.honesty,
            )
            for kind in kinds
        ]
        self.patients = [f"acme/p{n}" for n in range(temper.patients)]
        self.orders: dict[tuple[str, str, Side], Prescription] = {}
        self.clear: set[str] = set()
        self.visit = self.drawn()
        for station in self.stations:
            if rng.random() < 0.92:
                self.send(station, station.online())

    def drawn(self) -> Visit:
        """Draw who trains where and how."""
        rng = self.rng
        station = rng.choice(self.stations)
        return Visit(
            patient=rng.choice(self.patients),
            station=station,
            side=rng.choice(draws.sides_of(station.capabilities)),
            intent=rng.choice(("paced", "paced", "max", "max", "unknown")),
            settings=rng.choice(("h1", "h1", "h2")),
        )

    def held(self, station: Station) -> Prescription:
        """Return what a machine holds to, its minimum if nobody has prescribed anything."""
        return station.held or Prescription(id="none", load_N=station.capabilities.load_min_N)

    def who(self, visit: Visit, name: str) -> dict[str, Any]:
        """Return the fields that name a session."""
        return {
            "session": name,
            "patient": visit.patient,
            "exercise": visit.station.capabilities.exercise,
            "side": visit.side,
            "intent": visit.intent,
            "settings": visit.settings,
        }

    def name(self) -> str:
        """Name another session."""
        self._count += 1
        return f"s{self._count}"

    def edit(self, visit: Visit, **fields: Any) -> None:  # noqa: ANN401 - checked by the message
        """Let a clinician edit the plan of a visit."""
        station = visit.station
        who = {"patient": visit.patient, "exercise": station.capabilities.exercise, "side": visit.side, "by": "dr-1"}
        self.say_as(station, station.stamped(ClinicianEdited, **who, **fields))

    def release(self, station: Station) -> None:
        """Let a clinician unlock a machine."""
        station.locked = False
        self.say_as(station, station.stamped(Released, by="dr-1"))

    def maybe_release(self, station: Station) -> None:
        """Let a clinician unlock a machine, mostly, sooner or later."""
        if station.locked and self.rng.random() < 0.6:
            self.pass_s(self.rng.choice((0.1, 5.0)))
            self.release(station)

    def say(self, kind: Callable[..., Telemetry], after_s: float, one: Measured | None = None, **fields: Any) -> None:  # noqa: ANN401 - checked by the message
        """Say something in the running visit; before it, something else may happen."""
        station = self.visit.station
        if self.rng.random() < self.temper.trouble:
            self.rng.choice(self._troubles)(self)
        self.pass_s(after_s)
        self.say_as(station, station.stamped(kind, **fields), one)

    def say_as(self, station: Station, message: Telemetry, one: Measured | None = None) -> None:
        """Say something as a machine, and obey what comes of it."""
        self.send(station, message, one)
        self.heed(station)

    def send(self, station: Station, message: Telemetry, one: Measured | None = None) -> None:
        """Put a message on its way."""
        letter = Letter(station.key, message, one)
        if not isinstance(message, Online | Offline):
            self._kept[station.key, message.boot_id, message.seq] = letter
        self._network.send(letter, self._now_ms)
        self._arrive()

    def _arrive(self) -> None:
        for at_ms, letter in self._network.arrived(self._now_ms):
            self._world.tell(letter, at_ms)

    def pass_s(self, seconds: float) -> None:
        """Let time pass, in s."""
        self._now_ms += round(1_000 * seconds)
        for station in self.stations:
            station.t_us += round(1e6 * min(seconds, 10.0))  # heartbeats, which nobody needs to hear, fill longer times
        self._arrive()

    def heed(self, station: Station) -> None:
        """Let a machine take in the commands that have come down to it."""
        inbox = self._world.inbox.get(station.key)
        while inbox:
            command = inbox.popleft()
            is_request = command.action == "resend"
            answers = self._says_again(station, command) if is_request else station.answers(command, self._now_ms)
            for message in answers:
                self.pass_s(self.rng.choice((0.1, 0.3, 1.0)))
                self.send(station, message)

    def _says_again(self, station: Station, command: Command) -> list[Telemetry]:
        """Say again what a command asks for; it may get lost once more, or come twice. Return the answer."""
        missing = command.missing
        places = () if missing is None else range(missing.first_seq, missing.last_seq + 1)
        for seq in places:
            letter = self._kept.get((station.key, command.boot_id, seq))
            if letter is not None:
                self._network.send(letter, self._now_ms)
        return [station.stamped(CommandApplied, command_id=command.command_id)]


Trouble = Callable[[Floor], None]
"""Something that happens in between."""
