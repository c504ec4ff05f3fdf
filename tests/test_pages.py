"""Pages: what is written from the tables is what the code does, and the recipes of docs/architecture.md work."""

import re
import types
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from spineloop import pages
from spineloop.pages import DOCS, RULES, bounds, metrics_page, reasons, rules_page
from streams.core import kinematics, plan_choice, policy, segmentation, signals
from streams.core.baseline import Baseline
from streams.core.catalogue import METRICS, OF_PATIENTS, OF_REPS, OF_SETS_AND_SESSIONS, RepMetric, metric
from streams.core.commands import Evidence
from streams.core.envelope import ENVELOPE
from streams.core.errors import Malformed
from streams.core.kinematics import Column
from streams.core.learning import Learned
from streams.core.measure import measure
from streams.core.policy import Policy
from streams.core.rule import Match, Rule, decide
from streams.core.segmentation import Phases
from streams.core.session import SessionState
from streams.core.set_metrics import set_values
from streams.core.sets import RepNote, SetState
from streams.core.situation import Situation
from streams.core.summaries import summarise_session
from streams.core.telemetry import Rep
from tests.core.movements import message, ordered, path, reps
from tests.core.patients import a_patient

# --- metrics ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(batch=st.lists(reps(rates=(100.0, 60.0, 40.0)), min_size=8, max_size=16))
def test_a_metric_of_a_rep_is_undefined_for_no_reason_that_its_row_does_not_name(batch: list[Rep]) -> None:
    for measured in measure(batch):
        for name, why in measured.undefined.items():
            assert why in {"invalid_rep", "invalid_input", *reasons(metric(name, "rep"))}


def test_of_two_reasons_the_first_in_the_row_counts() -> None:
    x = path()
    x[100:107] = np.nan
    unheard = message(x, np.full(len(x), np.nan), prescription=ordered())  # no load cell, and a gap
    told = measure([unheard])[0].undefined
    assert reasons(metric("concentric_work_J", "rep")) == ("no_channel", "gap")
    assert told["concentric_work_J"] == "no_channel"


def noted(**fields: Any) -> RepNote:
    usual: dict[str, Any] = {
        "id": "r1", "number": 1, "valid": True, "accepted": True, "is_fast": True, "velocity": 0.5,
        "range_of_motion": 0.4, "rom_completeness_pct": 100.0, "tempo_error_pct": 0.0, "time_under_load_s": 3.0,
        "work_J": 120.0, "peak_force": 330.0, "bottom_hold_s": 0.5,
    }  # fmt: skip
    return RepNote(**(usual | fields))


def a_set(*reps: RepNote, **fields: Any) -> SetState:
    valid = [rep for rep in reps if rep.valid]
    usual: dict[str, Any] = {"received": len(reps), "accepted": len(valid), "invalid": len(reps) - len(valid)}
    return SetState(1, 300.0, reps=reps, **(usual | fields))


def curve(force: float, dtype: str) -> bytes:
    return np.full(101, force, dtype).tobytes()


SLOPING = np.linspace(200.0, 300.0, 101, dtype="<f4").tobytes()
MAX = SessionState(
    id="s1", patient="acme/p1", exercise="row", side="both", intent="max", settings="h1", started=True, load_N=300.0
)
SETS: dict[str, tuple[SetState, SessionState]] = {
    "nobody moved": (a_set(), MAX),
    "paced": (a_set(*[noted()] * 8), replace(MAX, intent="paced")),
    "with gaps": (
        a_set(*[noted(velocity=None, velocity_why="gap", work_J=None, work_why="gap", bottom_hold_s=None)] * 8),
        MAX,
    ),
    "another scale": (a_set(*[noted(velocity=None, velocity_why="scale_mismatch")] * 8), MAX),
    "no load cell": (a_set(*[noted(peak_force=None, work_J=None, work_why="no_channel")] * 8), MAX),
    "no way, no work": (a_set(*[noted(velocity=0.0, range_of_motion=0.0, work_J=0.0, peak_force=0.0)] * 8), MAX),
    "after a set of rest": (a_set(*[noted()] * 3), replace(MAX, first_best=0.0)),
    "the same eight times": (a_set(*[noted()] * 8, rpe=8), MAX),
    "easy": (a_set(*[noted()] * 8, rpe=4), MAX),
    "own curve, none here": (a_set(*[noted()] * 8), replace(MAX, baseline=Baseline(load_N=300.0, curve=SLOPING))),
    "own curve, nothing accepted": (a_set(), replace(MAX, baseline=Baseline(load_N=300.0, curve=SLOPING))),
    "own curve is flat": (
        a_set(*[noted()] * 2, curve_sum=curve(500.0, "<f8"), curves=2),
        replace(MAX, baseline=Baseline(load_N=300.0, curve=curve(250.0, "<f4"))),
    ),
}
SESSIONS: dict[str, SessionState] = {
    "nobody moved": MAX,
    "paced": replace(MAX, intent="paced"),
    "with gaps": replace(
        MAX,
        valid_reps=3,
        work_why="gap",
        velocity_loss_why="gap",
        learned=Learned(load_N=300.0, symmetry_why="gap"),
    ),
    "both sides pull": replace(MAX, learned=Learned(load_N=300.0, symmetry_why="zero_denominator")),
    "another scale": replace(MAX, valid_reps=3, velocity_loss_why="scale_mismatch"),
    "no load cell": replace(MAX, valid_reps=3, work_why="no_channel", learned=Learned(load_N=300.0)),
}


