"""Running: roles as a process. Signals stop them, the first failure ends them all, and HTTP tells how they are."""

import asyncio
import signal
from collections.abc import Sequence

import structlog

from spineloop import wiring
from spineloop.exposition import Exposition, served
from spineloop.settings import Settings
from spineloop.wiring import Role

_log = structlog.get_logger()


async def run(roles: Sequence[Role], settings: Settings, exposition: Exposition, stop: asyncio.Event) -> None:
    """Run roles until `stop` is set, by SIGTERM, SIGINT or the caller; then each finishes what it has in hand.

    Raises
    ------
    ExceptionGroup
        What ended a role; the others have been cancelled.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    served_here = served(
        exposition,
        settings.http_host,
        settings.http_port,
        lambda: not stop.is_set() and all(role.is_ready() for role in roles),
        settings.http_token,
    )
    async with served_here, wiring.meter_history(_name(roles), settings, exposition) as told:
        _log.info("started", roles=[role.name for role in roles], http_port=settings.http_port)
        async with asyncio.TaskGroup() as tasks:
            for role in roles:
                tasks.create_task(_until_stopped(role, stop), name=role.name)
            if settings.meters_s:
                tasks.create_task(told.run(stop, settings.meters_s), name="meters")
    _log.info("stopped", roles=[role.name for role in roles])


def _name(roles: Sequence[Role]) -> str:
    """Name the process in its meters: a role, or all of them in one."""
    return roles[0].name if len(roles) == 1 else "all"


async def _until_stopped(role: Role, stop: asyncio.Event) -> None:
    await role.run(stop)
    stop.set()  # one that ended by itself takes the others along, each in good order
