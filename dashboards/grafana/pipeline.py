"""Pipeline: whether everything that machines say arrives, in time, and whether anything is put aside."""

from dashboards.grafana.boards import Board, Choice
from dashboards.grafana.influxql import Asked, table
from dashboards.grafana.panels import Shown, Steps
from streams.core.meters import MeterName

MEMORY = "process_resident_memory_bytes"
METER = table("meter")
WHOSE = '"role" =~ /^$role$/ AND $timeFilter'

COMMAND_P99_S = 0.15
"""Of the time from rep to command: what a thousand machines are served within, from the budget."""

MEMORY_BYTES = 512.0 * 1024 * 1024


def _gauge(name: MeterName | str, by: str, alias: str, value: str = 'LAST("value")') -> Asked:
    text = f"SELECT {value} FROM {METER} WHERE \"name\" = '{name}' AND {WHOSE}"
    return Asked(text=f"{text} GROUP BY time($__interval), {by} fill(none)", alias=alias)


def _growth(name: MeterName, by: str, alias: str, *, per_s: bool = False) -> Asked:
    value = 'SUM("increase") * 1000 / $__interval_ms' if per_s else 'SUM("increase")'
    return _gauge(name, by, alias, value)


def _total(name: str, alias: str) -> Asked:
    return Asked(
        text=f'SELECT SUM("increase") FROM {METER} WHERE "name" = \'{name}\' AND {WHOSE}',
        alias=alias,
    )


def _quantiles(name: MeterName, by: str, alias: str) -> Asked:
    return _gauge(name, by, alias, 'MAX("p50") AS "p50", MAX("p90") AS "p90", MAX("p99") AS "p99"')


def _dropped() -> Asked:
    """Ask by how much mosquitto's own count has risen; it begins again at 0 when mosquitto does.

    Every bridge is told the same count, so the rises are added up for each, and the largest sum is taken.
    """
    each = 'GROUP BY "role", "instance"'
    rises = (
        f'SELECT NON_NEGATIVE_DIFFERENCE("value") AS "rise" FROM {METER} '
        f"WHERE \"name\" = 'spineloop_broker_dropped_messages' AND {WHOSE} {each}"
    )
    text = f'SELECT MAX("dropped") FROM (SELECT SUM("rise") AS "dropped" FROM ({rises}) {each})'
    return Asked(text=text, alias="dropped")


ANY: Steps = ((None, "green"), (1.0, "red"))

