"""Meters: the closed list of what spineloop counts, and the port through which it counts."""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

MeterName = Literal[
    "spineloop_ingest_messages_total",
    "spineloop_ingest_window_messages",
    "spineloop_dead_letters_total",
    "spineloop_records_total",
    "spineloop_records_skipped_total",
    "spineloop_outputs_total",
    "spineloop_checkpoints_total",
    "spineloop_checkpoint_seconds",
    "spineloop_late_checkpoints_total",
    "spineloop_quarantined_total",
    "spineloop_lag_records",
    "spineloop_busy_total",
    "spineloop_points_total",
    "spineloop_points_too_old_total",
    "spineloop_commands_sent_total",
    "spineloop_commands_expired_total",
    "spineloop_reflex_stops_total",
    "spineloop_rep_to_command_seconds",
    "spineloop_broker_dropped_messages",
]


class Meter(msgspec.Struct, frozen=True):
    """Kind, labels and meaning of a meter. Labels are bounded: never a machine, a session or a patient."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


METERS: Mapping[MeterName, Meter] = {
    "spineloop_ingest_messages_total": Meter("counter", ("stream",), "messages durable and acknowledged"),
    "spineloop_ingest_window_messages": Meter("gauge", (), "messages taken but not yet acknowledged"),
    "spineloop_dead_letters_total": Meter("counter", ("stage", "reason"), "messages put aside"),
    "spineloop_records_total": Meter("counter", ("stage",), "records dealt with"),
    "spineloop_records_skipped_total": Meter("counter", ("stage",), "records gone from the log before they were read"),
    "spineloop_outputs_total": Meter("counter", ("stage",), "records made by a stage"),
    "spineloop_checkpoints_total": Meter("counter", ("stage",), "checkpoints written"),
    "spineloop_checkpoint_seconds": Meter("histogram", ("stage",), "from a snapshot until it is durable"),
    "spineloop_late_checkpoints_total": Meter("counter", ("stage",), "checkpoints of replaced workers, repaired"),
    "spineloop_quarantined_total": Meter("counter", ("stage",), "keys frozen after a defect"),
    "spineloop_lag_records": Meter("gauge", ("stage",), "records not dealt with yet"),
    "spineloop_busy_total": Meter("counter", ("component",), "tries that a component refused for now"),
    "spineloop_points_total": Meter("counter", (), "points written to history"),
    "spineloop_points_too_old_total": Meter("counter", (), "points older than history keeps any, so not written"),
    "spineloop_commands_sent_total": Meter("counter", (), "commands acknowledged by the broker"),
    "spineloop_commands_expired_total": Meter("counter", (), "commands not sent because they came too late"),
    "spineloop_reflex_stops_total": Meter("counter", (), "STOPs sent at once, past the log"),
    "spineloop_rep_to_command_seconds": Meter("histogram", (), "from a rep in the log to its command at the broker"),
    "spineloop_broker_dropped_messages": Meter("gauge", (), "messages that the broker took and then dropped"),
}
"""Every meter; dashboards and alerts are checked against this table."""


class Meters(Protocol):
    """Where the shell counts what it did."""

    def count(self, name: MeterName, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter."""

    def set(self, name: MeterName, value: float, **labels: str) -> None:
        """Set a gauge."""

    def observe(self, name: MeterName, value: float, **labels: str) -> None:
        """Add an observation to a histogram."""
