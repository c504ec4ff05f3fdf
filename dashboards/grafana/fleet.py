"""Fleet: which machines are there, what they are doing, and where somebody is needed."""

from dashboards.grafana.boards import Board, places
from dashboards.grafana.influxql import EACH_MACHINE, MAX_SERIES, PLACE, SILENT, SILENT_MIN, Asked, doing_now, table
from dashboards.grafana.panels import ALERT_WHEN_ANY, MODES, SEVERITIES, Shown

TO_MACHINE = (
    "/d/machine?var-tenant=${__data.fields.tenant}&var-site=${__data.fields.site}"
    "&var-machine=${__data.fields.machine}&${__url_time_range}"
)
"""The board of the machine in this row of a table."""

LINK = (("machine", "Look at this machine", TO_MACHINE),)


def _sum_of_last(name: str) -> Asked:
    last = f'SELECT LAST("{name}") AS "{name}" FROM {table("machine")} WHERE {PLACE} AND $timeFilter'
    return Asked(text=f'SELECT SUM("{name}") FROM ({last} GROUP BY {EACH_MACHINE})', alias=name)


def _count(measurement: str, field: str, where: str, alias: str) -> Asked:
    text = f'SELECT COUNT("{field}") FROM {table(measurement)} WHERE {where} AND {PLACE} AND $timeFilter'
    return Asked(text=text, alias=alias)


def _doing() -> Asked:
    """Ask what machines are doing, and for nothing where it is not known.

    What a machine says counts for a while: how long in the past is up to the panel (`silent_min`), and the last word
    counts until now, or the minutes that have just begun would be empty until it speaks. Whoever is offline says
    nothing more, so what was said of it counts until it is back.
    """
    here = f"FROM {table('machine')} WHERE {PLACE} AND"
    each = f"GROUP BY time($__interval), {EACH_MACHINE}"
    mode = 'SELECT LAST("mode") AS "mode"'
    lately = f"{mode} {here} time > now() - {SILENT} AND time <= now() {each} fill(previous)"
    carried = f'{mode}, LAST("online") AS "online" {here} $timeFilter {each} fill(previous)'
    offline = f'SELECT "mode" FROM ({carried}) WHERE "online" = 0'
    return Asked(
        text=f'SELECT LAST("mode") FROM {table("machine")}, ({lately}), ({offline}) WHERE {PLACE} AND $timeFilter '
        f"{each} fill(null) SLIMIT {MAX_SERIES}",
        alias="$tag_site/$tag_machine",
    )


