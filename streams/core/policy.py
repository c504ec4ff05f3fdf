"""The policy: every number that a clinician may edit, with its default, its bounds and what it is worth.

Bounds are those of science.md's rule table; a policy outside them does not decode (S17). The tag of each parameter
says where its default comes from: literature, standard, measured or default (engineering judgement).
"""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from streams.core.errors import Malformed


def _tag(meaning: str, tag: str) -> dict[str, str]:
    return {"description": meaning, "tag": tag}


Percent = Annotated[float, Meta(ge=0.0, le=100.0)]

Absence = Annotated[int, Meta(ge=1, le=56)]
Pause = Annotated[int, Meta(ge=1, le=8)]
"""Days, and weeks: beyond 56 days nothing rises and learning begins anew (S18), whatever a clinic agrees with."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of the decision rules; times in s or days as named, shares in percent unless named otherwise."""

    spike_ratio: Annotated[float, Meta(ge=1.1, le=2.0, extra=_tag("peak force over own peak: STOP", "default"))] = 1.30
    heartbeat_s: Annotated[float, Meta(ge=1.0, le=60.0, extra=_tag("heartbeat period", "default"))] = 5.0
    heartbeat_missed: Annotated[int, Meta(ge=1, le=20, extra=_tag("missed heartbeats: STOP", "default"))] = 3
    pain_stop: Annotated[int, Meta(ge=3, le=8, extra=_tag("pain above it ends the exercise", "literature"))] = 5
    pain_resume_cut_pct: Annotated[
        float, Meta(ge=5.0, le=100.0, extra=_tag("load cut of the session after pain_stop", "default"))
    ] = 20.0
    pain_caution: Annotated[int, Meta(ge=1, le=5, extra=_tag("pain from it on lowers the load", "literature"))] = 3
    pain_rise: Annotated[
        int, Meta(ge=1, le=5, extra=_tag("rise since the session's start that lowers it, too", "literature"))
    ] = 2
    pain_cut_pct: Annotated[float, Meta(ge=5.0, le=50.0, extra=_tag("load cut by pain_reduce", "default"))] = 10.0
    pain_rom_back_deg: Annotated[
        float, Meta(ge=0.0, le=30.0, extra=_tag("distance kept from the painful angle", "default"))
    ] = 5.0
    hold_invalid_fraction: Annotated[
        float, Meta(ge=0.05, le=0.5, extra=_tag("share of invalid reps that holds", "default"))
    ] = 0.20
    hold_min_reps: Annotated[int, Meta(ge=2, le=10, extra=_tag("reps before data_hold may match", "default"))] = 3
    vl_stop_pct: Annotated[float, Meta(ge=15.0, le=30.0, extra=_tag("velocity loss that ends a set", "literature"))] = (
        20.0
    )
    vl_min_reps: Annotated[int, Meta(ge=3, le=10, extra=_tag("reps with a velocity before it may", "measured"))] = 4
    vl_amber_pct: Annotated[float, Meta(ge=5.0, le=30.0, extra=_tag("velocity loss shown in amber", "literature"))] = (
        10.0
    )
    morning_rise: Annotated[int, Meta(ge=1, le=4, extra=_tag("pain on the next morning over before", "literature"))] = 1
    week_rise: Annotated[float, Meta(ge=0.5, le=4.0, extra=_tag("mean pain of a week over the last", "literature"))] = (
        1.0
    )
    rom_over_pct: Annotated[float, Meta(ge=101.0, le=130.0, extra=_tag("completeness that is too much", "default"))] = (
        105.0
    )
    rom_step_deg: Annotated[
        float, Meta(ge=0.5, le=5.0, extra=_tag("range taken back, in a session at most", "default"))
    ] = 5.0
    votes_needed: Annotated[int, Meta(ge=2, le=5, extra=_tag("signs of fatigue that end a paced set", "default"))] = 2
    tul_cap_s: Annotated[
        float, Meta(ge=60.0, le=180.0, extra=_tag("time under load that ends a set", "literature"))
    ] = 180.0
    vote_tempo_ratio: Annotated[
        float, Meta(ge=1.1, le=2.0, extra=_tag("concentric time over the prescribed one: a sign", "default"))
    ] = 1.25
    vote_rom_fraction: Annotated[
        float, Meta(ge=0.7, le=0.98, extra=_tag("range over the patient's own: a sign below it", "default"))
    ] = 0.90
    vote_force_fraction: Annotated[
        float, Meta(ge=0.7, le=0.98, extra=_tag("force at the end of range over reps 2-4: a sign below it", "default"))
    ] = 0.90
    vote_force_min_rep: Annotated[int, Meta(ge=5, le=12, extra=_tag("first rep judged by that force", "default"))] = 6
    vote_rpe_over: Annotated[int, Meta(ge=1, le=4, extra=_tag("exertion over the target: a sign", "default"))] = 1
    form_cut_pct: Annotated[float, Meta(ge=1.0, le=20.0, extra=_tag("load cut for poor form", "default"))] = 5.0
    tempo_fast_fraction: Annotated[
        float, Meta(ge=0.5, le=0.95, extra=_tag("phase over its prescribed time: too fast below it", "default"))
    ] = 0.75
    recovery_min: Annotated[
        float, Meta(ge=0.7, le=1.0, extra=_tag("set's best over the first set's", "literature"))
    ] = 0.90
    rest_step_s: Annotated[float, Meta(ge=5.0, le=60.0, extra=_tag("rest added at a time", "default"))] = 30.0
    rest_max_s: Annotated[float, Meta(ge=60.0, le=180.0, extra=_tag("longest rest asked for", "literature"))] = 180.0
    unsteady_sd: Annotated[
        float, Meta(ge=1.0, le=4.0, extra=_tag("standard deviations over the own mean: unsteady", "default"))
    ] = 2.0
    unsteady_ratio: Annotated[
        float, Meta(ge=1.05, le=3.0, extra=_tag("ratio to the own mean: unsteady", "default"))
    ] = 1.25
    unsteady_vl_pct: Annotated[
        float, Meta(ge=5.0, le=20.0, extra=_tag("velocity loss below which unsteadiness is not fatigue", "default"))
    ] = 10.0
    progress_sessions: Annotated[int, Meta(ge=2, le=6, extra=_tag("clean sessions before a rise", "standard"))] = 2
    progress_step_pct: Annotated[float, Meta(ge=0.5, le=5.0, extra=_tag("rise of the load at once", "default"))] = 5.0
    week_cap_pct: Annotated[float, Meta(ge=1.0, le=10.0, extra=_tag("rise within 7 days", "default"))] = 10.0
    rom_amber_pct: Annotated[
        float, Meta(ge=80.0, le=100.0, extra=_tag("completeness below which a rep is short", "default"))
    ] = 90.0
    tempo_tol_pct: Annotated[
        float, Meta(ge=5.0, le=50.0, extra=_tag("median tempo error that allows a rise", "default"))
    ] = 15.0
    rpe_max: Annotated[int, Meta(ge=4, le=8, extra=_tag("exertion that still allows a rise", "literature"))] = 7
    pain_ok: Annotated[int, Meta(ge=0, le=2, extra=_tag("pain that still allows a rise", "literature"))] = 2
    reps_over: Annotated[int, Meta(ge=1, le=5, extra=_tag("reps over target in the last set", "literature"))] = 1
    tul_progress_s: Annotated[
        float, Meta(ge=60.0, le=180.0, extra=_tag("time under load that earns a rise", "literature"))
    ] = 120.0
    gap_days: Annotated[
        tuple[Absence, Absence, Absence],
        Meta(extra=_tag("days since the last session: first, second cut, new start", "default")),
    ] = (14, 28, 56)
    gap_cut_pct: Annotated[tuple[Percent, Percent], Meta(extra=_tag("the two load cuts", "default"))] = (10.0, 20.0)
    learning_sessions: Annotated[int, Meta(ge=2, le=6, extra=_tag("sessions without a rise", "default"))] = 3
    si_pct: Annotated[float, Meta(ge=10.0, le=30.0, extra=_tag("symmetry index that counts", "literature"))] = 15.0
    si_sessions: Annotated[int, Meta(ge=3, le=6, extra=_tag("sessions in a row on the same side", "default"))] = 3
    ef_sessions: Annotated[int, Meta(ge=3, le=6, extra=_tag("sessions in a row out of the norm", "default"))] = 3
    norm_sd: Annotated[float, Meta(ge=1.0, le=3.0, extra=_tag("deviations of a machine's norm", "default"))] = 2.0
    rep_step: Annotated[int, Meta(ge=1, le=2, extra=_tag("reps added where the load may not rise", "literature"))] = 1
    tul_step_s: Annotated[float, Meta(ge=1.0, le=20.0, extra=_tag("time under load added instead", "literature"))] = (
        10.0
    )
    plateau_sessions: Annotated[int, Meta(ge=4, le=12, extra=_tag("sessions without a change", "default"))] = 6
    attendance_min: Annotated[float, Meta(ge=0.5, le=1.0, extra=_tag("share of planned sessions", "default"))] = 0.80
    maintenance_weeks: Annotated[
        tuple[Pause, Pause], Meta(extra=_tag("weeks between sessions once the goals are reached", "literature"))
    ] = (2, 4)
    typical_error_pct: Annotated[
        float, Meta(ge=2.0, le=15.0, extra=_tag("typical error of strength where no profile says more", "default"))
    ] = 6.0
    trend_drift_pct: Annotated[
        float, Meta(ge=1.0, le=2.0, extra=_tag("true change of strength expected per session", "default"))
    ] = 1.5
    ack_timeout_s: Annotated[float, Meta(ge=1.0, le=60.0, extra=_tag("unacknowledged: repeat", "default"))] = 5.0
    command_ttl_s: Annotated[float, Meta(ge=2.0, le=120.0, extra=_tag("expiry of a command", "default"))] = 30.0
    plan_ttl_s: Annotated[float, Meta(ge=10.0, le=3_600.0, extra=_tag("expiry of a prescription", "default"))] = 300.0
    resend_ttl_min: Annotated[
        float, Meta(ge=1.0, le=1_440.0, extra=_tag("minutes a machine has to say again what is missing", "default"))
    ] = 15.0

    def __post_init__(self) -> None:
        """Refuse bounds that are out of order."""
        if list(self.gap_days) != sorted(set(self.gap_days)):
            raise ValueError(f"gap_days must rise, got {self.gap_days}")
        if self.gap_cut_pct[0] > self.gap_cut_pct[1]:
            raise ValueError(f"gap_cut_pct must not fall, got {self.gap_cut_pct}")
        if self.maintenance_weeks[0] > self.maintenance_weeks[1]:
            raise ValueError(f"maintenance_weeks must rise, got {self.maintenance_weeks}")
        if self.vl_amber_pct > self.vl_stop_pct:
            raise ValueError(f"vl_amber_pct {self.vl_amber_pct} is above vl_stop_pct {self.vl_stop_pct}")
        if self.pain_caution > self.pain_stop:
            raise ValueError(f"pain_caution {self.pain_caution} is above pain_stop {self.pain_stop}")


DEFAULT = Policy()


def digest(policy: Policy) -> str:
    """Name a policy by its content: 12 hexadecimal digits that stand in every command.

    Examples
    --------
    >>> digest(DEFAULT) == digest(Policy()) != digest(Policy(vl_stop_pct=25.0))
    True
    """
    return hashlib.sha256(msgspec.json.encode(policy, order="deterministic")).hexdigest()[:12]


def read(text: bytes) -> Policy:
    """Read a policy file (TOML). Raises Malformed naming the parameter.

    Examples
    --------
    >>> read(b"vl_stop_pct = 25").vl_stop_pct
    25.0
    """
    try:
        return msgspec.toml.decode(text, type=Policy)
    except ValueError as error:
        raise Malformed("bad_policy", str(error)) from error
