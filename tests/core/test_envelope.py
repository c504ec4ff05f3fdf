"""The envelope: each row of science.md 7.4 as a sentence, and what no command may ever do, as laws."""

import math
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.core import bounds, envelope, invariants
from streams.core.commands import Action, Change, Command, Evidence, Quantity, Stretch
from streams.core.envelope import ENVELOPE, Known, Permitted, Refused, permit
from streams.core.invariants import Verdict
from streams.core.known import is_harder, is_possible, on_grid
from streams.core.telemetry import Prescription, Screening

NOW_MS = 1_000_000
BASE = Prescription(
    id="planner", load_N=400.0, window_lo=0.0, window_hi=1.0, concentric_s=2.0, hold_s=1.0, eccentric_s=4.0, rest_s=90.0
)
IN_SESSION = Known(
    origin="controller",
    now_ms=NOW_MS,
    boot_id="b1",
    screening="clear",
    intent="max",
    valid_reps_in_set=6,
    load_N=400.0,
    load_min_N=20.0,
    load_max_N=800.0,
    load_step_N=5.0,
    window=(0.0, 1.0),
    window_prescribed=(0.0, 1.0),
    rest_s=90.0,
)
AT_START = replace(
    IN_SESSION,
    origin="planner",
    at_session_start=True,
    load_cap_N=600.0,
    week_low_N=400.0,
    clean_sessions=5,
    learning=False,
    in_force=BASE,
)
TWO_REPS = (Evidence("m/b1/5", "rom_completeness", 82.0), Evidence("m/b1/6", "rom_completeness", 81.0))


def changed(quantity: Quantity, old: float, new: float, bound: float | None = 1_000.0) -> Change:
    return Change(quantity=quantity, old=old, new=new, bound=bound)


def command(**fields: Any) -> Command:
    """Lower the load by 5 %, as rule 8 does; every field may be another."""
    usual: dict[str, Any] = {
        "command_id": "m/b1/6/rom_shortfall",
        "machine": "a/b/m",
        "boot_id": "b1",
        "sequence": 48,
        "action": "lower_load",
        "rule": "rom_shortfall",
        "cause": "m/b1/6",
        "evidence": TWO_REPS,
        "changes": (changed("load_N", 400.0, 380.0),),
        "policy": "p",
        "issued_ms": NOW_MS,
        "expires_ms": NOW_MS + 30_000,
    }
    return Command(**(usual | fields))


def plan(*changes: Change, **fields: Any) -> Command:
    """Prescribe what is in force, with these changes."""
    news = {one.quantity: int(one.new) if one.quantity in {"reps", "sets"} else one.new for one in changes}
    usual: dict[str, Any] = {
        "action": "prescribe",
        "rule": "progress_load",
        "changes": changes,
        "prescription": replace(BASE, id="m/b1/6/prescription", **news),
        "confirm": True,
    }
    return command(**(usual | fields))


ALSO_TRUE = Evidence("m/b1/9", "also_true", "unsteady_reduce")


def named(name: str) -> tuple[Evidence, ...]:
    return tuple(replace(one, name=name) for one in TWO_REPS)


RAISED = plan(changed("load_N", 400.0, 405.0))
STOP = command(action="stop", rule="emergency_stop", changes=())


Judge = Callable[[Known, Command], Verdict]


class Case(msgspec.Struct, frozen=True):
    """A wish that one row of the table alone stands against; `id` refuses it, or clamps it to `left`."""

    says: str
    row: Judge
    known: Known
    wish: Command
    id: str
    left: Command | None = None