SHOWN = (
    Shown(
        title="Processes",
        kind="stat",
        means="Processes that wrote their meters in the last minute.",
        red="no process writes: either all are down, or the history is. `docker compose ps` tells which.",
        unit="short",
        asked=(
            Asked(
                text=f'SELECT SUM("up") FROM (SELECT COUNT("value") / COUNT("value") AS "up" FROM {METER} '
                f'WHERE "name" = \'{MEMORY}\' AND {WHOSE} GROUP BY "role", "instance")',
                alias="processes",
            ),
        ),
        steps=((None, "red"), (1.0, "green")),
        width=4,
        height=4,
        window="1m",
        nothing="0",
    ),
    Shown(
        title="Largest lag",
        kind="stat",
        means="Records in the log that a stage or a delivery has not dealt with yet.",
        red="something is too slow or stuck: the panel Lag says which; restart it, or add a process of that role.",
        unit="short",
        asked=(
            Asked(
                text=f'SELECT MAX("value") FROM (SELECT LAST("value") AS "value" FROM {METER} '
                f'WHERE "name" = \'spineloop_lag_records\' AND {WHOSE} GROUP BY "role", "instance", "stage")',
                alias="lag",
            ),
        ),
        steps=((None, "green"), (1_000.0, "orange"), (10_000.0, "red")),
        width=4,
        height=4,
        window="1m",
        nothing="0",
    ),
    Shown(
        title="Dead letters",
        kind="stat",
        means="Messages and records that were put aside because they could not be understood or stored.",
        red="read them with `spineloop dead-letters list`, mend the sender, and redrive them.",
        unit="short",
        asked=(_total("spineloop_dead_letters_total", "dead letters"),),
        steps=ANY,
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="Commands too late",
        kind="stat",
        means="Commands that had expired before they could be sent.",
        red="the downlink or its log was away: look at lag and at refusals.",
        unit="short",
        asked=(_total("spineloop_commands_expired_total", "expired"),),
        steps=ANY,
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="Quarantined",
        kind="stat",
        means="Machines or patients whose state is frozen after a defect of ours.",
        red="a defect: the notice names the key, its dead letters carry the traceback. Mend, then redrive.",
        unit="short",
        asked=(_total("spineloop_quarantined_total", "quarantined"),),
        steps=ANY,
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="Dropped by the broker",
        kind="stat",
        means="Messages that mosquitto had acknowledged and then dropped because a queue was full.",
        red="reps are lost. The bridge was away too long or is too slow: start it, then raise max_queued_messages.",
        unit="short",
        asked=(_dropped(),),
        steps=ANY,
        width=4,
        height=4,
        total="sum",
        nothing="not told",
    ),
    Shown(
        title="Lag",
        kind="line",
        means="Records that wait, by stage. Peaks that drain are no matter.",
        red="a line that only rises is a process that is stuck or too slow: restart it, or add one of its role.",
        unit="short",
        asked=(_gauge("spineloop_lag_records", '"role", "instance", "stage"', "$tag_stage ($tag_role $tag_instance)"),),
        steps=((None, "green"), (1_000.0, "orange"), (10_000.0, "red")),
    ),
    Shown(
        title="From a rep to its command",
        kind="line",
        means="From a rep in the log to its command at the broker: median, 90th and 99th percentile.",
        red=f"the 99th percentile is above {COMMAND_P99_S * 1_000:g} ms: look at the lag of control and at CPU.",
        unit="s",
        asked=(_quantiles("spineloop_rep_to_command_seconds", '"instance"', "$col"),),
        steps=((None, "green"), (0.05, "orange"), (COMMAND_P99_S, "red")),
    ),
    Shown(
        title="Messages from machines",
        kind="line",
        means="Messages per second that are durable in the log and acknowledged, by stream.",
        red="it is not judged; 0 with machines online means that the bridge or its log is away.",
        unit="suffix: messages/s",
        asked=(_growth("spineloop_ingest_messages_total", '"stream"', "$tag_stream", per_s=True),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Window of the bridge",
        kind="line",
        means="Messages taken from the broker but not yet durable; the bridge takes at most 1,000.",
        red="the log is slower than the machines: look at Kafka's disk.",
        unit="short",
        asked=(_gauge("spineloop_ingest_window_messages", '"instance"', "bridge $tag_instance", 'MAX("value")'),),
        steps=((None, "green"), (500.0, "orange"), (900.0, "red")),
    ),
    Shown(
        title="Dropped by the broker, in all",
        kind="line",
        means="mosquitto's own count since it started ($SYS/broker/publish/messages/dropped).",
        red="it rises: see the number above.",
        unit="short",
        asked=(_gauge("spineloop_broker_dropped_messages", '"instance"', "told to bridge $tag_instance"),),
        steps=ANY,
    ),
    Shown(
        title="Dead letters by reason",
        kind="bars",
        means="What was put aside, by where and why.",
        red="`spineloop dead-letters list` shows them; the reason names what is wrong with them.",
        unit="short",
        asked=(_growth("spineloop_dead_letters_total", '"stage", "reason"', "$tag_stage: $tag_reason"),),
        steps=ANY,
    ),
    Shown(
        title="Written to history",
        kind="line",
        means="Points per second that are durable in InfluxDB.",
        red="it is not judged; 0 with reps coming in means that InfluxDB refuses: see refusals.",
        unit="suffix: points/s",
        asked=(_growth("spineloop_points_total", '"instance"', "history $tag_instance", per_s=True),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Refusals",
        kind="bars",
        means="Tries that broker, log or history refused for now; each is repeated until it succeeds.",
        red="the component that is named is away or overloaded: look at its own log.",
        unit="short",
        asked=(_growth("spineloop_busy_total", '"component"', "$tag_component"),),
        steps=((None, "green"), (1.0, "orange"), (100.0, "red")),
    ),
    Shown(
        title="Records and outputs",
        kind="line",
        means="Records per second that stages and deliveries dealt with.",
        red="it is not judged; 0 with a lag is a stuck process.",
        unit="suffix: records/s",
        asked=(_growth("spineloop_records_total", '"stage"', "$tag_stage", per_s=True),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Checkpoints",
        kind="line",
        means="How long a checkpoint takes to be durable, by stage.",
        red="Kafka's disk is slow, or there are more states than one process should have: add one of its role.",
        unit="s",
        asked=(_quantiles("spineloop_checkpoint_seconds", '"stage"', "$tag_stage $col"),),
        steps=((None, "green"), (0.5, "orange"), (2.0, "red")),
    ),
    Shown(
        title="Commands sent",
        kind="bars",
        means="Commands that the broker has taken for machines.",
        red="it is not judged.",
        unit="short",
        asked=(_growth("spineloop_commands_sent_total", '"instance"', "downlink $tag_instance"),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Memory",
        kind="line",
        means="Resident memory of each process; it does not grow with lag.",
        red="a process is above 512 MiB and about to be ended by its container: report it as a defect.",
        unit="bytes",
        asked=(_gauge(MEMORY, '"role", "instance"', "$tag_role $tag_instance", 'MAX("value")'),),
        steps=((None, "green"), (0.8 * MEMORY_BYTES, "orange"), (MEMORY_BYTES, "red")),
    ),
)

PIPELINE = Board(
    uid="pipeline",
    title="Pipeline",
    means="Whether everything that machines say arrives, in time, and whether anything is put aside.",
    shown=SHOWN,
    choices=(
        Choice(
            name="role",
            means="Which processes.",
            query=f'SHOW TAG VALUES FROM {METER} WITH KEY = "role"',
            several=True,
        ),
    ),
    since="now-1h",
)
