"""Form rules: range, tempo and steadiness of the movement (5, 8, 9, 11).

All of them go by two consecutive valid reps. Rules 8 and 9 say something first, and take load off only if two more
reps are as bad; 8, 9 and 11 do so once a set.
"""

import math
from collections.abc import Callable

from streams.core import votes
from streams.core.commands import Change, Evidence
from streams.core.fatigue_rules import has_had_its_time, last_losses, seen
from streams.core.policy import Policy
from streams.core.rule import Match
from streams.core.session import SessionState
from streams.core.set_metrics import DECIMALS
from streams.core.sets import RepNote
from streams.core.situation import MIN_WINDOW_SHARE, WINDOW_DECIMALS, Situation, lowered, range_step

Judge = Callable[[RepNote], tuple[Evidence, ...]]
"""What is wrong with a rep, with the values that say so; empty if nothing is."""

_DECIMALS = 9
"""Shares are rounded before they are compared, so that no last bit decides."""


def rom_limit(situation: Situation, policy: Policy) -> Match | None:
    """5: two consecutive reps beyond `rom_over_pct` of the prescribed range take its far end back by what is too much.

    By `rom_step_deg` (in metres as many percent of the window) in a session at most, whatever pain (rule 2) takes away
    besides, and not with the rep that ends the set by its time under load. What is too much is judged by the prescribed
    window, also after the limit was taken below it. The far end, where the concentric ends, is the one that can be
    overstretched; at the other the machine rests.
    """
    session, machine, reps = situation.session, situation.capabilities, situation.reps
    if session is None or machine is None or reps is None or _is_waiting(situation, "rom_limit"):
        return None
    if situation.set is not None and has_had_its_time(situation.set, policy):
        return None  # rule 7 ends the set with this rep (S21), and must not be hidden
    prescribed, limit = session.prescribed_window, session.window
    if prescribed is None or limit is None or prescribed[0] >= prescribed[1]:
        return None
    shares_pct = [_completeness(session, rep) for rep in reps]
    over_pct = [share for share in shares_pct if share is not None and share > policy.rom_over_pct]
    if len(over_pct) < len(reps):
        return None
    width = prescribed[1] - prescribed[0]
    too_much = (min(over_pct) / 100.0 - 1.0) * width
    old = situation.easiest("window_hi", limit[1])
    lowest = old - max(range_step(machine, prescribed, policy.rom_step_deg) - _tightened(situation, session), 0.0)
    new = _rounded_up(max(old - too_much, lowest))
    if new >= old or new - limit[0] < MIN_WINDOW_SHARE * width:
        return None
    told = [Evidence(rep.id, "rom_completeness_pct", share) for rep, share in zip(reps, over_pct, strict=True)]
    told.append(Evidence(situation.cause, "window_hi_prescribed", prescribed[1]))
    nearer = Change(quantity="window_hi", old=old, new=new, bound=_rounded_up(lowest))
    return Match(action="tighten_range", evidence=tuple(told), changes=(nearer,), cue="stay_within_range")


def _tightened(situation: Situation, session: SessionState) -> float:
    """Return how much rule 5 has taken away in this session, or has asked to, in m or rad."""
    asked = [one for command in situation.pending if command.rule == "rom_limit" for one in command.changes]
    return session.tightened + sum(one.old - one.new for one in asked)


def _rounded_up(position: float) -> float:
    """Round an end of the window so that nothing more is taken off it than was asked."""
    scale = 10.0**WINDOW_DECIMALS
    return math.ceil(round(position * scale, 3)) / scale


def _completeness(session: SessionState, rep: RepNote) -> float | None:
    """Return a rep's range in percent of the prescribed one, also where the limit in force is nearer."""
    prescribed = session.prescribed_window
    if session.limit is None or prescribed is None:
        return rep.rom_completeness_pct
    if rep.range_of_motion is None:
        return None
    return round(100.0 * rep.range_of_motion / (prescribed[1] - prescribed[0]), 3)


