"""Votes: five signs of fatigue in a set whose tempo is paced, where velocity says nothing (science.md 4).

A sign holds, does not hold, or abstains where its data are missing; an abstention never counts as a vote. A sign of
the reps must hold on the last two valid ones, and none says anything before the third.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from streams.core.baseline import MIN_REPS, Baseline, Moments, is_comparable
from streams.core.commands import Evidence
from streams.core.fatigue import mean
from streams.core.invariants import MIN_VALID_REPS
from streams.core.policy import Policy
from streams.core.sets import EARLY_REPS, RepNote, SetState
from streams.core.telemetry import Prescription

Sign = Literal["vote_tempo", "vote_rom", "vote_unsteady", "vote_end_range_force", "vote_rpe"]

_DECIMALS = 9
"""Limits are rounded before they are compared, so that no last bit decides."""

_SAID = {True: "yes", False: "no", None: "abstains"}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the signs are read from; None is unknown. `load_N` in N or N m and `window` in m or rad are in force."""

    set: SetState
    prescription: Prescription | None = None
    baseline: Baseline | None = None
    load_N: float | None = None
    window: tuple[float, float] | None = None


class Vote(msgspec.Struct, frozen=True):
    """What one sign says: it holds, it doesn't, or (None) it abstains; with the values that say so."""

    sign: Sign
    holds: bool | None
    evidence: tuple[Evidence, ...] = ()


def all_votes(seen: Seen, policy: Policy) -> tuple[Vote, ...]:
    """Ask every sign.

    Examples
    --------
    >>> from streams.core.policy import DEFAULT
    >>> {vote.holds for vote in all_votes(Seen(set=SetState(1, 300.0)), DEFAULT)}
    {None}
    """
    return tuple(sign(seen, policy) for sign in SIGNS)


def as_evidence(votes: Sequence[Vote], source: str) -> tuple[Evidence, ...]:
    """Say what every sign said, and show the values of those that hold.

    Examples
    --------
    >>> as_evidence([Vote("vote_rom", None)], "m/b1/9")
    (Evidence(source='m/b1/9', name='vote_rom', value='abstains'),)
    """
    said = tuple(Evidence(source, vote.sign, _SAID[vote.holds]) for vote in votes)
    return said + tuple(one for vote in votes if vote.holds for one in vote.evidence)


def vote_tempo(seen: Seen, policy: Policy) -> Vote:
    """Tell whether the concentric takes longer than 1.25 of its prescribed time; a voluntary pause explains it."""
    reps, wanted_s = _two(seen), None if seen.prescription is None else seen.prescription.concentric_s
    if reps is None or not wanted_s or any(rep.is_paused for rep in reps):
        return Vote("vote_tempo", None)
    limit_s = round(policy.vote_tempo_ratio * wanted_s, _DECIMALS)
    return _judged("vote_tempo", "concentric_time_s", [(rep, rep.concentric_s) for rep in reps], limit_s, above=True)


def vote_rom(seen: Seen, policy: Policy) -> Vote:
    """Tell whether the range falls below 0.90 of the patient's own, or of the window in force where none is known yet.

    An own range that the window in force does not admit comes from an earlier, wider window, and says nothing. In force
    is what rule 5 has left of the prescribed window: who keeps within it does not tire.
    """
    reps, reference = _two(seen), _own_range(seen, policy)
    if reps is None:
        return Vote("vote_rom", None)
    if reference is None:  # completeness knows the calibrated range too
        told = [(rep, rep.rom_completeness_pct) for rep in reps]
        limit_pct = round(100.0 * policy.vote_rom_fraction, _DECIMALS)
        return _judged("vote_rom", "rom_completeness_pct", told, limit_pct, above=False)
    limit = round(policy.vote_rom_fraction * reference, _DECIMALS)
    return _judged("vote_rom", "range_of_motion", [(rep, rep.range_of_motion) for rep in reps], limit, above=False)


def _own_range(seen: Seen, policy: Policy) -> float | None:
    own = None if seen.baseline is None else seen.baseline.range_of_motion
    if seen.window is None:
        return own
    width = seen.window[1] - seen.window[0]
    return width if own is None or own > width * policy.rom_over_pct / 100.0 else own


def vote_unsteady(seen: Seen, policy: Policy) -> Vote:
    """Tell whether force or its tremor is less steady than the patient's own: over mean + 2 SD and 1.25 of the mean.

    Without a load cell the tremor of velocity is asked, and held against that alone. The evidence says which it was.
    """
    reps = _two(seen)
    own = None if reps is None else _own(seen, reps)
    if reps is None or own is None:
        return Vote("vote_unsteady", None)
    told: list[Evidence] = []
    holds = True
    for rep in reps:
        known = [
            (name, value, limit)
            for name, value, moments in _unsteadiness(rep, own)
            if value is not None and (limit := _unsteady_from(moments, policy)) is not None
        ]
        if not known:
            return Vote("vote_unsteady", None)
        over = [(name, value, limit) for name, value, limit in known if value > limit]
        holds = holds and bool(over)
        for name, value, limit in over or known:
            told += [Evidence(rep.id, name, value), Evidence(rep.id, f"{name}_limit", limit)]
    return Vote("vote_unsteady", holds, (*told, *_moments(reps[-1], own)) if holds else ())


