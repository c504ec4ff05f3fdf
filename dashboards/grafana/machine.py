"""Machine: the running session rep by rep, and what the loop did about it."""

from dashboards.grafana.boards import Board, Choice, Marks, places
from dashboards.grafana.influxql import PLACE, SILENT_MIN, Asked, Noted, doing_now, table
from dashboards.grafana.panels import MODES, OUTCOMES, PLAIN, SEVERITIES, Shown
from streams.core.policy import DEFAULT

HERE = f"{PLACE} AND $timeFilter"
SESSION = f'{HERE} AND "session" =~ /^$session$/'


def _reps(*fields: str) -> Asked:
    told = ", ".join(f'"{name}"' for name in fields)
    return Asked(text=f'SELECT {told} FROM {table("rep")} WHERE {SESSION} GROUP BY "exercise"', alias="$col")


def _last(measurement: str, field: str) -> Asked:
    return Asked(text=f'SELECT LAST("{field}") FROM {table(measurement)} WHERE {HERE}', alias=field)


SHOWN = (
    Shown(
        title="Doing",
        kind="stat",
        means="What the machine is doing now. Dark grey: it is not known to be offline, and was not heard for "
        f"{SILENT_MIN} minutes.",
        red="it is locked by a STOP: a clinician looks after the patient, then releases it at the machine.",
        unit="string",
        asked=(Asked(text=doing_now("mode"), alias="mode"),),
        words=MODES,
        width=4,
        height=4,
        nothing="nothing heard",
    ),
    Shown(
        title="Load",
        kind="stat",
        means="The load of the last rep, in N, or in N m at machines that turn.",
        red="it is not judged here; the envelope keeps it within the clinician's bounds.",
        unit="suffix: N | N m",
        asked=(_last("rep", "load_N"),),
        steps=((None, "blue"),),
        width=4,
        height=4,
        nothing="no rep",
    ),
    Shown(
        title="Rep of the set",
        kind="stat",
        means="The number of the last rep in its set.",
        red="it is not judged here.",
        unit="short",
        asked=(_last("rep", "rep_number"),),
        steps=((None, "blue"),),
        width=4,
        height=4,
        nothing="no rep",
    ),
    Shown(
        title="Reps left",
        kind="stat",
        means="Reps until the velocity loss that ends the set, as the adaptive model foresees it. "
        "Only where the patient moves as fast as possible.",
        red="none: the set ends by itself; nobody needs to act.",
        unit="short",
        asked=(_last("rep", "reps_left"),),
        steps=((None, "red"), (1.0, "orange"), (3.0, "green")),
        width=4,
        height=4,
        nothing="not foreseen",
    ),
    Shown(
        title="Velocity loss of the last set",
        kind="stat",
        means="Best three reps to the last one (VL3), in percent.",
        red=f"{DEFAULT.vl_stop_pct:g} % or more end the set by the default policy. If sets go on beyond it, look "
        "whether the commands below were applied.",
        unit="percent",
        asked=(_last("set_summary", "velocity_loss_robust_pct"),),
        steps=((None, "green"), (DEFAULT.vl_amber_pct, "orange"), (DEFAULT.vl_stop_pct, "red")),
        width=4,
        height=4,
        nothing="paced",
    ),
    Shown(
        title="Invalid reps",
        kind="stat",
        means="Reps of the chosen sessions that could not be measured.",
        red="look at position and force of the machine: the reasons stand in the table of reps.",
        unit="short",
        asked=(
            Asked(
                text=f'SELECT COUNT("load_N") FROM {table("rep")} WHERE "valid" = false AND {SESSION}',
                alias="invalid",
            ),
        ),
        steps=((None, "green"), (3.0, "orange"), (10.0, "red")),
        width=4,
        height=4,
        total="sum",
        nothing="0",
    ),
    Shown(
        title="Velocity of each rep",
        kind="points",
        means="Mean concentric velocity, in m/s or rad/s. It falls as the patient tires.",
        red="it is not judged by its size; its fall is, in the next panel.",
        unit="suffix: m/s | rad/s",
        asked=(_reps("mean_velocity"),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Velocity loss of each set",
        kind="points",
        means="Best three reps to the last one, against what ends a set by the default policy; "
        "`predicted` is what was expected before the first rep.",
        red="the set should have ended. Look whether END SET was sent and applied, in the tables below.",
        unit="percent",
        asked=(
            Asked(
                text='SELECT "velocity_loss_robust_pct" AS "loss", "predicted_velocity_loss_pct" AS "predicted" '
                f"FROM {table('set_summary')} WHERE {SESSION}",
                alias="$col",
            ),
        ),
        steps=((None, "green"), (DEFAULT.vl_amber_pct, "orange"), (DEFAULT.vl_stop_pct, "red")),
    ),
    Shown(
        title="Range",
        kind="points",
        means="Completeness of each rep: its range in percent of the prescribed window.",
        red="beyond the prescribed range, or far short of it: look at seat and lever. The loop tightens the range, or "
        "gives a cue.",
        unit="percent",
        asked=(_reps("rom_completeness_pct"),),
        steps=((None, "red"), (75.0, "orange"), (DEFAULT.rom_amber_pct, "green"), (DEFAULT.rom_over_pct, "red")),
    ),
    Shown(
        title="Tempo",
        kind="points",
        means="Seconds up, held, and down, of each rep.",
        red="it is not judged by its size; the deviation from what is prescribed is, in the next panel.",
        unit="s",
        asked=(_reps("concentric_time_s", "top_hold_time_s", "eccentric_time_s"),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Deviation from the tempo",
        kind="points",
        means="The larger of the deviations up and down, in percent of what is prescribed.",
        red="the patient hurries or drags. Two hasty reps in a row give a cue by themselves; coach the tempo.",
        unit="percent",
        asked=(_reps("tempo_error_pct"),),
        steps=((None, "green"), (DEFAULT.tempo_tol_pct, "orange"), (50.0, "red")),
    ),
    Shown(
        title="Force",
        kind="points",
        means="Peak and mean force of each rep, and the load; in N, or in N m at machines that turn.",
        red="it is not judged here; a peak far above the own ones stops the machine by itself.",
        unit="suffix: N | N m",
        asked=(_reps("peak_force", "mean_force", "load_N"),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Reps left, with its 90 % interval",
        kind="points",
        means="What the adaptive model foresees after each rep; the interval narrows as it learns the patient.",
        red="below 1: the set ends by itself.",
        unit="short",
        asked=(_reps("reps_left_low", "reps_left", "reps_left_high"),),
        steps=((None, "red"), (1.0, "green")),
    ),
    Shown(
        title="Smoothness",
        kind="points",
        means="Spectral arc length of each rep, up and down; more negative is rougher.",
        red="it is not judged by its size; compare with the patient's own earlier sessions.",
        unit="short",
        asked=(_reps("sparc_concentric", "sparc_eccentric"),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Commands and why",
        kind="table",
        means="What the loop asked the machine for: the rule, its evidence, what changed.",
        red="a STOP locks the machine: docs/rules.md says what each rule looks at.",
        unit="short",
        asked=(
            Asked(
                text='SELECT "action", "rule", "evidence", "load_N_old", "load_N_new", "reps_new", "rest_s_new", '
                f'"cue", "session", "command_id" FROM {table("command")} WHERE {HERE} ORDER BY time DESC LIMIT 100',
                shape="table",
            ),
        ),
        steps=PLAIN,
        words={"stop": "red", "end_exercise": "orange"},
        hidden=("command_id",),
        width=24,
    ),
    Shown(
        title="What became of the commands",
        kind="table",
        means="Each command ends as applied, rejected by the machine with a reason, or expired.",
        red="expired: the machine did not answer. Look whether it is online; if it is, at its firmware.",
        unit="short",
        asked=(
            Asked(
                text='SELECT "action", "rule", "outcome", "reason", "command_id" '
                f"FROM {table('command_closed')} WHERE {HERE} ORDER BY time DESC LIMIT 100",
                shape="table",
            ),
        ),
        words=OUTCOMES,
        hidden=("command_id",),
    ),
    Shown(
        title="Notices",
        kind="table",
        means="What the loop noticed at this machine, the latest first.",
        red="an alarm: docs/dashboards.md says what each name means.",
        unit="short",
        asked=(
            Asked(
                text=f'SELECT "severity", "name", "detail" FROM {table("notice")} WHERE {HERE} '
                "ORDER BY time DESC LIMIT 100",
                shape="table",
            ),
        ),
        words=SEVERITIES,
    ),
    Shown(
        title="Reps",
        kind="table",
        means="The last reps, with the reasons why one was not valid.",
        red="it is not judged.",
        unit="short",
        asked=(
            Asked(
                text='SELECT "session", "set_number", "rep_number", "load_N", "valid", "reasons", "mean_velocity", '
                '"rom_completeness_pct", "tempo_error_pct", "peak_force" '
                f"FROM {table('rep')} WHERE {SESSION} ORDER BY time DESC LIMIT 100",
                shape="table",
            ),
        ),
        width=24,
    ),
)

MACHINE = Board(
    uid="machine",
    title="Machine",
    means="The running session rep by rep, and what the loop did about it.",
    shown=SHOWN,
    choices=(
        *places(several=False),
        Choice(
            name="session",
            means="Which sessions; all of them in the time that is shown.",
            query=f'SELECT DISTINCT("session") FROM (SELECT "session" FROM {table("rep")} '
            f"WHERE {PLACE} AND time > now() - 30d)",
            several=True,
        ),
    ),
    marks=(
        Marks(
            name="Commands",
            color="orange",
            noted=Noted(
                text=f'SELECT "evidence", "action", "rule" FROM {table("command")} WHERE {HERE}',
                text_column="evidence",
                tags_column="action,rule",
            ),
        ),
        Marks(
            name="Alarms",
            color="red",
            noted=Noted(
                text=f'SELECT "detail", "name" FROM {table("notice")} WHERE "severity" = \'alarm\' AND {HERE}',
                text_column="detail",
                tags_column="name",
            ),
        ),
    ),
    since="now-1h",
    refresh="5s",
)
