"""Forecast: whether what the model of a lifter predicts comes true, and how soon its load is the right one."""

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.random import Generator

from loadtest.scoring import losses
from loadtest.scoring.lifter import REPS, TARGET_PCT, Lifter, Stranger, drawn, stranger
from loadtest.scoring.table import Limit, Row, median, share_pct
from streams.core import adaptive
from streams.core.adaptive import PRIOR, Interval, Model, SetSeen

SETS = 6
SETS_A_SESSION = 3
REST_S = 75.0
SEEN_FIRST = 4
"""Reps of a set after which its end, and the reps left, are predicted; and once before it."""

START_OFF = 0.25
"""Largest share by which the first load misses the one that truly gives the target."""

BAND_POINTS = 5.0
WITHIN_SETS = 2


class Forecast(msgspec.Struct, frozen=True):
    """One prediction: of what, in which set (from 1), at which rep, and whether what came lay within it."""

    of: str
    number: int
    reps_seen: int
    held: bool
    error: float
    width: float


class Search(msgspec.Struct, frozen=True):
    """One search for the load: by how much the start missed it, and the true loss in percent at each proposal."""

    off: float
    losses_pct: tuple[float, ...]

    @property
    def sets(self) -> int | None:
        """After how many sets the proposal was first in the band; None if never."""
        return next((n for n, loss in enumerate(self.losses_pct, start=1) if is_in_band(loss)), None)


class Seen(msgspec.Struct, frozen=True):
    """All predictions and searches of one kind of lifter."""

    forecasts: tuple[Forecast, ...] = ()
    searches: tuple[Search, ...] = ()

    def merged(self, other: "Seen") -> "Seen":
        """Add what other lifters showed."""
        return Seen(self.forecasts + other.forecasts, self.searches + other.searches)


class Found(msgspec.Struct, frozen=True):
    """Lifters as the model takes them to be, and strangers."""

    usual: Seen = Seen()
    strange: Seen = Seen()

    def merged(self, other: "Found") -> "Found":
        """Add what other lifters showed."""
        return Found(self.usual.merged(other.usual), self.strange.merged(other.strange))


def is_in_band(loss_pct: float) -> bool:
    """Tell whether a true loss is what was aimed at.

    Examples
    --------
    >>> is_in_band(24.9), is_in_band(14.9)
    (True, False)
    """
    return abs(loss_pct - TARGET_PCT) <= BAND_POINTS


def score(seed: int, patients: Iterable[int]) -> Found:
    """Score some lifters; each has dice of its own."""
    found = Found()
    for patient in patients:
        dice = np.random.default_rng([seed, 4, patient]), np.random.default_rng([seed, 7, patient])
        one, other = drawn(seed, patient, dice[0]), stranger(seed, patient, dice[1])
        found = found.merged(Found(_seen(one, dice[0]), _seen(other, dice[1])))
    return found


def _seen(lifter: Lifter | Stranger, rng: Generator) -> Seen:
    forecasts: list[Forecast] = []
    search = _follow(lifter, forecasts, rng)
    return Seen(tuple(forecasts), (search,))


def _follow(lifter: Lifter | Stranger, forecasts: list[Forecast], rng: Generator) -> Search:
    """Let the model choose the load of six sets in two sessions, and look at everything that it says meanwhile."""
    off = float(rng.uniform(-START_OFF, START_OFF))
    model, load_N = PRIOR, lifter.load_for_target() * (1.0 + off)
    proposals = []
    for number in range(1, SETS + 1):
        rest_s = None if (number - 1) % SETS_A_SESSION == 0 else REST_S
        lifter.rest(rest_s)
        would_be = lifter.look_ahead(load_N, SEEN_FIRST + adaptive.MAX_AHEAD)
        forecasts += _forecasts(model, load_N, would_be, number)
        done = would_be[: losses.reps_until_stop(would_be[:REPS])]  # rule 6
        lifter.do(load_N, len(done))
        model = adaptive.learned(model, SetSeen(load_N, tuple(done), rest_s))
        proposed = adaptive.load_for(model, TARGET_PCT, REPS)
        load_N = load_N if proposed is None else _held_by(lifter, proposed.value)
        proposals.append(lifter.expected_loss_pct(load_N))
    return Search(off, tuple(proposals))


