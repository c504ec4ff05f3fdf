"""The alarm of a frozen key: it names a machine, also where the key is a patient's."""

from streams.core import codec
from streams.core.planning import Planner
from streams.core.records import Record
from streams.core.results import Notice, PainReported
from streams.core.topics import PATIENT

FACT = PainReported(
    id="acme/north/m1/b1/7/pain",
    machine="acme/north/m1",
    cause="acme/north/m1/b1/7",
    at_ms=5,
    patient="acme/p1",
    felt="now",
    pain_nrs=4,
)


def alarms(value: bytes | None) -> list[Notice]:
    """Return what is said of a patient who was frozen by a record with this value."""
    said = Planner().alarm(Record(PATIENT, 0, 7, b"acme/p1", value, 1_000), "ZeroDivisionError: division by zero")
    assert not any(b"acme/p1" in record.key for record in said)
    return [notice for record in said if isinstance(notice := codec.decode_metric(record.value or b""), Notice)]


def test_the_alarm_of_a_frozen_patient_names_the_machine_and_not_the_patient() -> None:
    (notice,) = alarms(codec.encode(FACT))
    assert (notice.machine, notice.name, notice.detail) == (
        "acme/north/m1",
        "quarantined",
        "ZeroDivisionError: division by zero",
    )
    assert b"acme/p1" not in codec.encode(notice)


def test_what_is_no_fact_raises_no_alarm_and_no_exception() -> None:
    assert [alarms(value) for value in (None, b"", b"?", codec.encode(FACT)[:-1])] == [[], [], [], []]
