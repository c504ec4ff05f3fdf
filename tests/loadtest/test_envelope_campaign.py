"""The campaign: hostile sessions find nothing, and the checker that says so sees what it is shown."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from loadtest.__main__ import app
from loadtest.campaign import campaign, draws
from loadtest.campaign.grounds import digest_of
from loadtest.campaign.ledger import DAY_MS, EASIER, MachineSeen, PatientSeen, PlanSeen, SessionSeen, SetSeen, values_of
from loadtest.campaign.network import Letter
from loadtest.campaign.one_world import live
from loadtest.campaign.order import Counted, Lost, Order
from loadtest.campaign.sabotage import TRICKS, seen
from loadtest.campaign.scene import Scene
from loadtest.campaign.violations import violations
from loadtest.campaign.watch import Watch
from loadtest.campaign.world import Sent
from streams.core import policy, repair
from streams.core.commands import Change, Command, Evidence, Stretch
from streams.core.envelope import ENVELOPE
from streams.core.policy import DEFAULT
from streams.core.results import Notice
from streams.core.telemetry import (
    ButtonPressed,
    Capabilities,
    FaultRaised,
    Heartbeat,
    Offline,
    Online,
    Prescription,
    Released,
    SessionRequested,
    SetStarted,
    Telemetry,
)

NOW_MS = 1_700_000_000_000
LUMBAR = draws.MACHINES[0]
ORDER = Prescription(
    id="order", load_N=400.0, window_lo=0.1, window_hi=0.9, concentric_s=2.0, hold_s=1.0, eccentric_s=3.0, reps=10
)
KEY = "acme/north/lx-2"
REPS = tuple(f"{KEY}/b1/{n}" for n in range(4, 9))


def test_hostile_sessions_violate_nothing() -> None:
    found = [violation for seen_ in campaign.run(300, seed=0, processes=1) for violation in seen_.violations]
    assert found == []


def test_a_world_is_the_same_every_time() -> None:
    assert [live(seed) for seed in range(8)] == [live(seed) for seed in range(8)]


def test_two_processes_bring_what_one_brings() -> None:
    alone, together = (sorted(campaign.run(160, 3, n), key=lambda one: one.seed) for n in (1, 2))
    assert alone == together


def test_the_command_line_counts_and_names_what_to_repeat(tmp_path: Any) -> None:
    report = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["envelope", "--sessions", "40", "--processes", "1", "--report", str(report)])
    assert "sessions 40\n" in done.stdout
    assert {"sessions", "commands", "violations"} <= {line.split(" ")[0] for line in done.stdout.splitlines()}
    assert b'"sessions": 40' in report.read_bytes()


def test_every_row_of_the_envelope_has_its_trick() -> None:
    assert {trick.row for trick in TRICKS.values()} == {row.judge for row in ENVELOPE}


@pytest.mark.parametrize("name", TRICKS)
def test_without_its_row_a_trick_is_seen(name: str) -> None:
    trick = TRICKS[name]
    assert seen(trick, (trick.row, *trick.behind), worlds=400)


@pytest.mark.parametrize("name", [name for name, trick in TRICKS.items() if trick.behind])
def test_where_another_row_stands_behind_one_may_be_missing(name: str) -> None:
    assert not seen(TRICKS[name], (TRICKS[name].row,), worlds=20)


@pytest.mark.parametrize("name", TRICKS)
def test_with_the_whole_envelope_a_trick_comes_to_nothing(name: str) -> None:
    assert seen(TRICKS[name], (), worlds=6) == frozenset()


def test_a_request_for_more_than_was_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(first_seq: int, last_seq: int) -> Stretch:
        return Stretch(first_seq=first_seq, last_seq=last_seq + 1)

    monkeypatch.setattr(repair, "Stretch", other)
    found = (one for seed in range(400) for one in live(seed).violations if one.invariant == "S25")
    assert "is no stretch that was given up" in next(found).detail


# The checker, invariant by invariant.


def seated(**fields: Any) -> Command:
    """Prescribe as the planner does: nothing changes."""
    usual: dict[str, Any] = {
        "command_id": f"{KEY}/b1/3/prescribe",
        "machine": KEY,
        "boot_id": "b1",
        "sequence": 31,
        "action": "prescribe",
        "rule": "progress_load",
        "cause": f"{KEY}/b1/3",
        "evidence": (Evidence("s1", "pain_max", 1.0),),
        "session": "s2",
        "prescription": ORDER,
        "policy": digest_of(DEFAULT),
        "issued_ms": NOW_MS,
        "expires_ms": NOW_MS + 30_000,
    }
    return Command(**(usual | fields))


def raised(quantity: Any = "load_N", old: float = 400.0, new: float = 405.0, **fields: Any) -> Command:
    """Prescribe more, and ask first."""
    change = Change(quantity=quantity, old=old, new=new, bound=new)
    told = replace(ORDER, **{quantity: int(new) if quantity in {"reps", "sets"} else new})
    return seated(**({"changes": (change,), "prescription": told, "confirm": True} | fields))


def lowered(quantity: Any = "load_N", old: float = 400.0, new: float = 380.0, **fields: Any) -> Command:
    """Lower the load by the last two reps."""
    usual: dict[str, Any] = {
        "command_id": f"{REPS[-1]}/rom_shortfall",
        "sequence": 64,
        "action": "lower_load",
        "rule": "rom_shortfall",
        "cause": REPS[-1],
        "evidence": tuple(Evidence(rep, "rom_completeness_pct", 80.0) for rep in REPS[-2:]),
        "prescription": None,
        "changes": (Change(quantity=quantity, old=old, new=new, bound=20.0),),
    }
    return seated(**(usual | fields))


def ended(**fields: Any) -> Command:
    return lowered(**({"action": "end_set", "changes": ()} | fields))


def scene(command: Command, **knows: Any) -> Scene:
    """Seat a patient with five clean sessions behind, at a machine whose session waits, or runs."""
    machine = MachineSeen(DEFAULT.pain_stop)
    machine.boot_id = "b1"
    machine.order.boot("b1")
    machine.capabilities = knows.get("capabilities", LUMBAR)
    machine.locked, machine.sequence = knows.get("locked"), knows.get("sequence", 8)
    session = machine.session = SessionSeen("s2", "lumbar_extension", "both", knows.get("intent", "paced"), "h1")
    session.patient = "acme/p1"
    session.started = knows.get("started", command.action != "prescribe")
    if session.started:
        session.hold(ORDER)
        session.set = SetSeen(1)
        session.set.valid = list(REPS[-knows.get("valid", 5) :])
        session.set.received = len(session.set.valid) + knows.get("invalid", 0)
        session.set.invalid = knows.get("invalid", 0)
        session.set.fired = list(knows.get("fired", ()))
        session.tightened = {"before": knows.get("tightened", ())}
    for pending in knows.get("pending", ()):
        machine.pending[pending.command_id] = pending
    patient = PatientSeen()
    patient.screening, patient.screened_at = knows.get("screening", "clear"), KEY
    plan = patient.plans["lumbar_extension", "both"] = PlanSeen()
    plan.base, plan.cap_N = knows.get("base", ORDER), knows.get("cap_N", 600.0)
    series = patient.series(plan, "h1", session.intent)
    series.settled = values_of(knows.get("settled", ORDER))
    series.sessions, series.clean = knows.get("sessions", 5), knows.get("clean", 5)
    series.was_troubled = knows.get("troubled", True)
    series.trained_ms = NOW_MS - round(knows.get("days", 2.0) * DAY_MS)
    series.week = [(NOW_MS - DAY_MS, knows.get("week_N", 400.0))]
    series.is_widening, series.is_heavier = knows.get("widening", False), knows.get("heavier", False)
    series.unknown = knows.get("unknown", [(), ()])
    return Scene(command, machine, patient, NOW_MS, DEFAULT)


def test_what_is_right_is_no_violation() -> None:
    for one in (
        seated(),
        raised(),
        lowered(),
        ended(),
        seated(action="stop", prescription=None, rule="emergency_stop"),
    ):
        assert list(violations(scene(one))) == []


NAN = float("nan")
WIDER = replace(ORDER, window_hi=0.95)
WIDEST = replace(ORDER, window_hi=1.0)
CASES: tuple[tuple[str, str, Command, dict[str, Any]], ...] = (
    ("S1", "more load within a session", lowered(new=405.0), {}),
    ("S1", "more load than a command that is on its way asks for", lowered(), {"pending": (lowered(new=360.0),)}),
    ("S1", "a shorter rest within a session", lowered("rest_s", 90.0, 60.0), {}),
    ("S1", "a prescription for a session that runs", seated(), {"started": True}),
    ("S3", "more than one increment", raised(new=410.0), {}),
    ("S3", "more than 5 %", raised(new=425.0), {"capabilities": replace(LUMBAR, load_step_N=25.0, load_min_N=0.0)}),
    ("S4", "more than 10 % in 7 days", raised(), {"week_N": 368.0}),
    ("S5", "more than the cap", raised(), {"cap_N": 402.0}),
    ("S5", "more without a cap", raised(), {"cap_N": None}),
    ("S5", "more than the machine holds", seated(), {"capabilities": replace(LUMBAR, load_max_N=380.0)}),
    ("S5", "less than the machine holds", lowered(new=10.0), {}),
    ("S5", "a load beside the grid", seated(prescription=replace(ORDER, load_N=398.0)), {}),
    (
        "S6",
        "a wider range",
        seated(prescription=WIDER),
        {"base": WIDEST},
    ),
    (
        "S6",
        "a range beyond the prescribed one",
        seated(prescription=WIDER),
        {"widening": True},
    ),
    (
        "S6",
        "range and load together",
        raised(prescription=replace(ORDER, load_N=405.0, window_hi=0.95)),
        {"widening": True, "base": WIDEST},
    ),
    (
        "S6",
        "a wider range together with the heavier load of a clinician's edit",
        seated(prescription=WIDER),
        {"widening": True, "base": WIDEST, "heavier": True},
    ),
    (
        "S6",
        "a range that widens by 6 degrees",
        seated(prescription=WIDEST),
        {"widening": True, "base": WIDEST},
    ),
    (
        "S6",
        "a limit that tightens by 6 degrees",
        lowered("window_hi", 0.9, 0.85, rule="rom_limit", action="tighten_range"),
        {"tightened": (Change(quantity="window_lo", old=0.1, new=0.15),)},
    ),
    ("S7", "more load after one clean session", raised(), {"clean": 1}),
    ("S7", "more reps after none", raised("reps", 10.0, 11.0), {"clean": 0}),
    ("S7", "another tempo after none", raised("eccentric_s", 3.0, 4.0), {"clean": 0}),
    ("S8", "anything for a locked machine", lowered(), {"locked": (1, 5)}),
    ("S9", "no rule", lowered(rule=""), {}),
    ("S9", "no evidence", seated(evidence=()), {}),
    ("S9", "evidence without a value", seated(evidence=(Evidence("s1", "pain_max", None),)), {}),
    ("S9", "no more evidence than lesser rules", seated(evidence=(Evidence("x", "also_true", "keep"),)), {}),
    ("S9", "a change without its bound", lowered(changes=(Change(quantity="load_N", old=400.0, new=380.0),)), {}),
    ("S9", "a decrease of nothing", lowered(changes=()), {}),
    ("S9", "a rep more that is not listed", seated(prescription=replace(ORDER, reps=11)), {}),
    ("S9", "another load than the one that is listed", raised(prescription=ORDER), {}),
    ("S10", "a sequence that is not above the last", lowered(), {"sequence": 64}),
    ("S10", "a command of another boot", lowered(boot_id="b0"), {}),
    ("S10", "a command that has expired", lowered(expires_ms=NOW_MS), {}),
    ("S13", "a load that is no number", lowered(new=NAN), {}),
    ("S13", "a rest of a day", lowered("rest_s", 90.0, 86_400.0), {}),
    ("S13", "evidence that is no number", seated(evidence=(Evidence("s1", "pain_max", NAN),)), {}),
    ("S13", "more load on an unknown machine", raised(), {"capabilities": None}),
    ("S13", "more load after a pain that nobody asked for", raised(), {"unknown": [("pain",), ()]}),
    ("S13", "a decision from held data", lowered(), {"invalid": 3}),
    ("S14", "a decision from two reps", lowered(), {"valid": 2}),
    ("S15", "a decision from one rep", lowered(evidence=(Evidence(REPS[-1], "rom_completeness_pct", 80.0),)), {}),
    (
        "S15",
        "a decision from two reps that do not follow each other",
        lowered(evidence=tuple(Evidence(rep, "rom_completeness_pct", 80.0) for rep in (REPS[-3], REPS[-1]))),
        {},
    ),
    ("S16", "velocity loss when paced", ended(rule="velocity_loss_stop"), {}),
    ("S16", "velocity loss of nobody knows what", ended(rule="velocity_loss_stop"), {"intent": "unknown"}),
    ("S18", "more load for a learner", raised(), {"sessions": 2}),
    ("S18", "more load after 57 days", raised(), {"days": 57.0}),
    (
        "S19",
        "a decision by smoothness",
        lowered(evidence=tuple(Evidence(rep, "sparc_concentric", -2.0) for rep in REPS[-2:])),
        {},
    ),
    ("S20", "more load without asking", raised(confirm=False), {}),
    ("S21", "a rule's second decrease in a set", lowered(), {"fired": ("rom_shortfall",)}),
    ("S21", "a rest of 200 s", lowered("rest_s", 90.0, 200.0, action="extend_rest", rule="rest_extend"), {}),
    ("S23", "a command before screening", lowered(), {"screening": None}),
    ("S23", "a plan for who must not train", seated(), {"screening": "excluded"}),
    ("policy", "another policy's name", lowered(policy="0" * 12), {}),
)


@pytest.mark.parametrize(("invariant", "_says", "command", "knows"), CASES, ids=[case[1] for case in CASES])
def test_the_checker_reports(invariant: str, _says: str, command: Command, knows: dict[str, Any]) -> None:
    assert invariant in {one.invariant for one in violations(scene(command, **knows))}


def test_the_checkers_order_waits_gives_up_and_lets_danger_pass() -> None:
    def letter(kind: Callable[..., Telemetry], seq: int, **fields: Any) -> Letter:
        return Letter(KEY, kind(boot_id="b1", seq=seq, t_us=seq, **fields))

    order, beat = Order(5), [letter(Heartbeat, seq) for seq in range(6)]
    stop = letter(ButtonPressed, 5, button="stop")
    #  seq      0     2 (early)   5 (danger)   2 again   4, 2 s later   1 (late)   3
    #  counts   0                 5                      1 lost, 2                 3, 4
    assert order.take(beat[0], beat[0].message, 0)[1:] == [Counted(beat[0], "in turn")]  # type: ignore[arg-type]
    assert order.take(beat[2], beat[2].message, 10) == []  # type: ignore[arg-type]
    assert order.take(stop, stop.message, 20) == [Counted(stop, "ahead")]  # type: ignore[arg-type]
    assert order.take(beat[2], beat[2].message, 30) == []  # type: ignore[arg-type]
    assert order.take(beat[4], beat[4].message, 2_010) == [Lost(1), Counted(beat[2], "in turn")]  # type: ignore[arg-type]
    assert order.take(beat[1], beat[1].message, 2_020) == []  # type: ignore[arg-type]
    assert order.take(beat[3], beat[3].message, 2_030) == [  # type: ignore[arg-type]
        Counted(beat[3], "in turn"),
        Counted(beat[4], "in turn"),
    ]


def test_policies_are_drawn_within_their_bounds_and_named_as_the_core_names_them() -> None:
    drawn = [draws.policy(Random(seed)) for seed in range(40)]
    assert len(set(drawn)) > 10
    for one in drawn:
        assert msgspec.json.decode(msgspec.json.encode(one), type=policy.Policy) == one
        assert digest_of(one) == policy.digest(one)


def test_the_checker_knows_a_direction_for_every_quantity() -> None:
    assert set(EASIER) == set(values_of(None))
    assert isinstance(LUMBAR, Capabilities)


def heard(watch: Watch, message: Telemetry, *said: Any) -> list[str]:
    """Let the checker hear a message, and return what it finds wrong with what was said to it."""
    before = len(watch.found)
    watch.heard(Letter(KEY, message), NOW_MS, said)
    return [one.invariant for one in watch.found[before:]]


@pytest.mark.parametrize(("name", "wrong"), [("released", ["S8"]), ("release_ignored", []), ("whatever", ["S24"])])
def test_the_checker_wants_a_release_that_is_older_than_the_stop_to_be_told_as_one(name: str, wrong: list[str]) -> None:
    #  seq   0   released 1 (overtaken)   fault 2
    watch, fault = Watch(DEFAULT), FaultRaised(boot_id="b1", seq=2, t_us=2, fault="encoder")
    cause = f"{KEY}/b1/2"
    stop = seated(command_id=f"{cause}/s", action="stop", rule="emergency_stop", cause=cause, prescription=None)
    assert heard(watch, Heartbeat(boot_id="b1", seq=0, t_us=0)) == []
    assert heard(watch, fault, Sent(stop, b"", is_first=True)) == []
    word = Notice(id="n", machine=KEY, cause=f"{KEY}/b1/1", at_ms=NOW_MS, name=name, severity="info", detail="by dr-1")
    assert heard(watch, Released(boot_id="b1", seq=1, t_us=1, by="dr-1"), word) == wrong


def test_the_checker_takes_a_session_as_begun_when_its_first_set_begins() -> None:
    #  session_started was lost: a set begins, and a link that is lost then is owed a STOP
    watch = Watch(DEFAULT)
    who: dict[str, Any] = {"session": "s1", "patient": "acme/p1", "exercise": "lumbar_extension", "settings": "h1"}
    heard(watch, Online(boot_id="b1", capabilities=LUMBAR))
    heard(watch, SessionRequested(boot_id="b1", seq=0, t_us=0, **who))
    heard(watch, SetStarted(boot_id="b1", seq=1, t_us=1, session="s1", set_number=1, load_N=300.0))
    assert heard(watch, Offline(boot_id="b1")) == ["S2"]