def _held_by(lifter: Lifter | Stranger, load_N: float) -> float:
    """Return the load that the machine has for a proposal: on its grid, within its range."""
    machine = lifter.exercise
    steps = round((load_N - machine.load_min_N) / machine.load_step_N)
    return min(max(machine.load_min_N + steps * machine.load_step_N, machine.load_min_N), machine.load_max_N)


def _forecasts(model: Model, load_N: float, velocities: list[float], number: int) -> list[Forecast]:
    """Compare what is predicted before a set and after four of its reps with how it goes on."""
    shown = losses.shown(velocities)
    told = []
    for seen in (0, SEEN_FIRST):
        so_far = velocities[:seen]
        end = adaptive.predicted_loss(model, load_N, REPS, so_far)
        left = adaptive.reps_left(model, load_N, so_far, TARGET_PCT)
        reached = [n for n, loss in enumerate(shown, start=1) if loss >= TARGET_PCT and n > seen]
        true_left = min(reached[0] - seen if reached else adaptive.MAX_AHEAD, adaptive.MAX_AHEAD)
        if seen and shown[seen - 1] >= TARGET_PCT:
            true_left = 0
        told += [
            _forecast("loss", number, seen, end, shown[REPS - 1]),
            _forecast("reps_left", number, seen, left, float(true_left)),
        ]
    return [one for one in told if one is not None]


def _forecast(of: str, number: int, seen: int, said: Interval | None, came: float) -> Forecast | None:
    if said is None:
        return None
    return Forecast(of, number, seen, said.low <= came <= said.high, abs(said.value - came), said.high - said.low)


def rows(found: Found) -> list[Row]:
    """Put it into the table."""
    usual, strange = found.usual, found.strange
    band, within = Limit(">=", 90.0), Limit("in", 85.0, 95.0)
    return [
        _band(usual, f"load controller in the target band within {WITHIN_SETS} sets", band, "h"),
        _coverage(usual, "loss", "90 % intervals: loss at the set's end", within, "i"),
        _coverage(usual, "reps_left", "90 % intervals: reps left", within, "i"),
        _band(strange, "strangers: in the band", None, "j"),
        _coverage(strange, "loss", "strangers: loss at the set's end", None, "j"),
        _coverage(strange, "reps_left", "strangers: reps left", None, "j"),
    ]


def _band(seen: Seen, what: str, limit: Limit | None, footnote: str) -> Row:
    needed = [one.sets for one in seen.searches]

    def in_band_after(sets: int) -> float | None:
        return share_pct(sum(is_in_band(one.losses_pct[sets - 1]) for one in seen.searches), len(seen.searches))

    beside = {f"after {sets}": in_band_after(sets) for sets in (1, WITHIN_SETS, SETS)}
    beside["median sets"] = median([float(SETS + 1 if n is None else n) for n in needed])
    return Row(
        what=what,
        unit="%",
        seen=share_pct(sum(n is not None and n <= WITHIN_SETS for n in needed), len(needed)),
        limit=limit,
        cases=len(needed),
        beside=_known(beside),
        footnote=footnote,
    )


def _coverage(seen: Seen, of: str, what: str, limit: Limit | None, footnote: str) -> Row:
    mine = [one for one in seen.forecasts if one.of == of]

    def held(some: Iterable[Forecast]) -> float | None:
        chosen = list(some)
        return share_pct(sum(one.held for one in chosen), len(chosen))

    beside = {
        "before the set": held(one for one in mine if one.reps_seen == 0),
        f"after {SEEN_FIRST} reps": held(one for one in mine if one.reps_seen),
        **{f"set {n}": held(one for one in mine if one.number == n) for n in range(1, SETS + 1)},
        "median error": median([one.error for one in mine]),
        "median width": median([one.width for one in mine]),
    }
    return Row(
        what=what,
        unit="%",
        seen=held(mine),
        limit=limit,
        cases=len(mine),
        beside=_known(beside),
        footnote=footnote,
    )


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in figures.items() if value is not None}
