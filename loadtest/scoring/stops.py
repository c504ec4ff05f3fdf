"""Stops: whole sets through the real controller, and whether it ended those that it should, and only those."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.random import Generator

from loadtest.exercise import EXERCISES
from loadtest.movement import FloatArray, Movement, rep_signal
from loadtest.patient import RANGE_NOISE, TEMPO_NOISE, VELOCITY_NOISE
from loadtest.programme import on_grid
from loadtest.scoring.clinic import Clinic, commands, prepared
from loadtest.scoring.table import Limit, Row, share_pct
from streams.core.records import NewRecord
from streams.core.telemetry import Prescription

Kind = Literal[
    "fresh", "tired", "tired, quick lifters", "paced", "paced, sagging", "drift", "three", "spike",
    "fresh injected", "tired injected", "paced injected", "drift injected", "agree",
]  # fmt: skip

STOPPING = frozenset({"end_set", "end_exercise", "stop"})
"""Commands that end a set; any of them counts, whatever its rule."""

SETS_EACH: Mapping[Kind, int] = {
    "fresh": 10, "tired": 20, "paced": 10, "paced, sagging": 5, "drift": 10, "three": 1, "spike": 1,
    "fresh injected": 25, "tired injected": 25, "paced injected": 5, "drift injected": 5, "agree": 2,
}  # fmt: skip
"""Sets of one patient; on the wire, or with measurements injected."""

QUICK_S = 0.9
"""Concentric time in s of the freshest rep below which a lifter is quick: the filter shows most with these."""

MAX_REPS, PACED_REPS = 10, 20
SPIKE, SPIKE_AT = 1.6, 5
"""A knock of 0.2 s up to so many times the patient's own peak force, in the sixth rep: the limit is 1.3."""

TRUE_LOSS = 0.30
END_FORCE_NOISE = 0.05
STEADINESS_NOISE = 0.10
"""Rep-to-rep coefficients of variation of the force at the end of range and, chosen here, of the tremor that makes up
steadiness: four of its deviations are 40 %, well above the ratio of 1.25 that the vote asks for."""


class Found(msgspec.Struct, frozen=True):
    """How many sets of each kind were done, how many were ended, and by which rules."""

    sets: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    """By kind and rule."""

    def merged(self, other: "Found") -> "Found":
        """Add what other sets showed."""
        return Found(self.sets + other.sets, self.ended + other.ended, self.rules + other.rules)


class Ending(msgspec.Struct, frozen=True):
    """How a set was ended: by which rule, after which rep."""

    rule: str
    rep: int


class _Tally:
    """Found, while it grows."""

    def __init__(self) -> None:
        self.sets, self.ended, self.rules = Counter[str](), Counter[str](), Counter[str]()

    def note(self, kind: Kind, *ended: Ending | None) -> None:
        """Note sets, and how each was ended if it was."""
        for ending in ended:
            self.sets[kind] += 1
            if ending is not None:
                self.ended[kind] += 1
                self.rules[f"{kind}/{ending.rule}"] += 1


def score(seed: int, patients: Iterable[int]) -> Found:
    """Score some patients; each has dice of its own."""
    tally = _Tally()
    for patient in patients:
        _as_fast_as_possible(tally, np.random.default_rng([seed, 2, patient]))
        _to_a_tempo(tally, np.random.default_rng([seed, 3, patient]))
    return Found(tally.sets, tally.ended, tally.rules)


def means(n: int, loss: float) -> FloatArray:
    """Return what the velocities of a set would be without noise, as shares of the first, falling linearly.

    Examples
    --------
    >>> [round(float(v), 3) for v in means(4, 0.30)]
    [1.0, 0.9, 0.8, 0.7]
    """
    return 1.0 - loss * np.arange(n) / (n - 1)


def velocities(n: int, loss: float, rng: Generator) -> FloatArray:
    """Draw the velocities of a set as shares of the first one: noise of 4.6 % multiplies what fatigue leaves."""
    drawn: FloatArray = means(n, loss) * (1.0 + VELOCITY_NOISE * rng.standard_normal(n))
    return drawn


