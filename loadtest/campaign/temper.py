"""Temper: how a world is, from dull to wild."""

import msgspec

from loadtest.campaign.network import Rates


class Temper(msgspec.Struct, frozen=True, kw_only=True):
    """How a world is: how often something happens before a message, how often a session is good, how messages fare."""

    trouble: float
    good: float
    rates: Rates
    patients: int
    machines: int
    honesty: float
    odd_machines: float
    slow_plans: float
    wandering: float


STEADY = Temper(
    trouble=0.008,
    good=0.93,
    rates=Rates(),
    patients=1,
    machines=1,
    honesty=0.995,
    odd_machines=0.1,
    slow_plans=0.02,
    wandering=0.05,
)
UNSTEADY = Temper(
    trouble=0.025,
    good=0.75,
    rates=Rates(lost=0.003, late=0.003, overtaken=0.02, doubled=0.02),
    patients=1,
    machines=2,
    honesty=0.95,
    odd_machines=0.3,
    slow_plans=0.1,
    wandering=0.3,
)
WILD = Temper(
    trouble=0.12,
    good=0.4,
    rates=Rates(lost=0.03, late=0.02, overtaken=0.08, doubled=0.08),
    patients=3,
    machines=3,
    honesty=0.7,
    odd_machines=0.5,
    slow_plans=0.3,
    wandering=0.6,
)
