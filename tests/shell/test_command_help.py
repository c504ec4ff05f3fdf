"""What each command says of itself."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from spineloop.cli import app


def commands(one: Any, *names: str) -> Iterator[tuple[str, str]]:
    """Return every command that does something, with its help."""
    within = getattr(one, "commands", {})
    if not within:
        yield " ".join(names), one.help or ""
    for name, command in within.items():
        yield from commands(command, *names, name)


HELPS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", HELPS)
def test_every_command_shows_how_it_is_typed(command: str) -> None:
    _, example, shown = HELPS[command].partition("Example")
    assert example
    assert f"spineloop {command}" in shown


def test_commands_are_found_at_every_level() -> None:
    #  the walk must see what a person can type, or the test above proves nothing
    assert {"serve", "reflex", "topics create", "dead-letters list", "machines revoke", "bench"} <= HELPS.keys()
