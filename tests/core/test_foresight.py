"""Foresight as stories: what is said beside the metrics, what is learned, and that nothing decides by it."""

import ast
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import adaptive, foresight
from streams.core.adaptive import Model, SetSeen
from streams.core.policy import DEFAULT
from streams.core.results import RepMeasured, SessionSummarised, SetSummarised
from streams.core.telemetry import SessionEnded, SetEnded, SetStarted
from tests.core.story import Machine, metrics, records, run

CORE = Path(foresight.__file__).parent
TIRING = [0.60, 0.60, 0.58, 0.57, 0.55, 0.54]


def a_session(*, intent: str = "max", pain: int = 0, sets: int = 2) -> list[Any]:
    machine = Machine()
    told: list[Any] = machine.begin(intent=intent, pain_nrs=pain)
    for number in range(1, sets + 1):
        if number > 1:
            told.append(machine.say(SetStarted, session="s1", set_number=number, load_N=300.0))
        told += [machine.rep(n, v, set_number=number, intent=intent) for n, v in enumerate(TIRING, start=1)]
        told.append(machine.say(SetEnded, session="s1", set_number=number, reps_done=len(TIRING)))
    return [*told, machine.say(SessionEnded, session="s1")]


def test_a_tiring_patient_has_fewer_reps_left_with_every_interval_around_its_value() -> None:
    reps = metrics(run(records(a_session(sets=1)))[1], RepMeasured)
    left = [rep.values["reps_left"] for rep in reps]
    assert left[-1] < left[2]
    assert all(r.values["reps_left_low"] <= r.values["reps_left"] <= r.values["reps_left_high"] for r in reps)


def test_a_second_set_is_foreseen_more_narrowly_than_the_first() -> None:
    first, second = metrics(run(records(a_session()))[1], SetSummarised)
    low, high = foresight.PREDICTED_LOSS[1:]
    assert second.values[high] - second.values[low] < first.values[high] - first.values[low]


def test_a_paced_patient_is_not_foreseen_because_velocity_says_nothing() -> None:
    said = run(records(a_session(intent="paced")))[1]
    for one in (*metrics(said, RepMeasured), *metrics(said, SetSummarised)):
        names = foresight.REPS_LEFT if isinstance(one, RepMeasured) else foresight.PREDICTED_LOSS
        assert {name: one.undefined[name] for name in names} == dict.fromkeys(names, "wrong_intent")


def test_a_session_hands_on_what_its_sets_taught() -> None:
    (session,) = metrics(run(records(a_session()))[1], SessionSummarised)
    assert session.model is not None
    assert session.model.sets == 2


@pytest.mark.parametrize("disturbed", [{"pain": 4}, {"intent": "paced"}])
def test_a_disturbed_session_teaches_nothing(disturbed: dict[str, Any]) -> None:
    (session,) = metrics(run(records(a_session(**disturbed)))[1], SessionSummarised)
    assert session.model is None


def test_a_set_with_a_lost_message_teaches_nothing() -> None:
    told = a_session(sets=1)
    del told[6]
    (session,) = metrics(run(records(told, step_ms=3_000))[1], SessionSummarised)
    assert session.incomplete
    assert session.model is None


KNOWN = adaptive.learned(adaptive.PRIOR, SetSeen(300.0, tuple(TIRING)))


def taught(*, warm_up_sets: int, sets: int = 1) -> Model:
    """Return what a known patient's model is after sets, of which the first are a warm-up."""
    machine = Machine()
    told: list[Any] = machine.begin()
    for number in range(1, warm_up_sets + sets + 1):
        if number > 1:
            told.append(machine.say(SetStarted, session="s1", set_number=number, load_N=300.0))
        is_warm_up = number <= warm_up_sets
        told += [machine.rep(n, v, set_number=number, warm_up=is_warm_up) for n, v in enumerate(TIRING, start=1)]
        told.append(machine.say(SetEnded, session="s1", set_number=number, reps_done=len(TIRING)))
    said = records([*told, machine.say(SessionEnded, session="s1")])
    state, _ = run(said[:4])
    assert state.session is not None
    state = replace(state, session=replace(state.session, model=KNOWN))
    (session,) = metrics(run(said[4:], state)[1], SessionSummarised)
    model: Model | None = session.model
    assert model is not None
    return model


@pytest.mark.parametrize("sets", [1, 2])
def test_a_warm_up_does_not_hide_that_days_have_passed(sets: int) -> None:
    assert taught(warm_up_sets=1, sets=sets) == taught(warm_up_sets=0, sets=sets)


def test_what_is_foreseen_can_be_told_from_what_came() -> None:
    _, second = metrics(run(records(a_session()))[1], SetSummarised)
    low, high = (second.values[name] for name in foresight.PREDICTED_LOSS[1:])
    assert low <= second.values["velocity_loss_pct"] <= high


def test_no_rule_and_no_row_of_the_envelope_asks_the_model() -> None:
    deciding = [*CORE.glob("*_rules.py"), CORE / "votes.py", *map(CORE.joinpath, ("envelope.py", "invariants.py"))]
    deciding += [CORE / "bounds.py", CORE / "rule.py", CORE / "situation.py"]
    assert len(deciding) > 8
    for file in deciding:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
        assert not imported & {"adaptive", "foresight"}, file.name


def test_a_proposal_is_worded_with_its_interval_and_says_that_it_is_one() -> None:
    found = foresight.proposed(adaptive.PRIOR, DEFAULT, 10)
    assert found is None  # nothing was seen yet, so there is no load to start from
