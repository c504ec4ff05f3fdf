"""Catalogue: every metric with its unit, its precision, its formula, where that comes from, and what computes it.

A name ends in its unit where that is the same on every machine: `_s`, `_pct`, `_J`, `_W`. A length or a force follows
the machine, m or rad and N or N m as the rep's `position_unit` says, so its name has no unit and `unit` shows both.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from streams.core import kinematics, kinetics
from streams.core.kinematics import Column
from streams.core.segmentation import Phases

Level = Literal["rep", "set", "session"]
Need = Literal["force", "no_gap"]


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
        What it is a property of: a rep, a set or a session.
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


# A table is read by its columns.
# fmt: off
OF_REPS: tuple[RepMetric, ...] = (
    RepMetric("range_of_motion", "m|rad", 5, "rep", "|x_end - x_start| of the concentric: net, not path",
              "3", "default", kinematics.range_of_motion),
    RepMetric("rom_completeness_pct", "%", 3, "rep", "100 R / R_ref, R_ref the prescribed window",
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
              "3.5", "Sanchez-Medina 2010", kinematics.mean_velocity, ("no_gap",)),
    RepMetric("peak_velocity", "m/s|rad/s", 5, "rep", "max v of the concentric; not for velocity loss",
              "3.5", "Sanchez-Medina 2010", kinematics.peak_velocity, ("no_gap",)),
    RepMetric("mean_propulsive_velocity", "m/s|rad/s", 5, "rep", "mean v of the concentric where F >= 5 % of the load",
              "3.5", "default", kinematics.mean_propulsive_velocity, ("force", "no_gap")),
    RepMetric("concentric_work_J", "J", 3, "rep", "sum of (F+[k] + F+[k+1]) / 2 (x[k+1] - x[k]), F+ = max(F, 0)",
              "3.7", "Ciccone 2017", kinetics.concentric_work, ("force", "no_gap")),
    RepMetric("concentric_power_W", "W", 3, "rep", "concentric work / T",
              "3.7", "Ciccone 2017", kinetics.concentric_power, ("force", "no_gap")),
    RepMetric("peak_force", "N|N m", 2, "rep", "max F of the concentric",
              "3.10", "default", kinetics.peak_force, ("force",)),
    RepMetric("mean_force", "N|N m", 2, "rep", "mean F of the concentric",
              "3.10", "default", kinetics.mean_force, ("force",)),
)
"""What `measure` computes, in the order in which it is stored."""

OF_SETS_AND_SESSIONS: tuple[Metric, ...] = (
    Metric("best_mean_velocity", "m/s|rad/s", 6, "set", "max V of the valid reps",
           "3.6", "encoder convention"),
    Metric("velocity_loss_pct", "%", 6, "set", "100 (1 - V_n / max V): best to last",
           "3.6", "Sanchez-Medina 2011"),
    Metric("velocity_loss_last_two_pct", "%", 6, "set", "100 (1 - (V_n-1 + V_n) / (2 max V)): best to last two",
           "3.6", "Sanchez-Medina 2011"),
    Metric("velocity_loss_robust_pct", "%", 6, "set", "100 (1 - V_n / mean of the three largest V): VL3, decides",
           "3.6", "measured"),
    Metric("rom_decay_pct", "%", 6, "set", "100 (1 - mean(R last 2) / median(R first 3))",
           "3", "default"),
    Metric("rom_cv_pct", "%", 6, "set", "100 SD(R) / mean(R), sample SD",
           "3", "measured"),
    Metric("time_under_load_s", "s", 6, "set", "sum over the valid reps",
           "3", "Kieser"),
    Metric("work_J", "J", 6, "set", "sum of concentric work over the valid reps",
           "3.7", "Ciccone 2017"),
    Metric("best_peak_force", "N|N m", 6, "set", "max peak force of the valid reps",
           "3.10", "default"),
    Metric("rom_completeness_min_pct", "%", 6, "session", "min completeness of the valid reps",
           "7.2", "default; Steele 2013"),
    Metric("tempo_error_median_pct", "%", 6, "session", "median tempo error of the valid reps",
           "7.2", "default"),
    Metric("velocity_loss_max_pct", "%", 6, "session", "max VL3 at the end of a set",
           "7.2", "measured"),
    Metric("tul_last_set_s", "s", 6, "session", "time under load of the last set",
           "7.2", "Kieser"),
    Metric("work_J", "J", 6, "session", "sum of concentric work over the valid reps",
           "3.7", "Ciccone 2017"),
)
"""What is made of the reps of a set and the sets of a session, with `streams.core.fatigue`."""
# fmt: on

METRICS: tuple[Metric, ...] = OF_REPS + OF_SETS_AND_SESSIONS


def metric(name: str, level: Level) -> Metric:
    """Look up one row. Raises KeyError.

    Examples
    --------
    >>> metric("mean_velocity", "rep").unit
    'm/s|rad/s'
    """
    return _BY_NAME[name, level]


_BY_NAME = {(row.name, row.level): row for row in METRICS}
