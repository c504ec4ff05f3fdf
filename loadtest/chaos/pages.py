"""Pages: the log read once from end to end, a partition at a time and one process a core, down to names and digests.

Values are compared by their digests, so that the books of a million reps fit into memory.
"""

import asyncio
import multiprocessing
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b

import msgspec

from loadtest.oracle import Hearing, retried
from spineloop import wiring
from spineloop.settings import Settings
from streams.core import codec
from streams.core.controller import Controller
from streams.core.planning import Planner
from streams.core.records import NewRecord, Record, header
from streams.core.results import CommandClosed, RepMeasured
from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.log import Log
from streams.settled import is_answer, is_copy

DIGEST_BYTES = 8
"""Two values of a million have the same digest once in ten million campaigns."""

PREPARED_TOGETHER = 500

Forms = dict[str, bytes]
"""By id: the digests of all different values that were seen, one after the other."""


class Page(msgspec.Struct):
    """What stands in one partition of every topic, and what the stages make of it.

    Attributes
    ----------
    heard : list of str
        Ids of the telemetry, in order, as often as they stand there.
    outputs, expected : dict of str to Forms
        By topic: what stands there, and what a recomputation of this partition's input says.
    overtaken : dict of str to (int, int)
        Telemetry that came after something later of its boot: the latest `seq` of that, and when it came, in ms since
        1970 by the log.
    measured : dict of str to int
        What each measured rep was caused by, and its time in the log in ms since 1970.
    ends : list of (str, str)
        Commands, and how they ended, as often as that was said.
    """

    heard: list[str] = []
    overtaken: dict[str, tuple[int, int]] = {}
    outputs: dict[str, Forms] = {}
    expected: dict[str, Forms] = {}
    measured: dict[str, int] = {}
    ends: list[tuple[str, str]] = []


def digest(value: bytes | None) -> bytes:
    """Return what stands for a value."""
    return blake2b(value or b"", digest_size=DIGEST_BYTES).digest()


def add(forms: Forms, name: str, digests: bytes) -> None:
    """Add the form of a value that is not there yet.

    Examples
    --------
    >>> forms = {}
    >>> for value in (b"a", b"b", b"a"):
    ...     add(forms, "c1", digest(value))
    >>> len(forms["c1"]) // DIGEST_BYTES
    2
    """
    there = forms.setdefault(name, digests)
    if digests not in {there[at : at + DIGEST_BYTES] for at in range(0, len(there), DIGEST_BYTES)}:
        forms[name] = there + digests


async def pages(environment: Mapping[str, str], partitions: int) -> AsyncIterator[Page]:
    """Read every partition of the log that these settings name, in processes of their own; return them as they come."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(partitions, os.cpu_count() or 1), mp_context=context) as pool:
        loop = asyncio.get_running_loop()
        read = [loop.run_in_executor(pool, _read_apart, dict(environment), number) for number in range(partitions)]
        for one in asyncio.as_completed(read):
            yield msgspec.msgpack.decode(await one, type=Page)


def _read_apart(environment: Mapping[str, str], number: int) -> bytes:
    return msgspec.msgpack.encode(asyncio.run(_read(Settings.read(environment), number)))


async def _read(settings: Settings, number: int) -> Page:
    async def once() -> Page:
        async with wiring.open_log(settings, "oracle") as log:
            return await page(log, number, Planner(machines=settings.machine_catalogue()))

    return await retried(once)


async def page(log: Log, number: int, planner: Planner) -> Page:
    """Read one partition of every topic."""
    one = Page(outputs=defaultdict(dict), expected=defaultdict(dict))
    stages = {
        TELEMETRY: Hearing(Controller(), PREPARED_TOGETHER),
        PATIENT: Hearing(planner, PREPARED_TOGETHER),
    }
    latest: dict[str, int] = {}
    for topic in (TELEMETRY, PATIENT, METRIC, COMMAND):
        async for records in log.read(topic, number):
            if topic == TELEMETRY:
                one.heard += [name_of(record) for record in records]
                _note_overtaken(one, latest, records)
            if topic == METRIC:
                _note_metrics(one, records)
            if topic in stages:
                _note(one.expected, stages[topic].hear(records))
            _note(
                one.outputs, (each for each in records if is_answer(each) or (topic != TELEMETRY and not is_copy(each)))
            )
    return one


def name_of(record: Record | NewRecord) -> str:
    """Return the id of a record."""
    return header(record, "ce_id") or ""


def _note_overtaken(one: Page, latest: dict[str, int], records: Iterable[Record]) -> None:
    for record in records:
        place, _, seq = name_of(record).rpartition("/")
        if not seq.isdecimal():
            continue
        if int(seq) < latest.get(place, -1):
            one.overtaken.setdefault(f"{place}/{seq}", (latest[place], record.timestamp_ms))
        else:
            latest[place] = int(seq)


def _note(by_topic: dict[str, Forms], records: Iterable[Record | NewRecord]) -> None:
    for record in records:
        add(by_topic[record.topic], name_of(record), digest(record.value))


def _note_metrics(one: Page, records: Sequence[Record]) -> None:
    for record in records:
        metric = codec.decode_metric(record.value or b"")
        if isinstance(metric, RepMeasured):
            one.measured[metric.cause] = metric.at_ms
        elif isinstance(metric, CommandClosed):
            one.ends.append((metric.command_id, metric.outcome))
