"""Reconciliation: the ledger of what was sent against the log, the log against history and against a recomputation.

Pure: books in, findings out. Each finding names its record.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from loadtest.oracle import Said
from loadtest.truth import Ledger
from streams.core import codec
from streams.core.commands import Command
from streams.core.records import Record, header
from streams.core.results import CommandClosed, Metric, RepMeasured

Kind = Literal["lost", "doubled", "stale", "out_of_order", "differing"]


class Finding(msgspec.Struct, frozen=True):
    """Something that must not be: what kind, where, and the id of the record that it is about."""

    kind: Kind
    where: str
    record: str


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """All that was written down by the end of a run.

    Parameters
    ----------
    ledger : Ledger
        What the machines said, heard and did.
    skew_ms : mapping of str to int
        How much each machine's clock is ahead of the log's.
    telemetry, metrics : sequence of Record
        What stands in the log, partition by partition, in order.
    outputs : mapping
        Values of every output in the log by topic and id, each once in every different form.
    expected : mapping
        Value of every output by topic and id, as recomputed from the telemetry.
    reps_in_history : int
        Points.
    """

    ledger: Ledger
    skew_ms: Mapping[str, int]
    telemetry: Sequence[Record]
    metrics: Sequence[Record]
    outputs: Mapping[tuple[str, str | None], frozenset[bytes | None]]
    expected: Said
    reps_in_history: int


def reconciled(books: Books) -> Sequence[Finding]:
    """Return everything that must not be."""
    metrics = [codec.decode_metric(record.value or b"") for record in books.metrics]
    return (
        *_telemetry(books),
        *_measured(books, metrics),
        *_outputs(books),
        *_outcomes(metrics),
        *_effects(books.ledger),
        *_stale(books),
        *_order(books),
    )


def _telemetry(books: Books) -> Iterable[Finding]:
    """Compare what machines said with the log; a repetition in the log is no fault, its effect would be."""
    there = {header(record, "ce_id") for record in books.telemetry}
    for name in books.ledger.published:
        if name not in there:
            yield Finding("lost", "telemetry", name)


def _measured(books: Books, metrics: Sequence[Metric]) -> Iterable[Finding]:
    published = {name for name, kind in books.ledger.published.items() if kind == "rep"}
    measured = {metric.cause for metric in metrics if isinstance(metric, RepMeasured)}
    for name in published - measured:
        yield Finding("lost", "metric", name)
    in_history = books.reps_in_history
    if in_history < len(published):
        yield Finding("lost", "history", f"{len(published) - in_history} of {len(published)} reps")
    if in_history > len(measured):
        yield Finding("doubled", "history", f"{in_history} points of {len(measured)} reps")


def _outputs(books: Books) -> Iterable[Finding]:
    for (topic, name), values in books.outputs.items():
        if len(values) > 1:
            yield Finding("doubled", topic, f"{name} in {len(values)} forms")
        elif (topic, name) not in books.expected:
            yield Finding("differing", topic, f"{name} is not what the log leads to")
        elif books.expected[topic, name] not in values:
            yield Finding("differing", topic, f"{name} has other bytes")
    for topic, name in books.expected.keys() - books.outputs.keys():
        yield Finding("lost", topic, str(name))


def _outcomes(metrics: Sequence[Metric]) -> Iterable[Finding]:
    outcomes: defaultdict[str, set[str]] = defaultdict(set)
    for metric in metrics:
        if isinstance(metric, CommandClosed):
            outcomes[metric.command_id].add(metric.outcome)
    for command_id, ends in outcomes.items():
        if len(ends) > 1:
            yield Finding("doubled", "command", f"{command_id} ended as {' and '.join(sorted(ends))}")


def _effects(ledger: Ledger) -> Iterable[Finding]:
    for (machine, command_id), count in ledger.effects.items():
        if count > 1:
            yield Finding("doubled", machine, f"{command_id} took effect {count} times")


def _stale(books: Books) -> Iterable[Finding]:
    """Look for commands that took effect although they reached their machine after they had expired, by true time."""
    for machine, commands in books.ledger.obeyed.items():
        for command in commands:
            heard_ms = books.ledger.heard_ms[machine, command.command_id] - books.skew_ms.get(machine, 0)
            if command.action != "stop" and heard_ms >= command.expires_ms:
                yield Finding("stale", machine, f"{command.command_id}, {heard_ms - command.expires_ms} ms too late")


def _order(books: Books) -> Iterable[Finding]:
    """Look for what came out of its order: telemetry that nobody had held back, and commands as they took effect."""
    last: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    held_back = books.ledger.delayed | books.ledger.repaired
    for record in books.telemetry:
        name = header(record, "ce_id") or ""
        place, _, seq = name.rpartition("/")
        if name in seen or name not in books.ledger.published or name in held_back:
            continue
        seen.add(name)
        key = (record.key.decode(), place)
        if int(seq) < last.get(key, -1):
            yield Finding("out_of_order", "telemetry", name)
        last[key] = int(seq)
    for machine, commands in books.ledger.obeyed.items():
        yield from _disordered(machine, commands)


def _disordered(machine: str, commands: Sequence[Command]) -> Iterable[Finding]:
    last: Counter[str] = Counter()
    for command in commands:
        if command.action == "stop":  # may overtake, by design
            continue
        if command.sequence < last[command.boot_id]:
            yield Finding("out_of_order", machine, command.command_id)
        last[command.boot_id] = max(last[command.boot_id], command.sequence)
