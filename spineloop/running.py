"""Running: roles as a process. Signals stop them, the first failure ends them all, and HTTP tells how they are."""

import asyncio
import signal
from collections.abc import Sequence

import structlog

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
    async with served(exposition, settings.http_host, settings.http_port, lambda: all(r.is_ready() for r in roles)):
        _log.info("started", roles=[role.name for role in roles], http_port=settings.http_port)
        async with asyncio.TaskGroup() as tasks:
            for role in roles:
                tasks.create_task(_until_stopped(role, stop), name=role.name)
    _log.info("stopped", roles=[role.name for role in roles])


async def _until_stopped(role: Role, stop: asyncio.Event) -> None:
    await role.run(stop)
    stop.set()  # one that ended by itself takes the others along, each in good order