def _unsteadiness(rep: RepNote, own: Baseline) -> Sequence[tuple[str, float | None, Moments]]:
    """Return how steady a rep was, each value with the patient's own of the same series."""
    return (
        ("force_steadiness_cv_pct", rep.steadiness_pct, own.steadiness),
        ("tremor_index_force_pct", rep.tremor_pct, own.tremor),
        ("tremor_index_velocity_pct", rep.tremor_velocity_pct, own.tremor_velocity),
    )


def _own(seen: Seen, reps: Sequence[RepNote]) -> Baseline | None:
    """Return the baseline if it is of the load in force, the prescribed tempo, and the kind of force of the reps."""
    own, tempo_s = seen.baseline, None if seen.prescription is None else seen.prescription.concentric_s
    if own is None or seen.load_N is None:
        return None
    now = [Baseline(load_N=seen.load_N, concentric_s=tempo_s, corrected=rep.corrected) for rep in reps]
    return own if all(is_comparable(own, one) for one in now) else None


def _unsteady_from(own: Moments, policy: Policy) -> float | None:
    if own.n < MIN_REPS or own.sd is None:
        return None
    return round(max(own.mean + policy.unsteady_sd * own.sd, policy.unsteady_ratio * own.mean), _DECIMALS)


def _moments(rep: RepNote, own: Baseline) -> tuple[Evidence, ...]:
    told: list[Evidence] = []
    for name, value, moments in _unsteadiness(rep, own):
        if value is not None and moments.n >= MIN_REPS and moments.sd is not None:
            told += [
                Evidence(rep.id, f"{name}_own_mean", round(moments.mean, 6)),
                Evidence(rep.id, f"{name}_own_sd", round(moments.sd, 6)),
            ]
    return tuple(told)


def vote_end_range_force(seen: Seen, policy: Policy) -> Vote:
    """Tell whether the force at the end of range falls below 0.90 of its mean in the second to fourth valid rep.

    Once the load was changed within the set, force falls with it, and says nothing; nor does it where that of some reps
    is corrected and that of others is not.
    """
    reps, early = _two(seen), [force for force in seen.set.early_forces if force is not None]
    is_early = seen.set.valid_count - 1 < policy.vote_force_min_rep
    is_changed = seen.load_N is not None and seen.load_N != seen.set.load_N
    is_mixed = {True, False} <= {rep.corrected for rep in seen.set.reps}
    if reps is None or len(early) < len(EARLY_REPS) or is_early or is_changed or is_mixed:
        return Vote("vote_end_range_force", None)
    told = [(rep, rep.end_range_force) for rep in reps]
    limit = round(policy.vote_force_fraction * mean(early), _DECIMALS)
    return _judged("vote_end_range_force", "end_range_force", told, limit, above=False)


def vote_rpe(seen: Seen, policy: Policy) -> Vote:
    """Tell whether the exertion that was reported last in this set is above the target by 1 or more."""
    reps, target = _two(seen), None if seen.prescription is None else seen.prescription.rpe
    if reps is None or target is None or seen.set.rpe is None:
        return Vote("vote_rpe", None)
    told = Evidence(reps[-1].id, "rpe", seen.set.rpe), Evidence(reps[-1].id, "rpe_target", target)
    return Vote("vote_rpe", seen.set.rpe >= target + policy.vote_rpe_over, told)


SIGNS: tuple[Callable[[Seen, Policy], Vote], ...] = (
    vote_tempo,
    vote_rom,
    vote_unsteady,
    vote_end_range_force,
    vote_rpe,
)
"""The five signs in the order of science.md 4."""


def _two(seen: Seen) -> tuple[RepNote, RepNote] | None:
    return seen.set.last_two if seen.set.valid_count >= MIN_VALID_REPS else None


def _judged(sign: Sign, name: str, told: Sequence[tuple[RepNote, float | None]], limit: float, *, above: bool) -> Vote:
    """Compare a value of each rep with a limit, the same for all; one that is unknown makes the sign abstain."""
    known = [(rep, value) for rep, value in told if value is not None]
    if len(known) < len(told):
        return Vote(sign, None)
    if not all(value > limit if above else value < limit for _, value in known):
        return Vote(sign, holds=False)
    shown = (Evidence(rep.id, name, value) for rep, value in known)
    return Vote(sign, holds=True, evidence=(*shown, Evidence(known[-1][0].id, f"{name}_limit", limit)))
