"""Catalogue: every metric with its unit, its precision, its formula, where that comes from, and what computes it.

A name ends in its unit where that is the same on every machine: `_s`, `_pct`, `_J`, `_W`. A length or a force follows
the machine, m or rad and N or N m as the rep's `position_unit` says, so its name has no unit and `unit` shows both.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from streams.core import eccentric, kinematics, kinetics, momentum, smoothness, steadiness
from streams.core.kinematics import Column
from streams.core.segmentation import Phases

Level = Literal["rep", "set", "session", "patient"]
Need = Literal["force", "no_gap", "velocity"]
"""A load cell; no gap of more than 50 ms; a velocity that agrees with what the device says of it."""


class Metric(msgspec.Struct, frozen=True):
    """One row.

    Parameters
    ----------
    name : str
        Key in `values` and `undefined`.
    unit : str
        Unit; of two, the machine's position unit chooses.
    decimals : int
        Precision to which it is stored and compared.
    level : str
        What it is a property of: a rep, a set, a session, or a patient after it.
    formula : str
        The definition in one line; the section of science.md that `section` names has all of it.
    section : str
        Section of science.md.
    source : str
        Published source, or the tag of a definition of our own.
    """

    name: str
    unit: str
    decimals: int
    level: Level
    formula: str
    section: str
    source: str


class RepMetric(Metric, frozen=True):
    """One row about reps: what computes it for a whole batch, and what it can't do without."""

    kernel: Callable[[Phases], Column]
    needs: tuple[Need, ...] = ()


class SummaryMetric(Metric, frozen=True):
    """One row that is made of measured reps: why it can be undefined, in the order in which that is asked."""

    undefined: tuple[str, ...]


_DERIVED: tuple[Need, ...] = ("no_gap", "velocity")

