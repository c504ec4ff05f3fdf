"""A recording of days of a small clinic: what the stages say of it does not change unless somebody means it to."""

from collections import Counter

import pytest

from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.digest import Digest
from tests.core import recorded

DIGEST = "cfe218bc708bcb05a4944dbf0dc39d574658847248b1214ea3ace7b756a9f6ed"
"""Names every byte of every output. If it changes, say in the change log what is said otherwise now, and why."""

COUNTS = {COMMAND: 66, METRIC: 1_271, PATIENT: 124, TELEMETRY: 30}


@pytest.mark.parametrize("slice_records", [500, 61])
def test_the_stages_say_of_the_recording_what_they_said_before_byte_for_byte(slice_records: int) -> None:
    digest = Digest()
    for output in recorded.answered(recorded.kept(), slice_records):
        digest.add(output)
    assert (Counter(COUNTS), DIGEST) == (digest.counts, digest.text)


def test_the_recording_holds_the_plans_that_are_made_from_it() -> None:
    plans = {one.key + (one.value or b"") for one in recorded.answered(recorded.kept()) if one.topic == TELEMETRY}
    assert plans <= {one.key + (one.value or b"") for one in recorded.kept()}
