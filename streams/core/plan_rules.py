"""Plan rules: the rows of the decision table that are asked before a session. A new rule is one row.

Rules, conditions, actions and bounds are those of science.md section 7.2. The first match names the command, and the
lowest load that any of rules 1, 3 and 17 asks for counts. A rule that only proposes ends nothing.
"""

from streams.core.balance_rules import front_back_balance, side_balance
from streams.core.easing_rules import pain_next_morning, pain_resume, return_after_gap
from streams.core.plan_situation import PlanSituation
from streams.core.progress_rules import progress_load, progress_reps_first
from streams.core.review_rules import MAINTENANCE, maintenance, plateau_review
from streams.core.rule import Rule

PROGRESS = (
    "progress_sessions",
    "rom_amber_pct",
    "tempo_tol_pct",
    "vl_stop_pct",
    "rpe_max",
    "pain_ok",
    "reps_over",
    "tul_progress_s",
    "learning_sessions",
    "rep_step",
    "tul_step_s",
    "tul_cap_s",
    "gap_days",
)
"""Parameters that rules 14 and 15 have in common."""

PLAN_RULES: tuple[Rule[PlanSituation], ...] = (
    Rule(
        priority=1,
        id="pain_stop",
        moments=("plan",),
        match=pain_resume,
        parameters=("pain_resume_cut_pct",),
        source="Thomee 1997 [literature]",
    ),
    Rule(
        priority=3,
        id="pain_next_morning",
        moments=("plan",),
        match=pain_next_morning,
        parameters=("morning_rise", "week_rise"),
        source="Silbernagel 2007 [literature]",
    ),
    Rule(
        priority=17,
        id="return_after_gap",
        moments=("plan",),
        match=return_after_gap,
        parameters=("gap_days", "gap_cut_pct", "maintenance_weeks"),
        source="Tucci 1992 [literature], [default]",
    ),
    Rule(
        priority=18,
        id=MAINTENANCE,
        moments=("plan",),
        match=maintenance,
        parameters=("maintenance_weeks",),
        source="Tucci 1992 [literature]",
    ),
    Rule(
        priority=12,
        id="side_balance",
        moments=("plan",),
        match=side_balance,
        parameters=("si_pct", "si_sessions", "typical_error_pct"),
        source="Parkinson 2021 [literature], [default]",
    ),
    Rule(
        priority=13,
        id="front_back_balance",
        moments=("plan",),
        match=front_back_balance,
        parameters=("ef_sessions", "norm_sd", "typical_error_pct"),
        source="Kocjan 2014 [literature]",
    ),
    Rule(
        priority=14,
        id="progress_load",
        moments=("plan",),
        match=progress_load,
        parameters=("progress_step_pct", "week_cap_pct", *PROGRESS),
        source="ACSM 2009, Kieser, Buskard 2019 [literature]",
    ),
    Rule(
        priority=15,
        id="progress_reps_first",
        moments=("plan",),
        match=progress_reps_first,
        parameters=PROGRESS,
        source="DAVID practice 20-40 % [literature], [default]",
    ),
    Rule(
        priority=16,
        id="plateau_review",
        moments=("plan",),
        match=plateau_review,
        parameters=(
            "plateau_sessions",
            "attendance_min",
            "typical_error_pct",
            "trend_drift_pct",
            "learning_sessions",
            "gap_days",
        ),
        source="[default]",
    ),
)
"""In the order in which they are asked. 17 comes before 12 and 14, or someone back after five weeks would be raised;
18 before them too: who has reached the goal is raised no further."""
