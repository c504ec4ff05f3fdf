"""Scoring: what the real controller and planner say of simulated lifters, against what these truly did.

Run with `python -m loadtest truth --seed S`. The same seed gives the same figures on any number of cores. What is put
in is known exactly, so every figure is an error, or a share of right and wrong verdicts. What it does not tell is
whether real people are like these: the simulation has the noise of real sets, but no surprises, and the model's prior
and the lifters come from the same literature. Strangers, who are not like that, are scored beside them without a limit.

Truth of a repetition is its movement before sensors, rounding and tremor; an error is the 95th percentile over
repetitions, or over sets for a loss; a verdict is the share of sets that any command ended. What exactly each row
means stands in `FOOTNOTES`, which are printed with the table. The parts are

- `accuracy`: sets of real and seeming repetitions on the wire, through the controller, against range, peak force and
  velocity as they were before any sensor saw them;
- `stops`: whole sets through the controller, ended or not;
- `forecast`: the model of a lifter, its intervals and its loads; `progress`: the planner's loads, by its own rules;
- `sides`: patients with a stronger side, rep by rep and over three sessions.

`motion` makes the messages, `lifter` the patients, `clinic` holds controller and planner with the log in between,
`table` the limits.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from loadtest.scoring import accuracy, forecast, progress, sides, stops
from loadtest.scoring.table import Row, Score, drawn

PATIENTS = 200
"""Simulated patients of a whole run: 2,000 to 4,000 sets for every verdict, 5,000 with velocities injected."""

CHUNK = 10
"""Patients that one process scores at a time."""

FEW = 20
"""Patients up to which no further process is worth its start."""

FOOTNOTES: Mapping[str, str] = {
    "a": "Messages judged wrongly, missed and invented added up, over true repetitions. True: at least 37 % of the "
    "window, under load, also when stuck half way, begun twice, with up to 50 ms of samples lost, or next to another. "
    "Not true, never to count: at most 24 % of the window and back, no load on the lever, sitting still, more than "
    "100 ms lost. What lies between 24 and 37 % is not scored: noise decides there, by definition.",
    "b": "The 95th percentile over repetitions of |measured / true - 1|. True is what was put in, before noise of the "
    "sensors, rounding to int16 and the tremor of 8 Hz. Half of the sets come without context, cut to the machine's "
    "marks. Velocity leaves out repetitions that got stuck, were begun twice, or touch the next: their time is another "
    "by definition. Only range and force have a limit.",
    "c": "The 95th percentile over sets of |loss of the measured velocities - loss of the true ones|, the same "
    "definition on both: best to last, as in the set's summary; and VL3 of the last repetition, which decides.",
    "d": "On the wire: encoded records, segmented and measured, through prepare and step; any command that ends a set "
    "counts. Ten reps, velocity as the first's share times (1 + 0.046 e), e standard normal: without fatigue, and "
    "falling linearly by 30 % to the last. Sets of three have no limit of their own: rule 6 needs four.",
    "e": "The same sets without wire and signals: true velocities stand in for measured ones, the steps are real. Both "
    "ways: the same sets done either way were ended alike, by the same rule after the same rep, or not at all.",
    "f": "On the wire, 20 reps of 2-0.5-2.5 s after one earlier session of the same patient, whose baseline the plan "
    "brings. Independent noise: concentric time 8 %, range 3 %, force 5 %, tremor 10 %. Drift from rep 10 to 20: "
    "concentric time +60 %, range -18 %, tremor +4 SD, force at the end of the range -20 %. Sagging: the noise of the "
    "force is of the end of the range alone. Such a rep is measured as unsteady too, so that the noise is not "
    "independent as the budget has it: no limit. Nobody obeys a cue or a lighter load meanwhile.",
    "g": "The same with measurements injected, each drawn on its own, steadiness with a deviation of 10 %.",
    "h": "A fresh lifter's true loss after ten reps at the load that the model proposes is 20 +- 5 points. The first "
    "load misses the right one by up to 25 %; a set ends when rule 6 ends it; six sets in two sessions, 75 s of rest. "
    "The model is free here: no envelope, no grid but the machine's.",
    "i": "Predictions before a set and after four of its reps, six sets of each lifter: the loss that the tenth rep "
    "shows, and in how many reps 20 % is first shown, noise and all, had nobody ended the set.",
    "j": "Lifters who break the model's assumptions: fatigue that grows faster towards the end, noise of 6 %, a load "
    "that matters less than the model's prior says, and sets that differ by 10 %. No limit: nobody promised this.",
    "k": "The real planner under its envelope (S3, S4, rule 14), two sets twice a week, no pain, every rep complete, "
    "one rep more than asked in the last set, exertion as reported: sessions until the prescribed load is in the band. "
    "No limit: rises are bounded on purpose, and a load that is too heavy is lowered by no plan rule.",
    "l": "The 95th percentile over repetitions of |index - true index| in points, both sides on one machine with a "
    "load cell each.",
    "m": "Both ways: two cells at once, and one session for each side. Strength of a side differs by 6 % between "
    "sessions. The rule asks for more than 15 % and more than MDC95 (16.6 %) on the same side in three sessions, so "
    "by chance alone 20 % is found in about 28 % of runs and 30 % in about 84 %: no limit but for false alarms.",
    "n": "A knock of 0.2 s in the sixth rep, up to 1.6 times the patient's largest force so far.",
}


class Part(NamedTuple):
    """One part: what scores patients, and what makes rows of that. Results of patients can be merged."""

    score: Callable[[int, Iterable[int]], Any]
    rows: Callable[[Any], Sequence[Row]]


PARTS: tuple[Part, ...] = (
    Part(accuracy.score, accuracy.rows),
    Part(stops.score, stops.rows),
    Part(forecast.score, forecast.rows),
    Part(progress.score, progress.rows),
    Part(sides.score, sides.rows),
)
"""In the order of the table."""


def run(seed: int, patients: int | None = None, report: Path | None = None) -> int:
    """Score, print one table, and return the status to exit with: 1 if a limit is missed.

    Parameters
    ----------
    seed : int
        Seed of everything.
    patients : int or None
        How many simulated patients; None for all 200.
    report : Path or None
        Where to write the figures as JSON.
    """
    found = scored(seed, PATIENTS if patients is None else patients)
    Console(width=200).print(drawn(found))
    if report is not None:
        report.write_bytes(found.json())
    return 1 if found.missed else 0


def scored(seed: int, patients: int, parts: Sequence[Part] = PARTS) -> Score:
    """Score some patients with every part, on all cores if there are many."""
    begun_s = time.monotonic()
    chunks = [range(first, min(first + CHUNK, patients)) for first in range(0, patients, CHUNK)]
    jobs = [(part.score, seed, chunk) for part in parts for chunk in chunks]
    if patients > FEW and len(os.sched_getaffinity(0)) > 1:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0)), mp_context=spawn) as pool:
            found = list(pool.map(_scored, jobs))
    else:
        found = [_scored(job) for job in jobs]
    rows: list[Row] = []
    for place, part in enumerate(parts):
        mine = found[place * len(chunks) : (place + 1) * len(chunks)]
        rows += part.rows(reduce(lambda one, other: one.merged(other), mine))
    used = {row.footnote for row in rows}
    footnotes = {key: text for key, text in FOOTNOTES.items() if key in used}
    return Score(
        seed=seed, patients=patients, seconds=time.monotonic() - begun_s, rows=tuple(rows), footnotes=footnotes
    )


def _scored(job: tuple[Callable[[int, Iterable[int]], Any], int, range]) -> Any:  # noqa: ANN401 - each part has its own
    score, seed, patients = job
    return score(seed, patients)
