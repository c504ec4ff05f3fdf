"""Exercises: the kinds of machine that the simulated fleet consists of."""

from collections.abc import Mapping

import msgspec

from streams.core.telemetry import Capabilities, PositionUnit, Sign


class Exercise(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of machine: its travel and calibrated window in m or rad, its load range and grid in N or N m.

    `strength_N` is what a typical patient can just move; `inertia_s2` times the load is the moving mass or inertia.
    `side_cells` tells whether each side has its own load cell, `one_sided` whether a session trains one side.
    """

    name: str
    short: str
    unit: PositionUnit
    travel: tuple[float, float]
    window: tuple[float, float]
    strength_N: float
    load_min_N: float
    load_max_N: float
    load_step_N: float
    inertia_s2: float
    concentric_sign: Sign = 1
    force_sign: Sign = 1
    side_cells: bool = False
    one_sided: bool = False

    @property
    def capabilities(self) -> Capabilities:
        """What a machine of this kind says of itself."""
        return Capabilities(
            model=f"sim-{self.short}",
            exercise=self.name,
            position_unit=self.unit,
            load_min_N=self.load_min_N,
            load_max_N=self.load_max_N,
            load_step_N=self.load_step_N,
            travel_lo=self.travel[0],
            travel_hi=self.travel[1],
        )


def _trunk(
    name: str, short: str, window: tuple[float, float], strength_N: float, *, one_sided: bool = False
) -> Exercise:
    return Exercise(
        name=name,
        short=short,
        unit="rad",
        travel=(window[0] - 0.2, window[1] + 0.2),
        window=window,
        strength_N=strength_N,
        load_min_N=10.0,
        load_max_N=500.0,
        load_step_N=2.0,
        inertia_s2=0.03,
        one_sided=one_sided,
    )


def _arms(
    name: str,
    short: str,
    window: tuple[float, float],
    strength_N: float,
    *,
    concentric_sign: Sign = 1,
    force_sign: Sign = 1,
) -> Exercise:
    return Exercise(
        name=name,
        short=short,
        unit="m",
        travel=(0.0, window[1] + 0.15),
        window=window,
        strength_N=strength_N,
        load_min_N=20.0,
        load_max_N=1500.0,
        load_step_N=5.0,
        inertia_s2=0.1,
        concentric_sign=concentric_sign,
        force_sign=force_sign,
        side_cells=True,
    )


EXERCISES: Mapping[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        _trunk("lumbar_extension", "lumbar", (0.0, 1.2), 220.0),
        _trunk("abdominal_flexion", "flexion", (0.0, 0.9), 140.0),
        _trunk("torso_rotation", "rotation", (-0.6, 0.6), 100.0, one_sided=True),
        # the cable of the row winds its encoder backwards, the cell of the press is pushed: both signs must be undone
        _arms("seated_row", "row", (0.05, 0.6), 700.0, concentric_sign=-1),
        _arms("chest_press", "press", (0.05, 0.5), 600.0, force_sign=-1),
    )
}
"""By name. A fleet is built in this order, so that five machines make one circuit."""
