"""Alerts: what somebody is called for. Each asks the history as a panel does, without variables."""

from dataclasses import dataclass, field
from typing import Any, Literal

from dashboards.grafana.influxql import EACH_MACHINE, SILENT, SILENT_MIN, UID, table
from dashboards.grafana.pipeline import MEMORY, METER
from streams.core.meters import MeterName

FOLDER = "spineloop"
EXPRESSION = "__expr__"

When = Literal["OK", "Alerting", "NoData", "KeepLast"]
How = Literal["last", "max", "sum", "mean"]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A query of an alert: what it asks for between two times before now, in s, and what is made of each series."""

    query: str
    since_s: int
    until_s: int = 0
    how: How = "last"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One alert.

    Parameters
    ----------
    uid, title : str
        Its address and its name.
    means, do : str
        What has happened, and what to do about it.
    asked : tuple of Series
        One, or two for `joined`.
    joined : str
        An expression of `$A` and `$B`, numbers per series; empty takes A as it is.
    over : float
        It fires for what lies above.
    lasting : str
        For how long that must hold.
    severity : str
        `critical` wakes somebody, `warning` waits for the morning.
    panel : tuple of (str, str)
        Board and panel that show it.
    no_data, error : str
        What silence, and a query that fails, mean.
    """

    uid: str
    title: str
    means: str
    do: str
    asked: tuple[Series, ...]
    joined: str = ""
    over: float = 0.0
    lasting: str = "1m"
    severity: Literal["critical", "warning"] = "warning"
    panel: tuple[str, str]
    no_data: When = "OK"
    error: Literal["OK", "Alerting", "Error", "KeepLast"] = "KeepLast"
    labels: dict[str, str] = field(default_factory=dict)


def _meter(name: MeterName | str, value: str, by: str, more: str = "") -> str:
    return f"SELECT {value} FROM {METER} WHERE \"name\" = '{name}'{more} AND $timeFilter GROUP BY {by}"


_LAG_OF_EACH = _meter("spineloop_lag_records", 'MEAN("value") AS "lag"', '"stage", "role", "instance"')
_LAG = f'SELECT SUM("lag") FROM ({_LAG_OF_EACH}) GROUP BY "stage"'
"""Records that a stage has to do. Each of its processes tells of its own partitions, so they are added up: in a mean,
one that is stuck would hide behind those that have nothing to do."""

ALERTS = (
    Alert(
        uid="machine-silent",
        title="Machine silent",
        means="{{ $labels.site }}/{{ $labels.machine }} said that it is there, and has not been heard for "
        f"{SILENT_MIN} minutes.",
        do="See whether the machine runs and has network. A machine that was switched off says so and is not silent.",
        asked=(
            Series(
                query=f'SELECT COUNT("online") FROM {table("machine")} WHERE $timeFilter '
                f"GROUP BY time({SILENT}), {EACH_MACHINE} fill(0)",
                since_s=6 * 3_600,
            ),
            Series(
                query=f'SELECT LAST("online") FROM {table("machine")} WHERE $timeFilter GROUP BY {EACH_MACHINE}',
                since_s=6 * 3_600,
            ),
        ),
        joined="$A == 0 && $B == 1",
        lasting="3m",
        panel=("fleet", "What every machine is doing"),
        no_data="OK",  # nobody said anything for 6 hours: the clinic is closed; a process that died has its own alert
    ),
    Alert(
        uid="stop-issued",
        title="STOP issued",
        means="{{ $labels.site }}/{{ $labels.machine }} was told to ramp down and lock.",
        do="Make sure that somebody is with the patient. Read rule and evidence on the machine's board. Only a "
        "clinician releases the machine.",
        asked=(
            Series(
                query=f'SELECT COUNT("command_id") FROM {table("command")} WHERE "action" = \'stop\' AND $timeFilter '
                f"GROUP BY {EACH_MACHINE}",
                since_s=600,
            ),
        ),
        lasting="0s",
        severity="critical",
        panel=("fleet", "STOPs"),
    ),
    Alert(
        uid="command-unacknowledged",
        title="Command not acknowledged",
        means="{{ $labels.site }}/{{ $labels.machine }} did not answer a command, which was sent again.",
        do="Look at the machine: it may go on with what it has. A STOP that is not answered needs somebody at the "
        "machine now.",
        asked=(
            Series(
                query=f'SELECT COUNT("id") FROM {table("notice")} WHERE "name" = \'unacknowledged\' AND $timeFilter '
                f"GROUP BY {EACH_MACHINE}",
                since_s=600,
            ),
        ),
        lasting="0s",
        severity="critical",
        panel=("fleet", "Notices"),
    ),
    Alert(
        uid="dead-letters-rising",
        title="Dead letters rising",
        means="{{ $labels.stage }} puts messages aside: {{ $labels.reason }}.",
        do="`spineloop dead-letters list` shows them. Mend the sender or the release, then redrive them.",
        asked=(
            Series(query=_meter("spineloop_dead_letters_total", 'SUM("increase")', '"stage", "reason"'), since_s=600),
        ),
        panel=("pipeline", "Dead letters by reason"),
    ),
    Alert(
        uid="lag-rising",
        title="Lag rising",
        means="{{ $labels.stage }} has more than 1,000 records to do, and more than five minutes ago.",
        do="Look whether its process runs and its memory and CPU are free; restart it, or add a process of its role.",
        asked=(
            Series(query=_LAG, since_s=600, until_s=300),
            Series(query=_LAG, since_s=300),
        ),
        joined="$B > $A && $B > 1000",
        lasting="5m",
        panel=("pipeline", "Lag"),
    ),
    Alert(
        uid="history-failing",
        title="History failing",
        means="InfluxDB refuses what the history role writes, or does not answer.",
        do="Look at InfluxDB's disk and log. Nothing is lost: the log keeps it, and history catches up.",
        asked=(
            Series(
                query=_meter(
                    "spineloop_busy_total", 'SUM("increase")', '"component"', ' AND "component" =~ /^history/'
                ),
                since_s=600,
            ),
        ),
        severity="critical",
        panel=("pipeline", "Refusals"),
        error="Alerting",  # the one alert that may say that the history itself does not answer
    ),
    Alert(
        uid="server-away",
        title="Broker or log away",
        means="{{ $labels.component }} was refused again and again: `mqtt` and `reflex` want the broker, `log` Kafka.",
        do="Start the server; look at its disk and log. Without the broker only a machine's own button stops it; "
        "without Kafka `reflex` still answers danger, and nothing else is decided.",
        asked=(
            Series(
                query=_meter(
                    "spineloop_busy_total",
                    'SUM("increase")',
                    '"component"',
                    " AND (\"component\" = 'mqtt' OR \"component\" = 'reflex' OR \"component\" = 'log')",
                ),
                since_s=120,
            ),
        ),
        over=3.0,  # one or two are a rebalance, or a restart
        severity="critical",
        panel=("pipeline", "Refusals"),
    ),
    Alert(
        uid="process-silent",
        title="Process silent",
        means="{{ $labels.role }} {{ $labels.instance }} has not written its meters for a minute or more.",
        do="`docker compose ps` tells whether it runs, its log why not. If all are silent, it is InfluxDB.",
        asked=(Series(query=_meter(MEMORY, 'COUNT("value")', 'time(1m), "role", "instance" fill(0)'), since_s=1_800),),
        joined="$A == 0",
        lasting="2m",
        severity="critical",
        panel=("pipeline", "Processes"),
        no_data="Alerting",
    ),
    Alert(
        uid="broker-dropping",
        title="Broker dropping",
        means="mosquitto acknowledged messages and then dropped them, because the queue of a client was full.",
        do="Start the bridge that is away. Machines that keep what they say are asked for it; of others it is lost.",
        asked=(
            Series(
                query=f'SELECT NON_NEGATIVE_DIFFERENCE(LAST("value")) FROM {METER} '
                "WHERE \"name\" = 'spineloop_broker_dropped_messages' AND $timeFilter "
                'GROUP BY time(1m), "instance" fill(previous)',
                since_s=900,
                how="sum",
            ),
        ),
        severity="critical",
        panel=("pipeline", "Dropped by the broker, in all"),
    ),
)