CASES = (
    Case(
        "an evidence that is no number is refused",
        invariants.numbers_are_possible,
        IN_SESSION,
        command(evidence=(*TWO_REPS, Evidence("m/b1/6", "peak_force", math.nan))),
        "S13",
    ),
    Case(
        "a command without evidence is refused",
        invariants.is_complete,
        IN_SESSION,
        command(rule="pain_reduce", evidence=()),
        "S9",
    ),
    Case(
        "that a lesser rule holds as well is no evidence",
        invariants.is_complete,
        IN_SESSION,
        command(rule="pain_reduce", evidence=(ALSO_TRUE,)),
        "S9",
    ),
    Case(
        "a decrease without its bound is refused",
        invariants.is_complete,
        IN_SESSION,
        command(changes=(Change(quantity="load_N", old=400.0, new=380.0),)),
        "S9",
    ),
    Case(
        "a change that is not listed is refused",
        invariants.says_all_that_it_changes,
        AT_START,
        plan(prescription=replace(BASE, reps=12)),
        "S9",
    ),
    Case(
        "an expired command is refused",
        invariants.is_current,
        IN_SESSION,
        command(issued_ms=NOW_MS - 5, expires_ms=NOW_MS),
        "S10",
    ),
    Case(
        "a request for messages that names none is refused",
        invariants.resend_moves_nothing,
        IN_SESSION,
        command(action="resend", rule="resend", changes=()),
        "S25",
    ),
    Case(
        "nothing is sent before screening is clear",
        invariants.screening_is_clear,
        replace(IN_SESSION, screening=None),
        command(),
        "S23",
    ),
    Case(
        "a locked machine gets no command",
        invariants.machine_is_not_locked,
        replace(IN_SESSION, locked=True),
        command(),
        "S8",
    ),
    Case("held data decide nothing", invariants.data_is_whole, replace(IN_SESSION, held=True), command(), "S13"),
    Case(
        "two valid reps are too few",
        invariants.enough_valid_reps,
        replace(IN_SESSION, valid_reps_in_set=2),
        command(),
        "S14",
    ),
    Case("one rep alone decides nothing", invariants.two_reps_agree, IN_SESSION, command(evidence=TWO_REPS[:1]), "S15"),
    Case(
        "that a lesser rule holds as well is no second rep",
        invariants.two_reps_agree,
        IN_SESSION,
        command(evidence=(TWO_REPS[0], ALSO_TRUE)),
        "S15",
    ),
    Case(
        "the cap of time under load in the evidence of one rep is no time under load",
        invariants.two_reps_agree,
        IN_SESSION,
        command(
            action="end_set",
            rule="paced_fatigue_stop",
            changes=(),
            evidence=(Evidence("m/b1/6", "tul_of_set_s", 95.0), Evidence("m/b1/6", "tul_cap_s", 180.0)),
        ),
        "S15",
    ),
    Case(
        "velocity loss decides nothing when paced",
        invariants.no_velocity_loss_when_paced,
        replace(IN_SESSION, intent="paced"),
        command(evidence=named("velocity_loss_robust_pct")),
        "S16",
    ),
    Case(
        "smoothness alone decides nothing",
        invariants.not_by_similarity_alone,
        IN_SESSION,
        command(evidence=named("sparc_concentric")),
        "S19",
    ),
    Case(
        "likeness alone decides nothing",
        invariants.not_by_similarity_alone,
        IN_SESSION,
        command(evidence=(*named("reference_nrmse"), *named("reference_correlation"))),
        "S19",
    ),
    Case(
        "smoothness and a lesser rule that holds as well decide nothing",
        invariants.not_by_similarity_alone,
        IN_SESSION,
        command(evidence=(*named("sparc_concentric"), ALSO_TRUE)),
        "S19",
    ),
    Case(
        "a rule decreases once a set",
        invariants.once_a_set,
        replace(IN_SESSION, fired_in_set=("rom_shortfall",)),
        command(),
        "S21",
    ),
    Case(
        "nothing gets harder within a session",
        invariants.harder_only_by_the_planner_at_a_start,
        replace(AT_START, at_session_start=False),
        RAISED,
        "S1",
    ),
    Case(
        "an unknown past raises nothing",
        invariants.nothing_unknown_is_raised,
        replace(AT_START, clean_sessions=None),
        RAISED,
        "S13",
    ),
    Case(
        "one clean session after pain is not enough",
        invariants.two_clean_sessions_first,
        replace(AT_START, clean_sessions=1),
        RAISED,
        "S7",
    ),
    Case(
        "a learner's load does not rise",
        invariants.no_load_while_learning,
        replace(AT_START, learning=True),
        RAISED,
        "S18",
    ),
    Case(
        "no command widens the range",
        invariants.range_is_not_widened,
        replace(AT_START, window_prescribed=(0.0, 1.2)),
        plan(changed("window_hi", 1.0, 1.05)),
        "S6",
    ),
    Case(
        "the range stays within the prescribed window",
        bounds.range_stays_within_the_prescription,
        replace(IN_SESSION, window=(0.0, 1.2)),
        command(action="tighten_range", changes=(changed("window_hi", 1.2, 1.1),)),
        "S6",
        command(action="tighten_range", changes=(changed("window_hi", 1.2, 1.0, 1.0),)),
    ),
    Case(
        "the load rises by one increment at most",
        bounds.one_small_step,
        AT_START,
        plan(changed("load_N", 400.0, 415.0)),
        "S3",
        plan(changed("load_N", 400.0, 405.0, 405.0)),
    ),
    Case(
        "the load rises by 5 % at most",
        bounds.one_small_step,
        replace(AT_START, load_min_N=0.0, load_step_N=25.0, in_force=None),
        plan(changed("load_N", 400.0, 425.0)),
        "S3",
    ),
    Case(
        "the load rises by a tenth within 7 days at most",
        bounds.little_within_a_week,
        replace(AT_START, week_low_N=368.0),
        RAISED,
        "S4",
    ),
    Case(
        "the load does not rise without a clinician's cap",
        bounds.within_machine_and_cap,
        replace(AT_START, load_cap_N=None),
        RAISED,
        "S5",
    ),
    Case(
        "the load does not rise above the clinician's cap",
        bounds.within_machine_and_cap,
        replace(AT_START, load_cap_N=402.0),
        RAISED,
        "S5",
    ),
    Case(
        "the load stays on the machine's grid",
        bounds.within_machine_and_cap,
        IN_SESSION,
        command(changes=(changed("load_N", 400.0, 378.0, 20.0),)),
        "S5",
        command(changes=(changed("load_N", 400.0, 375.0, 800.0),)),
    ),
    Case(
        "a rest is 180 s at most",
        bounds.rest_has_an_end,
        replace(IN_SESSION, rest_s=170.0),
        command(action="extend_rest", rule="rest_extend", changes=(changed("rest_s", 170.0, 200.0),)),
        "S21",
        command(action="extend_rest", rule="rest_extend", changes=(changed("rest_s", 170.0, 180.0, 180.0),)),
    ),
    Case(
        "an increase is asked about",
        bounds.an_increase_is_confirmed,
        AT_START,
        replace(RAISED, confirm=False),
        "S20",
        RAISED,
    ),
)


