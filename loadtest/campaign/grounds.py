"""Grounds: whether a command may be sent at all, and whether what it is based on is enough."""

import math
from collections.abc import Iterator, Mapping
from hashlib import sha256

import msgspec

from loadtest.campaign.ledger import EPS, QUANTITIES, harder, values_of
from loadtest.campaign.scene import Scene
from streams.core.commands import Command, Evidence
from streams.core.policy import Policy

REP_RULES = frozenset(
    {"rom_limit", "velocity_loss_stop", "paced_fatigue_stop", "rom_shortfall", "tempo_or_bounce", "unsteady_reduce"}
)
ONCE_A_SET = frozenset({"pain_reduce", "rom_shortfall", "tempo_or_bounce", "unsteady_reduce"})
IN_ANY_DATA = frozenset({"emergency_stop", "pain_stop", "pain_reduce", "pain_next_morning"})
ALONE = ("dtw", "cmc", "sparc", "ldlj", "composite", "form_score", "nrmse", "correlation")
WIRE: Mapping[str, tuple[float, float]] = {
    "load_N": (0.0, 50_000.0),
    "window_lo": (-10.0, 10.0),
    "window_hi": (-10.0, 10.0),
    "reps": (1.0, 200.0),
    "sets": (1.0, 20.0),
} | dict.fromkeys(("rest_s", "tul_s", "concentric_s", "hold_s", "eccentric_s"), (0.0, 3_600.0))

TUL_CAP_S = 180.0
REST_MAX_S = 180.0


def _told(command: Command) -> list[Evidence]:
    """Return the evidence; that lesser rules hold as well is none."""
    return [one for one in command.evidence if one.name != "also_true"]


def complete(scene: Scene) -> Iterator[str]:
    """S9: rule, key, evidence, values and bounds are there."""
    command = scene.command
    if not (command.rule and command.cause and command.command_id):
        yield "no rule, cause or key"
    if not any(one.source and one.name and one.value is not None for one in _told(command)):
        yield "no evidence with a value"
    if command.action in {"lower_load", "tighten_range", "extend_rest"} and not command.changes:
        yield "nothing is changed"
    if any(one.bound is None for one in command.changes):
        yield "a change without its bound"
    if len({one.quantity for one in command.changes}) < len(command.changes):
        yield "a quantity is changed twice"
    if (command.prescription is not None) != (command.action == "prescribe"):
        yield "a prescription in the wrong place"


def listed(scene: Scene) -> Iterator[str]:
    """Every value that differs from the one in force is listed with the new one."""
    command, series = scene.command, scene.series
    if command.action != "prescribe" or series is None:
        return
    in_force, wanted = scene.values
    listed = {one.quantity: one.new for one in command.changes}
    for name in QUANTITIES:
        if name in listed and listed[name] != wanted[name]:
            yield f"{name} is {wanted[name]} and not {listed[name]} as listed"
        elif name not in listed and harder(name, in_force[name], wanted[name]) and not name.startswith("window"):
            yield f"{name} goes from {in_force[name]} to {wanted[name]} unlisted"


def finite(scene: Scene) -> Iterator[str]:
    """S13: every number is one, and the wire admits it."""
    command = scene.command
    told: list[tuple[str, float]] = [(one.quantity, value) for one in command.changes for value in (one.old, one.new)]
    told += [(name, value) for name, value in values_of(command.prescription).items() if value is not None]
    for name, value in told:
        least, most = WIRE[name]
        if not (math.isfinite(value) and least <= value <= most):
            yield f"{name} is {value}"
    numbers = [one.value for one in command.evidence] + [one.bound for one in command.changes]
    if any(isinstance(value, int | float) and not math.isfinite(value) for value in numbers):
        yield "an evidence or a bound is not finite"


