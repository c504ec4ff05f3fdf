"""Foresight: what the patient's adaptive model says about the running set, and what it learns from a finished one.

It is told beside the metrics, with its interval, for people to see. No rule and no row of the envelope may ask it.
"""

from streams.core import adaptive
from streams.core.adaptive import Interval, Model, SetSeen
from streams.core.policy import Policy
from streams.core.session import SessionState
from streams.core.set_metrics import Reading
from streams.core.sets import RepNote, SetState

DECIMALS = 1
"""Of a rep or of a percent: an interval several reps wide deserves no more."""

PAIN_UNDISTURBED = 2
"""Pain up to which a set says something about fatigue (science.md 3.16)."""

REPS_LEFT = ("reps_left", "reps_left_low", "reps_left_high")
PREDICTED_LOSS = ("predicted_velocity_loss_pct", "predicted_velocity_loss_low_pct", "predicted_velocity_loss_high_pct")


def of_rep(session: SessionState, running: SetState, note: RepNote, policy: Policy) -> dict[str, Reading]:
    """Return how many reps are left until the velocity loss that ends the set, with the ends of the 90 % interval."""
    why = None
    if session.intent != "max":
        why = "wrong_intent"
    elif not note.valid:
        why = "invalid_rep"
    elif not (note.is_fast and note.velocity is not None):
        why = "no_reference"
    if why is not None:
        return dict.fromkeys(REPS_LEFT, why)
    so_far = _velocities(running)
    left = adaptive.reps_left(session.model or adaptive.PRIOR, running.load_N, so_far, policy.vl_stop_pct)
    return _told(REPS_LEFT, left)


def of_set(session: SessionState, running: SetState) -> dict[str, Reading]:
    """Return the loss that was to be expected before the set's first rep, at the number of reps that were done."""
    velocities = _velocities(running)
    if session.intent != "max":
        return dict.fromkeys(PREDICTED_LOSS, "wrong_intent")
    if len(velocities) < adaptive.MIN_REPS:
        return dict.fromkeys(PREDICTED_LOSS, "too_few_reps")
    model = session.model or adaptive.PRIOR
    return _told(PREDICTED_LOSS, adaptive.predicted_loss(model, running.load_N, len(velocities)))


def learned(session: SessionState, running: SetState) -> Model | None:
    """Return the model after a set; unchanged where the set was disturbed or its load was lowered on the way.

    The first set that teaches something opens the session, whatever warm-up came before it.
    """
    disturbed = running.missing > 0 or running.held or (session.pain_max or 0) > PAIN_UNDISTURBED
    if session.intent != "max" or disturbed or session.load_N != running.load_N:
        return session.model
    seen = SetSeen(running.load_N, _velocities(running), running.rest_s if session.taught else None)
    return adaptive.learned(session.model or adaptive.PRIOR, seen)


def _velocities(running: SetState) -> tuple[float, ...]:
    return tuple(rep.velocity for rep in running.fast if rep.velocity is not None)


def _told(names: tuple[str, str, str], found: Interval | None) -> dict[str, Reading]:
    if found is None:
        return dict.fromkeys(names, "invalid_input")
    return dict(zip(names, (round(end, DECIMALS) for end in (found.value, found.low, found.high)), strict=True))


def proposed(model: Model, policy: Policy, reps: int) -> Interval | None:
    """Return the load in N or N m at which so many reps would end at the velocity loss that ends a set."""
    return adaptive.load_for(model, policy.vl_stop_pct, reps)


def in_words(found: Interval, policy: Policy, reps: int, in_force_N: float) -> str:
    """Say a proposal to a clinician.

    Examples
    --------
    >>> in_words(Interval(412.0, 371.2, 458.0), Policy(), 10, 400.0)
    'velocity loss 20 % after 10 reps at 412 (90 %: 371 to 458), in force 400; proposed only'
    """
    ends = f"{found.value:.0f} (90 %: {found.low:.0f} to {found.high:.0f})"
    return f"velocity loss {policy.vl_stop_pct:g} % after {reps} reps at {ends}, in force {in_force_N:g}; proposed only"