# A table is read by its columns.
# fmt: off
OF_REPS: tuple[RepMetric, ...] = (
    RepMetric("range_of_motion", "m|rad", 5, "rep", "|x_end - x_start| of the concentric: net, not path",
              "3", "default", kinematics.range_of_motion),
    RepMetric("rom_completeness_pct", "%", 3, "rep", "100 R / R_ref, R_ref the prescribed, else the calibrated window",
              "3", "default; Steele 2013", kinematics.rom_completeness),
    RepMetric("concentric_time_s", "s", 3, "rep", "concentric end - concentric start",
              "2.4", "Kieser and DAVID practice", kinematics.concentric_time),
    RepMetric("top_hold_time_s", "s", 3, "rep", "eccentric start - concentric end, 0 below 0.15 s",
              "2.4", "Kieser and DAVID practice", kinematics.top_hold_time),
    RepMetric("eccentric_time_s", "s", 3, "rep", "eccentric end - eccentric start",
              "2.4", "Kieser and DAVID practice", kinematics.eccentric_time),
    RepMetric("bottom_hold_time_s", "s", 3, "rep", "next concentric start - eccentric end: not in a message of one rep",
              "2.4", "Kieser and DAVID practice", kinematics.bottom_hold_time),
    RepMetric("time_under_load_s", "s", 3, "rep", "concentric + top hold + eccentric time",
              "3", "Kieser", kinematics.time_under_load),
    RepMetric("tempo_error_pct", "%", 3, "rep", "max of 100 |T - T*| / T* over eccentric and, unless max, concentric",
              "3", "default", kinematics.tempo_error),
    RepMetric("mean_velocity", "m/s|rad/s", 5, "rep", "(x_end - x_start) / T of the concentric",
              "3.5", "Sanchez-Medina 2010", kinematics.mean_velocity, _DERIVED),
    RepMetric("peak_velocity", "m/s|rad/s", 5, "rep", "max v of the concentric; not for velocity loss",
              "3.5", "Sanchez-Medina 2010", kinematics.peak_velocity, _DERIVED),
    RepMetric("mean_propulsive_velocity", "m/s|rad/s", 5, "rep", "mean v of the concentric where F >= 5 % of the load",
              "3.5", "default", kinematics.mean_propulsive_velocity, ("force", *_DERIVED)),
    RepMetric("concentric_work_J", "J", 3, "rep", "sum of (F+[k] + F+[k+1]) / 2 (x[k+1] - x[k]), F+ = max(F, 0)",
              "3.7", "Ciccone 2017", kinetics.concentric_work, ("force", "no_gap")),
    RepMetric("concentric_power_W", "W", 3, "rep", "concentric work / T",
              "3.7", "Ciccone 2017", kinetics.concentric_power, ("force", "no_gap")),
    RepMetric("peak_force", "N|N m", 2, "rep", "max F of the concentric",
              "3.10", "default", kinetics.peak_force, ("force",)),
    RepMetric("mean_force", "N|N m", 2, "rep", "mean F of the concentric",
              "3.10", "default", kinetics.mean_force, ("force",)),
    RepMetric("end_range_force", "N|N m", 2, "rep", "mean F over the last 20 % of the concentric range, by position",
              "4", "default", kinetics.end_range_force, ("force",)),
    RepMetric("peak_to_mean_force", "-", 4, "rep", "peak force / mean force",
              "3.10", "default", momentum.peak_to_mean_force, ("force",)),
    RepMetric("turnaround_impulse_s", "s", 4, "rep", "sum of (F - load) dt within 100 ms of concentric start, / load",
              "3.10", "default", momentum.turnaround_impulse, ("force",)),
    RepMetric("inertial_share", "-", 4, "rep", "max |m a| of the concentric / load",
              "3.10", "Arandjelovic 2013", momentum.inertial_share, _DERIVED),
    RepMetric("kinetic_share", "-", 4, "rep", "1/2 m (peak velocity)^2 / concentric work",
              "3.10", "Arandjelovic 2013", momentum.kinetic_share, ("force", *_DERIVED)),
    RepMetric("sparc_concentric", "-", 5, "rep", "-arc length of the amplitude spectrum up to 10 Hz, amplitude >= 0.05",
              "3.2", "Balasubramanian 2015", smoothness.sparc_concentric, _DERIVED),
    RepMetric("sparc_eccentric", "-", 5, "rep", "the same of the eccentric",
              "3.2", "Balasubramanian 2015", smoothness.sparc_eccentric, _DERIVED),
    RepMetric("ldlj_concentric", "-", 5, "rep", "-ln of T^3 / (peak v)^2 sum of (second differences of v / dt^2)^2 dt",
              "3.3", "Balasubramanian 2015", smoothness.ldlj_concentric, _DERIVED),
    RepMetric("ldlj_eccentric", "-", 5, "rep", "the same of the eccentric",
              "3.3", "Balasubramanian 2015", smoothness.ldlj_eccentric, _DERIVED),
    RepMetric("tremor_index_velocity_pct", "%", 4, "rep", "100 sqrt(2 sum |X|^2) / (N |mean|), 4-12 Hz, unfiltered v",
              "3.4", "default", steadiness.tremor_index_velocity, _DERIVED),
    RepMetric("tremor_index_force_pct", "%", 4, "rep", "100 sqrt(2 sum |X|^2) / (N |mean|), 4-12 Hz, unfiltered F",
              "3.4", "default", steadiness.tremor_index_force, ("force", "no_gap")),
    RepMetric("force_steadiness_cv_pct", "%", 4, "rep", "100 RMS of unfiltered F around its line / mean, middle 60 %",
              "3.9", "Parrella 2026", steadiness.force_steadiness_cv, ("force",)),
    RepMetric("eccentric_time_ratio", "-", 4, "rep", "eccentric time / prescribed eccentric time",
              "3.11", "default", eccentric.eccentric_time_ratio),
    RepMetric("eccentric_speed_ratio", "-", 4, "rep", "peak eccentric |v| / (R / prescribed eccentric time)",
              "3.11", "default", eccentric.eccentric_speed_ratio, _DERIVED),
    RepMetric("eccentric_drop", "-", 4, "rep", "peak |v| over the last 20 % of the eccentric way / mean |v|",
              "3.11", "default", eccentric.eccentric_drop, _DERIVED),
    RepMetric("symmetry_index_pct", "%", 4, "rep", "100 2 (R - L) / (R + L) of the mean concentric force of each side",
              "3.12", "Robinson; Parkinson 2021", kinetics.symmetry_index),
)
"""What `measure` computes, in the order in which it is stored."""

_NOT_FORESEEN = ("wrong_intent", "invalid_rep", "no_reference", "invalid_input")
_NOT_EXPECTED = ("wrong_intent", "too_few_reps", "invalid_input")