def current(scene: Scene) -> Iterator[str]:
    """S10: for this boot, above the last sequence, not expired."""
    command = scene.command
    if command.expires_ms <= scene.now_ms:
        yield "expired when it was sent"
    if command.boot_id != scene.machine.boot_id:
        yield f"for boot {command.boot_id}"
    if command.sequence <= scene.machine.sequence:
        yield f"sequence {command.sequence} after {scene.machine.sequence}"


def is_no_request(scene: Scene) -> Iterator[str]:
    """S25: what adjusts something asks for no messages."""
    if scene.command.missing is not None:
        yield "it asks for messages, too"


def screened(scene: Scene) -> Iterator[str]:
    """S23: screening is clear. What was told at another machine is known here with the next plan, not before."""
    command, patient = scene.command, scene.patient
    told_elsewhere = patient is not None and patient.screened_at not in {None, command.machine}
    if told_elsewhere and command.action != "prescribe":
        return
    if patient is None or patient.screening != "clear":
        yield f"screening is {None if patient is None else patient.screening}"


def unlocked(scene: Scene) -> Iterator[str]:
    """S8: a locked machine gets nothing."""
    if scene.machine.locked is not None:
        yield "the machine is locked"


def whole(scene: Scene) -> Iterator[str]:
    """S13: a set with lost messages or invalid reps decides nothing."""
    session, command = scene.session, scene.command
    if session is None or session.set is None or command.action == "prescribe" or command.rule in IN_ANY_DATA:
        return
    if session.set.is_held(scene.policy):
        yield "the set decides nothing"


def enough_reps(scene: Scene) -> Iterator[str]:
    """S14: at least three valid reps."""
    session = scene.session
    if scene.command.rule not in REP_RULES or session is None:
        return
    if session.set is None or len(session.set.valid) < 3:
        yield f"{0 if session.set is None else len(session.set.valid)} valid reps"


def two_reps(scene: Scene) -> Iterator[str]:
    """S15: by the last two valid reps, or by the time under load."""
    session, command = scene.session, scene.command
    if command.rule not in REP_RULES or session is None or session.set is None:
        return
    if command.rule == "paced_fatigue_stop" and session.set.tul_s >= min(TUL_CAP_S, scene.policy.tul_cap_s) - EPS:
        return
    if not {one.source for one in _told(command)}.issuperset(session.set.valid[-2:]):
        yield "not by the last two valid reps"


def not_by_velocity(scene: Scene) -> Iterator[str]:
    """S16: no velocity loss unless the patient was to be fast."""
    command = scene.command
    intent = None if scene.session is None else scene.session.intent
    by_loss = command.rule == "velocity_loss_stop" or any("velocity_loss" in one.name for one in command.evidence)
    if by_loss and intent != "max" and command.action != "prescribe":
        yield f"velocity loss with intent {intent}"


def not_by_likeness(scene: Scene) -> Iterator[str]:
    """S19: not by smoothness or likeness alone."""
    command = scene.command
    told = _told(command)
    if told and command.action != "cue" and all(any(word in one.name for word in ALONE) for one in told):
        yield "by smoothness or likeness alone"


def once(scene: Scene) -> Iterator[str]:
    """S21: one decrease per rule and set."""
    session, command = scene.session, scene.command
    if session is None or command.rule not in ONCE_A_SET or command.action == "cue":
        return
    fired = session.between if session.set is None else session.set.fired
    if command.rule in fired:
        yield f"{command.rule} a second time"


def rested(scene: Scene) -> Iterator[str]:
    """S21: no rest beyond 180 s."""
    for one in scene.command.changes:
        if one.quantity == "rest_s" and one.new > REST_MAX_S and one.new > one.old:
            yield f"a rest of {one.new} s"


def policy(scene: Scene) -> Iterator[str]:
    """Every command names the policy that is in force."""
    if scene.command.policy != digest_of(scene.policy):
        yield f"policy {scene.command.policy}"


def digest_of(policy: Policy) -> str:
    """Name a policy as every command must: 12 hexadecimal digits of its content."""
    return sha256(msgspec.json.encode(policy, order="deterministic")).hexdigest()[:12]