def rom_shortfall(situation: Situation, policy: Policy) -> Match | None:
    """8: two consecutive reps below `rom_amber_pct` of their range give a cue; two more take off `form_cut_pct`.

    The load goes down once a set; the range stays as it is.
    """

    def is_short(rep: RepNote) -> tuple[Evidence, ...]:
        pct = rep.rom_completeness_pct
        is_less = pct is not None and pct < policy.rom_amber_pct
        return (Evidence(rep.id, "rom_completeness_pct", pct),) if is_less else ()

    return _cue_first(situation, policy, "rom_shortfall", is_short, "use_full_range")


def tempo_or_bounce(situation: Situation, policy: Policy) -> Match | None:
    """9: two consecutive hasty reps give a cue; two more take `form_cut_pct` off the load, once a set.

    Hasty is a bounce, or a phase below `tempo_fast_fraction` of its prescribed time; with intent max only the eccentric
    is asked. Such a rep is flagged.
    """

    def is_hasty(rep: RepNote) -> tuple[Evidence, ...]:
        why: list[Evidence] = []
        for name, time_s, wanted_s in zip(
            ("concentric_time_s", "eccentric_time_s"),
            (rep.concentric_s, rep.eccentric_s),
            rep.prescribed_s,
            strict=True,
        ):
            if time_s is not None and wanted_s and round(time_s / wanted_s, _DECIMALS) < policy.tempo_fast_fraction:
                why += [Evidence(rep.id, name, time_s), Evidence(rep.id, f"{name}_prescribed", wanted_s)]
        if rep.is_bounced:
            why += [Evidence(rep.id, "bounce", 1), Evidence(rep.id, "bounce_dwell_s", rep.dwell_s)]
        return tuple(why)

    return _cue_first(situation, policy, "tempo_or_bounce", is_hasty, "slow_down")


def unsteady_reduce(situation: Situation, policy: Policy) -> Match | None:
    """11: two consecutive reps less steady than the patient's own take `form_cut_pct` off the load, once a set.

    Less steady is the sign `vote_unsteady`. With intent max velocity must show no fatigue that would explain it: a
    loss below `unsteady_vl_pct`.
    """
    running, session, reps = situation.set, situation.session, situation.reps
    if running is None or session is None or reps is None or "unsteady_reduce" in running.fired:
        return None
    vote = votes.vote_unsteady(seen(session, running), policy)
    if not vote.holds:
        return None
    told = vote.evidence
    if session.intent == "max":
        losses = last_losses([rep.velocity for rep in running.fast if rep.velocity is not None])
        last = losses[-1] if losses and reps[-1].is_fast and reps[-1].velocity is not None else None
        loss_pct = None if last is None else round(last, DECIMALS)
        if loss_pct is None or loss_pct >= policy.unsteady_vl_pct:
            return None
        told = (*told, Evidence(reps[-1].id, "velocity_loss_robust_pct", loss_pct))  # as compared: 9.9997 is not 10
    changes = lowered(situation, policy.form_cut_pct)
    return Match(action="lower_load", evidence=told, changes=changes) if changes else None


def _cue_first(situation: Situation, policy: Policy, rule: str, judge: Judge, cue: str) -> Match | None:
    """Give a cue on two consecutive bad reps; on two more after it, take load off, once a set."""
    running, reps = situation.set, situation.reps
    if running is None or reps is None or rule in running.fired or _is_waiting(situation, rule):
        return None
    last = judge(reps[1])
    first = judge(reps[0]) if last else ()
    if not first:
        return None
    told = (*first, *last)
    if running.reps_since(rule) is None:
        return Match(action="cue", evidence=told, cue=cue)
    changes = lowered(situation, policy.form_cut_pct)
    return Match(action="lower_load", evidence=told, changes=changes) if changes else None


def _is_waiting(situation: Situation, rule: str) -> bool:
    """Tell whether fewer than two valid reps came since the rule acted or gave its cue: what is old counts once."""
    since = None if situation.set is None else situation.set.reps_since(rule)
    return since is not None and since < 2  # noqa: PLR2004 - two more reps
