"""The five signs of fatigue in a paced set: each as a sentence, the vote as the statistics of science.md 9."""

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from streams.core import votes
from streams.core.baseline import Baseline, Moments
from streams.core.policy import DEFAULT, Policy
from streams.core.sets import EARLY_REPS, RepNote, SetState
from streams.core.telemetry import Prescription
from streams.core.votes import Seen, all_votes

TOLD = Prescription(id="p", load_N=300.0, window_lo=0.0, window_hi=1.0, concentric_s=2.0, eccentric_s=3.0, rpe=5)
OWN = Baseline(
    load_N=300.0,
    concentric_s=2.0,
    ranges=(1.0,),
    steadiness=Moments(10, 4.0, 9.0),  # SD 1: 6.0 is mean + 2 SD, and 5.0 is 1.25 of the mean
    tremor=Moments(10, 2.0, 0.09),  # SD 0.1: 2.2 is mean + 2 SD, and 2.5 is 1.25 of the mean
)
FRESH: dict[str, Any] = {
    "concentric_s": 2.0,
    "range_of_motion": 1.0,
    "rom_completeness_pct": 100.0,
    "steadiness_pct": 4.0,
    "tremor_pct": 2.0,
    "end_range_force": 300.0,
}


def rep(number: int, **fields: Any) -> RepNote:
    unknown: dict[str, Any] = dict.fromkeys(
        ("velocity", "range_of_motion", "rom_completeness_pct", "tempo_error_pct", "time_under_load_s", "work_J")
    )
    usual: dict[str, Any] = {
        "id": f"m/b1/{number}",
        "number": number,
        "valid": True,
        "accepted": True,
        "is_fast": False,
    }
    return RepNote(**(usual | unknown | {"peak_force": None} | FRESH | fields))


def a_set(*reps: RepNote, **fields: Any) -> SetState:
    valid = [one for one in reps if one.valid]
    early = tuple(one.end_range_force for nth, one in enumerate(valid, start=1) if nth in EARLY_REPS)
    usual: dict[str, Any] = {
        "reps": reps,
        "received": len(reps),
        "invalid": len(reps) - len(valid),
        "early_forces": early,
    }
    return SetState(1, 300.0, **(usual | fields))


def tired(count: int = 8, last: int = 2, **fields: Any) -> SetState:
    """Return a set of so many reps whose last ones are different."""
    fresh = [rep(n) for n in range(1, count - last + 1)]
    return a_set(*fresh, *(rep(n, **fields) for n in range(count - last + 1, count + 1)))


def seen(running: SetState, **fields: Any) -> Seen:
    usual: dict[str, Any] = {"prescription": TOLD, "baseline": OWN, "load_N": 300.0, "window": (0.0, 1.0)}
    return Seen(set=running, **(usual | fields))


def holds(given: Seen, policy: Policy = DEFAULT) -> dict[str, bool | None]:
    return {vote.sign: vote.holds for vote in all_votes(given, policy)}


NOBODY = {
    "vote_tempo": False,
    "vote_rom": False,
    "vote_unsteady": False,
    "vote_end_range_force": False,
    "vote_rpe": None,
}

JUST_OVER: dict[str, dict[str, Any]] = {
    "vote_tempo": {"concentric_s": 2.501},
    "vote_rom": {"range_of_motion": 0.89999},
    "vote_unsteady": {"steadiness_pct": 6.001},
    "vote_end_range_force": {"end_range_force": 269.99},
}
JUST_NOT: dict[str, dict[str, Any]] = {
    "vote_tempo": {"concentric_s": 2.5},
    "vote_rom": {"range_of_motion": 0.9},
    "vote_unsteady": {"steadiness_pct": 6.0, "tremor_pct": 2.5},
    "vote_end_range_force": {"end_range_force": 270.0},
}


def test_a_fresh_set_shows_no_sign_and_unreported_exertion_abstains() -> None:
    assert holds(seen(tired())) == NOBODY


@pytest.mark.parametrize("sign", JUST_OVER)
def test_a_sign_holds_just_beyond_its_limit_on_the_last_two_reps_and_alone(sign: str) -> None:
    assert holds(seen(tired(**JUST_OVER[sign]))) == NOBODY | {sign: True}


@pytest.mark.parametrize("sign", JUST_NOT)
def test_a_sign_does_not_hold_at_its_limit(sign: str) -> None:
    assert holds(seen(tired(**JUST_NOT[sign]))) == NOBODY


@pytest.mark.parametrize("sign", JUST_OVER)
def test_a_single_rep_is_no_sign(sign: str) -> None:
    assert holds(seen(tired(last=1, **JUST_OVER[sign]))) == NOBODY


@pytest.mark.parametrize("sign", JUST_OVER)
def test_an_invalid_rep_in_between_is_skipped(sign: str) -> None:
    worse = JUST_OVER[sign]
    invalid = rep(9, valid=False, accepted=False)
    running = a_set(*(rep(n) for n in range(1, 8)), rep(8, **worse), invalid, rep(10, **worse))
    assert holds(seen(running))[sign] is True


