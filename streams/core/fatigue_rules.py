"""Fatigue rules: when a set has been enough, and when the rest between two sets has been too short (6, 7, 10)."""

from collections.abc import Sequence
from heapq import nlargest

from streams.core import fatigue, votes
from streams.core.commands import Change, Evidence
from streams.core.policy import Policy
from streams.core.rule import Match
from streams.core.session import SessionState
from streams.core.set_metrics import DECIMALS
from streams.core.sets import RepNote, SetState
from streams.core.situation import Situation
from streams.core.votes import Seen


def velocity_loss_stop(situation: Situation, policy: Policy) -> Match | None:
    """6: two consecutive valid reps at `vl_stop_pct` of velocity loss or more end the set, with intent max only.

    The loss is against the mean of the three fastest so far (VL3). At least `vl_min_reps` reps must have a velocity.
    Once a set, unless the machine did not end it.
    """
    running = situation.set
    if running is None or situation.reps is None or "velocity_loss_stop" in running.fired:
        return None
    moved = running.fast
    if len(moved) < policy.vl_min_reps:
        return None
    if moved[-2:] != running.last_two:  # another kind of rep came between: not consecutive
        return None
    velocities = [rep.velocity for rep in moved if rep.velocity is not None]
    losses = [loss for loss in last_losses(velocities) if loss is not None]
    last_two = [loss for loss in losses if round(loss, DECIMALS) >= policy.vl_stop_pct]  # as it is stored for rule 14
    if len(last_two) < 2:  # noqa: PLR2004 - "two consecutive" is the rule (S15)
        return None
    told: list[Evidence] = []
    for n, loss in zip((len(moved) - 1, len(moved)), last_two, strict=True):
        told += _loss_evidence(moved[n - 1], velocities[:n], loss)
    return Match(action="end_set", evidence=tuple(told))


def last_losses(velocities: Sequence[float]) -> list[float | None]:
    """Return the last two entries of `fatigue.velocity_loss_robust` in percent, without those before them.

    Examples
    --------
    >>> velocities = [0.50, 0.48, 0.55, 0.52, 0.47, 0.44]
    >>> last_losses(velocities) == fatigue.velocity_loss_robust(velocities)[-2:]
    True
    """
    return fatigue.velocity_loss_robust([*nlargest(3, velocities[:-2]), *velocities[-2:]])[-2:]


def _loss_evidence(rep: RepNote, velocities: Sequence[float], loss_pct: float) -> tuple[Evidence, ...]:
    reference = sum(sorted(velocities)[-3:]) / 3.0
    return (
        Evidence(rep.id, "mean_velocity", velocities[-1]),
        Evidence(rep.id, "velocity_reference", round(reference, 6)),
        Evidence(rep.id, "velocity_loss_robust_pct", round(loss_pct, 3)),
    )


def paced_fatigue_stop(situation: Situation, policy: Policy) -> Match | None:
    """7: a set whose time under load reaches `tul_cap_s` ends; a paced one also with `votes_needed` signs of fatigue.

    There are five signs, and what each of them said is part of the evidence. Unknown intent counts as paced. Once a set
    for each of the two reasons, unless the machine did not end it.
    """
    running, session, reps = situation.set, situation.session, situation.reps
    if running is None or session is None or reps is None:
        return None
    is_capped = has_had_its_time(running, policy)
    if "paced_fatigue_stop" in running.fired and not is_capped:
        return None
    told: tuple[Evidence, ...] = (
        Evidence(situation.cause, "tul_of_set_s", running.tul_s),
        Evidence(situation.cause, "tul_cap_s", policy.tul_cap_s),
    )
    if is_capped:
        told = (*(Evidence(rep.id, "time_under_load_s", rep.time_under_load_s) for rep in reps), *told)
    if session.intent != "max":  # unknown counts as paced (S16)
        said = votes.all_votes(seen(session, running), policy)
        if sum(vote.holds is True for vote in said) >= policy.votes_needed:
            return Match(action="end_set", evidence=(*told, *votes.as_evidence(said, situation.cause)))
    return Match(action="end_set", evidence=told) if is_capped else None


def has_had_its_time(running: SetState, policy: Policy) -> bool:
    """Tell whether a set has to end for its time under load; signs that ended it in vain are another reason."""
    if running.tul_s < policy.tul_cap_s:
        return False
    last_s = running.reps[-1].time_under_load_s or 0.0 if running.reps else 0.0
    return "paced_fatigue_stop" not in running.fired or round(running.tul_s - last_s, 6) < policy.tul_cap_s


def seen(session: SessionState, running: SetState) -> Seen:
    """Gather what the signs of fatigue are read from."""
    return Seen(
        set=running,
        prescription=session.prescription,
        baseline=session.baseline,
        load_N=session.load_N,
        window=session.window,
    )


def rest_extend(situation: Situation, policy: Policy) -> Match | None:
    """10: a set's best velocity below `recovery_min` of the first set's asks for `rest_step_s` more rest.

    If the next set's end shows the same, for one set fewer. The rest grows to `rest_max_s` at most. With intent max
    only, because tempo fixes velocity; after the last set nothing is asked.
    """
    running, session = situation.set, situation.session
    if running is None or session is None or session.intent != "max" or session.prescription is None:
        return None
    best, first = running.best_velocity, session.first_best
    recovery = None if best is None or first is None else fatigue.set_recovery(best, first)
    done, sets, rest_s = session.sets + 1, session.prescription.sets, session.prescription.rest_s
    if recovery is None or round(recovery, 6) >= policy.recovery_min or done >= sets:
        return None
    told = (
        Evidence(situation.cause, "best_mean_velocity", best),
        Evidence(situation.cause, "best_mean_velocity_first_set", first),
        Evidence(situation.cause, "set_recovery", round(recovery, 6)),
        Evidence(situation.cause, "rest_s", rest_s),
    )
    longer_s = min(rest_s + policy.rest_step_s, policy.rest_max_s)
    is_extended = session.rest_extended == session.sets and session.sets > 0  # by the last set's end
    if is_extended or longer_s <= rest_s:
        fewer = Change(quantity="sets", old=sets, new=sets - 1, bound=done)
        return Match(action="drop_set", evidence=told, changes=(fewer,))
    longer = Change(quantity="rest_s", old=rest_s, new=longer_s, bound=policy.rest_max_s)
    return Match(action="extend_rest", evidence=told, changes=(longer,))