def _as_fast_as_possible(tally: _Tally, rng: Generator) -> None:
    exercise = list(EXERCISES.values())[int(rng.integers(len(EXERCISES)))]
    lo, hi = exercise.window
    load_N = on_grid(exercise.capabilities, float(rng.uniform(0.4, 0.7)) * exercise.strength_N)
    prescription = Prescription(
        id="p", load_N=load_N, window_lo=lo, window_hi=hi, eccentric_s=2.0, reps=MAX_REPS, sets=1, rest_s=75.0
    )
    clinic = Clinic(exercise, "max", prescription)
    clinic.open()
    clinic.begin()
    fresh_s, tremor = float(rng.uniform(0.7, 1.3)), float(rng.uniform(0.002, 0.012))

    def moved(shares: FloatArray) -> list[Movement]:
        ranges = (hi - lo) * (1.0 + RANGE_NOISE * rng.standard_normal(len(shares)))
        return [
            Movement(
                start=lo,
                rom=float(rom),
                concentric_s=float(fresh_s * rom / (hi - lo) / share),
                hold_s=0.3,
                eccentric_s=2.0 * (1.0 + TEMPO_NOISE * float(rng.standard_normal())),
                load_N=load_N,
                inertia=load_N * exercise.inertia_s2,
                tremor=tremor * (1.0 + 3.0 * max(0.0, 1.0 - float(share))),
                late=float(rng.uniform(-0.5, 0.5)),
            )
            for share, rom in zip(shares, ranges, strict=True)
        ]

    losses: tuple[tuple[Kind, Kind, float], ...] = (
        ("fresh", "fresh injected", 0.0),
        ("tired", "tired injected", TRUE_LOSS),
    )
    for kind, injected, loss in losses:
        sets = [moved(velocities(MAX_REPS, loss, rng)) for _ in range(SETS_EACH[kind])]
        ended = endings(clinic, sets, rng)
        tally.note(kind, *ended)
        if kind == "tired" and fresh_s < QUICK_S:
            tally.note("tired, quick lifters", *ended)
        for _ in range(SETS_EACH[injected]):
            tally.note(injected, quickly_ended_by(clinic, velocities(MAX_REPS, loss, rng)))
    threes = [moved(velocities(3, TRUE_LOSS, rng)) for _ in range(SETS_EACH["three"])]
    tally.note("three", *endings(clinic, threes, rng))
    for _ in range(SETS_EACH["spike"]):
        calm = moved(velocities(MAX_REPS, 0.0, rng))
        calm[SPIKE_AT] = replace(calm[SPIKE_AT], spike=SPIKE * max(map(_peak, calm)) / load_N - 1.0)
        tally.note("spike", *endings(clinic, [calm], rng))
    for number in range(SETS_EACH["agree"]):
        shares = velocities(MAX_REPS, TRUE_LOSS * (number % 2), rng)
        both = *endings(clinic, [moved(shares)], rng), quickly_ended_by(clinic, shares)
        tally.note("agree", Ending("same rule, same rep", 0) if both[0] == both[1] else None)


def _peak(movement: Movement) -> float:
    return float(rep_signal(movement).force.max())


def _to_a_tempo(tally: _Tally, rng: Generator) -> None:
    """Learn what the patient is like in one session, then do fresh and tiring sets, each as the first of the next."""
    exercise = list(EXERCISES.values())[int(rng.integers(len(EXERCISES)))]
    lo, hi = exercise.window
    load_N = on_grid(exercise.capabilities, float(rng.uniform(0.3, 0.6)) * exercise.strength_N)
    prescription = Prescription(
        id="p",
        load_N=load_N,
        window_lo=lo,
        window_hi=hi,
        concentric_s=2.0,
        hold_s=0.5,
        eccentric_s=2.5,
        reps=PACED_REPS,
        sets=1,
        rest_s=60.0,
    )
    calm = Movement(
        start=lo,
        rom=hi - lo,
        concentric_s=2.0,
        hold_s=0.5,
        eccentric_s=2.5,
        load_N=load_N,
        inertia=load_N * exercise.inertia_s2,
        tremor=float(rng.uniform(0.008, 0.02)),
    )
    at_rest = np.zeros(PACED_REPS)
    drifts: tuple[tuple[Kind, Kind, FloatArray], ...] = (
        ("paced", "paced injected", at_rest),
        ("drift", "drift injected", drifting(PACED_REPS)),
    )
    wires = {}
    for sagging in (False, True):
        wires[sagging] = Clinic(exercise, "paced", prescription)
        with _earlier_session(wires[sagging]) as wire:
            earlier = paced(calm, at_rest, rng, sagging=sagging)
            wire.hear([wire.rep(rep_signal(one, rng), load_N) for one in earlier])
    with _earlier_session(Clinic(exercise, "paced", prescription)) as injected:
        for measured in injected_values(calm, at_rest, rng):
            injected.measured_rep(load_N, **measured)
    sagging_sets = [paced(calm, at_rest, rng, sagging=True) for _ in range(SETS_EACH["paced, sagging"])]
    tally.note("paced, sagging", *endings(wires[True], sagging_sets, rng))
    for kind, other, drift in drifts:
        sets = [paced(calm, drift, rng) for _ in range(SETS_EACH[kind])]
        tally.note(kind, *endings(wires[False], sets, rng))
        for _ in range(SETS_EACH[other]):
            branch, values = injected.copy(), injected_values(calm, drift, rng)
            tally.note(other, _first_ending(branch.measured_rep(load_N, **each) for each in values))


