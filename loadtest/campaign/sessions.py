"""Sessions: what patients, machines and clinicians do, session after session, from a seed.

Most of it is dull on purpose: good sessions in a row, because only they lead to an increase. Into them falls what must
prevent it: pain, symptoms, buttons, faults, screenings, edits, lost messages, restarts, absences.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from msgspec.structs import replace

from loadtest.campaign import draws
from loadtest.campaign.floor import Floor, Visit
from loadtest.campaign.reps import MANNERS, Manner, measured
from loadtest.campaign.station import Station
from loadtest.campaign.temper import Temper
from loadtest.campaign.troubles import TROUBLES
from loadtest.campaign.world import World
from streams.core.telemetry import (
    Heartbeat,
    Prescription,
    Rep,
    Screened,
    SessionEnded,
    SessionRequested,
    SessionStarted,
    SetEnded,
    SetStarted,
    SymptomReported,
)

MAX_REPS = 12
"""Most reps of a set that are played, whatever was asked for."""


class Life:
    """The life of a few patients and machines.

    Parameters
    ----------
    rng : Random
        Where chance comes from.
    world : World
        Where it is told.
    temper : Temper
        How it is.
    """

    def __init__(self, rng: Random, world: World, temper: Temper) -> None:
        self._floor = Floor(rng, world, temper, TROUBLES)
        self._usual = self._floor.visit

    def session(self) -> None:
        """Live until the next session is over, or given up."""
        visit = self._floor.visit = self._next()
        station = visit.station
        self._floor.pass_s(self._gap_s())
        self._come_back(station)
        self._prepare(visit)
        name = self._floor.name()
        manner: Manner = (
            "good" if self._floor.rng.random() < self._floor.temper.good else self._floor.rng.choice(MANNERS)
        )
        station.session, station.running, station.exercise_over, station.set_over = name, False, False, False
        station.held = None
        self._floor.say(SessionRequested, 1.0, **self._floor.who(visit, name))
        self._floor.pass_s(self._floor.rng.choice((0.5, 2.0, 6.0)))
        self._floor.heed(station)
        if station.held is None and self._floor.rng.random() < 0.7:
            return  # no plan, no training
        self._train(visit, name, manner)

    def _next(self) -> Visit:
        if self._floor.rng.random() < self._floor.temper.wandering:
            self._usual = self._floor.drawn() if self._floor.rng.random() < 0.5 else self._usual
            return self._floor.drawn()
        return self._usual

    def _gap_s(self) -> float:
        """Return the time in s until the next session: minutes, days, or months."""
        kinds: Mapping[Callable[[], float], float] = {
            lambda: self._floor.rng.uniform(60.0, 4_000.0): 1.0,
            lambda: 86_400.0 * self._floor.rng.uniform(0.9, 4.0): 8.0,
            lambda: 86_400.0 * self._floor.rng.choice((6.99, 7.01, 13.99, 14.0, 27.99, 28.0, 56.0, 56.01)): 0.5,
            lambda: 86_400.0 * self._floor.rng.uniform(4.0, 120.0): 0.5,
        }
        return self._floor.rng.choices(list(kinds), weights=list(kinds.values()))[0]()

    def _come_back(self, station: Station) -> None:
        """Begin the day: the machine may have restarted, and is unlocked if somebody comes for it."""
        if self._floor.rng.random() < 0.15:
            station.reboot()
            if self._floor.rng.random() < 0.95:
                self._floor.send(station, station.online())
        else:  # it was never off, and its heartbeats were not worth telling
            self._floor.say_as(station, station.stamped(Heartbeat))
        if station.locked and self._floor.rng.random() < 0.9:
            self._floor.release(station)

    def _prepare(self, visit: Visit) -> None:
        rng = self._floor.rng
        if visit.patient not in self._floor.clear and rng.random() < 0.95:
            self._floor.clear.add(visit.patient)
            self._floor.say(Screened, 1.0, patient=visit.patient, outcome="clear", by="dr-1")
        key = (visit.patient, visit.station.capabilities.exercise, visit.side)
        if key not in self._floor.orders and rng.random() < 0.97:
            self._floor.orders[key] = draws.order(rng, visit.station.capabilities)
            cap_N = self._floor.orders[key].load_N * rng.choice((1.02, 1.2, 2.0, 2.0))
            self._floor.edit(visit, prescription=self._floor.orders[key], load_cap_N=round(cap_N, 1))

    def _train(self, visit: Visit, name: str, manner: Manner) -> None:
        station, rng = visit.station, self._floor.rng
        told = station.held or Prescription(id="none", load_N=station.capabilities.load_min_N)
        if rng.random() < 0.01 * (1.0 - self._floor.temper.honesty) * 100:
            told = replace(told, load_N=round(told.load_N * rng.uniform(0.5, 1.5), 1))
        station.held, station.running = told, True
        pain = rng.choice((0, 0, 1, 2)) if rng.random() < 0.97 else None
        given = told if rng.random() < 0.99 else None
        self._floor.say(SessionStarted, 2.0, **self._floor.who(visit, name), prescription=given, pain_nrs=pain)
        for number in range(1, min(told.sets, 3) + 1):
            if station.exercise_over or station.session != name:
                break
            if number > 1:
                self._rest()
            self._set(visit, name, number, manner)
        if rng.random() < 0.97 and station.session == name:
            self._floor.say(SessionEnded, 2.0, session=name, reason="done" if not station.exercise_over else "stopped")
            station.running, station.session = False, None
            if rng.random() < 0.05:
                self._afterthought(visit, name)

    def _set(self, visit: Visit, name: str, number: int, manner: Manner) -> None:
        station, rng = visit.station, self._floor.rng
        station.set_over = False
        self._floor.say(SetStarted, 2.0, session=name, set_number=number, load_N=self._floor.held(station).load_N)
        asked = self._floor.held(station).reps + (rng.choice((0, 1, 2, 6)) if manner != "good" else 1)
        done = 0
        for done in range(1, min(asked, MAX_REPS) + 1):
            self._rep(visit, name, number, done, manner)
            if station.set_over or station.session != name:
                break
        rpe = rng.randint(4, 7) if manner == "good" else rng.choice((None, 3, 7, 8, 10))
        self._floor.say(SetEnded, 1.0, session=name, set_number=number, reps_done=done, rpe=rpe)

    def _rep(self, visit: Visit, name: str, set_number: int, number: int, manner: Manner) -> None:
        station = visit.station
        told = self._floor.held(station)
        one = measured(self._floor.rng, manner, number, told, visit.intent)
        rep = {
            "session": name,
            "set_number": set_number,
            "rep_number": number,
            "exercise": station.capabilities.exercise,
            "side": visit.side,
            "intent": visit.intent,
            "load_N": told.load_N,
            "settings": visit.settings,
            "fs_hz": 100.0,
            "samples": 2,
            "force": b"",
            "force_scale_N": 0.1,
            "position": b"",
            "position_scale": 1e-4,
            "position_unit": station.capabilities.position_unit,
            "warm_up": "warm_up" in one.reasons,
            "prescription": told,
        }
        self._floor.say(Rep, self._floor.rng.uniform(2.0, 8.0), one, **rep)

    def _rest(self) -> None:
        """Rest between sets: long enough for a heartbeat or two."""
        for _ in range(2):
            self._floor.say(Heartbeat, self._floor.rng.uniform(4.0, 9.0))

    def _afterthought(self, visit: Visit, name: str) -> None:
        """Report a pain for a session that is over, or for the night after it."""
        station = visit.station
        pain = self._floor.rng.choice((1, 3, 4, 7))
        felt: dict[str, Any] = {"session": name}
        if self._floor.rng.random() < 0.7:
            felt = {"patient": visit.patient, "felt": self._floor.rng.choice(("next_morning", "daily"))}
        self._floor.say_as(station, station.stamped(SymptomReported, pain_nrs=pain, **felt))