def provisioned(panels: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Return the content of Grafana's alerting file; `panels` holds the number of each board's panel by its title."""
    rules = [_rule(alert, panels[alert.panel]) for alert in ALERTS]
    group = {"orgId": 1, "name": "spineloop", "folder": FOLDER, "interval": "30s", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}


def _rule(alert: Alert, panel: int) -> dict[str, Any]:
    steps = _steps(alert)
    return {
        "uid": alert.uid,
        "title": alert.title,
        "condition": steps[-1]["refId"],
        "data": steps,
        "dashboardUid": alert.panel[0],
        "panelId": panel,
        "noDataState": alert.no_data,
        "execErrState": alert.error,
        "for": alert.lasting,
        "annotations": {
            "summary": alert.means,
            "description": alert.do,
            "runbook": f"docs/dashboards.md#{alert.uid}",
        },
        "labels": {"severity": alert.severity} | alert.labels,
        "isPaused": False,
    }


def _steps(alert: Alert) -> list[dict[str, Any]]:
    """Return query, reduction and threshold: `data` of a rule."""
    steps: list[dict[str, Any]] = []
    for letter, one in zip("AB", alert.asked, strict=False):
        steps.append(_asked(one, f"{letter}0"))
        reduced = {"type": "reduce", "expression": f"{letter}0", "reducer": one.how, "settings": {"mode": "dropNN"}}
        steps.append(_expression(reduced, letter))
    last = "A"
    if alert.joined:
        expression = alert.joined.replace("$A", "${A}").replace("$B", "${B}")
        steps.append(_expression({"type": "math", "expression": expression}, "C"))
        last = "C"
    over = {"evaluator": {"type": "gt", "params": [alert.over]}}
    steps.append(_expression({"type": "threshold", "expression": last, "conditions": [over]}, "D"))
    return steps


def _asked(series: Series, ref: str) -> dict[str, Any]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": series.since_s, "to": series.until_s},
        "datasourceUid": UID,
        "model": {
            "datasource": {"type": "influxdb", "uid": UID},
            "intervalMs": 1_000,
            "maxDataPoints": 43_200,
            "query": series.query,
            "rawQuery": True,
            "refId": ref,
            "resultFormat": "time_series",
        },
    }


def _expression(model: dict[str, Any], ref: str) -> dict[str, Any]:
    where = {"type": EXPRESSION, "uid": EXPRESSION}
    return {"refId": ref, "datasourceUid": EXPRESSION, "model": {"datasource": where, "refId": ref} | model}