@contextmanager
def _earlier_session(clinic: Clinic) -> Iterator[Clinic]:
    """Open a clinic, let one set of an earlier session happen, and begin the next session."""
    clinic.open()
    clinic.begin()
    yield clinic
    clinic.end_set(rpe=5)
    clinic.end()
    clinic.begin(days=3.0)


def injected_values(calm: Movement, drift: FloatArray, rng: Generator) -> list[dict[str, float]]:
    """Draw the measurements of a paced set, each independent of the others as science.md 9 has it.

    Steadiness has a deviation of a tenth of its mean: as for the tremor of `paced`.
    """
    noise = rng.standard_normal((len(drift), 5))
    return [
        {
            "concentric_time_s": round(calm.concentric_s * (1.0 + 0.60 * tired) * (1.0 + TEMPO_NOISE * tempo), 3),
            "eccentric_time_s": round(calm.eccentric_s * (1.0 + TEMPO_NOISE * back), 3),
            "range_of_motion": round(calm.rom * (1.0 - 0.18 * tired) * (1.0 + RANGE_NOISE * way), 5),
            "rom_completeness_pct": round(100.0 * (1.0 - 0.18 * tired) * (1.0 + RANGE_NOISE * way), 3),
            "force_steadiness_cv_pct": round(1.0 + STEADINESS_NOISE * (4.0 * tired + shake), 4),
            "end_range_force": round(calm.load_N * (1.0 - 0.20 * tired) * (1.0 + END_FORCE_NOISE * end), 2),
        }
        for tired, (tempo, back, way, shake, end) in zip(drift.tolist(), noise.tolist(), strict=True)
    ]


def drifting(n: int) -> FloatArray:
    """Return how far fatigue has come at each rep, from 0 at rep 10 to 1 at rep 20.

    Examples
    --------
    >>> [round(float(drift), 1) for drift in drifting(20)[8:12]], float(drifting(20)[-1])
    ([0.0, 0.0, 0.1, 0.2], 1.0)
    """
    drift: FloatArray = np.clip((np.arange(1, n + 1) - 10.0) / 10.0, 0.0, 1.0)
    return drift


def paced(calm: Movement, drift: FloatArray, rng: Generator, *, sagging: bool = False) -> list[Movement]:
    """Draw the reps of a paced set: independent noise, and at the full drift 60 % more time, 18 % less range, four
    deviations more tremor, 20 % less force at the end of the range.

    The noise of the force at the end is that of the whole rep, which no measure of steadiness sees. If it is `sagging`,
    it is of the end alone, and a rep that sags is measured as unsteady too: two signs of one thing.
    """
    noise = rng.standard_normal((len(drift), 5))
    reps = []
    for tired, (tempo, way, back, shake, end) in zip(drift.tolist(), noise.tolist(), strict=True):
        level = 1.0 + END_FORCE_NOISE * end
        at_the_end = (1.0 - 0.20 * tired) * (level if sagging else 1.0)
        rep = replace(
            calm,
            concentric_s=calm.concentric_s * (1.0 + 0.60 * tired) * (1.0 + TEMPO_NOISE * tempo),
            rom=calm.rom * (1.0 - 0.18 * tired) * (1.0 + RANGE_NOISE * way),
            eccentric_s=calm.eccentric_s * (1.0 + TEMPO_NOISE * back),
            load_N=calm.load_N * (1.0 if sagging else level),
            tremor=calm.tremor * max(0.0, 1.0 + STEADINESS_NOISE * (4.0 * tired + shake)),
            droop=(1.0 - at_the_end) / end_share(),
            late=float(rng.uniform(-0.5, 0.5)),
        )
        reps.append(rep)
    return reps


