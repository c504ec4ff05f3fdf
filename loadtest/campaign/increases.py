"""Increases: whether a command may make anything harder, and how much."""

import math
from collections.abc import Iterator

from loadtest.campaign.ledger import DAY_MS, EPS, MachineSeen, Values, harder, values_of
from loadtest.campaign.scene import Scene
from streams.core.commands import Change

STEP_DEG = 5.0
STEP_SHARE = 0.05


def within_session(scene: Scene) -> Iterator[str]:
    """S1: nothing is made harder within a session."""
    session, command = scene.session, scene.command
    if command.action == "prescribe":
        if session is None or session.started or session.name != command.session:
            yield "a prescription for no session that waits"
        return
    for name in scene.raised:
        in_force, wanted = scene.values
        yield f"{name} from {in_force[name]} to {wanted[name]} within a session"


def known(scene: Scene) -> Iterator[str]:
    """S13: what nobody knows raises nothing."""
    series, plan = scene.series, scene.plan
    earned = {"load_N", "reps", "tul_s"}.intersection(scene.raised)
    if scene.command.action != "prescribe" or not earned:
        return
    if series is None or plan is None:
        yield "an increase of nothing known"
        return
    for unknown in series.unknown:
        if unknown:
            yield f"raised without knowing {', '.join(unknown)}"
    if "load_N" in earned and scene.machine.capabilities is None:
        yield "a load raised on an unknown machine"


def clean(scene: Scene) -> Iterator[str]:
    """S7: two clean sessions after trouble before anything rises."""
    series, raised = scene.series, scene.raised
    if scene.command.action != "prescribe" or series is None or not raised:
        return
    if series.was_troubled and series.clean < 2:
        yield f"{', '.join(raised)} raised after {series.clean} clean sessions"


def learned(scene: Scene) -> Iterator[str]:
    """S18: no load rises for a learner, or after a long absence."""
    series = scene.series
    if scene.command.action != "prescribe" or series is None or "load_N" not in scene.raised:
        return
    away_ms = None if series.trained_ms is None else scene.now_ms - series.trained_ms
    if series.sessions < scene.policy.learning_sessions or away_ms is None:
        yield f"load raised after {series.sessions} sessions"
    elif away_ms > scene.policy.gap_days[2] * DAY_MS:
        yield f"load raised after {away_ms / DAY_MS:.1f} days"


def range_(scene: Scene) -> Iterator[str]:
    """S6: the range widens only as a clinician asked, step by step, and never with the load."""
    command, machine = scene.command, scene.machine
    if command.action != "prescribe":
        yield from _tightening(scene)
        return
    series, plan = scene.series, scene.plan
    if series is None or plan is None or plan.base is None:
        return
    in_force, wanted, base = series.settled, values_of(command.prescription), values_of(plan.base)
    wider = [name for name in ("window_lo", "window_hi") if harder(name, in_force[name], wanted[name])]
    for name in ("window_lo", "window_hi"):
        if harder(name, base[name], wanted[name]):
            yield f"{name} {wanted[name]} beyond the prescribed {base[name]}"
    if not wider:
        return
    if not series.is_widening:
        yield f"{', '.join(wider)} wider than anybody asked for"
    if "load_N" in scene.raised or series.is_heavier:
        yield "range and load rise together"
    by = sum(abs((wanted[name] or 0.0) - (in_force[name] or 0.0)) for name in wider)
    if by > _range_step(base, machine) + 1e-5:
        yield f"the range widens by {by}"


def _tightening(scene: Scene) -> Iterator[str]:
    session = scene.session
    if scene.command.rule != "rom_limit" or session is None or session.told is None:
        return
    changes = [*(one for earlier in session.tightened.values() for one in earlier), *scene.command.changes]
    in_all = sum(_covered([one for one in changes if one.quantity == end]) for end in ("window_lo", "window_hi"))
    if in_all > _range_step(values_of(session.told), scene.machine) + 1e-5:
        yield f"rule 5 tightens by {in_all} in one session"


def _covered(changes: list[Change]) -> float:
    """Return how much of the range changes take away in all; what two of them take away counts once."""
    covered, reached = 0.0, -math.inf
    for start, end in sorted((min(one.old, one.new), max(one.old, one.new)) for one in changes):
        covered += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return covered


def _range_step(window: Values, machine: MachineSeen) -> float:
    """Return 5 degrees, or 5 % of the window in metres."""
    if machine.capabilities is not None and machine.capabilities.position_unit == "rad":
        return math.radians(STEP_DEG)
    lo, hi = window["window_lo"], window["window_hi"]
    return 0.0 if lo is None or hi is None else STEP_SHARE * (hi - lo)


def small_step(scene: Scene) -> Iterator[str]:
    """S3: at most 5 % and one increment."""
    series, machine = scene.series, scene.machine.capabilities
    if scene.command.action != "prescribe" or series is None or "load_N" not in scene.raised:
        return
    old_N, new_N = series.in_force["load_N"] or 0.0, values_of(scene.command.prescription)["load_N"] or 0.0
    step_N = 0.0 if machine is None else machine.load_step_N
    if new_N > old_N + min(0.05 * old_N, step_N) + EPS:
        yield f"{old_N} N to {new_N} N, increment {step_N} N"


def small_week(scene: Scene) -> Iterator[str]:
    """S4: at most 10 % above the lowest of 7 days."""
    series = scene.series
    if scene.command.action != "prescribe" or series is None or "load_N" not in scene.raised:
        return
    low_N, new_N = series.week_low_N(scene.now_ms), values_of(scene.command.prescription)["load_N"] or 0.0
    if new_N > 1.10 * low_N + EPS:
        yield f"{new_N} N, and {low_N} N was the lowest in 7 days"


def within_bounds(scene: Scene) -> Iterator[str]:
    """S5: within machine, cap and grid; reps and time within what the clinician allows."""
    plan, machine = scene.plan, scene.machine.capabilities
    new_N = scene.values[1]["load_N"]
    if new_N is None:
        return
    if machine is not None and not machine.load_min_N - EPS <= new_N <= max(machine.load_max_N, machine.load_min_N):
        yield f"{new_N} N on a machine of {machine.load_min_N} to {machine.load_max_N} N"
    if scene.command.action != "prescribe" or plan is None:
        return
    if plan.cap_N is not None and new_N > plan.cap_N + EPS:
        yield f"{new_N} N above the cap of {plan.cap_N} N"
    if plan.cap_N is None and "load_N" in scene.raised:
        yield "a load raised without a cap"
    if machine is not None and not _on_grid(new_N, machine.load_min_N, machine.load_step_N):
        yield f"{new_N} N is not on the grid of {machine.load_step_N} N from {machine.load_min_N} N"
    told = values_of(scene.command.prescription)
    for name, most in (("reps", plan.reps_max), ("tul_s", plan.tul_max_s)):
        if name in scene.raised and most is not None and harder(name, most, told[name]):
            yield f"{name} {told[name]} above the clinician's {most}"


def _on_grid(load_N: float, least_N: float, step_N: float) -> bool:
    steps = (load_N - least_N) / step_N
    return abs(steps - round(steps)) * step_N <= 0.001 + EPS  # loads are written to 1 mN


def confirmed(scene: Scene) -> Iterator[str]:
    """S20: an increase asks first."""
    command = scene.command
    asks = [name for name in scene.raised if not name.startswith("window")]
    if command.action == "prescribe" and asks and not command.confirm:
        yield f"{', '.join(asks)} raised without asking"
