"""Read the metrics of an embedded log into pandas: one row a repetition, one column a metric.

spineloop demo --seconds 30 --data ./data
python examples/metrics_to_pandas.py ./data
"""

import asyncio
import sys
from pathlib import Path

import pandas as pd

from adaptors.sqlite_log import open_sqlite_log
from spineloop.embedded import PARTITIONS
from streams.core import codec
from streams.core.results import RepMeasured
from streams.core.topics import METRIC


async def reps(data: Path) -> pd.DataFrame:
    """Return every repetition of a log, in the order of each machine; an undefined metric is NaN here."""
    rows = list[dict[str, object]]()
    async with open_sqlite_log(data / "log.db", PARTITIONS) as log:
        for partition in await log.bounds(METRIC):
            async for records in log.read(METRIC, partition):
                for record in records:
                    metric = codec.decode_metric(record.value or b"")
                    if isinstance(metric, RepMeasured):
                        rows.append(_row(metric))
    return pd.DataFrame(rows).drop_duplicates("id").set_index("id")


def _row(rep: RepMeasured) -> dict[str, object]:
    return {
        "id": rep.id,
        "time": pd.Timestamp(rep.at_ms, unit="ms", tz="UTC"),
        "machine": rep.machine,
        "patient": rep.patient,
        "session": rep.session,
        "set": rep.set_number,
        "rep": rep.rep_number,
        "load_N": rep.load_N,
        "valid": rep.valid,
        "reasons": ", ".join(rep.reasons),
        **rep.values,  # noqa: PD011 - no frame
    }


def velocity_loss(frame: pd.DataFrame) -> pd.Series:
    """Return by how many percent the last valid rep of each set is slower than its fastest."""
    sets = frame[frame.valid].groupby(["session", "set"])["mean_velocity"]
    return (100.0 * (1.0 - sets.last() / sets.max())).round(1)


if __name__ == "__main__":
    table = asyncio.run(reps(Path(sys.argv[1])))
    print(table.describe().T[["count", "mean", "std", "min", "max"]].round(3).to_string())
    print(velocity_loss(table).to_string())
