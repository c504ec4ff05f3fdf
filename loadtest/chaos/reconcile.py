"""Reconciliation: the ledger of what was sent against the log, the log against history and against a recomputation.

Pure: books in, findings out. Each finding names its record.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from loadtest.chaos.pages import DIGEST_BYTES, Forms, Page, add
from loadtest.truth import Ledger
from streams.core.commands import Command

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
    pages : sequence of Page
        What stands in the log, partition by partition, and what it should have led to.
    in_history : sequence of str
        The names of the reps there, as often as they stand there.
    """

    ledger: Ledger
    pages: Sequence[Page]
    in_history: Sequence[str]


def reconciled(books: Books) -> Sequence[Finding]:
    """Return everything that must not be."""
    return (
        *_telemetry(books),
        *_measured(books),
        *_outputs(books.pages),
        *_outcomes(books.pages),
        *_effects(books.ledger),
        *_stale(books.ledger),
        *_order(books),
    )


def _telemetry(books: Books) -> Iterable[Finding]:
    """Compare what machines said with the log; a repetition in the log is no fault, its effect would be."""
    there = {name for page in books.pages for name in page.heard}
    for name in books.ledger.published:
        if name not in there:
            yield Finding("lost", "telemetry", name)


def _measured(books: Books) -> Iterable[Finding]:
    published = {name for name, kind in books.ledger.published.items() if kind == "rep"}
    measured = {cause: at_ms for page in books.pages for cause, at_ms in page.measured.items()}
    for name in published - measured.keys():
        yield Finding("lost", "metric", name)
    in_history = Counter(books.in_history)
    for name in sorted(measured.keys() - in_history.keys()):
        yield Finding("lost", "history", f"{name}, of {measured[name]} ms")
    for name, count in in_history.items():
        if count > 1:
            yield Finding("doubled", "history", f"{name}, {count} points")
        if name not in measured:
            yield Finding("differing", "history", f"{name} was never measured")


def _outputs(pages: Sequence[Page]) -> Iterable[Finding]:
    """Compare what was said with what should have been; some of it is in another partition than what led to it."""
    outputs, expected = together(page.outputs for page in pages), together(page.expected for page in pages)
    for topic in outputs.keys() | expected.keys():
        there, due = outputs.get(topic, {}), expected.get(topic, {})
        for name, forms in there.items():
            if len(forms) > DIGEST_BYTES:
                yield Finding("doubled", topic, f"{name} in {len(forms) // DIGEST_BYTES} forms")
            elif name not in due:
                yield Finding("differing", topic, f"{name} is not what the log leads to")
            elif due[name] != forms:
                yield Finding("differing", topic, f"{name} has other bytes")
        for name in due.keys() - there.keys():
            yield Finding("lost", topic, name)


def together(of_pages: Iterable[Mapping[str, Forms]]) -> Mapping[str, Forms]:
    """Join what several pages say by topic."""
    joined: defaultdict[str, Forms] = defaultdict(dict)
    for by_topic in of_pages:
        for topic, forms in by_topic.items():
            for name, digests in forms.items():
                for at in range(0, len(digests), DIGEST_BYTES):
                    add(joined[topic], name, digests[at : at + DIGEST_BYTES])
    return joined


def _outcomes(pages: Sequence[Page]) -> Iterable[Finding]:
    outcomes: defaultdict[str, set[str]] = defaultdict(set)
    for page in pages:
        for command_id, outcome in page.ends:
            outcomes[command_id].add(outcome)
    for command_id, ends in outcomes.items():
        if len(ends) > 1:
            yield Finding("doubled", "command", f"{command_id} ended as {' and '.join(sorted(ends))}")


def _effects(ledger: Ledger) -> Iterable[Finding]:
    for (machine, command_id), count in ledger.effects.items():
        if count > 1:
            yield Finding("doubled", machine, f"{command_id} took effect {count} times")


def _stale(ledger: Ledger) -> Iterable[Finding]:
    """Look for commands that took effect after they had expired, by true time; wrong clocks are no excuse."""
    for machine, commands in ledger.obeyed.items():
        for command in commands:
            late_ms = ledger.obeyed_ms[machine, command.command_id] - command.expires_ms
            if command.action != "stop" and late_ms >= 0:
                yield Finding("stale", machine, f"{command.command_id}, {late_ms} ms too late")


def _order(books: Books) -> Iterable[Finding]:
    """Look for what came out of its order: telemetry that nobody had held back, and commands as they took effect."""
    ledger = books.ledger
    held_back = ledger.delayed | ledger.repaired
    for page in books.pages:
        last: dict[str, int] = {}
        seen: set[str] = set()
        for name in page.heard:
            if name in seen or name not in ledger.published or name in held_back:
                continue
            seen.add(name)
            place, _, seq = name.rpartition("/")
            if int(seq) < last.get(place, -1):
                after, at_ms = page.overtaken.get(name, (last[place], 0))
                yield Finding("out_of_order", "telemetry", f"{name}, of {at_ms} ms, after {after}")
            last[place] = int(seq)
    for machine, commands in ledger.obeyed.items():
        yield from _disordered(machine, commands)


def _disordered(machine: str, commands: Sequence[Command]) -> Iterable[Finding]:
    last: Counter[str] = Counter()
    for command in commands:
        if command.action == "stop":  # may overtake, by design
            continue
        if command.sequence < last[command.boot_id]:
            yield Finding("out_of_order", machine, command.command_id)
        last[command.boot_id] = max(last[command.boot_id], command.sequence)
