"""Meters that remember, for tests."""

from collections import Counter

from streams.core.meters import MeterName


class Counts:
    """Adds up what was counted, whatever the labels."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()

    def count(self, name: MeterName, amount: float = 1.0, **labels: str) -> None:  # noqa: ARG002
        self.totals[name] += int(amount)

    def set(self, name: MeterName, value: float, **labels: str) -> None:  # noqa: ARG002
        self.totals[name] = int(value)

    def observe(self, name: MeterName, value: float, **labels: str) -> None:  # noqa: ARG002
        self.totals[name] += 1