def without(row: Judge) -> tuple[envelope.Invariant, ...]:
    return tuple(one for one in ENVELOPE if one.judge is not row)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_one_row_and_no_other_stands_against_the_wish(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = permit(case.known, case.wish)
    if case.left is None:
        assert isinstance(verdict, Refused)
        assert (verdict.invariant, verdict.command) == (case.id, case.wish)
    else:
        assert verdict == Permitted(case.left, (case.id,))
    monkeypatch.setattr(envelope, "ENVELOPE", without(case.row))
    assert permit(case.known, case.wish) == Permitted(case.wish, ())


def test_every_row_has_its_case() -> None:
    assert {case.row for case in CASES} | {invariants.stop_always_passes} == {row.judge for row in ENVELOPE}


def test_stop_passes_where_every_other_row_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    known = replace(IN_SESSION, locked=True, screening="red_flag", held=True, last_sequence=99, boot_id="b2")
    stop = replace(STOP, evidence=(), expires_ms=0, changes=(changed("load_N", math.nan, math.inf),))
    assert permit(known, stop) == Permitted(stop, ())
    monkeypatch.setattr(envelope, "ENVELOPE", without(invariants.stop_always_passes))
    assert isinstance(permit(known, stop), Refused)


@pytest.mark.parametrize(
    ("known", "wish"),
    [
        (IN_SESSION, command(boot_id="b0")),
        (replace(IN_SESSION, last_sequence=48), command()),
        (replace(IN_SESSION, now_ms=NOW_MS + 30_000), command()),
    ],
    ids=["another boot", "a sequence already applied", "expired"],
)
def test_a_command_that_is_not_current_is_refused(known: Known, wish: Command) -> None:
    assert refused_by(known, wish) == "S10"


@pytest.mark.parametrize(
    "wish",
    [
        command(rule=""),
        command(cause=""),
        command(command_id=""),
        command(evidence=(Evidence("m/b1/5", "pain_nrs", None),)),
        command(expires_ms=NOW_MS),
        command(changes=()),
        plan(changed("load_N", 400.0, 405.0, None)),
        plan(changed("load_N", 400.0, 405.0), prescription=None),
        plan(changed("load_N", 400.0, 405.0), prescription=replace(BASE, load_N=500.0)),
        plan(prescription=replace(BASE, load_N=405.0)),
        plan(prescription=replace(BASE, window_hi=None)),
        plan(prescription=replace(BASE, hold_s=None)),
        plan(prescription=replace(BASE, rest_s=30.0)),
        command(prescription=BASE),
        command(action="cue"),
        command(changes=(changed("load_N", 400.0, 380.0), changed("load_N", 400.0, 800.0))),
    ],
)
def test_a_command_that_hides_or_lacks_something_is_refused(wish: Command) -> None:
    assert refused_by(replace(AT_START, now_ms=NOW_MS - 1), wish) == "S9"


@pytest.mark.parametrize(
    "change",
    [
        changed("load_N", 400.0, -1.0),
        changed("load_N", 400.0, math.nan),
        changed("load_N", math.inf, 380.0),
        changed("reps", 10.0, 9.5),
        changed("sets", 3.0, 0.0),
        changed("window_lo", 0.0, 1.1),
        changed("load_N", 400.0, 380.0, math.inf),
    ],
)
def test_an_impossible_number_is_refused(change: Change) -> None:
    assert refused_by(IN_SESSION, command(changes=(change,))) == "S13"


@pytest.mark.parametrize(
    ("quantity", "old", "new"),
    [
        ("load_N", 400.0, 405.0),
        ("reps", 10.0, 11.0),
        ("sets", 2.0, 3.0),
        ("window_hi", 1.0, 1.1),
        ("window_lo", 0.0, -0.1),
        ("rest_s", 90.0, 60.0),
        ("concentric_s", 2.0, 1.0),
        ("eccentric_s", 4.0, 6.0),
    ],
)
def test_every_way_of_making_it_harder_is_refused_within_a_session(quantity: Quantity, old: float, new: float) -> None:
    wish = command(rule="rest_extend", changes=(changed(quantity, old, new),))
    assert refused_by(IN_SESSION, wish) == "S1"


@pytest.mark.parametrize("name", ["load_N", "load_min_N", "load_max_N", "load_step_N", "week_low_N", "clean_sessions"])
def test_what_is_not_known_raises_nothing(name: str) -> None:
    assert refused_by(replace(AT_START, **{name: None}), RAISED) == "S13"


@pytest.mark.parametrize("name", ["load_N", "load_min_N", "load_max_N", "load_step_N", "week_low_N"])
def test_a_fact_that_is_no_number_is_not_known(name: str) -> None:
    assert refused_by(replace(AT_START, **{name: math.nan}), RAISED) == "S13"


@pytest.mark.parametrize("rule", ["pain_stop", "pain_reduce", "pain_next_morning"])
def test_pain_still_acts_while_data_are_held(rule: str) -> None:
    assert isinstance(permit(replace(IN_SESSION, held=True), command(rule=rule)), Permitted)


def test_the_first_rep_beyond_180_s_ends_the_set_alone() -> None:
    capped = command(
        action="end_set",
        rule="paced_fatigue_stop",
        changes=(),
        evidence=(Evidence("m/b1/6", "tul_of_set_s", 181.0),),
    )
    assert isinstance(permit(IN_SESSION, capped), Permitted)


@pytest.mark.parametrize(
    "wish",
    [
        command(action="tighten_range", rule="rom_limit", changes=(changed("window_hi", 1.0, 0.94, 0.912734),)),
        command(action="extend_rest", rule="rest_extend", changes=(changed("rest_s", 90.0, 120.0, 180.0),)),
        command(action="drop_set", rule="rest_extend", changes=(changed("sets", 4, 3, 2),)),
        command(action="cue", rule="rom_shortfall", changes=(), cue="use_full_range"),
        command(action="lower_load", rule="unsteady_reduce"),
    ],
    ids=lambda wish: f"{wish.rule}-{wish.action}",
)
def test_what_the_rules_of_a_session_ask_for_passes_as_it_is(wish: Command) -> None:
    paced = replace(IN_SESSION, intent="paced")
    assert permit(paced, wish) == Permitted(wish, ())


def test_a_cue_is_given_after_its_rule_has_decreased_and_asks_for_three_valid_reps() -> None:
    cue = command(action="cue", changes=(), cue="use_full_range")
    assert permit(replace(IN_SESSION, fired_in_set=("rom_shortfall",)), cue) == Permitted(cue, ())
    refused = permit(replace(IN_SESSION, valid_reps_in_set=2), cue)
    assert isinstance(refused, Refused)
    assert refused.invariant == "S14"


def test_velocity_loss_ends_a_set_of_fast_reps_but_not_of_unknown_intent() -> None:
    wish = command(action="end_set", rule="velocity_loss_stop", changes=(), evidence=named("velocity_loss_robust_pct"))
    assert isinstance(permit(IN_SESSION, wish), Permitted)
    assert refused_by(replace(IN_SESSION, intent="unknown"), wish) == "S16"


def test_smoothness_alone_may_give_a_cue() -> None:
    cue = command(action="cue", changes=(), evidence=named("ldlj_concentric"), cue="smoothly")
    assert isinstance(permit(IN_SESSION, cue), Permitted)


def test_a_decrease_stops_at_the_machines_minimum() -> None:
    known = replace(IN_SESSION, load_N=22.0)
    verdict = permit(known, command(changes=(changed("load_N", 22.0, 17.6, 20.0),)))
    assert isinstance(verdict, Permitted)
    assert verdict.clamped == ("S5",)
    assert verdict.command.changes[0].new == 20.0


def test_a_decrease_never_turns_into_an_increase_on_the_way_to_the_machines_minimum() -> None:
    assert refused_by(replace(IN_SESSION, load_N=18.0), command(changes=(changed("load_N", 18.0, 16.0),))) == "S5"


def test_the_range_is_tightened_even_if_the_load_cannot_go_lower() -> None:
    tighter = changed("window_hi", 1.0, 0.8)
    wish = command(rule="pain_reduce", changes=(changed("load_N", 20.0, 18.0), tighter))
    verdict = permit(replace(IN_SESSION, load_N=20.0), wish)
    assert verdict == Permitted(replace(wish, changes=(tighter,)), ("S5",))


def test_a_plan_above_a_lowered_cap_comes_down_to_it() -> None:
    verdict = permit(replace(AT_START, load_cap_N=352.0), plan())
    assert isinstance(verdict, Permitted)
    assert verdict.clamped == ("S5",)
    assert verdict.command.changes == (changed("load_N", 400.0, 350.0, 352.0),)
    assert verdict.command.prescription == replace(BASE, id="m/b1/6/prescription", load_N=350.0)


def test_nothing_is_prescribed_that_the_machine_holds_only_above_the_cap() -> None:
    assert refused_by(replace(AT_START, load_cap_N=10.0), plan()) == "S5"


def test_what_the_wish_calls_the_old_load_does_not_count() -> None:
    #  in force 400; the wish says 500 to 450 and would raise
    assert refused_by(IN_SESSION, command(changes=(changed("load_N", 500.0, 450.0),))) == "S1"


@pytest.mark.parametrize("screening", ["clinician_decides", "excluded", "red_flag", None])
def test_only_a_clear_screening_is_clear(screening: Screening | None) -> None:
    assert refused_by(replace(IN_SESSION, screening=screening), command()) == "S23"


def refused_by(known: Known, wish: Command) -> str | None:
    verdict = permit(known, wish)
    return verdict.invariant if isinstance(verdict, Refused) else None


ANY = st.floats(allow_nan=True, allow_infinity=True)
LOADS = st.sampled_from([18.0, 320.0, 368.0, 380.0, 397.3, 400.0, 402.0, 407.3, 420.0, 600.0]) | st.floats(0.0, 1_000.0)
MAYBE_LOAD = LOADS | st.none() | ANY
ENDS = st.tuples(st.floats(-0.5, 0.4), st.floats(0.5, 1.5))
RULES = ("progress_load", "rom_shortfall", "pain_reduce", "velocity_loss_stop", "rest_extend", "paced_fatigue_stop")
PRESCRIPTIONS = st.builds(
    Prescription,
    id=st.just("x"),
    load_N=LOADS,
    window_lo=st.none() | st.floats(-0.5, 0.4),
    window_hi=st.none() | st.floats(0.5, 1.5),
    concentric_s=st.none() | st.sampled_from([2.0, 4.0]),
    reps=st.integers(8, 12),
    sets=st.integers(1, 3),
    rest_s=st.sampled_from([60.0, 90.0, 240.0]),
)
FACTS: dict[str, st.SearchStrategy[Any]] = {
    "load_N": MAYBE_LOAD,
    "load_min_N": st.none() | st.sampled_from([0.0, 20.0, 21.7, 399.0]),
    "load_max_N": MAYBE_LOAD,
    "load_step_N": st.none() | st.sampled_from([1.0, 4.4482216, 15.0, 25.0]) | ANY,
    "load_cap_N": MAYBE_LOAD,
    "week_low_N": MAYBE_LOAD,
    "window": st.none() | ENDS,
    "window_prescribed": st.none() | ENDS,
    "rest_s": st.none() | st.floats(0.0, 300.0),
    "clean_sessions": st.none() | st.integers(0, 3),
    "learning": st.booleans(),
    "at_session_start": st.booleans(),
    "origin": st.sampled_from(["controller", "planner"]),
    "locked": st.booleans(),
    "screening": st.sampled_from(["clear", "excluded", None]),
    "held": st.booleans(),
    "intent": st.sampled_from(["max", "paced", "unknown"]),
    "valid_reps_in_set": st.integers(0, 5),
    "in_force": st.none() | PRESCRIPTIONS,
    "step_pct": st.floats(0.0, 50.0) | ANY,
    "week_cap_pct": st.floats(0.0, 50.0) | ANY,
}


@st.composite
def facts(draw: st.DrawFn) -> Known:
    """Draw facts: good ones, so that wishes get through, with up to two that are different, unknown or impossible."""
    loose = replace(AT_START, window_prescribed=None, week_low_N=370.0, load_step_N=20.0)
    good = draw(st.sampled_from([AT_START, loose, IN_SESSION]))
    names = draw(st.lists(st.sampled_from(sorted(FACTS)), max_size=2, unique=True))
    return replace(good, **{name: draw(FACTS[name]) for name in names})


NEWS: dict[Quantity, tuple[float, st.SearchStrategy[float]]] = {
    "load_N": (400.0, LOADS),
    "window_lo": (0.0, st.floats(-0.2, 0.2)),
    "window_hi": (1.0, st.floats(0.8, 1.2)),
    "reps": (10.0, st.sampled_from([8.0, 9.0, 11.0, 12.0])),
    "sets": (1.0, st.sampled_from([1.0, 2.0])),
    "rest_s": (90.0, st.sampled_from([60.0, 120.0, 240.0])),
    "concentric_s": (2.0, st.sampled_from([1.0, 3.0])),
    "hold_s": (1.0, st.sampled_from([0.0, 2.0])),
}


def one_change(quantity: Quantity, *, wild: bool = False) -> st.SearchStrategy[Change]:
    old, new = NEWS[quantity]
    bound = st.none() | ANY if wild else st.just(700.0)
    return st.builds(changed, st.just(quantity), st.just(old), new | ANY if wild else new, bound)


def changes(*, wild: bool) -> st.SearchStrategy[tuple[Change, ...]]:
    """Draw up to three changes; wild ones may be impossible, doubled and without a bound."""
    some = st.sampled_from(sorted(NEWS)).flatmap(lambda quantity: one_change(quantity, wild=wild))
    return st.lists(some, max_size=3, unique_by=None if wild else lambda change: change.quantity).map(tuple)


RAISES = st.builds(lambda change, confirm: plan(change, confirm=confirm), one_change("load_N"), st.booleans())
RANGES = st.builds(plan, one_change("window_lo"), one_change("window_hi"))
PLANS = st.builds(lambda asked, confirm: plan(*asked, confirm=confirm), changes(wild=False), st.booleans())
ADJUSTMENTS = st.builds(
    lambda action, rule, asked: command(action=action, rule=rule, changes=asked),
    st.sampled_from(get_args(Action)),
    st.sampled_from(RULES),
    changes(wild=False),
)
WILD = st.builds(
    lambda action, asked, prescription, evidence, sequence: command(
        action=action, changes=asked, prescription=prescription, evidence=evidence, sequence=sequence
    ),
    st.sampled_from(get_args(Action)),
    changes(wild=True),
    st.none() | PRESCRIPTIONS,
    st.sampled_from([TWO_REPS, TWO_REPS[:1], named("velocity_loss_pct"), ()]),
    st.integers(-1, 100),
)
WISHES = RAISES | RAISES | RANGES | PLANS | ADJUSTMENTS | WILD


def led_to(known: Known, permitted: Command, quantity: Quantity) -> tuple[float | None, float | None]:
    """Return what is in force and what the command makes of it, as an outsider reads them."""
    old = {
        "load_N": known.load_N,
        "rest_s": known.rest_s,
        "window_lo": None if known.window is None else known.window[0],
        "window_hi": None if known.window is None else known.window[1],
    }.get(quantity, None if known.in_force is None else getattr(known.in_force, quantity, None))
    told = [one.new for one in permitted.changes if one.quantity == quantity]
    new = told[0] if told else old
    if permitted.prescription is not None:
        new = getattr(permitted.prescription, quantity)
    return old, new


def is_known(load_N: float | None) -> bool:
    return load_N is not None and 0.0 <= load_N <= 50_000.0


@settings(max_examples=1_000, deadline=None)
@given(known=facts(), wish=WISHES)
def test_whatever_is_wished_nothing_unsafe_is_permitted(known: Known, wish: Command) -> None:
    verdict = permit(known, wish)
    if wish.action == "stop":
        assert verdict == Permitted(wish, ())
        return
    if isinstance(verdict, Refused):
        assert verdict.command is wish
        assert verdict.invariant in {row.id for row in ENVELOPE}
        return
    done = verdict.command
    assert not known.locked
    assert known.screening == "clear"
    assert permit(known, done) == Permitted(done, ())  # judging it again changes nothing
    harder: list[str] = []
    for quantity in get_args(Quantity):
        old, new = led_to(known, done, quantity)
        if old is None or not is_possible(quantity, old):
            continue
        if quantity in {"window_lo", "window_hi"}:
            assert new is not None  # a limit is never taken away
            assert not is_harder(quantity, old, new)
        if new is not None and is_harder(quantity, old, new):
            harder.append(quantity)
    if harder:
        assert known.origin == "planner"
        assert known.at_session_start
        assert done.confirm
        assert known.clean_sessions is not None
        assert known.clean_sessions >= 2
    old_N, new_N = led_to(known, done, "load_N")
    if done.prescription is not None and new_N is not None:
        tops = [top for top in (known.load_cap_N, known.load_max_N) if top is not None and is_known(top)]
        assert all(new_N <= top for top in tops)
        assert known.load_min_N is None or not math.isfinite(known.load_min_N) or new_N >= known.load_min_N
    if "load_N" in harder:
        assert is_known(old_N)
        assert is_known(new_N)
        assert is_known(known.load_cap_N)
        assert is_known(known.week_low_N)
        assert is_known(known.load_step_N)
        assert new_N <= 1.05 * old_N + 1e-6  # type: ignore[operator]  # just asserted
        assert new_N <= old_N + known.load_step_N + 1e-6  # type: ignore[operator]
        assert new_N <= 1.10 * known.week_low_N + 1e-6  # type: ignore[operator]
        assert not known.learning
        assert not {"window_lo", "window_hi"} & set(harder)


@settings(max_examples=500, deadline=None)
@given(known=facts(), wish=WISHES)
def test_a_decrease_is_refused_on_few_grounds_only(known: Known, wish: Command) -> None:
    """S2 names S5, S8-S10, S13, S14, S21 and S23; S15, S16 and S19 judge what a rule may be based on at all."""
    eased = all(one.new <= one.old and one.quantity in {"load_N", "reps", "sets"} for one in wish.changes)
    known = replace(known, load_N=400.0, in_force=None)
    verdict = permit(known, wish)
    if eased and wish.action == "lower_load" and isinstance(verdict, Refused):
        assert verdict.invariant in {"S5", "S8", "S9", "S10", "S13", "S14", "S21", "S23", "S15", "S16", "S19"}


def test_no_policy_stretches_the_5_and_the_10_percent() -> None:
    loose = replace(AT_START, step_pct=50.0, week_cap_pct=50.0, load_step_N=50.0, load_min_N=0.0)
    assert refused_by(loose, plan(changed("load_N", 400.0, 450.0))) == "S3"
    assert refused_by(replace(loose, load_step_N=20.0, week_low_N=372.0), plan(changed("load_N", 400.0, 420.0))) == "S4"


def test_a_load_just_below_a_step_is_not_rounded_up_to_it() -> None:
    assert on_grid(403.9996, 20.0, 1.0) == 403.0
    assert on_grid(403.9996, None, None) == 403.999


@given(st.floats(0.0, 50_000.0), st.floats(0.0, 100.0), st.sampled_from([0.5, 1.0, 1.3558, 4.4482216, 25.0]))
def test_the_grid_rounds_down_and_once(load_N: float, least_N: float, step_N: float) -> None:
    there_N = on_grid(load_N, least_N, step_N)
    assert there_N <= max(load_N, least_N)
    assert there_N > load_N - step_N - 0.002 or load_N < least_N
    assert on_grid(there_N, least_N, step_N) == there_N


RESEND = command(
    action="resend", rule="resend", changes=(), boot_id="b0", sequence=0, missing=Stretch(first_seq=3, last_seq=7)
)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("screening", [None, "excluded", "clear"])
def test_a_request_for_messages_passes_locked_unscreened_and_of_a_boot_that_is_over(
    screening: Any, locked: bool
) -> None:
    known = Known(origin="controller", now_ms=NOW_MS, boot_id="b1", locked=locked, screening=screening, held=True)
    assert permit(known, RESEND) == Permitted(RESEND, ())


@pytest.mark.parametrize(
    ("wish", "invariant"),
    [
        (replace(RESEND, changes=(changed("load_N", 400.0, 380.0),)), "S25"),
        (replace(RESEND, cue="breathe"), "S25"),
        (replace(RESEND, confirm=True), "S25"),
        (replace(RESEND, sequence=48), "S25"),
        (replace(RESEND, missing=None), "S25"),
        (replace(RESEND, missing=Stretch(first_seq=7, last_seq=3)), "S25"),
        (replace(RESEND, action="cue"), "S25"),
        (replace(RESEND, issued_ms=NOW_MS - 5, expires_ms=NOW_MS), "S25"),
        (replace(RESEND, evidence=()), "S9"),
        (replace(RESEND, prescription=Prescription(id="p", load_N=1.0)), "S9"),
    ],
)
def test_a_request_for_messages_is_nothing_else(wish: Command, invariant: str) -> None:
    verdict = permit(IN_SESSION, wish)
    assert isinstance(verdict, Refused)
    assert verdict.invariant == invariant
