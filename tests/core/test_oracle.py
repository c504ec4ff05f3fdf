"""Stories of a patient across machines, seats and weeks, judged by an oracle that knows the page and not the loop."""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import plan_choice, turn
from streams.core.commands import Change, Command
from tests.core.oracle import Broken
from tests.core.ward import BACK, EVENTS, Forge, Visit, Ward

STORIES = int(os.environ.get("SPINELOOP_ORACLE_STORIES", "150"))
"""For more: `SPINELOOP_ORACLE_STORIES=5000 pytest tests/core/test_oracle.py`."""
TOGETHER = 25


def rarely(usual: Any, *others: Any, share: int = 8) -> Callable[[Random], Any]:
    """Return how to draw the usual, and in one case of `share` something else."""
    return lambda rng: usual if rng.random() * share >= 1.0 else rng.choice(others)


DRAWN: Mapping[str, Callable[[Random], Any]] = {
    "days": rarely(2.0, 0.05, 1.0, 3.0, 7.0, 13.9, 14.0, 20.0, 28.0, 40.0, 56.1, 70.0, share=4),
    "place": rarely(0, 1, 2, 3, share=3),
    "edit": rarely(None, (320.0, 600.0, 1.0), (400.0, 600.0, 1.0), (250.0, 260.0, 1.1), (90.0, 600.0, 0.8), share=10),
    "morning": rarely(None, 0, 1, 2, 3, 5),
    "waiting": rarely(None, 2, 4, 8, share=12),
    "answer": rarely("obeys", "declines", "is not there", share=8),
    "pain_start": rarely(0, 1, 2, 3, 4, 6, None),
    "pains": lambda rng: (rarely(None, *range(1, 11))(rng), rarely(None, 2, 4, 8, share=12)(rng)),
    "position": rarely(None, 0.1, 0.8, share=2),
    "event": rarely("nothing", *EVENTS, share=7),
    "effort": rarely("a rep more", "as told", "a rep less", "tires", share=10),
    "rpe": rarely(6, 8, None, share=12),
    "goes": rarely("ends", "leaves", share=12),
    "after": rarely(None, 1, 4, 8, share=12),
    "is_released": lambda rng: rng.random() < 0.9,
}


def a_story(seed: int) -> list[Visit]:
    """Draw a story: dull sessions mostly, because only they earn an increase, and trouble that falls into them."""
    rng = Random(seed)
    return [Visit(**{name: draw(rng) for name, draw in DRAWN.items()}) for _ in range(rng.randint(8, 16))]


def breaks(visits: Sequence[Visit]) -> str | None:
    """Live through a story; return the law that it breaks."""
    ward = Ward()
    try:
        for visit in visits:
            ward.receive(visit)
    except Broken as law:
        return str(law)
    return None


def shortest(visits: Sequence[Visit]) -> list[Visit]:
    """Leave out of a story whatever does not keep it from breaking a law."""
    story, dull = list(visits), Visit()
    for n in reversed(range(len(story))):
        if breaks([*story[:n], *story[n + 1 :]]):
            del story[n]
    for n, name in product(range(len(story)), DRAWN):
        simpler = [*story[:n], replace(story[n], **{name: getattr(dull, name)}), *story[n + 1 :]]
        story = simpler if breaks(simpler) else story
    return story


