"""Patient: how it goes over weeks, and why the next session is prescribed as it is. Pseudonyms only."""

from dashboards.grafana.boards import Board, Choice
from dashboards.grafana.influxql import Asked, table
from dashboards.grafana.panels import PLAIN, Shown
from streams.core.policy import DEFAULT

WHO = '"patient" = \'$patient\' AND "tenant" =~ /^$tenant$/'
HERE = f'{WHO} AND "exercise" =~ /^$exercise$/ AND $timeFilter'
AT_MACHINES = '"machine" =~ /^$machine$/'
"""Only the machines of the patient: patients and sessions are fields, which are compared row by row, of 10 million
points in a second. Machines are tags, and of these there are few. The list of sessions is compared last of all."""

TOLD = (
    '"rule", "evidence", "prescribed_load_N", "prescribed_reps", "prescribed_sets", "prescribed_window_lo", '
    '"prescribed_window_hi", "prescribed_rest_s", "machine"'
)
BY_EXERCISE = 'GROUP BY "exercise", "side"'
NAMED = "$tag_exercise, $tag_side: $col"


def _sessions(*told: str, measurement: str = "session_summary", where: str = "") -> Asked:
    condition = f"{where} AND {HERE}" if where else HERE
    text = f"SELECT {', '.join(told)} FROM {table(measurement)} WHERE {condition} {BY_EXERCISE}"
    return Asked(text=text, alias=NAMED)


def _weekly(field: str, alias: str, where: str = "") -> Asked:
    condition = f"{where} AND {HERE}" if where else HERE
    return Asked(
        text=f'SELECT COUNT("{field}") FROM {table("session_summary")} WHERE {condition} GROUP BY time(7d) fill(0)',
        alias=alias,
    )


def _last(measurement: str, field: str) -> Asked:
    return Asked(text=f'SELECT LAST("{field}") FROM {table(measurement)} WHERE {HERE}', alias=field)


