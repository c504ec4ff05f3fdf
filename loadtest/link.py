"""Link: what simulated machines need of an MQTT connection; whoever starts them hands in what makes it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar


class Message(Protocol):
    """A message as the broker delivers it."""

    @property
    def topic(self) -> str:
        """Where it was published."""

    @property
    def payload(self) -> bytes:
        """What was published."""


M = TypeVar("M", bound=Message)


class Connection(Protocol[M]):
    """A connection on which somebody listens, and says a little."""

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1."""

    async def publish(self, topic: str, payload: bytes) -> bool:
        """Publish with QoS 1 and return when the broker has it."""

    async def receive(self, limit: int) -> Sequence[M]:
        """Return what has come, at least one and at most `limit` messages."""

    def ack(self, batch: Sequence[M]) -> None:
        """Acknowledge what was received."""


class Link(Protocol[M]):
    """One MQTT connection; when it is gone, every call raises Busy."""

    @property
    def lost(self) -> str | None:
        """Why it is gone, or None while it is not."""

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool, content_type: str | None) -> bool:
        """Publish with QoS 1 and return when the broker has it."""

    async def receive(self, limit: int) -> Sequence[M]:
        """Return what has come, at least one and at most `limit` messages."""

    def ack(self, batch: Sequence[M]) -> None:
        """Acknowledge what was received."""

    def abort(self) -> None:
        """Drop the connection as a crash does."""

    async def close(self) -> None:
        """Say goodbye."""


Connect = Callable[[str, str, bytes], Awaitable[Link[M]]]
"""Makes a connection for a machine's key, with a will (topic and payload, retained) and a session that outlives it."""
