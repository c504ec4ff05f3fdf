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


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of the decision rules; times in s or days as named, shares in percent unless named otherwise."""

    spike_ratio: Annotated[float, Meta(ge=1.1, le=2.0, extra=_tag("peak force over own peak: STOP", "default"))] = 1.30
    heartbeat_s: Annotated[float, Meta(ge=1.0, le=60.0, extra=_tag("heartbeat period", "default"))] = 5.0
    heartbeat_missed: Annotated[int, Meta(ge=1, le=20, extra=_tag("missed heartbeats: STOP", "default"))] = 3
    pain_stop: Annotated[int, Meta(ge=3, le=8, extra=_tag("pain above it ends the exercise", "literature"))] = 5
    pain_resume_cut_pct: Annotated[
        float, Meta(ge=5.0, le=100.0, extra=_tag("next session's load after pain_stop", "default"))
    ] = 20.0
    pain_caution: Annotated[int, Meta(ge=1, le=5, extra=_tag("pain from it on lowers the load", "literature"))] = 3
    pain_rise: Annotated[int, Meta(ge=1, le=5, extra=_tag("rise since the session's start", "literature"))] = 2
    pain_cut_pct: Annotated[float, Meta(ge=5.0, le=50.0, extra=_tag("load cut by pain_reduce", "default"))] = 10.0
    pain_rom_back_deg: Annotated[
        float, Meta(ge=0.0, le=30.0, extra=_tag("range kept away from the painful angle", "default"))
    ] = 5.0
    hold_invalid_fraction: Annotated[
        float, Meta(ge=0.05, le=0.5, extra=_tag("share of invalid reps that holds", "default"))
    ] = 0.20
    hold_min_reps: Annotated[int, Meta(ge=2, le=10, extra=_tag("reps before data_hold may match", "default"))] = 3
    vl_stop_pct: Annotated[float, Meta(ge=15.0, le=30.0, extra=_tag("velocity loss that ends a set", "literature"))] = (
        20.0
    )
    vl_min_reps: Annotated[int, Meta(ge=3, le=10, extra=_tag("valid reps before it may", "measured"))] = 4
    progress_sessions: Annotated[int, Meta(ge=2, le=6, extra=_tag("clean sessions before a rise", "standard"))] = 2
    progress_step_pct: Annotated[float, Meta(ge=0.5, le=5.0, extra=_tag("rise of the load", "literature"))] = 5.0
    week_cap_pct: Annotated[float, Meta(ge=1.0, le=10.0, extra=_tag("rise within 7 days", "default"))] = 10.0
    rom_amber_pct: Annotated[float, Meta(ge=80.0, le=100.0, extra=_tag("completeness of every rep", "default"))] = 90.0
    tempo_tol_pct: Annotated[float, Meta(ge=5.0, le=50.0, extra=_tag("median tempo error", "default"))] = 15.0
    rpe_max: Annotated[int, Meta(ge=4, le=8, extra=_tag("exertion that still allows a rise", "literature"))] = 7
    pain_ok: Annotated[int, Meta(ge=0, le=2, extra=_tag("pain that still allows a rise", "literature"))] = 2
    reps_over: Annotated[int, Meta(ge=1, le=5, extra=_tag("reps over target in the last set", "literature"))] = 1
    tul_progress_s: Annotated[float, Meta(ge=60.0, le=180.0, extra=_tag("time under load", "literature"))] = 120.0
    gap_days: Annotated[
        tuple[int, int, int], Meta(extra=_tag("days since the last session: first, second cut, new start", "default"))
    ] = (14, 28, 56)
    gap_cut_pct: Annotated[tuple[Percent, Percent], Meta(extra=_tag("the two load cuts", "default"))] = (10.0, 20.0)
    learning_sessions: Annotated[int, Meta(ge=2, le=6, extra=_tag("sessions without a rise", "literature"))] = 3
    ack_timeout_s: Annotated[float, Meta(ge=1.0, le=60.0, extra=_tag("unacknowledged: repeat", "default"))] = 5.0
    command_ttl_s: Annotated[float, Meta(ge=2.0, le=120.0, extra=_tag("expiry of a command", "default"))] = 30.0
    plan_ttl_s: Annotated[float, Meta(ge=10.0, le=3_600.0, extra=_tag("expiry of a prescription", "default"))] = 300.0

    def __post_init__(self) -> None:
        """Refuse bounds that are out of order."""
        if list(self.gap_days) != sorted(set(self.gap_days)) or self.gap_days[0] < 1:
            raise ValueError(f"gap_days must rise, got {self.gap_days}")
        if self.gap_cut_pct[0] > self.gap_cut_pct[1]:
            raise ValueError(f"gap_cut_pct must not fall, got {self.gap_cut_pct}")
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