SHOWN = (
    Shown(
        title="Sessions",
        kind="stat",
        means="Sessions in the time that is shown.",
        red="it is not judged here; see attendance below.",
        unit="short",
        asked=(Asked(text=f'SELECT COUNT("session") FROM {table("session_summary")} WHERE {HERE}', alias="sessions"),),
        steps=((None, "blue"),),
        width=6,
        height=4,
        nothing="0",
    ),
    Shown(
        title="Detectable change of strength",
        kind="stat",
        means="In percent of the patient's own baseline; 0 while the change is within the error of measurement.",
        red="strength has fallen by more than the measurement can be wrong: look at pain and load, ask the patient.",
        unit="percent",
        asked=(_last("patient", "detectable_change_pct"),),
        steps=((None, "red"), (-0.001, "text"), (0.001, "green")),
        width=6,
        height=4,
        nothing="still learning",
    ),
    Shown(
        title="Highest pain of the last session",
        kind="stat",
        means="Numeric rating scale, 0 to 10.",
        red=f"above {DEFAULT.pain_stop} the exercise was ended; the next load is cut. See the patient before the next "
        "session.",
        unit="short",
        asked=(_last("session_summary", "pain_max"),),
        steps=((None, "green"), (float(DEFAULT.pain_caution), "orange"), (DEFAULT.pain_stop + 1.0, "red")),
        width=6,
        height=4,
        nothing="not reported",
    ),
    Shown(
        title="Load in force",
        kind="stat",
        means="What the last session left as the load, in N, or in N m at machines that turn.",
        red="it is not judged; only a clinician raises its bound.",
        unit="suffix: N | N m",
        asked=(_last("patient", "load_N"),),
        steps=((None, "blue"),),
        width=6,
        height=4,
        nothing="nothing prescribed",
    ),
    Shown(
        title="Strength against what can be detected",
        kind="points",
        means="The trend in percent of the patient's own baseline, with the band in which a difference to the "
        "baseline is not detectable (100 less and plus the minimal detectable change).",
        red="below the band the loss of strength is real. It is not judged while the trend is inside the band.",
        unit="percent",
        asked=(
            _sessions('"strength_trend_pct" AS "trend"', measurement="patient"),
            _sessions(
                '100 - "minimal_detectable_change_pct" AS "lower end"',
                '100 + "minimal_detectable_change_pct" AS "upper end"',
                measurement="patient",
            ),
        ),
        steps=((None, "text"),),
        width=24,
        height=10,
    ),
    Shown(
        title="Best peak force of each session",
        kind="points",
        means="What the trend is made of, in N, or in N m at machines that turn.",
        red="it is not judged by its size; the trend above is.",
        unit="suffix: N | N m",
        asked=(_sessions('"best_peak_force"'),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Load: prescribed and held",
        kind="points",
        means="What was prescribed and what was in force at the end; lower at the end means that it was eased.",
        red="it is not judged; the reasons stand in the table of prescriptions.",
        unit="suffix: N | N m",
        asked=(_sessions('"prescribed_load_N" AS "prescribed"', '"load_N" AS "at the end"'),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Balance of back and front",
        kind="points",
        means="Extension over flexion, each by its best test. What is usual depends on the machines (machines.toml).",
        red="it is not red by itself: norms belong to machines. A notice `balance` tells when it has left the norm.",
        unit="short",
        asked=(_sessions('"extension_flexion_ratio"', measurement="patient"),),
        steps=((None, "green"),),
    ),
    Shown(
        title="Balance of left and right",
        kind="points",
        means="Symmetry index in percent, positive when the right side is stronger.",
        red=f"more than {DEFAULT.si_pct:g} % to one side. In {DEFAULT.si_sessions} sessions in a row it becomes a "
        "suggestion to the clinician; exercise the weaker side.",
        unit="percent",
        asked=(
            _sessions('"symmetry_index_pct" AS "of the session"'),
            _sessions('"symmetry_index_pct" AS "last complete test"', measurement="patient"),
        ),
        steps=((None, "red"), (-DEFAULT.si_pct, "green"), (DEFAULT.si_pct, "red")),
    ),
    Shown(
        title="Pain and exertion",
        kind="points",
        means="The highest pain (0 to 10) and the highest exertion of each session.",
        red=f"pain above {DEFAULT.pain_stop}: the exercise was ended and the load is cut. See the patient.",
        unit="short",
        asked=(_sessions('"pain_max" AS "pain"', '"rpe_max" AS "exertion"'),),
        steps=(
            (None, "green"),
            (float(DEFAULT.pain_caution), "orange"),
            (DEFAULT.pain_stop + 1.0, "red"),
        ),
    ),
    Shown(
        title="Attendance",
        kind="bars",
        means="Sessions in each week, and those of them in which all sets were done.",
        red="a week without a session: after two weeks the load is cut by itself; call the patient.",
        unit="short",
        asked=(_weekly("session", "sessions"), _weekly("sets", "all sets done", '"all_sets_done" = true')),
        steps=((None, "red"), (1.0, "green")),
    ),
    Shown(
        title="Prescriptions and why",
        kind="table",
        means="What the planner prescribed, by which rule and on what evidence. Only it ever raises anything.",
        red="it is not judged; docs/rules.md says what each rule asks for.",
        unit="short",
        asked=(
            Asked(
                text=f'SELECT {TOLD} FROM (SELECT {TOLD}, "session" FROM {table("command")} '  # see AT_MACHINES
                f'WHERE "action" = \'prescribe\' AND "tenant" =~ /^$tenant$/ AND {AT_MACHINES} AND $timeFilter) '
                'WHERE "session" =~ /^$session$/ ORDER BY time DESC LIMIT 200',
                shape="table",
            ),
        ),
        steps=PLAIN,
        width=24,
    ),
    Shown(
        title="Sessions, one by one",
        kind="table",
        means="What was done, how it ended, and which rules acted how often.",
        red="it is not judged; `incomplete` means that messages were lost, so that the session decides nothing.",
        unit="short",
        asked=(
            Asked(
                text='SELECT "machine", "exercise", "side", "sets", "reps", "valid_reps", "load_N", "pain_max", '
                '"rpe_max", "ended_by", "all_sets_done", "incomplete", "rules_fired", "undefined", "session" '
                f"FROM {table('session_summary')} WHERE {AT_MACHINES} AND {HERE} ORDER BY time DESC LIMIT 200",
                shape="table",
            ),
        ),
        steps=PLAIN,
        width=24,
    ),
)

PATIENT = Board(
    uid="patient",
    title="Patient",
    means="How it goes over weeks, and why the next session is prescribed as it is. Patients are pseudonyms.",
    shown=SHOWN,
    choices=(
        Choice(
            name="tenant",
            means="Who treats the patient.",
            query=f'SHOW TAG VALUES FROM {table("session_summary")} WITH KEY = "tenant"',
        ),
        Choice(
            name="patient",
            means="A pseudonym.",
            query=f'SELECT DISTINCT("patient") FROM (SELECT "patient" FROM {table("session_summary")} '
            'WHERE "tenant" =~ /^$tenant$/ AND time > now() - 730d)',
        ),
        Choice(
            name="exercise",
            means="Which exercises.",
            query=f'SHOW TAG VALUES FROM {table("session_summary")} WITH KEY = "exercise" '
            'WHERE "tenant" =~ /^$tenant$/',
            several=True,
        ),
        Choice(
            name="machine",
            means="Where the patient trains.",
            query=f'SELECT DISTINCT("machine") FROM '  # a session that runs has no summary yet
            f'(SELECT "patient", "machine" FROM {table("session_summary")} WHERE {WHO} AND time > now() - 730d), '
            f'(SELECT "patient", "machine" FROM {table("rep")} WHERE {WHO} AND time > now() - 1h)',
            several=True,
            hidden=True,
        ),
        Choice(
            name="session",
            means="The sessions of the patient: commands name sessions, not patients.",
            query=f'SELECT DISTINCT("session") FROM (SELECT "session" FROM {table("session_summary")} '
            f"WHERE {WHO} AND {AT_MACHINES} AND time > now() - 730d), "
            f'(SELECT "session" FROM {table("rep")} WHERE {WHO} AND {AT_MACHINES} AND time > now() - 1h)',
            several=True,
            hidden=True,
        ),
    ),
    since="now-90d",
    refresh="5m",
)