FORESEEN: tuple[SummaryMetric, ...] = (
    SummaryMetric("reps_left", "-", 1, "rep", "reps until the velocity loss that ends a set, by the adaptive model",
                  "7.6", "docs/adaptive.md", _NOT_FORESEEN),
    SummaryMetric("reps_left_low", "-", 1, "rep", "lower end of its 90 % interval",
                  "7.6", "docs/adaptive.md", _NOT_FORESEEN),
    SummaryMetric("reps_left_high", "-", 1, "rep", "upper end of its 90 % interval",
                  "7.6", "docs/adaptive.md", _NOT_FORESEEN),
    SummaryMetric("predicted_velocity_loss_pct", "%", 1, "set", "best to last, as expected before the first rep",
                  "7.6", "docs/adaptive.md", _NOT_EXPECTED),
    SummaryMetric("predicted_velocity_loss_low_pct", "%", 1, "set", "lower end of its 90 % interval",
                  "7.6", "docs/adaptive.md", _NOT_EXPECTED),
    SummaryMetric("predicted_velocity_loss_high_pct", "%", 1, "set", "upper end of its 90 % interval",
                  "7.6", "docs/adaptive.md", _NOT_EXPECTED),
)
"""What the adaptive model says, with `streams.core.foresight`."""

OF_SETS_AND_SESSIONS: tuple[SummaryMetric, ...] = (
    SummaryMetric("best_mean_velocity", "m/s|rad/s", 6, "set", "max V of the valid reps",
                  "3.6", "encoder convention", ("gap", "scale_mismatch", "too_few_reps")),
    SummaryMetric("velocity_loss_pct", "%", 6, "set", "100 (1 - V_n / max V): best to last",
                  "3.6", "Sanchez-Medina 2011", ("wrong_intent", "gap", "scale_mismatch", "too_few_reps")),
    SummaryMetric("velocity_loss_last_two_pct", "%", 6, "set", "100 (1 - (V_n-1 + V_n) / (2 max V)): best to last two",
                  "3.6", "Sanchez-Medina 2011", ("wrong_intent", "gap", "scale_mismatch", "too_few_reps")),
    SummaryMetric("velocity_loss_robust_pct", "%", 6, "set", "100 (1 - V_n / mean of the 3 largest V): VL3, decides",
                  "3.6", "measured", ("wrong_intent", "gap", "scale_mismatch", "too_few_reps")),
    SummaryMetric("set_recovery", "-", 6, "set", "best V / best V of the first set, max intent",
                  "3.8", "Grgic 2018", ("wrong_intent", "gap", "scale_mismatch", "too_few_reps", "zero_denominator")),
    SummaryMetric("rom_decay_pct", "%", 6, "set", "100 (1 - mean(R last 2) / median(R first 3))",
                  "3", "default", ("too_few_reps", "zero_denominator")),
    SummaryMetric("rom_cv_pct", "%", 6, "set", "100 SD(R) / mean(R), sample SD",
                  "3", "measured", ("too_few_reps", "zero_denominator")),
    SummaryMetric("time_under_load_s", "s", 6, "set", "sum over the valid reps",
                  "3", "Kieser", ("too_few_reps",)),
    SummaryMetric("bottom_hold_time_s", "s", 6, "set", "median time between two reps, by the device clock",
                  "2.4", "Kieser and DAVID practice", ("too_few_reps", "open_at_end")),
    SummaryMetric("work_J", "J", 6, "set", "sum of concentric work over the valid reps",
                  "3.7", "Ciccone 2017", ("no_channel", "gap", "too_few_reps")),
    SummaryMetric("work_fatigue_pct", "%", 6, "set", "100 (sum W first third - sum W last third) / sum W first third",
                  "3.7", "standard", ("no_channel", "gap", "too_few_reps", "zero_denominator")),
    SummaryMetric("fatigue_index_pct", "%", 6, "set", "100 (1 - mean(W last 3) / mean(W first 3))",
                  "3.7", "Ciccone 2017", ("no_channel", "gap", "too_few_reps", "zero_denominator")),
    SummaryMetric("best_peak_force", "N|N m", 6, "set", "max peak force of the valid reps",
                  "3.10", "default", ("too_few_reps", "no_channel")),
    SummaryMetric("force_slope_pct", "%/rep", 6, "set", "line of peak force from the peak rep on, in % of the peak",
                  "3.7", "IJSM 2012", ("no_channel", "too_few_reps", "zero_denominator")),
    SummaryMetric("force_slope_r2", "-", 6, "set", "coefficient of determination of that line; nonlinear below 0.5",
                  "3.7", "IJSM 2012", ("no_channel", "too_few_reps", "zero_denominator")),
    SummaryMetric("reps_in_reserve", "reps", 6, "set", "10 - reported exertion, from 7 on",
                  "3", "Buskard 2019", ("not_reported", "not_calibrated")),
    SummaryMetric("reference_nrmse", "-", 6, "set", "RMSE of the mean force curve against the own / range of the own",
                  "3.14", "default", ("no_reference", "too_few_reps", "no_channel", "zero_denominator")),
    SummaryMetric("reference_correlation", "-", 6, "set", "Pearson r of the mean force curve with the own",
                  "3.14", "default", ("no_reference", "too_few_reps", "no_channel", "zero_denominator")),
    SummaryMetric("reference_dtw", "N|N m", 6, "set", "warping cost of the mean force curve onto the own / 101",
                  "3.14", "default", ("no_reference", "too_few_reps", "no_channel")),
    SummaryMetric("rom_completeness_min_pct", "%", 6, "session", "min completeness of the valid reps",
                  "7.2", "default; Steele 2013", ("no_reference",)),
    SummaryMetric("tempo_error_median_pct", "%", 6, "session", "median tempo error of the valid reps",
                  "7.2", "default", ("no_reference",)),
    SummaryMetric("velocity_loss_max_pct", "%", 6, "session", "max over the sets of VL3 of the last rep",
                  "7.2", "measured", ("wrong_intent", "gap", "scale_mismatch", "too_few_reps")),
    SummaryMetric("tul_last_set_s", "s", 6, "session", "time under load of the last set that was done as prescribed",
                  "7.2", "Kieser", ("too_few_reps",)),
    SummaryMetric("work_J", "J", 6, "session", "sum of concentric work over the valid reps",
                  "3.7", "Ciccone 2017", ("no_channel", "gap", "too_few_reps")),
    SummaryMetric("best_peak_force", "N|N m", 6, "session", "max peak force of the accepted reps",
                  "3.10", "default", ("too_few_reps", "no_channel")),
    SummaryMetric("symmetry_index_pct", "%", 6, "session", "median symmetry index of the accepted reps",
                  "3.12", "Robinson; Parkinson 2021", ("too_few_reps", "no_channel", "gap", "zero_denominator")),
)
"""What is made of the reps of a set and the sets of a session, with `streams.core.fatigue`."""

