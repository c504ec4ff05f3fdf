"""View: what the page knows, folded from records of the log. No I/O and no clock; bounded whatever the log holds.

`take` folds a record, in any order between topics. How it is shown is told in `shown.py`.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from dashboards.live import curve, machine
from dashboards.live.curve import Curve
from dashboards.live.machine import MachineView
from dashboards.live.patients import Patients
from streams.core import codec, policy
from streams.core.danger import EARLY
from streams.core.dead_letters import PREFIX, REDRIVE_MARK, reason_of
from streams.core.errors import Malformed
from streams.core.policy import Policy
from streams.core.records import REPLAYED, Record, header
from streams.core.results import CommandClosed, PatientAssessed, RepMeasured, SessionSummarised
from streams.core.topics import COMMAND, DEAD_LETTER, METRIC, PATIENT, TELEMETRY

TOPICS = (TELEMETRY, METRIC, COMMAND, PATIENT, DEAD_LETTER)
"""What the page reads."""

MAX_MACHINES = 5_000
"""Machines that are shown; the one that was heard of longest ago leaves."""

MAX_PATIENTS = 5_000
"""Patients of whom it is known when they changed last; of another it is looked up anew each second."""

MAX_REPS_KNOWN = 10_000
"""Reps that are known when they come again: seconds of a large fleet, hours of a clinic."""

MAX_LETTERS = 200
"""Dead letters that are listed; all that were read are counted."""

RAW_BYTES = 8 * 1024 * 1024
"""Last reps with their samples, of all machines together: for the curve of whichever somebody looks at."""

MAX_CURVES = 64

MAX_DETAIL = 300

NO_REP = (0, b"")
"""Log time in ms and bytes of a rep that is not there."""

_REP = "spineloop.rep.v1"


class Letter(msgspec.Struct, frozen=True):
    """A dead letter: where it is, who could not read it, why, how large it is. Its content stays in the log."""

    place: str
    at_ms: int
    key: str
    stage: str
    reason: str
    detail: str
    source: str
    size: int
    is_defect: bool


class View:
    """What the page knows.

    Parameters
    ----------
    chosen : Policy
        For limits; a command of another policy is told without them.
    raw_bytes : int
        How much of the last reps' samples is kept.

    Attributes
    ----------
    version : int
        Grows with every record; `version_of` says when a machine or a patient changed last.
    """

    def __init__(self, chosen: Policy = policy.DEFAULT, raw_bytes: int = RAW_BYTES) -> None:
        self.version = 0
        self.policy = chosen
        self.counts: Counter[str] = Counter()
        self.last_ms: dict[str, int] = {}
        self.letters: deque[Letter] = deque(maxlen=MAX_LETTERS)
        self.reasons: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.unread = 0
        self.patients = Patients()
        self.digest = policy.digest(chosen)
        self._machines: OrderedDict[str, MachineView] = OrderedDict()
        self._versions: dict[str, int] = {}
        self._patient_versions: OrderedDict[str, int] = OrderedDict()
        self._raw: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._raw_bytes, self._raw_held = raw_bytes, 0
        self._curves: OrderedDict[tuple[str, bytes], Curve | None] = OrderedDict()
        self._reps: OrderedDict[str, None] = OrderedDict()
        self._rep_ms = self._measured_ms = 0

    def __contains__(self, key: str) -> bool:
        return key in self._machines

    def __iter__(self) -> Iterator[MachineView]:
        return iter(self._machines.values())

    def get(self, key: str) -> MachineView | None:
        """Return a machine, None if the page has not heard of it."""
        return self._machines.get(key)

    def version_of(self, name: str) -> int:
        """Return the version at which a machine or a patient changed last; 0 if never, or too long ago to be known."""
        return self._versions.get(name) or self._patient_versions.get(name, 0)

    @property
    def behind_ms(self) -> int:
        """How far the controller is behind the machines, in ms of log time, as far as reps tell."""
        return max(0, self._rep_ms - self._measured_ms)

    def take(self, record: Record) -> None:
        """Fold one record; one that can't be read is counted and passed over.

        What a replay has written again is passed over, too: it is for the history, and its alarms are not of today.
        """
        if header(record, REPLAYED) is not None:
            return
        self.version += 1
        self.counts[record.topic] += 1
        self.last_ms[record.topic] = max(self.last_ms.get(record.topic, 0), record.timestamp_ms)
        fold = FOLDS.get(record.topic)
        try:
            if fold is not None:
                fold(self, record)
        except (Malformed, UnicodeDecodeError):
            self.unread += 1

    def curve(self, key: str) -> Curve | None:
        """Draw the last rep of a machine; None if its samples are not at hand."""
        if key not in self._raw:
            return None
        raw = self._raw[key][1]
        if (key, raw) not in self._curves:
            self._curves[key, raw] = curve.of(key, raw)
            if len(self._curves) > MAX_CURVES:
                self._curves.popitem(last=False)
        return self._curves[key, raw]

    def hear(self, record: Record) -> None:
        """Fold what a machine, the planner or an operator said."""
        key, value = record.key.decode(), record.value or b""
        known = self._of(key)
        if header(record, "ce_type") == _REP:
            if self._is_new(header(record, "ce_id") or ""):
                self._rep_ms = max(self._rep_ms, record.timestamp_ms)
            self._keep_raw(key, record.timestamp_ms, value)
            if known.unit is not None:  # reps are most of the bytes, and nothing else of them is needed here
                self._put(key, machine.alive(known, record.timestamp_ms))
                return
        self._put(key, machine.heard(known, codec.decode_telemetry(key, value), record.timestamp_ms))

    def measure(self, record: Record) -> None:
        """Fold a record of the metric topic."""
        told = codec.decode_metric(record.value or b"")
        if isinstance(told, PatientAssessed):
            self._of_patient(self.patients.assessed(told))
            return
        if isinstance(told, RepMeasured):
            self._measured_ms = max(self._measured_ms, told.at_ms)
        elif isinstance(told, CommandClosed):
            self.commands[told.outcome] += 1
        self._put(told.machine, machine.measured(self._of(told.machine), told))

    def command(self, record: Record) -> None:
        """Fold a command; the same one sent again is no other."""
        told = codec.decode_command(record.value or b"")
        if header(record, EARLY) is None:  # such a STOP is counted when the controller says it
            self.commands["repeated" if "#" in (header(record, "ce_id") or "") else "issued"] += 1
        self._put(told.machine, machine.commanded(self._of(told.machine), told))

    def of_patient(self, record: Record) -> None:
        """Fold a record of the patient topic; only sessions are kept."""
        fact = codec.decode_patient_fact(record.value or b"")
        if isinstance(fact, SessionSummarised):
            self._of_patient(self.patients.summarised(fact))

    def letter(self, record: Record) -> None:
        """Fold a dead letter; one that was put back has been one all the same, and the marks of that are none."""
        if header(record, REDRIVE_MARK) is not None and header(record, PREFIX + "stage") is None:
            return
        why = header(record, PREFIX + "exception.message") or "unknown"
        source = [header(record, PREFIX + name) for name in ("topic", "partition", "offset")]
        self.reasons[reason_of(record)] += 1
        self.letters.appendleft(
            Letter(
                place=f"{record.partition}/{record.offset}",
                at_ms=record.timestamp_ms,
                key=record.key.decode(errors="replace")[:MAX_DETAIL],
                stage=header(record, PREFIX + "stage") or "unknown",
                reason=reason_of(record),
                detail=why.partition(": ")[2][:MAX_DETAIL],
                source="/".join(part for part in source if part is not None),
                size=len(record.value or b""),
                is_defect=header(record, PREFIX + "exception.class.name") == "Defect",
            )
        )

    def _put(self, key: str, news: MachineView) -> None:
        self._machines[key] = news
        self._machines.move_to_end(key)
        self._versions[key] = self.version
        if len(self._machines) > MAX_MACHINES:
            gone, _ = self._machines.popitem(last=False)
            self._versions.pop(gone, None)
            self._raw_held -= len(self._raw.pop(gone, NO_REP)[1])

    def _of(self, key: str) -> MachineView:
        return self._machines.get(key) or MachineView(key)

    def _is_new(self, rep: str) -> bool:
        """Tell whether a rep is heard for the first time; of one that is said again the controller says nothing."""
        if rep in self._reps:
            return False
        self._reps[rep] = None
        if len(self._reps) > MAX_REPS_KNOWN:
            self._reps.popitem(last=False)
        return True

    def _keep_raw(self, key: str, at_ms: int, value: bytes) -> None:
        at_before_ms, before = self._raw.get(key, NO_REP)
        if at_ms < at_before_ms:
            return  # an earlier one, read again
        self._raw[key] = (at_ms, value)
        self._raw.move_to_end(key)
        self._raw_held += len(value) - len(before)
        while self._raw_held > self._raw_bytes:
            self._raw_held -= len(self._raw.popitem(last=False)[1][1])

    def _of_patient(self, patient: str | None) -> None:
        if patient is None:
            return
        name = f"patient {patient}"
        self._patient_versions[name] = self.version
        self._patient_versions.move_to_end(name)
        if len(self._patient_versions) > MAX_PATIENTS:
            self._patient_versions.popitem(last=False)


FOLDS: Mapping[str, Callable[[View, Record], Any]] = {
    TELEMETRY: View.hear,
    METRIC: View.measure,
    COMMAND: View.command,
    PATIENT: View.of_patient,
    DEAD_LETTER: View.letter,
}
"""How each topic is folded."""