SHOWN = (
    Shown(
        title="Machines online",
        kind="stat",
        means="Machines that were heard in the last five minutes and said that they are there.",
        red="no machine reaches us: look at the broker and at the bridge on the board Pipeline, then at the network.",
        unit="short",
        asked=(_sum_of_last("online"),),
        steps=((None, "red"), (1.0, "green")),
        width=4,
        height=4,
        window=SILENT,
        nothing="0",
    ),
    Shown(
        title="In session",
        kind="stat",
        means="Machines at which somebody is training now.",
        red="it never is; this number is for planning a restart when nobody trains.",
        unit="short",
        asked=(_sum_of_last("in_session"),),
        steps=((None, "blue"),),
        width=4,
        height=4,
        window=SILENT,
        nothing="0",
    ),
    Shown(
        title="Locked",
        kind="stat",
        means="Machines that a STOP has locked. Only a clinician releases them, at the machine.",
        red="send a clinician; the reason is the last STOP on the machine's board.",
        unit="short",
        asked=(_sum_of_last("locked"),),
        steps=ALERT_WHEN_ANY,
        width=4,
        height=4,
        window=SILENT,
        nothing="0",
    ),
    Shown(
        title="Alarms",
        kind="stat",
        means="Notices of severity alarm: unacknowledged commands, quarantined machines.",
        red="read them in the table of notices below and go to the machine that they name.",
        unit="short",
        asked=(_count("notice", "id", "\"severity\" = 'alarm'", "alarms"),),
        steps=ALERT_WHEN_ANY,
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="STOPs",
        kind="stat",
        means="Commands to stop and lock a machine, in the time that is shown.",
        red="each names its rule and evidence on the machine's board; make sure that somebody is with the patient.",
        unit="short",
        asked=(_count("command", "command_id", "\"action\" = 'stop'", "STOPs"),),
        steps=ALERT_WHEN_ANY,
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="Reps invalid",
        kind="stat",
        means="Reps that could not be measured, in the time that is shown; see `valid` of the rep in the history.",
        red="a machine's sensor or its settings are wrong: compare machines on their boards, then calibrate.",
        unit="short",
        asked=(_count("rep", "load_N", '"valid" = false', "invalid"),),
        steps=((None, "green"), (20.0, "orange"), (100.0, "red")),
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="What every machine is doing",
        kind="states",
        means=f"Grey is offline, dark grey silent for more than {SILENT_MIN} minutes, red locked, green lifting. "
        f"At most {MAX_SERIES} machines: choose a site for others.",
        red="the machine is locked by a STOP: send a clinician. Grey in the middle of green is a lost connection.",
        unit="string",
        asked=(_doing(),),
        steps=((None, "text"),),
        words=MODES,
        every="2m",  # it is the most expensive query: as many points again cost as much again
        silent_min=SILENT_MIN,
        nothing="silent",
        width=24,
        height=12,
    ),
    Shown(
        title="Reps per second",
        kind="line",
        means="Reps that were measured and stored, of all machines that are chosen.",
        red="it is not judged; if it falls to 0 while machines are in session, look at lag on the board Pipeline.",
        unit="suffix: reps/s",
        asked=(
            Asked(
                text=f'SELECT COUNT("load_N") * 1000 / $__interval_ms FROM {table("rep")} '
                f"WHERE {PLACE} AND $timeFilter GROUP BY time($__interval) fill(0)",
                alias="reps/s",
            ),
        ),
        steps=((None, "green"),),
    ),
    Shown(
        title="Commands by rule",
        kind="bars",
        means="Which rules acted how often. Every command is an easing but `prescribe`, which opens a session.",
        red="it is not judged; one rule that suddenly dominates is a machine to calibrate or a policy to review.",
        unit="short",
        asked=(
            Asked(
                text=f'SELECT COUNT("command_id") FROM {table("command")} '
                f'WHERE {PLACE} AND $timeFilter GROUP BY time($__interval), "rule" fill(none)',
                alias="$tag_rule",
            ),
        ),
        steps=((None, "green"),),
    ),
    Shown(
        title="Last values of every machine",
        kind="table",
        means="What each machine is doing now, dark grey if it is silent, and what it did last. The name leads to its "
        "board.",
        red="a locked machine waits for a clinician.",
        unit="short",
        asked=(
            Asked(text=doing_now("doing"), shape="table"),
            Asked(
                text='SELECT LAST("session") AS "session", LAST("online") AS "online" '  # a row of the silent, too
                f"FROM {table('machine')} WHERE {PLACE} AND $timeFilter GROUP BY {EACH_MACHINE}",
                shape="table",
            ),
            Asked(
                text='SELECT LAST("load_N") AS "load, N or N m", LAST("rep_number") AS "rep", '
                'LAST("mean_velocity") AS "velocity", LAST("peak_force") AS "peak force" '
                f"FROM {table('rep')} WHERE {PLACE} AND $timeFilter GROUP BY {EACH_MACHINE}",
                shape="table",
            ),
        ),
        words=MODES,
        silent="doing",
        width=12,
        height=12,
        links=LINK,
        hidden=("online",),
    ),
    Shown(
        title="Notices",
        kind="table",
        means="Warnings and alarms, the latest first.",
        red="an alarm: docs/dashboards.md says what each name means; the machine's name leads to its board.",
        unit="short",
        asked=(
            Asked(
                text='SELECT "tenant", "site", "machine", "severity", "name", "detail" '
                f'FROM {table("notice")} WHERE "severity" =~ /^(warning|alarm)$/ AND {PLACE} AND $timeFilter '
                "ORDER BY time DESC LIMIT 200",
                shape="table",
            ),
        ),
        words=SEVERITIES,
        width=12,
        height=12,
        links=LINK,
    ),
)

FLEET = Board(
    uid="fleet",
    title="Fleet",
    means="Which machines are there, what they are doing, and where somebody is needed.",
    shown=SHOWN,
    choices=places(several=True),
)