@pytest.mark.parametrize("first", range(0, STORIES, TOGETHER))
def test_no_story_breaks_a_law(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        story = a_story(seed)
        if breaks(story):
            found = shortest(story)
            pytest.fail(f"story {seed}, shortened: {found}: {breaks(found)}")


def test_a_session_that_is_summed_up_after_the_plan_of_rule_3_is_none_of_those_that_come_after_it() -> None:
    assert breaks([Visit(), Visit(morning=1, goes="leaves"), Visit(place=2), Visit(), Visit()]) is None


# --- the oracle sees what it is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "rule", "story", "law"),
    [
        (turn, "emergency_stop", [Visit(event="fault")], "S2"),
        (turn, "pain_stop", [Visit(pains=(10, None))], "rule 1"),
        (turn, "pain_reduce", [Visit(pains=(None, 2))], "rule 2"),
        (turn, "velocity_loss_stop", [Visit(effort="tires")], "rule 6"),
        (plan_choice, "pain_stop", [Visit(pains=(8, None)), Visit()], "pain_stop"),
        (plan_choice, "pain_next_morning", [Visit(), Visit(morning=1)], "pain_next_morning"),
        (plan_choice, "return_after_gap", [Visit(), Visit(days=14.0)], "return_after_gap"),
        (plan_choice, "progress_reps_first", [Visit()] * 3, "who has earned more"),
        (plan_choice, "progress_load", [Visit()] * 4, "who has earned more"),
    ],
)
def test_without_its_rule_a_law_is_broken(
    table: Any, rule: str, story: list[Visit], law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert breaks(story) is None
    name = "SESSION_RULES" if table is turn else "PLAN_RULES"
    monkeypatch.setattr(table, name, tuple(row for row in getattr(table, name) if row.id != rule))
    assert (breaks(story) or "").startswith(law)


def asking(*, confirm: bool = True, **fields: Any) -> Forge:
    """Return what makes the last plan of a story ask for something else."""
    return lambda command: (
        command
        if command.prescription is None
        else replace(command, prescription=replace(command.prescription, **fields), confirm=confirm)
    )


def swallowed(command: Command) -> None:
    """Let nobody see a command."""


def easing(rule: str, **change: Any) -> Forge:
    """Return what makes of the cut of pain the change of another rule."""
    return lambda command: (
        replace(command, rule=rule, changes=(Change(**change),)) if command.rule == "pain_reduce" else command
    )


GOOD, HURT = Visit(), Visit(pains=(4, None))


@pytest.mark.parametrize(
    ("story", "forge", "law"),
    [
        ([GOOD], swallowed, "a request is answered once"),
        ([GOOD], asking(load_N=605.0), "S5"),
        ([GOOD], asking(load_N=299.0), "S5"),
        ([GOOD], asking(load_N=295.0), "no cut is paid twice"),
        ([GOOD], asking(window_hi=1.05), "S6: within"),
        ([replace(HURT, position=0.8), GOOD], asking(window_hi=1.0), "S6: no automatic widening"),
        ([GOOD, Visit(edit=(290.0, 600.0, 1.2))], asking(window_hi=1.2), "S6: 5 degrees"),
        ([GOOD, Visit(edit=(310.0, 600.0, 1.2))], asking(window_hi=1.05), "S6: wider or heavier"),
        ([HURT, GOOD], asking(load_N=300.0), "S7"),
        ([GOOD] * 3, asking(load_N=305.0, reps=4), "S18"),
        ([GOOD] * 3, asking(confirm=False), "S20"),
        ([GOOD] * 4, asking(load_N=310.0), "S3"),
        ([GOOD, Visit(days=1.0, edit=(400.0, 600.0, 1.0)), GOOD, GOOD], asking(load_N=405.0), "S4"),
        ([*[Visit(effort="as told")] * 3, GOOD], asking(load_N=305.0), "rules 14, 15"),
        ([*[GOOD] * 3, Visit(waiting=4)], asking(load_N=305.0), "S7"),
        ([*[GOOD] * 3, Visit(days=14.0)], asking(load_N=270.0, reps=6), "nothing rises after an absence"),
        ([GOOD] * 3, asking(load_N=305.0, reps=5), "one thing rises"),
        ([GOOD] * 3, asking(reps=6), "one rep more"),
        ([GOOD] * 3, asking(sets=3, reps=4), "only a set that pain took"),
        ([Visit(place=2)], asking(concentric_s=1.0), "nothing else gets harder"),
        ([HURT], easing("pain_reduce", quantity="load_N", old=300.0, new=265.0), "rule 2"),
        ([HURT], easing("rom_shortfall", quantity="load_N", old=300.0, new=305.0), "S1"),
        ([HURT], easing("rest_extend", quantity="rest_s", old=90.0, new=200.0), "S21"),
        ([replace(HURT, event="a rep is lost")], easing("rest_extend", quantity="rest_s", old=90.0, new=120.0), "S13"),
    ],
)
def test_a_forged_command_breaks_its_law(story: list[Visit], forge: Forge, law: str) -> None:
    assert breaks(story) is None
    ward = Ward()
    for visit in story[:-1]:
        ward.receive(visit)
    ward.forge = forge
    with pytest.raises(Broken, match=f"^{law}"):
        ward.receive(story[-1])


def test_after_stop_a_word_is_one_too_many() -> None:
    said: list[Command] = []
    ward = Ward()

    def noted(command: Command) -> Command:
        said.append(command)
        return command

    ward.forge = noted
    ward.receive(Visit(pains=(4, None), event="stop"))
    with pytest.raises(Broken, match=r"^S8"):
        ward.oracle.says(BACK, next(one for one in said if one.action == "lower_load"))
