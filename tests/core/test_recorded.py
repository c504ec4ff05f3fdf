"""A recording of days of a small clinic: what the stages say of it does not change unless somebody means it to."""

from collections import Counter

import pytest

from streams.core.topics import COMMAND, METRIC, PATIENT, TELEMETRY
from streams.digest import Digest
from tests.core import recorded

DIGEST = "55c66dab737454dadbf91fefc201633e143676d1aefc2b4da22ae4261ae8aaa8"
"""Names every byte of every output. If it changes, say in the change log what is said otherwise now, and why."""

COUNTS = {COMMAND: 90, METRIC: 1_290, PATIENT: 137, TELEMETRY: 31}


@pytest.mark.parametrize("slice_records", [500, 61])
def test_the_stages_say_of_the_recording_what_they_said_before_byte_for_byte(slice_records: int) -> None:
    digest = Digest()
    for output in recorded.answered(recorded.kept(), slice_records):
        digest.add(output)
    assert (Counter(COUNTS), DIGEST) == (digest.counts, digest.text)
