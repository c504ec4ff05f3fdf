"""Troubles: what happens in between, to patients, machines and plans."""

from typing import Any

from msgspec.structs import replace

from loadtest.campaign import draws
from loadtest.campaign.floor import Floor, Trouble
from streams.core.telemetry import (
    ButtonPressed,
    FaultRaised,
    Heartbeat,
    Screened,
    SessionRequested,
    SessionStarted,
    SetStarted,
    SymptomReported,
)


def pain(floor: Floor) -> None:
    """Report a pain, now or of another day, with or without a name."""
    station = floor.visit.station
    fields: dict[str, Any] = {
        "session": floor.rng.choice((station.session, None)),
        "pain_nrs": floor.rng.choice((0, 1, 2, 3, 3, 4, 5, 6, 8, 10)),
        "rpe": floor.rng.choice((None, None, 5, 9)),
        "position": floor.rng.choice((None, round(floor.rng.uniform(-1.0, 1.3), 3))),
    }
    if floor.rng.random() < 0.15:
        fields |= {"felt": floor.rng.choice(("next_morning", "daily")), "patient": floor.visit.patient}
    floor.say_as(station, station.stamped(SymptomReported, **fields))


def symptom(floor: Floor) -> None:
    """Report a symptom."""
    station = floor.visit.station
    symptom = floor.rng.choice(("red_flag", "neurological", "radiating", "chest", "dizziness"))
    floor.say_as(station, station.stamped(SymptomReported, session=station.session, symptom=symptom))
    floor.maybe_release(station)


def button(floor: Floor) -> None:
    """Press a button."""
    station = floor.visit.station
    floor.say_as(station, station.stamped(ButtonPressed, button=floor.rng.choice(("stop", "pause", "help"))))
    floor.maybe_release(station)


def fault(floor: Floor) -> None:
    """Find a fault."""
    station = floor.visit.station
    floor.say_as(station, station.stamped(FaultRaised, fault="encoder"))
    floor.maybe_release(station)


def screening(floor: Floor) -> None:
    """Screen the patient once more."""
    here = floor.visit.station  # a patient who trains is not screened elsewhere
    station = here if here.running else floor.rng.choice((here, *floor.stations))
    patient, outcome = floor.visit.patient, floor.rng.choice(("clear", "clinician_decides", "excluded", "red_flag"))
    if outcome == "clear":
        floor.clear.add(patient)
    else:
        floor.clear.discard(patient)
    floor.say_as(station, station.stamped(Screened, patient=patient, outcome=outcome, by="dr-1"))
    floor.maybe_release(station)


def new_order(floor: Floor) -> None:
    """Edit something, sensibly or absurdly: a cap below the load, a wider window, anything that the wire admits."""
    rng, visit = floor.rng, floor.visit
    key = (visit.patient, visit.station.capabilities.exercise, visit.side)
    old = floor.orders.get(key) or draws.order(rng, visit.station.capabilities)
    match rng.randrange(6):
        case 0:
            floor.edit(visit, load_cap_N=round(old.load_N * rng.choice((0.5, 0.99, 1.0, 1.01, 3.0)), 1))
        case 1:
            floor.edit(visit, guarded=rng.random() < 0.5, reps_max=rng.choice((None, 5, 12)))
        case 2:
            load_N = round(old.load_N * rng.choice((1.0, 1.1)), 1)
            lo, hi = (old.window_lo or 0.0) - 0.2, (old.window_hi or 1.0) + 0.2
            wider = replace(old, load_N=load_N, window_lo=lo, window_hi=hi)
            floor.edit(visit, prescription=wider)
        case 3:
            floor.edit(visit, prescription=draws.absurd(rng, old), load_cap_N=rng.choice((None, 0.0, 50_000.0)))
        case 4:
            floor.edit(visit, tul_max_s=90.0, per_week=2.0, goal_load_N=old.load_N * rng.choice((0.9, 2.0)))
        case _:
            floor.orders[key] = draws.order(rng, visit.station.capabilities)
            floor.edit(visit, prescription=floor.orders[key], load_cap_N=floor.orders[key].load_N * 2.0)


def needless_release(floor: Floor) -> None:
    """Release a machine that nobody locked."""
    floor.release(floor.visit.station)


def restart(floor: Floor) -> None:
    """Lose power in the middle of it; the session goes on in the next boot as if nothing had been."""
    station = floor.visit.station
    session, held, running = station.session, station.held, station.running
    if floor.rng.random() < 0.5:
        floor.send(station, station.offline())
    station.reboot()
    floor.pass_s(3.0)
    if floor.rng.random() < 0.9:
        floor.send(station, station.online())
        floor.heed(station)
    if floor.rng.random() < 0.5:
        station.session, station.held, station.running = session, held, running


def drop_out(floor: Floor) -> None:
    """Go offline and come back in the same boot."""
    station = floor.visit.station
    floor.send(station, station.offline())
    floor.pass_s(floor.rng.choice((1.0, 30.0)))
    floor.send(station, station.online())
    floor.heed(station)


def fall_silent(floor: Floor) -> None:
    """Say nothing for a while, by a clock that jumps."""
    floor.pass_s(9.0)
    floor.visit.station.t_us += floor.rng.choice((-5_000_000, 4_000_000, 20_000_000, 90_000_000))


def go_away(floor: Floor) -> None:
    """Leave without a word, and let another begin."""
    visit = floor.visit
    if floor.rng.random() < 0.5:
        visit = replace(visit, patient=floor.rng.choice(floor.patients))
    name = floor.name()
    floor.say_as(visit.station, visit.station.stamped(SessionRequested, **floor.who(visit, name)))


def begin_again(floor: Floor) -> None:
    """Say once more that the session starts, or a set."""
    station, name = floor.visit.station, floor.visit.station.session or floor.name()
    if floor.rng.random() < 0.5:
        told = floor.who(floor.visit, name)
        floor.say_as(station, station.stamped(SessionStarted, **told, prescription=station.held, pain_nrs=0))
    else:
        load_N = floor.held(station).load_N
        number = floor.rng.randint(1, 100)
        floor.say_as(station, station.stamped(SetStarted, session=name, set_number=number, load_N=load_N))


def heartbeat(floor: Floor) -> None:
    """Say that there is more to say."""
    station = floor.visit.station
    floor.say_as(station, station.stamped(Heartbeat, queued=3))


TROUBLES: tuple[Trouble, ...] = (
    pain,
    pain,
    pain,
    pain,
    symptom,
    button,
    fault,
    screening,
    new_order,
    new_order,
    needless_release,
    restart,
    drop_out,
    fall_silent,
    go_away,
    begin_again,
    heartbeat,
)
"""What may happen, the usual more often."""
