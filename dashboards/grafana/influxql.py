"""InfluxQL: queries as Grafana sends them. Flux has no future and is not in 1.x, so nothing else is asked."""

from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

UID = "influx"
"""Of the data source, fixed by its provisioning file, so that a board finds it anywhere."""

MAX_SERIES = 100
"""Series of a panel with one line a machine: more can't be read, and the data source stops at 1,000."""

SILENT_MIN = 5
"""Minutes after which a machine that was not heard is silent; one that runs tells of itself once a minute."""

SILENT = f"{SILENT_MIN}m"

PLACE = '"tenant" =~ /^$tenant$/ AND "site" =~ /^$site$/ AND "machine" =~ /^$machine$/'
"""The machines that are chosen: one, several or all."""

EACH_MACHINE = '"tenant", "site", "machine"'


def source() -> DataSourceRef:
    """Return the reference to our data source."""
    return DataSourceRef(type_val="influxdb", uid=UID)


def table(measurement: str) -> str:
    """Name a measurement with its retention policy: a bucket's default is not ours everywhere.

    Examples
    --------
    >>> table("rep")
    '"raw"."rep"'
    """
    return f'"raw"."{measurement}"'


def doing_now(alias: str) -> str:
    """Ask what each machine is doing now, whatever time is shown, and for nothing where it is not known.

    What a machine says counts for `SILENT_MIN` minutes. Whoever is offline says nothing more, so what was said of it
    last counts, if it was in the time that is shown.
    """
    here = f"FROM {table('machine')} WHERE {PLACE} AND"
    mode = 'SELECT LAST("mode") AS "mode"'
    lately = f"{mode} {here} time > now() - {SILENT} GROUP BY {EACH_MACHINE}"
    last = f'{mode}, LAST("online") AS "online" {here} $timeFilter GROUP BY {EACH_MACHINE}'
    offline = f'SELECT "mode" FROM ({last}) WHERE "online" = 0'
    return f'SELECT LAST("mode") AS "{alias}" FROM ({lately}), ({offline}) GROUP BY {EACH_MACHINE}'


@dataclass(frozen=True, kw_only=True)
class Asked(Dataquery):
    """One query of a panel.

    Parameters
    ----------
    text : str
        InfluxQL with Grafana's variables.
    alias : str
        What a series is called; `$tag_x` is a tag, `$col` the column.
    shape : str
        A table has its tags as columns.
    ref : str
        Name within the panel.
    """

    text: str
    alias: str = ""
    shape: Literal["time_series", "table"] = "time_series"
    ref: str = "A"

    def to_json(self) -> dict[str, object]:
        """Write the query as Grafana's InfluxDB source reads it."""
        told: dict[str, Any] = {
            "datasource": source().to_json(),
            "query": self.text,
            "rawQuery": True,
            "refId": self.ref,
            "resultFormat": self.shape,
        }
        return told | ({"alias": self.alias} if self.alias else {})


@dataclass(frozen=True, kw_only=True)
class Noted(Dataquery):
    """The query of an annotation: a row is a mark; `text_column` is what it says, `tags_column` what it is filed by."""

    text: str
    text_column: str
    tags_column: str

    def to_json(self) -> dict[str, object]:
        """Write the query as Grafana's InfluxDB source reads it."""
        return {
            "datasource": source().to_json(),
            "fromAnnotations": True,
            "query": self.text,
            "rawQuery": True,
            "refId": "Anno",
            "resultFormat": "table",
            "tagsColumn": self.tags_column,
            "textColumn": self.text_column,
            "timeEndColumn": "",
            "titleColumn": "",
        }


class Ready(Builder[Dataquery]):
    """Hands over a query that is ready, where the SDK wants to build one."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """Return it."""
        return self._query
