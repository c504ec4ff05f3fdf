"""Violations: what a command may never be, invariant by invariant (docs/science.md, section 7.4).

Every judge is told the scene, and says what is wrong with it. None of them asks the envelope, the invariants or the
bounds of the core.
"""

from collections.abc import Iterator

from loadtest.campaign import grounds, increases
from loadtest.campaign.scene import Judge, Scene, Violation

OF_STOP: tuple[tuple[str, Judge], ...] = (("S9", grounds.complete), ("policy", grounds.policy))
"""What even a STOP owes."""

OF_OTHERS: tuple[tuple[str, Judge], ...] = (
    *OF_STOP,
    ("S1", increases.within_session),
    ("S3", increases.small_step),
    ("S4", increases.small_week),
    ("S5", increases.within_bounds),
    ("S6", increases.range_),
    ("S7", increases.clean),
    ("S8", grounds.unlocked),
    ("S9", grounds.listed),
    ("S10", grounds.current),
    ("S13", grounds.finite),
    ("S13", increases.known),
    ("S13", grounds.whole),
    ("S14", grounds.enough_reps),
    ("S15", grounds.two_reps),
    ("S16", grounds.not_by_velocity),
    ("S18", increases.learned),
    ("S19", grounds.not_by_likeness),
    ("S20", increases.confirmed),
    ("S21", grounds.once),
    ("S21", grounds.rested),
    ("S23", grounds.screened),
    ("S25", grounds.is_no_request),
)
"""What every other command owes, but a request for messages (requests.py)."""


def violations(scene: Scene) -> Iterator[Violation]:
    """Judge a command that was sent for the first time."""
    for invariant, judge in OF_STOP if scene.command.action == "stop" else OF_OTHERS:
        for wrong in judge(scene):
            yield Violation(invariant, f"{wrong}: {scene.command.command_id}")