def test_a_metric_of_a_set_or_a_session_is_undefined_for_the_reasons_of_its_row_and_for_each_of_them() -> None:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for running, session in SETS.values():
        for name, why in set_values(running, session)[1].items():
            found[name, "set"].add(why)
    for session in SESSIONS.values():
        summary = summarise_session(session, machine="m", cause="c", now_ms=0, ended_by="done")
        for name, why in summary.undefined.items():
            found[name, "session"].add(why)
    assert found == {(row.name, row.level): set(row.undefined) for row in OF_SETS_AND_SESSIONS}


def test_what_is_known_of_a_patient_is_undefined_for_no_reason_that_its_row_does_not_name() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for intent in ("paced", "max"):
        patient = a_patient()
        for _ in range(3):
            patient.ask(intent=intent)
            patient.train(intent=intent)
        for assessed in patient.assessed:
            assert {*assessed.values, *assessed.undefined} == {row.name for row in OF_PATIENTS}
            for name, why in assessed.undefined.items():
                found[name].add(why)
    assert all(whys <= set(reasons(metric(name, "patient"))) for name, whys in found.items())
    assert found["proposed_load_N"] == {"wrong_intent", "no_reference"}


def test_every_metric_has_its_line() -> None:
    lines = metrics_page().splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines if line.startswith("| `")] == [
        row.name for level in ("rep", "set", "session", "patient") for row in METRICS if row.level == level
    ]


# --- rules -----------------------------------------------------------------------------------------------------------

PARAMETERS = {field.name for field in msgspec.structs.fields(Policy)}


def parts(code: types.CodeType) -> Iterator[types.CodeType]:
    """Return a function's code and that of the functions inside it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from parts(one)


def called(function: types.FunctionType, names: set[str]) -> Iterator[object]:
    """Return what a function's names may stand for: functions, those of modules, those in rows of tables."""
    for name in names:
        one = function.__globals__.get(name)
        yield one
        if isinstance(one, types.ModuleType):
            yield from (getattr(one, other, None) for other in names)
        if isinstance(one, tuple):
            for row in one:
                yield row
                yield from (getattr(row, field) for field in getattr(row, "__struct_fields__", ()))