@pytest.mark.parametrize("sign", JUST_OVER)
def test_what_is_not_known_of_one_of_the_two_reps_makes_the_sign_abstain(sign: str) -> None:
    missing = dict.fromkeys(JUST_OVER[sign])
    if sign == "vote_unsteady":
        missing |= {"tremor_pct": None}
    running = a_set(*(rep(n) for n in range(1, 8)), rep(8, **missing), rep(9, **JUST_OVER[sign]))
    assert holds(seen(running))[sign] is None


def test_two_reps_say_nothing_whatever_they_are_like() -> None:
    worst: dict[str, Any] = {}
    for fields in JUST_OVER.values():
        worst |= fields
    running = a_set(rep(1, **worst), rep(2, **worst), rpe=10)
    assert set(holds(seen(running)).values()) == {None}
    third = a_set(rep(1, **worst), rep(2, **worst), rep(3, **worst), rpe=10)
    assert [sign for sign, held in holds(seen(third)).items() if held] == [
        "vote_tempo",
        "vote_rom",
        "vote_unsteady",
        "vote_rpe",
    ]


def test_a_voluntary_pause_explains_a_slow_rep() -> None:
    assert holds(seen(tired(concentric_s=9.0, is_paused=True)))["vote_tempo"] is None


def test_without_a_prescribed_tempo_there_is_no_tempo_to_miss() -> None:
    assert holds(seen(tired(concentric_s=9.0), prescription=replace(TOLD, concentric_s=None)))["vote_tempo"] is None
    assert holds(seen(tired(concentric_s=9.0), prescription=None))["vote_tempo"] is None


def test_the_own_range_counts_before_the_prescribed_one() -> None:
    modest = replace(OWN, ranges=(0.8, 0.7, 0.9))  # median 0.8: below 0.72 is a sign
    assert holds(seen(tired(range_of_motion=0.73), baseline=modest))["vote_rom"] is False
    assert holds(seen(tired(range_of_motion=0.71), baseline=modest))["vote_rom"] is True


def test_without_an_own_range_the_prescribed_one_counts_and_then_the_calibrated_one() -> None:
    new = replace(OWN, ranges=())
    assert holds(seen(tired(range_of_motion=0.89), baseline=new))["vote_rom"] is True
    calibrated = seen(tired(rom_completeness_pct=89.9), baseline=None, window=None)
    assert holds(calibrated)["vote_rom"] is True
    assert holds(seen(tired(rom_completeness_pct=None), baseline=None, window=None))["vote_rom"] is None


def test_an_own_range_from_a_wider_window_is_no_reference_for_a_narrower_one() -> None:
    assert holds(seen(tired(last=8, range_of_motion=0.8), window=(0.0, 0.8)))["vote_rom"] is False


@pytest.mark.parametrize(
    "baseline",
    [
        None,
        replace(OWN, load_N=340.0),
        replace(OWN, concentric_s=3.0),
        replace(OWN, concentric_s=None),
        replace(OWN, steadiness=Moments(4, 4.0, 3.0), tremor=Moments(4, 2.0, 0.01)),
    ],
)
def test_steadiness_abstains_without_five_own_reps_at_this_load_and_tempo(baseline: Baseline | None) -> None:
    assert holds(seen(tired(steadiness_pct=50.0), baseline=baseline))["vote_unsteady"] is None


def test_either_force_or_its_tremor_makes_unsteady() -> None:
    running = a_set(*(rep(n) for n in range(1, 5)), rep(5, steadiness_pct=7.0), rep(6, tremor_pct=2.6))
    assert holds(seen(running))["vote_unsteady"] is True


UNHEARD: dict[str, Any] = {"steadiness_pct": None, "tremor_pct": None, "end_range_force": None}
"""What nobody knows of a rep without a load cell."""


@pytest.mark.parametrize(("tremor_pct", "is_unsteady"), [(3.75, False), (3.751, True)])
def test_without_a_load_cell_the_tremor_of_velocity_is_held_against_its_own_series(
    tremor_pct: float, is_unsteady: bool
) -> None:
    own = replace(OWN, tremor_velocity=Moments(10, 3.0, 0.09))  # SD 0.1: 3.2 is mean + 2 SD, and 3.75 is 1.25 of it
    fresh = [rep(n, **UNHEARD, tremor_velocity_pct=3.0) for n in range(1, 6)]
    last = [rep(n, **UNHEARD, tremor_velocity_pct=tremor_pct) for n in (6, 7)]
    (vote,) = [
        one for one in all_votes(seen(a_set(*fresh, *last), baseline=own), DEFAULT) if one.sign == "vote_unsteady"
    ]
    assert vote.holds == is_unsteady
    names = {one.name for one in vote.evidence}
    shown = {"", "_limit", "_own_mean", "_own_sd"}
    assert names == ({f"tremor_index_velocity_pct{end}" for end in shown} if is_unsteady else set())