OF_PATIENTS: tuple[SummaryMetric, ...] = (
    SummaryMetric("strength_trend_pct", "%", 4, "patient", "Kalman trend of best peak force, in % of the own baseline",
                  "3.16", "default; Kienbacher 2016", ("learning",)),
    SummaryMetric("minimal_detectable_change_pct", "%", 4, "patient", "1.96 sqrt(2) times the typical error",
                  "3.17", "Kienbacher 2014; measured", ("no_reference",)),
    SummaryMetric("detectable_change_pct", "%", 4, "patient", "trend - 100 where it is beyond the MDC, else 0",
                  "3.17", "default", ("learning",)),
    SummaryMetric("symmetry_index_pct", "%", 4, "patient", "100 2 (R - L) / (R + L) of the last complete test of sides",
                  "3.12", "Robinson; Parkinson 2021", ("no_reference",)),
    SummaryMetric("extension_flexion_ratio", "-", 4, "patient", "median over shared 12 degree bins of T_ext / T_flex",
                  "3.13", "Kocjan 2014", ("no_reference",)),
    SummaryMetric("proposed_load_N", "N|N m", 1, "patient", "load for the velocity loss limit after the target reps",
                  "7.6", "docs/adaptive.md", ("wrong_intent", "no_reference")),
    SummaryMetric("proposed_load_low_N", "N|N m", 1, "patient", "lower end of its 90 % interval",
                  "7.6", "docs/adaptive.md", ("wrong_intent", "no_reference")),
    SummaryMetric("proposed_load_high_N", "N|N m", 1, "patient", "upper end of its 90 % interval",
                  "7.6", "docs/adaptive.md", ("wrong_intent", "no_reference")),
)
# fmt: on
"""What is known of a patient after a session, with `streams.core.assessment`."""

METRICS: tuple[RepMetric | SummaryMetric, ...] = OF_REPS + FORESEEN + OF_SETS_AND_SESSIONS + OF_PATIENTS


def metric(name: str, level: Level) -> RepMetric | SummaryMetric:
    """Look up one row. Raises KeyError.

    Examples
    --------
    >>> metric("mean_velocity", "rep").unit
    'm/s|rad/s'
    """
    return _BY_NAME[name, level]


_BY_NAME = {(row.name, row.level): row for row in METRICS}