@lru_cache(maxsize=1)
def end_share() -> float:
    """Return which share of a droop the mean force over the last fifth of the concentric's range misses."""
    drooping = rep_signal(
        Movement(start=0.0, rom=1.0, concentric_s=2.0, hold_s=0.5, eccentric_s=2.0, load_N=1.0, droop=1.0)
    )
    start, top = drooping.truth.marks[:2]
    position, force = drooping.position[start : top + 1], drooping.force[start : top + 1]
    return float(1.0 - force[position >= position[0] + 0.8 * drooping.truth.rom].mean())


def endings(clinic: Clinic, sets: Sequence[Sequence[Movement]], rng: Generator) -> list[Ending | None]:
    """Do sets on the wire, encoded and measured, each as the next one here; return how each was ended, None if not."""
    branches = [clinic.copy() for _ in sets]
    reps = [
        [branch.rep(rep_signal(movement, rng), branch.prescription.load_N) for movement in moved]
        for branch, moved in zip(branches, sets, strict=True)
    ]
    items = iter(prepared(clinic.controller, [rep for each in reps for rep in each], clinic.now_ms))
    told = []
    for branch, each in zip(branches, reps, strict=True):
        arrivals = list(islice(items, len(each)))
        told.append(_first_ending(branch.take(item) for item in arrivals))
    return told


def quickly_ended_by(clinic: Clinic, shares: Sequence[float] | FloatArray) -> Ending | None:
    """Do a set whose measurements are its true velocities; return how it was ended, None if it was not."""
    branch = clinic.copy()
    load_N = branch.prescription.load_N
    return _first_ending(
        branch.measured_rep(load_N, mean_velocity=round(0.5 * float(share), 5), rom_completeness_pct=100.0)
        for share in shares
    )


def _first_ending(heard: Iterable[list[NewRecord]]) -> Ending | None:
    for number, said in enumerate(heard, start=1):
        for command in commands(said):
            if command.action in STOPPING:
                return Ending(command.rule, number)
    return None


def rows(found: Found) -> list[Row]:
    """Put it into the table."""
    return [
        _row(found, "fresh", "false stops without fatigue", Limit("<", 2.0), "d"),
        _row(found, "fresh injected", "false stops, velocities injected", Limit("<", 2.0), "e"),
        _row(found, "tired", "true 30 % loss caught", Limit(">=", 85.0), "d"),
        _row(found, "tired injected", "30 % loss, velocities injected", Limit(">=", 85.0), "e"),
        _row(found, "agree", "both ways ended alike", None, "e"),
        _row(found, "paced", "paced vote: false stops", Limit("<", 2.0), "f"),
        _row(found, "paced, sagging", "the same, force sagging at the end", None, "f"),
        _row(found, "paced injected", "paced vote: false stops, injected", Limit("<", 2.0), "g"),
        _row(found, "drift", "paced vote: drift caught", Limit(">=", 95.0), "f"),
        _row(found, "drift injected", "paced vote: drift caught, injected", Limit(">=", 95.0), "g"),
        _row(found, "three", "sets of three reps stopped", None, "d"),
        _row(found, "spike", "force spike of 60 % stopped", None, "n"),
    ]


def _row(found: Found, kind: Kind, what: str, limit: Limit | None, footnote: str) -> Row:
    by_rule = {rule.partition("/")[2]: float(count) for rule, count in sorted(found.rules.items()) if
               rule.startswith(f"{kind}/")}  # fmt: skip
    if kind == "tired" and found.sets["tired, quick lifters"]:
        of_quick = 100.0 * found.ended["tired, quick lifters"] / found.sets["tired, quick lifters"]
        by_rule[f"% of lifters under {QUICK_S:g} s a rep"] = round(of_quick, 2)
    return Row(
        what=what,
        unit="%",
        seen=share_pct(found.ended[kind], found.sets[kind]),
        limit=limit,
        cases=found.sets[kind],
        beside=by_rule,
        footnote=footnote,
    )