def test_tremor_of_velocity_is_never_held_against_that_of_force() -> None:
    running = a_set(*(rep(n, **UNHEARD, tremor_velocity_pct=50.0) for n in range(1, 8)))
    assert holds(seen(running))["vote_unsteady"] is None


def test_force_at_the_end_of_range_is_judged_from_the_sixth_valid_rep_on() -> None:
    #  valid rep   1    2    3    4    5    6    7
    #  force, N  300  300  300  300  260  260  260    limit 270, judged from 6 on, two in a row at 7
    weaker = [rep(n, end_range_force=260.0) for n in range(5, 8)]
    fresh = [rep(n) for n in range(1, 5)]
    assert holds(seen(a_set(*fresh, *weaker[:2])))["vote_end_range_force"] is None
    assert holds(seen(a_set(*fresh, *weaker)))["vote_end_range_force"] is True


def test_force_at_the_end_of_range_says_nothing_without_its_early_reps_or_after_the_load_was_lowered() -> None:
    blind = a_set(rep(1), rep(2, end_range_force=None), *(rep(n) for n in range(3, 7)), *[rep(7), rep(8)])
    assert holds(seen(blind))["vote_end_range_force"] is None
    assert holds(seen(tired(end_range_force=200.0), load_N=270.0))["vote_end_range_force"] is None


def test_force_says_nothing_where_it_is_corrected_in_one_rep_and_not_in_another() -> None:
    own = replace(OWN, corrected=True)
    for last, expected in ((True, True), (False, None)):
        fresh = [rep(n, corrected=True) for n in range(1, 8)]
        worse = {"corrected": last, "steadiness_pct": 7.0, "end_range_force": 200.0}
        signs = holds(seen(a_set(*fresh, rep(8, **(worse | {"corrected": True})), rep(9, **worse)), baseline=own))
        assert (signs["vote_unsteady"], signs["vote_end_range_force"]) == (expected, expected)


def test_reported_exertion_is_a_sign_from_one_above_the_target_on() -> None:
    assert [holds(seen(a_set(rep(1), rep(2), rep(3), rpe=rpe)))["vote_rpe"] for rpe in (5, 6)] == [False, True]
    assert holds(seen(a_set(rep(1), rep(2), rep(3), rpe=9), prescription=replace(TOLD, rpe=None)))["vote_rpe"] is None


@pytest.mark.parametrize("sign", JUST_OVER)
def test_a_sign_shows_the_values_of_both_reps_and_its_limit(sign: str) -> None:
    (vote,) = [one for one in all_votes(seen(tired(**JUST_OVER[sign])), DEFAULT) if one.holds]
    assert {one.source for one in vote.evidence} == {"m/b1/7", "m/b1/8"}
    assert any(one.name.endswith("_limit") for one in vote.evidence)
    assert not any(one.name.startswith("velocity_loss") for one in vote.evidence)


# --- statistics (science.md 9) ---------------------------------------------------------------------------------------

REPS = 20
SETS = 2_000
STEADY = replace(OWN, steadiness=Moments(50, 8.0, 49.0), tremor=Moments())  # SD 1: mean + 2 SD is 1.25 of the mean


def stopped_share(drift: float, seed: int) -> float:
    """Return the share of paced sets that the vote ends; `drift` 1 tires from rep 10 to 20 as science.md 9 says."""
    rng = np.random.default_rng(seed)
    shift = drift * np.clip((np.arange(1, REPS + 1) - 10) / 10.0, 0.0, 1.0)
    stopped = 0
    for _ in range(SETS):
        noise = rng.standard_normal((4, REPS))
        told = {
            "concentric_s": 2.0 * (1.0 + 0.60 * shift) * (1.0 + 0.08 * noise[0]),
            "range_of_motion": (1.0 - 0.18 * shift) * (1.0 + 0.03 * noise[1]),
            "steadiness_pct": 8.0 + 4.0 * shift + noise[2],
            "end_range_force": 300.0 * (1.0 - 0.20 * shift) * (1.0 + 0.05 * noise[3]),
        }
        reps = [
            rep(n + 1, tremor_pct=None, **{name: float(values[n]) for name, values in told.items()})
            for n in range(REPS)
        ]
        for n in range(3, REPS + 1):
            given = seen(a_set(*reps[:n]), baseline=STEADY)
            if sum(vote.holds is True for vote in all_votes(given, DEFAULT)) >= DEFAULT.votes_needed:
                stopped += 1
                break
    return stopped / SETS


def test_hardly_a_paced_set_is_stopped_without_fatigue() -> None:
    assert stopped_share(0.0, seed=1) < 0.02


def test_nearly_every_paced_set_is_stopped_when_tempo_range_steadiness_and_force_all_drift() -> None:
    assert stopped_share(1.0, seed=2) >= 0.95


def test_one_sign_alone_stops_nobody() -> None:
    assert DEFAULT.votes_needed == 2
    assert sum(held is True for held in holds(seen(tired(concentric_s=math.inf))).values()) == 1
    assert votes.as_evidence(all_votes(seen(tired()), DEFAULT), "m/b1/8")[0].value == "no"
