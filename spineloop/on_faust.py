"""The stages as Faust's own command line wants them: `faust -A spineloop.on_faust:control worker`. See docs/faust.md.

Only here, because settings are read here: whatever runs a stage, policy and machines have to be the same.
"""

import sys
from functools import cache

import faust

from spineloop.settings import Settings, WrongSetting, kafka_servers, scheme_of
from streams import faust_app
from streams.core.controller import Controller
from streams.core.planning import Planner


def place(settings: Settings, stage: str) -> faust_app.Place:
    """Tell Faust where the log is. Raises WrongSetting if it is not in Kafka.

    Examples
    --------
    >>> place(Settings.read({"SPINELOOP_LOG_URL": "kafka://one:9092,two:9092", "SPINELOOP_INSTANCE": "0"}), "plan")
    Place(bootstrap='one:9092,two:9092', partitions=12, replication=1, session_timeout_s=10.0, \
instance='spineloop-plan-faust-0')
    """
    if scheme_of(settings.log_url) != "kafka":
        raise WrongSetting(f"SPINELOOP_LOG_URL: Faust needs kafka://..., got {settings.log_url!r}")
    return faust_app.Place(
        bootstrap=kafka_servers(settings.log_url),
        partitions=settings.partitions,
        replication=settings.replication,
        session_timeout_s=settings.kafka_session_timeout_s,
        instance=f"spineloop-{stage}-faust-{settings.instance}" if settings.instance else None,
    )


def build(stage: str) -> faust.App:
    """Build the app of a stage from the environment. Raises WrongSetting."""
    settings = Settings.read()
    chosen = settings.policy()
    if stage == Controller.name:
        return faust_app.app(Controller(chosen), place(settings, stage))
    return faust_app.app(Planner(chosen, settings.machine_catalogue()), place(settings, stage))


@cache
def __getattr__(name: str) -> faust.App:
    """Build `control` or `plan` when Faust asks for it, and not already when this is imported."""
    if name not in {Controller.name, Planner.name}:
        raise AttributeError(name)
    try:
        return build(name)
    except WrongSetting as wrong:
        print(f"spineloop: {wrong}", file=sys.stderr)  # noqa: T201 - one line for a person, as our own command line has
        sys.exit(2)