def parameters_read(function: object, seen: set[object]) -> set[str]:
    """Return the parameters of the policy that a function reads, itself or by what it calls in the core."""
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, types.FunctionType) or function in seen:
        return set()
    if not function.__module__.startswith("streams.core"):
        return set()
    seen.add(function)
    names = {name for code in parts(function.__code__) for name in code.co_names}
    return (names & PARAMETERS).union(*(parameters_read(one, seen) for one in called(function, names)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.priority}-{rule.moments[0]}")
def test_a_rule_names_every_parameter_that_its_condition_reads(rule: Rule[Any]) -> None:
    assert parameters_read(rule.match, set()) <= set(rule.parameters)
    assert set(rule.parameters) <= PARAMETERS


def test_parameters_are_found_wherever_they_are_read() -> None:
    #  the search must see through tables, modules and inner functions, or the test above proves nothing
    found = {rule.id: parameters_read(rule.match, set()) for rule in RULES if "rep" in rule.moments}
    assert found["tempo_or_bounce"] == {"tempo_fast_fraction", "form_cut_pct"}
    assert found["paced_fatigue_stop"] >= {"votes_needed", "vote_rpe_over", "unsteady_sd"}


@pytest.mark.parametrize("row", [*RULES, *ENVELOPE], ids=lambda row: row.id)
def test_a_docstring_begins_with_the_number_of_its_row_and_reads_as_sentences(row: Any) -> None:
    function, number = (row.match, str(row.priority)) if isinstance(row, Rule) else (row.judge, row.id)
    assert (function.__doc__ or "").startswith(f"{number}: ")
    told = pages._told(function)  # noqa: SLF001 - as it stands on the page
    assert re.fullmatch(r"(?:[A-Z`]|STOP).*\.", told)
    assert set(re.findall(r"`(\w+)`", told)) <= {*PARAMETERS, "vote_unsteady"}


@pytest.mark.parametrize("field", msgspec.structs.fields(Policy), ids=lambda field: field.name)
def test_every_parameter_has_a_line_with_its_default_and_the_bounds_that_are_kept(field: Any) -> None:
    (line,) = [line for line in rules_page().splitlines() if line.startswith(f"| `{field.name}` |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    default = getattr(policy.DEFAULT, field.name)
    shown = default if isinstance(default, tuple) else (default,)
    assert tuple(float(number) for number in cells[1].split(", ")) == shown
    assert cells[2] == bounds(field.name)
    if not isinstance(default, tuple):
        step = 1 if isinstance(default, int) else 0.01
        lowest, highest = (type(default)(end) for end in cells[2].split("-"))
        for beyond in (lowest - step, highest + step):
            with pytest.raises(Malformed):
                policy.read(f"{field.name} = {beyond}".encode())


@pytest.mark.parametrize(
    "text",
    [
        "gap_days = [28, 28, 56]",
        "gap_days = [0, 28, 56]",
        "gap_cut_pct = [20.0, 10.0]",
        "gap_cut_pct = [10.0, 100.1]",
        "maintenance_weeks = [4, 2]",
        "maintenance_weeks = [0, 2]",
        "vl_amber_pct = 20.1",
        "pain_caution = 4\npain_stop = 3",
    ],
)
def test_a_policy_in_the_wrong_order_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        policy.read(text.encode())


@pytest.mark.parametrize("name", [plan_choice.KEEP, plan_choice.RESTORE, "resend"])
def test_a_name_under_rule_that_is_no_rule_is_explained(name: str) -> None:
    assert name not in {rule.id for rule in RULES}
    assert f"`{name}`: a " in " ".join(rules_page().split())


# --- the recipes of docs/architecture.md -----------------------------------------------------------------------------


def recipes() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / "architecture.md").read_text(encoding="utf-8"), re.DOTALL)


def followed(recipe: str, **known: Any) -> dict[str, Any]:
    """Run a recipe with the names that its file would have."""
    exec(compile(recipe, "docs/architecture.md", "exec"), known)  # noqa: S102 - our own page
    return known


def test_the_recipe_of_a_metric_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, _ = recipes()
    kernel, row = recipe.split("\n\n\n")
    known = followed(kernel, Phases=Phases, Column=Column)
    monkeypatch.setattr(kinematics, "concentric_share", known["concentric_share"], raising=False)
    made = followed(row, RepMetric=RepMetric, kinematics=kinematics)["CONCENTRIC_SHARE"]
    phases = segmentation.segment(signals.read([message(path(con_s=1.0, ecc_s=1.0))]))
    share, undefined = made.kernel(phases)
    assert share.tolist() == pytest.approx([0.5], abs=0.02)
    assert set(undefined) == {"zero_denominator"}
    assert made.name not in {row.name for row in OF_REPS}


def test_the_recipe_of_a_rule_makes_one() -> None:
    _, recipe = recipes()
    known = {"Situation": Situation, "Policy": Policy, "Match": Match, "Evidence": Evidence, "Rule": Rule}
    rule = followed(recipe, **known)["HARD_WORK"]
    told = Situation(cause="m/b1/9", session=replace(MAX, set=a_set(noted(), rpe=8)))
    held = decide([rule], "event", told, Policy())
    assert held is not None
    assert (held.rule, held.match.cue) == ("hard_work", "breathe")
    assert decide([rule], "event", told, Policy(rpe_max=8)) is None
    once = replace(told, session=replace(MAX, set=a_set(noted(), rpe=8, acted=(("hard_work", 1),))))
    assert decide([rule], "event", once, Policy()) is None


def test_every_file_of_the_core_stands_in_the_list_of_its_files() -> None:
    _, _, told = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("\n## The core, by what it knows\n")
    rows = [line.split("|")[1] for line in told.splitlines()[3:] if line.startswith("|")]
    listed = [name.strip() for row in rows for name in row.split(",")]
    files = {file.stem for file in (DOCS.parent / "streams" / "core").glob("*.py")} - {"__init__"}
    assert sorted(listed) == sorted(files)


def test_every_file_that_the_list_of_rooms_names_is_there() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    told = text.partition("\n## The rooms around it, by what they do\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in told.splitlines()[3:] if line.startswith("|")]
    named = [
        (room, name.strip())
        for row in rows
        for room, names in re.findall(r"`([\w/]+)/` ?([^;`]*)", row)
        for name in names.split(",")
        if name.strip()
    ]
    assert len(named) > 80
    missing = [
        (room, name)
        for room, name in named
        if not (
            (DOCS.parent / room / name).is_dir()
            if name.endswith("/")
            else (DOCS.parent / room / f"{name}.py").is_file()
        )
    ]
    assert missing == []
